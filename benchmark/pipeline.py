"""The stages over a run folder: sample, judge (`benchmark.judging.runs`), score."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmark.errors import UserError
from benchmark.flags import judge_is_reward
from benchmark.judging.config import read_kept
from benchmark.judging.gate import read_gate, scored_by
from benchmark.judging.runs import Judged, Progress, judged_by_task
from benchmark.judging.runs import judge as judge
from benchmark.opened import identity, open_run
from benchmark.provenance import environment
from benchmark.records import Manifest, ModelCard, Prompt, Sample, Sampling, Scores, Truncation
from benchmark.runs import Run, write_atomically
from benchmark.sampling.grid import Shard
from benchmark.sampling.processes import Processes, launched
from benchmark.sampling.sampler import Job, sample_runs
from benchmark.suites import Suite, has_frozen_prompts, load_prompts, load_suite
from benchmark.task_by_task import TaskByTask

if TYPE_CHECKING:
    from benchmark.sampling.model import Backend, Built


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
    backend: Backend | None = None
    """What runs a Hugging Face model, see `benchmark.sampling.model`; None = its own choice."""
    max_prompt_tokens: int | None = None
    truncation: Truncation | None = None
    data_root: Path | None = None
    """Folder of local data; None = what GENDIV_DATA says."""
    shard: Shard | None = None
    """(i, n): only the i-th of n parts of every task, from 1; `benchmark.sampling.shards` merges them."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


def sample(
    model: str,
    suites: Sequence[str] | str,
    out: Path,
    options: SampleOptions | None = None,
    progress: Progress = silent,
) -> list[Run]:
    """Draw a model's missing samples into one run folder a suite; the model is loaded once.

    Under a launcher of several processes each draws its part; see `benchmark.sampling.processes`.

    Parameters
    ----------
    model
        See `benchmark.sampling.model`.
    suites
        ``name`` or ``name@vN``, one or several.
    out
        The run folder, new or begun by the same command; with several suites the folder of ``<suite>`` folders.
    options
        See `SampleOptions`.
    progress
        See `Progress`.

    Returns
    -------
    list
        The runs, in order of the suites.
    """
    options = options or SampleOptions()
    processes = launched()
    asked = _asked(model, [suites] if isinstance(suites, str) else suites, out, options)
    _set_threads(options.threads)
    built: list[Built] = []
    for one in asked:
        # A control is made of its suite's references; any other model is the same for all.
        built.append(_built(model, one, options, processes) if not built or model.startswith("control:") else built[0])
    jobs = [_job(one, made, options) for one, made in zip(asked, built, strict=True)]
    stage = "sampling" if processes.total == 1 else f"sampling, process {processes.number} of {processes.total}"
    sample_runs(jobs, processes=processes, progress=lambda n, total: progress(stage, n, total))
    return [job.run for job in jobs]


class _Asked(NamedTuple):
    """What one suite asks of a model, and where the answers go."""

    run: Run
    suite: Suite
    prompts: dict[str, list[Prompt]]
    sampling: Sampling


def _asked(model: str, names: Sequence[str], out: Path, options: SampleOptions) -> list[_Asked]:
    """Load all suites, before a model is."""
    use_data(options.data_root)
    suites = [load_suite(name) for name in names]
    if not suites:
        raise UserError("no suite to sample; `gendiv list suites` names them")
    if double := next((suite for n, suite in enumerate(suites) if suite.suite in [s.suite for s in suites[:n]]), None):
        raise UserError(f"suite {double.suite} is given twice; give each once")
    if len(suites) > 1 and (out.is_file() or Run(out).manifest_path.exists()):
        raise UserError("is no folder of one run a suite; give another --out for several suites", where=out)
    asked = []
    for suite in suites:
        run = Run(out / suite.suite if len(suites) > 1 else out)
        _refuse_strange_folder(run)
        prompts = {task: found[: options.limit] for task, found in load_prompts(suite).items()}
        sampling = _sampling(suite, options, control=model.startswith("control:"))
        asked.append(_Asked(run, suite, prompts, sampling))
    return asked


def _built(model: str, asked: _Asked, options: SampleOptions, processes: Processes) -> Built:
    from benchmark.sampling.model import build

    if processes.total > 1 and (options.backend == "vllm" or model.startswith("vllm:")):
        raise UserError(
            "vllm starts its own processes: give it tensor_parallel_size or data_parallel_size, and no launcher"
        )
    with processes.apart():
        return build(
            model,
            asked.suite,
            asked.prompts,
            batch_size=options.batch_size,
            device=processes.device(options.device),
            dtype=options.dtype,
            chat=options.chat,
            backend=options.backend,
        )


def _job(asked: _Asked, built: Built, options: SampleOptions) -> Job:
    run = asked.run
    begun = run.manifest() if run.manifest_path.exists() else None
    manifest = Manifest(
        # What is not said again stays as it was said first.
        name=options.name or (begun.name if begun else built.name),
        kind=built.kind,
        identity=identity(asked.suite, asked.prompts, asked.sampling),
        model=built.sampler.identity(asked.sampling),
        card=_said_last(begun.card if begun else ModelCard(), options.card),
        shard=options.shard,
        record=begun.record if begun else environment(),
    )
    return Job(run, built.sampler, manifest, asked.prompts)


def use_data(root: Path | None) -> None:
    """Have every task of this process read its data from a local folder; None changes nothing."""
    if root is None:
        return
    if not root.is_dir():
        raise UserError("no such folder of data; `gendiv data adopt` makes one", where=root)
    os.environ["GENDIV_DATA"] = str(root.resolve())


def score(
    run: Run,
    progress: Progress = silent,
    threads: int = 1,
    *,
    judge: str | None = None,
    gates: Sequence[Path] = (),
    nli: str | None = None,
    allow_missing: bool = False,
    embeddings: bool = True,
    own: bool = True,
    look: Callable[[Sequence[Sample]], None] | None = None,
) -> Scores:
    """Score a run by a judge's verdicts, or without any, write its ``scores.json`` and return it.

    Parameters
    ----------
    run
        A whole run.
    progress
        See `Progress`.
    threads
        CPU threads of torch.
    judge
        Whose verdicts; None = the suite's own judge's, else those of the only judge that there are, else none.
    gates
        Files of quality gates beside the suite's own; see `gendiv gate`.
    nli
        Cross-encoder for NLI diversity, a folder or a hub id; what it says is kept in the run's ``nli.jsonl``.
    allow_missing
        Score what there is although samples that were to be judged have no verdict.
    embeddings
        False leaves out what needs the sentence encoder, and with it torch.
    own
        False leaves out metrics of other packages.
    look
        Is shown the samples of each task, in order, while they are in memory.
    """
    from benchmark import scoring
    from benchmark.metrics.encoder import Encoder
    from benchmark.metrics.own import own_metrics
    from benchmark.nli_scoring import load_classifier

    opened = open_run(run, needs_prompts=False)
    suite = opened.suite
    # One task at a time is in memory: a submission's validation has little of it.
    shown: set[str] = set()

    def read(task: str) -> list[Sample]:
        found = opened.samples(task)
        if look and task not in shown:
            look(found)
            shown.add(task)
        return found

    samples = TaskByTask([entry.task for entry in suite.tasks], read)
    found = judged_by_task(opened, samples.__getitem__, judge, allow_missing=allow_missing)
    more = [read_gate(path) for path in gates]
    if double := next((name for name, n in Counter(gate.name for gate in [suite.gate, *more]).items() if n > 1), None):
        raise UserError(f"two gates are called {double!r}; give each its own `name`")
    asked = [scored_by(opened, gate, found, samples.__getitem__) for gate in [suite.gate, *more]]
    others = {scores.judge: scores for scores in asked if scores.judge and scores.judge != found.judge}
    manifest = opened.manifest.model_copy(
        update={
            "identity": opened.manifest.identity.model_copy(update={"judge": found.judge, "judge_sha256": found.sha256})
        }
    )
    if not suite.texts:
        return _score_preferences(run, opened.manifest, suite, found, beside=bool(more or nli))
    inputs = run.inputs_sha256([*found.logs, *(log for scores in others.values() for log in scores.logs)])

    def counted(stage: str) -> Callable[[int, int], None]:
        before = 0

        def advance(done: int, total: int) -> None:
            nonlocal before
            progress(stage, done - (before if done > before else 0), total)  # texts are embedded in two calls
            before = done

        return advance

    if embeddings:
        _set_threads(threads)
    encoder = Encoder(suite.encoder, progress=counted("embedding")) if embeddings else None
    scores = scoring.score(
        manifest,
        suite,
        samples,
        found.verdicts,
        encoder,
        None if has_frozen_prompts(suite) else opened.prompts,
        inputs,
        gates=more,
        gate_verdicts={name: scores.verdicts for name, scores in others.items()},
        reports=found.reports,
        own=own_metrics() if own else (),
        classifier=load_classifier(nli, run.folder / "nli.jsonl", progress=counted("comparing")) if nli else None,
    )
    kept = [read_kept(run.judge_path(name)) for name in (found.judge, *others) if name]
    if flag := judge_is_reward(manifest, [config for config in kept if config]):
        scores = scores.model_copy(update={"flags": (*scores.flags, flag)})
    write_atomically(run.scores_path, scores.model_dump_json() + "\n")
    return scores


def _score_preferences(run: Run, manifest: Manifest, suite: Suite, found: Judged, *, beside: bool) -> Scores:
    from benchmark.preference_scoring import NO_TEXTS, score_preferences

    if beside:
        raise UserError(f"{NO_TEXTS}; leave out gates and NLI", where=run.manifest_path)
    scores = score_preferences(manifest, suite, found.verdicts, run.inputs_sha256(found.logs))
    write_atomically(run.scores_path, scores.model_dump_json() + "\n")
    return scores


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
        "max_prompt_tokens": options.max_prompt_tokens,
        "truncation": options.truncation,
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
