"""Win rate at equal length: a logistic regression adjustment, fitted to each model alone.

Judges like long answers. The preference is modelled as ``sigmoid(slope * tanh(gap / sd) + difficulty + intercept)``
with ``gap`` the model's length minus the reference's, and the rate is the mean over prompts of that at ``gap = 0``.
It is an adjustment and no experiment, so it is shown beside the raw rate and both mean lengths, never instead of them.

The slope alone is penalised, because a model that is shorter everywhere leaves it, and with it the rate at equal
length, to extrapolation: without penalty and difficulty alpaca-7b goes from 2.6 to 19.8, where 5.9 is published. The
penalty is ``penalty / 2 * slope**2`` against the log-likelihood *per prompt*. The fitted quantity is then a property
of the model, judge and kind of prompt that does not move with the number of prompts, one constant serves every n, and
the interval at any n is about the same truth; a penalty against the summed log-likelihood fades as n grows. It binds
most where few prompts are won, which is where the slope is known least.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from benchmark.statistics.intervals import LEVEL, ROUNDING, Floats, Interval, column, mean_and_error, upper_tail

PENALTY = 0.02
"""For suites without difficulty; nearest to published rates, see tests/benchmarks/alpaca_eval_lc.md."""
PENALTY_WITH_DIFFICULTY = 0.0005
"""For suites with it: what long answers owe to easy prompts is then accounted for, and little is left to hold back."""
LEAST_PROMPTS = 300
LEAST_EXPECTED = 10.0
"""Expected wins, and expected losses: the sums of the preferences and of 1 minus them."""

STEPS = 100
CLOSE = 1e-9
FAR = 25.0
"""A coefficient (of standardised columns) as large as this is on its way to infinity: odds of 10 to the 11th."""
LEAST_LEFT = 1e-3
"""A prompt that alone decides a coefficient has leverage 1, and the fit without it does not exist."""


class LengthControlled(NamedTuple):
    """A length-controlled win rate, what each prompt adds to it, and why something is missing.

    ``slope`` is per sd of the length gap (positive: longer wins), ``difficulty`` the coefficient of the suite's
    difficulty, None where there is none or it is constant. ``reason`` is None where everything is there; else it
    says why the rate is the raw one, or why there is no interval.
    """

    rate: float
    interval: Interval | None
    influence: Floats
    slope: float
    difficulty: float | None
    reason: str | None

    @property
    def pseudo_values(self) -> Floats:
        """One value a prompt [n]: their mean is the rate, their covariance over n is its (co)variance."""
        return self.rate + self.influence

    @property
    def error(self) -> float | None:
        """Standard error of the rate: the prompt-clustered sandwich; None for a single prompt."""
        return None if self.influence.size < 2 else mean_and_error(self.influence)[1]


class _Fit(NamedTuple):
    """Coefficients [columns] in the design's order, and the mean penalised information [columns, columns]."""

    theta: Floats
    information: Floats


def length_controlled(
    preferences: ArrayLike,
    lengths: ArrayLike,
    reference_lengths: ArrayLike,
    *,
    penalty: float,
    difficulty: ArrayLike | None = None,
    level: float = LEVEL,
) -> LengthControlled:
    """Length-controlled win rate of one model, with a sandwich error clustered by prompt.

    The influence of a prompt on the rate is that of a one-step delete-one jackknife. It goes through the
    coefficients (each prompt's share divided by 1 minus its leverage), through the sd of the gaps, and through the
    mean over the prompts' difficulty. The interval is the t interval of the logit of the rate, carried back: within
    (0, 1), and longer towards one half, as the rate's distribution is where few prompts are won.

    Measured coverage of nominal 95 % on real verdicts of 29 models, whoever has 10 expected wins and losses, in
    tests/benchmarks/alpaca_eval_lc.md.

    Parameters
    ----------
    preferences
        [n], mean preference of each prompt over its samples and orders, in [0, 1]; higher is better for the model.
    lengths, reference_lengths
        [n] each, mean length of the prompt's judged samples, and of the reference, in one unit (characters); the
        unit itself cancels.
    penalty
        At least 0; ``PENALTY`` or ``PENALTY_WITH_DIFFICULTY``, frozen by the suite's version.
    difficulty
        [n] or None, any scale and sign: log-odds that the suite's version knows of each prompt.
    level
        Confidence level in (0, 1).

    Returns
    -------
    LengthControlled
        The raw rate with slope 0 and no interval, and a reason, where gaps do not vary, all prompts are won or all
        lost, or the fit has no finite solution. No interval, and a reason, below ``LEAST_PROMPTS`` prompts or
        ``LEAST_EXPECTED`` expected wins or losses. Constant preferences strictly between 0 and 1 give zero width.

    Raises
    ------
    ValueError
        For preferences outside [0, 1], columns of different size, empty or not finite, a negative penalty, or a
        level outside (0, 1).

    References
    ----------
    Dubois, Galambosi, Liang and Hashimoto, "Length-controlled AlpacaEval", 2024 (the model; there the slope is also
    fitted to verdicts on purposely concise and verbose answers, and the printed error leaves out that of the fit);
    Liang and Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986 (the sandwich).
    """
    y = column(preferences, "preferences")
    upper_tail(level)  # refuses a level outside (0, 1) also where no interval is printed
    if y.min() < 0.0 or y.max() > 1.0:
        raise ValueError("preferences must lie in [0, 1]")
    if not (np.isfinite(penalty) and penalty >= 0.0):
        raise ValueError(f"penalty must be a finite number, 0 or more; got {penalty}")
    own, other = _beside(y, lengths, "lengths"), _beside(y, reference_lengths, "reference_lengths")
    hardness = None if difficulty is None else _beside(y, difficulty, "difficulty")

    largest = max(np.abs(own).max(), np.abs(other).max())
    gap = (own - other) / largest if largest > 0.0 else own
    spread = float(gap.std())
    if spread <= ROUNDING:
        return _raw(y, "length differences do not vary: the raw rate")
    if y.max() == 0.0 or y.min() == 1.0:
        return _raw(y, f"every prompt was {'lost' if y.max() == 0.0 else 'won'}: the raw rate")

    scaled = gap / spread
    tanh = np.tanh(scaled)
    columns, unit = [tanh, np.ones(y.size)], 1.0
    if hardness is not None and (standard := _standardised(hardness)) is not None:
        columns.append(standard[0])
        unit = standard[1]
    design = np.column_stack(columns)
    ridge = np.zeros(design.shape[1])
    ridge[0] = penalty
    fit = _fit(y, design, ridge)
    if fit is None:
        return _raw(y, "the length model has no finite fit: the raw rate")
    theta = fit.theta

    level_design = design.copy()
    level_design[:, 0] = 0.0
    at_equal_length = special.expit(level_design @ theta)
    rate = float(at_equal_length.mean())
    weight = at_equal_length * (1.0 - at_equal_length)
    gradient = (level_design * weight[:, None]).mean(axis=0)
    through_fit = _score_influence(y, design, theta, scaled) @ np.linalg.solve(fit.information, gradient)
    left = np.maximum(1.0 - _leverage(design, fit), LEAST_LEFT)
    influence = at_equal_length + through_fit / left
    influence -= influence.mean()

    coefficient = None if theta.size < 3 else float(theta[2] / unit)
    reason = _too_few(y)
    interval = None if reason else logit_interval(rate, influence, level)
    return LengthControlled(rate, interval, influence, float(theta[0]), coefficient, reason)


def logit_interval(rate: float, influence: ArrayLike, level: float = LEVEL) -> Interval:
    """Student's t interval (n - 1 df) of the logit of a rate, carried back to the rate.

    On length-controlled rates of real verdicts, 2,000 repetitions of n = 500, models with 10 to 25 expected wins: it
    covered .940-.961, the plain t interval .913-.945.

    Parameters
    ----------
    rate
        Strictly between 0 and 1.
    influence
        [n], n >= 2, what each prompt adds to the rate; the variance of its mean is that of the rate.
    level
        Confidence level in (0, 1).

    Returns
    -------
    Interval
        Within [0, 1]; of zero width only where the influence is constant.

    Raises
    ------
    ValueError
        For a rate outside (0, 1), fewer than two or non-finite values, or a level outside (0, 1).
    """
    values, tail = column(influence, "influence"), upper_tail(level)
    if not 0.0 < rate < 1.0 or values.size < 2:
        raise ValueError(f"need a rate between 0 and 1 and two prompts; got {rate} and {values.size}")
    _, error = mean_and_error(values)
    if error == 0.0:
        return Interval(rate, rate)
    margin = float(special.stdtrit(values.size - 1, tail)) * error / (rate * (1.0 - rate))
    centre = float(special.logit(rate))
    return Interval(float(special.expit(centre - margin)), float(special.expit(centre + margin)))


def _beside(y: Floats, values: ArrayLike, name: str) -> Floats:
    array = column(values, name)
    if array.shape != y.shape:
        raise ValueError(f"{name} must be one a prompt ({y.size}); got {array.size}")
    return array


def _raw(y: Floats, reason: str) -> LengthControlled:
    rate, _ = mean_and_error(y)
    return LengthControlled(rate, None, y - rate, 0.0, None, reason)


def _too_few(y: Floats) -> str | None:
    if y.size < LEAST_PROMPTS:
        return f"no interval: {y.size} prompts, where {LEAST_PROMPTS} are needed"
    wins = float(y.sum())
    if min(wins, y.size - wins) < LEAST_EXPECTED:
        return (
            f"no interval: {wins:.1f} expected wins and {y.size - wins:.1f} losses, "
            f"where {LEAST_EXPECTED:g} of each are needed"
        )
    return None


def _standardised(values: Floats) -> tuple[Floats, float] | None:
    """Centred values of unit spread, and the spread; None for a constant. Centring is the intercept's to undo."""
    largest = float(np.abs(values).max())
    if largest == 0.0:
        return None
    centred = values / largest - (values / largest).mean()
    spread = float(centred.std())
    return None if spread <= ROUNDING else (centred / spread, spread * largest)


def _fit(y: Floats, design: Floats, ridge: Floats) -> _Fit | None:
    """Newton's method with halved steps on the mean penalised log-likelihood; None where it has no finite maximum."""
    theta = np.zeros(design.shape[1])
    theta[1] = special.logit(np.clip(y.mean(), np.exp(-2 * FAR), 1.0 - ROUNDING))
    reached = _likelihood(y, design, ridge, theta)
    for _ in range(STEPS):
        chance = special.expit(design @ theta)
        slope = design.T @ (y - chance) / y.size - ridge * theta
        information = (design * (chance * (1.0 - chance))[:, None]).T @ design / y.size + np.diag(ridge)
        try:
            step = np.linalg.solve(information, slope)
        except np.linalg.LinAlgError:
            return None
        if not np.abs(step).max() < FAR or np.abs(theta).max() > FAR:
            return None
        if np.abs(step).max() < CLOSE:
            return _Fit(theta, information)
        while (now := _likelihood(y, design, ridge, theta + step)) < reached - ROUNDING:
            step /= 2.0
        theta, reached = theta + step, now
    return None


def _likelihood(y: Floats, design: Floats, ridge: Floats, theta: Floats) -> float:
    odds = design @ theta
    return float((y * odds - np.logaddexp(0.0, odds)).mean() - 0.5 * (ridge * theta) @ theta)


def _score_influence(y: Floats, design: Floats, theta: Floats, scaled: Floats) -> Floats:
    """What each prompt adds to the mean score [n, columns], in itself and by way of the sd of the gaps.

    The penalty's part is the same for all prompts, and left out.
    """
    chance = special.expit(design @ theta)
    residual = y - chance
    # Derivatives in the logarithm of the sd, on which a prompt's influence is (standardised gap squared - 1) / 2.
    change = -scaled * (1.0 - design[:, 0] ** 2)
    pull = -theta[0] * (design * (chance * (1.0 - chance) * change)[:, None]).mean(axis=0)
    pull[0] += (change * residual).mean()
    on_spread = ((scaled - scaled.mean()) ** 2 - 1.0) / 2.0
    return np.asarray(design * residual[:, None] + on_spread[:, None] * pull, dtype=np.float64)


def _leverage(design: Floats, fit: _Fit) -> Floats:
    chance = special.expit(design @ fit.theta)
    turned = np.linalg.solve(fit.information, design.T)
    return np.asarray(chance * (1.0 - chance) * (design.T * turned).sum(axis=0) / chance.size, dtype=np.float64)
