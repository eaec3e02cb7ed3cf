"""A submission's folder, strictly read: its record, and its logs laid out as a run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from benchmark.errors import UserError
from benchmark.judging.config import JudgeConfig, OracleConfig, find_judge
from benchmark.records import Sample, Verdict
from benchmark.runs import Run, write_atomically, write_record
from benchmark.submission.derived import own_oracle, write_again
from benchmark.submission.migrate import current
from benchmark.submission.reading import (
    MAX_FILE,
    MAX_JSON,
    MAX_MESSAGE,
    MAX_PACKED,
    MAX_PUBLISHED,
    checked,
    lines,
    list_files,
    parse,
    plain,
    read_bytes,
    strange_letter,
    strict_json,
    unpacked,
)
from benchmark.submission.record import FILE, PackedFile, Submission
from benchmark.suites import Suite, load_suite

_JUDGE = ".judge.json"
_CONFIG: TypeAdapter[JudgeConfig] = TypeAdapter(Annotated[JudgeConfig, Field(discriminator="kind")])
MAX_JUDGE = 256 * 2**10
"""Bytes of a judge's configuration."""
MAX_VERDICTS = 10
"""Lines of a log of verdicts for each sample: a failed one is asked again."""
MAX_REPLIES = 100
MAX_WORD = 200


def read_submission(folder: Path, root: Path) -> Submission:
    """Read a submission's record, and see that exactly the files it names are there.

    Parameters
    ----------
    folder
        The submission's.
    root
        The folder ``submissions`` that it lies in.

    Raises
    ------
    UserError
        Names the file and what is wrong with it.
    """
    place = _place(folder, root)
    there = list_files(folder)
    where = folder / FILE
    if FILE not in there:
        raise UserError("no such file; `gendiv submit` makes a submission", where=where)
    submission = parse(current(read_bytes(folder, FILE, MAX_JSON), where), Submission, where)
    if place != submission.folder:
        raise UserError(f"lies in {place!r} and says {submission.folder!r}; move it there", where=where)
    _check_suite(submission, load_suite(submission.manifest.identity.suite), where)
    named = {f"{file.path}.gz" for file in submission.files if file.url is None and not file.derived}
    judges = _judges(submission)
    if missing := sorted(named - set(there)):
        raise UserError("no such file, and submission.json names it; pack it again", where=folder / missing[0])
    if strange := sorted(set(there) - named - judges.keys() - {FILE}):
        raise UserError("is no file of this submission; remove it", where=folder / strange[0])
    for name in sorted(judges.keys() & set(there)):
        read_judge(submission, folder, name)
    return submission


def _place(folder: Path, root: Path) -> str:
    """Where a folder lies below the root, no link being between them."""
    try:
        parts = folder.absolute().relative_to(root.absolute()).parts
    except ValueError:
        parts = ()
    if len(parts) != 3 or ".." in parts:
        raise UserError("is no <organisation>__<model>/<revision>/<suite>@v<N> below the root", where=folder)
    for above in (root.joinpath(*parts[:number]) for number in range(1, 4)):
        if above.is_symlink():
            raise UserError("is a link; a submission is a folder of files", where=above)
    return "/".join(parts)


def _check_suite(submission: Submission, suite: Suite, where: Path) -> None:
    """Refuse tasks and a judge that are not the suite's; of suites that are sampled here the prompts are looked at."""
    identity = submission.manifest.identity
    said = [(task.task, task.role, task.version) for task in identity.tasks]
    if said != [(task.task, task.role, str(suite.version)) for task in suite.tasks]:
        raise UserError(f"manifest.identity.tasks: not those of suite {suite.id}, in their order", where=where)
    if suite.imported and (identity.judge, identity.encoder) != (suite.judge, suite.encoder):
        raise UserError(f"manifest.identity: judge and encoder are not those of suite {suite.id}", where=where)
    if suite.imported != (identity.sampling is None):
        raise UserError(
            "manifest.identity.sampling: is null where outputs were made elsewhere, and only there", where=where
        )
    if suite.texts != _has_texts(submission):
        what = (
            "no samples; pack the run again"
            if suite.texts
            else f"suite {suite.id} publishes no samples; leave them out"
        )
        raise UserError(f"files: {what}", where=where)


def _has_texts(submission: Submission) -> bool:
    return any(file.path.startswith("samples/") for file in submission.files)


def _judges(submission: Submission) -> dict[str, str]:
    """Files of judges that a submission may have, and whose they are."""
    names = {judge_of(file) for file in submission.files if file.path.startswith("verdicts/")}
    return {f"verdicts/{name}{_JUDGE}": name for name in names}


def judge_of(file: PackedFile) -> str:
    """Name of the judge whose log a file is."""
    return file.path.removeprefix("verdicts/").removesuffix(".jsonl").partition(".")[2]


def read_judge(submission: Submission, folder: Path, name: str) -> bytes:
    """Read one judge's configuration, ``verdicts/<judge>.judge.json``.

    Returns
    -------
    bytes
        As it is in the file.

    Raises
    ------
    UserError
        If it is no judge's, or another's than its name says; or an oracle, which is code of ours, and not that of the
        suite.
    """
    where = folder / name
    data = read_bytes(folder, name, MAX_JUDGE)
    strict_json(data, where)
    config = checked(lambda: _CONFIG.validate_json(data), "judge", where)
    if config.judge != _judges(submission)[name]:
        raise UserError(f"judge: {config.judge!r} is not what the file is called; pack the run again", where=where)
    if isinstance(config, OracleConfig) and config.sha256 != _own_judge(submission.manifest.identity.suite):
        raise UserError("kind: an oracle that is not the suite's own; judge again with another", where=where)
    return data


@functools.cache
def _own_judge(suite: str) -> str | None:
    name = load_suite(suite).judge
    return find_judge(name).sha256 if name else None


@contextlib.contextmanager
def as_run(submission: Submission, folder: Path, published: Path | None = None) -> Iterator[Run]:
    """Lay a submission out as a run in a temporary folder, which goes away at the end of the ``with`` block.

    What is complained of within the block is said of the submission's own files, in one printable line. See `lay_out`.
    """
    with tempfile.TemporaryDirectory(prefix="gendiv-") as place:
        try:
            yield lay_out(submission, folder, Path(place) / "run", published)
        except UserError as error:
            raise UserError(told_of(str(error), Path(place) / "run", folder)) from None


def told_of(message: str, run: Path, folder: Path) -> str:
    """Say what was said of a run's file of the submission that the run was laid out from."""
    message = message.replace(f"{run}/run.json", f"{folder / FILE}: manifest").replace(str(run), str(folder))
    return plain(message, MAX_MESSAGE)


def lay_out(submission: Submission, folder: Path, into: Path, published: Path | None = None) -> Run:
    """Unpack a submission as a run folder, line by line, each of them a whole record.

    Parameters
    ----------
    submission, folder
        What was read, and where.
    into
        The run's folder; it is made.
    published
        A folder that holds what the submission publishes elsewhere, fetched: ``<path>.gz`` each. Nothing is fetched
        here.

    Raises
    ------
    UserError
        For a log that is not what its record says: another hash or length, more lines than its grid has cells, a line
        that is no record of its kind; or one that is published elsewhere, which has to be fetched before.
    """
    run = Run(into)
    write_record(run.manifest_path, submission.manifest)
    for file in submission.files:
        if file.derived:
            continue
        if file.url is not None and published is None:
            raise UserError(f"is published at {file.url}; fetch it first", where=folder / f"{file.path}.gz")
        _unpack(submission, published if file.url and published else folder, file, run.folder / file.path)
    there = list_files(folder)
    for name in sorted(_judges(submission).keys() & set(there)):
        write_atomically(run.folder / name, read_judge(submission, folder, name))
    _derive(run, [file for file in submission.files if file.derived], folder)
    return run


def _derive(run: Run, files: Sequence[PackedFile], folder: Path) -> None:
    """Have the suite's own oracle say again what it said, and see that it is that."""
    oracle = own_oracle(run.manifest().identity.suite) if files else None
    for file in files:
        if oracle is None or judge_of(file) != oracle.judge:
            raise UserError(
                f"files: {file.path} is derived, and not of the suite's own oracle; pack it", where=folder / FILE
            )
    write_again(run, [Path(file.path).name.partition(".")[0] for file in files], run)
    for file in files:
        data = (run.folder / file.path).read_bytes()
        if (len(data), hashlib.sha256(data).hexdigest()) != (file.bytes, file.sha256):
            raise UserError(f"files: {file.path} is not what its judge says of these samples", where=folder / FILE)


def _unpack(submission: Submission, folder: Path, file: PackedFile, target: Path) -> None:
    source = folder / f"{file.path}.gz"
    samples, texts = file.path.startswith("samples/"), _has_texts(submission)
    kind: type[Sample] | type[Verdict] = Sample if samples else Verdict
    task = Path(file.path).name.partition(".")[0]
    most = submission.cells(task) * (1 if samples else MAX_VERDICTS)
    target.parent.mkdir(parents=True, exist_ok=True)
    seen, size = hashlib.sha256(), 0
    packed = read_bytes(folder, f"{file.path}.gz", MAX_PUBLISHED if file.url else MAX_PACKED)
    with target.open("wb") as out:
        for number, line in enumerate(lines(unpacked(packed, source, min(file.bytes, MAX_FILE)), source), start=1):
            where = f"{source}:{number}"
            if number > most:
                raise UserError(f"a line more than the {most:,} that its grid may have; remove it", where=where)
            _check(parse(line, kind, where), where, texts=texts)
            out.write(line + b"\n")
            seen.update(line + b"\n")
            size += len(line) + 1
    if (size, seen.hexdigest()) != (file.bytes, file.sha256):
        raise UserError(f"is not what submission.json says of {file.path}: bytes or sha256 differ", where=source)


def _check(record: Sample | Verdict, where: str, *, texts: bool) -> None:
    """Refuse what a record may hold elsewhere and no honest log of a submission does."""
    if math.copysign(1, record.temperature) < 0:
        raise UserError("temperature: -0.0; write 0.0", where=where)
    words = {"task": record.task, "doc_id": record.doc_id}
    if isinstance(record, Verdict):
        words["key"] = record.key
        if len(record.orders) not in (0, 2):
            raise UserError(f"orders: {len(record.orders)} of them; there are two, or none", where=where)
        if record.raw and not texts:
            raise UserError("raw: replies are texts, and this suite publishes none; leave them out", where=where)
        if not texts and record.error:
            words["error"] = record.error
        if len(record.raw) > MAX_REPLIES:
            raise UserError(f"raw: {len(record.raw)} replies; at most {MAX_REPLIES} are read", where=where)
    for field, text in words.items():
        if letter := strange_letter(text):
            raise UserError(f"{field}: holds {letter}; write it in plain letters", where=where)
        if len(text) > MAX_WORD:
            raise UserError(f"{field}: {len(text):,} characters; at most {MAX_WORD} are read", where=where)
