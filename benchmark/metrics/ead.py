"""EAD: expectation-adjusted distinct n-grams, averaged over n = 1 … 5.

Liu et al. 2022 (arXiv 2202.13587), as used by Kirk et al. 2023 (arXiv 2310.06452). D different n-grams among C are
compared with the number that C draws from S equally likely ones would give,

    EAD_n = D / (S (1 - (1 - 1/S)^C)),

which takes away part of distinct-n's dependence on length. There are two forms:

- ``per_input`` and ``across_input``, the default: S = V^n, as many n-grams as V words can make. Orders without n-grams
  (no text is long enough) are left out, and sets without a word are missing (NaN).
- ``published_per_input`` and ``published_across_input``: S = V for every n, and orders without n-grams count 0.

With S = V the expectation stops at V, far below the n-grams that a pool of many texts has for n > 1: 8,000 texts of 40
words by Zipf's law (20,000 words) have 4.35, up to 5.9 at n = 4. With S = V^n they have 0.79 (0.37, 0.65, 0.95, 1.00,
1.00). What it costs: S is so large from n = 2 on that little is taken off distinct-n's dependence on length. Of 16 such
texts, from 5 to 320 words each, the default falls from 0.956 to 0.861, distinct-n from 0.955 to 0.857, the published
form from 0.956 to 0.898 (and rises again). Compare equal k and n, and lengths that are alike.

Range of the default [0, 1.58]; higher is more diverse. Floor, for k identical texts: about 1/k. Ceiling, no n-gram
occurs twice: C / E[D], which is 1.001 for 16 texts of 40 words and 1.04 for 500. The bound 1 / (1 - 1/e) = 1.582 is
that of D = C = S; a set with more than V different words could pass it at n = 1. The published form has no bound: its
ceiling is 1.006 for 16 texts and 1.2 for 500.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.distinct_n import Short, mean_over_orders
from benchmark.metrics.ngrams import Counts

VOCABULARY = 50257
"""V of the published code (the size of GPT-2's vocabulary); fixed by the suite, never a model's own."""


def ead_from_counts(
    distinct: ArrayLike, total: ArrayLike, space: ArrayLike, *, short: Short = "skip"
) -> NDArray[np.float64]:
    """Mean over n of D / E[D].

    Parameters
    ----------
    distinct, total
        Different n-grams (D) and all n-grams (C), integers [..., N], one column an order n.
    space
        S, how many n-grams are drawn from: at least 1; one number, or [N]. S → ∞ gives distinct-n, and with S = 1
        every order that has n-grams gives D.
    short
        What an order without n-grams (C = 0, texts shorter than n) does: ``"skip"`` leaves it out of the mean,
        ``"zero"`` counts it as 0, as the published code does (which puts two unlike three-word texts at 0.6).

    Returns
    -------
    float64 [...]
        At least distinct-n; higher is more diverse. At most 1 / (1 - 1/e) = 1.582 where every D <= S, else not bounded.
        The floor of k identical texts is about 1/k, the ceiling C / E[D] means that no n-gram occurs twice. Sets
        without any n-gram are missing (NaN) under ``"skip"`` and 0 under ``"zero"``.

    Raises
    ------
    ValueError
        If some ``space < 1``, ``short`` is neither ``"skip"`` nor ``"zero"``, a count is negative, or some D > C.

    Notes
    -----
    Depends on the number of texts and, a little less than distinct-n, on their length: compare equal k and n only.
    """
    s = np.minimum(np.asarray(space, np.float64), _ENDLESS)
    if not np.all(s >= 1):
        raise ValueError(f"space must be at least 1, not {space!r}")
    with np.errstate(divide="ignore", invalid="ignore"):  # S = 1: the logarithm is -inf, and 0 · -inf where C = 0.
        # The literal formula loses five digits to cancellation at S = V, and all of them from V^4 on.
        expected = -s * np.expm1(np.asarray(total) * np.log1p(-1.0 / s))
    return mean_over_orders(distinct, total, expected, short)


def per_input(counts: Counts, *, vocabulary: int = VOCABULARY) -> NDArray[np.float64]:
    """EAD of every set (one a prompt) with S = V^n.

    Parameters
    ----------
    counts
        Counts of the sets.
    vocabulary
        V, at least 1.

    Returns
    -------
    float64 [n_sets]
        In [0, 1.58] where no set has more than V different words; NaN = missing. See ``ead_from_counts``.

    Raises
    ------
    ValueError
        If ``vocabulary < 1``.
    """
    return ead_from_counts(counts.distinct, counts.total, _spaces(vocabulary, counts))


def across_input(counts: Counts, *, vocabulary: int = VOCABULARY) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """EAD of every set with S = V^n, and of every set without each of its texts, for the jackknife.

    Parameters
    ----------
    counts
        Counts of sets with one text a prompt.
    vocabulary
        See ``per_input``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; NaN = missing.
    without : float64 [n_texts]
        The statistic of each text's set without that text; NaN where no word would be left.
    """
    without = ead_from_counts(*counts.without_each(), _spaces(vocabulary, counts))
    return per_input(counts, vocabulary=vocabulary), without


def published_per_input(counts: Counts) -> NDArray[np.float64]:
    """EAD of every set (one a prompt) as published: S = V for every n, and orders without n-grams count 0.

    Returns
    -------
    float64 [n_sets]
        From 0, without a bound; 0 for a set without a word. See ``ead_from_counts``.
    """
    return ead_from_counts(counts.distinct, counts.total, VOCABULARY, short="zero")


def published_across_input(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """EAD as published of every set, and of every set without each of its texts; see ``across_input``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; 0 for a set without a word.
    without : float64 [n_texts]
        The statistic of each text's set without that text; 0 where no word would be left.
    """
    return published_per_input(counts), ead_from_counts(*counts.without_each(), VOCABULARY, short="zero")


_ENDLESS = 1e300
"""E[D] is C to every digit long before; beyond the largest float it would be NaN."""


def _spaces(vocabulary: int, counts: Counts) -> NDArray[np.float64]:
    """V^n of every order, [N]."""
    if vocabulary < 1:
        raise ValueError(f"vocabulary must be at least 1, not {vocabulary}")
    with np.errstate(over="ignore"):
        return np.float64(vocabulary) ** np.arange(1, counts.total.shape[-1] + 1)
