"""What the study of the KL penalty found: levels of every cell, and the estimators compared at equal KL."""

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
from reference_models.core import KL
from reference_models.studies import kl
from reference_models.studies.cells import Cell
from reference_models.studies.equal_kl import Family, Gap, gap
from reference_models.studies.measure import Measured, read_measured
from reference_models.studies.report import (
    METRICS,
    NAMES,
    SHORT,
    TITLES,
    complete,
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

Floats = NDArray[np.float64]
BASE: KL = "k1"
METHOD = (
    "PPO takes the penalty off the reward, token by token: k1 = log ratio, k2 = half its square, "
    "k3 = ratio⁻¹ − 1 + log ratio (ratio: policy to SFT). Each is trained with several coefficients from the same SFT "
    "model, against the same reward model, by the recipe's own number of updates. KL is that to SFT in nats an output, "
    "measured on the evaluated prompts and the evaluated outputs: at every token the exact divergence of the two "
    "next-token distributions, summed over the output.",
    "",
    "At equal KL: each seed's curve through its coefficients, straight lines over log KL, differences averaged over "
    "the KL that all curves reach. Brackets are 95 % intervals, two-way over seeds × prompts, and not adjusted for "
    "their number; within a seed, a jackknife over prompts carries the error of the KL as well.",
)


@dataclass(frozen=True)
class Made:
    """Everything that was made, read."""

    setting: Setting
    cells: Mapping[str, Cell]
    scores: Mapping[str, Scores]
    measured: Mapping[str, Measured]
    diverged: Mapping[str, str]
    tasks: Mapping[Role, str]

    def values(self, name: str, role: Role, metric: str) -> Floats:
        """Per-prompt values of a cell; ``kl`` in nats an output."""
        task = self.tasks[role]
        if metric in ("kl", "log_ratio"):
            found = self.measured[name][task]["1.0"]
            return np.array([found[document][metric] for document in self.scores[name].doc_ids[task]])
        return per_prompt(self.scores[name], task, metric)

    def members(self, seed: int, estimator: KL) -> list[str]:
        """Cells of an estimator that did not diverge, weakest penalty first."""
        prefix = f"seed-{seed}/{estimator}-"
        return [name for name in self.scores if name.startswith(prefix)]

    def families(self, estimator: KL, role: Role, metric: str, kept: NDArray[np.bool_]) -> list[Family]:
        """One family a seed."""
        found = []
        for seed in self.setting.seeds:
            names = self.members(seed, estimator)
            distances, values = (np.array([self.values(n, role, m)[kept] for n in names]) for m in ("kl", metric))
            found.append(Family(distances, values))
        return found


def write_report(setting: Setting) -> Path:
    """Score the cells, compare the estimators, and write the report."""
    made = read(setting)
    gaps = compare(made)
    lines = [
        f"# The estimator of PPO's KL penalty, {setting.world.name}",
        "",
        f"Made by `{setting.command}`: {len(setting.seeds)} training seeds, "
        f"suite {next(iter(made.scores.values())).identity.suite}, temperature 1, "
        f"k = {next(iter(made.scores.values())).identity.sampling.k}.",  # type: ignore[union-attr]
        "",
        *METHOD,
        "",
        "## Answer",
        "",
        *(f"- {line}" for line in answers(gaps)),
        "",
        "## At equal KL: each estimator minus k1",
        "",
        table(*_gaps(gaps)),
        "",
        "## Levels, means over the seeds",
        "",
    ]
    for role in made.tasks:
        lines += [f"### {NAMES[role]}", "", table(*levels(made, role)), ""]
    if made.diverged:
        lines += ["Diverged, and in no curve:", "", *(f"- {n}: {why}" for n, why in made.diverged.items()), ""]
    record = {
        "coefficients": {estimator: _coefficients(setting, estimator) for estimator in kl.ESTIMATORS},
        "at_equal_kl": [_numbers(*found) for found in gaps],
        "answer": answers(gaps),
        "cells": _cells(made),
        "diverged": dict(made.diverged),
        "made_on": made_on(cell.run.manifest().record for cell in made.cells.values()),
    }
    return write(setting, "kl", lines, record)


Compared = tuple[Role, KL, str, Gap | None]


def read(setting: Setting) -> Made:
    """Score what is not scored, and read everything."""
    cells = kl.plan(setting)
    undone(cells)
    alive = [cell for cell in cells if not cell.diverged_path.exists()]
    setting.score([cell.run for cell in alive])
    scores = read_scores(alive)
    diverged = {
        cell.name: str(json.loads(cell.diverged_path.read_text(encoding="utf-8"))["reason"])
        for cell in cells
        if cell not in alive
    }
    measured = {cell.name: read_measured(cell.measured_path) for cell in alive}
    return Made(setting, {c.name: c for c in alive}, scores, measured, diverged, tasks_of(next(iter(scores.values()))))


def compare(made: Made) -> list[Compared]:
    """Compare every other estimator with k1, on every role and in every quantity."""
    found: list[Compared] = []
    for role in made.tasks:
        for metric in METRICS:
            kept = complete([made.values(name, role, metric) for name in made.scores])
            base = made.families(BASE, role, metric, kept)
            for estimator in kl.ESTIMATORS:
                if estimator == BASE:
                    continue
                ours = made.families(estimator, role, metric, kept)
                if all(len(family.values) > 1 for family in (*base, *ours)):
                    found.append((role, estimator, metric, gap(ours, base)))
                else:
                    found.append((role, estimator, metric, None))
    return found


def answers(gaps: Sequence[Compared]) -> list[str]:
    """Say in words what the intervals say, a line a role and estimator."""
    lines = []
    for role, estimator in dict.fromkeys((role, estimator) for role, estimator, _, _ in gaps):
        own = {metric: found for r, e, metric, found in gaps if (r, e) == (role, estimator)}
        found = own["sbert_per_input"]
        if found is None:
            lines.append(f"{NAMES[role]}, {estimator} and {BASE} reached no KL in common, and are not compared")
            continue
        parts = [
            f"{told(verdict(other.interval))} {BASE} in {TITLES[metric]} ({spelled(other.estimate, other.interval)})"
            for metric, other in own.items()
            if other is not None
        ]
        low, high = found.reach
        text = ", ".join(parts[:-1]) + f" and {parts[-1]}"
        lines.append(f"{NAMES[role]}, at equal KL ({low:.2f} to {high:.2f} nats an output) {estimator} is {text}")
    return lines


def levels(made: Made, role: Role) -> tuple[list[str], list[list[str]]]:
    """Mean over seeds of KL, win rate and diversities, a row an estimator and coefficient; KL with its interval."""
    seeds = made.setting.seeds
    rows = []
    for name in dict.fromkeys(name.partition("/")[2] for name in made.scores):
        there = [f"seed-{seed}/{name}" for seed in seeds if f"seed-{seed}/{name}" in made.scores]
        found: list[TwoWay] = [over_seeds([made.values(n, role, m) for n in there]) for m in ("kl", *METRICS)]
        estimator, _, coefficient = name.partition("-")
        ends = "" if len(there) == len(seeds) else f" ({len(there)} seeds)"
        shown = [spelled(f.estimate, f.interval, signed=False) for f in found]
        rows.append([estimator, coefficient + ends, *shown])
    return ["penalty", "coefficient", "KL (nats)", *SHORT.values()], rows


def _gaps(gaps: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    header = ["role", "minus k1", "KL (nats)", *SHORT.values()]
    rows: dict[tuple[Role, KL], list[str]] = {}
    for role, estimator, _, found in gaps:
        reach = "nothing in common" if found is None else f"{found.reach[0]:.2f} to {found.reach[1]:.2f}"
        row = rows.setdefault((role, estimator), [role, estimator, reach])
        row.append("not compared" if found is None else spelled(found.estimate, found.interval))
    return header, list(rows.values())


def _numbers(role: Role, estimator: KL, metric: str, found: Gap | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {"role": role, "estimator": estimator, "minus": BASE, "quantity": metric}
    if found is None:
        return {**numbers, "estimate": None, "verdict": verdict(None)}
    return {**numbers, **found._asdict(), "verdict": verdict(found.interval)}


def _cells(made: Made) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in made.scores:
        means: dict[str, Any] = {
            role: {m: round(float(np.nanmean(made.values(name, role, m))), 6) for m in ("kl", "log_ratio", *METRICS)}
            for role in made.tasks
        }
        rows.append({"cell": name, **means})
    return rows


def _coefficients(setting: Setting, estimator: KL) -> list[float]:
    return list(kl.QUICK if setting.quick else kl.COEFFICIENTS[setting.world.name][estimator])
