"""The ladder on real text, in miniature, and the pieces that no trainer tests."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from data_root import make_data_root
from real_texts import make_people, write
from tiny_runs import ROOT

from benchmark.errors import UserError
from benchmark.runs import Run
from reference_models import real_text, real_text_ladder, real_text_preferences
from reference_models.models import load_policy
from reference_models.real_text_budget import TINY
from reference_models.real_text_ladder import climb
from reference_models.real_text_stages import TEMPLATE, _without_copies, choose, held_out_loss, publish
from reference_models.schedule import Job
from reference_models.studies.size_real_text import sizes
from reference_models.studies.world import load_world

RUNGS = ("sft", "ppo", "rloo", "dpo", "best-of-16")


def test_what_is_published_is_the_rounded_weights_in_float32(llama: Path, tmp_path: Path) -> None:
    publish(llama, tmp_path / "out")
    told, whole = load_policy(str(tmp_path / "out")), load_policy(str(llama))
    for name, value in whole.state_dict().items():
        assert torch.equal(told.state_dict()[name], value.to(torch.bfloat16).float())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "float32"
    bytes_ = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert bytes_ < 0.7 * (llama / "model.safetensors").stat().st_size


def test_a_large_checkpoint_is_published_in_shards_of_at_most_16_mib(tmp_path: Path) -> None:
    from reference_models.tiny import make_checkpoint

    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 4, "max_position_embeddings": 32, "tie_word_embeddings": True}
    make_checkpoint(tmp_path / "model", ["a", "b"], seed=0, architecture=shape)
    publish(tmp_path / "model", tmp_path / "out")
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors")]
    assert len(sizes) > 1
    assert max(sizes) <= 2**24


def test_held_out_loss_is_that_of_each_row_alone(llama: Path, data: Path) -> None:
    from reference_models.data import encode, read_pairs
    from reference_models.models import load_tokenizer

    tokenizer, model = load_tokenizer(str(llama)), load_policy(str(llama))
    nats, tokens = [], []
    for prompt, completion in read_pairs(data / "pairs.jsonl"):
        before, after = encode(tokenizer, prompt, completion)
        with torch.no_grad():
            logits = model(torch.tensor([[*before, *after]])).logits[0, len(before) - 1 : -1]
        nats.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(after), reduction="sum")))
        tokens.append(len(after))
    found = held_out_loss(llama, data / "pairs.jsonl")
    assert found["loss"] == pytest.approx(sum(nats) / sum(tokens), abs=1e-5)
    assert (found["tokens"], found["rows"]) == (sum(tokens), len(tokens))
    assert found["standard_error"] > 0
    assert math.isfinite(found["standard_error"])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """What the two commands before it write, of invented data."""
    folder, invented = tmp_path_factory.mktemp("inputs"), random.Random(1)

    def some(number: int) -> str:
        return " ".join(f"word{invented.randrange(300)}" for _ in range(number))

    pairs = [
        write(folder / f"{name}.jsonl", [{"prompt": some(30), "completion": f" {some(5)}"} for _ in range(40)])
        for name in ("posts", "instructions")
    ]
    (folder / "corpora").mkdir()
    with gzip.open(folder / "corpora" / "book.txt.gz", "wt") as file:
        file.write(some(12_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENDIV_DATA", str(make_data_root(folder / "root")))
        real_text.prepare(folder / "corpora", pairs, folder / "texts")
        real_text_preferences.prepare(make_people(folder / "people"), pairs, folder / "preferences")
        yield folder / "texts", folder / "preferences"


@pytest.fixture(scope="module")
def climbed(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ladder that its command climbed."""
    texts, preferences = inputs
    out = tmp_path_factory.mktemp("ladder") / "out"
    module = [sys.executable, "-m", "reference_models.real_text_ladder", "--tiny", "--workers", "2"]
    module += ["--suites", "summarisation", "--seeds", "1", "2"]
    command = [*module, "--texts", str(texts), "--preferences", str(preferences), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.slow
def test_one_command_climbs_the_ladder_in_miniature_and_does_nothing_twice(
    inputs: tuple[Path, Path], climbed: Path
) -> None:
    out, (texts, preferences) = climbed, inputs
    told: dict[str, Any] = json.loads((out / "ladder.json").read_text())
    losses = told["chosen"]["base"]["losses"]
    assert set(losses) == {f"pretrain-{size}-{epochs}" for size, epochs in TINY.candidates}
    assert told["chosen"]["base"]["chosen"] == min(losses, key=losses.__getitem__)
    trained = ("sft", "reward-model", "ppo", "rloo", "dpo", "best-of-n")
    assert {"base", "judge", *(f"seed-{seed}/{name}" for seed in (1, 2) for name in trained)} <= set(told["stages"])
    for name, seed in itertools.product(RUNGS, (1, 2)):
        run = Run(out / "runs" / "summarisation" / f"seed-{seed}" / name)
        for task in ("gendiv_tldr", "gendiv_cnn_dailymail"):
            assert len(run.samples(task)) == 4
            assert 0 < len(run.verdicts(task, "reward-model.judge")) <= 4, "some posts have no reference"
    held = (out / "data" / "pretrain-held-out.jsonl").read_text()
    assert not set(held.splitlines()) & set((out / "data" / "pretrain.jsonl").read_text().splitlines())
    before = {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*") if path.is_file()}
    climb(texts, preferences, out, suites=["summarisation"], seeds=(1, 2), budget=TINY, workers=2)
    assert {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*") if path.is_file()} == before


def study(climbed: Path, tmp_path: Path, name: str, *more: str) -> tuple[str, dict[str, Any]]:
    """Do a quick study on the ladder; its report and numbers."""
    given = ["--world", "real-text", "--ladders", str(climbed), "--seeds", "1", "--suite", "summarisation"]
    given += ["--judge", "reward-model", "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    command = [sys.executable, "-m", "benchmark.cli", "study", name, *given, "--quick", *more]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-4000:]
    (report,) = (tmp_path / "results").glob("*.md")
    return report.read_text(encoding="utf-8"), json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_best_of_n_is_studied_on_the_ladder(climbed: Path, tmp_path: Path) -> None:
    _, record = study(climbed, tmp_path, "best-of-n")
    assert {row["n"] for row in record["found"]} == {1, 2, 4}


@pytest.mark.slow
def test_sizes_of_the_ladder_each_have_a_chain_of_their_own(climbed: Path, tmp_path: Path) -> None:
    text, record = study(climbed, tmp_path, "size")
    parameters = [size["parameters"] for size in record["sizes"].values()]
    assert sorted(record["sizes"]) == ["a", "b"]
    assert parameters == sorted(set(parameters)), "the smallest first"
    assert all(len(shares) == 1 for shares in record["held_out_accuracy"].values())
    assert "pretrained by the ladder" in text
    _, chosen, _ = json.loads((climbed / "held-out" / "base-chosen.json").read_text())["chosen"].split("-")
    (other,) = {"a", "b"} - {chosen}
    (study_folder,) = (tmp_path / "out").glob("size-*")
    assert not (study_folder / chosen).exists(), "the ladder's own chain serves"
    chain = study_folder / other
    for name in ("sft", "reward-model"):
        made = json.loads((chain / "models" / "seed-1" / name / "training.json").read_text(encoding="utf-8"))
        start = climbed / "models" / f"pretrain-{other}-1" if name == "sft" else chain / "models" / "seed-1" / "sft"
        assert made["arguments"]["model"] == str(start)
        cell = json.loads((study_folder / "cells" / chosen / "seed-1" / "ppo" / "training.json").read_text())
        assert cell["arguments"]["model"] == str(climbed / "models" / "seed-1" / "sft")


def test_sizes_of_a_ladder_that_has_one_size_are_refused(tmp_path: Path) -> None:
    world = load_world("real-text", tmp_path)
    with pytest.raises(UserError, match="real_text_ladder makes it"):
        sizes(world)
    (tmp_path / "held-out").mkdir()
    told = {"chosen": "pretrain-a-4", "epochs": 4, "losses": {"pretrain-a-4": 3.0, "pretrain-b-8": 3.1}}
    (tmp_path / "held-out" / "base-chosen.json").write_text(json.dumps(told))
    for name in told["losses"]:
        (tmp_path / "held-out" / f"{name}.json").write_text(json.dumps({"parameters": 7}))
    with pytest.raises(UserError, match="no two sizes were pretrained for 4 epochs"):
        sizes(world)


def candidates(folder: Path, losses: dict[str, float]) -> None:
    for name, loss in losses.items():
        (folder / "models" / name).mkdir(parents=True, exist_ok=True)
        (folder / "models" / name / "training.json").write_text(json.dumps({"name": name}))
        (folder / "held-out").mkdir(exist_ok=True)
        (folder / "held-out" / f"{name}.json").write_text(json.dumps({"loss": loss, "epochs": 1}))


def test_the_lowest_loss_is_chosen_and_another_choice_later_is_refused(tmp_path: Path) -> None:
    models, told = tmp_path / "models", tmp_path / "held-out" / "base-chosen.json"
    candidates(tmp_path, {"pretrain-a-1": 3.0, "pretrain-b-1": 2.9, "pretrain-c-1": 2.8})

    def chosen(*names: str) -> str:
        choose(models, names, models / "base", told, lambda *_: None)
        return str(json.loads(told.read_text())["chosen"])

    assert chosen("pretrain-a-1", "pretrain-b-1") == "pretrain-b-1"
    assert chosen("pretrain-b-1") == "pretrain-b-1"
    before = told.read_text()
    with pytest.raises(UserError, match=r"pretrain-c-1 is the best of .*, and another was chosen before"):
        chosen("pretrain-b-1", "pretrain-c-1")
    assert told.read_text() == before


@pytest.mark.parametrize(("epochs", "waits_for"), [((2,), "base"), ((2, 3), "seed-1/sft")])
def test_other_seeds_wait_for_the_choice_of_epochs_where_there_is_one(
    epochs: tuple[int, ...], waits_for: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Job] = []

    def note(jobs: Sequence[Job], *_: object) -> None:
        planned.extend(jobs)
        candidates(tmp_path, {"base-chosen": 1.0, "sft-chosen": 1.0})

    monkeypatch.setattr(real_text_ladder, "run_jobs", note)
    budget = dataclasses.replace(TINY, sft_epochs=epochs)
    climb(tmp_path, tmp_path, tmp_path, suites=(), seeds=(1, 2), methods=(), budget=budget)
    (other,) = (job for job in planned if job.name == "seed-2/sft")
    assert other.needs == (waits_for,)
    assert {f"sft-{n}" for n in epochs} < {job.name for job in planned}


def test_a_candidate_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given = ["--texts", "a", "--preferences", "b", "--out", "c", "--tiny", "--candidates", "huge-1"]
    monkeypatch.setattr(sys, "argv", ["ladder", *given])
    with pytest.raises(SystemExit):
        real_text_ladder.main()
    assert "--candidates huge-1: there are a-1, b-1" in capsys.readouterr().err


def test_a_copy_of_what_is_held_out_is_left_out_and_a_template_is_not() -> None:
    template = " ".join(f"t{number}" for number in range(15))

    def row(number: int, head: str = "") -> dict[str, str]:
        return {"prompt": f"{head} {template}", "completion": " ".join(f"r{number}w{n}" for n in range(14))}

    held = [row(0)]
    rows = [row(number) for number in range(1, TEMPLATE + 2)]
    copy = row(0, "another template")
    assert _without_copies([*rows, copy], held) == rows
    assert _without_copies(rows[:TEMPLATE], held) == [], "so few might be copies of a passage"


def test_every_stage_of_a_ladder_has_a_recipe_and_can_be_read() -> None:
    from reference_models.arguments import RECIPES, read_recipe
    from reference_models.methods import METHODS

    given = functools.partial(dict, model="m", data="d", output="o")
    for recipe in (RECIPES / "real-text").glob("*.yaml"):
        method = {"pretrain": "sft", "judge": "reward-model"}.get(recipe.stem, recipe.stem)
        values = given(reward_model="r") if method in ("ppo", "rloo", "best-of-n") else given()
        for change in ({}, TINY.changes[recipe.stem]):
            assert read_recipe(METHODS[method].load(), recipe, values | change).output == "o"
