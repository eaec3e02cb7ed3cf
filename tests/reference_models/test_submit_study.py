"""A study's runs as submissions: every model of every seed under its own name, the controls once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import sha256_of
from benchmark.runs import Run
from benchmark.submission.limits import Limits, validate_within
from benchmark.submission.record import FILE, Submission
from benchmark.submission.validate import find
from reference_models.ladder import CONTROLS, RUNGS
from reference_models.submit_study import Submitted, submit_study

pytestmark = pytest.mark.slow

SEEDS = (11, 12)
REWARD_MODEL = "a" * 64


def _named(run: Run, name: str, weights: str | None) -> None:
    """Let a copied run be of another model."""
    for path in (run.manifest_path, run.scores_path):
        fields = json.loads(path.read_bytes())
        fields |= {"name": name}
        if weights:
            fields["kind"] = "model"
            fields["model"] |= {"id": name, "revision": None, "weights_sha256": weights}
        if name == "best-of-16":
            fields["model"]["arguments"] = {"reward_model_sha256": REWARD_MODEL}
        path.write_text(json.dumps(fields), encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds that are done, a third that is not; all runs are of one and the same random words."""
    study = tmp_path_factory.mktemp("study")
    options = pipeline.SampleOptions(k=2, limit=2)
    [made] = pipeline.sample("control:random-words", "pocket", study / "made", options)
    pipeline.judge(made)
    pipeline.score(made, embeddings=False, own=False)
    for seed in (*SEEDS, 13):
        folder = study / f"seed-{seed}"
        for name in (*(rung.name for rung in RUNGS), *CONTROLS):
            shutil.copytree(made.folder, folder / "runs" / name)
            _named(Run(folder / "runs" / name), name, None if name in CONTROLS else sha256_of([seed, name]))
        if seed in SEEDS:
            (folder / "seconds.json").write_text('{"seconds": 1.0}')
    return study


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "study"))


@pytest.fixture(scope="module")
def once(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Submitted]]:
    root = tmp_path_factory.mktemp("submissions")
    return root, submit_study(whole, root)


@pytest.fixture
def root(once: tuple[Path, list[Submitted]], tmp_path: Path) -> Path:
    """All that is submitted, to be changed."""
    return Path(shutil.copytree(once[0], tmp_path / "submissions"))


def read(folder: Path) -> Submission:
    return Submission.model_validate_json((folder / FILE).read_bytes())


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_model_of_every_seed_that_is_done_and_the_controls_once(once: tuple[Path, list[Submitted]]) -> None:
    root, submitted = once
    names = [read(row.folder).model for row in submitted]
    expected = [f"gendiv/pocket-{rung.name}-seed-{seed}" for seed in SEEDS for rung in RUNGS]
    assert names == [*expected, *(f"gendiv/{name}" for name in CONTROLS)]
    assert len(find(root)) == len(names) == 2 * 6 + 4
    assert all(row.is_new for row in submitted)


def test_cards_say_what_the_ladder_knows(once: tuple[Path, list[Submitted]]) -> None:
    cards = {read(row.folder).model: read(row.folder).manifest.card for row in once[1]}
    ppo = cards["gendiv/pocket-ppo-seed-12"]
    assert (ppo.method, ppo.base_model, ppo.family, ppo.training_seed) == ("ppo", "pocket-sft", "pocket-ppo", 12)
    assert (ppo.trained_on, ppo.licence, ppo.decoding) == (("gendiv_pocket_id",), "Apache-2.0", None)
    assert cards["gendiv/pocket-sft-seed-11"].base_model == "pocket-init"
    assert cards["gendiv/pocket-best-of-16-seed-11"].decoding == "best-of-16"
    assert cards["gendiv/random-words"].family is None
    rewarded = {name for name, card in cards.items() if card.reward_model == REWARD_MODEL}
    names = ("ppo", "best-of-16", "rloo", "sft-ppo-average")
    assert rewarded == {f"gendiv/pocket-{name}-seed-{seed}" for name in names for seed in SEEDS}
    assert {card.reward_model for name, card in cards.items() if name not in rewarded} == {None}
    assert {card.training_seed for name, card in cards.items() if "seed" in name} == set(SEEDS)


def test_verdicts_of_the_oracle_are_not_packed_and_what_is_packed_is_what_it_says(
    once: tuple[Path, list[Submitted]],
) -> None:
    root, submitted = once
    assert not list(root.rglob("verdicts/*.gz"))
    for row in (submitted[1], submitted[-1]):
        assert validate_within(row.folder, root, Limits(2**30, 300), fast=True).problem is None


def test_what_is_there_stays_and_only_what_is_new_is_packed(study: Path, root: Path) -> None:
    before = contents(root)
    shutil.rmtree(next(root.glob("gendiv__pocket-dpo-seed-12")))
    again = submit_study(study, root)
    assert [read(row.folder).model for row in again if row.is_new] == ["gendiv/pocket-dpo-seed-12"]
    assert contents(root) == before


def test_seeds_are_chosen(study: Path, root: Path) -> None:
    assert {read(row.folder).manifest.card.training_seed for row in submit_study(study, root, [12])} == {12, None}


def test_another_run_in_a_rows_place_is_refused(study: Path, root: Path) -> None:
    path = next(root.glob("gendiv__pocket-sft-seed-11/*/*")) / FILE
    fields = json.loads(path.read_bytes())
    fields["files"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="another run"):
        submit_study(study, root)


def test_controls_that_differ_between_seeds_are_refused(study: Path, root: Path) -> None:
    run = Run(study / "seed-12" / "runs" / CONTROLS[0])
    path = run.samples_path("gendiv_pocket_id")
    path.write_text(path.read_text().replace('"text":"', '"text":"other ', 1))
    shutil.rmtree(run.folder / "verdicts")
    pipeline.judge(run)
    pipeline.score(run, embeddings=False, own=False)
    with pytest.raises(UserError, match=f"control {CONTROLS[0]} is not the same"):
        submit_study(study, root)


@pytest.mark.parametrize("seeds", [[13], [11, 99]])
def test_a_seed_that_is_not_done_is_refused(study: Path, tmp_path: Path, seeds: list[int]) -> None:
    with pytest.raises(UserError, match="is not done"):
        submit_study(study, tmp_path / "none", seeds)
    assert not (tmp_path / "none").exists()


def test_no_study_is_no_submission(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no seed is done"):
        submit_study(tmp_path / "nothing", tmp_path)
