import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import distinct_k
from benchmark.metrics.encoder import Encoder

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
SEEDS = st.integers(0, 10**6)
SIZES = st.integers(1, 8)


def draw(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A sparse relation, given for one order of each pair alone, and a validity."""
    rng = np.random.default_rng(seed)
    k = shape[-1]
    return rng.random((*shape, k)) < 1.0 / (2 * k), rng.random(shape) < 0.8


def slow_classes(same: np.ndarray, valid: np.ndarray) -> list[int]:
    k = len(same)
    label = [-1] * k
    found = 0
    for start in range(k):
        if not valid[start] or label[start] >= 0:
            continue
        label[start], waiting = found, [start]
        while waiting:
            a = waiting.pop()
            for b in range(k):
                if valid[b] and label[b] < 0 and (same[a, b] or same[b, a]):
                    label[b] = found
                    waiting.append(b)
        found += 1
    return label


def slow_published_classes(same: np.ndarray, valid: np.ndarray) -> list[int]:
    founders: list[int] = []
    label = []
    for j in range(len(same)):
        matches = [number for number, i in enumerate(founders) if same[i, j] or same[j, i]]
        if valid[j] and not matches:
            founders.append(j)
            matches = [len(founders) - 1]
        label.append(matches[0] if valid[j] else -1)
    return label


def slow_utility(classes: np.ndarray, scores: np.ndarray, p: float) -> float:
    seen: set[int] = {-1}
    total = 0.0
    for i, (number, score) in enumerate(zip(classes.tolist(), scores.tolist(), strict=True)):
        total += 0.0 if number in seen else p**i * score
        seen.add(number)
    return total * (1 - p) / (1 - p ** len(scores))


@FIXED
@given(SEEDS, SIZES)
def test_classes_equal_a_search_of_the_graph(seed: int, k: int) -> None:
    same, valid = draw(seed, 2, 3, k)
    for q in (valid, np.ones_like(valid)):
        for ours, theirs in (
            (distinct_k.classes, slow_classes),
            (distinct_k.published_classes, slow_published_classes),
        ):
            found = ours(same, q)
            for slot in np.ndindex(2, 3):
                assert found[slot].tolist() == theirs(same[slot], q[slot])
    assert np.array_equal(distinct_k.classes(same), distinct_k.classes(same, np.ones_like(valid)))


@FIXED
@given(SEEDS, SIZES)
def test_order_of_outputs_does_not_matter(seed: int, k: int) -> None:
    same, valid = draw(seed, k)
    order = np.random.default_rng(seed).permutation(k)
    before, after = distinct_k.classes(same, valid), distinct_k.classes(same[order][:, order], valid[order])
    together = (before[:, None] == before)[order][:, order]
    assert np.array_equal(after[:, None] == after, together)
    assert distinct_k.per_input(before) == distinct_k.per_input(after)


def test_published_classes_depend_on_the_order_and_ours_do_not() -> None:
    chain = np.zeros((3, 3), bool)
    chain[0, 1] = chain[1, 2] = True
    middle_first = chain[[1, 0, 2]][:, [1, 0, 2]]
    assert distinct_k.published_classes(chain).tolist() == [0, 0, 1]
    assert distinct_k.published_classes(middle_first).tolist() == [0, 0, 0]
    assert distinct_k.classes(chain).tolist() == distinct_k.classes(middle_first).tolist() == [0, 0, 0]


@FIXED
@given(SEEDS, SIZES)
def test_an_equivalence_gives_its_own_classes_both_ways(seed: int, k: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 3, (4, k))
    same = numbers[:, :, None] == numbers[:, None, :]
    found = distinct_k.classes(same)
    assert np.array_equal(found[:, :, None] == found[:, None, :], same)
    assert np.array_equal(found, distinct_k.published_classes(same))
    assert distinct_k.per_input(found).tolist() == [len(set(row)) for row in numbers.tolist()]


def test_a_long_chain_is_one_class() -> None:
    same = np.eye(16, k=1, dtype=bool)
    order = np.random.default_rng(0).permutation(16)
    assert distinct_k.per_input(distinct_k.classes(same[order][:, order])) == 1


def test_invalid_outputs_are_in_no_class_and_join_none() -> None:
    chain = np.eye(3, k=1, dtype=bool)
    found = distinct_k.classes(chain, np.array([True, False, True]))
    assert found.tolist() == [0, -1, 1]
    assert distinct_k.per_input(found) == 2
    nobody = distinct_k.classes(chain, np.zeros(3, bool))
    assert distinct_k.per_input(nobody) == 0
    assert (
        distinct_k.utility(nobody, np.full(3, np.nan)) == distinct_k.expected_utility(nobody, np.full(3, np.nan)) == 0
    )


def test_no_outputs_are_missing() -> None:
    none = distinct_k.classes(np.zeros((2, 0, 0), bool))
    scores = np.zeros((2, 0))
    for values in (
        distinct_k.per_input(none),
        distinct_k.utility(none, scores),
        distinct_k.expected_utility(none, scores),
    ):
        assert np.isnan(values).tolist() == [True, True]


@FIXED
@given(SEEDS, SIZES, st.floats(0.05, 0.95))
def test_utility_equals_its_definition(seed: int, k: int, patience: float) -> None:
    rng = np.random.default_rng(seed)
    classes, scores = rng.integers(-1, 4, (2, 3, k)), rng.uniform(1, 10, (2, 3, k))
    found = distinct_k.utility(classes, scores, patience=patience)
    expected = [
        [slow_utility(c, u, patience) for c, u in zip(*row, strict=True)] for row in zip(classes, scores, strict=True)
    ]
    assert found == pytest.approx(np.array(expected))
    assert (found <= 10).all()


@FIXED
@given(SEEDS, st.integers(1, 5), st.floats(0.05, 0.95))
def test_expected_utility_is_the_mean_over_all_orders(seed: int, k: int, patience: float) -> None:
    rng = np.random.default_rng(seed)
    classes, scores = rng.integers(-1, 3, (2, k)), rng.uniform(1, 10, (2, k))
    orders = np.array(list(permutations(range(k))))
    mean = distinct_k.utility(classes[:, orders], scores[:, orders], patience=patience).mean(axis=1)
    assert distinct_k.expected_utility(classes, scores, patience=patience) == pytest.approx(mean)


def test_a_missing_score_makes_a_utility_missing_only_if_it_is_read() -> None:
    classes = np.array([[0, 0, 1], [0, 0, 1], [0, -1, 1]])
    scores = np.array([[1, np.nan, 1], [np.nan, 1, 1], [1, np.nan, 1]])
    assert np.isnan(distinct_k.utility(classes, scores)).tolist() == [False, True, False]
    assert np.isnan(distinct_k.expected_utility(classes, scores)).tolist() == [True, True, False]


def test_cosines_from_the_threshold_on_are_the_same_answer() -> None:
    e = np.array([(1, 0), (0.6, 0.8), (0, 1), (1, 0)], float)
    assert distinct_k.classes(distinct_k.cosine_relation(e, threshold=0.7)).tolist() == [0, 1, 1, 0]
    assert distinct_k.classes(distinct_k.cosine_relation(e, threshold=0.8)).tolist() == [0, 1, 1, 0]
    assert distinct_k.classes(distinct_k.cosine_relation(e, threshold=0.81)).tolist() == [0, 1, 2, 0]
    assert distinct_k.classes(distinct_k.cosine_relation(e, threshold=0.6)).tolist() == [0, 0, 0, 0]
    assert distinct_k.classes(distinct_k.cosine_relation(e, threshold=-1)).tolist() == [0, 0, 0, 0]


def test_equal_rows_are_one_class_at_any_threshold() -> None:
    rng = np.random.default_rng(0)
    e = rng.normal(size=(50, 1, 384))
    e = np.tile((e / np.linalg.norm(e, axis=-1, keepdims=True)).astype(np.float32), (1, 16, 1))
    assert set(distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(e, threshold=1.0)))) == {1.0}


def test_a_function_of_two_texts_is_asked_once_about_every_pair_in_sorted_order() -> None:
    texts = [["b", "a", "c", "a"], ["c", "d", "b", "b"]]
    asked: list[tuple[str, str]] = []

    def relation(pairs: list[tuple[str, str]]) -> list[bool]:
        asked.extend(pairs)
        return [pair == ("b", "c") for pair in pairs]

    same = distinct_k.pair_relation(texts, relation)
    assert asked == [("a", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert np.array_equal(same, same.swapaxes(1, 2))
    assert distinct_k.classes(same).tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]


def test_identical_texts_ask_nothing() -> None:
    def refuse(pairs: list[tuple[str, str]]) -> list[bool]:
        raise AssertionError(pairs)

    assert distinct_k.per_input(
        distinct_k.classes(distinct_k.pair_relation([["", ""], ["a", "a"]], refuse))
    ).tolist() == [1, 1]
    assert distinct_k.pair_relation([], refuse).shape == (0, 0, 0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        distinct_k.pair_relation([["a"], ["a", "b"]], lambda pairs: [True] * len(pairs))
    with pytest.raises(ValueError, match="0 answers to 1 pairs"):
        distinct_k.pair_relation([["a", "b"]], lambda pairs: [])
    with pytest.raises(ValueError, match="threshold"):
        distinct_k.cosine_relation(np.eye(2), threshold=1.5)
    with pytest.raises(ValueError, match="unit norm"):
        distinct_k.cosine_relation(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\[..., k, k\]"):
        distinct_k.classes(np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="valid"):
        distinct_k.classes(np.zeros((2, 2), bool), np.zeros(3, bool))
    for call in (distinct_k.utility, distinct_k.expected_utility):
        with pytest.raises(ValueError, match="one shape"):
            call(np.zeros(2, int), np.zeros(3))
        for patience in (0.0, 1.0):
            with pytest.raises(ValueError, match="patience"):
                call(np.zeros(2, int), np.zeros(2), patience=patience)


def novelty_bench() -> list[dict[str, object]]:
    root = os.environ.get("GENDIV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "../shared/data"
    path = Path(root) / "novelty_bench/gemini-1.5-pro_curated_scores.jsonl"
    if not path.is_file():
        pytest.skip("NoveltyBench's stored scores are not here; set GENDIV_SHARED_DATA to the folder that has them")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_stored_utilities_and_classes_of_novelty_bench_are_recomputed() -> None:
    rows = novelty_bench()
    partition = np.array([row["partition"] for row in rows])
    found = distinct_k.utility(partition, np.array([row["generation_scores"] for row in rows], float))
    assert found == pytest.approx(np.array([row["utility"] for row in rows]), abs=1e-12)
    assert round(float(found.mean()), 4) == 2.5496
    distinct = distinct_k.per_input(partition)
    assert distinct.tolist() == [1 + row["distinct"] for row in rows]  # The published code stores the highest number.
    assert distinct.mean() == pytest.approx(1.58)


@pytest.mark.slow
def test_the_default_threshold_gives_as_many_classes_as_the_classifier() -> None:
    rows = novelty_bench()
    texts = [text for row in rows for text in row["generations"]]  # type: ignore[attr-defined]
    e = Encoder(threads=1).encode(texts).reshape(len(rows), 10, -1)
    ours = distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(e)))
    theirs = distinct_k.per_input(np.array([row["partition"] for row in rows]))
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.1)
    assert 0.2 < np.corrcoef(ours, theirs)[0, 1] < 0.5
