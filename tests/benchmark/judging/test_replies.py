"""A reply is a verdict, or it is none: never something in between, and never made up."""

import json
import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import HOSTILE, INJECTION, chat_config, completion, hostile_reply, truth

from benchmark.judging import replies
from benchmark.judging.replies import NoReplyError, UnreadableError, preference_of, raw_of, reparse, tokens_of

GRADED, NAMED = chat_config(), chat_config(verdict="reply", max_tokens=500)
WORDS = ["A", " A", "A ", "▁A", "ĠA", "\nA", "B", " B", "▁B", "a", "b", "AB", "A.", "The", "", "▁", "C"]
LOGPROBS = st.one_of(
    st.floats(-12, 0.002),
    st.sampled_from([0, -0.0, -1, -9999.0, 0.5, math.nan, -math.inf, math.inf, None, "-1", True, False, -(10**400)]),
)


def graded(top, order=0, **changes):
    return json.dumps({"order": order, "finish": "stop", "content": "A", "top": top} | changes)


def named(content, order=0, finish="stop"):
    return json.dumps({"order": order, "finish": finish, "content": content})


def slow_masses(top):
    """Probability of A and of B, or None: number by number, in exact arithmetic."""
    sums = {"A": Fraction(0), "B": Fraction(0), "all": Fraction(0)}
    for token, logprob in top:
        if type(logprob) not in (int, float) or logprob != logprob or logprob in (math.inf, -math.inf):
            return None
        if logprob > 0.001 or logprob < -(10**9):
            return None
        probability = Fraction(math.exp(float(logprob)))
        sums["all"] += probability
        spelled = token.strip()
        while spelled[:1] in ("▁", "Ġ") and spelled:
            spelled = spelled[1:]
        if spelled in ("A", "B"):
            sums[spelled] += probability
    if not top or sums["all"] > Fraction(1.001) or sums["A"] + sums["B"] < Fraction(1, 2):
        return None
    return sums["A"], sums["B"]


@given(st.lists(st.tuples(st.sampled_from(WORDS), LOGPROBS), max_size=8), st.sampled_from([0, 1]))
def test_the_preference_is_the_samples_share_of_both_labels(top, order):
    found, expected = reparse(graded([list(entry) for entry in top], order), GRADED), slow_masses(top)
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(float(expected[order] / sum(expected)), abs=1e-12)


@given(
    st.lists(st.floats(0.001, 1), min_size=3, max_size=8),
    st.lists(st.sampled_from(WORDS[:9]), min_size=2, max_size=7),
    st.randoms(use_true_random=False),
)
def test_the_two_orders_of_the_same_reply_sum_to_one_and_the_order_of_candidates_is_nothing(weights, words, random):
    masses = [weight / math.fsum(weights) for weight in weights]
    top = [[word, math.log(mass)] for word, mass in zip(words, masses[1:], strict=False)]
    top.append(["A", math.log(masses[0])])
    first, second = (reparse(graded(top, order), GRADED) for order in (0, 1))
    assert (first is None) == (second is None)
    if first is not None:
        assert 0 <= first <= 1
        assert first + second == pytest.approx(1, abs=1e-15)
        shuffled = random.sample(top, len(top))
        assert reparse(graded(shuffled), GRADED) == first, "bit for bit"


def test_a_label_that_is_not_among_the_candidates_has_no_probability():
    assert reparse(graded([["A", -0.1], ["The", -3.0]]), GRADED) == 1
    assert reparse(graded([["A", -0.1], ["The", -3.0]], 1), GRADED) == 0
    assert reparse(graded([["A", math.log(0.3)], ["B", math.log(0.1)]]), GRADED) is None, "less than half together"
    assert reparse(graded([["A", math.log(0.3)], ["B", math.log(0.3)]]), GRADED) == 0.5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"top": None}, "sends no log-probabilities; take a judge with `verdict: reply`"),
        ({"top": []}, "another form"),
        ({"top": {"unknown": []}}, "another form"),
        ({"top": [["A", -0.1, 0]]}, "another form"),
        ({"top": ["Ax"]}, "another form"),
        ({"top": [["A", True]]}, "another form"),
        ({"top": [["A", 0.7]]}, "a log-probability is 0.7"),
        ({"top": [["A", math.nan], ["B", -0.1]]}, "a log-probability is NaN"),
        ({"top": [["A", -0.1], ["B", -0.1]]}, "the probabilities sum to 1.81"),
        ({"top": [["The", -0.1], ["A", -3.0]]}, "the labels A and B have a probability of 0.0498"),
        ({"finish": "content_filter"}, 'ended with "content_filter"'),
        ({"finish": ["stop"]}, "ended with"),
        ({"refusal": "no"}, "refused to answer"),
        ({"order": 2}, "in which order"),
        ({"order": True}, "in which order"),
        ({"order": None}, "in which order"),
    ],
)
def test_what_is_no_verdict_says_why(changes, why):
    with pytest.raises(UnreadableError, match=why):
        preference_of(graded(**({"top": [["A", -0.1]]} | changes)), GRADED)
    assert reparse(graded(**({"top": [["A", -0.1]]} | changes)), GRADED) is None


@pytest.mark.parametrize("raw", ["", "A", "null", "[]", '"A"', '{"order":0', "[" * 100_000])
def test_a_raw_reply_that_is_none_is_no_verdict(raw):
    assert reparse(raw, GRADED) is None
    assert reparse(raw, NAMED) is None


def test_the_token_limit_ends_a_graded_reply_as_it_should_and_a_named_one_too_early():
    assert reparse(graded([["B", -0.1]], finish="length"), GRADED) == 0
    with pytest.raises(UnreadableError, match='ended with "length"; raise max_tokens'):
        preference_of(named("A", finish="length"), NAMED)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "A",
            " A ",
            "A.",
            "a",
            "**A**",
            "`A`",
            '"A"',
            "“A”",
            "'A'",
            "[[A]]",
            "(A)",
            "# A",
            "> A",
            "- A",
            "A\n\n",
            "A!",
        ),
        *("Verdict: A", "verdict:A", "**Verdict:** A", "**Verdict**: **A**.", "Answer: A", "Final answer: `A`"),
        *("B is worse, so\nFinal  Verdict: A", "B\nA", "Answer: B\r\nAnswer: A", "B\u2028A"),
    ],
)
def test_a_last_line_that_names_one_label_is_a_verdict(text):
    assert reparse(named(text), NAMED) == 1
    assert reparse(named(text, 1), NAMED) == 0
    other = chat_config(verdict="reply", labels=("B", "A"))
    assert (reparse(named(text), other), reparse(named(text, 1), other)) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " \n ",
            None,
            1,
            ["A"],
            {"A": 1},
            True,
            "A or B",
            "A B",
            "AB",
            "A, B",
            "A/B",
            "A and not B",
            "C",
            "**",
            "AA",
        ),
        *(
            "Verdict:",
            "Verdict: A or B",
            "Verdict: C",
            "A is better",
            "I choose A",
            "The answer is A",
            "not A",
            "A\nthe end",
        ),
        *("Answer: Answer: A", "Question: A", "A: the first", "Verdict A", "1", INJECTION, "A\n\ud800", "A?", "A\x00"),
    ],
)
def test_a_label_buried_in_words_is_no_verdict(text):
    assert reparse(named(text), NAMED) is None


@given(st.lists(st.sampled_from([*"ABab *:.\n`", "Verdict", "verdict:", "is"]), max_size=8).map("".join))
def test_no_other_last_line_is_a_verdict(text):
    lines = [line for line in text.split("\n") if line.strip()]
    said = re.fullmatch(r"(?i:[ *.`]*verdict[ *.`]*:)?[ *:.`]*([ABab])[ *:.`]*", lines[-1] if lines else "")
    assert reparse(named(text), NAMED) == (None if said is None else float(said[1] in "Aa"))


def test_labels_with_marks_of_their_own_are_told_apart():
    for labels in (("[1]", "[2]"), ("1", "-1"), ("(", ")"), ("Model 1", "Model 2"), ("first", "second")):
        config = chat_config(verdict="reply", labels=labels)
        assert [reparse(named(f"so:\n{label}"), config) for label in labels] == [1, 0], labels


def test_a_line_of_decoration_takes_no_time():
    assert reparse(named("*" * 100_000 + "?" + "*" * 90_000), NAMED) is None


# --- from what the server sent --------------------------------------------------------------------------------------


def test_a_reply_survives_its_writing_down_bit_for_bit():
    question = "which?"
    for order in (0, 1):
        raw = raw_of(completion(question, {"messages": [], "logprobs": True}), order)
        assert json.loads(raw)["order"] == order
        assert [tuple(entry) for entry in json.loads(raw)["top"]] == truth(question)
        assert raw.isascii()
        assert "\n" not in raw


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_hostile_reply_is_a_verdict_in_either_form(kind):
    good = completion("which?", {"messages": [], "logprobs": True})
    body = json.loads(hostile_reply(kind, good).body)
    raw = raw_of(body, 0)
    assert reparse(raw, GRADED) is None
    assert len(raw) <= replies.LONGEST
    assert reparse(raw, NAMED) is None


@pytest.mark.parametrize(
    "body",
    [
        *(None, [], "A", 1, {}, {"choices": None}, {"choices": []}, {"choices": ["A"]}, {"choices": {}}),
        *({"choices": [{}]}, {"choices": [{"message": "A"}]}, {"choices": [{"message": None}]}, {"choices": [None]}),
    ],
)
def test_what_is_no_chat_completion_is_no_reply(body):
    with pytest.raises(NoReplyError):
        raw_of(body, 0)


def test_a_reply_that_is_too_long_is_kept_cut_and_not_read():
    body = {"choices": [{"message": {"content": "x" * replies.LONGEST + "\nA"}, "finish_reason": "stop"}]}
    raw = raw_of(body, 1)
    assert len(raw) < 3 * replies.ENDS
    with pytest.raises(UnreadableError, match="longer than 200000 characters"):
        preference_of(raw, NAMED)
    body["choices"][0]["message"]["content"] = "x" * (replies.LONGEST - 200) + "\nA"
    assert reparse(raw_of(body, 1), NAMED) == 0


def test_the_model_that_the_server_says_it_served_is_kept_short():
    good = completion("which?", {"messages": [], "logprobs": True, "model": "m-2026"})
    assert json.loads(raw_of(good, 0))["model"] == "m-2026"
    assert reparse(raw_of(good, 0), GRADED) == reparse(raw_of(good | {"model": None}, 0), GRADED) is not None
    assert json.loads(raw_of(good | {"model": "m" * 5000}, 0))["model"] == "m" * 100
    for none in (None, 1, ["m"], {"m": 1}):
        assert "model" not in json.loads(raw_of(good | {"model": none}, 0))
    assert "planted" not in raw_of(good | {"model": "planted"}, 0, lambda text: text.replace("planted", "[key]"))


def test_tokens_are_counts_or_not_counted():
    def usage(prompt, completion):
        return tokens_of({"usage": {"prompt_tokens": prompt, "completion_tokens": completion}})

    assert usage(7, 0) == (7, 0)
    for wrong in (None, -1, 1.5, "7", True, 2**40, [7]):
        assert usage(wrong, 1) is None
        assert usage(1, wrong) is None
    for body in (None, [], {}, {"usage": None}, {"usage": []}, {"usage": {}}):
        assert tokens_of(body) is None
