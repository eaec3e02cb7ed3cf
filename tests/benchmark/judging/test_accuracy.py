"""Accuracy of judges on labelled pairs: counts by hand, the log, and a reward model that has learned them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.judging.accuracy import (
    BOOTSTRAP_SEED,
    accuracy,
    against_people,
    as_task,
    generalisation,
    majority,
    table,
)
from benchmark.judging.config import OracleConfig, RewardModelConfig
from benchmark.judging.labelled import LabelledPair, read_labelled
from benchmark.judging.oracle import OracleJudge
from benchmark.judging.reward_model import RewardModelJudge
from benchmark.records import Verdict
from benchmark.statistics.agreement import cohen_kappa, gwet_ac1
from benchmark.statistics.bootstrap import RESAMPLES, bootstrap, weights
from benchmark.statistics.intervals import t_interval, welch
from benchmark.statistics.win_rate import win_rate
from reference_models.tiny import make_checkpoint

RM = RewardModelConfig(
    judge="rm",
    kind="reward-model",
    description="d",
    version=1,
    model="m",
    input="text",
    preference="winner",
    samples="all",
)
WIN, TIE, LOSS = 1.0, 0.5, 0.0


def pair(number: int, preference: float, prompt: str | None = None, annotators: tuple[float, ...] = ()) -> LabelledPair:
    return LabelledPair(str(number), prompt or f"prompt {number}", f"a{number}", f"b{number}", preference, annotators)


def verdict(number: int, preference: float, orders: tuple[float, ...] = ()) -> Verdict:
    about = {"task": "t", "temperature": 0.0, "index": 0, "key": "k", "length": 1, "reference_length": 1}
    return Verdict(doc_id=str(number), preference=preference, orders=orders, **about)


def judged(people, words, prompts=None, **options):
    pairs = [pair(n, p, prompts[n] if prompts else None) for n, p in enumerate(people)]
    return against_people("j", "set", pairs, {str(n): verdict(n, word) for n, word in enumerate(words)}, **options)


class Longer:
    """A judge that prefers the longer text, and fails where it is told to."""

    def __init__(self, fails=()):
        self.config, self.fails, self.asked = RM, set(fails), []

    def judge(self, pairs, write):
        for asked in pairs:
            self.asked.append((asked.sample.text, asked.reference))
            failed = asked.sample.doc_id in self.fails
            word = float(np.sign(len(asked.sample.text) - len(asked.reference))) / 2 + 0.5
            write(
                [
                    Verdict(
                        task=asked.sample.task,
                        doc_id=asked.sample.doc_id,
                        temperature=0.0,
                        index=0,
                        key=asked.key,
                        preference=None if failed else word,
                        length=1,
                        reference_length=1,
                        error="no answer" if failed else None,
                    )
                ]
            )


PAIRS = [
    LabelledPair("1", "p", "long text", "short", 1.0),
    LabelledPair("2", "q", "x", "longer", 1.0),
    LabelledPair("3", "r", "abc", "xyz", 0.0),
    LabelledPair("4", "s", "abc", "x", 0.5),
]


def test_right_counts_one_a_judges_tie_one_half_and_peoples_ties_nothing():
    found = judged([WIN, WIN, LOSS, LOSS, TIE], [WIN, LOSS, LOSS, TIE, WIN])
    assert found.rate.rate == (1 + 0 + 1 + 0.5) / 4
    assert found.agreement.accuracy == found.rate.rate
    assert (found.pairs, found.judged, found.rate.n, found.human_ties, found.judge_ties) == (5, 5, 4, 1, 0.2)
    people = ["first", "first", "second", "second", "tie"]
    words = ["first", "second", "second", "tie", "first"]
    assert found.agreement.kappa == pytest.approx(cohen_kappa(words, people))
    assert found.agreement.ac1 == pytest.approx(gwet_ac1(words, people, categories=3))


def test_a_graded_preference_counts_as_its_side_of_one_half():
    found = judged([WIN, WIN, LOSS], [0.51, 0.49, 0.49])
    assert found.rate.rate == pytest.approx(2 / 3)


def test_prompts_that_do_not_repeat_have_the_intervals_of_a_win_rate():
    rng = np.random.default_rng(0)
    for n in (30, 250):
        people, words = rng.choice([WIN, LOSS], n), rng.choice([WIN, TIE, LOSS], n)
        found = judged(people, words)
        correct = [0.5 if w == TIE else float(w == p) for p, w in zip(people, words, strict=True)]
        expected = win_rate(correct, weights(n, RESAMPLES, BOOTSTRAP_SEED))
        assert found.rate.method == expected.method
        assert found.rate.rate == pytest.approx(expected.rate)
        assert found.rate.intervals.keys() == expected.intervals.keys()
        for way, interval in expected.intervals.items():
            assert found.rate.intervals[way] == pytest.approx(interval, abs=1e-12)


def test_pairs_of_one_prompt_are_drawn_together():
    rng = np.random.default_rng(1)
    prompts = [f"p{number % 40}" for number in range(400)]
    right = rng.choice([WIN, LOSS], 40)
    words = [right[number % 40] for number in range(400)]  # one word a prompt: 40 facts, not 400
    found, alone = judged([WIN] * 400, words, prompts), judged([WIN] * 400, words)
    assert found.rate.rate == alone.rate.rate
    assert (found.prompts, alone.prompts, found.rate.n) == (40, 400, 400)
    assert found.rate.method == "plus4_t"
    for way in ("t", "bca", "percentile"):
        ratio = np.diff(found.rate.intervals[way]) / np.diff(alone.rate.intervals[way])
        assert ratio == pytest.approx(np.sqrt(10), rel=0.1)
    assert found.rate.intervals["t"] == pytest.approx(t_interval(right))
    drawn = bootstrap(words, weights(40, RESAMPLES, BOOTSTRAP_SEED), clusters=[number % 40 for number in range(400)])
    assert found.rate.intervals["bca"] == pytest.approx(drawn.bca)


def test_a_perfect_judge_of_few_pairs_has_an_interval_within_the_range():
    found = judged([WIN, LOSS, WIN], [WIN, LOSS, WIN])
    assert found.rate.rate == 1.0
    low, high = found.rate.interval
    assert 0 < low < 1 == high
    assert found.agreement.kappa == pytest.approx(1.0)
    assert judged([WIN], [WIN]).rate.intervals.keys() == {"plus4_t"}


def test_people_against_people_leaves_one_out():
    rows = [(WIN, WIN, WIN), (WIN, WIN, LOSS), (LOSS, TIE, LOSS), (TIE, TIE, WIN), (TIE, TIE, TIE)]
    pairs = [pair(n, sum(a) / 3, annotators=a) for n, a in enumerate(rows)]
    found = against_people("j", "s", pairs, {str(n): verdict(n, WIN) for n in range(len(rows))})
    every = []
    for out in range(3):
        correct = []
        for row in rows:
            one, other = (label for place, label in enumerate(row) if place != out)
            if one == other != TIE:  # two who differ have no majority
                correct.append(1.0 if row[out] == one else 0.5 if row[out] == TIE else 0.0)
        every.append(sum(correct) / len(correct))
    assert found.human.accuracy == pytest.approx(sum(every) / 3)
    assert found.human_ties == 2  # by majority of all three
    assert judged([WIN], [WIN]).human is None


def test_a_majority_is_the_label_with_the_most_votes():
    assert majority((WIN, WIN, LOSS)) == "first"
    assert majority((TIE, TIE, WIN)) == "tie"
    assert majority((WIN, LOSS, TIE)) == "tie"
    assert majority((LOSS, TIE)) == "tie"
    assert majority((LOSS,)) == "second"


def test_bias_and_consistency_are_those_of_the_pairs_seen_in_both_orders():
    pairs = [pair(n, WIN) for n in range(3)]
    words = {"0": verdict(0, 0.5, (1.0, 0.0)), "1": verdict(1, 1.0, (1.0, 1.0)), "2": verdict(2, 1.0)}
    found = against_people("j", "s", pairs, words)
    assert found.position_bias.estimate == 0.25
    assert found.position_bias.n == 2
    assert found.consistency == 0.5
    assert judged([WIN], [WIN]).position_bias is judged([WIN], [WIN]).consistency is None


def test_generalisation_is_inside_minus_outside_by_welch_over_prompts():
    inside, outside = judged([WIN] * 4, [WIN, WIN, WIN, LOSS]), judged([WIN] * 3, [WIN, LOSS, LOSS], ["p", "p", "q"])
    found = generalisation(inside, outside)
    assert found.estimate == pytest.approx(0.75 - 1 / 3)
    assert found == welch(inside.values, outside.values)
    assert len(outside.values) == 2


def test_the_log_is_kept_resumed_and_refused_when_it_is_of_other_pairs_or_another_task(tmp_path):
    log, judge = tmp_path / "log.jsonl", Longer()
    found = accuracy(judge, PAIRS, log, name="set")
    assert found.rate.rate == (1 + 0 + 0.5) / 3
    assert (found.judge, found.name, found.human_ties) == ("rm", "set", 1)
    assert judge.asked == [(p.first, p.second) for p in PAIRS]
    again = Longer()
    assert accuracy(again, PAIRS, log, name="set") == found
    assert again.asked == []
    with pytest.raises(UserError, match="asked as task set, not other"):
        accuracy(again, PAIRS, log, name="set", task="other")
    with pytest.raises(UserError, match="of another text"):
        accuracy(again, [LabelledPair("1", "p", "changed", "short", 1.0), *PAIRS[1:]], log, name="set")


def test_failed_pairs_are_refused_or_left_out_openly_and_asked_again(tmp_path):
    log = tmp_path / "log.jsonl"
    with pytest.raises(UserError, match=r"1 of 4 pairs have no verdict .no answer.; run it again, or give --allow"):
        accuracy(Longer(["1"]), PAIRS, log, name="set")
    again = Longer(["1"])
    found = accuracy(again, PAIRS, log, name="set", allow_missing=True)
    assert again.asked == [("long text", "short")]
    assert (found.pairs, found.judged, found.rate.n, found.rate.rate) == (4, 3, 2, 0.25)
    assert accuracy(Longer(), PAIRS, log, name="set").judged == 4
    with pytest.raises(UserError, match="4 of 4 pairs have no verdict"):
        accuracy(Longer("1234"), PAIRS, tmp_path / "none.jsonl", name="set", allow_missing=True)


def test_what_cannot_be_measured_is_refused(tmp_path):
    config = OracleConfig(
        judge="oracle", kind="oracle", description="d", version=1, function="tasks.pocket.world.oracle", samples="all"
    )
    with pytest.raises(UserError, match="judge oracle reads its own documents"):
        accuracy(OracleJudge(config), PAIRS, tmp_path / "log.jsonl", name="set")
    with pytest.raises(UserError, match="people are tied on every pair"):
        judged([TIE], [WIN])


def test_a_judge_of_summaries_sees_what_they_are_of():
    with_document = LabelledPair("9", "ARTICLE: x\nTL;DR:", "a", "b", 1.0, chat="sum up x", document="x")
    asked = as_task("gendiv_cnn_dailymail", [with_document, PAIRS[0]], "sha")
    prompts = {cell[0]: pair.prompt for cell, pair in asked.items()}
    assert (prompts["9"].shortens, prompts["9"].chat, prompts["9"].task) == ("x", "sum up x", "gendiv_cnn_dailymail")
    assert (prompts["1"].shortens, prompts["1"].chat) == ("p", None)
    assert [(p.sample.text, p.reference) for p in asked.values()] == [("a", "b"), ("long text", "short")]


def test_a_table_has_a_row_a_judge_and_set():
    found = judged([WIN, LOSS, TIE], [WIN, TIE, WIN])
    header, rows = table([found])
    (row,) = (dict(zip(header, row, strict=True)) for row in rows)
    assert (row["judge"], row["pairs of"], row["n"], row["people tied"], row["no verdict"]) == (
        "j",
        "set",
        "2",
        "1",
        "0",
    )
    assert row["accuracy"].startswith("0.750 [")
    assert (row["judge ties"], row["position bias"], row["people's κ"]) == ("0.333", "", "")


def test_a_reward_model_that_has_learned_the_pairs_is_right_on_them(tmp_path):
    from reference_models.reward_model import RewardModelArguments, train

    words = ["red", "blue", "green", "warm", "cold", "wet", "is"]
    architecture = {
        **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"num_key_value_heads": 2, "max_position_embeddings": 16, "initializer_range": 0.2},
    }
    make_checkpoint(tmp_path / "base", words, seed=0, architecture=architecture)
    rows = [
        {"prompt": f"{colour} is", "chosen": f"warm {last}", "rejected": f"{worse} {last}"}
        for colour in words[:3]
        for worse in ("cold", "wet")
        for last in ("warm", "cold", "wet")
    ]
    data = tmp_path / "preferences.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = train(
        RewardModelArguments(
            model=str(tmp_path / "base"),
            data=str(data),
            output=str(tmp_path / "rm"),
            steps=60,
            batch_size=3,
            learning_rate=1e-2,
        )
    )
    judge = RewardModelJudge(RM.model_copy(update={"model": str(trained)}), device="cpu")
    found = accuracy(judge, read_labelled(data), tmp_path / "log.jsonl", name="preferences")
    assert found.rate.rate == 1.0
    assert found.agreement.kappa == pytest.approx(1.0)
    assert found.prompts == 3
    wrong = [LabelledPair(p.id, p.prompt, p.first, p.second, 1 - p.preference) for p in read_labelled(data)]
    assert accuracy(judge, wrong, tmp_path / "log.jsonl", name="preferences").rate.rate == 0.0
