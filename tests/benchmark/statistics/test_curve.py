from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmark.statistics.curve import RESOLVED, CurveGain, gain_over_curve
from benchmark.statistics.intervals import Interval, t_interval
from benchmark.statistics.jackknife import jackknife_interval
from benchmark.statistics.two_way import two_way_t

EXACT = settings(derandomize=True, deadline=None, max_examples=60)
Array = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
WIN, DIVERSITY = (0.36, 0.28, 0.18, 0.10), (0.56, 0.69, 0.75, 0.785)  # as of a fine-tuned model at T = .3 to 1.3


def models(
    rng: np.random.Generator,
    n: int,
    point: tuple[float, float] = (0.3, 0.72),
    wins: tuple[float, ...] = WIN,
    diversities: tuple[float, ...] = DIVERSITY,
) -> tuple[Array, Array, Array, Array]:
    """A model about ``point`` and a curve: wins of 16 samples and diversities, both moved by what the prompt is."""
    hardness, kind = rng.normal(size=(2, n))
    rates = np.array([point[0], *wins])[:, None]
    win = rng.binomial(16, 1 / (1 + np.exp(-np.log(rates / (1 - rates)) * 1.3 - 1.2 * hardness))) / 16
    noise = rng.normal(0, 0.04, (len(rates), n))
    diversity = np.clip(np.array([point[1], *diversities])[:, None] + 0.08 * kind - 0.03 * hardness + noise, 0, 1)
    return win[0], diversity[0], win[1:], diversity[1:]


def gained(*args: object) -> CurveGain:
    result = gain_over_curve(*args)  # type: ignore[arg-type]
    assert result is not None
    return result


def interval(result: CurveGain) -> Interval:
    assert result.interval is not None
    return result.interval


def slow(wins: Array, diversities: Array, curve_wins: Array, curve_diversities: Array) -> tuple[float, list[float]]:
    """The gain and its leave-one-outs, by deleting a prompt from every list."""
    met, curve, win = diversities.mean(), curve_diversities.mean(axis=1), curve_wins.mean(axis=1)
    candidates = []
    for low in range(len(curve) - 1):
        (a, at_a), (b, at_b) = sorted([(curve[low], win[low]), (curve[low + 1], win[low + 1])])
        if a <= met <= b:
            candidates.append((np.interp(met, [a, b], [at_a, at_b]), low))
    segment = max(candidates)[1]

    def gain(keep: list[int]) -> float:
        d, w = curve_diversities[:, keep].mean(axis=1), curve_wins[:, keep].mean(axis=1)
        slope = (w[segment + 1] - w[segment]) / (d[segment + 1] - d[segment])
        return float(wins[keep].mean() - w[segment] - slope * (diversities[keep].mean() - d[segment]))

    everyone = list(range(len(wins)))
    return gain(everyone), [gain([other for other in everyone if other != prompt]) for prompt in everyone]


def test_the_gain_by_hand() -> None:
    result = gained([1.0, 0.4], [0.4, 0.6], [[1.0, 0.2], [0.0, 0.6]], [[0.3, 0.5], [0.6, 0.8]])
    # A third of the way from (.4, .6) to (.7, .3) the curve wins .5; prompt by prompt 2/3 and 1/3.
    assert result.segment == 0
    assert result.weight == pytest.approx(1 / 3)
    np.testing.assert_allclose(result.values, [1 / 3, 1 / 15])
    assert result.estimate == pytest.approx(0.2)
    np.testing.assert_allclose(interval(result), t_interval([1 / 3, 1 / 15]))


def test_the_weight_is_found_anew_without_each_prompt_by_hand() -> None:
    # Only the model's diversity varies: .6 without the first prompt, .5 without the second and .4 without the third.
    result = gained([0.5] * 3, [0.3, 0.5, 0.7], [[1.0] * 3, [0.0] * 3], [[0.2] * 3, [0.7] * 3])
    left_out = np.array([0.5 - 0.2, 0.5 - 0.4, 0.5 - 0.6])
    np.testing.assert_allclose(result.values, 0.1 + 2 * (0.1 - left_out), atol=1e-12)
    np.testing.assert_allclose(interval(result), jackknife_interval(0.1, left_out))


@EXACT
@given(seeds, st.sampled_from([20, 47]))
def test_the_gain_is_that_of_a_slow_obvious_implementation(seed: int, n: int) -> None:
    data = models(np.random.default_rng(seed), n, (0.3, 0.63))
    result = gain_over_curve(*data)
    if result is None:
        return  # a segment too short for so few prompts; a test below says when
    full, left_out = slow(*data)
    assert result.estimate == pytest.approx(full, abs=1e-10)
    np.testing.assert_allclose(interval(result), jackknife_interval(full, left_out), atol=1e-9)


def test_most_curves_of_twenty_prompts_have_a_gain() -> None:
    found = [gain_over_curve(*models(np.random.default_rng(seed), 20, (0.3, 0.63))) for seed in range(50)]
    assert sum(result is not None for result in found) >= 45


@EXACT
@given(seeds)
def test_wins_that_are_linear_in_diversity_give_the_t_on_what_is_left(seed: int) -> None:
    wins, diversities, _, curve_diversities = models(np.random.default_rng(seed), 150)
    result = gained(wins, diversities, 0.9 - 0.8 * curve_diversities, curve_diversities)
    left = wins - 0.9 + 0.8 * diversities
    np.testing.assert_allclose(result.values, left, atol=1e-9)
    np.testing.assert_allclose(interval(result), t_interval(left), atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 150, 501])
@pytest.mark.parametrize("temperature", range(4))
def test_the_curve_itself_gains_exactly_nothing_at_each_of_its_temperatures(n: int, temperature: int) -> None:
    _, _, wins, diversities = models(np.random.default_rng(n), n)
    diversities = np.array(DIVERSITY)[:, None] + (diversities - np.array(DIVERSITY)[:, None]).mean(axis=0)
    result = gained(wins[temperature].copy(), diversities[temperature].copy(), wins, diversities)
    assert result.estimate == 0.0
    np.testing.assert_array_equal(result.values, 0.0)
    if n > 1:
        assert result[1:4] == ((0.0, 0.0), 1.0, n - 1)


@EXACT
@given(seeds, st.floats(0, 1), st.integers(0, 2))
def test_a_mixture_of_two_neighbouring_temperatures_gains_nothing(seed: int, share: float, low: int) -> None:
    _, _, wins, diversities = models(np.random.default_rng(seed), 150)
    mixed = [(1 - share) * values[low] + share * values[low + 1] for values in (wins, diversities)]
    result = gained(*mixed, wins, diversities)
    assert result[:3] == (0.0, (0.0, 0.0), 1.0)
    assert result.segment + result.weight == pytest.approx(low + share, abs=1e-9)


def test_more_wins_at_equal_diversity_are_the_gain() -> None:
    _, _, wins, diversities = models(np.random.default_rng(0), 150)
    more = np.random.default_rng(1).random(150)
    result = gained(wins[1] + more, diversities[1], wins, diversities)
    np.testing.assert_allclose(result.values, more, atol=1e-9)


@EXACT
@given(seeds, st.floats(-1, 1), st.floats(0.1, 10))
def test_the_gain_knows_neither_order_nor_the_scale_of_diversity(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    wins, diversities, curve_wins, curve_diversities = models(rng, 150)
    result, order = gained(wins, diversities, curve_wins, curve_diversities), rng.permutation(150)
    for other in (
        gained(wins[order], diversities[order], curve_wins[:, order], curve_diversities[:, order]),
        gained(wins, diversities, curve_wins[::-1], curve_diversities[::-1]),
        gained(wins, shift + scale * diversities, curve_wins, shift + scale * curve_diversities),
        gained(wins, -diversities, curve_wins, -curve_diversities),
        gained(wins + shift, diversities, curve_wins + shift, curve_diversities),
    ):
        np.testing.assert_allclose(interval(other), interval(result), atol=1e-8)
    stretched = gained(scale * wins, diversities, scale * curve_wins, curve_diversities)
    np.testing.assert_allclose(interval(stretched), scale * np.array(interval(result)), rtol=1e-7, atol=1e-9)


def test_a_temperature_on_the_chord_changes_nothing() -> None:
    wins, diversities, curve_wins, curve_diversities = models(np.random.default_rng(2), 150, (0.3, 0.6))
    result = gained(wins, diversities, curve_wins, curve_diversities)
    more = [np.insert(rows, 1, rows[:2].mean(axis=0), axis=0) for rows in (curve_wins, curve_diversities)]
    np.testing.assert_allclose(gained(wins, diversities, *more).values, result.values, atol=1e-10)


def test_outside_of_the_curves_range_there_is_no_gain() -> None:
    _, _, wins, diversities = models(np.random.default_rng(3), 150)
    for place, sign in ((0, -1), (-1, 1)):
        edge = diversities[place]
        assert gain_over_curve(wins[0], edge + sign * 1e-6, wins, diversities) is None
        assert gain_over_curve(wins[0], edge - sign * 1e-6, wins, diversities) is not None


def test_one_temperature_is_no_curve() -> None:
    assert gain_over_curve([0.5, 0.6], [0.3, 0.4], [[0.5, 0.6]], [[0.3, 0.4]]) is None


def test_without_a_prompt_the_segments_line_is_followed_beyond_its_end() -> None:
    # Without the first prompt the model's diversity is .62, above the curve's .6.
    wins, diversities, curve_wins = np.full(3, 0.5), np.array([0.5, 0.61, 0.63]), np.array([[0.8] * 3, [0.4] * 3])
    curve_diversities = np.array([[0.2] * 3, [0.6] * 3])
    result = gained(wins, diversities, curve_wins, curve_diversities)
    full, left_out = slow(wins, diversities, curve_wins, curve_diversities)
    assert left_out[0] == pytest.approx(0.5 - (0.8 - 0.42))
    np.testing.assert_allclose(interval(result), jackknife_interval(full, left_out))


def test_one_prompt_never_moves_a_mean_by_more_than_its_standard_error() -> None:
    """So a segment that is told apart keeps its direction without any prompt, and the weight stays finite."""
    rng = np.random.default_rng(4)
    for n in (2, 3, 30):
        values = rng.standard_cauchy((500, n))
        left_out = (values.sum(axis=1, keepdims=True) - values) / (n - 1)
        moved = np.abs(left_out - values.mean(axis=1, keepdims=True)).max(axis=1)
        assert (moved <= values.std(axis=1, ddof=1) / math.sqrt(n) * (1 + 1e-9)).all()
    assert RESOLVED > 1


def test_where_diversity_falls_again_the_better_of_two_points_counts() -> None:
    constant = [np.full((3, 5), column) for column in np.array([[[0.4], [0.2], [0.1]], [[0.5], [0.7], [0.5]]])]
    result = gained([0.5] * 5, [0.6] * 5, *constant)
    # Diversity .6 is met at a win rate of .3 on the way up and of .15 on the way down.
    assert (result.segment, result.weight) == (0, pytest.approx(0.5))
    assert result.estimate == pytest.approx(0.2)
    turned = gained([0.5] * 5, [0.6] * 5, constant[0][::-1], constant[1])
    assert (turned.segment, turned.estimate) == (1, pytest.approx(0.2))


def test_a_curve_that_cannot_be_told_apart_about_the_model_gives_no_gain() -> None:
    rng, n = np.random.default_rng(5), 100
    noise = rng.normal(size=n)
    noise = 0.01 * (noise - noise.mean()) / noise.std(ddof=1)  # a mean of it has the error .001
    wins, diversities = np.array([[0.4] * n, [0.3] * n, [0.1] * n]), np.full((3, n), [[0.5], [0.7], [0.7]])
    for gap, found in ((RESOLVED + 0.01, True), (RESOLVED - 0.01, False)):
        diversities[2] = 0.7 + gap * 0.001 + noise
        assert (gain_over_curve(np.full(n, 0.3), np.full(n, 0.701), wins, diversities) is not None) == found
    # The first segment is clear; but .001 below the second one a model may belong to either.
    for away, found in ((0.001, False), (0.02, True)):
        assert (gain_over_curve(np.full(n, 0.3), 0.7 - away + noise, wins, diversities) is not None) == found
    # Of two temperatures of one and the same diversity, neither can be interpolated.
    assert gain_over_curve(np.full(n, 0.3), np.full(n, 0.7), wins[1:], np.full((2, n), 0.7)) is None


def test_one_prompt_has_a_gain_and_no_interval() -> None:
    result = gained([0.5], [0.5], [[0.6], [0.2]], [[0.4], [0.6]])
    assert result[:4] == (pytest.approx(0.1), None, None, None)
    np.testing.assert_allclose(result.values, [0.1])


def test_the_pseudo_values_of_several_seeds_go_through_the_two_way_interval() -> None:
    rng = np.random.default_rng(6)
    found = [gained(*models(rng, 150)) for _ in range(3)]
    result = two_way_t([seed.values for seed in found])
    assert result.estimate == pytest.approx(np.mean([seed.estimate for seed in found]))
    assert result.interval is not None


def test_sides_that_do_not_match_are_refused() -> None:
    wins, diversities, curve_wins, curve_diversities = models(np.random.default_rng(7), 20)
    with pytest.raises(ValueError, match="share their prompts"):
        gain_over_curve(wins[1:], diversities, curve_wins, curve_diversities)
    with pytest.raises(ValueError, match="share their prompts"):
        gain_over_curve(wins, diversities, curve_wins, curve_diversities.T)
    with pytest.raises(ValueError, match="same prompts and temperatures"):
        gain_over_curve(wins, diversities, curve_wins, curve_diversities[1:])
    with pytest.raises(ValueError, match="same prompts and temperatures"):
        gain_over_curve(wins, diversities[1:], curve_wins, curve_diversities[:, 1:])
    with pytest.raises(ValueError, match="diversities must be finite"):
        gain_over_curve(wins, np.full(20, math.nan), curve_wins, curve_diversities)
    with pytest.raises(ValueError, match="curve_wins must be"):
        gain_over_curve(wins, diversities, curve_wins[0], curve_diversities)
    with pytest.raises(ValueError, match="level"):
        gain_over_curve(wins, diversities, curve_wins, curve_diversities, 95)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "wins", "diversities"),
    [
        ((0.3, 0.62), WIN, DIVERSITY),  # within a segment
        ((0.3, 0.75), WIN, DIVERSITY),  # at a temperature of the curve
        ((0.3, 0.565), WIN, DIVERSITY),  # so near the end that many samples lie outside
        ((0.3, 0.65), (0.30, 0.30, 0.05), (0.5, 0.65, 0.75)),  # at a sharp bend
        ((0.3, 0.65), (0.4, 0.3, 0.2, 0.1), (0.5, 0.7, 0.75, 0.6)),  # where diversity falls again
    ],
)
def test_the_gain_covers(point: tuple[float, float], wins: tuple[float, ...], diversities: tuple[float, ...]) -> None:
    rng, repetitions, n = np.random.default_rng(8), 3000, 150
    population = models(rng, 20_000, point, wins, diversities)
    truth = gained(*population).estimate
    drawn = [rng.integers(0, 20_000, n) for _ in range(repetitions)]
    found = [gain_over_curve(*(values[..., rows] for values in population)) for rows in drawn]
    ends = [interval(result) for result in found if result is not None]
    seen = np.mean([low <= truth <= high for low, high in ends])
    # Seen: .952, .948, .955 (of the .88 that lie inside), .946 and .951.
    assert len(ends) > 0.7 * repetitions
    assert abs(float(seen) - 0.95) <= 0.01 + 3 * math.sqrt(0.05 * 0.95 / len(ends))


@pytest.mark.slow
def test_the_gain_of_several_seeds_covers_through_the_two_way_interval_and_prompts_alone_do_not() -> None:
    rng, repetitions, n = np.random.default_rng(9), 1000, 150
    population = models(rng, 20_000, (0.3, 0.62))
    truth = gained(*population).estimate
    hits = np.zeros(2)
    for _ in range(repetitions):
        rows = rng.integers(0, 20_000, n)
        wins, diversities, curve_wins, curve_diversities = (values[..., rows] for values in population)
        table = []
        for _ in range(5):  # each seed moves the wins as a whole, and blurs the diversities
            blur = rng.normal(0, 0.02, n)
            found = gained(wins + rng.normal(0, 0.03), diversities + blur, curve_wins, curve_diversities)
            table.append(found.values)
        intervals = [two_way_t(table).interval, t_interval(np.mean(table, axis=0))]
        hits += [ends is not None and ends.low <= truth <= ends.high for ends in intervals]
    both, prompts_alone = hits / repetitions
    # Seen: .952, prompts alone .790.
    assert abs(both - 0.95) <= 0.02
    assert prompts_alone < 0.9
