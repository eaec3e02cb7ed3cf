"""``submissions/EVENTS.jsonl``: every row that was added, changed or removed, in order; only ever appended to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from benchmark.errors import UserError
from benchmark.records import Name, Record
from benchmark.runs import appending, drop_cut_off_line
from benchmark.submission.reading import lines, parse, read_bytes

if TYPE_CHECKING:
    from benchmark.submission.published import Published

FILE = "EVENTS.jsonl"
MAX_EVENTS = 32 * 2**20
"""Bytes of the log: some hundred thousand lines."""


class Event(Record):
    """What became of one row. Times are those of the commits that hold the lines."""

    submission: Name
    """Its folder below ``submissions/``."""
    event: Literal["added", "changed", "removed"]
    tier: str | None
    flags: Annotated[tuple[str, ...], Field(strict=False)]
    """Codes of its flags, sorted."""


def read_events(root: Path) -> list[Event]:
    """Read the log; none where there is none yet.

    Raises
    ------
    UserError
        For a link, too many bytes, and names the first line that is no event, or is cut off.
    """
    path = root.resolve() / FILE
    if not os.path.lexists(path):
        return []
    data = read_bytes(path.parent, FILE, MAX_EVENTS)
    if data and not data.endswith(b"\n"):
        raise UserError("the last line is cut off; restore it from git", where=path)
    return [parse(line, Event, f"{path}:{number}") for number, line in enumerate(lines([data], path), start=1)]


def added(root: Path) -> list[str]:
    """Folders of submissions in the order in which they came."""
    return list(dict.fromkeys(event.submission for event in read_events(root) if event.event == "added"))


def log_events(root: Path, rows: Sequence[Published]) -> list[Event]:
    """Append what has changed since the last line of each row, and return it; nothing where nothing has."""
    last = {event.submission: event for event in read_events(root)}
    now = {
        row.folder: Event(
            submission=row.folder,
            event="changed" if row.folder in last and last[row.folder].event != "removed" else "added",
            tier=row.tier,
            flags=tuple(sorted({flag.code for flag in row.scores.flags})),
        )
        for row in rows
    }
    news = [
        event
        for folder, event in sorted(now.items())
        if event.event == "added" or (event.tier, event.flags) != (last[folder].tier, last[folder].flags)
    ]
    news += [
        Event(submission=folder, event="removed", tier=None, flags=())
        for folder, event in sorted(last.items())
        if folder not in now and event.event != "removed"
    ]
    if news:
        with appending(root / FILE) as log:
            drop_cut_off_line(root / FILE)
            log.append(news)
    return news
