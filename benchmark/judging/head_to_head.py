"""One run against another, sample by sample: the head-to-head comparison of Kirk et al., Figure 4."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from benchmark.judging.report import JudgeReport
from benchmark.judging.runs import JudgeOptions, Progress, judge
from benchmark.records import Estimate, FileName, ModelIdentity, Name, Record
from benchmark.runs import Run, read_verdicts, write_record
from benchmark.statistics.bootstrap import RESAMPLES, weights
from benchmark.statistics.win_rate import win_rate
from benchmark.suites import load_suite

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
    """Win rates by task and temperature; above 1/2 the first run is preferred."""
    reports: Annotated[tuple[JudgeReport, ...], Field(strict=False)]


def head_to_head(
    run: Run, against: Run, progress: Progress = lambda *_: None, options: JudgeOptions | None = None
) -> HeadToHead:
    """Judge a run against another one, write the result and return it.

    A sample is compared with the other run's sample of the same prompt, temperature and index. Samples without a
    verdict count for nothing, and every estimate says how many prompts it rests on.

    Raises
    ------
    UserError
        If the runs did not answer the same prompts, or nothing was judged; see `benchmark.judging.runs.judge`.
    """
    reports = judge(run, progress, options, against=against)
    manifest, other = run.manifest(), against.manifest()
    suite = load_suite(manifest.identity.suite)
    name = against.folder.resolve().name
    estimates = []
    for found in reports:
        means: dict[tuple[float, str], list[float]] = {}
        for verdict in read_verdicts(run.verdicts_path(found.task, found.judge, name), found.task):
            if verdict.preference is not None:
                means.setdefault((verdict.temperature, verdict.doc_id), []).append(verdict.preference)
        for temperature in sorted({temperature for temperature, _ in means}):
            values = np.array([np.mean(v) for (t, _), v in sorted(means.items()) if t == temperature])
            rate = win_rate(values, weights(len(values), RESAMPLES, SEED))
            estimates.append(
                Estimate(
                    metric="win_rate",
                    task=found.task,
                    role=suite.role_of(found.task),
                    temperature=temperature,
                    value=rate.rate,
                    low=rate.interval.low,
                    high=rate.interval.high,
                    method=rate.method,
                    n=rate.n,
                    intervals={method: (ends.low, ends.high) for method, ends in rate.intervals.items()},
                )
            )
    judge_sha256 = reports[0].judge_sha256
    result = HeadToHead(
        judge=reports[0].judge,
        judge_sha256=judge_sha256,
        name=manifest.name,
        model=manifest.model,
        against=other.name,
        against_model=other.model,
        estimates=tuple(estimates),
        reports=tuple(reports),
    )
    write_record(run.head_to_head_path(result.judge, name), result)
    return result
