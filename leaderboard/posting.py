"""What is posted on a pull request: on the right one, bounded, and inert whoever wrote it.

The job that posts (``.github/workflows/comment.yml``) gets its text from a run that the pull request could change, and
so believes none of it. It runs this file as it is on the default branch, with Python's own library alone.
"""

from __future__ import annotations

import html
import json
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

MOST = 60_000
"""Bytes of the text; GitHub takes 65,536 characters."""
CUT = "\n\n(cut off here)\n"
REFUSED = "This pull request was refused, or could not be checked; the run tells why."
CHECKED = "This pull request was checked, and nothing was written of it; the run tells more."

_STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MARK = re.compile(
    r"""
      (?P<entity>&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)
    | (?P<letter>[@<])
    | (?P<number>\#(?=[0-9])|GH-(?=[0-9]))
    | (?P<link>\](?=[(:\[])|://|www\.|(?:mailto|xmpp):)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LETTERS = {"@": "\N{FULLWIDTH COMMERCIAL AT}", "#": "\N{FULLWIDTH NUMBER SIGN}", "<": "&lt;"}


def inert(text: str) -> str:
    """Make a stranger's Markdown harmless: no mention, no HTML, no link, no reference to an issue; tables stay tables.

    Parameters
    ----------
    text
        Of any length.

    Returns
    -------
    str
        Of at most `MOST` bytes in UTF-8 and the mark that it was cut. Letters that steer are left out; an at sign
        becomes a wide one, and what begins a link is split by a space. Doing it twice changes nothing.
    """
    text = text[: 4 * MOST].encode("utf-8", "replace").decode("utf-8")
    text = "".join(c for c in text.replace("\r\n", "\n") if c == "\n" or unicodedata.category(c) not in _STEERING)
    made = _MARK.sub(_unmade, text)
    if len(made.encode()) <= MOST + len(CUT):
        return made
    # A whole line at the end, so that no mark is cut in two.
    return made.encode()[:MOST].decode("utf-8", "ignore").rpartition("\n")[0] + CUT


def _unmade(match: re.Match[str]) -> str:
    found = match.group()
    if match["entity"]:
        letter = html.unescape(found)
        return _LETTERS[letter] if letter in ("@", "#") else found
    if match["letter"]:
        return _LETTERS[found]
    return f"{found[:-1]} {found[-1]}" if found[-1] in ".:" else ": //" if found == "://" else f"{found} "


def pull_request(found: Any, head_sha: str, head_repository: str) -> int | None:
    """Tell which pull request a run was of.

    Parameters
    ----------
    found
        What GitHub lists of open pull requests.
    head_sha, head_repository
        Of the run, by GitHub's own word: the commit that was checked, and whose repository it is in.

    Returns
    -------
    int or None
        Its number; None where there is none such, or several: then nobody is told.
    """
    numbers = {
        one["number"]
        for one in found
        if one["head"]["sha"] == head_sha and (one["head"]["repo"] or {}).get("full_name") == head_repository
    }
    return int(numbers.pop()) if len(numbers) == 1 else None


def body(told: Path, conclusion: str, run: str) -> str:
    """Write the comment.

    Parameters
    ----------
    told
        The text that came with the run; it need not be there, and is not read unless the run succeeded.
    conclusion
        The run's, by GitHub's own word.
    run
        Address of the run.
    """
    if conclusion != "success":
        return f"{REFUSED}\n\n[The run]({run})\n"
    return f"{inert(_read(told)).strip() or CHECKED}\n\n[The run]({run})\n"


def _read(path: Path) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(4 * MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def main() -> None:
    """Print the pull request's number, nothing where there is none, and write what it is told."""
    asked = os.environ
    run = f"{asked['GITHUB_SERVER_URL']}/{asked['GITHUB_REPOSITORY']}/actions/runs/{int(asked['RUN_ID'])}"
    number = pull_request(json.load(sys.stdin), asked["HEAD_SHA"], asked["HEAD_REPOSITORY"])
    Path("body.md").write_text(body(Path("told/comment.md"), asked["CONCLUSION"], run), encoding="utf-8")
    print("" if number is None else number)


if __name__ == "__main__":
    main()
