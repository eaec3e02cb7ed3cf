"""The golden check: a submission adds a row, and every number of every other row stays what it was."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import UserError

TABLE = "leaderboard.csv"
OF_ALL_ROWS = ("model", "tier", "table", "rank", "rank_low", "rank_high", "standing")
"""Columns that depend on the other rows: where a row stands, whether another run reproduced it, and whether its name
says the revision."""


class Moved(NamedTuple):
    """A row that is not what it was."""

    model: str
    suite: str
    columns: tuple[str, ...]
    """In which it differs, in the table's order; empty for a row that is gone."""

    def __str__(self) -> str:
        """Return such as ``org/model on pocket@v1: score, score_low``."""
        return f"{self.model} on {self.suite}: {', '.join(self.columns) or 'gone'}"


def moved(before: Path, after: Path) -> list[Moved]:
    """Compare the rows that a board had with those of a later one.

    Parameters
    ----------
    before, after
        Folders of boards.

    Returns
    -------
    list of Moved
        Rows of ``before`` whose cells differ, letter by letter, or that are gone, in their order. `OF_ALL_ROWS` are
        left out, and so are rows and columns that are new. A row is told by its submission, or by its name where it is
        none, and its suite.

    Raises
    ------
    UserError
        If a folder has no ``leaderboard.csv``, or it is no table of a board.
    """
    old, new = _rows(before / TABLE), _rows(after / TABLE)
    found = []
    for key, row in old.items():
        if key not in new:
            found.append(Moved(row["model"], row["suite"], ()))
            continue
        now = new[key]
        columns = tuple(name for name, cell in row.items() if name not in OF_ALL_ROWS and now.get(name, "") != cell)
        if columns:
            found.append(Moved(row["model"], row["suite"], columns))
    return found


def _rows(path: Path) -> dict[tuple[str, str], Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read: {error}; `gendiv leaderboard` writes it", where=path) from None
    if any(None in row or None in row.values() or not {"model", "suite"} <= row.keys() for row in rows):
        raise UserError("no table of a board; `gendiv leaderboard` writes it", where=path)
    return {(row.get("submission") or row["model"], row["suite"]): row for row in rows}
