"""What all reports share: verdicts, numbers and what is compared."""

import numpy as np
import pytest
from synthetic_scores import swept

from benchmark.errors import UserError
from benchmark.statistics.intervals import Interval
from benchmark.statistics.two_way import TwoWay, two_way_t
from reference_models.studies.report import (
    complete,
    empty_share,
    enough,
    level,
    made_on,
    over_seeds,
    per_prompt,
    spelled,
    tasks_of,
    told,
    verdict,
)


@pytest.mark.parametrize(
    ("interval", "word", "text"),
    [
        (Interval(0.1, 0.2), "above", "above"),
        (Interval(-0.2, -0.1), "below", "below"),
        (Interval(-0.1, 0.2), "not told apart", "not told apart from"),
        (Interval(0.0, 0.2), "not told apart", "not told apart from"),
        (None, "not compared", "not compared with"),
    ],
)
def test_a_verdict_says_whether_the_interval_excludes_nothing(interval, word, text):
    assert verdict(interval) == word
    assert told(verdict(interval)) == text


def test_numbers_carry_their_interval_and_sign():
    assert spelled(-0.0004, Interval(-0.1, 0.2)) == "+0.000 [-0.100, +0.200]"
    assert spelled(0.5, None, signed=False) == "0.500"
    assert spelled(None, None) == "out of range"


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("win_rate", "0.500 [0.000, 1.000]"),
        ("effective_per_input", "0.500 [0.000, 1.000]"),
        ("kl", "0.500 [0.000, 1.200]"),
        ("sbert_per_input", "0.500 [0.000, 1.200]"),
        ("ead_per_input", "0.500 [0.000, 1.200]"),
    ],
)
def test_a_level_is_not_said_to_lie_where_none_can(metric, told):
    rest = dict.fromkeys(TwoWay._fields[2:])
    assert level(metric, TwoWay(0.5, Interval(-0.2, 1.2), **rest)) == told
    assert level(metric, TwoWay(0.5, None, **rest)) == "0.500"


def test_the_roles_come_in_one_order_and_the_suites_own_gate_is_meant():
    scores = swept("a")
    assert tasks_of(scores) == {"id": "toy_id", "ood": "toy_ood", "ood_hard": "toy_ood_hard"}
    values = scores.per_prompt["toy_ood"]["1.0"]
    assert per_prompt(scores, "toy_ood", "effective_per_input").tolist() == list(values["effective_per_input_oracle"])
    with pytest.raises(UserError, match=r"no vendi on toy_ood at temperature 0\.3"):
        per_prompt(scores, "toy_ood", "vendi", 0.3)


def test_a_name_that_another_begins_with_is_still_its_own():
    scores = swept("a")
    values = scores.per_prompt["toy_ood"]["1.0"]
    both = {"win_rate_lc": tuple(0.0 for _ in values["win_rate"]), **values}
    longer = scores.model_copy(update={"per_prompt": {"toy_ood": {"1.0": both}}})
    assert per_prompt(longer, "toy_ood", "win_rate").tolist() == list(values["win_rate"])


def test_a_mean_over_seeds_is_of_the_prompts_that_all_have():
    rows = [np.array([1.0, 2.0, np.nan]), np.array([2.0, 4.0, 9.0])]
    assert complete(rows).tolist() == [True, True, False]
    assert complete([np.array([[1.0, np.nan], [2.0, 3.0]])]).tolist() == [True, False], "of every temperature"
    values = np.random.default_rng(1).random((2, 10))
    lacking = values.copy()
    lacking[1, 3] = np.nan
    assert over_seeds(list(lacking)) == two_way_t(np.delete(values, 3, axis=1))
    lacking[0, 4] = np.nan
    assert enough(list(lacking)) is over_seeds(list(lacking)) is None, "eight of ten"
    assert level("ead_per_input", None) == "–"


def test_outputs_without_words_have_no_ead_and_any_other_gap_is_a_mistake():
    whole = swept("a")
    values = dict(whole.per_prompt["toy_ood"]["1.0"])
    number = len(values["win_rate"])
    del values["ead_per_input"]
    for row in (values, {**values, "empty_share": (1.0,) * number}):
        scores = whole.model_copy(update={"per_prompt": {"toy_ood": {"1.0": row}}})
        if "empty_share" in row:
            assert np.isnan(per_prompt(scores, "toy_ood", "ead_per_input")).sum() == number
        else:
            with pytest.raises(UserError, match="no ead_per_input on toy_ood"):
                per_prompt(scores, "toy_ood", "ead_per_input")
        with pytest.raises(UserError, match="no vendi on toy_ood"):
            per_prompt(scores, "toy_ood", "vendi")


def test_a_prompt_most_of_whose_outputs_are_empty_has_no_ead():
    whole = swept("a")
    values = whole.per_prompt["toy_ood"]["1.0"]
    number = len(values["win_rate"])
    row = {**values, "empty_share": (0.5, 9 / 16, *(0.0,) * (number - 2)), "ead_per_input": (0.25,) * number}
    scores = whole.model_copy(update={"per_prompt": {"toy_ood": {"1.0": row}}})
    assert np.isnan(per_prompt(scores, "toy_ood", "ead_per_input")).tolist() == [False, True, *[False] * (number - 2)]
    assert np.isfinite(per_prompt(scores, "toy_ood", "win_rate")).all()
    assert empty_share(scores, "toy_ood") == pytest.approx((0.5 + 9 / 16) / number)


def test_each_machine_is_named_once():
    record = {"hardware": {"machine": "x86_64", "cpus": 2, "gpu": None}, "python": "3.11", "packages": {"torch": "2"}}
    gpu = {**record, "hardware": {"gpu": "NVIDIA H200"}}
    assert made_on([record, gpu, record]) == [
        "NVIDIA H200 (Python 3.11, torch 2)",
        "x86_64, 2 CPUs (Python 3.11, torch 2)",
    ]
