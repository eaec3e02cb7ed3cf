"""Facts about a whole task's outputs, and the flags they raise: a flagged row is shown, with the reason, unranked."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from benchmark.metrics.duplicates import duplicate_share
from benchmark.metrics.validity import invalid_reason
from benchmark.quantities import TaskGrid
from benchmark.records import Flag
from benchmark.suites import HEADLINE_TEMPERATURE, Gate, Suite

MOST_DUPLICATES = 0.5
MOST_INVALID = 0.5
MOST_FAILED = 0.05


class Facts(TypedDict):
    """What is shown beside a task's numbers."""

    temperature: float
    prompts: int
    k: int
    duplicate_share: float
    """Share of outputs that repeat another prompt's word for word, mean over the k slots."""
    invalid_text_share: float
    verdicts: int
    failed_verdicts: int
    length_ratio: float | None
    """Characters of the outputs over characters of their references, where judged."""
    all_ties: bool
    """Every verdict is an exact tie between texts of one length: the outputs are the references."""


def facts_of(grid: TaskGrid, gate: Gate) -> Facts:
    """Gather a task's facts at the headline temperature, or the nearest there is; the gate says what is valid."""
    level = int(np.argmin([abs(temperature - HEADLINE_TEMPERATURE) for temperature in grid.temperatures]))
    samples, verdicts = grid.samples[:, level], grid.verdicts[:, level]
    judged = [verdict for verdict in verdicts.flat if verdict is not None]
    references = sum(verdict.reference_length for verdict in judged)
    return Facts(
        temperature=grid.temperatures[level],
        prompts=len(grid.doc_ids),
        k=grid.k,
        duplicate_share=float(np.mean([duplicate_share([sample.text for sample in slot]) for slot in samples.T])),
        invalid_text_share=float(
            np.mean(
                [
                    invalid_reason("", sample.text, sample.finish_reason, cut_off_is_valid=gate.cut_off_is_valid)
                    is not None
                    for sample in samples.flat
                ]
            )
        ),
        verdicts=len(judged),
        failed_verdicts=sum(verdict.preference is None for verdict in judged),
        length_ratio=sum(verdict.length for verdict in judged) / references if references else None,
        all_ties=bool(judged)
        and all(verdict.preference == 0.5 and verdict.length == verdict.reference_length for verdict in judged),
    )


def flags_of(facts: Facts, suite: Suite, title: str) -> list[Flag]:
    """Raise flags for one task of a suite; ``title`` is the task's."""
    flags = []
    if (share := facts["duplicate_share"]) > MOST_DUPLICATES:
        text = f"{title}: {share:.0%} of the outputs repeat another prompt's word for word"
        flags.append(Flag(code="constant_output", text=text))
    if (share := facts["invalid_text_share"]) > MOST_INVALID:
        what = "empty" if suite.gate.cut_off_is_valid else "empty or cut off"
        flags.append(Flag(code="invalid_text", text=f"{title}: {share:.0%} of the outputs are {what}"))
    if facts["failed_verdicts"] > MOST_FAILED * facts["verdicts"]:
        mend = "" if suite.imported else "; run `gendiv judge` again"
        text = f"{title}: {facts['failed_verdicts']} verdicts failed{mend}"
        flags.append(Flag(code="failed_verdicts", text=text))
    if facts["all_ties"]:
        flags.append(
            Flag(code="reference", text=f"{title}: the outputs are the references, which win half by definition")
        )
    ratio = facts["length_ratio"]
    if suite.length_range and ratio is not None:
        low, high = suite.length_range
        if not low <= ratio <= high:
            text = f"{title}: outputs are {ratio:.2f} times as long as their references, outside {low}–{high}"
            flags.append(Flag(code="length", text=text))
    return flags
