"""What a branch does to ``submissions/`` beside another: published rows may be added, never changed or taken away."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from benchmark.errors import UserError
from benchmark.records import Name, Record
from benchmark.runs import first_problem
from benchmark.submission.events import FILE as EVENTS
from benchmark.submission.record import FILE
from benchmark.submission.rejudge import PLACE as REJUDGED

NOTES = "NOTES.yaml"
"""Maintainers' notes, below ``submissions/``: a row leaves, or is ranked in spite of a flag, by one that names it."""


class Note(Record):
    """A maintainer's decision on one row."""

    submission: Name
    """Its folder below ``submissions/``."""
    decision: Annotated[str, Field(pattern=r"^(removed|flag accepted|re-judged|reproduced)$")]
    flag: Name | None = None
    """Which flag is accepted."""
    reason: Annotated[str, Field(min_length=10, max_length=500)]
    by: Name


def read_notes(root: Path) -> tuple[Note, ...]:
    """Read the maintainers' notes; none where there is no such file.

    Raises
    ------
    UserError
        Names the field that is wrong.
    """
    path = root / NOTES
    if not path.exists():
        return ()
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        return tuple(Note.model_validate(note, strict=False) for note in found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise UserError(f"not a list of notes: {' '.join(str(error).split())}", where=path) from None
    except ValidationError as error:
        raise UserError(f"not a note: {first_problem(error)}", where=path) from None


def check_history(root: Path, base: str) -> list[str]:
    """Compare with another state of the repository; returns the folders of submissions that are new.

    Parameters
    ----------
    root
        The folder ``submissions`` of a checkout.
    base
        A commit or branch. What counts is the commit where the two histories parted: what others added since is not
        this branch's doing.

    Raises
    ------
    UserError
        For a file of a published submission that was changed, or removed without a maintainer's note that names it;
        for a log of events that was not only appended to; and for new submissions that come with a record of
        re-judging, which only maintainers write.
    """
    parted = _git(root, "merge-base", base, "HEAD").strip()
    lines = _git(root, "diff", "--name-status", "--no-renames", "-z", parted, "HEAD", "--", ".").split("\0")
    removed = {note.submission for note in read_notes(root) if note.decision == "removed"}
    prefix = _git(root, "rev-parse", "--show-prefix").strip()
    added: set[str] = set()
    records = []
    for status, name in zip(lines[0::2], lines[1::2], strict=False):
        parts = PurePosixPath(name.removeprefix(prefix)).parts
        if parts == (EVENTS,) and status != "A":
            before = _git(root, "show", f"{parted}:{name}")
            if not (root / EVENTS).exists() or not (root / EVENTS).read_text(encoding="utf-8").startswith(before):
                raise UserError("is only ever appended to; restore it from git", where=root / EVENTS)
        if parts[0] == REJUDGED:
            records.append(parts)
            continue
        if len(parts) < 4:
            continue  # no file of a submission
        folder = "/".join(parts[:3])
        if status == "A":
            if _git(root, "ls-tree", "--name-only", parted, "--", f"{folder}/{FILE}").strip():
                raise UserError("is new in a submission that is published; a revision never changes", where=root / name)
            added.add(folder)
        elif status == "D" and folder in removed:
            continue
        else:
            what = "was removed" if status == "D" else "was changed"
            raise UserError(
                f"{what}, and a published revision never is; submit another revision, or have a maintainer name "
                f"{folder} in {NOTES}",
                where=root / name.removeprefix(prefix),
            )
    if added and records:
        raise UserError(
            "comes with new submissions, and records are maintainers' own; take it out of this branch",
            where=root.joinpath(*records[0]),
        )
    return sorted(added)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {' '.join(done.stderr.split())[:300]}", where=root)
    return done.stdout
