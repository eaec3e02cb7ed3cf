import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics import (
    compression,
    distinct_k,
    distinct_n,
    ead,
    ngram_cosine,
    nli,
    self_bleu,
    sentence_bert,
    token_entropy,
    vendi,
)
from benchmark.metrics.catalog import GATE, METRICS, OWN, metric
from benchmark.metrics.ngrams import count_sets
from benchmark.metrics.repeats import repeats_of

IDS = [
    "win_rate",
    "win_rate_lc",
    "ead_per_input",
    "ead_across_input",
    "ead_rlfh_per_input",
    "ead_rlfh_across_input",
    "distinct_per_input",
    "distinct_across_input",
    "self_bleu_per_input",
    "self_bleu_across_input",
    "ngram_cosine_per_input",
    "ngram_cosine_across_input",
    "compression_per_input",
    "vendi_per_input",
    "vendi_across_input",
    "distinct_k_per_input",
    "sbert_per_input",
    "sbert_across_input",
    "effective_per_input_<gate>",
    "effective_across_input_<gate>",
    "conditional_per_input_<gate>",
    "nli_per_input",
    "nli_across_input",
    "nli_paper_table_per_input",
    "nli_paper_table_across_input",
    "nli_released_code_per_input",
    "nli_released_code_across_input",
    "valid_share_<gate>",
    "length_words",
    "length_characters",
    "reference_length_characters",
    "empty_share",
    "cut_off_share",
    "token_entropy_per_input",
]


def test_catalogue_lists_every_metric() -> None:
    assert sorted(METRICS) == sorted(IDS)


def test_a_gates_name_finds_its_metric() -> None:
    assert metric("effective_per_input_oracle") is METRICS[f"effective_per_input_{GATE}"]
    assert metric("ead_per_input") is METRICS["ead_per_input"]
    with pytest.raises(KeyError):
        metric("ead")


def test_metric_modules_import_nothing_heavy() -> None:
    code = """
import importlib, pkgutil, sys
import benchmark.metrics
for module in pkgutil.iter_modules(benchmark.metrics.__path__):
    importlib.import_module(f"benchmark.metrics.{module.name}")
print(sorted({"torch", "transformers", "sentence_transformers", "scipy", "pandas"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- floors, ceilings and directions, from the functions themselves -------------------------------------------------

FIXED = settings(derandomize=True, deadline=None, max_examples=25)
K, N, WORDS = 16, 500, 40


def judged(pairs: list[tuple[str, str]]) -> np.ndarray:
    """Sure that a text entails itself and contradicts every other."""
    return np.array([[1.0, 0.0, 0.0] if a == b else [0.0, 0.0, 1.0] for a, b in pairs])


def all_valid(e: np.ndarray) -> np.ndarray:
    return np.ones(e.shape[:-1], bool)


def classes(e: np.ndarray) -> np.ndarray:
    return distinct_k.classes(distinct_k.cosine_relation(e))


def nli_of(form: nli.Form) -> tuple[Callable[[Sequence[str]], float], Callable[[Sequence[str]], float]]:
    return (
        lambda texts: float(nli.per_input([texts], judged, form=form, neighbours=None)[0]),
        lambda texts: float(nli.across_input([texts], judged, form=form, neighbours=None)[0][0]),
    )


OF_TEXTS: dict[str, Callable[[Sequence[str]], float]] = {
    "ead_per_input": lambda texts: float(ead.per_input(count_sets([texts]))[0]),
    "ead_across_input": lambda texts: float(ead.across_input(count_sets([texts]))[0][0]),
    "ead_rlfh_per_input": lambda texts: float(ead.published_per_input(count_sets([texts], "rlfh"))[0]),
    "ead_rlfh_across_input": lambda texts: float(ead.published_across_input(count_sets([texts], "rlfh"))[0][0]),
    "distinct_per_input": lambda texts: float(distinct_n.per_input(count_sets([texts]))[0]),
    "distinct_across_input": lambda texts: float(distinct_n.across_input(count_sets([texts]))[0][0]),
    "self_bleu_per_input": lambda texts: float(self_bleu.per_input(repeats_of([texts]))[0]),
    "self_bleu_across_input": lambda texts: float(self_bleu.across_input(repeats_of([texts]))[0][0]),
    "ngram_cosine_per_input": lambda texts: float(ngram_cosine.per_input(repeats_of([texts]))[0]),
    "ngram_cosine_across_input": lambda texts: float(ngram_cosine.across_input(repeats_of([texts]))[0][0]),
    "compression_per_input": lambda texts: float(compression.per_input([texts])[0]),
    **{
        f"{form}_{which}": function
        for form in ("nli", "nli_paper_table", "nli_released_code")
        for which, function in zip(("per_input", "across_input"), nli_of(form), strict=True)  # type: ignore[arg-type]
    },
}
OF_EMBEDDINGS: dict[str, Callable[[np.ndarray], float]] = {
    "vendi_per_input": lambda e: float(vendi.per_input(e)),
    "vendi_across_input": lambda e: float(vendi.across_input(e)[0]),
    "distinct_k_per_input": lambda e: float(distinct_k.per_input(classes(e))),
    "sbert_per_input": lambda e: float(sentence_bert.per_input(e)),
    "sbert_across_input": lambda e: float(sentence_bert.across_input(e)[0]),
    f"effective_per_input_{GATE}": lambda e: float(sentence_bert.effective(e[None], all_valid(e[None]))[0]),
    f"effective_across_input_{GATE}": lambda e: sentence_bert.effective_across_input(e, all_valid(e))[0],
    f"conditional_per_input_{GATE}": lambda e: float(sentence_bert.conditional(e[None], all_valid(e[None]))[0]),
}


def ends(metric_id: str) -> tuple[float, float]:
    """Values of identical outputs, and of such as have nothing in common; K of them, or N across inputs."""
    k = K if "per_input" in metric_id else N
    if metric_id in OF_TEXTS:
        texts = [" ".join(f"w{j}x{i}" for i in range(WORDS)) + "." for j in range(k)]
        return OF_TEXTS[metric_id](texts[:1] * k), OF_TEXTS[metric_id](texts)
    apart = np.eye(k)
    if metric_id.startswith("sbert"):
        apart = apart - 1 / k  # The corners of a simplex, seen from its middle.
        apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    of = OF_EMBEDDINGS[metric_id]
    return of(np.tile(np.eye(k)[0], (k, 1))), of(apart)


def test_metrics_of_variety_have_a_floor_and_a_ceiling_and_others_have_none() -> None:
    for metric_id, about in METRICS.items():
        assert (about.floor is not None) == (about.ceiling is not None) == ("diverse" in about.direction)
        known = metric_id in OF_TEXTS or metric_id in OF_EMBEDDINGS or metric_id == "token_entropy_per_input"
        assert ("diverse" in about.direction) == known


def test_the_ends_of_token_entropy_are_a_certain_token_and_one_of_as_many_as_there_are() -> None:
    tokens = np.full((1, K), 7.0)
    assert (METRICS["token_entropy_per_input"].floor, METRICS["token_entropy_per_input"].ceiling) == ("0", "ln V")
    assert token_entropy.per_input(np.zeros((1, K)), tokens)[0] == 0.0
    assert token_entropy.per_input(-tokens * np.log(50), tokens)[0] == pytest.approx(np.log(50))


@pytest.mark.parametrize("metric_id", sorted({*OF_TEXTS, *OF_EMBEDDINGS} - {"compression_per_input"}))
def test_floor_and_ceiling_are_what_the_functions_give(metric_id: str) -> None:
    k, about = (K if "per_input" in metric_id else N), METRICS[metric_id]
    for text, found in zip((about.floor, about.ceiling), ends(metric_id), strict=True):
        assert text is not None
        assert text.partition(" for ")[2] in ("", f"{k} × {WORDS} words")
        expression = text.partition(" for ")[0].lstrip("≈≤ ")
        expected = eval(expression, {"k": k, "n": k, "d": k, "min": min})
        tolerance = {"rel": 0.01} if text.startswith("≈") else {"abs": 1e-12}
        assert found == pytest.approx(expected, **tolerance)


def test_the_range_of_ead_ends_at_the_bound_of_its_formula() -> None:
    for which in ("per_input", "across_input"):
        assert eval(METRICS[f"ead_{which}"].range) == [0, pytest.approx(1 / (1 - 1 / np.e), abs=0.005)]


def test_distinct_n_of_identical_texts_is_below_the_floor_where_they_repeat_themselves() -> None:
    assert OF_TEXTS["distinct_per_input"](["a a a a a a"] * K) < 1 / K


def test_the_ends_of_the_compression_ratio() -> None:
    ratio, rng = OF_TEXTS["compression_per_input"], np.random.default_rng(0)
    text = " ".join(f"w{i}" for i in range(WORDS))
    assert ratio([text]) < ratio([text] * K) < ratio([text * 10] * K) < ratio(["a" * 10**5] * K) < 1030
    assert ratio(["a" * 10**5] * K) == pytest.approx(1000, rel=0.05)
    noise = ["".join(map(chr, rng.integers(33, 127, 250))) for _ in range(K)]
    assert ratio(noise) == pytest.approx(1.2, rel=0.02)


@pytest.mark.parametrize("metric_id", [*OF_TEXTS, *OF_EMBEDDINGS])
def test_the_direction_tells_which_end_is_the_diverse_one(metric_id: str) -> None:
    alike, unlike = ends(metric_id)
    direction = METRICS[metric_id].direction
    assert direction == ("higher is more diverse" if unlike > alike else "lower is more diverse")


TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9).map(" ".join), min_size=2, max_size=6)


@pytest.mark.parametrize("metric_id", OF_TEXTS)
@FIXED
@given(texts=TEXTS)
def test_every_text_twice_never_looks_more_diverse(metric_id: str, texts: list[str]) -> None:
    sign = 1 if METRICS[metric_id].direction.startswith("higher") else -1
    assert sign * OF_TEXTS[metric_id](texts * 2) <= sign * OF_TEXTS[metric_id](texts) + 1e-12


@pytest.mark.parametrize("metric_id", OF_EMBEDDINGS)
@FIXED
@given(seed=st.integers(0, 10**6), k=st.integers(2, 7))
def test_every_embedding_twice_never_looks_more_diverse(metric_id: str, seed: int, k: int) -> None:
    e = np.random.default_rng(seed).normal(size=(k, 4)) + 0.5
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    assert OF_EMBEDDINGS[metric_id](np.tile(e, (2, 1))) <= OF_EMBEDDINGS[metric_id](e) + 1e-9


@pytest.mark.parametrize(
    "name",
    [
        "compression",
        "distinct_k",
        "distinct_n",
        "duplicates",
        "ead",
        "ngram_cosine",
        "nli",
        "self_bleu",
        "sentence_bert",
        "token_entropy",
    ],
)
def test_the_docstring_of_a_metric_says_how_to_read_it(name: str) -> None:
    text = " ".join(str(importlib.import_module(f"benchmark.metrics.{name}").__doc__).split())
    for part in (
        "Range|range",
        "(higher|lower) is (more|less) diverse",
        "Floor|floor",
        "Ceiling|ceiling",
        r"[Mm]issing \(NaN\)",
    ):
        assert re.search(part, text), f"{name}: no {part}"
    assert name == "duplicates" or "arXiv" in text


def test_a_metric_of_another_package_is_told_by_its_beginning() -> None:
    assert metric(f"{OWN}my_metric").title == "my metric"
