"""Simulated coverage of the intervals, with fixed seeds.

Populations are finite and drawn from with replacement, so the truth is exact. Every bound allows for three
Monte-Carlo standard errors of the coverage at hand: a method that must cover has to do so with that to spare, and so
has one that must fail. The numbers seen stand in each test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.statistics.bootstrap import RESAMPLES, bca, percentile, weights
from benchmark.statistics.intervals import Interval, paired_t, plus4_t, t_interval, welch
from benchmark.statistics.jackknife import jackknife_interval, macro_average
from benchmark.statistics.plane import ellipse, score, score_leave_one_out
from benchmark.statistics.ranks import rank_sets

pytestmark = pytest.mark.slow
Array = NDArray[np.float64]


def coverage(intervals: Sequence[Sequence[float] | Interval | None], truth: float) -> float:
    low, high = np.array(intervals).T
    return float(((low <= truth) & (truth <= high)).mean())


def slack(expected: float, repetitions: int) -> float:
    """Three Monte-Carlo standard errors of a coverage."""
    return 3 * math.sqrt(expected * (1 - expected) / repetitions)


def graded(rng: np.random.Generator, rate: float = 0.5) -> Array:
    """Per-prompt preferences as a log-prob judge gives them: piled up near 0 and 1, few between."""
    return rng.beta(0.5 * rate, 0.5 * (1 - rate), 20_000)


@pytest.mark.parametrize("n", [50, 100])
def test_plus4_covers_where_few_prompts_are_won(n: int) -> None:
    # Seen: .983 and .970 at n = 50 and 100; plain t .773 and .803.
    rng, repetitions = np.random.default_rng(n), 4000
    wins = (rng.random((repetitions, n)) < 0.03).astype(float)
    seen = coverage([plus4_t(row) for row in wins], 0.03)
    assert 0.93 + slack(seen, repetitions) <= seen <= 0.995
    assert coverage([t_interval(row) for row in wins], 0.03) + slack(0.9, repetitions) < 0.9


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5])
def test_plus4_covers_on_graded_preferences(rate: float) -> None:
    rng, repetitions = np.random.default_rng(1), 2000
    population = graded(rng, rate)
    seen = coverage([plus4_t(rng.choice(population, 50)) for _ in range(repetitions)], population.mean())
    # Seen: .984, .964 and .964 at a rate of .02, .3 and .5.
    assert 0.93 + slack(seen, repetitions) <= seen <= 0.995


@pytest.mark.parametrize("n", [50, 500])
def test_t_covers_on_graded_values(n: int) -> None:
    rng, repetitions = np.random.default_rng(2), 2000
    population = graded(rng)
    seen = coverage([t_interval(rng.choice(population, n)) for _ in range(repetitions)], population.mean())
    # Seen: .945 and .951 at n = 50 and 500.
    assert abs(seen - 0.95) <= slack(0.95, repetitions)


@pytest.mark.parametrize(("n", "m"), [(50, 50), (200, 40)])
def test_welch_covers_for_unequal_sizes_and_spreads(n: int, m: int) -> None:
    rng, repetitions = np.random.default_rng(3), 2000
    x, y = graded(rng, 0.4), rng.beta(3, 3, 20_000)
    intervals = [welch(rng.choice(x, n), rng.choice(y, m)).interval for _ in range(repetitions)]
    seen = coverage(intervals, x.mean() - y.mean())
    # Seen: .953 and .948.
    assert abs(seen - 0.95) <= slack(0.95, repetitions)


def test_paired_t_covers_where_the_unpaired_interval_is_too_wide() -> None:
    rng, repetitions = np.random.default_rng(4), 2000
    hardness = rng.normal(size=20_000)
    x, y = (1 / (1 + np.exp(-(hardness + shift + rng.normal(0, 0.7, 20_000)))) for shift in (0.0, 0.3))
    drawn = [rng.choice(20_000, 60) for _ in range(repetitions)]
    truth = x.mean() - y.mean()
    paired = coverage([paired_t(x[rows], y[rows]).interval for rows in drawn], truth)
    unpaired = coverage([welch(x[rows], y[rows]).interval for rows in drawn], truth)
    # Seen: .953, unpaired .9995.
    assert abs(paired - 0.95) <= slack(0.95, repetitions)
    assert unpaired > 0.98


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_bca_covers_at_two_hundred_prompts(rate: float) -> None:
    rng, repetitions = np.random.default_rng(5), 2000
    population = graded(rng, rate)
    samples = rng.choice(population, (200, repetitions))
    drawn = weights(200, RESAMPLES, 0)
    # One matrix for all repetitions: the resamples' own error is common to them, and about .002 of coverage.
    intervals = np.concatenate([bca(part, drawn) for part in np.split(samples, 8, axis=1)])
    seen = coverage(intervals, population.mean())
    # Seen: .954 and .959.
    assert abs(seen - 0.95) <= slack(0.95, repetitions) + 0.005


def test_bootstrapping_samples_as_if_they_were_prompts_fails_and_whole_clusters_do_not() -> None:
    rng, repetitions, n, k = np.random.default_rng(6), 600, 60, 8
    by_prompt, by_sample = weights(n, 1000, 0), weights(n * k, 1000, 0)
    ids = np.repeat(np.arange(n), k)
    chance = 1 / (1 + np.exp(-1.3 * rng.normal(size=20_000)))
    whole, split = [], []
    for _ in range(repetitions):
        wins = (rng.random((n, k)) < rng.choice(chance, n)[:, None]).astype(float).ravel()
        whole.append(percentile(wins, by_prompt, clusters=ids))
        split.append(percentile(wins, by_sample))
    seen = coverage(whole, chance.mean())
    # Seen: .947 whole, .765 split.
    assert abs(seen - 0.945) <= slack(0.945, repetitions)
    assert coverage(split, chance.mean()) < 0.85


def topics(rng: np.random.Generator) -> Array:
    """Unit vectors as an encoder gives them: a common direction, 30 topics, and noise."""
    centres = rng.normal(size=(30, 48))
    vectors = 0.5 + centres[rng.integers(0, 30, 5000)] + rng.normal(size=(5000, 48))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("n", [50, 100])
def test_the_jackknife_covers_mean_pair_distance_and_the_naive_bootstrap_does_not(n: int) -> None:
    rng, repetitions = np.random.default_rng(7), 1500
    population = topics(rng)
    truth = 1 - float((population.mean(axis=0) ** 2).sum())  # of two independent draws
    drawn = weights(n, 1000, 0).astype(float)
    jackknifed, naive = [], []
    for _ in range(repetitions):
        e = rng.choice(population, n)
        total = e.sum(axis=0)
        pairs = float(total @ total) - n
        similarity = e @ total - 1  # of each text to all others
        full = 1 - pairs / (n * (n - 1))
        jackknifed.append(jackknife_interval(full, 1 - (pairs - 2 * similarity) / ((n - 1) * (n - 2))))
        resampled = 1 - (((drawn @ e) ** 2).sum(axis=1) - n) / (n * (n - 1))
        naive.append(np.quantile(resampled, [0.025, 0.975]))
    good, bad = coverage(jackknifed, truth), coverage(naive, truth)
    # Seen: jackknife .959 and .955, naive .737 and .831, at n = 50 and 100.
    assert 0.93 + slack(good, repetitions) <= good <= 0.98
    assert bad + slack(0.9, repetitions) < 0.9


def sweep(rng: np.random.Generator) -> tuple[Array, Array]:
    """A population of prompts: preference and diversity at four temperatures, both moved by the prompt's hardness."""
    hardness = rng.normal(size=(20_000, 1))
    x = 1 / (1 + np.exp(hardness + np.array([0.2, 0.4, 0.8, 1.6]) + rng.normal(0, 0.5, (20_000, 4))))
    y = np.clip(np.array([0.1, 0.25, 0.4, 0.55]) + 0.05 * hardness + rng.normal(0, 0.05, (20_000, 4)), 0, 1)
    return x, y


@pytest.mark.parametrize("columns", [slice(2, 3), slice(0, 4)])
def test_the_jackknife_covers_the_score_of_a_point_and_of_a_sweep(columns: slice) -> None:
    rng, repetitions = np.random.default_rng(8), 1500
    x, y = (values[:, columns] for values in sweep(rng))
    truth = float(score(np.stack([x.mean(axis=0), y.mean(axis=0) / 0.6], axis=-1)))
    intervals = []
    for _ in range(repetitions):
        rows = rng.choice(20_000, 60)
        intervals.append(jackknife_interval(*score_leave_one_out(x[rows], y[rows], 0.6)))
    seen = coverage(intervals, truth)
    # Seen: .959 for a point, .954 for a sweep of four.
    assert abs(seen - 0.95) <= slack(0.95, repetitions)


def inside(x: Array, y: Array, truth: tuple[float, float], paired: bool = True) -> bool:
    region = ellipse(x, y, paired=paired)
    assert region is not None
    gap = np.array(truth) - (region.x, region.y)
    turn = np.array([math.cos(region.angle), math.sin(region.angle)])
    along, across = gap @ turn, gap @ (-turn[1], turn[0])
    return bool((along / region.semi_major) ** 2 + (across / region.semi_minor) ** 2 <= 1)


@pytest.mark.parametrize("n", [50, 200])
def test_the_ellipse_covers_the_point(n: int) -> None:
    rng, repetitions = np.random.default_rng(9), 2000
    x, y = (values[:, 2] for values in sweep(rng))
    truth = float(x.mean()), float(y.mean())
    drawn = [rng.choice(20_000, n) for _ in range(repetitions)]
    seen = float(np.mean([inside(x[rows], y[rows], truth) for rows in drawn]))
    # The chi-squared quantile ignores that the covariance is estimated: .938 is the normal theory at n = 50.
    # Seen: .942 and .944 at n = 50 and 200.
    assert 0.938 - slack(0.938, repetitions) <= seen <= 0.95 + slack(0.95, repetitions)


def test_the_unpaired_ellipse_covers_where_the_prompts_differ() -> None:
    rng, repetitions = np.random.default_rng(10), 2000
    x, y = (values[:, 2] for values in sweep(rng))
    truth = float(x.mean()), float(y.mean())
    seen = np.mean([inside(rng.choice(x, 100), rng.choice(y, 150), truth, paired=False) for _ in range(repetitions)])
    # Seen: .944.
    assert abs(float(seen) - 0.95) <= slack(0.95, repetitions)


def test_a_mean_over_tasks_of_different_sizes_covers() -> None:
    rng, repetitions = np.random.default_rng(11), 2000
    tasks = [graded(rng, 0.3), rng.beta(3, 3, 20_000)]
    intervals = [
        t_interval(macro_average([rng.choice(task, (n, 1)) for task, n in zip(tasks, (60, 200), strict=True)])[:, 0])
        for _ in range(repetitions)
    ]
    seen = coverage(intervals, float(np.mean([task.mean() for task in tasks])))
    # Seen: .942.
    assert abs(seen - 0.95) <= slack(0.95, repetitions)


def test_rank_sets_hold_all_tied_models_at_once() -> None:
    rng, repetitions, models = np.random.default_rng(12), 600, 20
    whole = 0
    for _ in range(repetitions):
        values = rng.normal(size=(100, 1)) + rng.normal(0, 1.2, (100, models))
        whole += all((s.low, s.high) == (1, models) for s in rank_sets(values))
    # Seen: .970.
    assert whole / repetitions + slack(0.95, repetitions) >= 0.95
