"""A run folder on disk: ``run.json``, ``samples/``, ``verdicts/``, ``scores.json``.

Readers tell a user exactly which line is wrong. Whole files are written to a temporary name and renamed; logs are
append-only, and only their last, unfinished line may ever be dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.records import Manifest, Record, Sample, Scores, Verdict

R = TypeVar("R", bound=Record)
_JUDGE = ".judge.json"


class Run:
    """Paths and readers of one run folder.

    Parameters
    ----------
    folder
        The run's folder; it need not exist yet.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @property
    def manifest_path(self) -> Path:
        """``run.json``."""
        return self.folder / "run.json"

    @property
    def scores_path(self) -> Path:
        """``scores.json``."""
        return self.folder / "scores.json"

    def samples_path(self, task: str) -> Path:
        """``samples/<task>.jsonl``."""
        return self.folder / "samples" / f"{task}.jsonl"

    def verdicts_path(self, task: str, judge: str, against: str | None = None) -> Path:
        """``verdicts/<task>.<judge>.jsonl``, or ``against/<run>/<task>.<judge>.jsonl`` on another run's samples."""
        return self._verdicts(against) / f"{task}.{judge}.jsonl"

    def judge_path(self, judge: str, against: str | None = None) -> Path:
        """The copy of a judge's configuration beside its verdicts: ``<judge>.judge.json``."""
        return self._verdicts(against) / f"{judge}{_JUDGE}"

    def head_to_head_path(self, judge: str, against: str) -> Path:
        """``against/<run>/<judge>.json``: the result of a comparison with another run."""
        return self._verdicts(against) / f"{judge}.json"

    def judges(self) -> list[str]:
        """Names of the judges that were asked about this run's samples against the references."""
        return sorted(path.name.removesuffix(_JUDGE) for path in self._verdicts(None).glob(f"*{_JUDGE}"))

    def _verdicts(self, against: str | None) -> Path:
        return self.folder / "verdicts" if against is None else self.folder / "against" / against

    def manifest(self) -> Manifest:
        """Read ``run.json``; a missing or malformed one is a `UserError`."""
        return read_json(self.manifest_path, Manifest, mend="is this a run folder? `gendiv sample` makes one")

    def samples(self, task: str) -> list[Sample]:
        """Read all samples of a task."""
        path = self.samples_path(task)
        return _of_task(read_jsonl(path, Sample, mend="run `gendiv sample` again to finish it"), task, path)

    def verdicts(self, task: str, judge: str) -> list[Verdict]:
        """Read all verdicts of a judge on a task."""
        return read_verdicts(self.verdicts_path(task, judge), task)

    def inputs_sha256(self, logs: Iterable[Path] = ()) -> dict[str, str]:
        """Hash every file that scores are derived from, by its place in the run folder: all samples, and these logs."""
        paths = {*self.folder.glob("samples/*.jsonl"), *logs}
        return {path.relative_to(self.folder).as_posix(): _sha256(path) for path in sorted(paths)}

    def scores(self) -> Scores:
        """Read ``scores.json``; scores of another manifest, or of files that have changed since, are a `UserError`."""
        manifest = self.manifest()
        scores = read_json(self.scores_path, Scores, mend="run `gendiv score` on the run first")
        # Whose verdicts are scored is said when scoring, and not by the manifest.
        judge = {"judge": manifest.identity.judge, "judge_sha256": manifest.identity.judge_sha256}
        found = scores.model_copy(update={"identity": scores.identity.model_copy(update=judge)})
        for part in ("name", "kind", "identity", "model", "card"):
            if getattr(found, part) != getattr(manifest, part):
                raise UserError(f"{part} is not that of run.json; run `gendiv score` again", where=self.scores_path)
        logs = [log for log in self.folder.glob("verdicts/*.jsonl") if f"verdicts/{log.name}" in scores.inputs_sha256]
        if scores.inputs_sha256 != self.inputs_sha256(logs):
            raise UserError("samples or verdicts changed since; run `gendiv score` again", where=self.scores_path)
        return scores


def read_verdicts(path: Path, task: str) -> list[Verdict]:
    """Read every line of a log of verdicts on a task."""
    return _of_task(read_jsonl(path, Verdict, mend="run `gendiv judge` on the run first"), task, path)


T = TypeVar("T", Sample, Verdict)


def _of_task(records: list[T], task: str, path: Path) -> list[T]:
    """Refuse a line that says it is of another task than its file."""
    for number, record in enumerate(records, start=1):
        if record.task != task:
            raise UserError(f"task is {record.task!r}, in a file of {task}", where=f"{path}:{number}")
    return records


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_problem(error: ValidationError) -> str:
    """The first complaint of a validation, as ``field: what``."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    return f"{field}: {problem['msg']}" if field else str(problem["msg"])


def read_json(path: Path, record: type[R], *, mend: str) -> R:
    """Read one record from a JSON file.

    Raises
    ------
    UserError
        If the file is missing, empty, not UTF-8 JSON, or not such a record.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no such file; {mend}", where=path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    if not text.strip():
        raise UserError(f"the file is empty; {mend}", where=path)
    try:
        return record.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"not a valid {record.__name__}: {first_problem(error)}", where=path) from None


def read_jsonl(path: Path, record: type[R], *, mend: str) -> list[R]:
    """Read every line of a JSONL file as one record.

    Raises
    ------
    UserError
        If the file is missing or empty, or names the first line that is not such a record; the last line counts as
        cut off when it has no line end.
    """
    records: list[R] = []
    given: dict[frozenset[str], set[str]] = {}
    try:
        with path.open("rb") as file:
            lines, blank, whole = 0, True, True
            for line in file:
                lines, blank, whole = lines + 1, blank and not line.strip(), line.endswith(b"\n")
            if blank:
                raise UserError(f"the file is empty; {mend}", where=path)
            if not whole:
                raise UserError(f"the last line is cut off; {mend}", where=f"{path}:{lines}")
            file.seek(0)
            for number, line in enumerate(file, start=1):
                try:
                    found = record.model_validate_json(line)
                except ValidationError as error:
                    raise UserError(
                        f"not a valid {record.__name__}: {first_problem(error)}", where=f"{path}:{number}"
                    ) from None
                # A set of its own, of which fields were given, would take half of a record's memory.
                fields = found.model_fields_set
                object.__setattr__(found, "__pydantic_fields_set__", given.setdefault(frozenset(fields), fields))
                records.append(found)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no such file; {mend}", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    return records


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never half of it.

    Raises
    ------
    UserError
        If it cannot be written; the old file, if any, is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", where=path) from error


def write_record(path: Path, record: Record) -> None:
    """Write one record as indented JSON."""
    write_atomically(path, record.model_dump_json(indent=1) + "\n")


def drop_cut_off_line(path: Path) -> int:
    """Remove an unfinished last line that a killed writer left; returns the bytes dropped."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        data = file.read()
        keep = data.rfind(b"\n") + 1
        # Whatever does not begin like a record was not left by a writer of ours, and is not ours to remove.
        if data[keep : keep + 1] != b"{":
            return 0
        file.truncate(keep)
        return len(data) - keep


class Appender:
    """An append-only JSONL log that is flushed to disk after every batch, and that one process at a time may write.

    Raises
    ------
    UserError
        If another process is writing it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", where=path) from None
        try:
            # The lock goes with the process, so a killed one leaves none behind.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError("another process is writing it; wait for it, or stop it", where=path) from None
        except OSError as error:
            self._file.close()
            raise UserError(f"cannot be locked: {error.strerror}; use a file system with flock", where=path) from None

    def append(self, records: list[R]) -> None:
        """Write records as lines, then flush them to the disk."""
        self._file.write(b"".join(record.model_dump_json(exclude_defaults=True).encode() + b"\n" for record in records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the log."""
        self._file.close()


@contextlib.contextmanager
def appending(path: Path) -> Iterator[Appender]:
    """Open an `Appender` for the length of a ``with`` block."""
    appender = Appender(path)
    try:
        yield appender
    finally:
        appender.close()
