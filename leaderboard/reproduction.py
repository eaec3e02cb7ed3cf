"""Cell by cell, what the paper is said to have found beside what is found here, and whether the two can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.records import Estimate
from leaderboard.board import Board
from leaderboard.families import families
from leaderboard.paper_protocol import PAPER_ENCODER, judged_as_in_the_paper, metric_of, temperature_of
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable, Published
from leaderboard.reproduction_seeds import Found, over_seeds
from leaderboard.row import Row

Verdict = Literal["agrees", "differs", "not comparable", "not run"]
FLOOR = "floor"
SHORTCOMINGS = frozenset(("length", "above_references", "invalid_text", "cut_off", "empty"))
"""Flags that say what a weak model's outputs are like, and are no sign of a trick: such rows stand beside, marked."""


@dataclass(frozen=True)
class PaperCell:
    """One cell of a table."""

    row: PaperRow
    column: PaperColumn
    metric: str
    temperature: float
    published: Published | None
    ours: Found | None
    """Of the very model, by a submission that is ranked."""
    why_not: str = ""
    """Why ``ours`` cannot be held against the published value: other prompts, another measure; empty where it can."""

    @property
    def verdict(self) -> Verdict:
        """Whether our interval, widened by what the published value's decimals leave open, holds that value.

        A value that was read off a figure, or is about so much, is too uncertain to differ from.
        """
        if self.ours is None:
            return "not run"
        if self.published is None or self.why_not:
            return "not comparable"
        room = self.published.half_unit
        if self.ours.low - room <= self.published.value <= self.ours.high + room:
            return "agrees"
        return "not comparable" if self.published.is_rough else "differs"


@dataclass(frozen=True)
class Beside:
    """Another model that was trained in a way of the table's, or a floor: nothing of it answers a cell."""

    who: str
    suite: str
    method: str
    values: Mapping[str, Found]
    """Column's key → value, where there is one."""

    @property
    def seeds(self) -> int:
        """Training seeds that the values are over."""
        return max(found.seeds for found in self.values.values())


def reproduce(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> list[PaperCell]:
    """Fill a table from boards.

    Parameters
    ----------
    table
        Of the paper.
    boards
        Of all submissions, or of some runs; ranked rows of the table's suite are looked at, and the best one answers.
    paper_protocol
        The paper's choices instead of ours, see `leaderboard.paper_protocol`.

    Returns
    -------
    list of PaperCell
        Row by row, column by column.
    """
    rows = [row for board in boards if board.suite.suite == table.suite for row in board.rows if row.competes]
    cells = []
    for wanted in table.rows:
        runs = [row for row in rows if row.scores.card.base_model == wanted.model and way(row) == wanted.method]
        for column in table.columns:
            metric = metric_of(column, paper_protocol=paper_protocol)
            temperature = temperature_of(wanted.method, paper_protocol=paper_protocol)
            asked = [row for row in runs if not paper_protocol or judged_as_in_the_paper(row, metric)]
            answers = [(row, e) for row in asked if (e := row.estimates.get((metric, column.role, temperature)))]
            cells.append(
                PaperCell(
                    row=wanted,
                    column=column,
                    metric=metric,
                    temperature=temperature,
                    published=wanted.published.get(column.key),
                    ours=_of_one(*answers[0]) if answers else None,
                    why_not=_why_not(answers[0][0], column, metric) if answers else "",
                )
            )
    return cells


def beside(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> list[Beside]:
    """What the table's quantities are for other models trained in its ways, and for floors.

    A suite without a column's metric shows the other protocol's instead: one without length control, the plain rate.

    Returns
    -------
    list of Beside
        Suite by suite as `PaperTable.worlds` has them; in each the methods in the table's order, a family of training
        seeds as one, then the floors. Those without any value are left out. Rows that are not ranked are left out too,
        but for those that are flagged for `SHORTCOMINGS` alone, whose flags stand behind the name.
    """
    methods = list(dict.fromkeys(row.method for row in table.rows))
    models = {row.model for row in table.rows}
    found = []
    for board in worlds(table, boards):
        quantities = _quantities(table, board, paper_protocol=paper_protocol)
        groups: dict[tuple[int, str, str], tuple[str, str, Sequence[Row]]] = {}
        for name, rows in _groups(board):
            method, first = way(rows[0]), rows[0]
            if first.kind == FLOOR:
                groups[len(methods), name, ""] = (name, FLOOR, rows)
            elif method in methods and first.scores.card.base_model not in models:
                groups[methods.index(method), name, first.protocol] = (name, method, rows)
        for _, (name, method, rows) in sorted(groups.items(), key=lambda item: item[0]):
            temperature = temperature_of(method, paper_protocol=paper_protocol)
            values = {
                column.key: value
                for column, metric in quantities
                if (value := over_seeds(name, rows, (metric, column.role, temperature)))
            }
            if values:
                found.append(Beside(name, board.suite.id, method, values))
    return found


def worlds(table: PaperTable, boards: Sequence[Board]) -> list[Board]:
    """Boards of the suites beside a table, in its order."""
    return [board for suite in table.worlds for board in boards if board.suite.suite == suite]


def way(row: Row) -> str | None:
    """How a model was made, as the tables call it: its decoding above plain sampling, or its training."""
    card = row.scores.card
    return card.decoding or card.method


def counts(cells: Sequence[PaperCell]) -> Mapping[str, int]:
    """How many cells have which verdict, and how many have a published value."""
    found = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in ("agrees", "differs")}
    found |= {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in ("not comparable", "not run")}
    return {**found, "published": sum(cell.published is not None for cell in cells), "cells": len(cells)}


def _groups(board: Board) -> list[tuple[str, Sequence[Row]]]:
    """Families of training seeds, then the other competing rows and the floors, each alone."""
    found = families(board)
    members = {(row.scores.card.family, row.protocol, _organisation(row)) for family in found for row in family.rows}
    alone = [
        row
        for row in board.rows
        if row.kind == FLOOR
        or (row.competes and (row.scores.card.family, row.protocol, _organisation(row)) not in members)
    ]
    ranked = [*((family.name, family.rows) for family in found), *((row.name, (row,)) for row in alone)]
    return [*ranked, *_falling_short(board)]


def _falling_short(board: Board) -> list[tuple[str, Sequence[Row]]]:
    """Models that are not ranked for what their outputs are like, seeds of a family together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in board.rows:
        codes = {flag.code for flag in row.scores.flags}
        if row.kind == "model" and not row.competes and codes and codes <= SHORTCOMINGS:
            family, organisation = row.scores.card.family, _organisation(row)
            name = f"{organisation}/{family}" if family and organisation else family or row.name
            groups.setdefault((name, row.protocol), []).append(row)
    found: list[tuple[str, Sequence[Row]]] = []
    for (name, _), rows in groups.items():
        said = sorted({flag.code.replace("_", " ") for row in rows for flag in row.scores.flags})
        found.append((f"{name} (not ranked: {', '.join(said)})", rows))
    return found


def _organisation(row: Row) -> str:
    organisation, slash, _ = row.name.partition("/")
    return organisation if slash else ""


def _quantities(table: PaperTable, board: Board, *, paper_protocol: bool) -> list[tuple[PaperColumn, str]]:
    """Columns with the metric that a board has of them, the protocol's own first."""
    there = {(metric, role) for row in board.rows for metric, role, _ in row.estimates}
    found = []
    for column in table.columns:
        own, other = (metric_of(column, paper_protocol=asked) for asked in (paper_protocol, not paper_protocol))
        found.append((column, own if (own, column.role) in there else other))
    return found


def _why_not(row: Row, column: PaperColumn, metric: str) -> str:
    tasks = [task for task in row.scores.identity.tasks if task.role == column.role]
    if any((task.data or "").startswith("stand-in") for task in tasks):
        return "stand-in prompts"
    if column.paper_metric not in (None, metric):
        return f"the paper has {column.paper_metric}"
    if metric.startswith("sbert") and row.scores.identity.encoder != PAPER_ENCODER:
        return f"the paper's encoder is {PAPER_ENCODER}"
    if metric.startswith("nli"):
        return "whether the classifier and its pairs are the paper's is not known"
    return "" if judged_as_in_the_paper(row, metric) else "another judge than the paper's"


def _of_one(row: Row, estimate: Estimate) -> Found:
    return Found(row.name, estimate.metric, estimate.value, estimate.low, estimate.high, estimate.n)
