"""Pure pieces that the trainers share: tokens and masks, log-probabilities, masked means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Prompts with completions, padded on the right."""

    ids: Tensor
    """int64 [batch, length]."""
    attention: Tensor
    """int64 [batch, length]; 0 on padding."""
    completion: Tensor
    """float32 [batch, length]; 1 on the tokens to be learned, the end-of-sequence token among them."""


def collate(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad_token_id: int) -> Batch:
    """Put prompts and completions into one right-padded batch.

    Parameters
    ----------
    prompts, completions
        Token ids; a completion ends with the end-of-sequence token if that is to be learned.
    pad_token_id
        Fills the right; masked in attention and loss alike, so its value never matters.

    Raises
    ------
    ValueError
        If there is nothing to pad, or a prompt is empty (its first completion token would have no context).
    """
    if not prompts or len(prompts) != len(completions):
        raise ValueError("need as many prompts as completions, and at least one")
    if not all(prompts):
        raise ValueError("a prompt is empty")
    length = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    ids = torch.full((len(prompts), length), pad_token_id, dtype=torch.long)
    attention = torch.zeros(len(prompts), length, dtype=torch.long)
    completion = torch.zeros(len(prompts), length)
    for row, (p, c) in enumerate(zip(prompts, completions, strict=True)):
        ids[row, : len(p) + len(c)] = torch.tensor([*p, *c], dtype=torch.long)
        attention[row, : len(p) + len(c)] = 1
        completion[row, len(p) : len(p) + len(c)] = 1.0
    return Batch(ids, attention, completion)


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each token given those before it.

    Parameters
    ----------
    logits
        [batch, length, vocabulary]; position t predicts token t + 1.
    ids
        int64 [batch, length].

    Returns
    -------
    Tensor
        [batch, length - 1]; entry t belongs to token t + 1.
    """
    chosen = logits[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return chosen - logits[:, :-1].logsumexp(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is 1: every token counts alike, whichever sequence it is in.

    Raises
    ------
    ValueError
        If the mask is empty: a mean over nothing is a mistake of the caller's.
    """
    total = mask.sum()
    if not total:
        raise ValueError("the mask is empty")
    return (values * mask).sum() / total
