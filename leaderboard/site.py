"""The board as one HTML page that needs no network, no script and no server."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from leaderboard import ink
from leaderboard.board import Board
from leaderboard.escape import plain
from leaderboard.names import metric_title
from leaderboard.plane_figure import alt_text
from leaderboard.row import Row
from leaderboard.tables import curve_table, human_tables, notes

PAPER = {
    "authors": "Kirk, Mediratta, Nalmpantis, Luketina, Hambro, Grefenstette and Raileanu",
    "title": "Understanding the Effects of RLHF on LLM Generalisation and Diversity",
    "venue": "ICLR 2024",
    "link": "https://arxiv.org/abs/2310.06452",
}


def page(boards: Sequence[Board], figures: Mapping[str, tuple[str, str]]) -> str:
    """Render ``index.html``.

    Parameters
    ----------
    boards
        One a suite.
    figures
        Suite id → the figure as SVG, wide and narrow, with ids of their own.

    Returns
    -------
    str
        The page. Every string of a run goes through Jinja's escaping; only the figures, drawn from escaped text, are
        taken as they are.
    """
    sections = [
        {
            "anchor": f"{board.suite.suite}-v{board.suite.version}",
            "suite": board.suite,
            "counts": _counts(board),
            "how": _how_to_read(board),
            "alt": plain(alt_text(board)),
            "wide": Markup(figures[board.suite.id][0]),
            "narrow": Markup(figures[board.suite.id][1]),
            "tables": human_tables(board),
            "notes": notes(board),
            "curves": curve_table(board),
            "provenance": [_provenance(row) for row in board.rows],
        }
        for board in boards
    ]
    template = _environment().get_template("index.html.j2")
    return template.render(sections=sections, dark=ink.DARK, ink=ink, paper=PAPER)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("leaderboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment


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
        return (
            f"There is no plane here ({board.why_no_plane}): the figure shows {metric_title(plane.y.metric)} over "
            "the sampling temperature, further up is more diverse. No row is ranked."
        )
    text = (
        f"Further right, outputs win more often ({plane.x.title}); further up, they differ more ({plane.y.title}). "
        "The best place is the top right."
    )
    if any(row.protocol == "swept" for row in models):
        text += (
            " A line follows one model over its sampling temperatures, because temperature alone moves a model further "
            "than most training does; compare lines, not just the large points at temperature 1."
        )
    if any(row.id_point for row in models):
        text += " A dashed arrow leads from familiar prompts (ID) to shifted ones (OOD)."
    if any(row.kind != "model" for row in board.rows):
        text += " Grey marks are floors and ceilings: they show what the scale means and are never ranked."
    if len(board.unranked):
        text += " Crossed circles are shown but not ranked; the table says why."
    return text


def _provenance(row: Row) -> dict[str, Any]:
    """What a row is and where it came from, as (term, value) pairs; fields without a value are left out."""
    scores = row.scores
    facts: list[tuple[str, object]] = [
        ("model", scores.model.id),
        ("revision", scores.model.revision),
        ("weights SHA-256", scores.model.weights_sha256),
        ("dtype", scores.model.dtype),
        ("prompt format", scores.model.prompt_format),
        ("chat template SHA-256", scores.model.chat_template_sha256),
        ("model seed", scores.model.seed),
        ("method", scores.card.method),
        ("base model", scores.card.base_model),
        ("trained on", ", ".join(scores.card.trained_on) if scores.card.trained_on is not None else "not declared"),
        ("note", scores.card.note),
        ("judge", scores.identity.judge),
        ("encoder", scores.identity.encoder),
    ]
    if scores.identity.sampling is not None:
        sampling = scores.identity.sampling.model_dump(mode="json")
        facts.append(("sampling", ", ".join(f"{name} {_said(value)}" for name, value in sampling.items())))
    else:
        facts.append(("sampling", "not known: outputs made elsewhere"))
    facts += [(f"data of {task.task}", task.data) for task in scores.identity.tasks]
    facts += [(name.replace("_", " "), _said(value)) for name, value in _flat({**scores.notes, **scores.record})]
    facts += [(f"absent: {metric_title(metric)}", reason) for metric, reason in sorted(scores.absent.items())]
    return {
        "name": row.name,
        "kind": row.kind,
        "facts": [(term, str(value)) for term, value in facts if value is not None and value != ""],
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat = []
    for name, value in sorted(values.items()):
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}: ")
        else:
            flat.append((prefix + name, value))
    return flat


def _said(value: object) -> str:
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_said(item) for item in value) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
