"""Which rows may stand on one board: those that answered the same questions, sampled and judged the same way."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

from benchmark.errors import UserError
from benchmark.records import Scores
from benchmark.submission.suited import what_must_be_equal


def by_suite(scores: Sequence[Scores]) -> dict[str, list[Scores]]:
    """Group rows by suite (``name@vN``), each group in order of name.

    Raises
    ------
    UserError
        If two rows of a suite share a name, or differ in what must be equal for a comparison; the message names both
        runs and the field.
    """
    groups: dict[str, list[Scores]] = defaultdict(list)
    for row in sorted(scores, key=lambda row: (row.identity.suite, row.name)):
        groups[row.identity.suite].append(row)
    for suite, rows in groups.items():
        for one, other in itertools.pairwise(rows):
            if one.name == other.name:
                raise UserError(f"two runs of {suite} are both called {one.name!r}; give one of them another name")
        _refuse_strangers(suite, rows)
    return dict(groups)


def _refuse_strangers(suite: str, rows: Sequence[Scores]) -> None:
    first, *others = rows
    expected = what_must_be_equal(first.identity)
    for row in others:
        found = what_must_be_equal(row.identity)
        for field in sorted(expected.keys() | found.keys()):
            if expected.get(field) != found.get(field):
                raise UserError(
                    f"runs {first.name!r} and {row.name!r} of {suite} cannot stand on one board: "
                    f"{field} differs ({expected.get(field)!r} against {found.get(field)!r})"
                )
