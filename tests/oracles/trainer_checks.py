"""Checks of PPO and RLOO, from completions to advantages, losses and gradients, one unpadded sequence at a time.

A mutation test calls them with the mutant in place. Completions have all lengths, end or do not, and hold the padding
token as a token like any other.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from oracles import slow_rl, tiny_world
from oracles.core_checks import Rows
from torch import Tensor

from benchmark.reward_model import score_ids
from benchmark.sampling.kv_cache import Continuation
from reference_models import models, ppo, rloo
from reference_models.core import collate, gae, token_rewards
from reference_models.training import Training

EOS, TEMPERATURE, PENALTY, KL_COEF, N = 1, 0.7, 0.6, 0.4, 2
PROMPTS = [[1, 2], [2, 1, 2, 2, 0], [0, 2]]
COMPLETIONS = [[2, 1], [0, 0, 2, 0, 2], [1], [2, 0, 0, 1], [2, 2, 0, 0, 0], [0, 1]]
REPEATED = [prompt for prompt in PROMPTS for _ in range(N)]
DRAWN = [Continuation(tokens, tokens[-1] == EOS) for tokens in COMPLETIONS]


def make_bench(folder: Path, kind: str) -> Path:
    """Write the models that the checks need: what was trained so far, what it began from, and a reward model."""
    tiny_world.make_policy(folder / "reference", seed=1, kind=kind)
    tiny_world.make_policy(folder / "policy", seed=2, kind=kind)
    tiny_world.make_judge(folder / "judge", folder / "policy", seed=3, mean=0.1, std=0.5, kind=kind)
    return folder


class Loaded(NamedTuple):
    model: Any
    reference: models.Reference
    judge: Any
    tokenizer: Any
    args: Any
    run: Training


def loaded(bench: Path, module: Any, **fields: Any) -> Loaded:
    """Load what a trainer loads, the policy a few steps away from its reference."""
    arguments = ppo.PPOArguments if module is ppo else rloo.RLOOArguments
    fields = {"epochs": 1, **({"samples": N} if module is rloo else {}), **fields}
    args = arguments(
        model=str(bench / "reference"),
        reward_model=str(bench / "judge"),
        data="",
        output=str(bench / "never-written"),
        steps=1,
        batch_size=len(DRAWN),
        learning_rate=1e-3,
        temperature=TEMPERATURE,
        kl_coef=KL_COEF,
        missing_eos_penalty=PENALTY,
        **fields,
    )
    run = Training(args, "check", inputs=(), shown=())
    tokenizer = models.load_tokenizer(args.model)
    judge = models.load_judge(args.reward_model, tokenizer, run.device)
    model = models.load_policy(str(bench / "policy"))
    reference = models.Reference(model, args, run.device)
    if module is ppo:
        critic = ppo.make_critic(tokenizer, args, run) if args.value_model == "reward_model" else None
        model = ppo.ActorCritic(model, critic)
    return Loaded(model, reference, judge, tokenizer, args, run)


class Read(NamedTuple):
    """What stock models say of each episode: an entry a token."""

    log_probs: Rows
    reference: Rows
    entropies: Rows
    values: Rows
    scores: list[float]


@torch.no_grad()
def read(bench: Path) -> Read:
    """Read the episodes by transformers alone, in float64, each by itself."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    policy, reference = (
        AutoModelForCausalLM.from_pretrained(bench / name).eval().double() for name in ("policy", "reference")
    )
    judge = AutoModelForSequenceClassification.from_pretrained(bench / "judge").eval().double()
    found = Read([], [], [], [], [])
    for prompt, completion in zip(REPEATED, COMPLETIONS, strict=True):
        ids = torch.tensor([prompt + completion])
        for model, kept in ((policy, found.log_probs), (reference, found.reference)):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, len(prompt) - 1 : -1].tolist()
            scaled = [[x / TEMPERATURE for x in line] for line in logits]
            pairs = list(zip(scaled, completion, strict=True))
            kept.append([slow_rl.log_softmax(line)[token] for line, token in pairs])
            if model is policy:
                found.entropies.append([slow_rl.entropy(line) for line in scaled])
        heads = judge.score(judge.base_model(input_ids=ids).last_hidden_state)[0, :, 0]
        normalised = ((heads - judge.config.reward_mean) / judge.config.reward_std).tolist()
        found.values.append(normalised[len(prompt) - 1 : -1])
        found.scores.append(slow_rl.unfinished(normalised[-1], completion[-1] == EOS, PENALTY))
    return found


def close(found: Tensor, rows: Rows, *, zero_padding: bool = False) -> None:
    for line, row in zip(found.tolist(), rows, strict=True):
        assert line[: len(row)] == pytest.approx(row, rel=1e-4, abs=2e-5)
        assert not zero_padding or not any(line[len(row) :])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def common_metrics(metrics: dict[str, float], known: Read) -> None:
    ratios = [sum(a) - sum(b) for a, b in zip(known.log_probs, known.reference, strict=True)]
    assert metrics["reward"] == pytest.approx(mean(known.scores), abs=1e-4)
    assert metrics["kl"] == pytest.approx(mean(ratios), abs=1e-4)
    assert metrics["objective"] == pytest.approx(mean(known.scores) - KL_COEF * mean(ratios), abs=1e-4)
    assert metrics["entropy"] == pytest.approx(slow_rl.mean(known.entropies), abs=1e-4)
    assert metrics["length"] == pytest.approx(mean([len(row) for row in COMPLETIONS]))
    assert metrics["eos_share"] == pytest.approx(mean([row[-1] == EOS for row in COMPLETIONS]))


def ppo_episodes(bench: Path, microbatch_size: int = 0, gamma: float = 0.9) -> None:
    """Rewards, values, whitened advantages and returns of every token, and the metrics."""
    known = read(bench)
    model, reference, judge, tokenizer, args, run = loaded(bench, ppo, microbatch_size=microbatch_size, gamma=gamma)
    rollout, metrics = ppo.score(REPEATED, DRAWN, model, reference, judge, tokenizer.pad_token_id, args, run)
    pairs = zip(known.log_probs, known.reference, strict=True)
    kls = [[slow_rl.kl(x, y, "k1") for x, y in zip(a, b, strict=True)] for a, b in pairs]
    rewards = [slow_rl.rewards(score, row, KL_COEF) for score, row in zip(known.scores, kls, strict=True)]
    advantages = [slow_rl.advantages(r, v, gamma, args.lam) for r, v in zip(rewards, known.values, strict=True)]
    returns = [[a + v for a, v in zip(*rows, strict=True)] for rows in zip(advantages, known.values, strict=True)]
    close(rollout.log_probs, known.log_probs)
    close(rollout.values, known.values, zero_padding=True)
    close(rollout.returns, returns, zero_padding=True)
    close(rollout.advantages, slow_rl.whiten(advantages), zero_padding=True)
    common_metrics(metrics, known)
    explained = 1 - slow_rl.variance(advantages) / slow_rl.variance(returns)
    assert metrics["explained_variance"] == pytest.approx(explained, abs=1e-3)


def rloo_episodes(bench: Path, microbatch_size: int = 0) -> None:
    """Log-probabilities and leave-one-out advantages of every completion, and the metrics."""
    known = read(bench)
    model, reference, judge, tokenizer, args, run = loaded(bench, rloo, microbatch_size=microbatch_size)
    rollout, metrics = rloo.score(PROMPTS, DRAWN, model, reference, judge, tokenizer.pad_token_id, args, run)
    triples = zip(known.scores, known.log_probs, known.reference, strict=True)
    rewards = [score - KL_COEF * (sum(a) - sum(b)) for score, a, b in triples]
    groups = [slow_rl.leave_one_out(rewards[i : i + N]) for i in range(0, len(rewards), N)]
    assert rollout.log_probs.tolist() == pytest.approx([sum(row) for row in known.log_probs], abs=1e-4)
    assert rollout.advantages.tolist() == pytest.approx(slow_rl.flat(groups), abs=1e-4)
    common_metrics(metrics, known)


def noisy(rows: Rows, seed: int, scale: float) -> Tensor:
    """Tokens' numbers, shifted a little, in a tensor with other numbers on padding."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((len(rows), max(map(len, rows))), 3.0)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = torch.tensor(row) + scale * torch.randn(len(row), generator=generator)
    return found


def ragged(tensor: Tensor) -> Rows:
    return [line[: len(row)] for line, row in zip(tensor.tolist(), COMPLETIONS, strict=True)]


def ppo_step(bench: Path, microbatch_size: int = 0) -> None:
    """The loss of a gradient step is the mean over tokens, whatever their sequence and microbatch."""
    known = read(bench)
    fields = {"value_coef": 0.3, "microbatch_size": microbatch_size, "max_grad_norm": 1e6}
    model, _, _, tokenizer, args, run = loaded(bench, ppo, **fields)
    batch = collate(REPEATED, COMPLETIONS, tokenizer.pad_token_id)
    old, values = noisy(known.log_probs, 0, 0.3), noisy(known.values, 1, 0.3)
    advantages, returns = noisy(known.values, 2, 1.0), noisy(known.values, 3, 1.0)
    losses, worths, k3, clipped = [], [], [], []
    columns = (known.log_probs, ragged(old), ragged(advantages), known.values, ragged(values), ragged(returns))
    for new, before, advantage, value, value_before, target in zip(*map(slow_rl.flat, columns), strict=True):
        losses.append(slow_rl.policy_loss(new, before, advantage, args.clip))
        worths.append(slow_rl.value_loss(value, value_before, target, args.value_clip))
        k3.append(slow_rl.kl(before, new, "k3"))
        clipped.append(abs(math.exp(new - before) - 1) > args.clip)
    module = run.prepare(model, lambda _: None)
    found = ppo.learn(ppo.Rollout(batch, old, values, advantages, returns), module, args, run)
    assert found["policy_loss"] == pytest.approx(mean(losses), abs=1e-4)
    assert found["value_loss"] == pytest.approx(mean(worths), abs=1e-4)
    assert found["loss"] == pytest.approx(mean(losses) + 0.3 * mean(worths), abs=1e-4)
    assert found["approx_kl"] == pytest.approx(mean(k3), abs=1e-4)
    assert found["clip_fraction"] == pytest.approx(mean(clipped), abs=1e-6)


def rloo_step(bench: Path, microbatch_size: int = 0) -> None:
    """The loss of a gradient step is the mean over completions; each is one action."""
    known = read(bench)
    model, _, _, tokenizer, args, run = loaded(bench, rloo, microbatch_size=microbatch_size)
    batch = collate(REPEATED, COMPLETIONS, tokenizer.pad_token_id)
    sums = [sum(row) for row in known.log_probs]
    old = noisy([sums], 0, 0.3)[0]
    advantages = noisy([[0.0] * len(sums)], 1, 1.0)[0]
    columns = list(zip(sums, old.tolist(), advantages.tolist(), strict=True))
    module = run.prepare(model, lambda _: None)
    found = rloo.learn(rloo.Rollout(batch, old, advantages), module, args, run)
    assert found["loss"] == pytest.approx(mean([slow_rl.policy_loss(*c, args.clip) for c in columns]), abs=1e-4)
    assert found["approx_kl"] == pytest.approx(mean([slow_rl.kl(o, new, "k3") for new, o, _ in columns]), abs=1e-4)


WITHOUT_PAD = [[2, 1], [2, 2, 2, 2, 1], [1], [2, 2, 2, 1], [2, 2, 1], [2, 2, 2, 2, 1]]
NO_PAD_PROMPTS = [[1, 2], [1, 2], [2, 1, 2, 2], [2, 1, 2, 2], [2, 1, 2], [2]]


def gradients(bench: Path, module: Any) -> None:
    """A score paid for the last token moves that token and all before it, and padding not at all."""
    model, _, _, tokenizer, args, _ = loaded(bench, module, value_coef=1.0) if module is ppo else loaded(bench, module)
    policy = model.policy if module is ppo else model
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[name] = output.logits if hasattr(output, "logits") else output
            kept[name].retain_grad()

        return hook

    batch = collate(NO_PAD_PROMPTS, WITHOUT_PAD, tokenizer.pad_token_id)
    mask = batch.mask
    with torch.no_grad():
        old = models.completion_log_probs(policy, batch, args.temperature)
    zeros = torch.zeros_like(mask)
    if module is ppo:
        advantages = gae(token_rewards(torch.ones(len(mask)), zeros, mask, 1.0), zeros, mask, 1.0, args.lam)
        with torch.no_grad():
            values = model(batch, args.temperature)[1]
        part: Any = ppo.Rollout(batch, old, values, advantages, values + 1)
    else:
        part = rloo.Rollout(batch, (old * mask).sum(dim=-1), torch.ones(len(mask)))
    policy.register_forward_hook(keep("logits"))
    if module is ppo:
        model.critic.score.register_forward_hook(keep("values"))
    module.loss(model, args, [], part).backward()
    columns = mask.shape[1] + 1
    for name, tensor in kept.items():
        assert tensor.grad is not None
        if name == "values":
            moved = tensor.grad[:, :, 0] != 0  # already those of the completion's states
        else:
            moved = (tensor.grad[:, -columns:-1] != 0).any(dim=-1)
            assert not tensor.grad[:, -1].any()
            assert not tensor.grad[:, :-columns].any()
        assert torch.equal(moved, mask.bool()), name
    for trained in (policy, model.critic) if module is ppo else (policy,):
        gradient = trained.get_input_embeddings().weight.grad
        assert not gradient[tokenizer.pad_token_id].any()
        assert gradient[2].any()


@torch.no_grad()
def padding(bench: Path, value_model: str = "reward_model") -> None:
    """An episode by itself, among longer ones, or padded with another token: the same numbers to 1e-5."""
    model, reference, judge, tokenizer, _, _ = loaded(bench, ppo, value_model=value_model)
    if value_model == "shared":
        torch.nn.init.normal_(model.head.weight)

    def read_all(prompts: Any, completions: Any, pad: int) -> list[Tensor]:
        batch = collate(prompts, completions, pad)
        judge.config.pad_token_id = pad
        tensors = [*model(batch, TEMPERATURE, with_entropy=True), reference.log_probs(batch, TEMPERATURE)]
        return [*(tensor * batch.mask for tensor in tensors), score_ids(judge, batch.ids, batch.attention)]

    together = read_all(REPEATED, COMPLETIONS, tokenizer.pad_token_id)
    for found, expected in zip(read_all(REPEATED, COMPLETIONS, 2), together, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    for row, (prompt, completion) in enumerate(zip(REPEATED, COMPLETIONS, strict=True)):
        for found, expected in zip(read_all([prompt], [completion], 2), together, strict=True):
            line = expected[row] if expected.ndim == 1 else expected[row, : len(completion)]
            assert torch.allclose(found[0], line, rtol=0, atol=1e-5)
