"""Closed-form intervals for means of per-prompt values, and for differences of two such means.

The unit is always the prompt: several samples of a prompt are averaged before they come here, because samples of one
prompt are not independent (counting them as if they were covered .70-.73 where .95 was promised).

One convention holds in this whole package: an interval that cannot be had is ``None``, and an interval has zero width
only where the data are constant, and not even there if it is one with pseudo-prompts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

LEVEL = 0.95
ROUNDING = 1e-12
"""Two means that differ by at most this share of the largest value are the same."""
TIES = 6
"""Decimals to which per-prompt values are kept, and so compared: float32 embeddings of equal texts miss 0 by 1e-7."""
ENOUGH = 50
"""Prompts off the commonest value from which on t serves, however many prompts have that value."""
ENDS = (1.0, -1.0)
"""Ends of what a prompt's preference may differ by between two models."""
OUTSIDE = 0.01
"""Share of a range by which rounding may carry a value out of it; further out is a mistake."""


class Interval(NamedTuple):
    """A two-sided interval; both ends belong to it."""

    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two means and the t test of it being 0.

    ``interval``, ``p_value`` and ``df`` are None where there are too few prompts to have them; Welch's ``df`` is
    None as well where neither side varies.
    """

    estimate: float
    interval: Interval | None
    p_value: float | None
    df: float | None


def column(values: ArrayLike, name: str = "values") -> Floats:
    """Return ``values`` as a 1-D float64 array; raise ValueError if it is empty, not 1-D or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty list of numbers, one a prompt; got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: drop missing prompts before, and say so")
    return array


def table(values: ArrayLike, name: str = "values") -> Floats:
    """Return ``values`` as a float64 array [n, columns]; raise ValueError if empty, not 2-D or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty table [prompts, columns]; got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: drop missing prompts before, and say so")
    return array


def upper_tail(level: float) -> float:
    """Cumulative probability at the upper end of a two-sided interval: .975 for .95."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    return 0.5 + level / 2.0


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean of a column [n] and its standard error (n-1 in the variance); n >= 2.

    A constant column gives exactly its constant and 0: the rounded mean of three 0.1 is not 0.1.
    """
    if values.min() == values.max():
        return float(values[0]), 0.0
    return float(values.mean()), float(np.sqrt(values.var(ddof=1) / values.size))


def t_p_value(mean: ArrayLike, error: ArrayLike, df: ArrayLike) -> Floats:
    """Two-sided p-values of ``mean / error`` under Student's t with ``df``, elementwise.

    Where the error is 0 nothing varies, so the mean is known: p = 1 for a mean of 0 and p = 0 for any other.
    """
    mean, error = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(error, dtype=np.float64))
    certain = np.where(mean == 0.0, 0.0, np.inf)
    with np.errstate(over="ignore"):  # an error of rounding size may send the ratio to infinity, which is right
        ratio = np.divide(np.abs(mean), error, out=certain, where=error > 0.0)
    return np.asarray(2.0 * special.stdtr(df, -ratio), dtype=np.float64)


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Student's t interval for the mean of per-prompt values.

    Measured coverage of nominal 95 % on graded preferences near one half: .933 / .953 / .952 at n = 50 / 100 / 500;
    it fails for rates near 0 or 1 (.68 at n = 50 and a rate of .018), which is what ``plus4_t`` is for.

    Parameters
    ----------
    values
        [n], one number a prompt, any range.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Interval or None
        None for n = 1. A constant column gives zero width.

    Raises
    ------
    ValueError
        For an empty, nested or non-finite ``values``, or a level outside (0, 1).

    References
    ----------
    Student, "The probable error of a mean", Biometrika 1908.
    """
    values, tail = column(values), upper_tail(level)
    if values.size < 2:
        return None
    mean, error = mean_and_error(values)
    margin = float(special.stdtrit(values.size - 1, tail)) * error
    return Interval(mean - margin, mean + margin)


def plus4_t(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Plus-4 t interval for a mean preference: t after two pseudo-prompts of 0 and two of 1, clipped to [0, 1].

    The point to print is the plain mean; the pseudo-prompts shape the interval alone. It is for preferences and
    nothing else: on a narrow quantity such as EAD the four pseudo-prompts make it 3.7 times too wide.

    Measured coverage of nominal 95 % over 18 cases (graded, ternary, binary; rates .018 to .513; n = 50 / 100 / 500):
    never below .947; .983 (graded .018) and .986 (binary .03) at n = 50.

    Parameters
    ----------
    values
        [n], mean preference of each prompt, in [0, 1].
    level
        Confidence level in (0, 1). Four pseudo-prompts suit .95, where the squared normal quantile is 3.84.

    Returns
    -------
    Interval
        Within [0, 1] and never of zero width; it exists for n = 1 as well.

    Raises
    ------
    ValueError
        For values outside [0, 1], and as in ``t_interval``.

    References
    ----------
    Agresti and Coull, "Approximate is better than 'exact' for interval estimation of binomial proportions",
    The American Statistician 1998; carried over from counts to graded preferences by taking t.
    """
    values = column(values)
    if values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("plus-4 is for preferences in [0, 1]; use t_interval for other quantities")
    interval = t_interval(np.concatenate([values, [0.0, 0.0, 1.0, 1.0]]), level)
    assert interval is not None  # five values at the least
    return Interval(max(0.0, interval.low), min(1.0, interval.high))


def guarded_t(values: ArrayLike, low: float, high: float, level: float = LEVEL, *, ties: int = TIES) -> Interval | None:
    """Student's t for a mean of values between two bounds, guarded against what is rare and not in the draw.

    Where at least half of the prompts have one value in common (to ``ties`` decimals) and fewer than ``ENOUGH``
    another, it is the hull of t and of plus-4 t between the bounds; else it is t itself. It exists because t knows
    nothing of rare prompts that were not drawn: of 50 answers none of which fails, t says that none ever will.

    Simulated coverage of nominal 95 % (tests/benchmarks/coverage.md), t's in brackets: shares of 2, 5 and 98 % at
    n = 50, .99 to 1.00 (.64 to .90); distinct classes at n = 50 to 500, .94 to 1.00 (.72 to .94); effective diversity
    of a model with 5 % valid outputs at n = 50, 1.00 (.80). It is conservative where the guard is up, and t where it is
    not. Plain plus-4 t would cover as well, but where t serves, four pseudo-prompts at the ends of a range of which the
    values fill a small part make it several times too wide.

    Parameters
    ----------
    values
        [n], one number a prompt, in [low, high]; rounding outside is cut.
    low, high
        Bounds of what a prompt's value may be, whatever the model: 0 and 1 of a share, 1 and k of classes.
    level
        Confidence level in (0, 1); see ``plus4_t``.
    ties
        Decimals to which values are compared.

    Returns
    -------
    Interval or None
        Never shorter than t's; equal to it where the guard is not up. None for n = 1. A constant column has a width
        here, unlike in ``t_interval``.

    Raises
    ------
    ValueError
        For bounds out of order, values outside of them by more than ``OUTSIDE`` of the range, and as in
        ``t_interval``.
    """
    values, plain = column(values), t_interval(values, level)
    if not low < high:
        raise ValueError(f"bounds must be in order; got {low} and {high}")
    room = OUTSIDE * (high - low)
    if values.min() < low - room or values.max() > high + room:
        raise ValueError(f"values must lie in [{low}, {high}]; got {values.min()} to {values.max()}")
    alike = int(np.unique(values.round(ties), return_counts=True)[1].max())
    if plain is None or 2 * alike < values.size or values.size - alike >= ENOUGH:
        return plain
    guard = plus4_t(((values - low) / (high - low)).clip(0.0, 1.0), level)
    return hull(plain, Interval(*(low + (high - low) * end for end in guard)))


def squared_share_guard(value: float, shares: ArrayLike, level: float = LEVEL) -> Interval:
    """Where a statistic over pairs of valid outputs would lie for another valid share: value · (share' / share)².

    The jackknife of effective diversity across inputs covers too little where few outputs are valid, or nearly all,
    since it cannot know of prompts that were not drawn. A pair counts if both outputs are valid, so the statistic is
    about share² · diversity of the valid ones; this puts the ends of plus-4 t for the share there, to be joined to the
    jackknife's interval by ``hull``. Simulated coverage of that at nominal 95 %, n = 50 to 500, with 10, 20 or 95 %
    valid: .94 and more, .81 to .93 before.

    Parameters
    ----------
    value
        The statistic, in [0, 1].
    shares
        [n], share of each prompt's outputs that are valid.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Interval
        Within [0, 1]; it holds ``value`` whenever plus-4 t holds the mean share. Where nothing is valid the diversity
        of what might be is not known, and taken to be 1, the highest.

    Raises
    ------
    ValueError
        As in ``plus4_t``.
    """
    low, high = plus4_t(shares, level)
    share = float(column(shares).mean())
    diversity = min(value / share**2, 1.0) if share > 0.0 else 1.0
    return Interval(low**2 * diversity, high**2 * diversity)


def hull(*intervals: Interval) -> Interval:
    """Shortest interval that holds those given."""
    return Interval(min(one.low for one in intervals), max(one.high for one in intervals))


def welch(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Difference:
    """Difference of two means over different prompts (mean of x minus mean of y), unequal variances.

    Measured coverage of nominal 95 % for an ID-OOD gap: .939 / .943 / .947 at n = 50 / 100 / 500.

    Parameters
    ----------
    x, y
        [n] and [m], one number a prompt; the prompts of the two sides are independent.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Difference
        With the Welch-Satterthwaite degrees of freedom. One side of a single prompt: no interval and no p-value.
        Both sides constant: zero width, and p = 1 if they are equal, else 0.

    Raises
    ------
    ValueError
        As in ``t_interval``.

    References
    ----------
    Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 1947.
    """
    x, y, tail = column(x, "x"), column(y, "y"), upper_tail(level)
    if x.size < 2 or y.size < 2:
        return Difference(float(x.mean() - y.mean()), None, None, None)
    (mean_x, error_x), (mean_y, error_y) = mean_and_error(x), mean_and_error(y)
    estimate, error = mean_x - mean_y, float(np.hypot(error_x, error_y))
    if error == 0.0:
        return Difference(estimate, Interval(estimate, estimate), float(estimate == 0.0), None)
    # Written in the share of x, because the textbook's fourth powers underflow for small errors.
    share = (error_x / error) ** 2
    df = 1.0 / (share**2 / (x.size - 1) + (1.0 - share) ** 2 / (y.size - 1))
    margin = float(special.stdtrit(df, tail)) * error
    p_value = float(t_p_value(estimate, error, df))
    return Difference(estimate, Interval(estimate - margin, estimate + margin), p_value, df)


def plus4_welch(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Interval of a difference of two mean preferences over different prompts: Welch's after a 0 and a 1 on each side.

    The point to print is the plain difference, and the p-value Welch's own; the pseudo-prompts shape the interval
    alone. Welch's covers too little where one side hardly ever wins (.78 at n = 50 and rates of .03 and .001, and .84
    with graded preferences of .02 and .01); this covers 1.00 there, and .945 to .966 at rates of .4 and .5, where
    ``welch`` has .945 to .952 and is shorter by 1 % at n = 50 and 0.2 % at n = 200.

    Parameters
    ----------
    x, y
        [n] and [m], mean preference of each prompt, in [0, 1]; the prompts of the two sides are independent.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Interval or None
        Within [-1, 1] and never of zero width. None where a side has a single prompt, as ``welch``.

    Raises
    ------
    ValueError
        For values outside [0, 1], and as in ``t_interval``.

    References
    ----------
    Agresti and Caffo, "Simple and effective confidence intervals for proportions and differences of proportions result
    from adding two successes and two failures", The American Statistician 2000; carried over to graded preferences by
    taking Welch's t.
    """
    x, y = column(x, "x"), column(y, "y")
    if min(x.min(), y.min()) < 0.0 or max(x.max(), y.max()) > 1.0:
        raise ValueError("plus-4 is for preferences in [0, 1]; use welch for other quantities")
    if x.size < 2 or y.size < 2:
        return None
    found = welch(np.append(x, [0.0, 1.0]), np.append(y, [0.0, 1.0]), level).interval
    assert found is not None  # four values a side at the least
    return Interval(max(-1.0, found.low), min(1.0, found.high))


def paired_t(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Difference:
    """Difference of two means over the same prompts (x minus y): Student's t on the differences.

    Measured coverage of nominal 95 % for two models on the same prompts: .957 / .954 / .952 at n = 50 / 100 / 500,
    where the unpaired interval covers .993-.999, because it is too wide.

    Parameters
    ----------
    x, y
        [n] each, in the same prompt order: plain per-prompt values, or jackknife pseudo-values of a set statistic.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Difference
        n = 1: no interval and no p-value. Constant differences: zero width, p = 0, or p = 1 if they are all 0.
        Means that differ by rounding alone count as equal.

    Raises
    ------
    ValueError
        For sides of different length, and as in ``t_interval``.
    """
    x, y, tail = column(x, "x"), column(y, "y"), upper_tail(level)
    if x.shape != y.shape:
        raise ValueError(f"paired sides must share their prompts; got {x.size} and {y.size}")
    if x.size < 2:
        return Difference(float(x[0] - y[0]), None, None, None)
    mean, error = mean_and_error(x - y)
    mean = float(without_rounding(mean, max(np.abs(x).max(), np.abs(y).max())))
    df = float(x.size - 1)
    margin = float(special.stdtrit(df, tail)) * error
    return Difference(mean, Interval(mean - margin, mean + margin), float(t_p_value(mean, error, df)), df)


def paired_preferences(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Difference:
    """Difference of two win rates over the same prompts (x minus y): ``paired_t``, its interval ``stretched``.

    It is stretched to hold t's interval after two pseudo-prompts that differ by 1 and by -1, since t covers too little
    where the models hardly ever differ: where they never do in the draw, it has no width at all. Estimate and p-value
    are those of ``paired_t``. Simulated coverage of nominal 95 %: .95 to 1.00 at n = 50, 100, 200 and 500 and rates of
    .03 and .015, where t has .49, .77, .80 and .93; .95 to .97 at n = 50 and rates near one half, where t has .945.
    There it is 1 % wider for two models that differ much from prompt to prompt, and 27 % for two that hardly do (a
    standard deviation of .2); at n = 500 next to nothing.

    Parameters
    ----------
    x, y
        [n] each, in the same prompt order: mean preference of each prompt, in [0, 1].
    level
        Confidence level in (0, 1).

    Returns
    -------
    Difference
        n = 1: no interval and no p-value. Equal sides: p = 1, and an interval that has a width.

    Raises
    ------
    ValueError
        For values outside [0, 1], and as in ``paired_t``.
    """
    x, y, found = column(x, "x"), column(y, "y"), paired_t(x, y, level)
    if min(x.min(), y.min()) < 0.0 or max(x.max(), y.max()) > 1.0:
        raise ValueError("this is for preferences in [0, 1]; use paired_t for other quantities")
    return stretched(found, t_interval(np.append(x - y, ENDS), level))


def gap_of_differences(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Difference:
    """Mean of x minus that of y, each a paired difference of preferences: ``welch``, its interval ``stretched``.

    As ``paired_preferences``, with the two pseudo-prompts on each side. Simulated coverage of nominal 95 % where both
    differences are .01 to .015 between rates of a few percent: .96 to 1.00 at n = 50, 100 and 500 a side, where
    ``welch`` has .71, .89 and .94.

    Parameters
    ----------
    x, y
        [n] and [m], in [-1, 1]: how much the preferences of two models differ, on the prompts of two tasks.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Difference
        As ``welch``, but for its interval.

    Raises
    ------
    ValueError
        For values outside [-1, 1], and as in ``t_interval``.
    """
    x, y = column(x, "x"), column(y, "y")
    if max(np.abs(x).max(), np.abs(y).max()) > 1.0:
        raise ValueError("this is for differences of preferences in [-1, 1]; use welch for other quantities")
    return stretched(welch(x, y, level), welch(np.append(x, ENDS), np.append(y, ENDS), level).interval)


def stretched(found: Difference, wider: Interval | None) -> Difference:
    """Stretch a difference's interval to hold a wider one, but never over a 0 that its own test rejects.

    An interval beside a p-value must say the same as it: where 0 lies outside of the difference's own interval, the
    end towards 0 stays, and the other one moves.

    Parameters
    ----------
    found
        A difference and its test.
    wider
        An interval of the same difference by another method; None = there is none.

    Returns
    -------
    Difference
        The same but for its interval, which is as it was where either has none.
    """
    own = found.interval
    if own is None or wider is None:
        return found
    both = hull(own, wider)
    low = own.low if own.low > 0.0 else both.low
    high = own.high if own.high < 0.0 else both.high
    return found._replace(interval=Interval(low, high))


def without_rounding(mean: ArrayLike, scale: ArrayLike) -> Floats:
    """Mean differences, set to 0 where they are of rounding size beside ``scale``, elementwise.

    Two routes to the same number may leave differences of 1e-17, all of one sign; a t test would call them
    significant, and an order by estimate would tell equal models apart.
    """
    mean = np.asarray(mean, dtype=np.float64)
    return np.where(np.abs(mean) <= ROUNDING * np.asarray(scale), 0.0, mean)
