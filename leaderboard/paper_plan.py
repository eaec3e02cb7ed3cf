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
OVER_SFT = "head_to_head"
"""What metrics begin with that compare with the SFT run instead of the references."""


@dataclass(frozen=True)
class OpenCell:
    """A cell without a value of ours."""

    table: str
    row: PaperRow
    column: PaperColumn
    metric: str
    temperature: float


@dataclass(frozen=True)
class NeededRun:
    """A run of a suite, and the cells it would answer."""

    model: str
    """Base model, by its name on the hub."""
    method: str
    """``sft``, ``ppo`` or ``best-of-N``."""
    suite: str
    cells: tuple[OpenCell, ...]

    @property
    def n(self) -> int:
        """Outputs of which the best is kept; 1 where none is chosen."""
        return int(self.method.removeprefix(BEST_OF)) if self.method.startswith(BEST_OF) else 1

    @property
    def is_judged(self) -> bool:
        """Whether a cell holds a win rate against the references."""
        return any(cell.metric.startswith("win_rate") for cell in self.cells)

    @property
    def is_judged_over_sft(self) -> bool:
        """Whether a cell holds a win rate over the SFT run."""
        return any(cell.metric.startswith(OVER_SFT) for cell in self.cells)

    @property
    def has_nli(self) -> bool:
        """Whether a cell holds NLI diversity."""
        return any(cell.metric.startswith("nli") for cell in self.cells)


@dataclass(frozen=True)
class Open:
    """All cells that nothing answers."""

    runs: tuple[NeededRun, ...]
    """In the tables' order of models and methods."""
    others: tuple[OpenCell, ...]
    """Those that no run of a suite answers; their columns say what measures them."""


def open_cells(tables: Sequence[PaperTable], boards: Sequence[Board], *, paper_protocol: bool = False) -> Open:
    """Gather the cells whose verdict is "not run", by the runs that would answer them.

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
            known = method in METHODS or (method.startswith(BEST_OF) and method.removeprefix(BEST_OF).isdigit())
            if known and (cell.column.measured_by is None or cell.metric.startswith(OVER_SFT)):
                runs.setdefault((cell.row.model, table.suite, method), []).append(found)
            else:
                others.append(found)
    needed = tuple(NeededRun(model, method, suite, tuple(cells)) for (model, suite, method), cells in runs.items())
    return Open(needed, tuple(others))
