"""Time the Vendi score against the package of its authors, one thread.

    pip install vendi-score==0.0.3
    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/vendi_speed.py > tests/benchmarks/vendi_speed.md

Both sides are given unit embeddings of the size of the default encoder's; values are compared before anything is timed.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from time import perf_counter

import numpy as np

from benchmark.metrics import vendi

warnings.simplefilter("ignore", DeprecationWarning)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vendi_score import vendi as package

PROMPTS, K, WIDTH, REPEATS, LEFT_OUT = 500, 16, 384, 25, 20


def embeddings() -> np.ndarray:
    """Rows [prompts, k, d] around a centre for each prompt, and one for all."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(PROMPTS, K, WIDTH)) + rng.normal(size=(PROMPTS, 1, WIDTH)) + 0.3
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def timed(*calls: Callable[[], object]) -> list[float]:
    """Least seconds of each of several calls, taken in turn."""
    least = [np.inf] * len(calls)
    for _ in range(REPEATS):
        for place, call in enumerate(calls):
            start = perf_counter()
            call()
            least[place] = min(least[place], perf_counter() - start)
    return least


def main() -> None:
    e = embeddings()
    single = e.astype(np.float32)
    # One output a prompt, so that n = 500 texts of unlike prompts make a set.
    texts = e[:, 0]

    def package_without() -> np.ndarray:
        return np.array([package.score_dual(np.delete(texts, i, axis=0)) for i in range(LEFT_OUT)])

    of_package = np.array([package.score_X(rows) for rows in e])
    np.testing.assert_allclose(vendi.per_input(e), of_package, rtol=1e-10)
    np.testing.assert_allclose(vendi.per_input(single), of_package, rtol=1e-5)
    value, without = vendi.across_input(texts)
    np.testing.assert_allclose(value, package.score_X(texts), rtol=1e-10)
    np.testing.assert_allclose(without[:LEFT_OUT], package_without(), rtol=1e-10)

    print(f"""# Vendi score: time against `vendi-score` 0.0.3

    pip install vendi-score==0.0.3
    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/vendi_speed.py > tests/benchmarks/vendi_speed.md

{platform.machine()}; Python {platform.python_version()}, numpy {np.__version__}; one process, one thread.
Unit rows of width {WIDTH}, seed 0. Seconds: least of {REPEATS} runs, the two sides taken in turn. The package is called
set by set, as it must be (`score_X`; `score_dual` where n > d), and computes in the precision of its rows, GenDiv
always in double. Values from float64 rows are equal to 1e-10 relative, those of GenDiv from float32 rows to 1e-5.

"Without each text" are the n leave-one-out scores of the jackknife, which the package has no function for: the time of
{LEFT_OUT} of them is scaled to {PROMPTS}.

| work | rows | GenDiv s | package s | ratio |
|---|---|---|---|---|""")
    for name, rows in (("float64", e), ("float32", single)):
        ours, theirs = timed(
            lambda rows=rows: vendi.per_input(rows), lambda rows=rows: [package.score_X(own) for own in rows]
        )
        print(f"| per input, {PROMPTS} × {K} | {name} | {ours:.4f} | {theirs:.4f} | {theirs / ours:.1f}× |")
    ours, theirs = timed(
        lambda: vendi.per_input(e, order=2.0), lambda: [package.score_K(rows @ rows.T, q=2) for rows in e]
    )
    print(f"| per input, order 2 (`score_K`) | float64 | {ours:.4f} | {theirs:.4f} | {theirs / ours:.1f}× |")
    ours, theirs, left = timed(lambda: vendi.across_input(texts), lambda: package.score_dual(texts), package_without)
    left *= PROMPTS / LEFT_OUT
    print(
        f"| across inputs, {PROMPTS}, and without each text | float64 | {ours:.4f} | {theirs:.4f} + {left:.1f} |"
        f" {(theirs + left) / ours:.0f}× |"
    )


if __name__ == "__main__":
    main()
