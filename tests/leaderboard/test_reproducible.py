"""The same submissions give the same bytes, whatever machine, folder, order and locale they are built in."""

from __future__ import annotations

import json
import locale
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import pipeline
from benchmark.submission.pack import pack
from benchmark.submission.published import published

ROOT = Path(__file__).parents[2]
CONTROLS = ("random-words", "shuffled-references", "fresh-references")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Submissions of three controls, and their kept scores."""
    folder = tmp_path_factory.mktemp("reproducible")
    root = folder / "submissions"
    root.mkdir()
    for control in CONTROLS:
        [run] = pipeline.sample(f"control:{control}", "pocket", folder / control, pipeline.SampleOptions(k=2, limit=5))
        pipeline.judge(run)
        pipeline.score(run)
        pack(run, f"org/{control}", root, {"licence": "Apache-2.0"})
    published(root, folder / "board" / "scores")
    return folder


def checkout(world, place, *, backwards, seconds, umask):
    """Copy submissions and kept scores file by file, in another order and with other times and rights."""
    before = os.umask(umask)
    try:
        for part in ("submissions", "board"):
            files = sorted(path for path in (world / part).rglob("*") if path.is_file())
            for path in reversed(files) if backwards else files:
                target = place / path.relative_to(world)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                os.utime(target, (seconds, seconds))
    finally:
        os.umask(before)


def build(place, cwd, *, umask=0o022, **environment):
    """Run `gendiv leaderboard` in a process of its own; every file of the board."""
    code = f"import os; os.umask({umask}); from benchmark.cli import main; main()"
    arguments = ["leaderboard", "--submissions", os.path.relpath(place / "submissions", cwd)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", os.path.relpath(place / "board", cwd)],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    board = place / "board"
    return {path.relative_to(board).as_posix(): path.read_bytes() for path in board.rglob("*") if path.is_file()}


def turkish():
    """A locale in which the capital of i is no I, where the machine has one."""
    try:
        before = locale.setlocale(locale.LC_ALL)
        locale.setlocale(locale.LC_ALL, "tr_TR.UTF-8")
        locale.setlocale(locale.LC_ALL, before)
    except locale.Error:
        return "C.UTF-8"
    return "tr_TR.UTF-8"


def test_two_checkouts_give_the_same_bytes_which_hold_no_path_date_or_host(world, tmp_path):
    here, there = tmp_path / "here", tmp_path / "another place" / "there"
    checkout(world, here, backwards=False, seconds=1_000_000_000, umask=0o022)
    checkout(world, there, backwards=True, seconds=1_700_000_000, umask=0o077)
    one = build(here, tmp_path, TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    other = build(there, there, umask=0o077, TZ="Pacific/Kiritimati", LC_ALL=turkish(), PYTHONHASHSEED="4242")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    events = [(place / "submissions" / "EVENTS.jsonl").read_bytes() for place in (here, there)]
    assert events[0] == events[1]
    for name, data in one.items():
        for word in (str(tmp_path), str(ROOT), str(Path.home()) + "/", socket.gethostname()):
            assert len(word) < 6 or word.encode() not in data, (name, word)


def test_a_second_build_reuses_files_and_whatever_becomes_of_its_notes_no_byte_changes(world, tmp_path):
    checkout(world, tmp_path, backwards=False, seconds=1_000_000_000, umask=0o022)
    first = build(tmp_path, tmp_path)
    notes = tmp_path / ".cache" / "board.json"
    known = json.loads(notes.read_bytes())
    page = next(name for name in first if name.startswith("models/"))
    assert page in known
    time = (tmp_path / "board" / page).stat().st_mtime_ns
    assert build(tmp_path, tmp_path) == first
    assert (tmp_path / "board" / page).stat().st_mtime_ns == time
    (tmp_path / "board" / page).write_bytes(b"edited by hand")
    (tmp_path / "board" / "plane.svg").unlink(missing_ok=True)
    assert build(tmp_path, tmp_path) == first
    key = "0" * 64
    for spoiled in (b"", b"\xff{", b"[]", b'{"%s": 3}' % page.encode(), json.dumps({page: [key, key]}).encode(), None):
        notes.unlink() if spoiled is None else notes.write_bytes(spoiled)
        assert build(tmp_path, tmp_path) == first, spoiled


def test_a_removed_submission_leaves_nothing_and_what_is_not_the_boards_stays(world, tmp_path):
    checkout(world, tmp_path, backwards=False, seconds=1_000_000_000, umask=0o022)
    build(tmp_path, tmp_path)
    (tmp_path / "board" / "CNAME").write_text("board.example")
    shutil.rmtree(tmp_path / "submissions" / "org__random-words")
    files = build(tmp_path, tmp_path)
    assert "CNAME" in files
    assert not [name for name in files if "random-words" in name]
    assert any("shuffled-references" in name for name in files)
