"""A figure of the paper drawn again: published values, ours with their intervals, and apart what stands beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leaderboard import ink
from leaderboard.escape import shorten
from leaderboard.labels import text_width
from leaderboard.paper_tables import PaperColumn, PaperTable, Published
from leaderboard.plane_figure import THEME, draw
from leaderboard.reproduction import FLOOR, Beside, PaperCell
from leaderboard.reproduction_seeds import Found
from leaderboard.tables import number
from leaderboard.vega import SCHEMA, Spec, Store, axis, channel, stacked

LINE = 22
"""Pixels a row."""
PANEL, GAP = 236, 26
SIZE = 11.0
NAME_LIMIT = 44
INDENT = 6
NARROWEST_LABELS = 150
AS_GOOD_AS_0 = 0.0005
"""Printed as 0: one minus a cosine of 1 may be off it by rounding."""
MARGIN = 0.2
"""Of a panel's values, to either side of them."""
ROOM = 44
"""Pixels that a number beside its mark takes."""
METHODS = ("sft", "ppo", "best-of-16")
"""The paper's."""
DIAMOND, CIRCLE = "diamond", "circle"
DASHES = [2, 2.5]
"""Of the line from the lowest to the highest seed, which is no interval."""


@dataclass(frozen=True)
class Line:
    """One row of the figure, or a heading within it."""

    text: str
    method: str = ""
    cells: Sequence[PaperCell] = ()
    """Of the paper's own row, one a column."""
    ours: bool = False
    """Whether it has our values of these cells, and not the published ones."""
    other: Beside | None = None
    heading: bool = False


def svg(table: PaperTable, cells: Sequence[PaperCell], others: Sequence[Beside], *, prefix: str = "") -> str:
    """Draw a table or figure as SVG.

    Parameters
    ----------
    table
        Of the paper.
    cells, others
        As `leaderboard.reproduction` fills them.
    prefix
        Goes in front of every id, so that several drawings can stand in one page.

    Returns
    -------
    str
        One panel a quantity that anything is known of, one line a row: the paper's models first, then on a grey ground
        what stands beside and is not comparable. The same bytes for the same values.
    """
    return draw(json.dumps(spec(table, cells, others), sort_keys=True), prefix)


def spec(table: PaperTable, cells: Sequence[PaperCell], others: Sequence[Beside]) -> dict[str, Any]:
    """Vega-Lite specification of the drawing, with its theme and data."""
    store = Store()
    lines = _lines(table, cells, others)
    colours = _colours(table)
    shown, silent = _columns(table, cells, others)
    panels = [_labels(lines, store, with_panels=bool(shown))]
    spans = _spans(shown, cells, others)
    panels += [_panel(place, lines, spans[column.key], column, colours, store) for place, column in shown]
    parts = [*_key(cells, others, store), stacked("hconcat", *panels, spacing=GAP)]
    remarks = [f"Of {_and([column.title for column in silent])} no value is known, here or there."] if silent else []
    if left_out := sum(not _has_line(table, row) for row in _rows(table, cells)):
        remarks.append(f"Rows of the table without any value, left out here: {left_out}.")
    if remarks and shown:
        parts.append(_remark(" ".join(remarks), store))
    title = {
        "text": f"{table.place}: {table.title}",
        "fontSize": 14,
        "color": ink.INK,
        "anchor": "start",
        "frame": "group",
        "offset": 10,
    }
    body = stacked("vconcat", *parts, spacing=12)
    return {"$schema": SCHEMA, "config": THEME, **body, "title": title, "datasets": store.datasets}


def has_drawing(table: PaperTable) -> bool:
    """Whether a table is drawn: a figure always, any other where a value of it is published."""
    return table.kind == "figure" or any(row.published for row in table.rows)


def alt_text(table: PaperTable, cells: Sequence[PaperCell], others: Sequence[Beside]) -> str:
    """What the drawing shows, for those who cannot see it."""
    published = [
        f"{_short(cell.row.model)} {cell.row.method}, {cell.column.title} {cell.published}"
        for cell in cells
        if cell.published
    ]
    ours = sum(cell.ours is not None for cell in cells)
    told = f"published: {'; '.join(published)}" if published else "no published value is known"
    return (
        f"{table.place}, {table.title}; {told}. {ours} of {len(cells)} cells have a value of ours; "
        f"{len(others)} other rows stand beside, not comparable. All numbers are in the tables below."
    )


def _lines(table: PaperTable, cells: Sequence[PaperCell], others: Sequence[Beside]) -> list[Line]:
    lines = [Line("The paper's own models", heading=True)]
    for row, own in zip(table.rows, _rows(table, cells), strict=True):
        if not _has_line(table, own):
            continue
        lines.append(Line(f"{_short(row.model)}, {row.method}", row.method, own))
        if who := dict.fromkeys(cell.ours.who for cell in own if cell.ours):
            lines.append(Line(f"ours: {shorten(', '.join(who), NAME_LIMIT)}", row.method, own, ours=True))
    suite = None
    for other in others:
        if other.suite != suite:
            suite = other.suite
            lines.append(Line(f"Not comparable: {suite}", heading=True))
        seeds = f" ({other.seeds} seeds)" if other.seeds > 1 else ""
        lines.append(Line(f"{shorten(other.who, NAME_LIMIT)}{seeds}", other.method, other=other))
    return lines


def _rows(table: PaperTable, cells: Sequence[PaperCell]) -> list[Sequence[PaperCell]]:
    """The cells row by row."""
    width = len(table.columns)
    return [cells[place * width : (place + 1) * width] for place in range(len(table.rows))]


def _has_line(table: PaperTable, row: Sequence[PaperCell]) -> bool:
    """Whether a row is drawn: all of a figure, whose blanks are its news, and of a long table those with a value."""
    return table.kind == "figure" or any(cell.published or cell.ours for cell in row)


def _columns(
    table: PaperTable, cells: Sequence[PaperCell], others: Sequence[Beside]
) -> tuple[list[tuple[int, PaperColumn]], list[PaperColumn]]:
    """Columns with anything to draw and their places, and the others."""
    keys = {cell.column.key for cell in cells if cell.published or cell.ours} | {
        key for other in others for key in other.values
    }
    shown = [(place, column) for place, column in enumerate(table.columns) if column.key in keys]
    return shown, [column for column in table.columns if column.key not in keys]


def _colours(table: PaperTable) -> dict[str, tuple[str, str]]:
    """Method → (mark, text) colour: the paper's own the same in every drawing, then others in the table's order."""
    methods = list(dict.fromkeys([*METHODS, *(row.method for row in table.rows)]))
    found = {method: ink.PALETTE[place % len(ink.PALETTE)] for place, method in enumerate(methods)}
    return {**found, FLOOR: (ink.CONTROL, ink.MUTED)}


def _labels(lines: Sequence[Line], store: Store, *, with_panels: bool) -> Spec:
    """Names of the rows at the left; without any panel, what is known of each as well."""
    texts = [
        {
            "x": INDENT,
            "y": _middle(place),
            "text": line.text
            if with_panels or line.heading
            else f"{line.text}: no value is known, and none of ours run",
            "weight": "bold" if line.heading else "normal",
            "own": ink.MUTED if line.heading or line.other else ink.INK,
        }
        for place, line in enumerate(lines)
    ]
    width = max(text_width(str(row["text"]), SIZE, bold=row["weight"] == "bold") for row in texts) + 2 * INDENT
    width = round(max(width, NARROWEST_LABELS))
    layers = [
        _band(lines, (0, width), store),
        *(
            store.layer(
                [row for row in texts if row["weight"] == weight], x="x:Q", y="y:Q", text="text:N", fill=_own()
            ).mark("text", align="left", baseline="middle", fontSize=SIZE, fontWeight=weight)
            for weight in ("bold", "normal")
        ),
    ]
    return _framed(layers, lines, width, (0, width), None)


def _panel(
    place: int,
    lines: Sequence[Line],
    span: tuple[float, float],
    column: PaperColumn,
    colours: Mapping[str, tuple[str, str]],
    store: Store,
) -> Spec:
    """One quantity of every row."""
    drawn: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for place_of_line, line in enumerate(lines):
        y = _middle(place_of_line)
        mark, text = colours.get(line.method, colours[FLOOR])
        cell = line.cells[place] if line.cells else None
        if line.heading:
            continue
        if cell and not line.ours and cell.published:
            drawn.append(_published(cell.published, y, mark, text))
        elif cell and not line.ours:
            absent.append({"y": y, "text": "not known here" if cell.ours else "not known here, not run"})
        elif found := cell.ours if cell else line.other and line.other.values.get(column.key):
            comparable = cell is None or not cell.why_not
            drawn.append(_ours(found, y, mark, text, beside=cell is None, filled=comparable))
        else:
            absent.append({"y": y, "text": "not measured"})
    unit = PANEL / (span[1] - span[0])
    for row in drawn:
        # A number stands to the right of its mark, or to the left where there is no room.
        right = (span[1] - row["high"]) * unit > ROOM
        row["side"] = "left" if right else "right"
        row["at"] = round(row["high"] + 8 / unit if right else row["low"] - 8 / unit, 6)
    for row in absent:
        row["x"] = span[0] + 4 / unit
    drawing = [
        _band(lines, span, store),
        *_whiskers(drawn, store),
        *_marks(drawn, store),
        *(
            store.layer(
                [row for row in drawn if row["side"] == side], x="at:Q", y="y:Q", text="text:N", fill=_own("ink")
            ).mark("text", align=side, baseline="middle", fontSize=10)
            for side in ("left", "right")
        ),
        store.layer(absent, x="x:Q", y="y:Q", text="text:N").mark(
            "text", align="left", baseline="middle", fontSize=10, fontStyle="italic", fill=ink.MUTED
        ),
    ]
    ticks: Spec = {"title": None, "orient": "bottom", "tickCount": 5, "grid": True, "domain": True}
    made = _framed(drawing, lines, PANEL, span, ticks)
    title = {"text": column.title, "fontSize": 12, "color": ink.INK, "anchor": "start", "offset": 6}
    return {**made, "title": title}


def _published(value: Published, y: float, mark: str, words: str) -> dict[str, Any]:
    own = {"own": mark, "ink": words, "text": str(value), "shape": DIAMOND, "size": 84}
    filled = not value.is_rough
    ends = {"x": value.value, "low": value.value, "high": value.value}
    return {**own, **ends, "y": y, "filled": filled, "dashed": False}


def _ours(found: Found, y: float, mark: str, words: str, *, beside: bool, filled: bool) -> dict[str, Any]:
    own = {"own": mark, "ink": ink.MUTED if beside else words, "text": number(found.value), "shape": CIRCLE}
    ends = {"x": round(found.value, 6), "low": round(found.low, 6), "high": round(found.high, 6)}
    dashed = found.over == "lowest to highest"
    return {**own, **ends, "y": y, "size": 40 if beside else 64, "filled": filled, "dashed": dashed}


def _whiskers(drawn: Sequence[dict[str, Any]], store: Store) -> list[Spec]:
    """Intervals as lines; the lowest to the highest seed as a broken one."""
    found = []
    for dashed in (False, True):
        rows = [row for row in drawn if row["dashed"] == dashed and row["low"] < row["high"]]
        layer = store.layer(rows, x="low:Q", x2="high", y="y:Q", stroke=_own())
        found.append(layer.mark("rule", strokeWidth=1.8, **({"strokeDash": DASHES} if dashed else {})))
    return found


def _marks(drawn: Sequence[dict[str, Any]], store: Store) -> list[Spec]:
    found = []
    for shape in (DIAMOND, CIRCLE):
        for filled in (True, False):
            rows = [row for row in drawn if row["shape"] == shape and row["filled"] == filled]
            look = {"shape": shape, "strokeWidth": 1.6, "opacity": 1}
            paint = {"fill": _own()} if filled else {"stroke": _own()}
            layer = store.layer(rows, x="x:Q", y="y:Q", size=channel("size:Q", scale=None), **paint)
            found.append(layer.mark("point", **look, **({"filled": True} if filled else {"fill": ink.PAPER})))
    return found


def _band(lines: Sequence[Line], span: tuple[float, float], store: Store) -> Spec:
    """The grey ground of what is not comparable."""
    first = next((place for place, line in enumerate(lines) if line.other), None)
    rows = [] if first is None else [{"x": span[0], "x2": span[1], "y": (first - 1) * LINE, "y2": len(lines) * LINE}]
    layer = store.layer(rows, x="x:Q", x2="x2", y="y:Q", y2="y2")
    return {**layer.mark("rule"), "mark": {"type": "rect", "fill": ink.GRID, "opacity": 0.55}}


def _framed(
    layers: Sequence[Spec], lines: Sequence[Line], width: int, span: tuple[float, float], ticks: Spec | None
) -> Spec:
    """Layers over a panel whose y is pixels from the top."""
    height = LINE * len(lines)
    encoding = {"x": axis("x:Q", span, ticks), "y": axis("y:Q", (height, 0), None)}
    return {"layer": list(layers), "width": width, "height": height, "encoding": encoding}


def _key(cells: Sequence[PaperCell], others: Sequence[Beside], store: Store) -> list[Spec]:
    """One line that names the marks that are drawn; none where there are none."""
    published = [cell.published for cell in cells if cell.published]
    values = [found for other in others for found in other.values.values()]
    entries = []
    if any(not p.is_rough for p in published):
        entries.append((DIAMOND, True, False, "published, second-hand"))
    if any(p.is_rough for p in published):
        entries.append((DIAMOND, False, False, "published, read off by eye or approximate"))
    ours = [cell for cell in cells if cell.ours]
    if any(cell.why_not for cell in ours):
        entries.append((CIRCLE, False, False, "ours, of another measure or prompts"))
    if any(not cell.why_not for cell in ours) or any(found.over != "lowest to highest" for found in values):
        entries.append((CIRCLE, True, False, "ours, 95 % interval"))
    if any(found.over == "lowest to highest" for found in values):
        entries.append((CIRCLE, True, True, "mean of seeds, lowest to highest: no interval"))
    marks: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    x = 0.0
    for shape, filled, dashed, text in entries:
        wide = 22 if shape == CIRCLE else 10
        ends = {"low": x, "high": x + wide} if shape == CIRCLE else {"low": x, "high": x}
        look = {"shape": shape, "filled": filled, "dashed": dashed, "own": ink.MUTED, "size": 64}
        marks.append({"x": x + wide / 2, "y": 8, **ends, **look})
        texts.append({"x": x + wide + 6, "y": 8, "text": text})
        x += wide + 6 + text_width(text, SIZE) + 20
    words = store.layer(texts, x="x:Q", y="y:Q", text="text:N")
    layers = [
        *_whiskers(marks, store),
        *_marks(marks, store),
        words.mark("text", align="left", baseline="middle", fontSize=SIZE, fill=ink.MUTED),
    ]
    width = round(x)
    encoding = {"x": axis("x:Q", (0, width), None), "y": axis("y:Q", (16, 0), None)}
    return [{"layer": layers, "width": width, "height": 16, "encoding": encoding}] if entries else []


def _remark(text: str, store: Store) -> Spec:
    width = round(text_width(text, SIZE)) + 6
    words = store.layer([{"x": 0, "y": 8, "text": text}], x="x:Q", y="y:Q", text="text:N")
    encoding = {"x": axis("x:Q", (0, width), None), "y": axis("y:Q", (16, 0), None)}
    drawn = words.mark("text", align="left", baseline="middle", fontSize=SIZE, fill=ink.MUTED)
    return {"layer": [drawn], "width": width, "height": 16, "encoding": encoding}


def _spans(
    shown: Sequence[tuple[int, PaperColumn]], cells: Sequence[PaperCell], others: Sequence[Beside]
) -> dict[str, tuple[float, float]]:
    """Column's key → range of its panel: 0 to 1 wherever its values lie there, and otherwise about them and 0."""
    found = {}
    for _, column in shown:
        of_column = [cell for cell in cells if cell.column.key == column.key]
        ours = [cell.ours for cell in of_column] + [other.values.get(column.key) for other in others]
        values = [cell.published.value for cell in of_column if cell.published]
        values += [end for value in ours if value for end in (value.low, value.value, value.high)]
        low, high = min(0.0, *values), max(0.0, *values)
        room = MARGIN * (high - low)
        shares = column.role != "gap" and low > -AS_GOOD_AS_0 and high <= 1.0
        # An end at 0 needs no room beyond it.
        found[column.key] = (0.0, 1.0) if shares else (low - room if low else 0.0, high + room if high else 0.0)
    return found


def _middle(place: int) -> float:
    return (place + 0.5) * LINE


def _short(model: str) -> str:
    return model.rpartition("/")[2]


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _own(name: str = "own") -> Spec:
    """A colour that the data itself gives."""
    return channel(f"{name}:N", scale=None)
