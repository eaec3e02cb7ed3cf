from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats

from benchmark.statistics.intervals import Interval, paired_t
from benchmark.statistics.length_control import (
    LEAST_PROMPTS,
    PENALTY,
    LengthControlled,
    length_controlled,
    logit_interval,
)

Array = NDArray[np.float64]
EXACT = settings(max_examples=60)
seeds = st.integers(0, 10_000)
penalties = st.sampled_from([0.001, PENALTY, 1.0])


def judged(seed: int, n: int = 400, slope: float = 1.5, shift: float = -0.7) -> tuple[Array, Array, Array, Array]:
    """Graded preferences, both lengths and difficulty of n prompts; the judge likes length, and hard prompts lose."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(size=n)
    other = rng.gamma(4, 300, n)
    own = other * rng.lognormal(-0.3 + 0.2 * hardness, 0.6)
    gap = own - other
    chance = special.expit(shift + slope * np.tanh(gap / gap.std()) + hardness)
    return rng.beta(0.7 * chance, 0.7 * (1 - chance)), own, other, hardness


def slow_rate(y: Array, own: Array, other: Array, penalty: float, hardness: Array | None) -> float:
    """The definition, handed to a general optimiser."""
    gap = own - other
    tanh = np.tanh(gap / np.sqrt(np.mean((gap - gap.mean()) ** 2)))
    beside = np.zeros(y.size) if hardness is None else hardness

    def loss(free: Array) -> float:
        chance = special.expit(free[0] * tanh + free[1] + free[2] * beside)
        return -np.mean(special.xlogy(y, chance) + special.xlogy(1 - y, 1 - chance)) + penalty / 2 * free[0] ** 2

    free = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
    return float(np.mean(special.expit(free[1] + free[2] * beside)))


@settings(max_examples=8)
@given(seeds, penalties, st.booleans())
def test_the_rate_is_that_of_a_general_optimiser(seed: int, penalty: float, with_difficulty: bool) -> None:
    y, own, other, hardness = judged(seed)
    beside = hardness if with_difficulty else None
    expected = slow_rate(y, own, other, penalty, beside)
    assert length_controlled(y, own, other, penalty=penalty, difficulty=beside).rate == pytest.approx(
        expected, abs=1e-6
    )


def test_slope_and_difficulty_are_found_and_have_their_signs() -> None:
    y, own, other, hardness = judged(0, n=40_000)
    result = length_controlled(y, own, other, penalty=0.0, difficulty=hardness)
    assert result.slope == pytest.approx(1.5, abs=0.1)
    assert result.difficulty == pytest.approx(1.0, abs=0.1)
    assert result.rate == pytest.approx(special.expit(-0.7 + hardness).mean(), abs=0.01)
    assert result.rate > y.mean() + 0.02  # the model is the shorter one
    assert length_controlled(y, own, other, penalty=0.0, difficulty=-3 * hardness).difficulty == pytest.approx(
        -(result.difficulty or 0) / 3
    )


def test_two_lengths_and_no_penalty_by_hand() -> None:
    # Gaps of 0 and 4, twice as many of 0: the fit is exact in both groups, so the rate is the mean where the gap is 0.
    y, own = [0.2, 0.4, 0.3, 0.3, 0.9, 0.5], [0.0, 0.0, 0.0, 0.0, 4.0, 4.0]
    result = length_controlled(y, own, np.zeros(6), penalty=0.0)
    assert result.rate == pytest.approx(0.3, abs=1e-12)
    spread = np.std(own)
    assert result.slope == pytest.approx((special.logit(0.7) - special.logit(0.3)) / np.tanh(4 / spread))


@EXACT
@given(seeds, st.floats(0, 5000), penalties)
def test_equal_lengths_give_the_raw_rate_flagged(seed: int, apart: float, penalty: float) -> None:
    y, own, _, hardness = judged(seed, n=50)
    for beside in (None, hardness):
        result = length_controlled(y, own + apart, own, penalty=penalty, difficulty=beside)
        assert result.rate == pytest.approx(y.mean(), abs=1e-12)
        assert (result.slope, result.interval, result.difficulty) == (0.0, None, None)
        assert "length differences do not vary" in str(result.reason)
        np.testing.assert_allclose(result.pseudo_values, y, atol=1e-12)


@EXACT
@given(seeds, penalties, st.booleans())
def test_swapping_sides_gives_one_minus_the_rate(seed: int, penalty: float, with_difficulty: bool) -> None:
    y, own, other, hardness = judged(seed)
    beside = hardness if with_difficulty else None
    here = length_controlled(y, own, other, penalty=penalty, difficulty=beside)
    there = length_controlled(1 - y, other, own, penalty=penalty, difficulty=beside)
    assert there.rate == pytest.approx(1 - here.rate, abs=1e-9)
    assert there.slope == pytest.approx(here.slope, abs=1e-7)
    np.testing.assert_allclose(there.influence, -here.influence, atol=1e-7)
    assert here.interval is not None
    assert there.interval is not None
    np.testing.assert_allclose(there.interval, (1 - here.interval.high, 1 - here.interval.low), atol=1e-8)


@EXACT
@given(seeds, st.sampled_from([1e-6, 0.25, 3.0, 1e5]))
def test_the_unit_of_length_and_of_difficulty_makes_no_difference(seed: int, unit: float) -> None:
    y, own, other, hardness = judged(seed)
    one = length_controlled(y, own, other, penalty=PENALTY, difficulty=hardness)
    two = length_controlled(y, own * unit, other * unit, penalty=PENALTY, difficulty=5 + hardness / unit)
    assert two.rate == pytest.approx(one.rate, abs=1e-8)
    np.testing.assert_allclose(two.influence, one.influence, atol=1e-6)


@EXACT
@given(seeds, st.sampled_from([0.3, 0.6, 0.8]))
def test_a_judge_that_sees_nothing_but_length_is_moved_towards_one_half(seed: int, share: float) -> None:
    _, own, other, _ = judged(seed)
    own = own * share
    gap = own - other
    y = special.expit(2 * np.tanh(gap / gap.std()))
    raw, free = float(y.mean()), length_controlled(y, own, other, penalty=0.0)
    held = length_controlled(y, own, other, penalty=PENALTY)
    assert free.rate == pytest.approx(0.5, abs=1e-6)
    assert free.slope == pytest.approx(2.0, abs=1e-5)
    assert 0 < held.slope < 2
    assert abs(held.rate - 0.5) < abs(raw - 0.5)


@EXACT
@given(seeds)
def test_a_larger_penalty_has_a_smaller_slope_and_an_endless_one_gives_the_raw_rate(seed: int) -> None:
    y, own, other, _ = judged(seed)
    results = [length_controlled(y, own, other, penalty=penalty) for penalty in (0.0, 0.01, 0.1, 1.0, 1e9)]
    slopes = [result.slope for result in results]
    assert slopes == sorted(slopes, reverse=True)
    assert results[-1].rate == pytest.approx(y.mean(), abs=1e-6)


def test_the_penalty_is_per_prompt_so_twice_the_prompts_is_the_same_rate() -> None:
    y, own, other, hardness = judged(3)
    once = length_controlled(y, own, other, penalty=PENALTY, difficulty=hardness)
    twice = length_controlled(
        *(np.tile(v, 2) for v in (y, own, other)), penalty=PENALTY, difficulty=np.tile(hardness, 2)
    )
    assert twice.rate == pytest.approx(once.rate, abs=1e-12)


@EXACT
@given(seeds, penalties, st.booleans())
def test_influence_sums_to_nothing_and_pseudo_values_average_to_the_rate(
    seed: int, penalty: float, with_difficulty: bool
) -> None:
    y, own, other, hardness = judged(seed, n=60)
    result = length_controlled(y, own, other, penalty=penalty, difficulty=hardness if with_difficulty else None)
    assert result.influence.shape == (60,)
    assert abs(result.influence.sum()) < 1e-10
    assert result.pseudo_values.mean() == pytest.approx(result.rate, abs=1e-12)
    assert result.error == pytest.approx(stats.sem(result.influence))


def leave_one_out(columns: list[Array], penalty: float, hardness: Array | None) -> Array:
    rates = []
    for place in range(columns[0].size):
        y, own, other = (np.delete(column, place) for column in columns)
        beside = None if hardness is None else np.delete(hardness, place)
        rates.append(length_controlled(y, own, other, penalty=penalty, difficulty=beside).rate)
    return np.array(rates)


@pytest.mark.parametrize("with_difficulty", [True, False])
@pytest.mark.parametrize("penalty", [0.0005, PENALTY])
@pytest.mark.parametrize(("seed", "shift"), [(0, -0.7), (1, -3.5), (2, 3.0)])
def test_influence_is_that_of_leaving_each_prompt_out_of_the_whole_fit(
    seed: int, shift: float, penalty: float, with_difficulty: bool
) -> None:
    *columns, hardness = judged(seed, n=300, shift=shift)
    beside = hardness if with_difficulty else None
    full = length_controlled(*columns, penalty=penalty, difficulty=beside)
    left_out = leave_one_out(columns, penalty, beside)
    jackknifed = 299 * (left_out.mean() - left_out)
    assert full.error == pytest.approx(stats.sem(jackknifed), rel=0.03)
    assert np.corrcoef(full.influence, jackknifed)[0, 1] > 0.995


@pytest.mark.parametrize("penalty", [0.0005, PENALTY, 0.2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_influence_holds_prompt_by_prompt_where_the_model_is_wrong_and_some_gaps_are_far_out(
    seed: int, penalty: float
) -> None:
    rng = np.random.default_rng(seed)
    other = rng.gamma(4, 300, 300)
    gap = rng.normal(200, 400, 300)
    gap[:20] = rng.normal(2500, 50, 20)
    columns = [special.expit(3 * np.sin(gap / 200) + 0.3), other + gap, other]
    left_out = leave_one_out(columns, penalty, None)
    jackknifed = 299 * (left_out.mean() - left_out)
    influence = length_controlled(*columns, penalty=penalty).influence
    # Seen: at most .004; .006-.022 without leverage, .10-.15 without the sd's own part.
    assert np.abs(influence - jackknifed).max() < 0.0055 * np.abs(jackknifed).max()


def test_two_models_pair_by_their_pseudo_values() -> None:
    y, own, other, hardness = judged(5, n=300)
    rng = np.random.default_rng(0)
    second = np.clip(y + rng.normal(0.02, 0.1, 300), 0, 1)
    one, two = (length_controlled(p, own, other, penalty=PENALTY, difficulty=hardness) for p in (y, second))
    found = paired_t(one.pseudo_values, two.pseudo_values)
    left = [leave_one_out([p, own, other], PENALTY, hardness) for p in (y, second)]
    error = np.sqrt(299 / 300 * np.sum((left[0] - left[1] - np.mean(left[0] - left[1])) ** 2))
    assert found.interval is not None
    assert found.estimate == pytest.approx(one.rate - two.rate)
    assert (found.interval.high - found.estimate) / stats.t.ppf(0.975, 299) == pytest.approx(error, rel=0.03)
    assert one.error is not None
    assert error < one.error  # what the models share cancels


@pytest.mark.parametrize(("n", "there"), [(LEAST_PROMPTS - 1, False), (LEAST_PROMPTS, True)])
def test_no_interval_below_three_hundred_prompts(n: int, there: bool) -> None:
    y, own, other, _ = judged(0, n=n)
    result = length_controlled(y, own, other, penalty=PENALTY)
    assert (result.interval is not None) == there
    assert (result.reason is None) == there
    assert there or f"{n} prompts" in str(result.reason)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(("wins", "there"), [(9.75, False), (10.0, True)])
def test_no_interval_below_ten_expected_wins_or_losses(wins: float, there: bool, lost: bool) -> None:
    _, own, other, _ = judged(0)
    y = np.zeros(400)
    y[np.random.default_rng(0).choice(400, 20, replace=False)] = wins / 20
    result = length_controlled(1 - y if lost else y, own, other, penalty=PENALTY)
    assert (result.interval is not None) == there
    assert there or f"{390.25 if lost else 9.8:.1f} expected wins" in str(result.reason)


@pytest.mark.parametrize(("constant", "word"), [(0.0, "lost"), (1.0, "won")])
def test_all_won_or_all_lost_is_the_raw_rate(constant: float, word: str) -> None:
    _, own, other, _ = judged(0)
    result = length_controlled(np.full(400, constant), own, other, penalty=PENALTY)
    assert (result.rate, result.slope, result.interval) == (constant, 0.0, None)
    assert f"every prompt was {word}" in str(result.reason)
    assert not result.influence.any()


def test_a_constant_graded_preference_is_its_own_rate_without_width() -> None:
    _, own, other, hardness = judged(0)
    result = length_controlled(np.full(400, 0.25), own, other, penalty=PENALTY, difficulty=hardness)
    assert result.rate == pytest.approx(0.25, abs=1e-12)
    assert result.slope == pytest.approx(0.0, abs=1e-9)
    assert result.interval == pytest.approx((0.25, 0.25), abs=1e-9)


def test_difficulty_that_tells_winners_apart_has_no_finite_fit_and_one_that_is_constant_is_ignored() -> None:
    y, own, other, _ = judged(0)
    wins = (y > 0.5).astype(float)
    apart = length_controlled(wins, own, other, penalty=PENALTY, difficulty=wins * 2 - 1)
    assert "no finite fit" in str(apart.reason)
    assert (apart.rate, apart.interval, apart.difficulty) == (wins.mean(), None, None)
    flat = length_controlled(y, own, other, penalty=PENALTY, difficulty=np.full(400, 3.3))
    plain = length_controlled(y, own, other, penalty=PENALTY)
    assert flat.difficulty is None
    assert flat.reason is None
    assert flat.rate == plain.rate
    assert flat.interval == plain.interval


def test_lengths_that_tell_winners_apart_are_held_by_the_penalty_and_flagged_without() -> None:
    _, own, other, _ = judged(0)
    wins = (own > other).astype(float)
    held, free = (length_controlled(wins, own, other, penalty=penalty) for penalty in (PENALTY, 0.0))
    assert held.reason is None
    assert wins.mean() < held.rate < 0.6
    assert "no finite fit" in str(free.reason)
    assert free.rate == wins.mean()


def test_a_huge_length_or_a_huge_unit_is_no_trouble() -> None:
    y, own, other, hardness = judged(0)
    own[0] = 1e12
    for unit in (1.0, 1e-300, 1e290):
        result = length_controlled(y, own * unit, other * unit, penalty=PENALTY, difficulty=hardness * 1e200)
        assert result.reason is None
        assert 0 < result.rate < 1
        assert np.isfinite(result.influence).all()


sides = st.lists(st.sampled_from([0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0]), min_size=1, max_size=12)


@settings(max_examples=150)
@given(sides, st.data())
def test_small_and_odd_columns_give_a_finite_rate(preferences: list[float], data: st.DataObject) -> None:
    n = len(preferences)
    lengths = st.lists(st.sampled_from([0.0, 1.0, 7.0, 1e6]), min_size=n, max_size=n)
    own, other, beside = data.draw(lengths), data.draw(lengths), data.draw(st.none() | lengths)
    result = length_controlled(preferences, own, other, penalty=data.draw(penalties), difficulty=beside)
    assert 0 <= result.rate <= 1
    assert np.isfinite(result.influence).all()
    assert abs(result.influence.sum()) < 1e-6 * max(1.0, np.abs(result.influence).max())
    assert result.interval is None
    assert result.reason


def test_a_higher_level_is_wider() -> None:
    y, own, other, _ = judged(0)
    results = [length_controlled(y, own, other, penalty=PENALTY, level=level) for level in (0.9, 0.95)]
    for result, level in zip(results, (0.9, 0.95), strict=True):
        assert result.interval == logit_interval(result.rate, result.influence, level)
    assert results[0].interval != results[1].interval


def test_wins_too_rare_for_odds_are_the_raw_rate() -> None:
    _, own, other, _ = judged(0)
    result = length_controlled(np.linspace(0, 2e-30, 400), own, other, penalty=PENALTY)
    assert result.rate == pytest.approx(1e-30)
    assert "no finite fit" in str(result.reason)


def test_one_prompt_has_a_rate_and_no_error() -> None:
    result = length_controlled([0.3], [10], [20], penalty=PENALTY)
    assert (result.rate, result.error, result.interval) == (0.3, None, None)


def test_the_same_input_gives_the_same_bits() -> None:
    y, own, other, hardness = judged(0)
    runs: list[LengthControlled] = [
        length_controlled(y, own, other, penalty=PENALTY, difficulty=hardness) for _ in range(2)
    ]
    assert runs[0]._replace(influence=y) == runs[1]._replace(influence=y)
    assert (runs[0].influence == runs[1].influence).all()


def test_logit_interval_by_hand() -> None:
    influence = np.array([-0.2, 0.2] * 8)  # error .2 / sqrt(15)
    margin = stats.t.ppf(0.95, 15) * 0.2 / np.sqrt(15) / 0.16
    expected = special.expit([special.logit(0.2) - margin, special.logit(0.2) + margin])
    np.testing.assert_allclose(logit_interval(0.2, influence, 0.9), expected)
    assert logit_interval(0.2, [0.0, 0.0]) == Interval(0.2, 0.2)


@pytest.mark.parametrize(("rate", "influence"), [(0.0, [0.1, 0.2]), (1.0, [0.1, 0.2]), (0.5, [0.1]), (0.5, [])])
def test_logit_interval_refuses_what_has_no_logit_or_no_error(rate: float, influence: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rate between|non-empty"):
        logit_interval(rate, influence)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"preferences": [0.5, 1.1]}, "preferences"),
        ({"preferences": [-0.1, 1.0]}, "preferences"),
        ({"preferences": []}, "preferences"),
        ({"lengths": [1.0]}, "lengths must be one a prompt"),
        ({"reference_lengths": [1.0, np.nan]}, "reference_lengths must be finite"),
        ({"difficulty": [1.0, 2.0, 3.0]}, "difficulty must be one a prompt"),
        ({"penalty": -0.1}, "penalty"),
        ({"penalty": np.inf}, "penalty"),
        ({"level": 1.0}, "level"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict[str, object], says: str) -> None:
    given_: dict[str, object] = {"preferences": [0.5, 1.0], "lengths": [1.0, 2.0], "reference_lengths": [3.0, 9.0]}
    with pytest.raises(ValueError, match=says):
        length_controlled(**(given_ | {"penalty": PENALTY} | change))  # type: ignore[arg-type]
