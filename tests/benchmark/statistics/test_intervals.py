from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmark.statistics.intervals import (
    ENOUGH,
    Difference,
    Interval,
    gap_of_differences,
    guarded_t,
    hull,
    paired_preferences,
    paired_t,
    plus4_t,
    plus4_welch,
    squared_share_guard,
    stretched,
    t_interval,
    t_p_value,
    welch,
)

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
numbers = st.floats(-100, 100).map(lambda value: round(value, 4))
shares = st.floats(0, 1).map(lambda value: round(value, 4))
columns = st.lists(numbers, min_size=2, max_size=30)
preferences = st.lists(shares, min_size=1, max_size=30)
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30)


def varies(values: list[float]) -> bool:
    return len(set(values)) > 1


@EXACT
@given(columns, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_interval_equals_scipy(values: list[float], level: float) -> None:
    interval = t_interval(values, level)
    assert interval is not None
    if not varies(values):
        assert interval == Interval(values[0], values[0])
        return
    expected = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose(interval, expected, rtol=1e-9, atol=1e-9)


def test_t_interval_by_hand() -> None:
    # 0, 1: mean 1/2, error 1/2, and the t quantile with one degree of freedom is tan(.475 pi).
    quantile = math.tan(0.475 * math.pi)
    np.testing.assert_allclose(t_interval([0, 1]), (0.5 - quantile / 2, 0.5 + quantile / 2), rtol=1e-12)


def test_t_on_means_of_clusters_gives_the_known_cluster_error() -> None:
    samples = np.array([[1, 1], [0, 0], [1, 0], [1, 1]])
    interval = t_interval(samples.mean(axis=1))
    assert interval is not None
    error = (interval.high - interval.low) / 2 / stats.t.ppf(0.975, 3)
    assert error == pytest.approx(0.23935677693908453, abs=1e-14)
    # Counting samples as if they were prompts gives a third less.
    assert stats.sem(samples.ravel()) == pytest.approx(0.18298126367784995, abs=1e-14)


def test_one_value_has_no_interval() -> None:
    assert t_interval([0.3]) is None


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -7.7])
def test_a_constant_column_gives_exactly_its_constant(constant: float) -> None:
    assert t_interval([constant] * 3) == (constant, constant)


@EXACT
@given(preferences)
def test_plus4_is_t_after_two_zeros_and_two_ones_clipped(values: list[float]) -> None:
    padded = [*values, 0, 0, 1, 1]
    low, high = stats.t.interval(0.95, len(padded) - 1, loc=np.mean(padded), scale=stats.sem(padded))
    np.testing.assert_allclose(plus4_t(values), (max(low, 0), min(high, 1)), rtol=1e-9, atol=1e-12)


@EXACT
@given(preferences)
def test_plus4_has_width_lies_in_the_unit_interval_and_mirrors(values: list[float]) -> None:
    low, high = plus4_t(values)
    assert 0 <= low < high <= 1
    np.testing.assert_allclose(plus4_t([1 - value for value in values]), (1 - high, 1 - low), atol=1e-9)


def test_plus4_exists_for_one_prompt() -> None:
    assert plus4_t([1.0]) == (0.0, 1.0)


def test_plus4_of_six_wins_by_hand() -> None:
    # 2 zeros and 8 ones: mean .8, variance 1.6 / 9.
    low, high = plus4_t([1.0] * 6)
    assert low == pytest.approx(0.8 - stats.t.ppf(0.975, 9) * math.sqrt(1.6 / 9 / 10))
    assert high == 1.0


@pytest.mark.parametrize("values", [[-0.01, 0.5], [0.5, 1.01], [2.0]])
def test_plus4_refuses_what_is_not_a_preference(values: list[float]) -> None:
    with pytest.raises(ValueError, match="preferences"):
        plus4_t(values)


@EXACT
@given(columns, columns)
def test_welch_equals_scipy(x: list[float], y: list[float]) -> None:
    result = welch(x, y)
    if not varies(x) and not varies(y):
        assert result.interval == Interval(x[0] - y[0], x[0] - y[0])
        assert result.p_value == float(x[0] == y[0])
        return
    if min(np.ptp(x), np.ptp(y)) == 0:
        return  # scipy warns about the constant side; the hand value below covers it
    expected = stats.ttest_ind(x, y, equal_var=False)
    np.testing.assert_allclose(result.estimate, np.mean(x) - np.mean(y), atol=1e-10)
    assert result.df == pytest.approx(expected.df)
    assert result.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert result.interval is not None
    np.testing.assert_allclose(result.interval, expected.confidence_interval(0.95), rtol=1e-8, atol=1e-8)


def test_welch_with_a_constant_side_has_the_other_sides_degrees_of_freedom() -> None:
    result = welch([1.0, 2.0, 3.0], [1.0] * 50)
    assert result.df == pytest.approx(2.0)
    one_sample = stats.ttest_1samp([1.0, 2.0, 3.0], 1.0)
    assert result.p_value == pytest.approx(one_sample.pvalue)


def test_welch_does_not_underflow_on_small_spreads() -> None:
    x, y = np.array([1.0, 2.0, 4.0]), np.array([0.0, 5.0])
    assert welch(x * 1e-100, y * 1e-100).df == pytest.approx(welch(x, y).df)


def test_welch_with_one_prompt_on_a_side_has_no_interval() -> None:
    assert welch([1.0], [0.25, 0.75]) == (0.5, None, None, None)


@EXACT
@given(pairs)
def test_paired_t_equals_scipy(rows: list[tuple[float, float]]) -> None:
    x, y = np.array(rows).T
    result = paired_t(x, y)
    assert result.interval is not None
    np.testing.assert_allclose(result.estimate, np.mean(x - y), atol=1e-10)
    if np.ptp(x - y) < 1e-9:
        return  # scipy warns; the constant cases have tests of their own
    expected = stats.ttest_rel(x, y)
    assert result.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    np.testing.assert_allclose(result.interval, expected.confidence_interval(0.95), rtol=1e-8, atol=1e-8)


@EXACT
@given(pairs)
def test_paired_t_changes_sign_when_the_sides_change(rows: list[tuple[float, float]]) -> None:
    x, y = np.array(rows).T
    one, other = paired_t(x, y), paired_t(y, x)
    assert one.interval is not None
    assert other.interval is not None
    np.testing.assert_allclose(one.estimate, -other.estimate)
    np.testing.assert_allclose(one.interval, [-other.interval.high, -other.interval.low])
    assert one.p_value == other.p_value


def test_equal_columns_differ_by_nothing() -> None:
    x = np.array([0.1, 0.2, 0.7])
    assert paired_t(x, x) == (0.0, (0.0, 0.0), 1.0, 2.0)
    # One unit in the last place everywhere, all of one sign, is rounding and not a finding.
    assert paired_t(np.nextafter(x, 1), x).p_value == 1.0


def test_a_constant_difference_is_certain() -> None:
    result = paired_t([1.5, 2.5, 4.0], [1.0, 2.0, 3.5])
    assert result == (0.5, (0.5, 0.5), 0.0, 2.0)


def test_a_single_pair_has_no_interval() -> None:
    assert paired_t([1.0], [0.5]) == (0.5, None, None, None)


def test_the_p_value_is_below_alpha_exactly_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        result = paired_t(rng.normal(0.5, 1, 8), np.zeros(8))
        assert result.interval is not None
        assert result.p_value is not None
        excludes = not result.interval.low <= 0 <= result.interval.high
        assert (result.p_value < 0.05) == excludes
        seen.add(excludes)
    assert seen == {True, False}


def test_p_values_without_an_error_are_zero_or_one() -> None:
    np.testing.assert_array_equal(t_p_value([0.0, 0.2, -3.0], [0.0, 0.0, 0.0], 5), [1, 0, 0])
    np.testing.assert_array_equal(t_p_value(1.0, 5e-324, 5), 0.0)


@pytest.mark.parametrize("bad", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]])
def test_no_method_takes_missing_or_nested_values(bad: list[float]) -> None:
    good = [0.5, 0.25]
    for call in (t_interval, plus4_t, lambda v: welch(v, good), lambda v: welch(good, v), lambda v: paired_t(v, good)):
        with pytest.raises(ValueError, match="must be"):
            call(bad)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5])
def test_no_method_takes_a_level_outside_zero_to_one(level: float) -> None:
    x = [0.5, 0.25]
    for call in (t_interval, plus4_t, lambda v, k: welch(v, v, k), lambda v, k: paired_t(v, v, k)):
        with pytest.raises(ValueError, match="level"):
            call(x, level)


def test_paired_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="share their prompts"):
        paired_t([1.0, 2.0], [1.0])


@EXACT
@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 0.3, 0.31]), min_size=2, max_size=120), st.floats(0.5, 9))
def test_guarded_t_is_the_hull_of_t_and_plus4_between_the_bounds_where_few_prompts_tell(
    shares: list[float], width: float
) -> None:
    values = [2.0 + width * share for share in shares]
    most = max(shares.count(share) for share in shares)
    found, plain = guarded_t(values, 2.0, 2.0 + width), t_interval(values)
    assert plain is not None
    if most >= len(values) / 2 and len(values) - most < ENOUGH:
        low, high = (2.0 + width * end for end in plus4_t(shares))
        np.testing.assert_allclose(found, (min(low, plain.low), max(high, plain.high)), atol=1e-9)
    else:
        assert found == plain


def test_a_draw_without_a_failure_does_not_say_that_there_are_none() -> None:
    assert guarded_t([0.0] * 50, 0.0, 1.0) == plus4_t([0.0] * 50)
    assert guarded_t([1.0] * 50, 1.0, 8.0) == pytest.approx(tuple(1 + 7 * end for end in plus4_t([0.0] * 50)))


@pytest.mark.parametrize(("off", "guarded"), [(ENOUGH - 1, True), (ENOUGH, False)])
def test_the_guard_goes_down_at_fifty_prompts_off_the_commonest_value(off: int, guarded: bool) -> None:
    values = [0.0] * 500 + [0.5] * off
    assert (guarded_t(values, 0.0, 1.0) != t_interval(values)) == guarded


@pytest.mark.parametrize(("alike", "guarded"), [(10, True), (9, False)])
def test_the_guard_goes_down_where_most_prompts_differ(alike: int, guarded: bool) -> None:
    values = [0.0] * alike + list(np.linspace(0.1, 0.9, 20 - alike))
    assert (guarded_t(values, 0.0, 1.0) != t_interval(values)) == guarded


def test_rounding_neither_breaks_ties_nor_leaves_the_bounds() -> None:
    values = np.r_[np.linspace(-2e-7, 2e-7, 20), 0.5]
    assert guarded_t(values, 0.0, 1.0) == pytest.approx(guarded_t([0.0] * 20 + [0.5], 0.0, 1.0), abs=1e-6)


@pytest.mark.parametrize(("values", "bounds"), [([0.0, 1.1], (0, 1)), ([-0.1, 1.0], (0, 1)), ([0.5, 0.5], (1, 1))])
def test_guarded_t_refuses_values_outside_and_bounds_out_of_order(
    values: list[float], bounds: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match="must"):
        guarded_t(values, *bounds)


def test_one_value_has_no_guarded_interval() -> None:
    assert guarded_t([0.3], 0.0, 1.0) is None


@EXACT
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=30), st.floats(0.01, 1))
def test_the_guard_of_a_squared_share_is_plus4_squared_times_the_diversity_of_the_valid(
    shares: list[float], diversity: float
) -> None:
    share = float(np.mean(shares))
    low, high = squared_share_guard(diversity * share**2, shares)
    ends = plus4_t(shares)
    expected = diversity if share else 1.0
    assert (low, high) == pytest.approx((ends.low**2 * expected, ends.high**2 * expected), abs=1e-12)


def test_a_squared_share_guards_no_further_than_all_pairs_that_differ_in_all() -> None:
    # Slots may be unlike, so that a statistic is more than its share allows: the diversity is at most 1.
    assert squared_share_guard(0.5, [0.0, 1.0]).high == pytest.approx(plus4_t([0.0, 1.0]).high ** 2)


def test_a_hull_holds_all_and_no_more() -> None:
    assert hull(Interval(0, 1), Interval(3, 4), Interval(-1, 0.5)) == (-1, 4)


@EXACT
@given(preferences, preferences)
def test_plus4_welch_is_welch_after_a_loss_and_a_win_on_each_side(x: list[float], y: list[float]) -> None:
    found = plus4_welch(x, y)
    if min(len(x), len(y)) < 2:
        assert found is None
        return
    assert found is not None
    low, high = stats.ttest_ind([*x, 0, 1], [*y, 0, 1], equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(found, (max(low, -1), min(high, 1)), atol=1e-9)
    assert found.low <= np.mean(x) - np.mean(y) <= found.high
    mirrored = plus4_welch(y, x)
    assert mirrored is not None
    np.testing.assert_allclose(mirrored, (-found.high, -found.low), atol=1e-12)


@pytest.mark.parametrize(("n", "longer"), [(50, 0.06), (200, 0.015), (500, 0.006)])
def test_plus4_welch_changes_next_to_nothing_at_ordinary_rates(n: int, longer: float) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.beta(0.4, 0.6, n), rng.beta(3, 3, n)
    plain, found = welch(x, y).interval, plus4_welch(x, y)
    assert plain is not None
    assert found is not None
    assert 0 < (found.high - found.low) / (plain.high - plain.low) - 1 < longer


@pytest.mark.parametrize("call", [plus4_welch, paired_preferences])
@pytest.mark.parametrize("bad", [[-0.1, 0.5], [0.5, 1.1]])
def test_what_is_for_preferences_refuses_other_values(call, bad: list[float]) -> None:
    for x, y in ((bad, [0.5, 0.5]), ([0.5, 0.5], bad)):
        with pytest.raises(ValueError, match="preferences"):
            call(x, y)


def test_differences_of_preferences_are_within_one() -> None:
    with pytest.raises(ValueError, match="preferences"):
        gap_of_differences([0.0, 1.1], [0.0, 0.0])


def slow_stretch(own: Interval, wider: Interval) -> tuple[float, float]:
    if own.low > 0:
        return own.low, max(own.high, wider.high)
    if own.high < 0:
        return min(own.low, wider.low), own.high
    return min(own.low, wider.low), max(own.high, wider.high)


@EXACT
@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=40))
def test_stretched_intervals_hold_those_of_the_pseudo_prompts_and_say_what_the_test_says(
    rows: list[tuple[float, float]],
) -> None:
    x, y = np.array(rows).T
    own, found = paired_t(x, y), paired_preferences(x, y)
    added = t_interval([*(x - y), 1, -1])
    assert own.interval is not None
    assert added is not None
    assert found._replace(interval=None) == own._replace(interval=None)
    np.testing.assert_allclose(found.interval, slow_stretch(own.interval, added), atol=1e-12)
    sides = x - y, (y - x)[: max(2, len(x) // 2)]
    own, found = welch(*sides), gap_of_differences(*sides)
    wider = welch(*([*side, 1, -1] for side in sides)).interval
    assert own.interval is not None
    assert wider is not None
    assert found._replace(interval=None) == own._replace(interval=None)
    np.testing.assert_allclose(found.interval, slow_stretch(own.interval, wider), atol=1e-12)


def test_the_p_value_is_below_alpha_exactly_where_the_stretched_interval_excludes_zero() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        x, y = (rng.random((2, 30)) < [[0.25], [0.08]]).astype(float)
        for result in (paired_preferences(x, y), paired_preferences(y, x), gap_of_differences(x - y, y[:20] - 0.1)):
            assert result.interval is not None
            assert result.p_value is not None
            excludes = not result.interval.low <= 0 <= result.interval.high
            assert (result.p_value < 0.05) == excludes
            seen.add(excludes)
    assert seen == {True, False}


def test_models_that_never_differ_in_the_draw_may_elsewhere() -> None:
    estimate, interval, p_value, _ = paired_preferences([0.0] * 50, [0.0] * 50)
    assert (estimate, p_value) == (0.0, 1.0)
    assert interval == t_interval([0.0] * 50 + [1.0, -1.0])


def test_nothing_is_stretched_where_there_is_no_interval() -> None:
    assert paired_preferences([1.0], [0.5]) == (0.5, None, None, None)
    assert gap_of_differences([1.0], [0.25, 0.75]) == (0.5, None, None, None)
    known = Difference(0.5, Interval(0.25, 0.75), 0.01, 3.0)
    assert stretched(known, None) == known
