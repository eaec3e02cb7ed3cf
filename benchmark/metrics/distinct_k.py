"""distinct-k and utility-k: how many different answers k outputs hold, and what they are worth to an impatient user.

Zhang et al. 2025 (NoveltyBench, arXiv 2504.05228). A relation says which pairs of one prompt's outputs are the same
answer; classes are its connected components, so that the order of the outputs does not matter. The published code goes
through the outputs in order and compares each with the first of every class alone (``published_classes``).

The paper's relation is a trained classifier whose weights are not packaged. ``cosine_relation`` stands in for it, and
``pair_relation`` takes any function of two texts. Classes of different relations are not comparable.

distinct-k has the range [1, k]; higher is more diverse. Floor, all outputs are one answer: 1. Ceiling, no two are: k.
It is 0 without any valid output, and missing (NaN) only if k = 0. utility-k lies between 0 and the highest score u;
higher is better: u (1-p)/(1-p^k) if all outputs are one answer worth u, and u if all are new.

There is no across-input form: outputs to different prompts are no answers to one question, so that no relation says
which of them are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.sentence_bert import Embeddings, Floats, Mask
from benchmark.metrics.vendi import cosines

Classes = NDArray[np.int64]
Relation = Callable[[list[tuple[str, str]]], Sequence[bool]]
"""Whether the two texts of each pair are the same answer."""

COSINE_THRESHOLD = 0.75
"""Cosine of ``all-minilm-l6-v2`` from which on two outputs count as one answer.

Set so that the stored 50 × 10 outputs of NoveltyBench fall into as many classes on average as their classifier found
(1.6). It matches the mean alone: prompt by prompt the two numbers of classes correlate at 0.3, since many outputs say
one thing in unlike words.
"""

PATIENCE = 0.8
"""Probability that the user of utility-k asks for another output."""

_ROUNDING = 1e-12  # By which the cosine of equal rows may miss 1.


def cosine_relation(embeddings: Embeddings, *, threshold: float = COSINE_THRESHOLD) -> Mask:
    """Which outputs of a prompt are the same answer: those whose cosine is at least a threshold.

    Parameters
    ----------
    embeddings
        Unit rows [..., k, d]; k outputs a prompt.
    threshold
        In [-1, 1].

    Returns
    -------
    bool [..., k, k]
        Symmetric, True on the diagonal.

    Raises
    ------
    ValueError
        If some row is not of unit norm or the threshold is out of its range.
    """
    if not -1.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be in [-1, 1], not {threshold}")
    return np.asarray(cosines(embeddings) >= threshold - _ROUNDING)


def pair_relation(texts: Sequence[Sequence[str]], relation: Relation) -> Mask:
    """Which outputs of a prompt are the same answer, by a function of two texts.

    Parameters
    ----------
    texts
        [n][k], k outputs a prompt.
    relation
        Called once, with every pair of different texts of one prompt; a pair that several prompts share is in it once.
        Each pair is in sorted order, so that a relation that is not symmetric cannot bring the order of outputs in.

    Returns
    -------
    bool [n, k, k]
        Symmetric; equal texts are the same answer.

    Raises
    ------
    ValueError
        If the prompts have unlike numbers of outputs, or the relation does not answer every pair.
    """
    k = len(texts[0]) if texts else 0
    if any(len(outputs) != k for outputs in texts):
        raise ValueError("every prompt must have the same number of outputs")
    pairs = sorted({(a, b) for outputs in texts for a in outputs for b in outputs if a < b})
    answers = relation(pairs) if pairs else []
    if len(answers) != len(pairs):
        raise ValueError(f"the relation gave {len(answers)} answers to {len(pairs)} pairs")
    alike = {pair for pair, answer in zip(pairs, answers, strict=True) if answer}
    found = [[[a == b or (min(a, b), max(a, b)) in alike for b in outputs] for a in outputs] for outputs in texts]
    return np.array(found, dtype=bool).reshape(len(texts), k, k)


def classes(same: Mask, valid: Mask | None = None) -> Classes:
    """Classes of outputs: the connected components of a relation.

    Parameters
    ----------
    same
        bool [..., k, k]. Read as symmetric (a pair counts as the same if either of its entries says so); the diagonal
        is not read.
    valid
        bool [..., k]; an invalid output is in no class and joins no others. None = all are valid.

    Returns
    -------
    int64 [..., k]
        Classes by the order of their first members, from 0; -1 for invalid outputs. Outputs that are not the same may
        share a class through a third one that is the same as both.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """
    linked, valid = _checked(same, valid)
    k = linked.shape[-1]
    first = np.broadcast_to(np.arange(k), valid.shape)
    while k:
        joined = np.where(linked, first[..., None, :], k).min(axis=-1)
        joined = np.where(valid, joined, first)
        if np.array_equal(joined, first):
            break
        first = joined
    return _numbered(first, valid)


def published_classes(same: Mask, valid: Mask | None = None) -> Classes:
    """Classes as the published code makes them: each output joins the oldest class whose first member it equals.

    Depends on the order of the outputs. Parameters, return value and errors as of ``classes``.
    """
    linked, valid = _checked(same, valid)
    k = linked.shape[-1]
    first = np.broadcast_to(np.arange(k), valid.shape).copy()
    founder = valid.copy()
    for j in range(1, k):
        joins = linked[..., j, :j] & founder[..., :j]
        found = joins.any(axis=-1)
        first[..., j] = np.where(found, joins.argmax(axis=-1), j)
        founder[..., j] &= ~found
    return _numbered(first, valid)


def per_input(classes: Classes) -> Floats:
    """distinct-k: how many classes a prompt's outputs fall into.

    Parameters
    ----------
    classes
        Integers [..., k], equal within a class; negative = in none.

    Returns
    -------
    float64 [...]
        In [1, k], or 0 without any valid output; higher is more diverse: 1 where all are one answer. Grows with k, so
        compare equal k only. Missing (NaN) if k = 0.

    Notes
    -----
    The published code stores the highest class number instead, which is one less.
    """
    if classes.shape[-1] == 0:
        return np.full(classes.shape[:-1], np.nan)
    return np.asarray(_opens(classes).sum(axis=-1), dtype=np.float64)


def utility(classes: Classes, scores: Floats, *, patience: float = PATIENCE) -> Floats:
    """utility-k: mean worth of the outputs to a user who reads on with some probability and wants no answer twice.

    ``(1-p)/(1-p^k) Σ_i p^(i-1) u_i``, over the outputs i that are the first of their class.

    Parameters
    ----------
    classes
        Integers [..., k], equal within a class; negative = in none, which is worth 0.
    scores
        [..., k], the worth u of each output (1 … 10 in the paper); only those of first outputs are read.
    patience
        p in (0, 1): the probability of asking for the next output.

    Returns
    -------
    float64 [...]
        Between 0 and the highest score, for scores of at least 0; higher is better: it is u where all outputs are
        new and worth u, and u (1-p)/(1-p^k) where all are one answer. Missing (NaN) if k = 0 or a score is that is
        read.

    Raises
    ------
    ValueError
        If the shapes do not agree or ``patience`` is out of its range.

    Notes
    -----
    Depends on the order of the outputs, as published; ``expected_utility`` does not.
    """
    k = _check_scores(classes, scores, patience)
    if k == 0:
        return np.full(classes.shape[:-1], np.nan)
    weights = (1 - patience) / (1 - patience**k) * patience ** np.arange(k)
    return np.asarray(np.where(_opens(classes), scores, 0.0) @ weights)


def expected_utility(classes: Classes, scores: Floats, *, patience: float = PATIENCE) -> Floats:
    """utility-k in the mean over all orders of the outputs, which are exchangeable samples.

    Parameters
    ----------
    classes, scores, patience
        As for ``utility``; the scores of all outputs in classes are read.

    Returns
    -------
    float64 [...]
        Range and direction as of ``utility``. Missing (NaN) if k = 0 or the score of an output in a class is.

    Raises
    ------
    ValueError
        As ``utility``.

    Notes
    -----
    An output in a class of m is worth its score at position t if the other m - 1 come later, which in a random order
    has the probability ``C(k-t, m-1) / C(k-1, m-1)``.
    """
    k = _check_scores(classes, scores, patience)
    if k == 0:
        return np.full(classes.shape[:-1], np.nan)
    by_size = [
        sum(patience ** (t - 1) * comb(k - t, m - 1) for t in range(1, k + 1)) / (k * comb(k - 1, m - 1))
        for m in range(1, k + 1)
    ]
    weights = (1 - patience) / (1 - patience**k) * np.array([0.0, *by_size])
    valid = classes >= 0
    sizes = ((classes[..., :, None] == classes[..., None, :]) & valid[..., None]).sum(axis=-1)
    return np.asarray((weights[sizes] * np.where(valid, scores, 0.0)).sum(axis=-1))


def _checked(same: Mask, valid: Mask | None) -> tuple[Mask, Mask]:
    """The relation made reflexive and symmetric, among valid outputs alone, and the validity."""
    if same.ndim < 2 or same.shape[-1] != same.shape[-2]:
        raise ValueError(f"same must be [..., k, k], not {same.shape}")
    if valid is None:
        valid = np.ones(same.shape[:-1], dtype=bool)
    if valid.shape != same.shape[:-1]:
        raise ValueError(f"valid must be {same.shape[:-1]}, not {valid.shape}")
    linked = same | same.swapaxes(-1, -2) | np.eye(same.shape[-1], dtype=bool)
    return linked & valid[..., :, None] & valid[..., None, :], valid


def _numbered(first: Classes, valid: Mask) -> Classes:
    """Number classes, given by the place of their first members, from 0."""
    opens = valid & (first == np.arange(first.shape[-1]))
    numbers = np.cumsum(opens, axis=-1) - 1
    return np.asarray(np.where(valid, np.take_along_axis(numbers, first, axis=-1), -1), dtype=np.int64)


def _opens(classes: Classes) -> Mask:
    """Which outputs are the first of a class; bool [..., k]."""
    k = classes.shape[-1]
    seen = (classes[..., :, None] == classes[..., None, :]) & np.tri(k, k, -1, dtype=bool)
    return np.asarray(~seen.any(axis=-1) & (classes >= 0))


def _check_scores(classes: Classes, scores: Floats, patience: float) -> int:
    if classes.shape != scores.shape:
        raise ValueError(f"classes and scores must have one shape, not {classes.shape} and {scores.shape}")
    if not 0.0 < patience < 1.0:
        raise ValueError(f"patience must be above 0 and below 1, not {patience}")
    return int(classes.shape[-1])
