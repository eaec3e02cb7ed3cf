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
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import ModelCard, Prompt, prompts_sha256
from benchmark.runs import Run
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.suites import load_prompts, load_suite
from reference_models import pocket_data
from reference_models.arguments import differing, read_recipe
from reference_models.methods import METHODS, load_method, train_as_job
from reference_models.models import weak_judge
from reference_models.schedule import Job, Progress, Report, run_jobs
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
    {"sft": 1000, "reward-model": 330, "ppo": 25, "rloo": 25, "dpo": 115},
    compared_prompts=3000,
    evaluated_prompts=32,
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
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot be made: {error.strerror}; give another --out", where=out) from None
    runs = [Run(out / "runs" / name) for name in (*(rung.name for rung in RUNGS), *CONTROLS)]
    prompts = {task: asked[: budget.evaluated_prompts] for task, asked in load_prompts(load_suite(SUITE)).items()}
    arguments = _arguments(out, seed, budget)
    if not (_is_trained(out, arguments) and all(_is_scored(run, prompts) for run in runs)):
        run_jobs(_jobs(out, seed, budget, arguments), workers, progress)
    return runs


def _arguments(out: Path, seed: int, budget: Budget) -> dict[str, Any]:
    """Make the arguments of every training, by the recipes that come with GenDiv."""
    data, models = out / "data", out / "models"
    base = {"model": models / "sft"}
    compared = base | {"data": data / "comparisons.jsonl"}
    rewarded = base | {"reward_model": models / "reward-model", "data": data / "prompts.jsonl"}
    inputs = {
        "sft": {"model": models / "init", "data": data / "sft.jsonl"},
        "reward-model": compared | {"references": data / "references.jsonl"},
        "ppo": rewarded,
        "rloo": rewarded,
        "dpo": compared,
    }
    found: dict[str, Any] = {}
    for method, given in inputs.items():
        overrides: dict[str, Any] = {name: str(path) for name, path in given.items()}
        overrides |= {"seed": seed, "output": str(models / method)}
        if method in budget.steps:
            overrides["steps"] = budget.steps[method]
        found[method] = read_recipe(METHODS[method].load(), Path("pocket") / f"{method}.yaml", overrides)
    average = {"first": models / "sft", "second": models / "ppo", "output": models / "average"}
    found["average"] = read_recipe(METHODS["average"].load(), None, {k: str(v) for k, v in average.items()})
    return found


def _jobs(out: Path, seed: int, budget: Budget, arguments: Mapping[str, Any]) -> list[Job]:
    """List what there is to do, the most urgent first: the chain to PPO decides how long it all takes."""
    data, models = out / "data", out / "models"

    def train(method: str, needs: str) -> Job:
        return Job(method, functools.partial(train_as_job, method, arguments[method]), (needs,))

    sft, judge = models / "sft", models / "reward-model"
    jobs = [
        Job("world", functools.partial(_world, data, models / "init", seed)),
        train("sft", "world"),
        Job("comparisons", functools.partial(_compare, data, sft, budget.compared_prompts, seed), ("sft",)),
        train("reward-model", "comparisons"),
        train("ppo", "reward-model"),
        train("rloo", "reward-model"),
        train("dpo", "comparisons"),
        Job("average", functools.partial(_average, arguments["average"]), ("ppo",)),
    ]
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


def _compare(data: Path, policy: Path, prompts: int, seed: int, report: Report) -> None:
    pocket_data.write_comparisons(data, policy, prompts, seed, lambda done: report("answering", done, prompts))


def _average(arguments: Any, report: Report) -> None:
    load_method("average").train(arguments)
    report("averaging", 1, 1)


def _evaluate(model: str, folder: Path, options: pipeline.SampleOptions, report: Report) -> None:
    """Sample, judge and score, unless that is done."""
    (run,) = pipeline.sample(model, SUITE, folder, options, report)
    pipeline.judge(run, report)
    with contextlib.suppress(UserError):
        run.scores()  # refuses scores of other samples
        return
    pipeline.score(run, report)


def _is_trained(out: Path, arguments: Mapping[str, Any]) -> bool:
    """Whether every model is there, made by these arguments, and every run holds samples of it."""
    for method, wanted in arguments.items():
        folder = out / "models" / method
        try:
            record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if differing(record["arguments"], wanted):
            return False
        rung = next((rung for rung in RUNGS if rung.method == method), None)
        if rung is not None and not _holds(Run(out / "runs" / rung.name), folder):
            return False
    return True


def _holds(run: Run, folder: Path) -> bool:
    try:
        return run.manifest().model.weights_sha256 == weights_sha256(folder)
    except UserError:
        return False


def _is_scored(run: Run, prompts: Mapping[str, list[Prompt]]) -> bool:
    """Whether a run is scored, on these very prompts."""
    try:
        tasks = run.scores().identity.tasks
    except UserError:
        return False
    return {task.task: task.prompts_sha256 for task in tasks} == {
        task: prompts_sha256(asked) for task, asked in prompts.items()
    }


def judge_warning(out: Path) -> str | None:
    """Say whether the ladder's reward model is too weak for what is optimised on it to mean much."""
    return weak_judge(str(out / "models" / "reward-model"))
