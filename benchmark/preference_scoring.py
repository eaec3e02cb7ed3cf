"""Verdicts without texts → scores: win rates and lengths. Pure: the same log gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from benchmark.flags import MOST_FAILED
from benchmark.quantities import Column, length_columns, preference_columns
from benchmark.records import Flag, Manifest, Scores, Verdict
from benchmark.scoring import BOOTSTRAP_SEED, estimates_of, per_prompt_of
from benchmark.statistics.bootstrap import RESAMPLES
from benchmark.suites import HEADLINE_TEMPERATURE, Suite

NO_TEXTS = "no texts: imported preferences"
_OF_TEXTS = ("per_input", "across_input", "length_words", "share")
"""Parts of the names of all metrics that are made of texts."""


LEAST_LENGTHS = 100
"""Outputs of one length that are no chance, at the least."""


def constant_length(lengths: Sequence[int], title: str) -> Flag | None:
    """Flag outputs that all have one length: where no text tells that an answer is the same for every prompt.

    Parameters
    ----------
    lengths
        Characters of each output; with less than `LEAST_LENGTHS` of them there is no flag.
    title
        The task's.
    """
    if len(lengths) < LEAST_LENGTHS or len(set(lengths)) > 1:
        return None
    text = f"{title}: every output has the same length, {lengths[0]:,} characters: a constant answer"
    return Flag(code="constant_length", text=text)


def score_preferences(
    manifest: Manifest,
    suite: Suite,
    verdicts: Mapping[str, Sequence[Verdict]],
    inputs_sha256: Mapping[str, str] | None = None,
) -> Scores:
    """Score a run of a suite without texts.

    Parameters
    ----------
    manifest
        What the run is; its tasks tell how many prompts were asked.
    suite
        One with ``texts: false``.
    verdicts
        Task → its verdicts, one a prompt at temperature 1, prompts being numbered from 0; a later one of a prompt
        supersedes. One that failed, or is not there, is missing: it is counted, and never a score.
    inputs_sha256
        File → hash of what was read, to be kept with the scores.

    Returns
    -------
    Scores
        Win rate, length-controlled win rate and mean characters, over the prompts that have a preference; all else is
        absent, with `NO_TEXTS` for a reason. Flagged where more than `MOST_FAILED` of the prompts have no
        preference, and where the outputs are the reference's own.
    """
    found: list[Column] = []
    flags: list[Flag] = []
    doc_ids: dict[str, tuple[str, ...]] = {}
    facts: dict[str, JsonValue] = {}
    absent = dict.fromkeys(_OF_TEXTS, NO_TEXTS)
    asked = {task.task: task.n_prompts for task in manifest.identity.tasks}
    for entry in suite.tasks:
        doc_ids[entry.task] = tuple(str(number) for number in range(asked[entry.task]))
        grid: NDArray[Any] = np.empty((asked[entry.task], 1), dtype=object)
        for verdict in verdicts[entry.task]:
            grid[int(verdict.doc_id), 0] = verdict
        rates = preference_columns(
            grid, task=entry.task, temperature=HEADLINE_TEMPERATURE, length_control=suite.length_control
        )
        found += [*rates, *length_columns(grid, task=entry.task, temperature=HEADLINE_TEMPERATURE)]
        if reason := next((column.absent for column in rates if column.absent), None):
            absent["win_rate_lc"] = f"{entry.title}: {reason}"
        judged = [verdict for verdict in grid.flat if verdict is not None and verdict.preference is not None]
        missing = grid.size - len(judged)
        facts[entry.task] = {"prompts": grid.size, "preferences": len(judged), "missing_preferences": missing}
        if missing > MOST_FAILED * grid.size:
            text = f"{entry.title}: {missing} of {grid.size} prompts have no preference"
            flags.append(Flag(code="failed_verdicts", text=text))
        if flag := constant_length([verdict.length for verdict in grid.flat if verdict is not None], entry.title):
            flags.append(flag)
        if judged and all(v.preference == 0.5 and v.length == v.reference_length for v in judged):
            text = f"{entry.title}: the outputs are the references, which win half by definition"
            flags.append(Flag(code="reference", text=text))
    return Scores(
        name=manifest.name,
        kind=manifest.kind,
        identity=manifest.identity,
        model=manifest.model,
        card=manifest.card,
        inputs_sha256=dict(inputs_sha256 or {}),
        estimates=tuple(estimates_of(found, suite.role_of)),
        doc_ids=doc_ids,
        per_prompt=per_prompt_of(found),
        flags=tuple(flags),
        absent=absent,
        notes={"tasks": facts, "bootstrap": {"resamples": RESAMPLES, "seed": BOOTSTRAP_SEED}},
        record=manifest.record,
    )
