"""The command: what works end to end, and what a user's mistakes get."""

import json
import os
import re
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
        (
            ("run", "some/hub-id", "--suite", "pocket", "--out", "X"),
            "some/hub-id cannot be loaded: no such folder, and",
        ),
        (
            ("run", "nowhere", "--suite", "pocket", "--out", "X"),
            "not in the hub's cache, which is all there is offline",
        ),
        (("run", "control:constant", "--suite", "alpaca-eval", "--out", "X"), "see `gendiv import`"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures", "hot", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=nan", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=-1", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=1e9", "--out", "X"), "from 0 to 100"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures=1,1.0", "--out", "X"), "--temperatures"),
        (("sample", "control:constant", "--suite", "pocket", "--temperatures", "", "--out", "X"), "--temperatures has"),
        (("sample", "control:constant", "--suite", "pocket", "--device=", "--out", "X"), "--device has an empty value"),
        (("sample", "control:constant", "--suite", "pocket", "--k", 10**8, "--out", "X"), "give a smaller --k"),
        (
            ("sample", "control:constant", "--suite", "pocket", "--threads", 0, "--out", "X"),
            "see `gendiv sample --help`",
        ),
        (("judge", "X", "--max-cost", "nan"), "'--max-cost': must be a number greater than or equal to 0; see"),
        (("list", "nonsense"), "'nonsense' is not one of 'suites', "),
        (("nonsense",), "No such command 'nonsense'; see `gendiv --help`"),
        (("judge", "X"), "run.json: no such file"),
        (("score", "X"), "no such file or run folder"),
        (("leaderboard", "X", "--out", "Y"), "no run in it"),
        (("import", "alpaca-eval", "X", "--out", "Y"), "X"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(gendiv, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(gendiv(*arguments))
    assert not any(tmp_path.iterdir())


def test_help_and_the_version_are_printed_and_are_no_mistakes(gendiv):
    for arguments in ((), ("--help",), ("import",), ("--version",)):
        status, out, err = gendiv(*arguments)
        assert ("gendiv 0." if arguments == ("--version",) else "Usage: gendiv") in out
        assert not err
        assert status == (0 if arguments and arguments[0].startswith("-") else 2)


def damage(run, kind):
    samples = run / "samples" / "gendiv_pocket_id.jsonl"
    lines = samples.read_text().splitlines(keepends=True)
    manifest, scores = run / "run.json", run / "scores.json"
    verdicts = run / "verdicts" / "gendiv_pocket_ood.oracle.jsonl"
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
        manifest.write_text(re.sub(r'("prompts_sha256": )"....', r'\1"0000', manifest.read_text()))
    elif kind == "not a manifest":
        manifest.write_text("[]")
    elif kind == "NaN in a score":
        scores.write_text(scores.read_text().replace('"value":', '"value":NaN,"x":', 1))
    elif kind == "another task":
        samples.write_text(samples.read_text().replace("gendiv_pocket_id", "gendiv_pocket_ood", 1))
    elif kind == "verdicts cut":
        verdicts.write_text("".join(verdicts.read_text().splitlines(keepends=True)[:37]))
    elif kind == "verdict twice":
        verdicts.write_text(verdicts.read_text() + verdicts.read_text().splitlines(keepends=True)[0])
    elif kind == "texts changed":
        samples.write_text(samples.read_text().replace('"text":"', '"text":"really '))
    elif kind == "judge elsewhere":
        manifest.write_text(manifest.read_text().replace('"judge": "oracle"', '"judge": "../../oracle"'))
    elif kind == "wild judge":
        manifest.write_text(manifest.read_text().replace('"judge": "oracle"', '"judge": "**"'))
    elif kind == "edited estimate":
        scores.write_text(
            scores.read_text().replace(
                '"role":"ood","temperature":1.0,"value":0.', '"role":"ood","temperature":1.0,"value":0.9', 1
            )
        )
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
        ("score", "another task", "gendiv_pocket_id.jsonl:1: task is 'gendiv_pocket_ood', in a file of"),
        ("score", "other prompts", "identity.tasks is not that of suite pocket@v1"),
        ("score", "verdicts cut", "has no verdict, nor have 262 more; run `gendiv judge` to finish it"),
        ("score", "verdict twice", "is there twice"),
        ("score", "texts changed", "is of another text or another version of the judge"),
        ("score", "judge elsewhere", "not a valid Manifest: identity.judge"),
        ("score", "wild judge", "not a valid Manifest: identity.judge"),
        ("board", "edited estimate", "is not the mean of its per-prompt values"),
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
    assert "holds another run: identity.sampling.k is 2, asked for 3; give" in refused(gendiv(*again, "--k", 3))
    assert "identity.sampling.seed is 0, asked for 1" in refused(gendiv(*again, "--k", 2, "--seed", 1))
    fewer = refused(gendiv(*again, "--k", 2, "--limit", 11))
    assert "identity.tasks.gendiv_pocket_id.n_prompts is 150, asked for 11; give another --out" in fewer
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


def test_an_interrupted_command_says_how_to_go_on(gendiv, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.suites.load_suites", interrupted)
    assert gendiv("list", "suites") == (130, "", "gendiv: interrupted; the same command goes on from here\n")


@pytest.mark.parametrize("command", [("sample", "control:constant", "--suite", "pocket", "--k", 1), ("demo",)])
def test_an_output_that_is_a_file_is_refused(gendiv, tmp_path, command):
    (tmp_path / "afile").write_text("mine")
    assert "afile" in refused(gendiv(*command, "--out", tmp_path / "afile"))
    assert "afile" in refused(gendiv(*command, "--out", tmp_path / "afile" / "below"))
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_board_where_a_file_is_is_refused(gendiv, run, tmp_path):
    (tmp_path / "afile").write_text("mine")
    assert "afile" in refused(gendiv("leaderboard", run, "--out", tmp_path / "afile"))
    assert (tmp_path / "afile").read_text() == "mine"


def test_a_board_of_one_output_a_prompt_is_built_and_says_what_is_missing(gendiv, tmp_path):
    run, board = tmp_path / "k1", tmp_path / "board"
    assert gendiv("run", "control:constant", "--suite", "pocket", "--k", 1, "--out", run)[0] == 0
    assert gendiv("leaderboard", run, "--out", board)[0] == 0
    assert "several outputs a prompt" in (board / "leaderboard.md").read_text()


def test_what_a_killed_writer_left_behind_is_in_nobodys_way(gendiv, scored, tmp_path):
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    (run / ".run.json.1.tmp").write_text("{")
    again = ("run", "control:shuffled-references", "--suite", "pocket", "--k", 2, "--out", run)
    assert gendiv(*again)[0] == 0
    shutil.copytree(scored, tmp_path / "runs" / ".r.123.old")
    assert gendiv("leaderboard", tmp_path / "runs", "--out", tmp_path / "board")[0] == 0


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", "\udcff"])
def test_a_senseless_row_name_is_refused(gendiv, tmp_path, name):
    command = ("sample", "control:constant", "--suite", "pocket", "--name", name, "--out", tmp_path / "r")
    says = "needs 1 to 200 printable characters" if name else "has an empty value"
    assert f"--name {says}" in refused(gendiv(*command))


def test_a_begun_run_keeps_its_name_and_card_unless_they_are_said_again(gendiv, run):
    again = ("sample", "control:shuffled-references", "--suite", "pocket", "--k", 2, "--out", run)
    assert gendiv(*again, "--name", "other", "--method", "shuffling")[0] == 0
    assert gendiv(*again)[0] == 0
    assert (Run(run).manifest().name, Run(run).manifest().card.method) == ("other", "shuffling")
    assert gendiv(*again, "--trained-on", "gendiv_pocket_ood")[0] == 0
    card = Run(run).manifest().card
    assert (card.method, card.trained_on) == ("shuffling", ("gendiv_pocket_ood",)), "what was declared stays declared"
    assert "name is not that of run.json" in refused(gendiv("leaderboard", run, "--out", run / "board"))


def test_the_row_of_a_model_can_be_named(gendiv, tmp_path):
    folder = tmp_path / "r"
    arguments = ("sample", "control:constant", "--suite", "pocket", "--k", 1, "--name", "my row", "--out", folder)
    assert gendiv(*arguments)[0] == 0
    assert Run(folder).manifest().name == "my row"


def test_nothing_of_this_machine_is_in_a_run(scored):
    text = (scored / "run.json").read_text() + (scored / "scores.json").read_text()
    for secret in (os.getcwd(), os.path.expanduser("~"), str(scored.parent)):
        assert len(secret) < 2 or secret not in text


def test_only_the_metrics_that_are_asked_for_are_printed(gendiv, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}", "outputs": ["a b c", "d e f"]}}\n' for n in range(3)))
    status, out, _ = gendiv("score", path, "--metrics", "ead, vendi_per")
    assert status == 0
    names = [line.split()[0] for line in out.splitlines()[2:] if re.match(r"[a-z_]+_input", line)]
    assert names == [
        "ead_per_input",
        "ead_rlfh_per_input",
        "vendi_per_input",
        "ead_across_input",
        "ead_rlfh_across_input",
    ]
    assert "no metric begins with 'nonsense'" in refused(gendiv("score", path, "--metrics", "ead,nonsense"))
    assert "--metrics ',' names none" in refused(gendiv("score", path, "--metrics", ","))
