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


def values(texts: list[str], tokeniser: str = "rlfh", **options: object) -> tuple[float, float]:
    counts = ngrams.count_sets([texts], tokeniser)
    return float(ead.per_input(counts, **options)[0]), float(distinct_n.per_input(counts, **options)[0])


@FIXED
@given(st.integers(1, 10**6), st.sampled_from([2, 50257, 256_000]))
def test_expectation_keeps_all_digits(total: int, vocabulary: int) -> None:
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        exact = total / (vocabulary * (1 - (1 - 1 / Decimal(vocabulary)) ** total))
    assert float(ead.ead_from_counts([total], [total], vocabulary=vocabulary)) == pytest.approx(float(exact), rel=1e-14)


@FIXED
@given(TEXTS, st.sampled_from(list(TOKENISERS)))
def test_zero_rule_equals_the_published_algorithm(texts: list[str], tokeniser: str) -> None:
    split = TOKENISERS[tokeniser]
    expected = slow_ngrams.ead(texts, split), slow_ngrams.distinct(texts, split)
    assert values(texts, tokeniser, short="zero") == pytest.approx(expected, abs=1e-11)


@FIXED
@given(TEXTS)
def test_skip_rule_averages_the_orders_that_exist(texts: list[str]) -> None:
    split = TOKENISERS["words"]
    orders = [n for n in range(1, 6) if slow_ngrams.counts(texts, split, n)[1]]
    if not orders:
        assert np.isnan(values(texts, "words")).all()
        return
    expected = (
        np.mean([slow_ngrams.ead_n(texts, split, n) for n in orders]),
        np.mean([slow_ngrams.distinct_n(texts, split, n) for n in orders]),
    )
    assert values(texts, "words") == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("short", ["skip", "zero"])
@FIXED
@given(texts=TEXTS)
def test_across_input_without_each_text_equals_a_recount(short: distinct_n.Short, texts: list[str]) -> None:
    counts = ngrams.count_sets([texts])
    for metric, column in ((ead, 0), (distinct_n, 1)):
        value, without = metric.across_input(counts, short=short)
        assert value[0] == pytest.approx(values(texts, "words", short=short)[column], nan_ok=True)
        left = [values(texts[:i] + texts[i + 1 :], "words", short=short)[column] for i in range(len(texts))]
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


def test_every_order_uses_one_vocabulary() -> None:
    found = ead.ead_from_counts([[5], [5]], [[9], [9]], vocabulary=7)
    assert float(found[0]) == float(ead.ead_from_counts([5, 5, 5], [9, 9, 9], vocabulary=7))


def test_a_vocabulary_of_one_expects_one_ngram() -> None:
    assert ead.ead_from_counts([1, 1, 0], [5, 4, 0], vocabulary=1, short="skip") == 1.0
    assert ead.ead_from_counts([1, 1, 0], [5, 4, 0], vocabulary=1, short="zero") == pytest.approx(2 / 3)


@pytest.mark.parametrize("from_counts", [ead.ead_from_counts, distinct_n.distinct_from_counts])
def test_impossible_counts_are_refused(from_counts: object) -> None:
    for distinct, total in (([2], [1]), ([-1], [1])):
        with pytest.raises(ValueError, match="distinct <= total"):
            from_counts(distinct, total)  # type: ignore[operator]
    with pytest.raises(ValueError, match="short"):
        from_counts([1], [1], short="nan")  # type: ignore[operator]


def test_a_vocabulary_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        ead.ead_from_counts([1], [1], vocabulary=0)
