"""Training data of a task as the JSONL that the trainers read.

A row's prompt is written by the very template that writes the evaluated prompts, and is none of them: neither of the
task's own nor of any task's that shares a suite with it. Nor are the words of its post, article or instruction (the
field that the task ``shortens``, and the ``input`` of an instruction) those of an evaluated one, whatever their case,
punctuation and title. Where the documents come from is the task's YAML to say::

    metadata:
      views:                                      # kind → source, and the splits of it that are train and validation
        pairs: {source: tldr, train: train, validation: validation}
        preferences: {source: tldr_preferences, train: train}
      chosen: "{{better}}"                        # a preference's sides, each as a field or a Jinja template
      rejected: "{{worse}}"
      completion_prefix: " "                      # what stands between the prompt and an answer; default: nothing

A task without views gives its own splits, or what its suite's generator makes. Views are filtered by the task's own
``keep``. With a ``completion_prefix``, white space at an answer's head is taken off before it is written, so that the
data's own spaces do not double it.
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from benchmark.contamination import words
from benchmark.data import sources
from benchmark.errors import UserError
from benchmark.records import Name, Record
from benchmark.runs import first_problem, write_atomically
from benchmark.suites import Suite, as_asked, load_suites, load_task

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

Kind = Literal["pairs", "prompts", "preferences"]
Split = Literal["train", "validation", "test"]
SubsetDraw = Literal["without_replacement", "published"]
Row = dict[str, str]
"""``doc_id`` and ``prompt``; with pairs ``completion`` as well, with preferences ``chosen`` and ``rejected``."""
Documents = Iterable[Mapping[str, Any] | None]

GENERATED = 20_000
"""Documents taken of a generator, which has no end, where no limit is given."""
PUBLISHED_SUBSETS = {0.1: 10, 0.5: 50}
"""Share → seed of the random subsets of Kirk et al."""


class View(Record):
    """Where one kind of training data of a task comes from."""

    source: Name
    train: Annotated[str, Field(min_length=1)]
    validation: str | None = None


@dataclass(frozen=True)
class Export:
    """Rows, and what a user must know about them."""

    rows: list[Row]
    """In the data set's order; preferences of one prompt stand together, at the place of the first."""
    evaluated: bool
    """Whether they are the prompts that the task evaluates, and so not to be trained on."""
    dropped: dict[str, int]
    """Why documents gave no row → how many."""
    not_compared: tuple[str, ...] = ()
    """Tasks of the same suites whose prompts could not be looked for among the rows, as their data is not there."""
    data: str | None = None
    """Where the documents came from (`sources.provenance` of their split); None where the task makes them itself."""


def training_data(
    name: str,
    *,
    kind: Kind = "pairs",
    split: Split = "train",
    limit: int | None = None,
    seed: int | None = None,
    subset: float | None = None,
    subset_draw: SubsetDraw = "without_replacement",
) -> Export:
    """Make the rows of one task.

    Parameters
    ----------
    name
        A task under ``tasks/`` whose outputs are free text.
    kind
        ``pairs`` of prompt and first reference, ``prompts`` alone, or the ``preferences`` that the documents carry.
    split
        ``train``, or, where there is one, ``validation`` or ``test``. Evaluated prompts are left out of every split
        but the evaluated one itself.
    limit
        Number of documents, from the first (of the subset, where one is drawn).
    seed
        Seed, from 1, of training documents that a generator makes.
    subset
        Share in (0, 1] of the training documents to draw at random; None = all.
    subset_draw
        ``without_replacement``: that share of different documents, in the data set's order, by ``default_rng`` of the
        share in per cent. ``published``: as the code of Kirk et al. draws 10 % and 50 %, with replacement, so that
        about 5 % and 21 % of the rows are repeats.

    Raises
    ------
    UserError
        If there is no such task, split, subset or preference, or no row is left.
    """
    task = load_task(name)
    if task.OUTPUT_TYPE != "generate_until":
        raise UserError(f"task {name} asks for {task.OUTPUT_TYPE}, and only generate_until has completions to train on")
    if subset is None and subset_draw == "published":
        raise UserError("the published draw is of a subset: give a subset of 0.1 or 0.5 with it")
    if subset is not None and split != "train":
        raise UserError(f"a random subset is of training data: leave it out, or take the train split of {name}")
    suites = [suite for suite in load_suites().values() if name in {entry.task for entry in suite.tasks}]
    view = _view(name, task, kind) if split != "test" else None
    docs = _viewed(name, task, view, split, seed) if view else _documents(name, task, suites, split, limit, seed)
    data = _data(task, view, split)
    if subset is not None:
        docs = draw_subset(list(docs), subset, subset_draw)
    evaluated = split == ("test" if task.has_test_docs() else "validation")
    forbidden = _Forbidden() if evaluated else _evaluated_prompts(name, task, suites)
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for number, doc in enumerate(itertools.islice(docs, limit)):
        row = None if doc is None else _row(name, task, kind, number, doc)
        if row is None:
            dropped["without a preference" if kind == "preferences" else "without a reference"] += 1
        elif doc is not None and forbidden.has(task, row["prompt"], doc):
            dropped["with an evaluated prompt"] += 1
        elif kind == "preferences" and row["chosen"] == row["rejected"]:
            dropped["with two equal answers"] += 1
        else:
            rows.append(row)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the split is empty"
        raise UserError(f"no row of the {split} split of {name} is left: {reasons}")
    return Export(
        rows=_together(rows) if kind == "preferences" else rows,
        evaluated=evaluated,
        dropped=dict(dropped),
        not_compared=tuple(forbidden.absent),
        data=data,
    )


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL, whole or not at all."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def draw_subset(docs: list[Mapping[str, Any] | None], share: float, draw: SubsetDraw) -> list[Mapping[str, Any] | None]:
    """Draw a share of the documents; see `training_data` for the two ways.

    Raises
    ------
    UserError
        If the share is not in (0, 1], none that was published, or of fewer documents than one.
    """
    if not 0 < share <= 1:
        raise UserError(f"a subset of {share:g} is no share: give one above 0 and up to 1")
    if not docs:
        return []
    if draw == "published":
        if share not in PUBLISHED_SUBSETS:
            raise UserError(f"the published subsets are 0.1 and 0.5, not {share:g}; or draw without replacement")
        numbers = np.random.default_rng(PUBLISHED_SUBSETS[share]).integers(0, len(docs), len(docs) // round(1 / share))
    else:
        rng = np.random.default_rng(round(100 * share))
        numbers = np.sort(rng.choice(len(docs), round(share * len(docs)), replace=False))
    if not len(numbers):
        raise UserError(f"a subset of {share:g} of {len(docs)} documents rounds to none: give a larger one")
    return [docs[number] for number in numbers]


def views(metadata: Mapping[str, Any]) -> dict[str, View]:
    """Read the views that a task's ``metadata`` names, by kind.

    Raises
    ------
    UserError
        If one is not as the module's head says.
    """
    found = {}
    for kind, entry in (metadata.get("views") or {}).items():
        try:
            found[kind] = View.model_validate(entry)
        except ValidationError as error:
            raise UserError(f"metadata.views.{kind}: {first_problem(error)}") from None
    return found


def _view(name: str, task: ConfigurableTask, kind: Kind) -> View | None:
    """Find the view of a kind; None for a task that names no views at all."""
    found = views(task.config.metadata or {})
    if found and kind not in found:
        raise UserError(f"task {name} has no {kind}; there are: {', '.join(found)}")
    return found.get(kind)


def _viewed(name: str, task: ConfigurableTask, view: View, split: Split, seed: int | None) -> Documents:
    there = view.train if split == "train" else view.validation
    if there is None:
        raise UserError(f"task {name} has no {split} split of these; there are: train, test")
    if seed is not None:
        raise UserError(f"the {split} documents of {name} are a data set in a fixed order: leave out --seed")
    return sources.documents(view.source, there, keep=(task.config.dataset_kwargs or {}).get("keep"))


def _documents(
    name: str, task: ConfigurableTask, suites: list[Suite], split: Split, limit: int | None, seed: int | None
) -> Documents:
    """Find the first documents of a split, in the data set or, for training, in the suite's generator."""
    has = {"train": task.has_training_docs(), "validation": task.has_validation_docs(), "test": task.has_test_docs()}
    generators = [s.training_documents for s in suites if s.training_documents and s.role_of(name) == "id"]
    if split == "train" and generators and not has["train"]:
        # The newest version's, where several share the task.
        module, function = generators[-1].rsplit(".", 1)
        made: Documents = getattr(importlib.import_module(module), function)(
            GENERATED if limit is None else limit, 1 if seed is None else seed
        )
        return made
    if not has[split]:
        there = [other for other, present in has.items() if present or (other == "train" and generators)]
        raise UserError(f"task {name} has no {split} split; there are: {', '.join(there)}")
    if seed is not None:
        raise UserError(f"the {split} documents of {name} are a data set in a fixed order: leave out --seed")
    docs: Documents = {"train": task.training_docs, "validation": task.validation_docs, "test": task.test_docs}[split]()
    return docs


def _data(task: ConfigurableTask, view: View | None, split: Split) -> str | None:
    """Say where documents come from; of the view's own split, as the others of its source need not be there."""
    if view:
        return sources.provenance(view.source, view.train if split == "train" else view.validation)
    wanted = task.config.dataset_kwargs or {}
    return sources.provenance(wanted["source"], wanted.get("split", "test")) if "source" in wanted else None


@dataclass
class _Forbidden:
    """What is evaluated, and so no training row."""

    prompts: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)
    absent: list[str] = field(default_factory=list)
    """Tasks of the same suites that could not be looked at."""

    def add(self, task: ConfigurableTask) -> None:
        for number, doc in enumerate(task.eval_docs):
            self.prompts.add(_plain(as_asked(task, number, doc)[1]))
            self.contents.add(_content(task, doc))
        self.contents.discard("")

    def has(self, task: ConfigurableTask, prompt: str, doc: Mapping[str, Any]) -> bool:
        return _plain(prompt) in self.prompts or (bool(self.contents) and _content(task, doc) in self.contents)


def _evaluated_prompts(name: str, task: ConfigurableTask, suites: list[Suite]) -> _Forbidden:
    """Gather what the task and every task beside it in a suite evaluate; imported suites keep no prompts here.

    A task beside it whose data is not there is named instead: who has the training set of one task need not have the
    test set of another. The task's own prompts are always looked for.
    """
    beside = {entry.task for suite in suites if not suite.imported for entry in suite.tasks} - {name}
    forbidden = _Forbidden()
    forbidden.add(task)
    for other in sorted(beside):
        try:
            loaded = load_task(other)
        except UserError:
            forbidden.absent.append(other)
        else:
            forbidden.add(loaded)
    return forbidden


def _content(task: ConfigurableTask, doc: Mapping[str, Any]) -> str:
    """Take the words of a document alone; none of a task that does not say which field it is.

    An instruction's input is part of it, as some data sets have the two in one field.
    """
    named = (task.config.metadata or {}).get("shortens")
    if named is None:
        return ""
    return " ".join(words(" ".join(str(doc[part]) for part in (named, "input") if doc.get(part) is not None)))


def _plain(prompt: str) -> str:
    """Leave white space out of a comparison: another line break is no other prompt."""
    return " ".join(prompt.split())


def _row(name: str, task: ConfigurableTask, kind: Kind, number: int, doc: Mapping[str, Any]) -> Row | None:
    """Write one row; None where the document has no reference to make a pair of."""
    doc_id, prompt, references = as_asked(task, number, doc)
    row = {"doc_id": doc_id, "prompt": prompt}
    if kind == "preferences":
        return row | {
            side: _after_prompt(task, _answer(name, task, side, doc_id, doc)) for side in ("chosen", "rejected")
        }
    if kind == "prompts":
        return row
    return row | {"completion": _after_prompt(task, references[0])} if references else None


def _after_prompt(task: ConfigurableTask, answer: str) -> str:
    """Write an answer as it follows the prompt."""
    prefix = (task.config.metadata or {}).get("completion_prefix")
    return answer if prefix is None else f"{prefix}{answer.lstrip()}"


def _answer(name: str, task: ConfigurableTask, side: str, doc_id: str, doc: Mapping[str, Any]) -> str:
    """Read one side of a preference pair."""
    from jinja2 import TemplateError

    template = (task.config.metadata or {}).get(side)
    if template is None:
        raise UserError(f"task {name} has no preferences: its YAML names no metadata.{side}")
    # Without braces a misspelt field would be the answer to everything.
    if template not in doc and "{" not in template:
        raise UserError(f"task {name}: metadata.{side} is {template!r}, which is neither a field nor a template")
    try:
        answer = task.resolve_field(doc, template)
    except TemplateError as error:
        raise UserError(f"task {name}: metadata.{side} of document {doc_id}: {error}") from None
    if not isinstance(answer, str):
        raise UserError(f"task {name}: metadata.{side} of document {doc_id} is no text")
    return answer


def _together(rows: list[Row]) -> list[Row]:
    """Move the rows of one prompt to its first, in order."""
    of_prompt: dict[str, list[Row]] = {}
    for row in rows:
        of_prompt.setdefault(row["prompt"], []).append(row)
    return list(itertools.chain.from_iterable(of_prompt.values()))
