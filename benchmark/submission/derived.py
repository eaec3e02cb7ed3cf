"""Logs that need not be packed: what the suite's own oracle says is code of ours, and it says the same again.

The pocket suite's verdicts are more than half of a submission's bytes, most of it hashes, which no packer shrinks.
"""

from __future__ import annotations

from collections.abc import Collection

from benchmark.errors import UserError
from benchmark.judging.config import OracleConfig, find_judge
from benchmark.judging.judge import judge_pairs, load_judge, pairs_of
from benchmark.opened import open_run
from benchmark.runs import Run
from benchmark.suites import load_suite


def own_oracle(suite: str) -> OracleConfig | None:
    """Find the oracle that a suite is judged by; None where its judge is no oracle."""
    name = load_suite(suite).judge
    config = find_judge(name) if name and not load_suite(suite).imported else None
    return config if isinstance(config, OracleConfig) else None


def write_again(run: Run, tasks: Collection[str], into: Run) -> None:
    """Write the logs of the suite's own oracle on some tasks, from the run's samples.

    Parameters
    ----------
    run
        With its manifest and the samples of the tasks.
    tasks
        Of the run's suite.
    into
        The run whose logs are written, which has none of them yet; it may be ``run`` itself.

    Raises
    ------
    UserError
        If the suite has no oracle, it does not know a task, or the samples are not the manifest's grid.
    """
    if not tasks:
        return
    opened = open_run(run)
    config = own_oracle(opened.suite.id)
    prompts = opened.prompts or {}
    unknown = sorted(tasks) if config is None else [task for task in tasks if task not in prompts]
    if config is None or unknown:
        raise UserError(
            f"suite {opened.suite.id} has no oracle that judges {unknown[0]}; pack its verdicts", where=run.folder
        )
    asker = load_judge(config)
    for task in tasks:
        pairs = pairs_of(config, prompts[task], opened.samples(task))
        judge_pairs(asker, pairs, into.verdicts_path(task, config.judge))
