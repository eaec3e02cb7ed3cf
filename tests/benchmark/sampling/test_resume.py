"""Killed for real and started again: the same bytes as a run that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
