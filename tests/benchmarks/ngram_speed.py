"""Time EAD and distinct-n on 500 prompts × 16 outputs against the published per-set algorithm, one thread.

    PYTHONPATH=.:tests OMP_NUM_THREADS=1 python tests/benchmarks/ngram_speed.py > tests/benchmarks/ngram_speed.md

Both sides start from the texts and tokenise them; values are compared before anything is timed. "Published" builds the
n-grams of every set once a metric and order, as the published code does; "lean" splits every text once and builds its
n-grams once for both metrics.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from time import perf_counter

import numpy as np
from oracles import slow_ngrams

from benchmark.metrics import distinct_n, ead, ngrams
from benchmark.metrics.tokenise import TOKENISERS

PROMPTS, K, LENGTH, TYPES, REPEATS = 500, 16, (30, 51), 20_000, 7


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
    return ead.per_input(counts, short="zero"), distinct_n.per_input(counts, short="zero")


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


def main() -> None:
    sets = corpus()
    pooled = [[text for texts in sets for text in texts]]
    n_words = sum(len(text.split()) for text in pooled[0])
    print(f"""# EAD and distinct-n: time against the published algorithm

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
            times = [[0.0] * REPEATS for _ in ways]
            for repeat in range(REPEATS):
                for way, found in zip(ways, times, strict=True):
                    start = perf_counter()
                    way(data, tokeniser)
                    found[repeat] = perf_counter() - start
            ours, theirs, leaner = map(min, times)
            print(
                f"| {label} | `{tokeniser}` | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f}× |"
                f" {leaner:.3f} | {leaner / ours:.1f}× |"
            )


if __name__ == "__main__":
    main()
