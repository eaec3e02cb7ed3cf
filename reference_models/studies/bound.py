"""What a finished run was made of: a study reports on no other model, suite or judge than it was asked about."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UserError
from benchmark.judging.config import JudgeConfig, RewardModelConfig, find_judge, read_kept
from benchmark.judging.reward_model import identified
from benchmark.runs import Run
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.suites import load_suite
from reference_models.studies.world import World

MEND = "give another --out, or move it away"


def judge_of(world: World) -> JudgeConfig | None:
    """Find a world's judge, known by its weights where it is a reward model whose folder is there; None without one.

    Raises
    ------
    UserError
        If there is no such judge, or it is known by other weights than lie in the world's folder.
    """
    if (name := world.judge.judge or load_suite(world.suite).judge) is None:
        return None
    config, place = find_judge(name, model=world.judge.model), world.judge.model
    if isinstance(config, RewardModelConfig) and place is not None and Path(place).is_dir():
        return identified(config, place)
    return config


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
    if (config := judge_of(world)) is None:
        return
    kept = read_kept(run.judge_path(config.judge))
    if kept is None:
        judges = ", ".join(run.judges()) or "nobody"
        raise UserError(f"judged by {judges}, not by {config.judge}; {MEND}", where=run.folder)
    # A reward model whose folder is gone is known by its name alone.
    known = not isinstance(config, RewardModelConfig) or config.weights_sha256 is not None
    if known and kept.sha256 != config.sha256:
        raise UserError(f"judged by another version of {config.judge}; {MEND}", where=run.folder)
