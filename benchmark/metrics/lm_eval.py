"""GenDiv's per-prompt metrics for plain ``lm_eval``.

Named by the task YAMLs (``!function benchmark.metrics.lm_eval.process_results``), which draw ``repeats: k`` outputs and
keep them all with the filter ``take_first_k``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmark.metrics import distinct_n, ead, ngrams

SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
CLOSING = "\"'”’»)]}*_`"
"""What may stand after the end of a sentence: quotes, brackets, marks of emphasis."""


def process_results(doc: dict[str, Any], results: Sequence[str] | Sequence[Sequence[str]]) -> dict[str, float]:  # noqa: ARG001
    """Diversity, length, empty and truncated share of one prompt's outputs.

    Parameters
    ----------
    doc
        The document; not read.
    results
        k outputs, or a list holding the list of k outputs, depending on lm-eval's filter.

    Returns
    -------
    dict[str, float]
        ``ead`` and ``distinct`` (tokeniser ``words``, short orders skipped), ``length_words`` (mean words an output),
        ``empty_share``, and ``truncated_share``: the share of outputs with text that end inside a sentence (see
        `ends_inside_sentence`). NaN = missing (no word in any output; no output; no output with text).

    Notes
    -----
    ``truncated_share`` is an estimate from the text alone: lm-eval does not tell why an output ended, a model may end
    without a full stop, and a cut may fall on one. ``gendiv score`` counts the real finish reasons.
    """
    outputs = [text for result in results for text in ([result] if isinstance(result, str) else result)]
    written = [text for text in outputs if text.strip()]
    counts = ngrams.count_sets([outputs])
    return {
        "ead": float(ead.per_input(counts)[0]),
        "distinct": float(distinct_n.per_input(counts)[0]),
        "length_words": float(counts.total[0, 0]) / len(outputs) if outputs else math.nan,
        "empty_share": 1 - len(written) / len(outputs) if outputs else math.nan,
        "truncated_share": sum(map(ends_inside_sentence, written)) / len(written) if written else math.nan,
    }


def ends_inside_sentence(text: str) -> bool:
    """Whether a text ends without the end of a sentence; closing quotes, brackets and emphasis may follow it."""
    return not text.rstrip().rstrip(CLOSING).rstrip().endswith(SENTENCE_ENDS)


def mean(items: Sequence[float]) -> float:
    """Mean over prompts, missing values (NaN) left out; NaN if all are missing."""
    present = [item for item in items if not math.isnan(item)]
    return math.fsum(present) / len(present) if present else math.nan
