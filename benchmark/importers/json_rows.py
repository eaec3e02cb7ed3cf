"""Reading JSON files that others made: a list of objects, plain or gzipped, and never more than fits."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import JsonValue

from benchmark.errors import UserError

MAX_BYTES = 256 * 2**20
"""Longest file that is read, unpacked: a gzip of a few kilobytes can hold gigabytes."""


@dataclass(frozen=True)
class JsonRows:
    """The rows of one file, and what identifies it on any machine."""

    path: Path
    name: str
    sha256: str
    rows: list[dict[str, Any]]

    @property
    def origin(self) -> dict[str, JsonValue]:
        """Name and hash, for a run's record."""
        return {"file": self.name, "sha256": self.sha256}

    def fail(self, number: int, problem: str) -> NoReturn:
        """Refuse one row of the file."""
        raise UserError(f"row {number}: {problem}", where=self.path)

    def text(self, number: int, field: str) -> str:
        """Return a text field of one row; anything else there is the user's mistake."""
        value = self.rows[number].get(field)
        if not isinstance(value, str):
            found = type(value).__name__ if field in self.rows[number] else "nothing"
            self.fail(number, f"{field} must be text, found {found}; take the file from AlpacaEval again")
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(number, f"{field} holds half of a surrogate pair, which is no text; mend it in the file")
        return value

    def texts(self, field: str) -> list[str]:
        """Return a text field of every row."""
        return [self.text(number, field) for number in range(len(self.rows))]


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, by name; one that cannot be read is a `UserError`."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=folder) from None


def find(folder: Path, name: str) -> Path | None:
    """Find the file ``name`` or ``name.gz`` of a folder."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(found) == 2:
        raise UserError(f"{name} stands here both plain and gzipped; remove one of them", where=folder)
    return found[0] if found else None


def read_rows(path: Path, name: str) -> JsonRows:
    """Read a JSON list of objects. ``name`` and hash are those of the unpacked file, so gzip makes no difference."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"not a whole gzip file: {error}; fetch it again", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    if len(data) > MAX_BYTES:
        raise UserError(
            f"it unpacks to more than {MAX_BYTES} bytes, far above any AlpacaEval file; fetch it again", where=path
        )
    if not data.strip():
        raise UserError("the file is empty; fetch it again", where=path)
    try:
        rows = json.loads(data.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise UserError("not valid JSON: nested too deeply; fetch it again", where=path) from None
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}; fetch it again", where=path) from None
    if not isinstance(rows, list) or not rows:
        raise UserError("must be a list of objects, at least one; fetch it again", where=path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"row {number}: must be an object, found {type(row).__name__}; fetch it again", where=path)
    return JsonRows(path, name, hashlib.sha256(data).hexdigest(), rows)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
