"""Which runs the cells of the paper's tables that nothing answers would need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leaderboard.board import Board
from leaderboard.paper_protocol import BEST_OF
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable
from leaderboard.reproduction import reproduce

METHODS = ("sft", "ppo")
"""What a card's method may be, beside the best of N; other ways are answered by no row of a board."""
NLI = "nli_"
"""What metrics begin with that a classifier gives. A row is computed without one, so that none holds them."""
BY_NLI = "gendiv score --nli MODEL, on its run"


@dataclass(frozen=True)
class OpenCell:
    """A cell without a value of ours."""

    table: str
    row: PaperRow
    column: PaperColumn
    metric: str
    temperature: float

    @property
    def measured_by(self) -> str | None:
        """What would measure it where no row of a board can hold it; None = a row can, or nothing here does."""
        if self.column.measured_by is None and self.metric.startswith(NLI) and _is_declared(self.row.method):
            return BY_NLI
        return self.column.measured_by


@dataclass(frozen=True)
class NeededRun:
    """A run of a suite, and the cells it would answer."""

    model: str
    """Base model, by its name on the hub."""
    method: str
    """``sft``, ``ppo`` or ``best-of-N``."""
    suite: str
    cells: tuple[OpenCell, ...]


@dataclass(frozen=True)
class Open:
    """All cells that nothing answers."""

    runs: tuple[NeededRun, ...]
    """In the tables' order of models and methods."""
    others: tuple[OpenCell, ...]
    """Those that no row of a board can hold, whatever is run."""


def open_cells(tables: Sequence[PaperTable], boards: Sequence[Board], *, paper_protocol: bool = False) -> Open:
    """Gather the cells whose verdict is "not run", by the runs whose rows would answer them.

    Parameters
    ----------
    tables
        Of the paper.
    boards
        Of all submissions.
    paper_protocol
        See `reproduce`.
    """
    runs: dict[tuple[str, str, str], list[OpenCell]] = {}
    others: list[OpenCell] = []
    for table in tables:
        for cell in reproduce(table, boards, paper_protocol=paper_protocol):
            if cell.verdict != "not run":
                continue
            found = OpenCell(table.name, cell.row, cell.column, cell.metric, cell.temperature)
            method = cell.row.method
            if _is_declared(method) and found.measured_by is None:
                runs.setdefault((cell.row.model, table.suite, method), []).append(found)
            else:
                others.append(found)
    needed = tuple(NeededRun(model, method, suite, tuple(cells)) for (model, suite, method), cells in runs.items())
    return Open(needed, tuple(others))


def _is_declared(method: str) -> bool:
    """Whether a card can say that a run was made in this way."""
    return method in METHODS or (method.startswith(BEST_OF) and method.removeprefix(BEST_OF).isdigit())
