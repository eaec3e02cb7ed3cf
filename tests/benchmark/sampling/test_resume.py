"""Killed for real and started again: the same bytes as a run that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_suites
from tiny_runs import run

from benchmark.sampling.shards import merge

TASKS = ("gendiv_pocket_id", "gendiv_pocket_ood", "gendiv_pocket_ood_hard")


def command(checkpoint, out, batch_size):
    return [
        *(sys.executable, "-m", "benchmark.cli", "sample", str(checkpoint), "--suite", "pocket", "--out", str(out)),
        *("--k", "2", "--temperatures", "0.7,1.3", "--batch-size", str(batch_size)),
    ]


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1"}


def contents(out):
    return {task: (out / "samples" / f"{task}.jsonl").read_bytes() for task in TASKS}


def kill_in_the_middle(arguments, out, least_bytes):
    """Start the command, and kill -9 it as soon as the second task's file holds so many bytes."""
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    growing = out / "samples" / f"{TASKS[1]}.jsonl"
    try:
        while process.poll() is None and not (growing.exists() and growing.stat().st_size >= least_bytes):
            time.sleep(0.005)  # a poll, not a wait: what is asserted does not depend on it
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_run_killed_twice_and_resumed_with_another_batch_size_has_the_same_bytes(checkpoint, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(checkpoint, whole, 512), env=environment(), check=True, capture_output=True)
    expected = contents(whole)
    assert all(data.count(b"\n") == 150 * 2 * 2 for data in expected.values())

    kill_in_the_middle(command(checkpoint, killed, 3), killed, least_bytes=1)
    begun = (killed / "samples" / f"{TASKS[1]}.jsonl").read_bytes()
    assert 0 < len(begun) < len(expected[TASKS[1]])
    assert expected[TASKS[1]].startswith(begun)
    kill_in_the_middle(command(checkpoint, killed, 5), killed, least_bytes=len(begun) + 1000)
    # And a line that the killed writer left half-written.
    with (killed / "samples" / f"{TASKS[1]}.jsonl").open("ab") as file:
        file.write(b'{"task":"gendiv_pocket_ood","doc_')

    subprocess.run(command(checkpoint, killed, 64), env=environment(), check=True, capture_output=True)
    assert contents(killed) == expected

    before = {path: path.stat().st_mtime_ns for path in Path(killed / "samples").iterdir()}
    subprocess.run(command(checkpoint, killed, 64), env=environment(), check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished run is not written again"


@pytest.mark.slow
def test_five_tasks_killed_at_ten_points_and_drawn_in_shards_have_the_same_bytes(tmp_path):
    """One command for two suites, another batch size at every start; twice it is two processes that are killed."""
    rng = random.Random(4)
    model = tiny_suites.make_model(tmp_path / "model")
    options = {
        "suites": ["summarisation", "instructions"],
        "k": 2,
        "temperatures": [0.7, 1.3],
        "data_root": tiny_suites.make_data_root(tmp_path / "data", 25),
    }
    whole, killed, shards = tmp_path / "whole", tmp_path / "killed", tmp_path / "shards"

    def sample(out, **more):
        done = run(tiny_suites.command(model, out, **options | more))
        assert done.returncode == 0, done.stderr
        return done.stdout

    total = 5 * 25 * 2 * 2
    assert sample(whole, batch_size=64) == f"found 0, drew {total}\n"
    expected = tiny_suites.contents(whole)
    assert sorted(expected) == sorted(f"{s}/samples/{t}.jsonl" for s, ts in tiny_suites.TASKS.items() for t in ts)
    size = tiny_suites.bytes_drawn(whole)

    points = sorted(rng.sample(range(1, int(0.9 * size)), 10))
    for number, point in enumerate(points):
        before = tiny_suites.bytes_drawn(killed) if killed.exists() else 0
        launcher = tiny_suites.torchrun(2) if number in (3, 7) else ()
        command = tiny_suites.command(model, killed, launcher=launcher, batch_size=rng.randint(1, 9), **options)
        assert tiny_suites.kill_after(command, killed, max(point, before + 1)), "it ended before it could be killed"
    there = tiny_suites.cells_drawn(killed)
    assert 0 < there < total
    assert sample(killed, batch_size=11) == f"found {there}, drew {total - there}\n"
    assert tiny_suites.contents(killed) == expected

    for number in (1, 2):
        sample(shards / f"{number}", batch_size=number, shard=(number, 2))
    for suite in options["suites"]:
        merge([shards / "2" / suite, shards / "1" / suite], tmp_path / "merged" / suite)
    assert tiny_suites.contents(tmp_path / "merged") == expected
