"""Cell by cell, what the paper is said to have found beside what is found here, and whether the two can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.records import Estimate, Role
from leaderboard.board import Board
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable, Published
from leaderboard.row import Row

Verdict = Literal["agrees", "differs", "not comparable", "not run"]
BEST_OF = "best-of-"
TEMPERATURE = 1.0
PAPER_BEST_OF_TEMPERATURE = 0.7
"""At which the paper drew the samples that best-of-N chooses from."""


@dataclass(frozen=True)
class Found:
    """A value of ours, and what it is a value of."""

    who: str
    value: float
    low: float
    high: float
    """A 95 % interval over prompts; of several seeds the lowest and the highest, which is no interval: of most metrics
    a board keeps no value a prompt, and the spread of a few seeds alone would be too sure."""
    n: int
    """Prompts."""
    seeds: int = 1
    """Training seeds that it is the mean of."""


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
        """Whether our interval, widened by what the published value's decimals leave open, holds that value."""
        if self.ours is None:
            return "not run"
        if self.published is None or self.why_not:
            return "not comparable"
        room = self.published.half_unit
        agrees = self.ours.low - room <= self.published.value <= self.ours.high + room
        return "agrees" if agrees else "differs"


@dataclass(frozen=True)
class Beside:
    """Another model that was trained in a way of the table's, or a floor: nothing of it answers a cell."""

    who: str
    suite: str
    method: str
    values: Mapping[str, Found]
    """Column's key → value, where there is one."""


def reproduce(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> list[PaperCell]:
    """Fill a table from boards.

    Parameters
    ----------
    table
        Of the paper.
    boards
        Of all submissions, or of some runs; ranked rows of the table's suite are looked at, and the best one answers.
    paper_protocol
        The paper's metrics and its temperature for best-of-N, instead of ours.

    Returns
    -------
    list of PaperCell
        Row by row, column by column.
    """
    rows = [row for board in boards if board.suite.suite == table.suite for row in board.rows if row.competes]
    cells = []
    for wanted in table.rows:
        runs = [row for row in rows if row.scores.card.base_model == wanted.model and _way(row) == wanted.method]
        for column in table.columns:
            metric, temperature = _quantity(column, wanted.method, paper_protocol=paper_protocol)
            answers = [(row, f) for row in runs if (f := _found(row, metric, column.role, temperature))]
            cells.append(
                PaperCell(
                    row=wanted,
                    column=column,
                    metric=metric,
                    temperature=temperature,
                    published=wanted.published.get(column.key),
                    ours=answers[0][1] if answers else None,
                    why_not=_why_not(answers[0][0], column, metric) if answers else "",
                )
            )
    return cells


def beside(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> list[Beside]:
    """What the table's quantities are for other models trained in its ways, and for floors.

    Returns
    -------
    list of Beside
        The table's own suite, then the pocket suite; in each the methods in the table's order, a family of training
        seeds as one, then the floors. Those without any value are left out, and rows that are not ranked.
    """
    methods = list(dict.fromkeys(row.method for row in table.rows))
    models = {row.model for row in table.rows}
    found = []
    for board in (b for suite in (table.suite, "pocket") for b in boards if b.suite.suite == suite):
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in board.rows:
            way = _way(row)
            if row.kind == "floor":
                groups.setdefault((len(methods), row.name), []).append(row)
            elif row.competes and way in methods and row.scores.card.base_model not in models:
                groups.setdefault((methods.index(way), _family(row)), []).append(row)
        for (place, name), rows in sorted(groups.items()):
            method = methods[place] if place < len(methods) else "floor"
            values = {}
            for column in table.columns:
                metric, temperature = _quantity(column, method, paper_protocol=paper_protocol)
                each = [f for row in rows if (f := _found(row, metric, column.role, temperature))]
                if each:
                    values[column.key] = _over_seeds(name, each)
            if values:
                found.append(Beside(name, board.suite.id, method, values))
    return found


def _quantity(column: PaperColumn, method: str, *, paper_protocol: bool) -> tuple[str, float]:
    """Metric and temperature of a column for a method."""
    chosen = paper_protocol and method.startswith(BEST_OF)
    metric = (column.paper_metric if paper_protocol else None) or column.metric
    return metric, PAPER_BEST_OF_TEMPERATURE if chosen else TEMPERATURE


def _way(row: Row) -> str | None:
    card = row.scores.card
    return card.decoding or card.method


def _family(row: Row) -> str:
    family = row.scores.card.family
    organisation, slash, _ = row.name.partition("/")
    return f"{organisation if slash else ''}{slash}{family}" if family else row.name


def _why_not(row: Row, column: PaperColumn, metric: str) -> str:
    tasks = [task for task in row.scores.identity.tasks if task.role == column.role]
    if any((task.data or "").startswith("stand-in") for task in tasks):
        return "stand-in prompts"
    return f"the paper has {column.paper_metric}" if column.paper_metric not in (None, metric) else ""


def _found(row: Row, metric: str, role: Role, temperature: float) -> Found | None:
    estimate: Estimate | None = row.estimates.get((metric, role, temperature))
    if estimate is None:
        return None
    return Found(row.name, estimate.value, estimate.low, estimate.high, estimate.n)


def _over_seeds(name: str, group: Sequence[Found]) -> Found:
    """Mean over seeds; a single row as it is."""
    if len(group) == 1:
        return group[0]
    values = [found.value for found in group]
    return Found(name, sum(values) / len(values), min(values), max(values), group[0].n, len(values))


def counts(cells: Sequence[PaperCell]) -> Mapping[str, int]:
    """How many cells have which verdict, and how many have a published value."""
    found = {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in ("agrees", "differs")}
    found |= {verdict: sum(cell.verdict == verdict for cell in cells) for verdict in ("not comparable", "not run")}
    return {**found, "published": sum(cell.published is not None for cell in cells), "cells": len(cells)}
