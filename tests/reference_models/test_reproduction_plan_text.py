"""The plan as a page and as a script: the script parses, and can be run again when it has been run."""

import shlex
import subprocess

import pytest
from measured_speeds import MEASURED
from tiny_submissions import Tiny, make_submission
from typer.main import get_command

from benchmark import cli
from benchmark.cli_plan import wanted
from benchmark.suites import load_suite
from leaderboard.paper_plan import open_cells
from leaderboard.paper_tables import paper_tables
from reference_models.reproduction_plan import make_plan
from reference_models.reproduction_plan_text import line_of, markdown, shell


@pytest.fixture(scope="module")
def plan():
    return make_plan(wanted(open_cells(list(paper_tables().values()), [])), MEASURED, price=3.0)


def steps(plan):
    return [*plan.exports, *(step for section in plan.sections for step in section.steps)]


def test_the_script_parses_and_every_command_and_option_is_there(plan):
    script = shell(plan)
    subprocess.run(["bash", "-n", "-c", script], check=True)
    top = get_command(cli.app).commands
    seen = set()
    for line in script.splitlines():
        words = shlex.split(line.partition(" || ")[2] or line, comments=True)
        if not words or words[0] != "gendiv":
            continue
        command = top[words[1]]
        rest = words[2:]
        if hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line
        seen.add(command.name)
    assert seen == {"export", "train", "run", "judge", "score", "submit"}


@pytest.fixture(scope="module")
def submitted(tmp_path_factory) -> Tiny:
    return make_submission(tmp_path_factory.mktemp("submitted"), prompts=2)


def test_what_is_submitted_is_not_submitted_again(plan, submitted):
    """The script's pattern is of the folder that `gendiv submit` has made, and of no other model's or suite's."""

    def asks(line, organisation):
        script = f'set -euo pipefail; gendiv() {{ echo "$@"; }}; ORG={organisation}; {line}'
        found = subprocess.run(
            ["bash", "-c", script], cwd=submitted.root.parent, check=True, capture_output=True, text=True
        )
        assert found.stderr == ""
        return found.stdout

    organisation, name = submitted.fields()["model"].split("/")
    suite = submitted.fields()["manifest"]["identity"]["suite"]
    for section in plan.sections:
        theirs = load_suite(section.suite).id
        for step in section.steps:
            if step.stage != "submit":
                continue
            planned = step.command[4].removeprefix("$ORG/")
            line = line_of(step)
            assert asks(line, organisation).startswith(f"submit {step.command[2]} --as {organisation}/{planned} ")
            ours = line.replace(f"__{planned}/", f"__{name}/")
            assert asks(ours, organisation), "another suite's"
            there = ours.replace(f"/{theirs} ", f"/{suite} ")
            assert there != ours
            assert asks(there, organisation) == ""
            assert asks(there, "another")


def test_what_it_rests_on_is_told(plan):
    told = " ".join(plan.notes)
    for said in (
        "extrapolated",
        "err either way",
        "2.2 times as long",
        "370 tokens a prompt",
        "4,300 bytes",
        "generate of 160 M",
    ):
        assert said in told
    page = markdown(plan)
    assert all(note in page for note in plan.notes)
    assert page.count("```") == 2 * (1 + len(plan.sections))
    for step in steps(plan):
        assert line_of(step) in page
