"""Two families of trainings compared at equal distance from where both began.

A family is one kind of training with a penalty that was varied. Each of its members has gone a distance and has a
value; joined in order of distance, by straight lines over the logarithm of the distance, they are a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """[members, prompts], in nats; a member's mean is above 0."""
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


def on_curve(distances: Floats, values: Floats, at: Floats) -> Floats:
    """Read curves at given distances.

    Parameters
    ----------
    distances, values
        [members, n]: n curves, each through its own points in order of distance. Of points of the same distance
        either may count; the mean over a range does not notice.
    at
        [G], in nats. Outside of a curve's range its end is taken; see `reach`.

    Returns
    -------
    ndarray
        [G, n].
    """
    x, wanted = np.log(distances), np.log(at)
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
        at = _full(mine, grid) - _full(other, grid)
        left_out = (_left_out(mine, grid) - _left_out(other, grid)).mean(axis=0)
        rows.append(pseudo_values(float(at.mean()), left_out))
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


def _full(family: Family, grid: Floats) -> Floats:
    x, y = (values.mean(axis=1, keepdims=True) for values in family)
    return on_curve(x, y, grid)[:, 0]


def _left_out(family: Family, grid: Floats) -> Floats:
    """Curves without each prompt: [G, prompts]."""
    n = family.values.shape[1]
    x, y = ((values.sum(axis=1, keepdims=True) - values) / (n - 1) for values in family)
    return on_curve(x, y, grid)
