"""Whether one model dominates another on the plane: better in both coordinates, and shown to be so.

`plane.pareto_front` compares point estimates; a point is above and to the right of another by luck often enough. The
claim here is tested.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from benchmark.statistics.intervals import LEVEL, Floats, column, paired_t, table, upper_tail
from benchmark.statistics.plane import pareto_front
from benchmark.statistics.ranks import holm, paired_differences


class Dominance(NamedTuple):
    """The claim "the first dominates the second": differences (first minus second), one-sided p-values, verdict.

    ``p_value`` is the claim's, the larger of the two. All three are None where a coordinate has a single prompt.
    """

    x_difference: float
    y_difference: float
    x_p_value: float | None
    y_p_value: float | None
    p_value: float | None
    dominates: bool


class Front(NamedTuple):
    """Where every model of a board stands, as indices in ascending order: each is in one of the three.

    ``front``: no other model's point estimates dominate it. ``behind``: some model is shown to dominate it.
    ``undecided``: its estimates are dominated, but that is not shown.
    """

    front: NDArray[np.intp]
    behind: NDArray[np.intp]
    undecided: NDArray[np.intp]

    @property
    def agrees(self) -> bool:
        """Whether tests and point estimates draw the same front."""
        return self.undecided.size == 0


def dominance(
    x_first: ArrayLike, x_second: ArrayLike, y_first: ArrayLike, y_second: ArrayLike, level: float = LEVEL
) -> Dominance:
    """Test "the first dominates the second" as an intersection-union test: higher in x *and* higher in y.

    The claim stands where the one-sided paired t tests of both coordinates reject at 1 - level. Neither is corrected:
    to claim both is harder than to claim either, whatever the correlation of x and y. The error is 1 - level at most,
    and comes near it only where one difference is 0 and the other large. A claim that fails says neither that the
    models are equal nor that the second dominates.

    Simulated share of false claims at .95 (graded preferences and skewed diversities that fall, stay or rise with
    them; n = 50 and 500; 4,000 repetitions each, +-.0034): .045-.051 where one difference is 0 and the other large;
    .000 / .003 / .011 at most where both are 0.

    Parameters
    ----------
    x_first, x_second
        [n] each, per-prompt values or pseudo-values of the two models in x, over the same prompts in the same order;
        higher is better.
    y_first, y_second
        [m] each, the same in y; its prompts may be those of x or others.
    level
        One minus the error of the claim.

    Returns
    -------
    Dominance
        A single prompt in a coordinate: no p-values, and no claim. A difference that does not vary is known: p = 0
        where it is positive, else 1, so models that are equal in a coordinate never dominate each other (on the
        plane's front a tie in one coordinate is enough). Means that differ by rounding alone count as equal.

    Raises
    ------
    ValueError
        For paired sides of different length, empty, nested or non-finite values, or a level outside (0, 1).

    References
    ----------
    Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982; Berger and Hsu,
    "Bioequivalence trials, intersection-union tests and equivalence confidence sets", Statistical Science 1996.
    """
    upper_tail(level)  # refuses a level outside (0, 1)
    x, y = _pair(x_first, x_second, "x"), _pair(y_first, y_second, "y")
    x_difference, y_difference = (paired_t(both[:, 0], both[:, 1]).estimate for both in (x, y))
    if min(len(x), len(y)) < 2:
        return Dominance(x_difference, y_difference, None, None, None, False)
    x_p, y_p = (special.stdtr(len(both) - 1, -_ratios(both)[0, 1]) for both in (x, y))
    p_value = max(x_p, y_p)
    return Dominance(x_difference, y_difference, float(x_p), float(y_p), float(p_value), bool(p_value <= 1.0 - level))


def dominance_matrix(x_values: ArrayLike, y_values: ArrayLike) -> Floats:
    """P-values of all claims "row dominates column" of a board; each is `dominance`'s, not corrected for the others.

    Parameters
    ----------
    x_values, y_values
        [n, models] and [m, models], as in `dominance`; a column is a model.

    Returns
    -------
    array
        [models, models] in [0, 1], with 1 on its diagonal, and throughout where a coordinate has a single prompt.

    Raises
    ------
    ValueError
        For empty or non-finite tables, or another number of models in x than in y.
    """
    x, y = _tables(x_values, y_values)
    if min(len(x), len(y)) < 2:
        return np.ones((x.shape[1], x.shape[1]))
    if len(x) == len(y):  # of one number of prompts, the larger p-value is that of the smaller ratio
        return np.asarray(special.stdtr(len(x) - 1, -np.minimum(_ratios(x), _ratios(y))), dtype=np.float64)
    return np.maximum(*(special.stdtr(len(values) - 1, -_ratios(values)) for values in (x, y)))


def confirmed_front(x_values: ArrayLike, y_values: ArrayLike, level: float = LEVEL) -> Front:
    """Compare the front of the point estimates with what tests show: `dominance` of all ordered pairs, with Holm.

    A model that is shown to be dominated is never on the front, for a claim that stands has the estimates on its side.

    Parameters
    ----------
    x_values, y_values
        As in `dominance_matrix`; the point estimates are the columns' means.
    level
        One minus the family-wise error over all claims of the board.

    Returns
    -------
    Front
        A single model is the front.

    Raises
    ------
    ValueError
        As in `dominance_matrix`, and for a level outside (0, 1).
    """
    upper_tail(level)  # refuses a level outside (0, 1)
    x, y = _tables(x_values, y_values)
    claims = ~np.eye(x.shape[1], dtype=bool)
    shown = np.zeros_like(claims)
    shown[claims] = holm(dominance_matrix(x, y)[claims]) <= 1.0 - level
    on_front = np.zeros(x.shape[1], dtype=bool)
    on_front[pareto_front(np.column_stack([x.mean(axis=0), y.mean(axis=0)]))] = True
    behind = shown.any(axis=0)
    return Front(*(np.flatnonzero(which) for which in (on_front, behind, ~on_front & ~behind)))


def _pair(first: ArrayLike, second: ArrayLike, name: str) -> Floats:
    first, second = column(first, f"{name}_first"), column(second, f"{name}_second")
    if first.shape != second.shape:
        raise ValueError(f"paired sides must share their prompts; got {first.size} and {second.size} in {name}")
    return np.column_stack([first, second])


def _tables(x_values: ArrayLike, y_values: ArrayLike) -> tuple[Floats, Floats]:
    x, y = table(x_values, "x_values"), table(y_values, "y_values")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same models; got {x.shape[1]} and {y.shape[1]}")
    return x, y


def _ratios(values: Floats) -> Floats:
    """Differences over their errors, row minus column, [models, models]; for two prompts at least."""
    difference, error = paired_differences(values)
    certain = np.where(difference > 0.0, np.inf, -np.inf)
    with np.errstate(over="ignore"):  # an error of rounding size may send the ratio to infinity, which is right
        return np.divide(difference, error, out=certain, where=error > 0.0)
