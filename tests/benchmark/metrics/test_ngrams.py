import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import slow_ngrams

from benchmark.errors import UserError
from benchmark.metrics import ngrams, repeats, tokenise
from benchmark.metrics.tokenise import TOKENISERS

FIXED = settings(derandomize=True, deadline=None)
TEXT = st.lists(st.sampled_from(["a", "b", "c", "A", "a.", "é", "\n", ""]), max_size=9).map(" ".join)
SETS = st.lists(st.lists(TEXT, max_size=5), max_size=4)
NAMES = st.sampled_from(list(TOKENISERS))


def brute(texts: list[str], tokeniser: str, n_max: int = 5) -> list[tuple[int, int]]:
    return [slow_ngrams.counts(texts, TOKENISERS[tokeniser], n) for n in range(1, n_max + 1)]


def pairs(distinct: np.ndarray, total: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(distinct.tolist(), total.tolist(), strict=True))


@FIXED
@given(SETS, NAMES)
def test_counts_equal_sets_of_tuples(sets: list[list[str]], tokeniser: str) -> None:
    counts = ngrams.count_sets(sets, tokeniser)
    assert [pairs(d, c) for d, c in zip(counts.distinct, counts.total, strict=True)] == [
        brute(texts, tokeniser) for texts in sets
    ]


@FIXED
@given(SETS, NAMES)
def test_without_each_equals_a_recount(sets: list[list[str]], tokeniser: str) -> None:
    found = [pairs(d, c) for d, c in zip(*ngrams.count_sets(sets, tokeniser).without_each(), strict=True)]
    assert found == [brute(texts[:i] + texts[i + 1 :], tokeniser) for texts in sets for i in range(len(texts))]


@FIXED
@given(st.lists(st.tuples(TEXT, st.integers(0, 3)), max_size=9))
def test_a_sets_texts_need_not_be_neighbours(placed: list[tuple[str, int]]) -> None:
    texts, sets = [text for text, _ in placed], [place for _, place in placed]
    counts = ngrams.count(ngrams.tokens(texts), np.array(sets, int))
    for number in range(len(counts.distinct)):
        members = [text for text, place in placed if place == number]
        assert pairs(counts.distinct[number], counts.total[number]) == brute(members, "words")


@FIXED
@given(SETS)
def test_keys_too_wide_to_pack_give_the_same(sets: list[list[str]]) -> None:
    packed = ngrams.count_sets(sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_KEY_BITS", 1)
        plain = ngrams.count_sets(sets)
    for name in ("distinct", "total", "own", "of_text"):
        assert np.array_equal(getattr(packed, name), getattr(plain, name))


@FIXED
@given(st.lists(st.text(), max_size=6), NAMES)
def test_any_unicode_is_counted_like_the_definition(texts: list[str], tokeniser: str) -> None:
    counts = ngrams.count_sets([texts], tokeniser)
    assert pairs(counts.distinct[0], counts.total[0]) == brute(texts, tokeniser)


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_a_text_that_holds_the_end_mark_is_counted_all_the_same(tokeniser: str) -> None:
    texts = [f"a {tokenise._END} b", "a b", f"{tokenise._END}"]
    counts = ngrams.count_sets([texts], tokeniser)
    assert pairs(counts.distinct[0], counts.total[0]) == brute(texts, tokeniser)
    assert ngrams.tokens(texts, tokeniser).lengths.tolist() == [3, 2, 1]


def test_ngrams_do_not_cross_texts() -> None:
    assert ngrams.count_sets([["a", "b"]]).total[0].tolist() == [2, 0, 0, 0, 0]


def test_long_repeats_are_followed_to_n_max() -> None:
    texts = ["a b c d e f g", "x b c d e f g"]
    counts = ngrams.count_sets([texts], n_max=8)
    assert pairs(counts.distinct[0], counts.total[0]) == brute(texts, "words", 8)


def test_a_large_corpus_equals_sets_of_tuples() -> None:
    rng = np.random.default_rng(0)
    words = rng.zipf(1.3, (60, 8, 30)) % 400
    sets = [[" ".join(map(str, text)) for text in texts] for texts in words]
    counts = ngrams.count_sets(sets)
    assert [pairs(d, c) for d, c in zip(counts.distinct, counts.total, strict=True)] == [
        brute(texts, "words") for texts in sets
    ]


def test_no_texts_and_empty_sets_count_nothing() -> None:
    assert ngrams.count_sets([]).distinct.shape == (0, 5)
    counts = ngrams.count_sets([["a"], [], []])
    assert counts.total.sum(axis=1).tolist() == [1, 0, 0]
    assert counts.distinct.shape == (3, 5)


@pytest.mark.parametrize("sets", [[0], [0, -1], [[0], [1]]])
def test_one_set_a_text_is_required(sets: list[int]) -> None:
    with pytest.raises(ValueError, match="2 non-negative integers"):
        ngrams.count(ngrams.tokens(["a", "b"]), sets)


def test_n_max_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="n_max"):
        ngrams.count(ngrams.tokens(["a"]), [0], 0)


def test_an_unknown_tokeniser_is_the_users_mistake() -> None:
    with pytest.raises(UserError):
        ngrams.tokens(["a"], "bert")


def test_keys_that_would_overflow_are_not_packed() -> None:
    key, start = np.array([2**62, 2**61, 2**62, 0]), np.array([0, 1, 2, 3])
    assert [column.tolist() for column in repeats.by_key(start, key)] == [[3, 1, 0, 2], [0, 2**61, 2**62, 2**62]]
