"""Time EAD, distinct-n and compression on 500 prompts × 16 outputs against published code, one thread.

    pip install --no-deps diversity==0.3.1
    PYTHONPATH=.:tests OMP_NUM_THREADS=1 python tests/benchmarks/ngram_speed.py > tests/benchmarks/ngram_speed.md

Both sides start from the texts and tokenise them; values are compared before anything is timed. "Published" builds the
n-grams of every set once a metric and order, as the published code does; "lean" splits every text once and builds its
n-grams once for both metrics. The rows of the package `diversity` are left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from oracles import slow_ngrams

from benchmark.metrics import compression, distinct_n, ead, ngrams
from benchmark.metrics.tokenise import TOKENISERS

PROMPTS, K, LENGTH, TYPES, REPEATS = 500, 16, (30, 51), 20_000, 9


def corpus() -> list[list[str]]:
    """Zipf texts with capitals, commas and full stops."""
    rng = np.random.default_rng(0)
    vocabulary = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(TYPES)]
    share = 1 / np.arange(1, TYPES + 1)
    lengths = rng.integers(*LENGTH, PROMPTS * K)
    drawn = iter(rng.choice(TYPES, lengths.sum(), p=share / share.sum()))
    texts = []
    for length in lengths:
        words = [vocabulary[next(drawn)] for _ in range(length)]
        words[0] = words[0].capitalize()
        words[8::9] = [word + "," for word in words[8::9]]
        texts.append(" ".join(words) + ".")
    return [texts[i : i + K] for i in range(0, len(texts), K)]


def fast(sets: list[list[str]], tokeniser: str) -> tuple[np.ndarray, np.ndarray]:
    counts = ngrams.count_sets(sets, tokeniser)
    return ead.published_per_input(counts), distinct_n.per_input(counts, short="zero")


def published(sets: list[list[str]], tokeniser: str) -> tuple[np.ndarray, np.ndarray]:
    split = TOKENISERS[tokeniser]
    return (
        np.array([slow_ngrams.ead(texts, split) for texts in sets]),
        np.array([slow_ngrams.distinct(texts, split) for texts in sets]),
    )


def lean(sets: list[list[str]], tokeniser: str) -> tuple[np.ndarray, np.ndarray]:
    both = np.array([slow_ngrams.ead_and_distinct_lean(texts, TOKENISERS[tokeniser]) for texts in sets])
    return both[:, 0], both[:, 1]


Scorer = Callable[[list[list[str]], str], tuple[np.ndarray, np.ndarray]]


def package(module: str) -> Any:
    """A module of the package `diversity` (none of it imports another), or None where it is not installed.

    The package as a whole imports spaCy, torch and more, which these two functions have no use for.
    """
    found = importlib.util.find_spec("diversity")
    if found is None or found.origin is None:
        return None
    spec = importlib.util.spec_from_file_location(module, Path(found.origin).with_name(f"{module}.py"))
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def timed(*calls: Callable[[], object]) -> list[float]:
    """Least seconds of each of several calls, taken in turn."""
    least = [np.inf] * len(calls)
    for _ in range(REPEATS):
        for place, call in enumerate(calls):
            start = perf_counter()
            call()
            least[place] = min(least[place], perf_counter() - start)
    return least


def against_the_package(sets: list[list[str]]) -> None:
    """Print its n-gram diversity beside EAD and distinct-n, and its compression ratio beside ours."""
    ngram, files = package("ngram_diversity"), package("compression")
    if ngram is None:
        return
    # A single text without marks: nothing there to be tokenised, joined or rounded differently.
    plain = ["".join(c for c in sets[0][0].lower() if c.isalpha() or c == " ") + " a a a"]
    shares = ngrams.count_sets([plain]).distinct[0] / ngrams.count_sets([plain]).total[0]
    np.testing.assert_allclose(ngram.ngram_diversity_score(plain, 4), shares[:4].sum(), atol=5e-4)
    print("""
`diversity` 0.3.1, the same texts. Its n-gram diversity is the sum of distinct-1 … 4 of the joined texts; GenDiv's time
is that of EAD and distinct-1 … 5, tokenised by `words`. Its compression ratio gzips twice, through files.

| work | GenDiv s | `diversity` s | ratio |
|---|---|---|---|""")
    for label, data in (("500 × 16", sets), ("1 × 8000", [[text for texts in sets for text in texts]])):
        ours, theirs = timed(
            lambda data=data: fast(data, "words"),
            lambda data=data: [ngram.ngram_diversity_score(texts, 4) for texts in data],
        )
        print(f"| n-gram diversity, {label} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}× |")
    ours, theirs = timed(
        lambda: compression.per_input(sets), lambda: [files.compression_ratio(texts, "gzip") for texts in sets]
    )
    print(f"| compression ratio, 500 × 16 | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}× |")


def main() -> None:
    sets = corpus()
    pooled = [[text for texts in sets for text in texts]]
    n_words = sum(len(text.split()) for text in pooled[0])
    print(f"""# EAD and distinct-n: time against the published algorithm

    pip install --no-deps diversity==0.3.1
    PYTHONPATH=.:tests OMP_NUM_THREADS=1 python tests/benchmarks/ngram_speed.py > tests/benchmarks/ngram_speed.md

2 cores, x86-64; Python {platform.python_version()}, numpy {np.__version__}; one process, one thread.
{PROMPTS} prompts × {K} outputs, {n_words:,} words, {TYPES:,} Zipf types, seed 0. Seconds: least of {REPEATS} runs,
tokenising included, the three ways taken in turn. "Published" builds the n-grams of every set once a metric and order;
"lean" splits every text once and builds its n-grams once for both metrics. `…` ends each text in a non-ASCII character.
Values are equal to 1e-11.

| sets | tokeniser | GenDiv s | published s | ratio | lean s | ratio |
|---|---|---|---|---|---|---|""")
    unicode = [[text[:-1] + "…" for text in texts] for texts in sets]
    for label, data in (("500 × 16", sets), ("500 × 16, …", unicode), ("1 × 8000", pooled)):
        for tokeniser in TOKENISERS:
            ways: list[Scorer] = [fast, published, lean]
            values = [way(data, tokeniser) for way in ways]
            for other in values[1:]:
                np.testing.assert_allclose(values[0], other, rtol=0, atol=1e-11)
            ours, theirs, leaner = timed(*(lambda way=way, data=data, name=tokeniser: way(data, name) for way in ways))
            print(
                f"| {label} | `{tokeniser}` | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}× |"
                f" {leaner:.3f} | {leaner / ours:.1f}× |"
            )
    against_the_package(sets)


if __name__ == "__main__":
    main()
