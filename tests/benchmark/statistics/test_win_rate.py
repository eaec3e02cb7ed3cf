from __future__ import annotations

import numpy as np
import pytest

from benchmark.statistics.bootstrap import bca, percentile, weights
from benchmark.statistics.intervals import plus4_t, t_interval
from benchmark.statistics.win_rate import printed_method, win_rate, win_rates


@pytest.mark.parametrize(
    ("rate", "n", "method"),
    [
        (0.5, 200, "bca"),
        (0.5, 199, "plus4_t"),
        (0.05, 200, "bca"),
        (0.95, 200, "bca"),
        (0.049, 805, "plus4_t"),
        (0.951, 805, "plus4_t"),
        (0.0, 5000, "plus4_t"),
        (1.0, 5000, "plus4_t"),
    ],
)
def test_bca_is_printed_where_it_covers_and_plus4_elsewhere(rate: float, n: int, method: str) -> None:
    assert printed_method(rate, n) == method


@pytest.mark.parametrize(("n", "wins"), [(200, 100), (199, 100), (200, 9), (200, 10), (200, 190), (200, 191)])
def test_the_rule_is_applied_to_the_data(n: int, wins: int) -> None:
    preferences, drawn = np.repeat([1.0, 0.0], [wins, n - wins]), weights(n, 500, 0)
    result = win_rate(preferences, drawn)
    assert (result.rate, result.n) == (pytest.approx(wins / n), n)
    assert result.method == printed_method(wins / n, n)
    assert result.interval == result.intervals[result.method]


def test_all_methods_are_kept_and_are_those_of_their_modules() -> None:
    preferences, drawn = np.random.default_rng(0).random(60), weights(60, 500, 0)
    intervals = win_rate(preferences, drawn).intervals
    assert set(intervals) == {"plus4_t", "t", "percentile", "bca"}
    assert intervals["plus4_t"] == plus4_t(preferences)
    assert intervals["t"] == t_interval(preferences)
    np.testing.assert_allclose(intervals["percentile"], percentile(preferences, drawn))
    np.testing.assert_allclose(intervals["bca"], bca(preferences, drawn))


def test_the_point_is_the_plain_mean_and_lies_in_every_interval() -> None:
    preferences = np.random.default_rng(1).choice([0, 0.5, 1], (250, 5), p=[0.3, 0.2, 0.5])
    for place, result in enumerate(win_rates(preferences, weights(250, 2000, 0))):
        assert result.rate == pytest.approx(preferences[:, place].mean())
        assert all(interval.low <= result.rate <= interval.high for interval in result.intervals.values())


def test_a_column_is_scored_as_if_alone() -> None:
    preferences, drawn = np.random.default_rng(2).random((30, 3)), weights(30, 300, 0)
    for place, result in enumerate(win_rates(preferences, drawn)):
        alone = win_rate(preferences[:, place], drawn)
        assert result.method == alone.method
        for name, interval in result.intervals.items():
            np.testing.assert_allclose(interval, alone.intervals[name], rtol=1e-9)


def test_one_prompt_has_a_plus4_interval_and_no_other() -> None:
    result = win_rate([1.0], weights(1, 10, 0))
    assert set(result.intervals) == {"plus4_t"}
    assert result.interval == plus4_t([1.0])


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.5, 1.0])
def test_a_constant_answer_has_width_where_it_is_printed_near_the_ends(constant: float) -> None:
    result = win_rate(np.full(300, constant), weights(300, 200, 0))
    assert result.rate == constant
    assert result.intervals["bca"] == (constant, constant)
    low, high = result.interval
    assert (low < high) == (constant in (0.0, 1.0))


def test_preferences_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="preferences"):
        win_rate([0.5, 1.5], weights(2, 10, 0))
    with pytest.raises(ValueError, match="preferences"):
        win_rates(np.zeros((0, 2)), weights(2, 10, 0))
