"""Comparing trainings at equal distance: the curves, the range, the average and its interval."""

import bisect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.statistics.two_way import two_way_t
from reference_models.studies.equal_kl import GRID, Family, gap, gap_within_seeds, on_curve, reach

DISTANCES = st.lists(st.floats(0.01, 50), min_size=1, max_size=7, unique=True)


def read_off(points, at):
    """One curve, the slow way."""
    points = sorted(points)
    xs = [math.log(x) for x, _ in points]
    wanted = math.log(at)
    if wanted <= xs[0]:
        return points[0][1]
    if wanted >= xs[-1]:
        return points[-1][1]
    place = bisect.bisect_right(xs, wanted)
    share = (wanted - xs[place - 1]) / (xs[place] - xs[place - 1])
    return (1 - share) * points[place - 1][1] + share * points[place][1]


@given(DISTANCES, st.data())
def test_a_curve_is_read_off_between_its_neighbours_in_distance(distances, data):
    values = data.draw(st.lists(st.floats(-5, 5), min_size=len(distances), max_size=len(distances)))
    at = data.draw(st.lists(st.floats(0.005, 100), min_size=1, max_size=5))
    found = on_curve(np.array(distances)[:, None], np.array(values)[:, None], np.array(at))
    expected = [read_off(list(zip(distances, values, strict=True)), one) for one in at]
    # Neighbours may be one rounding apart, and the line between them as steep as one likes.
    assert found[:, 0] == pytest.approx(expected, abs=1e-6, rel=1e-6)


def family(seed, of_log, *, members=6, prompts=40, low=0.2, high=3.0, noise=0.05):
    """A family whose values are a function of the logarithm of the distance, prompt by prompt about it."""
    rng = np.random.default_rng(seed)
    means = np.geomspace(low, high, members)
    ease = rng.normal(0, 0.2, prompts)
    distances = means[:, None] * np.exp(ease - np.log(np.mean(np.exp(ease))))
    values = of_log(np.log(means))[:, None] + rng.normal(0, noise, prompts)
    return Family(distances, values)


def test_families_on_one_curve_differ_by_nothing_whatever_their_members():
    def line(x):
        return 0.5 - 0.1 * x

    ours = [family(seed, line, members=5, low=0.3, noise=0.0) for seed in range(3)]
    theirs = [family(seed, line, members=9, high=5.0, noise=0.0) for seed in range(3)]
    found = gap(ours, theirs)
    assert found.estimate == pytest.approx(0, abs=1e-9)
    assert found.interval.low <= 0 <= found.interval.high
    assert found.reach == pytest.approx((0.3, 3.0))


def test_a_shift_is_found_with_its_sign_in_every_seed():
    theirs = [family(seed, np.sin) for seed in range(3)]
    ours = [one._replace(values=one.values - 0.25) for one in theirs]
    found = gap(ours, theirs)
    assert found.estimate == pytest.approx(-0.25)
    assert found.per_seed == pytest.approx([-0.25] * 3)
    assert [value for _, value in found.at] == pytest.approx([-0.25] * 5)
    assert found.interval.low == pytest.approx(-0.25)
    assert found.interval.high == pytest.approx(-0.25)


def test_the_average_weighs_equal_ratios_of_distance_equally():
    theirs = [family(seed, np.zeros_like, noise=0.0) for seed in range(2)]
    ours = [family(seed, lambda x: x, noise=0.0, members=40) for seed in range(2)]
    found = gap(ours, theirs)
    low, high = found.reach
    assert found.estimate == pytest.approx((math.log(low) + math.log(high)) / 2, abs=2e-3)


def test_the_reach_is_what_every_family_reached():
    families = [family(0, np.sin, low=0.1, high=2.0), family(1, np.sin, low=0.4, high=3.0)]
    assert reach(families) == pytest.approx((0.4, 2.0))
    assert reach([family(0, np.sin, low=0.1, high=0.2), family(1, np.sin, low=0.4, high=3.0)]) is None
    assert gap([family(0, np.sin, high=0.25)], [family(0, np.sin, low=0.3)]) is None


def test_the_interval_is_that_of_leaving_out_each_prompt_from_values_and_distances():
    rng = np.random.default_rng(4)
    ours = [family(seed, np.sin) for seed in range(3)]
    theirs = [family(seed + 10, np.cos, members=5) for seed in range(3)]
    ours = [one._replace(values=one.values + rng.normal(0, 0.1, one.values.shape)) for one in ours]
    found = gap(ours, theirs)
    grid = np.geomspace(*found.reach, GRID)
    rows = []
    for mine, other in zip(ours, theirs, strict=True):

        def difference(kept, mine=mine, other=other):
            curves = [
                [read_off(list(zip(one.distances[:, kept].mean(1), one.values[:, kept].mean(1), strict=True)), at)
                 for at in grid]
                for one in (mine, other)
            ]  # fmt: skip
            return float(np.mean(np.subtract(*curves)))

        n = mine.values.shape[1]
        full = difference(np.arange(n))
        left_out = np.array([difference(np.delete(np.arange(n), prompt)) for prompt in range(n)])
        rows.append(full + (n - 1) * (left_out.mean() - left_out))
    expected = two_way_t(np.array(rows))
    assert found.estimate == pytest.approx(expected.estimate)
    assert tuple(found.interval) == pytest.approx(tuple(expected.interval))


def winning(low, high, value_of, *, members=6, prompts=30, seed=0):
    """A family whose values are a function of its win rate, prompt by prompt about it."""
    rng = np.random.default_rng(seed)
    means = np.linspace(low, high, members)
    noise = rng.normal(0, 0.05, (2, prompts))
    noise -= noise.mean(axis=1, keepdims=True)
    return Family(means[:, None] + noise[0], value_of(means)[:, None] + noise[1])


def test_at_equal_win_rate_each_seed_counts_over_its_own_range_and_lines_are_straight():
    theirs = [winning(0.1, 0.3, lambda x: x, seed=0), winning(0.5, 0.9, lambda x: x, seed=1)]
    ours = [winning(0.2, 0.4, np.zeros_like, seed=2), winning(0.6, 0.8, np.zeros_like, seed=3)]
    found = gap_within_seeds(ours, theirs)
    assert found.reach == [pytest.approx((0.2, 0.3)), pytest.approx((0.6, 0.8))]
    assert found.per_seed == pytest.approx([-0.25, -0.7])
    assert found.estimate == pytest.approx(-0.475, abs=1e-3)
    assert found.seeds == 2


def test_a_seed_without_a_common_win_rate_is_left_out_and_counted():
    theirs = [winning(0.1, 0.3, np.sin, seed=seed) for seed in range(3)]
    ours = [one._replace(values=one.values + 0.1) for one in theirs]
    apart = winning(0.6, 0.8, np.sin)
    found = gap_within_seeds([*ours, apart], [*theirs, theirs[0]])
    assert found.per_seed == [pytest.approx(0.1)] * 3 + [None]
    assert (found.seeds, found.reach[3]) == (3, None)
    assert found.estimate == pytest.approx(0.1)
    alone = gap_within_seeds([ours[0], apart], [theirs[0], theirs[1]])
    assert (alone.seeds, alone.interval) == (1, None)
    nothing = gap_within_seeds([apart], [theirs[0]])
    assert (nothing.estimate, nothing.interval, nothing.per_seed) == (None, None, [None])
