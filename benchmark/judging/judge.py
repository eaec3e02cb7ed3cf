"""Judges, and the loop that asks them: what has a verdict is not asked again, what failed is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import yaml
from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.records import Cell, Name, Prompt, Record, Sample, Verdict, sha256_of
from benchmark.runs import Run, appending, drop_cut_off_line, first_problem
from benchmark.suites import Suite, tasks_folder

BATCH = 2048


class JudgeConfig(Record):
    """A ``*.judge.yaml``: everything that changes a judge's word is in it, and so in the key of its verdicts."""

    judge: Name
    kind: Literal["oracle"]
    description: str
    version: int
    function: str
    """Dotted name of (doc, text) → score."""
    samples: Literal["all"]
    """Which samples are judged: free judges read all of them."""

    @property
    def sha256(self) -> str:
        """Hash of the whole configuration."""
        return sha256_of(self.model_dump())


class Judge(Protocol):
    """Compares samples with references."""

    config: JudgeConfig

    def verdicts(self, pairs: Sequence[tuple[Prompt, Sample]]) -> list[Verdict]:
        """Judge each sample against its prompt's reference."""


def load_judge_configs() -> dict[str, JudgeConfig]:
    """All judges by name."""
    configs = {}
    for path in sorted(tasks_folder().glob("*/*.judge.yaml")):
        try:
            config = JudgeConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), strict=False)
        except (yaml.YAMLError, ValidationError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise UserError(f"not a valid judge: {problem}", where=path) from None
        configs[config.judge] = config
    return configs


def load_judge(name: str) -> Judge:
    """Build one judge by name; a `UserError` lists those there are."""
    configs = load_judge_configs()
    if name not in configs:
        raise UserError(f"no judge {name!r}; there are: {', '.join(configs)}")
    from benchmark.judging.oracle import OracleJudge

    return OracleJudge(configs[name])


def verdict_key(judge_sha256: str, prompt: Prompt, sample: Sample) -> str:
    """Key of a verdict: the judge's whole configuration, the prompt, the reference and the text judged."""
    return sha256_of([judge_sha256, prompt.text, prompt.references[0], sample.text])[:16]


def judge_run(
    run: Run,
    suite: Suite,
    judge: Judge,
    prompts: dict[str, list[Prompt]],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Judge every sample of a run that has no verdict yet; returns how many were judged now.

    A log whose verdicts are of another judge configuration or other texts is refused, never mixed.
    """
    judged = 0
    for entry in suite.tasks:
        by_id = {prompt.doc_id: prompt for prompt in prompts[entry.task]}
        samples = run.samples(entry.task)
        path = run.verdicts_path(entry.task, judge.config.judge)
        keys = verdict_keys(judge.config, prompts[entry.task], samples)
        with appending(path) as log:
            drop_cut_off_line(path)
            log_so_far = run.verdicts(entry.task, judge.config.judge) if path.stat().st_size else []
            done = check_verdicts(log_so_far, keys, where=path, keys=keys, complete=False)
            advance(len(done))
            missing = [sample for sample in samples if sample.cell not in done]
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                log.append(judge.verdicts([(by_id[sample.doc_id], sample) for sample in batch]))
                judged += len(batch)
                advance(len(batch))
    return judged


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
        The samples' cells.
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
                f"the verdict on {verdict.cell} has no sample; move the file away to judge again", where=where
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


def verdict_keys(judge: JudgeConfig, prompts: Iterable[Prompt], samples: Iterable[Sample]) -> dict[Cell, str]:
    """Cell → the key of a verdict on it; see `verdict_key`."""
    by_id = {prompt.doc_id: prompt for prompt in prompts}
    return {sample.cell: verdict_key(judge.sha256, by_id[sample.doc_id], sample) for sample in samples}
