"""Trainings that learned to say nothing are told of, and what they have no value of is not compared."""

from types import SimpleNamespace

import numpy as np
import pytest

from reference_models.studies.kl_report import Made, at_equal_win_rate, compare, emptiness, levels
from reference_models.studies.kl_report import _cells as numbers_of
from reference_models.studies.kl_report import _within as laid_out
from reference_models.studies.report import ENOUGH
from reference_models.studies.silence import MOSTLY, counted, section, silences

PROMPTS = 20
EMPTY = {("k1", "1"): {1: 0.5, 2: 0.1}, ("k3", "1"): {1: 0.6, 2: 0.2}, ("k3", "2"): {1: 0.0}}


def test_one_seed_above_a_half_is_enough_to_be_told_of():
    assert MOSTLY == 0.5
    assert silences(EMPTY) == {("k3", "1"): {1: 0.6, 2: 0.2}}
    assert silences({("sft",): {1: 0.0}}) == {}


def test_trainings_are_counted_and_not_coefficients():
    more = {("k3", "1"): {1: 0.6, 2: 0.7}, ("k3", "2"): {1: 0.0, 2: 1.0}, ("k2", "1"): {1: 0.1, 2: 0.9}}
    assert counted(silences(EMPTY | more), "with") == [
        "more than half of the outputs are empty in 3 trainings with k3",
        "more than half of the outputs are empty in 1 training with k2",
    ]


def made_of(lacking):
    """A study of two seeds, k3's second training of seed 1 without words on the first prompts."""
    rng = np.random.default_rng(1)
    scores, measured = {}, {}
    for seed in (1, 2):
        for place, (estimator, coefficient) in enumerate((e, c) for e in ("k1", "k2", "k3") for c in (1, 2)):
            name = f"seed-{seed}/{estimator}-{coefficient}"
            row = {m: list(rng.random(PROMPTS)) for m in ("win_rate", "sbert_per_input", "effective_per_input_oracle")}
            ead, empty = list(rng.random(PROMPTS)), [0.0] * PROMPTS
            if name == "seed-1/k3-2":
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
    assert (cell["ead_per_input"] is None) == (lacking == PROMPTS)
    assert cell["empty_share"] == lacking / PROMPTS


def test_what_another_estimator_lacks_leaves_a_comparison_as_it_was():
    ours, lacking = ({(e, m): found for _, e, m, found in compare(made_of(n))} for n in (0, 2))
    assert ours["k2", "ead_per_input"] == lacking["k2", "ead_per_input"]
    assert ours["k3", "ead_per_input"] != lacking["k3", "ead_per_input"]


def test_the_section_is_there_only_where_there_is_something_to_tell():
    assert section(("penalty", "coefficient"), {"ood": {}}, (1, 2)) == []
    text = "\n".join(section(("penalty", "coefficient"), {"ood": silences(EMPTY)}, (1, 2, 3)))
    assert "more than 10 % of the prompts lack" in text
    assert "| ood    | k3        | 1             | 0.60     | 0.20     | –        |" in text


def test_a_seed_above_a_half_is_found_by_penalty_and_coefficient():
    made = made_of(PROMPTS)
    assert silences(emptiness(made, "ood")) == {("k3", "2"): {1: 1.0, 2: 0.0}}
