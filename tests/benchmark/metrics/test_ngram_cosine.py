import csv
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import slow_bleu

from benchmark.metrics import distinct_n, ngram_cosine, ngrams
from benchmark.metrics.distinct_n import Short
from benchmark.metrics.repeats import repeats, repeats_of
from benchmark.metrics.tokenise import TOKENISERS, words

FIXED = settings(derandomize=True, deadline=None)
TEXT = st.lists(st.sampled_from("aabcde"), max_size=9).map(" ".join)
TEXTS = st.lists(TEXT, max_size=6)
SHORT = pytest.mark.parametrize("short", ["skip", "zero"])
ORDERS = st.sampled_from([(3,), (1,), (2, 4), ngram_cosine.ORDERS])

SHARED = Path(os.environ.get("GENDIV_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
SCORED = SHARED / "diversity_eval" / "with_metrics"
FILES = [
    "McDiv/mcdiv_all_no_hds_prompt_gen.csv",
    "McDiv/mcdiv_all_no_hds_story_gen.csv",
    "McDiv_nuggets/mcdiv_nuggets_200_with_hds_prompt_gen.csv",
    "McDiv_nuggets/mcdiv_nuggets_200_with_hds_story_gen.csv",
    "McDiv_nuggets/mcdiv_nuggets_no_hds_prompt_gen.csv",
    "McDiv_nuggets/mcdiv_nuggets_no_hds_story_gen.csv",
    "conTest/con_test_200_with_hds_prompt_gen.csv",
    "conTest/con_test_200_with_hds_story_gen.csv",
    "decTest/dec_test_1000_no_hds_prompt_gen.csv",
    "decTest/dec_test_1000_no_hds_story_gen.csv",
    "decTest/dec_test_200_with_hds_prompt_gen.csv",
    "decTest/dec_test_200_with_hds_story_gen.csv",
]
ROUNDED = 0.5e-3 + 1e-9
"""Stored values have three digits."""


def value(texts: list[str], tokeniser: str = "words", **options: object) -> float:
    return float(ngram_cosine.per_input(repeats_of([texts], tokeniser), **options)[0])  # type: ignore[arg-type]


def test_one_to_five_words_are_averaged() -> None:
    expected = 1 - (5 / 6 + 4 / 5 + 3 / 4 + 2 / 3 + 1 / 2) / 5
    assert value(["a b c d e x", "a b c d e y"]) == pytest.approx(expected, abs=1e-15)


@SHORT
@FIXED
@given(sets=st.lists(TEXTS, max_size=4), tokeniser=st.sampled_from(list(TOKENISERS)), orders=ORDERS)
def test_values_equal_all_pairs(short: Short, sets: list[list[str]], tokeniser: str, orders: tuple[int, ...]) -> None:
    found = ngram_cosine.per_input(repeats_of(sets, tokeniser), orders=orders, short=short)
    expected = [slow_bleu.cosine_diversity(texts, TOKENISERS[tokeniser], orders, short) for texts in sets]
    assert found == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)


@SHORT
@FIXED
@given(sets=st.lists(TEXTS, max_size=3), orders=ORDERS)
def test_without_each_text_equals_a_recount(short: Short, sets: list[list[str]], orders: tuple[int, ...]) -> None:
    of = repeats_of(sets)
    value, without = ngram_cosine.across_input(of, orders=orders, short=short)
    assert value == pytest.approx(ngram_cosine.per_input(of, orders=orders, short=short), nan_ok=True)
    left = [
        slow_bleu.cosine_diversity(texts[:i] + texts[i + 1 :], words, orders, short)
        for texts in sets
        for i in range(len(texts))
    ]
    assert without == pytest.approx(np.array(left), abs=1e-12, nan_ok=True)


@FIXED
@given(TEXTS, st.integers(0, 99))
def test_order_of_texts_and_names_of_words_do_not_matter(texts: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(texts, len(texts))
    renamed = [text.translate(str.maketrans("abcde", "vwxyz")) for text in shuffled]
    assert value(renamed) == pytest.approx(value(texts), abs=1e-14, nan_ok=True)


@FIXED
@given(TEXTS)
def test_an_empty_text_changes_nothing_under_skip(texts: list[str]) -> None:
    assert value([*texts, ""]) == pytest.approx(value(texts), abs=1e-14, nan_ok=True)


@SHORT
@FIXED
@given(texts=st.lists(TEXT, min_size=2, max_size=6))
def test_values_lie_between_zero_and_one(short: Short, texts: list[str]) -> None:
    found = value(texts, short=short)
    assert 0.0 <= found <= 1.0 or (short == "skip" and sum(map(bool, texts)) < 2)


@FIXED
@given(st.lists(TEXT.filter(bool), min_size=2, max_size=6), st.integers(1, 3))
def test_copies_of_the_set_dilute_its_pairs(texts: list[str], order: int) -> None:
    long = [text for text in texts if len(text.split()) >= order]
    k = len(long)
    if k > 1:
        once, twice = (value(long * copies, orders=(order,)) for copies in (1, 2))
        assert twice == pytest.approx(once * (2 * k - 2) / (2 * k - 1), abs=1e-12)


@FIXED
@given(TEXT.filter(bool), st.integers(2, 5))
def test_identical_texts_score_zero(text: str, k: int) -> None:
    assert value([text] * k) == pytest.approx(0.0, abs=1e-14)


def test_texts_that_share_no_ngram_score_one_exactly() -> None:
    assert value(["a a b", "c d e", "f g h i"]) == 1.0


def test_two_texts_too_short_for_every_order_are_missing_under_skip() -> None:
    assert np.isnan(value(["hi there"] * 2, orders=(3,)))
    assert np.isnan(ngram_cosine.per_input(repeats_of([[], ["a b c"], ["a b c", ""]]))).all()
    assert value(["hi there"] * 2) == pytest.approx(0.0, abs=1e-15)


def test_a_sets_texts_need_not_be_neighbours() -> None:
    sets = [["a b c d", "a b c", "d c"], ["a b", "b a a", "c b a"]]
    flat = [text for pair in zip(*sets, strict=True) for text in pair]
    value, without = ngram_cosine.across_input(repeats(ngrams.tokens(flat), np.tile([0, 1], 3)))
    apart = [ngram_cosine.across_input(repeats_of([texts])) for texts in sets]
    assert value == pytest.approx([float(values[0]) for values, _ in apart], abs=1e-15)
    left = np.stack([left for _, left in apart], axis=1).ravel()
    assert without == pytest.approx(left, abs=1e-15)


@FIXED
@given(st.lists(st.text(), max_size=5))
def test_any_unicode_gives_a_finite_value_or_missing(texts: list[str]) -> None:
    for name, split in TOKENISERS.items():
        assert np.isfinite(value(texts, name)) == (sum(map(bool, map(split, texts))) > 1)


def test_bad_arguments_are_refused() -> None:
    of = repeats_of([["a"]], n_max=3)
    for orders in ((), (0,), (4,), (1, 5)):
        with pytest.raises(ValueError, match="orders must be some of 1 … 3"):
            ngram_cosine.per_input(of, orders=orders)
    with pytest.raises(ValueError, match="short"):
        ngram_cosine.per_input(of, orders=(1,), short="nan")  # type: ignore[arg-type]


@pytest.mark.skipif(not SCORED.is_dir(), reason=f"no scored sets of Tevet and Berant in {SCORED}")
@pytest.mark.parametrize("file", FILES)
def test_stored_metrics_of_tevet_and_berant_are_reproduced(file: str) -> None:
    with open(SCORED / file, newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    outputs = [name for name in rows[0] if name.startswith("resp_")]
    sets = [[row[name] for name in outputs] for row in rows]
    cosine = ngram_cosine.per_input(repeats_of(sets, "rlfh"), short="zero") - 1  # They store minus the similarity.
    distinct = distinct_n.per_input(ngrams.count_sets(sets, "rlfh"), short="zero")
    for name, found in (("CosineSimilarity", cosine), ("DistinctNgrams", distinct)):
        stored = np.array([float(row[f"metric_Averaged{name}"]) for row in rows])
        assert np.abs(found - stored).max() <= ROUNDED
