"""What a branch of anybody's may do below ``submissions/``: add submissions. All else takes a maintainer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmark import cli
from benchmark.errors import UserError
from benchmark.submission.events import Event, added, read_events
from benchmark.submission.history import MAX_NOTES, NOTES, check_history, read_notes

EVENT = json.dumps({"submission": "a__b/1/pocket@v1", "event": "added", "tier": "imported", "flags": []}) + "\n"


def git(folder, *arguments):
    name = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


def commit(folder):
    git(folder, "add", "-A", ".")
    git(folder, "commit", "-qm", "more")


@pytest.fixture
def repository(tiny, tmp_path):
    """A repository whose first commit holds one submission and what is beside it, and a branch from there."""
    (tiny.root / "EVENTS.jsonl").write_text(EVENT)
    (tiny.root / "schema").mkdir()
    (tiny.root / "schema" / "submission.json").write_text("{}")
    (tiny.root / "README.md").write_text("submissions")
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    git(tmp_path, "checkout", "-qb", "branch")
    return tiny, tmp_path


def write(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def note(tiny, decision="removed"):
    where = tiny.folder.relative_to(tiny.root).as_posix()
    return {"submission": where, "decision": decision, "reason": "withdrawn by its makers", "by": "a maintainer"}


def remove(tiny):
    shutil.rmtree(tiny.folder.parents[1])


def remove_by_a_note(tiny):
    remove(tiny)
    write(tiny.root / NOTES, json.dumps([note(tiny)]))


def test_new_submissions_are_named_and_what_others_added_meanwhile_is_not_ours(repository):
    tiny, folder = repository
    write(tiny.root / "org__new" / "abc" / "pocket@v1" / "submission.json")
    commit(folder)
    git(folder, "checkout", "-q", "main")
    write(tiny.root / "README.md", "more")
    write(tiny.root / NOTES, json.dumps([note(tiny)]))
    commit(folder)
    git(folder, "checkout", "-q", "branch")
    assert check_history(tiny.root, "main") == ["org__new/abc/pocket@v1"]


OTHERS = {
    "a note of its own": lambda t: write(t.root / NOTES, json.dumps([note(t, "reproduced")])),
    "a line of events": lambda t: write(t.root / "EVENTS.jsonl", EVENT * 2),
    "no more events": lambda t: (t.root / "EVENTS.jsonl").unlink(),
    "a record of re-judging": lambda t: write(t.root / "REJUDGED" / "junk.json"),
    "a deep record": lambda t: write(t.root / "REJUDGED" / "a" / "b" / "c" / "junk.json"),
    "another schema": lambda t: write(t.root / "schema" / "submission.json", "[]"),
    "a deep schema": lambda t: write(t.root / "schema" / "a" / "b" / "submission.json"),
    "another README": lambda t: write(t.root / "README.md", "mine"),
    "a file that is nothing": lambda t: write(t.root / "a__b" / "1" / "more.txt"),
    "a link for a submission": lambda t: (t.folder.parent / "toy@v1").symlink_to(t.folder),
    "a row that left": remove,
    "a row that left by its own note": remove_by_a_note,
    "a file that is more": lambda t: write(t.folder / "more.txt"),
    "a file that is less": lambda t: t.record.unlink(),
    "other claims": lambda t: t.write(t.fields() | {"claims": []}),
}


@pytest.mark.parametrize("with_a_new_row", [False, True], ids=["alone", "beside a new row"])
@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_a_pull_request_changes_nothing_but_its_new_submissions(repository, change, with_a_new_row):
    tiny, folder = repository
    if with_a_new_row:
        write(tiny.root / "org__new" / "abc" / "pocket@v1" / "submission.json")
    change(tiny)
    commit(folder)
    with pytest.raises(UserError, match=r"only maintainers change|a (published )?revision never|ask a maintainer") as e:
        check_history(tiny.root, "main")
    assert str(tiny.root) in str(e.value)
    assert "\n" not in str(e.value)


def test_a_row_leaves_by_a_maintainers_note_that_names_it(repository):
    tiny, folder = repository
    remove(tiny)
    write(tiny.root / NOTES, json.dumps([note(tiny) | {"submission": "another/one/pocket@v1"}]))
    commit(folder)
    with pytest.raises(UserError, match=r"ask a maintainer, who names me__random/1/pocket@v1 in NOTES"):
        check_history(tiny.root, "main", maintainer=True)
    write(tiny.root / NOTES, json.dumps([note(tiny, "reproduced")]))
    commit(folder)
    with pytest.raises(UserError, match="ask a maintainer"):
        check_history(tiny.root, "main", maintainer=True)
    write(tiny.root / NOTES, json.dumps([note(tiny)]))
    commit(folder)
    assert check_history(tiny.root, "main", maintainer=True) == []


def test_a_row_that_is_noted_already_is_not_taken_away_by_anybody(repository):
    tiny, folder = repository
    git(folder, "checkout", "-q", "main")
    write(tiny.root / NOTES, json.dumps([note(tiny)]))
    commit(folder)
    git(folder, "checkout", "-qB", "branch")
    remove(tiny)
    commit(folder)
    with pytest.raises(UserError, match="was removed"):
        check_history(tiny.root, "main")
    assert check_history(tiny.root, "main", maintainer=True) == []


def test_a_maintainers_note_lets_nothing_be_changed(repository):
    tiny, folder = repository
    write(tiny.root / NOTES, json.dumps([note(tiny)]))
    tiny.write(tiny.fields() | {"claims": []})
    commit(folder)
    with pytest.raises(UserError, match="was changed, and a published revision never is"):
        check_history(tiny.root, "main", maintainer=True)


@pytest.mark.parametrize("text", [EVENT.replace("imported", "re-judged"), "", EVENT[:-1], None])
def test_the_log_of_events_is_only_appended_to_by_maintainers_too(repository, text):
    tiny, folder = repository
    write(tiny.root / "EVENTS.jsonl", EVENT * 2)
    commit(folder)
    assert check_history(tiny.root, "main", maintainer=True) == []
    (tiny.root / "EVENTS.jsonl").unlink() if text is None else write(tiny.root / "EVENTS.jsonl", text)
    commit(folder)
    with pytest.raises(UserError, match="only ever appended to"):
        check_history(tiny.root, "main", maintainer=True)


def test_a_name_that_is_no_text_is_refused_and_not_passed_over(repository):
    tiny, folder = repository
    strange = os.fsencode(tiny.root) + b"/org__\xff/1/pocket@v1"
    os.makedirs(strange)
    with open(strange + b"/submission.json", "w") as file:
        file.write("{}")
    commit(folder)
    with pytest.raises(UserError, match="named strangely"):
        check_history(tiny.root, "main")


def gendiv(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0, capfd.readouterr()


def test_the_command_refuses_a_branch_that_takes_all_away_unless_a_maintainer_asks(repository, monkeypatch, capfd):
    tiny, folder = repository
    remove_by_a_note(tiny)
    commit(folder)
    asked = ("validate", tiny.root, "--since", "main", "--fast")
    status, printed = gendiv(monkeypatch, capfd, *asked)
    assert status
    assert "only maintainers change" in printed.err
    assert gendiv(monkeypatch, capfd, *asked, "--maintainer")[0] == 0
    assert "--maintainer needs --since" in gendiv(monkeypatch, capfd, "validate", tiny.root, "--maintainer")[1].err


def test_submissions_are_no_link_to_what_is_new_from_top_to_bottom(repository, monkeypatch, capfd):
    tiny, folder = repository
    tiny.root.rename(folder / "others")
    tiny.root.symlink_to("others")
    commit(folder)
    status, printed = gendiv(monkeypatch, capfd, "validate", tiny.root, "--since", "main", "--fast")
    assert status
    assert "is a link, and its history is not what is behind it" in printed.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 20_000, "too deep"),
        ("- &a {submission: x}\n- *a\n", "anchors, aliases and tags"),
        ("- !!bool x\n", "anchors, aliases and tags"),
        ("- 2024-13-45\n", "month must be in"),
        ("7", "not a list of notes"),
        ("a: b", "not a note"),
        ("- {", "not a list of notes"),
        ("\x00", "not a list of notes"),
        ("- {submission: x, decision: removed}", "not a note"),
        ("#" * (MAX_NOTES + 1), "at most"),
    ],
)
def test_notes_that_are_none_are_refused_in_one_line(tmp_path, text, told):
    (tmp_path / NOTES).write_text(text)
    with pytest.raises(UserError, match=told) as error:
        read_notes(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("target", ["/dev/zero", "/nowhere", "plain"])
@pytest.mark.parametrize(("name", "read"), [(NOTES, read_notes), ("EVENTS.jsonl", read_events)])
def test_notes_and_events_are_no_links(tmp_path, name, read, target):
    (tmp_path / "plain").write_text("")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (EVENT[:-1], "cut off; restore it from git"),
        (EVENT + "\n", r"EVENTS\.jsonl:2: not JSON"),
        (EVENT + "[" * 20_000 + "\n", r"EVENTS\.jsonl:2: .*too deep"),
        (EVENT.replace("added", "gone"), r"EVENTS\.jsonl:1: not a valid Event"),
    ],
)
def test_a_log_that_is_none_is_refused_in_one_line(tmp_path, text, told):
    (tmp_path / "EVENTS.jsonl").write_text(text)
    with pytest.raises(UserError, match=told) as error:
        read_events(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_there_is_read_and_what_is_not_is_empty(tmp_path):
    assert (read_notes(tmp_path), read_events(tmp_path)) == ((), [])
    (tmp_path / "EVENTS.jsonl").write_text(EVENT)
    (tmp_path / NOTES).write_text(
        "# ours\n- submission: a__b/1/pocket@v1\n  decision: flag accepted\n  flag: copy\n"
        "  reason: the same weights, by agreement\n  by: somebody\n"
    )
    assert read_events(tmp_path) == [Event.model_validate_json(EVENT)]
    assert added(tmp_path) == ["a__b/1/pocket@v1"]
    [found] = read_notes(tmp_path)
    assert (found.decision, found.flag, found.by) == ("flag accepted", "copy", "somebody")
