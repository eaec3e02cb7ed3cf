"""One board a suite: its rows on the plane, ranked where they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.records import Scores
from benchmark.statistics.dominance import confirmed_front
from benchmark.statistics.ranks import RankSet, rank_sets
from benchmark.suites import Suite, load_suite
from leaderboard.comparable import by_suite
from leaderboard.names import metric_title
from leaderboard.row import Protocol, Row, read_row

Standing = Literal["front", "dominated", "undecided"]
"""On the Pareto front by its estimates; shown to be below another row on both axes; or neither."""

PROTOCOLS: tuple[Protocol, ...] = ("swept", "single")


@dataclass(frozen=True)
class Board:
    """All rows of one suite.

    Every sequence of rows is ordered by score, best first, then by name; rows without a score come last. Where no row
    can have one, in a suite without texts, they are ordered by the plane's x.
    """

    suite: Suite
    rows: tuple[Row, ...]
    ranks: Mapping[str, RankSet]
    """Name → rank set within its own table; only rows that compete have one."""
    standing: Mapping[str, Standing]
    """Name → where a row that competes stands beside all the others, at temperature 1."""

    def ranked(self, protocol: Protocol) -> tuple[Row, ...]:
        """The competing rows of one table: those swept over the suite's grid, or those at a single temperature."""
        return tuple(row for row in self.rows if row.competes and row.protocol == protocol)

    @property
    def unranked(self) -> tuple[Row, ...]:
        """Models that are shown with the reason why they have no rank."""
        return tuple(row for row in self.rows if row.kind == "model" and not row.competes)

    @property
    def controls(self) -> tuple[Row, ...]:
        """Ceilings, then floors: drawn apart and never ranked."""
        return tuple(row for kind in ("ceiling", "floor") for row in self.rows if row.kind == kind)

    @property
    def why_no_plane(self) -> str | None:
        """Why no row has a point, in a few words; None where one has."""
        if any(row.point for row in self.rows):
            return None
        if not self.suite.texts:
            return "no texts"
        if not any(row.scores.identity.judge for row in self.rows):
            return "not judged"
        return f"no {metric_title(self.suite.plane.x.metric)}"

    @property
    def absent(self) -> dict[str, str]:
        """Metric → why some or all rows have none, in the rows' own words."""
        reasons: dict[str, dict[str, list[str]]] = {}
        for row in sorted(self.rows, key=lambda row: row.name):
            for metric, reason in row.scores.absent.items():
                reasons.setdefault(metric, {}).setdefault(reason, []).append(row.name)
        return {
            metric: "; ".join(
                reason if len(names) == len(self.rows) else f"{reason} ({', '.join(names)})"
                for reason, names in sorted(found.items())
            )
            for metric, found in sorted(reasons.items())
        }


def boards(scores: Sequence[Scores], suites: Mapping[str, Suite] | None = None) -> list[Board]:
    """Make one board a suite from runs in any order.

    Parameters
    ----------
    scores
        Runs of one or of several suites.
    suites
        Suites by ``name@vN``; by default those under ``tasks/``.

    Returns
    -------
    list of Board
        Suites that are sampled here come before imported ones; then by name and version.

    Raises
    ------
    UserError
        If there is no run, a suite is not known, or two rows of a suite cannot be compared.
    """
    if not scores:
        raise UserError("no run to show")
    made = []
    for name, group in by_suite(scores).items():
        suite = suites[name] if suites is not None and name in suites else load_suite(name)
        rows = sorted(
            (read_row(row, suite) for row in group),
            key=lambda row: (row.score is None, -row.score.value if row.score else 0.0, _behind(row, suite), row.name),
        )
        made.append(Board(suite, tuple(rows), _ranks(rows), _standing(rows)))
    return sorted(made, key=lambda board: (board.suite.imported, board.suite.suite, board.suite.version))


def _behind(row: Row, suite: Suite) -> float:
    """How far down a row stands by x alone, which orders suites that have nothing else."""
    found = None if suite.texts else row.headline(suite.plane.x.metric, suite.plane.role)
    return -found.value if found else 0.0


def floors_above_models(board: Board) -> list[tuple[str, str]]:
    """The release test: floors that score above a model which clearly beats them.

    A model clearly beats the floors if its win-rate interval on ``id`` prompts (on the plane's role, in a suite
    without an ``id`` role) lies above that of every floor.

    Returns
    -------
    list of (floor, model)
        Empty on a sound board.
    """
    axis = board.suite.plane.x.metric
    role = "id" if any(task.role == "id" for task in board.suite.tasks) else board.suite.plane.role
    floors = [row for row in board.rows if row.kind == "floor"]
    bar = max((estimate.high for row in floors if (estimate := row.headline(axis, role))), default=None)
    if bar is None:
        return []
    clear = [
        row
        for row in board.rows
        if row.kind == "model" and (estimate := row.headline(axis, role)) and estimate.low > bar
    ]
    return [
        (floor.name, model.name)
        for floor in floors
        for model in clear
        if floor.score and model.score and floor.score.value > model.score.value
    ]


def _ranks(rows: Sequence[Row]) -> dict[str, RankSet]:
    """Rank sets by paired t and Holm on score pseudo-values, each table a family of its own."""
    ranks: dict[str, RankSet] = {}
    for protocol in PROTOCOLS:
        family = sorted((row for row in rows if row.competes and row.protocol == protocol), key=lambda row: row.name)
        if not family:
            continue
        prompts = sorted(set.intersection(*(set(row.influence) for row in family)))
        if not prompts:
            names = ", ".join(repr(row.name) for row in family)
            raise UserError(f"no prompt has a value in all of {names}; they cannot be ranked together")
        sets = rank_sets(_columns([row.influence for row in family], prompts))
        ranks |= {row.name: found for row, found in zip(family, sets, strict=True)}
    return ranks


def _standing(rows: Sequence[Row]) -> dict[str, Standing]:
    """Where each competing row stands: both tables together, for at temperature 1 they are sampled alike."""
    family = sorted((row for row in rows if row.competes and row.place), key=lambda row: row.name)
    prompts = sorted(set.intersection(*(set(row.place) for row in family))) if family else []
    if not prompts:
        return {}
    x, y = (_columns([{p: at[axis] for p, at in row.place.items()} for row in family], prompts) for axis in (0, 1))
    found = confirmed_front(x, y)
    parts: tuple[tuple[Standing, Iterable[int]], ...] = (
        ("front", found.front),
        ("dominated", found.behind),
        ("undecided", found.undecided),
    )
    return {family[number].name: standing for standing, numbers in parts for number in numbers}


def _columns(rows: Sequence[Mapping[str, float]], prompts: Sequence[str]) -> NDArray[np.float64]:
    """Values of some prompts, [prompts, rows]."""
    return np.ascontiguousarray(np.array([[row[prompt] for prompt in prompts] for row in rows]).T)
