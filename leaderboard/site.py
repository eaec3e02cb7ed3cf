"""The board's index as one HTML page that needs no network and no server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from leaderboard import ink, interactive
from leaderboard.board import Board
from leaderboard.citation import bibtex
from leaderboard.escape import plain
from leaderboard.families import family_table
from leaderboard.model_page import page_name
from leaderboard.names import metric_title
from leaderboard.plane_figure import alt_text
from leaderboard.row import Row
from leaderboard.tables import notes
from leaderboard.templating import environment
from leaderboard.whole_table import plain_table, whole_table

ENDINGS = ("csv", "json", "md", "tex")


def page(boards: Sequence[Board], figures: Mapping[str, str]) -> str:
    """Render ``index.html``.

    Parameters
    ----------
    boards
        One a suite.
    figures
        Suite id → name of its static figure, without an ending; a suite that has none is left out.

    Returns
    -------
    str
        The page. Every string of a run goes through Jinja's escaping; only the figures' specifications, in which no
        ``<`` is left, are taken as they are.
    """
    sections = [_section(board, figures.get(board.suite.id)) for board in boards]
    template = environment().get_template("index.html.j2")
    return template.render(
        sections=sections, ink=ink, height=interactive.HEIGHT, endings=ENDINGS, bibtex=bibtex().strip()
    )


def _section(board: Board, stem: str | None) -> dict[str, Any]:
    anchor = f"{board.suite.suite}-v{board.suite.version}"
    spec = interactive.spec(board, _address, f"#{anchor}-controls")
    return {
        "anchor": anchor,
        "suite": board.suite,
        "counts": _counts(board),
        "how": _how_to_read(board),
        "alt": plain(alt_text(board)),
        "spec": _in_a_script(spec) if spec else None,
        "stem": stem,
        "tables": [whole_table(board, _address), *(plain_table(table) for table in [family_table(board)] if table)],
        "notes": notes(board),
    }


def _address(row: Row) -> str:
    return f"models/{page_name(row.name)}"


def _in_a_script(value: object) -> Markup:
    """JSON that no text of a run can end the element of."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _counts(board: Board) -> str:
    parts = [
        (len(board.ranked("swept")) + len(board.ranked("single")), "ranked model"),
        (len(board.unranked), "unranked model"),
        (sum(row.kind == "ceiling" for row in board.rows), "ceiling"),
        (sum(row.kind == "floor" for row in board.rows), "floor"),
    ]
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in parts if count)


def _how_to_read(board: Board) -> str:
    plane = board.suite.plane
    models = [row for row in board.rows if row.kind == "model"]
    if board.why_no_plane:
        text = (
            f"There is no plane here ({board.why_no_plane}): the figure shows {metric_title(plane.y.metric)} over "
            "the sampling temperature, further up is more diverse. No row is ranked."
        )
    else:
        text = (
            f"Further right, outputs win more often ({plane.x.title}); further up, they differ more "
            f"({plane.y.title}). The best place is the top right; a dotted staircase joins the Pareto front, where it "
            "has more than one row."
        )
        if any(row.protocol == "swept" for row in models):
            text += (
                " A line follows one model over its sampling temperatures, because temperature alone moves a model "
                "further than most training does; compare lines, not just the large points at temperature 1."
            )
        if any(row.id_point for row in models):
            text += " A wedge grows from a model's place on familiar prompts (ID) to its place on shifted ones (OOD)."
    if any(row.kind != "model" for row in board.rows):
        text += " Grey marks are floors and ceilings: they show what the scale means and are never ranked."
    if len(board.unranked):
        text += " Crosses are shown but not ranked; the table says why."
    return text + (
        " Point at a mark for its intervals, click it for its page. Ctrl and the wheel zoom, dragging moves, a double "
        "click resets. All of it is in the table as well, which the keyboard reaches."
    )
