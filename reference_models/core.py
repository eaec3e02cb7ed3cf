"""Pure pieces that every trainer is made of: tokens and masks, log-probabilities, KL, advantages, losses.

Prompts are padded on the left, completions on the right, so that column ``-C`` is the first completion token of every
row and logits are needed for ``C + 1`` columns alone. Tensors over completion tokens have shape [batch, C]; a mask is 1
on real tokens, the end-of-sequence token among them, and 0 on padding. A loss that asks for no more than a sum over
completion tokens may read rows that all end together, and are padded less: the mask is 0 before a shorter completion.

Functions that average over a batch take ``total``, which adds up a tensor over all processes: the mean of a batch must
not depend on how it is split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Total = Callable[[Tensor], Tensor]
KL = Literal["k1", "k2", "k3"]


def alone(value: Tensor) -> Tensor:
    """Return the total of a single process: the value itself."""
    return value


class Batch(NamedTuple):
    """Prompts with completions."""

    ids: Tensor
    """int64 [batch, P + C]: prompts padded on the left to P tokens, completions padded on the right to C; or rows that
    end together, C of the longest completion and P + C of the longest row."""
    attention: Tensor
    """int64 [batch, P + C]; 0 on padding."""
    mask: Tensor
    """float32 [batch, C]; 1 on completion tokens, the end-of-sequence token among them."""

    @property
    def positions(self) -> Tensor:
        """int64 [batch, P + C]: 0 at each row's first real token, so that padding shifts no position."""
        return (self.attention.cumsum(-1) - 1).clamp(min=0)

    @property
    def completions(self) -> Tensor:
        """int64 [batch, C]: the completion tokens."""
        return self.ids[:, -self.mask.shape[1] :]

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        return Batch(*(tensor.to(device) for tensor in self))

    def rows(self, index: Tensor | slice) -> Batch:
        """Take some rows, padded as they are."""
        return Batch(*(tensor[index] for tensor in self))

    def tight(self) -> Batch:
        """Leave out the columns before all rows' first real token: they are padding in every row."""
        first = int(self.attention.argmax(dim=-1).min())
        return Batch(self.ids[:, first:], self.attention[:, first:], self.mask)


def collate(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_token_id: int,
    *,
    end_together: bool = False,
) -> Batch:
    """Put prompts and completions into one batch.

    Parameters
    ----------
    prompts, completions
        Token ids; a completion ends with the end-of-sequence token if that was, or is to be, its end.
    pad_token_id
        Fills the gaps; masked in attention and loss alike, so its value never matters.
    end_together
        Pad rows on the left alone, so that there are as many columns as the longest row has tokens, and not as the
        longest prompt and the longest completion have together.

    Raises
    ------
    ValueError
        If there is nothing to pad, or a prompt is empty (its first completion token would have no context).
    """
    if not prompts or len(prompts) != len(completions):
        raise ValueError("need as many prompts as completions, and at least one")
    if not all(prompts):
        raise ValueError("a prompt is empty")
    rows = list(zip(prompts, completions, strict=True))
    before, drawn = max(map(len, prompts)), max(1, *map(len, completions))
    width = max(len(p) + max(1, len(c)) for p, c in rows) if end_together else before + drawn
    ids = torch.full((len(rows), width), pad_token_id, dtype=torch.long)
    attention, mask = torch.zeros_like(ids), torch.zeros(ids.shape)
    for row, (p, c) in enumerate(rows):
        end = width if end_together else before + len(c)
        ids[row, end - len(p) - len(c) : end] = torch.tensor([*p, *c], dtype=torch.long)
        attention[row, end - len(p) - len(c) : end] = 1
        mask[row, end - len(c) : end] = 1
    return Batch(ids, attention, mask[:, -drawn:])


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token under the logits that predict it.

    Parameters
    ----------
    logits
        [batch, C, vocabulary], of any float type; computed in float32 at least.
    tokens
        int64 [batch, C].

    Returns
    -------
    Tensor
        [batch, C].
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(dim=-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of each next-token distribution, in nats: [batch, C, vocabulary] → [batch, C].

    A token that is ruled out (a logit of −∞) adds nothing.
    """
    terms: Tensor = torch.special.entr(logits.float().softmax(dim=-1))
    return terms.sum(dim=-1)


def masked_mean(values: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
    """Mean of ``values`` where ``mask`` is 1: every token counts alike, whichever sequence or process it is in.

    Raises
    ------
    ValueError
        If the mask is empty: a mean over nothing is a mistake of the caller's.
    """
    count = total(mask.sum())
    if not count:
        raise ValueError("the mask is empty")
    return total((values * mask).sum()) / count


def masked_variance(values: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
    """Variance (divided by n) of ``values`` where ``mask`` is 1, over all processes."""
    mean = masked_mean(values, mask, total)
    return masked_mean((values - mean) ** 2, mask, total)


def whiten(values: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over the masked entries; the others become 0.

    The mean is *not* added back (one library's default does, which leaves the advantages of a whole batch one-signed).
    Values that are all equal become 0.
    """
    mean = masked_mean(values, mask, total)
    return (values - mean) * torch.rsqrt(masked_variance(values, mask, total) + 1e-8) * mask


def kl_estimate(log_probs: Tensor, reference: Tensor, estimator: KL) -> Tensor:
    """Estimate KL(policy ‖ reference) a token from tokens that the policy drew.

    Parameters
    ----------
    log_probs, reference
        Log-probabilities of the drawn tokens, of one shape.
    estimator
        ``k1`` = log ratio: unbiased, and the only one whose use as a *penalty in the reward* has the optimum
        π* ∝ π_ref · exp(r / β). ``k2`` = ½ (log ratio)², ``k3`` = 1/ratio − 1 + log ratio: never negative, fine for
        watching, but as a penalty they optimise something else (k2 is what the paper's code used).

    Notes
    -----
    Names after J. Schulman, *Approximating KL divergence* (2020).
    """
    log_ratio = log_probs - reference
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    return torch.expm1(-log_ratio) + log_ratio


def penalise_unfinished(scores: Tensor, finished: Tensor, penalty: float) -> Tensor:
    """Hold the score of a completion without an end at 0 or less, and take a penalty off: not to stop never pays.

    Parameters
    ----------
    scores
        [batch]; 0 is an average reference.
    finished
        bool [batch]; whether the completion ended with the end-of-sequence token.
    penalty
        At least 0.
    """
    return torch.where(finished, scores, scores.clamp(max=0) - penalty)


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Reward of each action: the KL penalty on every token, and the sequence's score on its last real one.

    Parameters
    ----------
    scores
        [batch].
    kl, mask
        [batch, C].
    """
    last = mask.sum(dim=-1).long() - 1
    rewards = -kl_coef * kl * mask
    rewards[torch.arange(len(scores), device=scores.device), last] += scores.to(rewards)
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates (Schulman et al., arXiv 1506.02438).

    Nothing past a sequence's last token enters: neither value nor advantage is carried over from padding.

    Parameters
    ----------
    rewards, values, mask
        [batch, C]; ``values[t]`` is the value of the state in which token t was chosen.
    gamma, lam
        Discount and λ, in [0, 1].

    Returns
    -------
    Tensor
        [batch, C]; 0 on padding. The returns are these plus ``values``.
    """
    advantages = torch.zeros_like(rewards)
    carried, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        carried = (delta + gamma * lam * carried) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = carried
    return advantages


def leave_one_out(rewards: Tensor) -> Tensor:
    """Subtract from each reward the mean of the others of its prompt: [prompts, n] → [prompts, n], n ≥ 2."""
    n = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * (n / (n - 1))


def policy_losses(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's clipped surrogate, an entry each: −min(ratio · A, clip(ratio, 1 ± clip) · A)."""
    ratio = (log_probs - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error, an entry each; the worse of the plain one and that of a value held near the old one."""
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (held - returns) ** 2)


def preference_losses(margins: Tensor) -> Tensor:
    """Bradley–Terry: −log σ(score of the chosen − score of the rejected), an entry each."""
    return -logsigmoid(margins)
