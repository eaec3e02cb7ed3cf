"""Every study from its first job to its report, in miniature: what is there is not done again."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from benchmark.errors import UserError
from reference_models.metrics import read_metrics
from reference_models.studies import best_of_n, kl, seeds, size, size_pocket, temperature
from reference_models.studies.cells import do
from reference_models.studies.measure import drawn_otherwise, measure, read_measured
from reference_models.studies.setting import QUICK_OUTPUTS, QUICK_PROMPTS, QUICK_STEPS, Setting
from reference_models.studies.world import load_world

pytestmark = pytest.mark.slow
SEEDS = (3, 4)


@pytest.fixture(scope="module")
def setting(ladders, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies")
    return Setting(load_world("pocket", ladders), SEEDS, out / "out", out / "results", quick=True, command="gendiv …")


def command(setting, study, *more):
    out = ["--ladders", setting.world.ladders, "--out", setting.out, "--results", setting.results]
    seeds_ = ["--seeds", ",".join(map(str, setting.seeds))]
    arguments = [sys.executable, "-m", "benchmark.cli", "study", study, *out, *seeds_, "--quick", *more]
    return subprocess.run([str(part) for part in arguments], capture_output=True, text=True)


def written(setting, study):
    """The report's text and numbers."""
    path = setting.report(study)
    return path.read_text(encoding="utf-8"), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(setting):
    """The KL study's cells, made by its command."""
    ran = command(setting, "kl", "--only", "run")
    assert ran.returncode == 0, ran.stderr
    return setting


def test_a_cell_keeps_its_run_and_metrics_and_no_weights(made):
    cells = kl.plan(made)
    assert len(cells) == len(SEEDS) * (1 + len(kl.ESTIMATORS) * len(kl.QUICK))
    for cell in cells:
        assert cell.is_done
        assert not list(cell.folder.rglob("*.safetensors"))
        assert cell.run.samples("gendiv_pocket_id")
        if cell.policy is None:
            assert [row["step"] for row in read_metrics(cell.folder / "metrics.jsonl")] == list(
                range(1, QUICK_STEPS + 1)
            )


def test_what_was_measured_is_of_the_runs_own_outputs(made):
    cell = next(cell for cell in kl.plan(made) if cell.method == "ppo")
    for task, by_temperature in read_measured(cell.measured_path).items():
        samples = cell.run.samples(task)
        for document, means in by_temperature["1.0"].items():
            own = [sample for sample in samples if sample.doc_id == document]
            assert len(own) == QUICK_OUTPUTS
            assert means["tokens"] == pytest.approx(sum(sample.n_tokens for sample in own) / len(own))
            assert means["kl"] > 0
    untrained = next(cell for cell in kl.plan(made) if cell.method == "sft")
    found = read_measured(untrained.measured_path)["gendiv_pocket_ood"]["1.0"]
    assert len(found) == QUICK_PROMPTS
    assert all(means["kl"] == 0 for means in found.values())


def test_a_run_that_is_there_is_not_made_again(made):
    before = stamps(made.folder("kl"))
    assert command(made, "kl", "--only", "run").returncode == 0
    assert stamps(made.folder("kl")) == before


def test_a_cell_that_was_stopped_after_its_training_ends_the_same(made):
    cell = next(cell for cell in kl.plan(made) if cell.method == "ppo")
    samples = cell.run.samples_path("gendiv_pocket_id")
    before = samples.read_bytes(), cell.measured_path.read_bytes()
    cell.measured_path.unlink()
    samples.write_bytes(before[0][: len(before[0]) // 2])
    do(cell, made.world, lambda *_: None)
    assert (samples.read_bytes(), cell.measured_path.read_bytes()) == before


def test_a_folder_of_another_training_is_refused(made):
    cell = next(cell for cell in kl.plan(made) if cell.method == "ppo")
    path = cell.folder / "training.json"
    kept = path.read_text(encoding="utf-8")
    record = json.loads(kept)
    record["arguments"]["kl_coef"] = 7.0
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match=r"another training: kl_coef is 7\.0"):
        do(cell, made.world, lambda *_: None)
    path.write_text(kept, encoding="utf-8")


def test_a_finished_cell_of_another_policy_suite_or_judge_is_refused(made):
    cell = next(cell for cell in kl.plan(made) if cell.method == "sft")
    path = cell.run.manifest_path
    kept = path.read_text(encoding="utf-8")
    gone, other = cell.folder / "nowhere", made.world.model(4, "sft")
    for policy, message in ((gone, "no such checkpoint"), (other, "a run of other weights")):
        with pytest.raises(UserError, match=message):
            do(dataclasses.replace(cell, policy=policy), made.world, lambda *_: None)
    record = json.loads(kept)
    record["identity"]["suite"] = "pocket@v0"
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match="a run of suite pocket@v0, not of pocket@v1"):
        kl.report(made)
    path.write_text(kept, encoding="utf-8")
    judge = cell.run.judge_path("oracle")
    aside = judge.with_name("aside")
    judge.rename(aside)
    with pytest.raises(UserError, match="judged by nobody, not by oracle"):
        kl.report(made)
    aside.rename(judge)


def test_outputs_that_come_out_otherwise_are_refused_and_none_are_counted_where_they_are_the_same(made):
    cell = next(cell for cell in kl.plan(made) if cell.method == "sft")
    assert drawn_otherwise(cell.measured_path) == 0
    path = cell.run.samples_path("gendiv_pocket_id")
    kept = path.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in kept.splitlines()]
    lines[0]["text"] += " more"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(UserError, match="came out otherwise when they were drawn again"):
        measure(cell.run, cell.policy, cell.reference)
    path.write_text(kept, encoding="utf-8")


def test_the_report_names_every_level_and_answers(made):
    ran = command(made, "kl", "--only", "report")
    assert ran.returncode == 0, ran.stderr
    assert str(made.report("kl")) in ran.stdout
    text, record = written(made, "kl")
    assert {row["cell"] for row in record["cells"]} == {cell.name for cell in kl.plan(made)}
    assert all(line in text for line in record["answer"])
    assert len(record["answer"]) == 3 * 2, "three roles, two estimators beside k1"
    assert "A quick run" in text


def test_a_training_that_diverges_is_told_and_in_no_curve(made):
    cell = next(cell for cell in kl.plan(made) if cell.name == "seed-4/k3-1")
    moved = cell.folder.with_name("aside")
    cell.folder.rename(moved)
    wild = dataclasses.replace(cell, arguments=dataclasses.replace(cell.arguments, max_kl=1e-9))
    do(wild, made.world, lambda *_: None)
    assert cell.diverged_path.exists()
    assert not cell.run.folder.exists()
    kl.report(made)
    _, record = written(made, "kl")
    assert set(record["diverged"]) == {"seed-4/k3-1"}
    assert not any(row["cell"] == "seed-4/k3-1" for row in record["cells"])
    shutil.rmtree(cell.folder)
    moved.rename(cell.folder)


def test_a_report_on_what_is_not_done_says_how_much_is_missing(made, tmp_path):
    elsewhere = Setting(made.world, SEEDS, tmp_path, tmp_path, quick=True)
    with pytest.raises(UserError, match="14 of 14 cells are not done, such as seed-3/sft"):
        kl.report(elsewhere)


def test_a_seed_without_a_ladder_is_named_with_its_mend(made):
    ran = command(made, "kl", "--seeds", "9")
    assert ran.returncode == 2
    assert "seed-9/models/sft" in ran.stderr
    assert f"gendiv study seeds --only run --seeds 9 --ladders {made.world.ladders} makes it" in ran.stderr


def test_temperature_sets_ppo_beside_sfts_grid(setting):
    assert command(setting, "temperature").returncode == 0
    text, record = written(setting, "temperature")
    assert len(record["held_equal"]) == 3 * len(temperature.QUESTIONS)
    for line in ("SFT, T = 0.3", "SFT, T = 1.3", "PPO, T = 1"):
        assert line in text


def test_best_of_n_goes_on_where_it_was_and_ends_the_same(setting):
    best_of_n.run(setting)
    k, largest = best_of_n.sizes(setting)
    task = "gendiv_pocket_ood"
    path = best_of_n.pool_path(setting, 3, task)
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    best_of_n.run(setting)
    prompts = best_of_n.tasks_asked(setting)[task]
    pools = best_of_n.read_pools(path, prompts, k * largest)
    assert sorted(path.read_bytes().splitlines()) == sorted(before.splitlines())
    assert [pool.doc_id for pool in pools] == [prompt.doc_id for prompt in prompts]
    best_of_n.report(setting)
    text, record = written(setting, "best-of-n")
    assert {row["n"] for row in record["found"]} == {1, 2, 4}
    rewards = [row["level"] for row in record["found"] if (row["quantity"], row["role"]) == ("score", "ood")]
    assert rewards == sorted(rewards), "the expected best never falls with n"
    level = {(row["role"], row["quantity"], row["n"]): row["level"] for row in record["found"]}
    for (role, quantity, n), value in level.items():
        (row,) = (r for r in record["found"] if (r["role"], r["quantity"], r["n"]) == (role, quantity, n))
        half = level.get((role, quantity, n // 2))
        assert row["doubling"] == (None if half is None else pytest.approx(value - half, abs=1e-9))
    assert all(line in text for line in record["answer"])


def test_sizes_each_have_a_chain_of_their_own(setting, monkeypatch):
    setting = dataclasses.replace(setting, seeds=SEEDS[:1])
    monkeypatch.setattr(size_pocket, "SIZES", (size_pocket.PocketSize(32, 1), size_pocket.PocketSize(48, 2)))
    size.run(setting)
    size.report(setting)
    _, record = written(setting, "size")
    assert set(record["sizes"]) == {"32x1", "48x2"}
    assert {name: len(own) for name, own in record["held_out_accuracy"].items()} == {"32x1": 1, "48x2": 1}
    assert record["sizes"]["48x2"]["num_attention_heads"] == 3


def test_seeds_compares_every_method_with_sft(setting):
    setting = dataclasses.replace(setting, seeds=SEEDS[:1])
    seeds.run(setting)
    seeds.report(setting)
    _, record = written(setting, "seeds")
    assert {row["model"] for row in record["over_seeds"]} >= {"ppo", "rloo", "dpo", "best-of-16"}
