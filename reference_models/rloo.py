"""REINFORCE leave-one-out (Ahmadian et al., arXiv 2402.14740): PPO without a value function.

Several completions of each prompt are drawn; the baseline of one is the mean reward of the others. A completion is one
action: its log-probability is the sum over its tokens, its reward the score − β · (sum of the KL penalty), and every
*completion* counts alike, which is what makes the gradient that of the expected reward. With one epoch and one
minibatch it is plain REINFORCE; more take PPO's clipped ratio, of whole completions.

    gendiv train rloo --recipe pocket/rloo.yaml --set model=SFT reward_model=RM data=prompts.jsonl output=RLOO
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.reward_model import score_ids
from benchmark.sampling.kv_cache import Continuation
from reference_models.arguments import run_as_module
from reference_models.core import (
    Batch,
    collate,
    entropy,
    kl_estimate,
    leave_one_out,
    masked_mean,
    penalise_unfinished,
    policy_losses,
    token_log_probs,
)
from reference_models.data import Epochs, encode, read_prompts
from reference_models.models import (
    Reference,
    compile_layers,
    compiled_like,
    completion_log_probs,
    completion_logits,
    load_judge,
    load_policy,
    load_tokenizer,
    make_trainable,
    warn_of_weak_judge,
)
from reference_models.rollouts import RolloutArguments, make_sampler
from reference_models.training import Progress, Training, silent

SHOWN = ("reward", "kl", "entropy", "length", "eos_share", "clip_fraction", "policy_loss", "grad_norm")


@dataclass(frozen=True, kw_only=True)
class RLOOArguments(RolloutArguments):
    """``data`` holds a ``prompt`` a line; a step is an update, ``batch_size`` its completions over all prompts."""

    samples: int = 4
    """Completions a prompt, at least 2."""
    epochs: int = 1
    """Passes over the completions of an update."""
    minibatches: int = 1
    """Gradient steps a pass."""


class Rollout(NamedTuple):
    """Completions of one update, or some of them."""

    batch: Batch
    log_probs: Tensor
    """[batch]: of whole completions."""
    advantages: Tensor
    """[batch]."""

    def rows(self, index: slice) -> Rollout:
        """Take some completions."""
        return Rollout(self.batch.rows(index), self.log_probs[index], self.advantages[index])

    def tight(self) -> Rollout:
        """See `Batch.tight`."""
        return self._replace(batch=self.batch.tight())


def train(args: RLOOArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Train, and write an ordinary Hugging Face checkpoint.

    Returns
    -------
    pathlib.Path
        ``args.output``.
    """
    inputs = ("model", "data", "reward_model")
    run = Training(args, "rloo", inputs=inputs, shown=SHOWN, view=view, progress=progress)
    per_step = args.samples * args.minibatches * run.processes
    if args.samples < 2 or args.epochs < 1 or per_step < 1 or args.batch_size % per_step:
        raise UserError(
            f"batch_size {args.batch_size} must be a multiple of samples × minibatches × processes = {per_step}, "
            "samples at least 2 and epochs at least 1"
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
        reference = Reference(policy, args, run.device, run.accelerator.autocast)

        def export(folder: Path) -> None:
            run.save_model(policy, folder)
            tokenizer.save_pretrained(folder)

        model = run.prepare(policy, export)
        sampler = make_sampler(policy, tokenizer, args, run)
        prompts = [encode(tokenizer, prompt)[0] for prompt in read_prompts(Path(args.data))]
        batches = Epochs(len(prompts), args.batch_size // args.samples, args.seed, Path(args.data))
        for update in run.steps():
            numbers = batches[update]
            size = len(numbers) // args.minibatches
            parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
            shares = map(run.share, parts)
            rows = [number for share in shares for number in run.by_length(share, lambda row: len(prompts[row]))]
            asked = [prompts[row] for row in rows]
            with run.timed("generating"):
                sampler.sync(update, partial(run.weights, ""))
                drawn = sampler.generate(asked, args.samples, rows)
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
    args: RLOOArguments,
    run: Training,
) -> tuple[Rollout, dict[str, float]]:
    """Turn completions into advantages, none of which carries a gradient.

    Returns
    -------
    tuple
        This process's completions, and metrics over all processes.
    """
    repeated = [prompt for prompt in prompts for _ in range(args.samples)]
    batch = collate(repeated, [continuation.tokens for continuation in drawn], pad_token_id).to(run.device)
    finished = torch.tensor([continuation.finished for continuation in drawn], device=run.device)
    mask = batch.mask
    with torch.no_grad():
        parts = [batch.rows(part).tight() for part in run.micro(len(drawn))]
        read = [_read(model, part, args.temperature) for part in parts]
        log_probs, entropies = (torch.cat(tensors) for tensors in zip(*read, strict=True))
        before = torch.cat([reference.log_probs(part, args.temperature) for part in parts])
        with run.accelerator.autocast():
            raw = torch.cat([score_ids(judge, part.ids, part.attention) for part in parts])
    scores = penalise_unfinished(raw, finished, args.missing_eos_penalty)
    kl = (kl_estimate(log_probs, before, args.kl_estimator) * mask).sum(dim=-1)
    advantages = leave_one_out((scores - args.kl_coef * kl).view(len(prompts), args.samples)).flatten()
    total = run.total
    count = total(torch.tensor(float(len(drawn)), device=run.device))
    log_ratios = total(((log_probs - before) * mask).sum())
    metrics = {
        "reward": total(scores.sum()) / count,
        "kl": log_ratios / count,
        "objective": (total(scores.sum()) - args.kl_coef * log_ratios) / count,
        "entropy": masked_mean(entropies, mask, total),
        "length": total(mask.sum()) / count,
        "eos_share": total(finished.float().sum()) / count,
    }
    rollout = Rollout(batch, (log_probs * mask).sum(dim=-1), advantages)
    return rollout, {name: float(value) for name, value in metrics.items()}


def _read(model: Any, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of a microbatch; its logits, much larger, are gone when this returns."""
    logits, _ = completion_logits(model, batch, temperature)
    log_probs = compiled_like(model, token_log_probs)(logits, batch.completions)
    return log_probs.masked_fill(batch.mask == 0, 0.0), compiled_like(model, entropy)(logits)


def learn(rollout: Rollout, model: Any, args: RLOOArguments, run: Training) -> dict[str, float]:
    """Take an update's gradient steps, and return their mean metrics."""
    size = len(rollout.log_probs) // args.minibatches
    sums: dict[str, float] = {}
    for _ in range(args.epochs):
        for start in range(0, len(rollout.log_probs), size):
            part = rollout.rows(slice(start, start + size))
            seen: list[Tensor] = []
            count = size * run.processes
            micro = [part.rows(rows).tight() for rows in run.micro(size)]
            found = run.descend(micro, partial(loss, model, args, seen), count=count)
            found["policy_loss"] = found["loss"]
            clipped, approx_kl = (run.total(torch.stack(seen).sum(dim=0)) / count).tolist()
            for name, value in (found | {"clip_fraction": clipped, "approx_kl": approx_kl}).items():
                sums[name] = sums.get(name, 0.0) + value
    return {name: value / (args.epochs * args.minibatches) for name, value in sums.items()}


def loss(model: Any, args: RLOOArguments, seen: list[Tensor], part: Rollout) -> Tensor:
    """Sum of the losses of a microbatch's completions.

    ``seen`` gets sums over the completions: those whose ratio is clipped, and the k3 estimate of KL(old ‖ new).
    """
    log_probs = (completion_log_probs(model, part.batch, args.temperature) * part.batch.mask).sum(dim=-1)
    with torch.no_grad():
        log_ratio = log_probs - part.log_probs
        clipped = ((log_ratio.exp() - 1).abs() > args.clip).float()
        seen.append(torch.stack([clipped.sum(), (torch.expm1(log_ratio) - log_ratio).sum()]))
    return policy_losses(log_probs, part.log_probs, part.advantages, args.clip).sum()


if __name__ == "__main__":
    run_as_module(RLOOArguments, train, __doc__)
