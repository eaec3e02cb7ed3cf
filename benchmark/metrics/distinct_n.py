"""distinct-n: the share of n-grams that are different, averaged over n = 1 … 5 (Li et al. 2016, arXiv 1510.03055).

Range [0, 1]; higher is more diverse. Floor, for k identical texts: 1/k, or less where a text repeats itself. Ceiling 1:
no n-gram occurs twice. Orders that no text is long enough for are left out, and sets without a word are missing (NaN);
under ``short="zero"``, the published rule, both count 0.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.ngrams import Counts

Short = Literal["skip", "zero"]


def distinct_from_counts(distinct: ArrayLike, total: ArrayLike, *, short: Short = "skip") -> NDArray[np.float64]:
    """Mean over n of D/C.

    Parameters
    ----------
    distinct, total
        Different n-grams (D) and all n-grams (C), integers [..., N], one column an order n.
    short
        What an order without n-grams (C = 0, texts shorter than n) does: ``"skip"`` leaves it out of the mean,
        ``"zero"`` counts it as 0, as the published code does.

    Returns
    -------
    float64 [...]
        In [0, 1]; higher is more diverse. The floor of k identical texts is about 1/k, the ceiling 1 means that no
        n-gram occurs twice. Sets without any n-gram are missing (NaN) under ``"skip"`` and 0 under ``"zero"``.

    Raises
    ------
    ValueError
        See ``mean_over_orders``.

    Notes
    -----
    Falls with the number of texts and with their length: compare equal budgets only.
    """
    return mean_over_orders(distinct, total, total, short)


def per_input(counts: Counts, *, short: Short = "skip") -> NDArray[np.float64]:
    """distinct-n of every set (one a prompt); float64 [n_sets], NaN = missing. See ``distinct_from_counts``."""
    return distinct_from_counts(counts.distinct, counts.total, short=short)


def across_input(counts: Counts, *, short: Short = "skip") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """distinct-n of every set, and of every set without each of its texts, for the jackknife.

    Parameters
    ----------
    counts
        Counts of sets with one text a prompt.
    short
        See ``distinct_from_counts``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; NaN = missing.
    without : float64 [n_texts]
        The statistic of each text's set without that text; NaN where no word would be left.
    """
    return per_input(counts, short=short), distinct_from_counts(*counts.without_each(), short=short)


def mean_over_orders(distinct: ArrayLike, total: ArrayLike, expected: ArrayLike, short: Short) -> NDArray[np.float64]:
    """Mean over n of D / expected, where C tells which orders have n-grams at all.

    Raises
    ------
    ValueError
        If ``short`` is neither ``"skip"`` nor ``"zero"``, a count is negative, or some D > C.
    """
    d, c = np.asarray(distinct), np.asarray(total)
    if short not in ("skip", "zero"):
        raise ValueError(f'short must be "skip" or "zero", not {short!r}')
    if np.any(d < 0) or np.any(d > c):
        raise ValueError("counts must hold 0 <= distinct <= total")
    ratio = np.divide(d, expected, out=np.zeros(d.shape), where=c > 0)
    orders = np.full(d.shape[:-1], d.shape[-1]) if short == "zero" else np.count_nonzero(c, axis=-1)
    mean = np.full(orders.shape, np.nan)
    np.divide(ratio.sum(axis=-1), orders, out=mean, where=orders > 0)
    return mean
