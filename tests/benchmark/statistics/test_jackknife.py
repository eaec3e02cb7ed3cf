from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from benchmark.statistics import jackknife
from benchmark.statistics.bootstrap import weights
from benchmark.statistics.intervals import paired_t, t_interval
from benchmark.statistics.jackknife import jackknife_interval, macro_average, paired_difference, pseudo_values

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
columns = st.lists(st.floats(-10, 10).map(lambda value: round(value, 4)), min_size=2, max_size=25)


def without_each(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.delete(values, place).mean() for place in range(len(values))])


def mean_pair_distance(vectors: NDArray[np.float64]) -> float:
    n = len(vectors)
    return float(np.mean([1 - vectors[a] @ vectors[b] for a in range(n) for b in range(a)]))


def unit(rng: np.random.Generator, n: int, d: int = 5) -> NDArray[np.float64]:
    vectors = rng.normal(size=(n, d)) + 0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@EXACT
@given(columns)
def test_pseudo_values_of_a_mean_are_the_values(values: list[float]) -> None:
    array = np.array(values)
    np.testing.assert_allclose(pseudo_values(array.mean(), without_each(array)), array, atol=1e-10)


@EXACT
@given(columns)
def test_the_jackknife_interval_of_a_mean_is_its_t_interval(values: list[float]) -> None:
    array = np.array(values)
    np.testing.assert_allclose(
        jackknife_interval(array.mean(), without_each(array)), t_interval(array), rtol=1e-9, atol=1e-9
    )


@EXACT
@given(st.floats(-5, 5), columns)
def test_pseudo_values_average_to_the_statistic_and_differ_from_tukeys_by_a_constant(
    full: float, left_out: list[float]
) -> None:
    n, values = len(left_out), pseudo_values(full, left_out)
    assert values.mean() == pytest.approx(full, abs=1e-9)
    tukey = n * full - (n - 1) * np.array(left_out)
    assert np.ptp(tukey - values) < 1e-9
    # The constant is the jackknife's estimate of bias, (n - 1) (mean left out - full), with its sign changed.
    np.testing.assert_allclose(values - tukey, (n - 1) * (np.mean(left_out) - full), atol=1e-9)


@EXACT
@given(st.floats(-5, 5), columns)
def test_the_error_is_the_textbook_jackknife_error(full: float, left_out: list[float]) -> None:
    n = len(left_out)
    centred = np.array(left_out) - np.mean(left_out)
    error = math.sqrt((n - 1) / n * (centred**2).sum())
    interval = jackknife_interval(full, left_out)
    assert interval is not None
    margin = stats.t.ppf(0.975, n - 1) * error
    np.testing.assert_allclose(interval, (full - margin, full + margin), rtol=1e-8, atol=1e-8)


def test_the_set_statistic_of_mean_pair_distance_has_tukeys_own_pseudo_values() -> None:
    vectors = unit(np.random.default_rng(0), 8)
    full = mean_pair_distance(vectors)
    left_out = np.array([mean_pair_distance(np.delete(vectors, i, axis=0)) for i in range(8)])
    np.testing.assert_allclose(pseudo_values(full, left_out), 8 * full - 7 * left_out, atol=1e-12)


def test_the_paired_difference_is_the_jackknife_of_the_difference() -> None:
    rng = np.random.default_rng(1)
    full_a, full_b, a, b = 0.4, 0.3, rng.random(12), rng.random(12)
    result = paired_difference(full_a, a, full_b, b)
    assert result.estimate == pytest.approx(0.1)
    np.testing.assert_allclose(result.interval, jackknife_interval(full_a - full_b, a - b))
    assert result[:3] == paired_t(pseudo_values(full_a, a), pseudo_values(full_b, b))[:3]


def test_what_the_prompts_have_in_common_cancels_in_the_paired_difference() -> None:
    common = np.random.default_rng(2).random(30)
    result = paired_difference(0.5, common + 0.01, 0.49, common)
    assert result.estimate == pytest.approx(0.01)
    assert result.interval is not None
    assert result.interval.high - result.interval.low < 1e-9


def test_one_prompt_has_no_interval() -> None:
    np.testing.assert_array_equal(pseudo_values(0.3, [0.3]), [0.3])
    assert jackknife_interval(0.3, [0.3]) is None


def test_a_statistic_that_no_prompt_matters_to_has_zero_width() -> None:
    assert np.mean([0.1] * 3) != 0.1  # in floating point
    assert jackknife_interval(0.1, [0.1] * 3) == (0.1, 0.1)


def test_missing_values_are_refused() -> None:
    for full, left_out in ((math.nan, [1.0, 2.0]), (1.0, [1.0, math.nan]), (1.0, [])):
        with pytest.raises(ValueError, match="must be"):
            pseudo_values(full, left_out)


def test_the_naive_bootstrap_of_mean_pair_distance_is_biased_by_one_nth() -> None:
    """Its exact mean is (1 - 1/n) U, so the library offers no bootstrap of a set statistic."""
    vectors = unit(np.random.default_rng(3), 3)
    estimate = mean_pair_distance(vectors)
    every_resample = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T  # all 27, equally likely
    naive = np.mean([mean_pair_distance(vectors[list(rows)]) for rows in every_resample])
    assert naive == pytest.approx((1 - 1 / 3) * estimate, abs=1e-12)

    n = 20
    vectors, drawn = unit(np.random.default_rng(4), n), weights(n, 4000, 0).astype(float)
    squared = ((drawn @ vectors) ** 2).sum(axis=1)
    resampled = 1 - (squared - n) / (n * (n - 1))
    estimate = mean_pair_distance(vectors)
    assert resampled.mean() == pytest.approx((1 - 1 / n) * estimate, abs=5 * resampled.std() / math.sqrt(4000))
    assert not hasattr(jackknife, "bootstrap")


def test_a_mean_over_tasks_weighs_tasks_equally_and_adds_their_variances() -> None:
    rng = np.random.default_rng(5)
    tasks = [rng.normal(3, 1, (10, 2)), rng.normal(0, 5, (40, 2)), rng.normal(1, 2, (25, 2))]
    pooled = macro_average(tasks)
    assert pooled.shape == (75, 2)
    np.testing.assert_allclose(pooled.mean(axis=0), np.mean([task.mean(axis=0) for task in tasks], axis=0))
    expected = sum(np.cov(task.T) / len(task) for task in tasks) / 9
    np.testing.assert_allclose(np.cov(pooled.T) / 75, expected)


def test_a_single_task_is_its_own_mean_over_tasks() -> None:
    values = np.random.default_rng(6).random((5, 3))
    np.testing.assert_array_equal(macro_average([values]), values)
    np.testing.assert_array_equal(macro_average([[[0.5]]]), [[0.5]])


def test_tasks_that_cannot_be_averaged_are_refused() -> None:
    for tasks in ([], [np.zeros((3, 2)), np.zeros((3, 1))], [np.zeros((3, 2)), np.zeros((1, 2))]):
        with pytest.raises(ValueError, match="task"):
            macro_average(tasks)
