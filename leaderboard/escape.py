"""Strings from runs made inert for every place they are printed in.

A model's name, a flag or a note is written by a stranger. None of them may become markup, a command or a formula.
"""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal, reorder a line or cannot be written in XML."""

MARKDOWN = re.compile(r"[\\`*_\[\]<>|~$&@#]|://|(?i:www\.)")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", "|": "&#124;", "://": "&#58;//"}
LAST_LATIN = 0x17F
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": r"{[}",
    "]": r"{]}",
    "–": "--",
    "→": r"$\rightarrow$",
    "√": r"$\surd$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
    "−": r"$-$",
    "…": r"\ldots{}",
    "’": "'",
}


def plain(text: str) -> str:
    """One visible line: control, format and unassigned characters become U+FFFD, runs of white space one space."""
    spaced = " ".join(text.split())
    if spaced.isprintable():
        return spaced
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in INVISIBLE else c for c in spaced)


def shorten(text: str, limit: int) -> str:
    """``plain`` text of at most ``limit`` characters; what is cut ends in an ellipsis."""
    line = plain(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def markdown(text: str) -> str:
    """Text inside a Markdown paragraph or cell: no mark in it is markup, HTML, the end of a cell or a bare address."""
    return MARKDOWN.sub(_markdown_mark, plain(text))


def _markdown_mark(match: re.Match[str]) -> str:
    mark = match.group()
    if mark.lower() == "www.":
        return f"{mark[:-1]}&#46;"
    return ENTITIES.get(mark, "\\" + mark)


def latex(text: str) -> str:
    """Text for a LaTeX table: no character of it is a command, a cell mark or a comment.

    A character that pdfLaTeX may not know is written as its code point.
    """
    return "".join(LATEX.get(c) or (c if ord(c) <= LAST_LATIN else f"{{[}}U+{ord(c):04X}{{]}}") for c in plain(text))


def csv_text(text: str) -> str:
    """Text for a CSV cell: one that a spreadsheet would read as a formula gets an apostrophe in front."""
    line = plain(text)
    return "'" + line if line.startswith(("=", "+", "-", "@", "\N{REPLACEMENT CHARACTER}")) else line
