"""``leaderboard.csv`` and ``curve.csv``: every number unrounded, a missing one as an empty cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from benchmark.records import Estimate
from benchmark.suites import HEADLINE_TEMPERATURE
from leaderboard.board import Board
from leaderboard.escape import csv_text
from leaderboard.row import Interval
from leaderboard.tables import share_over_token_limit

ROLES = ("id", "ood", "ood_hard", "gap")


def leaderboard_csv(boards: Sequence[Board]) -> str:
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
    lines: list[list[str]] = [header]
    for board in boards:
        for row in board.rows:
            rank = board.ranks.get(row.name)
            line = [
                csv_text(row.name),
                board.suite.id,
                row.kind,
                row.protocol if rank else "",
                *([str(rank.rank), str(rank.low), str(rank.high)] if rank else ["", "", ""]),
                board.standing.get(row.name, ""),
                csv_text("; ".join(flag.code for flag in row.scores.flags)),
                csv_text("; ".join(row.unranked)),
                "" if (share := share_over_token_limit(row)) is None else repr(share),
                *_values(row.score),
            ]
            for metric, role in quantities:
                line += _values(row.headline(metric, role))
            lines.append(line)
    return _text(lines)


def curve_csv(boards: Sequence[Board]) -> str:
    """One row a model, suite, role and temperature: both axes as the plane draws them."""
    lines = [["model", "suite", "kind", "role", "temperature", *_three("x"), *_three("y"), "x_metric", "y_metric"]]
    for board in boards:
        plane = board.suite.plane
        lines += [
            [
                csv_text(row.name),
                board.suite.id,
                row.kind,
                role,
                repr(point.temperature),
                *_values(point.x),
                *_values(point.y),
                plane.x.metric,
                plane.y.metric,
            ]
            for row in board.rows
            for role, points in row.curves.items()
            for point in points
        ]
    return _text(lines)


def _three(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _values(found: Interval | Estimate | None) -> list[str]:
    return [repr(found.value), repr(found.low), repr(found.high)] if found else ["", "", ""]


def _text(lines: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
