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
    assert "secrets." not in text
    assert "pull_request_target" not in text
    top = load(path)["permissions"]
    assert set(top.values()) == {"read"} or path.stem == "comment"


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
