"""Score and pack the runs of the real-text ladder as submissions: every model of every seed, and the floors once.

    python -m reference_models.submit_real_text --ladder OUT --submissions submissions

Runs are read from ``OUT/runs/SUITE/seed-<N>/NAME``, floors from ``OUT/runs/SUITE/<control>``, all judged by the suite's
published judge. What is there already is left as it is.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.judging.config import RewardModelConfig, find_judge
from benchmark.records import ModelCard
from benchmark.runs import Run, write_atomically
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.suites import load_suite
from reference_models.real_text_stages import BASE_MODEL, BEST_OF, POLICIES, TRAINED_ON
from reference_models.submit_study import LICENCE, ORGANISATION, UNREWARDED, Submitted, submit, told

SUITES = ("real-text-summarisation", "real-text-instructions")
CHOSEN = f"best-of-{BEST_OF}"
FLOORS = ("random-words", "shuffled-references", "constant")
_SEED = re.compile(r"seed-(\d+)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ladder", type=Path, required=True, help="what reference_models.real_text_ladder made")
    parser.add_argument("--submissions", type=Path, required=True, help="the folder of all submissions")
    parser.add_argument("--suites", nargs="+", default=list(SUITES))
    options = parser.parse_args()
    told(submit_real_text(options.ladder, options.submissions, options.suites))


def submit_real_text(ladder: Path, root: Path, suites: Sequence[str] = SUITES) -> list[Submitted]:
    """Score and pack every judged run of a ladder that is not among the submissions yet.

    Parameters
    ----------
    ladder
        The ladder's folder; of each suite and seed all five methods are there, of the floors any.
    root
        The folder ``submissions``.
    suites
        Those that were sampled.

    Returns
    -------
    list of Submitted
        Suite by suite and seed by seed; the floors, which no seed changes, after them.

    Raises
    ------
    UserError
        If there is no seed, a run is missing or not judged in full by the suite's published judge, or another run
        stands in the place of one.
    """
    submitted = []
    for suite in suites:
        runs = ladder / "runs" / suite
        seeds = sorted(int(named[1]) for path in runs.glob("seed-*") if (named := _SEED.fullmatch(path.name)))
        if not seeds:
            raise UserError("no seed-<N> folder of runs; run reference_models.real_text_ladder first", where=runs)
        for seed in seeds:
            at = runs / f"seed-{seed}"
            reward_model = Run(at / CHOSEN).manifest().model.arguments.get("reward_model_sha256")
            for name in (*POLICIES, CHOSEN):
                card = card_of(name, seed, reward_model if isinstance(reward_model, str) else None)
                run = scored(Run(at / name))
                submitted.append(submit(run, f"{ORGANISATION}/{BASE_MODEL}-{name}-seed-{seed}", root, card))
        for name in FLOORS:
            if (runs / name).is_dir():
                card = ModelCard(licence=LICENCE)
                submitted.append(submit(scored(Run(runs / name)), f"{ORGANISATION}/{name}", root, card))
    return submitted


def scored(run: Run) -> Run:
    """Score a run by its suite's published judge, unless it is.

    Raises
    ------
    UserError
        If that judge has not judged all of it, or what judged it is another checkpoint.
    """
    suite = load_suite(run.manifest().identity.suite)
    assert suite.published_judge, "a suite that rows are published of, and without a judge of its own"
    judge = find_judge(suite.published_judge)
    if not run.scores_path.exists() or run.scores().identity.judge != judge.judge:
        pipeline.score(run, judge=judge.judge, own=False)
    if (found := run.scores().identity.judge_sha256) != judge.sha256:
        raise UserError(
            f"judged by a {judge.judge} of hash {found}, and its file has {judge.sha256}: put the weights_sha256 of "
            "the one that judged into that file, for all rows",
            where=run.judge_path(judge.judge),
        )
    return run


def card_of(name: str, seed: int, reward_model: str | None) -> ModelCard:
    """Declare one rung: ``reward_model`` is the seed's, of which sft and dpo saw nothing."""
    method = "best-of-n" if name == CHOSEN else name
    return ModelCard(
        method=method,
        base_model=f"{ORGANISATION}/{BASE_MODEL}",
        reward_model=None if method in UNREWARDED else reward_model,
        family=f"{BASE_MODEL}-{name}",
        training_seed=seed,
        trained_on=TRAINED_ON,
        decoding=CHOSEN if name == CHOSEN else None,
        licence=LICENCE,
    )


def pinned_judge(checkpoint: Path, out: Path, judge: str = "real-text-judge") -> Path:
    """Write a judge's file with the weights of a checkpoint that has just been trained, to judge by before it is ours.

    Parameters
    ----------
    checkpoint
        Folder of the reward model.
    out
        The file that is written, ending in ``.yaml``.
    judge
        A reward model that is known by its weights alone.

    Returns
    -------
    Path
        ``out``. Its verdicts are those of the judge of that name, once ``weights_sha256`` in its own file is the same.

    Raises
    ------
    UserError
        If there is no such judge, or it is not known by its weights alone.
    """
    config = find_judge(judge)
    if not isinstance(config, RewardModelConfig) or not config.is_pinned:
        raise UserError(f"judge {judge} is not known by its weights alone")
    fields = config.model_dump(mode="json") | {"weights_sha256": weights_sha256(checkpoint)}
    write_atomically(out, yaml.safe_dump(fields, sort_keys=False))
    return out


if __name__ == "__main__":
    main()
