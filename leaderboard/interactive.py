"""The plane to be explored: a Vega-Lite chart with intervals under the pointer, zoom, filters and other views.

The static figure (`leaderboard.plane_figure`) is for print; this one is for the page, and shows every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmark.suites import HEADLINE_TEMPERATURE
from leaderboard import ink
from leaderboard.board import Board
from leaderboard.escape import plain, shorten
from leaderboard.panel import CEILING_SHAPE, NAME_LIMIT
from leaderboard.plane_figure import THEME, alt_text
from leaderboard.row import Point, Row
from leaderboard.sides import GAP, SIDES, SIZE, sides
from leaderboard.tables import tier
from leaderboard.vega import SCHEMA, Spec
from leaderboard.views import Curve, View, views

HEIGHT = 480
FEW = 14
"""Up to so many models the names and temperatures of all are written; of more, those of the row under the pointer."""
MANY = 200
"""Of more rows than this, the views beside the plane show temperature 1 alone, so that the page stays small."""
UNIT = 1000
"""What numbers are multiplied by on their way into the page, which says three decimals."""
NOT_SAID = "not said"
STATES = {
    "model": "circle",
    "not ranked": "cross",
    "ceiling": CEILING_SHAPE,
    "floor": "triangle-down",
}
FILTERS = ("method", "base model", "tier")


def labels(row: Row) -> dict[str, str]:
    """What a row can be filtered by, in the words of the page."""
    return {
        "method": plain(row.scores.card.method or "") or (NOT_SAID if row.kind == "model" else row.kind),
        "base model": plain(row.scores.card.base_model or "") or NOT_SAID,
        "tier": tier(row) or "own run",
    }


def spec(board: Board, page_of: Callable[[Row], str], place: str) -> dict[str, Any] | None:
    """Vega-Lite specification of the interactive figure.

    Parameters
    ----------
    board
        What to show.
    page_of
        Row → address of its page, which a click opens.
    place
        CSS selector of the element that the controls go to.

    Returns
    -------
    dict or None
        None where no row has anything to draw.
    """
    shown = views(board)
    if not shown:
        return None
    rows = board.rows
    few = sum(row.kind == "model" for row in rows) <= FEW
    methods = _by_frequency(labels(row)["method"] for row in rows if row.kind == "model")
    return {
        "$schema": SCHEMA,
        "config": {**THEME, "aria": True, "background": None, "legend": LEGEND},
        "description": plain(alt_text(board)),
        "width": "container",
        "height": HEIGHT,
        "padding": {"left": 8, "right": 12, "top": 8, "bottom": 26},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": _params(shown, rows, place, few),
        "data": {"values": _points(rows, shown, few)},
        "transform": _transforms(rows, page_of, board, few),
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "scale": SCALE, "axis": AXIS},
            "y": {"field": "y", "type": "quantitative", "scale": SCALE, "axis": AXIS},
        },
        "layer": [*_layers(methods), *_titles(shown)],
    }


POINT = ("row", "view", "tail", "label", "t", "x", "x_low", "x_high", "y", "y_low", "y_high")
SCALE: Spec = {"zero": False, "nice": False, "padding": 16}
AXIS: Spec = {"title": None, "format": ".2f", "tickCount": 8}
LEGEND: Spec = {
    "orient": "top",
    "direction": "horizontal",
    "title": None,
    "labelColor": ink.MUTED,
    "labelFontSize": 11,
    "labelLimit": 140,
    "columns": {"expr": "max(2, floor(width / 150))"},
    "symbolStrokeWidth": 1.5,
    "offset": 24,
}


def _params(shown: Sequence[View], rows: Sequence[Row], place: str, few: bool) -> list[Spec]:
    def select(name: str, title: str, options: Sequence[Any], words: Sequence[str], value: Any) -> Spec:
        bind = {"input": "select", "element": place, "name": title, "options": list(options), "labels": list(words)}
        return {"name": name, "value": value, "bind": bind}

    def tick(name: str, title: str, value: bool = True) -> Spec:
        return {"name": name, "value": value, "bind": {"input": "checkbox", "element": place, "name": title}}

    params = [select("view", "View ", range(len(shown)), [view.title for view in shown], 0)]
    for name in FILTERS:
        found = sorted({labels(row)[name] for row in rows if row.kind == "model"})
        if len(found) > 1:
            params.append(
                select(
                    _key(name), f"{name.capitalize()} ", [None, *found], ["all", *(shorten(f, 40) for f in found)], None
                )
            )
        else:
            params.append({"name": _key(name), "value": None})
    if any(len(view.curve(row)) > 1 for view in shown for row in rows):
        params.append(tick("curves", "Temperature curves "))
    else:
        params.append({"name": "curves", "value": True})
    if any(view.tail(row) for view in shown for row in rows):
        params.append(tick("arrows", "ID → OOD ", few))
    else:
        params.append({"name": "arrows", "value": True})
    if any(row.kind != "model" for row in rows):
        params.append(tick("controls", "Floors and ceilings "))
    else:
        params.append({"name": "controls", "value": True})
    # The rows that the table's own search leaves, row → true; null = all.
    return [*params, {"name": "found", "value": None}]


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _points(rows: Sequence[Row], shown: Sequence[View], few: bool) -> list[list[float | int]]:
    """All points of all views, the fields of `POINT` as a list each: objects would take three times as much."""
    lines: list[list[float | int]] = []
    for view_number, view in enumerate(shown):
        beside = _sides(rows, view) if few else {}
        for number, row in enumerate(rows):
            curve = view.curve(row)
            headline = _headline(curve)
            if view_number and len(rows) > MANY:
                curve = (headline,) if headline else ()
            points = [(0, point) for point in curve]
            tail = view.tail(row)
            if tail and headline:
                points.append((1, tail))
            for is_tail, point in points:
                at_end = is_tail == 0 and point in (curve[0], curve[-1])
                label = beside.get(number, 0) if point is headline else int(at_end)
                ends = [round(UNIT * v) for i in (point.x, point.y) for v in (i.value, i.low, i.high)]
                lines.append([number, view_number, is_tail, label, point.temperature, *ends])
    return lines


def _headline(curve: Curve) -> Point | None:
    return next((point for point in curve if point.temperature == HEADLINE_TEMPERATURE), None)


def _sides(rows: Sequence[Row], view: View) -> dict[int, int]:
    points = {number: point for number, row in enumerate(rows) if (point := _headline(view.curve(row)))}
    return sides(
        {number: (point.x.value, point.y.value) for number, point in points.items() if rows[number].kind != "floor"},
        {number: _short_name(row) for number, row in enumerate(rows)},
        [(point.x.value, point.y.value) for row in rows for point in view.curve(row)],
    )


def _short_name(row: Row) -> str:
    return shorten(row.name.rpartition("/")[2] or row.name, NAME_LIMIT)


def _rows(rows: Sequence[Row], page_of: Callable[[Row], str], board: Board) -> list[dict[str, Any]]:
    """What is said of a row, by the number that its points have."""
    found = []
    for number, row in enumerate(rows):
        score = row.score and f"{row.score.value:.3f} [{row.score.low:.3f}, {row.score.high:.3f}]"
        found.append(
            {
                "row": number,
                "name": shorten(row.name, 80),
                "short": _short_name(row),
                "state": row.kind if row.kind != "model" else "model" if row.competes else "not ranked",
                "rank": _standing(row, board),
                "score": score or "",
                "n": _prompts(row),
                "page": page_of(row),
                **{_key(name): words for name, words in labels(row).items()},
                **({"front": True} if board.standing.get(row.name) == "front" else {}),
            }
        )
    return found


def _prompts(row: Row) -> str:
    """How many prompts the row's points rest on: a number, or from which to which."""
    counts = {i.n for points in row.curves.values() for p in points for i in (p.x, p.y)}
    counts |= {value.n for values in row.diversity.values() for _, value in values}
    if not counts:
        return ""
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)}–{max(counts)}"


def _standing(row: Row, board: Board) -> str:
    rank = board.ranks.get(row.name)
    return str(rank) if rank else shorten("none: " + ("; ".join(row.unranked) or row.kind), 160)


def _transforms(rows: Sequence[Row], page_of: Callable[[Row], str], board: Board, few: bool) -> list[Spec]:
    keep = [f"({key} == null || datum.{key} == {key} || datum.is_control)" for key in map(_key, FILTERS)]
    about = _rows(rows, page_of, board)
    return [
        {"filter": f"datum[{POINT.index('view')}] == view"},
        *(
            {"calculate": f"datum[{place}]" + (f" / {UNIT}" if field[0] in "xy" else ""), "as": field}
            for place, field in enumerate(POINT)
        ),
        {
            "lookup": "row",
            "from": {
                "data": {"values": about},
                "key": "row",
                "fields": [*list(about[0])[1:], *(["front"] if "front" not in about[0] else [])],
            },
        },
        {"calculate": "datum.state == 'floor' || datum.state == 'ceiling'", "as": "is_control"},
        {
            "filter": " && ".join(
                [*keep, "(found == null || found[datum.row] || datum.is_control)", "(controls || !datum.is_control)"]
            )
        },
        {"calculate": _said("x"), "as": "x_said"},
        {"calculate": _said("y"), "as": "y_said"},
        {"calculate": f"datum.t == {HEADLINE_TEMPERATURE:g} && datum.tail == 0", "as": "headline"},
        {
            "calculate": f"datum.state == 'ceiling' || datum.front || {str(few).lower()} && !datum.is_control",
            "as": "named",
        },
    ]


def _said(axis: str) -> str:
    ends = " + ', ' + ".join(f"format(datum.{axis}_{end}, '.3f')" for end in ("low", "high"))
    return f"format(datum.{axis}, '.3f') + ' [' + {ends} + ']'"


TOOLTIP = [
    ("name", "model"),
    ("x_said", "across"),
    ("y_said", "up"),
    ("t", "temperature"),
    ("n", "prompts"),
    ("score", "score"),
    ("rank", "rank"),
    ("method", "method"),
    ("base_model", "base model"),
    ("tier", "tier"),
]
HOVERED: Spec = {"param": "hover", "empty": False}


def _layers(methods: Sequence[str]) -> list[Spec]:
    colour = {
        "condition": {"test": "datum.is_control", "value": ink.CONTROL},
        "field": "method",
        "type": "nominal",
        "scale": {
            "domain": list(methods),
            "range": [ink.PALETTE[n][0] if n < len(ink.PALETTE) else ink.OTHER[0] for n in range(len(methods))],
        },
        "legend": {"symbolType": "circle", "values": list(methods)},
    }
    faded = {"condition": {"param": "hover", "value": 0.9}, "value": 0.13}
    line: Spec = {"detail": {"field": "row"}, "color": colour, "opacity": faded}
    tooltip = [{"field": field, "title": title} for field, title in TOOLTIP]
    on_hover = {"condition": {**HOVERED, "value": 0.8}, "value": 0}
    at_point = "datum.headline"

    def text(of: Spec, where: str, visible: Any, **look: Any) -> Spec:
        return {
            "transform": [{"filter": where}],
            "mark": {"type": "text", "align": "left", "tooltip": False, **look},
            "encoding": {"text": of, "opacity": visible},
        }

    def written(where: str) -> Spec:
        # Where there is little room, only under the pointer.
        return {"condition": [{**HOVERED, "value": 1}, {"test": f"{where} && width > 480", "value": 1}], "value": 0}

    return [
        {
            "transform": [{"filter": f"{at_point} && datum.front && view == 0"}],
            "mark": {
                "type": "line",
                "interpolate": "step-before",
                "strokeDash": [2, 3],
                "stroke": ink.RULE,
                "strokeWidth": 1.4,
            },
            "encoding": {"order": {"field": "x", "type": "quantitative"}},
        },
        {
            "transform": [{"filter": "arrows && (datum.headline || datum.tail == 1) && !datum.is_control"}],
            "mark": {"type": "trail"},
            "encoding": {
                **line,
                "order": {"field": "tail", "type": "quantitative", "sort": "descending"},
                "size": {
                    "field": "tail",
                    "type": "quantitative",
                    "scale": {"domain": [0, 1], "range": [4.5, 0.4]},
                    "legend": None,
                },
                "opacity": {"condition": {"param": "hover", "value": 0.38}, "value": 0.06},
            },
        },
        {
            "transform": [{"filter": "curves && datum.tail == 0 && !datum.is_control"}],
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {**line, "order": {"field": "t", "type": "quantitative"}},
        },
        {
            "transform": [{"filter": "curves && datum.tail == 0 && !datum.headline && !datum.is_control"}],
            "mark": {"type": "circle", "size": 26},
            "encoding": {
                **line,
                "tooltip": tooltip,
                "opacity": {"condition": {"param": "hover", "value": 1}, "value": 0.13},
            },
        },
        *(
            {
                "transform": [{"filter": at_point}],
                "mark": {"type": "rule", "strokeWidth": 1.2},
                "encoding": {
                    across: {"field": f"{across}_low", "type": "quantitative"},
                    f"{across}2": {"field": f"{across}_high"},
                    "color": colour,
                    "opacity": on_hover,
                },
            }
            for across in ("x", "y")
        ),
        text(
            {"field": "t", "type": "nominal"},
            "curves && datum.tail == 0 && !datum.headline && !datum.is_control",
            written("datum.label && datum.named"),
            fontSize=9.5,
            dx=5,
            dy=-6,
            fill=ink.MUTED,
        ),
        *(
            text(
                {"field": "short", "type": "nominal"},
                f"{at_point} && datum.label == {side}",
                written("datum.named"),
                fontSize=SIZE,
                fontWeight="bold",
                fill=ink.INK,
                align=align,
                dx=GAP if align == "left" else -GAP,
                dy=down,
            )
            for side, (align, down) in enumerate(SIDES)
        ),
        # Last, so that no text lies between a mark and the pointer.
        {
            "name": "points",
            "params": [
                {
                    "name": "hover",
                    "select": {"type": "point", "fields": ["row"], "on": "pointerover", "clear": "pointerout"},
                },
                # Without a key the wheel scrolls the page.
                {
                    "name": "zoom",
                    "select": {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"},
                    "bind": "scales",
                },
            ],
            "transform": [{"filter": at_point}],
            "mark": {"type": "point", "filled": True, "strokeWidth": 1.6, "cursor": "pointer"},
            "encoding": {
                "color": colour,
                "shape": {
                    "field": "state",
                    "type": "nominal",
                    "scale": {"domain": list(STATES), "range": list(STATES.values())},
                    "legend": {"symbolFillColor": ink.MUTED, "symbolStrokeColor": ink.MUTED},
                },
                "size": {"condition": {"test": "datum.is_control", "value": 70}, "value": 96},
                "opacity": {"condition": {"param": "hover", "value": 1}, "value": 0.22},
                "tooltip": tooltip,
                "href": {"field": "page"},
            },
        },
    ]


def _titles(shown: Sequence[View]) -> list[Spec]:
    """Axis titles as marks: an axis cannot change its title with the view."""
    values = [
        {"view": n, "x_title": f"{view.x_title} →", "y_title": f"{view.y_title} →"} for n, view in enumerate(shown)
    ]
    look: Spec = {"type": "text", "fontSize": 12, "fill": ink.INK, "tooltip": False, "clip": False}
    return [
        {
            "data": {"values": values},
            "transform": [{"filter": "datum.view == view"}],
            "mark": {**look, **mark},
            "encoding": {"text": {"field": field}, "x": x, "y": y},
        }
        for field, x, y, mark in (
            ("x_title", {"value": "width"}, {"value": "height"}, {"align": "right", "baseline": "top", "dy": 26}),
            ("y_title", {"value": 0}, {"value": 0}, {"align": "left", "baseline": "bottom", "dy": -6, "dx": -26}),
        )
    ]


def _by_frequency(names: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))
