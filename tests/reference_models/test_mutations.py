"""Known mistakes turn checks red: each is put into the source, and the check that the ordinary tests call must fail.

What only a whole run shows is in test_exact_optimum.py: with k3 or k2 in the reward, the run misses the optimum.
"""

import sys
import types
from pathlib import Path

import pytest
from oracles import core_checks, trainer_checks

from reference_models import core, models, ppo, rloo

MODULES = (core, models, ppo, rloo)


def mutate(monkeypatch, module, *changes: str) -> None:
    """Put functions and classes compiled from a changed source in the place of the right ones, wherever they are used.

    Changes are old and new texts in turn. An old text must stand in the source once, so that a mutation cannot go stale
    in silence.
    """
    source = Path(module.__file__).read_text(encoding="utf-8")
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        if source.count(old) != 1:
            pytest.fail(f"{old!r} stands {source.count(old)} times in {module.__name__}")
        source = source.replace(old, new)
    mutant = types.ModuleType(f"{module.__name__}_mutant")
    monkeypatch.setitem(sys.modules, mutant.__name__, mutant)
    exec(compile(source, module.__file__, "exec"), mutant.__dict__)
    for name, right in list(vars(module).items()):
        if getattr(right, "__module__", None) == module.__name__:
            for user in MODULES:
                if vars(user).get(name) is right:
                    monkeypatch.setattr(user, name, vars(mutant)[name])


CORE = {
    "k3 for k1": (
        core_checks.estimates,
        'if estimator == "k1":\n        return log_ratio',
        'if estimator == "k1":\n        return torch.expm1(-log_ratio) + log_ratio',
    ),
    "k1 of the wrong sign": (
        core_checks.estimates,
        "log_ratio = log_probs - reference\n",
        "log_ratio = reference - log_probs\n",
    ),
    "GAE carries advantages over from padding": (
        core_checks.advantages,
        "carried = (delta + gamma * lam * carried) * mask[:, t]",
        "carried = delta + gamma * lam * carried",
    ),
    "GAE carries values over from padding": (
        core_checks.advantages,
        "next_value = values[:, t] * mask[:, t]",
        "next_value = values[:, t]",
    ),
    "GAE off by one in the rewards": (
        core_checks.advantages,
        "delta = rewards[:, t] +",
        "delta = rewards[:, t - 1] +",
    ),
    "GAE off by one in the values": (
        core_checks.advantages,
        "gamma * next_value - values[:, t]",
        "gamma * values[:, t] - next_value",
    ),
    "GAE without discount": (core_checks.advantages, "gamma * lam * carried", "lam * carried"),
    "whitening over padding": (
        core_checks.whitening,
        "mean = masked_mean(values, mask, total)\n    return (values - mean) * torch.rsqrt(",
        "mean = values.mean()\n    return (values - mean) * torch.rsqrt(",
    ),
    "whitening with the mean added back": (
        core_checks.whitening,
        "+ 1e-8) * mask",
        "+ 1e-8) * mask + mean * mask",
    ),
    "whitening leaves padding": (core_checks.whitening, "+ 1e-8) * mask", "+ 1e-8)"),
    "mean of the means of sequences": (
        core_checks.means,
        "return total((values * mask).sum()) / count",
        "return ((values * mask).sum(dim=-1) / mask.sum(dim=-1)).mean()",
    ),
    "reward past the end": (
        core_checks.rewards,
        "last = mask.sum(dim=-1).long() - 1",
        "last = mask.sum(dim=-1).long().clamp(max=mask.shape[1] - 1)",
    ),
    "reward in the last column": (
        core_checks.rewards,
        "last = mask.sum(dim=-1).long() - 1",
        "last = torch.full_like(mask[:, 0], mask.shape[1] - 1).long()",
    ),
    "KL penalty on padding": (core_checks.rewards, "rewards = -kl_coef * kl * mask", "rewards = -kl_coef * kl"),
    "an unfinished completion keeps its score": (
        core_checks.unfinished,
        "scores.clamp(max=0) - penalty",
        "scores - penalty",
    ),
    "the baseline holds the reward itself": (core_checks.baselines, " * (n / (n - 1))", ""),
    "optimistic clipping": (core_checks.clipped_losses, "return -torch.minimum(", "return -torch.maximum("),
    "values are not clipped": (
        core_checks.clipped_losses,
        "held = old + (values - old).clamp(-clip, clip)",
        "held = values",
    ),
}

PPO = {
    "policy loss on padding": (
        trainer_checks.ppo_step,
        "part.advantages, args.clip) * mask).sum()",
        "part.advantages, args.clip)).sum()",
    ),
    "value loss on padding": (
        trainer_checks.ppo_step,
        "part.returns, args.value_clip) * mask).sum()",
        "part.returns, args.value_clip)).sum()",
    ),
    "sequence-mean for token-mean": (
        trainer_checks.ppo_step,
        "part.advantages, args.clip) * mask).sum()",
        "part.advantages, args.clip) * mask / mask.sum(-1, keepdim=True) * mask.sum() / len(mask)).sum()",
    ),
    "episodes counted for tokens": (
        trainer_checks.ppo_step,
        "tokens = float(run.total(episodes.batch.mask.sum()))",
        "tokens = float(size)",
    ),
    "whitening without its mask": (
        trainer_checks.ppo_episodes,
        "whiten(advantages, mask, total)",
        "whiten(advantages, torch.ones_like(mask), total)",
    ),
    "GAE without its mask": (
        trainer_checks.ppo_episodes,
        "gae(rewards, values, mask,",
        "gae(rewards, values + 1 - mask, torch.ones_like(mask),",
    ),
    "k3 in the reward": (
        trainer_checks.ppo_episodes,
        "kl = kl_estimate(log_probs, before, args.kl_estimator)",
        'kl = kl_estimate(log_probs, before, "k3")',
    ),
    "values of the state after the token": (
        trainer_checks.ppo_episodes,
        "before = slice(-batch.mask.shape[1] - 1, -1)",
        "before = slice(-batch.mask.shape[1], None)",
    ),
    "values not normalised as scores are": (trainer_checks.ppo_episodes, "[..., 0] - mean) / std", "[..., 0])"),
    "the reference at another temperature": (
        trainer_checks.ppo_episodes,
        "reference.log_probs(part, args.temperature)",
        "reference.log_probs(part)",
    ),
}

RLOO = {
    "k3 in the reward": (
        trainer_checks.rloo_episodes,
        "(kl_estimate(log_probs, before, args.kl_estimator) * mask)",
        '(kl_estimate(log_probs, before, "k3") * mask)',
    ),
    "baselines over all prompts": (
        trainer_checks.rloo_episodes,
        ".view(len(prompts), args.samples)",
        ".view(1, -1)",
    ),
    "completions of a prompt are taken for those of several": (
        trainer_checks.rloo_episodes,
        ".view(len(prompts), args.samples)).flatten()",
        ".view(args.samples, len(prompts)).T).T.flatten()",
    ),
    "tokens averaged in a completion": (
        trainer_checks.rloo_step,
        "args.temperature) * part.batch.mask).sum(dim=-1)",
        "args.temperature) * part.batch.mask).mean(dim=-1)",
    ),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Absolute positions: rotary ones are relative, and hide a shift."""
    return trainer_checks.make_bench(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.mark.parametrize(("check", "old", "new"), CORE.values(), ids=CORE)
def test_a_mistake_in_the_core_is_seen(monkeypatch, check, old, new):
    def on_all_shapes() -> None:
        for number, lengths in enumerate(core_checks.LENGTHS):
            check(lengths, number) if "lengths" in check.__annotations__ else check()

    on_all_shapes()
    mutate(monkeypatch, core, old, new)
    with pytest.raises(AssertionError):
        on_all_shapes()


@pytest.mark.parametrize(("check", "old", "new"), PPO.values(), ids=PPO)
def test_a_mistake_in_ppo_is_seen(monkeypatch, bench, check, old, new):
    check(bench)
    mutate(monkeypatch, ppo, old, new)
    with pytest.raises(AssertionError):
        check(bench)


@pytest.mark.parametrize(("check", "old", "new"), RLOO.values(), ids=RLOO)
def test_a_mistake_in_rloo_is_seen(monkeypatch, bench, check, old, new):
    check(bench)
    mutate(monkeypatch, rloo, old, new)
    with pytest.raises(AssertionError):
        check(bench)


@pytest.mark.parametrize("check", [trainer_checks.padding, trainer_checks.ppo_episodes, trainer_checks.rloo_episodes])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kwargs["position_ids"] = batch.positions', "pass"),
        ("attention_mask=batch.attention, ", "attention_mask=torch.ones_like(batch.attention), "),
        ("attention_mask=batch.attention, ", "attention_mask=(batch.ids != 0).long(), "),
    ],
    ids=["positions dropped", "padding attended to", "a sampled padding token taken for padding"],
)
def test_a_mistake_about_padding_is_seen(monkeypatch, bench, check, old, new):
    mutate(monkeypatch, models, old, new)
    with pytest.raises(AssertionError):
        check(bench)


@pytest.mark.parametrize("check", [trainer_checks.ppo_episodes, trainer_checks.rloo_episodes])
def test_a_temperature_left_out_is_seen(monkeypatch, bench, check):
    mutate(monkeypatch, models, "else logits / temperature", "else logits")
    with pytest.raises(AssertionError):
        check(bench)


def test_a_reward_past_the_end_leaves_no_gradient(monkeypatch, bench):
    _, old, new = CORE["reward past the end"]
    mutate(monkeypatch, core, old, new)
    monkeypatch.setattr(trainer_checks, "token_rewards", core.token_rewards)
    with pytest.raises(AssertionError):
        trainer_checks.gradients(bench, ppo)


def test_losses_on_padding_leave_a_gradient(monkeypatch, bench):
    _, old, new = PPO["value loss on padding"]
    mutate(monkeypatch, ppo, old, new)
    with pytest.raises(AssertionError):
        trainer_checks.gradients(bench, ppo)


@pytest.mark.parametrize(
    ("check", "old", "new"),
    [
        (
            trainer_checks.rloo_step,
            "(completion_log_probs(model, part.batch, args.temperature) * part.batch.mask).sum(dim=-1)",
            "completion_log_probs(model, part.batch, args.temperature).sum(dim=-1)",
        ),
        (
            trainer_checks.rloo_episodes,
            "(kl_estimate(log_probs, before, args.kl_estimator) * mask).sum(dim=-1)",
            "kl_estimate(log_probs, before, args.kl_estimator).sum(dim=-1)",
        ),
        (trainer_checks.rloo_episodes, "Rollout(batch, (log_probs * mask).sum", "Rollout(batch, log_probs.sum"),
    ],
    ids=["loss", "KL", "old log-probabilities"],
)
def test_both_masks_of_rloo_dropped_are_seen(monkeypatch, bench, check, old, new):
    """Log-probabilities are 0 on padding, and masked again where they are added up; either alone would do."""
    mutate(monkeypatch, models, ".masked_fill(batch.mask == 0, 0.0)", "")
    check(bench)
    mutate(monkeypatch, rloo, ".masked_fill(batch.mask == 0, 0.0)", "", old, new)
    with pytest.raises(AssertionError):
        check(bench)
