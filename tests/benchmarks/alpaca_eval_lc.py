"""Our length-controlled win rates of AlpacaEval's models beside the published ones, and the intervals' coverage.

    export PYTHONPATH=. OMP_NUM_THREADS=1
    python tests/benchmarks/alpaca_eval_lc.py --coverage > tests/benchmarks/alpaca_eval_lc.md

The verdicts are AlpacaEval 2's (30 models) and AlpacaEval 1's (27, raw coverage alone), in the shared data:
GENDIV_SHARED, or `shared` beside the repository. Without `--coverage` (four minutes) the last part is left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from benchmark.statistics.bootstrap import RESAMPLES, weights
from benchmark.statistics.intervals import mean_and_error
from benchmark.statistics.length_control import (
    LEAST_EXPECTED,
    PENALTY,
    PENALTY_WITH_DIFFICULTY,
    LengthControlled,
    length_controlled,
    logit_interval,
)
from benchmark.statistics.win_rate import win_rates

Floats = NDArray[np.float64]
V1, V2 = "preferences_v1.csv.gz", "preferences_v2.csv.gz"
ATTACK, REFERENCE = "NullModel", "gpt4_1106_preview"
PENALTIES = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.1)
SPLITS, REPETITIONS = 1000, 2000


RATES = f"""# AlpacaEval 2: our length-controlled win rate beside the published one

    export PYTHONPATH=. OMP_NUM_THREADS=1
    python tests/benchmarks/alpaca_eval_lc.py --coverage > tests/benchmarks/alpaca_eval_lc.md

All in points. Verdicts: GPT-4 turbo's graded preferences against {REFERENCE}; published rates: AlpacaEval's
leaderboard (tatsu-lab/alpaca_eval, cd543a14). "With difficulty": penalty {PENALTY_WITH_DIFFICULTY:g} and AlpacaEval's
own instruction difficulty. "Without": penalty {PENALTY:g}, verdicts and lengths of the model alone. Length: mean
characters; the reference's is 2049. Difference: ours minus published, whose own error of the fit is not known.
"""
CALIBRATION = f"""
## The penalty

Distance from the published rates, mean and largest, over 27 models: all but {ATTACK}, an attack on the judge, and
{REFERENCE}, which is its own reference (50 in every way). The penalty is against the log-likelihood per prompt, so
the rate that is estimated does not depend on n.
"""
EXPLANATION = f"""
With difficulty, every penalty is a cost: 0 is nearest. {PENALTY_WITH_DIFFICULTY:g} is kept all the same, at a price of
0.12 points on average, because at 0 a model whose wins are told apart by length has no finite fit. Without difficulty
the penalty carries the result: at 0 alpaca-7b goes from 2.6 to 19.8, where 5.9 is published, and {PENALTY:g} is the
best of the grid. So a suite's version freezes the one that goes with its having difficulty or not; neither serves the
other case. Difficulty needs no penalty: its coefficients are 0.6 to 1.6, as it is known in log-odds.

## The largest difference

Published fits add 1,610 verdicts on purposely concise and verbose answers of the reference, which pull the slope and
the coefficient of difficulty; ours knows the model's own verdicts alone.
"""
COVERAGE = f"""
## Coverage of nominal 95 %

The verdicts of a model are the population; n prompts are drawn with replacement, {REPETITIONS:,} times, and the truth
is the estimator on the whole population. "Expected" is the smaller of expected wins and losses; an interval is printed
for n of 300 or more and at least {LEAST_EXPECTED:g} of both *in the draw*. Each cell: coverage over all repetitions, as
if it were always printed, and in brackets coverage among the printed ones, and the share of repetitions that print.
Monte-Carlo error: ±0.5 on all repetitions.

The rule looks at the same draw as the estimate, so near its edge the two numbers part: of a model with 5 expected wins
only draws twice as lucky as that are printed, and those are too high. The interval itself holds for such models too
(first number); no interval of the same data can undo a choice by the data. The plain t interval of the same error was
tried first: 91.3 to 94.5 % over all repetitions at n = 500 for models with 10 to 25 expected wins, where the logit's
covers 94.0 to 96.1 %, so that one is printed.
"""


class Judged(NamedTuple):
    """The verdicts of one model, one a prompt; the difficulty is of the same prompts."""

    preferences: Floats
    lengths: Floats
    reference_lengths: Floats
    difficulty: Floats

    def take(self, rows: NDArray[np.intp]) -> Judged:
        return Judged(*(values[rows] for values in self))

    def controlled(self, penalty: float, *, with_difficulty: bool) -> LengthControlled:
        difficulty = self.difficulty if with_difficulty else None
        return length_controlled(
            self.preferences, self.lengths, self.reference_lengths, penalty=penalty, difficulty=difficulty
        )


class Covered(NamedTuple):
    """Shares of repetitions: the interval covers (all repetitions); it is printed; it covers where it is printed."""

    always: float
    printed: float
    where_printed: float


def judged(data: Path, file: str = V2) -> dict[str, Judged]:
    """Read every model's verdicts; a draw (0) is one half, a missing verdict is dropped, as AlpacaEval has it."""
    folder = data / "alpaca_eval"
    hardness = pd.read_json(folder / "eval_set.jsonl.gz", lines=True).set_index("index")["instruction_difficulty"]
    rows = pd.read_csv(folder / file).dropna(subset=["preference"])
    rows["preference"] = rows["preference"].replace(0.0, 1.5)
    return {
        str(model): Judged(
            part["preference"].to_numpy(float) - 1.0,
            part["len_output_2_model"].to_numpy(float),
            part["len_output_1_baseline"].to_numpy(float),
            hardness.loc[part["index"]].to_numpy(float),
        )
        for model, part in rows.groupby("model")
    }


def published(data: Path) -> pd.Series[float]:
    """Published length-controlled rates by model, in points."""
    board = pd.read_csv(data / "alpaca_eval" / "leaderboard_v2_gpt4turbo.csv", index_col=0)
    return board["length_controlled_winrate"]


def expected(model: Judged, n: int) -> float:
    """Expected wins or losses in n prompts, whichever are fewer."""
    rate = float(model.preferences.mean())
    return n * min(rate, 1.0 - rate)


def draws(size: int, n: int, repetitions: int, seed: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, size, n) for _ in range(repetitions))


def controlled_coverage(
    model: Judged, n: int, repetitions: int, penalty: float, *, with_difficulty: bool, seed: int = 0
) -> Covered:
    """Coverage of the length-controlled interval, the model's own verdicts being the population."""
    truth = model.controlled(penalty, with_difficulty=with_difficulty).rate
    hits, printed = [], []
    for rows in draws(model.preferences.size, n, repetitions, seed):
        result = model.take(rows).controlled(penalty, with_difficulty=with_difficulty)
        low, high = result.interval or logit_interval(result.rate, result.influence)
        hits.append(low <= truth <= high)
        printed.append(result.interval is not None)
    seen = np.array(hits)[np.array(printed)]
    return Covered(float(np.mean(hits)), float(np.mean(printed)), float(seen.mean()) if seen.size else float("nan"))


def raw_coverage(model: Judged, n: int, repetitions: int, seed: int = 0) -> float:
    """Coverage of the win rate's printed interval, the model's own verdicts being the population."""
    truth, hits = mean_and_error(model.preferences)[0], 0
    samples = np.array([model.preferences[rows] for rows in draws(model.preferences.size, n, repetitions, seed)]).T
    drawn = weights(n, RESAMPLES, seed)
    for part in np.array_split(samples, max(1, repetitions // 250), axis=1):
        hits += sum(low <= truth <= high for low, high in (result.interval for result in win_rates(part, drawn)))
    return hits / repetitions


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*cells: str) -> str:
    return row(*cells) + "\n|" + "---|" * len(cells)


def points(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{100 * interval[0]:.2f}–{100 * interval[1]:.2f}"


def compared(models: dict[str, Judged], board: pd.Series[float]) -> list[str]:
    """Models with a published rate that takes part in the comparison: neither the attack nor the reference itself."""
    return [name for name in models if name in board.index and name not in (ATTACK, REFERENCE)]


def rates(models: dict[str, Judged], board: pd.Series[float]) -> Iterator[str]:
    yield header(
        "model", "n", "raw", "SE", "length", "LC, with difficulty", "95 %", "SE", "published LC", "difference",
        "LC, without", "95 %", "difference",
    )  # fmt: skip
    for name, model in models.items():
        mean, error = mean_and_error(model.preferences)
        known = board.get(name)
        cells: list[object] = [name, model.preferences.size, f"{100 * mean:.2f}", f"{100 * error:.2f}"]
        cells.append(f"{model.lengths.mean():.0f}")
        for with_difficulty, penalty in ((True, PENALTY_WITH_DIFFICULTY), (False, PENALTY)):
            result = model.controlled(penalty, with_difficulty=with_difficulty)
            cells += [f"{100 * result.rate:.2f}", points(result.interval)]
            if with_difficulty:
                cells += [f"{100 * (result.error or 0.0):.2f}", "–" if known is None else f"{known:.2f}"]
            cells.append("–" if known is None else f"{100 * result.rate - known:+.2f}")
        yield row(*cells)


def gaps(models: dict[str, Judged], board: pd.Series[float], with_difficulty: bool) -> tuple[list[str], Floats, Floats]:
    """Names, differences from the published rates [penalties, models], and those of the raw rates [models]."""
    names = compared(models, board)
    known = np.array([board[name] for name in names])
    ours = [[models[name].controlled(p, with_difficulty=with_difficulty).rate for name in names] for p in PENALTIES]
    raw = np.array([models[name].preferences.mean() for name in names])
    return names, 100 * np.array(ours) - known, 100 * raw - known


def held_out(differences: Floats) -> tuple[Floats, dict[float, int]]:
    """Choose the penalty on half of the models, test it on the others: [splits, (mean, max)], and how often which."""
    rng, models = np.random.default_rng(0), differences.shape[1]
    chosen, tested = [], []
    for _ in range(SPLITS):
        order = rng.permutation(models)
        here, there = order[: models // 2], order[models // 2 :]
        best = int(np.abs(differences[:, here]).mean(axis=1).argmin())
        chosen.append(PENALTIES[best])
        tested.append((np.abs(differences[best, there]).mean(), np.abs(differences[best, there]).max()))
    return np.array(tested), {penalty: chosen.count(penalty) for penalty in PENALTIES if penalty in chosen}


def calibration(models: dict[str, Judged], board: pd.Series[float]) -> Iterator[str]:
    both = [gaps(models, board, with_difficulty) for with_difficulty in (True, False)]
    yield header("penalty", "with: mean", "with: largest", "model", "without: mean", "without: largest", "model")
    for place, penalty in enumerate(PENALTIES):
        cells: list[object] = [f"{penalty:g}"]
        for names, differences, _ in both:
            off = np.abs(differences[place])
            cells += [f"{off.mean():.2f}", f"{off.max():.2f}", names[int(off.argmax())]]
        yield row(*cells)
    names, _, raw = both[0]
    off = np.abs(raw)
    yield row("raw rate", f"{off.mean():.2f}", f"{off.max():.2f}", names[int(off.argmax())], "", "", "")
    for (_, differences, _), label in zip(both, ("With", "Without"), strict=True):
        tested, chosen = held_out(differences)
        often = ", ".join(f"{penalty:g} {times} times" for penalty, times in chosen.items())
        yield (
            f"\n{label} difficulty, {SPLITS} random halves: the penalty chosen on one half has on the other a mean of "
            f"{tested[:, 0].mean():.2f} (5–95 %: {np.quantile(tested[:, 0], 0.05):.2f}–"
            f"{np.quantile(tested[:, 0], 0.95):.2f}) and a largest of {tested[:, 1].mean():.2f} (95 %: "
            f"{np.quantile(tested[:, 1], 0.95):.2f}; ever: {tested[:, 1].max():.2f}). Chosen: {often}."
        )


def likelihood(model: Judged, slope: float, difficulty: float | None) -> tuple[float, float, float]:
    """Summed log-likelihood, rate at equal length and difficulty's coefficient of the best fit with these held."""
    gap = model.lengths - model.reference_lengths
    offset = slope * np.tanh(gap / gap.std())

    def loss(free: Floats) -> float:
        odds = offset + free[0] + (free[1] if difficulty is None else difficulty) * model.difficulty
        return -float((model.preferences * odds - np.logaddexp(0.0, odds)).sum())

    start = np.zeros(2) if difficulty is None else np.zeros(1)
    best = optimize.minimize(loss, start, method="BFGS")
    on_difficulty = float(best.x[1]) if difficulty is None else difficulty
    return (
        -float(best.fun),
        100 * float(special.expit(best.x[0] + on_difficulty * model.difficulty).mean()),
        on_difficulty,
    )


def explained(models: dict[str, Judged], board: pd.Series[float], data: Path) -> Iterator[str]:
    known = pd.read_csv(data / "alpaca_eval" / "lc_glm_weights.csv", index_col=0)
    names, differences, _ = gaps(models, board, True)
    own = differences[PENALTIES.index(PENALTY_WITH_DIFFICULTY)]
    worst = names[int(np.abs(own).argmax())]
    model, (slope, difficulty) = models[worst], (-known.loc[worst].iloc[0], known.loc[worst].iloc[1])
    ours = model.controlled(PENALTY_WITH_DIFFICULTY, with_difficulty=True)
    assert ours.difficulty is not None
    yield f"{worst}, published {board[worst]:.2f}:\n"
    yield header("slope", "difficulty", "rate at equal length", "log-likelihood of the 805 verdicts")
    trials: list[tuple[str, float, float | None]] = [
        ("ours", ours.slope, ours.difficulty),
        ("published slope", slope, None),
        ("published slope and difficulty", slope, difficulty),
    ]
    for label, held_slope, held_difficulty in trials:
        log, rate, on_difficulty = likelihood(model, held_slope, held_difficulty)
        yield row(f"{held_slope:.2f} ({label})", f"{on_difficulty:.2f}", f"{rate:.2f}", f"{log:.2f}")
    log, _, _ = likelihood(model, slope, difficulty)
    own_log, _, _ = likelihood(model, ours.slope, ours.difficulty)
    yield (
        f"\nThe rate moves because the slope does: {worst}'s own verdicts hold the slope back, and like the published "
        f"coefficients less than ours, by {own_log - log:.1f} units of log-likelihood. The difference is "
        f"{abs(own).max() / (100 * (ours.error or 1.0)):.1f} of our standard errors."
    )
    fits = [models[name].controlled(PENALTY_WITH_DIFFICULTY, with_difficulty=True) for name in names]
    steeper = [-known.loc[name].iloc[0] - fit.slope for name, fit in zip(names, fits, strict=True)]
    flatter = [known.loc[name].iloc[1] - (fit.difficulty or 0.0) for name, fit in zip(names, fits, strict=True)]
    known_order = next(iter(models.values())).difficulty  # the first model has a verdict on every prompt
    yield "\nThree models lack verdicts; upstream then takes difficulty by row position, shifted from the gap on:\n"
    yield header("model", "rows", "ours", "ours, difficulty by row position", "published")
    for name in names:
        if (size := models[name].preferences.size) < known_order.size:
            moved = models[name]._replace(difficulty=known_order[:size])
            here, there = (
                100 * one.controlled(PENALTY_WITH_DIFFICULTY, with_difficulty=True).rate
                for one in (models[name], moved)
            )
            yield row(name, size, f"{here:.2f}", f"{there:.2f}", f"{board[name]:.2f}")
    yield (
        f"\nOver the {len(names)} models the published slope is larger than ours by {np.median(steeper):.2f} (median), "
        f"the published coefficient of difficulty smaller by {-np.median(flatter):.2f}; correlation of the slope's "
        f"excess with published minus our rate: {np.corrcoef(steeper, -own)[0, 1]:.2f}."
    )


def spread_of(values: list[float], shares: list[float] | None = None) -> str:
    """Lowest and highest coverage, each with its own Monte-Carlo error; ``shares`` of the repetitions count."""

    def shown_at(place: int) -> str:
        repetitions = REPETITIONS * (1.0 if shares is None else shares[place])
        error = np.sqrt(values[place] * (1 - values[place]) / repetitions)
        return f"{100 * values[place]:.1f} ± {100 * error:.1f}"

    return f"{shown_at(int(np.argmin(values)))} to {shown_at(int(np.argmax(values)))} % over {len(values)} rows"


def percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"


def coverage(models: dict[str, Judged], old: dict[str, Judged]) -> Iterator[str]:
    settings = [(n, with_difficulty) for n in (300, 500) for with_difficulty in (True, False)]
    yield "### Length-controlled\n"
    labels = [f"n = {n}, {'with' if with_difficulty else 'without'}" for n, with_difficulty in settings]
    yield header("model", "expected, n = 300", "n = 500", *labels)
    seen: dict[int, list[float]] = {place: [] for place in range(4)}
    printed: dict[int, list[float]] = {place: [] for place in range(4)}
    shares: dict[int, list[float]] = {place: [] for place in range(4)}
    for name, model in varying(models).items():
        cells: list[object] = [name, f"{expected(model, 300):.1f}", f"{expected(model, 500):.1f}"]
        for place, (n, with_difficulty) in enumerate(settings):
            penalty = PENALTY_WITH_DIFFICULTY if with_difficulty else PENALTY
            found = controlled_coverage(model, n, REPETITIONS, penalty, with_difficulty=with_difficulty)
            cells.append(f"{percent(found.always)} ({percent(found.where_printed)} of {100 * found.printed:.0f})")
            if expected(model, n) >= LEAST_EXPECTED:
                seen[place].append(found.always)
                printed[place].append(found.where_printed)
                shares[place].append(found.printed)
        yield row(*cells)
    yield f"\nModels with {LEAST_EXPECTED:g} or more expected wins and losses, lowest and highest, all repetitions:\n"
    for place, label in enumerate(labels):
        yield f"- {label}: {spread_of(seen[place])}; where it is printed: {spread_of(printed[place], shares[place])}"
    yield "\n### Raw\n"
    yield header("verdicts", "model", "rate", "n = 100", "n = 500")
    found_raw: dict[int, list[float]] = {100: [], 500: []}
    for label, group in (("v2", models), ("v1", old)):
        for name, model in varying(group).items():
            cells = [label, name, f"{100 * model.preferences.mean():.2f}"]
            for n, values in found_raw.items():
                values.append(raw_coverage(model, n, REPETITIONS))
                cells.append(percent(values[-1]))
            yield row(*cells)
    yield ""
    for n, values in found_raw.items():
        yield f"- n = {n}: {spread_of(values)}"


def varying(models: dict[str, Judged]) -> dict[str, Judged]:
    """Leave out a reference judged against itself: it ties everywhere, and its interval has no width."""
    return {name: model for name, model in models.items() if np.ptp(model.preferences) > 0.0}


def shown(data: Path, *, with_coverage: bool) -> Iterator[str]:
    models, board = judged(data), published(data)
    yield RATES
    yield from rates(models, board)
    yield CALIBRATION
    yield from calibration(models, board)
    yield EXPLANATION
    yield from explained(models, board, data)
    if with_coverage:
        yield COVERAGE
        yield from coverage(models, judged(data, V1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage", action="store_true")
    shared = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).parents[3] / "shared")
    for line in shown(shared / "data", with_coverage=parser.parse_args().coverage):
        print(line, flush=True)
