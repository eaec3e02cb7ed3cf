"""Direct labels that keep out of each other's way: a small, deterministic, greedy placer in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaderboard.frame import Pixel

Floats = NDArray[np.float64]

DIRECTIONS = tuple(math.radians(angle) for angle in (0, 180, 90, 270, 35, 145, 325, 215, 62, 118, 298, 242))
"""Right and left first, then above and below, then between; anticlockwise from the right."""
NARROW = set("iljtfrI.,:;'|!()[]- ")
WIDE = set("mwMWGOQ@%")
LEADER_FROM = 13.0
"""A label further than this from its point is joined to it by a line."""
DROP_AT = 30.0
SWEEPS = 3
"""A first placing, then two in which every label may move away from those that came after it."""
TIE = 1e-9
"""Places whose costs differ by no more are as good as each other; the first of them is taken."""
FIRST_TRIES = 8
"""Cheapest places, other labels apart, that are asked first what others add; after them few are left to ask."""
_NOWHERE = (math.inf, math.inf, -math.inf, -math.inf)
_BLOCK = 64
_ACROSS, _UP = (np.array([turn(angle) for angle in DIRECTIONS]) for turn in (math.cos, math.sin))


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float


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
    centres = np.array(marks, np.float64).reshape(-1, 2)
    obstacles = np.hstack([centres - mark_radius, centres + mark_radius])
    crowd = _Crowd(np.array(lines, np.float64).reshape(-1, 2))
    places = [_Places(label, bounds, obstacles, crowd) for label in wanted]
    boxes = np.tile(_NOWHERE, (len(places), 1))
    leaders = np.full((len(places), 9, 2), np.nan)
    found: dict[int, Placed] = {}
    for _ in range(SWEEPS):
        for which, label in enumerate(places):
            found.pop(which, None)
            boxes[which], leaders[which] = _NOWHERE, np.nan
            chosen = label.cheapest(boxes, leaders)
            if chosen is not None:
                found[which] = label.placed(chosen)
                boxes[which], leaders[which] = label.boxes[chosen], label.leaders[chosen]
    return [found[which] for which in sorted(found)]


class _Places:
    """Every place that one label may take, nearest first, with what each costs whatever other labels do.

    Parameters
    ----------
    label
        The label.
    bounds
        Where it may lie.
    obstacles
        Boxes of the marks, [m, 4] as (left, top, right, bottom).
    crowd
        The points of all lines.
    """

    def __init__(self, label: Wanted, bounds: Box, obstacles: Floats, crowd: _Crowd) -> None:
        self.label = label
        distance = np.repeat(_distances(label), len(DIRECTIONS))
        rings = len(distance) // len(DIRECTIONS)
        across, up = np.tile(_ACROSS, rings), np.tile(_UP, rings)
        half = np.array([text_width(label.text, label.size, bold=label.bold), label.size * 1.1]) / 2
        x, y = label.anchor
        self.centres = np.column_stack(
            [
                x + across * distance + half[0] * np.clip(across * 1.6, -1.0, 1.0),
                y - up * distance - half[1] * np.clip(up * 1.6, -1.0, 1.0),
            ]
        )
        self.boxes = np.hstack([self.centres - half, self.centres + half])
        self.leaders = np.where((distance > LEADER_FROM)[:, None, None], _leaders(label.anchor, self.boxes), np.nan)
        left, top, right, bottom = self.boxes.T
        outside = (
            np.maximum(0.0, bounds.left - left)
            + np.maximum(0.0, right - bounds.right)
            + np.maximum(0.0, bounds.top - top)
            + np.maximum(0.0, bottom - bounds.bottom)
        )
        own = (obstacles[:, :2] <= label.anchor).all(axis=1) & (obstacles[:, 2:] >= label.anchor).all(axis=1)
        self.foreign = obstacles[~own]
        self.cost = (
            50.0 * outside
            + 2.0 * _overlap(self.boxes, obstacles)
            + 2.5 * crowd.inside(self.boxes)
            + 1.2 * (distance - label.clearance)
            + 0.15 * np.tile(np.arange(len(DIRECTIONS)), rings)
        )
        self.order = np.argsort(self.cost, kind="stable")
        self.rising = self.cost[self.order]

    def cheapest(self, boxes: Floats, leaders: Floats) -> int | None:
        """The place that is best, the other labels given; None if this one may be dropped and every place is bad.

        Parameters
        ----------
        boxes, leaders
            Where the others are, [labels, 4], and points along their leaders, [labels, 9, 2].
        """
        bound = DROP_AT if self.label.may_drop else math.inf
        total = np.full(len(self.cost), np.inf)
        done = 0
        # What others add is dear to find out, so it is asked only of places that may still be the best.
        for most in (FIRST_TRIES, len(self.order)):
            able = np.searchsorted(self.rising, min(bound, total.min() + TIE), "right")
            tried = self.order[done : min(most, able)]
            if not len(tried):
                break
            total[tried] = self.cost[tried] + self._because_of(boxes, leaders, tried)
            done = most
        least = total.min()
        return int(np.argmax(total <= least + TIE)) if least <= bound else None

    def placed(self, chosen: int) -> Placed:
        """Return the label in one of its places."""
        start, end = self.leaders[chosen, [0, -1]].tolist()
        x, y = self.centres[chosen].tolist()
        return Placed(self.label, (x, y), None if math.isnan(start[0]) else (tuple(start), tuple(end)))

    def _because_of(self, boxes: Floats, leaders: Floats, tried: NDArray[np.intp]) -> Floats:
        """What the other labels, and marks under its own leader, add to the cost of some places."""
        own, path = self.boxes[tried], self.leaders[tried]
        over_lines = _holds(own, leaders.reshape(-1, 2)).sum(axis=0)
        crossings = sum(_holds(others, path).any(axis=1).sum(axis=1) for others in (boxes, self.foreign))
        return np.asarray(8.0 * _overlap(own, boxes) + 2.5 * over_lines + 40.0 * crossings)


class _Crowd:
    """Tells how many of many points lie in a box without looking at each.

    Points stand in order of y; a table says how many of the first 64, 128, … of them lie left of each one, so that
    a count is a sum of four look-ups, and of the odd points after the last full block.

    Parameters
    ----------
    points
        [m, 2], finite.
    """

    def __init__(self, points: Floats) -> None:
        points = points[np.argsort(points[:, 1], kind="stable")]
        self.x, self.y = np.sort(points[:, 0]), points[:, 1]
        rank = np.argsort(np.argsort(points[:, 0], kind="stable"))
        blocks = len(points) // _BLOCK + 1
        self.rank = np.full(blocks * _BLOCK, len(points))
        self.rank[: len(points)] = rank
        held = np.zeros((blocks, len(points) + 1), np.int64)
        held[np.arange(len(points)) // _BLOCK, rank + 1] = 1
        self.left_of = np.vstack([np.zeros_like(held[:1]), held.cumsum(axis=0).cumsum(axis=1)])

    def inside(self, boxes: Floats) -> NDArray[np.int64]:
        """Points in each of some boxes [a, 4], edges included; [a]."""
        left, top, right, bottom = boxes.T
        least, most = np.searchsorted(self.x, left, "left"), np.searchsorted(self.x, right, "right")
        first, last = np.searchsorted(self.y, top, "left"), np.searchsorted(self.y, bottom, "right")
        return self._among(last, least, most) - self._among(first, least, most)

    def _among(self, first: NDArray[np.intp], least: NDArray[np.intp], most: NDArray[np.intp]) -> NDArray[np.int64]:
        """How many of the ``first`` points by y are of rank ``least`` … ``most - 1`` by x."""
        block = first // _BLOCK
        odd = block[:, None] * _BLOCK + np.arange(_BLOCK)
        rank = np.where(odd < first[:, None], self.rank[odd], -1)
        counted = (rank >= least[:, None]) & (rank < most[:, None])
        return np.asarray(self.left_of[block, most] - self.left_of[block, least] + counted.sum(axis=1))


def _distances(label: Wanted) -> list[float]:
    distances = [label.clearance]
    while distances[-1] * 1.35 < label.reach:
        distances.append(distances[-1] * 1.35)
    return distances


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """Area of each box [a, 4] that other boxes [b, 4] cover, each of them counted; [a]."""
    left, top, right, bottom = boxes.T[..., None]
    across = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0])
    down = np.minimum(bottom, others[:, 3]) - np.maximum(top, others[:, 1])
    return np.asarray((np.maximum(across, 0.0) * np.maximum(down, 0.0)).sum(axis=1))


def _holds(boxes: Floats, paths: Floats) -> NDArray[np.bool_]:
    """Whether boxes [b, 4] hold the points of paths [..., 2]; [..., b]. A point or box that is not there is out."""
    x, y = paths[..., 0, None], paths[..., 1, None]
    return np.asarray((x >= boxes[:, 0]) & (x <= boxes[:, 2]) & (y >= boxes[:, 1]) & (y <= boxes[:, 3]))


def _leaders(anchor: Pixel, boxes: Floats) -> Floats:
    """From the rim of the mark to the nearest edge of each box [a, 4], as points [a, 9, 2]."""
    end = np.clip(anchor, boxes[:, :2], boxes[:, 2:])
    length = np.hypot(*(end - anchor).T)
    start = anchor + (end - anchor) / np.where(length > 0, length, 1.0)[:, None] * 5.5
    return np.asarray(start[:, None] + (end - start)[:, None] * np.arange(9)[:, None] / 8)
