"""Is what PPO loses in diversity more than a lower temperature would have cost? PPO beside SFT's temperature curve.

PPO at temperature 1 is set against the point of SFT's own curve that has the same diversity, the same win rate, or the
same entropy a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.records import Role, Scores
from benchmark.runs import Run
from benchmark.statistics.curve import CurveGain, gain_over_curve
from benchmark.statistics.intervals import Interval
from benchmark.statistics.two_way import two_way_t
from benchmark.suites import load_suite
from reference_models.studies.cells import Cell
from reference_models.studies.report import (
    NAMES,
    SHORT,
    TITLES,
    enough,
    level,
    made_on,
    over_seeds,
    per_prompt,
    spelled,
    table,
    tasks_of,
    told,
    undone,
    verdict,
    write,
)
from reference_models.studies.setting import Setting

Floats = NDArray[np.float64]
ENTROPY = "token_entropy_per_input"
DIVERSITY = "sbert_per_input"
QUESTIONS = (
    ("win_rate", DIVERSITY),
    (DIVERSITY, "win_rate"),
    ("win_rate", ENTROPY),
    (DIVERSITY, ENTROPY),
    ("ead_per_input", ENTROPY),
    ("effective_per_input", ENTROPY),
)
"""(What is compared, what is held equal)."""
EQUAL = {"win_rate": "win rate", DIVERSITY: "diversity (Sentence-BERT)", ENTROPY: "token entropy"}


Side = Literal["above", "below", "unresolved"]
"""PPO above or below all of SFT's grid; or within it, where its points cannot be told apart."""


class Held(NamedTuple):
    """PPO minus SFT in one quantity, at SFT's temperature at which another is equal."""

    role: Role
    quantity: str
    equal: str
    estimate: float | None
    """Of the seeds that have such a temperature on their grid; None where none has."""
    interval: Interval | None
    """None for less than two seeds."""
    temperatures: tuple[float | None, ...]
    """SFT's, a seed each; None where there is none."""
    sides: tuple[Side | None, ...]
    """Of a seed without a temperature, where PPO stands; None of the others."""

    @property
    def seeds(self) -> int:
        """Number of seeds that have an answer."""
        return sum(t is not None for t in self.temperatures)

    @property
    def verdict(self) -> str:
        """``not compared`` where a seed is missing: those that are left were chosen by their outcome."""
        return verdict(self.interval if self.seeds == len(self.temperatures) else None)


def plan(setting: Setting) -> list[Cell]:
    """List the cells: SFT over the suite's temperatures, PPO at 1, where the ladder holds no run of them."""
    found = []
    for seed in setting.seeds:
        for name, grid in (("sft", None), ("ppo", (1.0,))):
            if _of_ladder(setting, seed, name) is not None:
                continue
            folder = setting.folder("temperature") / f"seed-{seed}" / name
            policy = setting.world.model(seed, name)
            common = Cell(f"seed-{seed}/{name}", folder, name, policy=policy, limit=setting.limit, k=setting.k)
            found.append(replace(common, temperatures=grid))
    return found


def run(setting: Setting) -> None:
    """Sample and judge what the ladders lack."""
    for seed in setting.seeds:
        setting.world.check(seed, "sft", "ppo")
    setting.do(plan(setting))


def report(setting: Setting) -> Path:
    """Score what `run` made, read the rest off the ladders, and write the report."""
    cells = plan(setting)
    undone(cells, setting.world)
    setting.score([_run(setting, cells, seed, name) for seed in setting.seeds for name in ("sft", "ppo")])
    sft, ppo = ([_scores(setting, cells, seed, name) for seed in setting.seeds] for name in ("sft", "ppo"))
    roles = tasks_of(sft[0])
    found = [held(sft, ppo, role, roles[role], quantity, equal) for role in roles for quantity, equal in QUESTIONS]
    lines = [
        f"# PPO beside SFT's own temperature curve, {setting.world.name}",
        "",
        f"Made by `{setting.command}`: {len(setting.seeds)} training seeds, suite {sft[0].identity.suite}. PPO is at "
        "temperature 1; SFT is at that temperature of its grid, interpolated, at which the quantity named is PPO's. "
        "Token entropy is that of the distribution that was drawn from. Brackets are 95 % intervals, two-way over "
        "seeds × prompts, with a jackknife over prompts within a seed; they are not adjusted for their number. "
        "In a seed whose grid does not reach so far PPO is told to be `above` or `below` all of SFT; `unresolved`: its "
        "points there cannot be told apart, or too few prompts have a value. Where seeds are "
        "missing the mean is of the others, which are counted beside it; they were chosen by their outcome, and bear "
        "no verdict.",
        "",
        "## Answer",
        "",
        *(f"- {line}" for line in answers(found)),
        "",
        "## PPO minus SFT",
        "",
        table(*_rows(found)),
        "",
        "## Levels, means over the seeds",
        "",
    ]
    for role, task in roles.items():
        lines += [f"### {NAMES[role]}", "", table(*_levels(sft, ppo, task)), ""]
    record = {
        "held_equal": [{**one._asdict(), "seeds": one.seeds, "verdict": one.verdict} for one in found],
        "answer": answers(found),
        "made_on": made_on(
            _run(setting, cells, seed, name).manifest().record for seed in setting.seeds for name in ("sft", "ppo")
        ),
    }
    return write(setting, "temperature", lines, record)


def held(sft: Sequence[Scores], ppo: Sequence[Scores], role: Role, task: str, quantity: str, equal: str) -> Held:
    """Compare PPO with SFT at the temperature at which ``equal`` is equal, over seeds.

    See `benchmark.statistics.curve.gain_over_curve` for what is done where a curve makes trouble. The mean is of the
    seeds that have an answer.
    """
    grid = sorted(map(float, sft[0].per_prompt[task]))
    mine = [[per_prompt(one, task, metric) for metric in (quantity, equal)] for one in ppo]
    curves = [
        [np.array([per_prompt(one, task, metric, t) for t in grid]) for metric in (quantity, equal)] for one in sft
    ]
    # The same prompts in every seed: seeds and prompts are crossed.
    kept = enough([values for pair in (*mine, *curves) for values in pair])
    if kept is None:
        none, unresolved = (None,) * len(ppo), ("unresolved",) * len(ppo)
        return Held(role, quantity, equal, None, None, none, unresolved)  # type: ignore[arg-type]
    gains = [
        gain_over_curve(own[0][kept], own[1][kept], curve[0][:, kept], curve[1][:, kept])
        for own, curve in zip(mine, curves, strict=True)
    ]
    temperatures = tuple(_between(grid, gain) for gain in gains)
    sides = tuple(
        side(own[1][kept], curve[1][:, kept]) if gain is None else None
        for own, curve, gain in zip(mine, curves, gains, strict=True)
    )
    rows = [gain.values for gain in gains if gain is not None]
    if not rows:
        return Held(role, quantity, equal, None, None, temperatures, sides)
    both = two_way_t(np.array(rows))
    return Held(role, quantity, equal, both.estimate, both.interval if len(rows) > 1 else None, temperatures, sides)


def side(own: Floats, curve: Floats) -> Side:
    """Tell where a model stands that has no place on a curve.

    Parameters
    ----------
    own, curve
        [n] and [T, n], of what is held equal.
    """
    mean, points = own.mean(), curve.mean(axis=1)
    return "above" if mean > points.max() else "below" if mean < points.min() else "unresolved"


def answers(found: Sequence[Held]) -> list[str]:
    """Say in words what the intervals say, a line a role and quantity held equal."""
    lines = []
    for role, equal in dict.fromkeys((one.role, one.equal) for one in found):
        parts = []
        for one in found:
            if (one.role, one.equal) == (role, equal):
                parts.append(_compared(one))
        missing = _missing(next(one for one in found if (one.role, one.equal) == (role, equal)))
        lines.append(f"{NAMES[role]}, at equal {EQUAL[equal]}, PPO is {', '.join(parts)}{missing}")
    return lines


def _compared(one: Held) -> str:
    number = f" ({_number(one)})" if one.seeds else ""
    return f"{told(one.verdict)} SFT in {TITLES[one.quantity]}{number}"


def _number(one: Held) -> str:
    number, among = spelled(one.estimate, one.interval), len(one.temperatures)
    if not one.seeds:
        return "no seed has an answer"
    return number if one.seeds == among else f"{number}, {one.seeds} of {among} seeds"


def _missing(one: Held) -> str:
    """Say of the seeds without an answer where PPO stands in them."""
    equal, among = EQUAL[one.equal], len(one.temperatures)
    told_of = {
        "above": f"above all of SFT's temperatures in {equal}",
        "below": f"below all of SFT's temperatures in {equal}",
        "unresolved": f"among temperatures whose {equal} cannot be told apart",
    }
    counts = {text: sum(own == name for own in one.sides) for name, text in told_of.items()}
    parts = [f"{text} in {count} of {among} seeds" for text, count in counts.items() if count]
    return f"; it is {' and '.join(parts)}" if parts else ""


def _between(grid: Sequence[float], gain: CurveGain | None) -> float | None:
    if gain is None:
        return None
    return (1 - gain.weight) * grid[gain.segment] + gain.weight * grid[gain.segment + 1]


def _rows(found: Sequence[Held]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for one in found:
        at = ", ".join(str(s) if t is None else f"{t:.2f}" for t, s in zip(one.temperatures, one.sides, strict=True))
        rows.append([one.role, EQUAL[one.equal], TITLES[one.quantity], _number(one), at])
    return ["role", "held equal", "compared", "PPO − SFT", "SFT's temperature, by seed"], rows


def _levels(sft: Sequence[Scores], ppo: Sequence[Scores], task: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name, scores, grid in (("SFT", sft, sorted(map(float, sft[0].per_prompt[task]))), ("PPO", ppo, [1.0])):
        for temperature in grid:
            means = {
                metric: over_seeds([per_prompt(one, task, metric, temperature) for one in scores])
                for metric in (ENTROPY, *SHORT)
            }
            rows.append([f"{name}, T = {temperature:g}", *(level(metric, mean) for metric, mean in means.items())])
    return ["model", "entropy (nats a token)", *SHORT.values()], rows


def _of_ladder(setting: Setting, seed: int, name: str) -> Run | None:
    """Find a ladder's own run: of SFT over the suite's temperatures, of PPO at 1 and perhaps others."""
    there = None if setting.quick else setting.world.run(seed, name)
    suite = load_suite(setting.world.suite).sampling
    sampling = there.manifest().identity.sampling if there else None
    if sampling is None or suite is None:
        return None
    return there if set(suite.temperatures if name == "sft" else (1.0,)) <= set(sampling.temperatures) else None


def _run(setting: Setting, cells: Sequence[Cell], seed: int, name: str) -> Run:
    own = next((cell.run for cell in cells if cell.name == f"seed-{seed}/{name}"), None)
    there = own or _of_ladder(setting, seed, name)
    assert there is not None
    return there


def _scores(setting: Setting, cells: Sequence[Cell], seed: int, name: str) -> Scores:
    return _run(setting, cells, seed, name).scores()
