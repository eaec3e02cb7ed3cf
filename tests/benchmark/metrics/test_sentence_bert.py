from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import sentence_bert

FIXED = settings(derandomize=True, deadline=None, max_examples=50)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(2, 7)


def unit(rows: object) -> np.ndarray:
    e = np.asarray(rows, float)
    return e / np.linalg.norm(e, axis=-1, keepdims=True)


def draw(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(*shape, 3)) + 0.3), rng.random(shape) < 0.7


def mean_distance(e: np.ndarray) -> float:
    return float(np.mean([1 - a @ b for a, b in combinations(e, 2)])) if len(e) > 1 else np.nan


def slow_effective(e: np.ndarray, valid: np.ndarray) -> float:
    found = [valid[a] * valid[b] * min(max(1 - e[a] @ e[b], 0.0), 1.0) for a, b in combinations(range(len(e)), 2)]
    return float(np.mean(found)) if found else np.nan


@FIXED
@given(SEEDS, SIZES)
def test_sum_vector_equals_all_pairs(seed: int, k: int) -> None:
    e, _ = draw(seed, 4, k)
    assert sentence_bert.per_input(e) == pytest.approx(np.array([mean_distance(rows) for rows in e]))


@FIXED
@given(SEEDS, st.integers(0, 7))
def test_across_input_without_each_text_equals_recomputation(seed: int, n: int) -> None:
    e, _ = draw(seed, 2, n)
    value, without = sentence_bert.across_input(e)
    for slot in range(2):
        assert value[slot] == pytest.approx(mean_distance(e[slot]), nan_ok=True)
        left = [mean_distance(np.delete(e[slot], i, 0)) for i in range(n)]
        assert without[slot] == pytest.approx(np.array(left), nan_ok=True)


@FIXED
@given(SEEDS, SIZES)
def test_order_and_rotation_do_not_matter(seed: int, k: int) -> None:
    e, _ = draw(seed, k)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    assert float(sentence_bert.per_input(rng.permutation(e) @ rotation)) == pytest.approx(
        float(sentence_bert.per_input(e))
    )


@FIXED
@given(SEEDS, SIZES)
def test_doubling_a_set_shrinks_it_by_the_known_factor(seed: int, k: int) -> None:
    e, _ = draw(seed, k)
    once, twice = float(sentence_bert.per_input(e)), float(sentence_bert.per_input(np.concatenate([e, e])))
    assert twice == pytest.approx(once * (2 * k - 2) / (2 * k - 1))


@FIXED
@given(SEEDS, SIZES)
def test_range_is_zero_to_k_over_k_minus_one(seed: int, k: int) -> None:
    e = unit(np.random.default_rng(seed).normal(size=(k, 2)))
    assert -1e-12 <= float(sentence_bert.per_input(e)) <= k / (k - 1) + 1e-12


def test_identical_texts_are_at_distance_zero_in_float32() -> None:
    e = np.tile(unit(np.random.default_rng(0).normal(size=384)).astype(np.float32), (1, 16, 1))
    valid = np.ones((1, 16), bool)
    for value in (
        sentence_bert.per_input(e)[0],
        sentence_bert.effective(e, valid)[0],
        sentence_bert.conditional(e, valid)[0],
    ):
        assert value == pytest.approx(0, abs=1e-6)


def test_fewer_than_two_texts_are_missing() -> None:
    for k in (0, 1):
        e, valid = np.ones((3, k, 1)), np.ones((3, k), bool)
        for values in (
            sentence_bert.per_input(e),
            sentence_bert.effective(e, valid),
            sentence_bert.conditional(e, valid),
        ):
            assert values.shape == (3,)
            assert np.isnan(values).all()


@FIXED
@given(SEEDS, SIZES)
def test_effective_and_conditional_equal_their_definitions(seed: int, k: int) -> None:
    e, valid = draw(seed, 5, k)
    e *= 0.9999  # Within the tolerance of unit norm: a text's distance to itself is not 0, yet must not count.
    assert sentence_bert.effective(e, valid) == pytest.approx(
        np.array([slow_effective(rows, q) for rows, q in zip(e, valid, strict=True)])
    )
    expected = [slow_effective(rows[q], q[q]) for rows, q in zip(e, valid, strict=True)]
    assert sentence_bert.conditional(e, valid) == pytest.approx(np.array(expected), nan_ok=True)


@FIXED
@given(SEEDS, st.integers(0, 7))
def test_effective_across_input_without_each_text_equals_recomputation(seed: int, n: int) -> None:
    e, valid = draw(seed, n)
    e *= 0.9999
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence_bert, "_BLOCK", 3)
        value, without = sentence_bert.effective_across_input(e, valid)
    assert value == pytest.approx(slow_effective(e, valid), nan_ok=True)
    left = [slow_effective(np.delete(e, i, 0), np.delete(valid, i)) for i in range(n)]
    assert without == pytest.approx(np.array(left), nan_ok=True)


def test_effective_counts_sets_without_two_valid_outputs_as_zero() -> None:
    e, _ = draw(0, 3, 4)
    valid = np.array([[False] * 4, [True] + [False] * 3, [True, True, False, False]])
    assert sentence_bert.effective(e, valid)[:2].tolist() == [0, 0]
    assert np.isnan(sentence_bert.conditional(e, valid)).tolist() == [True, True, False]
    assert sentence_bert.valid_share(valid).tolist() == [0, 0.25, 0.5]


def test_effective_is_conditional_times_the_share_of_valid_pairs() -> None:
    e, valid = draw(3, 6, 8)
    v = valid.sum(axis=1)
    product = sentence_bert.conditional(e, valid) * v * (v - 1) / (8 * 7)
    assert sentence_bert.effective(e, valid) == pytest.approx(product)


def test_distances_beyond_a_right_angle_count_one() -> None:
    e = np.array([[(1.0, 0.0), (-1.0, 0.0)]])
    assert sentence_bert.per_input(e)[0] == pytest.approx(2)
    assert sentence_bert.effective(e, np.ones((1, 2), bool))[0] == pytest.approx(1)


def test_rows_of_invalid_outputs_are_not_read() -> None:
    e, valid = draw(1, 3, 5)
    broken = np.where(valid[..., None], e, np.nan)
    assert sentence_bert.effective(broken, valid) == pytest.approx(sentence_bert.effective(e, valid))
    whole, _ = sentence_bert.effective_across_input(e[0], valid[0])
    assert sentence_bert.effective_across_input(broken[0], valid[0])[0] == pytest.approx(whole)


def test_blocks_agree_with_the_batched_form_on_a_large_set() -> None:
    e, valid = draw(2, 700)
    value, without = sentence_bert.effective_across_input(e.astype(np.float32), valid)
    assert value == pytest.approx(sentence_bert.effective(e[None], valid[None])[0], rel=1e-6)
    assert without[~valid] == pytest.approx(np.full((~valid).sum(), value * 700 / 698))


def test_rows_that_are_not_unit_are_refused() -> None:
    e = np.full((2, 3, 2), 1.0)
    valid = np.ones((2, 3), bool)
    for call in (
        lambda: sentence_bert.per_input(e),
        lambda: sentence_bert.across_input(e),
        lambda: sentence_bert.effective(e, valid),
        lambda: sentence_bert.effective_across_input(e[0], valid[0]),
    ):
        with pytest.raises(ValueError, match="unit norm"):
            call()


def test_masks_must_fit() -> None:
    e, valid = draw(0, 2, 3)
    with pytest.raises(ValueError, match=r"\[n, k\]"):
        sentence_bert.effective(e, valid.T)
    with pytest.raises(ValueError, match=r"valid \[n\]"):
        sentence_bert.effective_across_input(e[0], valid[0, :2])


def test_naive_bootstrap_bias_is_not_in_the_pairwise_mean() -> None:
    # Drawing with replacement pairs a text with itself and has the mean (1 - 1/n) U: that factor must not be in U.
    e, _ = draw(5, 6)
    every_pair = float(np.mean(1 - e @ e.T))
    assert every_pair == pytest.approx((1 - 1 / 6) * float(sentence_bert.per_input(e)))
