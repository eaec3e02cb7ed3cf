"""Two families of trainings compared at equal distance from where both began, or at equal win rate.

A family is one kind of training with a penalty that was varied. Each of its members has gone a distance and has a
value; joined in order of distance, by straight lines over the logarithm of the distance, they are a curve. A win rate
may stand in the distance's place, and is then taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics.intervals import Interval
from benchmark.statistics.jackknife import pseudo_values
from benchmark.statistics.two_way import two_way_t

Floats = NDArray[np.float64]
GRID = 33
"""Distances, evenly spaced in their logarithm, that a difference is averaged over."""


class Family(NamedTuple):
    """One kind of training of one seed."""

    distances: Floats
    """[members, prompts], in nats, a member's mean above 0; or win rates."""
    values: Floats
    """[members, prompts]; pseudo-values, of a statistic of the whole set."""


class Gap(NamedTuple):
    """A difference of two kinds of training at equal distance, over seeds and prompts."""

    estimate: float
    interval: Interval | None
    reach: tuple[float, float]
    """Smallest and largest distance at which all seeds' curves of both kinds are known."""
    per_seed: list[float]
    at: list[tuple[float, float]]
    """Distance and difference, the mean over seeds: for the eye, and for whoever doubts the average."""


class WithinSeeds(NamedTuple):
    """A difference of two kinds of training at equal win rate, each seed over the win rates of its own."""

    estimate: float | None
    """Over the seeds that answer; None where none does."""
    interval: Interval | None
    """None for less than two seeds."""
    per_seed: list[float | None]
    reach: list[tuple[float, float] | None]
    """Of each seed, the win rates that both kinds have; None where they have none in common."""

    @property
    def seeds(self) -> int:
        """Number of seeds that answer."""
        return sum(one is not None for one in self.per_seed)


def on_curve(distances: Floats, values: Floats, at: Floats, scale: Callable[[Floats], Floats] = np.log) -> Floats:
    """Read curves at given distances.

    Parameters
    ----------
    distances, values
        [members, n]: n curves, each through its own points in order of distance. Of points of the same distance
        either may count; the mean over a range does not notice.
    at
        [G], in nats. Outside of a curve's range its end is taken; see `reach`.
    scale
        What the lines are straight over: a rising function of the distance.

    Returns
    -------
    ndarray
        [G, n].
    """
    x, wanted = scale(distances), scale(at)
    order = np.argsort(x, axis=0, kind="stable")
    x, y = np.take_along_axis(x, order, axis=0), np.take_along_axis(values, order, axis=0)
    columns = [np.interp(wanted, x[:, column], y[:, column]) for column in range(x.shape[1])]
    return np.stack(columns, axis=1)


def reach(families: Sequence[Family]) -> tuple[float, float] | None:
    """Find the distances that lie within every family's; None if there are none.

    Returns
    -------
    tuple or None
        Smallest and largest.
    """
    means = [family.distances.mean(axis=1) for family in families]
    low, high = max(float(mean.min()) for mean in means), min(float(mean.max()) for mean in means)
    return (low, high) if low < high else None


def gap(ours: Sequence[Family], theirs: Sequence[Family], level: float = 0.95) -> Gap | None:
    """Mean difference of two kinds of training over the distances that both reached in every seed.

    The distances are a fixed grid of `GRID` points, evenly spaced in the logarithm between the ends of `reach`, and
    every one weighs the same. Within a seed the error over prompts is the delete-one-prompt jackknife's: prompt i
    leaves values and distances at once, so that what is not known of the distances is in the interval. Over seeds and
    prompts it is `benchmark.statistics.two_way.two_way_t`.

    Parameters
    ----------
    ours, theirs
        One family a seed, on the same prompts in the same order.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Gap or None
        Ours minus theirs; None where the distances have nothing in common.
    """
    found = reach([*ours, *theirs])
    if found is None:
        return None
    grid = np.geomspace(*found, GRID)
    rows, curves = [], []
    for mine, other in zip(ours, theirs, strict=True):
        at, row = _difference(mine, other, grid, np.log)
        rows.append(row)
        curves.append(at)
    both = two_way_t(np.array(rows), level)
    mean = np.mean(curves, axis=0)
    shown = np.linspace(0, GRID - 1, 5).astype(int)
    return Gap(
        both.estimate,
        both.interval,
        found,
        [float(np.mean(curve)) for curve in curves],
        [(float(grid[place]), float(mean[place])) for place in shown],
    )


def gap_within_seeds(ours: Sequence[Family], theirs: Sequence[Family], level: float = 0.95) -> WithinSeeds:
    """Mean difference of two kinds of training over the win rates that both have in a seed, over the seeds.

    As `gap`, but for two things. The win rates that one seed's fine-tuned model can come to say little of another's,
    so each seed is averaged over its own; a seed whose two kinds have none in common is left out, and that is a choice
    by the outcome: the number of seeds belongs beside the estimate. And the lines are straight over the win rate.

    Win rate need not be monotone in the penalty: neighbours on a curve may then be a weak and a strong penalty, and
    the curve lies between them.

    Parameters
    ----------
    ours, theirs
        One family a seed, on the same prompts in the same order, with win rates for distances.
    level
        Confidence level in (0, 1).

    Returns
    -------
    WithinSeeds
        Ours minus theirs.
    """
    rows: list[Floats] = []
    per_seed: list[float | None] = []
    reached = [reach(pair) for pair in zip(ours, theirs, strict=True)]
    for mine, other, found in zip(ours, theirs, reached, strict=True):
        if found is None:
            per_seed.append(None)
            continue
        at, row = _difference(mine, other, np.linspace(*found, GRID), _as_it_is)
        rows.append(row)
        per_seed.append(float(at.mean()))
    if not rows:
        return WithinSeeds(None, None, per_seed, reached)
    both = two_way_t(np.array(rows), level)
    return WithinSeeds(both.estimate, both.interval if len(rows) > 1 else None, per_seed, reached)


def _as_it_is(values: Floats) -> Floats:
    return values


def _difference(mine: Family, other: Family, grid: Floats, scale: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """Difference of two curves on a grid [G], and the pseudo-values [prompts] of its mean."""
    at = _full(mine, grid, scale) - _full(other, grid, scale)
    left_out = (_left_out(mine, grid, scale) - _left_out(other, grid, scale)).mean(axis=0)
    return at, pseudo_values(float(at.mean()), left_out)


def _full(family: Family, grid: Floats, scale: Callable[[Floats], Floats]) -> Floats:
    x, y = (values.mean(axis=1, keepdims=True) for values in family)
    return on_curve(x, y, grid, scale)[:, 0]


def _left_out(family: Family, grid: Floats, scale: Callable[[Floats], Floats]) -> Floats:
    """Curves without each prompt: [G, prompts]."""
    n = family.values.shape[1]
    x, y = ((values.sum(axis=1, keepdims=True) - values) / (n - 1) for values in family)
    return on_curve(x, y, grid, scale)
