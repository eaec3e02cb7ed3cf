"""Judges, and the loop that asks them: what has a verdict is not asked again, what failed is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig, FunctionConfig, JudgeConfig, OracleConfig, RewardModelConfig
from benchmark.records import Cell, Prompt, Sample, Verdict, sha256_of
from benchmark.runs import Appender, appending, drop_cut_off_line, read_jsonl

BATCH = 2048

Write = Callable[[list[Verdict]], None]
"""Takes finished verdicts, in any order; they are on disk when it returns. Called from one thread at a time."""


class Pair(NamedTuple):
    """One question to a judge: whether this sample is better than this reference."""

    prompt: Prompt
    sample: Sample
    reference: str
    """What the sample is compared with: the prompt's reference, or another model's answer."""
    key: str
    before: Verdict | None = None
    """An earlier attempt that failed; what it was told need not be asked again."""


class Judge(Protocol):
    """Compares samples with references."""

    @property
    def config(self) -> JudgeConfig:
        """What it is, as it was asked for and with what loading it told."""

    def judge(self, pairs: Sequence[Pair], write: Write) -> None:
        """Judge every pair once and hand over a verdict on each, a failed one as well, as soon as it is known.

        Pairs have different keys.

        Raises
        ------
        UserError
            If the judge cannot go on (no credit, a wrong key, a limit that was set); what was judged is written.
        """


def load_judge(config: JudgeConfig, **options: Any) -> Judge:
    """Build a judge; ``options`` are those of its kind: see `ChatJudge` and `RewardModelJudge`."""
    if isinstance(config, OracleConfig):
        from benchmark.judging.oracle import OracleJudge

        return OracleJudge(config)
    if isinstance(config, RewardModelConfig):
        from benchmark.judging.reward_model import RewardModelJudge

        return RewardModelJudge(config, **options)
    if isinstance(config, FunctionConfig):
        from benchmark.judging.function import FunctionJudge

        return FunctionJudge(config)
    from benchmark.judging.chat import ChatJudge

    return ChatJudge(config, **options)


def verdict_key(judge_sha256: str, prompt: Prompt, text: str, reference: str) -> str:
    """Key of a verdict: the judge's whole configuration, the prompt, the text judged and what it is compared with."""
    asked = [prompt.text, prompt.chat, prompt.shortens]  # whatever of it the judge reads
    return sha256_of([judge_sha256, *asked, reference, text])[:16]


def pairs_of(
    config: JudgeConfig,
    prompts: Iterable[Prompt],
    samples: Iterable[Sample],
    against: Iterable[Sample] | None = None,
) -> dict[Cell, Pair]:
    """Pairs of a task by the sample's cell: those samples that the judge judges.

    Parameters
    ----------
    config
        The judge.
    prompts
        The task's prompts; those without a reference make a pair only with ``against``.
    samples
        Of the run that is judged.
    against
        Of the run it is compared with, in the same cells; None = the prompts' references.

    Raises
    ------
    UserError
        If the judge judges a sample that the run, or the other, does not have, or nothing is there to compare with.
    """
    by_id = {prompt.doc_id: prompt for prompt in prompts}
    others = None if against is None else {sample.cell: sample.text for sample in against}
    pairs = {}
    sha256 = config.sha256
    for sample in config.selected(samples):
        prompt = by_id[sample.doc_id]
        if others is not None:
            if sample.cell not in others:
                raise UserError(f"the run to compare with has no sample {sample.cell} of {sample.task}")
            reference = others[sample.cell]
        elif prompt.references:
            reference = prompt.references[0]
        else:
            continue
        key = verdict_key(sha256, prompt, sample.text, reference)
        pairs[sample.cell] = Pair(prompt, sample, reference, key)
    if not pairs:
        what = "no sample that this judge judges" if not config.selected(samples := list(samples)) else "no reference"
        chosen = "" if config.samples == "all" else f" (it judges {config.samples!r})"
        task = next((prompt.task for prompt in by_id.values()), "the task")
        raise UserError(f"judge {config.judge}: {task} has {what}{chosen}")
    return pairs


def judge_pairs(
    judge: Judge,
    pairs: Mapping[Cell, Pair],
    log: Path,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Judge every pair of a task that has no verdict in its log yet; returns how many have one now that had none.

    Pairs of equal key are asked once, and every cell gets a line. A log whose verdicts are of another judge or of other
    texts is refused, never mixed. Lines are in the order of ``pairs``, but for those of a chat model, which come in
    whenever they are answered.
    """
    with appending(log) as appender:
        drop_cut_off_line(log)
        so_far = read_jsonl(log, Verdict, mend="") if log.stat().st_size else []
        done = check_verdicts(so_far, pairs, where=log, keys={c: pair.key for c, pair in pairs.items()}, complete=False)
        advance(len(done))
        asking = _Asking(judge, appender, so_far, advance)
        missing = [pair for cell, pair in pairs.items() if cell not in done]
        try:
            if isinstance(judge.config, ChatConfig):
                asking.as_answered(missing)
            else:
                for start in range(0, len(missing), BATCH):
                    asking.in_order(missing[start : start + BATCH])
        finally:
            if not log.stat().st_size:  # a judge that could not even begin leaves nothing behind
                log.unlink()
        return asking.judged


class _Asking:
    """One pass over the cells of a log that have no verdict."""

    def __init__(self, judge: Judge, log: Appender, so_far: Sequence[Verdict], advance: Callable[[int], None]) -> None:
        self.judge, self.log, self.advance = judge, log, advance
        self.known = {verdict.key: verdict for verdict in so_far if verdict.preference is not None}
        self.failed = {verdict.key: verdict for verdict in so_far if verdict.preference is None}
        self.judged = 0

    def in_order(self, missing: Sequence[Pair]) -> None:
        """Judge, then write all lines: for judges that lose little when they are killed."""
        found: dict[str, Verdict] = {}
        asked = self._unknown(missing)
        if asked:
            self.judge.judge(asked, lambda verdicts: found.update({verdict.key: verdict for verdict in verdicts}))
        self._append([_on(pair, (found | self.known)[pair.key]) for pair in missing])
        self.known |= found

    def as_answered(self, missing: Sequence[Pair]) -> None:
        """Write every verdict when it is there: for judges whose answers are paid for."""
        groups: dict[str, list[Pair]] = {}
        for pair in missing:
            groups.setdefault(pair.key, []).append(pair)
        # A cell that was missed when its equals were judged takes their verdict without a call.
        self._append([_copy(pair, self.known[pair.key]) for pair in missing if pair.key in self.known])

        def write(verdicts: list[Verdict]) -> None:
            self._append(
                [
                    line
                    for verdict in verdicts
                    for line in (
                        _on(groups[verdict.key][0], verdict),
                        *(_copy(pair, verdict) for pair in groups[verdict.key][1:]),
                    )
                ]
            )

        if asked := self._unknown(missing):
            self.judge.judge(asked, write)

    def _unknown(self, missing: Sequence[Pair]) -> list[Pair]:
        """One pair of each key that has no verdict yet, with the attempt that failed."""
        first = {pair.key: pair for pair in reversed(missing) if pair.key not in self.known}
        return [pair._replace(before=self.failed.get(pair.key)) for pair in missing if first.get(pair.key) is pair]

    def _append(self, lines: list[Verdict]) -> None:
        if lines:
            self.log.append(lines)
            self.judged += sum(line.preference is not None for line in lines)
            self.advance(len(lines))


def _on(pair: Pair, verdict: Verdict) -> Verdict:
    sample = pair.sample
    cell = {"doc_id": sample.doc_id, "temperature": sample.temperature, "index": sample.index}
    return verdict.model_copy(update=cell)


def _copy(pair: Pair, verdict: Verdict) -> Verdict:
    """Write another cell's verdict for this one: what it cost is counted there."""
    free = {"raw": (), "calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "uncounted": 0}
    return _on(pair, verdict).model_copy(update=free)


def check_verdicts(
    verdicts: Iterable[Verdict],
    cells: Iterable[Cell],
    *,
    where: Path,
    keys: Mapping[Cell, str] | None = None,
    complete: bool = True,
) -> set[Cell]:
    """Refuse verdicts that are not on these samples, by this judge, once each.

    Parameters
    ----------
    verdicts
        The log, in its order. A failed verdict may be followed by another on the same cell.
    cells
        The cells that are to be judged.
    where
        The log's path, for the message.
    keys
        Cell → the key that a verdict on it must have; None where the judge is not ours to ask.
    complete
        Refuse a cell without any verdict; a failed one counts as one.

    Returns
    -------
    set
        Cells with a verdict that did not fail.

    Raises
    ------
    UserError
        Names the first offending cell.
    """
    wanted, judged, seen = set(cells), set(), set()
    for verdict in verdicts:
        if verdict.cell not in wanted:
            raise UserError(
                f"the verdict on {verdict.cell} is of no sample that this judge judges; "
                "move the file away to judge again",
                where=where,
            )
        if keys is not None and keys[verdict.cell] != verdict.key:
            raise UserError(
                f"the verdict on {verdict.cell} is of another text or another version of the judge; "
                "move the file away to judge again",
                where=where,
            )
        if verdict.cell in judged:
            raise UserError(f"the verdict on {verdict.cell} is there twice; remove the extra line", where=where)
        seen.add(verdict.cell)
        if verdict.preference is not None:
            judged.add(verdict.cell)
    if complete and (missing := wanted - seen):
        raise UserError(
            f"{min(missing)} has no verdict, nor have {len(missing) - 1} more; run `gendiv judge` to finish it"
            if len(missing) > 1
            else f"{min(missing)} has no verdict; run `gendiv judge` to finish it",
            where=where,
        )
    return judged
