"""The shifts cut TL;DR in two exactly, by rules that depend on one document alone."""

import pytest
from data_root import make_data_root, rows
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data import sources
from benchmark.data.documents import summary_preference
from benchmark.suites import load_prompts, load_suite
from tasks.tldr_shifts import shifts

SHIFTS = ("subreddit", "length", "sentiment")
words = st.sampled_from(["happy", "sad", "Wrong!", "lovely", "green", "don't", "word\n", "SAD-happy", "ünhappy"])
documents = st.fixed_dictionaries(
    {
        "subreddit": st.sampled_from([*shifts.SUBREDDITS, "aww", "TIFU", ""]) | st.text(),
        "title": st.text(),
        "post": st.lists(words, max_size=300).map(" ".join) | st.text(),
    }
)


@given(documents)
@pytest.mark.parametrize("shift", SHIFTS)
def test_every_document_is_on_exactly_one_side_whatever_else_it_has(shift, document):
    sides = [getattr(shifts, f"{shift}_{side}") for side in ("id", "ood")]
    assert sum(side(document) for side in sides) == 1
    more = {**document, "id": "7", "summary": "sad sad sad", "references": ["happy"]}
    assert [side(document) for side in sides] == [side(more) for side in sides]


def test_the_named_limits():
    def length(n):
        return shifts.length_id({"post": " ".join(["w"] * n)})

    assert length(245)
    assert not length(246)
    named = [name for name in ("tifu", "AskReddit", "aww", "Tifu", "") if shifts.subreddit_id({"subreddit": name})]
    assert named == ["tifu", "AskReddit"]


def test_the_lexicon_is_two_disjoint_lists_of_whole_lower_case_words():
    assert len(shifts.POSITIVE) >= 100
    assert len(shifts.NEGATIVE) >= 100
    assert not shifts.POSITIVE & shifts.NEGATIVE
    assert all(word.isascii() and word.isalpha() and word.islower() for word in shifts.POSITIVE | shifts.NEGATIVE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("Happy HAPPY happy", 3),
        ("sad, happy.", 0),
        ("sadder happyish unhappily", 0),
        ("I am not happy", 1),
        ("terrible-awful", -2),
        ("a wonderful day, a bad night, a worse morning", -1),
    ],
)
def test_sentiment_counts_whole_words_and_knows_no_negation(text, expected):
    assert shifts.sentiment(text) == expected


@given(st.lists(words))
def test_sentiment_is_additive_and_knows_no_order(parts):
    assert shifts.sentiment(" ".join(parts)) == sum(map(shifts.sentiment, parts))
    assert shifts.sentiment(" ".join(reversed(parts))) == shifts.sentiment(" ".join(parts))


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_two_tasks_share_the_test_split_between_them(tmp_path, monkeypatch, shift):
    monkeypatch.setenv(sources.DATA_ROOT, str(make_data_root(tmp_path / "data")))
    prompts = load_prompts(load_suite(f"tldr-{shift}"))
    ids = [{prompt.doc_id for prompt in part} for part in prompts.values()]
    assert not ids[0] & ids[1]
    assert all(ids)
    assert {doc["id"] for doc in sources.documents("tldr", "test")} == ids[0] | ids[1]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_comparison_is_on_the_side_of_its_post(shift):
    in_distribution = getattr(shifts, f"{shift}_id")
    posts = rows()["tldr"]["train"]
    for number, row in enumerate(rows()["tldr_preferences"]["train"]):
        assert in_distribution(summary_preference(row)) == in_distribution(posts[number])


def test_the_stand_ins_posts_are_cut_into_two_parts_that_can_be_evaluated(shared_data, tmp_path, monkeypatch):
    from benchmark.data.adopt import adopt

    adopt(shared_data, tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(tmp_path / "data"))
    sizes = {s: [len(p) for p in load_prompts(load_suite(f"tldr-{s}")).values()] for s in ("length", "sentiment")}
    assert sizes == {"length": [128, 272], "sentiment": [201, 199]}
