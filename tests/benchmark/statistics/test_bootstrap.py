from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from benchmark.statistics.bootstrap import _cluster_sums, _resampled, bca, bootstrap, percentile, weights

EXACT = settings(derandomize=True, deadline=None, max_examples=40)


def counts(indices: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    return np.array([np.bincount(row, minlength=n) for row in indices])


def slow_intervals(
    groups: list[list[float]], drawn: NDArray[np.intp], level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile and BCa of the mean over all rows, groups drawn whole: the textbook, one resample at a time."""

    def mean(which: list[int]) -> float:
        rows = [value for g in which for value in groups[g]]
        return math.fsum(rows) / len(rows)

    everything = list(range(len(groups)))
    estimate = mean(everything)
    resampled = np.array([mean(list(row)) for row in drawn])
    below = np.mean([1.0 if r < estimate - 1e-12 else 0.5 if r <= estimate + 1e-12 else 0.0 for r in resampled])
    left_out = np.array([mean(everything[:i] + everything[i + 1 :]) for i in everything])
    u = left_out.mean() - left_out
    a = 0.0 if np.allclose(u, 0, atol=1e-13) else (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    z0, tail = special.ndtri(below), (1 + level) / 2

    def adjust(share: float) -> float:
        z = z0 + special.ndtri(share)
        return float(special.ndtr(z0 + z / (1 - a * z)))

    plain = np.quantile(resampled, [1 - tail, tail])
    adjusted = np.quantile(resampled, [adjust(1 - tail), adjust(tail)])
    return (plain[0], plain[1]), (adjusted[0], adjusted[1])


def test_every_resample_draws_as_many_prompts_as_there_are() -> None:
    drawn = weights(37, 500, 1)
    assert drawn.shape == (500, 37)
    assert (drawn.sum(axis=1, dtype=int) == 37).all()


def test_weights_of_a_seed_are_the_same_and_of_another_seed_are_not() -> None:
    np.testing.assert_array_equal(weights(20, 50, 7), weights(20, 50, 7))
    assert (weights(20, 50, 7) != weights(20, 50, 8)).any()


def test_weights_have_the_moments_of_a_multinomial() -> None:
    n, resamples = 40, 20_000
    drawn = weights(n, resamples, 3).astype(float)
    # Counts of one prompt: mean 1, variance 1 - 1/n; of two prompts: covariance -1/n.
    covariance = np.cov(drawn.T)
    assert np.abs(drawn.mean(axis=0) - 1).max() < 5 / math.sqrt(resamples)
    assert np.diag(covariance).mean() == pytest.approx(1 - 1 / n, abs=0.01)
    assert covariance[~np.eye(n, dtype=bool)].mean() == pytest.approx(-1 / n, abs=0.001)


@pytest.mark.parametrize(("n", "bits"), [(200, 8), (255, 8), (300, 16)])
def test_weights_are_kept_small(n: int, bits: int) -> None:
    assert weights(n, 3, 0).dtype == np.dtype(f"uint{bits}")


def test_weights_larger_than_one_block_are_drawn_whole() -> None:
    drawn = weights(2**19, 5, 0)
    assert (drawn.sum(axis=1, dtype=np.int64) == 2**19).all()


@EXACT
@given(st.lists(st.integers(0, 8), min_size=2, max_size=12), st.integers(0, 99), st.sampled_from([0.8, 0.95]))
def test_intervals_equal_an_index_loop_on_data_with_ties(eighths: list[int], seed: int, level: float) -> None:
    values = [value / 8 for value in eighths]
    drawn = np.random.default_rng(seed).integers(0, len(values), (99, len(values)))
    result = bootstrap(values, counts(drawn, len(values)), level)
    assert result is not None
    if len(set(values)) == 1:
        np.testing.assert_array_equal(result, [[values[0]] * 2] * 2)
        return
    plain, adjusted = slow_intervals([[value] for value in values], drawn, level)
    np.testing.assert_allclose(result.percentile, plain, atol=1e-10)
    np.testing.assert_allclose(result.bca, adjusted, atol=1e-8)


@EXACT
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), min_size=3, max_size=8), st.integers(0, 99))
def test_clusters_of_any_size_are_kept_whole(groups: list[list[int]], seed: int) -> None:
    eighths = [[value / 8 for value in group] for group in groups]
    values = [value for group in eighths for value in group]
    if len(set(values)) == 1:
        return
    ids = [f"prompt {place}" for place, group in enumerate(eighths) for _ in group]
    drawn = np.random.default_rng(seed).integers(0, len(groups), (99, len(groups)))
    plain, adjusted = slow_intervals(eighths, drawn, 0.9)
    # Rows of a cluster need not stand together.
    shuffle = np.random.default_rng(seed).permutation(len(values))
    rows, names = np.array(values)[shuffle], np.array(ids)[shuffle]
    result = bootstrap(rows, counts(drawn, len(groups)), 0.9, clusters=names)
    assert result is not None
    np.testing.assert_allclose(result.percentile, plain, atol=1e-10)
    np.testing.assert_allclose(result.bca, adjusted, atol=1e-8)


def test_resampling_whole_clusters_has_the_known_cluster_error() -> None:
    samples, ids = np.array([1.0, 1, 0, 0, 1, 0, 1, 1]), np.repeat(np.arange(4), 2)
    sums, sizes = _cluster_sums((samples - samples.mean())[:, None], ids)
    every_resample = counts(np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T, 4)  # all 256, equally likely
    assert _resampled(sums, sizes, every_resample).std() == pytest.approx(0.20728904939721246, abs=1e-15)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_equal_scipys_on_scipys_own_resamples(method: str) -> None:
    values = np.random.default_rng(5).gamma(1.0, size=60)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method=method, rng=np.random.default_rng(11), vectorized=True
    )
    indices = np.random.default_rng(11).integers(0, 60, (2000, 60))
    np.testing.assert_allclose(theirs.bootstrap_distribution, values[indices].mean(axis=1), rtol=1e-13)  # same draws
    ours = (percentile if method == "percentile" else bca)(values, counts(indices, 60))
    np.testing.assert_allclose(ours, tuple(theirs.confidence_interval), rtol=1e-12)


def test_intervals_agree_with_scipy_on_other_resamples() -> None:
    values = np.random.default_rng(6).gamma(1.0, size=80)
    error = stats.sem(values)
    for method, ours in (("percentile", percentile), ("BCa", bca)):
        theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method=method, rng=np.random.default_rng(0))
        # A 2.5 % quantile of 10,000 draws has a Monte-Carlo error of .027 standard errors; two of them differ by .038.
        np.testing.assert_allclose(
            ours(values, weights(80, 10_000, 0)), tuple(theirs.confidence_interval), atol=0.15 * error
        )


def test_bca_leans_towards_the_long_tail_and_percentile_does_so_less() -> None:
    values = np.random.default_rng(2).exponential(size=100)
    result = bootstrap(values, weights(100, 10_000, 0))
    assert result is not None
    assert (result.bca > result.percentile).all()
    mirrored = bootstrap(-values, weights(100, 10_000, 0))
    assert mirrored is not None
    np.testing.assert_allclose(mirrored.bca, -result.bca[::-1], atol=1e-9)


def test_a_column_has_the_interval_it_would_have_alone() -> None:
    values, drawn = np.random.default_rng(1).random((50, 6)), weights(50, 999, 4)
    together = bootstrap(values, drawn)
    assert together is not None
    assert together.bca.shape == together.percentile.shape == (6, 2)
    for place in range(6):
        alone = bootstrap(values[:, place], drawn)
        assert alone is not None
        np.testing.assert_allclose(together.percentile[place], alone.percentile, rtol=1e-12)
        np.testing.assert_allclose(together.bca[place], alone.bca, rtol=1e-9)


@pytest.mark.parametrize("n", [3, 6, 7])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1.0])
def test_a_constant_column_collapses_to_its_constant(constant: float, n: int) -> None:
    values = np.column_stack([np.full(n, constant), np.arange(float(n))])
    result = bootstrap(values, weights(n, 200, 0))
    assert result is not None
    np.testing.assert_array_equal(result.percentile[0], [constant, constant])
    np.testing.assert_array_equal(result.bca[0], [constant, constant])
    assert result.bca[1, 0] < (n - 1) / 2 < result.bca[1, 1]


def test_one_cluster_has_no_interval() -> None:
    assert bootstrap([0.5], weights(1, 10, 0)) is None
    assert percentile([0.1, 0.9], weights(1, 10, 0), clusters=["a", "a"]) is None
    assert bca([0.1, 0.9], weights(1, 10, 0), clusters=["a", "a"]) is None


def test_resamples_all_on_one_side_and_extreme_levels_stay_finite() -> None:
    values = np.array([0.0] * 9 + [1.0])
    never_the_last, always_twice = np.array([[2] + [1] * 8 + [0]] * 4), np.array([[0] + [1] * 8 + [2]] * 4)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result, above = bootstrap(values, never_the_last), bootstrap(values, always_twice)
        extreme = bootstrap(values, weights(10, 500, 0), level=0.999999)
    assert result is not None
    assert extreme is not None
    assert above is not None
    np.testing.assert_allclose(result.bca, [0, 0], atol=1e-15)
    np.testing.assert_allclose(above.bca, [0.2, 0.2])
    assert np.isfinite(extreme.bca).all()
    assert extreme.bca[0] <= extreme.bca[1]


def test_tiny_numbers_do_not_underflow() -> None:
    values, drawn = np.random.default_rng(0).exponential(size=30), weights(30, 500, 0)
    small, large = bca(values * 1e-150, drawn), bca(values, drawn)
    assert small is not None
    assert large is not None
    np.testing.assert_allclose(small * 1e150, large, rtol=1e-9)


@pytest.mark.parametrize("shape", [(10, 4), (10,), (10, 6)])
def test_weights_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        bootstrap([1.0, 2.0, 3.0, 4.0, 5.0], np.ones(shape))


def test_bad_input_is_refused() -> None:
    drawn = weights(2, 10, 0)
    for values in ([], [1.0, math.nan], np.zeros((2, 2, 2)), np.zeros((2, 0))):
        with pytest.raises(ValueError, match="values"):
            bootstrap(values, drawn)
    with pytest.raises(ValueError, match="clusters"):
        bootstrap([1.0, 2.0], drawn, clusters=["a"])
    with pytest.raises(ValueError, match="level"):
        bootstrap([1.0, 2.0], drawn, level=95)
    for n, resamples in ((0, 10), (10, 0)):
        with pytest.raises(ValueError, match="at least one"):
            weights(n, resamples, 0)
