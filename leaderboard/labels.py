"""Direct labels that keep out of each other's way: a small, deterministic, greedy placer in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaderboard.frame import Pixel

DIRECTIONS = tuple(math.radians(angle) for angle in (0, 180, 90, 270, 35, 145, 325, 215, 62, 118, 298, 242))
"""Right and left first, then above and below, then between; anticlockwise from the right."""
NARROW = set("iljtfrI.,:;'|!()[]- ")
WIDE = set("mwMWGOQ@%")
LEADER_FROM = 13.0
"""A label further than this from its point is joined to it by a line."""
DROP_AT = 30.0
SWEEPS = 3
"""A first placing, then two in which every label may move away from those that came after it."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across * down if across > 0 and down > 0 else 0.0

    def holds(self, pixel: Pixel) -> bool:
        """Whether a pixel lies inside."""
        return self.left <= pixel[0] <= self.right and self.top <= pixel[1] <= self.bottom


@dataclass(frozen=True)
class Wanted:
    """A label to be placed.

    ``clearance`` is the radius of the mark it belongs to; ``reach`` how far it may go. A label that ``may_drop`` is
    left out rather than laid over something.
    """

    text: str
    anchor: Pixel
    size: float
    bold: bool = False
    clearance: float = 5.0
    reach: float = 60.0
    may_drop: bool = False


@dataclass(frozen=True)
class Placed:
    """A label with its centre, and the end of its leader if it needs one."""

    wanted: Wanted
    centre: Pixel
    leader: tuple[Pixel, Pixel] | None


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a line in pixels, close enough for a sans-serif font."""
    ems = sum(0.32 if c in NARROW else 0.86 if c in WIDE else 0.68 if c.isupper() else 0.56 for c in text)
    return ems * size * (1.06 if bold else 1.0)


def place(
    wanted: Iterable[Wanted], bounds: Box, marks: Sequence[Pixel], lines: Sequence[Pixel], mark_radius: float = 5.0
) -> list[Placed]:
    """Place labels in the order given, each where it covers least.

    Parameters
    ----------
    wanted
        Labels, the most important first.
    bounds
        Where labels may lie.
    marks
        Points that no label should cover.
    lines
        Points along curves and arrows, which a label may cross at a cost.
    mark_radius
        Half the size of a mark.

    Returns
    -------
    list of Placed
        Without those labels that may be dropped and had no free place.
    """
    obstacles = [Box(x - mark_radius, y - mark_radius, x + mark_radius, y + mark_radius) for x, y in marks]
    labels = list(wanted)
    found: dict[int, tuple[Placed, Box]] = {}
    for _ in range(SWEEPS):
        for which, label in enumerate(labels):
            others = [placed for other, placed in found.items() if other != which]
            leaders = [pixel for placed, _ in others if placed.leader for pixel in _between(*placed.leader)]
            crossed = np.array([*lines, *leaders], dtype=np.float64).reshape(-1, 2)
            found.pop(which, None)
            best = _best(label, bounds, [box for _, box in others], obstacles, crossed)
            if best is not None:
                found[which] = best
    return [found[which][0] for which in sorted(found)]


def _best(
    label: Wanted, bounds: Box, boxes: Sequence[Box], obstacles: Sequence[Box], lines: NDArray[np.float64]
) -> tuple[Placed, Box] | None:
    """The cheapest place of one label, the others given; None if it may be dropped and every place is bad."""
    best: tuple[float, Placed, Box] | None = None
    width, height = text_width(label.text, label.size, bold=label.bold), label.size * 1.1
    for distance in _distances(label):
        far = 1.2 * (distance - label.clearance)
        if best is not None and far >= best[0]:
            break
        for turn, angle in enumerate(DIRECTIONS):
            x, y = _centre(label.anchor, angle, distance, width, height)
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            leader = _leader(label, box) if distance > LEADER_FROM else None
            cost = _cost(box, bounds, boxes, obstacles, lines) + far + 0.15 * turn
            if leader is not None:
                cost += 40.0 * _crossings(leader, label.anchor, boxes, obstacles)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, Placed(label, (x, y), leader), box)
    assert best is not None, "there is at least one candidate"
    return None if label.may_drop and best[0] > DROP_AT else best[1:]


def _distances(label: Wanted) -> list[float]:
    distances = [label.clearance]
    while distances[-1] * 1.35 < label.reach:
        distances.append(distances[-1] * 1.35)
    return distances


def _centre(anchor: Pixel, angle: float, distance: float, width: float, height: float) -> Pixel:
    """Centre of a box that starts ``distance`` away from its anchor in a direction."""
    across, up = math.cos(angle), math.sin(angle)
    return (
        anchor[0] + across * distance + (width / 2) * _pull(across),
        anchor[1] - up * distance - (height / 2) * _pull(up),
    )


def _pull(part: float) -> float:
    return max(-1.0, min(1.0, part * 1.6))


def _cost(box: Box, bounds: Box, boxes: Sequence[Box], obstacles: Sequence[Box], lines: NDArray[np.float64]) -> float:
    outside = (
        max(0.0, bounds.left - box.left)
        + max(0.0, box.right - bounds.right)
        + max(0.0, bounds.top - box.top)
        + max(0.0, box.bottom - bounds.bottom)
    )
    over_text = sum(box.overlap(other) for other in boxes)
    over_marks = sum(box.overlap(other) for other in obstacles)
    across, down = lines[:, 0], lines[:, 1]
    inside = (across >= box.left) & (across <= box.right) & (down >= box.top) & (down <= box.bottom)
    over_lines = float(np.count_nonzero(inside))
    return 50.0 * outside + 8.0 * over_text + 2.0 * over_marks + 2.5 * over_lines


def _crossings(leader: tuple[Pixel, Pixel], anchor: Pixel, boxes: Sequence[Box], obstacles: Sequence[Box]) -> int:
    """How many labels and foreign marks a leader runs through."""
    path = _between(*leader)
    foreign = [box for box in obstacles if not box.holds(anchor)]
    return sum(any(box.holds(pixel) for pixel in path) for box in (*boxes, *foreign))


def _between(start: Pixel, end: Pixel) -> list[Pixel]:
    return [(start[0] + (end[0] - start[0]) * i / 8, start[1] + (end[1] - start[1]) * i / 8) for i in range(9)]


def _leader(label: Wanted, box: Box) -> tuple[Pixel, Pixel]:
    """From the rim of the mark to the nearest edge of the label."""
    x, y = label.anchor
    end = (min(max(x, box.left), box.right), min(max(y, box.top), box.bottom))
    length = math.dist(label.anchor, end) or 1.0
    start = (x + (end[0] - x) / length * 5.5, y + (end[1] - y) / length * 5.5)
    return start, end
