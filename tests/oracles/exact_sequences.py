"""The KL-regularised optimum of a small sequence problem by enumeration, in float64: no padding, no mask, no cache.

Every completion of at most L tokens is listed: those that end with the end-of-sequence token and those that are cut
off. Then π_ref, the rewards r, π* ∝ π_ref · exp(r / β) and J(π) = E_π[r] − β · KL(π ‖ π_ref) are sums over the list.
"""

from __future__ import annotations

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
        steps = (model(input_ids=ids).logits[:, len(prompt) - 1 : -1] / temperature).log_softmax(dim=-1)
        found[rows] = steps.gather(-1, ids[:, len(prompt) :, None])[..., 0].sum(dim=-1)
    return found


@torch.no_grad()
def sequence_rewards(judge: Any, prompt: list[int], listed: list[list[int]], eos: int, penalty: float) -> Tensor:
    """Rewards of whole completions; one that is cut off gets min(r, 0) − penalty."""
    judge = judge.double()
    mean, std = getattr(judge.config, "reward_mean", 0.0), getattr(judge.config, "reward_std", 1.0)
    rewards = []
    for tokens in listed:
        hidden = judge.base_model(input_ids=torch.tensor([prompt + tokens])).last_hidden_state[0, -1]
        reward = (float(judge.score(hidden)) - mean) / std
        rewards.append(reward if tokens[-1] == eos else min(reward, 0.0) - penalty)
    return torch.tensor(rewards, dtype=torch.float64)


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


def pose(
    reference: Path, judge: Path, prompts: list[str], *, length: int, beta: float, penalty: float, temperature: float
) -> list[Problem]:
    """Enumerate the problem of each prompt."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference)
    model = AutoModelForCausalLM.from_pretrained(reference).eval()
    rewarding = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    eos = tokenizer.eos_token_id
    listed = completions(len(tokenizer), eos, length)
    problems = []
    for text in prompts:
        prompt = list(tokenizer(text)["input_ids"])
        log_probs = sequence_log_probs(model, prompt, listed, temperature)
        problems.append(
            Problem(prompt, listed, log_probs, sequence_rewards(rewarding, prompt, listed, eos, penalty), beta)
        )
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
    )
