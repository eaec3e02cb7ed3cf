"""Trainings that learned to say nothing are told of, and what they have no value of is not compared."""

from types import SimpleNamespace

import numpy as np
import pytest

from reference_models.studies.kl_report import Made, answers, at_equal_win_rate, compare, emptiness, levels
from reference_models.studies.kl_report import _cells as numbers_of
from reference_models.studies.kl_report import _numbers_within as numbers_within
from reference_models.studies.kl_report import _within as laid_out
from reference_models.studies.report import ENOUGH, MOSTLY, enough
from reference_models.studies.silence import counted, section, silences

PROMPTS = 20
EMPTY = {("k1", "1"): {1: 0.5, 2: 0.1}, ("k3", "1"): {1: 0.6, 2: 0.5}, ("k3", "2"): {1: 0.0}}


def test_one_seed_above_a_half_is_enough_to_be_told_of():
    assert MOSTLY == 0.5
    assert silences(EMPTY) == {("k3", "1"): {1: 0.6, 2: 0.5}}
    assert silences({("sft",): {1: 0.0}}) == {}


def test_the_trainings_above_a_half_are_counted_beside_all():
    assert counted({"ood": EMPTY, "id": {("10m", "ppo"): {1: 0.9, 2: 0.7, 3: 0.0}}}) == [
        "out of distribution, more than half of the outputs are empty in 1 of 2 trainings of k3, 1",
        "in distribution, more than half of the outputs are empty in 2 of 3 trainings of 10m, ppo",
    ]


def made_of(lacking, of="seed-1/k3-2"):
    """A study of two seeds, one training without words on the first prompts."""
    rng = np.random.default_rng(1)
    scores, measured = {}, {}
    for seed in (1, 2):
        for place, (estimator, coefficient) in enumerate((e, c) for e in ("k1", "k2", "k3") for c in (1, 2)):
            name = f"seed-{seed}/{estimator}-{coefficient}"
            row = {m: list(rng.random(PROMPTS)) for m in ("win_rate", "sbert_per_input", "effective_per_input_oracle")}
            ead, empty = list(rng.random(PROMPTS)), [0.0] * PROMPTS
            if name == of:
                ead[:lacking], empty[:lacking] = [None] * lacking, [1.0] * lacking
            row["empty_share"] = empty
            if any(value is not None for value in ead):  # as scoring writes it: no row without a value
                row["ead_per_input"] = ead
            documents = [f"d{i}" for i in range(PROMPTS)]
            scores[name] = SimpleNamespace(name=name, per_prompt={"t": {"1.0": row}}, doc_ids={"t": documents})
            distance = 1.0 + (place % 2) * 2 + place / 10
            measured[name] = {"t": {"1.0": {d: {"kl": distance, "log_ratio": distance} for d in documents}}}
    return Made(SimpleNamespace(seeds=(1, 2)), {}, scores, measured, {}, {"ood": "t"})


@pytest.mark.parametrize("lacking", [0, 1, int((1 - ENOUGH) * PROMPTS + 0.5), 3, PROMPTS])
def test_a_quantity_that_too_many_prompts_lack_is_not_compared_and_nothing_else_suffers(lacking):
    made = made_of(lacking)
    told = lacking <= (1 - ENOUGH) * PROMPTS + 1e-9
    at_kl = {(estimator, metric): found for _, estimator, metric, found in compare(made)}
    at_win = {(estimator, metric): found for _, estimator, metric, found in at_equal_win_rate(made)}
    for found in (at_kl, at_win):
        assert (found["k3", "ead_per_input"] is not None) == told
        assert all(one is not None for key, one in found.items() if key != ("k3", "ead_per_input"))
    header, rows = levels(made, "ood")
    shown = {(row[0], row[1]): dict(zip(header[2:], row[2:], strict=True)) for row in rows}
    assert (shown["k3", "2"]["EAD"] != "–") == told
    assert "–" not in {**shown["k3", "2"], "EAD": ""}.values()
    (row,) = (row for row in laid_out(at_equal_win_rate(made))[1] if row[1] == "k3")
    assert (row[4] == "not compared") == (not told)
    (cell,) = (cell["ood"] for cell in numbers_of(made) if cell["cell"] == "seed-1/k3-2")
    assert (cell["ead_per_input"] is not None) == told
    assert cell["empty_share"] == lacking / PROMPTS


def test_what_another_estimator_lacks_leaves_a_comparison_as_it_was():
    ours, lacking = ({(e, m): found for _, e, m, found in compare(made_of(n))} for n in (0, 2))
    assert ours["k2", "ead_per_input"] == lacking["k2", "ead_per_input"]
    assert ours["k3", "ead_per_input"] != lacking["k3", "ead_per_input"]


def test_the_section_is_there_only_where_there_is_something_to_tell():
    header = ("penalty", "coefficient")
    assert section(header, {"ood": {}, "id": {("k1", "1"): {1: 0.5}}}, (1, 2)) == []
    text = "\n".join(section(header, {"ood": EMPTY}, (1, 2, 3)))
    assert "what the judge makes of no text" in text
    assert "| ood    | k3        | 1             | 0.60     | 0.50     | –        |" in text
    assert "| k1 " not in text


def test_a_seed_above_a_half_is_found_by_penalty_and_coefficient():
    made = made_of(PROMPTS)
    assert silences(emptiness(made, "ood")) == {("k3", "2"): {1: 1.0, 2: 0.0}}


@pytest.mark.parametrize("lacking", [0, 3])
def test_what_is_not_compared_is_said_to_be(lacking):
    made = made_of(lacking)
    k2, k3 = answers(compare(made), at_equal_win_rate(made))
    title = "diversity per input (EAD)"
    assert k3.count(title) == (1 if lacking else 2)
    assert (f"and not compared in {title}; " in k3) == bool(lacking)
    assert k2.count(title) == 2
    assert "not compared in" not in k2


def test_what_the_base_lacks_is_compared_with_nothing():
    found = {(e, m): gap for _, e, m, gap in compare(made_of(3, "seed-2/k1-1"))}
    assert found["k2", "ead_per_input"] is found["k3", "ead_per_input"] is None
    assert found["k2", "win_rate"] is not None


def test_the_numbers_of_what_is_not_compared_are_missing():
    numbers = numbers_within("ood", "k3", "ead_per_input", None)
    none = dict.fromkeys(("seeds", "estimate", "interval", "per_seed", "reach"))
    assert {key: numbers[key] for key in none} == none
    assert numbers["verdict"] == "not compared"


def test_no_training_is_not_enough():
    assert enough([]) is None
