"""Judging the samples of a run: against the references, or against another run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UserError
from benchmark.judging.audit import check_preferences
from benchmark.judging.config import (
    ChatConfig,
    JudgeConfig,
    OracleConfig,
    Orders,
    RewardModelConfig,
    find_judge,
    load_judge_configs,
    read_kept,
)
from benchmark.judging.judge import Judge, Pair, check_verdicts, judge_pairs, load_judge, pairs_of
from benchmark.judging.report import JudgeReport, report
from benchmark.opened import Opened, open_run
from benchmark.records import Cell, Manifest, Prompt, Sample, Verdict, sha256_of
from benchmark.runs import Run, read_verdicts, write_record
from benchmark.task_by_task import TaskByTask

Progress = Callable[[str, int, int], None]
"""(stage, cells done since the last call, cells in all)."""


@dataclass(frozen=True)
class JudgeOptions:
    """What a user may say about judging; None leaves the suite's or the judge's own."""

    judge: str | None = None
    """A judge's name or ``.yaml`` file; None = the suite's own."""
    model: str | None = None
    orders: Orders | None = None
    base_url: str | None = None
    concurrency: int = 32
    """Requests in the air at once."""
    max_cost: float | None = None
    """US dollars that this command may spend."""
    device: str | None = None
    batch_size: int = 64


MOST_REFERENCE = 100_000
"""Characters of a reference that is not here; a verdict that tells of more is refused."""


class Question(NamedTuple):
    """The pairs of one task, and the log of the verdicts on them."""

    task: str
    pairs: dict[Cell, Pair]
    log: Path

    def verdicts(self) -> list[Verdict]:
        """Read the log; none where nothing was judged yet."""
        return read_verdicts(self.log, self.task) if self.log.exists() and self.log.stat().st_size else []


def chosen(opened: Opened, options: JudgeOptions) -> JudgeConfig:
    """Find the judge that the user names, or the suite's own.

    Raises
    ------
    UserError
        If there is none, or it does not know the suite's tasks; the message lists those that do.
    """
    tasks = [entry.task for entry in opened.suite.tasks]
    if opened.prompts is None:
        raise UserError(
            "an imported run comes with its verdicts; there is no judge here", where=opened.run.manifest_path
        )
    name = options.judge or opened.suite.judge
    there = ", ".join(_judges_of(opened)) or "none yet"
    if name is None:
        raise UserError(f"suite {opened.suite.id} has no judge of its own; give --judge, such as: {there}")
    config = find_judge(name, model=options.model, orders=options.orders)
    own = find_judge(opened.suite.judge) if opened.suite.judge else None
    if own and config.judge == own.judge and config.sha256 != own.sha256:
        raise UserError(
            f"{config.judge} is the name of the suite's own judge; give yours another (`judge:`)", where=name
        )
    if isinstance(config, OracleConfig) and not (isinstance(own, OracleConfig) and own.function == config.function):
        raise UserError(
            f"judge {config.judge} reads documents of its own suite alone; judges of {opened.suite.id}: {there}"
        )
    if isinstance(config, ChatConfig) and (unknown := [task for task in tasks if task not in config.tasks]):
        raise UserError(f"judge {config.judge} has no words for {unknown[0]}; judges of {opened.suite.id}: {there}")
    return config


def load(config: JudgeConfig, options: JudgeOptions) -> Judge:
    """Build a judge with those of the options that are for its kind."""
    given: dict[str, Any] = {}
    if isinstance(config, ChatConfig):
        given = {"base_url": options.base_url, "concurrency": options.concurrency, "max_cost": options.max_cost}
    elif options.base_url or options.max_cost is not None:
        raise UserError(f"judge {config.judge} is no server's; leave --base-url and --max-cost out")
    if isinstance(config, RewardModelConfig):
        given = {"device": options.device, "batch_size": options.batch_size, "found_at": options.model}
    return load_judge(config, **given)


def questions(opened: Opened, config: JudgeConfig, against: Opened | None = None) -> list[Question]:
    """Lay out what a judge is asked about a run, task by task; tasks without anything to compare with are left out.

    Of a run that was opened without its prompts it is what the judge has said that tells what it was asked.
    """
    found = []
    for task in [entry.task for entry in opened.suite.tasks] if against else _comparable(opened):
        others = against.samples(task) if against else None
        log = opened.run.verdicts_path(task, config.judge, opponent_name(against.manifest) if against else None)
        if opened.prompts is None:
            asked = Question(task, {}, log)
            pairs = _unseen_pairs(config, opened.samples(task), asked.verdicts(), where=log)
        else:
            pairs = pairs_of(config, opened.prompts[task], opened.samples(task), others)
        found.append(Question(task, pairs, log))
    return found


def _comparable(opened: Opened) -> list[str]:
    """Name the tasks whose prompts have references; there must be one."""
    if opened.prompts is None:
        return [entry.task for entry in opened.suite.tasks if entry.prompts and entry.prompts.references]
    found = [
        entry.task for entry in opened.suite.tasks if any(prompt.references for prompt in opened.prompts[entry.task])
    ]
    if not found:
        raise UserError(f"no prompt of suite {opened.suite.id} has a reference here to compare with; give --against")
    return found


def judge(
    run: Run,
    progress: Progress = lambda *_: None,
    options: JudgeOptions | None = None,
    *,
    against: Run | None = None,
) -> list[JudgeReport]:
    """Judge the samples of a run that have no verdict yet.

    Parameters
    ----------
    run
        A whole run.
    progress
        See `Progress`.
    options
        See `JudgeOptions`.
    against
        Another run of the same prompts, whose samples stand for the references.

    Returns
    -------
    list
        A report a task.

    Raises
    ------
    UserError
        If the judge stopped before the end, or what is there does not fit; what was judged is kept.
    """
    options = options or JudgeOptions()
    opened = open_run(run)
    other = _opponent(opened, against)
    config = chosen(opened, options)
    asker = load(config, options)
    asked = questions(opened, asker.config, other)
    against_name = opponent_name(other.manifest) if other else None
    _refuse_another_version(asker.config, opened.run, against_name)
    total = sum(len(question.pairs) for question in asked)
    reports = []
    try:
        for question in asked:
            judge_pairs(asker, question.pairs, question.log, advance=lambda n: progress("judging", n, total))
            reports.append(report(asker.config, question.task, question.pairs, question.verdicts()))
    finally:
        # Beside verdicts there is always the configuration that they are of, and never one without any.
        if any(question.log.exists() for question in asked):
            write_record(opened.run.judge_path(asker.config.judge, against_name), asker.config)
    return reports


def plan(run: Run, options: JudgeOptions | None = None, *, against: Run | None = None) -> list[tuple[str, Any]]:
    """Tell what judging a run would ask and cost, a (task, plan) at a time: no call is made, and no key needed."""
    from benchmark.judging.chat import ChatJudge

    options = options or JudgeOptions()
    opened = open_run(run)
    other = _opponent(opened, against)
    config = chosen(opened, options)
    if not isinstance(config, ChatConfig):
        raise UserError(f"judge {config.judge} costs nothing; --dry-run is for judges behind a server")
    asker = ChatJudge(config, base_url=options.base_url)
    plans = []
    for question in questions(opened, config, other):
        so_far = question.verdicts()
        done = check_verdicts(so_far, question.pairs, where=question.log, keys=_keys(question.pairs), complete=False)
        known = {verdict.key for verdict in so_far if verdict.preference is not None}
        failed = {verdict.key: verdict for verdict in so_far if verdict.preference is None}
        missing = {
            pair.key: pair._replace(before=failed.get(pair.key))
            for cell, pair in question.pairs.items()
            if cell not in done and pair.key not in known
        }
        plans.append((question.task, asker.plan(list(missing.values()))))
    return plans


class Judged(NamedTuple):
    """A run's verdicts by one judge, checked to be on these texts."""

    judge: str | None
    sha256: str | None
    verdicts: Mapping[str, list[Verdict]]
    """Task → its verdicts, one a cell; a later line of the log supersedes an earlier one."""
    reports: list[JudgeReport]
    """One a task whose verdicts were read."""
    logs: list[Path]


UNJUDGED = Judged(None, None, {}, [], [])


def judged(opened: Opened, name: str | None = None, *, allow_missing: bool = False) -> Judged:
    """Read what one judge said of a run.

    Parameters
    ----------
    opened
        The run.
    name
        The judge; None = the suite's own, else the only one that judged it, else none.
    allow_missing
        Take verdicts that do not cover every sample that the judge is to judge.

    Raises
    ------
    UserError
        If several judges might be meant, a verdict is missing or failed, or is not on these texts.
    """
    found = judged_by_task(opened, opened.samples, name, allow_missing=allow_missing)
    return found._replace(verdicts=dict(found.verdicts))


def judged_by_task(
    opened: Opened, samples: Callable[[str], list[Sample]], name: str | None = None, *, allow_missing: bool = False
) -> Judged:
    """Read what one judge said of a run, each task when its verdicts are asked for; see `judged`.

    ``samples`` gives those of a task. A task's verdicts are checked when they are read, and its report is there then.
    """
    run = opened.run
    if opened.suite.imported:
        return _imported(opened, name)
    there = run.judges()
    name = name or opened.suite.judge
    if name is None:
        if len(there) > 1:
            raise UserError(f"judged by {', '.join(there)}; say whose verdicts with --judge", where=run.folder)
        if not there:
            return UNJUDGED
        name = there[0]
    config = read_kept(run.judge_path(name))
    if config is None:
        known = f"; judged by: {', '.join(there)}" if there else ""
        raise UserError(f"not judged by {name!r}{known}; run `gendiv judge` first", where=run.folder)
    if name == opened.suite.judge and config.sha256 != find_judge(name).sha256:
        raise UserError(
            f"is not judge {name} as it is here; move it and its verdicts away to judge again",
            where=run.judge_path(name),
        )
    reports = list[JudgeReport]()

    def read(task: str) -> list[Verdict]:
        question = Question(task, {}, run.verdicts_path(task, config.judge))
        log = question.verdicts() if allow_missing else read_verdicts(question.log, question.task)
        if opened.prompts is None:
            question = question._replace(pairs=_unseen_pairs(config, samples(task), log, where=question.log))
        else:
            question = question._replace(pairs=pairs_of(config, opened.prompts[task], samples(task)))
        keys = None if opened.prompts is None else _keys(question.pairs)
        check_verdicts(log, question.pairs, where=question.log, keys=keys, complete=not allow_missing)
        check_preferences(config, question.pairs, log, where=question.log)
        found = report(config, question.task, question.pairs, log)
        if found.judged < found.pairs and not allow_missing:
            reason = next(iter(found.failures), "not asked")
            raise UserError(
                f"{found.judged} of {found.pairs} samples have a verdict ({reason}); run `gendiv judge` again, or "
                "score what is there with --allow-missing",
                where=question.log,
            )
        if task not in [report.task for report in reports]:
            reports.append(found)
        return list({verdict.cell: verdict for verdict in log}.values())

    tasks = _comparable(opened)
    logs = [run.verdicts_path(task, config.judge) for task in tasks]
    return Judged(config.judge, config.sha256, TaskByTask(tasks, read), reports, [log for log in logs if log.exists()])


def _imported(opened: Opened, name: str | None) -> Judged:
    run, identity = opened.run, opened.manifest.identity
    if name not in (None, identity.judge):
        raise UserError(f"an imported run has the verdicts of {identity.judge} alone", where=run.manifest_path)
    assert identity.judge is not None, "an imported suite names its judge"
    verdicts, logs = {}, []
    for entry in opened.suite.tasks:
        logs.append(run.verdicts_path(entry.task, identity.judge))
        verdicts[entry.task] = run.verdicts(entry.task, identity.judge)
        check_verdicts(verdicts[entry.task], opened.cells(entry.task), where=logs[-1])
    return Judged(identity.judge, identity.judge_sha256, verdicts, [], logs)


def _unseen_pairs(config: JudgeConfig, samples: list[Sample], log: list[Verdict], *, where: Path) -> dict[Cell, Pair]:
    """Pair samples with references that are not here: the verdicts tell their length, and it is one for each prompt.

    A text of that length and of its reference's very score is taken for the reference.
    """
    if not isinstance(config, RewardModelConfig):
        raise UserError(
            f"verdicts of {config.judge} cannot be checked without the suite's prompts; set GENDIV_DATA", where=where
        )
    lengths = {verdict.doc_id: min(verdict.reference_length, MOST_REFERENCE) for verdict in log}
    tied = {v.cell for v in log if v.score is not None and v.score == v.reference_score}
    pairs = {}
    for sample in config.selected(samples):
        prompt = Prompt(task=sample.task, doc_id=sample.doc_id, text="", references=(), doc={})
        length = lengths.get(sample.doc_id, 0)
        said = sample.cell in tied and len(sample.text) == length
        pairs[sample.cell] = Pair(prompt, sample, reference=sample.text if said else "?" * length, key="")
    return pairs


def _keys(pairs: dict[Cell, Pair]) -> dict[Cell, str]:
    return {cell: pair.key for cell, pair in pairs.items()}


def _refuse_another_version(config: JudgeConfig, run: Run, against: str | None) -> None:
    path = run.judge_path(config.judge, against)
    kept = read_kept(path)
    if kept is not None and kept.sha256 != config.sha256:
        raise UserError(
            f"verdicts of another version of judge {config.judge} are there; move it and them away to judge again",
            where=path,
        )


def _judges_of(opened: Opened) -> list[str]:
    """Names of the judges that come with GenDiv and know all tasks of a suite."""
    tasks = {entry.task for entry in opened.suite.tasks}
    return [
        config.judge
        for config in load_judge_configs().values()
        if (tasks <= config.tasks.keys() if isinstance(config, ChatConfig) else True)
        and (not isinstance(config, OracleConfig) or config.judge == opened.suite.judge)
    ]


def opponent_name(other: Manifest) -> str:
    """Name the folder of verdicts against another run: that run's name, and a hash of which model it is."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in other.name)
    which = sha256_of([other.name, other.model.model_dump(mode="json")])
    return f"{name[:60]}-{which[:8]}"


def _opponent(opened: Opened, against: Run | None) -> Opened | None:
    if against is None:
        return None
    other = open_run(against)
    for part in ("suite", "tasks"):
        if getattr(other.manifest.identity, part) != getattr(opened.manifest.identity, part):
            raise UserError(f"identity.{part} is not that of {opened.run.folder}", where=against.manifest_path)
    if other.run.folder.resolve() == opened.run.folder.resolve():
        raise UserError("a run is not judged against itself", where=against.folder)
    return other
