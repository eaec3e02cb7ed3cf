"""Every run against every other: Bradley-Terry strengths, where no one reference is to decide."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.judging.head_to_head import head_to_head
from benchmark.judging.runs import JudgeOptions, Progress, opponent_name
from benchmark.records import Role
from benchmark.runs import Run, read_verdicts
from benchmark.statistics.bradley_terry import bradley_terry
from benchmark.statistics.intervals import Interval
from benchmark.statistics.ranks import RankSet, rank_sets
from benchmark.suites import HEADLINE_TEMPERATURE, load_suite


class Player(NamedTuple):
    """One model in a tournament of one task."""

    name: str
    win_rate: float
    """Over its games against all others."""
    strength: float
    """Log-odds above the table's anchor."""
    interval: Interval | None
    """None where it won or lost too little to have one; for the anchor of zero width."""
    rank: RankSet | None
    """Among the models that have an interval, by Holm over all their pairs."""
    games: int


class Table(NamedTuple):
    """A tournament on one task at the headline temperature."""

    task: str
    role: Role
    judge: str
    prompts: int
    players: tuple[Player, ...]
    """The strongest first."""
    anchor: str
    """The model whose strength is 0: of those that leave the most models with an interval, the one that won most."""


def tournament(
    runs: Sequence[Run],
    progress: Progress = lambda *_: None,
    options: JudgeOptions | None = None,
    *,
    allow_missing: bool = False,
) -> list[Table]:
    """Have a judge compare every two runs, sample by sample, and fit one strength a model.

    Verdicts are kept as those of `head_to_head` are, with the run whose name comes first in the alphabet: the same
    runs in any order go on where they stopped, and a further run is compared with those that are there alone.

    Parameters
    ----------
    runs
        At least two, of the same prompts, with different names.
    progress, options, allow_missing
        See `head_to_head`.

    Raises
    ------
    UserError
        If two runs share a name or did not answer the same prompts, a sample has no verdict, or nothing was judged at
        the headline temperature.
    """
    if len(runs) < 2:
        raise UserError("a tournament needs two runs or more")
    runs = sorted(runs, key=lambda run: run.manifest().name)
    names = [run.manifest().name for run in runs]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two runs are called {double!r}; sample one again under another --name")
    _refuse_strangers(runs)
    games: dict[str, list[tuple[str, str, float, str]]] = {}
    judge = ""
    for (one, first), (other, second) in itertools.combinations(zip(names, runs, strict=True), 2):
        result = head_to_head(first, second, progress, options, allow_missing=allow_missing)
        judge = result.judge
        for report in result.reports:
            log = first.verdicts_path(report.task, judge, opponent_name(second.manifest()))
            last = {verdict.cell: verdict for verdict in read_verdicts(log, report.task)}
            games.setdefault(report.task, []).extend(
                (one, other, verdict.preference, verdict.doc_id)
                for verdict in last.values()
                if verdict.preference is not None and verdict.temperature == HEADLINE_TEMPERATURE
            )
    suite = load_suite(runs[0].manifest().identity.suite)
    tables = [_table(task, suite.role_of(task), judge, rows) for task, rows in games.items() if rows]
    if not tables:
        raise UserError(f"nothing was judged at temperature {HEADLINE_TEMPERATURE:g}")
    return tables


def _refuse_strangers(runs: Sequence[Run]) -> None:
    """See that all runs can be compared before anything is asked, and perhaps paid for."""
    first = runs[0].manifest().identity
    for run in runs[1:]:
        other = run.manifest().identity
        for field in ("suite", "tasks", "sampling"):
            mine, theirs = getattr(first, field), getattr(other, field)
            if field == "sampling" and mine is not None and theirs is not None:
                mine, theirs = ((s.k, s.temperatures) for s in (mine, theirs))
            if mine != theirs:
                what = "k or temperatures of identity.sampling are" if field == "sampling" else f"identity.{field} is"
                raise UserError(f"{what} not those of {runs[0].folder}", where=run.manifest_path)


def _table(task: str, role: Role, judge: str, games: list[tuple[str, str, float, str]]) -> Table:
    won: dict[str, list[float]] = {}
    for one, other, preference, _ in games:
        won.setdefault(one, []).append(preference)
        won.setdefault(other, []).append(1.0 - preference)
    rates = {name: sum(of) / len(of) for name, of in won.items()}
    first, second, preferences, prompts = zip(*games, strict=True)
    # Not centred: a centred strength rests on all models, and one without a win or a loss would leave none known.
    fits = {anchor: bradley_terry(first, second, preferences, prompts, anchor=anchor) for anchor in rates}
    anchor = min(fits, key=lambda name: (-fits[name].known.sum(), -rates[name], name))
    fit = fits[anchor]
    ranks: dict[int, RankSet] = {}
    if fit.known.any():
        places = [place for place, known in enumerate(fit.known) if known]
        ranks = dict(zip(places, rank_sets(fit.pseudo_values[:, fit.known]), strict=True))
    players = [
        Player(
            name=name,
            win_rate=rates[name],
            strength=float(fit.strengths[place]),
            interval=interval,
            rank=ranks.get(place),
            games=len(won[name]),
        )
        for place, (name, interval) in enumerate(zip(fit.models, fit.intervals(), strict=True))
    ]
    players.sort(key=lambda one: (-one.strength, one.name))
    return Table(task, role, judge, len(set(prompts)), tuple(players), anchor)
