"""What a finished run was made of: a study reports on no other model, suite or judge than it was asked about."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UserError
from benchmark.judging.config import find_judge, read_kept
from benchmark.runs import Run
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.suites import load_suite
from reference_models.studies.world import World

MEND = "give another --out, or move it away"


def refuse_others_run(run: Run, world: World, policy: Path | None) -> None:
    """Refuse a run of another suite, of another policy, or that the study's judge has not judged.

    Parameters
    ----------
    run
        Sampled and judged.
    world
        Tells suite and judge.
    policy
        Checkpoint that it is to be of. None, or a folder that is not there, tells nothing: of a cell that was trained
        for the study the weights are gone, and its training record is compared instead.

    Raises
    ------
    UserError
        Naming what differs.
    """
    manifest, suite = run.manifest(), load_suite(world.suite)
    if manifest.identity.suite != suite.id:
        raise UserError(f"a run of suite {manifest.identity.suite}, not of {suite.id}; {MEND}", where=run.folder)
    if policy is not None and policy.is_dir() and manifest.model.weights_sha256 != weights_sha256(policy):
        raise UserError(f"a run of other weights than are in {policy}; {MEND}", where=run.folder)
    if (name := world.judge.judge or suite.judge) is None:
        return
    config = find_judge(name, model=world.judge.model)
    kept = read_kept(run.judge_path(config.judge))
    if kept is None:
        judges = ", ".join(run.judges()) or "nobody"
        raise UserError(f"judged by {judges}, not by {config.judge}; {MEND}", where=run.folder)
    if kept.sha256 != config.sha256:
        raise UserError(f"judged by another version of {config.judge}; {MEND}", where=run.folder)
