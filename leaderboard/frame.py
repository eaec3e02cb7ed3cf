"""Where things lie in one panel: data to pixels and back, its range, its ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Pixel = tuple[float, float]
NARROWEST = 0.05


@dataclass(frozen=True)
class Frame:
    """A panel's ranges and its size in pixels; pixels are counted from the top left."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int
    height: int

    def pixel(self, x: float, y: float) -> Pixel:
        """Pixel of a point."""
        return (
            (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0]) * self.width,
            (self.y_range[1] - y) / (self.y_range[1] - self.y_range[0]) * self.height,
        )

    def data(self, pixel: Pixel) -> tuple[float, float]:
        """Point under a pixel."""
        return (
            self.x_range[0] + pixel[0] / self.width * (self.x_range[1] - self.x_range[0]),
            self.y_range[1] - pixel[1] / self.height * (self.y_range[1] - self.y_range[0]),
        )


def data_range(values: Sequence[float], margin: float = 0.07) -> tuple[float, float]:
    """Range about values in [0, 1] with a margin; at least `NARROWEST` wide."""
    low, high = min(values), max(values)
    if high - low < NARROWEST:
        middle = min(max((low + high) / 2, NARROWEST / 2), 1 - NARROWEST / 2)
        low, high = middle - NARROWEST / 2, middle + NARROWEST / 2
    room = margin * (high - low)
    return low - room, high + room


def ticks(span: tuple[float, float], most: int) -> list[float]:
    """Round numbers of [0, 1] within a range, at most ``most`` of them and at least the ends of the finest step."""
    low, high = max(span[0], 0.0), min(span[1], 1.0)
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(count * step, 6) for count in range(first, last + 1)]
    return [0.0, 1.0]
