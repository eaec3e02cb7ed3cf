"""Speed and error of bfloat16 autocast in the sentence encoder, one thread.

    OMP_NUM_THREADS=1 python tests/benchmarks/encoder_autocast.py [texts.txt] > tests/benchmarks/encoder_autocast.md

Texts are sentences from a small grammar, or the lines of a file.
"""

from __future__ import annotations

import platform
import random
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmark.metrics.encoder import Encoder, has_native_bfloat16

WHO = [
    "my landlord",
    "the committee",
    "a stray dog",
    "our teacher",
    "the new engine",
    "nobody in town",
    "her sister",
    "the minister",
]
DID = [
    "refused to sell",
    "quietly repaired",
    "wrote a long letter about",
    "ignored",
    "could not explain",
    "paid for",
    "praised",
]
WHAT = [
    "the old house by the river",
    "a broken radio",
    "the tax reform",
    "three boxes of oranges",
    "the missing files",
    "a song",
]
WHEN = [
    "last winter",
    "after the storm",
    "without any reason",
    "before the vote",
    "on a Sunday morning",
    "for the second time",
]
REPEATS = 3


def grammar(sentences: int, texts: int) -> list[str]:
    rng = random.Random(0)
    made = set()
    while len(made) < texts:
        parts = [" ".join(map(rng.choice, (WHO, DID, WHAT, WHEN))).capitalize() + "." for _ in range(sentences)]
        made.add(" ".join(parts))
    return sorted(made)


def main() -> None:
    import sentence_transformers
    import torch

    corpora = {"1 sentence": grammar(1, 300), "3 sentences": grammar(3, 200), "12 sentences": grammar(12, 60)}
    if len(sys.argv) > 1:
        corpora = {"lines of a file": sorted(set(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))}
    print(f"""# The sentence encoder in float32 and under bfloat16 autocast

    OMP_NUM_THREADS=1 python tests/benchmarks/encoder_autocast.py > tests/benchmarks/encoder_autocast.md

2 cores, x86-64, native bfloat16: {"yes" if has_native_bfloat16() else "no"}; one thread.
Python {platform.python_version()}; torch {torch.__version__};
sentence-transformers {sentence_transformers.__version__}.
Texts a second are the best of {REPEATS} runs. Errors are against float32, over the cosines of all pairs of texts.

| texts | words a text | float32 texts/s | autocast texts/s | ratio | greatest error | error of the mean distance |
|---|---|---|---|---|---|---|""")
    encoders = {name: Encoder(precision=name, threads=1) for name in ("float32", "bfloat16")}
    for label, texts in corpora.items():
        rows, rate = {}, {}
        for name, encoder in encoders.items():
            times = []
            for _ in range(REPEATS):
                start = perf_counter()
                rows[name] = encoder.encode(texts).astype(float)
                times.append(perf_counter() - start)
            rate[name] = len(texts) / min(times)
        error = rows["bfloat16"] @ rows["bfloat16"].T - rows["float32"] @ rows["float32"].T
        pairs = error[np.triu_indices(len(texts), 1)]
        words = np.mean([len(text.split()) for text in texts])
        print(
            f"| {len(texts)} × {label} | {words:.0f} | {rate['float32']:.0f} | {rate['bfloat16']:.0f} |"
            f" {rate['bfloat16'] / rate['float32']:.1f}× | {np.abs(pairs).max():.1e} | {-pairs.mean():+.1e} |"
        )
    print("""
Decision: float32 is the default. Autocast is faster, but single cosines move by more than 1e-3, and only on CPUs that
have it: one run would get other scores on another machine. `Encoder(precision="bfloat16")` asks for it and has an
identity of its own.""")


if __name__ == "__main__":
    main()
