"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290): learn from preference pairs without a reward.

The loss is −log σ(β · margin), where the margin is how much more likely the policy makes the chosen than the rejected
answer than the reference does; log-probabilities are summed over a completion's tokens, the end-of-sequence token
among them. The reference is the model that training starts from; with adapters it is the same model, adapters off.

    gendiv train dpo --recipe pocket/dpo.yaml --set model=SFT data=preferences.jsonl output=DPO
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from reference_models.arguments import TrainingArguments, run_as_module
from reference_models.core import Batch, preference_losses
from reference_models.data import Epochs, collate_comparisons, read_comparisons
from reference_models.models import Reference, completion_log_probs, load_policy, load_tokenizer, make_trainable
from reference_models.training import Progress, Training, silent

SHOWN = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward", "grad_norm")


@dataclass(frozen=True, kw_only=True)
class DPOArguments(TrainingArguments):
    """``data`` holds ``prompt``, ``chosen`` and ``rejected`` a line; a batch is of prompts, each with all its pairs."""

    beta: float = 0.1
    """How strongly the policy is held to the reference."""


def train(args: DPOArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Train, and write an ordinary Hugging Face checkpoint.

    Returns
    -------
    pathlib.Path
        ``args.output``.
    """
    run = Training(args, "dpo", inputs=("model", "data"), shown=SHOWN, view=view, progress=progress)
    with run:
        if run.is_done:
            return run.output
        tokenizer = load_tokenizer(args.model)
        policy = make_trainable(load_policy(args.model), args)
        reference = Reference(policy, args, run.device, run.accelerator.autocast)

        def export(folder: Path) -> None:
            run.save_model(policy, folder)
            tokenizer.save_pretrained(folder)

        model = run.prepare(policy, export)
        examples = read_comparisons(Path(args.data), tokenizer)
        batches = Epochs(len(examples), args.batch_size, args.seed, Path(args.data))
        for step in run.steps():
            rows = [examples[number] for number in batches[step]]
            mine = run.by_length(run.share(rows), lambda row: row.length)
            micro = [collate_comparisons(mine[part], tokenizer.pad_token_id) for part in run.micro(len(mine))]
            pairs = sum(len(row.pairs) for row in rows)
            seen: list[Tensor] = []
            metrics = run.descend(micro, partial(loss, model, reference, args.beta, seen), count=pairs)
            right, chosen, rejected = (run.total(torch.stack(seen).sum(dim=0)) / pairs).tolist()
            rewards = {"margin": chosen - rejected, "chosen_reward": chosen, "rejected_reward": rejected}
            run.log(step, {**metrics, "accuracy": right, **rewards})
        return run.finish()


def loss(
    model: nn.Module, reference: Reference, beta: float, seen: list[Tensor], item: tuple[Batch, Tensor, Tensor]
) -> Tensor:
    """Sum of a microbatch's losses; ``seen`` gets (pairs ranked right, rewards of the chosen, of the rejected)."""
    device = next(model.parameters()).device
    batch, chosen, rejected = item[0].to(device), item[1].to(device), item[2].to(device)
    log_ratio = completion_log_probs(model, batch) - reference.log_probs(batch)
    rewards = beta * (log_ratio * batch.mask).sum(dim=-1)
    margins = rewards[chosen] - rewards[rejected]
    seen.append(
        torch.stack([(margins > 0).float().sum(), *(rewards[rows].detach().sum() for rows in (chosen, rejected))])
    )
    return preference_losses(margins).sum()


if __name__ == "__main__":
    run_as_module(DPOArguments, train, __doc__)
