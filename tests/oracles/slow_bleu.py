"""Self-BLEU and n-gram cosines as their definitions say, one text and one pair at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

Split = Callable[[str], list[str]]


def ngram_counts(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(candidate: Sequence[str], references: Sequence[Sequence[str]], short: str) -> float:
    """BLEU-4, method 1."""
    logs = []
    for n in range(1, 5):
        counts = ngram_counts(candidate, n)
        total = sum(counts.values())
        held = [ngram_counts(reference, n) for reference in references]
        matches = sum(min(count, max(other[ngram] for other in held)) for ngram, count in counts.items())
        if n == 1 and matches == 0:
            return 0.0
        if total or short == "zero":
            logs.append(math.log((matches or 0.1) / max(total, 1)))
    _, closest = min((abs(len(reference) - len(candidate)), len(reference)) for reference in references)
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - closest / len(candidate)))


def self_bleu(texts: Sequence[str], split: Split, short: str = "zero") -> float:
    words = [split(text) for text in texts]
    if short == "skip":
        words = [found for found in words if found]
    if len(words) < 2:
        return math.nan
    each = [bleu(found, words[:i] + words[i + 1 :], short) for i, found in enumerate(words)]
    return sum(each) / len(each)


def cosine(a: Counter[tuple[str, ...]], b: Counter[tuple[str, ...]]) -> float:
    dot = sum(count * b[ngram] for ngram, count in a.items())
    norms = [math.sqrt(sum(count**2 for count in counts.values())) for counts in (a, b)]
    return dot / (norms[0] * norms[1]) if dot else 0.0


def cosine_diversity(texts: Sequence[str], split: Split, orders: Sequence[int], short: str = "zero") -> float:
    of_orders = []
    for n in orders:
        counts = [ngram_counts(split(text), n) for text in texts]
        if short == "skip":
            counts = [found for found in counts if found]
        distances = [1 - cosine(a, b) for a, b in combinations(counts, 2)]
        if distances:
            of_orders.append(sum(distances) / len(distances))
    return sum(of_orders) / len(of_orders) if of_orders else math.nan
