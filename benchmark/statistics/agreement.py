"""Agreement between two who label the same pairs, and what the order of presentation does to a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.statistics.intervals import LEVEL, Floats, Interval, column, t_interval, upper_tail


class Bias(NamedTuple):
    """A position bias, its interval (None for a single pair or cluster), and the pairs it rests on."""

    estimate: float
    interval: Interval | None
    n: int


def observed_agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Share of items with the same label from both, in [0, 1]; None for no item.

    Raises
    ------
    ValueError
        For lists of different length.
    """
    if len(first) != len(second):
        raise ValueError(f"both must label the same items; got {len(first)} and {len(second)}")
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first) if first else None


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa: agreement beyond what two with these habits would have by chance, over the most there could be.

    It is low where nearly all items have one label, however well the two agree; `gwet_ac1` is not.

    Parameters
    ----------
    first, second
        [n] labels of the same items, of any kind; a label that one of them never uses changes nothing.

    Returns
    -------
    float or None
        In [-1, 1], 1 = the same throughout, 0 = as by chance. None for no item, and where both give one and the same
        label to everything: chance alone then explains it.

    Raises
    ------
    ValueError
        For lists of different length.

    References
    ----------
    Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 1960.
    """
    observed = observed_agreement(first, second)
    if observed is None:
        return None
    mine, other = Counter(first), Counter(second)
    # In whole numbers, so that a chance of exactly 1 is seen.
    together = sum(count * other[label] for label, count in mine.items())
    most = len(first) ** 2
    return None if together == most else (observed - together / most) / (1.0 - together / most)


def gwet_ac1(first: Sequence[Hashable], second: Sequence[Hashable], *, categories: int) -> float | None:
    """Gwet's AC1: as kappa, with a chance that does not rise when nearly all items have one label.

    Parameters
    ----------
    first, second
        [n] labels of the same items, of any kind.
    categories
        Labels there are, at least 2, used or not: chance depends on it.

    Returns
    -------
    float or None
        In [-1, 1], 1 = the same throughout, 0 = as by chance. None for no item.

    Raises
    ------
    ValueError
        For lists of different length, fewer than two categories, or more labels than categories.

    References
    ----------
    Gwet, "Computing inter-rater reliability and its variance in the presence of high agreement", British Journal of
    Mathematical and Statistical Psychology 2008.
    """
    observed = observed_agreement(first, second)
    used = Counter([*first, *second])
    if categories < max(2, len(used)):
        raise ValueError(f"need two categories at least, and all that are used ({len(used)}); got {categories}")
    if observed is None:
        return None
    labels = 2 * len(first)
    # In whole numbers, so that the sum does not hang on who comes first.
    chance = sum(count * (labels - count) for count in used.values()) / (labels**2 * (categories - 1))
    return (observed - chance) / (1.0 - chance)


def by_cluster(values: ArrayLike, clusters: Sequence[Hashable]) -> Floats:
    """One value a cluster whose mean is the mean over all rows, and whose variance is that of the mean under clusters.

    A cluster's value is the mean over rows, plus its sum of deviations from that over the mean cluster size: the
    linearised ratio estimator. Rows that are each their own cluster come back as they are.

    Parameters
    ----------
    values
        [n], one number a row.
    clusters
        [n] ids, such as the prompt of each pair.

    Returns
    -------
    array
        [clusters], in order of first occurrence.

    Raises
    ------
    ValueError
        For empty or non-finite values, or another number of ids than of values.

    References
    ----------
    Cochran, Sampling Techniques, 3rd edition, section 9A.
    """
    rows = column(values)
    if len(clusters) != rows.size:
        raise ValueError(f"need one cluster id a value ({rows.size}); got {len(clusters)}")
    places: dict[Hashable, int] = {}
    place = [places.setdefault(cluster, len(places)) for cluster in clusters]
    if len(places) == rows.size:
        return rows
    mean = float(rows.mean())
    return np.asarray(mean + np.bincount(place, weights=rows - mean) * (len(places) / rows.size), dtype=np.float64)


def position_bias(orders: ArrayLike, level: float = LEVEL, clusters: Sequence[Hashable] | None = None) -> Bias | None:
    """How much a judge prefers the text that it is shown first, whatever the text.

    The mean preference for the text shown first, less 1/2: the mean of half of (a - b) over pairs, where a is the
    preference for the sample shown first and b that for the sample shown second. Which text is better cancels.

    Parameters
    ----------
    orders
        [n, 2] in [0, 1]: preference for the sample when it is shown first, and when its reference is.
    level
        Confidence level in (0, 1).
    clusters
        [n] ids of pairs that belong together (of one prompt); None = each its own.

    Returns
    -------
    Bias or None
        In [-1/2, 1/2]; 1/2 = always the first text, 0 = none on average. Student's t interval over clusters, within
        the range, None for a single one. None for no pair.

    Raises
    ------
    ValueError
        For orders of another shape, outside [0, 1] or not finite (drop pairs with an order missing before, and say
        so), or a level outside (0, 1).
    """
    upper_tail(level)  # refuses a level outside (0, 1), for no pair as well
    shown = _orders(orders)
    if not len(shown):
        return None
    values = (shown[:, 0] - shown[:, 1]) / 2.0
    interval = t_interval(values if clusters is None else by_cluster(values, clusters), level)
    if interval is not None:
        interval = Interval(max(-0.5, interval.low), min(0.5, interval.high))
    return Bias(float(values.mean()), interval, len(values))


def consistency(orders: ArrayLike) -> float | None:
    """Share of pairs whose two orders of presentation name the same winner.

    A tie in both orders is the same word twice and counts 1; a tie in one order and a winner in the other count 1/2.

    Parameters
    ----------
    orders
        [n, 2] as in `position_bias`; above 1/2 the sample wins, below it the reference, at 1/2 they tie.

    Returns
    -------
    float or None
        In [0, 1], higher is better; None for no pair.

    Raises
    ------
    ValueError
        As in `position_bias`.
    """
    winner = np.sign(_orders(orders) - 0.5)
    return float((1.0 - np.abs(winner[:, 0] - winner[:, 1]) / 2.0).mean()) if len(winner) else None


def _orders(orders: ArrayLike) -> NDArray[np.float64]:
    """Return [n, 2]; n may be 0."""
    array = np.asarray(orders, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"orders must be [n, 2], both orders of every pair; got shape {array.shape}")
    if not ((array >= 0.0) & (array <= 1.0)).all():
        raise ValueError("orders must be preferences in [0, 1]: drop pairs with an order missing before, and say so")
    return array
