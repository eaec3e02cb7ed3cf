"""Rows of a suite stand on one board only if they answered the same questions the same way: each is held to its suite.

A row that differs is refused alone, when it is submitted; on a board it would stop all others.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from benchmark.errors import UserError
from benchmark.importers.alpaca_eval import SUITES, judge_sha256
from benchmark.judging.config import find_judge
from benchmark.opened import identity
from benchmark.records import Identity, Prompt
from benchmark.suites import frozen_identities, has_frozen_prompts, load_prompts, load_suite

TRIAL = "GENDIV_TRIAL"
"""Where it is set in the environment, runs of fewer prompts and samples, and of other judges, are let through: for
trials and tests. No workflow sets it."""
_OF_TRIALS = ("judge", "judge_sha256", "sampling.k", "n_prompts", "prompts_sha256")


def what_must_be_equal(identity: Identity) -> dict[str, object]:
    """Flatten an identity, less the seed (the model's own) and the temperature grid (ranked in tables of its own)."""
    fields: dict[str, object] = {
        "judge": identity.judge,
        "judge_sha256": identity.judge_sha256,
        "encoder": identity.encoder,
        "tasks": tuple(sorted(task.task for task in identity.tasks)),
    }
    for task in identity.tasks:
        for name, value in task.model_dump(exclude={"task"}).items():
            fields[f"tasks.{task.task}.{name}"] = value
    if identity.sampling is None:
        fields["sampling"] = None
    else:
        fields["sampling"] = "explicit"
        for name, value in identity.sampling.model_dump(exclude={"seed", "temperatures"}).items():
            fields[f"sampling.{name}"] = value
    return fields


def refuse_strangers(found: Identity, where: Path) -> None:
    """Refuse a run that could not stand beside the other rows of its suite.

    Parameters
    ----------
    found
        The run's identity, with the judge that it is scored by.
    where
        The submission, for the message.

    Raises
    ------
    UserError
        Names the first field that differs, its value and the suite's. Seed and temperatures are the run's own: another
        grid than the suite's is shown, and not ranked.
    """
    own = what_must_be_equal(suites_own(found.suite))
    theirs = what_must_be_equal(found)
    for field in sorted(own.keys() | theirs.keys()):
        if own.get(field) == theirs.get(field) or (os.environ.get(TRIAL) and field.endswith(_OF_TRIALS)):
            continue
        raise UserError(
            f"manifest.identity.{field}: {theirs.get(field)!r}, and suite {found.suite} has {own.get(field)!r}; rows "
            "that differ there cannot be compared, so run the suite as it is",
            where=where,
        )


def suites_own(suite: str) -> Identity:
    """Identity that every published row of a suite has, seed and temperatures aside.

    Of a suite that is sampled here it is made of its prompts and its sampling, of one that freezes its prompts without
    any data; of an imported one of the prompts that it, or the suite of the same task without texts, is frozen with. A
    suite that names no judge of its own has rows of
    its `published_judge`.
    """
    return _suites_own(suite, os.environ.get("GENDIV_DATA"))


@functools.lru_cache(maxsize=32)
def _suites_own(name: str, data_root: str | None) -> Identity:  # noqa: ARG001
    suite = load_suite(name)
    if suite.sampling is None or suite.imported:
        return Identity(
            suite=suite.id,
            tasks=frozen_identities(suite),
            sampling=None,
            judge=suite.judge,
            judge_sha256=judge_sha256(suite.judge) if suite.judge in SUITES else None,
            encoder=suite.encoder,
        )
    own = identity(suite, None if has_frozen_prompts(suite) else prompts_of(suite.id), suite.sampling)
    if suite.published_judge is None:
        return own
    judge = find_judge(suite.published_judge)
    return own.model_copy(update={"judge": judge.judge, "judge_sha256": judge.sha256})


def prompts_of(suite: str) -> dict[str, list[Prompt]]:
    """All prompts of a suite that is sampled here, by task; read once a process."""
    return _prompts_of(suite, os.environ.get("GENDIV_DATA"))


@functools.lru_cache(maxsize=4)
def _prompts_of(suite: str, data_root: str | None) -> dict[str, list[Prompt]]:  # noqa: ARG001
    return load_prompts(load_suite(suite))
