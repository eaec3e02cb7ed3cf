"""One model's own curves on its suite's plane: a small drawing for its page, with no other row on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from markupsafe import Markup

from benchmark.suites import HEADLINE_TEMPERATURE, Suite
from leaderboard.frame import Frame, data_range, ticks
from leaderboard.names import metric_title, role_title
from leaderboard.row import Point, Row

WIDTH, HEIGHT = 440, 300
APART = 40
"""Pixels between the ends of a curve whose temperatures are written beside them; closer ones would cover each other."""
LEFT, TOP, RIGHT, BOTTOM = 46, 10, 14, 42
MARKS: Mapping[str, str] = {
    "id": "M-{0},0a{0},{0} 0 1,0 {1},0a{0},{0} 0 1,0 -{1},0z",
    "ood": "M-{0},-{0}h{1}v{1}h-{1}z",
    "ood_hard": "M0,-{0}l{0},{1}h-{1}z",
}
"""A role's mark: circle, square, triangle; so colour alone tells nothing apart."""


def own_curves(suite: Suite, row: Row) -> Markup:
    """Draw a row's curves, one a role, as SVG whose colours are classes of the page's style sheet.

    Returns
    -------
    Markup
        Empty for a row that has no role at two temperatures: one point is told by the numbers.
    """
    if all(len(points) < 2 for points in row.curves.values()):
        return Markup()
    points = [point for curve in row.curves.values() for point in curve]
    heads = [point for point in points if point.temperature == HEADLINE_TEMPERATURE]
    xs = [point.x.value for point in points] + [end for head in heads for end in (head.x.low, head.x.high)]
    ys = [point.y.value for point in points] + [end for head in heads for end in (head.y.low, head.y.high)]
    frame = Frame(data_range(xs), data_range(ys), WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
    # Numbers and names of roles only: nothing of a submission is in the drawing.
    parts = [*_axes(frame), *(part for role, curve in row.curves.items() for part in _curve(frame, role, curve))]
    drawn = Markup("".join(parts))
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><g transform="translate({} {})">{}</g>'
        '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text></svg>'
    ).format(
        WIDTH, HEIGHT, "; ".join(_said(row)), LEFT, TOP, drawn,
        LEFT + frame.width / 2, HEIGHT - 6, metric_title(suite.plane.x.metric),
        TOP + frame.height / 2, metric_title(suite.plane.y.metric) + (" (share)" if suite.plane.y.reference else ""),
    )  # fmt: skip


def legend(role: str) -> Markup:
    """A role's mark, as it is in the drawing."""
    return Markup(
        '<svg class="mark" viewBox="-6 -6 12 12" aria-hidden="true"><path class="{0}" d="{1}"/></svg>'
    ).format(role, MARKS[role].format(4, 8))


def _axes(frame: Frame) -> Iterator[str]:
    for value in ticks(frame.x_range, 6):
        x = frame.pixel(value, 0.0)[0]
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{frame.height}"/>'
        yield f'<text x="{x:.1f}" y="{frame.height + 16}" text-anchor="middle">{value:g}</text>'
    for value in ticks(frame.y_range, 6):
        y = frame.pixel(0.0, value)[1]
        yield f'<line class="grid" y1="{y:.1f}" y2="{y:.1f}" x1="0" x2="{frame.width}"/>'
        yield f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def _curve(frame: Frame, role: str, curve: tuple[Point, ...]) -> Iterator[str]:
    pixels = [frame.pixel(point.x.value, point.y.value) for point in curve]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    yield f'<polyline class="{role}" points="{path}"/>'
    for point, (x, y) in zip(curve, pixels, strict=True):
        size = 5 if point.temperature == HEADLINE_TEMPERATURE else 3
        if size == 5:
            (left, top), (right, bottom) = (
                frame.pixel(point.x.low, point.y.high),
                frame.pixel(point.x.high, point.y.low),
            )
            yield f'<path class="{role} cross" d="M{left:.1f},{y:.1f}H{right:.1f}M{x:.1f},{top:.1f}V{bottom:.1f}"/>'
        mark = MARKS[role].format(size, 2 * size)
        yield f'<path class="{role}" transform="translate({x:.1f} {y:.1f})" d="{mark}"/>'
        if point in (curve[0], curve[-1]) and math.dist(pixels[0], pixels[-1]) >= APART:
            # To the left where there is no room to the right.
            side, anchor = (-7, "end") if x > frame.width - 50 else (7, "start")
            yield (
                f'<text class="{role}" x="{x + side:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">'
                f"T={point.temperature:g}</text>"
            )


def _said(row: Row) -> Iterator[str]:
    for role, curve in row.curves.items():
        told = ", ".join(f"({p.x.value:.3f}, {p.y.value:.3f}) at {p.temperature:g}" for p in curve)
        yield f"{role_title(role)} by temperature: {told}"
