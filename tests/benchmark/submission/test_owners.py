"""Names are their owners', and no two are one where case does not count."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_submissions import Tiny

from benchmark import cli
from benchmark.errors import UserError
from benchmark.submission.owners import MAX_OWNERS, OWNERS, check_author, check_case, read_owners
from benchmark.submission.validate import find
from leaderboard.model_page import page_name

OURS = Path(__file__).parents[3] / "submissions"


def test_an_organisation_that_is_owned_is_submitted_for_by_its_accounts_alone(tmp_path: Path) -> None:
    (tmp_path / OWNERS).write_text("Acme: [Anna, bob]\n")
    owners = read_owners(tmp_path)
    for folder in ("Acme__m/1/pocket@v1", "acme__m/1/pocket@v1"):
        check_author(owners, folder, "anna")
        check_author(owners, folder, "BOB")
        for author in ("carl", "", "ann", "annabob"):
            with pytest.raises(UserError, match=f"is no account that OWNERS.yaml has for {folder[:4]}"):
                check_author(owners, folder, author)
    check_author(owners, "other__Acme/1/pocket@v1", "carl")
    assert read_owners(tmp_path / "nowhere") == {}


def test_our_own_rows_are_ours() -> None:
    owners = read_owners(OURS)
    for folder, root in find(OURS):
        with pytest.raises(UserError, match="is no account"):
            check_author(owners, folder.relative_to(root).as_posix(), "somebody")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[a]", "not a mapping"),
        ("a: b", "a: is no list of accounts"),
        ("a: []", "a: is no list of accounts"),
        ("a: [1]", "a: is no list of accounts"),
        ("1: [a]", "is no name"),
        ("a: [x]\nA: [y]", "there twice"),
        ("a: &x [x]", "anchors"),
        ("[" * 20_000, "too deep"),
        ("#" * (MAX_OWNERS + 1), "at most"),
    ],
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / OWNERS).write_text(text)
    with pytest.raises(UserError, match=match) as error:
        read_owners(tmp_path)
    assert str(error.value).isprintable()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / OWNERS).symlink_to(OURS / OWNERS)
    with pytest.raises(UserError, match="cannot be read"):
        read_owners(tmp_path)


@pytest.mark.parametrize(
    "other", ["Org__model/1/p@v1", "org__Model/2/p@v1", "ORG__another/1/p@v1", "org__model/A/p@v1", "org__model/a/P@v1"]
)
def test_names_that_differ_in_case_alone_are_refused(other: str) -> None:
    with pytest.raises(UserError, match="in case alone; rename it"):
        check_case([other, "org__model/a/p@v1"], Path("x"))


def test_names_that_differ_in_more_are_not() -> None:
    check_case(["o__m/a/p@v1", "o__m/a/p@v2", "o__m/b/p@v1", "o__M2/a/p@v1", "o2__m/a/p@v1", "oo__m/a/p@v1"], Path("x"))


@given(st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,4}/[A-Za-z_][A-Za-z0-9._-]{0,4}", fullmatch=True), max_size=6))
def test_pages_of_models_that_are_let_through_have_names_of_their_own(models: list[str]) -> None:
    models = sorted({model for model in models if "__" not in model.partition("/")[0]})
    try:
        check_case([f"{model.replace('/', '__')}/1/p@v1" for model in models], Path("x"))
    except UserError:
        return
    assert len({page_name(model).casefold() for model in models}) == len(models)


def test_a_folder_of_submissions_with_such_names_is_refused(tiny: Tiny) -> None:
    find(tiny.root)
    shutil.copytree(tiny.folder.parents[1], tiny.root / "ME__random")
    with pytest.raises(UserError, match="in case alone"):
        find(tiny.root)


def test_the_command_refuses_a_new_submission_in_anothers_name(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def git(*words: str) -> None:
        name = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    def gendiv(*words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["gendiv", "validate", str(tiny.root), "--fast", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capfd.readouterr()
        return stop.value.code, printed.out + printed.err

    (tiny.root / OWNERS).write_text("Me: [anna]\n")
    git("init", "-q", "-b", "main")
    git("add", str(tiny.root / OWNERS))
    git("commit", "-qm", "owners")
    git("checkout", "-qb", "mine")
    git("add", "-A", str(tiny.root))
    git("commit", "-qm", "submit")
    status, printed = gendiv("--since", "main", "--author", "Anna")
    assert not status, printed
    for author, says in (("bob", "1 of 1 submissions are not what they say"), ("", "--author has an empty value")):
        status, printed = gendiv("--since", "main", "--author", author)
        assert status
        assert says in printed
    assert "--author needs --since" in gendiv("--author", "bob")[1]
