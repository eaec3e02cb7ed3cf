from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from benchmark.statistics.jackknife import jackknife_interval, pseudo_values
from benchmark.statistics.plane import (
    ellipse,
    hypervolume,
    pareto_front,
    plane_points,
    polygon,
    score,
    score_leave_one_out,
)

EXACT = settings(derandomize=True, deadline=None, max_examples=80)
tenths = st.integers(0, 10).map(lambda value: value / 10)
point_sets = st.lists(st.tuples(tenths, tenths), min_size=1, max_size=7)


def grid_area(points: list[tuple[float, float]]) -> float:
    """Cells of a 10 x 10 grid whose upper right corner some point covers."""
    cells = itertools.product(range(1, 11), repeat=2)
    return sum(any(x >= a / 10 - 1e-9 and y >= b / 10 - 1e-9 for x, y in points) for a, b in cells) / 100


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(0.5, 0.5)], 0.25),
        ([(0.8, 0.2), (0.2, 0.8)], 0.28),
        ([(0.8, 0.2), (0.2, 0.8), (0.5, 0.5)], 0.37),
        ([(0.8, 0.2), (0.5, 0.1)], 0.16),
        ([], 0.0),
        ([(0.0, 0.9)], 0.0),
        ([(-0.5, 0.5), (0.5, -0.5)], 0.0),
        ([(0.5, 0.5), (0.5, 0.5)], 0.25),
    ],
)
def test_hypervolume_of_the_known_vectors(points: list[tuple[float, float]], area: float) -> None:
    assert float(hypervolume(points)) == pytest.approx(area, abs=1e-15)
    assert float(score(points)) == pytest.approx(math.sqrt(area))


@EXACT
@given(point_sets)
def test_hypervolume_equals_a_count_of_grid_cells(points: list[tuple[float, float]]) -> None:
    assert float(hypervolume(points)) == pytest.approx(grid_area(points), abs=1e-12)


@EXACT
@given(point_sets, st.tuples(tenths, tenths))
def test_another_point_never_lowers_the_score(points: list[tuple[float, float]], more: tuple[float, float]) -> None:
    assert score([*points, more]) >= score(points) - 1e-15


@EXACT
@given(tenths, tenths)
def test_the_score_of_one_point_is_the_geometric_mean(x: float, y: float) -> None:
    assert float(score([(x, y)])) == pytest.approx(math.sqrt(x * y), abs=1e-15)


@EXACT
@given(point_sets)
def test_hypervolume_rests_on_the_front_alone_and_on_no_order(points: list[tuple[float, float]]) -> None:
    front = np.array(points)[pareto_front(points)]
    assert float(hypervolume(front)) == pytest.approx(float(hypervolume(points)), abs=1e-15)
    assert float(hypervolume(points[::-1])) == pytest.approx(float(hypervolume(points)), abs=1e-15)
    swapped = [(y, x) for x, y in points]
    assert float(hypervolume(swapped)) == pytest.approx(float(hypervolume(points)), abs=1e-12)


@EXACT
@given(hnp.arrays(np.float64, (3, 2, 4, 2), elements=st.floats(-0.5, 1)))
def test_hypervolume_of_many_sets_is_that_of_each(points: NDArray[np.float64]) -> None:
    areas = hypervolume(points)
    assert areas.shape == (3, 2)
    for place in np.ndindex(3, 2):
        assert areas[place] == hypervolume(points[place])


@EXACT
@given(point_sets)
def test_the_front_is_what_no_point_dominates(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points).tolist()

    def dominated(i: int) -> bool:
        x, y = points[i]
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)

    assert sorted(front) == [i for i in range(len(points)) if not dominated(i)]
    xs, ys = [points[i][0] for i in front], [points[i][1] for i in front]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)


def test_the_front_of_nothing_is_empty() -> None:
    assert pareto_front([]).size == 0


@pytest.mark.parametrize("points", [[0.5, 0.5], [[0.1, 0.2, 0.3]], [[math.nan, 0.5]], [[math.inf, 0.5]]])
def test_points_that_are_none_are_refused(points: list[float]) -> None:
    for call in (hypervolume, score, pareto_front):
        with pytest.raises(ValueError, match="points"):
            call(points)
    with pytest.raises(ValueError, match="points"):
        pareto_front(np.zeros((2, 2, 2)))


def mahalanobis(points: NDArray[np.float64], centre: NDArray[np.float64], covariance: NDArray[np.float64]):
    gap = points - centre
    return np.einsum("pi,ij,pj->p", gap, np.linalg.inv(covariance), gap)


@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.0, 0.6, 0.99])
@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
def test_the_ellipse_is_the_contour_of_the_covariance_over_n(correlation: float, spread: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = spread * (correlation * x + math.sqrt(1 - correlation**2) * rng.normal(size=50))
    region = ellipse(x, y)
    assert region is not None
    edge = polygon(region, 40)
    assert edge.shape == (40, 2)
    distance = mahalanobis(edge, np.array([x.mean(), y.mean()]), np.cov(x, y) / 50)
    np.testing.assert_allclose(distance, stats.chi2.ppf(0.95, 2), rtol=1e-9)
    assert stats.chi2.ppf(0.95, 2) == pytest.approx(5.991, abs=5e-4)
    assert region.semi_major >= region.semi_minor
    assert -math.pi / 2 < region.angle <= math.pi / 2


def test_the_polygon_starts_at_the_major_axis_and_turns_anticlockwise() -> None:
    region = ellipse([0.0, 1.0, 2.0, 3.0], [0.0, 1.5, 1.5, 3.0])
    assert region is not None
    edge = polygon(region)
    tip = np.array([math.cos(region.angle), math.sin(region.angle)]) * region.semi_major
    np.testing.assert_allclose(edge[0], np.array([region.x, region.y]) + tip)
    x, y = edge.T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
    assert region.angle > 0  # x and y rise together


def test_unpaired_sides_have_no_covariance_and_may_differ_in_length() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=40), rng.normal(0, 3, 90)
    region = ellipse(x, y, paired=False)
    assert region is not None
    scale = math.sqrt(stats.chi2.ppf(0.95, 2))
    assert region.angle == pytest.approx(math.pi / 2)
    assert region.semi_major == pytest.approx(scale * stats.sem(y))
    assert region.semi_minor == pytest.approx(scale * stats.sem(x))
    same = rng.normal(size=40)
    assert ellipse(same, same, paired=False) != ellipse(same, same)


def test_degenerate_ellipses_have_no_width() -> None:
    x = np.array([0.1, 0.4, 0.6])
    flat, line, dot = ellipse(x, [0.5] * 3), ellipse(x, 2 * x), ellipse([0.5] * 3, [0.25] * 3)
    assert flat is not None
    assert line is not None
    assert dot is not None
    assert flat.semi_minor == 0
    assert flat.angle == 0
    assert line.semi_minor == pytest.approx(0, abs=1e-7)
    assert line.angle == pytest.approx(math.atan(2))
    assert dot == (0.5, 0.25, 0, 0, 0)
    np.testing.assert_array_equal(polygon(dot, 3), [[0.5, 0.25]] * 3)


def test_one_prompt_has_no_ellipse() -> None:
    assert ellipse([0.5], [0.5]) is None
    assert ellipse([0.5, 0.6], [0.5], paired=False) is None


def test_the_ellipse_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="share their prompts"):
        ellipse([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="y must be finite"):
        ellipse([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ValueError, match="level"):
        ellipse([1.0, 2.0], [1.0, 2.0], level=95)


def slow_score(x: NDArray[np.float64], y: NDArray[np.float64], reference: float) -> float:
    points = [
        (min(1.0, max(0.0, float(a))), min(1.0, max(0.0, float(b) / reference)))
        for a, b in zip(x.mean(axis=0), y.mean(axis=0), strict=True)
    ]
    return float(score(points))


@EXACT
@given(
    hnp.arrays(np.float64, (2, 6, 3), elements=st.floats(-0.5, 1.5).map(lambda value: round(value, 3))),
    st.sampled_from([0.3, 1.0, 1.7]),
)
def test_the_score_without_each_prompt_is_recomputed_without_it(values: NDArray[np.float64], reference: float) -> None:
    x, y = values
    result = score_leave_one_out(x, y, reference)
    assert result.full == pytest.approx(slow_score(x, y, reference), abs=1e-12)
    expected = [slow_score(np.delete(x, i, axis=0), np.delete(y, i, axis=0), reference) for i in range(6)]
    np.testing.assert_allclose(result.leave_one_out, expected, atol=1e-7)


def test_the_mean_is_clipped_and_not_the_values() -> None:
    np.testing.assert_allclose(plane_points([[1.2], [0.4]], [[3.0], [0.0]], 2.0), [[0.8, 0.75]])
    np.testing.assert_allclose(plane_points([[1.2], [1.4]], [[-3.0], [0.0]], 2.0), [[1.0, 0.0]])
    np.testing.assert_allclose(plane_points([[0.1]], [[0.9]], 0.5), [[0.1, 1.0]])


def test_the_error_of_a_single_points_score_is_that_of_the_delta_method() -> None:
    rng = np.random.default_rng(2)
    x = rng.beta(2, 2, (2000, 1))
    y = 0.2 * x + 0.1 * rng.random((2000, 1))
    result = score_leave_one_out(x, y, 0.5)
    gradient = np.array([y.mean() / 0.5, x.mean() / 0.5]) / (2 * result.full)
    error = math.sqrt(gradient @ np.cov(x[:, 0], y[:, 0]) @ gradient / 2000)
    assert pseudo_values(*result).std(ddof=1) / math.sqrt(2000) == pytest.approx(error, rel=1e-3)
    interval = jackknife_interval(*result)
    assert interval is not None
    assert interval.low < result.full < interval.high


def test_one_prompt_has_a_score_and_no_interval() -> None:
    result = score_leave_one_out([[0.5, 0.25]], [[0.5, 1.0]], 1.0)
    assert result.full == pytest.approx(math.sqrt(0.375))
    np.testing.assert_array_equal(result.leave_one_out, [result.full])
    assert jackknife_interval(*result) is None


@pytest.mark.parametrize("reference", [0.0, -1.0, math.nan, math.inf])
def test_a_reference_that_cannot_divide_is_refused(reference: float) -> None:
    with pytest.raises(ValueError, match="reference"):
        score_leave_one_out([[0.5]], [[0.5]], reference)


def test_sweeps_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="share prompts"):
        score_leave_one_out(np.zeros((3, 2)), np.zeros((3, 1)), 1.0)
    with pytest.raises(ValueError, match="share prompts"):
        score_leave_one_out(np.zeros((3, 2)), np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="same temperatures"):
        plane_points(np.zeros((3, 2)), np.zeros((3, 1)), 1.0)
    with pytest.raises(ValueError, match="y_values must be finite"):
        plane_points(np.zeros((3, 1)), np.full((3, 1), math.nan), 1.0)
