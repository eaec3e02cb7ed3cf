"""PPO beside SFT's curve: what is held equal is, and the win rate's part is that of the ladder's findings."""

import numpy as np
import pytest
from synthetic_scores import swept

from reference_models.findings import compare, over_seeds
from reference_models.studies.report import verdict
from reference_models.studies.temperature import DIVERSITY, ENTROPY, answers, held, side

TASK = "toy_ood"


def row(name, seed, *, quality=0.5, cooler=0.0, **changes):
    """A synthetic row with ungated diversity and entropy, which rise with temperature."""
    rng = np.random.default_rng(seed)
    scores = swept(f"{name}", quality=quality, heat=2.0, **changes)
    found = {}
    for task, by_temperature in scores.per_prompt.items():
        found[task] = {}
        for temperature, values in by_temperature.items():
            heat = float(temperature) - cooler
            more = {
                DIVERSITY: tuple((0.2 + 0.2 * heat + rng.normal(0, 0.005, 60)).tolist()),
                ENTROPY: tuple((0.5 + heat + rng.normal(0, 0.01, 60)).tolist()),
            }
            found[task][temperature] = {**values, **more}
    return scores.model_copy(update={"per_prompt": found, "name": name})


def pair(seed, **changes):
    return row("sft", seed), row("ppo", seed + 100, cooler=0.2, **changes)


def test_win_rate_at_equal_diversity_is_what_the_findings_say():
    pairs = [pair(seed, quality=0.6) for seed in range(3)]
    sft, ppo = zip(*pairs, strict=True)
    found = held(sft, ppo, "ood", TASK, "win_rate", DIVERSITY)
    expected = next(
        f for f in over_seeds([compare(list(both)) for both in pairs]) if (f.model, f.quantity) == ("ppo", "over_curve")
    )
    assert found.estimate == pytest.approx(expected.estimate)
    assert tuple(found.interval) == pytest.approx(tuple(expected.interval))


def test_the_temperature_is_that_of_equal_entropy():
    pairs = [pair(seed) for seed in range(3)]
    sft, ppo = zip(*pairs, strict=True)
    found = held(sft, ppo, "ood", TASK, "win_rate", ENTROPY)
    assert found.temperatures == pytest.approx((0.8,) * 3, abs=0.02)


def test_diversity_at_equal_entropy_has_its_sign():
    pairs = [pair(seed) for seed in range(3)]
    sft, ppo = zip(*pairs, strict=True)
    assert held(sft, ppo, "ood", TASK, DIVERSITY, ENTROPY).estimate == pytest.approx(0, abs=0.01)
    less = [
        one.model_copy(
            update={
                "per_prompt": {
                    task: {t: {**v, DIVERSITY: tuple(x - 0.1 for x in v[DIVERSITY])} for t, v in by.items()}
                    for task, by in one.per_prompt.items()
                }
            }
        )
        for one in ppo
    ]
    found = held(sft, less, "ood", TASK, DIVERSITY, ENTROPY)
    assert found.estimate == pytest.approx(-0.1, abs=0.01)
    assert verdict(found.interval) == "below"
    assert "PPO is below SFT in diversity" in answers([found])[0]


@pytest.mark.parametrize(("cooler", "word"), [(5.0, "below"), (-5.0, "above")])
def test_a_seed_out_of_range_tells_its_side_and_the_mean_is_of_the_others_without_a_verdict(cooler, word):
    pairs = [pair(0), (row("sft", 1), row("ppo", 101, cooler=cooler)), pair(2)]
    sft, ppo = zip(*pairs, strict=True)
    found = held(sft, ppo, "ood", TASK, "win_rate", ENTROPY)
    others = held(sft[::2], ppo[::2], "ood", TASK, "win_rate", ENTROPY)
    assert (found.estimate, found.interval, found.seeds) == (others.estimate, others.interval, 2)
    assert found.temperatures[1] is None
    assert found.sides == (None, word, None)
    assert found.verdict == "not compared"
    (line,) = answers([found])
    assert "PPO is not compared with SFT in win rate" in line
    assert "2 of 3 seeds" in line
    assert f"it is {word} all of SFT's temperatures in token entropy in 1 of 3 seeds" in line


def test_where_no_seed_answers_there_is_no_number_but_a_side():
    pairs = [(row("sft", seed), row("ppo", seed + 100, cooler=-5.0)) for seed in range(2)]
    sft, ppo = zip(*pairs, strict=True)
    found = held(sft, ppo, "ood", TASK, DIVERSITY, ENTROPY)
    assert (found.estimate, found.interval, found.seeds) == (None, None, 0)
    assert "above all of SFT's temperatures in token entropy in 2 of 2 seeds" in answers([found])[0]


def test_within_the_range_the_side_is_unresolved():
    curve = np.array([[0.1, 0.3], [0.5, 0.7]])
    assert side(np.array([0.4, 0.5]), curve) == "unresolved"
    assert side(np.array([0.6, 0.7]), curve) == "above"
    assert side(np.array([0.1, 0.2]), curve) == "below"


def test_a_prompt_without_a_value_is_left_out_of_every_seed():
    pairs = [pair(seed) for seed in range(3)]
    sft, ppo = (list(rows) for rows in zip(*pairs, strict=True))
    whole = held(sft, ppo, "ood", TASK, "win_rate", ENTROPY)
    values = ppo[1].per_prompt[TASK]["1.0"]
    spoilt = {**values, "win_rate": (None, *values["win_rate"][1:])}
    ppo[1] = ppo[1].model_copy(update={"per_prompt": {TASK: {**ppo[1].per_prompt[TASK], "1.0": spoilt}}})
    found = held(sft, ppo, "ood", TASK, "win_rate", ENTROPY)
    assert found.estimate != whole.estimate
    assert found.estimate == pytest.approx(whole.estimate, abs=0.05)


def test_a_quantity_that_too_few_prompts_have_is_not_compared_and_ends_no_report():
    pairs = [pair(seed) for seed in range(3)]
    sft, ppo = (list(rows) for rows in zip(*pairs, strict=True))
    values = ppo[1].per_prompt[TASK]["1.0"]
    fifth = len(values["win_rate"]) // 5
    spoilt = {**values, "win_rate": (*(None,) * fifth, *values["win_rate"][fifth:])}
    ppo[1] = ppo[1].model_copy(update={"per_prompt": {TASK: {**ppo[1].per_prompt[TASK], "1.0": spoilt}}})
    found = held(sft, ppo, "ood", TASK, "win_rate", ENTROPY)
    assert (found.estimate, found.seeds, found.verdict) == (None, 0, "not compared")
    assert found.sides == ("unresolved",) * 3
    assert answers([found])
