"""Suites: tasks with a role that together make one generalisation experiment.

A suite is a ``*.suite.yaml`` under ``tasks/``; its tasks are lm-eval YAML beside it and are loaded by lm-eval's own
`TaskManager`, so the same files run under plain ``lm_eval --include_path tasks``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from benchmark.errors import UserError
from benchmark.records import FileName, Name, Prompt, Record, Role, Sampling, TaskIdentity, prompts_sha256
from benchmark.runs import first_problem

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

HEADLINE_TEMPERATURE = 1.0
"""Points on the plane, and every printed number that names no temperature, are at this one."""


class PromptSet(Record):
    """Which prompts a task asks, where they are not here to be looked at."""

    n: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """See `benchmark.records.prompts_sha256`."""
    data: str | None = None
    """See `benchmark.records.TaskIdentity.data`; None also where a suite has no prompts here."""
    references: bool = True
    """Whether every prompt has a reference; False = none has."""
    references_apart: float | None = None
    """Sentence-BERT diversity of the references of different prompts: see `benchmark.flags.above_references`."""


class SuiteTask(Record):
    """One task of a suite."""

    task: Name
    role: Role
    title: str
    prompts: PromptSet | None = None
    """Frozen with a suite that has no texts, or whose documents not everybody has; None where the prompts, or a run's
    samples, tell it."""


class Axis(Record):
    """One axis of the plane."""

    metric: Name
    title: str
    reference: Annotated[float, Field(gt=0)] | None = None
    """Frozen value that counts as 1 on this axis; values are divided by it and clipped to [0, 1]."""


class Gate(Record):
    """Which samples count as valid in gated (*effective*) diversity."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    """Part of every gated metric's name."""
    cut_off_is_valid: bool = False
    """Whether an output that the token limit ended may pass: where the limit is shorter than the references are."""
    judge: FileName | None = None
    """Judge whose scores ``minimum_score`` is of; None where validity asks for none."""
    judge_sha256: str | None = None
    """Hash of that judge's whole configuration, weights included, where its name does not say them."""
    minimum_score: dict[str, float] = Field(default={})
    """Task → least judge score of a valid sample (a frozen quantile of the references' scores)."""

    @model_validator(mode="after")
    def _scores_have_a_judge(self) -> Gate:
        if bool(self.minimum_score) != (self.judge is not None):
            raise ValueError("`minimum_score` and the `judge` whose scores are meant come together")
        return self


class LengthControl(Record):
    """How the length-controlled win rate is fitted; frozen with the suite version."""

    penalty: Annotated[float, Field(gt=0)]
    """Of the squared slope in length, see `benchmark.statistics.length_control`."""


class Plane(Record):
    """What the two axes of a suite's plane are."""

    role: Role
    """The role whose prompts place a model's point."""
    x: Axis
    y: Axis
    y2: Axis | None = None
    """Diversity of the second panel."""


class Suite(Record):
    """A versioned experiment: tasks with roles, and everything that must be equal for two rows to be compared."""

    suite: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    version: Annotated[int, Field(ge=1)]
    title: str
    description: str
    tasks: Annotated[tuple[SuiteTask, ...], Field(min_length=1, strict=False)]
    imported: bool = False
    """True where outputs and verdicts come from elsewhere and the suite cannot be sampled here."""
    texts: bool = True
    """False where runs hold verdicts and lengths alone: what needs a text is not measured, and there is no plane."""
    sampling: Sampling | None = None
    judge: Name | None
    """None where there is none yet: runs are scored without a win rate."""
    published_judge: Name | None = None
    """Of a suite without a judge of its own: whose verdicts a published row has, so that all can be compared."""
    encoder: Name
    gate: Gate
    length_control: LengthControl | None = None
    """None where length is no bias of the judge's: an exact oracle."""
    plane: Plane
    length_range: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """Least and greatest mean length, as a multiple of the references', of a ranked row; None = not asked."""
    fresh_references: str | None = None
    """Dotted name of a function (doc, number, seed) → another reference, where a generator has them: the ceiling."""
    training_documents: str | None = None
    """Dotted name of a function (n, seed ≥ 1) → training documents of the ``id`` task, where a generator has them."""

    @property
    def id(self) -> str:
        """``name@vN``, as written in every record."""
        return f"{self.suite}@v{self.version}"

    def role_of(self, task: str) -> Role:
        """Role of one of the suite's tasks."""
        return next(entry.role for entry in self.tasks if entry.task == task)

    @model_validator(mode="after")
    def _one_task_a_role(self) -> Suite:
        roles = [entry.role for entry in self.tasks]
        if len(set(roles)) != len(roles):
            raise ValueError("two tasks share a role")
        if self.plane.role not in roles:
            raise ValueError("plane.role names no task")
        if self.imported and self.judge is None:
            raise ValueError("an imported suite names the `judge` whose verdicts it holds")
        if not self.imported and self.sampling is None:
            raise ValueError("a suite that is sampled here needs `sampling`")
        if not self.texts and not (self.imported and all(entry.prompts for entry in self.tasks)):
            raise ValueError("a suite without texts is an imported one, and freezes the `prompts` of every task")
        return self


def tasks_folder() -> Path:
    """Folder that holds the suites, in a checkout and in an installed package alike."""
    return Path(str(importlib.resources.files("tasks")))


def load_suites() -> dict[str, Suite]:
    """All suites by ``name@vN``, in order of name and version."""
    suites = {}
    for path in sorted(tasks_folder().glob("*/*.suite.yaml")):
        try:
            suite = Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), strict=False)
        except (yaml.YAMLError, ValidationError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise UserError(f"not a valid suite: {problem}", where=path) from None
        suites[suite.id] = suite
    return suites


def load_suite(name: str) -> Suite:
    """Find one suite by ``name`` (its newest version) or ``name@vN``.

    Raises
    ------
    UserError
        If there is none of that name; the message lists those there are.
    """
    suites = load_suites()
    if name in suites:
        return suites[name]
    versions = [suite for suite in suites.values() if suite.suite == name]
    if not versions:
        raise UserError(f"no suite {name!r}; there are: {', '.join(suites)}")
    return max(versions, key=lambda suite: suite.version)


def load_prompts(suite: Suite) -> dict[str, list[Prompt]]:
    """Load the prompts of every task of a suite, through lm-eval.

    Returns
    -------
    dict
        Task → its prompts, in the data set's order. A prompt's ``doc_id`` is the document's ``id`` field, or its
        number where it has none. Its chat message and the part that may be shortened are what the task's YAML names
        as ``metadata.chat`` (a template) and ``metadata.shortens`` (a field).

    Raises
    ------
    UserError
        If the suite is an imported one, its data is not to be had, or its prompts are not those that the suite version
        was frozen with.
    """
    if suite.imported:
        raise UserError(f"suite {suite.id} holds outputs made elsewhere and cannot be sampled; see `gendiv import`")
    if has_frozen_prompts(suite) and not os.environ.get("GENDIV_DATA"):
        raise UserError(
            f"suite {suite.id} is of stand-ins that no hub has: make them with `gendiv data adopt`, and give the "
            "folder with --data-root or GENDIV_DATA"
        )
    prompts = {entry.task: _prompts_of(entry.task, load_task(entry.task)) for entry in suite.tasks}
    for entry in suite.tasks:
        found = PromptSet(n=len(prompts[entry.task]), sha256=prompts_sha256(prompts[entry.task]))
        if entry.prompts and (found.n, found.sha256) != (entry.prompts.n, entry.prompts.sha256):
            raise UserError(
                f"task {entry.task}: the data here give {found.n} prompts of hash {found.sha256[:12]}…, and suite "
                f"{suite.id} has {entry.prompts.n} of hash {entry.prompts.sha256[:12]}…, from {entry.prompts.data}; "
                "give that with --data-root or GENDIV_DATA"
            )
    return prompts


def has_frozen_prompts(suite: Suite) -> bool:
    """Whether a suite itself says which prompts each of its tasks asks, so that no data is needed to know.

    Its rows are scored from texts and verdicts alone, with and without the data: no output is compared with its prompt.
    """
    return all(entry.prompts for entry in suite.tasks)


def frozen_identities(suite: Suite) -> tuple[TaskIdentity, ...]:
    """Identity of every task of a suite by the prompts that it, or another suite of the same task, is frozen with."""
    frozen = {task.task: task.prompts for other in load_suites().values() for task in other.tasks if task.prompts}
    frozen |= {task.task: task.prompts for task in suite.tasks if task.prompts}
    return tuple(
        TaskIdentity(
            task=entry.task,
            role=entry.role,
            version=str(suite.version),
            n_prompts=frozen[entry.task].n,
            prompts_sha256=frozen[entry.task].sha256,
            data=frozen[entry.task].data,
        )
        for entry in suite.tasks
    )


def task_identities(suite: Suite, prompts: dict[str, list[Prompt]]) -> tuple[TaskIdentity, ...]:
    """Identity of every task of a suite, from its loaded prompts."""
    return tuple(
        TaskIdentity(
            task=entry.task,
            role=entry.role,
            version=str(suite.version),
            n_prompts=len(prompts[entry.task]),
            prompts_sha256=prompts_sha256(prompts[entry.task]),
            data=None if suite.imported else data_of(load_task(entry.task)),
        )
        for entry in suite.tasks
    )


def load_task(name: str) -> ConfigurableTask:
    """Load one task through lm-eval, with its data set; once a process, as long as the data root is the same.

    Raises
    ------
    UserError
        If there is none of that name; the message lists those there are.
    """
    return _load_task(name, str(tasks_folder()), os.environ.get("GENDIV_DATA"))


@functools.lru_cache(maxsize=32)
def _load_task(name: str, folder: str, data_root: str | None) -> ConfigurableTask:  # noqa: ARG001
    with _quiet("lm_eval.api.task", "lm_eval.tasks"):
        manager = _task_manager(folder)
        if name not in manager.all_subtasks:
            raise UserError(f"no task {name!r}; there are: {', '.join(manager.all_subtasks)}")
        return manager.load([name])["tasks"][name]


def as_asked(task: ConfigurableTask, number: int, doc: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Write a document as the task's templates do: its ``doc_id``, its prompt and its references."""
    target = task.doc_to_target(doc)
    references = target if isinstance(target, list) else [target]
    return (
        str(doc.get("id", number)),
        str(task.doc_to_text(doc)),
        tuple(str(reference) for reference in references),
    )


def data_of(task: ConfigurableTask) -> str | None:
    """Where a task's documents came from; None where the task makes them itself."""
    source = (task.config.dataset_kwargs or {}).get("source")
    if source is None:
        return None
    from benchmark.data.sources import provenance

    return provenance(str(source))


@contextlib.contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Raise the level of chatty loggers for a moment: lm-eval warns of the `custom_dataset` key at every use."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@functools.cache
def _task_manager(folder: str) -> TaskManager:
    """lm-eval's index of our tasks alone; its own 16,000 files take seconds to scan."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=False)


def _prompts_of(name: str, task: ConfigurableTask) -> list[Prompt]:
    metadata = task.config.metadata or {}
    chat, shortens = metadata.get("chat"), metadata.get("shortens")
    prompts = []
    for number, doc in enumerate(task.eval_docs):
        doc_id, text, references = as_asked(task, number, doc)
        prompts.append(
            Prompt(
                task=name,
                doc_id=doc_id,
                text=text,
                references=references,
                doc=dict(doc),
                chat=None if chat is None else str(task.resolve_field(doc, chat)),
                shortens=None if shortens is None else str(doc[shortens]),
            )
        )
    frozen = metadata.get("prompts_sha256")
    # Data from outside has its own hash in every manifest; what a task makes itself must never change.
    if data_of(task) is None and frozen != (found := prompts_sha256(prompts)):
        raise UserError(
            f"task {name}: its prompts hash to {found}, but this version was frozen with {frozen}; "
            "a changed prompt set needs a new version of the task and the suite"
        )
    return prompts
