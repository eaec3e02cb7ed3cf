"""All metrics of 500 prompts × 16 outputs beside the sentence encoder's own time.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/scoring_speed.py > tests/benchmarks/scoring_speed.md

One process, one thread. The outputs are words drawn by Zipf's law, 40 on average, all different. "All metrics" is every
column that a run's scores have, with the leave-one-prompt-out values of the statistics of a set and their intervals.
"""

from __future__ import annotations

import platform
from time import perf_counter

import numpy as np

from benchmark.metrics.encoder import Encoder
from benchmark.quantities import TaskGrid, columns
from benchmark.records import Sample
from benchmark.scoring import estimates_of
from benchmark.suites import Gate

PROMPTS, K, WORDS, VOCABULARY = 500, 16, 40, 20_000


def make_samples() -> list[Sample]:
    """Draw the outputs."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(VOCABULARY)])
    return [
        Sample(
            task="t",
            doc_id=str(prompt),
            temperature=1.0,
            index=index,
            text=" ".join(words[np.minimum(rng.zipf(1.3, size=rng.integers(20, 61)), VOCABULARY) - 1]),
            finish_reason="stop",
            n_tokens=None,
        )
        for prompt in range(PROMPTS)
        for index in range(K)
    ]


def main() -> None:
    """Print the table."""
    samples = make_samples()
    texts = sorted({sample.text for sample in samples})
    place = {text: number for number, text in enumerate(texts)}
    encoder = Encoder()
    encoder.encode(texts[:64])
    start = perf_counter()
    embeddings = encoder.encode(texts)
    encoded = perf_counter() - start
    grid = TaskGrid(samples, ())
    start = perf_counter()
    found = columns(
        grid,
        0,
        task="t",
        gates=[Gate(name="text")],
        prompts={},
        length_control=None,
        embeddings=embeddings,
        place=place,
    )
    computed = perf_counter() - start
    estimates = estimates_of(found, lambda _: "id")
    interval = perf_counter() - start - computed
    title, _, rest = (__doc__ or "").partition("\n")
    print(f"# {title.rstrip('.')}\n{rest.rstrip()}\n")
    print(f"{platform.machine()}; Python {platform.python_version()}, numpy {np.__version__}; {encoder.name} in")
    print(f"{encoder.precision}; {len(texts):,} different texts, {len(estimates)} metrics.\n")
    print("| part | seconds | beside the encoder |\n|---|---|---|")
    for part, seconds in (
        ("encoder", encoded),
        ("all metrics", computed),
        ("their intervals, the weights of 10,000 resamples drawn", interval),
        ("in all", encoded + computed + interval),
    ):
        print(f"| {part} | {seconds:.2f} | {seconds / encoded:.2f}× |")


if __name__ == "__main__":
    main()
