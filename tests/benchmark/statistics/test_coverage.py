"""Simulated coverage of the intervals, with fixed seeds; those of a whole set are in test_set_coverage.py.

The rows are those of tests/benchmarks/coverage.md, which has more repetitions of each. A row may miss the aim by three
Monte-Carlo standard errors, a family of rows together may not. The numbers seen stand in each test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.coverage import (
    check,
    class_rows,
    covers,
    difference_rows,
    edge_rows,
    few_wins_rows,
    mean_rows,
    plane_rows,
    rare_rows,
    rate_rows,
    same_rows,
    seed_rows,
    slack,
)
from coverage_worlds import POPULATION, expit, graded

from benchmark.statistics.bootstrap import RESAMPLES, bca, percentile, weights
from benchmark.statistics.intervals import t_interval
from benchmark.statistics.jackknife import macro_average
from benchmark.statistics.ranks import rank_sets

pytestmark = pytest.mark.slow

CONSERVATIVE = (
    "valid share",
    "distinct classes per input",
    "Sentence-BERT per input",
    "Vendi per input",
    "conditional per input",
    "self-BLEU per input",
    "n-gram cosine per input",
    "difference of win rates",
    "ID − OOD gap",
    "difference of ID − OOD gaps",
)
"""What covers more than it says where few prompts tell: the price of covering at all."""


def test_win_rates_cover_by_whatever_method_the_rule_prints() -> None:
    # Seen: .930 (graded .5, n = 500) to .985 (binary .02, n = 50), mean .962.
    found = check(rate_rows(600))
    assert {method for row in found for method in row.method.split("/")} == {"bca", "plus4_t"}
    for row in found:
        # Seen: .657 to .792 for a percentile bootstrap where few of 50 prompts are won.
        if row.n == "50" and row.case in ("binary .02", "binary .03", "graded .02"):
            assert row.other_seen < 0.85, row
        # Seen: .750 to .762.
        if row.other == "samples as if prompts":
            assert row.other_seen < 0.82, row


def test_win_rates_of_real_verdicts_cover(shared_data: Path) -> None:
    real = [row for row in rate_rows(400, data=shared_data) if row.case.startswith("real")]
    # Seen: .945 to .985, mean .961.
    assert len(check(real)) == 10


def test_differences_and_gaps_cover() -> None:
    # Seen: .953 to .970, mean .959; unpaired .997 and above.
    for row in check(difference_rows(1000)):
        if row.other == "unpaired":
            assert row.seen < 0.98 < row.other_seen, row


def test_means_over_seeds_and_prompts_cover_and_prompts_alone_do_not() -> None:
    # Seen: .941 to .960, mean .950; prompts alone .427 to .611, and .838 to .850 where both weigh alike.
    for row in check(seed_rows(1000)):
        if "seeds carry" in row.case:
            assert row.other_seen < 0.7, row
        if "as much error" in row.case:
            assert row.other_seen < 0.9, row


def test_every_mean_of_diversity_per_input_covers() -> None:
    # Seen: .918 to .962, mean .944.
    assert len(check(mean_rows(500, sizes=(50, 500), prompts=5_000))) == 20


def test_scores_and_ellipses_cover() -> None:
    # Seen: .918 to .961, mean .944. An ellipse at n = 50 has .938 in normal theory: its covariance is estimated.
    check(plane_rows(1000))


def test_what_is_rare_in_few_prompts_is_covered_and_plain_methods_are_not_enough() -> None:
    # Seen: .948 to 1.000; unguarded .630 to .958.
    shares_near_the_ends = check(rare_rows(600, (50, 500)), CONSERVATIVE)
    assert max(row.other_seen for row in shares_near_the_ends if row.n == "50") < 0.93
    # Seen: .935 to 1.000; unguarded .738 to .945.
    classes = check(class_rows(400, (50, 500)), CONSERVATIVE)
    assert min(row.other_seen for row in classes) < 0.85
    # Seen: .983 to 1.000; unguarded .893 to .933.
    assert len(check(same_rows(300, (50,)), CONSERVATIVE)) == 5


def test_differences_and_gaps_of_models_that_hardly_ever_win_cover() -> None:
    # Seen: .949 to 1.000; unguarded .489 to .839 at n = 50.
    found = check(few_wins_rows(1000, (50, 200)), CONSERVATIVE)
    assert len(found) == 8
    assert all(row.other_seen < 0.9 for row in found if row.n.startswith("50"))


def test_differences_of_real_models_that_hardly_ever_win_cover(shared_data: Path) -> None:
    real = [row for row in few_wins_rows(1000, (50, 200), data=shared_data) if row.case.startswith("real")]
    # Seen: .999 and .980; unguarded .773 and .933.
    assert len(check(real, CONSERVATIVE)) == 2
    assert real[0].other_seen < 0.9


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a known limit; see tests/benchmarks/coverage.md")
def test_fifty_prompts_are_enough_at_the_edges_of_the_plane() -> None:
    # Seen: .697 to .951.
    check(edge_rows(1000, (50,)))


def test_bootstrapping_samples_as_if_they_were_prompts_fails_and_whole_clusters_do_not() -> None:
    rng, repetitions, n, k = np.random.default_rng(6), 600, 60, 8
    by_prompt, by_sample = weights(n, 1000, 0), weights(n * k, 1000, 0)
    ids = np.repeat(np.arange(n), k)
    chance = expit(1.3 * rng.normal(size=POPULATION))
    whole, split = [], []
    for _ in range(repetitions):
        wins = (rng.random((n, k)) < rng.choice(chance, n)[:, None]).astype(float).ravel()
        whole.append(percentile(wins, by_prompt, clusters=ids))
        split.append(percentile(wins, by_sample))
    seen = covers(whole, chance.mean())[0]
    # Seen: .947 whole, .765 split.
    assert abs(seen - 0.945) <= slack(0.945, repetitions)
    assert covers(split, chance.mean())[0] < 0.85


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_bca_covers_at_two_hundred_prompts(rate: float) -> None:
    rng, repetitions = np.random.default_rng(5), 2000
    population = graded(rate, rng)
    samples = rng.choice(population, (200, repetitions))
    drawn = weights(200, RESAMPLES, 0)
    # One matrix for all repetitions: the resamples' own error is common to them, and about .002 of coverage.
    intervals = np.concatenate([bca(part, drawn) for part in np.split(samples, 8, axis=1)])
    seen = covers(intervals, population.mean())[0]
    # Seen: .954 and .959.
    assert abs(seen - 0.95) <= slack(0.95, repetitions) + 0.005


def test_a_mean_over_tasks_of_different_sizes_covers() -> None:
    rng, repetitions = np.random.default_rng(11), 2000
    tasks = [graded(0.3, rng), rng.beta(3, 3, POPULATION)]
    intervals = [
        t_interval(macro_average([rng.choice(task, (n, 1)) for task, n in zip(tasks, (60, 200), strict=True)])[:, 0])
        for _ in range(repetitions)
    ]
    seen = covers(intervals, float(np.mean([task.mean() for task in tasks])))[0]
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
