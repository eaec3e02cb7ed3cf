"""What the interactive figure can show of a board: the plane, and other pairs of axes over the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmark.records import Estimate, Role
from leaderboard.board import Board
from leaderboard.names import metric_title, role_title
from leaderboard.row import Interval, Point, Quantity, Row

Curve = tuple[Point, ...]

PAPER_AXES = ("win_rate", "sbert_per_input")
"""Of Kirk et al.: preferred over the reference, against how much the outputs of one prompt differ, ungated."""


@dataclass(frozen=True)
class View:
    """One pair of axes."""

    title: str
    x_title: str
    y_title: str
    curve: Callable[[Row], Curve]
    """A row's points in order of temperature; empty for a row that has none here."""
    tail: Callable[[Row], Point | None] = lambda _: None
    """Where the arrow to the row's point at temperature 1 starts."""


def views(board: Board) -> list[View]:
    """Views that at least one row has a point in, the plane first."""
    plane = board.suite.plane
    role, x, y = plane.role, plane.x.title, plane.y.title
    found = [View("the plane", x, y, lambda row: row.curves.get(role, ()), lambda row: row.id_point)]
    if plane.y2:
        found.append(View("diversity across inputs", x, metric_title(plane.y2.metric), lambda row: row.second))
    if role != "ood_hard":
        harder = f"{role_title('ood_hard')} {metric_title(plane.x.metric)}"
        found.append(View("harder shift", harder, y, lambda row: row.curves.get("ood_hard", ())))
    across, up = PAPER_AXES
    found.append(
        View(
            "the paper's axes (ungated)",
            f"{role_title(role)} {metric_title(across)}",
            metric_title(up),
            lambda row: _paper(row.estimates, role),
        )
    )
    found = [view for view in found if any(view.curve(row) for row in board.rows)]
    return found or _over_temperature(board)


def _paper(estimates: Mapping[Quantity, Estimate], role: Role) -> Curve:
    across, up = PAPER_AXES
    temperatures = sorted({temperature for metric, of, temperature in estimates if (metric, of) == (across, role)})
    return tuple(
        Point(t, _interval(estimates[across, role, t]), _interval(estimates[up, role, t]))
        for t in temperatures
        if (up, role, t) in estimates
    )


def _over_temperature(board: Board) -> list[View]:
    """What there is of rows that no judge has seen: diversity over temperature."""
    title = metric_title(board.suite.plane.y.metric)

    def view(role: Role) -> View:
        def curve(row: Row) -> Curve:
            return tuple(Point(t, Interval(t, t, t, y.n, "exact"), y) for t, y in row.diversity.get(role, ()))

        return View(f"{role_title(role)} over temperature", "temperature", title, curve)

    roles: list[Role] = [
        board.suite.plane.role,
        *(t.role for t in board.suite.tasks if t.role != board.suite.plane.role),
    ]
    return [found for role in roles if any((found := view(role)).curve(row) for row in board.rows)]


def _interval(estimate: Estimate) -> Interval:
    return Interval(estimate.value, estimate.low, estimate.high, estimate.n, estimate.method)
