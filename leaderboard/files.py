"""The folder of a board: what a build writes there, what of it is out of date, and what is not of its making."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from benchmark.errors import UserError
from benchmark.runs import write_atomically

MOST_NAMED = 20
"""Files that one message names."""
SCORES = "scores"
"""Below a board: what is kept of every submission."""
_OWN = re.compile(
    r"(index|methods|paper)\.html|citation\.bib|(leaderboard|curve|paper)\.(csv|json|md|tex)|plane(-[a-z0-9-]+)?\.(svg|png|pdf)"
    r"|models/[^/]+\.html|assets/[^/]+\.(js|css)"
)
"""Files that a build writes, and may therefore remove; what is kept below `SCORES` is not of its making."""


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write what is not there or differs; the rest keeps its time."""
    for name, data in files.items():
        path = out / name
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            write_atomically(path, data)


def remove_stale(out: Path, files: Collection[str]) -> list[str]:
    """Remove what an earlier build wrote and this one does not; anything else is left alone.

    Parameters
    ----------
    out
        The board's folder.
    files
        Names of all that a build writes there.

    Returns
    -------
    list of str
        Names of what was removed.
    """
    removed = [name for name in _there(out) if name not in files and _OWN.fullmatch(name)]
    for name in removed:
        (out / name).unlink()
    return removed


def check_files(out: Path, files: Mapping[str, bytes], kept: Collection[str]) -> None:
    """Refuse a board's folder that is not what a build would leave, byte for byte.

    Parameters
    ----------
    out
        The board's folder.
    files
        What a build writes there, by name.
    kept
        Names of the submissions' kept scores, which are read before and so need only be there.

    Raises
    ------
    UserError
        Names every file that is missing, differs, is out of date or is none of the board's.
    """
    there = set(_there(out))
    wrong = sorted(there ^ (files.keys() | set(kept)))
    wrong += [name for name in sorted(there & files.keys()) if (out / name).read_bytes() != files[name]]
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        named = f"{', '.join(wrong[:MOST_NAMED])}{more}"
        raise UserError(f"{named}: not what the submissions give; run `gendiv leaderboard`", where=out)


def _there(out: Path) -> list[str]:
    """Names of all files below a folder, sorted."""
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) if out.is_dir() else []
