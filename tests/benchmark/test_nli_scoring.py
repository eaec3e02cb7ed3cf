import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_nli import make_checkpoint

from benchmark.metrics import nli
from benchmark.nli_scoring import load_classifier, nli_columns
from benchmark.quantities import Column
from benchmark.scoring import estimates_of
from benchmark.statistics.jackknife import pseudo_values

FIXED = settings(max_examples=40)
TEXT = st.lists(st.sampled_from(["Yes.", "No!", "It may be so.", "..."]), max_size=3).map(" ".join)
GRID = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(st.lists(TEXT, min_size=shape[0], max_size=shape[0]), min_size=shape[1], max_size=shape[1])
)
FORMS: tuple[nli.Form, ...] = ("nli", "nli_released_code", "nli_paper_table")


def invented(pairs: list[tuple[str, str]]) -> np.ndarray:
    rows = [[1 + byte for byte in hashlib.sha256("\n".join(pair).encode()).digest()[:3]] for pair in pairs]
    return np.array(rows) / np.sum(rows, axis=1, keepdims=True)


def by_name(columns: list[Column]) -> dict[str, Column]:
    return {column.metric: column for column in columns}


@FIXED
@given(GRID)
def test_columns_over_all_pairs_equal_the_metric_and_its_jackknife(texts: list[list[str]]) -> None:
    found = by_name(nli_columns({("t", 1.0): texts}, invented, forms=FORMS, neighbours=None, across_pairs=10**6))
    n, k = len(texts), len(texts[0])
    assert list(found) == [
        f"{form}_{which}"
        for form in FORMS
        for which in [*(["per_input"] if k > 1 else []), *(["across_input"] if n > 2 else [])]
    ]
    for form in FORMS:
        if k > 1:
            column = found[f"{form}_per_input"]
            assert (column.task, column.temperature, column.statistic) == ("t", 1.0, "mean")
            expected = nli.per_input(texts, invented, form=form, neighbours=None)
            assert column.values == pytest.approx(expected, nan_ok=True)
        if n > 2:
            column = found[f"{form}_across_input"]
            assert column.statistic == "set"
            slots = list(zip(*texts, strict=True))
            value, without = nli.across_input(slots, invented, form=form, neighbours=None)
            whole = np.isfinite(value) & np.isfinite(without).all(axis=1)
            if whole.any():
                expected = pseudo_values(float(value[whole].mean()), without[whole].mean(axis=0))
                assert column.values == pytest.approx(expected)
            else:
                assert np.isnan(column.values).all()


def spied(texts: list[list[str]], **options: object) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    def spy(pairs: list[tuple[str, str]]) -> np.ndarray:
        asked.extend(pairs)
        return invented(pairs)

    nli_columns({("t", 1.0): texts}, spy, forms=FORMS, **options)  # type: ignore[arg-type]
    return asked


def test_each_directed_pair_is_asked_once_for_all_grids_quantities_and_forms() -> None:
    grids = {("t", heat): [[f"Prompt {i}, output {j % 2}." for j in range(4)] for i in range(5)] for heat in (0.7, 1.0)}
    calls: list[list[tuple[str, str]]] = []

    def spy(pairs: list[tuple[str, str]]) -> np.ndarray:
        calls.append(pairs)
        return invented(pairs)

    columns = nli_columns(grids, spy, forms=FORMS)
    assert len(columns) == 12
    assert len(calls) == 1
    assert max(Counter(calls[0]).values()) == 1
    assert {(b, a) for a, b in calls[0]} == set(calls[0])


def test_pairs_across_inputs_are_as_many_as_asked_for_even_and_not_of_neighbours_alone() -> None:
    n, k = 40, 8
    texts = [[f"p{i}o{j}" for j in range(k)] for i in range(n)]
    asked = spied(texts, across_pairs=640)
    across = [(a, b) for a, b in asked if a.split("o")[0] != b.split("o")[0]]
    assert len(across) == 2 * 640
    assert set(Counter(a for a, _ in across).values()) == {4}  # Two neighbours on either side.
    assert all(a.split("o")[1] == b.split("o")[1] for a, b in across)
    distances = [abs(int(a[1:].split("o")[0]) - int(b[1:].split("o")[0])) for a, b in across]
    assert np.mean(distances) == pytest.approx((n + 1) / 3, rel=0.1)  # That of two prompts drawn at random.
    assert len({tuple(sorted((a.split("o")[0], b.split("o")[0]))) for a, b in across}) > 400  # Other ones in each slot.
    assert len(asked) - len(across) == 2 * n * k


def test_the_jackknife_leaves_each_prompt_out_of_its_own_pairs() -> None:
    n = 12
    texts = [[f"Text {i}."] for i in range(n)]

    def odd_one(pairs: list[tuple[str, str]]) -> np.ndarray:
        return np.array([[0.0, 0.0, 1.0] if "Text 3." in pair else [1.0, 0.0, 0.0] for pair in pairs])

    (column,) = nli_columns({("t", 1.0): texts}, odd_one, across_pairs=n)
    assert int(column.values.argmax()) == 3
    full = -1 + 2 * 2 / n
    # Without prompt 3 all of the rest entail each other.
    assert column.values[3] == pytest.approx(n * full - (n - 1) * -1)


def test_outputs_without_a_sentence_are_missing_and_make_no_mean_missing() -> None:
    texts = [["Yes.", "No."], ["", "..."], ["No.", "It may be so."], ["Yes.", "Yes."]]
    per_input = by_name(nli_columns({("t", 1.0): texts}, invented))["nli_per_input"]
    assert np.isnan(per_input.values).tolist() == [False, True, False, False]
    (estimate,) = estimates_of([per_input], lambda _: "id")
    assert (estimate.n, estimate.metric) == (3, "nli_per_input")
    assert estimate.value == pytest.approx(np.nanmean(per_input.values))


def test_one_output_of_two_prompts_asks_nothing() -> None:
    assert spied([["Yes."], ["No."]]) == []
    assert nli_columns({}, invented) == []
    assert nli_columns({("t", 1.0): []}, invented) == []


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="across_pairs"):
        nli_columns({}, invented, across_pairs=0)
    with pytest.raises(ValueError, match="same number"):
        nli_columns({("t", 1.0): [["a"], ["a", "b"]]}, invented)


def test_a_checkpoint_and_a_file_are_all_that_is_needed(tmp_path: Path) -> None:
    folder, cache = make_checkpoint(tmp_path / "model"), tmp_path / "nli.jsonl"
    steps: list[tuple[int, int]] = []
    texts = [["yes it is. red!", "no!"], ["it may be so.", "blue."], ["green.", "so is it."]]

    def columns() -> list[Column]:
        classifier = load_classifier(
            str(folder), cache, device="cpu", progress=lambda done, total: steps.append((done, total))
        )
        return nli_columns({("t", 1.0): texts}, classifier)

    first = columns()
    whole, data = steps[-1], cache.read_bytes()
    assert whole[0] == whole[1] == len(data.splitlines()) > 0
    steps.clear()
    again = columns()
    assert steps == [whole]  # All were known.
    assert cache.read_bytes() == data
    model = nli.CrossEncoderNLI(str(folder), device="cpu")
    assert by_name(first)["nli_per_input"].values == pytest.approx(nli.per_input(texts, model), abs=1e-6)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.values, other.values)
