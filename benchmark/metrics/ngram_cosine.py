"""N-gram cosine diversity: mean cosine distance between the n-gram counts of a set's texts.

Tevet and Berant 2021 (arXiv 2004.02990), averaged over n = 1 … 5; Kirk et al. 2023 (arXiv 2310.06452) take n = 3 alone.
As published, n-grams are those of the tokeniser ``rlfh`` and texts shorter than n are like no other text
(``short="zero"``); ours take ``words`` and leave those texts out. The tokeniser's name belongs with every value.

Range [0, 1]; higher is more diverse. Floor, for identical texts: 0. Ceiling, no two texts share an n-gram: 1. Missing
(NaN) without two texts that have n-grams.

With u_t the unit count vector of text t, all pairs come from one sum: Σ_{a≠b} u_a·u_b = |Σ u|² - Σ |u|², and only
n-grams that two texts share add to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.distinct_n import Short
from benchmark.metrics.repeats import Repeats

Floats = NDArray[np.float64]

ORDERS = (1, 2, 3, 4, 5)
"""n of the averaged form."""


def per_input(repeats: Repeats, *, orders: Sequence[int] = ORDERS, short: Short = "skip") -> Floats:
    """Mean over n and pairs of texts of 1 - cos, for every set (one a prompt).

    Parameters
    ----------
    repeats
        Of sets of texts.
    orders
        The n that are averaged; ``(3,)`` is the form of Kirk et al.
    short
        What a text without n-grams (shorter than n) does: ``"skip"`` leaves it out of the pairs, and an order with
        fewer than two texts that have n-grams out of the mean; ``"zero"`` counts its cosines as 0, as the published
        code does, which puts two identical texts of two words at distance 1 for n = 3.

    Returns
    -------
    float64 [n_sets]
        In [0, 1]; higher is more diverse. The floor 0 means identical texts, up to the order and place of their
        n-grams; the ceiling 1 that no two texts share an n-gram. Missing (NaN) for sets of fewer than two texts, under
        ``"skip"`` also if no order has two texts with n-grams.

    Raises
    ------
    ValueError
        If ``orders`` is empty or names an n that ``repeats`` does not hold, or ``short`` is neither ``"skip"`` nor
        ``"zero"``.

    Notes
    -----
    A mean over pairs does not depend on the number of texts, but longer texts share more n-grams: it falls with their
    length.
    """
    return _values(repeats, orders, short)[0]


def across_input(repeats: Repeats, *, orders: Sequence[int] = ORDERS, short: Short = "skip") -> tuple[Floats, Floats]:
    """N-gram cosine diversity of every set, and of every set without each of its texts, for the jackknife.

    Parameters
    ----------
    repeats
        Of sets with one text a prompt.
    orders, short
        See ``per_input``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; NaN = missing.
    without : float64 [n_texts]
        The statistic of each text's set without that text, at no more cost; NaN where it would be missing.

    Raises
    ------
    ValueError
        As ``per_input``.
    """
    return _values(repeats, orders, short)


def _values(repeats: Repeats, orders: Sequence[int], short: Short) -> tuple[Floats, Floats]:
    if short not in ("skip", "zero"):
        raise ValueError(f'short must be "skip" or "zero", not {short!r}')
    if not orders or not set(orders) <= set(range(1, len(repeats.orders) + 1)):
        raise ValueError(f"orders must be some of 1 … {len(repeats.orders)}, not {tuple(orders)}")
    sets = repeats.sets
    value, without = [], []
    for n in orders:
        similarity = _similarity(repeats, n)
        total = np.bincount(sets, similarity, repeats.n_sets).astype(np.float64)
        counted = repeats.of_text[:, n - 1] > 0 if short == "skip" else np.ones(len(sets), bool)
        texts = np.bincount(sets[counted], minlength=repeats.n_sets)
        value.append(_distance(total, texts))
        without.append(_distance(total[sets] - 2.0 * similarity, texts[sets] - counted))
    return _mean(np.array(value)), _mean(np.array(without))


def _similarity(repeats: Repeats, n: int) -> Floats:
    """Sum of every text's cosines with the others of its set, [n_texts]."""
    order, of_text = repeats.orders[n - 1], repeats.of_text[:, n - 1]
    n_texts = len(of_text)
    squares = np.bincount(order.text, order.times**2 - order.times, n_texts) + of_text
    unit = order.times / np.sqrt(squares[order.text])
    others = np.bincount(order.ngram, unit)[order.ngram] - unit
    return np.bincount(order.text, unit * others, n_texts).astype(np.float64)


def _distance(total: Floats, texts: NDArray[np.int64]) -> Floats:
    """1 - mean over the ordered pairs of ``texts`` texts."""
    pairs = texts * (texts - 1.0)
    mean = np.full(len(total), np.nan)
    np.divide(total, pairs, out=mean, where=pairs > 0)
    return np.clip(1.0 - mean, 0.0, 1.0)


def _mean(of_orders: Floats) -> Floats:
    """Mean over the orders that are not missing; NaN where all are."""
    present = np.isfinite(of_orders)
    found = present.sum(axis=0)
    mean = np.full(of_orders.shape[1:], np.nan)
    np.divide(np.where(present, of_orders, 0.0).sum(axis=0), found, out=mean, where=found > 0)
    return mean
