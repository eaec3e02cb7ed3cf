"""Does what PPO costs in diversity depend on the size of the model? One chain a size and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from reference_models.schedule import Job, Report, run_jobs
from reference_models.studies import cells, size_pocket, size_real_text
from reference_models.studies.cells import Cell
from reference_models.studies.setting import Setting
from reference_models.studies.world import World


class Size(Protocol):
    """A size of a world's model."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def described(self) -> dict[str, Any]:
        """What the report's numbers say of it."""

    @property
    def is_the_ladders(self) -> bool:
        """Whether the world's own ladder is of this size, so that its chain is there."""

    def changes(self, method: str, *, quick: bool) -> dict[str, Any]:
        """Fields that are not the recipe's."""

    def make_chain(self, world: World, seed: int, quick: bool, report: Report) -> None:
        """Make the fine-tuned model of a seed and its reward model; what is there stays."""


def sizes_of(world: World) -> Sequence[Size]:
    """List a world's sizes, the smallest first."""
    return size_pocket.SIZES if world.name == "pocket" else size_real_text.sizes(world)


def how(world: World) -> str:
    """Say what a size is, and by what it is trained."""
    return size_pocket.HOW if world.name == "pocket" else size_real_text.HOW


def world_of(setting: Setting, size: Size) -> World:
    """Give the world of one size: its ladders lie in the study's own folder, or are the world's own."""
    if size.is_the_ladders:
        return setting.world
    return replace(setting.world, ladders=setting.folder("size") / size.name)


def plan(setting: Setting) -> list[tuple[Size, int, Cell]]:
    """List the cells, the largest model first: SFT and PPO of every size and seed."""
    found = []
    for size in reversed(sizes_of(setting.world)):
        world = world_of(setting, size)
        for seed in setting.seeds:
            sft, folder = world.model(seed, "sft"), setting.folder("size") / "cells" / size.name / f"seed-{seed}"
            common = Cell("", folder, "sft", reference=sft, limit=setting.limit, k=setting.k)
            found.append(
                (size, seed, replace(common, name=_name(size, seed, "sft"), folder=folder / "sft", policy=sft))
            )
            changes = size.changes("ppo", quick=setting.quick)
            arguments = world.arguments("ppo", seed, folder / "ppo" / "model", changes)
            name = _name(size, seed, "ppo")
            ppo = replace(common, name=name, folder=folder / "ppo", method="ppo", arguments=arguments)
            found.append((size, seed, ppo))
    return found


def run(setting: Setting) -> None:
    """Train every size's chain, then sample, judge and measure its SFT and PPO."""
    jobs = []
    for size, seed, cell in plan(setting):
        name, world = _name(size, seed, "chain"), world_of(setting, size)
        if size.is_the_ladders:
            world.check(seed, "sft", "reward-model")
        elif cell.method == "sft":
            jobs.append(Job(name, partial(size.make_chain, world, seed, setting.quick)))
        jobs.append(Job(cell.name, partial(cells.do, cell, world), (name,)))
    run_jobs(sorted(jobs, key=lambda job: bool(job.needs)), setting.workers, setting.progress)


def report(setting: Setting) -> Path:
    """Score what `run` made, and write the report."""
    from reference_models.studies.size_report import write_report

    return write_report(setting)


def _name(size: Size, seed: int, what: str) -> str:
    return f"{size.name}/seed-{seed}/{what}"
