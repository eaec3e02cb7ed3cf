"""What is said of the paper in words, held against the families of this project's own worlds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmark.statistics.intervals import t_interval
from benchmark.statistics.two_way import two_way_t
from leaderboard.board import Board
from leaderboard.families import LEAST_SEEDS, Family, families
from leaderboard.paper_protocol import metric_of, temperature_of
from leaderboard.paper_tables import Claim, ClaimTest, PaperTable, Relation
from leaderboard.reproduction import way, worlds
from leaderboard.reproduction_seeds import by_prompt
from leaderboard.row import Quantity

Outcome = Literal["holds", "does not hold", "not told apart"]


@dataclass(frozen=True)
class Difference:
    """The first method minus the second, and its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int
    """Training seeds that both have: a seed's policies come from one fine-tuned model."""
    paired: bool
    """Whether paired prompt by prompt; otherwise prompts count as if each method had been given its own."""


@dataclass(frozen=True)
class Judged:
    """One test of a claim in one of our worlds."""

    claim: Claim
    test: ClaimTest
    """With the metric that the protocol has of its column."""
    suite: str
    first: str
    second: str
    """The families."""
    difference: Difference

    @property
    def outcome(self) -> Outcome:
        """What the interval says of the test; nothing that it holds 0 in is shown to be alike."""
        return outcome(self.test.relation, self.difference)


def outcome(relation: Relation, found: Difference) -> Outcome:
    """Read an interval: ``above`` and ``not below`` hold above 0 and not below it; ``alike`` fails off 0."""
    if found.low <= 0.0 <= found.high:
        return "not told apart"
    return "holds" if relation != "alike" and found.low > 0.0 else "does not hold"


def judge_claims(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> list[Judged]:
    """Test the table's claims on every pair of families that one organisation has in one of the table's worlds.

    Only families of `leaderboard.families.LEAST_SEEDS` training seeds in common speak, and those of the paper's own
    suite as well: whatever it is, it is said of that world and never of the paper. Each test stands alone, at 95 %.

    Returns
    -------
    list of Judged
        Claim by claim, test by test, in order of the worlds, then of the families' names.
    """
    known = [(board, families(board)) for board in worlds(table, boards)] if table.claims else []
    switched = {column.metric: metric_of(column, paper_protocol=paper_protocol) for column in table.columns}
    found = []
    for claim in table.claims:
        for written in claim.tests:
            test = written.model_copy(update={"metric": switched.get(written.metric, written.metric)})
            for board, there in known:
                for first, second in _pairs(there, test):
                    times = [
                        temperature_of(method, paper_protocol=paper_protocol) for method in (test.first, test.second)
                    ]
                    one, other = ((test.metric, test.role, time) for time in times)
                    if difference := _difference(first, one, second, other):
                        found.append(Judged(claim, test, board.suite.id, first.name, second.name, difference))
    return found


def _pairs(there: Sequence[Family], test: ClaimTest) -> Iterator[tuple[Family, Family]]:
    """Families of both methods of one organisation, by name; of one that is there twice, those swept alike."""
    found: dict[tuple[str, str], tuple[Family, Family]] = {}
    both = ([family for family in there if way(family.rows[0]) == method] for method in (test.first, test.second))
    pairs = [pair for pair in itertools.product(*both) if _organisation(pair[0]) == _organisation(pair[1])]
    for first, second in sorted(pairs, key=lambda pair: (pair[0].protocol != pair[1].protocol, pair[0].protocol)):
        found.setdefault((first.name, second.name), (first, second))
    yield from (found[names] for names in sorted(found))


def _organisation(family: Family) -> str:
    organisation, slash, _ = family.name.partition("/")
    return organisation if slash else ""


def _difference(first: Family, one: Quantity, second: Family, other: Quantity) -> Difference | None:
    """Pair two families seed by seed; None with too few seeds that both have the quantity of."""
    of = {seed: row for seed, row in zip(second.seeds, second.rows, strict=True) if other in row.estimates}
    pairs = [(row, of[seed]) for seed, row in zip(first.seeds, first.rows, strict=True) if seed in of]
    pairs = [pair for pair in pairs if one in pair[0].estimates]
    if len(pairs) < LEAST_SEEDS:
        return None
    ours = [(a.estimates[one], b.estimates[other]) for a, b in pairs]
    values = np.array([a.value - b.value for a, b in ours])
    mean, seeds = float(values.mean()), len(pairs)
    table = by_prompt([*((a, one) for a, _ in pairs), *((b, other) for _, b in pairs)])
    if table is not None and (both := two_way_t(table[:seeds] - table[seeds:])).interval is not None:
        low, high = (mean + end - both.estimate for end in both.interval)
        return Difference(mean, low, high, seeds, paired=True)
    drawn = t_interval(values)
    assert drawn is not None, "there are several seeds"
    # The error over prompts of either method is added to that over seeds, in squares, as Zou and Donner do for two
    # means. The methods share their prompts and go up and down with them: paired, the interval would be narrower.
    down = [a.value - a.low for a, _ in ours], [b.high - b.value for _, b in ours]
    up = [a.high - a.value for a, _ in ours], [b.value - b.low for _, b in ours]
    low = mean - math.hypot(mean - drawn.low, *map(_mean, down))
    high = mean + math.hypot(drawn.high - mean, *map(_mean, up))
    return Difference(mean, low, high, seeds, paired=False)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
