"""Known answers of every metric: small sets whose values were worked out by hand or by the published code.

Those of the statistics (win rate, Bradley-Terry, hypervolume, errors of clusters, and the (1 - 1/n) of the naive
bootstrap of a mean over pairs) are in ``tests/benchmark/statistics``.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from benchmark.metrics import (
    distinct_k,
    distinct_n,
    ead,
    ngram_cosine,
    ngrams,
    nli,
    self_bleu,
    sentence_bert,
    vendi,
)
from benchmark.metrics.repeats import repeats_of

MISSING = math.nan

# Texts, D and C of n = 1 … 5, EAD, distinct-n and 3-gram cosine diversity of the published code: V = 50257, tokeniser
# `rlfh`, orders without n-grams count 0.
LEXICAL = {
    "A": (["a b c"] * 2, [3, 2, 1, 0, 0], [6, 4, 2, 0, 0], 0.300008954151, 0.3, 0),
    "B": (["a b c", "d e f"], [6, 4, 2, 0, 0], [6, 4, 2, 0, 0], 0.600017908303, 0.6, 1),
    "C": (
        ["i am going", "i am going", "lets go i i"],
        [5, 5, 3, 1, 0],
        [10, 7, 4, 1, 0],
        0.592879102046,
        0.592857142857,
        2 / 3,
    ),
    "D": (["a"], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], 0.2, 0.2, MISSING),
    "E": (["", "a b"], [2, 1, 0, 0, 0], [2, 1, 0, 0, 0], 0.400001989792, 0.4, 1),
    "F": (["", ""], [0] * 5, [0] * 5, 0, 0, 1),
    "G": (["a a a a a a"], [1] * 5, [6, 5, 4, 3, 2], 0.290007063815, 0.29, MISSING),
    "H": (["end.\nStart now", "end Start now"], [4, 3, 1, 0, 0], [5, 3, 1, 0, 0], 0.560010346997, 0.56, 1),
    "I": (["Yes, it is.", "yes it is"], [4, 3, 2, 0, 0], [6, 4, 2, 0, 0], 0.483346432917, 0.483333333333, 1),
    "J": (["a b c d e f"], [6, 5, 4, 3, 2], [6, 5, 4, 3, 2], 1.000029847149, 1, MISSING),
    "K": (["a\tb c", "a\N{NO-BREAK SPACE}b c"], [3, 2, 0, 0, 0], [4, 2, 0, 0, 0], 0.350006466855, 0.35, 1),
}


@pytest.mark.parametrize("vector", LEXICAL)
def test_ead_distinct_n_and_cosine_of_the_published_code(vector: str) -> None:
    texts, distinct, total, expected_ead, expected_distinct, expected_cosine = LEXICAL[vector]
    counts = ngrams.count_sets([texts], "rlfh")
    assert counts.distinct[0].tolist() == distinct
    assert counts.total[0].tolist() == total
    assert ead.published_per_input(counts) == pytest.approx([expected_ead], abs=1e-12)
    assert distinct_n.per_input(counts, short="zero") == pytest.approx([expected_distinct], abs=1e-12)
    cosine = ngram_cosine.per_input(repeats_of([texts], "rlfh"), orders=(3,), short="zero")
    assert cosine == pytest.approx([expected_cosine], abs=1e-15, nan_ok=True)


@pytest.mark.parametrize(
    ("texts", "vocabulary", "n_max", "expected"),
    [
        (["a b a c"], 4, 1, Fraction(192, 175)),
        (["a b a c"], 2, 1, Fraction(8, 5)),
        (["a b c d e f g h"], 4, 1, Fraction(131072, 58975)),
        (["a"], 1, 1, Fraction(1)),
        # By hand. n = 1: D = 2, C = 3, S = 2, E = 2 (1 - 1/8) = 7/4. n = 2: D = C = 2, S = 4, E = 4 (1 - 9/16) = 7/4.
        (["a b a"], 2, 2, Fraction(8, 7)),
        # n = 3: D = C = 1, which is expected of any S.
        (["a b a"], 2, 3, Fraction(23, 21)),
        # Two alike, n = 1: 3 of 6, S = 2, E = 63/32. n = 2: 2 of 4, S = 4, E = 175/64. n = 3: 1 of 2, S = 8, E = 15/8.
        (["a b c"] * 2, 2, 3, (Fraction(96, 63) + Fraction(128, 175) + Fraction(8, 15)) / 3),
        # n = 1: 2 of 8, S = 2, E = 255/128. n = 2: each of S = 4 once, E = 4 (1 - 81/256) = 175/64.
        (["a a", "b b", "a b", "b a"], 2, 2, (Fraction(256, 255) + Fraction(256, 175)) / 2),
    ],
)
def test_ead_in_exact_fractions(texts: list[str], vocabulary: int, n_max: int, expected: Fraction) -> None:
    counts = ngrams.count_sets([texts], n_max=n_max)
    assert float(ead.per_input(counts, vocabulary=vocabulary)[0]) == pytest.approx(float(expected), rel=1e-15)


# The same texts by the default: S = V^n, tokeniser `words`, orders without n-grams left out; exact fractions, rounded.
BY_DEFAULT = {
    "A": 0.500008291010,
    "B": 1.000016582021,
    "C": 0.741082621663,
    "D": 1,
    "E": 1.000004974481,
    "F": MISSING,
    "G": 0.290001658214,
    "H": 0.500008291010,
    "I": 0.500008291010,
    "J": 1.000009949252,
    "K": 0.500008291010,
}


@pytest.mark.parametrize("vector", BY_DEFAULT)
def test_ead_of_the_same_texts_by_default(vector: str) -> None:
    counts = ngrams.count_sets([LEXICAL[vector][0]])
    assert ead.per_input(counts) == pytest.approx([BY_DEFAULT[vector]], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [(["a b", "a c"], 1, 0.5), (["a a b", "a b b"], 1, 0.2), (["hi there"] * 2, 3, 1.0)],
)
def test_ngram_cosine(texts: list[str], n: int, expected: float) -> None:
    found = ngram_cosine.per_input(repeats_of([texts], "rlfh"), orders=(n,), short="zero")
    assert found == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a b c d", "a b c d"], 1.0),
        (["a b c d", "e f g h"], 0.0),
        (["a b c d e", "a b c d f"], 0.668740304976422),
        (["a b c d e", "a b c d"], 0.7237705440239135),
        (["a", "a"], 10**-0.75),
    ],
)
def test_self_bleu(texts: list[str], expected: float) -> None:
    assert self_bleu.per_input(repeats_of([texts]), short="zero") == pytest.approx([expected], abs=1e-15)


@pytest.mark.parametrize(
    ("rows", "expected"), [([(1, 0), (0, 1), (1, 0)], 2 / 3), ([(1, 0), (0.6, 0.8), (-1, 0)], 4 / 3)]
)
def test_mean_distance_of_embeddings(rows: list[tuple[float, float]], expected: float) -> None:
    e = np.array(rows, float)
    assert float(sentence_bert.per_input(e)) == pytest.approx(expected, rel=1e-15)
    assert float(sentence_bert.across_input(e)[0]) == pytest.approx(expected, rel=1e-15)


# The classifier's probability of the label is 0.9 both ways, and that of the opposite label 0: its three numbers, our
# form, that of the released code and that of the published table.
NLI = {
    "entailment": ((0.9, 0.1, 0.0), -0.9, 2.8, -1.8),
    "neutral": ((0.05, 0.9, 0.05), 0.0, 1.0, 0.0),
    "contradiction": ((0.0, 0.1, 0.9), 0.9, -0.8, 1.8),
}


@pytest.mark.parametrize("label", NLI)
def test_nli(label: str) -> None:
    chances, *expected = NLI[label]
    texts = [["One thing.", "Another thing.", "A third."]]
    forms: tuple[nli.Form, ...] = ("nli", "nli_released_code", "nli_paper_table")
    for form, value in zip(forms, expected, strict=True):
        assert nli.per_input(texts, lambda pairs: np.array([chances] * len(pairs)), form=form) == pytest.approx([value])
        found, without = nli.across_input(texts, lambda pairs: np.array([chances] * len(pairs)), form=form)
        assert [*found, *without[0]] == pytest.approx([value] * 4)


@pytest.mark.parametrize(
    ("rows", "order", "expected"),
    [
        (np.eye(2), 1.0, 2.0),
        (np.ones((3, 1)), 1.0, 1.0),
        ([(1, 0), (1, 0), (0, 1)], 1.0, 3 / 4 ** (1 / 3)),
        ([(1, 0), (0.5, math.sqrt(0.75))], 1.0, 4 / 3**0.75),
        ([(1, 0), (1, 0), (1, 0), (0, 1)], 1.0, 1.7547653506033232),
        ([(1, 0), (1, 0), (1, 0), (0, 1)], 2.0, 1.6),
        ([(1, 0), (1, 0), (1, 0), (0, 1)], math.inf, 4 / 3),
    ],
)
def test_vendi(rows: object, order: float, expected: float) -> None:
    e = np.array(rows, float)
    assert float(vendi.per_input(e, order=order)) == pytest.approx(expected, rel=1e-14)
    assert float(vendi.across_input(e, order=order)[0]) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("classes", "scores", "utility", "distinct"),
    [
        ([0, 0, 0], [10, 10, 10], 4.098360655737705, 1),
        ([0, 1, 2], [10, 8, 6], 8.295081967213115, 3),
        (list(range(10)), [5] * 10, 5.0, 10),
        ([0] * 10, [5] * 10, 1.1202902496016713, 1),
    ],
)
def test_utility_and_number_of_classes(classes: list[int], scores: list[float], utility: float, distinct: int) -> None:
    assert float(distinct_k.utility(np.array(classes), np.array(scores, float))) == pytest.approx(utility, rel=1e-14)
    assert float(distinct_k.per_input(np.array(classes))) == distinct


def test_the_clusters_three_and_one_have_the_hill_numbers_of_their_shares() -> None:
    # Of order 0 it is the number of classes; the others are Vendi scores at right angles.
    assert float(distinct_k.per_input(np.array([0, 0, 0, 1]))) == 2
