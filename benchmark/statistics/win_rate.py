"""A win rate with all its intervals, and the rule that names the one to print."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from benchmark.statistics.bootstrap import bootstrap
from benchmark.statistics.intervals import LEVEL, Interval, column, mean_and_error, plus4_t, t_interval, table

LEAST_PROMPTS = 200
LOWEST_RATE, HIGHEST_RATE = 0.05, 0.95


class WinRate(NamedTuple):
    """A mean preference over prompts, every interval that can be had, and the name of the printed one."""

    rate: float
    n: int
    method: str
    intervals: dict[str, Interval]

    @property
    def interval(self) -> Interval:
        """The interval to print."""
        return self.intervals[self.method]


def printed_method(rate: float, n: int) -> str:
    """Return "bca" where n >= 200 and the rate is within 5-95 % (ends included), else "plus4_t".

    Below 200 prompts or near the ends the bootstrap covers too little (BCa .721 at n = 50 and a rate of .018), and
    plus-4 t does not (.983).
    """
    return "bca" if n >= LEAST_PROMPTS and LOWEST_RATE <= rate <= HIGHEST_RATE else "plus4_t"


def win_rates(preferences: ArrayLike, weights: ArrayLike, level: float = LEVEL) -> list[WinRate]:
    """Win rates of many columns over the same prompts, in one matrix product.

    Parameters
    ----------
    preferences
        [n, columns], mean preference of each prompt, in [0, 1]; higher is better for the model.
    weights
        [resamples, n], the task's shared weights from ``bootstrap.weights``.
    level
        Confidence level in (0, 1).

    Returns
    -------
    list of WinRate
        One a column. Intervals are named "plus4_t", "t", "percentile" and "bca"; for n = 1 only "plus4_t" exists.

    Raises
    ------
    ValueError
        For preferences outside [0, 1], empty or not finite, or weights of another width.
    """
    values = table(preferences, "preferences")
    resampled = bootstrap(values, weights, level)
    out = []
    for place, prompts in enumerate(values.T):
        intervals = {"plus4_t": plus4_t(prompts, level)}
        plain = t_interval(prompts, level)
        if plain is not None and resampled is not None:
            intervals["t"] = plain
            # Rounding may carry a resampled mean of 1 past 1 in its last place, and a stored interval must not be.
            for name, (low, high) in zip(resampled._fields, np.clip(resampled, 0.0, 1.0)[:, place], strict=True):
                intervals[name] = Interval(float(low), float(high))
        rate, _ = mean_and_error(prompts)
        out.append(WinRate(rate, prompts.size, printed_method(rate, prompts.size), intervals))
    return out


def win_rate(preferences: ArrayLike, weights: ArrayLike, level: float = LEVEL) -> WinRate:
    """Win rate of one column [n]; see ``win_rates``."""
    return win_rates(column(preferences, "preferences")[:, np.newaxis], weights, level)[0]
