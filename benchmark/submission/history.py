"""What a branch does to ``submissions/`` beside another: published rows may be added, never changed or taken away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from benchmark.errors import UserError
from benchmark.records import Name, Record
from benchmark.runs import first_problem
from benchmark.submission.events import FILE as EVENTS
from benchmark.submission.events import MAX_EVENTS
from benchmark.submission.reading import plain, read_bytes
from benchmark.submission.record import FILE
from benchmark.submission.rejudge import PLACE as REJUDGED

NOTES = "NOTES.yaml"
"""Maintainers' notes, below ``submissions/``: a row leaves, or is ranked in spite of a flag, by one that names it."""
SCHEMA = "schema"
"""Below ``submissions/``, and no submission."""
MAX_NOTES = 2**18
"""Bytes of all notes."""
_MAX_DEPTH = 4


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
        Names the field that is wrong; for a link, too many bytes, and YAML that is more than a list of fields.
    """
    path = root.resolve() / NOTES
    if not os.path.lexists(path):
        return ()
    data = read_bytes(path.parent, NOTES, MAX_NOTES)
    try:
        found = plain_yaml(data.decode("utf-8")) or []
        return tuple(Note.model_validate(note, strict=False) for note in found)
    except ValidationError as error:
        raise UserError(f"not a note: {plain(first_problem(error))}", where=path) from None
    except (ValueError, yaml.YAMLError, TypeError) as error:
        raise UserError(f"not a list of notes: {plain(str(error))}", where=path) from None


def plain_yaml(text: str) -> Any:
    """Read YAML without what makes much of little: depth, anchors that are used again, and types that are named."""
    depth = 0
    # The parser keeps a stack of its own; only what composes values from its events calls itself.
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise ValueError("it is too deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError("anchors, aliases and tags are not read")
    return yaml.safe_load(text)


def check_history(root: Path, base: str, *, maintainer: bool = False) -> list[str]:
    """Compare with another state of the repository; returns the folders of submissions that are new.

    A branch of anybody's adds files within new submissions and does nothing else below ``submissions/``: what is
    noted, logged and judged again there, and what leaves, is the maintainers'. No note of the branch itself is read.

    Parameters
    ----------
    root
        The folder ``submissions`` of a checkout.
    base
        A commit or branch. What counts is the commit where the two histories parted: what others added since is not
        this branch's doing.
    maintainer
        Whether the branch is a maintainer's, by the word of whoever asks: then a published row may leave by a note
        that names it, and notes, records and the log of events may change, of which the last is only appended to.

    Raises
    ------
    UserError
        For a file of a published submission that was changed or removed, and for any other file that this branch may
        not touch; and for a maintainer's branch that brings new submissions and records of re-judging at once.
    """
    parted = _git(root, "merge-base", base, "HEAD").decode().strip()
    told = _git(root, "diff", "--name-status", "--no-renames", "-z", parted, "HEAD", "--", ".")
    lines = told.decode("utf-8", "backslashreplace").split("\0")
    removed = {note.submission for note in read_notes(root) if note.decision == "removed"} if maintainer else set()
    prefix = _git(root, "rev-parse", "--show-prefix").decode("utf-8", "backslashreplace").strip()
    added: set[str] = set()
    records = []
    for status, name in zip(lines[0::2], lines[1::2], strict=False):
        below = name.removeprefix(prefix)
        parts = PurePosixPath(below).parts
        if len(parts) < 4 or parts[0] in (REJUDGED, SCHEMA):
            _check_beside(root, below, status, parted, maintainer=maintainer)
            records += [below] * (parts[0] == REJUDGED)
            continue
        folder = "/".join(parts[:3])
        if status == "A":
            if _git(root, "ls-tree", "--name-only", parted, "--", f"{folder}/{FILE}").strip():
                raise UserError(
                    "is new in a submission that is published; a revision never changes", where=root / below
                )
            added.add(folder)
        elif not (status == "D" and folder in removed):
            what = "was removed" if status == "D" else "was changed"
            raise UserError(
                f"{what}, and a published revision never is; submit another revision, or ask a maintainer, who names "
                f"{plain(folder)} in {NOTES} in a branch of their own",
                where=f"{root}/{plain(below)}",
            )
    if added and records:
        raise UserError(
            "comes with new submissions, and records are maintainers' own; take it out of this branch",
            where=f"{root}/{plain(records[0])}",
        )
    for folder in sorted(added):
        if not (root / folder).is_dir():
            raise UserError("is in the commit and not in the checkout, or is named strangely", where=plain(folder))
    return sorted(added)


def _check_beside(root: Path, below: str, status: str, parted: str, *, maintainer: bool) -> None:
    """Refuse a change to what is beside the submissions, but for a maintainer's."""
    where = f"{root}/{plain(below)}"
    if not maintainer:
        raise UserError(
            "is none of a new submission's files, and only maintainers change others; take it out of this branch",
            where=where,
        )
    if below == EVENTS and status != "A":
        before = _git(root, "show", f"{parted}:./{EVENTS}")
        after = read_bytes(root.resolve(), EVENTS, MAX_EVENTS) if os.path.lexists(root / EVENTS) else b""
        if not after.startswith(before):
            raise UserError("is only ever appended to; restore it from git", where=where)


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if done.returncode:
        said = plain(done.stderr.decode("utf-8", "replace"))
        raise UserError(f"git {arguments[0]}: {said}", where=root)
    return done.stdout
