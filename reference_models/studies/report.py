"""What the reports of all studies share: tables, verdicts, and what they were made with."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmark.errors import UserError
from benchmark.provenance import environment
from benchmark.records import Role, Scores
from benchmark.runs import write_atomically
from benchmark.statistics.intervals import Interval
from benchmark.statistics.two_way import TwoWay, two_way_t
from reference_models.studies.bound import refuse_others_run
from reference_models.studies.cells import Cell
from reference_models.studies.setting import Setting
from reference_models.studies.world import World

Floats = NDArray[np.float64]
ROLES: tuple[Role, ...] = ("id", "ood", "ood_hard")
NAMES: Mapping[Role, str] = {"id": "in distribution", "ood": "out of distribution", "ood_hard": "on the hard task"}
TITLES = {
    "win_rate": "win rate",
    "sbert_per_input": "diversity per input (Sentence-BERT)",
    "ead_per_input": "diversity per input (EAD)",
    "effective_per_input": "effective diversity per input",
    "kl": "KL",
}
SHORT = {"win_rate": "win", "sbert_per_input": "SBERT", "ead_per_input": "EAD", "effective_per_input": "effective"}
METRICS = tuple(SHORT)
"""What every study compares; the last counts only outputs that pass the suite's own gate, and is called after it."""
RANGES = {
    **dict.fromkeys(("win_rate", "effective_per_input"), (0.0, 1.0)),
    **dict.fromkeys(("sbert_per_input", "ead_per_input", "token_entropy_per_input", "kl"), (0.0, np.inf)),
}
"""What the mean of a quantity lies between, as far as any model's does."""

ENOUGH = 0.9
"""Share of the prompts that must have a value for a quantity to be compared: fewer were chosen by what came out."""
WORDS = "ead_per_input"
"""The one of them that an output without words is left out of."""
MOSTLY = 0.5
"""Share of empty outputs above which little is known of the others."""
LACKING = (
    f"EAD counts words, and no prompt with more than {MOSTLY:.0%} empty outputs; a quantity that more than "
    f"{1 - ENOUGH:.0%} of the prompts lack in some training is not compared."
).replace("%", " %")


def verdict(interval: Interval | None) -> str:
    """``above``, ``below`` or ``not told apart``, by whether the interval excludes 0; ``not compared`` without one."""
    if interval is None:
        return "not compared"
    return "above" if interval.low > 0 else "below" if interval.high < 0 else "not told apart"


def told(verdict_: str) -> str:
    """Continue a verdict so that the name of the other side may follow."""
    return {"not told apart": "not told apart from", "not compared": "not compared with"}.get(verdict_, verdict_)


def spelled(estimate: float | None, interval: Interval | None, *, signed: bool = True) -> str:
    """Write a number with its interval."""
    if estimate is None:
        return "out of range"
    sign = "+" if signed else ""
    number = f"{estimate:{sign}z.3f}"
    return number if interval is None else f"{number} [{interval.low:{sign}z.3f}, {interval.high:{sign}z.3f}]"


def level(metric: str, found: TwoWay | None) -> str:
    """Write the mean of a quantity; its interval, which knows no range, ends where that of the quantity does."""
    if found is None:
        return "–"
    low, high = RANGES[metric]
    ends = found.interval and Interval(max(found.interval.low, low), min(found.interval.high, high))
    return spelled(found.estimate, ends, signed=False)


def tasks_of(scores: Scores) -> dict[Role, str]:
    """Role → task, in the order of `ROLES`; of several tasks of a role the first."""
    found: dict[Role, str] = {}
    for role in ROLES:
        tasks = [entry.task for entry in scores.identity.tasks if entry.role == role]
        if tasks:
            found[role] = tasks[0]
    return found


def per_prompt(scores: Scores, task: str, metric: str, temperature: float = 1.0) -> Floats:
    """Per-prompt values of a row, NaN where a prompt has none; effective diversity by the suite's own gate.

    EAD leaves empty outputs out. Of a prompt most of whose outputs are empty it would tell how varied the few others
    are, up to 1 for a single one, so that such a prompt has none here.

    Raises
    ------
    UserError
        If the row has no such metric.
    """
    found = scores.per_prompt.get(task, {}).get(str(temperature), {})
    name = metric if metric in found else next((key for key in found if key.startswith(f"{metric}_")), None)
    empty = np.array(found.get("empty_share", ()))
    if name is None and metric == WORDS and empty.size:
        return np.full(len(empty), np.nan)  # scoring writes no row where no prompt has words
    if name is None:
        raise UserError(f"{scores.name}: no {metric} on {task} at temperature {temperature:g}")
    values = np.array([np.nan if value is None else value for value in found[name]])
    return np.where(empty > MOSTLY, np.nan, values) if metric == WORDS and empty.size else values


def empty_share(scores: Scores, task: str) -> float:
    """Share of a row's outputs at temperature 1 that are empty, in [0, 1]."""
    return float(per_prompt(scores, task, "empty_share").mean())


def complete(tables: Sequence[Floats]) -> NDArray[np.bool_]:
    """Which prompts have a value in every table [..., prompts]."""
    return np.asarray(np.all([np.isfinite(np.atleast_2d(table)).all(axis=0) for table in tables], axis=0))


def enough(tables: Sequence[Floats]) -> NDArray[np.bool_] | None:
    """Which prompts have a value in every table; None where they are too few, see `ENOUGH`, or there is no table."""
    kept = complete(tables)
    return kept if len(tables) and kept.mean() >= ENOUGH else None


def over_seeds(rows: Sequence[Floats]) -> TwoWay | None:
    """Mean over seeds and prompts, of the prompts that have a value in every seed; None where they are too few."""
    kept = enough(rows)
    return None if kept is None else two_way_t(np.array(rows)[:, kept])


def undone(cells: Sequence[Cell], world: World) -> None:
    """Refuse to report on cells that are not done, or are of another policy, suite or judge.

    Raises
    ------
    UserError
        Naming how many, and one.
    """
    open_ = [cell for cell in cells if not cell.is_done]
    if open_:
        raise UserError(
            f"{len(open_)} of {len(cells)} cells are not done, such as {open_[0].name}; `--only run` makes them",
            where=open_[0].folder,
        )
    for cell in cells:
        if not cell.diverged_path.exists():
            refuse_others_run(cell.run, world, cell.policy)


def read_scores(cells: Sequence[Cell]) -> dict[str, Scores]:
    """Read the scores of cells by their names."""
    return {cell.name: cell.run.scores() for cell in cells}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table in Markdown."""
    return tabulate(rows, headers=header, tablefmt="pipe", disable_numparse=True)


def write(setting: Setting, study: str, lines: Sequence[str], record: Mapping[str, Any]) -> Path:
    """Write a report in Markdown and its numbers in JSON, each whole.

    Returns
    -------
    pathlib.Path
        The report.
    """
    made = environment()
    packages = ", ".join(f"{name} {version}" for name, version in dict(made["packages"]).items())  # type: ignore[arg-type]
    machine = platform.processor() or platform.machine()
    scored = f"Scored on {machine}, {os.cpu_count()} CPUs. Packages: {packages}."
    path = setting.report(study)
    text = [*lines, "", *_trained_with(record), scored, ""]
    if setting.quick:
        text.insert(2, "**A quick run, of few prompts and steps: it shows that everything works, and nothing else.**\n")
    whole = {"command": setting.command, "seeds": list(setting.seeds), "quick": setting.quick, **record}
    setting.results.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "\n".join(text))
    write_atomically(path.with_suffix(".json"), json.dumps({**whole, "environment": made}, indent=1) + "\n")
    return path


def made_on(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Describe the machines that something was made on, each once; see `benchmark.provenance.environment`."""
    found = set()
    for record in records:
        hardware, packages = record.get("hardware", {}), record.get("packages", {})
        device = hardware.get("gpu") or f"{hardware.get('machine')}, {hardware.get('cpus')} CPUs"
        versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages)
        found.add(f"{device} (Python {record.get('python')}, {versions})")
    return sorted(found)


def _trained_with(record: Mapping[str, Any]) -> list[str]:
    machines = record.get("made_on")
    return [f"Trained and sampled on {'; '.join(machines)}."] if machines else []
