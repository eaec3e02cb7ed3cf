"""Bradley-Terry strengths of models that were all compared with each other.

With one shared reference there is nothing to fit: strengths are then the log-odds of the win rates, and rank as these
do. What differs from the textbook is the error: pairs of one prompt are not independent, so it is clustered by prompt.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.sparse import csgraph

from benchmark.statistics.intervals import LEVEL, ROUNDING, Floats, Interval, column, t_interval, upper_tail

STEPS = 200
CLOSE = 1e-6
"""A step that is taken last: Newton's next would be as small as its square, and of rounding size."""
LEAST_WON = 0.01
"""Games of one model against another: graded preferences that add up to less are no win."""
LEAST_EXPECTED = 10.0
"""Games won, and games lost (sums of graded preferences), that a model needs to have an interval."""


class BradleyTerry(NamedTuple):
    """Strengths in log-odds, higher is better, and what each prompt adds to them.

    ``models`` gives the order of all else; ``influence`` is [prompts, models], prompts by first occurrence. ``known``
    is True where a strength has an interval: `bradley_terry` says where it has none.
    """

    models: tuple[str, ...]
    strengths: Floats
    influence: Floats
    known: NDArray[np.bool_]

    @property
    def pseudo_values(self) -> Floats:
        """One value a prompt and model: their means are the strengths, their covariance over n is that of these."""
        return self.strengths + self.influence

    def intervals(self, level: float = LEVEL) -> list[Interval | None]:
        """Student's t interval of every strength (prompts - 1 df); None for a single prompt or a model not known."""
        upper_tail(level)  # refuses a level outside (0, 1) where no interval is had as well
        columns = zip(self.pseudo_values.T, self.known, strict=True)
        return [t_interval(values, level) if known else None for values, known in columns]


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    preferences: ArrayLike,
    prompts: Sequence[Hashable],
    anchor: str | None = None,
) -> BradleyTerry:
    """Fit P(first preferred over second) = sigmoid(strength of first - strength of second), all rows alike.

    Newton's method on the log-likelihood; a graded preference, or a tie of 1/2, counts as that share of a win. The
    influence of a prompt is the sandwich's: the sum of its rows' residuals through the inverse information, which
    needs neither independent rows within a prompt nor a true model. What is estimated is then the fit to infinitely
    many prompts of these comparisons.

    **Separated models.** The fit is infinite where models fall into groups between which every win went one way: a
    model that lost everything is such a group, and so are two that lost to all others (groups are the strong
    components of "won something of"). Then, and only then, each two groups that met play one game more, which ends in
    a tie: half a win to either, spread over the games between them in proportion. A model that lost all its N games to
    one other comes to stand ln(2N + 1) below it, by convention and not by data, so strengths across groups have no
    interval. Differences within a group hardly feel the game.

    **Intervals.** With an anchor, a strength has one where the model is of the anchor's group, and both have won and
    lost ``LEAST_EXPECTED`` games. A centred strength rests on all models, so all or none have one.

    Simulated coverage of nominal 95 % (6 models, all 15 pairs on every prompt, abilities that differ between prompts
    with sd 1, two presentations averaged; 1,000 repetitions, +-.007; as if always printed), lowest and highest of 11
    strengths and differences at n = 50 / 100 / 500: models at 0 to 1, .938-.960 / .943-.962 / .938-.953; the same with
    the last at 5, .942-.955 / .938-.954 / .941-.955. Rows taken for independent: .84-.88. Below 3 expected losses it
    collapses (.00 at 1.4), hence the rule.

    Parameters
    ----------
    first, second
        [rows] names of the two models of each judged pair. Which stands first matters only to the sign of the
        preference.
    preferences
        [rows] in [0, 1]: 1 = the first wins, 1/2 = a tie. Both orders of presentation are averaged before.
    prompts
        [rows] ids of what is drawn as a whole.
    anchor
        Model whose strength is 0, and known; None centres the strengths on 0.

    Returns
    -------
    BradleyTerry
        Models in sorted order, and finite strengths. The anchor is 0 with an interval of zero width.

    Raises
    ------
    ValueError
        For columns of different length, no row, a preference outside [0, 1] or not finite, a model against itself, an
        anchor that did not play, or models in parts that never met (they have no common scale).

    References
    ----------
    Bradley and Terry, "Rank analysis of incomplete block designs", Biometrika 1952; Ford, "Solution of a ranking
    problem from binary comparisons", American Mathematical Monthly 1957 (when the fit exists); Liang and Zeger,
    "Longitudinal data analysis using generalized linear models", Biometrika 1986 (the sandwich); Haldane 1956 and
    Anscombe 1956 (half a win).
    """
    y = column(preferences, "preferences")
    if y.min() < 0.0 or y.max() > 1.0:
        raise ValueError("preferences must lie in [0, 1]")
    for name, entries in (("first", first), ("second", second), ("prompts", prompts)):
        if len(entries) != y.size:
            raise ValueError(f"{name} must be one a row ({y.size}); got {len(entries)}")
    models = tuple(sorted({*first, *second}))
    if anchor is not None and anchor not in models:
        raise ValueError(f"anchor {anchor!r} was not compared with anything")
    place = {model: at for at, model in enumerate(models)}
    i, j = (np.array([place[model] for model in side], dtype=np.intp) for side in (first, second))
    if (i == j).any():
        raise ValueError(f"a model cannot be compared with itself; {models[i[i == j][0]]!r} is")

    wins = np.zeros((len(models), len(models)))
    np.add.at(wins, (i, j), y)
    np.add.at(wins, (j, i), 1.0 - y)
    games = wins + wins.T
    parts, part = csgraph.connected_components(games > 0.0, directed=False)
    if parts > 1:
        names = "; ".join(", ".join(m for m, at in zip(models, part, strict=True) if at == p) for p in range(parts))
        raise ValueError(f"models fall into parts that were never compared with each other: {names}")
    groups, group = csgraph.connected_components(wins >= LEAST_WON, connection="strong")

    strengths, information = _fit(wins + _ties_between(games, groups, group))
    # Residuals by prompt, through the inverse information.
    ids: dict[Hashable, int] = {}
    at = np.array([ids.setdefault(prompt, len(ids)) for prompt in prompts], dtype=np.intp)
    residual = y - special.expit(strengths[i] - strengths[j])
    size = len(ids) * len(models)
    score = np.bincount(at * len(models) + i, weights=residual, minlength=size)
    score -= np.bincount(at * len(models) + j, weights=residual, minlength=size)
    influence = np.asarray(len(ids) * np.linalg.solve(information, score.reshape(len(ids), -1).T).T, dtype=np.float64)
    influence -= influence.mean(axis=0)  # 0 but for rounding and the extra games
    enough = np.minimum(wins.sum(axis=1), wins.sum(axis=0)) >= LEAST_EXPECTED
    if anchor is None:
        return BradleyTerry(models, strengths, influence, np.full(len(models), groups == 1 and bool(enough.all())))
    zero = place[anchor]
    known = enough & enough[zero] & (group == group[zero])
    return BradleyTerry(models, strengths - strengths[zero], influence - influence[:, [zero]], known)


def _ties_between(games: Floats, groups: int, group: NDArray[np.signedinteger[Any]]) -> Floats:
    """Half a win to either side between each two groups that met, in proportion to their games, [models, models]."""
    member = np.eye(groups)[group]
    between = member.T @ games @ member
    np.fill_diagonal(between, 0.0)
    share = np.divide(0.5, between, out=np.zeros_like(between), where=between > 0.0)
    return np.asarray(games * share[np.ix_(group, group)], dtype=np.float64)


def _fit(wins: Floats) -> tuple[Floats, Floats]:
    """Centred strengths, and the information with the direction that it lacks filled in; the maximum is finite."""
    games, won = wins + wins.T, wins.sum(axis=1)
    theta = np.zeros(len(wins))
    reached = _likelihood(wins, theta)
    for _ in range(STEPS):
        chance = special.expit(theta[:, None] - theta)
        step = np.linalg.solve(_information(games, theta), won - (games * chance).sum(axis=1))
        if np.abs(step).max() < CLOSE:
            return theta + step, _information(games, theta + step)
        while (now := _likelihood(wins, theta + step)) < reached - ROUNDING * abs(reached):
            step /= 2.0
        theta, reached = theta + step, now
    raise ArithmeticError("the Bradley-Terry fit did not converge")


def _information(games: Floats, theta: Floats) -> Floats:
    chance = special.expit(theta[:, None] - theta)
    information = -games * chance * chance.T
    np.fill_diagonal(information, -information.sum(axis=1))
    # A common shift of all strengths changes nothing: its direction is filled in, so that there is an inverse.
    return np.asarray(information + np.trace(information) / len(games) ** 2, dtype=np.float64)


def _likelihood(wins: Floats, theta: Floats) -> float:
    return float(-(wins * np.logaddexp(0.0, theta - theta[:, None])).sum())
