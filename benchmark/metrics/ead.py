"""EAD: expectation-adjusted distinct n-grams, averaged over n = 1 … 5.

Liu et al. 2022 (arXiv 2202.13587), as used by Kirk et al. 2023 (arXiv 2310.06452). D different n-grams among C are
compared with the number that C draws from a uniform vocabulary of V words would give,

    EAD_n = D / (V (1 - (1 - 1/V)^C)),

which takes away part of distinct-n's dependence on length. As published, V is the same for every n.

Range from 0 to C / E[D]; higher is more diverse. Floor, for k identical texts: about 1/k. Ceiling, no n-gram occurs
twice: C / E[D] itself, which is 1.006 for 16 texts of 40 words and 1.2 for 500. Orders that no text is long enough for
are left out, and sets without a word are missing (NaN); under ``short="zero"``, the published rule, both count 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.distinct_n import Short, mean_over_orders
from benchmark.metrics.ngrams import Counts

VOCABULARY = 50257
"""V of the published code (the size of GPT-2's vocabulary); fixed by the suite, never a model's own."""


def ead_from_counts(
    distinct: ArrayLike, total: ArrayLike, *, vocabulary: int = VOCABULARY, short: Short = "skip"
) -> NDArray[np.float64]:
    """Mean over n of D / E[D].

    Parameters
    ----------
    distinct, total
        Different n-grams (D) and all n-grams (C), integers [..., N], one column an order n.
    vocabulary
        V, at least 1; V → ∞ gives distinct-n, and with V = 1 every order that has n-grams gives D.
    short
        What an order without n-grams (C = 0, texts shorter than n) does: ``"skip"`` leaves it out of the mean,
        ``"zero"`` counts it as 0, as the published code does (which puts two unlike three-word texts at 0.6).

    Returns
    -------
    float64 [...]
        At least 0; higher is more diverse. Not bounded by 1: it reaches C / E[D], which is 1.005 for 640 words but 4.6
        for 320,000. The floor of k identical texts is about 1/k, the ceiling means that no n-gram occurs twice. Sets
        without any n-gram are missing (NaN) under ``"skip"`` and 0 under ``"zero"``.

    Raises
    ------
    ValueError
        If ``vocabulary < 1``, ``short`` is neither ``"skip"`` nor ``"zero"``, a count is negative, or some D > C.

    Notes
    -----
    Depends on the number of texts and, less than distinct-n, on their length: compare equal k and n only.
    """
    if vocabulary < 1:
        raise ValueError(f"vocabulary must be at least 1, not {vocabulary}")
    with np.errstate(divide="ignore", invalid="ignore"):  # V = 1: the logarithm is -inf, and 0 · -inf where C = 0.
        # The literal formula loses five digits to cancellation.
        expected = -vocabulary * np.expm1(np.asarray(total) * np.log1p(-1.0 / vocabulary))
    return mean_over_orders(distinct, total, expected, short)


def per_input(counts: Counts, *, vocabulary: int = VOCABULARY, short: Short = "skip") -> NDArray[np.float64]:
    """EAD of every set (one a prompt); float64 [n_sets], NaN = missing. See ``ead_from_counts``."""
    return ead_from_counts(counts.distinct, counts.total, vocabulary=vocabulary, short=short)


def across_input(
    counts: Counts, *, vocabulary: int = VOCABULARY, short: Short = "skip"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """EAD of every set, and of every set without each of its texts, for the jackknife.

    Parameters
    ----------
    counts
        Counts of sets with one text a prompt.
    vocabulary, short
        See ``ead_from_counts``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; NaN = missing.
    without : float64 [n_texts]
        The statistic of each text's set without that text; NaN where no word would be left.
    """
    without = ead_from_counts(*counts.without_each(), vocabulary=vocabulary, short=short)
    return per_input(counts, vocabulary=vocabulary, short=short), without
