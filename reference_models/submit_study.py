"""Pack the runs of a study of the pocket ladder as submissions: every model of every seed, and the controls once.

    python -m reference_models.submit_study --study runs/study --submissions submissions

What is there already is left as it is, so the command may be run while seeds are still being trained.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.records import ModelCard
from benchmark.runs import Run, read_json
from benchmark.submission.pack import pack
from benchmark.submission.record import FILE, Submission, revision_of
from reference_models.ladder import BEST_OF, CONTROLS, RUNGS, TRAINED_ON

ORGANISATION = "gendiv"
LICENCE = "Apache-2.0"
FROM_SCRATCH = "pocket-init"
TUNED_FROM = "pocket-sft"
"""Base models by family: which of its seeds is the row's own ``training_seed``."""
UNREWARDED = ("sft", "dpo")
"""Methods that see no reward model; the average has PPO's."""
_SEED = re.compile(r"seed-(\d+)")


class Submitted(NamedTuple):
    """One row of the study among the submissions."""

    folder: Path
    is_new: bool


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, required=True, help="what reference_models.study made, a folder a seed")
    parser.add_argument("--submissions", type=Path, required=True, help="the folder of all submissions")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these; default: all that are done")
    options = parser.parse_args()
    told(submit_study(options.study, options.submissions, options.seeds))


def told(submitted: Iterable[Submitted]) -> None:
    """Print every row and its size."""
    size = 0
    for found in submitted:
        bytes_ = sum(path.stat().st_size for path in found.folder.rglob("*") if path.is_file())
        size += bytes_
        print(f"{'packed' if found.is_new else 'there'}: {found.folder}, {bytes_:,} bytes")
    print(f"in all: {size:,} bytes")


def submit_study(study: Path, root: Path, seeds: Sequence[int] | None = None) -> list[Submitted]:
    """Pack every scored run of a study that is not among the submissions yet.

    Parameters
    ----------
    study
        Folder of ``seed-<N>`` folders, each a whole ladder (`reference_models.ladder.climb`).
    root
        The folder ``submissions``.
    seeds
        Only these; None = every seed whose ladder is done, as ``seconds.json`` tells.

    Returns
    -------
    list of Submitted
        Seed by seed; the controls, which no training seed changes, last and from the first seed.

    Raises
    ------
    UserError
        If no seed is done, one that is asked for is not, a run is not scored, controls differ between seeds, or another
        run stands in the place of one.
    """
    folders = _folders(study, seeds)
    submitted = []
    for seed, folder in folders.items():
        optimised_for = _reward_model(folder)
        for rung in RUNGS:
            run, model = Run(folder / "runs" / rung.name), f"{ORGANISATION}/pocket-{rung.name}-seed-{seed}"
            card = _card(rung.name, rung.method, seed, None if rung.method in UNREWARDED else optimised_for)
            submitted.append(submit(run, model, root, card))
    for name in CONTROLS:
        runs = [Run(folder / "runs" / name) for folder in folders.values()]
        first, *others = [run.scores().inputs_sha256 for run in runs]
        if any(other != first for other in others):
            raise UserError(f"control {name} is not the same in all seeds; it should depend on none", where=study)
        submitted.append(submit(runs[0], f"{ORGANISATION}/{name}", root, ModelCard(licence=LICENCE)))
    return submitted


def _folders(study: Path, seeds: Sequence[int] | None) -> dict[int, Path]:
    """Seed → its folder, in order."""
    done = {
        int(named[1]): path
        for path in (study.iterdir() if study.is_dir() else ())
        if (named := _SEED.fullmatch(path.name)) and (path / "seconds.json").exists()
    }
    wanted = sorted(done if seeds is None else set(seeds))
    if missing := [seed for seed in wanted if seed not in done]:
        raise UserError(f"seed {missing[0]} is not done; run reference_models.study first", where=study)
    if not wanted:
        raise UserError("no seed is done; run reference_models.study first", where=study)
    return {seed: done[seed] for seed in wanted}


def _reward_model(folder: Path) -> str | None:
    """Hash of the seed's reward model, as the run that chose by it has it."""
    chosen = next(rung.name for rung in RUNGS if rung.method == "best-of-n")
    found = Run(folder / "runs" / chosen).manifest().model.arguments.get("reward_model_sha256")
    return found if isinstance(found, str) else None


def _card(name: str, method: str, seed: int, reward_model: str | None) -> ModelCard:
    return ModelCard(
        method=method,
        base_model=FROM_SCRATCH if method == "sft" else TUNED_FROM,
        reward_model=reward_model,
        family=f"pocket-{name}",
        training_seed=seed,
        trained_on=(TRAINED_ON,),
        decoding=f"best-of-{BEST_OF}" if method == "best-of-n" else None,
        licence=LICENCE,
    )


def submit(run: Run, model: str, root: Path, card: ModelCard) -> Submitted:
    """Pack a scored run, unless it is there.

    Raises
    ------
    UserError
        If it is not scored, or another run stands in its place.
    """
    manifest, scores = run.manifest(), run.scores()
    place = root / model.replace("/", "__") / revision_of(manifest.model) / manifest.identity.suite
    if not place.exists():
        return Submitted(pack(run, model, root, card.model_dump(exclude_none=True), derive=True), is_new=True)
    there = read_json(place / FILE, Submission, mend="remove the folder and pack again")
    if {file.path: file.sha256 for file in there.files} != scores.inputs_sha256:
        raise UserError(f"holds another run than {run.folder}; a revision never changes", where=place)
    return Submitted(place, is_new=False)


if __name__ == "__main__":
    main()
