"""``submission.json``: what a published run is, which files it has, and what its maker claims."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from benchmark.records import Estimate, FileName, Manifest, ModelIdentity, Record, canonical_json, sha256_of
from benchmark.submission.reading import MAX_FILE, MAX_UNPACKED, strange_letter

VERSION: Literal[1] = 1
FILE = "submission.json"
_MODEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
_URL = r"^https://([A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}/[A-Za-z0-9._~/%+=&?@-]{1,400}$"
MAX_CELLS = 1_000_000
"""Samples of one task."""
MAX_TEXT = 200
"""Characters of one of the manifest's strings; a note may have `MAX_NOTE`."""
MAX_NOTE = 2_000
MAX_OPEN = 64 * 2**10
"""Bytes of ``record`` and of ``arguments``, whose fields are the submitter's own."""
_LONG = {"manifest.card.note"}
_OF_LINES = ("manifest.identity.sampling.stop.", "manifest.model.arguments.")
"""Where a string may have several lines."""
_PATH = re.compile(r"(samples/[A-Za-z0-9_]{1,60}|verdicts/[A-Za-z0-9_]{1,60}\.[A-Za-z0-9][A-Za-z0-9._-]{0,99})\.jsonl")


class PackedFile(Record):
    """One log of a run, gzipped in the submission or published elsewhere."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    path: str
    """In the run: ``samples/<task>.jsonl`` or ``verdicts/<task>.<judge>.jsonl``."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the log as it is before packing: packers differ, and what they pack does not."""
    bytes: Annotated[int, Field(ge=1, le=MAX_FILE)]
    """Length before packing."""
    url: Annotated[str, Field(pattern=_URL)] | None = None
    """Where the gzipped log is published; None = beside this file."""
    derived: bool = False
    """True where the log is in no file: the suite's own oracle writes it again, to this hash, from the samples."""

    @field_validator("path")
    @classmethod
    def _is_a_log(cls, value: str) -> str:
        if not _PATH.fullmatch(value):
            raise ValueError("is no samples/<task>.jsonl or verdicts/<task>.<judge>.jsonl")
        return value

    @model_validator(mode="after")
    def _has_one_place(self) -> PackedFile:
        if self.derived and (self.url or self.path.startswith("samples/")):
            raise ValueError("derived: of verdicts alone, and they are published nowhere else")
        return self


class Submission(Record):
    """A published run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    version: Literal[1]
    """Of this schema; older ones are migrated when they are read."""
    model: Annotated[str, Field(pattern=_MODEL)]
    """``organisation/name``."""
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    """Which weights: the first 12 digits of the hub's commit or of their hash."""
    manifest: Manifest
    """``run.json`` of the run, with the model card."""
    files: Annotated[tuple[PackedFile, ...], Field(min_length=1, max_length=100, strict=False)]
    """The run's logs: samples of every task, and verdicts; of a suite without texts verdicts alone."""
    claims: Annotated[tuple[Estimate, ...], Field(max_length=5_000, strict=False)]
    """Scores as the submitter computed them; CI computes them again."""
    claimed_judge: FileName | None
    """Whose verdicts are scored; None = nobody's."""

    @model_validator(mode="after")
    def _is_plain(self) -> Submission:
        """Refuse what no honest run has and a page or a terminal might trip over."""
        for field, text in _strings(self.model_dump(exclude={"claims", "files"})):
            _check_text(field, text)
        for number, claim in enumerate(self.claims):
            for field, text in (("metric", claim.metric), ("task", claim.task), ("method", claim.method)):
                _check_text(f"claims.{number}.{field}", text)
            for name in claim.intervals:
                _check_text(f"claims.{number}.intervals", name)
            if len(claim.intervals) > 20:
                raise ValueError(f"claims.{number}.intervals: more than 20 of them")
            _check_temperature(f"claims.{number}.temperature", claim.temperature)
        for name, value in (
            ("record", self.manifest.record),
            ("model.arguments", self.manifest.model.arguments),
            ("card.trained_on", self.manifest.card.trained_on or ()),
        ):
            if (size := len(canonical_json(value).encode())) > MAX_OPEN:
                raise ValueError(f"manifest.{name}: {size:,} bytes; at most {MAX_OPEN:,} are shown")
        return self

    @model_validator(mode="after")
    def _is_of_its_manifest(self) -> Submission:
        if "__" in self.model.partition("/")[0]:
            raise ValueError("model: two underscores in the organisation; they stand for the / in a folder's name")
        if (revision := revision_of(self.manifest.model)) != self.revision:
            raise ValueError(f"revision: {self.revision!r}, and the manifest's model has {revision!r}")
        if self.manifest.shard:
            raise ValueError("manifest.shard: a shard is no submission; merge all of them first")
        return self

    @model_validator(mode="after")
    def _grid_is_sensible(self) -> Submission:
        sampling = self.manifest.identity.sampling
        for temperature in sampling.temperatures if sampling else ():
            _check_temperature("manifest.identity.sampling.temperatures", temperature)
        tasks = [task.task for task in self.manifest.identity.tasks]
        if len(set(tasks)) != len(tasks):
            raise ValueError("manifest.identity.tasks: a task is there twice")
        for task in tasks:
            if (cells := self.cells(task)) > MAX_CELLS:
                raise ValueError(f"manifest: {cells:,} samples of {task}; at most {MAX_CELLS:,} are read")
        return self

    @model_validator(mode="after")
    def _files_are_its_logs(self) -> Submission:
        paths = [file.path for file in self.files]
        if len({path.casefold() for path in paths}) != len(paths):
            raise ValueError("files: two files have one path")
        if (total := sum(file.bytes for file in self.files)) > MAX_UNPACKED:
            raise ValueError(f"files: {total:,} bytes in all; at most {MAX_UNPACKED:,} are read")
        tasks = {task.task for task in self.manifest.identity.tasks}
        sampled = {path[len("samples/") : -len(".jsonl")] for path in paths if path.startswith("samples/")}
        # A suite without texts has none; `read_submission` knows which suites those are.
        if sampled and sampled != tasks:
            raise ValueError(f"files: samples of {', '.join(sorted(sampled ^ tasks))}: named there or in tasks alone")
        for path in paths:
            if path.startswith("verdicts/") and path.removeprefix("verdicts/").partition(".")[0] not in tasks:
                raise ValueError(f"files: {path} is of no task of the manifest")
        return self

    def cells(self, task: str) -> int:
        """How many samples the manifest promises of a task."""
        sampling = self.manifest.identity.sampling
        each = sampling.k * len(sampling.temperatures) if sampling else 1
        return each * next(entry.n_prompts for entry in self.manifest.identity.tasks if entry.task == task)

    @property
    def folder(self) -> str:
        """Where it lies below ``submissions/``."""
        return f"{self.model.replace('/', '__')}/{self.revision}/{self.manifest.identity.suite}"


def _strings(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """All strings, those that name fields as well, with where they are."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield f"{field} (a name)", name
            yield from _strings(part, f"{field}.{name}".lstrip("."))
    elif isinstance(value, Sequence):
        for number, part in enumerate(value):
            yield from _strings(part, f"{field}.{number}")


def _check_text(field: str, text: str) -> None:
    if field.startswith(_OF_LINES):
        text = text.replace("\n", " ").replace("\t", " ")
    if letter := strange_letter(text):
        raise ValueError(f"{field}: holds {letter}; write it in one line of plain letters")
    most = MAX_NOTE if field in _LONG or field.startswith(_OF_LINES) else MAX_TEXT
    if len(text) > most:
        raise ValueError(f"{field}: {len(text):,} characters; at most {most:,} are shown")


def _check_temperature(field: str, value: float) -> None:
    if value > 100 or math.copysign(1, value) < 0:
        raise ValueError(f"{field}: {value!r} is no temperature from 0 to 100")


def revision_of(model: ModelIdentity) -> str:
    """Name a model's weights: the commit, else their hash, else a hash of all that is known (an API names neither)."""
    known = model.revision or model.weights_sha256 or sha256_of(model.model_dump(mode="json"))
    return re.sub(r"[^A-Za-z0-9._-]", "-", known.removeprefix("sha256:"))[:12]
