"""The templates of all pages, with every string escaped unless it is marked as ours."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined

from leaderboard.escape import plain


@functools.cache
def environment() -> Environment:
    """Return what renders ``leaderboard/templates``; its filter ``plain`` is that of `leaderboard.escape`."""
    made = Environment(
        loader=PackageLoader("leaderboard", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["plain"] = plain
    return made
