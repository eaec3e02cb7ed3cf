"""Logs that need not be packed: what the suite's own oracle says is code of ours, and it says the same again.

The pocket suite's verdicts are more than half of a submission's bytes, most of it hashes, which no packer shrinks.
"""

from __future__ import annotations

from pathlib import Path

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


def write_again(run: Run, task: str, log: Path) -> None:
    """Write the log of the suite's own oracle on one task, from the run's samples.

    Parameters
    ----------
    run
        With its manifest and the samples of the task.
    task
        Of the run's suite.
    log
        Where to; nothing is there yet.

    Raises
    ------
    UserError
        If the suite has no oracle, it does not know the task, or the samples are not the manifest's grid.
    """
    opened = open_run(run)
    config = own_oracle(opened.suite.id)
    if config is None or opened.prompts is None or task not in opened.prompts:
        raise UserError(f"suite {opened.suite.id} has no oracle that judges {task}; pack its verdicts", where=log)
    judge_pairs(load_judge(config), pairs_of(config, opened.prompts[task], opened.samples(task)), log)
