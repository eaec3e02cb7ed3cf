"""Training data of a task as the JSONL that the trainers read.

A row's prompt is written by the very template that writes the evaluated prompts, and is none of them: neither of the
task's own nor of any task's that shares a suite with it. Preference pairs are those that a task's documents carry; its
YAML names them, each as a field or a Jinja template::

    metadata: {chosen: "{{better}}", rejected: "{{worse}}"}
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import UserError
from benchmark.runs import write_atomically
from benchmark.suites import Suite, as_asked, load_prompts, load_suites, load_task

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

Kind = Literal["pairs", "preferences"]
Split = Literal["train", "validation", "test"]
Row = dict[str, str]
"""``doc_id``, ``prompt`` and ``completion``, or ``doc_id``, ``prompt``, ``chosen`` and ``rejected``."""

GENERATED = 20_000
"""Documents taken of a generator, which has no end, where no limit is given."""


@dataclass(frozen=True)
class Export:
    """Rows, and what a user must know about them."""

    rows: list[Row]
    """In the data set's order; preferences of one prompt stand together, at the place of the first."""
    evaluated: bool
    """Whether they are the prompts that the task evaluates, and so not to be trained on."""
    dropped: dict[str, int]
    """Why documents gave no row → how many."""


def training_data(
    name: str, *, kind: Kind = "pairs", split: Split = "train", limit: int | None = None, seed: int | None = None
) -> Export:
    """Make the rows of one task.

    Parameters
    ----------
    name
        A task under ``tasks/`` whose outputs are free text.
    kind
        ``pairs`` of prompt and first reference, or the ``preferences`` that the documents carry.
    split
        ``train``, or, where there is one, ``validation`` or ``test``. Evaluated prompts are left out of every split
        but the evaluated one itself.
    limit
        Number of documents, from the first.
    seed
        Seed, from 1, of training documents that a generator makes.

    Raises
    ------
    UserError
        If there is no such task, split or preference, or no row is left.
    """
    task = load_task(name)
    if task.OUTPUT_TYPE != "generate_until":
        raise UserError(f"task {name} asks for {task.OUTPUT_TYPE}, and only generate_until has completions to train on")
    suites = [suite for suite in load_suites().values() if name in {entry.task for entry in suite.tasks}]
    docs = _documents(name, task, suites, split, limit, seed)
    evaluated = split == ("test" if task.has_test_docs() else "validation")
    forbidden = set() if evaluated else _evaluated_prompts(task, suites)
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for number, doc in enumerate(docs):
        row = _row(name, task, kind, number, doc)
        if _plain(row["prompt"]) in forbidden:
            dropped["with an evaluated prompt"] += 1
        elif kind == "preferences" and row["chosen"] == row["rejected"]:
            dropped["with two equal answers"] += 1
        else:
            rows.append(row)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the split is empty"
        raise UserError(f"no row of the {split} split of {name} is left: {reasons}")
    return Export(_together(rows) if kind == "preferences" else rows, evaluated, dict(dropped))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL, whole or not at all."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _documents(
    name: str, task: ConfigurableTask, suites: list[Suite], split: Split, limit: int | None, seed: int | None
) -> Iterable[Mapping[str, Any]]:
    """Find the first documents of a split, in the data set or, for training, in the suite's generator."""
    has = {"train": task.has_training_docs(), "validation": task.has_validation_docs(), "test": task.has_test_docs()}
    generators = [s.training_documents for s in suites if s.training_documents and s.role_of(name) == "id"]
    if split == "train" and generators and not has["train"]:
        # The newest version's, where several share the task.
        module, function = generators[-1].rsplit(".", 1)
        made: Iterable[Mapping[str, Any]] = getattr(importlib.import_module(module), function)(
            GENERATED if limit is None else limit, 1 if seed is None else seed
        )
        return made
    if not has[split]:
        there = [other for other, present in has.items() if present or (other == "train" and generators)]
        raise UserError(f"task {name} has no {split} split; there are: {', '.join(there)}")
    if seed is not None:
        raise UserError(f"the {split} documents of {name} are a data set in a fixed order: leave out --seed")
    docs = {"train": task.training_docs, "validation": task.validation_docs, "test": task.test_docs}[split]()
    return itertools.islice(docs, limit)


def _evaluated_prompts(task: ConfigurableTask, suites: list[Suite]) -> set[str]:
    """Gather what the task and every task beside it in a suite evaluate; imported suites keep no prompts here."""
    own = (as_asked(task, number, doc)[1] for number, doc in enumerate(task.eval_docs))
    beside = (
        prompt.text
        for suite in suites
        if not suite.imported
        for prompts in load_prompts(suite).values()
        for prompt in prompts
    )
    return {_plain(text) for text in itertools.chain(own, beside)}


def _plain(prompt: str) -> str:
    """Leave white space out of a comparison: another line break is no other prompt."""
    return " ".join(prompt.split())


def _row(name: str, task: ConfigurableTask, kind: Kind, number: int, doc: Mapping[str, Any]) -> Row:
    doc_id, prompt, references = as_asked(task, number, doc)
    if kind == "preferences":
        answers = {side: _answer(name, task, side, doc_id, doc) for side in ("chosen", "rejected")}
        return {"doc_id": doc_id, "prompt": prompt, **answers}
    if not references:
        raise UserError(f"task {name}: document {doc_id} has no reference")
    return {"doc_id": doc_id, "prompt": prompt, "completion": references[0]}


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
