"""One judge on several files of pairs that people have labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.judging.accuracy import Accuracy, accuracy
from benchmark.judging.config import ChatConfig, find_judge
from benchmark.judging.labelled import read_labelled
from benchmark.judging.runs import JudgeOptions, Progress, load


def measure(
    files: Sequence[Path],
    out: Path,
    options: JudgeOptions,
    progress: Progress = lambda *_: None,
    *,
    task: str | None = None,
    allow_missing: bool = False,
) -> list[Accuracy]:
    """Measure one judge on several files of labelled pairs.

    Parameters
    ----------
    files
        See `read_labelled`; sets are named by the files' stems, which must differ.
    out
        Folder of the verdicts.
    options
        The judge, which is named, and how to ask it.
    progress
        (stage, pairs done since the last call, pairs in all).
    task, allow_missing
        See `accuracy`; a chat judge's default task is the first that it knows.
    """
    names = [path.name.removesuffix(".gz").removesuffix(".jsonl") for path in files]
    if double := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise UserError(f"two files are called {double}; rename one")
    sets = [read_labelled(path) for path in files]
    assert options.judge is not None, "the command asks for a judge"
    config = find_judge(options.judge, model=options.model, orders=options.orders)
    if isinstance(config, ChatConfig):
        task = task or next(iter(config.tasks))
    judge = load(config, options)
    total = sum(map(len, sets))
    return [
        accuracy(
            judge,
            pairs,
            out / f"{name}.{judge.config.judge}.jsonl",
            name=name,
            task=task,
            allow_missing=allow_missing,
            advance=lambda n: progress("judging", n, total),
        )
        for name, pairs in zip(names, sets, strict=True)
    ]
