import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import vendi

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 7)
WIDTHS = st.integers(1, 9)
ORDERS = st.sampled_from(vendi.ORDERS)


def unit(rows: object) -> np.ndarray:
    e = np.asarray(rows, float)
    return e / np.linalg.norm(e, axis=-1, keepdims=True)


def draw(seed: int, *shape: int) -> np.ndarray:
    """Unit rows, some of them twice in their set."""
    rng = np.random.default_rng(seed)
    e = unit(rng.normal(size=shape) + 0.3)
    k = shape[-2]
    return e[..., rng.integers(0, k, k), :] if k and rng.random() < 0.5 else e


def hill(shares: np.ndarray, order: float) -> float:
    p = shares[shares > 1e-13]
    if order == 1:
        return math.exp(-sum(x * math.log(x) for x in p))
    return 1 / max(p) if order == math.inf else sum(x**order for x in p) ** (1 / (1 - order))


def slow(e: np.ndarray, order: float) -> float:
    """Definition: the eigenvalues of K/n."""
    return hill(np.linalg.eigvalsh([[a @ b / len(e) for b in e] for a in e]), order) if len(e) else np.nan


def right_angles(*sizes: int) -> np.ndarray:
    """Classes of identical texts, at right angles to each other."""
    return np.repeat(np.eye(len(sizes)), sizes, axis=0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.eye(2), 2.0),
        (right_angles(3), 1.0),
        (right_angles(2, 1), 1.8898815748423097),
        ([(1, 0), (0.5, math.sqrt(0.75))], 1.7547653506033232),
        (right_angles(3, 1), 1.7547653506033232),
    ],
)
def test_known_scores(rows: object, expected: float) -> None:
    e = np.asarray(rows, float)
    assert float(vendi.per_input(e)) == pytest.approx(expected, rel=1e-14)
    assert float(vendi.across_input(e)[0]) == pytest.approx(expected, rel=1e-14)


@FIXED
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), ORDERS)
def test_classes_at_right_angles_give_their_hill_number(sizes: list[int], order: float) -> None:
    expected = hill(np.array(sizes) / sum(sizes), order)
    assert float(vendi.per_input(right_angles(*sizes), order=order)) == pytest.approx(expected)


def test_hill_numbers_of_three_to_one() -> None:
    found = [float(vendi.per_input(right_angles(3, 1), order=order)) for order in (1, 2, math.inf)]
    assert found == pytest.approx([1.7547653506033232, 1.6, 4 / 3])


@FIXED
@given(SEEDS, SIZES, WIDTHS, ORDERS)
def test_batched_equals_the_definition(seed: int, k: int, d: int, order: float) -> None:
    e = draw(seed, 2, 3, k, d)
    expected = [[slow(rows, order) for rows in sets] for sets in e]
    assert vendi.per_input(e, order=order) == pytest.approx(np.array(expected))


def test_blocks_of_sets_agree_with_one_set_at_a_time() -> None:
    e = draw(4, 3, 19, 5, 8).astype(np.float32)
    assert vendi.per_input(e) == pytest.approx(np.array([[slow(rows, 1.0) for rows in sets] for sets in e]), rel=1e-5)


@FIXED
@given(SEEDS, SIZES, WIDTHS, ORDERS)
def test_across_input_without_each_text_equals_recomputation(seed: int, n: int, d: int, order: float) -> None:
    e = draw(seed, 2, n, d)
    value, without = vendi.across_input(e, order=order)
    assert value.shape == (2,)
    assert without.shape == (2, n)
    for slot in range(2):
        assert value[slot] == pytest.approx(slow(e[slot], order))
        left = [slow(np.delete(e[slot], i, 0), order) for i in range(n)]
        assert without[slot] == pytest.approx(np.array(left), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize(("n", "d"), [(120, 384), (120, 40), (41, 40)])
@pytest.mark.parametrize("order", vendi.ORDERS)
def test_large_sets_are_left_out_of_to_twelve_digits(n: int, d: int, order: float) -> None:
    rng = np.random.default_rng(n + d)
    e = unit(rng.normal(size=(n, d)) + 0.2)
    e[1], e[2] = e[0], unit(e[0] + 1e-7 * rng.normal(size=d))  # One text twice, and one that all but equals them.
    _, without = vendi.across_input(e, order=order)
    chosen = [0, 1, 2, 3, n - 1]
    direct = np.stack([np.delete(e, i, 0) for i in chosen])
    assert without[chosen] == pytest.approx(vendi.per_input(direct, order=order), rel=1e-11)


@FIXED
@given(SEEDS, SIZES, WIDTHS, ORDERS)
def test_order_and_rotation_do_not_matter(seed: int, k: int, d: int, order: float) -> None:
    e = draw(seed, k, d)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    order_of_texts = rng.permutation(k)
    turned = e[order_of_texts] @ rotation
    assert float(vendi.per_input(turned, order=order)) == pytest.approx(float(vendi.per_input(e, order=order)))
    _, without = vendi.across_input(e, order=order)
    assert vendi.across_input(turned, order=order)[1] == pytest.approx(without[order_of_texts], nan_ok=True)


@FIXED
@given(SEEDS, SIZES, WIDTHS)
def test_range_is_one_to_the_smaller_side_and_falls_with_the_order(seed: int, k: int, d: int) -> None:
    e = draw(seed, k, d)
    found = [float(vendi.per_input(e, order=order)) for order in vendi.ORDERS]
    assert all(1 - 1e-12 <= value <= min(k, d) + 1e-9 for value in found)
    assert found == pytest.approx(sorted(found, reverse=True))


@FIXED
@given(SEEDS, SIZES, WIDTHS, ORDERS)
def test_every_text_twice_changes_nothing(seed: int, k: int, d: int, order: float) -> None:
    e = draw(seed, k, d)
    twice = np.concatenate([e, e])
    assert float(vendi.per_input(twice, order=order)) == pytest.approx(float(vendi.per_input(e, order=order)))


@pytest.mark.parametrize("order", vendi.ORDERS)
def test_identical_texts_in_float32_are_one(order: float) -> None:
    e = np.tile(unit(np.random.default_rng(0).normal(size=384)).astype(np.float32), (2, 16, 1))
    value, without = vendi.across_input(e, order=order)
    assert vendi.per_input(e, order=order) == pytest.approx(np.ones(2), abs=1e-12)
    assert value == pytest.approx(np.ones(2), abs=1e-12)
    assert without == pytest.approx(np.ones((2, 16)), abs=1e-12)


def test_rounding_of_norms_does_not_matter() -> None:
    e = draw(3, 6, 9)
    scaled = e * np.linspace(0.9995, 1.0005, 6)[:, None]
    for order in vendi.ORDERS:
        assert vendi.per_input(scaled, order=order) == pytest.approx(vendi.per_input(e, order=order), rel=1e-12)
        for rows in (slice(None), (slice(None), slice(2))):
            kept = unit(scaled[rows])
            assert vendi.across_input(kept * 1.0004, order=order)[1] == pytest.approx(
                vendi.across_input(kept, order=order)[1], rel=1e-9
            )


@pytest.mark.parametrize("order", vendi.ORDERS)
def test_one_text_is_one_kind_and_none_is_missing(order: float) -> None:
    one, none = np.ones((3, 1, 2)) / math.sqrt(2), np.ones((3, 0, 2))
    assert vendi.per_input(one, order=order).tolist() == pytest.approx([1.0] * 3)
    value, without = vendi.across_input(one, order=order)
    assert value.tolist() == pytest.approx([1.0] * 3)
    assert np.isnan(without).all()
    assert without.shape == (3, 1)
    assert np.isnan(vendi.per_input(none, order=order)).tolist() == [True] * 3
    assert np.isnan(vendi.across_input(none, order=order)[0]).tolist() == [True] * 3


def test_rows_that_are_not_unit_are_refused() -> None:
    for rows in (np.ones((2, 3, 2)), np.full((2, 3, 2), np.nan), np.full((2, 3, 2), 0.5)):
        for call in (vendi.per_input, vendi.across_input):
            with pytest.raises(ValueError, match="unit norm"):
                call(rows)


@pytest.mark.parametrize("order", [0.0, 0.5, 3, math.nan])
def test_other_orders_are_refused(order: float) -> None:
    for call in (vendi.per_input, vendi.across_input):
        with pytest.raises(ValueError, match="order"):
            call(np.eye(2), order=order)
