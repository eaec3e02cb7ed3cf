"""What a run says is posted on the pull request that it was of, bounded and inert, whatever it says."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard import escape
from leaderboard.posting import CHECKED, CUT, MOST, REFUSED, body, inert, pull_request

ROOT = Path(__file__).parents[2]
RUN = "https://github.com/o/r/actions/runs/1"
PIECES = [
    "@", "&#64;", "&#x40;", "&#0000064;", "&commat;", "<", ">", "&lt;", "&", "#", "1", "12;", "&#35;", "&num;",
    "GH-", "[", "]", "(", ")", ":", "://", "http", "https",
    "www.", "WwW.", "mailto:", "xmpp:", "x", "!", "\\", "`", "|", "\n", "\r\n", "\u202e",
    "\u200b", "\0", "\ud800", "é", " ", "user", "octocat", "javascript:",
]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


def is_inert(text: str) -> bool:
    decoded = re.sub(r"&[#A-Za-z0-9]+;", lambda found: html.unescape(found.group()), text)
    return not (
        "@" in decoded
        or "<" in text
        or re.search(r"\]\(|\]:|\]\[|://|(?i:www\.|mailto:|xmpp:)", text)
        or re.search(r"#[0-9]", re.sub(r"&#[0-9]+;", "", text))
        or re.search(r"GH-[0-9]", text, re.IGNORECASE)
        or any(not c.isprintable() and c not in "\n\u00a0" and not c.isspace() for c in text)
    )


@given(TEXTS)
def test_no_mention_no_html_no_link_and_no_reference_is_left_of_any_text(text: str) -> None:
    made = inert(text)
    assert is_inert(made), made
    assert inert(made) == made


@pytest.mark.parametrize(
    "text",
    [
        "@octocat", "&#64;octocat", "[x](https://evil.example)", "[x]: //evil.example", "![x](//evil.example/a.png)",
        "<img src=x>", "<!-- x -->", "<https://evil.example>", "https://evil.example", "www.evil.example", "#12",
        "&#12", "o/r#12", "GH-12", "[x][y]", "a@b.example", "mailto:a", "XMPP:a",
    ],
)  # fmt: skip
def test_what_these_tests_take_for_harm_is_found_and_taken_away(text: str) -> None:
    assert not is_inert(text)
    assert is_inert(inert(text))


def test_a_table_as_the_checks_write_it_stays_what_it_is() -> None:
    name = escape.markdown("org/m_1 [x] a|b & <c>")
    text = f"### {name} on Pocket (pocket@v1)\n\n| | value |\n|---|---|\n| rank | 1 of 2 |\n"
    assert inert(text) == text.replace("@", "\N{FULLWIDTH COMMERCIAL AT}")


def test_a_long_text_is_cut_at_a_line_and_says_so() -> None:
    for piece in ("a line of words\n", "é" * 40 + "\n", "<" * 30 + "\n"):
        made = inert(piece * 20_000)
        assert len(made.encode()) <= MOST + len(CUT)
        assert made.endswith(CUT)
        assert set(made.removesuffix(CUT).splitlines()) == {inert(piece).strip()}
    assert inert("x" * (MOST + len(CUT))) == "x" * (MOST + len(CUT))


def listed(number: int, sha: str = "s", name: str | None = "a/fork") -> dict[str, object]:
    return {"number": number, "head": {"sha": sha, "repo": name and {"full_name": name}}}


def test_the_pull_request_is_the_one_open_one_of_that_commit_in_that_repository() -> None:
    others = [listed(2, sha="t"), listed(3, name="b/fork"), listed(4, name=None)]
    assert pull_request([*others, listed(1)], "s", "a/fork") == 1
    assert pull_request(others, "s", "a/fork") is None
    assert pull_request([listed(1), listed(5)], "s", "a/fork") is None
    assert pull_request([], "s", "a/fork") is None


def test_a_refusal_is_a_fixed_text_and_nothing_is_read_of_what_came_with_it(tmp_path: Path) -> None:
    told = tmp_path / "comment.md"
    told.write_text("rank 1 @octocat")
    assert body(told, "failure", RUN) == f"{REFUSED}\n\n[The run]({RUN})\n"
    assert body(told, "success", RUN) == f"rank 1 \N{FULLWIDTH COMMERCIAL AT}octocat\n\n[The run]({RUN})\n"
    told.unlink()
    assert body(told, "success", RUN).startswith(CHECKED)
    told.symlink_to(__file__)
    assert body(told, "success", RUN).startswith(CHECKED)
    told.unlink()
    os.mkfifo(told)
    assert body(told, "success", RUN).startswith(CHECKED)


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_it_runs_with_pythons_own_library_alone(tmp_path: Path, conclusion: str) -> None:
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "comment.md").write_text("@octocat\n")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "leaderboard.posting"],
        input=json.dumps([listed(7), listed(8, sha="t")]),
        env={
            "PYTHONPATH": str(ROOT), "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r",
            "RUN_ID": "1", "HEAD_SHA": "s", "HEAD_REPOSITORY": "a/fork", "CONCLUSION": conclusion,
        },
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "7\n"
    text = (tmp_path / "body.md").read_text(encoding="utf-8")
    assert text.endswith(f"[The run]({RUN})\n")
    assert ("octocat" in text) == (conclusion == "success")
    assert "@" not in text
