"""The pocket ladder: train every method from scratch, then sample, judge and score each beside the controls.

    world → sft → comparisons → reward-model → ppo → average
                       │             ├→ rloo
                       └→ dpo        └→ best-of-16

It is no trainer, and with its data, schedule and findings the only part here that needs the whole harness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import ModelCard
from benchmark.runs import Run
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.suites import load_suite
from reference_models import pocket_data
from reference_models.arguments import read_recipe
from reference_models.methods import METHODS, load_method
from reference_models.schedule import Job, Progress, Report, quiet, run_jobs
from reference_models.tiny import make_checkpoint

SUITE = "pocket"
TRAINED_ON = "gendiv_pocket_id"
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
BEST_OF = 16


@dataclass(frozen=True)
class Budget:
    """How much is trained and evaluated."""

    name: str
    steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Method → steps, where they are not the recipe's."""
    compared_prompts: int = 4000
    evaluated_prompts: int | None = None
    """First so many prompts of each task; None = all."""

    def __str__(self) -> str:
        steps = ", ".join(f"{method} {count}" for method, count in self.steps.items())
        prompts = f"{self.evaluated_prompts or 'all'} prompts a task"
        return f"budget {self.name}: {prompts}, {f'steps {steps}' if steps else 'the recipes’ steps'}"


FULL = Budget("full")
DEMO = Budget(
    "demo",
    {"sft": 800, "reward-model": 230, "ppo": 25, "rloo": 25, "dpo": 115},
    compared_prompts=2000,
    evaluated_prompts=40,
)


@dataclass(frozen=True)
class Rung:
    """A model of the ladder, as it stands on the board."""

    name: str
    method: str
    needs: str
    """The last job before it can be evaluated."""
    temperatures: tuple[float, ...] | None = None
    """None = the suite's grid."""


RUNGS = (
    Rung("sft", "sft", "sft"),
    Rung("ppo", "ppo", "ppo"),
    Rung(f"best-of-{BEST_OF}", "best-of-n", "reward-model", (1.0,)),
    Rung("rloo", "rloo", "rloo"),
    Rung("dpo", "dpo", "dpo"),
    Rung("sft-ppo-average", "average", "average"),
)


def climb(
    out: Path, *, seed: int = 1, workers: int = 2, budget: Budget = FULL, progress: Progress = lambda *_: None
) -> list[Run]:
    """Train, sample, judge and score the whole ladder; what is already there is not done again.

    Parameters
    ----------
    out
        Folder for ``data/``, ``models/`` and ``runs/``.
    seed
        Training seed: data, initialisation, order of batches and rollouts. At least 1: seed 0 makes the evaluated
        prompts.
    workers
        Processes side by side, one CPU thread each.
    budget
        See `Budget`.
    progress
        See `Progress`; called in this process.

    Returns
    -------
    list of Run
        Scored runs: models, floors, ceiling.
    """
    runs = [Run(out / "runs" / name) for name in (*(rung.name for rung in RUNGS), *CONTROLS)]
    jobs = _jobs(out, seed, budget)
    if not all(_is_scored(run.folder, budget) for run in runs) or not _is_trained(out):
        run_jobs(jobs, workers, progress)
    return runs


def _jobs(out: Path, seed: int, budget: Budget) -> list[Job]:
    """List what there is to do, the most urgent first: the chain to PPO decides how long it all takes."""
    data, models = out / "data", out / "models"

    def train(method: str, needs: str, **inputs: Path) -> Job:
        overrides = {"seed": seed, "output": models / method, **inputs}
        if method in budget.steps:
            overrides["steps"] = budget.steps[method]
        recipe = Path("pocket") / f"{method}.yaml"
        arguments = read_recipe(METHODS[method].load(), recipe, {k: str(v) for k, v in overrides.items()})
        return Job(method, functools.partial(_train, method, arguments), (needs,))

    sft, judge = models / "sft", models / "reward-model"
    compare = functools.partial(_compare, data, sft, budget.compared_prompts, seed)
    optimised = {"model": sft, "reward_model": judge, "data": data / "prompts.jsonl"}
    jobs = [
        Job("world", functools.partial(_world, data, models / "init", seed)),
        train("sft", "world", model=models / "init", data=data / "sft.jsonl"),
        Job("comparisons", compare, ("sft",)),
        train(
            "reward-model",
            "comparisons",
            model=sft,
            data=data / "comparisons.jsonl",
            references=data / "references.jsonl",
        ),
        train("ppo", "reward-model", **optimised),
        train("rloo", "reward-model", **optimised),
        train("dpo", "comparisons", model=sft, data=data / "comparisons.jsonl"),
    ]
    average = load_method("average").AverageArguments(
        first=str(sft), second=str(models / "ppo"), output=str(models / "average")
    )
    jobs.append(Job("average", functools.partial(_average, average), ("ppo",)))
    for rung in sorted(RUNGS, key=lambda rung: rung.method != "best-of-n"):  # the longest first
        model = str(models / rung.method)
        if rung.method == "best-of-n":
            model = f"best-of-n:policy={sft},reward_model={judge},n={BEST_OF}"
        options = pipeline.SampleOptions(
            temperatures=rung.temperatures,
            limit=budget.evaluated_prompts,
            name=rung.name,
            card=ModelCard(method=rung.method, trained_on=(TRAINED_ON,)),
        )
        evaluate = functools.partial(_evaluate, model, out / "runs" / rung.name, options)
        jobs.append(Job(f"{rung.name} evaluated", evaluate, (rung.needs,)))
    for name in CONTROLS:
        options = pipeline.SampleOptions(limit=budget.evaluated_prompts)
        evaluate = functools.partial(_evaluate, f"control:{name}", out / "runs" / name, options)
        jobs.append(Job(name, evaluate))
    return jobs


def _world(data: Path, init: Path, seed: int, report: Report) -> None:
    """Write the training data and the untrained checkpoint, once."""
    from tasks.pocket.words import vocabulary

    pocket_data.write_pairs(data, seed)
    if not init.exists():
        temporary = init.with_name(f".{init.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        make_checkpoint(temporary, vocabulary(), seed=seed, architecture=ARCHITECTURE)
        temporary.replace(init)
    report("writing", 1, 1)


def _train(method: str, arguments: Any, report: Report) -> None:
    before = 0

    def progress(step: int, _metrics: dict[str, float]) -> None:
        nonlocal before
        report("training", step - before, arguments.steps)  # more than one step where a run is taken up again
        before = step

    load_method(method).train(arguments, progress=progress)


def _compare(data: Path, policy: Path, prompts: int, seed: int, report: Report) -> None:
    pocket_data.write_comparisons(data, policy, prompts, seed, lambda done: report("answering", done, prompts))


def _average(arguments: Any, report: Report) -> None:
    if not Path(arguments.output).exists():
        load_method("average").average(arguments)
    report("averaging", 1, 1)


def _evaluate(model: str, folder: Path, options: pipeline.SampleOptions, report: Report) -> None:
    """Sample, judge and score, unless that is done."""
    run = pipeline.sample(model, SUITE, folder, options, report)
    pipeline.judge(run, report)
    with contextlib.suppress(UserError):
        run.scores()  # refuses scores of other samples
        return
    pipeline.score(run, report)


def _is_scored(folder: Path, budget: Budget) -> bool:
    """Whether a run is scored, in this version of the suite and on as many prompts as the budget asks."""
    try:
        identity = Run(folder).scores().identity
    except UserError:
        return False
    asked = budget.evaluated_prompts
    return identity.suite == load_suite(SUITE).id and (asked is None or identity.tasks[0].n_prompts == asked)


def _is_trained(out: Path) -> bool:
    """Whether every run holds samples of the checkpoint that is there now."""
    for rung in RUNGS:
        if rung.method == "best-of-n":
            continue
        folder = out / "models" / rung.method
        recorded = Run(out / "runs" / rung.name).manifest().model.weights_sha256
        if not folder.is_dir() or weights_sha256(folder) != recorded:
            return False
    return True


__all__ = ["BEST_OF", "CONTROLS", "DEMO", "FULL", "RUNGS", "SUITE", "Budget", "Rung", "climb", "quiet"]
