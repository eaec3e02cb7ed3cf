"""Coverage of every printed interval, simulated with fixed seeds.

    export PYTHONPATH=.:tests OMP_NUM_THREADS=1
    python tests/benchmarks/coverage.py > tests/benchmarks/coverage.md

Some rows need AlpacaEval's verdicts in the shared data (GENDIV_SHARED, or `shared` beside the repository) and are left
out where there is none. The tests in tests/benchmark/statistics take the same rows with fewer repetitions.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from benchmarks.alpaca_eval_lc import header, judged, row
from coverage_worlds import (
    POPULATION,
    EmbeddingWorld,
    Floats,
    Ints,
    Mask,
    TextWorld,
    batches,
    binary,
    error,
    expit,
    graded,
    hardness_pairs,
    resampled,
    seeds_by_prompts,
    shares,
    strings,
    sweep,
    ternary,
    valid,
)
from scipy import stats

from benchmark.metrics import compression, distinct_k, distinct_n, ead, ngram_cosine, self_bleu, sentence_bert, vendi
from benchmark.metrics.ngrams import Tokens, count, count_sets
from benchmark.metrics.repeats import repeats, repeats_of
from benchmark.quantities import Column, Statistic, bounds_of, over_slots
from benchmark.scoring import estimates_of
from benchmark.statistics.bootstrap import RESAMPLES, weights
from benchmark.statistics.intervals import (
    Difference,
    Interval,
    gap_of_differences,
    hull,
    paired_preferences,
    paired_t,
    plus4_t,
    plus4_welch,
    t_interval,
    welch,
)
from benchmark.statistics.jackknife import jackknife_interval, macro_average
from benchmark.statistics.plane import Ellipse, ellipse, score, score_leave_one_out
from benchmark.statistics.two_way import two_way_t
from benchmark.statistics.win_rate import win_rates

LOWEST, HIGHEST = 0.93, 0.99
SIZES = (50, 100, 500)
AT_ONCE = 250
K, SLOTS = 8, 3
"""Outputs a prompt for diversity per input, and across inputs."""
OF_TEXTS = ("EAD", "distinct-n", "self-BLEU", "n-gram cosine", "compression ratio")
ONE_ANSWER = "one answer to 90 % of prompts"
IDS = {
    "EAD": "ead",
    "distinct-n": "distinct",
    "self-BLEU": "self_bleu",
    "n-gram cosine": "ngram_cosine",
    "compression ratio": "compression",
    "Sentence-BERT": "sbert",
    "Vendi": "vendi",
    "effective": "effective",
    "conditional": "conditional",
}
"""What metric ids begin with, so that scoring applies its own rules to every column."""
RESAMPLES_OF_SETS = 200
REFERENCE_DIVERSITY = 0.6

Sets = Mapping[str, tuple[Floats, Floats]]
"""Metric → its value in each set and, for each text, that of its set without it."""

INTRODUCTION = f"""# Coverage of nominal 95 % intervals

    export PYTHONPATH=.:tests OMP_NUM_THREADS=1
    python tests/benchmarks/coverage.py > tests/benchmarks/coverage.md

Simulated with fixed seeds, by the functions that scoring, comparing and the board call. A row is one population, drawn
from again and again; "coverage" is the share of intervals that hold the population's own value, ± the Monte-Carlo
standard error of that share. Aim: at least {100 * LOWEST:.0f} %, and "conservative" is said where it is above
{100 * HIGHEST:.0f} %. Beside it: another method on the same draws. Five minutes of one core.

- Win rates: the interval that the rule prints in each draw (a draw's rate decides between BCa and plus-4 t). Real rows
  are AlpacaEval 2's verdicts of one model, drawn with replacement.
- Per input: {K} outputs a prompt; across inputs: {SLOTS} slots, averaged as in scoring. Texts are words and phrases of
  30 topics, by Zipf's law; embeddings are unit vectors about a common direction, topics and prompts. 70 % of the
  outputs pass the gate, the chance varying much with the prompt.
- Across inputs the true value is that of a set of n prompts: the mean over as many other draws. The naive bootstrap
  resamples prompts {RESAMPLES_OF_SETS} times and takes percentiles.
- Guarded t is t, or its hull with plus-4 t between the bounds of what a prompt may have, where at least half of the
  prompts have one value in common and few another. The guarded jackknife is its hull with where the statistic would be
  for the ends of plus-4 t of the valid share. Both are conservative where few prompts tell.
- plus4_welch is Welch after a 0 and a 1 on each side. Stretched: the hull with the interval after one pseudo-prompt of
  +1 and one of −1 on each side, but never over a 0 that the test rejects.
- The ellipse's width is its longer axis.
- Length-controlled win rates: 94.0 to 96.5 % on real verdicts of 22 to 26 models, in alpaca_eval_lc.md.

## Where intervals are meant to serve"""
LIMITS = """
## Limits

An interval made of the draw alone cannot know of what is rare and not in it. These rows look for where that matters:
points near an edge of the plane, models that nearly always say the same, and real sets of answers at all temperatures
together (decTest of Tevet and Berant), of which few are much alike. "Too low" is below 93 % by more than the
Monte-Carlo error. On the plane, what stands beside is what would mend it; it is not what is printed. Hotelling's T²
replaces the chi-squared quantile by that of F, over the prompts and four more (x of 0, 0, 1 and 1, y the mean), about
whose mean the ellipse lies."""


Pair = tuple[Floats, Floats]
"""Preferences of two models on the same prompts."""


class Row(NamedTuple):
    """One cell of the simulation; ``other`` is another method on the same draws, where there is one to show."""

    quantity: str
    case: str
    n: str
    method: str
    seen: float
    width: float
    repetitions: int
    other: str = ""
    other_seen: float = float("nan")

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of ``seen``."""
        return error(self.seen, self.repetitions)


def generator(case: str, *numbers: int) -> np.random.Generator:
    """Make the generator of a case: no row's draws depend on which other rows are made."""
    return np.random.default_rng([*case.encode(), *numbers])


def covers(intervals: Iterable[Sequence[float] | Interval | None], truth: float) -> tuple[float, float]:
    """Share of the intervals that hold the truth, and their mean width."""
    low, high = np.array(list(intervals), dtype=np.float64).T
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean())


# Rates of preferences


def win_rate_row(case: str, population: Floats, n: int, repetitions: int) -> Row:
    """Take the win rate's printed interval, whichever the rule chooses in each draw."""
    rng = generator(case, n)
    drawn = weights(n, RESAMPLES, n)
    found = [
        rate for size in batches(repetitions, AT_ONCE) for rate in win_rates(rng.choice(population, (n, size)), drawn)
    ]
    truth = float(population.mean())
    methods = "/".join(sorted({rate.method for rate in found}))
    other = "percentile bootstrap"
    return Row(
        "win rate",
        case,
        str(n),
        methods,
        *covers((rate.interval for rate in found), truth),
        repetitions,
        other,
        covers((rate.intervals["percentile"] for rate in found), truth)[0],
    )


def clustered_row(n: int, repetitions: int) -> Row:
    """Take the win rate of k samples a prompt, and what comes of counting samples as prompts."""
    rng, case = generator("clustered", n), f"{K} samples a prompt, correlated .25"
    chance = expit(1.3 * rng.normal(size=POPULATION))
    drawn = weights(n, RESAMPLES, n)
    found, split = [], []
    for size in batches(repetitions, AT_ONCE):
        wins = rng.random((n, size, K)) < rng.choice(chance, (n, size))[..., None]
        found += win_rates(wins.mean(axis=2), drawn)
        split += [t_interval(wins[:, place].ravel()) for place in range(size)]
    truth = float(chance.mean())
    methods = "/".join(sorted({rate.method for rate in found}))
    seen = covers((rate.interval for rate in found), truth)
    return Row("win rate", case, str(n), methods, *seen, repetitions, "samples as if prompts", covers(split, truth)[0])


def paired_row(case: str, first: Floats, second: Floats, n: int, repetitions: int, *, rare: bool = False) -> Row:
    """Compare two models on the same prompts."""
    rng = generator(case, n)
    drawn = [rng.integers(0, len(first), n) for _ in range(repetitions)]
    truth = float(first.mean() - second.mean())
    seen = covers((paired_preferences(first[rows], second[rows]).interval for rows in drawn), truth)
    other, test = ("t alone", paired_t) if rare else ("unpaired", welch)
    others = covers((test(first[rows], second[rows]).interval for rows in drawn), truth)[0]
    return Row("difference of win rates", case, str(n), "paired t, stretched", *seen, repetitions, other, others)


def gap_row(case: str, inside: Floats, outside: Floats, n: int, m: int, repetitions: int) -> Row:
    """Take the gap between the rates of two roles, which have different prompts."""
    rng = generator(case, n, m)
    drawn = [(rng.choice(inside, n), rng.choice(outside, m)) for _ in range(repetitions)]
    truth = float(inside.mean() - outside.mean())
    seen = covers((plus4_welch(x, y) for x, y in drawn), truth)
    alone = covers((welch(x, y).interval for x, y in drawn), truth)[0]
    return Row("ID − OOD gap", case, f"{n}, {m}", "plus4_welch", *seen, repetitions, "Welch alone", alone)


def gap_difference_row(case: str, inside: Pair, outside: Pair, n: int, repetitions: int) -> Row:
    """Compare the gaps of two models, on n prompts of each role."""
    rng = generator(f"gaps {case}", n)
    differences = [first - second for first, second in (inside, outside)]
    drawn = [tuple(rng.choice(side, n) for side in differences) for _ in range(repetitions)]
    truth = float(differences[0].mean() - differences[1].mean())
    seen = covers((gap_of_differences(x, y).interval for x, y in drawn), truth)
    alone = covers((welch(x, y).interval for x, y in drawn), truth)[0]
    quantity = "difference of ID − OOD gaps"
    return Row(quantity, case, f"{n}, {n}", "Welch, stretched", *seen, repetitions, "Welch alone", alone)


def seeds_row(case: str, seeds: int, of_seed: float, of_prompt: float, repetitions: int, prompts: int = 200) -> Row:
    """Take the mean over training seeds and prompts."""
    rng = generator(case, seeds)
    tables = [seeds_by_prompts(rng, seeds, prompts, of_seed, of_prompt) for _ in range(repetitions)]
    seen = covers((two_way_t(table).interval for table in tables), 0.0)
    alone = covers((t_interval(table.mean(axis=0)) for table in tables), 0.0)[0]
    return Row(
        "mean over training seeds",
        f"{seeds} seeds; {case}",
        str(prompts),
        "two-way t",
        *seen,
        repetitions,
        "t over prompts alone",
        alone,
    )


# Means over prompts


def mean_row(quantity: str, metric: str, case: str, population: Floats, n: int, repetitions: int) -> Row:
    """Take the mean of per-prompt values as scoring prints it; NaN = missing at that prompt.

    Where some of the intervals are guarded, t alone stands beside them.
    """
    rng = generator(f"{metric} {case}", n)
    found = [
        estimate
        for size in batches(repetitions, 2 * AT_ONCE)
        for estimate in estimated(metric, "mean", rng.choice(population, (size, n)))
    ]
    truth = float(np.nanmean(population))
    methods = "/".join(sorted({estimate.method for estimate in found}))
    other, name = ("t alone", "t") if "guarded_t" in methods else ("BCa bootstrap", "bca")
    others = [estimate.intervals[name] for estimate in found if name in estimate.intervals]
    seen = covers(((estimate.low, estimate.high) for estimate in found), truth)
    return Row(quantity, case, str(n), methods, *seen, len(found), other, covers(others, truth)[0])


def estimated(
    metric: str, statistic: Statistic, values: Iterable[Floats], shares: Sequence[Floats] | None = None
) -> list:
    """Estimates as scoring prints them, one a row of values; ``shares`` are those of valid outputs, for each row."""
    bounds = bounds_of(metric, K) if statistic == "mean" else None
    columns = [
        Column(metric, str(place), 1.0, statistic, row, bounds=bounds, shares=None if shares is None else shares[place])
        for place, row in enumerate(values)
    ]
    return estimates_of(columns, _role)


def _role(_task: str) -> str:
    return "id"


def per_input_id(name: str) -> str:
    """Metric id of a diversity per input, with its gate."""
    return f"{IDS[name]}_per_input" + ("_text" if name in ("effective", "conditional") else "")


def per_input(texts: TextWorld, vectors: EmbeddingWorld, prompts: int) -> dict[str, Floats]:
    """Every diversity per input but classes of a population of prompts, [prompts] each."""
    rng = generator("per input")
    corpus, _ = texts.draw(rng, prompts, K)
    prompt = np.repeat(np.arange(prompts), K)
    counts, repeated, spelled = count(corpus, prompt), repeats(corpus, prompt), strings(corpus)
    e, passed = vectors.draw(rng, prompts, K), valid(rng, prompts, K, 0.7)
    return {
        "EAD": ead.per_input(counts),
        "distinct-n": distinct_n.per_input(counts),
        "self-BLEU": self_bleu.per_input(repeated),
        "n-gram cosine": ngram_cosine.per_input(repeated),
        "compression ratio": compression.per_input([spelled[at : at + K] for at in range(0, len(spelled), K)]),
        "Sentence-BERT": sentence_bert.per_input(e),
        "Vendi": vendi.per_input(e),
        "effective": sentence_bert.effective(e, passed),
        "conditional": sentence_bert.conditional(e, passed),
    }


def real_per_input(data: Path) -> dict[str, Floats]:
    """Diversities per input of decTest's 1,000 sets of ten real answers, at temperatures from .2 to 1.2."""
    file = data / "diversity_eval/with_metrics/decTest/dec_test_1000_no_hds_prompt_gen.csv"
    frame = pd.read_csv(file, keep_default_na=False)
    sets = frame[[f"resp_{number}" for number in range(10)]].astype(str).to_numpy().tolist()
    counts, repeated = count_sets(sets), repeats_of(sets)
    return {
        "EAD": ead.per_input(counts),
        "self-BLEU": self_bleu.per_input(repeated),
        "n-gram cosine": ngram_cosine.per_input(repeated),
        "compression ratio": compression.per_input(sets),
    }


# Statistics of the whole set


def of_texts(corpus: Tokens, sets: Ints) -> Sets:
    """Diversity across inputs of many sets, by n-grams."""
    counts, repeated = count(corpus, sets), repeats(corpus, sets)
    return {
        "EAD": ead.across_input(counts),
        "distinct-n": distinct_n.across_input(counts),
        "self-BLEU": self_bleu.across_input(repeated),
        "n-gram cosine": ngram_cosine.across_input(repeated),
    }


def of_vectors(e: Floats, passed: Mask) -> Sets:
    """Diversity across inputs of many sets [repetitions, slots, n, d], by embeddings."""
    effective = [sentence_bert.effective_across_input(e[at], passed[at]) for at in np.ndindex(e.shape[0], e.shape[1])]
    return {
        "Sentence-BERT": sentence_bert.across_input(e),
        "Vendi": vendi.across_input(e),
        "effective": (np.array([value for value, _ in effective]), np.array([without for _, without in effective])),
    }


def set_rows(
    case: str,
    texts: TextWorld | None,
    vectors: EmbeddingWorld | None,
    n: int,
    repetitions: int,
    naive: tuple[int, int] = (0, 0),
) -> list[Row]:
    """Take every statistic of a set of n prompts, averaged over slots, by the jackknife.

    The truth is the mean over as many other draws. The first ``naive`` draws of texts, and of vectors, are also
    bootstrapped.
    """
    columns: dict[str, list[Floats]] = {}
    others: dict[str, list[Floats]] = {}
    truths: dict[str, list[Floats]] = {}
    shares: list[Floats] = []
    rng, elsewhere, again = (generator(f"sets {case}", n, number) for number in range(3))
    done = 0
    for size in batches(repetitions, max(1, 2_000 // n)):
        found, corpus, e, passed = _drawn_sets(rng, texts, vectors, n, size)
        shares += [] if passed is None else list(passed.mean(axis=2))
        for metric, (value, without) in found.items():
            columns.setdefault(metric, []).extend(pseudo_columns(value, without, size, metric in _BY_SLOT))
        for draw in range(size):
            if corpus is not None and done + draw < naive[0]:
                for metric, ends in _naive_texts(again, corpus, n, draw).items():
                    others.setdefault(metric, []).append(ends)
            if e is not None and done + draw < naive[1]:
                others.setdefault("Sentence-BERT", []).append(_naive_vectors(again, e[draw]))
        done += size
        for metric, (value, _) in _drawn_sets(elsewhere, texts, vectors, n, size)[0].items():
            truths.setdefault(metric, []).append(value.ravel())
    rows = []
    for metric, values in columns.items():
        truth = float(np.concatenate(truths[metric]).mean())
        made = _set_row(metric, case, n, values, truth, shares if metric == "effective" else None)
        if metric in others:
            made = made._replace(
                other=f"naive bootstrap, {len(others[metric])} draws", other_seen=covers(others[metric], truth)[0]
            )
        rows.append(made)
    return rows


def _set_row(
    metric: str, case: str, n: int, values: Iterable[Floats], truth: float, shares: Sequence[Floats] | None
) -> Row:
    """Cover the truth by what scoring prints for pseudo-values; the jackknife alone stands beside what is guarded."""
    found = estimated(f"{IDS[metric]}_across_input", "set", values, shares)
    methods = "/".join(sorted({estimate.method for estimate in found}))
    seen = covers(((estimate.low, estimate.high) for estimate in found), truth)
    made = Row(f"{metric} across inputs", case, str(n), methods, *seen, len(found))
    if shares is None:
        return made
    alone = covers((estimate.intervals["jackknife_t"] for estimate in found), truth)[0]
    return made._replace(other="jackknife alone", other_seen=alone)


def pseudo_columns(value: Floats, without: Floats, size: int, by_slot: bool) -> list[Floats]:
    """Pseudo-values of every repetition, averaged over its slots as scoring does."""
    pairs = zip(value.reshape(size, SLOTS), without.reshape(size, -1), strict=True)
    return [over_slots(one, left_out.reshape(SLOTS, -1) if by_slot else left_out) for one, left_out in pairs]


_BY_SLOT = ("Sentence-BERT", "Vendi", "effective")
"""Those whose texts are ordered by slot, then prompt."""


def _drawn_sets(
    rng: np.random.Generator, texts: TextWorld | None, vectors: EmbeddingWorld | None, n: int, size: int
) -> tuple[Sets, Tokens | None, Floats | None, Mask | None]:
    """Statistics of ``size`` sets of n prompts, texts, vectors [size, n, slots, d], and which of these are valid."""
    found: dict[str, tuple[Floats, Floats]] = {}
    corpus, e, passed = None, None, None
    if texts is not None:
        corpus, _ = texts.draw(rng, size * n, SLOTS)
        found |= of_texts(corpus, _slots(size, n))
    if vectors is not None:
        e = vectors.draw(rng, size * n, SLOTS).reshape(size, n, SLOTS, -1)
        passed = valid(rng, size * n, SLOTS, 0.7).reshape(size, n, SLOTS)
        found |= of_vectors(e.swapaxes(1, 2), passed.swapaxes(1, 2))
    return found, corpus, e, passed


def _slots(size: int, n: int) -> Ints:
    """Set of every text [size · n · slots]: one a repetition and slot."""
    return (np.arange(size)[:, None, None] * SLOTS + np.arange(SLOTS) + np.zeros((1, n, 1), np.int64)).ravel()


def _naive_texts(rng: np.random.Generator, corpus: Tokens, n: int, draw: int) -> dict[str, Floats]:
    """Percentile intervals of the statistics of resampled prompts of one set."""
    prompts = rng.integers(0, n, (RESAMPLES_OF_SETS, n, 1))
    again = resampled(corpus, ((draw * n + prompts) * SLOTS + np.arange(SLOTS)).ravel())
    counts = count(again, _slots(RESAMPLES_OF_SETS, n))
    return {
        metric: np.quantile(value.reshape(-1, SLOTS).mean(axis=1), [0.025, 0.975])
        for metric, value in (("EAD", ead.per_input(counts)), ("distinct-n", distinct_n.per_input(counts)))
    }


def _naive_vectors(rng: np.random.Generator, e: Floats) -> Floats:
    """Percentile interval of the mean distance of resampled prompts [n, slots, d]."""
    again = e[rng.integers(0, len(e), (RESAMPLES_OF_SETS, len(e)))]
    return np.quantile(sentence_bert.per_input(again.swapaxes(1, 2)).mean(axis=1), [0.025, 0.975])


def set_difference_rows(n: int, repetitions: int) -> list[Row]:
    """Compare the EAD and self-BLEU across inputs of two models, on the same topics."""
    rng, elsewhere = generator("difference of sets", n, 0), generator("difference of sets", n, 1)
    worlds = TextWorld(), TextWorld(15, 30)

    def drawn(rng: np.random.Generator, size: int) -> list[Sets]:
        first, topic = worlds[0].draw(rng, size * n, SLOTS)
        second, _ = worlds[1].draw(rng, size * n, SLOTS, topic)
        return [of_texts(corpus, _slots(size, n)) for corpus in (first, second)]

    differences: dict[str, list[Difference]] = {"EAD": [], "self-BLEU": []}
    truths: dict[str, list[Floats]] = {metric: [] for metric in differences}
    for size in batches(repetitions, max(1, 1_000 // n)):
        sides = drawn(rng, size)
        for metric, found in differences.items():
            one, other = (pseudo_columns(*side[metric], size, by_slot=False) for side in sides)
            found += map(paired_t, one, other)
    for size in batches(repetitions, max(1, 1_000 // n)):
        first, second = drawn(elsewhere, size)
        for metric, found in truths.items():
            found.append(first[metric][0] - second[metric][0])
    rows = []
    for metric, found in differences.items():
        truth = float(np.concatenate(truths[metric]).mean())
        seen = covers((difference.interval for difference in found), truth)
        name = f"difference of {metric} across inputs"
        rows.append(Row(name, "20–40 words against 15–30", str(n), "paired jackknife", *seen, repetitions))
    return rows


# The plane


def score_row(case: str, x: Floats, y: Floats, n: int, repetitions: int) -> Row:
    """Take the score of a point or a sweep, [prompts, temperatures] each."""
    rng = generator(f"score {case}", n)
    truth = float(score(np.stack([x.mean(axis=0), y.mean(axis=0) / REFERENCE_DIVERSITY], axis=-1)))
    intervals, others = [], []
    for _ in range(repetitions):
        rows = rng.integers(0, len(x), n)
        interval = jackknife_interval(*score_leave_one_out(x[rows], y[rows], REFERENCE_DIVERSITY))
        intervals.append(interval)
        if x.shape[1] == 1:
            height = min(float(y[rows].mean()) / REFERENCE_DIVERSITY, 1.0)
            others.append(hull(interval, Interval(*(float(np.sqrt(end * height)) for end in plus4_t(x[rows, 0])))))
    found = Row("score on the plane", case, str(n), "jackknife", *covers(intervals, truth), repetitions)
    if not others:
        return found
    return found._replace(other="hull with √(plus-4 t of x · y)", other_seen=covers(others, truth)[0])


def ellipse_row(
    case: str, x: Floats, y: Floats, n: int, repetitions: int, m: int | None = None, *, mended: bool = False
) -> Row:
    """Take the ellipse about a point; with ``m`` given, y is of other prompts than x."""
    rng = generator(f"ellipse {case}", n, m or 0)
    truth, found, others = (float(x.mean()), float(y.mean())), [], []
    for _ in range(repetitions):
        rows = rng.integers(0, len(x), n)
        across = rows if m is None else rng.integers(0, len(y), m)
        found.append(ellipse(x[rows], y[across], paired=m is None))
        if mended:
            others.append(plus4_ellipse(x[rows], y[rows]))
    size = str(n) if m is None else f"{n}, {m}"
    made = _ellipses("point on the plane", case, size, found, truth)
    if not mended:
        return made
    other = "Hotelling's T² with plus-4 in x"
    return made._replace(other=other, other_seen=_ellipses("", "", "", others, truth).seen)


def plus4_ellipse(x: Floats, y: Floats) -> Ellipse | None:
    """Ellipse with four pseudo-prompts, of x = 0, 0, 1, 1 and the mean y, and the F quantile of as many prompts."""
    n = x.size + 4
    region = ellipse(np.append(x, [0.0, 0.0, 1.0, 1.0]), np.append(y, np.full(4, y.mean())))
    assert region is not None
    longer = np.sqrt(2 * (n - 1) / (n - 2) * stats.f.ppf(0.95, 2, n - 2) / stats.chi2.ppf(0.95, 2))
    return region._replace(semi_major=longer * region.semi_major, semi_minor=longer * region.semi_minor)


def ellipse_of_tasks_row(case: str, tasks: Sequence[Floats], sizes: Sequence[int], repetitions: int) -> Row:
    """Take the ellipse about the mean over tasks [prompts, (x, y)] that weigh alike."""
    rng = generator(f"ellipse {case}", *sizes)
    truth = np.mean([task.mean(axis=0) for task in tasks], axis=0)
    found = []
    for _ in range(repetitions):
        drawn = [task[rng.integers(0, len(task), n)] for task, n in zip(tasks, sizes, strict=True)]
        rows = macro_average(drawn)
        found.append(ellipse(rows[:, 0], rows[:, 1]))
    return _ellipses("point on the plane", case, " + ".join(map(str, sizes)), found, (float(truth[0]), float(truth[1])))


def _ellipses(quantity: str, case: str, n: str, found: Sequence[Ellipse | None], truth: tuple[float, float]) -> Row:
    regions = [region for region in found if region is not None]
    seen = float(np.mean([inside(region, truth) for region in regions]))
    return Row(quantity, case, n, "ellipse", seen, float(np.mean([2 * r.semi_major for r in regions])), len(regions))


def inside(region: Ellipse, truth: tuple[float, float]) -> bool:
    """Whether a point lies in an ellipse."""
    gap = np.array(truth) - (region.x, region.y)
    along, across = np.array([[np.cos(a), np.sin(a)] for a in (region.angle, region.angle + np.pi / 2)]) @ gap
    if region.semi_minor == 0.0:
        return bool(abs(across) < 1e-12 and abs(along) <= region.semi_major)
    return bool((along / region.semi_major) ** 2 + (across / region.semi_minor) ** 2 <= 1.0)


# The table's parts


def rate_rows(repetitions: int, sizes: Sequence[int] = SIZES, data: Path | None = None) -> Iterator[Row]:
    """Take win rates near 0, 1 and one half, of every kind of preference."""
    worlds = {
        "graded .02": graded(0.02, generator("graded", 2)),
        "graded .3": graded(0.3, generator("graded", 30)),
        "graded .5": graded(0.5, generator("graded", 50)),
        "ternary 90/6/4": ternary(0.90, 0.06),
        "ternary 35/20/45": ternary(0.35, 0.20),
        "binary .02": binary(0.02),
        "binary .03": binary(0.03),
    }
    if data is not None:
        models = judged(data)
        for name in ("oasst-sft-pythia-12b", "FuseChat-Llama-3.2-1B-Instruct", "FuseChat-Llama-3.2-3B-Instruct"):
            rates = models[name].preferences
            worlds[short(f"real, {name} {rates.mean():.3f}")] = rates
    for case, population in worlds.items():
        for n in sizes:
            yield win_rate_row(case, population, n, repetitions)
    # Where the printed method changes, by n and by the rate of the draw.
    for case, population in (("binary .05", binary(0.05)), ("binary .95", binary(0.95)), ("binary .5", binary(0.5))):
        yield win_rate_row(case, population, 200, repetitions)
    if data is not None:
        yield win_rate_row("real, ultralm-13b .051", models["ultralm-13b"].preferences, 200, repetitions)
    for n in sizes:
        yield clustered_row(n, repetitions)


def difference_rows(repetitions: int, sizes: Sequence[int] = SIZES, data: Path | None = None) -> Iterator[Row]:
    """Compare two models, two roles and several seeds."""
    pairs = {"hardness in common, .5 and .56": hardness_pairs(generator("pairs"))}
    sides = {"graded .4, smooth .5": (graded(0.4, generator("gap")), generator("gap").beta(3, 3, POPULATION))}
    if data is not None:
        models = judged(data)
        first, second = (models[f"FuseChat-Llama-3.2-{size}-Instruct"].preferences for size in ("3B", "1B"))
        pairs["real, FuseChat 3B and 1B"] = first, second
        sides["real, FuseChat 3B and claude"] = first, models["claude"].preferences
    for n in sizes:
        for case, (first, second) in pairs.items():
            yield paired_row(case, first, second, n, repetitions)
        for case, (first, second) in sides.items():
            yield gap_row(case, first, second, n, n, repetitions)
    yield gap_row("graded .4, smooth .5", *sides["graded .4, smooth .5"], 200, 40, repetitions)
    yield gap_row("graded .4, smooth .5", *sides["graded .4, smooth .5"], 200, 200, repetitions)


def seed_rows(repetitions: int) -> Iterator[Row]:
    """Take means over crossed seeds and prompts."""
    for seeds in (3, 5, 10):
        yield seeds_row("seeds add little", seeds, 0.02, 1.0, repetitions)
        yield seeds_row("as much error by seeds as by prompts", seeds, float(np.sqrt(seeds / 200)), 1.0, repetitions)
        yield seeds_row("seeds carry the error", seeds, 0.5, 1.0, repetitions)


def mean_rows(repetitions: int, sizes: Sequence[int] = SIZES, prompts: int = POPULATION // 2) -> Iterator[Row]:
    """Take every diversity per input."""
    found = per_input(TextWorld(), EmbeddingWorld(), prompts)
    for name, population in found.items():
        for n in sizes:
            case = "20–40 words" if name in OF_TEXTS else "topics"
            yield mean_row(f"{name} per input", per_input_id(name), case, population, n, repetitions)
    for n in sizes:
        spread = shares(generator("shares"), 0.7, K, 0.2)
        yield mean_row("valid share", "valid_share_text", f".7 of {K} outputs", spread, n, repetitions)


def across_rows(n: int, repetitions: int, naive: tuple[int, int] = (0, 0)) -> Iterator[Row]:
    """Take every diversity across inputs, and the difference of two models'."""
    yield from set_rows("20–40 words; topics", TextWorld(), EmbeddingWorld(), n, repetitions, naive=naive)
    yield from set_rows("1–12 words", TextWorld(1, 12), None, n, repetitions)
    yield from set_difference_rows(n, repetitions)


def plane_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take scores and ellipses away from the plane's edges."""
    x, y = sweep(generator("plane"))
    middle = graded(0.3, generator("plane", 30))
    for n in sizes:
        yield score_row("one temperature", x[:, 2:3], y[:, 2:3], n, repetitions)
        yield score_row("four temperatures", x, y, n, repetitions)
        yield ellipse_row("same prompts, x .4", x[:, 2], y[:, 2], n, repetitions)
        yield ellipse_row("same prompts, graded x .3", middle, y[:, 2], n, repetitions)
        yield ellipse_row("different prompts", x[:, 2], y[:, 2], n, repetitions, m=n + n // 2)
    task, other = np.column_stack([x[:, 2], y[:, 2]]), np.column_stack([x[:, 0], y[:, 0]])
    for sizes_of_tasks in ((50, 50), (60, 200), (500, 500)):
        yield ellipse_of_tasks_row("mean of two tasks", [task, other], sizes_of_tasks, repetitions)


def rare_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take shares near 0 and 1."""
    for mean, spread in ((0.02, 1.0), (0.02, 0.2), (0.98, 0.2), (0.05, 0.2)):
        population = shares(generator("shares", int(100 * mean)), mean, K, spread)
        case = short(f"{mean:g} of {K} outputs, correlated {spread:g}")
        for n in sizes:
            yield mean_row("valid share", "valid_share_text", case, population, n, repetitions)


def class_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take classes, of which most prompts have one and few have many."""
    for case, world in (("topics", EmbeddingWorld()), (ONE_ANSWER, EmbeddingWorld(same=0.9))):
        e = world.draw(generator("classes"), POPULATION // 2, K)
        population = distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(e)))
        for n in sizes:
            yield mean_row("distinct classes per input", "distinct_k_per_input", case, population, n, repetitions)


def same_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take those diversities to which equal outputs give the end of a range, of a model that has mostly one answer."""
    population = per_input(TextWorld(same=0.9), EmbeddingWorld(same=0.9), POPULATION // 2)
    for n in sizes:
        for name in ("Sentence-BERT", "Vendi", "conditional", "self-BLEU", "n-gram cosine"):
            yield mean_row(f"{name} per input", per_input_id(name), ONE_ANSWER, population[name], n, repetitions)


def alike_rows(repetitions: int, sizes: Sequence[int] = SIZES, data: Path | None = None) -> Iterator[Row]:
    """Take the other diversities of that model, and those of real sets some of which are alike."""
    for name, population in (real_per_input(data) if data is not None else {}).items():
        for n in sizes:
            yield mean_row(f"{name} per input", per_input_id(name), "real, decTest", population, n, repetitions)
    population = per_input(TextWorld(same=0.9), EmbeddingWorld(same=0.9), POPULATION // 2)
    for n in sizes:
        for name in ("EAD", "distinct-n", "compression ratio"):
            yield mean_row(f"{name} per input", per_input_id(name), ONE_ANSWER, population[name], n, repetitions)
        yield from set_rows(ONE_ANSWER, TextWorld(same=0.9), None, n, repetitions // 2)


def gated_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take effective diversity where few outputs are valid, or few are not."""
    for share in (0.05, 0.2, 0.95):
        rng = generator("gated", int(100 * share))
        e = EmbeddingWorld().draw(rng, POPULATION // 2, K)
        population = sentence_bert.effective(e, valid(rng, POPULATION // 2, K, share))
        for n in sizes:
            case = short(f"valid share {share:g}")
            yield mean_row("effective per input", per_input_id("effective"), case, population, n, repetitions)
    for share in (0.1, 0.2, 0.95):
        for n in sizes:
            yield effective_row(share, n, repetitions // 2)


def few_wins_rows(repetitions: int, sizes: Sequence[int] = SIZES, data: Path | None = None) -> Iterator[Row]:
    """Compare models that hardly ever win, or hardly ever differ."""
    pairs = {"binary .03 and half of these": (binary(0.03), binary(0.015))}
    if data is not None:
        models = judged(data)
        pairs["real, text_davinci_003 and alpaca-farm-ppo-sim-gpt4-20k"] = (
            models["text_davinci_003"].preferences,
            models["alpaca-farm-ppo-sim-gpt4-20k"].preferences,
        )
    sides = {
        "binary .03 and .001": (binary(0.03), binary(0.001)),
        "graded .02 and .01": (graded(0.02, generator("gap", 2)), graded(0.01, generator("gap", 1))),
    }
    for n in sizes:
        for case, (first, second) in pairs.items():
            yield paired_row(case, first, second, n, repetitions, rare=True)
        for case, (first, second) in sides.items():
            yield gap_row(case, first, second, n, n, repetitions)
        both = pairs["binary .03 and half of these"], (binary(0.02), binary(0.01))
        yield gap_difference_row("binary .03 and .02, and half of these", *both, n, repetitions)


def edge_rows(repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Take scores and ellipses near the plane's edges."""
    y = sweep(generator("plane"))[1][:, 2]
    for rate in (0.02, 0.05, 0.1, 0.95):
        x, case = graded(rate, generator("plane", int(100 * rate))), short(f"graded x {rate:g}")
        for n in sizes:
            yield score_row(case, x[:, None], y[:, None], n, repetitions)
            yield ellipse_row(case, x, y, n, repetitions, mended=True)


def effective_row(share: float, n: int, repetitions: int) -> Row:
    """Take effective diversity across inputs where few outputs are valid, or few are not."""
    rng, world = generator("effective", n, int(100 * share)), EmbeddingWorld()
    columns, shares, truths = [], [], []
    for size in batches(2 * repetitions, max(1, 2_000 // n)):
        e = world.draw(rng, size * n, SLOTS).reshape(size, n, SLOTS, -1).swapaxes(1, 2)
        passed = valid(rng, size * n, SLOTS, share).reshape(size, n, SLOTS)
        value, without = of_vectors(e, passed.swapaxes(1, 2))["effective"]
        if len(columns) >= repetitions:
            truths.append(value)
            continue
        columns += pseudo_columns(value, without, size, by_slot=True)
        shares += list(passed.mean(axis=2))
    truth = float(np.concatenate(truths).mean())
    return _set_row("effective", short(f"valid share {share:g}"), n, columns, truth, shares)


def slack(expected: float, repetitions: int) -> float:
    """Three Monte-Carlo standard errors of a coverage."""
    return 3 * error(expected, repetitions)


def check(rows: Iterable[Row], conservative: Collection[str] = ()) -> list[Row]:
    """Assert that every row covers within ``slack`` and all do on average; those quantities may do so too often."""
    found = list(rows)
    for one in found:
        assert one.seen >= LOWEST - slack(LOWEST, one.repetitions), one
        assert one.quantity in conservative or one.seen <= HIGHEST + slack(HIGHEST, one.repetitions), one
    assert np.mean([one.seen for one in found]) >= 0.94, [(one.quantity, one.case, one.n, one.seen) for one in found]
    return found


def short(label: str) -> str:
    """Write .02 for 0.02."""
    return label.replace(" 0.", " .").removeprefix("0")


def shared_data() -> Path | None:
    """Find the shared data, if there is any."""
    shared = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    return shared / "data" if (shared / "data").is_dir() else None


def shown(found: Row) -> str:
    """One line of the table; conservative and failing rows say so."""
    mark = " **too low**" if found.seen < LOWEST - found.error else " conservative" if found.seen > HIGHEST else ""
    cells = [
        found.quantity,
        found.case,
        found.n,
        found.method,
        f"{100 * found.seen:.1f} ± {100 * found.error:.1f}{mark}",
    ]
    other = f"{100 * found.other_seen:.1f}" if found.other else ""
    return row(*cells, f"{found.width:.3g}", found.repetitions, found.other, other)


def printed(rows: Iterable[Row]) -> None:
    """Print a table."""
    print(header("quantity", "case", "n", "interval", "coverage, %", "mean width", "repetitions", "beside it", "%"))
    for found in rows:
        print(shown(found), flush=True)


def main(repetitions: int) -> None:
    """Print all tables."""
    data = shared_data()
    print(INTRODUCTION)
    for title, rows in (
        ("Win rates", rate_rows(repetitions, data=data)),
        ("Differences of win rates", difference_rows(repetitions, data=data)),
        ("Models that win hardly ever", few_wins_rows(repetitions // 2, data=data)),
        ("Training seeds × prompts", seed_rows(repetitions)),
        ("Means of diversity per input", mean_rows(repetitions)),
        ("Shares near 0 and 1", rare_rows(repetitions // 2)),
        ("Distinct classes", class_rows(repetitions // 2)),
        ("Models that mostly give one answer", same_rows(repetitions // 2)),
        ("Gated diversity where few outputs are valid, or nearly all", gated_rows(repetitions // 2)),
        ("Diversity across inputs, n = 50", across_rows(50, repetitions, naive=(40, 400))),
        ("Diversity across inputs, n = 100", across_rows(100, repetitions // 2, naive=(20, 400))),
        ("Diversity across inputs, n = 500", across_rows(500, repetitions // 4, naive=(10, 100))),
        ("The plane", plane_rows(repetitions)),
    ):
        print(f"\n### {title}\n")
        printed(rows)
    print(LIMITS)
    for title, rows in (
        ("Edges of the plane", edge_rows(repetitions // 2)),
        ("Models that mostly give one answer, and real sets", alike_rows(repetitions // 2, data=data)),
    ):
        print(f"\n### {title}\n")
        printed(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    main(parser.parse_args().repetitions)
