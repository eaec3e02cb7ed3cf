"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347) of a language model against a reward model.

An update: draw completions → score them → KL penalty in the reward → advantages → several passes of clipped gradient
steps. Where implementations differ, this one does the following, each with a test:

- the KL penalty is the plain log ratio (k1) a token. Only with it is the optimum π* ∝ π_ref · exp(r / β);
  k2, which the paper's code used, and k3 are there for study and optimise something else;
- the score lands on the last real action, the end-of-sequence token; a completion without one is scored at most 0, less
  a penalty;
- padding enters nothing: not the advantages, not their whitening, not a loss, not a count;
- advantages are whitened over the whole batch, and the mean is not added back;
- every token of a minibatch counts alike, however it is split over microbatches and processes;
- log-probabilities are those of the training forward pass at the sampling temperature, never the sampler's, so that the
  first ratio is exactly 1; dropout is off; Adam's epsilon is 1e-5; the learning rate falls linearly to 0;
- the value model is one of its own, started from the reward model, or a head on the policy's trunk (as in the paper).

    gendiv train ppo --recipe pocket/ppo.yaml --set model=SFT reward_model=RM data=prompts.jsonl output=PPO
    accelerate launch -m reference_models.ppo --recipe … --set …        # several processes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.reward_model import normalisation, score_ids
from benchmark.sampling.kv_cache import Continuation
from reference_models.arguments import run_as_module
from reference_models.core import (
    Batch,
    collate,
    entropy,
    gae,
    kl_estimate,
    masked_mean,
    masked_variance,
    penalise_unfinished,
    policy_losses,
    token_log_probs,
    token_rewards,
    value_losses,
    whiten,
)
from reference_models.data import Epochs, encode, read_prompts
from reference_models.models import (
    Reference,
    compile_layers,
    compiled_like,
    completion_logits,
    forward,
    load_judge,
    load_policy,
    load_tokenizer,
    make_trainable,
    plain,
    warn_of_weak_judge,
)
from reference_models.rollouts import RolloutArguments, make_sampler
from reference_models.training import Progress, Training, silent

SHOWN = ("reward", "kl", "entropy", "length", "eos_share", "clip_fraction", "value_loss", "explained_variance")


@dataclass(frozen=True, kw_only=True)
class PPOArguments(RolloutArguments):
    """``data`` holds a ``prompt`` a line; a step is an update, and ``batch_size`` its episodes."""

    epochs: int = 4
    """Passes over the episodes of an update."""
    minibatches: int = 1
    """Gradient steps a pass."""
    gamma: float = 1.0
    lam: float = 0.95
    value_clip: float = 0.2
    value_coef: float = 0.1
    value_model: Literal["reward_model", "shared"] = "reward_model"
    """A model of its own started from the reward model, or a new head on the policy's own trunk."""


class ActorCritic(nn.Module):
    """Policy and value function in one module, so that several processes wrap, and one optimizer trains, both.

    Parameters
    ----------
    policy
        A causal language model.
    critic
        A reward model, read at every position; None = a new head of zeros on the policy's last hidden state.
    """

    def __init__(self, policy: Any, critic: Any | None) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic
        # As wide as what the output matrix reads, which in OPT-350M is not the layers' width.
        width = plain(policy).get_output_embeddings().weight.shape[1]
        self.head = nn.Linear(width, 1) if critic is None else None
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, temperature: float, with_entropy: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Read a batch.

        Returns
        -------
        tuple
            Log-probabilities of the completion tokens, values of the states they were chosen in, and entropies of the
            distributions they were chosen from (zeros unless asked for): [batch, C] each.
        """
        before = slice(-batch.mask.shape[1] - 1, -1)
        if self.critic is None:
            logits, out = completion_logits(self.policy, batch, temperature, output_hidden_states=True)
            assert self.head is not None
            values = self.head(out.hidden_states[-1][:, before])[..., 0]
        else:
            logits, _ = completion_logits(self.policy, batch, temperature)
            critic = plain(self.critic)
            mean, std = normalisation(critic.config)
            hidden = forward(critic.base_model, batch).last_hidden_state[:, before]
            values = (critic.score(hidden)[..., 0] - mean) / std
        log_probs = compiled_like(self.policy, token_log_probs)(logits, batch.completions)
        # Filled, not multiplied: what stands on padding may be −∞, and must not reach a ratio or a difference.
        log_probs = log_probs.masked_fill(batch.mask == 0, 0.0)
        entropies = compiled_like(self.policy, entropy)(logits) if with_entropy else torch.zeros_like(log_probs)
        return log_probs, values.float(), entropies


class Rollout(NamedTuple):
    """Episodes of one update, or some rows of them: [batch, C] each but for the batch."""

    batch: Batch
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    """Whitened."""
    returns: Tensor

    def rows(self, index: slice) -> Rollout:
        """Take some episodes."""
        return Rollout(self.batch.rows(index), *(tensor[index] for tensor in self[1:]))

    def tight(self) -> Rollout:
        """See `Batch.tight`."""
        return self._replace(batch=self.batch.tight())


def train(args: PPOArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Train, and write an ordinary Hugging Face checkpoint of the policy.

    Returns
    -------
    pathlib.Path
        ``args.output``. It appears when it is complete; the same call continues a run that was stopped.

    Raises
    ------
    UserError
        If the arguments or data cannot be used; a `DivergedError` if the KL blows up or a loss is no number.
    """
    inputs = ("model", "data", "reward_model")
    run = Training(args, "ppo", inputs=inputs, shown=SHOWN, view=view, progress=progress)
    per_step = args.minibatches * run.processes
    if args.epochs < 1 or per_step < 1 or args.batch_size % per_step:
        raise UserError(
            f"batch_size {args.batch_size} must be a multiple of minibatches × processes = {per_step}, and epochs at "
            "least 1"
        )
    with run:
        if run.is_done:
            return run.output
        tokenizer = load_tokenizer(args.model)
        policy = make_trainable(load_policy(args.model), args)
        if run.accelerator.is_main_process:
            warn_of_weak_judge(args.reward_model)
        judge = load_judge(args.reward_model, tokenizer, run.device)
        if args.compile:
            compile_layers(judge)
        critic = make_critic(tokenizer, args, run) if args.value_model == "reward_model" else None
        reference = Reference(policy, args, run.device, run.accelerator.autocast)

        def export(folder: Path) -> None:
            run.save_model(policy, folder, prefix="policy.")
            tokenizer.save_pretrained(folder)

        model = run.prepare(ActorCritic(policy, critic), export)
        sampler = make_sampler(policy, tokenizer, args, run)
        prompts = [encode(tokenizer, prompt)[0] for prompt in read_prompts(Path(args.data))]
        batches = Epochs(len(prompts), args.batch_size, args.seed, Path(args.data))
        for update in run.steps():
            shares = (run.share(part) for part in minibatches(batches[update], args))
            rows = [number for share in shares for number in run.by_length(share, lambda row: len(prompts[row]))]
            asked = [prompts[row] for row in rows]
            with run.timed("generating"):
                sampler.sync(update, partial(run.weights, "policy."))
                drawn = sampler.generate(asked, 1, rows)
            with run.timed("scoring"):
                rollout, metrics = score(asked, drawn, model, reference, judge, tokenizer.pad_token_id, args, run)
            with run.timed("training"):
                metrics |= learn(rollout, model, args, run)
            run.log(update, metrics, limits={"kl": args.max_kl})
        return run.finish()


def score(
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[Continuation],
    model: Any,
    reference: Reference,
    judge: Any,
    pad_token_id: int,
    args: PPOArguments,
    run: Training,
) -> tuple[Rollout, dict[str, float]]:
    """Turn completions into episodes: rewards, values and advantages, none of which carries a gradient.

    Returns
    -------
    tuple
        This process's episodes, and metrics over all processes.
    """
    batch = collate(prompts, [continuation.tokens for continuation in drawn], pad_token_id).to(run.device)
    finished = torch.tensor([continuation.finished for continuation in drawn], device=run.device)
    with torch.no_grad():
        parts = [batch.rows(part).tight() for part in run.micro(len(drawn))]
        read = [model(part, args.temperature, with_entropy=True) for part in parts]
        log_probs, values, entropies = (torch.cat(tensors) for tensors in zip(*read, strict=True))
        before = torch.cat([reference.log_probs(part, args.temperature) for part in parts])
        with run.accelerator.autocast():
            raw = torch.cat([score_ids(judge, part.ids, part.attention) for part in parts])
    scores = penalise_unfinished(raw, finished, args.missing_eos_penalty)
    mask = batch.mask
    values = values * mask
    kl = kl_estimate(log_probs, before, args.kl_estimator)
    rewards = token_rewards(scores, kl, mask, args.kl_coef)
    advantages = gae(rewards, values, mask, args.gamma, args.lam)
    returns = advantages + values
    episodes, total = run.total(torch.tensor(float(len(drawn)), device=run.device)), run.total
    log_ratios = total(((log_probs - before) * mask).sum())
    residual, spread = (masked_variance(x, mask, total) for x in (returns - values, returns))
    metrics = {
        "reward": total(scores.sum()) / episodes,
        "kl": log_ratios / episodes,
        "objective": (total(scores.sum()) - args.kl_coef * log_ratios) / episodes,
        "entropy": masked_mean(entropies, mask, total),
        "length": total(mask.sum()) / episodes,
        "eos_share": total(finished.float().sum()) / episodes,
        "explained_variance": 1 - residual / spread.clamp(min=1e-8),
    }
    rollout = Rollout(batch, log_probs, values, whiten(advantages, mask, total), returns)
    return rollout, {name: float(value) for name, value in metrics.items()}


def learn(rollout: Rollout, model: Any, args: PPOArguments, run: Training) -> dict[str, float]:
    """Take an update's gradient steps, and return their mean metrics."""
    size = len(rollout.log_probs) // args.minibatches
    sums: dict[str, float] = {}
    for _ in range(args.epochs):
        for start in range(0, len(rollout.log_probs), size):
            episodes = rollout.rows(slice(start, start + size))
            tokens = float(run.total(episodes.batch.mask.sum()))
            micro = [episodes.rows(part).tight() for part in run.micro(size)]
            seen: list[Tensor] = []
            found = run.descend(micro, partial(loss, model, args, seen), count=tokens)
            names = ("policy_loss", "value_loss", "clip_fraction", "approx_kl")
            found |= dict(zip(names, (run.total(torch.stack(seen).sum(dim=0)) / tokens).tolist(), strict=True))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
    return {name: value / (args.epochs * args.minibatches) for name, value in sums.items()}


def loss(model: Any, args: PPOArguments, seen: list[Tensor], part: Rollout) -> Tensor:
    """Sum of the losses of a microbatch's tokens.

    ``seen`` gets sums over the tokens: policy loss, value loss, tokens whose ratio is clipped, and the k3 estimate of
    KL(old ‖ new).
    """
    log_probs, values, _ = model(part.batch, args.temperature)
    mask = part.batch.mask
    policy_loss = (policy_losses(log_probs, part.log_probs, part.advantages, args.clip) * mask).sum()
    value_loss = (value_losses(values, part.values, part.returns, args.value_clip) * mask).sum()
    with torch.no_grad():
        log_ratio = log_probs - part.log_probs
        clipped = ((log_ratio.exp() - 1).abs() > args.clip).float()
        approx_kl = torch.expm1(log_ratio) - log_ratio
        sums = [policy_loss, value_loss, (clipped * mask).sum(), (approx_kl * mask).sum()]
        seen.append(torch.stack([value.float() for value in sums]))
    return policy_loss + args.value_coef * value_loss


def minibatches(numbers: Sequence[int], args: PPOArguments) -> Iterator[Sequence[int]]:
    """Cut an update's episodes into its minibatches; they stay the same in every pass."""
    size = len(numbers) // args.minibatches
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def make_critic(tokenizer: Any, args: PPOArguments, run: Training) -> Any:
    """Start a value model from the reward model: the value of a state is about what would be scored there."""
    critic = load_judge(args.reward_model, tokenizer, run.device)
    if not isinstance(getattr(critic, "score", None), nn.Linear):
        raise UserError(f"{args.reward_model}: has no linear `score` head; set value_model=shared")
    return make_trainable(critic.requires_grad_(True), args)


if __name__ == "__main__":
    run_as_module(PPOArguments, train, __doc__)
