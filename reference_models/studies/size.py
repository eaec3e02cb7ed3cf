"""Does what PPO costs in diversity depend on the size of the model? One chain from nothing a size and seed.

Every size has its own data's comparisons, reward model and PPO, by the pocket recipes; only the learning rates differ,
in inverse proportion to the width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from reference_models import pocket_data
from reference_models.arguments import read_recipe
from reference_models.ladder import ARCHITECTURE, FULL
from reference_models.methods import METHODS
from reference_models.schedule import Job, Report, run_jobs
from reference_models.studies import cells
from reference_models.studies.cells import Cell
from reference_models.studies.setting import QUICK_STEPS, Setting
from reference_models.studies.world import World
from reference_models.tiny import make_checkpoint

QUICK_COMPARED = 40
METHODS_COMPARED = ("sft", "ppo")


@dataclass(frozen=True)
class Size:
    """A shape of the model; a head is 16 wide, and the feed-forward layer four times the model."""

    hidden: int
    layers: int

    @property
    def name(self) -> str:
        """Such as ``64x2``: width and layers."""
        return f"{self.hidden}x{self.layers}"

    @property
    def architecture(self) -> dict[str, Any]:
        """Fields of a configuration; the ladder's own is 64 x 2."""
        heads = self.hidden // 16
        return {
            **ARCHITECTURE,
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
        }

    def rate(self, recipe: float) -> float:
        """Learning rate: the recipe's at the ladder's width, and less the wider a model is."""
        return recipe * int(str(ARCHITECTURE["hidden_size"])) / self.hidden


SIZES = (Size(32, 1), Size(64, 2), Size(128, 3))


def world_of(setting: Setting, size: Size) -> World:
    """Give the world of one size: its ladders lie in the study's own folder."""
    return replace(setting.world, ladders=setting.folder("size") / size.name)


def plan(setting: Setting) -> list[tuple[Size, int, Cell]]:
    """List the cells, the largest model first: SFT and PPO of every size and seed."""
    found = []
    for size in reversed(SIZES):
        world = world_of(setting, size)
        for seed in setting.seeds:
            sft, folder = world.model(seed, "sft"), setting.folder("size") / "cells" / size.name / f"seed-{seed}"
            common = Cell("", folder, "sft", reference=sft, limit=setting.limit, k=setting.k)
            found.append(
                (size, seed, replace(common, name=_name(size, seed, "sft"), folder=folder / "sft", policy=sft))
            )
            arguments = world.arguments("ppo", seed, folder / "ppo" / "model", _changes(setting.quick, size, "ppo"))
            name = _name(size, seed, "ppo")
            ppo = replace(common, name=name, folder=folder / "ppo", method="ppo", arguments=arguments)
            found.append((size, seed, ppo))
    return found


def run(setting: Setting) -> None:
    """Train every size's chain, then sample, judge and measure its SFT and PPO.

    Raises
    ------
    UserError
        On real text, whose chain begins with a pretraining a size.
    """
    if setting.world.name != "pocket":
        raise UserError(
            "sizes are compared on the pocket world alone: on real text a size begins with a pretraining of its own; "
            "reference_models.real_text_ladder compares those"
        )
    planned = plan(setting)
    jobs = []
    for size, seed, cell in planned:
        name = _name(size, seed, "chain")
        if cell.method == "sft":
            jobs.append(Job(name, partial(make_chain, world_of(setting, size), size, seed, setting.quick)))
        jobs.append(Job(cell.name, partial(cells.do, cell, world_of(setting, size)), (name,)))
    run_jobs(sorted(jobs, key=lambda job: bool(job.needs)), setting.workers, setting.progress)


def report(setting: Setting) -> Path:
    """Score what `run` made, and write the report."""
    from reference_models.studies.size_report import write_report

    return write_report(setting)


def make_chain(world: World, size: Size, seed: int, quick: bool, report: Report) -> None:
    """Make a size's model, fine-tune it, compare its answers and train its reward model; what is there stays."""
    from tasks.pocket.words import vocabulary

    data, models = world.folder(seed) / "data", world.folder(seed) / "models"
    pocket_data.write_pairs(data, seed)
    init = models / "init"
    if not init.exists():
        temporary = init.with_name(".init.tmp")
        make_checkpoint(temporary, vocabulary(), seed=seed, architecture=size.architecture)
        temporary.replace(init)
    inputs: dict[str, Mapping[str, Path]] = {
        "sft": {"model": init, "data": data / "sft.jsonl"},
        "reward-model": {
            "model": models / "sft",
            "data": data / "comparisons.jsonl",
            "references": data / "references.jsonl",
        },
    }
    prompts = QUICK_COMPARED if quick else FULL.compared_prompts
    for method, given in inputs.items():
        if method == "reward-model":
            answered = partial(_answered, report, prompts)
            pocket_data.write_comparisons(data, models / "sft", prompts, seed, answered)
        overrides: dict[str, Any] = {name: str(path) for name, path in given.items()}
        overrides |= {"seed": seed, "output": str(models / method), **_changes(quick, size, method)}
        arguments = read_recipe(METHODS[method].load(), Path("pocket") / f"{method}.yaml", overrides)
        cells.train(method, arguments, report)


def _answered(report: Report, prompts: int, done: int) -> None:
    report("answering", done, prompts)


def _changes(quick: bool, size: Size, method: str) -> dict[str, Any]:
    """What is not the recipe's."""
    recipe = read_recipe(METHODS[method].load(), Path("pocket") / f"{method}.yaml", dict.fromkeys(_NEEDED[method], "-"))
    changes = {"learning_rate": size.rate(recipe.learning_rate)}
    return changes | ({"steps": QUICK_STEPS, "batch_size": 8} if quick else {})


_NEEDED = {
    "sft": ("model", "data", "output"),
    "reward-model": ("model", "data", "output", "references"),
    "ppo": ("model", "data", "output", "reward_model"),
}


def _name(size: Size, seed: int, what: str) -> str:
    return f"{size.name}/seed-{seed}/{what}"
