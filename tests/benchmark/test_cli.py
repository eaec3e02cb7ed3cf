"""The command: what works end to end, and what a user's mistakes get."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmark import cli
from benchmark.runs import Run


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process; returns (exit status, output, error output)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """A control's scored run, made by the command itself."""
    folder = tmp_path_factory.mktemp("runs") / "floor"
    arguments = ["run", "control:shuffled-references", "--suite", "pocket", "--k", "2", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "benchmark.cli", *arguments], check=True, capture_output=True)
    return folder


@pytest.fixture
def run(scored, tmp_path):
    """A copy of it to do harm to."""
    return shutil.copytree(scored, tmp_path / "run")


def refused(result):
    """Exactly one line on stderr, status 2, no traceback; returns the line."""
    status, _, err = result
    assert status == 2, err
    assert err.startswith("gendiv: ")
    assert err.count("\n") == 1
    return err


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loaded_by(*arguments):
    code = "import sys; from benchmark import cli; sys.argv[0] = 'gendiv'\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "print('LOADED', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(ran.stdout.rpartition("LOADED")[2].split())


HEAVY = {"torch", "transformers", "lm_eval", "datasets", "sentence_transformers"}


@pytest.mark.parametrize("arguments", [("--help",), ("sample", "--help"), ("list", "suites"), ("list", "metrics")])
def test_help_and_lists_load_nothing_heavy(arguments):
    assert not loaded_by(*arguments) & (HEAVY | {"pandas", "altair", "scipy"})


def test_the_leaderboard_loads_no_model_library(scored, tmp_path):
    assert not loaded_by("leaderboard", str(scored), "--out", str(tmp_path)) & HEAVY


@pytest.mark.parametrize("what", ["suites", "tasks", "metrics", "judges"])
def test_lists_name_what_there_is(gendiv, what):
    status, out, _ = gendiv("list", what)
    assert status == 0
    assert {"suites": "pocket@v1", "tasks": "gendiv_pocket_ood", "metrics": "win_rate", "judges": "oracle"}[what] in out


def test_the_stages_one_by_one_equal_all_in_one(gendiv, scored, tmp_path):
    folder = tmp_path / "floor"
    assert gendiv("sample", "control:shuffled-references", "--suite", "pocket", "--k", 2, "--out", folder)[0] == 0
    assert gendiv("judge", folder)[0] == 0
    status, out, _ = gendiv("score", folder)
    assert status == 0
    assert "win_rate" in out
    for path in ("samples", "verdicts"):
        assert {p.name: p.read_bytes() for p in (folder / path).iterdir()} == {
            p.name: p.read_bytes() for p in (scored / path).iterdir()
        }
    a, b = (json.loads((f / "scores.json").read_text()) for f in (folder, scored))
    del a["record"], b["record"]
    assert a == b


def test_scoring_again_gives_the_same_bytes(gendiv, run):
    before = (run / "scores.json").read_bytes()
    assert gendiv("score", run)[0] == 0
    assert (run / "scores.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sample", "control:constant", "--suite", "nope", "--out", "X"), "no suite 'nope'; there are: "),
        (("run", "control:nope", "--suite", "pocket", "--out", "X"), "no control 'nope'; there are: "),
        (("run", "./nowhere", "--suite", "pocket", "--out", "X"), "no such checkpoint folder: ./nowhere"),
        (("run", "some/hub-id", "--suite", "pocket", "--out", "X"), "some/hub-id cannot be loaded"),
        (("run", "control:constant", "--suite", "alpaca-eval", "--out", "X"), "see `gendiv import`"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures", "hot", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=nan", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=-1", "--out", "X"), "--temperatures"),
        (("judge", "X"), "run.json: no such file"),
        (("score", "X"), "run.json: no such file"),
        (("leaderboard", "X", "--out", "Y"), "no run in it"),
        (("import", "alpaca-eval", "X", "--out", "Y"), "X"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(gendiv, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(gendiv(*arguments))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def damage(run, kind):
    samples = run / "samples" / "gendiv_pocket_id.jsonl"
    lines = samples.read_text().splitlines(keepends=True)
    manifest, scores = run / "run.json", run / "scores.json"
    if kind == "truncated line":
        samples.write_text("".join(lines)[:-20])
    elif kind == "broken line":
        samples.write_text("".join([lines[0], lines[1][:30] + "\n", *lines[2:]]))
    elif kind == "empty file":
        samples.write_text("")
    elif kind == "missing cell":
        samples.write_text("".join(lines[1:]))
    elif kind == "double cell":
        samples.write_text("".join([*lines, lines[0]]))
    elif kind == "other suite version":
        manifest.write_text(manifest.read_text().replace("pocket@v1", "pocket@v7"))
    elif kind == "other prompts":
        manifest.write_text(
            manifest.read_text().replace('"prompts_sha256": "', '"prompts_sha256": "0').replace('0"', '"')
        )
    elif kind == "not a manifest":
        manifest.write_text("[]")
    elif kind == "NaN in a score":
        scores.write_text(scores.read_text().replace('"value":', '"value":NaN,"x":', 1))
    elif kind == "scores gone":
        scores.unlink()


@pytest.mark.parametrize(
    ("command", "kind", "says"),
    [
        ("score", "truncated line", "gendiv_pocket_id.jsonl:300: the last line is cut off"),
        ("score", "broken line", "gendiv_pocket_id.jsonl:2: not a valid Sample"),
        ("score", "empty file", "gendiv_pocket_id.jsonl: the file is empty"),
        ("score", "missing cell", "is missing"),
        ("score", "double cell", "is there twice"),
        ("judge", "missing cell", "is missing"),
        ("score", "other suite version", "no suite 'pocket@v7'"),
        ("score", "not a manifest", "run.json: not a valid Manifest"),
        ("board", "NaN in a score", "scores.json: not a valid Scores"),
        ("board", "scores gone", "scores.json: no such file; run `gendiv score`"),
        ("board", "not a manifest", "run.json: not a valid Manifest"),
        ("board", "missing cell", "samples or verdicts changed since; run `gendiv score` again"),
        ("board", "other suite version", "identity is not that of run.json; run `gendiv score` again"),
    ],
)
def test_a_damaged_run_is_refused_by_name_and_left_as_it_is(gendiv, run, tmp_path, command, kind, says):
    damage(run, kind)
    before = snapshot(run)
    board = tmp_path / "board"
    result = gendiv("leaderboard", run, "--out", board) if command == "board" else gendiv(command, run)
    assert says in refused(result)
    assert snapshot(run) == before
    assert not board.exists()


def test_a_begun_run_is_not_mixed_with_another(gendiv, run):
    before = snapshot(run)
    again = ("sample", "control:shuffled-references", "--suite", "pocket", "--out", run)
    assert "identity.sampling is" in refused(gendiv(*again, "--k", 3))
    assert "identity.sampling is" in refused(gendiv(*again, "--k", 2, "--seed", 1))
    other = ("sample", "control:constant", "--suite", "pocket", "--k", 2, "--out", run)
    assert "model.id is control:shuffled-references" in refused(gendiv(*other))
    assert snapshot(run) == before


def test_a_folder_with_other_things_in_it_is_not_written_into(gendiv, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = gendiv("sample", "control:constant", "--suite", "pocket", "--out", tmp_path)
    assert "is not a run folder" in refused(result)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_bug_keeps_its_traceback(scored):
    code = "from benchmark import cli, pipeline; import sys\n"
    code += (
        "def bug(*a): raise ZeroDivisionError\npipeline.judge = bug\nsys.argv = ['gendiv', 'judge', 'x']\ncli.main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr
    assert "ZeroDivisionError" in ran.stderr


def test_the_row_of_a_model_can_be_named(gendiv, tmp_path):
    folder = tmp_path / "r"
    arguments = ("sample", "control:constant", "--suite", "pocket", "--k", 1, "--name", "my row", "--out", folder)
    assert gendiv(*arguments)[0] == 0
    assert Run(folder).manifest().name == "my row"


def test_nothing_of_this_machine_is_in_a_run(scored):
    text = (scored / "run.json").read_text() + (scored / "scores.json").read_text()
    for secret in (os.getcwd(), os.path.expanduser("~"), str(scored.parent)):
        assert len(secret) < 2 or secret not in text
