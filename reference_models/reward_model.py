"""Reward model: learn a score from preference pairs by the Bradley–Terry likelihood.

Details that decide whether it works: it starts from the fine-tuned policy; its head starts at std 1/√(d + 1) without a
bias; every sequence ends with its end-of-sequence token and is read there, at training and at use; all pairs of a
prompt's answers are learned from one reading of each answer; and afterwards the score is shifted and scaled to mean 0
and standard deviation 1 on references. Shift and scale are ``reward_mean`` and ``reward_std`` in ``config.json``,
applied by `benchmark.reward_model.score`; loaded without GenDiv, the checkpoint ranks the same, unshifted.

    gendiv train reward-model --recipe pocket/reward-model.yaml --set model=SFT data=preferences.jsonl output=RM
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.reward_model import score_ids, score_sequences
from reference_models.arguments import TrainingArguments, run_as_module
from reference_models.core import Batch, preference_losses
from reference_models.data import Comparisons, Epochs, collate_comparisons, encode, read_comparisons, read_pairs
from reference_models.models import load_tokenizer, load_whole, make_trainable, without_dropout
from reference_models.training import Progress, Training, silent

SHOWN = ("loss", "accuracy", "margin", "grad_norm", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class RewardModelArguments(TrainingArguments):
    """``data`` holds ``prompt``, ``chosen`` and ``rejected`` a line; a batch is of prompts, each with all its pairs."""

    references: str = ""
    """JSONL of ``prompt`` and ``completion`` whose scores become mean 0; default: the first chosen answer of
    every held-out prompt, or of every prompt where none is held out."""
    held_out: float = 0.1
    """Share of the prompts kept for the accuracy in ``training.json``, from the first; never trained on. Shuffle a file
    that is sorted by anything that matters."""


class Scorer(nn.Module):
    """A reward model whose forward is its score, for the wrappers of several processes to hook into."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Score sequences: [batch, length] → [batch]."""
        return score_ids(self.model, ids, attention)


def train(args: RewardModelArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Train, normalise, and write an `AutoModelForSequenceClassification` checkpoint with one label.

    ``training.json`` holds ``held_out_accuracy``: the share of held-out pairs that are ranked as labelled (equal
    scores count a half), and ``held_out_pairs``. Labels that are noisy bound it below 1.

    Returns
    -------
    pathlib.Path
        ``args.output``.
    """
    inputs = ("model", "data", "references")
    run = Training(args, "reward-model", inputs=inputs, shown=SHOWN, view=view, progress=progress)
    with run:
        if run.is_done:
            return run.output
        tokenizer = load_tokenizer(args.model)
        model = make_trainable(with_new_head(args.model, tokenizer, args.seed), args)
        examples = read_comparisons(Path(args.data), tokenizer)
        held_out, examples = hold_out(examples, args.held_out)
        batches = Epochs(len(examples), args.batch_size, args.seed, Path(args.data))

        def export(folder: Path) -> None:
            run.save_model(model, folder, prefix="model.")
            tokenizer.save_pretrained(folder)

        scorer = run.prepare(Scorer(model), export)
        for step in run.steps():
            rows = [examples[number] for number in batches[step]]
            mine = run.by_length(run.share(rows), lambda row: row.length)
            micro = [collate_comparisons(mine[part], tokenizer.pad_token_id) for part in run.micro(len(mine))]
            pairs = sum(len(row.pairs) for row in rows)
            seen: list[Tensor] = []
            metrics = run.descend(micro, partial(loss, scorer, seen), count=pairs)
            right, margin = run.total(torch.stack(seen).sum(dim=0)).tolist()
            run.log(step, {**metrics, "accuracy": right / pairs, "margin": margin / pairs})

        more: dict[str, float] = {}
        whole = run.whole(model, prefix="model.")
        if held_out:
            more |= {
                "held_out_accuracy": accuracy(whole, held_out),
                "held_out_pairs": sum(len(e.pairs) for e in held_out),
            }
        if args.references:
            pairs_ = read_pairs(Path(args.references))
            references = [[*p, *c] for p, c in (encode(tokenizer, prompt, completion) for prompt, completion in pairs_)]
        else:
            references = [[*e.prompt, *e.answers[chosen]] for e in held_out or examples for chosen, _ in e.pairs[:1]]
        more |= normalise(whole, references)
        model.config.reward_mean, model.config.reward_std = more["reward_mean"], more["reward_std"]
        return run.finish(**more)


def hold_out(examples: Sequence[Comparisons], share: float) -> tuple[list[Comparisons], list[Comparisons]]:
    """Split off the first examples; the rest is without their prompts, should one come again further down."""
    kept = round(share * len(examples))
    prompts = {tuple(example.prompt) for example in examples[:kept]}
    return list(examples[:kept]), [example for example in examples[kept:] if tuple(example.prompt) not in prompts]


def with_new_head(name: str, tokenizer: Any, seed: int) -> Any:
    """Load a language model's backbone under a new head of one label, without a bias, std 1/√(d + 1)."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # that the head is new is what is wanted here
    try:
        model = load_whole(AutoModelForSequenceClassification, name, new=("score", "classifier"), num_labels=1)
    finally:
        logging.set_verbosity(verbosity)
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise UserError(f"{name}: {type(model).__name__} has no linear `score` head; use a decoder-only model")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.normal_(0.0, (head.in_features + 1) ** -0.5, generator=generator)
        if head.bias is not None:
            head.bias.zero_()
    model.config.pad_token_id = tokenizer.pad_token_id
    # A language model that has been a reward model before must not bring its shift along.
    model.config.reward_mean, model.config.reward_std = 0.0, 1.0
    return without_dropout(model)


def loss(scorer: nn.Module, seen: list[Tensor], item: tuple[Batch, Tensor, Tensor]) -> Tensor:
    """Sum of the Bradley–Terry losses of a microbatch's pairs; ``seen`` gets (pairs ranked right, sum of margins)."""
    device = next(scorer.parameters()).device
    batch, chosen, rejected = item[0].to(device), item[1].to(device), item[2].to(device)
    scores = scorer(batch.ids, batch.attention)
    margins = scores[chosen] - scores[rejected]
    seen.append(torch.stack([(margins > 0).float().sum(), margins.detach().sum()]))
    return preference_losses(margins).sum()


def accuracy(model: Any, examples: Sequence[Comparisons]) -> float:
    """Share of pairs that are ranked as labelled; equal scores count a half."""
    scores = iter(score_sequences(model, [[*e.prompt, *answer] for e in examples for answer in e.answers]))
    right, count = 0.0, 0
    for example in examples:
        found = [next(scores) for _ in example.answers]
        for chosen, rejected in example.pairs:
            right += (found[chosen] > found[rejected]) + 0.5 * (found[chosen] == found[rejected])
            count += 1
    return right / count


def normalise(model: Any, references: Sequence[Sequence[int]]) -> dict[str, float]:
    """Make the references' scores mean 0 and standard deviation 1, by fields of the model's configuration."""
    raw = torch.tensor(score_sequences(model, references), dtype=torch.float64)
    mean, std = float(raw.mean()), float(raw.std(correction=0))
    model.config.reward_mean, model.config.reward_std = mean, std if std > 0 else 1.0
    return {"reward_mean": mean, "reward_std": model.config.reward_std}


if __name__ == "__main__":
    run_as_module(RewardModelArguments, train, __doc__)
