"""The generalisation-diversity plane: error ellipses, the frontier of a sweep, and the score.

x is a win rate, y a diversity over the suite's frozen reference value; both lie in [0, 1] and higher is better.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.statistics.intervals import LEVEL, Floats, column, table, upper_tail


class Ellipse(NamedTuple):
    """A confidence region: centre, semi-axes, and the angle from the x axis to the major axis in radians."""

    x: float
    y: float
    semi_major: float
    semi_minor: float
    angle: float


class LeaveOneOut(NamedTuple):
    """A statistic and its values without each prompt [n]: the two arguments of the ``jackknife`` functions."""

    full: float
    leave_one_out: Floats


def ellipse(x: ArrayLike, y: ArrayLike, *, paired: bool = True, level: float = LEVEL) -> Ellipse | None:
    """Joint region of the point (mean of x, mean of y).

    The region is where the squared Mahalanobis distance under covariance / n is at most the chi-squared quantile with
    two degrees of freedom (5.991 for 95 %). Two 1-D intervals would hide that x and y move together.

    Simulated coverage of nominal 95 % (logistic preferences and diversities moved by a common prompt hardness, 2,000
    repetitions): .942 / .944 at n = 50 / 200 paired, .944 unpaired. Normal theory gives .938 at n = 50, for the
    covariance is estimated. It is too small near the edges x = 0 and 1 (graded preferences): for a rate of .02, .70 /
    .85 / .93 at n = 50 / 100 / 500; for .05 and .95, .85 / .89 to .91 / .94; for .1, .92 at n = 50 and 100.

    Parameters
    ----------
    x, y
        [n] per-prompt values, or jackknife pseudo-values, of the two coordinates. y is already on the plane's scale.
    paired
        True: both rest on the same prompts in the same order. False: on different prompts (lengths may differ), so
        their covariance is zero.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Ellipse or None
        The angle is in (-pi/2, pi/2], 0 for a circle. None where either side has fewer than two prompts. A constant
        coordinate, or exact dependence, gives a semi-minor axis of 0.

    Raises
    ------
    ValueError
        For empty or non-finite values, paired sides of different length, or a level outside (0, 1).
    """
    x, y = column(x, "x"), column(y, "y")
    upper_tail(level)  # refuses a level outside (0, 1)
    if paired and x.shape != y.shape:
        raise ValueError(f"paired sides must share their prompts; got {x.size} and {y.size}")
    if x.size < 2 or y.size < 2:
        return None
    xx, yy = x.var(ddof=1) / x.size, y.var(ddof=1) / y.size
    xy = ((x - x.mean()) @ (y - y.mean())) / (x.size - 1) / x.size if paired else 0.0
    middle, radius = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    scale = -2.0 * np.log1p(-level)  # the chi-squared quantile with two degrees of freedom, in closed form
    return Ellipse(
        x=float(x.mean()),
        y=float(y.mean()),
        semi_major=float(np.sqrt(scale * (middle + radius))),
        semi_minor=float(np.sqrt(scale * max(0.0, middle - radius))),  # rounding may take it below 0
        angle=float(np.arctan2(2.0 * xy, xx - yy) / 2.0),
    )


def polygon(region: Ellipse, points: int = 64) -> Floats:
    """Boundary of an ellipse as [points, 2], anticlockwise from the end of the major axis, not closed."""
    turn = np.linspace(0.0, 2.0 * np.pi, points, endpoint=False)
    along, across = region.semi_major * np.cos(turn), region.semi_minor * np.sin(turn)
    cosine, sine = np.cos(region.angle), np.sin(region.angle)
    return np.stack([region.x + along * cosine - across * sine, region.y + along * sine + across * cosine], axis=-1)


def pareto_front(points: ArrayLike) -> NDArray[np.intp]:
    """Return the indices of the points that no other point dominates, by ascending x.

    A point is dominated where another is at least as high in both coordinates and higher in one; so equal points
    stay together.

    Parameters
    ----------
    points
        [m, 2]; m may be 0. Higher is better in both coordinates.

    Returns
    -------
    array
        [front] of indices into ``points``.

    Raises
    ------
    ValueError
        For another shape or non-finite coordinates.
    """
    points = _points(points)
    if points.ndim != 2:
        raise ValueError(f"points must be [m, 2]; got shape {points.shape}")
    # Quadratic in m, and plain: a sweep has a handful of temperatures.
    as_high = (points[:, None] >= points[None]).all(axis=-1)
    dominated = (as_high & ~as_high.T).any(axis=0)
    front = np.flatnonzero(~dominated)
    return front[np.argsort(points[front, 0], kind="stable")]


def hypervolume(points: ArrayLike) -> Floats:
    """Area between the origin and the frontier of each set of points, by an exact sweep.

    Parameters
    ----------
    points
        [..., m, 2]; higher is better in both coordinates. Negative coordinates count as 0.

    Returns
    -------
    array
        [...], one area a set (0-dimensional for one set); 0 for m = 0. Adding a point never lowers it. It depends on
        which temperatures were sampled, so only equal grids are compared.

    Raises
    ------
    ValueError
        For another shape or non-finite coordinates.

    References
    ----------
    Zitzler and Thiele, "Multiobjective evolutionary algorithms: a comparative case study and the strength Pareto
    approach", IEEE Transactions on Evolutionary Computation 1999.
    """
    points = np.maximum(_points(points), 0.0)
    order = np.argsort(-points[..., 0], axis=-1, kind="stable")
    x = np.take_along_axis(points[..., 0], order, axis=-1)
    y = np.maximum.accumulate(np.take_along_axis(points[..., 1], order, axis=-1), axis=-1)
    # From right to left each point adds a slab as wide as its x and as tall as it rises above all before it.
    return np.asarray((x * np.diff(y, axis=-1, prepend=0.0)).sum(axis=-1), dtype=np.float64)


def score(points: ArrayLike) -> Floats:
    """Square root of the hypervolume: sqrt(x * y) for a single point.

    Range [0, 1] on the plane, higher is better; 0 as soon as every point is 0 in one coordinate. Shapes and errors
    are those of ``hypervolume``.
    """
    return np.sqrt(hypervolume(points))


def plane_points(x_values: ArrayLike, y_values: ArrayLike, y_reference: float) -> Floats:
    """Points of a sweep from per-prompt values.

    Parameters
    ----------
    x_values, y_values
        [n, T] and [m, T], one column a temperature; the point's coordinate is the column's mean.
    y_reference
        The suite's frozen diversity, above 0, that y is divided by.

    Returns
    -------
    array
        [T, 2] in [0, 1]: the means are clipped, not the values.

    Raises
    ------
    ValueError
        For empty or non-finite tables, different T, or a reference that is not above 0.
    """
    x_values, y_values = table(x_values, "x_values"), table(y_values, "y_values")
    return _on_plane(x_values.mean(axis=0), y_values.mean(axis=0), y_reference)


def score_leave_one_out(x_values: ArrayLike, y_values: ArrayLike, y_reference: float) -> LeaveOneOut:
    """Score of a sweep, and what it would be without each prompt.

    Feed the two to ``jackknife.jackknife_interval`` for an interval, and to ``jackknife.pseudo_values`` for columns
    that ``paired_t`` and ``ranks.rank_sets`` compare. Where y is clipped at 1 it adds nothing to the error.

    Simulated coverage of that interval at nominal 95 % and n = 60 (1,500 repetitions): .959 for a point, .954 for a
    sweep of four temperatures. For a point near the edge x = 0 it is too short: for a rate of .02, .76 / .89 / .95 at
    n = 50 / 100 / 500; for .05, .91 at n = 50 and .94 from n = 100 on; for .1 and .95 it covers.

    Parameters
    ----------
    x_values, y_values
        [n, T] per-prompt (pseudo-)values over the same prompts, one column a temperature.
    y_reference
        The suite's frozen diversity, above 0.

    Returns
    -------
    LeaveOneOut
        ``full`` and [n] scores in [0, 1]. For n = 1 nothing is left, and the one value repeats ``full``: it has no
        interval.

    Raises
    ------
    ValueError
        For tables of different shape, and as in ``plane_points``.
    """
    x_values, y_values = table(x_values, "x_values"), table(y_values, "y_values")
    if x_values.shape != y_values.shape:
        raise ValueError(f"x and y must share prompts and temperatures; got {x_values.shape} and {y_values.shape}")
    full = float(score(plane_points(x_values, y_values, y_reference)))
    n = x_values.shape[0]
    if n == 1:
        return LeaveOneOut(full, np.array([full]))
    x, y = ((values.sum(axis=0) - values) / (n - 1) for values in (x_values, y_values))
    return LeaveOneOut(full, score(_on_plane(x, y, y_reference)))


def _on_plane(x: Floats, y: Floats, y_reference: float) -> Floats:
    if not (np.isfinite(y_reference) and y_reference > 0.0):
        raise ValueError(f"the reference diversity must be above 0; got {y_reference}")
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same temperatures; got {x.shape[-1]} and {y.shape[-1]}")
    return np.stack([np.clip(x, 0.0, 1.0), np.clip(y / y_reference, 0.0, 1.0)], axis=-1)


def _points(points: ArrayLike) -> Floats:
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, 2)
    if array.ndim < 2 or array.shape[-1] != 2:
        raise ValueError(f"points must be [..., m, 2]; got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("points must be finite")
    return array
