from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from benchmark.statistics.intervals import Interval, t_interval
from benchmark.statistics.two_way import TwoWay, two_way_t

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
Array = NDArray[np.float64]
numbers = st.floats(-10, 10).map(lambda value: round(value, 3))
sizes = st.tuples(st.integers(2, 5), st.integers(2, 12))
tables = sizes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=numbers)).filter(lambda x: np.ptp(x) > 0.01)


def interval(result: TwoWay) -> Interval:
    assert result.interval is not None
    return result.interval


def slow(values: Array, level: float = 0.95) -> tuple[float, float, float, list[float]]:
    """Low end, high end, p-value, and the three parts of the squared error, one cell at a time."""
    seeds, prompts = values.shape
    mean = sum(values[s, p] for s in range(seeds) for p in range(prompts)) / (seeds * prompts)
    rows = [sum(values[s]) / prompts for s in range(seeds)]
    columns = [sum(values[:, p]) / seeds for p in range(prompts)]
    v_seed = sum((row - mean) ** 2 for row in rows) / (seeds - 1) / seeds
    v_prompt = sum((entry - mean) ** 2 for entry in columns) / (prompts - 1) / prompts
    left = [values[s, p] - rows[s] - columns[p] + mean for s in range(seeds) for p in range(prompts)]
    v_cell = sum(entry**2 for entry in left) / ((seeds - 1) * (prompts - 1)) / (seeds * prompts)
    # A component below 0 counts as 0: the same as never to go below any of the three parts.
    squared = max(v_seed + v_prompt - v_cell, v_seed, v_prompt, v_cell)
    spread = v_seed**2 / (seeds - 1) + v_prompt**2 / (prompts - 1) + v_cell**2 / ((seeds - 1) * (prompts - 1))
    ways = [(squared, squared**2 / spread), (v_seed, seeds - 1), (v_prompt, prompts - 1)]
    margin = max(stats.t.ppf(0.5 + level / 2, df) * math.sqrt(v) for v, df in ways)
    p_value = max(2 * stats.t.sf(abs(mean) / math.sqrt(v), df) if v > 0 else 0.0 for v, df in ways)
    return mean - margin, mean + margin, p_value, [v_seed, v_prompt, v_cell]


@EXACT
@given(tables, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_that_of_a_slow_obvious_implementation(values: Array, level: float) -> None:
    result = two_way_t(values, level)
    low, high, p_value, parts = slow(values, level)
    np.testing.assert_allclose(interval(result), (low, high), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(result[4:], parts, rtol=1e-8, atol=1e-12)
    if abs(result.estimate) > 1e-9:
        assert result.p_value == pytest.approx(p_value, abs=1e-7)


def test_a_balanced_table_by_hand() -> None:
    seed, prompt = np.array([-1.0, 0.0, 1.0]), np.array([-3.0, -3.0, -3.0, 3.0, 3.0, 3.0])
    values = 1.0 + seed[:, None] + prompt
    values[:2, :2] += [[1, -1], [-1, 1]]  # an interaction: rows and columns keep their means
    result = two_way_t(values)
    # Variances 1 of 3 seeds and 10.8 of 6 prompts; residual squares 4 on 10 degrees of freedom, over 18 cells.
    np.testing.assert_allclose(result[4:], (1 / 3, 1.8, 1 / 45))
    df = (19 / 9) ** 2 / (1 / 9 / 2 + 1.8**2 / 5 + 1 / 45**2 / 10)
    assert result.df == pytest.approx(df)
    assert df == pytest.approx(6.334, abs=1e-3)
    margin = stats.t.ppf(0.975, df) * math.sqrt(19 / 9)
    np.testing.assert_allclose(interval(result), (1 - margin, 1 + margin))
    assert result.p_value == pytest.approx(2 * stats.t.sf(1 / math.sqrt(19 / 9), df))


def test_two_seeds_by_hand_have_the_interval_of_two_seeds() -> None:
    result = two_way_t([[1, 2, 3], [3, 4, 8]])
    np.testing.assert_allclose(result[4:], (2.25, 13 / 12, 0.25))
    assert result.df == pytest.approx((37 / 12) ** 2 / (2.25**2 + (13 / 12) ** 2 / 2 + 0.25**2 / 2))
    # Seed means 2 and 5: the t quantile with one degree of freedom is tan(.475 pi), and that is the wider interval.
    margin = math.tan(0.475 * math.pi) * 1.5
    np.testing.assert_allclose(interval(result), (3.5 - margin, 3.5 + margin))
    assert result.p_value == pytest.approx(1 - 2 * math.atan(3.5 / 1.5) / math.pi)


def test_seeds_that_agree_leave_the_t_over_prompts() -> None:
    row = np.random.default_rng(0).normal(0.2, 1, 40)
    result = two_way_t(np.tile(row, (4, 1)))
    np.testing.assert_allclose(interval(result), t_interval(row))
    assert result.df == pytest.approx(39)
    nearly = two_way_t(row + np.array([[-1e-3], [0.0], [1e-3]]))
    np.testing.assert_allclose(interval(nearly), t_interval(row), rtol=1e-3)


def test_prompts_that_agree_leave_the_t_over_seeds() -> None:
    seeds = np.array([0.1, 0.4, 0.2])
    result = two_way_t(np.tile(seeds[:, None], (1, 50)))
    np.testing.assert_allclose(interval(result), t_interval(seeds))
    assert result.df == pytest.approx(2)
    nearly = two_way_t(seeds[:, None] + np.random.default_rng(1).normal(0, 1e-3, 50))
    margin = (interval(nearly).high - interval(nearly).low) / 2
    assert margin == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(seeds), rel=1e-3)


def test_components_below_zero_count_as_zero() -> None:
    noise = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])  # every row and column has mean 0
    result = two_way_t(0.5 + noise)
    v_cell = 8 / 3 / 8
    np.testing.assert_allclose(result[4:], (0, 0, v_cell), atol=1e-15)
    # All three degrees of freedom are the residual's: the sum of the textbook's parts would be below 0.
    margin = stats.t.ppf(0.975, 3) * math.sqrt(v_cell)
    np.testing.assert_allclose(interval(result), (0.5 - margin, 0.5 + margin))


@EXACT
@given(tables)
def test_the_interval_is_never_narrower_than_either_one_way_interval(values: Array) -> None:
    low, high = interval(two_way_t(values))
    for means in (values.mean(axis=0), values.mean(axis=1)):
        one_way = t_interval(means)
        assert one_way is not None
        assert high - low >= (one_way.high - one_way.low) * (1 - 1e-9) - 1e-12


@EXACT
@given(tables, st.randoms(use_true_random=False))
def test_no_order_of_seeds_or_prompts_matters_nor_which_is_which(values: Array, random) -> None:
    seeds, prompts = (random.sample(range(size), size) for size in values.shape)
    result, shuffled, turned = two_way_t(values), two_way_t(values[seeds][:, prompts]), two_way_t(values.T)
    for other in (shuffled, turned):
        np.testing.assert_allclose(interval(other), interval(result), rtol=1e-8, atol=1e-8)
        assert other.df == pytest.approx(result.df, rel=1e-6)
    np.testing.assert_allclose(turned[4:6], result[5:3:-1], rtol=1e-8, atol=1e-12)


@EXACT
@given(tables, numbers, st.floats(0.01, 100))
def test_the_interval_moves_and_stretches_with_the_values(values: Array, shift: float, scale: float) -> None:
    moved, mirrored, result = two_way_t(shift + scale * values), two_way_t(-values), two_way_t(values)
    np.testing.assert_allclose(interval(moved), shift + scale * np.array(interval(result)), rtol=1e-7, atol=1e-7)
    assert moved.df == pytest.approx(result.df, rel=1e-5)
    np.testing.assert_allclose(interval(mirrored), (-interval(result).high, -interval(result).low), atol=1e-12)
    assert mirrored.p_value == result.p_value


def test_small_spreads_do_not_underflow() -> None:
    values = np.random.default_rng(2).normal(size=(3, 8))
    assert two_way_t(values * 1e-100).df == pytest.approx(two_way_t(values).df)


def test_the_p_value_is_below_alpha_exactly_where_the_interval_excludes_zero() -> None:
    rng, seen = np.random.default_rng(3), set()
    for _ in range(300):
        result = two_way_t(rng.normal(0.6, 0.4, (3, 1)) + rng.normal(0, 1, 20) + rng.normal(0, 1, (3, 20)))
        excludes = not interval(result).low <= 0 <= interval(result).high
        assert result.p_value is not None
        assert (result.p_value < 0.05) == excludes
        seen.add(excludes)
    assert seen == {True, False}


def test_one_seed_or_one_prompt_has_no_interval() -> None:
    nothing = (None,) * 6
    assert two_way_t([[0.25, 0.75]]) == (0.5, *nothing)
    assert two_way_t([[0.25], [0.75]]) == (0.5, *nothing)
    assert two_way_t([[0.1]]) == (0.1, *nothing)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -7.7])
def test_a_constant_table_is_certain(constant: float) -> None:
    expected = (constant, (constant, constant), float(constant == 0), None, 0, 0, 0)
    assert two_way_t(np.full((3, 7), constant)) == expected


def test_a_mean_of_rounding_size_is_nothing() -> None:
    result = two_way_t([[0.1, 0.2, -0.3], [0.3, -0.1, -0.2]])
    assert result.estimate == 0.0
    assert result.p_value == 1.0


@pytest.mark.parametrize("bad", [[], [[]], [0.5, 0.25], [[0.5, math.nan]], [[0.5, math.inf]], [[[0.5]]]])
def test_tables_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="values must be"):
        two_way_t(bad)


def test_ragged_tables_and_impossible_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        two_way_t([[1.0, 2.0], [1.0]])
    with pytest.raises(ValueError, match="level"):
        two_way_t([[1.0, 2.0], [2.0, 1.0]], 95.0)


@pytest.mark.slow
@pytest.mark.parametrize("share", [1, 5])
@pytest.mark.parametrize(("seeds", "prompts"), [(3, 150), (5, 200), (10, 200)])
def test_two_way_covers_where_prompts_alone_and_pooled_cells_do_not(seeds: int, prompts: int, share: int) -> None:
    """Graded paired differences, skewed over prompts; seeds carry ``share`` times the error that prompts do."""
    rng, repetitions = np.random.default_rng([seeds, share]), 4000
    hits = np.zeros(3)
    for _ in range(repetitions):
        seed = rng.normal(0, 0.3 * math.sqrt(share * seeds / prompts), (seeds, 1))
        prompt = 0.3 * (rng.exponential(size=prompts) - 1)
        values = seed + prompt + rng.integers(-8, 9, (seeds, prompts)) / 16  # graded by 16 samples
        intervals = [two_way_t(values).interval, t_interval(values.mean(axis=0)), t_interval(values.ravel())]
        hits += [ends is not None and ends.low <= 0 <= ends.high for ends in intervals]
    both, prompts_alone, pooled = hits / repetitions
    # Seen: .959, .943, .949 at share 1 and .952, .946, .950 at 5; prompts alone .841-.859 and .597-.629;
    # pooled .707, .585, .459 and .483, .391, .295.
    slack = 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert 0.94 - slack <= both <= 0.97
    assert prompts_alone < 0.9 - slack
    assert pooled < 0.8 - slack
