"""One run against another, sample by sample: the head-to-head comparison of Kirk et al., Figure 4."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from benchmark.errors import UserError
from benchmark.judging.report import JudgeReport
from benchmark.judging.runs import JudgeOptions, Progress, judge, opponent_name
from benchmark.records import Estimate, FileName, ModelIdentity, Name, Record
from benchmark.runs import Run, read_verdicts, write_record
from benchmark.statistics.bootstrap import RESAMPLES, weights
from benchmark.statistics.intervals import Floats
from benchmark.statistics.length_control import length_controlled
from benchmark.statistics.win_rate import win_rate
from benchmark.suites import LengthControl, load_suite

SEED = 20231010


class HeadToHead(Record):
    """``against/<run>/<judge>.json``: how often a run's samples are preferred to another run's."""

    judge: FileName
    judge_sha256: str
    name: Name
    model: ModelIdentity
    against: Name
    against_model: ModelIdentity
    estimates: Annotated[tuple[Estimate, ...], Field(strict=False)]
    """Win rates by task and temperature; above 1/2 the first run is preferred. Length-controlled ones beside them where
    the suite has them and there are enough prompts."""
    lengths: dict[str, dict[str, Annotated[tuple[float, float], Field(strict=False)]]]
    """Task → temperature → mean characters of the judged samples, this run's and the other's."""
    reports: Annotated[tuple[JudgeReport, ...], Field(strict=False)]


def head_to_head(
    run: Run,
    against: Run,
    progress: Progress = lambda *_: None,
    options: JudgeOptions | None = None,
    *,
    allow_missing: bool = False,
) -> HeadToHead:
    """Judge a run against another one, write the result and return it.

    A sample is compared with the other run's sample of the same prompt, temperature and index.

    Parameters
    ----------
    run, against
        Two runs of the same prompts.
    progress, options
        See `benchmark.judging.runs.judge`.
    allow_missing
        Take verdicts that do not cover every sample; every estimate says how many prompts it rests on.

    Raises
    ------
    UserError
        If the runs did not answer the same prompts, or a sample has no verdict.
    """
    reports = judge(run, progress, options, against=against)
    manifest, other = run.manifest(), against.manifest()
    suite = load_suite(manifest.identity.suite)
    name = opponent_name(other)
    estimates: list[Estimate] = []
    lengths: dict[str, dict[str, tuple[float, float]]] = {}
    for found in reports:
        log = run.verdicts_path(found.task, found.judge, name)
        if found.judged < found.pairs and not allow_missing:
            raise UserError(
                f"{found.judged} of {found.pairs} samples have a verdict; run the same command again, or add "
                "--allow-missing",
                where=log,
            )
        last = {verdict.cell: verdict for verdict in read_verdicts(log, found.task)}
        judged = [verdict for verdict in last.values() if verdict.preference is not None]
        for temperature in sorted({verdict.temperature for verdict in judged}):
            prompts: dict[str, list[tuple[float, int, int]]] = {}
            for v in judged:
                if v.temperature == temperature and v.preference is not None:
                    prompts.setdefault(v.doc_id, []).append((v.preference, v.length, v.reference_length))
            rates, mine, theirs = np.array([np.mean(rows, axis=0) for _, rows in sorted(prompts.items())]).T
            where = {"task": found.task, "role": suite.role_of(found.task), "temperature": temperature}
            estimates += _rates(rates, mine, theirs, suite.length_control, where)
            lengths.setdefault(found.task, {})[str(temperature)] = (float(mine.mean()), float(theirs.mean()))
    judge_sha256 = reports[0].judge_sha256
    result = HeadToHead(
        judge=reports[0].judge,
        judge_sha256=judge_sha256,
        name=manifest.name,
        model=manifest.model,
        against=other.name,
        against_model=other.model,
        estimates=tuple(estimates),
        lengths=lengths,
        reports=tuple(reports),
    )
    write_record(run.head_to_head_path(result.judge, name), result)
    return result


def _rates(
    rates: Floats, mine: Floats, theirs: Floats, how: LengthControl | None, where: dict[str, Any]
) -> list[Estimate]:
    """Win rate of one task at one temperature, and the length-controlled one."""
    plain = win_rate(rates, weights(len(rates), RESAMPLES, SEED))
    intervals: dict[str, tuple[float, float]] = {key: (ends.low, ends.high) for key, ends in plain.intervals.items()}
    found = [_estimate("win_rate", plain.rate, plain.n, plain.method, intervals, where)]
    if how is not None:
        fit = length_controlled(rates, mine, theirs, penalty=how.penalty)
        if fit.interval is not None:
            ends = (fit.interval.low, fit.interval.high)
            found.append(_estimate("win_rate_lc", fit.rate, len(rates), "logit_t", {"logit_t": ends}, where))
    return found


def _estimate(
    metric: str, value: float, n: int, method: str, intervals: dict[str, tuple[float, float]], where: dict[str, Any]
) -> Estimate:
    low, high = intervals[method]
    return Estimate(metric=metric, value=value, low=low, high=high, method=method, n=n, intervals=intervals, **where)
