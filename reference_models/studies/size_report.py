"""What the study of model size found: SFT, PPO and their difference, size by size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.records import Role, Scores
from benchmark.statistics.two_way import TwoWay
from reference_models.studies.measure import read_measured
from reference_models.studies.report import (
    LACKING,
    METRICS,
    NAMES,
    SHORT,
    TITLES,
    empty_share,
    level,
    made_on,
    over_seeds,
    per_prompt,
    read_scores,
    spelled,
    table,
    tasks_of,
    told,
    undone,
    verdict,
    write,
)
from reference_models.studies.setting import Setting
from reference_models.studies.silence import counted, section
from reference_models.studies.size import Size, how, plan, sizes_of, world_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """One quantity on the prompts of one role: of each size, and between the ends of the range."""

    role: Role
    quantity: str
    levels: Mapping[str, Mapping[str, TwoWay | None]]
    """Size → ``sft``, ``ppo``, ``change`` → over seeds and prompts; None where too few prompts have a value."""
    trend: TwoWay | None
    """The change of the largest size minus that of the smallest; None likewise, and of the KL."""


def write_report(setting: Setting) -> Path:
    """Score the cells, compare the sizes, and write the report."""
    planned = plan(setting)
    cells = [cell for _, _, cell in planned]
    undone(cells, setting.world)
    setting.score([cell.run for cell in cells])
    scores = read_scores(cells)
    found = compare(setting, scores)
    sizes = sizes_of(setting.world)
    accuracies = {size.name: [_accuracy(setting, size, seed) for seed in setting.seeds] for size in sizes}
    roles = tasks_of(next(iter(scores.values())))
    empty = {role: emptiness(setting, scores, task) for role, task in roles.items()}
    told_ = [*answers(found), *counted(empty)]
    lines = [
        f"# PPO at several model sizes, {setting.world.name}",
        "",
        f"Made by `{setting.command}`: {len(setting.seeds)} training seeds, sizes "
        f"{', '.join(size.name for size in sizes)} ({how(setting.world)}). Temperature 1. Brackets are 95 % "
        f"intervals, two-way over seeds × prompts, and not adjusted for their number. {LACKING}",
        "",
        "## Answer",
        "",
        *(f"- {line}" for line in told_),
        "",
    ]
    for role in dict.fromkeys(one.role for one in found):
        own = [one for one in found if one.role == role]
        lines += [f"## {NAMES[role]}: PPO minus SFT", "", table(*_rows(own, "change")), ""]
        for name in ("sft", "ppo"):
            lines += [f"### {name.upper()}", "", table(*_rows(own, name)), ""]
    lines += section(("size", "model"), empty, setting.seeds)
    lines += ["## Reward models: share of held-out pairs ranked right, by seed", ""]
    lines += [table(["size", *map(str, setting.seeds)], [[s, *_shares(v)] for s, v in accuracies.items()])]
    record = {
        "sizes": {size.name: size.described for size in sizes},
        "found": [_numbers(one) for one in found],
        "held_out_accuracy": accuracies,
        "empty_share": {
            role: [{"size": size, "model": model, "by_seed": shares} for (size, model), shares in own.items()]
            for role, own in empty.items()
        },
        "answer": told_,
        "made_on": made_on(cell.run.manifest().record for cell in cells),
    }
    return write(setting, "size", lines, record)


def compare(setting: Setting, scores: Mapping[str, Scores]) -> list[Found]:
    """Compare PPO with SFT at every size, and the largest size's difference with the smallest's."""
    roles, sizes = tasks_of(next(iter(scores.values()))), sizes_of(setting.world)
    names = {(size, seed, cell.method): cell for size, seed, cell in plan(setting)}
    found = []
    for role, task in roles.items():
        for quantity in (*METRICS, "kl"):
            levels: dict[str, dict[str, TwoWay | None]] = {}
            changes: dict[str, list[Floats]] = {}
            for size in sizes:
                rows: dict[str, list[Floats]] = {}
                for method in ("sft", "ppo"):
                    for seed in setting.seeds:
                        cell = names[size, seed, method]
                        if quantity == "kl":
                            measured = read_measured(cell.measured_path)[task]["1.0"]
                            row = np.array([measured[doc]["kl"] for doc in scores[cell.name].doc_ids[task]])
                        else:
                            row = per_prompt(scores[cell.name], task, quantity)
                        rows.setdefault(method, []).append(row)
                changes[size.name] = [ours - base for ours, base in zip(rows["ppo"], rows["sft"], strict=True)]
                levels[size.name] = {
                    **{method: over_seeds(own) for method, own in rows.items()},
                    "change": over_seeds(changes[size.name]),
                }
            first, last = (changes[size.name] for size in (sizes[0], sizes[-1]))
            trend = None
            if quantity != "kl":
                trend = over_seeds([large - small for large, small in zip(last, first, strict=True)])
            found.append(Found(role, quantity, levels, trend))
    return found


def emptiness(setting: Setting, scores: Mapping[str, Scores], task: str) -> dict[tuple[str, ...], dict[int, float]]:
    """Shares of empty outputs: size and method → seed."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for size, seed, cell in plan(setting):
        found.setdefault((size.name, cell.method), {})[seed] = empty_share(scores[cell.name], task)
    return found


def answers(found: Sequence[Found]) -> list[str]:
    """Say in words what the intervals say: PPO beside SFT size by size, then the largest size beside the smallest."""
    lines = []
    for one in found:
        if one.quantity == "kl":
            continue
        parts = [_beside(own["change"], f"SFT at {size}") for size, own in one.levels.items()]
        first, *_, last = one.levels
        trend = f"the change at {last} is {_beside(one.trend, f'that at {first}')}"
        lines.append(f"{NAMES[one.role]}, in {TITLES[one.quantity]}, PPO is {', '.join(parts)}; {trend}")
    return lines


def _rows(found: Sequence[Found], what: str) -> tuple[list[str], list[list[str]]]:
    header = ["size", *({**SHORT, "kl": "KL (nats)"}[one.quantity] for one in found)]
    rows = []
    for size in found[0].levels:
        both = {one.quantity: one.levels[size][what] for one in found}
        if what == "change":
            rows.append([size, *(_spelled(b) for b in both.values())])
        else:
            rows.append([size, *(level(quantity, b) for quantity, b in both.items())])
    return header, rows


def _beside(found: TwoWay | None, other: str) -> str:
    shown = "" if found is None else f" ({_spelled(found)})"
    return f"{told(verdict(found and found.interval))} {other}{shown}"


def _spelled(found: TwoWay | None) -> str:
    return "–" if found is None else spelled(found.estimate, found.interval)


def _accuracy(setting: Setting, size: Size, seed: int) -> float | None:
    path = world_of(setting, size).model(seed, "reward-model") / "training.json"
    if not path.exists():
        return None
    found: float | None = json.loads(path.read_text(encoding="utf-8")).get("held_out_accuracy")
    return found


def _shares(values: Sequence[float | None]) -> list[str]:
    return ["–" if value is None else f"{value:.3f}" for value in values]


def _numbers(one: Found) -> dict[str, Any]:
    levels = {
        size: {what: both and {"estimate": both.estimate, "interval": both.interval} for what, both in own.items()}
        for size, own in one.levels.items()
    }
    trend = one.trend and {
        "estimate": one.trend.estimate,
        "interval": one.trend.interval,
        "verdict": verdict(one.trend.interval),
    }
    return {"role": one.role, "quantity": one.quantity, "sizes": levels, "largest_minus_smallest": trend}
