"""``gendiv reproduce plan``: it prints and writes the plan, what it plans can be trained, and mistakes are one line."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from measured_speeds import MEASURED
from tiny_opt import make_opt
from tiny_runs import WORDS, write_jsonl

from benchmark import cli
from benchmark.cli_plan import wanted
from leaderboard.paper_plan import open_cells
from leaderboard.paper_tables import paper_tables
from reference_models.reproduction_plan import make_plan


@pytest.fixture(scope="module")
def plan():
    return make_plan(wanted(open_cells(list(paper_tables().values()), [])), MEASURED, price=3.0)


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process: (status, standard output, error stream)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def throughput(tmp_path):
    path = tmp_path / "throughput.yaml"
    rows = [{**row.__dict__, "tokens": 512} for row in MEASURED]
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_trainings_are_dry_run_on_a_stand_in_one_after_the_other(plan, gendiv, tmp_path, monkeypatch):
    """What the plan's commands would train passes its own check, with tiny models in the places of the real ones."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": " ".join(words), "completion": "warm", "chosen": "warm and wet", "rejected": "cold"}
        for words in itertools.product(WORDS[:7], repeat=3)
    ]
    for export in plan.exports:
        path = Path(export.command[-1])
        path.parent.mkdir(exist_ok=True)
        write_jsonl(path, rows)
    model = make_opt(tmp_path / "model", 16)
    scorer = tmp_path / "scorer"
    fields = [f"model={model}", f"data={path}", f"output={scorer}", "steps=1", "batch_size=4", "learning_rate=1e-3"]
    trained = gendiv("train", "reward-model", "--set", *fields)
    assert trained[0] == 0, trained
    section = plan.sections[0]
    assert section.model.name == "facebook/opt-125m"
    for step in section.steps:
        if step.command[:2] != ("gendiv", "train"):
            continue
        words = list(step.command[1:])
        for n, word in enumerate(words):
            field, equals, value = word.partition("=")
            if equals and field in ("model", "reward_model"):
                words[n] = f"{field}={scorer if 'reward' in value else model}"
        refused, _, err = gendiv(*step.command[1:], "--dry-run")
        assert refused == 1, "what is not there yet is a problem"
        assert "models/" in err
        status, out, err = gendiv(*words, "max_new_tokens=8" if step.stage == "ppo" else "seed=1", "--dry-run")
        assert (status, err) == (0, ""), step.command
        assert "steps of" in out
    assert not (tmp_path / "models").exists()


def test_the_command_prints_the_plan_and_writes_it(gendiv, throughput, tmp_path):
    (tmp_path / "none").mkdir()
    common = ["reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput]
    status, out, err = gendiv(*common, "--out", tmp_path / "out", "--price-per-gpu-hour", "2.5")
    assert status == 0, err
    assert "at $2.5 a GPU hour" in out
    page, script = (tmp_path / "out" / name for name in ("plan.md", "plan.sh"))
    subprocess.run(["bash", "-n", script], check=True)
    assert "facebook/opt-6.7b" in page.read_text(encoding="utf-8")
    first = page.read_bytes(), script.read_bytes()
    gendiv(*common, "--out", tmp_path / "out", "--price-per-gpu-hour", "2.5")
    assert (page.read_bytes(), script.read_bytes()) == first
    status, out, _ = gendiv(*common, "--paper-protocol", "--out", tmp_path / "papers")
    assert status == 0
    text = (tmp_path / "papers" / "plan.sh").read_text(encoding="utf-8")
    assert "--judge summaries-gpt-4-paper" in text
    assert "gpt-4.1" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu", "B300"], "none such was measured; there are: NVIDIA H200, NVIDIA H100"),
        (["--gpu", "NVIDIA"], "several were measured"),
        (["--judge", "oracle"], "costs nothing"),
        (["--throughput", "none.yaml"], "none.yaml: no throughput was measured here"),
    ],
)
def test_a_mistake_is_one_line(gendiv, throughput, tmp_path, words, says):
    (tmp_path / "none").mkdir()
    status, _, err = gendiv("reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput, *words)
    assert status == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_a_method_without_a_measured_speed_is_one_line(gendiv, throughput, tmp_path):
    rows = [row for row in yaml.safe_load(throughput.read_text()) if row["method"] not in ("ppo", "generate")]
    throughput.write_text(json.dumps(rows))
    (tmp_path / "none").mkdir()
    status, _, err = gendiv("reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput)
    assert status == 2
    assert "the speed of generate was not measured on NVIDIA H200; measured were: sft, reward-model" in err
