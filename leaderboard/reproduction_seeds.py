"""A value of ours with what it is sure of: one row's interval, or several training seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics.two_way import two_way_t
from leaderboard.families import LEAST_SEEDS
from leaderboard.row import Quantity, Row

Spread = Literal["prompts", "seeds and prompts", "lowest to highest"]


@dataclass(frozen=True)
class Found:
    """A value of ours, and what it is a value of."""

    who: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    """Prompts."""
    seeds: int = 1
    """Training seeds that it is the mean of."""
    over: Spread = "prompts"
    """What (low, high) is: a 95 % interval over prompts, or over training seeds and prompts; or the lowest and the
    highest seed, which is no interval: of most metrics a board keeps no value a prompt, and the spread of a few seeds
    alone would be too sure."""


def over_seeds(who: str, rows: Sequence[Row], quantity: Quantity) -> Found | None:
    """Mean of a quantity over the rows of a family; None where no row has it, and of a single row its own.

    Where every row keeps its values prompt by prompt and there are three or more, the interval is that of `two_way_t`,
    on the prompts that all of them have, about the mean of the rows' values; for a win rate it is cut at 0 and 1.
    """
    metric = quantity[0]
    there = [row for row in rows if quantity in row.estimates]
    if not there:
        return None
    estimates = [row.estimates[quantity] for row in there]
    if len(there) == 1:
        (only,) = estimates
        return Found(who, metric, only.value, only.low, only.high, only.n)
    values = [estimate.value for estimate in estimates]
    mean, n = sum(values) / len(values), min(estimate.n for estimate in estimates)
    table = by_prompt([(row, quantity) for row in there])
    if table is not None and (both := two_way_t(table)).interval is not None and len(there) >= LEAST_SEEDS:
        low, high = (mean + end - both.estimate for end in both.interval)
        if metric.startswith("win_rate"):
            low, high = max(low, 0.0), min(high, 1.0)
        return Found(who, metric, mean, low, high, table.shape[1], len(there), "seeds and prompts")
    return Found(who, metric, mean, min(values), max(values), n, len(there), "lowest to highest")


def by_prompt(wanted: Sequence[tuple[Row, Quantity]]) -> NDArray[np.float64] | None:
    """Values prompt by prompt, [rows, prompts], on the prompts that all rows have.

    Returns
    -------
    array
        One row for each of ``wanted``. None where one of them keeps no such values, or no prompt is in all.
    """
    found = []
    for row, (metric, role, temperature) in wanted:
        task = next((task.task for task in row.scores.identity.tasks if task.role == role), "")
        values = row.scores.per_prompt.get(task, {}).get(str(temperature), {}).get(metric)
        if values is None:
            return None
        pairs = zip(row.scores.doc_ids[task], values, strict=True)
        found.append({prompt: value for prompt, value in pairs if value is not None})
    prompts = sorted(set.intersection(*(set(values) for values in found)))
    return np.array([[values[prompt] for prompt in prompts] for values in found]) if prompts else None
