"""A run folder that is opened for judging or scoring: its manifest, its suite and its prompts, checked to fit."""

from __future__ import annotations

import os
from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.judging.config import find_judge
from benchmark.records import Cell, Identity, Manifest, Prompt, Sample, Sampling, TaskIdentity
from benchmark.runs import Run
from benchmark.sampling.grid import check_grid, spelled
from benchmark.suites import (
    HEADLINE_TEMPERATURE,
    Suite,
    frozen_identities,
    has_frozen_prompts,
    load_prompts,
    load_suite,
    task_identities,
)


class Opened(NamedTuple):
    """A run with what it was asked."""

    run: Run
    manifest: Manifest
    suite: Suite
    prompts: dict[str, list[Prompt]] | None
    """Task → the prompts it answered; None for outputs made elsewhere, whose prompts are not ours to ship, and where a
    suite that freezes its prompts was opened without its data."""

    def samples(self, task: str) -> list[Sample]:
        """Read a task's samples, every cell once; outputs made elsewhere are one a prompt, at temperature 1."""
        run, manifest = self.run, self.manifest
        samples = run.samples(task)
        sampling = manifest.identity.sampling or Sampling(
            k=1, temperatures=(1.0,), top_p=1.0, top_k=0, max_new_tokens=1, stop=(), seed=0
        )
        doc_ids = (
            [prompt.doc_id for prompt in self.prompts[task]]
            if self.prompts
            else sorted({sample.doc_id for sample in samples})
        )
        check_grid((sample.cell for sample in samples), doc_ids, sampling, where=run.samples_path(task))
        wanted = next((entry.n_prompts for entry in manifest.identity.tasks if entry.task == task), None)
        if len(doc_ids) != wanted:
            raise UserError(f"{len(doc_ids)} prompts, where run.json says {wanted}", where=run.samples_path(task))
        return samples

    def cells(self, task: str) -> list[Cell]:
        """List the places that a verdict may be on; of runs without texts one a prompt, numbered from 0."""
        if self.suite.texts:
            return [sample.cell for sample in self.samples(task)]
        asked = next(entry.n_prompts for entry in self.manifest.identity.tasks if entry.task == task)
        return [(str(number), HEADLINE_TEMPERATURE, 0) for number in range(asked)]


def open_run(run: Run, *, needs_prompts: bool = True) -> Opened:
    """Read a run's manifest and its suite; refuse a shard, and a run whose prompts are not this version's.

    With ``needs_prompts=False`` a run of a suite that freezes its prompts is opened without them where no data root is
    set.
    """
    manifest = run.manifest()
    suite = load_suite(manifest.identity.suite)
    if suite.imported:
        _check_prompt_sets(run, manifest, suite)
        return Opened(run, manifest, suite, None)
    if manifest.shard:
        raise UserError(
            f"the run is {spelled(manifest.shard)} alone; `gendiv merge` all shards first", where=run.manifest_path
        )
    asked = {task.task: task.n_prompts for task in manifest.identity.tasks}
    # A run of the first few prompts is judged and scored on those; their hash is compared below.
    if needs_prompts or not is_unseen(suite):
        prompts = {task: found[: asked.get(task)] for task, found in load_prompts(suite).items()}
    else:
        prompts = None
    sampling = manifest.identity.sampling
    if sampling is None:
        raise UserError("identity.sampling is missing", where=run.manifest_path)
    expected = identity(suite, prompts, sampling)
    if prompts is None:
        expected = expected.model_copy(update={"tasks": _first_few(expected.tasks, manifest)})
    for part in sorted(set(Identity.model_fields) - {"judge", "judge_sha256"}):
        if getattr(expected, part) != getattr(manifest.identity, part):
            raise UserError(
                f"identity.{part} is not that of suite {suite.id} as it is here; sample the run again",
                where=run.manifest_path,
            )
    return Opened(run, manifest, suite, prompts)


def _check_prompt_sets(run: Run, manifest: Manifest, suite: Suite) -> None:
    """Refuse a run of other prompts than those its suite is frozen with."""
    asked = {task.task: (task.n_prompts, task.prompts_sha256) for task in manifest.identity.tasks}
    for entry in suite.tasks:
        frozen = entry.prompts
        if frozen and asked.get(entry.task) != (frozen.n, frozen.sha256):
            raise UserError(
                f"identity.tasks: not the {frozen.n} prompts that {entry.task} of suite {suite.id} was frozen with",
                where=run.manifest_path,
            )


def is_unseen(suite: Suite) -> bool:
    """Whether a suite that is sampled here froze its prompts, and there is no data root to read them from."""
    return has_frozen_prompts(suite) and not suite.imported and not os.environ.get("GENDIV_DATA")


def _first_few(frozen: tuple[TaskIdentity, ...], manifest: Manifest) -> tuple[TaskIdentity, ...]:
    """Take a run's own word for the hash of less prompts than its suite has: it is of texts that are not here."""
    said = {task.task: task for task in manifest.identity.tasks}
    return tuple(
        task.model_copy(update={"n_prompts": own.n_prompts, "prompts_sha256": own.prompts_sha256})
        if (own := said.get(task.task)) and own.n_prompts < task.n_prompts
        else task
        for task in frozen
    )


def identity(suite: Suite, prompts: dict[str, list[Prompt]] | None, sampling: Sampling) -> Identity:
    """Everything that must be equal for rows of this suite to be compared, by the suite's own judge.

    Without ``prompts`` by those that it is frozen with.
    """
    return Identity(
        suite=suite.id,
        tasks=frozen_identities(suite) if prompts is None else task_identities(suite, prompts),
        sampling=sampling,
        judge=suite.judge,
        judge_sha256=find_judge(suite.judge).sha256 if suite.judge else None,
        encoder=suite.encoder,
    )
