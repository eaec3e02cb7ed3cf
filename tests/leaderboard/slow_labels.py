"""The placer of labels written plainly: every place of every label against everything else, one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leaderboard.frame import Pixel
from leaderboard.labels import DIRECTIONS, DROP_AT, LEADER_FROM, SWEEPS, Box, Placed, Wanted, text_width


def overlap(one: Box, other: Box) -> float:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return across * down if across > 0 and down > 0 else 0.0


def holds(box: Box, pixel: Pixel) -> bool:
    return box.left <= pixel[0] <= box.right and box.top <= pixel[1] <= box.bottom


def between(start: Pixel, end: Pixel) -> list[Pixel]:
    return [(start[0] + (end[0] - start[0]) * i / 8, start[1] + (end[1] - start[1]) * i / 8) for i in range(9)]


def place(
    wanted: Sequence[Wanted], bounds: Box, marks: Sequence[Pixel], lines: Sequence[Pixel], mark_radius: float = 5.0
) -> list[Placed]:
    obstacles = [Box(x - mark_radius, y - mark_radius, x + mark_radius, y + mark_radius) for x, y in marks]
    found: dict[int, tuple[Placed, Box]] = {}
    for _ in range(SWEEPS):
        for which, label in enumerate(wanted):
            found.pop(which, None)
            others = list(found.values())
            leaders = [pixel for placed, _ in others if placed.leader for pixel in between(*placed.leader)]
            best = _best(label, bounds, [box for _, box in others], obstacles, [*lines, *leaders])
            if best is not None:
                found[which] = best
    return [found[which][0] for which in sorted(found)]


def _best(
    label: Wanted, bounds: Box, boxes: list[Box], obstacles: list[Box], lines: list[Pixel]
) -> tuple[Placed, Box] | None:
    best: tuple[float, Placed, Box] | None = None
    width, height = text_width(label.text, label.size, bold=label.bold), label.size * 1.1
    distance = label.clearance
    while distance == label.clearance or distance < label.reach:
        for turn, angle in enumerate(DIRECTIONS):
            across, up = math.cos(angle), math.sin(angle)
            x = label.anchor[0] + across * distance + width / 2 * max(-1.0, min(1.0, across * 1.6))
            y = label.anchor[1] - up * distance - height / 2 * max(-1.0, min(1.0, up * 1.6))
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            cost = _cost(box, bounds, boxes, obstacles, lines) + 1.2 * (distance - label.clearance) + 0.15 * turn
            leader = None
            if distance > LEADER_FROM:
                leader = _leader(label, box)
                path = between(*leader)
                met = [*boxes, *(mark for mark in obstacles if not holds(mark, label.anchor))]
                cost += 40.0 * sum(any(holds(one, pixel) for pixel in path) for one in met)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, Placed(label, (x, y), leader), box)
        distance *= 1.35
    assert best is not None
    return None if label.may_drop and best[0] > DROP_AT else best[1:]


def _cost(box: Box, bounds: Box, boxes: list[Box], obstacles: list[Box], lines: list[Pixel]) -> float:
    outside = (
        max(0.0, bounds.left - box.left)
        + max(0.0, box.right - bounds.right)
        + max(0.0, bounds.top - box.top)
        + max(0.0, box.bottom - bounds.bottom)
    )
    over_text = sum(overlap(box, other) for other in boxes)
    over_marks = sum(overlap(box, other) for other in obstacles)
    return 50.0 * outside + 8.0 * over_text + 2.0 * over_marks + 2.5 * sum(holds(box, pixel) for pixel in lines)


def _leader(label: Wanted, box: Box) -> tuple[Pixel, Pixel]:
    x, y = label.anchor
    end = (min(max(x, box.left), box.right), min(max(y, box.top), box.bottom))
    length = math.dist(label.anchor, end) or 1.0
    return (x + (end[0] - x) / length * 5.5, y + (end[1] - y) / length * 5.5), end
