"""One panel of the plane as a Vega-Lite chart: regions, arrows, curves, points and their labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.suites import HEADLINE_TEMPERATURE
from leaderboard import ink
from leaderboard.escape import shorten
from leaderboard.frame import Frame, Pixel, data_range, ticks
from leaderboard.labels import Box, Wanted, place
from leaderboard.row import Point, Row
from leaderboard.vega import Layer, Spec, Store, axis, channel

CEILING_SHAPE = "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31L-0.29,-0.4Z"
FLOOR_SHAPES = ("triangle-down", "square", "cross", "diamond", "triangle-up")
ARROW_HEAD = "M-1,-0.8L1,0L-1,0.8Z"
FLAG_SHAPE = "M-1,-1L1,1M-1,1L1,-1"
NAME_LIMIT = 26
ALWAYS_NAMED = 15
"""Rows by score that are named whatever it covers; those after them only where there is room."""
TEMPERATURE_SIZE = 9.6
HEADLINE_RADIUS = 5.2
STOP_WEIGHT = 5
"""How many pixels of line a temperature's dot counts for when a label looks for its place."""


@dataclass(frozen=True)
class Track:
    """What one row draws in one panel."""

    row: Row
    curve: tuple[Point, ...]
    point: Point
    tail: Point | None = None
    """Where the arrow to ``point`` starts."""
    outline: tuple[tuple[float, float], ...] = ()
    bars: bool = False
    """Whether both intervals of the point are drawn as a cross."""
    labelled: bool = True


@dataclass(frozen=True)
class Style:
    """Sizes of a panel."""

    width: int
    height: int
    name_size: float = 11.0
    small: bool = False
    """A small panel names no temperatures, nor the rows beyond the palette."""
    title_size: float = 13.0
    clear_extent: int = 34


@dataclass(frozen=True)
class Panel:
    """A panel to be drawn."""

    title: str
    x_title: str
    y_title: str
    tracks: Sequence[Track]
    colours: Mapping[str, tuple[str, str]]
    shapes: Mapping[str, str]
    style: Style
    store: Store
    x_ticks: Sequence[float] = ()
    """Where x is marked; empty = at round numbers of [0, 1]."""
    frame: Frame = field(init=False)

    def __post_init__(self) -> None:
        xs = [x for track in self.tracks for x, _ in _drawn(track)]
        ys = [y for track in self.tracks for _, y in _drawn(track)]
        margin = 0.1 if self.style.small else 0.07
        frame = Frame(data_range(xs, margin), data_range(ys, margin), self.style.width, self.style.height)
        object.__setattr__(self, "frame", frame)

    def chart(self) -> Spec:
        """Return the layered chart; later layers lie on top."""
        layers = [
            *self._regions(),
            *self._bars(),
            *self._arrows(),
            *self._curves(),
            *self._controls(),
            *self._points(),
            *self._labels(),
        ]
        return {
            "layer": layers,
            "width": self.style.width,
            "height": self.style.height,
            "title": {
                "text": self.title,
                "fontSize": self.style.title_size,
                "anchor": "start",
                "color": ink.INK,
                "offset": 8,
            },
            "encoding": {
                "x": axis("x:Q", self.frame.x_range, self._axis("x")),
                "y": axis("y:Q", self.frame.y_range, self._axis("y")),
            },
        }

    def _layer(self, rows: Sequence[Mapping[str, Any]], **encodings: str | Spec) -> Layer:
        """One layer; its x and y are the panel's."""
        # Six decimals are far below a pixel, and the same wherever the last bits of a sum differ.
        values = [{k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        return self.store.layer(values, **encodings)

    def _rules(self, rows: Sequence[Mapping[str, Any]]) -> Layer:
        return self._layer(rows, x2="x2", y2="y2", stroke=_own())

    def _axis(self, which: str) -> Spec:
        span = self.frame.x_range if which == "x" else self.frame.y_range
        pixels = self.style.width if which == "x" else self.style.height
        values = list(self.x_ticks) if which == "x" and self.x_ticks else ticks(span, max(3, pixels // 48))
        fine = any(abs(value * 10 - round(value * 10)) > 1e-6 for value in values)
        title = self.x_title if which == "x" else self.y_title
        extent = 20 if which == "x" else self.style.clear_extent
        return {
            "title": title,
            "values": values,
            "format": ".2f" if fine else ".1f",
            "minExtent": extent,
            "maxExtent": extent,
        }

    def _models(self) -> list[Track]:
        return [track for track in self.tracks if track.row.kind == "model"]

    def _regions(self) -> list[Spec]:
        rows = [
            {"x": x, "y": y, "i": i, "who": who, "ink": self._colour(track)}
            for who, track in enumerate(self.tracks)
            for i, (x, y) in enumerate(track.outline)
        ]
        layer = self._layer(rows, order="i:Q", detail="who:N", fill=_own(), stroke=_own())
        return _if(
            rows,
            layer.mark("line", interpolate="linear-closed", fillOpacity=0.16, strokeOpacity=0.55, strokeWidth=0.8),
        )

    def _bars(self) -> list[Spec]:
        rows = []
        for track in self.tracks:
            if track.bars:
                x, y, colour = track.point.x, track.point.y, self._colour(track)
                rows.append({"x": x.low, "x2": x.high, "y": y.value, "y2": y.value, "ink": colour})
                rows.append({"x": x.value, "x2": x.value, "y": y.low, "y2": y.high, "ink": colour})
        return _if(rows, self._rules(rows).mark("rule", strokeWidth=1.1, opacity=0.6))

    def _arrows(self) -> list[Spec]:
        rows = []
        for track in self._models():
            if (shaft := self._shaft(track)) is not None:
                (x, y), (x2, y2), angle = shaft
                rows.append({"x": x, "y": y, "x2": x2, "y2": y2, "angle": angle, "ink": self._colour(track)})
        heads = [row | {"x": row["x2"], "y": row["y2"]} for row in rows]
        turned = channel("angle:Q", scale=None)
        return _if(
            rows,
            self._rules(rows).mark("rule", strokeWidth=1, strokeDash=[3, 2], opacity=0.75),
            self._layer(heads, fill=_own(), angle=turned).mark(
                "point", shape=ARROW_HEAD, size=22, strokeWidth=0, opacity=0.9
            ),
            self._layer(rows, stroke=_own()).mark(
                "point", shape="circle", size=18, fill=ink.PAPER, strokeWidth=1, opacity=0.9
            ),
        )

    def _shaft(self, track: Track) -> tuple[tuple[float, float], tuple[float, float], float] | None:
        """Both ends of an arrow in data, the head short of its point, and the head's angle in degrees."""
        if track.tail is None:
            return None
        start, end = self._at(track.tail), self._at(track.point)
        length = math.dist(start, end)
        if length < 2.5 * HEADLINE_RADIUS:
            return None
        keep = 1 - (HEADLINE_RADIUS + 3.0) / length
        stop = (start[0] + (end[0] - start[0]) * keep, start[1] + (end[1] - start[1]) * keep)
        angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0])) % 360
        return self.frame.data(start), self.frame.data(stop), round(angle, 3)

    def _curves(self) -> list[Spec]:
        rows = [
            _xy(point) | {"t": point.temperature, "who": who, "ink": self._colour(track)}
            for who, track in enumerate(self._models())
            for point in track.curve
            if len(track.curve) > 1
        ]
        stops = [row for row in rows if row["t"] != HEADLINE_TEMPERATURE]
        return _if(
            rows,
            self._layer(rows, order="t:Q", detail="who:N", stroke=_own()).mark("line", strokeWidth=1.8, opacity=0.9),
            self._layer(stops, fill=_own()).mark(
                "point", shape="circle", size=17, stroke=ink.PAPER, strokeWidth=0.6, opacity=1
            ),
        )

    def _controls(self) -> list[Spec]:
        rows = [
            _xy(track.point)
            | {"shape": self.shapes[track.row.name], "size": 110 if track.row.kind == "ceiling" else 62}
            for track in self.tracks
            if track.row.kind != "model"
        ]
        shape, size = channel("shape:N", scale=None), channel("size:Q", scale=None)
        layer = self._layer(rows, shape=shape, size=size)
        return _if(rows, layer.mark("point", fill=ink.CONTROL, stroke=ink.PAPER, strokeWidth=0.8, opacity=1))

    def _points(self) -> list[Spec]:
        # The best lies on top.
        drawn = [(track, _xy(track.point) | {"ink": self._colour(track)}) for track in reversed(self._models())]
        ranked = [row for track, row in drawn if track.row.competes]
        flagged = [row for track, row in drawn if not track.row.competes]
        return [
            *_if(
                flagged,
                self._layer(flagged, stroke=_own()).mark(
                    "point", shape="circle", size=84, fill=ink.PAPER, strokeWidth=1.6, opacity=1
                ),
                self._layer(flagged, stroke=_own()).mark(
                    "point", shape=FLAG_SHAPE, size=20, strokeWidth=1.4, opacity=1
                ),
            ),
            *_if(
                ranked,
                self._layer(ranked, fill=_own()).mark(
                    "point", shape="circle", size=84, stroke=ink.PAPER, strokeWidth=1.2, opacity=1
                ),
            ),
        ]

    def _labels(self) -> list[Spec]:
        names: list[tuple[Wanted, str]] = []
        for place_by_score, track in enumerate(self.tracks):
            if not track.labelled or (self.style.small and self._is_other(track)):
                continue
            model = track.row.kind == "model"
            wanted = Wanted(
                shorten(track.row.name, NAME_LIMIT),
                self._at(track.point),
                self.style.name_size if model else self.style.name_size - 1,
                bold=model,
                clearance=HEADLINE_RADIUS + 3.5,
                reach=0.45 * min(self.style.width, self.style.height),
                may_drop=model and track.row.competes and place_by_score >= ALWAYS_NAMED,
            )
            names.append((wanted, self.colours[track.row.name][1]))
        if not self.style.small:
            names += [
                (
                    Wanted(
                        f"{p.temperature:g}", self._at(p), TEMPERATURE_SIZE, clearance=4.0, reach=8.0, may_drop=True
                    ),
                    self.colours[track.row.name][1],
                )
                for track in self._models()
                for p in track.curve
                if len(track.curve) > 1 and p.temperature != track.point.temperature and not self._is_other(track)
            ]
        placed = place(
            [wanted for wanted, _ in names],
            Box(2, 2, self.style.width - 2, self.style.height - 2),
            [self._at(track.point) for track in self.tracks],
            self._traces(),
        )
        colours = {id(wanted): colour for wanted, colour in names}
        looks = ((True, self.style.name_size), (False, self.style.name_size - 1), (False, TEMPERATURE_SIZE))
        leaders = [
            self.frame.data(a) + self.frame.data(b) for label in placed if label.leader for a, b in [label.leader]
        ]
        rules = [{"x": x, "y": y, "x2": x2, "y2": y2, "ink": ink.RULE} for x, y, x2, y2 in leaders]
        layers = _if(rules, self._rules(rules).mark("rule", strokeWidth=0.8))
        for bold, size in looks:
            rows = []
            for label in placed:
                if (label.wanted.bold, label.wanted.size) == (bold, size):
                    x, y = self.frame.data(label.centre)
                    rows.append({"x": x, "y": y, "label": label.wanted.text, "ink": colours[id(label.wanted)]})
            layers += _if(
                rows,
                self._layer(rows, text="label:N", fill=_own()).mark(
                    "text",
                    align="center",
                    baseline="middle",
                    fontSize=size,
                    fontWeight="bold" if bold else "normal",
                    fontStyle="italic" if size not in (TEMPERATURE_SIZE, self.style.name_size) else "normal",
                ),
            )
        return layers

    def _traces(self) -> list[Pixel]:
        """Pixels along curves, arrows, bars and the rims of regions, for labels to keep off."""
        pixels = [self.frame.pixel(x, y) for track in self.tracks for x, y in track.outline[::2]]
        bars = [
            (self.frame.pixel(*start), self.frame.pixel(*end))
            for track in self.tracks
            if track.bars
            for x, y in [(track.point.x, track.point.y)]
            for start, end in [((x.low, y.value), (x.high, y.value)), ((x.value, y.low), (x.value, y.high))]
        ]
        pixels += [pixel for start, end in bars for pixel in _along(start, end)]
        for track in self._models():
            path = [self._at(point) for point in track.curve]
            pixels += path * STOP_WEIGHT
            pairs = list(itertools.pairwise(path))
            if track.tail is not None:
                pairs.append((self._at(track.tail), self._at(track.point)))
            pixels += [pixel for start, end in pairs for pixel in _along(start, end)]
        return pixels

    def _at(self, point: Point) -> Pixel:
        return self.frame.pixel(point.x.value, point.y.value)

    def _is_other(self, track: Track) -> bool:
        return self.colours[track.row.name] == ink.OTHER

    def _colour(self, track: Track) -> str:
        return self.colours[track.row.name][0]


def control_shapes(rows: Sequence[Row]) -> dict[str, str]:
    """Row → mark: a star for every ceiling, another shape for each floor, in order of name."""
    floors = sorted(row.name for row in rows if row.kind == "floor")
    shapes = {row.name: CEILING_SHAPE for row in rows if row.kind == "ceiling"}
    return shapes | {name: FLOOR_SHAPES[place % len(FLOOR_SHAPES)] for place, name in enumerate(floors)}


def _along(start: Pixel, end: Pixel) -> list[Pixel]:
    """Pixels every five or so along a line."""
    steps = max(2, int(math.dist(start, end) / 5))
    return [
        (start[0] + (end[0] - start[0]) * step / steps, start[1] + (end[1] - start[1]) * step / steps)
        for step in range(steps + 1)
    ]


def _own() -> Spec:
    """A colour taken from the data as it is."""
    return channel("ink:N", scale=None, legend=None)


def _if(rows: Sequence[object], *layers: Spec) -> list[Spec]:
    """The layers, if there is anything to draw: Vega-Lite takes an empty one for a mistake."""
    return list(layers) if rows else []


def _xy(point: Point) -> dict[str, Any]:
    return {"x": point.x.value, "y": point.y.value}


def _drawn(track: Track) -> list[tuple[float, float]]:
    """Everything of a track that must lie inside the panel."""
    points = [*track.curve, track.point] if track.row.kind == "model" else [track.point]
    if track.tail is not None and track.row.kind == "model":
        points.append(track.tail)
    drawn = [(point.x.value, point.y.value) for point in points] + list(track.outline)
    if track.bars:
        drawn += [(track.point.x.low, track.point.y.low), (track.point.x.high, track.point.y.high)]
    return drawn
