"""Invariants of every metric, and where each is tested. Those that no file of a single metric holds are below.

EAD and distinct-n
    order of texts: test_ead::test_order_of_texts_does_not_matter
    names of words: test_ead::test_names_of_words_do_not_matter
    D is at most C, and EAD at most C / E[C]: test_invariants::test_different_ngrams_are_some_of_all_and_bound_ead
    a duplicate never raises distinct-n: test_ead::test_a_duplicate_never_raises_distinct_n
    nor EAD, self-BLEU's diversity or the number of classes: test_invariants::test_a_duplicate_adds_no_variety
    EAD is at least distinct-n, as E[C] is at most C: test_ead::test_ead_is_at_least_distinct_n
    an empty text changes nothing: test_ead::test_an_empty_text_changes_nothing
    texts are not joined, so their order cannot make n-grams: test_ngrams::test_ngrams_do_not_cross_texts
    D of a pool is at most the sum of its parts' D: test_ead::test_pooling_never_adds_kinds
    V to infinity gives distinct-n: test_ead::test_a_large_vocabulary_gives_distinct_n
    so does n, as V^n grows: test_ead::test_from_two_words_on_the_default_is_distinct_n_to_five_digits
    EAD rises with D and falls with C and with V: test_ead::test_ead_rises_with_kinds_and_falls_with_number_and_space
    EAD is below 1 / (1 - 1/e) where D is at most S: test_ead::test_ead_is_bounded_where_kinds_fit_into_the_space
    any Unicode gives a finite value: test_ead::test_any_unicode_gives_a_finite_value_or_missing
n-gram cosine
    order of texts, names of words: test_ngram_cosine::test_order_of_texts_and_names_of_words_do_not_matter
    range: test_ngram_cosine::test_values_lie_between_zero_and_one
    one text is missing and makes no mean missing: test_invariants::test_a_missing_set_is_missing_alone
    the whole set twice: test_ngram_cosine::test_copies_of_the_set_dilute_its_pairs
    the sum over n-grams equals all pairs: test_ngram_cosine::test_values_equal_all_pairs
Sentence-BERT
    order of texts, rotation: test_sentence_bert::test_order_and_rotation_do_not_matter
    positive scaling: test_sentence_bert::test_rows_that_are_not_unit_are_refused
    identical texts: test_sentence_bert::test_identical_texts_are_at_distance_zero_in_float32
    the whole set twice: test_sentence_bert::test_doubling_a_set_shrinks_it_by_the_known_factor
    the sum vector equals all pairs: test_sentence_bert::test_sum_vector_equals_all_pairs
    range: test_sentence_bert::test_range_is_zero_to_k_over_k_minus_one
    no bias of the naive bootstrap: test_sentence_bert::test_naive_bootstrap_bias_is_not_in_the_pairwise_mean
    gating is between 0 and the ungated, and falls with every loss: test_invariants::test_gating_only_takes_away
NLI
    order of texts: test_nli::test_order_of_outputs_does_not_matter_where_all_pairs_are_compared
    the two texts of a pair change places: test_invariants::test_nli_is_the_same_both_ways_round
    identical texts are the least diverse: test_invariants::test_nli_of_identical_texts_is_the_least_there_is
    range of every form, and how the published ones hang together: test_invariants::test_nli_forms_keep_their_ranges
    asking each pair once equals asking all: test_nli::test_values_equal_the_definition
Self-BLEU
    order of texts, names of words: test_self_bleu::test_order_of_texts_and_names_of_words_do_not_matter
    range: test_self_bleu::test_values_lie_between_zero_and_one
    identical texts: test_self_bleu::test_identical_texts_score_one
    the whole set twice: test_self_bleu::test_a_copy_of_every_text_scores_one
Compression ratio
    order of texts: test_compression::test_order_of_texts_does_not_matter
    an empty text changes nothing: test_compression::test_an_empty_text_changes_nothing
Vendi
    order of texts, rotation: test_vendi::test_order_and_rotation_do_not_matter
    range, and falling with the order: test_vendi::test_range_is_one_to_the_smaller_side_and_falls_with_the_order
    the whole set twice: test_vendi::test_every_text_twice_changes_nothing
    classes at right angles: test_vendi::test_classes_at_right_angles_give_their_hill_number
distinct-k and utility-k
    order of outputs: test_distinct_k::test_order_of_outputs_does_not_matter
    order of outputs, for the mean utility: test_invariants::test_expected_utility_does_not_depend_on_the_order
    range: test_invariants::test_classes_are_between_one_and_the_number_of_outputs
    an equivalence gives its own classes: test_distinct_k::test_an_equivalence_gives_its_own_classes_both_ways
All
    no set twice looks more diverse: test_catalog::test_every_text_twice_never_looks_more_diverse
    nor with embeddings: test_catalog::test_every_embedding_twice_never_looks_more_diverse
    floor and ceiling: test_catalog::test_floor_and_ceiling_are_what_the_functions_give
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import distinct_k, distinct_n, ead, ngram_cosine, ngrams, nli, self_bleu, sentence_bert
from benchmark.metrics.repeats import repeats_of

FIXED = settings(derandomize=True, deadline=None, max_examples=60)
TEXT = st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join)
SOME_TEXTS = st.lists(TEXT.filter(bool), min_size=2, max_size=6)
SEEDS = st.integers(0, 10**6)


def test_every_invariant_named_above_has_its_test() -> None:
    pointers = re.findall(r"(test_\w+)::(test_\w+)$", str(__doc__), re.MULTILINE)
    assert len(pointers) == sum(line.startswith("    ") for line in str(__doc__).splitlines())
    for file, name in pointers:
        tree = ast.parse(Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


@FIXED
@given(st.lists(st.lists(TEXT, max_size=5), min_size=1, max_size=3), st.sampled_from([2, 7, 50257]))
def test_different_ngrams_are_some_of_all_and_bound_ead(sets: list[list[str]], vocabulary: int) -> None:
    counts = ngrams.count_sets(sets)
    assert (counts.distinct <= counts.total).all()
    assert (counts.distinct >= (counts.total > 0)).all()
    for space in (vocabulary, float(vocabulary) ** np.arange(1, 6)):
        most = ead.ead_from_counts(counts.total, counts.total, space)
        found = ead.ead_from_counts(counts.distinct, counts.total, space)
        assert (np.isnan(found) == np.isnan(most)).all()
        assert (np.nan_to_num(found) <= np.nan_to_num(most) + 1e-12).all()


@FIXED
@given(SOME_TEXTS, st.integers(0, 5))
def test_a_duplicate_adds_no_variety(texts: list[str], which: int) -> None:
    longer = [*texts, texts[which % len(texts)]]
    before, after = ngrams.count_sets([texts]), ngrams.count_sets([longer])
    for metric in (distinct_n, ead):
        assert metric.per_input(after)[0] <= metric.per_input(before)[0] + 1e-12
    assert self_bleu.per_input(repeats_of([longer]))[0] >= self_bleu.per_input(repeats_of([texts]))[0] - 1e-12
    found = [
        distinct_k.per_input(distinct_k.classes(distinct_k.pair_relation([some], lambda pairs: [False] * len(pairs))))
        for some in (texts, longer)
    ]
    assert found[0].tolist() == found[1].tolist() == [len(set(texts))]


@FIXED
@given(st.lists(st.lists(TEXT, max_size=4), min_size=1, max_size=4))
def test_a_missing_set_is_missing_alone(sets: list[list[str]]) -> None:
    for of in (
        lambda sets: ngram_cosine.per_input(repeats_of(sets)),
        lambda sets: self_bleu.per_input(repeats_of(sets)),
        lambda sets: ead.per_input(ngrams.count_sets(sets)),
        lambda sets: distinct_n.per_input(ngrams.count_sets(sets)),
    ):
        together = of([["a b c"], *sets, []])
        assert together == pytest.approx(np.concatenate([of([texts]) for texts in [["a b c"], *sets, []]]), nan_ok=True)
        assert np.isnan(together[-1])


def unit(seed: int, *shape: int) -> np.ndarray:
    e = np.random.default_rng(seed).normal(size=(*shape, 4)) + 0.5
    return e / np.linalg.norm(e, axis=-1, keepdims=True)


@FIXED
@given(SEEDS, st.integers(2, 7))
def test_gating_only_takes_away(seed: int, k: int) -> None:
    e, rng = unit(seed, 1, k), np.random.default_rng(seed)
    valid = np.ones((1, k), bool)
    # Distances are cut at 1 one by one under the gate, so the ungated form is that where nothing fails.
    before = sentence_bert.effective(e, valid)[0]
    assert before <= sentence_bert.per_input(e)[0] + 1e-12
    for lost in rng.permutation(k):
        valid[0, lost] = False
        after = sentence_bert.effective(e, valid)[0]
        assert 0.0 <= after <= before + 1e-12
        assert after <= np.nan_to_num(sentence_bert.conditional(e, valid)[0]) + 1e-12
        before = after
    assert before == 0.0


def invented(seed: int) -> nli.Classifier:
    def classify(pairs: list[tuple[str, str]]) -> np.ndarray:
        def draw(pair: tuple[str, str]) -> np.ndarray:
            number = sum((place + 1) * ord(letter) for place, letter in enumerate("|".join(pair)))
            return np.random.default_rng([seed, number]).dirichlet([0.5] * 3)

        return np.array([draw(pair) for pair in pairs])

    return classify


@FIXED
@given(SEEDS, TEXT.filter(bool), TEXT.filter(bool))
def test_nli_is_the_same_both_ways_round(seed: int, a: str, b: str) -> None:
    for form in ("nli", "nli_released_code", "nli_paper_table"):
        found = nli.per_input([[a, b], [b, a]], invented(seed), form=form)  # type: ignore[arg-type]
        assert found[0] == pytest.approx(found[1], abs=1e-12)


@FIXED
@given(SEEDS, SOME_TEXTS)
def test_nli_of_identical_texts_is_the_least_there_is(seed: int, texts: list[str]) -> None:
    def knows_identity(pairs: list[tuple[str, str]]) -> np.ndarray:
        chances = invented(seed)(pairs)
        return np.array([[1.0, 0.0, 0.0] if a == b else row for (a, b), row in zip(pairs, chances, strict=True)])

    alike, unlike = nli.per_input([texts[:1] * len(texts), texts], knows_identity, neighbours=None)
    assert alike == -1.0 <= unlike


@FIXED
@given(SEEDS, st.integers(1, 5))
def test_nli_forms_keep_their_ranges(seed: int, pairs: int) -> None:
    forward, backward = np.random.default_rng(seed).dirichlet([0.3] * 3, (2, pairs))
    ours, table, code = (form(forward, backward) for form in (nli.nli, nli.nli_paper_table, nli.nli_released_code))
    assert (np.abs(ours) <= 1 + 1e-12).all()
    assert (np.abs(table) <= 2).all()
    assert code == pytest.approx(1 - table)
    # With the label certain, the full probabilities and the likeliest label say the same.
    sure = np.eye(3)[np.random.default_rng(seed).integers(0, 3, (2, pairs))]
    assert nli.nli(*sure) == pytest.approx(nli.nli_paper_table(*sure) / 2)


@FIXED
@given(SEEDS, st.integers(1, 8), st.floats(0.05, 0.95))
def test_expected_utility_does_not_depend_on_the_order(seed: int, k: int, patience: float) -> None:
    rng = np.random.default_rng(seed)
    classes, scores, order = rng.integers(-1, 4, k), rng.uniform(1, 10, k), rng.permutation(k)
    found = distinct_k.expected_utility(classes, scores, patience=patience)
    assert distinct_k.expected_utility(classes[order], scores[order], patience=patience) == pytest.approx(found)
    assert 0 <= found <= 10


@FIXED
@given(SEEDS, st.integers(1, 8))
def test_classes_are_between_one_and_the_number_of_outputs(seed: int, k: int) -> None:
    e = unit(seed, k)
    found = [
        float(distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(e, threshold=threshold))))
        for threshold in (-1.0, 0.0, 0.5, 0.9, 1.0)
    ]
    assert found[0] == 1
    assert found[-1] == k
    assert found == sorted(found)  # A stricter relation never joins more.
