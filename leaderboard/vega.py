"""Vega-Lite written as plain dictionaries: of a hundred submissions, chart objects would cost more than the drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.4.1.json"
TYPES = {"Q": "quantitative", "N": "nominal"}


def channel(shorthand: str, **options: Any) -> Spec:
    """One encoding: ``field:Q`` for a number, ``field:N`` for a name, and ``field`` for the end of a span."""
    name, _, kind = shorthand.partition(":")
    return {"field": name, **({"type": TYPES[kind]} if kind else {}), **options}


@dataclass(frozen=True)
class Layer:
    """Rows of the figure's data, by name, and what their fields stand for."""

    data: str
    encoding: Mapping[str, Spec]

    def mark(self, kind: Literal["line", "point", "rule", "text"], **look: Any) -> Spec:
        """Draw every row as a mark of a kind."""
        return {"data": {"name": self.data}, "encoding": dict(self.encoding), "mark": {"type": kind, **look}}


@dataclass
class Store:
    """The figure's data by name, beside the charts that draw it."""

    datasets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def layer(self, rows: list[dict[str, Any]], **encodings: str | Spec) -> Layer:
        """Keep a layer's rows; each encoding is a shorthand or a whole channel."""
        name = f"data-{len(self.datasets)}"
        self.datasets[name] = rows
        return Layer(name, {to: channel(of) if isinstance(of, str) else of for to, of in encodings.items()})


def axis(shorthand: str, span: Sequence[float], drawn: Spec | None) -> Spec:
    """A panel's x or y over a fixed span, with an axis or without."""
    return channel(shorthand, scale={"domain": list(span), "nice": False, "zero": False}, axis=drawn)


def stacked(way: Literal["vconcat", "hconcat"], *parts: Spec, spacing: float) -> Spec:
    """Charts below or beside each other."""
    return {way: list(parts), "spacing": spacing}
