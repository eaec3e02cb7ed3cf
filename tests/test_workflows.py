"""The workflows' own commands, and what they may do."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from benchmark import cli

FOLDER = Path(__file__).parents[1] / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


def load(path):
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    return fields | {"on": fields.get("on", fields.get(True))}  # YAML 1.1 takes on for true


def steps(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_secret_is_named_and_nothing_may_be_written_unless_it_is_said(path):
    text = path.read_text(encoding="utf-8")
    assert "secrets." not in text or path.stem == "rejudge"
    assert "pull_request_target" not in text
    top = load(path)["permissions"]
    assert set(top.values()) == {"read"} or path.stem == "comment"


def test_the_judges_key_is_in_one_step_of_what_a_maintainer_starts_on_the_branch_that_is_published():
    path = FOLDER / "rejudge.yml"
    found = load(path)
    assert set(found["on"]) == {"workflow_dispatch"}
    assert path.read_text(encoding="utf-8").count("secrets.") == 1
    [job] = found["jobs"].values()
    assert job["if"] == "github.ref_name == github.event.repository.default_branch"
    assert job["environment"] == "judge"
    [checkout] = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert "with" not in checkout  # no other ref, no other repository
    [told] = [step for step in job["steps"] if "secrets." in str(step)]
    assert told["run"].startswith(".venv/bin/gendiv rejudge ")
    assert "--max-cost" in told["run"]
    given = {name for step in job["steps"] for name, value in step.get("env", {}).items() if "inputs." in value}
    assert given == {"SUBMISSION", "SEED", "PAIRS", "MAX_COST"}


HONEST = {"SUBMISSION": "org__m-1.5/0123456789ab/pocket@v1", "SEED": "17", "PAIRS": "100", "MAX_COST": "2.50"}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"SUBMISSION": "../../x__y/1/pocket@v1"},
        {"SUBMISSION": "a__b/../pocket@v1"},
        {"SUBMISSION": "--out"},
        {"SUBMISSION": "a__b/1/pocket@v1\nx"},
        {"SUBMISSION": "a__$(id)/1/pocket@v1"},
        {"SEED": "-1"},
        {"SEED": "1; id"},
        {"PAIRS": ""},
        {"MAX_COST": "1e9"},
    ],
)
def test_inputs_that_are_not_what_they_are_called_stop_it_before_anything_is_asked(change):
    [step] = [step for step in steps(FOLDER / "rejudge.yml") if "=~" in step.get("run", "")]
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=HONEST | change, check=False)
    assert (done.returncode == 0) == (not change)


def test_no_code_of_a_pull_request_is_run():
    checkouts = [step for step in steps(FOLDER / "submission.yml") if "checkout" in step.get("uses", "")]
    ours, theirs = checkouts
    assert "base.sha" in ours["with"]["ref"]
    assert "path" not in ours["with"]
    assert "head.sha" in theirs["with"]["ref"]
    assert theirs["with"]["path"] == "head"
    for step in checkouts:
        assert step["with"]["persist-credentials"] is False
    for step in steps(FOLDER / "submission.yml"):
        assert not re.search(r"\bcd head\b|head/\.venv|pip install head|make -C head", step.get("run", ""))
    # What a pull request names reaches a shell through the environment, never as text of the script.
    for path in WORKFLOWS:
        for step in steps(path):
            assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_and_option_is_there(path):
    known = get_command(cli.app).commands
    for step in steps(path):
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            if words and words[0].endswith("/gendiv"):
                command = known[words[1]]
                options = {option for parameter in command.params for option in parameter.opts}
                assert {word for word in words if word.startswith("--")} <= options


def test_shell_scripts_parse():
    for path in WORKFLOWS:
        for step in steps(path):
            if "run" in step:
                subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
