"""What is to be known of a judge beside its verdicts: how much it judged, its bias, its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from benchmark.judging.config import ChatConfig, JudgeConfig
from benchmark.judging.judge import Pair
from benchmark.records import Cell, FileName, Name, Record, Share, Verdict
from benchmark.statistics.agreement import consistency, position_bias


class JudgeReport(Record):
    """One judge on one task of a run."""

    judge: FileName
    judge_sha256: str
    task: Name
    pairs: Annotated[int, Field(ge=0)]
    """Samples that the judge is to judge."""
    judged: Annotated[int, Field(ge=0)]
    """Of these, with a verdict."""
    failed: Annotated[int, Field(ge=0)]
    """Of these, tried in vain; the rest was never asked."""
    failures: dict[str, int]
    """Reason → how many samples failed for it."""
    tie_share: Share | None
    """Share of the verdicts that are exact ties."""
    position_bias: float | None
    """Mean preference for the text shown first, less 1/2, in [-1/2, 1/2]; None where both orders were not asked."""
    position_bias_interval: Annotated[tuple[float, float], Field(strict=False)] | None
    consistency: Share | None
    """Share of the pairs on which both orders name the same winner."""
    both_orders: Annotated[int, Field(ge=0)]
    """Different pairs that position bias and consistency rest on."""
    calls: Annotated[int, Field(ge=0)]
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]
    """Of all replies, those of failed attempts as well."""
    uncounted: Annotated[int, Field(ge=0)]
    """Replies whose tokens the server did not tell: what they cost is not in ``cost``."""
    cost: float | None
    """US dollars at the judge's price; None where it has none."""

    @property
    def coverage(self) -> float:
        """Share of the samples to be judged that have a verdict."""
        return self.judged / self.pairs if self.pairs else 0.0


def report(config: JudgeConfig, task: str, pairs: Mapping[Cell, Pair], log: Sequence[Verdict]) -> JudgeReport:
    """Sum up a judge's log on one task.

    Parameters
    ----------
    config
        The judge.
    task
        The task's name.
    pairs
        What is to be judged, by cell.
    log
        Its verdicts, all lines: what failed attempts cost is counted, and a later line of a cell supersedes.
    """
    last = {verdict.cell: verdict for verdict in log}
    judged = [verdict for verdict in last.values() if verdict.preference is not None]
    failed = [verdict for verdict in last.values() if verdict.preference is None]
    failures: dict[str, int] = {}
    for verdict in failed:
        failures[verdict.error or "no reason given"] = failures.get(verdict.error or "no reason given", 0) + 1
    # Copies of a verdict say nothing new of the judge's bias.
    different = {verdict.key: verdict for verdict in judged if len(verdict.orders) == 2 and None not in verdict.orders}
    both = np.array([verdict.orders for verdict in different.values()], dtype=np.float64).reshape(-1, 2)
    bias = position_bias(both, clusters=[verdict.doc_id for verdict in different.values()]) if len(both) else None
    price = config.price if isinstance(config, ChatConfig) else None
    prompt_tokens = sum(verdict.prompt_tokens for verdict in log)
    completion_tokens = sum(verdict.completion_tokens for verdict in log)
    return JudgeReport(
        judge=config.judge,
        judge_sha256=config.sha256,
        task=task,
        pairs=len(pairs),
        judged=len(judged),
        failed=len(failed),
        failures=dict(sorted(failures.items())),
        tie_share=sum(verdict.preference == 0.5 for verdict in judged) / len(judged) if judged else None,
        position_bias=bias.estimate if bias else None,
        position_bias_interval=(bias.interval.low, bias.interval.high) if bias and bias.interval else None,
        consistency=consistency(both) if len(both) else None,
        both_orders=len(both),
        calls=sum(verdict.calls for verdict in log),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        uncounted=sum(verdict.uncounted for verdict in log),
        cost=price.of(prompt_tokens, completion_tokens) if price else None,
    )
