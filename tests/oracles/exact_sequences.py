"""The KL-regularised optimum of a small sequence problem by enumeration, in float64: no padding, no mask, no cache.

Every completion of at most L tokens is listed: those that end with the end-of-sequence token and those that are cut
off. Then π_ref, the rewards r, π* ∝ π_ref · exp(r / β) and J(π) = E_π[r] − β · KL(π ‖ π_ref) are sums over the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def completions(vocabulary: int, eos: int, length: int) -> list[list[int]]:
    """Every completion that a sampler with a budget of ``length`` tokens can return."""
    others = [token for token in range(vocabulary) if token != eos]
    ended = [[*head, eos] for n in range(length) for head in product(others, repeat=n)]
    return ended + [list(cut) for cut in product(others, repeat=length)]


@torch.no_grad()
def sequence_log_probs(model: Any, prompt: list[int], listed: list[list[int]], temperature: float = 1.0) -> Tensor:
    """log π of whole completions, each read without padding among others of its length."""
    model = model.double()
    found = torch.zeros(len(listed), dtype=torch.float64)
    for length in {len(tokens) for tokens in listed}:
        rows = [row for row, tokens in enumerate(listed) if len(tokens) == length]
        ids = torch.tensor([prompt + listed[row] for row in rows])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, len(prompt) - 1 : -1]
        steps = (logits / temperature).log_softmax(dim=-1)
        found[rows] = steps.gather(-1, ids[:, len(prompt) :, None])[..., 0].sum(dim=-1)
    return found


@torch.no_grad()
def sequence_scores(judge: Any, prompt: list[int], listed: list[list[int]]) -> Tensor:
    """The reward model's normalised scores of whole sequences, each read alone."""
    judge = judge.double()
    hidden = [judge.base_model(input_ids=torch.tensor([prompt + tokens])).last_hidden_state[0, -1] for tokens in listed]
    mean, std = getattr(judge.config, "reward_mean", 0.0), getattr(judge.config, "reward_std", 1.0)
    return (judge.score(torch.stack(hidden))[:, 0] - mean) / std


def raw_scores(policy: Path, judge: Path, prompts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Probability of each prompt's each completion (they add up to 1 over all prompts), and its score."""
    problems = pose(policy, judge, prompts, length=length, beta=1.0, penalty=None, temperature=1.0)
    probabilities = torch.stack([problem.reference for problem in problems]).exp() / len(problems)
    return probabilities, torch.stack([problem.rewards for problem in problems])


@dataclass(frozen=True)
class Problem:
    """One prompt's completions with what is known of them."""

    prompt: list[int]
    listed: list[list[int]]
    reference: Tensor
    """log π_ref."""
    rewards: Tensor
    beta: float

    @property
    def optimum(self) -> Tensor:
        """log π*."""
        return (self.reference + self.rewards / self.beta).log_softmax(dim=0)

    def objective(self, log_probs: Tensor) -> float:
        """J(π)."""
        return float((log_probs.exp() * (self.rewards - self.beta * (log_probs - self.reference))).sum())

    @property
    def best(self) -> float:
        """J(π*) = β log E_ref[exp(r / β)]."""
        return self.beta * float((self.reference + self.rewards / self.beta).logsumexp(dim=0))

    def divergence(self, log_probs: Tensor) -> float:
        """KL(π ‖ π*), in nats."""
        return float((log_probs.exp() * (log_probs - self.optimum)).sum())


@dataclass(frozen=True)
class Outcome:
    """Where training ended, as means over the prompts."""

    divergence: float
    """KL(π ‖ π*)."""
    reached: float
    """J(π)."""
    best: float
    """J(π*)."""
    start: float
    """J(π_ref)."""
    kl: float
    """KL(π ‖ π_ref)."""
    likeliest: float
    """Probability of the likeliest completion."""


def pose(
    reference: Path,
    judge: Path,
    prompts: Sequence[str],
    *,
    length: int,
    beta: float,
    penalty: float | None,
    temperature: float,
) -> list[Problem]:
    """Enumerate the problem of each prompt; one that is cut off gets min(score, 0) − penalty, unless that is None."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference)
    model = AutoModelForCausalLM.from_pretrained(reference).eval()
    rewarding = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    eos = tokenizer.eos_token_id
    listed = completions(len(tokenizer), eos, length)
    cut = torch.tensor([tokens[-1] != eos for tokens in listed])
    problems = []
    for text in prompts:
        prompt = list(tokenizer(text)["input_ids"])
        scores = sequence_scores(rewarding, prompt, listed)
        rewards = scores if penalty is None else torch.where(cut, scores.clamp(max=0) - penalty, scores)
        problems.append(Problem(prompt, listed, sequence_log_probs(model, prompt, listed, temperature), rewards, beta))
    return problems


def judge_policy(policy: Path, problems: list[Problem], temperature: float) -> Outcome:
    """Hold a trained checkpoint against the optimum."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy).eval()
    found = [sequence_log_probs(model, problem.prompt, problem.listed, temperature) for problem in problems]
    pairs = list(zip(problems, found, strict=True))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return Outcome(
        divergence=mean([problem.divergence(log_probs) for problem, log_probs in pairs]),
        reached=mean([problem.objective(log_probs) for problem, log_probs in pairs]),
        best=mean([problem.best for problem in problems]),
        start=mean([problem.objective(problem.reference) for problem in problems]),
        kl=mean([float((lp.exp() * (lp - problem.reference)).sum()) for problem, lp in pairs]),
        likeliest=mean([float(log_probs.exp().max()) for log_probs in found]),
    )
