"""What `reference_models.core` computes, written as definitions read: Python floats, loops, one sequence at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    total = math.log(sum(math.exp(x - top) for x in logits)) + top
    return [x - total for x in logits]


def entropy(logits: Sequence[float]) -> float:
    return -sum(math.exp(x) * x for x in log_softmax(logits))


def flat(rows: Rows) -> list[float]:
    return [value for row in rows for value in row]


def mean(rows: Rows) -> float:
    """Over all tokens of ragged rows: no mask, since there is no padding."""
    values = flat(rows)
    return sum(values) / len(values)


def variance(rows: Rows) -> float:
    values = flat(rows)
    middle = sum(values) / len(values)
    return sum((value - middle) ** 2 for value in values) / len(values)


def whiten(rows: Rows) -> list[list[float]]:
    middle, scale = mean(rows), math.sqrt(variance(rows) + 1e-8)
    return [[(value - middle) / scale for value in row] for row in rows]


def kl(log_prob: float, reference: float, estimator: str) -> float:
    ratio = math.exp(reference - log_prob)
    return {"k1": -math.log(ratio), "k2": math.log(ratio) ** 2 / 2, "k3": ratio - 1 - math.log(ratio)}[estimator]


def rewards(score: float, kls: Sequence[float], kl_coef: float) -> list[float]:
    return [-kl_coef * k + (score if t == len(kls) - 1 else 0.0) for t, k in enumerate(kls)]


def advantages(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """Σ_l (γλ)^l δ_{t+l}, the sum that the usual recursion is short for."""
    n = len(rewards)
    following = [*values[1:], 0.0]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    return [
        reward - sum(other for j, other in enumerate(rewards) if j != i) / (len(rewards) - 1)
        for i, reward in enumerate(rewards)
    ]


def unfinished(score: float, finished: bool, penalty: float) -> float:
    return score if finished else min(score, 0.0) - penalty


def policy_loss(log_prob: float, old: float, advantage: float, clip: float) -> float:
    ratio = math.exp(log_prob - old)
    return -min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)


def value_loss(value: float, old: float, target: float, clip: float) -> float:
    held = old + min(max(value - old, -clip), clip)
    return max((value - target) ** 2, (held - target) ** 2) / 2
