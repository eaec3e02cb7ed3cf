"""Several training seeds of one family on the same prompts: seeds and prompts are both samples, and they are crossed.

A claim about a training method must hold for other seeds and for other prompts. Counting the cells of the table as if
they were independent, or taking the t over prompts alone, answers a narrower question and is far too sure of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from benchmark.statistics.intervals import (
    LEVEL,
    Floats,
    Interval,
    mean_and_error,
    t_p_value,
    upper_tail,
    without_rounding,
)


class TwoWay(NamedTuple):
    """A mean over seeds and prompts, the t test of it being 0, and where its squared error comes from.

    ``v_seed`` and ``v_prompt`` are the squared errors if seeds, or prompts, alone were samples; ``v_cell`` is the part
    of the interaction and the sampling noise that both of them contain. Everything but ``estimate`` is None where
    there are fewer than two seeds or two prompts; ``df`` is None as well where nothing varies.
    """

    estimate: float
    interval: Interval | None
    p_value: float | None
    df: float | None
    v_seed: float | None
    v_prompt: float | None
    v_cell: float | None


def rows_of_prompts(values: ArrayLike, name: str = "values") -> Floats:
    """Return ``values`` as a float64 array [rows, prompts]; raise ValueError if empty, not 2-D or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty table [rows, prompts]; got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: drop missing prompts before, and say so")
    return np.ascontiguousarray(array)


def two_way_t(values: ArrayLike, level: float = LEVEL) -> TwoWay:
    """Two-way t interval for a mean over training seeds and prompts, both random and crossed.

    With S seeds and P prompts, ``v_seed`` is the variance of the seeds' means over S, ``v_prompt`` that of the
    prompts' means over P, and ``v_cell`` the mean square of the residuals over S P. The squared error is
    ``v_seed + v_prompt - v_cell``, as the first two hold the residual's share twice; its degrees of freedom are
    Satterthwaite's. Two guards keep an unlucky table from an interval that is too narrow:

    - A variance between seeds, or between prompts, that is estimated below 0 counts as 0. The squared error is then
      never below any of the three parts.
    - The interval is never narrower than the t interval over the seeds' means (S - 1 df) or over the prompts' means
      (P - 1 df), and the p-value never smaller. Where the seeds carry most of the error, Satterthwaite takes chance
      agreement of few seeds for knowledge: without this guard nominal 95 % covered .92 with 3 seeds and .87 with 2.
      It costs up to 23 % of the width with 3 seeds and 2 % with 5.

    Simulated coverage of nominal 95 % (normal effects, 200 prompts, 50 mixes of seed, prompt and residual variance,
    100,000 repetitions each), lowest and highest: .949 and .988 with 3 seeds, .942 and .983 with 5, .948 and .976
    with 10. The high ones are those of a residual that is larger than both effects. Where seeds carry as much of the
    error as prompts, the t over prompts alone covers .85-.86, and that over all cells .47-.72.

    Parameters
    ----------
    values
        [S, P], one row a training seed, one column a prompt: paired differences of two models of the same seed, say,
        or jackknife pseudo-values. Samples of a cell are averaged before.
    level
        Confidence level in (0, 1).

    Returns
    -------
    TwoWay
        One seed, or one prompt: no interval; the claim is then about this checkpoint only (``paired_t``). Two seeds
        have an interval, 13 times their error wide to each side and safe; but with fewer than 3 seeds, the board says
        that the claim is about these checkpoints only. A constant table gives zero width, and p = 1 if it is 0,
        else 0. A mean of rounding size beside the values counts as 0.

    Raises
    ------
    ValueError
        For an empty, ragged or non-finite table, or a level outside (0, 1).

    References
    ----------
    Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 1946;
    Searle, Casella and McCulloch, "Variance Components", 1992, for the balanced crossed layout.
    """
    values, tail = rows_of_prompts(values), upper_tail(level)
    seeds, prompts = values.shape
    if values.min() == values.max():
        estimate = float(values[0, 0])
    else:
        estimate = float(without_rounding(values.mean(), np.abs(values).max()))
    if seeds < 2 or prompts < 2:
        return TwoWay(estimate, None, None, None, None, None, None)
    if values.min() == values.max():
        return TwoWay(estimate, Interval(estimate, estimate), float(estimate == 0.0), None, 0.0, 0.0, 0.0)

    by_seed, by_prompt = values.mean(axis=1), values.mean(axis=0)
    seed_error, prompt_error = mean_and_error(by_seed)[1], mean_and_error(by_prompt)[1]
    residuals = values - by_seed[:, None] - by_prompt + values.mean()
    degrees = np.array([seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)], dtype=np.float64)
    parts = np.array([seed_error**2, prompt_error**2, (residuals**2).sum() / degrees[2] / values.size])
    v_seed, v_prompt, v_cell = (float(part) for part in parts)

    squared = max(v_seed - v_cell, 0.0) + max(v_prompt - v_cell, 0.0) + v_cell
    df = float(1.0 / ((parts / squared) ** 2 / degrees).sum())  # in shares: fourth powers underflow for small errors
    errors = np.array([np.sqrt(squared), seed_error, prompt_error])
    dfs = np.array([df, seeds - 1, prompts - 1])
    margin = float((special.stdtrit(dfs, tail) * errors).max())
    p_value = float(t_p_value(estimate, errors, dfs).max())
    return TwoWay(estimate, Interval(estimate - margin, estimate + margin), p_value, df, v_seed, v_prompt, v_cell)
