"""Speed and error of bfloat16 autocast in the sentence encoder, one thread.

    OMP_NUM_THREADS=1 python tests/benchmarks/encoder_autocast.py [texts.txt] > tests/benchmarks/encoder_autocast.md

Texts are sentences from a small grammar and summaries of the pocket world, or the lines of a file.
"""

from __future__ import annotations

import platform
import random
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmark.metrics import sentence_bert
from benchmark.metrics.encoder import Encoder, has_native_bfloat16
from tasks.pocket.world import document, fresh_reference

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

    corpora = {
        "pocket": [fresh_reference(document("ood", n), i, 0) for n in range(40) for i in range(16)],
        "1 sentence": grammar(1, 320),
        "3 sentences": grammar(3, 192),
        "12 sentences": grammar(12, 64),
    }
    if len(sys.argv) > 1:
        corpora = {"lines of a file": sorted(set(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))}
    print(f"""# The sentence encoder in float32 and under bfloat16 autocast

    OMP_NUM_THREADS=1 python tests/benchmarks/encoder_autocast.py > tests/benchmarks/encoder_autocast.md

2 cores, x86-64, native bfloat16: {"yes" if has_native_bfloat16() else "no"}; one thread.
Python {platform.python_version()}; torch {torch.__version__};
sentence-transformers {sentence_transformers.__version__}.
Texts a second are the best of {REPEATS} runs. The last three columns are the greatest errors against float32: of the
cosine of any two texts, of the mean pair distance of 16 texts in a row, and of its mean over those sets.

| texts | words a text | float32 texts/s | autocast texts/s | ratio | one cosine | diversity of 16 | mean diversity |
|---|---|---|---|---|---|---|---|""")
    encoders = {name: Encoder(precision=name, threads=1) for name in ("float32", "auto")}
    for label, texts in corpora.items():
        rows, rate = {}, {}
        for name, encoder in encoders.items():
            times = []
            for _ in range(REPEATS):
                start = perf_counter()
                rows[name] = encoder.encode(texts).astype(float)
                times.append(perf_counter() - start)
            rate[name] = len(set(texts)) / min(times)
        cosines = rows["auto"] @ rows["auto"].T - rows["float32"] @ rows["float32"].T
        sets = len(texts) // 16
        exact, fast = (sentence_bert.per_input(r[: sets * 16].reshape(sets, 16, -1)) for r in rows.values())
        words = np.mean([len(text.split()) for text in texts])
        print(
            f"| {len(texts)} × {label} | {words:.0f} | {rate['float32']:.0f} | {rate['auto']:.0f} |"
            f" {rate['auto'] / rate['float32']:.1f}× | {np.abs(cosines).max():.1e} | {np.abs(exact - fast).max():.1e} |"
            f" {abs(exact.mean() - fast.mean()):.1e} |"
        )
    print("""
Decision: autocast wherever the CPU computes bfloat16 itself. It is faster, and what is scored, the mean over the pairs
of a set, stays within 1e-3.""")


if __name__ == "__main__":
    main()
