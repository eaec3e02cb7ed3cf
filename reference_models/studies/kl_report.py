"""What the study of the KL penalty found: levels of every cell, and the estimators at equal KL and equal win rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.records import Role, Scores
from benchmark.statistics.intervals import Interval
from reference_models.core import KL
from reference_models.studies import kl
from reference_models.studies.cells import Cell
from reference_models.studies.equal_kl import GRID, Family, Gap, WithinSeeds, gap, gap_within_seeds
from reference_models.studies.measure import Measured, drawn_otherwise, read_measured
from reference_models.studies.report import (
    LACKING,
    METRICS,
    NAMES,
    SHORT,
    TITLES,
    empty_share,
    enough,
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

Floats = NDArray[np.float64]
BASE: KL = "k1"
DIVERSITY = "sbert_per_input"
METHOD = (
    "PPO takes the penalty off the reward, token by token: k1 = log ratio, k2 = half its square, "
    "k3 = ratio⁻¹ − 1 + log ratio (ratio: policy to SFT). Each is trained with several coefficients from the same SFT "
    "model, against the same reward model, by the recipe's own number of updates. KL is that to SFT in nats an output, "
    "measured on the evaluated prompts and the evaluated outputs: at every token the exact divergence of the two "
    "next-token distributions, summed over the output.",
    "",
    "At equal KL: each seed's curve through its coefficients, straight lines over log KL, differences averaged over "
    f"{GRID} points that lie evenly in log KL between the ends of what all curves reach, and weigh the same. Brackets "
    "are 95 % intervals, two-way over seeds × prompts, and not adjusted for their number; within a seed, a jackknife "
    "over prompts carries the error of the KL as well.",
    "",
    "A policy that went as far and learned less keeps more of SFT's diversity, so that difference alone decides "
    "nothing. At equal win rate: each seed's curve through its coefficients, straight lines over the win rate, "
    "differences averaged over the win rates that both estimators have in that seed. A seed in which they have none in "
    "common is left out; the number of seeds tells it, and there is no verdict then. A curve joins its trainings in "
    "the order of their KL or win rate; where that is not the order of the coefficients, weak and strong penalties are "
    "neighbours on it. " + LACKING,
)
NARROW = 0.2
"""Range of KL, as a share of its lower end, below which the report tells that it is narrow."""


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

    def kept(self, estimators: Sequence[KL], role: Role, metrics: Sequence[str]) -> NDArray[np.bool_] | None:
        """Prompts that have a value in every training of some estimators; None where they are too few, see `ENOUGH`."""
        names = [n for seed in self.setting.seeds for estimator in estimators for n in self.members(seed, estimator)]
        return enough([self.values(name, role, metric) for name in names for metric in metrics])

    def members(self, seed: int, estimator: KL) -> list[str]:
        """Cells of an estimator that did not diverge, weakest penalty first."""
        prefix = f"seed-{seed}/{estimator}-"
        return [name for name in self.scores if name.startswith(prefix)]

    def families(
        self, estimator: KL, role: Role, metric: str, kept: NDArray[np.bool_], equal: str = "kl"
    ) -> list[Family]:
        """One family a seed, of a metric over what is held equal."""
        found = []
        for seed in self.setting.seeds:
            names = self.members(seed, estimator)
            distances, values = (np.array([self.values(n, role, m)[kept] for n in names]) for m in (equal, metric))
            found.append(Family(distances, values))
        return found


def write_report(setting: Setting) -> Path:
    """Score the cells, compare the estimators, and write the report."""
    made = read(setting)
    gaps, within = compare(made), at_equal_win_rate(made)
    silent = {role: emptiness(made, role) for role in made.tasks}
    told_ = [*answers(gaps, within), *counted(silent)]
    turns = {
        role: {e: {m: turning(made, role, e, m) for m in ("kl", "win_rate")} for e in kl.ESTIMATORS}
        for role in made.tasks
    }
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
        *(f"- {line}" for line in told_),
        "",
        "## At equal KL: each estimator minus k1",
        "",
        table(*_gaps(gaps)),
        "",
        "### Along the KL",
        "",
        "What those averages are of: the difference at points of the range in log KL, mean over the seeds, without an "
        "interval; in brackets the KL.",
        "",
        table(*profile(gaps)),
        "",
        "## At equal win rate: each estimator minus k1",
        "",
        table(*_within(within)),
        "",
        "## Seeds in which a stronger penalty does not always go with less",
        "",
        "Less KL, or less win rate, is meant; SFT is not among the trainings.",
        "",
        table(*_turns(turns, len(setting.seeds))),
        "",
        *section(("penalty", "coefficient"), silent, setting.seeds),
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
        "at_equal_win_rate": [_numbers_within(*found) for found in within],
        "seeds_not_monotone": turns,
        "answer": told_,
        "cells": _cells(made),
        "drawn_otherwise": _drawn_otherwise(made),
        "diverged": dict(made.diverged),
        "made_on": made_on(cell.run.manifest().record for cell in made.cells.values()),
    }
    return write(setting, "kl", lines, record)


Compared = tuple[Role, KL, str, Gap | None]
Within = tuple[Role, KL, str, WithinSeeds | None]


def read(setting: Setting) -> Made:
    """Score what is not scored, and read everything."""
    cells = kl.plan(setting)
    undone(cells, setting.world)
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
            for estimator in _others():
                kept = made.kept((BASE, estimator), role, [metric])
                if kept is None:
                    found.append((role, estimator, metric, None))
                    continue
                ours, base = (made.families(e, role, metric, kept) for e in (estimator, BASE))
                curves = all(len(family.values) > 1 for family in (*ours, *base))
                found.append((role, estimator, metric, gap(ours, base) if curves else None))
    return found


def at_equal_win_rate(made: Made) -> list[Within]:
    """Compare every other estimator's diversity with that of k1 where they win as often."""
    found: list[Within] = []
    for role in made.tasks:
        for metric in METRICS[1:]:
            for estimator in _others():
                kept = made.kept((BASE, estimator), role, ["win_rate", metric])
                if kept is None:
                    found.append((role, estimator, metric, None))
                    continue
                ours, base = (made.families(e, role, metric, kept, "win_rate") for e in (estimator, BASE))
                found.append((role, estimator, metric, gap_within_seeds(ours, base)))
    return found


def turning(made: Made, role: Role, estimator: KL, metric: str) -> list[int]:
    """Seeds in which a mean does not always fall with a stronger penalty."""
    found = []
    for seed in made.setting.seeds:
        means = [float(np.nanmean(made.values(name, role, metric))) for name in made.members(seed, estimator)]
        if not is_falling(means):
            found.append(seed)
    return found


def emptiness(made: Made, role: Role) -> dict[tuple[str, ...], dict[int, float]]:
    """Shares of empty outputs: estimator and coefficient → seed."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    for name in made.scores:
        seed, _, training = name.partition("/")
        estimator, _, coefficient = training.partition("-")
        share = empty_share(made.scores[name], made.tasks[role])
        found.setdefault((estimator, coefficient), {})[int(seed.removeprefix("seed-"))] = share
    return found


def is_falling(values: Sequence[float]) -> bool:
    """Whether every value is below the one before it."""
    return all(after < before for before, after in pairwise(values))


def answers(gaps: Sequence[Compared], within: Sequence[Within]) -> list[str]:
    """Say in words what the intervals say, a line a role and estimator: at equal KL, and at equal win rate."""
    lines = []
    for role, estimator in dict.fromkeys((role, estimator) for role, estimator, _, _ in gaps):
        own = {metric: found for r, e, metric, found in gaps if (r, e) == (role, estimator)}
        equal = {metric: found for r, e, metric, found in within if (r, e) == (role, estimator)}
        lines.append(f"{NAMES[role]}, {_at_equal_kl(estimator, own)}; {_at_equal_win_rate(estimator, equal)}")
    return lines


def _at_equal_kl(estimator: KL, own: Mapping[str, Gap | None]) -> str:
    there = {metric: found for metric, found in own.items() if found is not None}
    if DIVERSITY not in there:
        return f"{estimator} and {BASE} share no KL that every seed reached, and are not compared at equal KL"
    low, high = there[DIVERSITY].reach
    width = high / low - 1
    narrow = f", a range of only {width:.0%}".replace("%", " %") if width < NARROW else ""
    text = _listed([_beside(metric, f.estimate, f.interval, f.interval) for metric, f in there.items()])
    lacking = [TITLES[metric] for metric, found in own.items() if found is None]
    dropped = f" and not compared in {_listed(lacking)}" if lacking else ""
    return f"at equal KL ({low:.2f} to {high:.2f} nats an output{narrow}) {estimator} is {text}{dropped}"


def _at_equal_win_rate(estimator: KL, own: Mapping[str, WithinSeeds | None]) -> str:
    answered = {metric: found for metric, found in own.items() if found is not None and found.seeds}
    there = answered.get(DIVERSITY)
    if there is None:
        return f"no seed has a win rate that {estimator} and {BASE} share"
    text = _listed([_beside(metric, f.estimate, _whole(f), f.interval) for metric, f in answered.items()])
    return f"at equal win rate ({there.seeds} of {len(there.per_seed)} seeds) it is {text}"


def _whole(found: WithinSeeds) -> Interval | None:
    """Interval that a verdict may rest on: of seeds that were chosen by their outcome none."""
    return found.interval if found.seeds == len(found.per_seed) else None


def _beside(metric: str, estimate: float | None, judged: Interval | None, shown: Interval | None) -> str:
    return f"{told(verdict(judged))} {BASE} in {TITLES[metric]} ({spelled(estimate, shown)})"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]


def levels(made: Made, role: Role) -> tuple[list[str], list[list[str]]]:
    """Mean over seeds of KL, win rate and diversities, a row an estimator and coefficient; see `over_seeds`."""
    seeds = made.setting.seeds
    rows = []
    for name in dict.fromkeys(name.partition("/")[2] for name in made.scores):
        there = [f"seed-{seed}/{name}" for seed in seeds if f"seed-{seed}/{name}" in made.scores]
        estimator, _, coefficient = name.partition("-")
        ends = "" if len(there) == len(seeds) else f" ({len(there)} seeds)"
        metrics = ("kl", *METRICS)
        shown = [level(metric, over_seeds([made.values(n, role, metric) for n in there])) for metric in metrics]
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


def profile(gaps: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    """Lay out how the differences in win rate and diversity run over the KL, a row a role, estimator and quantity."""
    there = [(one, found) for *one, found in gaps if found is not None and one[-1] in ("win_rate", DIVERSITY)]
    points = max((len(found.at) for _, found in there), default=0)
    header = ["role", "minus k1", "compared", *(f"{place / (points - 1):.0%}" for place in range(points))]
    return header, [
        [role, estimator, SHORT[metric], *(f"{difference:+z.3f} ({kl_:.2f})" for kl_, difference in found.at)]
        for (role, estimator, metric), found in there
    ]


def _within(within: Sequence[Within]) -> tuple[list[str], list[list[str]]]:
    metrics = METRICS[1:]
    there = {tuple(one): found for *one, found in within}
    rows = []
    for role, estimator in dict.fromkeys((role, estimator) for role, estimator, _, _ in within):
        own = there[role, estimator, DIVERSITY]
        row: list[str] = [role, estimator, f"{own.seeds} of {len(own.per_seed)}" if own else "–"]
        for metric in metrics:
            found = there[role, estimator, metric]
            if found is None:
                row.append("not compared")
            else:
                row.append(spelled(found.estimate, found.interval) if found.seeds else "nothing in common")
        per_seed = own.per_seed if own else []
        rows.append([*row, ", ".join("–" if one is None else f"{one:+z.3f}" for one in per_seed)])
    header = ["role", "minus k1", "seeds", *(SHORT[metric] for metric in metrics), f"{SHORT[DIVERSITY]}, by seed"]
    return header, rows


def _turns(turns: Mapping[Role, Mapping[KL, Mapping[str, list[int]]]], seeds: int) -> tuple[list[str], list[list[str]]]:
    rows = [
        [role, estimator, *(f"{len(found[metric])} of {seeds}" for metric in ("kl", "win_rate"))]
        for role, own in turns.items()
        for estimator, found in own.items()
    ]
    return ["role", "penalty", "KL", "win rate"], rows


def _numbers_within(role: Role, estimator: KL, metric: str, found: WithinSeeds | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {"role": role, "estimator": estimator, "minus": BASE, "quantity": metric}
    if found is None:
        return {**numbers, "seeds": None, **dict.fromkeys(WithinSeeds._fields), "verdict": verdict(None)}
    return {**numbers, "seeds": found.seeds, **found._asdict(), "verdict": verdict(_whole(found))}


def _numbers(role: Role, estimator: KL, metric: str, found: Gap | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {"role": role, "estimator": estimator, "minus": BASE, "quantity": metric}
    if found is None:
        return {**numbers, "estimate": None, "verdict": verdict(None)}
    return {**numbers, **found._asdict(), "verdict": verdict(found.interval)}


def _cells(made: Made) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in made.scores:
        means: dict[str, Any] = {}
        for role in made.tasks:
            values = {metric: made.values(name, role, metric) for metric in ("kl", "log_ratio", *METRICS)}
            own = {m: None if enough([v]) is None else round(float(np.nanmean(v)), 6) for m, v in values.items()}
            means[role] = {**own, "empty_share": round(empty_share(made.scores[name], made.tasks[role]), 6)}
        rows.append({"cell": name, **means})
    return rows


def _others() -> list[KL]:
    return [estimator for estimator in kl.ESTIMATORS if estimator != BASE]


def _drawn_otherwise(made: Made) -> float | None:
    """Largest share of a cell's outputs that were not measured as the run holds them; None where none recorded it."""
    shares = [drawn_otherwise(cell.measured_path) for cell in made.cells.values()]
    return max((share for share in shares if share is not None), default=None)


def _coefficients(setting: Setting, estimator: KL) -> list[float]:
    return list(kl.QUICK if setting.quick else kl.COEFFICIENTS[setting.world.name][estimator])
