"""The demo, whole: what it promises is checked on what it made."""

import csv
import re
import signal
import subprocess
import sys
import time

import pytest

from benchmark.cli_leaderboard import examples_of
from benchmark.runs import Run
from leaderboard.board import boards, floors_above_models
from leaderboard.build import render
from reference_models.findings import compare
from reference_models.ladder import CONTROLS, DEMO, RUNGS
from reference_models.metrics import read_metrics


def command(out):
    return [sys.executable, "-m", "benchmark.cli", "demo", "--out", str(out)]


def demo(out):
    return subprocess.run(command(out), check=True, capture_output=True, text=True)


def value(row, metric):
    """The OOD estimate of a metric at temperature 1."""
    return next(e.value for e in row.estimates if (e.metric, e.role, e.temperature) == (metric, "ood", 1.0))


def start_and_kill(out):
    """Kill -9 a demo in the middle of a training that has saved a state; its workers must end with it."""
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    training = out / "models" / "reward-model.partial"
    while process.poll() is None and not list(training.glob("state-*.safetensors")):
        time.sleep(0.01)  # a poll, not a wait: what is asserted does not depend on it
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A demo that was killed in the middle and started again at once."""
    out = tmp_path_factory.mktemp("demo")
    start_and_kill(out)
    return out, demo(out)


@pytest.fixture(scope="module")
def scores(made):
    return [Run(made[0] / "runs" / name).scores() for name in (*(rung.name for rung in RUNGS), *CONTROLS)]


@pytest.mark.slow
def test_it_writes_the_board_prints_the_table_and_the_page(made):
    out, ran = made
    names = {path.name for path in (out / "leaderboard").iterdir()}
    assert names >= {"index.html", "methods.html", "leaderboard.csv", "plane.svg", "plane.pdf", "models", "assets"}
    assert str(out / "leaderboard" / "index.html") in ran.stdout
    for name in (*(rung.name for rung in RUNGS), *CONTROLS):
        assert name in ran.stdout
    progress = re.compile(r"\S+ \S.* [\d,]+/[\d,]+( \(\d+ %\))?(, .* left)?")
    assert all(progress.fullmatch(line) for line in ran.stderr.splitlines())


@pytest.mark.slow
def test_it_says_of_every_model_what_it_found_and_names_its_budget(made, scores):
    findings = compare(scores)
    assert {finding.model for finding in findings} == {rung.name for rung in RUNGS} - {"sft"}
    assert all(str(finding) in made[1].stdout for finding in findings)
    assert sum(line.startswith("finding: ppo is ") for line in made[1].stdout.splitlines()) >= 3
    assert str(DEMO) in made[1].stdout


@pytest.mark.slow
def test_every_floor_is_below_every_model_out_of_distribution(scores):
    rates = {(row.kind, row.name): value(row, "win_rate") for row in scores}
    worst = min(rate for (kind, _), rate in rates.items() if kind == "model")
    assert worst > max(rate for (kind, _), rate in rates.items() if kind == "floor")


@pytest.mark.slow
def test_a_resumed_training_has_every_step_once(made):
    for method in ("sft", "reward-model", "ppo", "rloo", "dpo"):
        steps = [row["step"] for row in read_metrics(made[0] / "models" / method / "metrics.jsonl")]
        assert steps == list(range(1, DEMO.steps[method] + 1))


@pytest.mark.slow
def test_no_floor_outscores_a_model_that_beats_every_floor(scores):
    (board,) = boards(scores)
    assert floors_above_models(board) == []


@pytest.mark.slow
def test_references_win_half_against_references_and_fill_the_scale(scores):
    ceiling = next(row for row in scores if row.kind == "ceiling")
    assert 0.4 < value(ceiling, "win_rate") < 0.6
    (board,) = boards(scores)
    reference = board.suite.plane.y.reference
    y = value(ceiling, "effective_per_input_oracle")
    assert y == pytest.approx(reference, rel=0.1), "the frozen reference value is the ceiling's own, on all prompts"


@pytest.mark.slow
def test_rows_are_models_floors_and_a_ceiling_and_only_models_are_ranked(made):
    with (made[0] / "leaderboard" / "leaderboard.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {name: row["kind"] for name, row in rows.items()} == {
        **{rung.name: "model" for rung in RUNGS},
        "random-words": "floor",
        "shuffled-references": "floor",
        "constant": "floor",
        "fresh-references": "ceiling",
    }
    assert {name for name, row in rows.items() if row["rank"]} == {rung.name for rung in RUNGS}


@pytest.mark.slow
def test_a_second_demo_does_nothing_over_and_gives_the_same_bytes(made, scores):
    out, _ = made
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    demo(out)
    for path, (written, data) in before.items():
        assert path.read_bytes() == data
        assert "leaderboard" in path.parts or path.stat().st_mtime_ns == written
    runs = [Run(out / "runs" / row.name) for row in scores]
    files = render(scores[::-1], examples=examples_of(runs))
    board = out / "leaderboard"
    assert files == {p.relative_to(board).as_posix(): p.read_bytes() for p in board.rglob("*") if p.is_file()}
