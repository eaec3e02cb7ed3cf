"""Token entropy: how undecided a model is, on average, before each token that it writes.

Where a distribution over next tokens has the entropy H, the token drawn from it has -log p = H on average. So the log-
probabilities of drawn outputs tell the entropy of the model's next-token distributions along its own outputs, without
any sum over the vocabulary; in reinforcement learning this is the policy's entropy (e.g. Cui et al. 2025, arXiv
2505.22617, who average over tokens within a response first; here every token counts the same). It speaks of the model
and its decoding, not of texts: tokens that differ may say the same.

In nats a token of the model's own tokenizer. A tokenizer with longer tokens has fewer of them, each less certain, so
compare models that share one, and at one temperature, top-p and top-k alone: the distribution is the one that was drawn
from. Range [0, ln V] for a vocabulary of V; higher is more diverse. Floor: 0, every token certain, whatever it is;
greedy decoding has none. Ceiling: ln V, all tokens equally likely. Missing (NaN) where a backend does not tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def per_input(log_probs: Floats, n_tokens: Floats | NDArray[np.int64]) -> Floats:
    """Mean entropy of the next-token distribution along a prompt's outputs.

    Parameters
    ----------
    log_probs
        [..., k], natural log-probability of each output's tokens together, under the distribution that they were drawn
        from; NaN = not told.
    n_tokens
        [..., k], tokens of each output, its end included; NaN = not told.

    Returns
    -------
    float64 [...]
        Nats a token, -Σ log p / Σ tokens; higher is more diverse. What it estimates lies in [0, log V], V the size of
        the vocabulary: 0 where every token is certain, log V where all are equally likely. The estimate itself is at
        least 0, and may be above log V where unlikely tokens were drawn. Missing (NaN) if an output lacks one of the
        two, and if there are no tokens; k = 0 is no tokens.

    Raises
    ------
    ValueError
        If the shapes differ, a log-probability is above 0 or infinite, or a number of tokens is negative or infinite.

    Notes
    -----
    By the chain rule of entropy, E[-log p] of an output is the expected sum of the entropies of its steps, so that the
    numerator is unbiased, as the denominator is for the expected length. Their ratio is biased by O(1/k), and
    consistent. Outputs that the budget cut off count with the steps that they took.
    """
    log_probs, n_tokens = np.asarray(log_probs, np.float64), np.asarray(n_tokens, np.float64)
    if log_probs.shape != n_tokens.shape:
        raise ValueError(f"log_probs and n_tokens must have one shape, not {log_probs.shape} and {n_tokens.shape}")
    if np.any(log_probs > 0) or np.any(np.isinf(log_probs)):
        raise ValueError("log-probabilities must be finite and at most 0")
    if np.any(n_tokens < 0) or np.any(np.isinf(n_tokens)):
        raise ValueError("numbers of tokens must be finite and at least 0")
    tokens = n_tokens.sum(axis=-1)
    # + 0.0 makes the -0 of a certain output 0.
    found = np.divide(-log_probs.sum(axis=-1), tokens, out=np.full(tokens.shape, np.nan), where=tokens > 0) + 0.0
    return np.asarray(found)
