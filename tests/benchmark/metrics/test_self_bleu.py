import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import slow_bleu

from benchmark.metrics import ngrams, self_bleu
from benchmark.metrics.distinct_n import Short
from benchmark.metrics.repeats import repeats, repeats_of
from benchmark.metrics.tokenise import TOKENISERS, words

FIXED = settings(derandomize=True, deadline=None)
TEXT = st.lists(st.sampled_from("aabcde"), max_size=9).map(" ".join)
TEXTS = st.lists(TEXT, max_size=6)
SHORT = pytest.mark.parametrize("short", ["skip", "zero"])


def value(texts: list[str], short: Short = "skip", tokeniser: str = "words") -> float:
    return float(self_bleu.per_input(repeats_of([texts], tokeniser), short=short)[0])


@SHORT
@FIXED
@given(sets=st.lists(TEXTS, max_size=4), tokeniser=st.sampled_from(list(TOKENISERS)))
def test_values_equal_the_definition(short: Short, sets: list[list[str]], tokeniser: str) -> None:
    found = self_bleu.per_input(repeats_of(sets, tokeniser), short=short)
    expected = [slow_bleu.self_bleu(texts, TOKENISERS[tokeniser], short) for texts in sets]
    assert found == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)


@SHORT
@FIXED
@given(sets=st.lists(TEXTS, max_size=3))
def test_without_each_text_equals_a_recount(short: Short, sets: list[list[str]]) -> None:
    value, without = self_bleu.across_input(repeats_of(sets), short=short)
    assert value == pytest.approx(self_bleu.per_input(repeats_of(sets), short=short), nan_ok=True)
    left = [slow_bleu.self_bleu(texts[:i] + texts[i + 1 :], words, short) for texts in sets for i in range(len(texts))]
    assert without == pytest.approx(np.array(left), abs=1e-12, nan_ok=True)


@SHORT
def test_without_each_text_equals_a_recount_on_running_text(short: Short) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.5, rng.integers(0, 40)) % 60) for _ in range(25)]
    texts += texts[:2]
    found = self_bleu.across_input(repeats_of([texts]), short=short)[1]
    left = [slow_bleu.self_bleu(texts[:i] + texts[i + 1 :], words, short) for i in range(len(texts))]
    assert found == pytest.approx(np.array(left), abs=1e-12)


@FIXED
@given(st.lists(TEXT, min_size=2, max_size=6))
def test_the_zero_rule_equals_nltk(texts: list[str]) -> None:
    score = pytest.importorskip("nltk.translate.bleu_score")
    method1 = score.SmoothingFunction().method1
    each = [
        score.sentence_bleu(
            [words(other) for other in texts[:i] + texts[i + 1 :]], words(text), smoothing_function=method1
        )
        for i, text in enumerate(texts)
    ]
    assert value(texts, "zero") == pytest.approx(float(np.mean(each)), abs=1e-12)


@SHORT
@FIXED
@given(texts=st.lists(st.lists(st.sampled_from("abcde"), min_size=4, max_size=9).map(" ".join), min_size=2, max_size=6))
def test_long_enough_texts_equal_sacrebleu_with_floor_smoothing(short: Short, texts: list[str]) -> None:
    metric = pytest.importorskip("sacrebleu.metrics").BLEU(
        smooth_method="floor", smooth_value=0.1, tokenize="none", effective_order=False
    )
    each = [metric.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    assert value(texts, short) == pytest.approx(float(np.mean(each)) / 100, abs=1e-9)


@FIXED
@given(TEXTS, st.integers(0, 99))
def test_order_of_texts_and_names_of_words_do_not_matter(texts: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(texts, len(texts))
    renamed = [text.translate(str.maketrans("abcde", "vwxyz")) for text in shuffled]
    assert value(renamed) == pytest.approx(value(texts), abs=1e-14, nan_ok=True)


@FIXED
@given(TEXTS)
def test_an_empty_text_changes_nothing_under_skip(texts: list[str]) -> None:
    assert value([*texts, ""]) == pytest.approx(value(texts), abs=1e-14, nan_ok=True)


@FIXED
@given(TEXT.filter(bool), st.integers(2, 5))
def test_identical_texts_score_one(text: str, k: int) -> None:
    assert value([text] * k) == pytest.approx(1.0, abs=1e-14)


@FIXED
@given(TEXTS.filter(lambda texts: sum(map(bool, texts)) > 1))
def test_values_lie_between_zero_and_one(texts: list[str]) -> None:
    assert 0.0 <= value(texts) <= 1.0


@FIXED
@given(TEXTS)
def test_a_copy_of_every_text_scores_one(texts: list[str]) -> None:
    assert value(texts * 2) == pytest.approx(1.0 if any(texts) else np.nan, nan_ok=True)


def test_texts_that_share_no_word_score_zero() -> None:
    assert value(["a b c", "d e f", "g"]) == 0.0


def test_sets_below_two_texts_with_words_are_missing() -> None:
    assert np.isnan(self_bleu.per_input(repeats_of([[], ["a b"], ["a b", ""], ["", ""]]))).all()
    assert np.isnan(self_bleu.per_input(repeats_of([[], ["a b"]]), short="zero")).all()
    assert value(["a b", ""], "zero") == 0.0


def test_a_set_of_two_has_no_value_without_either() -> None:
    without = self_bleu.across_input(repeats_of([["a b", "a c"], ["a b", "a c", ""]]))[1]
    assert np.isnan(without[:4]).all()
    assert without[4] == pytest.approx(value(["a b", "a c"]))


def test_a_sets_texts_need_not_be_neighbours() -> None:
    sets = [["a b c d", "a b c", "d c"], ["a b", "b a a", "c b a"]]
    flat = [text for pair in zip(*sets, strict=True) for text in pair]
    value, without = self_bleu.across_input(repeats(ngrams.tokens(flat), np.tile([0, 1], 3)))
    apart = [self_bleu.across_input(repeats_of([texts])) for texts in sets]
    assert value == pytest.approx([float(values[0]) for values, _ in apart], abs=1e-15)
    left = np.stack([left for _, left in apart], axis=1).ravel()
    assert without == pytest.approx(left, abs=1e-15)


def test_the_shorter_of_two_references_as_close_sets_the_brevity() -> None:
    texts = ["a b c d e", "a b c d", "a b c d e f"]
    assert value(texts) == pytest.approx(slow_bleu.self_bleu(texts, words))
    middle = slow_bleu.bleu(words(texts[0]), [words(texts[1]), words(texts[2])], "skip")
    assert middle == 1.0


@FIXED
@given(st.lists(st.text(), max_size=5))
def test_any_unicode_gives_a_finite_value_or_missing(texts: list[str]) -> None:
    for name, split in TOKENISERS.items():
        assert np.isfinite(value(texts, tokeniser=name)) == (sum(map(bool, map(split, texts))) > 1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="short"):
        self_bleu.per_input(repeats_of([["a"]]), short="nan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="up to n = 4, not 3"):
        self_bleu.per_input(repeats_of([["a"]], n_max=3))
