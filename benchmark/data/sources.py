"""The data sets of the real suites: at the hub's pinned revision, or as local copies where a data root is set.

``tasks/sources.yaml`` names them. A data root (``GENDIV_DATA``) holds ``<source>/<split>`` as JSONL, JSON or Parquet
with the hub's own field names, and may say in ``<source>/source.yaml`` which revision a copy is of, or what it stands
in for. With a data root nothing is ever fetched: what is not in it is missing.

Every task evaluates the **first** documents of its split, in the file's order (after its filter, where it has one), as
the code of Kirk et al. does. A document's id is its row number in the whole split, so that tasks on parts of one split
share ids.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, ValidationError

from benchmark.data.documents import DOCUMENTS, Document
from benchmark.data.rows import ENDINGS, FieldType, Row, read_rows
from benchmark.errors import UserError
from benchmark.records import Name, Record, sha256_of
from benchmark.runs import first_problem

if TYPE_CHECKING:
    from datasets import Dataset

DATA_ROOT = "GENDIV_DATA"
"""Environment variable that names the data root."""
EVALUATED = 500
"""Evaluated documents of a task, unless it says otherwise; Kirk et al. evaluate as many."""
COMMIT = re.compile(r"[0-9a-f]{40}")

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class NoDocumentsError(UserError):
    """A split that can be read and has no document of the task's."""


class Split(Record):
    """One split of a data set; see ``tasks/sources.yaml`` for the fields."""

    files: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    fields: dict[str, FieldType]
    optional: dict[str, FieldType] = Field(default={})
    rows: int | None = None
    reference: str | None = None
    document: str | None = None


class Source(Record):
    """One data set; see ``tasks/sources.yaml`` for the fields."""

    dataset: Name
    config: str | None
    revision: Commit | None
    seen: str
    licence: str
    paper: str
    identifies: str
    splits: dict[str, Split]


class LocalCopy(Record):
    """``source.yaml`` of a local copy: what is known of it."""

    dataset: str | None = None
    revision: str | None = None
    """Commit of the hub's data set that this is a copy of; None = not known."""
    stand_in: str | None = None
    """What this is instead of the data set; None = it is a copy of it."""
    note: str | None = None


@functools.cache
def load_sources() -> dict[str, Source]:
    """All data sets by name."""
    from benchmark.suites import tasks_folder

    entries = yaml.safe_load((tasks_folder() / "sources.yaml").read_text(encoding="utf-8"))
    return {name: Source.model_validate(entry, strict=False) for name, entry in entries.items()}


@contextlib.contextmanager
def using(root: Path | None) -> Iterator[None]:
    """Set the data root for the length of a ``with`` block; None = the hub."""
    before = os.environ.pop(DATA_ROOT, None)
    try:
        if root is not None:
            os.environ[DATA_ROOT] = str(root)
        yield
    finally:
        os.environ.pop(DATA_ROOT, None)
        if before is not None:
            os.environ[DATA_ROOT] = before


def is_local(source: str, split: str) -> bool:
    """Whether the data root has a file of a split, whatever is in it."""
    root = data_root()
    return root is not None and _find_local(root, source, split) is not None


def data_root() -> Path | None:
    """Find the folder of local copies; None = data comes from the hub.

    Raises
    ------
    UserError
        If GENDIV_DATA names no folder.
    """
    named = os.environ.get(DATA_ROOT)
    if not named:
        return None
    if not Path(named).is_dir():
        raise UserError(f"the data root is no folder; set {DATA_ROOT} or --data-root to one, or unset it", where=named)
    return Path(named)


def load(source: str, split: str) -> list[Row]:
    """Read all rows of a split.

    Returns
    -------
    list[dict]
        The declared fields of each row, in the file's order.

    Raises
    ------
    UserError
        If there is no such source or split, it is not to be had, or a row is not as ``tasks/sources.yaml`` says.
    """
    declared = _split(source, split)
    return [row for path in _files(source, split) for row in read_rows(path, declared.fields, declared.optional)]


def documents(source: str, split: str, *, keep: str | None = None) -> Iterator[Document | None]:
    """Make the documents of a split.

    Parameters
    ----------
    source, split
        As in ``tasks/sources.yaml``.
    keep
        Dotted name of a function (document) → whether it belongs to the task.

    Yields
    ------
    dict or None
        The fields of the row, ``id`` and ``references``: no reference where the row has none. None in the place of a
        comparison that prefers neither answer.
    """
    declared = _split(source, split)
    make = DOCUMENTS[declared.document] if declared.document else dict
    wanted: Callable[[Document], bool] = _function(keep) if keep else lambda _: True
    rows = load(source, split)
    digits = len(str(len(rows) - 1))
    for number, row in enumerate(rows):
        try:
            document = make(row)
        except ValueError as error:
            raise UserError(f"row {number + 1} {error}", where=f"{source}, split {split}") from None
        if document is None:
            yield None
        elif wanted(document):
            reference = row.get(declared.reference or "")
            references = [reference] if reference and reference.strip() else []
            yield {"id": f"{split}-{number:0{digits}d}", **document, "references": references}


def evaluated_documents(
    source: str, *, split: str = "test", prompts: int = EVALUATED, keep: str | None = None
) -> list[Document]:
    """Make the documents that a task evaluates: the first ``prompts`` of the split that it keeps."""
    found = (document for document in documents(source, split, keep=keep) if document is not None)
    first = list(itertools.islice(found, prompts))
    if not first:
        kept = f" that {keep.rpartition('.')[2]} keeps" if keep else ""
        raise NoDocumentsError(f"its {split} split has no document{kept}: the task cannot be asked", where=source)
    return first


class Splits(Mapping[str, "Dataset"]):
    """The splits that a task's YAML may name, read when they are asked for."""

    def __init__(self, splits: dict[str, Callable[[], list[Document]]]) -> None:
        self._splits = splits
        self._read: dict[str, Dataset] = {}

    def __getitem__(self, split: str) -> Dataset:
        from datasets import Dataset

        if split not in self._read:
            self._read[split] = Dataset.from_list(self._splits[split]())
        return self._read[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)


def dataset(
    *,
    source: str,
    split: str = "test",
    prompts: int = EVALUATED,
    keep: str | None = None,
    **_: Any,
) -> Splits:
    """Find a task's evaluated documents: what its YAML names as ``custom_dataset``.

    lm-eval calls it with the task's ``metadata`` (left aside) and ``dataset_kwargs``.

    Parameters
    ----------
    source, split, prompts, keep
        See `evaluated_documents`.

    Returns
    -------
    Splits
        ``test``, as a `datasets.Dataset`.
    """
    return Splits({"test": lambda: evaluated_documents(source, split=split, prompts=prompts, keep=keep)})


def provenance(source: str, split: str | None = None) -> str:
    """Say where a source's documents come from, for the manifest: runs on different data must never be compared.

    Parameters
    ----------
    source
        As in ``tasks/sources.yaml``.
    split
        The split that is read, whose content a local copy is known by; None = the one that stands for the source.

    Returns
    -------
    str
        ``DATASET@REVISION`` for the hub, and for a whole local copy that states this revision; else the same with what
        is different, or ``stand-in: …``, and the first 16 digits of the SHA-256 of the split's rows' canonical JSON
        (so that JSONL and Parquet of one content are the same data). Where no revision is pinned, a copy's own word is
        nothing that could be verified, and the digits stay.
    """
    declared = load_sources()[source] if source in load_sources() else _unknown(source)
    root = data_root()
    if root is None:
        return f"{declared.dataset}@{_hub_revision(source)}"
    split, copy = split or declared.identifies, local_copy(root, source)
    path = _local_file(root, source, split)
    rows, digest = _content(source, split, path, path.stat().st_mtime_ns, path.stat().st_size)
    content = f"sha256:{digest[:16]}"
    if copy.stand_in is not None:
        return f"stand-in: {copy.stand_in}, {content}"
    name = copy.dataset or declared.dataset
    if copy.revision is None or not COMMIT.fullmatch(copy.revision):
        return f"{name}, revision not stated, {content}"
    if name == declared.dataset and declared.revision is None:
        return f"{name}@{copy.revision}, revision not verified, {content}"
    if name != declared.dataset or copy.revision != declared.revision:
        return f"{name}@{copy.revision}, not the pinned revision, {content}"
    expected = declared.splits[split].rows
    if expected is not None and rows != expected:
        return f"{name}@{copy.revision}, {rows} of {expected} rows, {content}"
    return f"{name}@{copy.revision}"


def local_copy(root: Path, source: str) -> LocalCopy:
    """Read ``source.yaml`` of a local copy; one without it says nothing of itself."""
    path = root / source / "source.yaml"
    if not path.exists():
        return LocalCopy()
    try:
        about = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else path
        raise UserError(f"cannot be read as YAML: {error.problem}", where=where) from None
    except RecursionError:
        raise UserError("cannot be read as YAML: too many mappings or lists in one another", where=path) from None
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise UserError(f"cannot be read as YAML: {error}", where=path) from None
    for field, value in about.items() if isinstance(about, dict) else ():
        if field in LocalCopy.model_fields and isinstance(value, int | float | datetime.date):
            raise UserError(f"{field} is a number, a date or yes/no to YAML: put it in quotes", where=path)
    try:
        return LocalCopy.model_validate(about)
    except ValidationError as error:
        raise UserError(f"not a description of a local copy: {first_problem(error)}", where=path) from None


class _Loader(yaml.SafeLoader):
    """Tells the line of what looks like a date or a number and is none, or cannot be written again."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
            if isinstance(made, str):
                made.encode()
        except UnicodeEncodeError:
            problem = "half a character (a lone surrogate)"
        except ValueError as error:
            problem = f"{error} (put a text in quotes)"
        else:
            return made
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _split(source: str, split: str) -> Split:
    splits = load_sources()[source].splits if source in load_sources() else _unknown(source).splits
    if split not in splits:
        raise UserError(f"source {source} has no split {split!r}; there are: {', '.join(splits)}")
    return splits[split]


def _unknown(source: str) -> Source:
    raise UserError(f"no source {source!r} in tasks/sources.yaml; there are: {', '.join(load_sources())}")


def _files(source: str, split: str) -> list[Path]:
    root = data_root()
    return [_local_file(root, source, split)] if root is not None else _hub_files(source, split)


def _local_file(root: Path, source: str, split: str) -> Path:
    """Find a split's file in a data root, or say what to do."""
    if (found := _find_local(root, source, split)) is not None:
        return found
    named = load_sources()[source].dataset
    raise UserError(
        f"no such file (nor .jsonl.gz, .json or .parquet): put the {split} split of {named} there, or choose another "
        f"data root with --data-root or {DATA_ROOT}; `gendiv data adopt` makes one of stand-ins",
        where=root / source / f"{split}.jsonl",
    )


def _find_local(root: Path, source: str, split: str) -> Path | None:
    found = [path for ending in ENDINGS if (path := root / source / f"{split}{ending}").is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{names} are the same split: keep one of them", where=root / source)
    return found[0] if found else None


def _hub_files(source: str, split: str) -> list[Path]:
    """Fetch a split's files at the revision that `provenance` names."""
    from huggingface_hub import snapshot_download

    declared = load_sources()[source]
    wanted = list(declared.splits[split].files)
    revision = _hub_revision(source)
    try:
        folder = snapshot_download(declared.dataset, repo_type="dataset", revision=revision, allow_patterns=wanted)
    except Exception as error:  # whatever the network, the hub and its client come up with
        raise _not_from_hub(source, error) from error
    # In a cache that was filled for another split the folder is there and the files are not.
    found = [sorted(Path(folder).glob(pattern)) for pattern in wanted]
    if not all(found):
        raise _not_from_hub(source, f"no {', '.join(wanted)} at revision {revision}")
    return [path for paths in found for path in paths]


@functools.cache
def _hub_revision(source: str) -> str:
    """Give the pinned revision, or the hub's current one: asked once, so that all of a run reads one commit."""
    from huggingface_hub import HfApi

    declared = load_sources()[source]
    if declared.revision is not None:
        return declared.revision
    try:
        revision = HfApi().dataset_info(declared.dataset).sha
    except Exception as error:  # as above
        raise _not_from_hub(source, error) from error
    if revision is None:
        raise _not_from_hub(source, "the hub names no commit")
    return str(revision)


def _not_from_hub(source: str, error: Exception | str) -> UserError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UserError(
        f"source {source}: {load_sources()[source].dataset} cannot be had from the hub ({reason}); for a local copy "
        f"give --data-root DIR or set {DATA_ROOT}; `gendiv data adopt` makes one of stand-ins"
    )


@functools.lru_cache(maxsize=64)
def _content(source: str, split: str, path: Path, mtime: int, size: int) -> tuple[int, str]:  # noqa: ARG001
    """Count and hash a split's rows; the file's time and size are part of the cache's key."""
    declared = _split(source, split)
    rows = read_rows(path, declared.fields, declared.optional)
    return len(rows), sha256_of(rows)


def _function(name: str) -> Callable[[Document], bool]:
    module, _, function = name.rpartition(".")
    found: Callable[[Document], bool] = getattr(importlib.import_module(module), function)
    return found
