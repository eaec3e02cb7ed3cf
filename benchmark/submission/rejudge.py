"""A paid judge is asked again about a seeded sample of what it was said to have judged, and the agreement published.

A submission's preferences follow from its stored replies, but a forger writes those too. Only the judge can tell, and
of a sample it tells the coarse from the fine: see `agreement`.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from benchmark.errors import UserError
from benchmark.judging.chat import ChatJudge, Plan
from benchmark.judging.config import ChatConfig, FunctionConfig, JudgeConfig, OracleConfig, find_judge, read_kept
from benchmark.judging.judge import Judge, Pair, judge_pairs
from benchmark.judging.runs import JudgeOptions, Progress, load, questions
from benchmark.opened import open_run
from benchmark.records import Cell, FileName, Name, Record, Share, Verdict
from benchmark.runs import read_verdicts, write_record
from benchmark.statistics.agreement import cohen_kappa, gwet_ac1, observed_agreement
from benchmark.statistics.intervals import paired_preferences
from benchmark.submission.reading import MAX_JSON, parse, read_bytes
from benchmark.submission.record import FILE, Submission
from benchmark.submission.unpack import as_run, read_submission

PLACE = "REJUDGED"
"""Folder of the records, below ``submissions/`` and beside the revisions, which never change."""
PAIRS = 100
LEAST_AGREEMENT = 0.6
"""Kappa from which two readings are said to agree substantially (Landis and Koch 1977)."""
MOST_ONE_LABEL = 0.9
"""Share of one label above which kappa says little, and Gwet's AC1 stands for it."""
MOST_UNANSWERED = 0.1
"""Share of the pairs that may have no second verdict."""
_ROUNDING = 1e-9
"""By how much a number may differ from one computed elsewhere."""


class Twice(Record):
    """One pair, and what the judge is said to have said of it, and said."""

    task: Name
    doc_id: Name
    temperature: Annotated[float, Field(ge=0.0)]
    index: Annotated[int, Field(ge=0)]
    claimed: Share
    again: Share | None
    """None where it failed."""


class Found(NamedTuple):
    """How far two readings agree. None where there is nothing to tell it from."""

    judged: int
    """Pairs with two verdicts; all else is over them."""
    equal: float | None
    """Share with the same label: won, lost or tied."""
    difference: float | None
    """Mean absolute difference of the preferences."""
    kappa: float | None
    """Cohen's, of the labels."""
    ac1: float | None
    """Gwet's, of the labels."""
    claimed_rate: float | None
    rate: float | None
    """Win rate of the claimed verdicts and of the new ones."""
    low: float | None
    high: float | None
    """95 % interval of claimed less new rate, paired over prompts."""
    confirmed: bool
    """Whether the submission may stand as re-judged."""


class Rejudged(Record):
    """``submissions/REJUDGED/<organisation>__<model>+<revision>+<suite>.json``."""

    version: Literal[1] = 1
    submission: Name
    """Its folder below ``submissions/``."""
    submission_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of ``submission.json``."""
    judge: FileName
    judge_sha256: str
    seed: Annotated[int, Field(ge=0)]
    drawn: Annotated[tuple[Twice, ...], Field(min_length=1, max_length=10_000, strict=False)]
    """The sample, by task and cell; which cells these are is the draw of ``seed`` among all that could be asked."""
    there: Annotated[int, Field(ge=1)]
    """Pairs that could be asked again: judged, and of two texts."""
    equal: float | None
    difference: float | None
    kappa: float | None
    ac1: float | None
    claimed_rate: float | None
    rate: float | None
    low: float | None
    high: float | None
    confirmed: bool
    """These nine as in `Found`, the last with `enough` pairs; computed again from ``drawn`` wherever they are used."""
    calls: Annotated[int, Field(ge=0)]
    cost: float | None
    """US dollars of the second asking at the judge's price; None where it has none."""


def agreement(drawn: Sequence[Twice]) -> Found:
    """Compare the two verdicts of every pair.

    Confirmed is what the pairs do not contradict: the paired 95 % interval of the difference in win rate holds 0, and
    labels agree by `LEAST_AGREEMENT` beyond chance, by Cohen's kappa or, where more than `MOST_ONE_LABEL` of them are
    one and the same, by Gwet's AC1. With less than two prompts, or more than `MOST_UNANSWERED` of the pairs unanswered,
    nothing is.

    That is no proof. It exposes invented verdicts, and an inflation that is large beside the interval, which is why
    the interval is published with the row. Of 100 pairs and a win rate near one half, 5 points too many are confirmed
    all the same one time in four where the judge repeats itself to the letter, and seven in ten, so mostly, where it
    says another thing of one pair in twenty; 10 points one time in a hundred, and one in six. Of 400 pairs 5 points are
    confirmed never, and one time in ten.
    """
    both = [(pair, pair.claimed, pair.again) for pair in drawn if pair.again is not None]
    mine, other = [label(claimed) for _, claimed, _ in both], [label(again) for _, _, again in both]
    if not both:
        return Found(0, None, None, None, None, None, None, None, None, False)
    prompts: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for pair, claimed, again in both:
        prompts.setdefault((pair.task, pair.doc_id), []).append((claimed, again))
    x, y = (np.array([np.mean([values[side] for values in group]) for group in prompts.values()]) for side in (0, 1))
    interval = paired_preferences(x, y).interval
    kappa, ac1 = cohen_kappa(mine, other), gwet_ac1(mine, other, categories=3)
    most = max(Counter([*mine, *other]).values()) / (2 * len(both))
    beyond = ac1 if kappa is None or most > MOST_ONE_LABEL else kappa
    return Found(
        judged=len(both),
        equal=observed_agreement(mine, other),
        difference=float(np.mean([abs(claimed - again) for _, claimed, again in both])),
        kappa=kappa,
        ac1=ac1,
        claimed_rate=float(x.mean()),
        rate=float(y.mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        confirmed=interval is not None
        and interval.low <= 0 <= interval.high
        and beyond is not None
        and beyond >= LEAST_AGREEMENT
        and len(drawn) - len(both) <= MOST_UNANSWERED * len(drawn),
    )


def enough(drawn: int, there: int) -> bool:
    """Whether so many pairs may confirm a submission that has so many: `PAIRS`, or all where there are fewer."""
    return drawn >= min(PAIRS, there)


def label(preference: float) -> str:
    """Name the winner of a pair."""
    return "tie" if preference == 0.5 else "won" if preference > 0.5 else "lost"


def draw(judged: Mapping[str, Sequence[Cell]], pairs: int, seed: int) -> dict[str, list[Cell]]:
    """Draw cells without replacement, as many of each task as of any other, or all that it has.

    Parameters
    ----------
    judged
        Task → its cells.
    pairs
        How many in all; fewer where there are fewer.
    seed
        The same seed draws the same cells, whatever the order in which they are given.

    Returns
    -------
    dict
        Task → cells, sorted.
    """
    rng = random.Random(seed)
    shuffled = {task: rng.sample(cells := sorted(judged[task]), len(cells)) for task in sorted(judged)}
    taken = dict.fromkeys(shuffled, 0)
    left = min(pairs, sum(map(len, shuffled.values())))
    while left:
        # Those with the fewest come first: a task that has no more leaves its share to the others.
        task = min((t for t in shuffled if taken[t] < len(shuffled[t])), key=lambda t: (taken[t], t))
        taken[task] += 1
        left -= 1
    return {task: sorted(cells[: taken[task]]) for task, cells in shuffled.items() if taken[task]}


class _Task(NamedTuple):
    task: str
    pairs: dict[Cell, Pair]
    """Those that are drawn."""
    claimed: dict[Cell, float]


def rejudge(
    folder: Path,
    root: Path,
    options: JudgeOptions,
    *,
    pairs: int = PAIRS,
    seed: int,
    logs: Path,
    published: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Rejudged:
    """Ask a submission's judge again about some of its pairs, and write the record of it.

    Parameters
    ----------
    folder, root
        The submission's, and the folder ``submissions`` that it lies in.
    options
        The judge is the submission's where none is named; it must be ours, for what is sent where is told by its
        configuration, and a stranger's is not believed.
    pairs, seed
        See `draw`. Pairs of equal texts are none: they tie without a call.
    logs
        Folder of the new verdicts; what is there is not asked again.
    published
        See `benchmark.submission.validate.validate`.
    progress
        See `Progress`.

    Raises
    ------
    UserError
        If the submission has no paid judge, its configuration is none of ours, or the judge stops; the same command
        goes on.
    """
    submission = read_submission(folder, root)
    name = submission.folder
    asker, drawn, there = _asked(submission, folder, options, pairs, seed, published)
    where = logs / name / f"seed-{seed}"
    found: list[Twice] = []
    told: list[Verdict] = []
    total = sum(len(part.pairs) for part in drawn)
    for part in drawn:
        log = where / f"{part.task}.{asker.config.judge}.jsonl"
        judge_pairs(asker, part.pairs, log, advance=lambda n: progress("judging again", n, total))
        lines = read_verdicts(log, part.task)
        again = {verdict.cell: verdict.preference for verdict in lines}
        told += lines
        found += [
            Twice(
                task=part.task, doc_id=cell[0], temperature=cell[1], index=cell[2], claimed=claimed, again=again[cell]
            )
            for cell, claimed in part.claimed.items()
        ]
    result = agreement(found)
    price = asker.config.price if isinstance(asker.config, ChatConfig) else None
    tokens = [sum(getattr(verdict, f"{kind}_tokens") for verdict in told) for kind in ("prompt", "completion")]
    record = Rejudged(
        submission=name,
        submission_sha256=_sha256(folder),
        judge=asker.config.judge,
        judge_sha256=asker.config.sha256,
        seed=seed,
        drawn=tuple(found),
        there=there,
        **{part: value for part, value in result._asdict().items() if part not in ("judged", "confirmed")},
        confirmed=result.confirmed and enough(len(found), there),
        calls=sum(verdict.calls for verdict in told),
        cost=price.of(*tokens) if price else None,
    )
    write_record(record_path(root, name), record)
    return record


def plan(
    folder: Path,
    root: Path,
    options: JudgeOptions,
    *,
    pairs: int = PAIRS,
    seed: int,
    published: Path | None = None,
) -> list[tuple[str, Plan]]:
    """Tell what `rejudge` would ask and cost, a (task, plan) at a time: nothing is sent, and no key is needed."""
    asker, drawn, _ = _asked(read_submission(folder, root), folder, options, pairs, seed, published)
    if not isinstance(asker, ChatJudge):
        raise UserError(f"judge {asker.config.judge} costs nothing; --dry-run is for judges behind a server")
    return [(part.task, asker.plan(list(part.pairs.values()))) for part in drawn]


def _judge_of(submission: Submission, folder: Path) -> str:
    name = submission.claimed_judge
    if name is None:
        raise UserError("claims no judge's verdicts; there is nothing to ask again", where=folder)
    if submission.manifest.identity.sampling is None:
        raise UserError("its outputs and verdicts were imported, and its prompts are not here", where=folder)
    return name


class _Could(NamedTuple):
    """What could be asked again, by task and cell."""

    config: JudgeConfig
    """Of the submission's judge, as it lies beside the verdicts."""
    pairs: Mapping[str, Mapping[Cell, Pair]]
    claimed: Mapping[str, Mapping[Cell, float]]
    """Verdicts that say something, of pairs that are not of equal texts."""


def _could(submission: Submission, folder: Path, published: Path | None, ours: JudgeConfig | None) -> _Could:
    """Read a submission's pairs and verdicts; ``ours`` is a configuration that its own must be."""
    name = _judge_of(submission, folder)
    with as_run(submission, folder, published and published / submission.folder) as run:
        kept = read_kept(run.judge_path(name))
        if ours is not None:
            _check_ours(ours, kept, folder)
        if kept is None:
            raise UserError(f"has no configuration of its judge {name}", where=folder)
        # To be asked again takes the prompts, and to be compared with what was asked does not.
        opened = open_run(run, needs_prompts=ours is not None)
        parts = {question.task: question for question in questions(opened, kept)}
        told = {
            task: {v.cell: v.preference for v in question.verdicts() if v.preference is not None}
            for task, question in parts.items()
        }
    pairs = {task: question.pairs for task, question in parts.items()}
    claimed = {
        task: {
            cell: said for cell, said in told[task].items() if (pair := pairs[task][cell]).sample.text != pair.reference
        }
        for task in parts
    }
    return _Could(kept, pairs, claimed)


def _asked(
    submission: Submission, folder: Path, options: JudgeOptions, pairs: int, seed: int, published: Path | None
) -> tuple[Judge, list[_Task], int]:
    """Load the judge and draw what it is asked; and how many pairs there are in all."""
    name = _judge_of(submission, folder)
    asker = load(find_judge(options.judge or name, model=options.model, orders=options.orders), options)
    could = _could(submission, folder, published, asker.config)
    drawn = draw({task: list(cells) for task, cells in could.claimed.items()}, pairs, seed)
    if not drawn:
        raise UserError(f"has no verdict of {name} to ask again", where=folder)
    tasks = [
        _Task(
            task,
            {cell: could.pairs[task][cell] for cell in cells},
            {cell: could.claimed[task][cell] for cell in cells},
        )
        for task, cells in drawn.items()
    ]
    return asker, tasks, sum(map(len, could.claimed.values()))


def _check_ours(config: JudgeConfig, kept: JudgeConfig | None, folder: Path) -> None:
    if isinstance(config, OracleConfig | FunctionConfig):
        raise UserError(f"judge {config.judge} needs no key; `gendiv validate` asks it about every pair", where=folder)
    if kept is None or (kept.judge, kept.sha256) != (config.judge, config.sha256):
        raise UserError(
            f"was not judged by {config.judge} as it is here; give --judge, and --model and --orders where they were "
            "given",
            where=folder,
        )


def _sha256(folder: Path) -> str:
    return hashlib.sha256(read_bytes(folder, FILE, MAX_JSON)).hexdigest()


def record_path(root: Path, submission: str) -> Path:
    """Where the record of a submission's re-judging is; ``submission`` is its folder below ``root``."""
    return root / PLACE / f"{submission.replace('/', '+')}.json"


def read_rejudged(root: Path, submission: str) -> Rejudged | None:
    """Read a submission's record; None where it was not judged again.

    Raises
    ------
    UserError
        If the record is none, of another submission, or says another thing than its pairs give.
    """
    path = record_path(root.resolve(), submission)
    if not os.path.lexists(path):
        return None
    record = parse(read_bytes(root.resolve(), f"{PLACE}/{path.name}", MAX_JSON), Rejudged, path)
    if record.submission != submission:
        raise UserError(f"submission: {record.submission!r} is not what the file is called", where=path)
    found = agreement(record.drawn)
    if (found.confirmed and enough(len(record.drawn), record.there)) != record.confirmed:
        raise UserError("confirmed: is not what the pairs give; run `gendiv rejudge` again", where=path)
    for part in ("equal", "difference", "kappa", "ac1", "claimed_rate", "rate", "low", "high"):
        mine, said = getattr(found, part), getattr(record, part)
        if (mine is None) != (said is None) or (mine is not None and abs(mine - said) > _ROUNDING):
            raise UserError(f"{part}: is not what the pairs give; run `gendiv rejudge` again", where=path)
    return record


def check_drawn(record: Rejudged, submission: Submission, root: Path, published: Path | None = None) -> None:
    """Hold a record against the submission that it is of: its judge, the draw of its seed, and what was claimed.

    What the judge answered is the maintainers' word.

    Parameters
    ----------
    record, submission, root
        The record of this submission, below this folder ``submissions``.
    published
        See `benchmark.submission.validate.validate`.

    Raises
    ------
    UserError
        Names the first field that is not as it would be.
    """
    path = record_path(root, record.submission)
    could = _could(submission, root / record.submission, published, None)
    if record.judge_sha256 != could.config.sha256:
        raise UserError("judge_sha256: is of another judge than the submission's", where=path)
    if record.there != (there := sum(map(len, could.claimed.values()))):
        raise UserError(f"there: {record.there:,} pairs, and {there:,} could be asked again", where=path)
    wanted = draw({task: list(cells) for task, cells in could.claimed.items()}, len(record.drawn), record.seed)
    said = [(pair.task, (pair.doc_id, pair.temperature, pair.index)) for pair in record.drawn]
    if sorted(said) != sorted((task, cell) for task, cells in wanted.items() for cell in cells):
        raise UserError(f"drawn: is not what seed {record.seed} draws; run `gendiv rejudge` again", where=path)
    for number, (pair, (task, cell)) in enumerate(zip(record.drawn, said, strict=True)):
        if pair.claimed != could.claimed[task][cell]:
            raise UserError(
                f"drawn.{number}.claimed: {pair.claimed}, and the submission says {could.claimed[task][cell]}",
                where=path,
            )


def confirmed_by(
    root: Path, submission: Submission, sha256: str, *, published: Path | None = None, believe: bool = False
) -> Rejudged | None:
    """Find the record by which asking again has confirmed a submission, of this very ``submission.json`` and judge.

    Parameters
    ----------
    root, submission, sha256
        The folder ``submissions``, what is below it, and the hash of its ``submission.json``.
    published
        See `benchmark.submission.validate.validate`.
    believe
        Leave out `check_drawn`, which reads the submission's logs.

    Raises
    ------
    UserError
        For a record that is none, or not of what the submission holds.
    """
    record = read_rejudged(root, submission.folder)
    if record is None or (record.submission_sha256, record.judge) != (sha256, submission.claimed_judge):
        return None
    if not believe:
        check_drawn(record, submission, root.resolve(), published)
    return record if record.confirmed else None
