"""What a pull request is told of its row: rank set, intervals, and paired differences from the rows that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.compare import Comparison, compare
from benchmark.records import Scores
from benchmark.statistics.ranks import holm
from benchmark.suites import HEADLINE_TEMPERATURE, Suite
from leaderboard import escape
from leaderboard.board import Board, boards
from leaderboard.names import metric_title
from leaderboard.row import Row
from leaderboard.tables import Cell, Table, interval_cell, number
from leaderboard.text_tables import markdown_table


def comment(name: str, suite: str, scores: Sequence[Scores], suites: Mapping[str, Suite] | None = None) -> str:
    """Write a comment in Markdown; every string that a submitter wrote is made inert.

    Parameters
    ----------
    name, suite
        Of the row that is new, ``suite`` as ``name@vN``.
    scores
        All rows of the board, the new one among them.
    suites
        See `leaderboard.board.boards`.

    Raises
    ------
    UserError
        If the rows cannot be compared.
    """
    board = next(board for board in boards(scores, suites) if board.suite.id == suite)
    row = next(row for row in board.rows if row.name == name)
    parts = [f"### {escape.markdown(row.name)} on {escape.markdown(board.suite.title)} ({board.suite.id})"]
    parts += [markdown_table(_row_table(board, row)), _standing(board, row)]
    if differences := _differences(board, row):
        axes = f"{metric_title(board.suite.plane.x.metric)} and {metric_title(board.suite.plane.y.metric)}"
        parts += [
            f"This row minus each ranked one at temperature {HEADLINE_TEMPERATURE:g}, paired over prompts: {axes}, "
            "Holm over the table.",
            markdown_table(differences),
        ]
    return "\n\n".join(parts) + "\n"


def _row_table(board: Board, row: Row) -> Table:
    plane = board.suite.plane
    rank = board.ranks.get(row.name)
    lines = [
        (Cell("rank", number=False), Cell(f"{rank} of {len(board.ranked(row.protocol))}" if rank else "–")),
        (Cell("score", number=False), interval_cell(row.score)),
        (
            Cell(f"{metric_title(plane.x.metric)}, {plane.role}", number=False),
            interval_cell(row.headline(plane.x.metric, plane.role)),
        ),
        (
            Cell(f"{metric_title(plane.y.metric)}, {plane.role}", number=False),
            interval_cell(row.headline(plane.y.metric, plane.role)),
        ),
    ]
    return Table("row", "", ("", "value and 95 % interval"), tuple(lines))


def _standing(board: Board, row: Row) -> str:
    if row.kind != "model":
        return f"A {row.kind}: drawn apart and never ranked."
    if row.unranked:
        return "Shown but not ranked: " + "; ".join(map(escape.markdown, row.unranked)) + "."
    told = {
        "front": "On the Pareto front: no ranked row is higher on both axes.",
        "dominated": "Shown to be behind another row on both axes.",
        "undecided": "Not on the Pareto front, and not shown to be behind.",
    }
    return told[board.standing[row.name]] if row.name in board.standing else "The only row of its kind."


def _differences(board: Board, row: Row) -> Table | None:
    """Paired differences on both axes from every other ranked row."""
    plane = board.suite.plane
    task = next(task.task for task in board.suite.tasks if task.role == plane.role)
    found: list[tuple[Row, Comparison]] = []
    for other in board.rows:
        if other.competes and other.name != row.name:
            compared = compare(
                other.scores, row.scores, metrics=[plane.x.metric, plane.y.metric], temperatures=[HEADLINE_TEMPERATURE]
            )
            found += [(other, one) for one in compared if one.task == task and one.p_value is not None]
    if not found:
        return None
    adjusted = holm([one.p_value for _, one in found if one.p_value is not None])
    lines = []
    for (other, one), p in zip(found, adjusted, strict=True):
        ends = "" if one.interval is None else f"[{number(one.interval.low)}, {number(one.interval.high)}]"
        told = "" if p > 0.05 else "higher" if one.difference > 0 else "lower"
        lines.append(
            (
                Cell(other.name, number=False),
                Cell(metric_title(one.metric), number=False),
                Cell(number(one.difference), ends),
                Cell("< 0.0001" if p < 0.0001 else f"{p:.4f}"),
                Cell(told, number=False),
            )
        )
    return Table("differences", "", ("beside", "metric", "difference", "p (Holm)", "told apart"), tuple(lines))
