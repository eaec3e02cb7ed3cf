"""Counting n-grams of many sets of texts at once, exactly.

EAD and distinct-n need two numbers a set and order: how many different n-grams its texts hold (D) and how many in all
(C). C follows from the lengths; D is C less what repeats beyond its first time (``repeats.py``).

The delete-one jackknife of a set statistic needs no recount either: without text i, D falls by the n-grams that only
text i holds, and C by the n-grams of text i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmark.metrics.repeats import MAX_N, Repeats, repeats, repeats_of
from benchmark.metrics.tokenise import Ints, Tokens, tokens

__all__ = ["MAX_N", "Counts", "Ints", "Tokens", "count", "count_sets", "counts_of", "tokens"]


@dataclass(frozen=True)
class Counts:
    """N-gram counts of sets of texts; column ``n-1`` is about n-grams.

    Parameters
    ----------
    distinct, total
        Different n-grams and all n-grams of every set, int64 [n_sets, N]; ``distinct <= total``.
    own
        Different n-grams that a text holds and no other text of its set does, int64 [n_texts, N].
    of_text
        All n-grams of every text, int64 [n_texts, N].
    sets
        Set of every text, int64 [n_texts].
    """

    distinct: Ints
    total: Ints
    own: Ints
    of_text: Ints
    sets: Ints

    def without_each(self) -> tuple[Ints, Ints]:
        """(distinct, total) of every text's set without that text, each int64 [n_texts, N]."""
        return self.distinct[self.sets] - self.own, self.total[self.sets] - self.of_text


def counts_of(found: Repeats) -> Counts:
    """N-gram counts of sets whose repeated n-grams are known; of as many orders."""
    n_texts, n_max = len(found.sets), len(found.orders)
    own, first_seen = np.zeros((2, n_texts, n_max), np.int64)
    for n, order in enumerate(found.orders):
        starts = np.diff(order.ngram, prepend=-1) != 0
        alone = starts & np.append(starts[1:], True)
        once = found.of_text[:, n] - np.bincount(order.text, order.times, n_texts).astype(np.int64)
        first_seen[:, n] = once + np.bincount(order.text[starts], minlength=n_texts)
        own[:, n] = once + np.bincount(order.text[alone], minlength=n_texts)

    def per_set(values: Ints) -> Ints:
        sums = np.zeros((found.n_sets, n_max), np.int64)
        np.add.at(sums, found.sets, values)
        return sums

    return Counts(per_set(first_seen), per_set(found.of_text), own, found.of_text, found.sets)


def count(corpus: Tokens, sets: ArrayLike, n_max: int = MAX_N) -> Counts:
    """N-gram counts of every set of texts, n-grams lying inside one text.

    Parameters
    ----------
    corpus
        The texts, [n_texts].
    sets
        Set of every text, integers [n_texts] from 0; the highest one tells how many sets there are. Sets without a text
        have counts of 0.
    n_max
        Longest n-gram, at least 1.

    Returns
    -------
    Counts
        Counts for n = 1 … ``n_max``.

    Raises
    ------
    ValueError
        If ``sets`` is not one non-negative integer a text, or ``n_max < 1``.
    """
    return counts_of(repeats(corpus, sets, n_max))


def count_sets(sets: Sequence[Sequence[str]], tokeniser: str = "words", n_max: int = MAX_N) -> Counts:
    """N-gram counts of sets given as texts; see ``count``. Texts are numbered through, set after set."""
    return counts_of(repeats_of(sets, tokeniser, n_max))
