"""Several training seeds of one method: what holds for another seed too, and what for these checkpoints alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.statistics.intervals import LEVEL
from benchmark.statistics.two_way import two_way_t
from benchmark.submission.published import ADDED
from leaderboard.board import Board
from leaderboard.names import metric_title, role_title
from leaderboard.row import Interval, Protocol, Row
from leaderboard.tables import Cell, Table, human_tables, interval_cell, number

LEAST_SEEDS = 3
"""With fewer, nothing is said of other seeds."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and its interval over seeds and prompts; None with fewer than `LEAST_SEEDS` of them."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Family:
    """The rows of one family on one board."""

    name: str
    """``organisation/family`` where the rows are submissions: nobody's rows join somebody else's family."""
    protocol: Protocol
    seeds: tuple[int, ...]
    """Ascending, each once."""
    rows: tuple[Row, ...]
    """In order of the seeds."""
    prompts: int
    """On which every row has a value."""
    x: Spread
    y: Spread
    """Both at temperature 1, as the plane scales them."""
    score: Spread


def families(board: Board) -> list[Family]:
    """Put the rows together that declare one family and different training seeds; one seed alone is no family.

    Only rows that compete are taken, so a flagged one speaks for nobody. Rows that were swept and rows at a single
    temperature are two families, as their scores are not comparable. Of several rows of one organisation, family and
    seed the newest counts: the one that was added last, or, where that is not known, whose submission's name, then
    whose own, is the last.

    A mean is over the rows' own values, not clipped before; its interval is that of `two_way_t`, over seeds and
    prompts, about it, and is cut at 0 and 1. On prompts that some row has no value of, nothing is computed.

    Returns
    -------
    list of Family
        Swept ones first, each kind by score, the best first, then by name. Empty where no row declares a family and a
        training seed.
    """
    groups: dict[tuple[str, Protocol], dict[int, Row]] = {}
    for row in board.rows:
        if row.competes and row.scores.card.family is not None and row.scores.card.training_seed is not None:
            seeds = groups.setdefault((_name(row), row.protocol), {})
            seeds[_seed(row)] = max(row, seeds.get(_seed(row), row), key=_age)
    found = [
        family
        for (name, protocol), rows in groups.items()
        if len(rows) > 1 and (family := _family(name, protocol, [rows[seed] for seed in sorted(rows)])) is not None
    ]
    return sorted(found, key=lambda family: (family.protocol != "swept", -family.score.value, family.name))


def family_table(board: Board) -> Table | None:
    """Lay out the families of a board, one a row; None where there is none."""
    found = families(board)
    if not found:
        return None
    plane = board.suite.plane
    headers = (
        "family",
        "table",
        "training seeds",
        "score",
        f"{role_title(plane.role)} {metric_title(plane.x.metric)}",
        metric_title(plane.y.metric) + (" (share)" if plane.y.reference else ""),
        "holds for",
    )
    rows = tuple(
        (
            Cell(family.name, number=False),
            Cell(family.protocol, number=False),
            Cell(", ".join(map(str, family.seeds)), number=False),
            *(_cell(spread) for spread in (family.score, family.x, family.y)),
            Cell(_holds_for(family), number=False),
        )
        for family in found
    )
    title = f"Over training seeds: mean and {LEVEL:.0%} interval over seeds and prompts"
    return Table("families", title.replace("%", " %"), headers, rows)


def every_table(board: Board) -> list[Table]:
    """Tables of rows as `human_tables` gives them, and that of families where there is one."""
    table = family_table(board)
    return [*human_tables(board), *([table] if table else [])]


def _name(row: Row) -> str:
    organisation, is_published, _ = row.name.partition("/")
    return f"{organisation}/{row.scores.card.family}" if is_published else str(row.scores.card.family)


def _seed(row: Row) -> int:
    seed = row.scores.card.training_seed
    assert seed is not None, "rows of a family have one"
    return seed


def _age(row: Row) -> tuple[int, str, str]:
    """By what the newest row is told; see `benchmark.submission.published`."""
    added, submission = row.scores.notes.get(ADDED), row.scores.notes.get("submission")
    return (added if isinstance(added, int) else -1, str(submission or ""), row.name)


def _family(name: str, protocol: Protocol, rows: Sequence[Row]) -> Family | None:
    seeds = tuple(_seed(row) for row in rows)
    prompts = sorted(set.intersection(*(row.place.keys() & row.influence.keys() for row in rows)))
    if not prompts:
        return None

    def spread(of: Callable[[Row], Mapping[str, float]], values: Sequence[float] | None = None) -> Spread:
        table = np.array([[found[prompt] for prompt in prompts] for found in map(of, rows)])
        return _spread(table, values)

    scores = [row.score.value for row in rows if row.score]
    return Family(
        name=name,
        protocol=protocol,
        seeds=seeds,
        rows=tuple(rows),
        prompts=len(prompts),
        x=spread(lambda row: {prompt: x for prompt, (x, _) in row.place.items()}),
        y=spread(lambda row: {prompt: y for prompt, (_, y) in row.place.items()}),
        # Pseudo-values have the score's spread, and a mean that is off it by the jackknife's own correction.
        score=spread(lambda row: row.influence, scores),
    )


def _spread(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]], values: Sequence[float] | None) -> Spread:
    """Mean of a table [seeds, prompts], or of the seeds' own values, with the table's two-way interval about it."""
    both = two_way_t(table)
    mean = both.estimate if values is None else float(np.mean(values))
    if both.interval is None or len(table) < LEAST_SEEDS:
        return Spread(_cut(mean), None)
    low, high = (_cut(mean + end - both.estimate) for end in (both.interval.low, both.interval.high))
    return Spread(_cut(mean), Interval(_cut(mean), low, high, table.shape[1], "two_way_t"))


def _cut(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _cell(spread: Spread) -> Cell:
    return interval_cell(spread.interval) if spread.interval else Cell(number(spread.value))


def _holds_for(family: Family) -> str:
    if len(family.seeds) >= LEAST_SEEDS:
        return "other seeds and prompts"
    return "these checkpoints only"
