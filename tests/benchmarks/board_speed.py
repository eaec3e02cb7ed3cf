"""Time intervals, rank sets and the whole board of 100 submissions from their per-prompt values, one thread.

    export PYTHONPATH=.:tests/leaderboard OMP_NUM_THREADS=1
    python tests/benchmarks/board_speed.py > tests/benchmarks/board_speed.md

Two suites of three tasks, six metrics, 500 prompts a task, temperature 1. "Intervals" are those that are printed: BCa
from 10,000 shared resamples for a win rate, Student's t or the jackknife's for the rest; "all kept intervals" are the
bootstrap intervals of every mean as well. The board reads its intervals from the scores, so these are not part of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np
from synthetic_scores import SWEPT_SUITE, TASKS, swept

from benchmark.quantities import Column, Statistic
from benchmark.records import Scores
from benchmark.scoring import BOOTSTRAP_SEED, estimates_of
from benchmark.statistics.bootstrap import RESAMPLES, weights
from benchmark.statistics.intervals import t_interval
from benchmark.statistics.ranks import rank_sets
from benchmark.statistics.win_rate import win_rates
from leaderboard.board import boards
from leaderboard.build import figures_of, tables_of

MODELS, PROMPTS, SUITES = 100, 500, ("toy-a", "toy-b")
STATISTICS: dict[str, Statistic] = {"win_rate": "rate", "sbert_across_input": "set"}
T = TypeVar("T")


def submissions() -> list[Scores]:
    """Runs of both suites, every model in each."""
    rng = np.random.default_rng(0)
    found = []
    for suite in SUITES:
        for model in range(MODELS):
            scores = swept(
                f"model {model:03d}",
                quality=rng.uniform(0.2, 0.8),
                diversity=rng.uniform(0.03, 0.2),
                gap=rng.uniform(0, 0.2),
                n=PROMPTS,
                grid=(1.0,),
            )
            identity = scores.identity.model_copy(update={"suite": f"{suite}@v1"})
            found.append(scores.model_copy(update={"identity": identity}))
    return found


def tables(scores: list[Scores]) -> dict[tuple[str, str, str], np.ndarray]:
    """(suite, task, metric) → per-prompt values [prompts, models]."""
    metrics = list(scores[0].per_prompt["toy_id"]["1.0"])
    return {
        (suite, task, metric): np.array(
            [row.per_prompt[task]["1.0"][metric] for row in scores if row.identity.suite == f"{suite}@v1"], float
        ).T
        for suite in SUITES
        for task in TASKS
        for metric in metrics
    }


def intervals(values: dict[tuple[str, str, str], np.ndarray]) -> int:
    """Printed intervals of every cell; how many."""
    drawn = weights(PROMPTS, RESAMPLES, BOOTSTRAP_SEED)
    found: list[object] = []
    for (_, _, metric), table in values.items():
        if metric == "win_rate":
            found += [rate.interval for rate in win_rates(table, drawn)]
        else:
            found += [t_interval(column) for column in table.T]
    return len(found)


def every_interval(values: dict[tuple[str, str, str], np.ndarray]) -> int:
    """All intervals that scoring keeps, model by model as it is called."""
    return sum(
        len(
            estimates_of(
                [
                    Column(metric, task, 1.0, STATISTICS.get(metric, "mean"), table[:, model])
                    for (of, task, metric), table in values.items()
                    if of == suite
                ],
                lambda task: TASKS[task],  # type: ignore[return-value, arg-type]
            )
        )
        for suite in SUITES
        for model in range(MODELS)
    )


def timed(call: Callable[[], T]) -> tuple[T, np.ndarray]:
    """What a call returns, and its wall and processor seconds."""
    start = np.array([perf_counter(), process_time()])
    return call(), np.array([perf_counter(), process_time()]) - start


def main() -> None:
    scores = submissions()
    suites = {f"{suite}@v1": SWEPT_SUITE.model_copy(update={"suite": suite}) for suite in SUITES}
    files = [row.model_dump_json() for row in scores]
    read, reading = timed(lambda: [Scores.model_validate_json(text) for text in files])
    values, gathered = timed(lambda: tables(read))
    count, closed = timed(lambda: intervals(values))
    ranks, ranked = timed(lambda: [rank_sets(table) for table in values.values()])
    made, rows = timed(lambda: boards(read, suites))
    (figures, drawn), drawing = timed(lambda: figures_of(made))
    text, writing = timed(lambda: tables_of(made, figures))
    parts = [
        (f"read and validate {len(files)} `scores.json`, {sum(map(len, files)) / 1e6:.0f} MB", reading),
        (f"{count:,} intervals", gathered + closed),
        (f"{len(ranks)} rank sets of {MODELS} models", ranked),
        ("the boards' rows, curves, ellipses, scores and their rank sets", rows),
        (f"page, CSV, Markdown and LaTeX, {sum(map(len, text.values())) / 1e6:.1f} MB", writing),
    ]
    data = sum(seconds for _, seconds in parts)
    _, everything = timed(lambda: every_interval(values))
    title, _, rest = (__doc__ or "").partition("\n")
    print(f"# {title.rstrip('.')}\n{rest.rstrip()}\n")
    print(
        f"{platform.machine()}; Python {platform.python_version()}, numpy {np.__version__}; one process, its\n"
        "arrays on one thread, imports apart."
    )
    print(f"{MODELS} submissions × {len(SUITES) * len(TASKS)} tasks × {len(values) // 6} metrics.\n")
    print("| part | wall s | processor s |\n|---|---|---|")
    for part, seconds in [
        *parts,
        ("data and statistics, pages: the sum of these", data),
        (f"{len(drawn)} figure files, {2 * len(made)} drawings (Vega's start included)", drawing),
        ("in all", data + drawing),
        ("apart from that: all kept intervals", everything),
    ]:
        print(f"| {part} | {seconds[0]:.2f} | {seconds[1]:.2f} |")


if __name__ == "__main__":
    main()
