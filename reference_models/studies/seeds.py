"""Methods over training seeds: every ladder as it is, put together.

What it finds on the frozen pocket seeds stands in ``reference_models/results/pocket.md``, and not here once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.records import Role, Scores
from benchmark.runs import Run, write_atomically
from reference_models.findings import compare, over_seeds, sentences, table
from reference_models.ladder import CONTROLS, FULL, RUNGS, Budget, climb
from reference_models.studies import report as pages
from reference_models.studies.setting import QUICK_PROMPTS, QUICK_STEPS, Setting

NAMES = ("sft", "ppo", "rloo", "dpo", "best-of-16")
"""Models of a real-text ladder that are compared, where there are runs of them."""
QUICK = Budget(
    "quick",
    dict.fromkeys(("sft", "reward-model", "ppo", "rloo", "dpo"), QUICK_STEPS),
    compared_prompts=40,
    evaluated_prompts=QUICK_PROMPTS,
)


def run(setting: Setting) -> None:
    """Make the ladders: of the pocket world all of each seed; of real text nothing, for its own command does."""
    if setting.world.name != "pocket":
        for seed in setting.seeds:
            setting.world.check(seed, "sft", "ppo")
        return
    for seed in setting.seeds:
        folder, started = _folder(setting, seed), time.perf_counter()
        budget = QUICK if setting.quick else FULL
        climb(folder, seed=seed, workers=setting.workers, budget=budget, progress=setting.progress)
        if not (folder / "seconds.json").exists():
            seconds = {"seconds": round(time.perf_counter() - started, 1)}
            write_atomically(folder / "seconds.json", json.dumps(seconds) + "\n")


def report(setting: Setting) -> Path:
    """Compare every model with SFT, and over the seeds.

    Raises
    ------
    UserError
        If a seed has no scored run of SFT.
    """
    return write_report(setting, {seed: _scores(setting, seed) for seed in setting.seeds})


def write_report(setting: Setting, ladders: Mapping[int, Sequence[Scores]]) -> Path:
    """Compare what every seed has, name what only some have, and write the report; see `report`."""
    there: dict[str, list[int]] = {}
    for seed, scores in ladders.items():
        for row in scores:
            there.setdefault(row.name, []).append(seed)
    dropped = {name: seeds for name, seeds in there.items() if len(seeds) < len(ladders)}
    ladders = {seed: [row for row in scores if row.name not in dropped] for seed, scores in ladders.items()}
    first = next(iter(ladders.values()))
    roles: Sequence[Role] = tuple(pages.tasks_of(first[0]))
    together = over_seeds([compare(scores, roles) for scores in ladders.values()])
    header, rows = table(together)
    lines = [
        f"# Methods over training seeds, {setting.world.name}",
        "",
        f"Made by `{setting.command}`: {len(setting.seeds)} training seeds, suite {first[0].identity.suite}. Each "
        "model minus SFT of the same seed, at temperature 1. Brackets are 95 % intervals, two-way over "
        "seeds × prompts, and not adjusted for their number.",
        "",
        pages.table(header, rows),
        "",
        "## In words",
        "",
        *(f"- {line}" for line in sentences(together)),
        "",
    ]
    if dropped:
        lines += ["## Not compared, for not every seed has it", ""]
        lines += [f"- {name}: a run in seed {', '.join(map(str, seeds))} alone" for name, seeds in dropped.items()]
        lines += [""]
    numbers = [
        {
            "model": one.model,
            "role": one.role,
            "quantity": one.quantity,
            "estimate": one.estimate,
            "interval": one.interval,
            "verdict": one.verdict,
        }
        for one in together
    ]
    record = {"over_seeds": numbers, "answer": sentences(together), "not_in_every_seed": dropped}
    return pages.write(setting, "seeds", lines, record)


def _folder(setting: Setting, seed: int) -> Path:
    return setting.folder("seeds") / f"seed-{seed}" if setting.quick else setting.world.folder(seed)


def _scores(setting: Setting, seed: int) -> list[Scores]:
    if setting.world.name == "pocket":
        folder = _folder(setting, seed)
        runs = [Run(folder / "runs" / name) for name in (*(rung.name for rung in RUNGS), *CONTROLS)]
        if missing := [run for run in runs if not run.scores_path.exists()]:
            raise UserError(f"seed {seed} is not done; leave out --only report", where=missing[0].folder)
        return [run.scores() for run in runs]
    there = {name: run for name in NAMES if (run := setting.world.run(seed, name)) is not None}
    if "sft" not in there:
        raise UserError(f"seed {seed} has no run of SFT on {setting.world.suite}", where=setting.world.ladders)
    setting.score(list(there.values()))
    return [run.scores().model_copy(update={"name": name}) for name, run in there.items()]
