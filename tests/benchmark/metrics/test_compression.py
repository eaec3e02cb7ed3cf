import gzip
import random
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import compression

FIXED = settings(derandomize=True, deadline=None)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=6)


def value(texts: list[str]) -> float:
    return float(compression.per_input([texts])[0])


def slow(texts: list[str]) -> float:
    raw = "".join(text + "\n" for text in sorted(texts) if text).encode()
    return len(raw) / len(gzip.compress(raw)) if raw else np.nan


@FIXED
@given(st.lists(TEXTS, max_size=4))
def test_values_equal_those_of_a_gzip_file(sets: list[list[str]]) -> None:
    found = compression.per_input(sets)
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array([slow(texts) for texts in sets]), rel=1e-15, nan_ok=True)


@FIXED
@given(TEXTS)
def test_without_each_text_equals_compressing_the_rest(texts: list[str]) -> None:
    value, without = compression.across_input(texts)
    assert value == pytest.approx(slow(texts), rel=1e-15, nan_ok=True)
    left = [slow(texts[:i] + texts[i + 1 :]) for i in range(len(texts))]
    assert without == pytest.approx(np.array(left), rel=1e-15, nan_ok=True)


def test_without_each_text_equals_compressing_the_rest_past_the_window() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.3, 400) % 5000) for _ in range(60)]
    assert sum(map(len, texts)) > 2 * 2**15
    found = compression.across_input(texts)[1]
    assert found.tolist() == [slow(texts[:i] + texts[i + 1 :]) for i in range(len(texts))]


@FIXED
@given(TEXTS, st.integers(0, 99))
def test_order_of_texts_does_not_matter(texts: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(texts, len(texts))
    assert value(shuffled) == pytest.approx(value(texts), rel=1e-15, nan_ok=True)


@FIXED
@given(TEXTS)
def test_an_empty_text_changes_nothing(texts: list[str]) -> None:
    assert value([*texts, ""]) == pytest.approx(value(texts), rel=1e-15, nan_ok=True)


def test_identical_texts_compress_better_than_unlike_ones() -> None:
    rng = random.Random(0)
    unlike = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=200)) for _ in range(16)]
    assert value(unlike) < 2 < 10 < value(unlike[:1] * 16)


def test_the_header_puts_a_short_set_below_one() -> None:
    assert value(["a"]) == 2 / 22


def test_a_text_is_utf8_bytes() -> None:
    assert value(["é"]) == 3 / 23
    assert value(["\ud800"]) == 4 / 24


def test_sets_of_empty_texts_are_missing() -> None:
    assert np.isnan(compression.per_input([[], [""], ["", ""]])).all()
    value, without = compression.across_input(["", "a"])
    assert value == 2 / 22
    assert without == pytest.approx(np.array([2 / 22, np.nan]), nan_ok=True)


def test_the_compressor_names_the_library() -> None:
    assert compression.compressor() == f"gzip -9, zlib {zlib.ZLIB_RUNTIME_VERSION}"
