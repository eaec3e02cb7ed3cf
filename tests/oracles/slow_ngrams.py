"""The published per-set algorithm of EAD and distinct-n, written plainly: Python tuples, lists and sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

Split = Callable[[str], list[str]]


def ngrams(texts: Sequence[str], split: Split, n: int) -> list[tuple[str, ...]]:
    found = []
    for text in texts:
        words = split(text)
        found += [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return found


def counts(texts: Sequence[str], split: Split, n: int) -> tuple[int, int]:
    found = ngrams(texts, split, n)
    return len(set(found)), len(found)


def ead_n(texts: Sequence[str], split: Split, n: int, vocabulary: int = 50257) -> float:
    distinct, total = counts(texts, split, n)
    if total == 0:
        return 0.0
    return distinct / (vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** total))


def exact_ead_n(texts: Sequence[str], split: Split, n: int, vocabulary: int) -> Fraction:
    """Of the default form, in fractions: n-grams are drawn from as many as the vocabulary makes of n words."""
    distinct, total = counts(texts, split, n)
    space = Fraction(vocabulary) ** n
    return distinct / (space * (1 - (1 - 1 / space) ** total))


def distinct_n(texts: Sequence[str], split: Split, n: int) -> float:
    distinct, total = counts(texts, split, n)
    return distinct / total if total else 0.0


def ead(texts: Sequence[str], split: Split, n_max: int = 5) -> float:
    return sum(ead_n(texts, split, n) for n in range(1, n_max + 1)) / n_max


def distinct(texts: Sequence[str], split: Split, n_max: int = 5) -> float:
    return sum(distinct_n(texts, split, n) for n in range(1, n_max + 1)) / n_max


def ead_and_distinct_lean(texts: Sequence[str], split: Split, vocabulary: int = 50257) -> tuple[float, float]:
    """The same without the published code's waste: words are split once a text, n-grams built once for both metrics."""
    words = [split(text) for text in texts]
    ead_sum = distinct_sum = 0.0
    for n in range(1, 6):
        found = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
        if found:
            different, total = len(set(found)), len(found)
            ead_sum += different / (vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** total))
            distinct_sum += different / total
    return ead_sum / 5, distinct_sum / 5
