"""The three stages over a run folder, each on its own or in a row: sample, judge, score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import UserError
from benchmark.judging.judge import check_verdicts, judge_run, load_judge, verdict_keys
from benchmark.provenance import environment
from benchmark.records import Identity, Manifest, ModelCard, Prompt, Sample, Sampling, Scores, Verdict
from benchmark.runs import Run, write_atomically, write_record
from benchmark.sampling.grid import check_grid
from benchmark.suites import Suite, load_prompts, load_suite, task_identities

Progress = Callable[[str, int, int], None]
"""(stage, cells done since the last call, cells in all)."""


@dataclass(frozen=True)
class SampleOptions:
    """What a user may say about sampling; None leaves the suite's or the backend's own."""

    k: int | None = None
    temperatures: tuple[float, ...] | None = None
    seed: int | None = None
    batch_size: int | None = None
    device: str | None = None
    dtype: str | None = None
    chat: bool | None = None
    threads: int = 1
    """CPU threads of torch: one is often the fastest for small models, and never the slow side of oversubscription."""
    name: str | None = None
    """Name of the row on the board; None = the checkpoint's."""
    limit: int | None = None
    """Only the first so many prompts of each task; such runs compare with runs of as many alone."""
    card: ModelCard = field(default_factory=ModelCard)
    """What is declared about the model: its method, and what it was trained on."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


def sample(
    model: str, suite_name: str, out: Path, options: SampleOptions | None = None, progress: Progress = silent
) -> Run:
    """Draw a model's missing samples into a run folder.

    Parameters
    ----------
    model
        See `benchmark.sampling.model`.
    suite_name
        ``name`` or ``name@vN``.
    out
        The run folder, new or begun by the same command.
    options
        See `SampleOptions`.
    progress
        See `Progress`.
    """
    from benchmark.sampling.model import build
    from benchmark.sampling.sampler import sample_run

    options = options or SampleOptions()
    suite = load_suite(suite_name)
    prompts = {task: asked[: options.limit] for task, asked in load_prompts(suite).items()}
    sampling = _sampling(suite, options, control=model.startswith("control:"))
    run = Run(out)
    _refuse_strange_folder(run)
    _set_threads(options.threads)
    built = build(
        model,
        suite,
        prompts,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        chat=options.chat,
    )
    begun = run.manifest() if run.manifest_path.exists() else None
    # What is not said again stays as it was said first.
    manifest = Manifest(
        name=options.name or (begun.name if begun else built.name),
        kind=built.kind,
        identity=identity(suite, prompts, sampling),
        model=built.sampler.identity(sampling),
        card=_said_last(begun.card if begun else ModelCard(), options.card),
        record=begun.record if begun else environment(),
    )
    total = sum(len(asked) for asked in prompts.values()) * len(sampling.temperatures) * sampling.k
    started = time.perf_counter()
    drawn = sample_run(run, built.sampler, manifest, prompts, advance=lambda n: progress("sampling", n, total))
    if drawn:
        _add_wall_time(run, time.perf_counter() - started)
    return run


def judge(run: Run, progress: Progress = silent) -> None:
    """Judge the samples of a run that have no verdict yet, by the suite's own judge."""
    manifest = run.manifest()
    if load_suite(manifest.identity.suite).imported:
        raise UserError("an imported run comes with its verdicts; there is no judge here", where=run.manifest_path)
    manifest, suite, prompts = _open(run)
    total = sum(len(_checked_samples(run, manifest, entry.task, prompts)) for entry in suite.tasks)
    judge_run(run, suite, load_judge(suite.judge), prompts, advance=lambda n: progress("judging", n, total))


def score(run: Run, progress: Progress = silent, threads: int = 1) -> Scores:
    """Score a judged run, write its ``scores.json`` and return it."""
    from benchmark import scoring
    from benchmark.metrics.encoder import Encoder

    manifest = run.manifest()
    suite = load_suite(manifest.identity.suite)
    prompts = None
    if not suite.imported:
        manifest, suite, prompts = _open(run)
    inputs = run.inputs_sha256(manifest.identity.judge)
    samples = {entry.task: _checked_samples(run, manifest, entry.task, prompts) for entry in suite.tasks}
    verdicts = {
        entry.task: _checked_verdicts(run, manifest, entry.task, samples[entry.task], prompts) for entry in suite.tasks
    }
    before = 0

    def embedded(done: int, total: int) -> None:
        nonlocal before
        progress("embedding", done - before, total)
        before = done

    _set_threads(threads)
    encoder = Encoder(suite.encoder, progress=embedded)
    scores = scoring.score(manifest, suite, samples, verdicts, encoder, prompts, inputs)
    write_atomically(run.scores_path, scores.model_dump_json() + "\n")
    return scores


def identity(suite: Suite, prompts: dict[str, list[Prompt]], sampling: Sampling) -> Identity:
    """Everything that must be equal for rows of this suite to be compared."""
    return Identity(
        suite=suite.id,
        tasks=task_identities(suite, prompts),
        sampling=sampling,
        judge=suite.judge,
        judge_sha256=load_judge(suite.judge).config.sha256,
        encoder=suite.encoder,
    )


def _open(run: Run) -> tuple[Manifest, Suite, dict[str, list[Prompt]]]:
    """Read a run's manifest and its suite; refuse a run whose prompts or judge are not this version's."""
    manifest = run.manifest()
    suite = load_suite(manifest.identity.suite)
    asked = {task.task: task.n_prompts for task in manifest.identity.tasks}
    # A run of the first few prompts is judged and scored on those; their hash is compared below.
    prompts = {task: found[: asked.get(task)] for task, found in load_prompts(suite).items()}
    sampling = manifest.identity.sampling
    if sampling is None:
        raise UserError("identity.sampling is missing", where=run.manifest_path)
    expected = identity(suite, prompts, sampling)
    for part in Identity.model_fields:
        if getattr(expected, part) != getattr(manifest.identity, part):
            raise UserError(
                f"identity.{part} is not that of suite {suite.id} as it is here; sample the run again",
                where=run.manifest_path,
            )
    return manifest, suite, prompts


def _checked_samples(run: Run, manifest: Manifest, task: str, prompts: dict[str, list[Prompt]] | None) -> list[Sample]:
    """Read a task's samples, every cell once; outputs made elsewhere are one a prompt, at temperature 1."""
    samples = run.samples(task)
    sampling = manifest.identity.sampling or Sampling(
        k=1, temperatures=(1.0,), top_p=1.0, top_k=0, max_new_tokens=1, stop=(), seed=0
    )
    doc_ids = [prompt.doc_id for prompt in prompts[task]] if prompts else sorted({sample.doc_id for sample in samples})
    check_grid((sample.cell for sample in samples), doc_ids, sampling, where=run.samples_path(task))
    wanted = next((entry.n_prompts for entry in manifest.identity.tasks if entry.task == task), None)
    if len(doc_ids) != wanted:
        raise UserError(f"{len(doc_ids)} prompts, where run.json says {wanted}", where=run.samples_path(task))
    return samples


def _checked_verdicts(
    run: Run, manifest: Manifest, task: str, samples: list[Sample], prompts: dict[str, list[Prompt]] | None
) -> list[Verdict]:
    """Read a task's verdicts: one on every sample and, where the judge is ours, on these very texts."""
    judge = manifest.identity.judge
    verdicts = run.verdicts(task, judge)
    keys = verdict_keys(load_judge(judge).config, prompts[task], samples) if prompts else None
    check_verdicts(verdicts, (s.cell for s in samples), where=run.verdicts_path(task, judge), keys=keys)
    return verdicts


def _said_last(before: ModelCard, now: ModelCard) -> ModelCard:
    """Update a card by the fields that are said now."""
    return before.model_copy(update={field: value for field, value in now if value is not None})


def _sampling(suite: Suite, options: SampleOptions, *, control: bool) -> Sampling:
    if suite.sampling is None:
        raise UserError(f"suite {suite.id} cannot be sampled here")
    given = {
        "k": options.k,
        "temperatures": tuple(sorted(set(options.temperatures))) if options.temperatures else None,
        "seed": options.seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if control:
        # A control has no temperature; one point is all there is.
        changes["temperatures"] = (1.0,)
    return Sampling.model_validate(suite.sampling.model_dump() | changes)


def _refuse_strange_folder(run: Run) -> None:
    # A hidden file is what a killed writer of the manifest left.
    there = [path for path in run.folder.iterdir() if not path.name.startswith(".")] if run.folder.is_dir() else []
    if run.folder.is_file() or (there and not run.manifest_path.exists()):
        raise UserError("is there, and is not a run folder; give another --out", where=run.folder)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _add_wall_time(run: Run, seconds: float) -> None:
    manifest = run.manifest()
    before = manifest.record.get("sampling_seconds", 0.0)
    total = round(seconds + (before if isinstance(before, int | float) else 0.0), 1)
    write_record(
        run.manifest_path, manifest.model_copy(update={"record": {**manifest.record, "sampling_seconds": total}})
    )
