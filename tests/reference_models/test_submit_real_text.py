"""The ladder's runs as submissions: scored, every method of every seed under its own name, the floors once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from tiny_frozen import JUDGE, SUITES, frozen, make_data, make_reward_model

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.judging.config import find_judge, read_judge
from benchmark.judging.runs import JudgeOptions
from benchmark.records import sha256_of
from benchmark.runs import Run
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.submission.record import FILE, Submission
from benchmark.submission.validate import validate
from reference_models.submit_real_text import CHOSEN, FLOORS, pinned_judge, submit_real_text
from reference_models.submit_study import Submitted

SUITE = SUITES[0]
SEEDS = (1, 2)
NAMES = ("sft", "ppo", "rloo", "dpo", CHOSEN)
REWARD_MODEL = "a" * 64


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("models") / "judge")


@pytest.fixture(scope="module", autouse=True)
def world(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    data = make_data(tmp_path_factory.mktemp("data") / "root", 3)
    with frozen(data, weights_sha256(judge)), patch.dict(os.environ, {"GENDIV_DATA": str(data)}):
        yield


def judged(folder: Path, judge: Path, options: JudgeOptions | None = None) -> Run:
    [run] = pipeline.sample("control:random-words", SUITE, folder, pipeline.SampleOptions(k=2))
    pipeline.judge(run, options=options or JudgeOptions(judge=JUDGE, model=str(judge), device="cpu"))
    return run


@pytest.fixture(scope="module")
def whole(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds and two floors, judged; all are of one and the same random words, and scored once."""
    ladder = tmp_path_factory.mktemp("ladder")
    made = judged(ladder / "made", judge)
    pipeline.score(made, judge=JUDGE, embeddings=False, own=False)
    for seed in SEEDS:
        for name in NAMES:
            run = Run(shutil.copytree(made.folder, ladder / "runs" / SUITE / f"seed-{seed}" / name))
            for path in (run.manifest_path, run.scores_path):
                fields = json.loads(path.read_bytes())
                fields |= {"name": name, "kind": "model"}
                fields["model"] |= {"id": name, "revision": None, "weights_sha256": sha256_of([seed, name])}
                if name == CHOSEN:
                    fields["model"]["arguments"] = {"reward_model_sha256": REWARD_MODEL}
                path.write_text(json.dumps(fields), encoding="utf-8")
    shutil.copytree(made.folder, ladder / "runs" / SUITE / FLOORS[0])
    return ladder


@pytest.fixture
def ladder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "ladder"))


@pytest.fixture(scope="module")
def once(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Submitted]]:
    root = tmp_path_factory.mktemp("packed") / "submissions"
    root.mkdir()
    return root, submit_real_text(whole, root, [SUITE])


def read(folder: Path) -> Submission:
    return Submission.model_validate_json((folder / FILE).read_bytes())


def test_every_method_of_every_seed_and_the_floors_that_are_there(once: tuple[Path, list[Submitted]]) -> None:
    expected = [f"gendiv/real-text-14m-{name}-seed-{seed}" for seed in SEEDS for name in NAMES]
    assert [read(row.folder).model for row in once[1]] == [*expected, f"gendiv/{FLOORS[0]}"]
    assert all(row.is_new for row in once[1])


def test_cards_say_what_the_ladder_knows(once: tuple[Path, list[Submitted]]) -> None:
    cards = {read(row.folder).model: read(row.folder).manifest.card for row in once[1]}
    floor = cards.pop(f"gendiv/{FLOORS[0]}")
    assert (floor.method, floor.family, floor.licence) == (None, None, "Apache-2.0")
    for name, card in cards.items():
        method, seed = name.removeprefix("gendiv/real-text-14m-").rsplit("-seed-", 1)
        assert card.method == ("best-of-n" if method == CHOSEN else method)
        assert (card.family, card.training_seed) == (f"real-text-14m-{method}", int(seed))
        assert (card.base_model, card.licence) == ("gendiv/real-text-14m", "Apache-2.0")
        assert card.decoding == (CHOSEN if method == CHOSEN else None)
        assert card.reward_model == (None if method in ("sft", "dpo") else REWARD_MODEL)
        assert card.trained_on == ("gendiv_tldr", "gendiv_alpaca_farm")


def test_what_is_packed_is_what_it_says_and_what_is_there_stays(
    once: tuple[Path, list[Submitted]], whole: Path
) -> None:
    root, submitted = once
    assert validate(submitted[0].folder, root, fast=True).scores.identity.judge == JUDGE
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert not any(row.is_new for row in submit_real_text(whole, root, [SUITE]))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_that_is_not_scored_is_scored_by_the_published_judge(ladder: Path, tmp_path: Path) -> None:
    run = Run(ladder / "runs" / SUITE / "seed-1" / "ppo")
    run.scores_path.unlink()
    submit_real_text(ladder, tmp_path / "submissions", [SUITE])
    assert run.scores().identity.judge == JUDGE
    assert "sbert_per_input" in {estimate.metric for estimate in run.scores().estimates}


def test_a_run_that_another_judge_judged_is_refused(ladder: Path, judge: Path, tmp_path: Path) -> None:
    place = ladder / "runs" / SUITE / "seed-1" / "sft"
    shutil.rmtree(place)
    options = JudgeOptions(judge="reward-model", model=str(judge), device="cpu")
    judged(place, judge, options)
    with pytest.raises(UserError, match=f"not judged by '{JUDGE}'; judged by: reward-model.judge"):
        submit_real_text(ladder, tmp_path / "submissions", [SUITE])


def test_a_judge_of_other_weights_under_the_name_is_refused(ladder: Path, tmp_path: Path) -> None:
    other = make_reward_model(tmp_path / "other", seed=2)
    path = pinned_judge(other, tmp_path / f"{JUDGE}.yaml")
    assert read_judge(path) == find_judge(JUDGE).model_copy(update={"weights_sha256": weights_sha256(other)})
    place = ladder / "runs" / SUITE / "seed-1" / "sft"
    shutil.rmtree(place)
    run = judged(place, other, JudgeOptions(judge=str(path), model=str(other), device="cpu"))
    pipeline.score(run, embeddings=False, own=False)
    with pytest.raises(UserError, match="put the weights_sha256 of the one that judged into that file"):
        submit_real_text(ladder, tmp_path / "submissions", [SUITE])


def test_the_pinned_file_judges_as_the_judge_of_its_name_does(judge: Path, tmp_path: Path) -> None:
    path = pinned_judge(judge, tmp_path / "mine.yaml")
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["judge"] == JUDGE
    assert find_judge(str(path), model=str(judge)).sha256 == find_judge(JUDGE).sha256
    with pytest.raises(UserError, match="is not known by its weights alone"):
        pinned_judge(judge, tmp_path / "no.yaml", judge="oracle")


def test_a_ladder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no seed-<N> folder of runs"):
        submit_real_text(tmp_path, tmp_path / "submissions", [SUITE])
