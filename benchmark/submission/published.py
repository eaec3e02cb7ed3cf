"""All submissions as rows of a board: scores computed here and kept beside it, and the tier each row has reached."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

from pydantic import Field, ValidationError, model_validator

from benchmark.errors import UserError
from benchmark.records import Flag, Record, Scores, sha256_of
from benchmark.runs import first_problem, write_atomically
from benchmark.submission.earlier import REMOVE, Earlier
from benchmark.submission.events import added
from benchmark.submission.examples import Example
from benchmark.submission.history import Note, read_notes
from benchmark.submission.limits import validate_full
from benchmark.submission.reading import MAX_JSON, list_files, read_bytes, unpacked
from benchmark.submission.recomputed import first_difference
from benchmark.submission.record import FILE, Submission
from benchmark.submission.rejudge import confirmed_by
from benchmark.submission.reproduce import reproduces
from benchmark.submission.unpack import read_submission
from benchmark.submission.validate import Checked, Tier, find, validate
from benchmark.suites import load_suite

RANKED_FROM: Tier = "re-judged"
_TIERS: tuple[Tier, ...] = get_args(Tier)
ADDED = "added"
"""Note of a row: its place in the order in which rows came. Shown nowhere."""
ROUNDED = 2e-6
"""By how much the mean of kept values may miss an estimate: they are kept to 1e-6."""


class KeptScores(Scores):
    """Scores with what a board shows alone: of per-prompt values the plane's two axes on its role, of intervals one.

    All others are fifty times as many, and whoever wants them scores the submission's logs again.
    """

    @model_validator(mode="after")
    def _estimates_are_the_means(self) -> KeptScores:
        """Hold what is kept against its estimates, as `Scores` does with all there is."""
        said = {(e.task, str(e.temperature), e.metric): e for e in self.estimates if e.role != "gap"}
        for task, cells in self.per_prompt.items():
            for temperature, metrics in cells.items():
                for metric, values in metrics.items():
                    estimate = said.get((task, temperature, metric))
                    present = [value for value in values if value is not None]
                    if estimate is None or len(present) != estimate.n:
                        raise ValueError(f"{metric} of {task} is not what its estimate rests on")
                    if abs(sum(present) / len(present) - estimate.value) > ROUNDED:
                        raise ValueError(f"{metric} of {task} is not the mean of its per-prompt values")
        return self


class Derived(Record):
    """What was computed of a submission, kept so that boards are built without an encoder; never edited by hand."""

    submission_sha256: str
    """Of ``submission.json``, which holds the hashes of all else."""
    files: Annotated[tuple[str, ...], Field(strict=False)]
    """What lay in the submission's folder when it was validated."""
    submission: Submission
    """Without its claims, which were found to be right."""
    tier: Tier
    scores: KeptScores
    flags: Annotated[tuple[Flag, ...], Field(strict=False)] = ()
    fingerprint: dict[str, str] = Field(default={})
    fingerprint_sha256: str
    examples: Annotated[tuple[Example, ...], Field(strict=False)] = ()
    """What the model's page shows of its outputs."""


class Published(NamedTuple):
    """One submission on its way to the board."""

    folder: str
    """Below ``submissions/``."""
    submission: Submission
    """Without its claims."""
    tier: Tier
    """With what maintainers noted."""
    scores: KeptScores
    """As the board shows them: named like the model, flagged where the row may not be ranked."""
    examples: tuple[Example, ...] = ()
    made_of: str = ""
    """Hash of all of the above: rows with the same are the same."""


def derived_path(kept: Path, folder: str) -> Path:
    """Where the scores of a submission are kept."""
    return kept / f"{folder}.json.gz"


def published(
    root: Path,
    kept: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    write: bool = True,
    believe: bool = True,
    logs: Path | None = None,
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
        Keep what was computed, and nothing of a submission that has gone; False only reads, and refuses where
        something would have to be computed.
    believe
        Take what is kept for what the submission gives. False computes all of it anew and refuses what differs; see
        `benchmark.submission.recomputed`. What is kept is never replaced by it.
    logs
        What `gendiv fetch-logs` has fetched, for submissions that publish their logs elsewhere.

    Returns
    -------
    list of Published
        In order of their folders.

    Raises
    ------
    UserError
        For a submission that is not what it says, with ``write=False`` one without kept scores, and with
        ``believe=False`` one whose kept scores, or whose being a copy, are not what it gives.
    """
    notes = read_notes(root)
    # Whoever was there first is not flagged for a copy.
    order = {name: place for place, name in enumerate(added(root))}
    names = [folder.relative_to(root.resolve()).as_posix() for folder, _ in find(root)]
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    rows: list[Published] = []
    earlier = Earlier(kept, believe=believe)
    for number, name in enumerate(names, start=1):
        rows.append(_one(name, root.resolve(), kept, notes, earlier, write=write, believe=believe, logs=logs))
        progress(number, len(names))
    if not believe:
        earlier.check()
    if write and rows:  # an empty folder is a mistake, and no reason to forget what is kept
        earlier.save()
        _remove_stale(kept, {derived_path(kept, row.folder) for row in rows})
    alike: dict[tuple[str | None, ...], list[Published]] = defaultdict(list)
    for row in rows:
        for key in _weights(row):
            alike[key].append(row)
    rows = [_reproduced(row, alike[next(iter(_weights(row)), ())]) for row in rows]
    several = Counter((row.submission.model, row.submission.manifest.identity.suite) for row in rows)
    rows.sort(key=lambda row: row.folder)
    places = {name: place for place, name in enumerate(names)}
    return [
        _shown(row, several[row.submission.model, row.submission.manifest.identity.suite] > 1, places[row.folder])
        for row in rows
    ]


def _weights(row: Published) -> Iterator[tuple[str | None, ...]]:
    """By what a row's weights are known, the best first."""
    model = row.scores.model
    if model.weights_sha256 is not None:
        yield (model.weights_sha256,)
    if model.revision is not None:
        yield (model.id, model.revision)


def _reproduced(row: Published, rows: Sequence[Published]) -> Published:
    """Raise a row whose point another run has come to, where judges were asked again about both."""
    others = [other.scores for other in rows if other is not row and other.tier in ("re-judged", "reproduced")]
    if row.tier != "re-judged" or not reproduces(row.scores, others):
        return row
    return row._replace(tier="reproduced")


def _remove_stale(kept: Path, wanted: Set[Path]) -> None:
    """Remove scores that are kept of submissions that are no longer there."""
    for path in kept.glob("*/*/*.json.gz"):
        if path not in wanted:
            path.unlink()
            for folder in (path.parent, path.parents[1]):
                if not any(folder.iterdir()):
                    folder.rmdir()


def _one(
    name: str,
    root: Path,
    kept: Path,
    notes: Sequence[Note],
    earlier: Earlier,
    *,
    write: bool,
    believe: bool,
    logs: Path | None,
) -> Published:
    derived, sha256 = _derived(root / name, root, derived_path(kept, name), write=write, believe=believe, logs=logs)
    noted = [note for note in notes if note.submission == name]
    # Where its logs are not here, its record is believed like its scores.
    far = logs is None and any(file.url for file in derived.submission.files)
    record = confirmed_by(
        root, derived.submission, derived.submission_sha256, published=logs, believe=believe and (far or not write)
    )
    asked_again: list[Tier] = ["re-judged"] if record else []
    decided = [n.decision for n in noted if n.decision in _TIERS]
    tier: Tier = max([derived.tier, *asked_again, *decided], key=_TIERS.index)
    accepted = {note.flag for note in noted if note.decision == "flag accepted"}
    copied = earlier.copied(name, derived.fingerprint, derived.fingerprint_sha256)
    flags = [*derived.scores.flags, *derived.flags, *([copied] if copied else [])]
    kept_flags = tuple(flag for flag in flags if flag.code not in accepted)
    scores = derived.scores.model_copy(update={"flags": kept_flags})
    if record:
        said = (
            f"{len(record.drawn):,} of {record.there:,} pairs asked again: claimed less new win rate "
            f"{record.low:+.3f} to {record.high:+.3f} (95 %)"
        )
        scores = scores.model_copy(update={"notes": {**scores.notes, "re-judged": said}})
        sha256 = sha256_of([sha256, said])
    return Published(name, derived.submission, tier, scores, derived.examples, sha256)


def _derived(
    folder: Path, root: Path, path: Path, *, write: bool, believe: bool, logs: Path | None
) -> tuple[Derived, str]:
    """Read what is kept of a submission, or compute it where nothing is or the submission is another; and its hash."""
    record = read_bytes(folder, FILE, MAX_JSON)
    if path.exists():
        derived, sha256 = read_derived(path.read_bytes(), path)
        if derived.submission_sha256 == hashlib.sha256(record).hexdigest():
            # The record was strictly read when it was validated, and is the same; only files may have come or gone.
            if derived.files != tuple(list_files(folder)) or root / derived.submission.folder != folder:
                read_submission(folder, root)
            if not believe:
                _check_kept(path, kept_of(validate(folder, root, published=logs), record))
            return derived, sha256
    if not write:
        raise UserError("has no scores of this submission; run `gendiv leaderboard` and commit them", where=path)
    write_atomically(path, _computed(folder, root, logs))
    return read_derived(path.read_bytes(), path)


def _computed(folder: Path, root: Path, logs: Path | None) -> bytes:
    """Validate what nobody has validated here before, in a process of its own with `FULL` limits."""
    outcome = validate_full(folder, root, published=logs)
    if outcome.problem or outcome.kept is None:
        raise UserError(outcome.problem or f"{folder}: nothing came back of its validation")
    return outcome.kept


def _check_kept(path: Path, anew: bytes) -> None:
    """Refuse kept scores that are not what the submission gives."""
    kept, computed = (b"".join(unpacked(data, path)) for data in (path.read_bytes(), anew))
    if found := first_difference(kept, computed):
        raise UserError(f"not what the submission gives: {found}; {REMOVE}", where=path)


def kept_of(checked: Checked, record: bytes) -> bytes:
    """Write what is kept of a validated submission: `Derived` as gzipped JSON, the same for the same submission.

    Parameters
    ----------
    checked
        What `validate` found.
    record
        The bytes of its ``submission.json``.
    """
    scores = checked.scores
    plane = load_suite(scores.identity.suite).plane
    axes = (plane.x.metric, plane.y.metric)
    tasks = [task.task for task in scores.identity.tasks if task.role == plane.role and task.task in scores.per_prompt]
    fields = scores.model_dump(exclude={"per_prompt": True, "doc_ids": True, "estimates": {"__all__": {"intervals"}}})
    derived = Derived(
        submission_sha256=hashlib.sha256(record).hexdigest(),
        files=tuple(list_files(checked.folder)),
        submission=checked.submission.model_copy(update={"claims": ()}),
        tier=checked.tier,
        scores=KeptScores.model_validate(
            fields
            | {
                "estimates": [estimate | {"intervals": {}} for estimate in fields["estimates"]],
                "doc_ids": {task: scores.doc_ids[task] for task in tasks},
                "per_prompt": {
                    task: {
                        temperature: {axis: metrics[axis] for axis in axes if axis in metrics}
                        for temperature, metrics in scores.per_prompt[task].items()
                    }
                    for task in tasks
                },
            }
        ),
        flags=checked.flags,
        fingerprint=checked.fingerprint,
        fingerprint_sha256=sha256_of(checked.fingerprint),
        examples=checked.examples,
    )
    return gzip.compress(derived.model_dump_json().encode() + b"\n", compresslevel=9, mtime=0)


def read_derived(packed: bytes, where: Path) -> tuple[Derived, str]:
    """Read what is kept of a submission, and the hash of it unpacked; ``where`` is for the message."""
    data = b"".join(unpacked(packed, where))
    try:
        return Derived.model_validate_json(data), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        raise UserError(f"not kept scores: {first_problem(error)}; remove the file", where=where) from None


def _shown(row: Published, several: bool, place: int = 0) -> Published:
    """Name a row like its model, with the revision where there are several, and say why its tier is not ranked.

    Its ``place`` in the order in which rows came is noted, and is no part of what the row is made of.
    """
    scores = row.scores
    name = f"{row.submission.model} {row.submission.revision}" if several else row.submission.model
    flags = list(scores.flags)
    if scores.kind == "model" and _TIERS.index(row.tier) < _TIERS.index(RANKED_FROM):
        flags.append(Flag(code="tier", text=f"{row.tier}; ranked from {RANKED_FROM} up"))
    shown = {"name": name, "card": row.submission.manifest.card, "flags": tuple(flags)}
    notes = {**scores.notes, "tier": row.tier, "submission": row.folder, ADDED: place}
    said = [row.made_of, row.folder, row.tier, name, *([flag.code, flag.text] for flag in flags)]
    return row._replace(scores=scores.model_copy(update={**shown, "notes": notes}), made_of=sha256_of(said))
