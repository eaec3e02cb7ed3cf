"""Rank sets: which ranks a model may have, given what paired tests can tell apart.

A bare rank pretends to know more: bootstrap percentiles of ranks covered all true ranks in 5 % of repetitions where 95
were promised. Paired t with Holm covered 1.00 on 52 real models, and .95-.96 with 20 models that were exactly tied; it
is closed form, and the default. The max-t step-down learns from resamples how the pairs move together, and is narrower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.statistics.intervals import LEVEL, ROUNDING, Floats, t_p_value, table, upper_tail, without_rounding

LEAST_PROMPTS = 500
"""For rank sets by max-t, which declares a tie in 6 % of repetitions at n = 100."""
CANCELLED = 1e-3
"""Means that differ by less than this share of the largest value lose digits when they are subtracted."""
CANCELLED_SQUARES = 1e-3
"""A variance below this share of the two columns' own loses digits when it is their sum less their products."""
BLOCK = 2**17
"""Resampled differences handled at once: 1 MiB, which stays in the cache."""


class RankSet(NamedTuple):
    """The order by estimate, and the ranks that cannot be excluded; low <= rank <= high."""

    rank: int
    low: int
    high: int

    def __str__(self) -> str:
        """Return the printed form, such as "3 (2–9)"."""
        return f"{self.rank} ({self.low}–{self.high})"


class Pairs(NamedTuple):
    """All-pairs paired t tests, [models, models]: mean of row minus column, its error, and its two-sided p-value."""

    difference: Floats
    error: Floats
    p_value: Floats


def paired_tests(values: ArrayLike) -> Pairs:
    """Paired t tests between all columns.

    Parameters
    ----------
    values
        [n, models], per-prompt values or jackknife pseudo-values over the same prompts.

    Returns
    -------
    Pairs
        ``difference`` is antisymmetric, ``error`` symmetric with 0 on its diagonal, ``p_value`` symmetric with 1 on
        it. Equal columns have p = 1, a constant difference other than 0 has p = 0, and n = 1 gives infinite errors
        and p = 1 throughout: one prompt shows nothing.

    Raises
    ------
    ValueError
        For an empty or non-finite table.
    """
    difference, error = paired_differences(values)
    n, models = np.shape(values)
    p_value = np.ones((models, models))
    if n > 1:
        above = np.triu_indices(models, k=1)
        p_value[above] = t_p_value(difference[above], error[above], n - 1)
        p_value.T[above] = p_value[above]
    return Pairs(difference, error, p_value)


def paired_differences(values: ArrayLike) -> tuple[Floats, Floats]:
    """Mean differences of all pairs of columns, and their errors.

    All variances come from one matrix of products. Where that cancels (columns that are nearly equal, or differ by
    nearly a constant, or have nearly one mean) a pair is computed from its own differences instead, so that equal
    columns are equal and the rest is right to 1e-12.

    Parameters
    ----------
    values
        [n, models], as in ``paired_tests``.

    Returns
    -------
    difference, error
        As in `Pairs`.

    Raises
    ------
    ValueError
        For an empty or non-finite table.
    """
    values = table(values)
    n, models = values.shape
    scale = np.abs(values).max(axis=0)
    means = values.mean(axis=0)
    difference = means[:, None] - means
    unsure = np.abs(difference) <= CANCELLED * np.maximum(scale[:, None], scale)
    error = np.where(np.eye(models, dtype=bool), 0.0, np.inf)
    if n > 1:
        # What all models share of a prompt's hardness is in no difference, but would be in every product.
        deviations = values - values.mean(axis=1, keepdims=True)
        deviations -= deviations.mean(axis=0)
        products = deviations.T @ deviations
        own = np.diag(products)
        squares = own[:, None] + own - 2.0 * products
        unsure |= ~(squares > CANCELLED_SQUARES * (own[:, None] + own))
        error = np.sqrt(np.maximum(squares, 0.0) / (n * (n - 1)))
    for model in range(models - 1):
        rest = model + 1 + np.flatnonzero(unsure[model, model + 1 :])
        if rest.size:
            gaps = values[:, [model]] - values[:, rest]
            difference[model, rest] = without_rounding(gaps.mean(axis=0), np.maximum(scale[model], scale[rest]))
            if n > 1:
                error[model, rest] = gaps.std(axis=0, ddof=1) / np.sqrt(n)
    # One half is the other's mirror image, to the last bit.
    below = np.tril_indices(models, k=-1)
    difference[below], error[below] = -difference.T[below], error.T[below]
    np.fill_diagonal(difference, 0.0)
    np.fill_diagonal(error, 0.0)
    return difference, error


def holm(p_values: ArrayLike) -> Floats:
    """Holm-adjusted p-values: rejecting those at or below alpha keeps the family-wise error at alpha.

    Parameters
    ----------
    p_values
        [m] in [0, 1]; m may be 0.

    Returns
    -------
    array
        [m], in the order given, each at least its own p-value and at most 1.

    Raises
    ------
    ValueError
        For values outside [0, 1].

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("p-values must be a list of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def max_t(values: ArrayLike, weights: ArrayLike) -> Floats:
    """Adjusted p-values of all pairs by the bootstrap's max-|t| step-down; reject at or below alpha, as with ``holm``.

    The statistic of a pair is its paired t without the sign, so either order of two models is tested; in a resample,
    it is the mean difference less the one seen, over its error. A pair is held against the resample's largest
    statistic among the pairs that are no better supported than itself: those declared before it have left, as in
    Holm's procedure. As there, that no pair is declared in the wrong order follows from ties being left undeclared,
    and rests for pairs that differ on normal theory.

    The error is that of the *original* prompts. It is enough where this is printed, for n is large there, and it is
    stable: with each resample's own error the statistic explodes where a resample hardly varies, at the cost of all
    products of columns besides. Two corrections make up for it at smaller n: resampled statistics are brought to
    unit variance (that of a resample is 1 - 1/n times too small), and the statistic seen is the normal score of its t.
    For two models the p-value is then that of paired t but for the data's shape and the Monte-Carlo error, and below
    it it never is.

    Parameters
    ----------
    values
        [n, models], as in ``paired_tests``; higher is better.
    weights
        [resamples, n], the task's shared weights from ``bootstrap.weights``; 10,000 and their seed give one answer.

    Returns
    -------
    array
        [models, models], symmetric with 1 on its diagonal; the direction is that of the difference. At least
        1 / (resamples + 1), but for pairs whose difference does not vary by more than rounding: these keep the p-value
        of ``paired_tests``, and take no part in the maximum. n = 1 gives 1 throughout.

    Raises
    ------
    ValueError
        For an empty or non-finite table, or weights of another width.

    References
    ----------
    Romano and Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing", JASA 2005, and
    "Efficient computation of adjusted p-values for resampling-based stepdown multiple testing", Statistics and
    Probability Letters 2016; Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 2024.
    """
    values = table(values)
    return _max_t(values, paired_tests(values), weights)


def significantly_better(
    values: ArrayLike, level: float = LEVEL, weights: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Which models beat which, by ``rank_sets``' tests; higher values are better.

    Parameters
    ----------
    values, level, weights
        As in ``rank_sets``.

    Returns
    -------
    array
        [models, models] of bool; entry (i, j) is True where model i is significantly better than model j.

    Raises
    ------
    ValueError
        As in ``rank_sets``.
    """
    return _better(values, level, weights)[0]


def rank_sets(values: ArrayLike, level: float = LEVEL, weights: ArrayLike | None = None) -> list[RankSet]:
    """Rank set of every model: [1 + models significantly better, M - models significantly worse].

    All sets hold their model's true rank at once with probability ``level`` at least, because that only fails where
    some pair is declared in the wrong order (ties in truth: where any tied pair is declared at all).

    Simulated, 20 exactly tied models, share of repetitions in which no pair is declared, where .95 is promised
    (2,000 repetitions, +-.005): max-t .940-.946 at n = 100 and .949-.955 at n = 500, Holm .961-.963 and .962-.972; at
    n = 200 and 600 repetitions max-t had .935-.983. Ten tied pairs far apart, n = 500: .954 and .957; the same
    with 0.03 within the pairs, and wrong orders counted: .993 and .993. On 27 real models and 500 of their prompts, 100
    repetitions, both covered 1.00; the mean set held 6.56 ranks by max-t and 6.65 by Holm.

    Parameters
    ----------
    values
        [n, models], as in ``paired_tests``; higher is better.
    level
        One minus the family-wise error.
    weights
        None: paired t with Holm over all M(M-1)/2 pairs. [resamples, n], the task's shared weights from
        ``bootstrap.weights``: ``max_t``, for ``LEAST_PROMPTS`` prompts at least.

    Returns
    -------
    list of RankSet
        In the order of the columns. Models of equal estimate share the better rank. A single model is 1 (1–1).

    Raises
    ------
    ValueError
        For an empty or non-finite table, a level outside (0, 1), weights of another width, or with weights for fewer
        than ``LEAST_PROMPTS`` prompts.

    References
    ----------
    Mogstad, Romano, Shaikh and Wilhelm, "Inference for ranks with applications to mobility across neighbourhoods and
    academic achievement across countries", Review of Economic Studies 2024 (rank sets); Holm 1979 (the correction).
    """
    better, difference = _better(values, level, weights)
    rank, models = 1 + (difference > 0.0).sum(axis=0), len(difference)
    low, high = 1 + better.sum(axis=0), models - better.sum(axis=1)
    return [RankSet(int(a), int(b), int(c)) for a, b, c in zip(rank, low, high, strict=True)]


def _better(values: ArrayLike, level: float, weights: ArrayLike | None) -> tuple[NDArray[np.bool_], Floats]:
    """Who is significantly better than whom, and the differences, both [models, models]."""
    values = table(values)
    upper_tail(level)  # refuses a level outside (0, 1)
    pairs = paired_tests(values)
    if weights is None:
        above = np.triu_indices(len(pairs.p_value), k=1)
        adjusted = np.ones_like(pairs.p_value)
        adjusted[above] = holm(pairs.p_value[above])
        adjusted = np.minimum(adjusted, adjusted.T)
    elif len(values) < LEAST_PROMPTS:
        raise ValueError(f"rank sets by max-t need {LEAST_PROMPTS} prompts; got {len(values)}: use Holm's (no weights)")
    else:
        adjusted = _max_t(values, pairs, weights)
    return np.asarray((adjusted <= 1.0 - level) & (pairs.difference > 0.0), dtype=np.bool_), pairs.difference


def _max_t(values: Floats, pairs: Pairs, weights: ArrayLike) -> Floats:
    n = len(values)
    counts = np.asarray(weights)
    if counts.ndim != 2 or counts.shape[1] != n:
        raise ValueError(f"weights must be [resamples, {n}]; got {counts.shape}")
    adjusted = pairs.p_value.copy()
    scale = np.abs(values).max(axis=0)
    varies = pairs.error * np.sqrt(n) > ROUNDING * np.maximum(scale[:, None], scale)
    upper, lower = np.nonzero(np.triu(varies, k=1))
    if n < 2 or not upper.size:
        return adjusted

    t = np.abs(pairs.difference[upper, lower]) / pairs.error[upper, lower]
    order = np.argsort(t, kind="stable")  # from the least to the best supported
    upper, lower = upper[order], lower[order]
    seen = -special.ndtri(special.stdtr(n - 1, -t[order]))[:, None]
    error = (pairs.error[upper, lower] * np.sqrt((n - 1) / n))[:, None]

    # Deviations are resampled, not values: the rounding of sums is then that of small numbers.
    deviations = (values - values.mean(axis=0)).T / n
    reached = np.zeros(t.size, dtype=np.int64)
    rows = max(1, BLOCK // t.size)
    for start in range(0, len(counts), rows):
        means = deviations @ counts[start : start + rows].T.astype(np.float64)
        resampled = np.abs(means[upper] - means[lower]) / error
        reached += (np.maximum.accumulate(resampled, axis=0) >= seen).sum(axis=1)
    p = (1.0 + reached) / (1.0 + len(counts))
    # A pair is declared only where all better supported ones are.
    p = np.maximum.accumulate(p[::-1])[::-1]
    adjusted[upper, lower] = adjusted[lower, upper] = np.maximum(p, adjusted[upper, lower])
    return adjusted
