"""Is a model above another one's temperature curve? Its win rate against the curve's at equal diversity.

Temperature alone moves a model along the plane further than most training does. A gain in win rate that was paid for
in diversity may be no more than a lower temperature would have bought; this is what is left after that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from benchmark.statistics.intervals import (
    LEVEL,
    Floats,
    Interval,
    column,
    paired_t,
    upper_tail,
    without_rounding,
)
from benchmark.statistics.jackknife import pseudo_values
from benchmark.statistics.two_way import rows_of_prompts

REACH = 3.0
"""Standard errors about the model's diversity in which the curve must be known."""
RESOLVED = 4.0
"""Standard errors that two neighbouring temperatures must lie apart in diversity, to be told apart."""


class CurveGain(NamedTuple):
    """A gain over a curve and the jackknife t test of it being 0.

    The curve's point of equal diversity lies between its temperatures ``segment`` and ``segment + 1``, at ``weight``
    of the way. ``values`` [n] holds the gain's pseudo-values, whose mean is the gain: rows of ``two_way.two_way_t``
    for several seeds, each against its own curve. Where one of the seeds has no gain, the seeds together have none:
    to drop it would be to select. ``interval``, ``p_value`` and ``df`` are None for a single prompt.
    """

    estimate: float
    interval: Interval | None
    p_value: float | None
    df: float | None
    segment: int
    weight: float
    values: Floats


def gain_over_curve(
    wins: ArrayLike,
    diversities: ArrayLike,
    curve_wins: ArrayLike,
    curve_diversities: ArrayLike,
    level: float = LEVEL,
) -> CurveGain | None:
    """Win rate of a model minus that of a temperature curve at the model's diversity.

    The curve's points are the means of its rows, joined by straight lines in the order given, which is that of the
    temperatures. The error is the delete-one-prompt jackknife's: prompt i leaves the model and the curve at once, and
    both the diversity to be met and the point that meets it are found anew.

    Rules where the curve makes trouble:

    - Diversity need not rise with temperature; gated diversity may fall again where texts break. Where several
      segments pass through the model's diversity, the one with the highest win rate counts: whoever turns the
      temperature would take that point, so the gain is the smallest one.
    - Outside of the curve's range of diversities there is nothing to compare with. It is never extrapolated.
    - The segment is chosen once, over all prompts. Without prompt i its straight line is followed, if need be beyond
      its ends; never by more than a standard error, for one prompt cannot move a mean further (Samuelson).
    - Every segment within ``REACH`` standard errors of the model's diversity must be at least ``RESOLVED`` standard
      errors long, else there is no gain: one cannot tell which segment the model belongs to, nor its slope, and
      intervals given nevertheless covered .66 of nominal 95 %.

    The chord between two temperatures lies below a curve that bulges upwards, so a coarse grid flatters the model;
    and the interval rests on the slope of one segment, not on how the curve bends at its ends. Simulated coverage of
    nominal 95 % with 150 prompts and four temperatures (3,000 repetitions): .952 within a segment, .948 at a
    temperature of the curve, .955 near the end of its range (of the .88 inside of it), .946 at a sharp bend, .951
    where diversity falls again. With 60 prompts beside a segment of 6 to 8 standard errors it was .924-.966 in 12
    cases, at 4 standard errors .914-.969 of the half that had a gain at all, and at 3 .87-.96 of the tenth that had.

    Parameters
    ----------
    wins, diversities
        [n], the model's preference and diversity at each prompt; pseudo-values, for a diversity of the whole set.
    curve_wins, curve_diversities
        [T, n], the same of the other model, one row a temperature, on the same prompts in the same order.
    level
        Confidence level in (0, 1).

    Returns
    -------
    CurveGain or None
        None outside of the curve's range, for a curve of one temperature, and where the curve's diversities about
        the model's cannot be told apart. A row of the curve itself gains exactly 0, with zero width.

    Raises
    ------
    ValueError
        For empty or non-finite values, sides that do not share their prompts or temperatures, or a level outside
        (0, 1).
    """
    upper_tail(level)  # refuses a level outside (0, 1)
    win, diversity = _stack(wins, curve_wins, "wins"), _stack(diversities, curve_diversities, "diversities")
    if win.shape != diversity.shape:
        raise ValueError(
            f"wins and diversities must have the same prompts and temperatures: {win.shape}, {diversity.shape}"
        )
    n = win.shape[1]
    found = _segment(_means(win), _means(diversity))
    if found is None or not _resolved(diversity):
        return None
    ends = [0, found + 1, found + 2]  # the model, and the segment's two temperatures
    win, diversity = win[ends], diversity[ends]
    full, weight = _gain(_means(win), _means(diversity))
    left_out = np.atleast_1d(full)
    if n > 1:
        left_out, _ = _gain(*((values.sum(axis=1, keepdims=True) - values) / (n - 1) for values in (win, diversity)))
    scale = np.abs(win).max()
    values = pseudo_values(float(without_rounding(full, scale)), without_rounding(left_out, scale))
    return CurveGain(*paired_t(values, np.zeros(n), level), found, float(weight), values)


def _stack(own: ArrayLike, curve: ArrayLike, name: str) -> Floats:
    """Return the model's row on top of the curve's [1 + T, n]: equal rows then have equal sums, to the last bit."""
    own, curve = column(own, name), rows_of_prompts(curve, f"curve_{name}")
    if own.size != curve.shape[1]:
        raise ValueError(f"{name} and curve_{name} must share their prompts; got {own.size} and {curve.shape[1]}")
    return np.concatenate([own[None], curve])


def _means(values: Floats) -> Floats:
    return np.asarray(values.sum(axis=1) / values.shape[1], dtype=np.float64)


def _resolved(diversity: Floats) -> bool:
    """Whether all segments about the first row's diversity are long beside their own standard error."""
    gaps, lengths = diversity[1:] - diversity[0], np.diff(diversity[1:], axis=0)
    reach, shortest = REACH * _errors(gaps), RESOLVED * _errors(lengths)
    below, above = _means(gaps) < -reach, _means(gaps) > reach
    apart = (below[:-1] & below[1:]) | (above[:-1] & above[1:])
    return bool((apart | (np.abs(_means(lengths)) >= shortest)).all())


def _errors(values: Floats) -> Floats:
    """Return the standard errors of the rows' means [T, n] -> [T]; 0 for a single prompt."""
    n = values.shape[1]
    return np.sqrt(values.var(axis=1, ddof=1) / n) if n > 1 else np.zeros(len(values))


def _segment(win: Floats, diversity: Floats) -> int | None:
    """Index of the segment that meets the first row's diversity at the highest win rate; the first of equals."""
    low, high = diversity[1:-1], diversity[2:]
    meets = (low != high) & (np.minimum(low, high) <= diversity[0]) & (diversity[0] <= np.maximum(low, high))
    if not meets.any():
        return None
    weight = np.divide(diversity[0] - low, high - low, out=np.zeros_like(low), where=meets)
    return int(np.argmax(np.where(meets, (1.0 - weight) * win[1:-1] + weight * win[2:], -np.inf)))


def _gain(win: Floats, diversity: Floats) -> tuple[Floats, Floats]:
    """Gain and interpolation weight for rows [model, one end, other end] of means, elementwise over columns."""
    weight = (diversity[0] - diversity[1]) / (diversity[2] - diversity[1])
    return win[0] - ((1.0 - weight) * win[1] + weight * win[2]), weight
