"""The pocket ladder: train the demo's models from scratch, then sample, judge and score them beside the controls.

It is the one file here that is no trainer, and the only one that needs the whole harness.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import queue
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.records import Scores
from benchmark.runs import Run, write_atomically
from benchmark.statistics.intervals import paired_t
from benchmark.suites import load_suite
from reference_models.sft import SFTArguments, read_recipe, train
from reference_models.tiny import make_checkpoint

SUITE = "pocket"
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
    data, init = out / "data" / "sft.jsonl", out / "models" / "init"
    _write_data(data, seed)
    _write_init(init, seed)
    jobs: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = []
    for rung in RUNGS:
        arguments = read_recipe(
            RECIPES / rung.recipe,
            {"model": str(init), "data": str(data), "output": str(out / "models" / rung.name), "seed": seed},
        )
        jobs.append((rung.name, _train_and_run, (arguments, str(out / "runs" / rung.name))))
    jobs += [(name, _run, (f"control:{name}", str(out / "runs" / name))) for name in CONTROLS]
    # Long jobs first, and each job in a process of its own, so that the cores stay busy to the end.
    with multiprocessing.get_context("spawn").Manager() as manager:
        messages = manager.Queue()
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet) as pool:
            futures = [pool.submit(job, *args, name, messages) for name, job, args in jobs]
            _relay(messages, futures, progress)
    return [Run(out / "runs" / name) for name, _, _ in jobs]


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
        difference = paired_t(wins[above], wins[below])
        assert difference.interval is not None
        low, high = difference.interval
        sign = "above" if low > 0 else "below" if high < 0 else "not told apart from"
        lines.append(f"{above} is {sign} {below} in OOD win rate: {difference.estimate:+.3f} [{low:+.3f}, {high:+.3f}]")
    return lines


def _train_and_run(arguments: SFTArguments, run: str, name: str, messages: Any) -> None:
    """Train one rung unless it is there with the same arguments, then put it through the three stages."""
    checkpoint = Path(arguments.output)
    if not _same_training(checkpoint, arguments):
        train(arguments, progress=lambda _step, _metrics: messages.put((name, "training", 1, arguments.steps)))
    _run(str(checkpoint), run, name, messages)


def _run(model: str, folder: str, name: str, messages: Any) -> None:
    """Sample, judge and score; a run that is scored already costs a look at its files."""

    def report(stage: str, done: int, total: int) -> None:
        messages.put((name, stage, done, total))

    run = pipeline.sample(model, SUITE, Path(folder), progress=report)
    pipeline.judge(run, progress=report)
    if not run.scores_path.exists():
        pipeline.score(run, progress=report)


def _same_training(checkpoint: Path, arguments: SFTArguments) -> bool:
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        record = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
        return bool(record["arguments"] == asdict(arguments))
    return False


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
    transformers_logging.disable_progress_bar()


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
        temporary = folder.with_name(".init.tmp")
        make_checkpoint(temporary, vocabulary(), seed=seed, architecture=ARCHITECTURE)
        temporary.replace(folder)
