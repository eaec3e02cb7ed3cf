"""A copy is told before any board is built, and what it copies is not blamed where the order is known."""

from __future__ import annotations

import shutil
import sys

import pytest

from benchmark import cli, pipeline
from benchmark.runs import Run
from benchmark.submission.beside import Beside
from benchmark.submission.events import log_events
from benchmark.submission.pack import pack
from benchmark.submission.published import derived_path, published, read_derived
from benchmark.submission.validate import find

CARD = {"licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An original and another row, logged and kept; then a copy whose name comes first."""
    folder = tmp_path_factory.mktemp("beside")
    root = folder / "submissions"
    root.mkdir()
    for control in ("random-words", "shuffled-references"):
        options = pipeline.SampleOptions(k=2, limit=5)
        [run] = pipeline.sample(f"control:{control}", "pocket", folder / control, options)
        pipeline.judge(run)
        pipeline.score(run)
        pack(run, f"org/{control}", root, CARD)
    log_events(root, published(root, folder / "board" / "scores"))
    pack(Run(folder / "random-words"), "another/model", root, CARD)
    return folder


@pytest.fixture
def copied(world, tmp_path):
    shutil.copytree(world / "submissions", tmp_path / "submissions")
    shutil.copytree(world / "board", tmp_path / "board")
    return tmp_path


def names(root):
    return [folder.relative_to(root).as_posix() for folder, _ in find(root)]


@pytest.fixture(scope="module")
def mine(world):
    """The fingerprint that both the copy and its original have."""
    root, kept = world / "submissions", world / "board" / "scores"
    return read_derived(derived_path(kept, names(root)[1]).read_bytes(), kept)[0].fingerprint


def beside(folder, mine):
    """As `gendiv validate` has it when it is given the copy."""
    root, kept = folder / "submissions", folder / "board" / "scores"
    copy, original, _ = names(root)
    return Beside(root, kept, names(root), {copy: mine}), copy, original


def test_a_copy_is_flagged_by_name_and_what_came_before_it_is_not(copied, mine):
    found, copy, original = beside(copied, mine)
    flag = found.copied(copy)
    assert flag is not None
    assert f"100% of the longer outputs are those of {original}" in flag.text
    assert found.copied(original) is None
    assert found.unknown == ()


def test_without_a_log_nobody_knows_who_was_first_and_both_are_flagged(copied, mine):
    (copied / "submissions" / "EVENTS.jsonl").unlink()
    found, copy, original = beside(copied, mine)
    assert found.copied(copy) is not None
    assert found.copied(original) is not None


@pytest.mark.parametrize("change", ["kept no more", "another since"])
def test_what_nothing_is_known_of_is_named_and_not_compared(copied, mine, change):
    root = copied / "submissions"
    _, original, other = names(root)
    if change == "kept no more":
        derived_path(copied / "board" / "scores", original).unlink()
    else:
        path = root / original / "submission.json"
        path.write_bytes(path.read_bytes() + b"\n")
    found, copy, _ = beside(copied, mine)
    assert found.unknown == (original,)
    assert found.copied(copy) is None
    assert found.copied(other) is None


def test_the_command_prints_the_flag_and_with_whom_it_could_not_compare(copied, monkeypatch, capfd):
    root = copied / "submissions"
    copy, original, other = names(root)
    derived_path(copied / "board" / "scores", other).unlink()
    words = ["gendiv", "validate", root / copy, "--board", copied / "board"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capfd.readouterr()
    assert not stop.value.code, printed.err
    assert f"flag: {copy}: 100% of the longer outputs are those of {original}, in the same places" in printed.out
    [line] = [line for line in printed.out.splitlines() if line.startswith("not looked at for copies")]
    assert line.endswith(f": {other}")
