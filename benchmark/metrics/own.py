"""Metrics of one's own: a function ``(prompts, outputs) → one number a prompt`` in another package.

Its package names it as an entry point of the group ``gendiv.metrics``; from then on ``gendiv score`` prints it, with
an interval over prompts, as ``own_<name>``. CONTRIBUTING.md has a worked example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from benchmark.entry_points import Found, find
from benchmark.errors import UserError
from benchmark.metrics.catalog import OWN, Direction, Metric

_LINE = 200


class OwnMetric(NamedTuple):
    """A metric that came with another package."""

    found: Found
    about: Metric

    @property
    def metric(self) -> str:
        """The metric's id."""
        return f"{OWN}{self.found.name}"

    @property
    def provenance(self) -> dict[str, str]:
        """What must be equal for two of its values to be compared."""
        return {"package": self.found.package, "code_sha256": self.found.code_sha256}

    def per_input(self, prompts: Sequence[str], outputs: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Call the function.

        Parameters
        ----------
        prompts
            [n] texts; empty where they are not ours to ship.
        outputs
            [n] lists of k texts.

        Returns
        -------
        array
            [n], NaN where the function gave None or NaN: missing.

        Raises
        ------
        UserError
            If it does not return one finite number, None or NaN a prompt. What the function raises itself is its own
            fault to mend, and keeps its traceback.
        """
        returned: Any = self.found.function(list(prompts), [list(texts) for texts in outputs])
        if isinstance(returned, str | bytes):
            returned = None
        try:
            values = np.array([np.nan if value is None else float(value) for value in returned], dtype=np.float64)
        except (TypeError, ValueError):
            values = np.array([np.inf])
        if values.shape != (len(outputs),) or np.isinf(values).any():
            raise UserError(
                f"metric {self.metric} of {self.found.package}: its function must return one number, or None, a prompt"
            )
        return values


def own_metrics() -> list[OwnMetric]:
    """Find those that are installed, by name.

    A metric's meaning is the first line of its function's docstring. The function may have the attributes ``title``,
    ``direction`` and ``range``, and then they are printed.

    Raises
    ------
    UserError
        See `benchmark.entry_points.find`; also for a direction that is none of `catalog.Direction`.
    """
    return [OwnMetric(found, _about(found)) for found in find("gendiv.metrics").values()]


def _about(found: Found) -> Metric:
    function = found.function
    direction = getattr(function, "direction", "describes")
    if direction not in get_args(Direction):
        raise UserError(
            f"metric {OWN}{found.name} of {found.package}: direction {direction!r} is none of "
            + ", ".join(map(repr, get_args(Direction)))
        )
    lines = (function.__doc__ or "").strip().splitlines() or [f"a metric of {found.package}"]
    return Metric(
        title=str(getattr(function, "title", found.name.replace("_", " ")))[:_LINE],
        meaning=lines[0].rstrip(".")[:_LINE],
        direction=cast(Direction, direction),
        range=str(getattr(function, "range", "not said"))[:_LINE],
    )
