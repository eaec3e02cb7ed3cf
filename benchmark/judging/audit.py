"""A log of verdicts against itself: what a verdict says must follow from what the judge was recorded to reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig, FunctionConfig, JudgeConfig, RewardModelConfig
from benchmark.judging.judge import Pair
from benchmark.judging.replies import reparse
from benchmark.records import Cell, Verdict


def check_preferences(config: JudgeConfig, pairs: Mapping[Cell, Pair], log: Sequence[Verdict], *, where: Path) -> None:
    """Refuse a preference, of both orders or of one, that is not what the stored replies, or the stored scores, give.

    Parameters
    ----------
    config
        The judge.
    pairs
        What was judged, by cell.
    log
        All lines, in their order.
    where
        The log's path, for the message.

    Raises
    ------
    UserError
        Names the first verdict that does not follow.
    """
    told: dict[str, list[float | None]] = {}
    for line in log:
        orders = told.setdefault(line.key, [None, None])
        if isinstance(config, ChatConfig):
            for raw in line.raw:
                if (preference := reparse(raw, config)) is not None:
                    orders[json.loads(raw)["order"]] = preference
    for verdict in log:
        if isinstance(config, ChatConfig):
            _check_orders(verdict, told[verdict.key], pairs[verdict.cell], where)
        if verdict.preference is None:
            continue
        pair = pairs[verdict.cell]
        if (verdict.length, verdict.reference_length) != (len(pair.sample.text), len(pair.reference)):
            raise UserError(
                f"the verdict on {verdict.cell} says other lengths than its texts have; was the file edited?",
                where=where,
            )
        if isinstance(config, ChatConfig):
            expected = _mean(told[verdict.key]) if pair.sample.text != pair.reference else 0.5
        elif isinstance(config, FunctionConfig):
            expected = verdict.preference if pair.sample.text != pair.reference else 0.5  # its word is all there is
        elif verdict.score is None or verdict.reference_score is None:
            expected = None
        elif isinstance(config, RewardModelConfig) and config.preference == "bradley_terry":
            # The scores are normalised, so they tell the side and not the number.
            side = _side(verdict.score, verdict.reference_score)
            expected = verdict.preference if _side(verdict.preference, 0.5) == side else side
        else:
            expected = _side(verdict.score, verdict.reference_score)
        if expected != verdict.preference:
            raise UserError(
                f"the verdict on {verdict.cell} says {verdict.preference}, and what the judge replied gives "
                f"{expected}; was the file edited?",
                where=where,
            )


def _check_orders(verdict: Verdict, told: Sequence[float | None], pair: Pair, where: Path) -> None:
    """Refuse preferences of single orders that no reply gives; a failed verdict may leave some of them out."""
    if verdict.preference is None:
        expected: Sequence[float | None] = [
            None if said is None else known for said, known in zip(verdict.orders, told, strict=False)
        ]
    else:
        expected = () if pair.sample.text == pair.reference else told
    if list(verdict.orders) != list(expected):
        raise UserError(
            f"the verdict on {verdict.cell} says orders {list(verdict.orders)}, and what the judge replied gives "
            f"{list(expected)}; was the file edited?",
            where=where,
        )


def _mean(orders: Sequence[float | None]) -> float | None:
    known = [order for order in orders if order is not None]
    return sum(known) / len(known) if known else None


def _side(mine: float, other: float) -> float:
    return 0.5 if mine == other else float(mine > other)
