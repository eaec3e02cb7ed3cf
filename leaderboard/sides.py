"""On which side of its point a name stands in the interactive figure: where it covers least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leaderboard.labels import text_width

WIDTH, HEIGHT = 900.0, 440.0
"""Pixels of a usual panel: what overlaps there may not elsewhere, and the other way round."""
SIDES: tuple[tuple[str, int], ...] = (("left", -7), ("left", 12), ("right", -7), ("right", 12))
"""Text alignment, and pixels below the point; tried in this order."""
SIZE = 11.5
GAP = 8.0


def sides(
    points: Mapping[int, tuple[float, float]], names: Mapping[int, str], others: Sequence[tuple[float, float]]
) -> dict[int, int]:
    """Choose a place of `SIDES` for every name, one after the other.

    Parameters
    ----------
    points
        Row → its point; names are placed in this order.
    names
        Row → its name.
    others
        More points that are best left free.

    Returns
    -------
    dict
        Row → index into `SIDES`. What cannot be helped overlaps.
    """
    everything = [*points.values(), *others]
    if not everything:
        return {}
    scales = []
    for axis, pixels in ((0, WIDTH), (1, HEIGHT)):
        values = [point[axis] for point in everything]
        scales.append((min(values), pixels / ((max(values) - min(values)) or 1.0)))
    (left, across), (bottom, up) = scales

    def pixel(point: tuple[float, float]) -> tuple[float, float]:
        return (point[0] - left) * across, HEIGHT - (point[1] - bottom) * up

    dots = [pixel(point) for point in everything]
    taken: list[tuple[float, float, float, float]] = []
    chosen = {}
    for row, point in points.items():
        x, y = pixel(point)
        wide = text_width(names[row], SIZE)
        boxes = []
        for align, down in SIDES:
            start = x + GAP if align == "left" else x - GAP - wide
            boxes.append((start, y + down - SIZE, start + wide, y + down))
        costs = [
            3 * sum(_overlap(box, other) for other in taken)
            + sum(box[0] - 4 < dot[0] < box[2] + 4 and box[1] - 4 < dot[1] < box[3] + 4 for dot in dots)
            + 5 * (box[2] > WIDTH + 60 or box[0] < -30)
            for box in boxes
        ]
        chosen[row] = costs.index(min(costs))
        taken.append(boxes[chosen[row]])
    return chosen


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
