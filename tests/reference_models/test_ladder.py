"""The demo, whole: what it promises is checked on what it made."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from benchmark.runs import Run
from leaderboard.board import boards, floors_above_models
from leaderboard.build import render
from reference_models.ladder import CONTROLS, RUNGS, findings

BOARD_FILES = {
    "index.html",
    "leaderboard.csv",
    "leaderboard.md",
    "leaderboard.tex",
    "curve.csv",
    "plane.svg",
    "plane.png",
}


def command(out):
    return [sys.executable, "-m", "benchmark.cli", "demo", "--out", str(out)]


def demo(out):
    return subprocess.run(command(out), check=True, capture_output=True, text=True)


def start_and_kill(out):
    """Kill -9 a demo as soon as the quicker model's samples begin to come; its workers must end with it."""
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    growing = out / "runs" / "sft-short" / "samples" / "gendiv_pocket_id.jsonl"
    while process.poll() is None and not (growing.exists() and growing.stat().st_size):
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
    assert {path.name for path in (out / "leaderboard").iterdir()} == BOARD_FILES
    assert str(out / "leaderboard" / "index.html") in ran.stdout
    for name in (*(rung.name for rung in RUNGS), *CONTROLS):
        assert name in ran.stdout
    assert not ran.stderr.strip()


@pytest.mark.slow
def test_the_longer_training_wins_out_of_distribution_and_every_floor_is_below_both(scores):
    lines = findings(scores)
    assert len(lines) == 1 + 2 * 3
    assert lines[0].startswith("sft is above sft-short in OOD win rate: +")
    assert all(" is above " in line for line in lines)


@pytest.mark.slow
def test_no_floor_outscores_a_model_that_beats_every_floor(scores):
    (board,) = boards(scores)
    assert floors_above_models(board) == []


@pytest.mark.slow
def test_references_win_half_against_references_and_fill_the_scale(scores):
    ceiling = next(row for row in scores if row.kind == "ceiling")
    rate = next(e for e in ceiling.estimates if (e.metric, e.role) == ("win_rate", "ood"))
    assert 0.4 < rate.value < 0.6
    (board,) = boards(scores)
    reference = board.suite.plane.y.reference
    y = next(e for e in ceiling.estimates if (e.metric, e.role) == ("effective_per_input_oracle", "ood"))
    assert y.value == pytest.approx(reference, rel=0.02), "the frozen reference value is the ceiling's own"


@pytest.mark.slow
def test_rows_are_models_floors_and_a_ceiling_and_only_models_are_ranked(made):
    with (made[0] / "leaderboard" / "leaderboard.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert {name: row["kind"] for name, row in rows.items()} == {
        "sft": "model",
        "sft-short": "model",
        "random-words": "floor",
        "shuffled-references": "floor",
        "constant": "floor",
        "fresh-references": "ceiling",
    }
    assert {name for name, row in rows.items() if row["rank"]} == {"sft", "sft-short"}


@pytest.mark.slow
def test_a_second_demo_does_nothing_over_and_gives_the_same_bytes(made, scores):
    out, _ = made
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    demo(out)
    for path, (written, data) in before.items():
        assert path.read_bytes() == data
        assert path.parent.name == "leaderboard" or path.stat().st_mtime_ns == written
    files = render(scores[::-1])
    assert files == {name: (out / "leaderboard" / name).read_bytes() for name in BOARD_FILES}
