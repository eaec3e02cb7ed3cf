"""The plane as a figure: a Vega-Lite chart, drawn to SVG and PNG without a browser or a network."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pikepdf
import vl_convert

from benchmark.records import Role
from leaderboard import ink
from leaderboard.board import Board
from leaderboard.key import key
from leaderboard.names import metric_title, role_title
from leaderboard.panel import Panel, Style, Track, control_shapes
from leaderboard.row import ROLES, Interval, Point, Row
from leaderboard.vega import SCHEMA, Spec, Store, stacked

Width = Literal["wide", "narrow"]
PNG_SCALE = 2.0
CROWDED = 0.35
MOST_MODELS = 60
"""Models of a figure: names of more have no room. The page's own chart has all."""


@dataclass(frozen=True)
class Layout:
    """Sizes of the panels on a wide page and on a telephone."""

    main: Style
    side: Style
    beside: bool
    """Whether the smaller panels stand to the right of the main one rather than below it."""


LAYOUTS: dict[Width, Layout] = {
    "wide": Layout(
        main=Style(590, 460, name_size=12.0, title_size=14.0),
        side=Style(282, 182, name_size=10.0, small=True, title_size=12.5),
        beside=True,
    ),
    "narrow": Layout(
        main=Style(270, 330, name_size=10.0),
        side=Style(270, 210, name_size=9.5, small=True, title_size=12.5),
        beside=False,
    ),
}


def chart(board: Board, store: Store, width: Width = "wide") -> Spec:
    """Return the figure of one board, without its theme and data.

    The main panel has curves over temperatures, headline points with their joint 95 % regions, and arrows from ID to
    OOD; diversity across inputs and the harder shift have a small panel each, where the suite has them. Of more than
    `MOST_MODELS` the best are drawn, which the title says.
    """
    title, board = _title(board), _best(board)
    layout = LAYOUTS[width]
    colours, shapes = ink.colours(board), control_shapes(board.rows)
    plane = board.suite.plane

    def panel(title: str, x_title: str, y_title: str, tracks: list[Track], style: Style) -> Spec:
        return Panel(title, x_title, y_title, tracks, colours, shapes, style, store).chart()

    everything = _main_tracks(board)
    main = _without_outliers(everything)
    if not main:
        return _temperatures(board, title, layout, colours, shapes, store)
    parts: list[Spec] = [panel(title, f"{plane.x.title} →", f"{plane.y.title} →", main, layout.main)]
    side = []
    if main != everything:
        side.append(
            panel(
                "With the rows that are not ranked",
                f"{_short_x(board, plane.role)} →",
                f"{metric_title(plane.y.metric)} →",
                [dataclasses.replace(track, labelled=not track.row.competes) for track in everything],
                layout.side,
            )
        )
    second = [_side_track(row, row.second) for row in board.rows if _headline(row.second)]
    if plane.y2 and second:
        side.append(
            panel(
                "Across inputs",
                f"{_short_x(board, plane.role)} →",
                f"{metric_title(plane.y2.metric)} →",
                second,
                layout.side,
            )
        )
    hard = [_side_track(row, row.curves["ood_hard"]) for row in board.rows if _headline(row.curves.get("ood_hard", ()))]
    if hard and plane.role != "ood_hard":
        side.append(
            panel(
                "Harder shift",
                f"{_short_x(board, 'ood_hard')} →",
                f"{metric_title(plane.y.metric)} →",
                hard,
                layout.side,
            )
        )
    if layout.beside:
        if side:
            parts.append(stacked("vconcat", *side, spacing=18))
        body = stacked("hconcat", *parts, spacing=26)
        room = layout.main.width + (layout.side.width + 76 if side else 0)
    else:
        body = stacked("vconcat", *parts, *side, spacing=16)
        room = layout.main.width
    return stacked("vconcat", key(everything, room, store, bars=bool(side)), body, spacing=14)


def _temperatures(
    board: Board,
    title: str,
    layout: Layout,
    colours: Mapping[str, tuple[str, str]],
    shapes: Mapping[str, str],
    store: Store,
) -> Spec:
    """Diversity over temperature, a panel a role: what can be drawn of rows that no judge has seen."""
    metric = metric_title(board.suite.plane.y.metric)
    roles = [board.suite.plane.role, *(role for role in ROLES if role != board.suite.plane.role)]
    panels: list[Spec] = []
    drawn: list[Track] = []
    for role in roles:
        style = layout.side if panels else layout.main
        tracks = [track for row in board.rows if (track := _over_temperature(row, role))]
        if tracks:
            said = role_title(role) if panels else f"{title}: {role_title(role)}, {board.why_no_plane}"
            marked = sorted({point.temperature for track in tracks for point in (*track.curve, track.point)})
            panel = Panel(said, "temperature →", f"{metric} →", tracks, colours, shapes, style, store, x_ticks=marked)
            panels.append(panel.chart())
            drawn = drawn or tracks
    if not panels:
        nothing = store.layer([{}]).mark("text", text="no row has anything to draw", fill=ink.MUTED)
        return nothing | {"width": layout.main.width, "height": 60}
    first, *others = panels
    if layout.beside and others:
        body = stacked("hconcat", first, stacked("vconcat", *others, spacing=18), spacing=26)
        room = layout.main.width + layout.side.width + 76
    else:
        body, room = stacked("vconcat", *panels, spacing=16), layout.main.width
    return stacked("vconcat", key(drawn, room, store, bars=True), body, spacing=14)


def _over_temperature(row: Row, role: Role) -> Track | None:
    curve = tuple(Point(t, Interval(t, t, t, value.n, "exact"), value) for t, value in row.diversity.get(role, ()))
    point = _headline(curve)
    return None if point is None else Track(row, curve, point, bars=True)


THEME: Spec = {
    "background": ink.PAPER,
    "font": ink.FONT,
    "padding": 8,
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "domainColor": ink.RULE,
        "gridColor": ink.GRID,
        "gridWidth": 1,
        "ticks": False,
        "labelColor": ink.MUTED,
        "labelFontSize": 10.5,
        "labelPadding": 5,
        "titleColor": ink.INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 4,
        "labelFlush": False,
    },
    "title": {"font": ink.FONT, "fontWeight": "bold", "anchor": "start", "frame": "group"},
}


def spec(board: Board, width: Width = "wide") -> dict[str, Any]:
    """Vega-Lite specification of the figure, with its theme and data."""
    store = Store()
    return {"$schema": SCHEMA, "config": THEME, **chart(board, store, width), "datasets": store.datasets}


def svg(board: Board, width: Width = "wide", *, prefix: str = "") -> str:
    """Draw the figure as SVG.

    Parameters
    ----------
    board
        What to draw.
    width
        ``wide`` or ``narrow``.
    prefix
        Goes in front of every id, so that several figures can stand in one page.
    """
    return draw(json.dumps(spec(board, width), sort_keys=True), prefix)


def draw(drawn_from: str, prefix: str = "") -> str:
    """Draw a Vega-Lite specification, written as JSON, as SVG; ``prefix`` as in `svg`."""
    return svg_ids(vl_convert.vegalite_to_svg(drawn_from), prefix)


def png(svg_text: str) -> bytes:
    """Draw an SVG figure as PNG, two pixels a unit."""
    return bytes(vl_convert.svg_to_png(svg_text, scale=PNG_SCALE))


def pdf(svg_text: str) -> bytes:
    """Draw an SVG figure as PDF, without a date and with its objects in one order: the same bytes always."""
    with pikepdf.open(io.BytesIO(vl_convert.svg_to_pdf(svg_text))) as drawn:
        del drawn.trailer["/Info"]
        ordered = io.BytesIO()
        drawn.save(ordered, deterministic_id=True)
    return ordered.getvalue()


def alt_text(board: Board) -> str:
    """What the figure shows, for those who cannot see it."""
    title, board = _title(board), _best(board)
    plane = board.suite.plane
    rows = [
        f"{row.name} ({row.kind}{'' if row.competes or row.kind != 'model' else ', not ranked'}) at "
        f"{row.point.x.value:.2f}, {row.point.y.value:.2f}"
        for row in board.rows
        if row.point
    ]
    if not rows:
        up = metric_title(plane.y.metric)
        return f"{title}, {board.why_no_plane}: {up} up, over the sampling temperature."
    return (
        f"Scatter plot of {title}: {plane.x.title} across, {plane.y.title} up; higher is better on both. "
        f"Headline points: {'; '.join(rows)}."
    )


def svg_ids(drawn: str, prefix: str) -> str:
    """Name a figure's ids by order of appearance behind a prefix: Vega counts on from the figure drawn before."""
    found = list(dict.fromkeys(re.findall(r'\sid="([^"]+)"', drawn)))
    for place, name in enumerate(found):
        drawn = drawn.replace(f'id="{name}"', f'id="{prefix}figure-{place}"')
        drawn = drawn.replace(f"url(#{name})", f"url(#{prefix}figure-{place})")
    return drawn


def _best(board: Board) -> Board:
    """Leave out models beyond `MOST_MODELS`: those that are not ranked first, then the lowest scores."""
    models = [row for row in board.rows if row.kind == "model"]
    kept = {row.name for row in sorted(models, key=lambda row: (not row.competes, not row.point))[:MOST_MODELS]}
    rows = tuple(row for row in board.rows if row.kind != "model" or row.name in kept)
    return dataclasses.replace(board, rows=rows)


def _title(board: Board) -> str:
    models = sum(row.kind == "model" for row in board.rows)
    if models <= MOST_MODELS:
        return board.suite.title
    return f"{board.suite.title}: the best {MOST_MODELS} of {models:,} models"


def _main_tracks(board: Board) -> list[Track]:
    return [
        Track(
            row,
            row.curves.get(board.suite.plane.role, ()),
            row.point,
            tail=row.id_point if row.kind == "model" else None,
            outline=row.outline,
        )
        for row in board.rows
        if row.point
    ]


def _without_outliers(tracks: list[Track]) -> list[Track]:
    """Leave unranked models out where they alone would crowd the ranked ones into a corner."""
    ranked = [track for track in tracks if track.row.kind != "model" or track.row.competes]
    if not ranked or len(ranked) == len(tracks):
        return tracks

    def span(of: list[Track], axis: str) -> float:
        values: list[float] = [getattr(track.point, axis).value for track in of]
        return max(values) - min(values)

    crowded = any(span(ranked, axis) < CROWDED * span(tracks, axis) for axis in ("x", "y"))
    return ranked if crowded else tracks


def _side_track(row: Row, curve: tuple[Point, ...]) -> Track:
    point = _headline(curve)
    assert point is not None, "the caller has looked"
    return Track(row, curve, point, bars=True)


def _headline(curve: tuple[Point, ...]) -> Point | None:
    return next((point for point in curve if point.temperature == 1.0), None)


def _short_x(board: Board, role: str) -> str:
    title = metric_title(board.suite.plane.x.metric)
    return f"{role_title(role)} {title}" if len(board.suite.tasks) > 1 else title
