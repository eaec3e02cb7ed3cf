"""Whether another run of the same weights has come to the same point on the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.records import ModelIdentity, Scores
from benchmark.statistics.intervals import paired_preferences, paired_t
from benchmark.suites import HEADLINE_TEMPERATURE, load_suite

LEVEL = 0.975
"""Of each of two intervals, which together hold both differences in 95 % of the cases (Bonferroni)."""


def reproduces(mine: Scores, others: Sequence[Scores]) -> bool:
    """Whether one of some other runs has drawn the same weights anew and come to the same point.

    Parameters
    ----------
    mine
        A run.
    others
        Other runs, those alone that are to be believed: two forgers reproduce each other. Counted are those of the
        same suite, prompts, decoding and judge, and of the same weights, by hash or by hub id and commit; that were
        drawn by another seed, since the same one gives the same texts, which a copy does as well; and that are not
        flagged as copies.

    Returns
    -------
    bool
        True where for one of them the intervals of the differences on both axes of the suite's plane, paired over
        prompts, at `LEVEL` each, hold 0. False for a suite whose plane either lacks.
    """
    return any(_is_another_run(mine, other) and _is_the_same_point(mine, other) for other in others)


def _is_another_run(mine: Scores, other: Scores) -> bool:
    # First what nearly all pairs of a board fail by.
    if not _same_weights(mine.model, other.model) or mine.model.seed == other.model.seed:
        return False
    if any(flag.code == "copy" for scores in (mine, other) for flag in scores.flags):
        return False
    if mine.kind != other.kind or mine.doc_ids != other.doc_ids:
        return False
    identities = [scores.identity.model_dump(exclude={"sampling": {"seed"}}) for scores in (mine, other)]
    return identities[0] == identities[1] and mine.identity.sampling is not None


def _same_weights(mine: ModelIdentity, other: ModelIdentity) -> bool:
    # Arguments make another model of the same weights: an adapter, a quantisation, a best-of-n policy.
    if (mine.arguments, mine.prompt_format) != (other.arguments, other.prompt_format):
        return False
    if mine.weights_sha256 is not None:
        return mine.weights_sha256 == other.weights_sha256
    return mine.revision is not None and (mine.id, mine.revision) == (other.id, other.revision)


def _is_the_same_point(mine: Scores, other: Scores) -> bool:
    suite = load_suite(mine.identity.suite)
    task = next(entry.task for entry in suite.tasks if entry.role == suite.plane.role)
    for metric in (suite.plane.x.metric, suite.plane.y.metric):
        cells = [scores.per_prompt.get(task, {}).get(str(HEADLINE_TEMPERATURE), {}) for scores in (mine, other)]
        if any(metric not in cell for cell in cells):
            return False
        x, y = (np.array(cell[metric], dtype=np.float64) for cell in cells)  # None becomes NaN
        both = np.isfinite(x) & np.isfinite(y)
        if both.sum() < 2:
            return False
        difference = paired_preferences if metric == "win_rate" else paired_t
        interval = difference(x[both], y[both], LEVEL).interval
        if interval is None or not interval.low <= 0 <= interval.high:
            return False
    return True
