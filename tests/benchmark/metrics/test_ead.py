import math
import sys
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import slow_ngrams

from benchmark.metrics import distinct_n, ead, ngrams
from benchmark.metrics.tokenise import TOKENISERS

FIXED = settings(derandomize=True, deadline=None)
TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=9).map(" ".join)
TEXTS = st.lists(TEXT, max_size=6)
SOME_TEXTS = st.lists(TEXT.filter(bool), min_size=1, max_size=6)


def values(texts: list[str], tokeniser: str = "rlfh") -> tuple[float, float]:
    counts = ngrams.count_sets([texts], tokeniser)
    return float(ead.per_input(counts)[0]), float(distinct_n.per_input(counts)[0])


def published(texts: list[str], tokeniser: str = "rlfh") -> tuple[float, float]:
    counts = ngrams.count_sets([texts], tokeniser)
    return float(ead.published_per_input(counts)[0]), float(distinct_n.per_input(counts, short="zero")[0])


@FIXED
@given(st.integers(1, 10**6), st.sampled_from([2, 50257, 256_000]), st.integers(1, 5))
def test_expectation_keeps_all_digits(total: int, vocabulary: int, n: int) -> None:
    with localcontext() as context:
        context.prec = 90  # V^5 takes 27 digits of them.
        space = Decimal(vocabulary) ** n
        exact = total / (space * (1 - (1 - 1 / space) ** total))
    found = ead.ead_from_counts([total], [total], float(vocabulary) ** n)
    assert float(found) == pytest.approx(float(exact), rel=1e-14)


@FIXED
@given(TEXTS, st.sampled_from(list(TOKENISERS)))
def test_published_form_equals_the_published_algorithm(texts: list[str], tokeniser: str) -> None:
    split = TOKENISERS[tokeniser]
    expected = slow_ngrams.ead(texts, split), slow_ngrams.distinct(texts, split)
    assert published(texts, tokeniser) == pytest.approx(expected, abs=1e-11)


@FIXED
@given(TEXTS, st.sampled_from(list(TOKENISERS)), st.sampled_from([1, 2, 3, 50257]))
def test_default_averages_the_orders_that_exist(texts: list[str], tokeniser: str, vocabulary: int) -> None:
    split = TOKENISERS[tokeniser]
    found = ead.per_input(ngrams.count_sets([texts], tokeniser), vocabulary=vocabulary)[0]
    orders = [n for n in range(1, 6) if slow_ngrams.counts(texts, split, n)[1]]
    if not orders:
        assert np.isnan([found, *values(texts, tokeniser)]).all()
        return
    exact = sum(slow_ngrams.exact_ead_n(texts, split, n, vocabulary) for n in orders) / len(orders)
    assert found == pytest.approx(float(exact), rel=1e-14)
    distinct = np.mean([slow_ngrams.distinct_n(texts, split, n) for n in orders])
    assert values(texts, tokeniser)[1] == pytest.approx(distinct, abs=1e-11)


@FIXED
@given(TEXTS, st.sampled_from([1, 7, 50257]))
def test_across_input_is_per_input_of_the_set_and_of_what_is_left(texts: list[str], vocabulary: int) -> None:
    value, without = ead.across_input(ngrams.count_sets([texts]), vocabulary=vocabulary)
    sets = [texts, *(texts[:i] + texts[i + 1 :] for i in range(len(texts)))]
    found = ead.per_input(ngrams.count_sets(sets), vocabulary=vocabulary)
    assert [*value, *without] == pytest.approx(found, rel=1e-15, nan_ok=True)


@FIXED
@given(texts=TEXTS)
def test_across_input_without_each_text_equals_a_recount(texts: list[str]) -> None:
    counts = ngrams.count_sets([texts], "rlfh")
    for (value, without), form, column in (
        (ead.across_input(counts), values, 0),
        (ead.published_across_input(counts), published, 0),
        (distinct_n.across_input(counts), values, 1),
        (distinct_n.across_input(counts, short="zero"), published, 1),
    ):
        assert value[0] == pytest.approx(form(texts)[column], nan_ok=True)
        left = [form(texts[:i] + texts[i + 1 :])[column] for i in range(len(texts))]
        assert without == pytest.approx(np.array(left), abs=1e-12, nan_ok=True)


@FIXED
@given(SOME_TEXTS, st.randoms(use_true_random=False))
def test_order_of_texts_does_not_matter(texts: list[str], random: object) -> None:
    assert values(texts) == values(random.sample(texts, len(texts)))  # type: ignore[attr-defined]


@FIXED
@given(SOME_TEXTS)
def test_names_of_words_do_not_matter(texts: list[str]) -> None:
    assert values(texts) == values([text.translate(str.maketrans("abcde", "vwxyz")) for text in texts])


@FIXED
@given(SOME_TEXTS)
def test_an_empty_text_changes_nothing(texts: list[str]) -> None:
    assert values(texts) == values([*texts, ""])


@FIXED
@given(SOME_TEXTS)
def test_a_duplicate_never_raises_distinct_n(texts: list[str]) -> None:
    assert values([*texts, max(texts, key=len)])[1] <= values(texts)[1] + 1e-12


@FIXED
@given(SOME_TEXTS)
def test_ead_is_at_least_distinct_n(texts: list[str]) -> None:
    both = values(texts)
    assert both[0] >= both[1] - 1e-12


@FIXED
@given(SOME_TEXTS)
def test_a_large_vocabulary_gives_distinct_n(texts: list[str]) -> None:
    counts = ngrams.count_sets([texts], "rlfh")
    assert ead.per_input(counts, vocabulary=10**12) == pytest.approx(distinct_n.per_input(counts), abs=1e-9)


@FIXED
@given(st.lists(SOME_TEXTS, min_size=1, max_size=4))
def test_pooling_never_adds_kinds(sets: list[list[str]]) -> None:
    apart = ngrams.count_sets(sets).distinct.sum(axis=0)
    together = ngrams.count_sets([[text for texts in sets for text in texts]]).distinct[0]
    assert (together <= apart).all()


@FIXED
@given(st.lists(st.text(), max_size=5))
def test_any_unicode_gives_a_finite_value_or_missing(texts: list[str]) -> None:
    for tokeniser, split in TOKENISERS.items():
        has_words = any(split(text) for text in texts)
        assert np.isfinite(values(texts, tokeniser)).all() == has_words


def test_identical_outputs_score_about_one_over_k() -> None:
    text = " ".join(f"w{i}" for i in range(40))
    assert values([text] * 16)[1] == pytest.approx(1 / 16)
    assert values([text] * 16)[0] == pytest.approx(1 / 16, rel=0.01)


@FIXED
@given(TEXTS)
def test_from_two_words_on_the_default_is_distinct_n_to_five_digits(texts: list[str]) -> None:
    counts = ngrams.count_sets([texts])
    longer = counts.distinct[:, 1:], counts.total[:, 1:]
    found = ead.ead_from_counts(*longer, float(ead.VOCABULARY) ** np.arange(2, 6))
    assert found == pytest.approx(distinct_n.distinct_from_counts(*longer), rel=1e-5, nan_ok=True)


@FIXED
@given(st.integers(1, 50), st.integers(0, 10**6), st.floats(1, 1e25))
def test_ead_rises_with_kinds_and_falls_with_number_and_space(distinct: int, repeated: int, space: float) -> None:
    total = distinct + repeated
    found = ead.ead_from_counts([distinct], [total], space)
    assert ead.ead_from_counts([distinct + 1], [total + 1], space) > ead.ead_from_counts([distinct], [total + 1], space)
    assert ead.ead_from_counts([distinct], [total + 1], space) <= found * (1 + 1e-15)
    assert distinct / total * (1 - 1e-15) <= ead.ead_from_counts([distinct], [total], space * 2) <= found * (1 + 1e-15)


@FIXED
@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_ead_is_bounded_where_kinds_fit_into_the_space(total: int, space: int) -> None:
    assert ead.ead_from_counts([min(total, space)], [total], space) <= 1 / (1 - 1 / math.e)
    at_bound = ead.ead_from_counts([space], [space], space)
    assert ead.ead_from_counts([min(total, space)], [total], space) <= at_bound * (1 + 1e-15)


def test_the_bound_is_reached_where_everything_is_seen_once() -> None:
    assert ead.ead_from_counts([10**9], [10**9], 10**9) == pytest.approx(1 / (1 - 1 / math.e), rel=1e-9)


def test_one_ngram_is_what_is_expected_of_one() -> None:
    for space in (1, 2, 50257.0**5):
        assert ead.ead_from_counts([1], [1], space) == pytest.approx(1, rel=1e-15)


def zipf(*shape: int, seed: int = 0) -> list[str]:
    """Texts of words by Zipf's law, from 20,000 words; shape [texts, words]."""
    share = 1 / np.arange(1, 20_001)
    words = np.random.default_rng(seed).choice(20_000, shape, p=share / share.sum()).astype(str)
    return [" ".join(text) for text in words]


def test_pooled_outputs_stay_bounded_by_default_and_not_as_published() -> None:
    counts = ngrams.count_sets([zipf(8000, 40)])
    orders = [(counts.distinct[:, [n]], counts.total[:, [n]], n + 1) for n in range(5)]
    ours = [float(ead.ead_from_counts(d, c, 50257.0**n)[0]) for d, c, n in orders]
    theirs = [float(ead.ead_from_counts(d, c, 50257)[0]) for d, c, _ in orders]
    assert ours == pytest.approx([0.370, 0.647, 0.947, 0.997, 1.000], abs=0.001)
    assert theirs == pytest.approx([0.370, 4.027, 5.739, 5.886, 5.749], abs=0.001)
    assert ead.per_input(counts) == pytest.approx([0.792], abs=0.001)
    assert ead.published_per_input(counts) == pytest.approx([4.354], abs=0.001)


def test_the_default_leans_on_length_almost_as_much_as_distinct_n() -> None:
    short, long = (
        ngrams.count_sets([texts[i : i + 16] for i in range(0, 800, 16)])
        for texts in (zipf(800, 5, seed=1), zipf(800, 320, seed=1))
    )
    for of, ends in (
        (ead.per_input, (0.956, 0.861)),
        (distinct_n.per_input, (0.955, 0.857)),
        (ead.published_per_input, (0.956, 0.901)),
    ):
        assert (of(short).mean(), of(long).mean()) == pytest.approx(ends, abs=0.001)


def test_published_orders_share_one_vocabulary_and_those_of_the_default_do_not() -> None:
    counts = ngrams.count_sets([[" ".join("abcdefghij") * 2]])
    d, c, v = counts.distinct, counts.total, ead.VOCABULARY
    apart = [ead.ead_from_counts(d[:, [n]], c[:, [n]], v) for n in range(5)]
    assert ead.published_per_input(counts) == pytest.approx(np.mean(apart, axis=0), rel=1e-15)
    apart = [ead.ead_from_counts(d[:, [n]], c[:, [n]], float(v) ** (n + 1)) for n in range(5)]
    assert ead.per_input(counts) == pytest.approx(np.mean(apart, axis=0), rel=1e-15)


def test_a_space_of_one_expects_one_ngram() -> None:
    assert ead.ead_from_counts([1, 1, 0], [5, 4, 0], 1, short="skip") == 1.0
    assert ead.ead_from_counts([1, 1, 0], [5, 4, 0], 1, short="zero") == pytest.approx(2 / 3)


def test_a_space_beyond_the_largest_float_gives_distinct_n() -> None:
    text = [" ".join("ab" * 40)]
    counts = ngrams.count_sets([text], n_max=70)
    assert sys.float_info.max < 50257**70
    assert ead.per_input(counts) == pytest.approx(distinct_n.per_input(counts), rel=1e-4)


def ead_of_three(distinct: list[int], total: list[int], **options: object) -> object:
    return ead.ead_from_counts(distinct, total, 3, **options)


@pytest.mark.parametrize("from_counts", [ead_of_three, distinct_n.distinct_from_counts])
def test_impossible_counts_are_refused(from_counts: object) -> None:
    for distinct, total in (([2], [1]), ([-1], [1])):
        with pytest.raises(ValueError, match="distinct <= total"):
            from_counts(distinct, total)  # type: ignore[operator]
    with pytest.raises(ValueError, match="short"):
        from_counts([1], [1], short="nan")  # type: ignore[operator]


def test_a_vocabulary_or_space_below_one_is_refused() -> None:
    counts = ngrams.count_sets([["a b"]])
    for of in (ead.per_input, ead.across_input):
        with pytest.raises(ValueError, match="vocabulary"):
            of(counts, vocabulary=0)
    for space in (0, [4, 0.5], np.nan):
        with pytest.raises(ValueError, match="space"):
            ead.ead_from_counts([1, 1], [1, 1], space)
