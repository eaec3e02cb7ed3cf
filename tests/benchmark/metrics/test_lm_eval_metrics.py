import math

import pytest

from benchmark.metrics.lm_eval import ends_inside_sentence, mean, process_results


@pytest.mark.parametrize("wrap", [lambda outputs: outputs, lambda outputs: [outputs]])
def test_both_shapes_of_results_are_read(wrap: object) -> None:
    found = process_results({}, wrap(["a b", "a c", "  "]))  # type: ignore[operator]
    assert found["distinct"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["ead"] == pytest.approx(found["distinct"], rel=1e-4)
    assert found["length_words"] == pytest.approx(4 / 3)
    assert found["empty_share"] == pytest.approx(1 / 3)
    assert found["truncated_share"] == 1.0
    assert all(type(value) is float for value in found.values())


def test_wordless_outputs_are_missing_not_zero() -> None:
    found = process_results({}, ["", "!"])
    assert math.isnan(found["ead"])
    assert math.isnan(found["distinct"])
    assert (found["length_words"], found["empty_share"]) == (0, 0.5)


@pytest.mark.parametrize("results", [[], [[]]])
def test_no_outputs_are_missing(results: list[list[str]]) -> None:
    assert all(math.isnan(value) for value in process_results({}, results).values())


def test_mean_skips_what_is_missing() -> None:
    assert mean([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(mean([math.nan]))
    assert math.isnan(mean([]))


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("It ends.", False),
        ("Does it?! \n", False),
        ('He said "no."', False),
        ("It ends (it does.)", False),
        ("**Bold.**", False),
        ("And so on…", False),
        ("終わり。", False),
        ("It does not", True),
        ("one, two,", True),
        ('He said "no', True),
        ("a list:\n- item", True),
        ("3.5", True),
    ],
)
def test_a_text_that_ends_without_a_sentences_end_counts_as_cut(text: str, inside: bool) -> None:
    assert ends_inside_sentence(text) is inside


def test_empty_outputs_are_not_among_the_cut_ones() -> None:
    assert process_results({}, ["A.", "b", "", "C!"])["truncated_share"] == pytest.approx(1 / 3)
    assert math.isnan(process_results({}, ["", " "])["truncated_share"])
