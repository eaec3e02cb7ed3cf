"""GenDiv's per-prompt metrics for plain ``lm_eval``.

Named by the task YAMLs (``!function benchmark.metrics.lm_eval.process_results``), which draw ``repeats: k`` outputs and
keep them all with the filter ``take_first_k``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmark.metrics import distinct_n, ead, ngrams


def process_results(doc: dict[str, Any], results: Sequence[str] | Sequence[Sequence[str]]) -> dict[str, float]:  # noqa: ARG001
    """Diversity, length and empty share of one prompt's outputs.

    Parameters
    ----------
    doc
        The document; not read.
    results
        k outputs, or a list holding the list of k outputs, depending on lm-eval's filter.

    Returns
    -------
    dict[str, float]
        ``ead`` and ``distinct`` (tokeniser ``words``, short orders skipped), ``length_words`` (mean words an output)
        and ``empty_share``; NaN = missing (no word in any output; no output).
    """
    outputs = [text for result in results for text in ([result] if isinstance(result, str) else result)]
    counts = ngrams.count_sets([outputs])
    return {
        "ead": float(ead.per_input(counts)[0]),
        "distinct": float(distinct_n.per_input(counts)[0]),
        "length_words": float(counts.total[0, 0]) / len(outputs) if outputs else math.nan,
        "empty_share": sum(not text.strip() for text in outputs) / len(outputs) if outputs else math.nan,
    }


def mean(items: Sequence[float]) -> float:
    """Mean over prompts, missing values (NaN) left out; NaN if all are missing."""
    present = [item for item in items if not math.isnan(item)]
    return math.fsum(present) / len(present) if present else math.nan
