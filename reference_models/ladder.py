"""The pocket ladder: train the demo's models from scratch, then sample, judge and score them beside the controls.

It is the one file here that is no trainer, and the only one that needs the whole harness.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import shutil
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import ModelCard, Scores
from benchmark.runs import Run, write_atomically
from benchmark.statistics.intervals import paired_t
from benchmark.suites import load_suite
from reference_models.sft import SFTArguments, read_recipe, train
from reference_models.tiny import make_checkpoint

SUITE = "pocket"
TRAINED_ON = "gendiv_pocket_id"
RECIPES = Path(__file__).parent / "recipes" / "pocket"
PAIRS = 20_000
ARCHITECTURE = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
CONTROLS = ("random-words", "shuffled-references", "constant", "fresh-references")

Progress = Callable[[str, str, int, int], None]
"""(job, stage, units done since the last call, units in all)."""


@dataclass(frozen=True)
class Rung:
    """A model of the ladder: what is trained, and by which recipe."""

    name: str
    recipe: str


@dataclass(frozen=True)
class Job:
    """One row of the ladder, from nothing to its scores."""

    name: str
    run: Path
    training: SFTArguments | None
    """None for a control."""

    def is_trained(self) -> bool:
        """Whether the checkpoint is there, trained with these very arguments."""
        assert self.training is not None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((Path(self.training.output) / "training.json").read_text(encoding="utf-8"))
            return bool(record["arguments"] == asdict(self.training))
        return False

    def is_done(self) -> bool:
        """Whether the run is scored, in this version of the suite and with this training."""
        if self.training is not None and not self.is_trained():
            return False
        try:
            return Run(self.run).scores().identity.suite == load_suite(SUITE).id
        except UserError:
            return False


RUNGS = (Rung("sft", "sft.yaml"), Rung("sft-short", "sft-short.yaml"))


def climb(out: Path, *, seed: int = 1, workers: int = 2, progress: Progress = lambda *_: None) -> list[Run]:
    """Train, sample, judge and score the whole ladder; what is already there is not done again.

    Parameters
    ----------
    out
        Folder for ``data/``, ``models/`` and ``runs/``.
    seed
        Training seed: data, initialisation and order of batches. At least 1: seed 0 makes the evaluated prompts.
    workers
        Processes side by side, one CPU thread each.
    progress
        See `Progress`; called in this process.

    Returns
    -------
    list of Run
        Scored runs: models, floors, ceiling.
    """
    data, init = out / "data" / f"sft-seed{seed}.jsonl", out / "models" / f"init-seed{seed}"
    jobs: list[Job] = []
    for rung in RUNGS:
        folders = {"model": str(init), "data": str(data), "output": str(out / "models" / rung.name)}
        arguments = read_recipe(RECIPES / rung.recipe, {**folders, "seed": seed})
        jobs.append(Job(rung.name, out / "runs" / rung.name, arguments))
    jobs += [Job(name, out / "runs" / name, None) for name in CONTROLS]
    missing = [job for job in jobs if not job.is_done()]
    if missing:
        _write_data(data, seed)
        _write_init(init, seed)
        # Long jobs come first, so that the cores stay busy to the end.
        context = multiprocessing.get_context("spawn")
        messages = context.Queue()
        with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(messages,)) as pool:
            try:
                _relay(messages, [pool.submit(_do, job) for job in missing], progress)
            except BaseException:
                # Whatever a worker is at can be begun again; waiting for it would only delay the message.
                for worker in multiprocessing.active_children():
                    worker.terminate()
                raise
    return [Run(job.run) for job in jobs]


def findings(scores: list[Scores]) -> list[str]:
    """Say what the ladder shows out of distribution at temperature 1, pair by pair on the same prompts.

    Each rung is compared with the first one, and every floor with each rung: a line tells the paired difference in
    OOD win rate, its 95 % interval, and whether that excludes 0.
    """
    task = next(entry.task for entry in load_suite(SUITE).tasks if entry.role == "ood")
    wins = {row.name: row.per_prompt[task]["1.0"]["win_rate"] for row in scores}
    floors = [row.name for row in scores if row.kind == "floor"]
    pairs = [(RUNGS[0].name, rung.name) for rung in RUNGS[1:]]
    pairs += [(rung.name, floor) for rung in RUNGS for floor in floors]
    lines = []
    for above, below in pairs:
        difference = paired_t(np.array(wins[above], float), np.array(wins[below], float))
        assert difference.interval is not None
        low, high = difference.interval
        sign = "above" if low > 0 else "below" if high < 0 else "not told apart from"
        lines.append(f"{above} is {sign} {below} in OOD win rate: {difference.estimate:+.3f} [{low:+.3f}, {high:+.3f}]")
    return lines


_MESSAGES: Any = None
"""In a worker: where progress is told."""


def _start_worker(messages: Any) -> None:
    """Prepare a worker, and see to it that it ends with its parent: an orphan would go on writing the same files."""
    global _MESSAGES
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    messages.cancel_join_thread()
    _MESSAGES = messages
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _quiet()


def _do(job: Job) -> None:
    """Do what is missing of a job: train, sample, judge, score."""

    def report(stage: str, done: int, total: int) -> None:
        _MESSAGES.put((job.name, stage, done, total))

    model, card = f"control:{job.name}", ModelCard()
    if job.training is not None:
        steps = job.training.steps
        if not job.is_trained():
            # Samples of other weights are not these: without them the run starts afresh.
            shutil.rmtree(job.run, ignore_errors=True)
            train(job.training, progress=lambda _step, _metrics: report("training", 1, steps))
        model, card = job.training.output, ModelCard(method="sft", trained_on=(TRAINED_ON,))
    run = pipeline.sample(model, SUITE, job.run, pipeline.SampleOptions(card=card), report)
    pipeline.judge(run, report)
    pipeline.score(run, report)


def _relay(messages: Any, futures: list[Future[None]], progress: Progress) -> None:
    """Hand the workers' messages to ``progress`` until all are done; the first failure is raised at once."""
    pending = set(futures)
    while pending:
        with contextlib.suppress(queue.Empty):
            progress(*messages.get(timeout=0.2))
            continue
        for future in [future for future in pending if future.done()]:
            pending.remove(future)
            if (error := future.exception()) is not None:
                for other in pending:
                    other.cancel()
                raise error


def _quiet() -> None:
    """Keep library chatter out of the progress display of the parent."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _write_data(path: Path, seed: int) -> None:
    """Write the training pairs, once."""
    from tasks.pocket.world import training_pairs

    if path.exists():
        return
    rows = ({"prompt": doc["prompt"], "completion": doc["reference"]} for doc in training_pairs(PAIRS, seed))
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_init(folder: Path, seed: int) -> None:
    """Write the untrained checkpoint, once."""
    from tasks.pocket.words import vocabulary

    if not folder.exists():
        _quiet()
        temporary = folder.with_name(f".{folder.name}.tmp")
        make_checkpoint(temporary, vocabulary(), seed=seed, architecture=ARCHITECTURE)
        temporary.replace(folder)
