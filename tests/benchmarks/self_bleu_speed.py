"""Time self-BLEU against nltk and sacrebleu, one thread.

    PYTHONPATH=.:tests:tests/benchmarks OMP_NUM_THREADS=1 python tests/benchmarks/self_bleu_speed.py \
        > tests/benchmarks/self_bleu_speed.md

All sides start from the texts and tokenise them with ``words``, score every text against the others of its set with
the same BLEU, and are compared before a ratio is printed. nltk's sentence BLEU in a loop is the published algorithm.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from time import perf_counter

import nltk
import numpy as np
import sacrebleu
from ngram_speed import PROMPTS, K, corpus
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from oracles import slow_bleu

from benchmark.metrics import ngram_cosine, self_bleu
from benchmark.metrics.repeats import repeats_of
from benchmark.metrics.tokenise import words

REPEATS = 7
Sets = list[list[str]]
Scorer = Callable[[Sets], np.ndarray]

_METHOD_1 = SmoothingFunction().method1
_SACREBLEU = sacrebleu.BLEU(smooth_method="floor", smooth_value=0.1, tokenize="none", effective_order=False)


def of_nltk(sets: Sets) -> np.ndarray:
    def score(texts: list[str]) -> float:
        split = [words(text) for text in texts]
        return float(
            np.mean(
                [
                    sentence_bleu(split[:i] + split[i + 1 :], text, smoothing_function=_METHOD_1)
                    for i, text in enumerate(split)
                ]
            )
        )

    return np.array([score(texts) for texts in sets])


def of_sacrebleu(sets: Sets) -> np.ndarray:
    def score(texts: list[str]) -> float:
        split = [" ".join(words(text)) for text in texts]
        return float(
            np.mean([_SACREBLEU.sentence_score(text, split[:i] + split[i + 1 :]).score for i, text in enumerate(split)])
        )

    return np.array([score(texts) for texts in sets]) / 100


def per_input(sets: Sets) -> np.ndarray:
    return self_bleu.per_input(repeats_of(sets, n_max=self_bleu.N))


def leave_one_out(score: Scorer) -> Scorer:
    return lambda sets: np.concatenate(
        [score([texts[:i] + texts[i + 1 :] for i in range(len(texts))]) for texts in sets]
    )


def jackknife(sets: Sets) -> np.ndarray:
    return self_bleu.across_input(repeats_of(sets, n_max=self_bleu.N))[1]


def cosines(sets: Sets) -> np.ndarray:
    return ngram_cosine.per_input(repeats_of(sets))


def plain_cosines(sets: Sets) -> np.ndarray:
    return np.array([slow_bleu.cosine_diversity(texts, words, ngram_cosine.ORDERS) for texts in sets])


def seconds(way: Scorer, sets: Sets) -> float:
    start = perf_counter()
    way(sets)
    return perf_counter() - start


def main() -> None:
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # A warning a sentence.
    sets = corpus()
    print(f"""# Self-BLEU: time against nltk and sacrebleu

    PYTHONPATH=.:tests:tests/benchmarks OMP_NUM_THREADS=1 python tests/benchmarks/self_bleu_speed.py \\
        > tests/benchmarks/self_bleu_speed.md

2 cores, x86-64; Python {platform.python_version()}, numpy {np.__version__}, nltk {nltk.__version__}, sacrebleu
{sacrebleu.__version__}; one process, one thread. The corpus of `ngram_speed.py`: texts of about 40 words, 20,000 Zipf
types, seed 0. Seconds, tokenising included: the peers' one run and GenDiv's least of {2 * REPEATS}, half before and
half after it. Tokeniser `words`, BLEU-4, smoothing method 1 (nltk) or floor 0.1 (sacrebleu); values are equal to 1e-9.
"Leave one out" scores the set without each of its texts. "Cosines" is n-gram cosine diversity, n = 1–5, against all
pairs of `Counter`s.

| work | GenDiv s | peer | peer s | ratio |
|---|---|---|---|---|""")
    one, small = [[texts[0] for texts in sets]], [[texts[0] for texts in sets[:40]]]
    for label, data, ours, peers in (
        (f"per input, {PROMPTS} × {K}", sets, per_input, {"nltk": of_nltk, "sacrebleu": of_sacrebleu}),
        (f"across {len(one[0])} inputs", one, per_input, {"nltk": of_nltk, "sacrebleu": of_sacrebleu}),
        (f"leave one of {len(small[0])} out", small, jackknife, {"nltk": leave_one_out(of_nltk)}),
        (f"cosines, {PROMPTS} × {K}", sets, cosines, {"pairs": plain_cosines}),
    ):
        for name, peer in peers.items():
            times = [seconds(ours, data) for _ in range(REPEATS)]
            start = perf_counter()
            values = peer(data)
            took = perf_counter() - start
            np.testing.assert_allclose(ours(data), values, rtol=0, atol=1e-9)
            least = min(times + [seconds(ours, data) for _ in range(REPEATS)])
            print(f"| {label} | {least:.4f} | {name} | {took:.2f} | {took / least:,.0f}× |", flush=True)
    slots = list(map(list, zip(*sets, strict=True)))
    least = min(seconds(jackknife, slots) for _ in range(REPEATS))
    print(f"| leave one of {PROMPTS} out, {K} slots | {least:.4f} | – | – | – |")


if __name__ == "__main__":
    main()
