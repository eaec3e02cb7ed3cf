"""What a ladder shows out of distribution: each model against SFT, and against SFT's own temperature curve.

The analysis was written before the seeds that `reference_models/results/` reports were run. Per seed, differences are
paired over prompts; over seeds, intervals are two-way (seeds × prompts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.records import Role, Scores
from benchmark.statistics.curve import gain_over_curve
from benchmark.statistics.intervals import Interval, paired_t
from benchmark.statistics.two_way import two_way_t

Floats = NDArray[np.float64]

BASE = "sft"
AT = "1.0"
"""Temperature of all differences."""
DIVERSITY = "sbert_per_input"
EFFECTIVE = "effective_per_input_"
"""Counts those outputs alone that pass the suite's quality gate, whose name stands behind it."""
QUANTITIES = {"win_rate": "win rate", DIVERSITY: "diversity per input", EFFECTIVE: "effective diversity per input"}
"""What is compared with SFT: metric, or the beginning of its name → what it is called."""
CURVE = "win rate over SFT's temperature curve at equal diversity"


@dataclass(frozen=True)
class Finding:
    """One model's difference in one quantity on the prompts of one role."""

    model: str
    role: Role
    quantity: str
    """A metric, or ``over_curve``."""
    estimate: float | None
    """None where the model's diversity is not met anywhere on the curve."""
    interval: Interval | None
    values: tuple[float, ...] | None
    """A value a prompt, for the interval over seeds."""

    @property
    def verdict(self) -> str:
        """``above``, ``below`` or ``not told apart``, by whether the interval excludes 0."""
        if self.interval is None:
            return "not compared"
        return "above" if self.interval.low > 0 else "below" if self.interval.high < 0 else "not told apart"

    def __str__(self) -> str:
        if self.estimate is None:
            return "out of range"
        if self.interval is None:
            return f"{self.estimate:+z.3f}"
        return f"{self.estimate:+z.3f} [{self.interval.low:+z.3f}, {self.interval.high:+z.3f}]"


def compare(scores: Sequence[Scores], roles: Sequence[Role] = ("ood",)) -> list[Finding]:
    """Compare every model of one ladder with SFT, prompt by prompt, at temperature 1.

    Parameters
    ----------
    scores
        Of one seed, SFT among them and swept over temperatures.
    roles
        On which tasks.

    Returns
    -------
    list of Finding
        Model by model, role by role: the three differences, then the win rate over SFT's temperature curve. What a
        task does not have is left out: without references there is no win rate, and of one temperature no curve.
    """
    tasks = {entry.role: entry.task for entry in scores[0].identity.tasks}
    models = {row.name: row for row in scores if row.kind == "model"}
    found = []
    for name, row in models.items():
        for role in roles if name != BASE else ():
            mine, base = (_at(s, tasks[role], AT) for s in (row, models[BASE]))
            for metric in (metric for metric in mine if metric in base):
                difference = paired_t(mine[metric], base[metric])
                values = tuple(np.subtract(mine[metric], base[metric]).tolist())
                found.append(Finding(name, role, metric, difference.estimate, difference.interval, values))
            if "win_rate" in mine and len(models[BASE].per_prompt[tasks[role]]) > 1:
                found.append(_over_curve(name, role, mine, models[BASE], tasks[role]))
    return found


def over_seeds(per_seed: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Put the findings of several seeds together: their mean, with an interval over seeds and prompts.

    Where a seed has no value (its diversity is not met on the curve), neither has the mean.
    """
    found = []
    for same in zip(*per_seed, strict=True):
        first = same[0]
        rows = [finding.values for finding in same]
        if any(row is None for row in rows):
            found.append(Finding(first.model, first.role, first.quantity, None, None, None))
            continue
        both = two_way_t(np.array(rows, dtype=np.float64))
        found.append(Finding(first.model, first.role, first.quantity, both.estimate, both.interval, None))
    return found


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Say findings in words, a line a model and role."""
    lines = []
    for finding in findings:
        verdict = {"not told apart": "not told apart from", "not compared": "out of the range of"}
        said = f"{finding.model} is {verdict.get(finding.verdict, finding.verdict)}"
        role = finding.role.upper().replace("_", "-")
        if finding.quantity == "over_curve":
            what = f"{BASE}'s temperature curve in {role} win rate at equal diversity"
        else:
            what = f"{BASE} in {role} {_called(finding.quantity)}"
        lines.append(f"{said} {what}" + (f": {finding}" if finding.estimate is not None else ""))
    return lines


def table(findings: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """Lay findings out as a table: header, and a row a model and role with a column a quantity."""
    columns = {**{name: f"Δ {called}" for name, called in QUANTITIES.items()}, "over_curve": CURVE}
    cells = {(one.model, one.role, _column(one.quantity)): str(one) for one in findings}
    rows = dict.fromkeys((model, role) for model, role, _ in cells)
    return ["model", "role", *columns.values()], [
        [*row, *(cells.get((*row, column), "–") for column in columns)] for row in rows
    ]


def _at(row: Scores, task: str, temperature: str) -> Mapping[str, list[float]]:
    """Per-prompt values of a row at a temperature, of the quantities that it has."""
    measured = row.per_prompt[task][temperature]
    every = ([metric for metric in sorted(measured) if metric.startswith(name)] for name in QUANTITIES)
    metrics = [found[0] for found in every if found]
    return {m: [float("nan") if value is None else value for value in measured[m]] for m in metrics}


def _column(quantity: str) -> str:
    return next((name for name in QUANTITIES if quantity.startswith(name)), quantity)


def _called(metric: str) -> str:
    return QUANTITIES[_column(metric)]


def _over_curve(name: str, role: Role, mine: Mapping[str, list[float]], base: Scores, task: str) -> Finding:
    curve = [_at(base, task, temperature) for temperature in sorted(base.per_prompt[task], key=float)]
    wins, diversities = ([point[metric] for point in curve] for metric in ("win_rate", DIVERSITY))
    gain = gain_over_curve(mine["win_rate"], mine[DIVERSITY], wins, diversities)
    if gain is None:
        return Finding(name, role, "over_curve", None, None, None)
    return Finding(name, role, "over_curve", gain.estimate, gain.interval, tuple(gain.values.tolist()))
