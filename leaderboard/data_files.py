"""The tables for machines, as CSV and as JSON: every number unrounded, a missing one empty or null."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.records import Estimate
from benchmark.suites import HEADLINE_TEMPERATURE
from leaderboard.board import Board
from leaderboard.escape import csv_text
from leaderboard.row import Interval
from leaderboard.tables import share_over_token_limit, submission, tier

ROLES = ("id", "ood", "ood_hard", "gap")


Value = str | int | float | None


@dataclass(frozen=True)
class Data:
    """A table of raw values; text is as the run gives it."""

    header: list[str]
    rows: list[list[Value]]

    def csv(self) -> str:
        """Return lines for a spreadsheet, in which no text is a formula; None is an empty cell."""
        buffer = io.StringIO()
        lines = csv.writer(buffer, lineterminator="\n")
        lines.writerow(self.header)
        lines.writerows([_cell(value) for value in row] for row in self.rows)
        return buffer.getvalue()

    def json(self) -> str:
        """Return a list of objects, one a line."""
        lines = (json.dumps(dict(zip(self.header, row, strict=True)), ensure_ascii=True) for row in self.rows)
        return "[\n" + ",\n".join(lines) + "\n]\n"


def leaderboard_data(boards: Sequence[Board]) -> Data:
    """One row a model and suite: rank, score, then every quantity at temperature 1 with its interval.

    Columns are ``<metric>_<role>``, ``…_low`` and ``…_high`` over all metrics and roles of all boards, in order of
    metric and role.
    """
    quantities = sorted(
        {
            (metric, role)
            for board in boards
            for row in board.rows
            for metric, role, temperature in row.estimates
            if temperature == HEADLINE_TEMPERATURE
        },
        key=lambda quantity: (quantity[0], ROLES.index(quantity[1])),
    )
    header = [
        "model",
        "suite",
        "kind",
        "method",
        "base_model",
        "tier",
        "submission",
        "table",
        "rank",
        "rank_low",
        "rank_high",
        "standing",
        "flags",
        "unranked_because",
        "share_over_token_limit",
        *_three("score"),
    ]
    for metric, role in quantities:
        header += _three(f"{metric}_{role}")
    rows: list[list[Value]] = []
    for board in boards:
        for row in board.rows:
            rank = board.ranks.get(row.name)
            line: list[Value] = [
                row.name,
                board.suite.id,
                row.kind,
                row.scores.card.method,
                row.scores.card.base_model,
                tier(row),
                submission(row),
                row.protocol if rank else None,
                *((rank.rank, rank.low, rank.high) if rank else (None, None, None)),
                board.standing.get(row.name),
                "; ".join(flag.code for flag in row.scores.flags) or None,
                "; ".join(row.unranked) or None,
                share_over_token_limit(row),
                *_values(row.score),
            ]
            for metric, role in quantities:
                line += _values(row.headline(metric, role))
            rows.append(line)
    return Data(header, rows)


def curve_data(boards: Sequence[Board]) -> Data:
    """One row a model, suite, role and temperature: both axes as the plane draws them."""
    header = ["model", "suite", "kind", "role", "temperature", *_three("x"), *_three("y"), "x_metric", "y_metric"]
    rows: list[list[Value]] = [
        [
            row.name,
            board.suite.id,
            row.kind,
            role,
            point.temperature,
            *_values(point.x),
            *_values(point.y),
            board.suite.plane.x.metric,
            board.suite.plane.y.metric,
        ]
        for board in boards
        for row in board.rows
        for role, points in row.curves.items()
        for point in points
    ]
    return Data(header, rows)


def _three(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _values(found: Interval | Estimate | None) -> list[Value]:
    return [found.value, found.low, found.high] if found else [None, None, None]


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return csv_text(value) if isinstance(value, str) else repr(value)
