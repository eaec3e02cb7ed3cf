"""A run folder that is opened for judging or scoring: its manifest, its suite and its prompts, checked to fit."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.judging.config import find_judge
from benchmark.records import Cell, Identity, Manifest, Prompt, Sample, Sampling
from benchmark.runs import Run
from benchmark.sampling.grid import check_grid, spelled
from benchmark.suites import HEADLINE_TEMPERATURE, Suite, load_prompts, load_suite, task_identities


class Opened(NamedTuple):
    """A run with what it was asked."""

    run: Run
    manifest: Manifest
    suite: Suite
    prompts: dict[str, list[Prompt]] | None
    """Task → the prompts it answered; None for outputs made elsewhere, whose prompts are not ours to ship."""

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


def open_run(run: Run) -> Opened:
    """Read a run's manifest and its suite; refuse a shard, and a run whose prompts are not this version's."""
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
    prompts = {task: found[: asked.get(task)] for task, found in load_prompts(suite).items()}
    sampling = manifest.identity.sampling
    if sampling is None:
        raise UserError("identity.sampling is missing", where=run.manifest_path)
    expected = identity(suite, prompts, sampling)
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


def identity(suite: Suite, prompts: dict[str, list[Prompt]], sampling: Sampling) -> Identity:
    """Everything that must be equal for rows of this suite to be compared, by the suite's own judge."""
    return Identity(
        suite=suite.id,
        tasks=task_identities(suite, prompts),
        sampling=sampling,
        judge=suite.judge,
        judge_sha256=find_judge(suite.judge).sha256 if suite.judge else None,
        encoder=suite.encoder,
    )
