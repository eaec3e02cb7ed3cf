"""Vendi score: the effective number of different texts, from the eigenvalues of their cosine similarities.

Friedman and Dieng 2023 (arXiv 2210.02410); orders other than 1 after Pasarkar and Dieng 2023 (arXiv 2310.12952). With
p the eigenvalues of K/n, where K holds the cosines of n texts, the score of order q is the Hill number
``(Σ p^q)^(1/(1-q))``: ``exp(-Σ p log p)`` at q = 1 and ``1 / max p`` at q = ∞. No model here: the functions read
unit-norm embeddings (``encoder.py``). Values of different encoders, or of different numbers of texts, are not
comparable: the score grows with n.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32] | NDArray[np.float64]

ORDERS = (1.0, 2.0, math.inf)
"""Orders q; the higher, the less a rare text counts."""

_NORM_TOLERANCE = 1e-3
_STEP = 0.5
_BISECTIONS = 60
_BLOCK = 16


def per_input(embeddings: Embeddings, *, order: float = 1.0) -> Floats:
    """Vendi score of every set.

    Parameters
    ----------
    embeddings
        Unit rows [..., k, d]; k outputs a prompt.
    order
        One of ``ORDERS``.

    Returns
    -------
    float64 [...]
        In [1, min(k, d)]; higher is more diverse: 1 for identical texts and for one text alone, k where all are at
        right angles. It does not rise with the order. Missing (NaN) if k = 0.

    Raises
    ------
    ValueError
        If some row is not of unit norm or the order is none of ``ORDERS``.

    Notes
    -----
    All empty texts have one embedding, so they are one kind of text, unlike any other: gate them out.
    """
    _check(order)
    k = embeddings.shape[-2]
    if k == 0:
        return np.full(embeddings.shape[:-2], np.nan)
    gram = cosines(embeddings)
    if order == 2.0:
        return np.asarray(k**2 / np.einsum("...ij,...ij->...", gram, gram))
    return _score(np.clip(np.linalg.eigvalsh(gram), 0.0, None), k, order)


def across_input(embeddings: Embeddings, *, order: float = 1.0) -> tuple[Floats, Floats]:
    """Vendi score of a set with one text a prompt, and without each of its texts.

    Parameters
    ----------
    embeddings
        Unit rows [..., n, d].
    order
        One of ``ORDERS``.

    Returns
    -------
    value : float64 [...]
        In [1, min(n, d)]; higher is more diverse. Missing (NaN) if n = 0.
    without : float64 [..., n]
        The statistic without text i, for the jackknife. Missing (NaN) if n < 2.

    Raises
    ------
    ValueError
        As ``per_input``.

    Notes
    -----
    One eigendecomposition of the smaller of K and the d × d matrix with the same eigenvalues serves all n + 1 scores.
    Taking a text away is a change of rank one, and the resolvent of the rest follows from that of the whole
    (Sherman and Morrison 1950); so a score without a text costs O(d), not another O(d³).
    """
    _check(order)
    n = embeddings.shape[-2]
    shape = embeddings.shape[:-2]
    value, without = np.full(shape, np.nan), np.full((*shape, n), np.nan)
    for slot in np.ndindex(shape):
        if n > 0:
            value[slot], without[slot] = _one_set(embeddings[slot], order)
    return value, without


def cosines(embeddings: Embeddings) -> Floats:
    """Cosines of all pairs of a set's texts.

    Parameters
    ----------
    embeddings
        Unit rows [..., k, d].

    Returns
    -------
    float64 [..., k, k]
        1 on the diagonal, however the rows were rounded.

    Raises
    ------
    ValueError
        If some row is not of unit norm.
    """
    *shape, k, d = embeddings.shape
    sets = embeddings.reshape(math.prod(shape), k, d)
    gram = np.empty((len(sets), k, k))
    for start in range(0, len(sets), _BLOCK):
        # All rows in double precision at once would not stay in the cache; the product of rows just copied is faster.
        e = np.array(sets[start : start + _BLOCK], np.float64)
        np.matmul(e, e.swapaxes(-1, -2), out=gram[start : start + _BLOCK])
    gram = gram.reshape(*shape, k, k)
    norms = _norms(np.einsum("...ii->...i", gram))
    gram /= norms[..., :, None] * norms[..., None, :]
    return gram


def _one_set(e: Embeddings, order: float) -> tuple[float, Floats]:
    n = len(e)
    eigenvalues, shares = _spectrum(e)
    value = float(_score(eigenvalues, n, order))
    if n < 2:
        return value, np.full(n, np.nan)
    if order == 1.0:
        # With f(λ) = λ log λ, the score is exp(log n - Σ f(λ) / n).
        total = _sum_f(eigenvalues) + _change_of_sum_f(eigenvalues, shares)
        return value, np.exp(math.log(n - 1) - total / (n - 1))
    if order == 2.0:
        squares = np.sum(eigenvalues**2) - 2.0 * (shares @ eigenvalues**2) + 1.0
        return value, np.asarray((n - 1) ** 2 / squares)
    return value, (n - 1) / _largest_without(eigenvalues, shares)


def _spectrum(e: Embeddings) -> tuple[Floats, Floats]:
    """Eigenvalues of K above 0, rising [r], and the squares of the eigenvectors' entries [n, r]."""
    n, d = e.shape
    if n <= d:
        eigenvalues, vectors = np.linalg.eigh(cosines(e))
        rows = vectors**2
    else:
        x = _unit(e)
        eigenvalues, directions = np.linalg.eigh(x.T @ x)
        rows = (x @ directions) ** 2
    kept = eigenvalues > n * max(n, d) * np.finfo(float).eps
    eigenvalues = eigenvalues[kept]
    return eigenvalues, rows[:, kept] if n <= d else rows[:, kept] / eigenvalues


def _change_of_sum_f(eigenvalues: Floats, shares: Floats) -> Floats:
    """Σ λ log λ over the eigenvalues without text i, less the same over those of all; [n].

    With the resolvent's entry ``g(s) = xᵀ(A + s)⁻¹x`` of the text that goes, and because
    ``log λ = ∫ (1/(1+s) - 1/(λ+s)) ds``, the change is ``-1 - ∫ (log(1 - g(s)) + 1/(1+s)) ds``. The same integral is
    known in closed form for a 1 × 1 matrix (c), and c = xᵀAx makes the difference of the two integrands fall like s⁻³.
    In u = log s it is smooth within |Im u| < π, so that the trapezoid rule converges geometrically.
    """
    weights = shares * eigenvalues
    c = (weights @ eigenvalues)[:, None]
    known_after = np.clip(c - 1.0, 0.0, None)
    outside = np.clip(1.0 - shares.sum(axis=1), 0.0, 1.0)[:, None]

    u = np.arange(-36.0, 16.0, _STEP)
    low, high = eigenvalues[-1] * np.exp(u[u < 0]), eigenvalues[-1] * np.exp(u[u >= 0])
    # 1 - g as a sum of positive parts: nothing cancels where a text alone spans a direction and 1 - g goes to 0.
    rest = outside + shares @ (low / (eigenvalues[:, None] + low))
    integral = np.log(rest * (c + low) / (known_after + low)) @ low
    # Far out both logarithms go to 0 like 1/s, and what counts is how they differ: of one sign, and like 1/s³.
    differ = (weights * (eigenvalues - c) ** 2) @ (1.0 / (eigenvalues[:, None] + high))
    integral += np.log1p(-differ / ((c + high) * (known_after + high))) @ high
    return np.asarray((_f(known_after) - _f(c))[:, 0] - _STEP * integral)


def _largest_without(eigenvalues: Floats, shares: Floats) -> Floats:
    """Largest eigenvalue without text i [n]: the root of ``1 = Σ z²/(λ - μ)`` between the two largest of all."""
    weights = shares * eigenvalues
    n = len(shares)
    high = np.full(n, eigenvalues[-1])
    low = np.full(n, eigenvalues[-2] if len(eigenvalues) > 1 else 0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        gap = eigenvalues - middle[:, None]
        terms = np.divide(weights, gap, out=np.full_like(weights, np.inf), where=gap != 0)
        below = terms.sum(axis=1) < 1.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _score(eigenvalues: Floats, n: int, order: float) -> Floats:
    """Hill number of eigenvalues [..., r] whose sum is n."""
    if order == 1.0:
        return np.asarray(np.exp(math.log(n) - _sum_f(eigenvalues) / n))
    if order == 2.0:
        return np.asarray(n**2 / np.sum(eigenvalues**2, axis=-1))
    return np.asarray(n / eigenvalues.max(axis=-1))


def _sum_f(eigenvalues: Floats) -> Floats:
    return np.asarray(_f(eigenvalues).sum(axis=-1))


def _f(x: Floats) -> Floats:
    """The function x log x, 0 at 0."""
    logs = np.zeros_like(x)
    np.log(x, out=logs, where=x > 0)
    return x * logs


def _unit(embeddings: Embeddings) -> Floats:
    e = np.asarray(embeddings, np.float64)
    return np.asarray(e / _norms(np.einsum("...d,...d->...", e, e))[..., None])


def _norms(squares: Floats) -> Floats:
    norms = np.sqrt(squares)
    if norms.size and not np.all(np.abs(norms - 1.0) <= _NORM_TOLERANCE):
        raise ValueError("embeddings must have unit norm")
    return norms


def _check(order: float) -> None:
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(map(str, ORDERS))}, not {order}")
