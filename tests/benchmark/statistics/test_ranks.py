from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from benchmark.statistics.intervals import paired_t
from benchmark.statistics.ranks import RankSet, holm, paired_tests, rank_sets, significantly_better

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 10), st.integers(1, 5)),
    elements=st.integers(-8, 8).map(lambda value: value / 8),
)


def slow_rank_sets(values: NDArray[np.float64], alpha: float) -> list[tuple[int, int, int]]:
    """The definition, pair by pair, with Holm's procedure as he wrote it."""
    models = values.shape[1]
    tests = {(i, j): paired_t(values[:, i], values[:, j]) for i in range(models) for j in range(i)}
    left, better = len(tests), set()
    for pair in sorted(tests, key=lambda pair: tests[pair].p_value or 0.0):
        if (tests[pair].p_value or 0.0) > alpha / left:
            break
        better.add(pair if tests[pair].estimate > 0 else pair[::-1])
        left -= 1
    means = [math.fsum(column) for column in values.T]
    return [
        (
            1 + sum(other > means[j] for other in means),
            1 + sum((i, j) in better for i in range(models)),
            models - sum((j, i) in better for i in range(models)),
        )
        for j in range(models)
    ]


@EXACT
@given(tables, st.sampled_from([0.45, 0.9, 0.95]))
def test_rank_sets_equal_the_definition(values: NDArray[np.float64], level: float) -> None:
    assert rank_sets(values, level) == slow_rank_sets(values, 1 - level)


@pytest.mark.parametrize("seed", range(8))
def test_rank_sets_equal_the_definition_where_models_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, 1)) + rng.normal(np.linspace(0, 1.2, 9), 1, (40, 9))
    expected = slow_rank_sets(values, 0.05)
    assert rank_sets(values) == expected
    assert any(low > 1 or high < 9 for _, low, high in expected)


@EXACT
@given(tables)
def test_the_rank_by_estimate_lies_in_the_rank_set(values: NDArray[np.float64]) -> None:
    models = values.shape[1]
    for rank, low, high in rank_sets(values):
        assert 1 <= low <= rank <= high <= models


@EXACT
@given(tables, st.randoms(use_true_random=False))
def test_rank_sets_go_with_their_columns_and_ignore_the_order_of_prompts(values, random) -> None:
    order = list(range(values.shape[1]))
    random.shuffle(order)
    sets = rank_sets(values)
    assert rank_sets(values[:, order]) == [sets[j] for j in order]
    assert rank_sets(values[::-1]) == sets


@EXACT
@given(tables)
def test_turning_every_value_round_turns_the_rank_sets_round(values: NDArray[np.float64]) -> None:
    models = values.shape[1]
    turned = [(models + 1 - s.high, models + 1 - s.low) for s in rank_sets(values)]
    assert [(s.low, s.high) for s in rank_sets(-values)] == turned


def test_paired_tests_equal_paired_t() -> None:
    values = np.random.default_rng(0).normal(size=(15, 4))
    pairs = paired_tests(values)
    for i in range(4):
        for j in range(4):
            expected = paired_t(values[:, i], values[:, j])
            assert pairs.difference[i, j] == pytest.approx(expected.estimate, abs=1e-12)
            assert pairs.p_value[i, j] == pytest.approx(expected.p_value, abs=1e-12)


@EXACT
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_equals_its_definition(p_values: list[float]) -> None:
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    expected = [0.0] * m
    for place, i in enumerate(order):
        expected[i] = min(1.0, max((m - k) * p_values[order[k]] for k in range(place + 1)))
    np.testing.assert_allclose(holm(p_values), expected)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@EXACT
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values))).all()


def test_the_family_is_all_pairs() -> None:
    # Three models, one pair at p = .02: alone it is significant, among three pairs it is not (.06).
    n = 20
    noise = np.random.default_rng(1).normal(size=(n, 2))
    noise = (noise - noise.mean(axis=0)) / noise.std(axis=0, ddof=1)
    shift = stats.t.isf(0.01, n - 1) / math.sqrt(n)
    values = np.column_stack([noise[:, 0] + shift, np.zeros(n)])
    assert paired_tests(values).p_value[0, 1] == pytest.approx(0.02)
    assert rank_sets(values) == [(1, 1, 1), (2, 2, 2)]
    third = 50 * noise[:, 1] - 1
    assert rank_sets(np.column_stack([values, third])) == [(1, 1, 3), (2, 1, 3), (3, 1, 3)]


def test_models_that_never_differ_share_their_rank() -> None:
    column = np.array([0.1, 0.5, 0.9])
    sets = rank_sets(np.column_stack([column] * 4))
    assert sets == [(1, 1, 4)] * 4
    # Nor does rounding tell them apart.
    assert rank_sets(np.column_stack([column, np.nextafter(column, 1)])) == [(1, 1, 2)] * 2


def test_equal_means_share_their_rank_whatever_the_rounding() -> None:
    first, last = np.array([0.1, 0.2, 0.4, 0.7, 0.3]), np.array([0.7, 0.4, 0.1, 0.3, 0.2])
    assert (first - last).mean() != 0  # though both hold the same numbers
    assert rank_sets(np.column_stack([first, last])) == [(1, 1, 2), (1, 1, 2)]


def test_a_constant_difference_is_significant() -> None:
    column = np.array([0.1, 0.5, 0.9])
    values = np.column_stack([column, column + 0.01, column - 0.01])
    assert rank_sets(values) == [(2, 2, 2), (1, 1, 1), (3, 3, 3)]
    np.testing.assert_array_equal(significantly_better(values), [[0, 0, 1], [1, 0, 1], [0, 0, 0]])


def test_one_prompt_tells_nothing_apart() -> None:
    assert rank_sets([[0.1, 0.9, 0.5]]) == [(3, 1, 3), (1, 1, 3), (2, 1, 3)]


def test_a_single_model_is_first() -> None:
    assert [str(s) for s in rank_sets([[0.1], [0.2]])] == ["1 (1–1)"]


def test_the_printed_form() -> None:
    assert str(RankSet(3, 2, 9)) == "3 (2–9)"


def test_bad_input_is_refused() -> None:
    for values in ([], [1.0, 2.0], [[1.0, math.nan]], np.zeros((3, 0))):
        with pytest.raises(ValueError, match="values"):
            rank_sets(values)
    with pytest.raises(ValueError, match="level"):
        rank_sets([[1.0, 2.0]], level=95)
    for p_values in ([1.1], [-0.1], [math.nan], [[0.5]]):
        with pytest.raises(ValueError, match="p-values"):
            holm(p_values)
