"""One run read against its suite: its points on the plane, its score, and why it is not ranked if it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.records import Estimate, Kind, Role, Scores
from benchmark.statistics.jackknife import jackknife_interval, pseudo_values
from benchmark.statistics.plane import ellipse, polygon, score, score_leave_one_out
from benchmark.suites import HEADLINE_TEMPERATURE, Axis, Suite
from leaderboard.names import why_absent

Protocol = Literal["swept", "single"]
Outline = tuple[tuple[float, float], ...]
Quantity = tuple[str, str, float]
"""(metric, role, temperature)"""
Cells = dict[tuple[str, str], dict[float, Estimate]]
"""(metric, role) → temperature, in order → estimate."""

ROLES: tuple[Role, ...] = ("id", "ood", "ood_hard")
OUTLINE_VERTICES = 72


@dataclass(frozen=True)
class Interval:
    """A value, its 95 % interval, the prompts it rests on and the interval's method."""

    value: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class Point:
    """A model at one temperature on one role's plane, both axes as the suite scales them."""

    temperature: float
    x: Interval
    y: Interval


@dataclass(frozen=True)
class Row:
    """One run on the board."""

    scores: Scores
    protocol: Protocol
    """``swept`` over several temperatures, or a ``single`` one."""
    curves: Mapping[Role, tuple[Point, ...]]
    """Role → points in order of temperature; a role with none of both axes is absent."""
    second: tuple[Point, ...]
    """The plane's role with the second panel's diversity as y."""
    point: Point | None
    """The headline: the plane's role at temperature 1."""
    diversity: Mapping[Role, tuple[tuple[float, Interval], ...]]
    """Role → (temperature, the plane's y) in order, which runs without a judge have as well."""
    id_point: Point | None
    """The tail of the arrow: the ``id`` role at temperature 1."""
    outline: Outline
    """The joint 95 % ellipse of ``point`` as a polygon; empty where the prompts do not give one."""
    score: Interval | None
    influence: Mapping[str, float]
    """Prompt → pseudo-value of the score; their mean ± t·SE is its interval."""
    place: Mapping[str, tuple[float, float]]
    """Prompt → both axes at temperature 1, not clipped; empty for a row without a point."""
    unranked: tuple[str, ...]
    """Why a model has no rank, in words; empty for a ranked model, and for floors and ceilings."""
    estimates: Mapping[Quantity, Estimate]

    @property
    def name(self) -> str:
        """The row's name, as the run gives it: escape it before printing."""
        return self.scores.name

    @property
    def kind(self) -> Kind:
        """Model, floor or ceiling."""
        return self.scores.kind

    @property
    def competes(self) -> bool:
        """Whether the row is ranked: a model with a score and nothing against it."""
        return self.kind == "model" and not self.unranked

    def diversity_at(self, role: Role, temperature: float = HEADLINE_TEMPERATURE) -> Interval | None:
        """The plane's y of a role at a temperature, if the run has it."""
        return dict(self.diversity.get(role, ())).get(temperature)

    def headline(self, metric: str, role: str) -> Estimate | None:
        """Estimate of a metric on a role at temperature 1, if the run has one."""
        return self.estimates.get((metric, role, HEADLINE_TEMPERATURE))


def read_row(scores: Scores, suite: Suite) -> Row:
    """Place one run on its suite's plane.

    Raises
    ------
    UserError
        If the run gives one quantity twice.
    """
    estimates: dict[Quantity, Estimate] = {}
    for estimate in scores.estimates:
        key = (estimate.metric, estimate.role, estimate.temperature)
        if key in estimates:
            raise UserError(f"run {scores.name!r} gives {key[0]} on {key[1]} at temperature {key[2]:g} twice")
        estimates[key] = estimate

    plane = suite.plane
    cells: Cells = {}
    for (metric, role, temperature), estimate in sorted(estimates.items(), key=lambda item: item[0][2]):
        cells.setdefault((metric, role), {})[temperature] = estimate
    curves = {role: points for role in ROLES if (points := _curve(cells, role, plane.x, plane.y))}
    curve = curves.get(plane.role, ())
    point = _at_headline(curve)
    prompts, x, y = _paired(scores, suite, curve)
    value, influence = _score(curve, prompts, x, y)
    return Row(
        scores=scores,
        protocol="swept" if len(curve) > 1 else "single",
        curves=curves,
        second=_curve(cells, plane.role, plane.x, plane.y2) if plane.y2 else (),
        point=point,
        diversity=_diversity(cells, plane.y),
        id_point=_at_headline(curves.get("id", ())) if plane.role != "id" else None,
        outline=_outline(curve, point, x, y),
        score=value,
        influence=influence,
        place=_place(curve, point, prompts, x, y),
        unranked=_reasons(scores, suite, curve, point, value) if scores.kind == "model" else (),
        estimates=estimates,
    )


def on_axis(axis: Axis, value: float) -> float:
    """A value as the axis shows it: divided by the axis' frozen reference and clipped to [0, 1]."""
    return min(max(value / (axis.reference or 1.0), 0.0), 1.0)


def _interval(estimate: Estimate, axis: Axis) -> Interval:
    return Interval(
        value=on_axis(axis, estimate.value),
        low=on_axis(axis, estimate.low),
        high=on_axis(axis, estimate.high),
        n=estimate.n,
        method=estimate.method,
    )


def _curve(cells: Cells, role: Role, x: Axis, y: Axis) -> tuple[Point, ...]:
    """The temperatures at which a role has both axes."""
    across, up = cells.get((x.metric, role), {}), cells.get((y.metric, role), {})
    return tuple(Point(t, _interval(across[t], x), _interval(up[t], y)) for t in across if t in up)


def _diversity(cells: Cells, axis: Axis) -> dict[Role, tuple[tuple[float, Interval], ...]]:
    return {
        role: tuple((temperature, _interval(estimate, axis)) for temperature, estimate in found.items())
        for role in ROLES
        if (found := cells.get((axis.metric, role)))
    }


def _at_headline(curve: tuple[Point, ...]) -> Point | None:
    return next((point for point in curve if point.temperature == HEADLINE_TEMPERATURE), None)


def _paired(
    scores: Scores, suite: Suite, curve: tuple[Point, ...]
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Per-prompt x and y of a curve, on the prompts that have both at every temperature.

    Returns
    -------
    prompts, x, y
        ``x`` and ``y`` are [n_prompts, n_temperatures], divided by their axes' references and not clipped. All are
        empty where a temperature lacks its per-prompt values.
    """
    nothing = ((), np.empty((0, len(curve))), np.empty((0, len(curve))))
    task = next((task.task for task in scores.identity.tasks if task.role == suite.plane.role), None)
    cells = scores.per_prompt.get(task, {}) if task else {}
    columns: list[list[tuple[float | None, ...]]] = [[], []]
    for point in curve:
        metrics = cells.get(str(point.temperature), {})
        for column, axis in zip(columns, (suite.plane.x, suite.plane.y), strict=True):
            if axis.metric not in metrics:
                return nothing
            column.append(metrics[axis.metric])
    doc_ids = scores.doc_ids.get(task, ()) if task else ()
    if any(len(values) != len(doc_ids) for column in columns for values in column):
        raise UserError(f"run {scores.name!r}: per-prompt values of {task} do not match its {len(doc_ids)} prompts")
    # None becomes NaN, which JSON cannot hold otherwise.
    raw = [np.array(column, dtype=np.float64).reshape(len(curve), len(doc_ids)) for column in columns]
    whole = np.flatnonzero(~np.isnan(raw).any(axis=(0, 1)))
    x, y = (
        np.ascontiguousarray(values[:, whole].T) / (axis.reference or 1.0)
        for values, axis in zip(raw, (suite.plane.x, suite.plane.y), strict=True)
    )
    return tuple(doc_ids[place] for place in whole.tolist()), x, y


def _score(
    curve: tuple[Point, ...], prompts: tuple[str, ...], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[Interval | None, dict[str, float]]:
    """√hypervolume of a curve (√(x·y) of one point), with its delete-one-prompt jackknife."""
    if not curve or len(prompts) < 2:
        return None, {}
    value = float(score([[point.x.value, point.y.value] for point in curve]))
    left_out = score_leave_one_out(x, y, 1.0).leave_one_out
    interval = jackknife_interval(value, left_out)
    assert interval is not None, "there are at least two prompts"
    influence = pseudo_values(value, left_out).tolist()
    return (
        Interval(value, max(interval.low, 0.0), min(interval.high, 1.0), len(prompts), "jackknife_t"),
        dict(zip(prompts, influence, strict=True)),
    )


def _place(
    curve: tuple[Point, ...],
    point: Point | None,
    prompts: tuple[str, ...],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> dict[str, tuple[float, float]]:
    """Both axes of every prompt at the headline temperature."""
    if point is None:
        return {}
    column = curve.index(point)
    return dict(zip(prompts, zip(x[:, column].tolist(), y[:, column].tolist(), strict=True), strict=True))


def _outline(curve: tuple[Point, ...], point: Point | None, x: NDArray[np.float64], y: NDArray[np.float64]) -> Outline:
    """The headline's ellipse about the drawn point, kept inside the plane."""
    if point is None or not len(x):
        return ()
    column = curve.index(point)
    region = ellipse(x[:, column], y[:, column])
    if region is None:
        return ()
    corners = np.clip(polygon(region._replace(x=point.x.value, y=point.y.value), OUTLINE_VERTICES), 0.0, 1.0)
    return tuple((float(across), float(up)) for across, up in corners)


def _reasons(
    scores: Scores, suite: Suite, curve: tuple[Point, ...], point: Point | None, value: Interval | None
) -> tuple[str, ...]:
    """Everything that keeps a model out of the ranking, in words."""
    reasons = [f"{flag.code.replace('_', ' ')}: {flag.text}" for flag in scores.flags]
    contested = {task.task for task in suite.tasks if task.role == suite.plane.role != "id"}
    if trained_on := sorted(contested & set(scores.card.trained_on or ())):
        reasons.append(f"declares training on {', '.join(trained_on)}, which is out of distribution here")
    if not suite.texts:
        reasons.append("no place on a plane: preferences published elsewhere, without texts")
    elif point is None:
        missing = [axis.metric for axis in (suite.plane.x, suite.plane.y) if not _has(scores, axis.metric, suite)]
        lacks = " and ".join(
            f"{metric} ({why_absent(scores.absent, metric) or 'not in the run'})" for metric in missing
        )
        reasons.append(f"not on the plane: no {lacks or 'point'} at temperature {HEADLINE_TEMPERATURE:g}")
    elif value is None:
        reasons.append("no score: its per-prompt values are missing")
    reasons += [
        f"sampled with {change}; only the suite's own sampling is ranked" for change in _other_sampling(scores, suite)
    ]
    grid = suite.sampling.temperatures if suite.sampling else ()
    found = tuple(place.temperature for place in curve)
    if len(found) > 1 and found != grid:
        wanted = ", ".join(f"{t:g}" for t in grid) or f"{HEADLINE_TEMPERATURE:g} alone"
        reasons.append(
            f"swept over temperatures {', '.join(f'{t:g}' for t in found)}; the suite ranks {wanted}, "
            "because a score depends on its grid"
        )
    return tuple(reasons)


def _other_sampling(scores: Scores, suite: Suite) -> list[str]:
    """Fields of the sampling, but for grid and seed, in which a run is not what its suite is scored with."""
    own, found = suite.sampling, scores.identity.sampling
    if own is None or found is None:
        return []
    return [
        f"{field} {getattr(found, field)} instead of {getattr(own, field)}"
        for field in type(own).__pydantic_fields__
        if field not in ("seed", "temperatures") and getattr(own, field) != getattr(found, field)
    ]


def _has(scores: Scores, metric: str, suite: Suite) -> bool:
    return any(
        (estimate.metric, estimate.role, estimate.temperature) == (metric, suite.plane.role, HEADLINE_TEMPERATURE)
        for estimate in scores.estimates
    )
