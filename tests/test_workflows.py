"""The workflows' own commands, and what they may do."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
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


def test_a_pull_request_that_changes_the_board_is_refused_and_what_main_did_meanwhile_is_not_its_doing(tmp_path):
    found = load(FOLDER / "submission.yml")
    assert set(found["on"]["pull_request"]["paths"]) == {"submissions/**", "leaderboard/board/**"}
    [step] = [step for step in steps(FOLDER / "submission.yml") if "diff --quiet" in step.get("run", "")]

    def git(*words):
        name = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tmp_path / "head"), *name, *words], check=True, capture_output=True)

    def commit(name):
        path = tmp_path / "head" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + "x" if path.exists() else "x")
        git("add", ".")
        git("commit", "-qm", name)

    def refused():
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]],
            env={"PATH": os.environ["PATH"], "BASE": "main"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == ("changes leaderboard/board" in done.stdout)
        return done.returncode != 0

    (tmp_path / "head").mkdir()
    git("init", "-q", "-b", "main")
    commit("leaderboard/board/index.html")
    git("checkout", "-qb", "mine")
    commit("submissions/a__b/1/pocket@v1/submission.json")
    git("checkout", "-q", "main")
    commit("leaderboard/board/index.html")
    git("checkout", "-q", "mine")
    assert not refused()
    commit("leaderboard/board/scores/copies.json")
    assert refused()


def test_only_maintainers_ask_as_maintainers_and_kept_scores_are_computed_again_by_the_clock():
    assert not [path for path in WORKFLOWS if "--maintainer" in path.read_text(encoding="utf-8")]
    found = load(FOLDER / "board.yml")
    assert {"push", "schedule", "workflow_dispatch"} == set(found["on"])
    jobs = found["jobs"]
    assert jobs["rebuild"]["if"] == "github.event_name == 'push'"
    assert jobs["recompute"]["if"] == "github.event_name != 'push'"
    [asked] = [step["run"] for step in jobs["recompute"]["steps"] if "--check" in step.get("run", "")]
    assert "--believe-scores" not in asked
    assert "permissions" not in jobs["recompute"]


def test_what_is_posted_is_made_inert_by_our_own_code_and_goes_where_github_says():
    path = FOLDER / "comment.yml"
    text = path.read_text(encoding="utf-8")
    found = load(path)
    assert set(found["on"]) == {"workflow_run"}
    assert found["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    [job] = found["jobs"].values()
    checkout, download, post = job["steps"]
    assert set(checkout["with"]) == {"persist-credentials"}  # the default branch, and no other repository
    assert checkout["with"]["persist-credentials"] is False
    assert download["with"]["path"] == "told"
    assert download["if"] == "github.event.workflow_run.conclusion == 'success'"
    assert "told" not in post["run"], "nothing of it but what our code has written reaches gh"
    assert "--body-file body.md" in post["run"]
    given = {name: value for name, value in post["env"].items() if name != "GH_TOKEN"}
    assert set(given) == {"RUN_ID", "CONCLUSION", "HEAD_SHA", "HEAD_BRANCH", "HEAD_OWNER", "HEAD_REPOSITORY"}
    assert all(value.startswith("${{ github.event.workflow_run.") for value in given.values())
    assert "pull_requests" not in text
    assert '"failure"' in job["if"]
    assert "number" not in (FOLDER / "submission.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_the_comment_is_posted_on_the_one_pull_request_that_was_checked(tmp_path, conclusion):
    """Whatever the run's files say: only gh itself is another program here, which writes down what it is asked."""
    *_, post = load(FOLDER / "comment.yml")["jobs"]["comment"]["steps"]
    pulls = [
        {"number": 7, "head": {"sha": "s", "repo": {"full_name": "a/fork"}}},
        {"number": 8, "head": {"sha": "other", "repo": {"full_name": "a/fork"}}},
    ]
    for name, content in (("told/number", "8"), ("told/comment.md", "@octocat"), ("pulls", json.dumps(pulls))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\nif [ "$1" = api ]; then cat pulls; else echo "$@" > asked; cp body.md posted; fi\n')
    gh.chmod(0o755)
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    (tmp_path / "leaderboard").symlink_to(FOLDER.parents[1] / "leaderboard")
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "o/r", "GITHUB_SERVER_URL": "https://github.com",
        "RUN_ID": "1", "CONCLUSION": conclusion, "HEAD_SHA": "s", "HEAD_BRANCH": "$(id)", "HEAD_OWNER": "a",
        "HEAD_REPOSITORY": "a/fork",
    }  # fmt: skip

    def run(env):
        subprocess.run(["bash", "-eo", "pipefail", "-c", post["run"]], env=env, cwd=tmp_path, check=True)

    run(env)
    assert (tmp_path / "asked").read_text().startswith("pr comment 7 --repo o/r ")
    posted = (tmp_path / "posted").read_text(encoding="utf-8")
    assert ("octocat" in posted) == (conclusion == "success")
    assert "@" not in posted
    (tmp_path / "asked").unlink()
    run(env | {"HEAD_SHA": "none"})
    assert not (tmp_path / "asked").exists(), "nobody is told"


def test_a_submission_is_checked_for_whose_name_it_is_in_and_never_as_a_trial():
    [asked] = [step for step in steps(FOLDER / "submission.yml") if " validate " in step.get("run", "")]
    assert '--author "$AUTHOR"' in asked["run"]
    assert asked["env"]["AUTHOR"] == "${{ github.event.pull_request.user.login }}"
    assert not [path for path in WORKFLOWS if "TRIAL" in path.read_text(encoding="utf-8") and path.stem != "test"]


def test_what_decides_over_rows_has_an_owner():
    lines = (FOLDER.parent / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    owned = {line.split()[0].removeprefix("/submissions/") for line in lines if not line.startswith("#")}
    assert {"NOTES.yaml", "EVENTS.jsonl", "OWNERS.yaml", "REJUDGED/"} <= owned
    assert {"/leaderboard/board/", "/.github/"} <= owned
