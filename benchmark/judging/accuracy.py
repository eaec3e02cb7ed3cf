"""How often a judge agrees with people: accuracy on labelled pairs, beyond chance, and between two sets of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.errors import UserError
from benchmark.judging.config import OracleConfig
from benchmark.judging.judge import Judge, Pair, judge_pairs, verdict_key
from benchmark.judging.labelled import LabelledPair
from benchmark.records import Cell, Prompt, Sample, Verdict
from benchmark.runs import read_jsonl
from benchmark.statistics.agreement import (
    Bias,
    by_cluster,
    cohen_kappa,
    consistency,
    gwet_ac1,
    position_bias,
)
from benchmark.statistics.bootstrap import RESAMPLES, bootstrap, weights
from benchmark.statistics.intervals import Difference, Interval, t_interval, welch
from benchmark.statistics.win_rate import WinRate, printed_method

BOOTSTRAP_SEED = 20231010
MOST_RESAMPLED = 10_000
"""Prompts; beyond it Student's t and the bootstrap differ in no digit that is printed."""
CATEGORIES = ("second", "tie", "first")


@dataclass(frozen=True)
class Agreement:
    """How well labels agree with those of people.

    Accuracy is over the pairs on which people are not tied, a tie given there counting 1/2; kappa (Cohen) and AC1
    (Gwet) are over all pairs and the three labels first, tie, second. None where it cannot be had.
    """

    accuracy: float | None
    kappa: float | None
    ac1: float | None


@dataclass(frozen=True)
class Accuracy:
    """One judge on one set of labelled pairs."""

    judge: str
    name: str
    """Of the set."""
    pairs: int
    judged: int
    """Pairs with a verdict."""
    human_ties: int
    """Of these, pairs on which people are tied: no part of the accuracy."""
    prompts: int
    """Different prompts of the pairs that count."""
    rate: WinRate
    """Accuracy, 1/2 for a judge's tie, and its intervals, over prompts where they repeat."""
    agreement: Agreement
    judge_ties: float
    """Share of the judged pairs."""
    human: Agreement | None
    """People against people, each annotator in turn against the majority of the others; None with fewer than three."""
    position_bias: Bias | None
    consistency: float | None
    """None where the judge did not see both orders."""
    values: tuple[float, ...]
    """A value a prompt, whose mean is the accuracy; see `by_cluster`."""


def accuracy(
    judge: Judge,
    pairs: Sequence[LabelledPair],
    log: Path,
    *,
    name: str,
    task: str | None = None,
    allow_missing: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Accuracy:
    """Judge labelled pairs, those that have a verdict in the log not again, and compare with people's word.

    The label is the annotators' majority; without one it is a tie.

    Parameters
    ----------
    judge
        A reward model or a chat model.
    pairs
        As `read_labelled` gives them.
    log
        Its verdicts, made if absent.
    name
        Of the set, for the table: the file's stem.
    task
        As which task the pairs are asked: a chat judge words its question by it. None = ``name``.
    allow_missing
        Leave pairs without a verdict out, instead of refusing.
    advance
        Called with numbers of pairs that are done.

    Raises
    ------
    UserError
        If the judge reads more than text or cannot go on, pairs failed, the log is of other pairs or another task, or
        people are tied on all pairs.
    """
    if isinstance(judge.config, OracleConfig):
        raise UserError(f"judge {judge.config.judge} reads its own documents, and labelled pairs have none")
    asked = as_task(task or name, pairs, judge.config.sha256)
    judge_pairs(judge, asked, log, advance=advance)
    last = {verdict.doc_id: verdict for verdict in read_jsonl(log, Verdict, mend="")}
    if other := next((verdict.task for verdict in last.values() if verdict.task != (task or name)), None):
        raise UserError(f"its verdicts were asked as task {other}, not {task or name}; move the file away", where=log)
    verdicts = {doc_id: verdict for doc_id, verdict in last.items() if verdict.preference is not None}
    if len(verdicts) < len(pairs) and not (allow_missing and verdicts):
        failed = next(verdict.error for verdict in last.values() if verdict.preference is None)
        raise UserError(
            f"{len(pairs) - len(verdicts)} of {len(pairs)} pairs have no verdict ({failed}); run it again, or give "
            "--allow-missing",
            where=log,
        )
    return against_people(judge.config.judge, name, pairs, verdicts)


def as_task(task: str, pairs: Sequence[LabelledPair], judge_sha256: str) -> dict[Cell, Pair]:
    """Lay labelled pairs out for a judge: the first answer is the sample, the second what it is compared with."""
    asked = {}
    for pair in pairs:
        prompt = Prompt(
            task=task,
            doc_id=pair.id,
            text=pair.prompt,
            references=(pair.second,),
            doc={},
            chat=pair.chat,
            # A judge of summaries must see what they are of, which may be in the prompt alone.
            shortens=pair.prompt if pair.document is None else pair.document,
        )
        sample = Sample(
            task=task,
            doc_id=pair.id,
            temperature=0.0,
            index=0,
            text=pair.first,
            finish_reason="unknown",
            n_tokens=None,
        )
        key = verdict_key(judge_sha256, prompt, pair.first, pair.second)
        asked[sample.cell] = Pair(prompt, sample, pair.second, key)
    return asked


def against_people(judge: str, name: str, pairs: Sequence[LabelledPair], verdicts: Mapping[str, Verdict]) -> Accuracy:
    """Compare verdicts, by the pair's id, with people's labels; pairs without a verdict are left out."""
    judged = [pair for pair in pairs if pair.id in verdicts]
    labels = [majority(pair.annotators or (pair.preference,)) for pair in judged]
    words = [_category(verdicts[pair.id].preference) for pair in judged]
    counting = [
        (pair, _correct(word, label)) for pair, word, label in zip(judged, words, labels, strict=True) if label != "tie"
    ]
    if not counting:
        raise UserError(f"{name}: people are tied on every pair, and there is nothing to be right about")
    values, prompts = [value for _, value in counting], [pair.prompt for pair, _ in counting]
    orders = [(verdicts[pair.id].orders, pair.prompt) for pair in judged]
    both = [(order, prompt) for order, prompt in orders if len(order) == 2 and None not in order]
    shown = np.array([order for order, _ in both], dtype=np.float64)
    return Accuracy(
        judge=judge,
        name=name,
        pairs=len(pairs),
        judged=len(judged),
        human_ties=labels.count("tie"),
        prompts=len(set(prompts)),
        rate=_rate(values, prompts),
        agreement=_agreement(words, labels),
        judge_ties=words.count("tie") / len(words),
        human=_leave_one_out(judged),
        position_bias=position_bias(shown, clusters=[prompt for _, prompt in both]),
        consistency=consistency(shown),
        values=tuple(by_cluster(values, prompts).tolist()),
    )


def generalisation(inside: Accuracy, outside: Accuracy) -> Difference:
    """Accuracy in distribution minus accuracy out of it, by Welch's t over prompts."""
    return welch(inside.values, outside.values)


def majority(preferences: Sequence[float]) -> str:
    """Label that most annotators gave: ``first``, ``tie`` or ``second``; ``tie`` where no label has the most."""
    (label, count), *others = Counter(map(_category, preferences)).most_common()
    return "tie" if others and others[0][1] == count else label


def table(found: Sequence[Accuracy]) -> tuple[list[str], list[list[str]]]:
    """Lay accuracies out: header, and a row a judge and set."""
    header = ["judge", "pairs of", "n", "people tied", "no verdict", "accuracy", "κ", "AC1", "judge ties",
              "people's accuracy", "people's κ", "position bias", "consistency"]  # fmt: skip
    rows = []
    for one in found:
        bias, human = one.position_bias, one.human
        rows.append(
            [
                one.judge,
                one.name,
                str(one.rate.n),
                str(one.human_ties),
                str(one.pairs - one.judged),
                _with_interval(one.rate.rate, one.rate.interval),
                _number(one.agreement.kappa),
                _number(one.agreement.ac1),
                _number(one.judge_ties),
                _number(human.accuracy if human else None),
                _number(human.kappa if human else None),
                _with_interval(bias.estimate, bias.interval, "+z") if bias else "",
                _number(one.consistency),
            ]
        )
    return header, rows


def _category(preference: float | None) -> str:
    assert preference is not None
    return CATEGORIES[int(np.sign(preference - 0.5)) + 1]


def _correct(word: str, label: str) -> float:
    """How right a word is about pairs that are no tie."""
    return 0.5 if word == "tie" else float(word == label)


def _agreement(words: Sequence[str], labels: Sequence[str]) -> Agreement:
    correct = [_correct(word, label) for word, label in zip(words, labels, strict=True) if label != "tie"]
    return Agreement(
        accuracy=sum(correct) / len(correct) if correct else None,
        kappa=cohen_kappa(words, labels),
        ac1=gwet_ac1(words, labels, categories=len(CATEGORIES)),
    )


def _leave_one_out(pairs: Sequence[LabelledPair]) -> Agreement | None:
    """Mean over annotators of each one's agreement with the majority of the others."""
    several = [pair.annotators for pair in pairs if len(pair.annotators) > 2]
    if not several:
        return None
    every = []
    for number in range(max(map(len, several))):
        mine = [given for given in several if number < len(given)]
        words = [_category(given[number]) for given in mine]
        every.append(_agreement(words, [majority(given[:number] + given[number + 1 :]) for given in mine]))
    return Agreement(
        *(
            sum(values) / len(values)
            if (values := [v for one in every if (v := getattr(one, part)) is not None])
            else None
            for part in ("accuracy", "kappa", "ac1")
        )
    )


def _rate(values: Sequence[float], prompts: Sequence[str]) -> WinRate:
    """Accuracy with the intervals of a win rate; where prompts repeat, they are what is drawn."""
    rate, linear = sum(values) / len(values), by_cluster(values, prompts)
    found = {"plus4_t": t_interval([*linear, 0.0, 0.0, 1.0, 1.0]), "t": t_interval(linear)}
    if len(linear) <= MOST_RESAMPLED:
        drawn = weights(len(linear), RESAMPLES, BOOTSTRAP_SEED)
        if (resampled := bootstrap(values, drawn, clusters=_numbered(prompts))) is not None:
            found |= {way: Interval(*map(float, ends)) for way, ends in resampled._asdict().items()}
    intervals = {
        way: Interval(max(0.0, interval.low), min(1.0, interval.high))
        for way, interval in found.items()
        if interval is not None
    }
    method = printed_method(rate, len(linear))
    return WinRate(rate, len(values), method if method in intervals else "t", intervals)


def _numbered(prompts: Sequence[str]) -> list[int]:
    places: dict[str, int] = {}
    return [places.setdefault(prompt, len(places)) for prompt in prompts]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _with_interval(value: float, interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
