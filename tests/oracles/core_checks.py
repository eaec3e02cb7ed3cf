"""Checks of `reference_models.core` against `slow_rl`; a mutation test calls them with the mutant in place.

Each reads the functions off the module when it is called, and raises AssertionError where they are wrong. Padding is
filled with numbers that would be seen if they leaked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from oracles import slow_rl
from torch import Tensor

from reference_models import core

Rows = list[list[float]]
LENGTHS = ([3, 1, 4], [5], [1, 1], [2, 6, 6, 1])


def random_rows(lengths: Sequence[int], seed: int, scale: float = 1.0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(n, generator=generator, dtype=torch.float64)).tolist() for n in lengths]


def padded(rows: Rows, filler: float = 1e3) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.float64)


def mask_of(rows: Rows) -> Tensor:
    return padded([[1.0] * len(row) for row in rows], 0.0)


def equal(found: Tensor, rows: Rows, filler: float | None = 0.0) -> None:
    """Entries are as expected, and padding holds the filler (None = whatever)."""
    for line, row in zip(found.tolist(), rows, strict=True):
        assert line[: len(row)] == pytest.approx(row, rel=1e-9, abs=1e-9)
        assert filler is None or line[len(row) :] == [filler] * (len(line) - len(row))


def means(lengths: Sequence[int] = LENGTHS[0], seed: int = 0) -> None:
    rows = random_rows(lengths, seed)
    values, mask = padded(rows), mask_of(rows)
    assert float(core.masked_mean(values, mask)) == pytest.approx(slow_rl.mean(rows), abs=1e-9)
    assert float(core.masked_variance(values, mask)) == pytest.approx(slow_rl.variance(rows), abs=1e-9)


def whitening(lengths: Sequence[int] = LENGTHS[0], seed: int = 0) -> None:
    rows = [[x + 3 for x in row] for row in random_rows(lengths, seed)]
    found = core.whiten(padded(rows), mask_of(rows))
    equal(found, slow_rl.whiten(rows))
    assert float((found * mask_of(rows)).sum()) == pytest.approx(0, abs=1e-3)


def advantages(lengths: Sequence[int] = LENGTHS[0], seed: int = 0, gamma: float = 0.9, lam: float = 0.7) -> None:
    rewards, values = random_rows(lengths, seed), random_rows(lengths, seed + 1)
    # Fillers that differ, or a reward and a value on padding would cancel.
    found = core.gae(padded(rewards, 700.0), padded(values), mask_of(values), gamma, lam)
    equal(found, [slow_rl.advantages(r, v, gamma, lam) for r, v in zip(rewards, values, strict=True)])


def rewards(lengths: Sequence[int] = LENGTHS[0], seed: int = 0) -> None:
    kls, scores = random_rows(lengths, seed), random_rows([len(lengths)], seed + 1)[0]
    found = core.token_rewards(torch.tensor(scores, dtype=torch.float64), padded(kls), mask_of(kls), 0.3)
    equal(found, [slow_rl.rewards(score, row, 0.3) for score, row in zip(scores, kls, strict=True)])


def estimates() -> None:
    """On distributions that can be summed over: what each estimator is, estimates, and pulls towards as a reward."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 0.5, -0.7, 0.0], dtype=torch.float64).log_softmax(dim=0)
    log_probs = logits.log_softmax(dim=0)
    divergence = (log_probs.exp() * (log_probs - reference)).sum()
    (towards,) = torch.autograd.grad(divergence, logits, retain_graph=True)
    for name in ("k1", "k2", "k3"):
        with torch.no_grad():
            estimate = core.kl_estimate(log_probs, reference, name)
        expected = [slow_rl.kl(x, y, name) for x, y in zip(log_probs.tolist(), reference.tolist(), strict=True)]
        assert estimate.tolist() == pytest.approx(expected, abs=1e-12)
        mean = float((log_probs.exp() * estimate).sum().detach())
        # The policy gradient of the penalty: the estimate is a number, whose own dependence on π is not seen.
        (pull,) = torch.autograd.grad((log_probs.exp() * estimate).sum(), logits, retain_graph=True)
        assert (mean == pytest.approx(divergence.item(), abs=1e-12)) == (name in ("k1", "k3"))
        assert torch.allclose(pull, towards, atol=1e-9) == (name == "k1")
        assert name == "k1" or float(estimate.min()) >= 0


def unfinished() -> None:
    scores, finished = [2.0, 2.0, -3.0, -3.0], [True, False, True, False]
    found = core.penalise_unfinished(torch.tensor(scores), torch.tensor(finished), 0.5)
    assert found.tolist() == [slow_rl.unfinished(s, f, 0.5) for s, f in zip(scores, finished, strict=True)]
    assert found.tolist() == [2.0, -0.5, -3.0, -3.5]


def baselines(seed: int = 0, prompts: int = 3, n: int = 4) -> None:
    rows = random_rows([n] * prompts, seed)
    equal(core.leave_one_out(padded(rows)), [slow_rl.leave_one_out(row) for row in rows])


def clipped_losses(seed: int = 0) -> None:
    new, old, weight = (random_rows([200], seed + i, 0.5)[0] for i in range(3))
    columns = [torch.tensor(row, dtype=torch.float64) for row in (new, old, weight)]
    for function, slow in ((core.policy_losses, slow_rl.policy_loss), (core.value_losses, slow_rl.value_loss)):
        found = function(*columns, 0.2).tolist()
        assert found == pytest.approx([slow(*entry, 0.2) for entry in zip(new, old, weight, strict=True)], abs=1e-12)


def log_probs(seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    tokens = torch.randint(6, (3, 4), generator=generator)
    found, entropies = core.token_log_probs(logits, tokens), core.entropy(logits)
    for row in range(3):
        for t in range(4):
            expected = slow_rl.log_softmax(logits[row, t].tolist())[int(tokens[row, t])]
            assert float(found[row, t]) == pytest.approx(expected, abs=1e-12)
            assert float(entropies[row, t]) == pytest.approx(slow_rl.entropy(logits[row, t].tolist()), abs=1e-5)


def hand_values() -> None:
    """Numbers that fit on a napkin; the last column is padding full of nonsense."""
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    kl, values = torch.tensor([[1.0, 2.0, 99.0]]), torch.tensor([[0.5, 1.0, 99.0]])
    rewards = core.token_rewards(torch.tensor([4.0]), kl, mask, 0.5)
    assert rewards.tolist() == [[-0.5, 3.0, 0.0]]
    # δ = (−½ + 1 − ½, 3 − 1) = (0, 2); with γλ = ½: A = (0 + ½ · 2, 2).
    assert core.gae(rewards, values, mask, 1.0, 0.5).tolist() == [[1.0, 2.0, 0.0]]
    assert core.masked_mean(values, mask).item() == 0.75
    assert core.masked_variance(values, mask).item() == 0.0625
    assert core.whiten(values, mask).tolist()[0] == pytest.approx([-1, 1, 0], abs=1e-6)
    assert core.leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist()[0] == pytest.approx([-3, -1.5, 4.5])
    # ratio 1.5 at A = 2 is held at 1.2; at A = −2 it is not, since that would hide the mistake.
    ratio = torch.tensor([math.log(1.5)])
    assert core.policy_losses(ratio, torch.zeros(1), torch.tensor([2.0]), 0.2).item() == pytest.approx(-2.4)
    assert core.policy_losses(ratio, torch.zeros(1), torch.tensor([-2.0]), 0.2).item() == pytest.approx(3.0)
    assert core.value_losses(torch.ones(1), torch.zeros(1), torch.ones(1), 0.2).item() == pytest.approx(0.32)
