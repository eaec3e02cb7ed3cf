"""Two scored runs, prompt by prompt: every quantity that both have, with Holm's correction over all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.metrics.catalog import GATE, METRICS, OWN
from benchmark.metrics.catalog import metric as catalogued
from benchmark.records import Identity, Role, Scores
from benchmark.statistics.dominance import dominance
from benchmark.statistics.intervals import (
    Difference,
    Floats,
    Interval,
    gap_of_differences,
    paired_preferences,
    paired_t,
    welch,
)
from benchmark.statistics.ranks import holm
from benchmark.suites import HEADLINE_TEMPERATURE, load_suite

WIN_RATE = "win_rate"
"""Id of the plain win rate, and beginning of the ids of all."""
DECIMALS = 9
"""Of differences; the values have six."""
OF_EMBEDDINGS = ("sbert_", "effective_", "conditional_", "vendi_", "distinct_k_")
"""Beginnings of the ids of metrics that a sentence encoder makes."""
GATED = tuple(name.removesuffix(GATE) for name in METRICS if name.endswith(GATE))
"""Beginnings of the ids that end in a gate's name."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of two runs on the prompts that have it in both."""

    metric: str
    task: str
    """Empty for the gap."""
    role: str
    """The task's, or ``gap``: in distribution minus out of it."""
    temperature: float
    first: float
    second: float
    difference: float
    """Second minus first."""
    interval: Interval | None
    """None for a single prompt."""
    p_value: float | None
    adjusted_p: float | None
    """Holm's, over all comparisons of one call that have a p-value."""
    n: int
    """Prompts of the difference."""
    dropped: int
    """Prompts that have no value in one of the runs."""

    @property
    def verdict(self) -> str:
        """``higher``, ``lower`` or ``not told apart``: the second run beside the first, at 5 % over the family."""
        if self.adjusted_p is None or self.adjusted_p > 0.05:
            return "not told apart"
        return "higher" if self.difference > 0 else "lower"


def compare(
    first: Scores,
    second: Scores,
    *,
    metrics: Sequence[str] | None = None,
    temperatures: Sequence[float] | None = None,
) -> list[Comparison]:
    """Compare two runs in every (task, temperature, metric) that both have.

    Differences are paired over prompts (Student's t on them; for a statistic of the whole set, on the jackknife's
    pseudo-values). The gap, in-distribution minus out-of-distribution win rate, has prompts of two tasks, independent
    of each other: its difference is the mean of the paired differences of the one minus that of the other, by Welch.

    p-values, and so what is told apart, are of these tests alone. The intervals of plain win rates are stretched for
    models that hardly ever win, or hardly ever differ, though never over a 0 that the test rejects; see
    `paired_preferences` and `gap_of_differences`. Other quantities have no such guard: where two runs differ on a few
    prompts alone, their interval is too short.

    Parameters
    ----------
    first, second
        Runs of one suite version, sampled in the same way but for seed and temperatures. With another judge the win
        rates are left out, with another encoder what it makes: see `left_out`.
    metrics, temperatures
        Compare these alone: a smaller family costs less power. None = all.

    Returns
    -------
    list of Comparison
        Task by task, temperature by temperature, then the gaps; second minus first. A run against itself differs by
        0 everywhere, with p = 1; so may another run that agrees with it on these prompts by chance, and the intervals
        of win rates have a width.

    Raises
    ------
    UserError
        If the runs answered other prompts or were sampled in another way (the message names the field), or have
        nothing in common, of all that is asked for or at one of the temperatures.
    """
    _refuse_strangers(first, second)
    asked = f" of {', '.join(metrics)}" if metrics else ""
    nothing = f"runs {first.name!r} and {second.name!r} have no quantity{asked} in common to compare"
    shared = [cell for cell in _shared(first, second) if metrics is None or cell[3] in metrics]
    there = sorted({temperature for _, _, temperature, _ in shared})
    wanted = there if temperatures is None else [float(temperature) for temperature in temperatures]
    if there and (absent := [temperature for temperature in wanted if temperature not in there]):
        among = ", ".join(f"{temperature:g}" for temperature in there)
        raise UserError(f"{nothing} at temperature {absent[0]:g}; there are: {among}")
    compared = []
    sides: dict[tuple[str, float], dict[str, _Values]] = {}
    for task, role, temperature, metric in shared:
        if temperature not in wanted:
            continue
        values = _values(first, second, task, temperature, metric)
        if len(values.first):
            compared.append(_paired(metric, task, role, temperature, values))
            if metric.startswith(WIN_RATE):
                sides.setdefault((metric, temperature), {})[role] = values
    for (metric, temperature), by_role in sides.items():
        if "id" in by_role and "ood" in by_role:
            compared.append(_gap(metric, temperature, by_role["id"], by_role["ood"]))
    if not compared:
        why = "; ".join(left_out(first, second)) or "`gendiv list metrics` names them"
        raise UserError(f"{nothing}: {why}")
    return _adjusted(compared)


def left_out(first: Scores, second: Scores) -> list[str]:
    """Say which metrics that both runs have are not compared, and why."""
    metrics = [_metrics(first), _metrics(second)]
    both = [metric for metric in metrics[0] if metric in metrics[1]]
    return list(dict.fromkeys(why for metric in both if (why := _unlike(metric, first, second))))


def _metrics(run: Scores) -> dict[str, None]:
    return {metric: None for task in run.per_prompt.values() for cell in task.values() for metric in cell}


def on_the_plane(first: Scores, second: Scores) -> list[str]:
    """Say whether one run dominates the other on the plane: higher on both axes, each by a one-sided paired test.

    An intersection-union test of its own, outside of Holm's family; at temperature 1, on the prompts of the suite's
    plane. Nothing is said where a run lacks an axis, or judge, encoder or gate differ.
    """
    plane = load_suite(first.identity.suite).plane
    task = next(entry.task for entry in first.identity.tasks if entry.role == plane.role)
    sides = []
    for axis in (plane.x, plane.y):
        if (task, plane.role, HEADLINE_TEMPERATURE, axis.metric) not in set(_shared(first, second)):
            return []
        sides.append(_values(first, second, task, HEADLINE_TEMPERATURE, axis.metric))
    x, y = sides
    if not len(x.first) or not len(y.first):
        return []
    told = []
    for (name, mine), (other, theirs) in itertools.permutations(((first.name, "first"), (second.name, "second"))):
        claim = dominance(getattr(x, mine), getattr(x, theirs), getattr(y, mine), getattr(y, theirs))
        if claim.dominates:
            p = _p(claim.p_value).removeprefix("< ")
            sign = "<" if p != _p(claim.p_value) else "="
            told.append(f"{name!r} dominates {other!r} on the plane: higher on both axes (p {sign} {p})")
    return told or ["neither run is shown to dominate the other on the plane"]


def table(compared: Sequence[Comparison], names: tuple[str, str]) -> tuple[list[str], list[list[str]]]:
    """Lay comparisons out: header, and a row each.

    Parameters
    ----------
    compared
        Of one call of `compare`.
    names
        Of the two runs, for the header.
    """
    first, second = names if names[0] != names[1] else ("first", "second")
    header = ["metric", "task", "T", first, second, "difference", "95 % interval", "p", "p (Holm)", "n", "told apart"]
    rows = []
    for one in compared:
        interval = "" if one.interval is None else f"[{one.interval.low:+z.4f}, {one.interval.high:+z.4f}]"
        rows.append(
            [
                _title(one.metric),
                one.task or "ID − OOD",
                f"{one.temperature:g}",
                f"{one.first:z.4f}",
                f"{one.second:z.4f}",
                f"{one.difference:+z.4f}",
                interval,
                _p(one.p_value),
                _p(one.adjusted_p),
                f"{one.n} (of {one.n + one.dropped})" if one.dropped else str(one.n),
                "" if one.verdict == "not told apart" else one.verdict,
            ]
        )
    return header, rows


def _shared(first: Scores, second: Scores) -> Iterator[tuple[str, Role, float, str]]:
    for entry in first.identity.tasks:
        mine, theirs = first.per_prompt.get(entry.task, {}), second.per_prompt.get(entry.task, {})
        for temperature in sorted(mine.keys() & theirs.keys(), key=float):
            for metric in mine[temperature]:
                if metric in theirs[temperature] and _same_maker(metric, first, second):
                    yield entry.task, entry.role, float(temperature), metric


def _same_maker(metric: str, first: Scores, second: Scores) -> bool:
    """Whether a metric was made by the same judge, encoder, compressor, gate and function, as far as it needs them."""
    return _unlike(metric, first, second) is None


def _unlike(metric: str, first: Scores, second: Scores) -> str | None:
    """What of a metric's making differs between two runs, in words; None where nothing does."""
    if metric.startswith(OF_EMBEDDINGS) and first.identity.encoder != second.identity.encoder:
        return (
            f"metrics of embeddings are not compared: {first.identity.encoder} made those of {first.name!r}, "
            f"{second.identity.encoder} those of {second.name!r}"
        )
    if metric.startswith(WIN_RATE) and _judge(first) != _judge(second):
        return (
            f"win rates are not compared: {first.name!r} was judged by {_named(first)}, {second.name!r} by "
            f"{_named(second)}"
        )
    gate = next((metric.removeprefix(prefix) for prefix in GATED if metric.startswith(prefix)), None)
    if gate is not None:
        # A gate of the same name as the judge is that judge's: another version of it has other scores.
        another_version = first.identity.judge == second.identity.judge == gate and _judge(first) != _judge(second)
        if another_version or _note(first, "gates").get(gate) != _note(second, "gates").get(gate):
            return f"metrics of the gate {gate!r} are not compared: the runs have two gates of that name"
    if metric.startswith("compression_") and first.notes.get("compressor") != second.notes.get("compressor"):
        return "compression ratios are not compared: the runs were compressed by two programs"
    if metric.startswith("nli_") and first.notes.get("nli") != second.notes.get("nli"):
        return "NLI diversity is not compared: the runs have two classifiers"
    if metric.startswith(OWN) and _note(first, "own").get(metric) != _note(second, "own").get(metric):
        return f"{metric} is not compared: the runs have two versions of it"
    return None


def _note(run: Scores, name: str) -> dict[str, JsonValue]:
    note = run.notes.get(name)
    return note if isinstance(note, dict) else {}


class _Values(NamedTuple):
    """Values of both runs on the prompts where both have one, and how many prompts have not."""

    first: Floats
    second: Floats
    dropped: int

    @property
    def differences(self) -> Floats:
        """Second minus first; equal ones stay equal, though the values were subtracted in binary."""
        return np.round(self.second - self.first, DECIMALS)


def _values(first: Scores, second: Scores, task: str, temperature: float, metric: str) -> _Values:
    mine, theirs = (
        dict(zip(run.doc_ids[task], run.per_prompt[task][str(temperature)][metric], strict=True))
        for run in (first, second)
    )
    every = dict.fromkeys([*mine, *theirs])
    both = [(a, b) for doc_id in every if (a := mine.get(doc_id)) is not None and (b := theirs.get(doc_id)) is not None]
    values = np.array(both, dtype=np.float64).reshape(-1, 2)
    return _Values(values[:, 0], values[:, 1], len(every) - len(both))


def _paired(metric: str, task: str, role: str, temperature: float, values: _Values) -> Comparison:
    test = paired_preferences if metric == WIN_RATE else paired_t
    return Comparison(
        metric=metric,
        task=task,
        role=role,
        temperature=temperature,
        first=float(values.first.mean()),
        second=float(values.second.mean()),
        n=len(values.first),
        dropped=values.dropped,
        **_tested(test(values.second, values.first)),
    )


def _gap(metric: str, temperature: float, inside: _Values, outside: _Values) -> Comparison:
    test = gap_of_differences if metric == WIN_RATE else welch
    return Comparison(
        metric=metric,
        task="",
        role="gap",
        temperature=temperature,
        first=float(inside.first.mean() - outside.first.mean()),
        second=float(inside.second.mean() - outside.second.mean()),
        n=len(inside.first) + len(outside.first),
        dropped=inside.dropped + outside.dropped,
        **_tested(test(inside.differences, outside.differences)),
    )


def _tested(found: Difference) -> dict[str, Any]:
    return {
        **{"difference": found.estimate, "interval": found.interval},
        **{"p_value": found.p_value, "adjusted_p": None},  # until the whole family is there
    }


def _adjusted(compared: Sequence[Comparison]) -> list[Comparison]:
    tested = iter(holm([one.p_value for one in compared if one.p_value is not None]).tolist())
    return [one if one.p_value is None else replace(one, adjusted_p=next(tested)) for one in compared]


def _refuse_strangers(first: Scores, second: Scores) -> None:
    mine, theirs = _what_must_be_equal(first.identity), _what_must_be_equal(second.identity)
    for field in [*mine, *(theirs.keys() - mine.keys())]:
        if mine.get(field) != theirs.get(field):
            raise UserError(
                f"runs {first.name!r} and {second.name!r} cannot be compared: {field} differs "
                f"({mine.get(field)!r} against {theirs.get(field)!r})"
            )


def _what_must_be_equal(identity: Identity) -> dict[str, object]:
    """Flatten an identity, less judge and encoder (see `left_out`), seed (the model's own) and temperatures."""
    fields: dict[str, object] = {"suite": identity.suite}
    for task in identity.tasks:
        fields |= {f"tasks.{task.task}.{name}": value for name, value in task.model_dump().items()}
    fields["sampling"] = None if identity.sampling is None else "explicit"
    if identity.sampling is not None:
        rules = identity.sampling.model_dump(exclude={"seed", "temperatures"})
        fields |= {f"sampling.{name}": value for name, value in rules.items()}
    return fields


def _judge(run: Scores) -> tuple[str | None, str | None]:
    return run.identity.judge, run.identity.judge_sha256


def _named(run: Scores) -> str:
    name, sha256 = _judge(run)
    return "no judge" if name is None else f"{name} ({(sha256 or 'version not known')[:8]})"


def _title(metric: str) -> str:
    try:
        return catalogued(metric).title
    except KeyError:
        return metric


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
