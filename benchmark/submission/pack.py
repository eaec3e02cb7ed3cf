"""A scored run → a folder under ``submissions/`` that anybody can check."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.records import ModelCard
from benchmark.runs import Run, first_problem, write_record
from benchmark.submission.derived import own_oracle, write_again
from benchmark.submission.reading import MAX_PACKED, plain
from benchmark.submission.record import FILE, VERSION, PackedFile, Submission, revision_of
from benchmark.suites import load_suite

_NAMES = "of ASCII letters, digits, dots, dashes and underscores, at most 64 and 96, each with a letter or digit first"


def pack(
    run: Run,
    model: str,
    root: Path,
    card: Mapping[str, object],
    *,
    url: str | None = None,
    derive: bool = False,
    check: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Pack a scored run.

    Parameters
    ----------
    run
        Scored, whole, of a suite that is sampled here or imported.
    model
        ``organisation/name``.
    root
        The folder ``submissions``.
    card
        Fields of the model card that are said now; the run's own hold otherwise.
    url
        Where logs that are over 10 MB when packed will be published: ``<url>/<task>.jsonl.gz`` and so on. They are
        written beside the submission, into `aside`, for the user to put there.
    derive
        Leave out logs of the suite's own oracle, which says them again from the samples: half of the bytes. A log that
        it would write otherwise, having been broken off and taken up again, is packed all the same.
    check
        Is shown the submission's folder; if it raises, nothing is left of it.

    Returns
    -------
    Path
        The submission's folder. Packing the same run again gives the same bytes.

    Raises
    ------
    UserError
        If the run is not scored, a card says something that it may not, a log is too large and has no ``url``, or a
        submission is there already: a revision never changes.
    """
    scores, manifest = run.scores(), run.manifest()
    if manifest.shard:
        raise UserError("a shard is no submission; `gendiv merge` all of them first", where=run.manifest_path)
    logs = list(scores.inputs_sha256)
    derived = _derivable(run, logs) if derive else set()
    try:
        said = ModelCard.model_validate(manifest.card.model_dump() | {k: v for k, v in card.items() if v is not None})
    except ValidationError as error:
        raise UserError(f"model card: {plain(first_problem(error))}") from None
    try:
        submission = Submission(
            version=VERSION,
            model=model,
            revision=revision_of(manifest.model),
            manifest=manifest.model_copy(update={"card": said}),
            files=tuple(_packed(run, log, scores.inputs_sha256[log], url, derived=log in derived) for log in logs),
            claims=scores.estimates,
            claimed_judge=scores.identity.judge,
        )
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("model",):
            raise UserError(f"model {plain(model, 100)!r}: write ORG/MODEL, {_NAMES}") from None
        raise UserError(f"cannot be submitted: {plain(first_problem(error))}", where=run.folder) from None
    load_suite(manifest.identity.suite)
    target = root / submission.folder
    if target.exists():
        raise UserError("is there, and a revision never changes; remove it if it was never published", where=target)
    with _whole_or_nothing(target), _whole_or_nothing(aside(root) / submission.folder):
        _write(run, submission, root)
        check(target)
    return target


def aside(root: Path) -> Path:
    """Name the folder of logs that are to be published elsewhere, each below its submission's own name."""
    return root.parent / "to-publish"


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[None]:
    """Take back a folder that is made in a ``with`` block, and those above it, if the block fails or is interrupted."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        for place in new:
            with contextlib.suppress(OSError):  # gone already, or another process has put something there
                place.rmdir()
        raise


def _write(run: Run, submission: Submission, root: Path) -> None:
    target, temporary = root / submission.folder, root / f".packing-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for file in submission.files:
            if file.derived:
                continue
            packed = _gzip(run.folder / file.path)
            place = (temporary if file.url is None else aside(root) / submission.folder) / f"{file.path}.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(packed)
        for judge in run.judges():
            if any(file.path.endswith(f".{judge}.jsonl") for file in submission.files):
                place = temporary / run.judge_path(judge).relative_to(run.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.judge_path(judge), place)
        write_record(temporary / FILE, submission)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", where=target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _packed(run: Run, log: str, sha256: str, url: str | None, *, derived: bool) -> PackedFile:
    path = run.folder / log
    size = path.stat().st_size
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError("changed while it was being packed; pack again", where=path)
    if derived:
        return PackedFile(path=log, sha256=sha256, bytes=size, derived=True)
    large = len(_gzip(path)) > MAX_PACKED
    if large and url is None:
        raise UserError(
            f"is over {MAX_PACKED // 2**20} MB when packed; give --url, where you will publish it", where=path
        )
    place = f"{url.rstrip('/')}/{log}.gz" if large and url else None
    return PackedFile(path=log, sha256=sha256, bytes=size, url=place)


def _derivable(run: Run, logs: Sequence[str]) -> set[str]:
    """Which logs the suite's own oracle writes again from the samples, to the byte."""
    oracle = own_oracle(run.manifest().identity.suite)
    if oracle is None:
        return set()
    ends = f".{oracle.judge}.jsonl"
    tasks = {log.removeprefix("verdicts/").removesuffix(ends): log for log in logs if log.endswith(ends)}
    with tempfile.TemporaryDirectory(prefix="gendiv-") as place:
        again = Run(place)
        write_again(run, tasks, again)
        return {log for log in tasks.values() if (again.folder / log).read_bytes() == (run.folder / log).read_bytes()}


def _gzip(path: Path) -> bytes:
    """Pack without a name or a time: the same log, the same bytes."""
    return gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
