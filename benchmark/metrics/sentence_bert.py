"""Sentence-BERT diversity: mean cosine distance between the embeddings of a set's texts.

Tevet and Berant 2021 (arXiv 2004.02990), as used by Kirk et al. 2023 (arXiv 2310.06452). No model here: the functions
read unit-norm embeddings (``encoder.py``). Values of different encoders are not comparable, and unrelated texts do not
reach 1, since encoders give any two texts a positive mean cosine.

Range [0, k/(k-1)]; higher is more diverse. Floor, for identical texts: 0. The ceiling k/(k-1) is that of k directions
that point away from each other evenly; texts that have nothing to do with each other come to just below 1. Missing
(NaN) for fewer than two texts.

*Effective* diversity counts a pair only if both outputs are valid, so that noise cannot buy diversity (in the spirit of
arXiv 2504.12522). Single distances are cut at 1 there, so its range is [0, 1], with the same floor and the ceiling 1:
all outputs are valid, and no two alike. *Conditional* diversity is that of the valid outputs alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32] | NDArray[np.float64]
Mask = NDArray[np.bool_]

_NORM_TOLERANCE = 1e-3
_BLOCK = 256


def per_input(embeddings: Embeddings) -> Floats:
    """Mean pairwise cosine distance within every set.

    Parameters
    ----------
    embeddings
        Unit rows [..., k, d]; k outputs a prompt.

    Returns
    -------
    float64 [...]
        In [0, k/(k-1)]; higher is more diverse; 0 for identical texts. Missing (NaN) if k < 2.

    Raises
    ------
    ValueError
        If some row is not of unit norm.

    Notes
    -----
    ``1 - (|Σe|² - k) / (k(k-1))``: the sum vector stands for all pairs.
    """
    return _mean_distance(_unit(embeddings))[0]


def across_input(embeddings: Embeddings) -> tuple[Floats, Floats]:
    """Mean pairwise cosine distance of a set with one text a prompt, and without each of its texts.

    Parameters
    ----------
    embeddings
        Unit rows [..., n, d].

    Returns
    -------
    value : float64 [...]
        In [0, n/(n-1)]; higher is more diverse. Missing (NaN) if n < 2.
    without : float64 [..., n]
        The statistic without text i, for the jackknife, in O(n d). Missing (NaN) if n < 3.

    Raises
    ------
    ValueError
        If some row is not of unit norm.
    """
    e = _unit(embeddings)
    value, pairs, of_text = _mean_distance(e)
    n = e.shape[-2]
    if n < 3:
        return value, np.full(e.shape[:-1], np.nan)
    return value, 1.0 - (pairs[..., None] - 2.0 * of_text) / ((n - 1) * (n - 2))


def effective(embeddings: Embeddings, valid: Mask) -> Floats:
    """Effective diversity of every set: pairs with an invalid member count 0.

    ``E_i = 2/(k(k-1)) Σ_{a<b} q_a q_b clip(1 - cos, 0, 1)`` with q the validity.

    Parameters
    ----------
    embeddings
        Unit rows [n, k, d]; those of invalid outputs are not read.
    valid
        bool [n, k].

    Returns
    -------
    float64 [n]
        In [0, 1]; higher is more diverse. A set with fewer than two valid outputs counts 0: to answer badly is not to
        be diverse. It is about ``valid_share² · conditional``, so show both beside it. Missing (NaN) only if k < 2.

    Raises
    ------
    ValueError
        If the shapes do not agree or the row of a valid output is not of unit norm.
    """
    total, _, k = _valid_distances(embeddings, valid)
    return total / (k * (k - 1)) if k > 1 else np.full(len(total), np.nan)


def conditional(embeddings: Embeddings, valid: Mask) -> Floats:
    """Mean clipped cosine distance over pairs of valid outputs alone.

    Parameters
    ----------
    embeddings, valid
        As for ``effective``.

    Returns
    -------
    float64 [n]
        In [0, 1]; higher is more diverse. Missing (NaN) for a set with fewer than two valid outputs (``effective``
        counts such a set as 0), so a mean of it flatters models that fail often: never rank by it.

    Raises
    ------
    ValueError
        As ``effective``.
    """
    total, n_valid, _ = _valid_distances(embeddings, valid)
    pairs = n_valid * (n_valid - 1)
    mean = np.full(len(total), np.nan)
    np.divide(total, pairs, out=mean, where=pairs > 0)
    return mean


def valid_share(valid: Mask) -> Floats:
    """Share of valid outputs; bool [n, k] → float64 [n] in [0, 1], higher is better. Missing (NaN) if k = 0."""
    n, k = valid.shape
    return valid.sum(axis=1) / k if k else np.full(n, np.nan)


def effective_across_input(embeddings: Embeddings, valid: Mask) -> tuple[float, Floats]:
    """Effective diversity of a set with one text a prompt, and without each of its texts.

    Parameters
    ----------
    embeddings
        Unit rows [n, d]; those of invalid outputs are not read.
    valid
        bool [n].

    Returns
    -------
    value : float
        As ``effective``. Missing (NaN) if n < 2.
    without : float64 [n]
        The statistic without text i, for the jackknife. Missing (NaN) if n < 3.

    Raises
    ------
    ValueError
        As ``effective``.

    Notes
    -----
    O(n² d) time, since clipping forbids the sum vector, and O(n d) memory, a block of rows at a time.
    """
    if embeddings.ndim != 2 or valid.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings must be [n, d] and valid [n], not {embeddings.shape} and {valid.shape}")
    n = len(valid)
    which = np.flatnonzero(valid)
    e = _unit(embeddings[which])
    of_text = np.zeros(n)
    for start in range(0, len(e), _BLOCK):
        distance = np.clip(1.0 - e[start : start + _BLOCK] @ e.T, 0.0, 1.0)
        rows = np.arange(len(distance))
        distance[rows, start + rows] = 0.0
        of_text[which[start : start + _BLOCK]] = distance.sum(axis=1)
    total = of_text.sum()
    value = float(total / (n * (n - 1))) if n > 1 else np.nan
    without = (total - 2.0 * of_text) / ((n - 1) * (n - 2)) if n > 2 else np.full(n, np.nan)
    return value, without


def _unit(embeddings: Embeddings) -> Floats:
    e = np.asarray(embeddings, np.float64)
    if e.size and not np.allclose(np.linalg.norm(e, axis=-1), 1.0, rtol=0.0, atol=_NORM_TOLERANCE):
        raise ValueError("embeddings must have unit norm")
    return e


def _mean_distance(e: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean distance [...], sum of the cosines of all ordered pairs [...], and that of each row with the others."""
    squares = np.einsum("...kd,...kd->...k", e, e)  # Not 1: float32 rows miss it by 1e-7, which identical texts show.
    of_text = np.einsum("...kd,...d->...k", e, e.sum(axis=-2)) - squares
    pairs = of_text.sum(axis=-1)
    k = e.shape[-2]
    return 1.0 - pairs / (k * (k - 1)) if k > 1 else np.full(pairs.shape, np.nan), pairs, of_text


def _valid_distances(embeddings: Embeddings, valid: Mask) -> tuple[Floats, NDArray[np.int64], int]:
    """Sum of the clipped distances of all ordered valid pairs [n], valid outputs [n], and k."""
    if embeddings.ndim != 3 or valid.shape != embeddings.shape[:2]:
        raise ValueError(f"embeddings must be [n, k, d] and valid [n, k], not {embeddings.shape} and {valid.shape}")
    k = valid.shape[1]
    _unit(embeddings[valid])
    e = np.where(valid[..., None], embeddings, 0).astype(np.float64)
    distance = np.clip(1.0 - e @ e.swapaxes(1, 2), 0.0, 1.0)
    pair = valid[:, :, None] & valid[:, None, :] & ~np.eye(k, dtype=bool)
    return np.where(pair, distance, 0.0).sum(axis=(1, 2)), valid.sum(axis=1, dtype=np.int64), k
