"""The tables of the page: all rows of a board, to be sorted and filtered, each with the address of its own page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from leaderboard.board import Board
from leaderboard.escape import plain
from leaderboard.interactive import FILTERS, labels
from leaderboard.row import Row
from leaderboard.tables import MISSING, Table, columns

TABLES = {"swept": 0, "single": 10**5}
"""Sorts the ranks of one table behind those of the other."""
LAST = 10**6
"""Sorts rows without a rank behind those with one."""


class Heading(NamedTuple):
    """A column of the page's table."""

    title: str
    number: bool
    key: str = ""
    """What the figure's filters call it."""


class PageCell(NamedTuple):
    """One cell as the page shows it."""

    text: str
    interval: str = ""
    number: bool = False
    order: str | None = None
    """What it is sorted by, where that is not its text."""
    href: str = ""


@dataclass(frozen=True)
class PageRow:
    """One row; ``number`` is the one that the figure knows it by, None where it shows no row of a board."""

    number: int | None
    kind: str
    cells: list[PageCell]


@dataclass(frozen=True)
class PageTable:
    """A table of the page."""

    title: str
    columns: list[Heading]
    rows: list[PageRow]
    key: str


def whole_table(board: Board, page_of: Callable[[Row], str]) -> PageTable:
    """All rows of a board: the ranked ones of both tables, then the rest, as the board orders them.

    ``page_of`` gives the address of a row's page.
    """
    name, *numbers = columns(board)
    # A column of marks for what is missing tells nothing.
    numbers = [column for column in numbers if any(str(column.cell(row)) != MISSING for row in board.rows)]
    filters = [f for f in FILTERS if len({labels(row)[f] for row in board.rows if row.kind == "model"}) > 1]
    unranked = board.unranked
    several = bool(board.ranked("swept")) and bool(board.ranked("single"))
    headings = [Heading("rank", True), Heading("model", False, "model")]
    headings += [Heading("table", False)] if several else []
    headings += [Heading(f, False, f.replace(" ", "_")) for f in filters]
    headings += [Heading(column.title, True) for column in numbers]
    headings += [Heading("not ranked because", False)] if unranked else []
    rows = []
    order = [*board.ranked("swept"), *board.ranked("single"), *unranked, *board.controls]
    places = {row.name: place for place, row in enumerate(board.rows)}
    for row in order:
        rank = board.ranks.get(row.name)
        cells = [
            PageCell(str(rank) if rank else MISSING, "", True, str(rank.rank + TABLES[row.protocol] if rank else LAST))
        ]
        cells.append(PageCell(plain(str(name.cell(row))), href=page_of(row)))
        cells += [PageCell(row.protocol if row.competes else "")] if several else []
        cells += [PageCell(labels(row)[f]) for f in filters]
        for column in numbers:
            cell, value = column.cell(row), column.value(row)
            cells.append(PageCell(cell.text, cell.interval, True, f"{value.value:.3f}" if value else ""))
        cells += [PageCell(plain("; ".join(row.unranked)))] if unranked else []
        kind = row.kind if row.kind != "model" else "ranked" if row.competes else "unranked"
        rows.append(PageRow(places[row.name], kind, cells))
    return PageTable("All rows", headings, rows, "whole")


def plain_table(table: Table) -> PageTable:
    """Show any other table as it is."""
    headings = [Heading(title, cell.number) for title, cell in zip(table.headers, table.rows[0], strict=True)]
    rows = [
        PageRow(None, "", [PageCell(plain(cell.text), cell.interval, cell.number) for cell in row])
        for row in table.rows
    ]
    return PageTable(table.title, headings, rows, table.key)
