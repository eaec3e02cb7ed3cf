"""Differences to SFT and to its temperature curve, on scores that are made by hand."""

import numpy as np
import pytest
from synthetic_scores import swept

from benchmark.statistics.curve import gain_over_curve
from benchmark.statistics.intervals import paired_t
from benchmark.statistics.two_way import two_way_t
from reference_models.findings import Finding, compare, over_seeds, sentences, table


def with_diversity(row, shift=0.0):
    """Give a synthetic row the ungated diversity as well: rising with temperature, by the prompt."""
    rng = np.random.default_rng(5)
    found = {}
    for task, by_temperature in row.per_prompt.items():
        found[task] = {
            temperature: {
                **values,
                "sbert_per_input": tuple((0.2 + shift + 0.2 * float(temperature) + rng.normal(0, 0.01, 60)).tolist()),
            }
            for temperature, values in by_temperature.items()
        }
    return row.model_copy(update={"per_prompt": found})


def ladder(ppo=0.7, shift=-0.1, **changes):
    return [
        with_diversity(swept("sft", quality=0.4)),
        with_diversity(swept("ppo", quality=ppo, **changes), shift),
        swept("random-words", kind="floor"),
    ]


def find(findings, quantity, role="ood"):
    return next(f for f in findings if (f.model, f.role, f.quantity) == ("ppo", role, quantity))


def test_each_quantity_is_the_paired_difference_to_sft_at_temperature_one():
    scores = ladder()
    findings = compare(scores, ("ood", "id"))
    sft, ppo = (row.per_prompt["toy_ood"]["1.0"] for row in scores[:2])
    for metric in ("win_rate", "sbert_per_input", "effective_per_input_oracle"):
        expected = paired_t(ppo[metric], sft[metric])
        found = find(findings, metric)
        assert (found.estimate, found.interval) == (expected.estimate, expected.interval)
        assert np.mean(found.values) == pytest.approx(expected.estimate)
    assert find(findings, "win_rate", "id") != find(findings, "win_rate", "ood")


def test_the_curve_is_sfts_own_in_order_of_temperature():
    scores = ladder()
    curve = [scores[0].per_prompt["toy_ood"][t] for t in ("0.3", "0.7", "1.0", "1.3")]
    mine = scores[1].per_prompt["toy_ood"]["1.0"]
    expected = gain_over_curve(
        mine["win_rate"],
        mine["sbert_per_input"],
        [point["win_rate"] for point in curve],
        [point["sbert_per_input"] for point in curve],
    )
    assert find(compare(scores), "over_curve").estimate == expected.estimate


def test_only_models_are_compared_and_sft_not_with_itself():
    assert {finding.model for finding in compare(ladder())} == {"ppo"}


def test_a_diversity_off_the_curve_is_said_and_not_extrapolated():
    findings = compare(ladder(shift=-0.5))
    found = find(findings, "over_curve")
    assert (found.estimate, str(found), found.verdict) == (None, "out of range", "not compared")
    assert find(over_seeds([findings, compare(ladder())]), "over_curve").estimate is None


def test_over_seeds_the_interval_is_two_way():
    seeds = [compare(ladder(ppo)) for ppo in (0.6, 0.7, 0.8)]
    together = find(over_seeds(seeds), "win_rate")
    expected = two_way_t([find(findings, "win_rate").values for findings in seeds])
    assert (together.estimate, together.interval) == (expected.estimate, expected.interval)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, "above"), (-0.2, -0.1, "below"), (-0.1, 0.1, "not told apart")]
)
def test_the_verdict_says_whether_the_interval_excludes_zero(low, high, verdict):
    interval = paired_t([0.0, 1.0], [0.0, 0.5]).interval._replace(low=low, high=high)
    assert Finding("ppo", "ood", "win_rate", (low + high) / 2, interval, None).verdict == verdict


def test_sentences_and_table_say_the_same_numbers():
    findings = compare(ladder(), ("ood", "id"))
    header, rows = table(findings)
    assert [row[:2] for row in rows] == [["ppo", "ood"], ["ppo", "id"]]
    assert all(len(row) == len(header) for row in rows)
    for finding, line in zip(findings, sentences(findings), strict=True):
        assert str(finding) in line
        assert any(str(finding) in row for row in rows)
    assert sentences(findings)[0].startswith("ppo is above sft in OOD win rate: +0.")


def only(row, temperatures, metrics):
    """Keep these temperatures and metrics of a row's out-of-distribution task alone."""
    kept = {t: {m: row.per_prompt["toy_ood"][t][m] for m in metrics} for t in temperatures}
    return row.model_copy(update={"per_prompt": row.per_prompt | {"toy_ood": kept}})


def test_what_a_task_does_not_have_is_left_out_and_an_empty_cell_of_the_table():
    everything = ("win_rate", "sbert_per_input", "effective_per_input_oracle")
    whole, rows = {f.quantity: f for f in compare(ladder())}, dict(enumerate(ladder()[:2]))
    one_temperature = compare([only(row, ["1.0"], everything) for row in rows.values()])
    assert {f.quantity: f for f in one_temperature} == {m: whole[m] for m in everything}
    no_references = compare([only(row, ["0.7", "1.0"], everything[1:]) for row in rows.values()])
    assert {f.quantity: f for f in no_references} == {m: whole[m] for m in everything[1:]}
    _, (row,) = table(no_references)
    assert row == ["ppo", "ood", "–", *(str(whole[m]) for m in everything[1:]), "–"]
