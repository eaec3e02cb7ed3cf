import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.slow_bleu import ngram_counts

from benchmark.metrics import ngrams
from benchmark.metrics.repeats import Repeats, repeats, repeats_of
from benchmark.metrics.tokenise import TOKENISERS

FIXED = settings(derandomize=True, deadline=None)
TEXT = st.lists(st.sampled_from(["a", "b", "c", "A", "a.", "é", "\n", ""]), max_size=9).map(" ".join)
NAMES = st.sampled_from(list(TOKENISERS))


def found(of: Repeats, n: int) -> list[tuple[tuple[int, int], ...]]:
    """Who holds each repeated n-gram how often, n-grams in no order."""
    order = of.orders[n - 1]
    kinds: dict[int, list[tuple[int, int]]] = {}
    for ngram, text, times in zip(order.ngram.tolist(), order.text.tolist(), order.times.tolist(), strict=True):
        kinds.setdefault(ngram, []).append((text, times))
    assert list(kinds) == list(range(len(kinds)))
    return sorted(map(tuple, kinds.values()))


def expected(texts: list[str], sets: list[int], tokeniser: str, n: int) -> list[tuple[tuple[int, int], ...]]:
    kinds: dict[object, list[tuple[int, int]]] = {}
    for number, (text, of_set) in enumerate(zip(texts, sets, strict=True)):
        for ngram, times in ngram_counts(TOKENISERS[tokeniser](text), n).items():
            kinds.setdefault((of_set, ngram), []).append((number, times))
    return sorted(tuple(holders) for holders in kinds.values() if sum(times for _, times in holders) > 1)


@FIXED
@given(st.lists(st.tuples(TEXT, st.integers(0, 3)), max_size=9), NAMES)
def test_repeated_ngrams_are_those_of_a_count(placed: list[tuple[str, int]], tokeniser: str) -> None:
    texts, sets = [text for text, _ in placed], [place for _, place in placed]
    of = repeats(ngrams.tokens(texts, tokeniser), np.array(sets, int))
    for n in range(1, 6):
        assert found(of, n) == expected(texts, sets, tokeniser, n)
        assert of.of_text[:, n - 1].tolist() == [max(len(TOKENISERS[tokeniser](text)) - n + 1, 0) for text in texts]


def test_long_repeats_are_followed_to_n_max() -> None:
    texts = ["a b c d e f g", "x b c d e f g"]
    of = repeats_of([texts], n_max=8)
    assert [found(of, n) for n in range(1, 9)] == [expected(texts, [0, 0], "words", n) for n in range(1, 9)]
    assert len(of.orders[5].ngram) == 2
    assert len(of.orders[6].ngram) == 0


def test_sets_without_a_text_are_counted() -> None:
    assert repeats_of([]).n_sets == 0
    assert repeats_of([[], ["a"], []]).n_sets == 3
    assert repeats(ngrams.tokens(["a"]), [1]).n_sets == 2


def test_impossible_sets_are_refused() -> None:
    corpus = ngrams.tokens(["a", "b"])
    for sets in ([0], [0, -1], [[0], [1]]):
        with pytest.raises(ValueError, match="2 non-negative integers"):
            repeats(corpus, sets)
    with pytest.raises(ValueError, match="none of the 1 sets"):
        repeats(corpus, [0, 1], n_sets=1)
    with pytest.raises(ValueError, match="n_max"):
        repeats(corpus, [0, 0], 0)
