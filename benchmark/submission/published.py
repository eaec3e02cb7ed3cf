"""All submissions as rows of a board: scores computed here and kept beside it, and the tier each row has reached."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

from pydantic import Field, ValidationError

from benchmark.errors import UserError
from benchmark.records import Flag, Record, Scores
from benchmark.runs import first_problem, write_atomically
from benchmark.submission.anomalies import copies
from benchmark.submission.events import added
from benchmark.submission.history import Note, read_notes
from benchmark.submission.reading import MAX_JSON, read_bytes, unpacked
from benchmark.submission.record import FILE, Submission
from benchmark.submission.unpack import read_submission
from benchmark.submission.validate import Tier, find, validate

RANKED_FROM: Tier = "re-judged"
_TIERS: tuple[Tier, ...] = get_args(Tier)


class Derived(Record):
    """What was computed of a submission, kept so that boards are built without an encoder; never edited by hand."""

    submission_sha256: str
    """Of ``submission.json``, which holds the hashes of all else."""
    tier: Tier
    scores: Scores
    flags: Annotated[tuple[Flag, ...], Field(strict=False)] = ()
    fingerprint: dict[str, str] = Field(default={})


class Published(NamedTuple):
    """One submission on its way to the board."""

    folder: str
    """Below ``submissions/``."""
    submission: Submission
    tier: Tier
    """With what maintainers noted."""
    scores: Scores
    """As the board shows them: named like the model, flagged where the row may not be ranked."""
    fingerprint: Mapping[str, str]


def derived_path(kept: Path, folder: str) -> Path:
    """Where the scores of a submission are kept."""
    return kept / f"{folder}.json.gz"


def published(
    root: Path, kept: Path, progress: Callable[[int, int], None] = lambda *_: None, *, write: bool = True
) -> list[Published]:
    """Read every submission, computing anew what is new or has changed.

    Parameters
    ----------
    root
        The folder ``submissions``.
    kept
        The folder of kept scores.
    progress
        Called with (submissions done, submissions in all).
    write
        Keep what was computed; False only reads, and refuses where something would have to be computed.

    Returns
    -------
    list of Published
        In order of their folders.

    Raises
    ------
    UserError
        For a submission that is not what it says, or with ``write=False`` one without kept scores.
    """
    notes = read_notes(root)
    # Whoever was there first is not flagged for a copy.
    order = {name: place for place, name in enumerate(added(root))}
    found = sorted(find(root), key=lambda pair: order.get(pair[0].relative_to(root.resolve()).as_posix(), len(order)))
    rows: list[Published] = []
    for number, (folder, _) in enumerate(found, start=1):
        rows.append(_one(folder, root, kept, notes, rows, write=write))
        progress(number, len(found))
    names = Counter((row.submission.model, row.submission.manifest.identity.suite) for row in rows)
    rows.sort(key=lambda row: row.folder)
    return [_shown(row, names[row.submission.model, row.submission.manifest.identity.suite] > 1) for row in rows]


def _one(
    folder: Path, root: Path, kept: Path, notes: Sequence[Note], before: Sequence[Published], *, write: bool
) -> Published:
    name = folder.relative_to(root.resolve()).as_posix()
    sha256 = hashlib.sha256(read_bytes(folder, FILE, MAX_JSON)).hexdigest()
    path = derived_path(kept, name)
    if path.exists():
        derived = _read(path)
    if not path.exists() or derived.submission_sha256 != sha256:
        if not write:
            raise UserError("has no scores of this submission; run `gendiv leaderboard` and commit them", where=path)
        checked = validate(folder, root.resolve())
        derived = Derived(
            submission_sha256=sha256,
            tier=checked.tier,
            scores=checked.scores,
            flags=checked.flags,
            fingerprint=checked.fingerprint,
        )
        write_atomically(path, gzip.compress(derived.model_dump_json().encode() + b"\n", compresslevel=9, mtime=0))
        submission = checked.submission
    else:
        submission = read_submission(folder, root.resolve())
    noted = [note for note in notes if note.submission == name]
    tier: Tier = max([derived.tier, *(n.decision for n in noted if n.decision in _TIERS)], key=_TIERS.index)
    accepted = {note.flag for note in noted if note.decision == "flag accepted"}
    copied = copies(derived.fingerprint, {f"{row.folder}": row.fingerprint for row in before})
    flags = [*derived.scores.flags, *derived.flags, *([copied] if copied else [])]
    kept_flags = tuple(flag for flag in flags if flag.code not in accepted)
    scores = derived.scores.model_copy(update={"flags": kept_flags})
    return Published(name, submission, tier, scores, derived.fingerprint)


def _read(path: Path) -> Derived:
    data = b"".join(unpacked(path.read_bytes(), path))
    try:
        return Derived.model_validate_json(data)
    except ValidationError as error:
        raise UserError(f"not kept scores: {first_problem(error)}; remove the file", where=path) from None


def _shown(row: Published, several: bool) -> Published:
    """Name a row like its model, with the revision where there are several, and say why its tier is not ranked."""
    scores = row.scores
    name = f"{row.submission.model} {row.submission.revision}" if several else row.submission.model
    flags = list(scores.flags)
    if scores.kind == "model" and _TIERS.index(row.tier) < _TIERS.index(RANKED_FROM):
        flags.append(Flag(code="tier", text=f"{row.tier}; ranked from {RANKED_FROM} up"))
    shown = {"name": name, "card": row.submission.manifest.card, "flags": tuple(flags)}
    notes = {**scores.notes, "tier": row.tier, "submission": row.folder}
    return row._replace(scores=scores.model_copy(update={**shown, "notes": notes}))
