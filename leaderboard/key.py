"""The figure's key: one row of real marks, only those that are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from leaderboard import ink
from leaderboard.labels import text_width
from leaderboard.panel import ARROW_HEAD, CEILING_SHAPE, FLAG_SHAPE, Track
from leaderboard.vega import Layer, Spec, Store, axis

SIZE = 11.0
LINE = 19
GLYPH = 24


def key(tracks: Sequence[Track], room: int, store: Store, *, bars: bool) -> Spec:
    """Chart of ``room`` pixels' width that names every kind of mark in the main panel."""
    entries = _entries(tracks, bars)
    places: list[tuple[float, float]] = []
    x, line = 0.0, 0
    for _, text in entries:
        needed = GLYPH + text_width(text, SIZE) + 14
        if x and x + needed > room:
            x, line = 0.0, line + 1
        places.append((x, LINE * line + LINE / 2))
        x += needed
    height = LINE * (line + 1)
    at = functools.partial(_at, store)
    layers: list[Spec] = []
    for (kind, text), (left, top) in zip(entries, places, strict=True):
        layers += _glyph(kind, left + 2, top, at)
        layers.append(
            at([(left + GLYPH, top)], text=text).mark(
                "text", align="left", baseline="middle", fontSize=SIZE, fill=ink.MUTED
            )
        )
    return {
        "layer": layers,
        "width": room,
        "height": height,
        "encoding": {"x": axis("x:Q", (0, room), None), "y": axis("y:Q", (height, 0), None)},
    }


def _entries(tracks: Sequence[Track], bars: bool) -> list[tuple[str, str]]:
    models = [track for track in tracks if track.row.kind == "model"]
    swept = any(len(track.curve) > 1 for track in models)
    sampled = any(track.row.scores.identity.sampling for track in models)
    entries = (
        [("point", "temperature 1" if sampled else "model")] if any(track.row.competes for track in models) else []
    )
    if swept:
        entries.append(("curve", "other temperatures"))
    if any(track.tail for track in models):
        entries.append(("arrow", "ID → OOD"))
    if any(track.outline for track in tracks):
        entries.append(("region", "joint 95 % region"))
    if bars:
        entries.append(("bars", "95 % intervals"))
    if any(not track.row.competes for track in models):
        entries.append(("flag", "shown, not ranked"))
    if any(track.row.kind == "ceiling" for track in tracks):
        entries.append(("ceiling", "ceiling"))
    if any(track.row.kind == "floor" for track in tracks):
        entries.append(("floor", "floor"))
    return entries


def _at(store: Store, points: Sequence[tuple[float, float]], **fields: str) -> Layer:
    rows: list[dict[str, Any]] = [{"x": x, "y": y, "i": i, **fields} for i, (x, y) in enumerate(points)]
    return store.layer(rows, order="i:Q", **{name: f"{name}:N" for name in fields})


def _glyph(kind: str, x: float, y: float, at: Callable[..., Layer]) -> list[Spec]:
    middle = x + 8
    dot = at([(middle, y)])
    line = at([(x - 1, y), (x + 17, y)])
    colour = ink.MUTED
    if kind == "point":
        return [dot.mark("point", shape="circle", size=70, fill=colour, strokeWidth=0, opacity=1)]
    if kind == "curve":
        ends = at([(x + 1, y), (x + 15, y)])
        return [
            line.mark("line", stroke=colour, strokeWidth=1.8),
            ends.mark("point", shape="circle", size=17, fill=colour, strokeWidth=0, opacity=1),
        ]
    if kind == "arrow":
        return [
            at([(x, y), (x + 14, y)]).mark("line", stroke=colour, strokeWidth=1, strokeDash=[3, 2]),
            at([(x + 15, y)]).mark("point", shape=ARROW_HEAD, size=22, fill=colour, strokeWidth=0, opacity=1),
            at([(x, y)]).mark(
                "point", shape="circle", size=18, fill=ink.PAPER, stroke=colour, strokeWidth=1, opacity=1
            ),
        ]
    if kind == "region":
        return [
            dot.mark(
                "point",
                shape="M-1,0A1,0.6,0,1,1,1,0A1,0.6,0,1,1,-1,0Z",
                size=200,
                fill=colour,
                fillOpacity=0.18,
                stroke=colour,
                strokeOpacity=0.55,
                strokeWidth=0.8,
                opacity=1,
            )
        ]
    if kind == "bars":
        return [
            line.mark("line", stroke=colour, strokeWidth=1.1, opacity=0.7),
            at([(middle, y - 6), (middle, y + 6)]).mark("line", stroke=colour, strokeWidth=1.1, opacity=0.7),
        ]
    if kind == "flag":
        return [
            dot.mark("point", shape="circle", size=70, fill=ink.PAPER, stroke=colour, strokeWidth=1.6, opacity=1),
            dot.mark("point", shape=FLAG_SHAPE, size=18, stroke=colour, strokeWidth=1.3, opacity=1),
        ]
    shape = CEILING_SHAPE if kind == "ceiling" else "triangle-down"
    return [
        dot.mark("point", shape=shape, size=90 if kind == "ceiling" else 55, fill=ink.CONTROL, strokeWidth=0, opacity=1)
    ]
