"""Supervised fine-tuning: maximise the likelihood of completions given their prompts.

Differs from the textbook only where a detail matters: the loss is on completion tokens alone, the end-of-sequence
token is one of them (else the model never learns to stop), padding is never the end-of-sequence token, every token of
a batch counts alike however the batch is split, dropout is off, Adam's epsilon is 1e-5, and the learning rate falls
linearly to zero.

    gendiv train sft --recipe pocket/sft.yaml --set model=MODEL data=pairs.jsonl output=CHECKPOINT
    accelerate launch -m reference_models.sft --recipe … --set …        # several processes
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from reference_models.arguments import TrainingArguments, run_as_module
from reference_models.core import Batch, collate
from reference_models.data import Epochs, encode, read_pairs
from reference_models.models import completion_log_probs, load_policy, load_tokenizer, make_trainable
from reference_models.training import Progress, Training, silent

SHOWN = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class SFTArguments(TrainingArguments):
    """``data`` holds a ``prompt`` and a ``completion`` a line."""


def train(args: SFTArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Fine-tune, and write an ordinary Hugging Face checkpoint.

    Returns
    -------
    pathlib.Path
        ``args.output``. It appears when it is complete; the same call continues a run that was stopped.

    Raises
    ------
    UserError
        If the arguments, data or tokenizer cannot be used; see `Training` and `DivergedError` too.
    """
    run = Training(args, "sft", inputs=("model", "data"), shown=SHOWN, view=view, progress=progress)
    with run:
        if run.is_done:
            return run.output
        tokenizer = load_tokenizer(args.model)
        policy = make_trainable(load_policy(args.model), args)

        def export(folder: Path) -> None:
            run.save_model(policy, folder)
            tokenizer.save_pretrained(folder)

        model = run.prepare(policy, export)
        pairs = [encode(tokenizer, prompt, completion) for prompt, completion in read_pairs(Path(args.data))]
        batches = Epochs(len(pairs), args.batch_size, args.seed, Path(args.data))
        for step in run.steps():
            rows = [pairs[number] for number in batches[step]]
            mine = run.by_length(run.share(rows), lambda row: len(row[0]) + len(row[1]))
            parts = [mine[part] for part in run.micro(len(mine))]
            micro = [
                collate([p for p, _ in part], [c for _, c in part], tokenizer.pad_token_id, end_together=run.is_cut)
                for part in parts
            ]
            # Every process knows the whole batch, and so how many tokens it has.
            tokens = sum(len(completion) for _, completion in rows)
            run.log(step, run.descend(micro, partial(nll, model), count=tokens))
        return run.finish()


def nll(model: nn.Module, batch: Batch) -> Tensor:
    """Negative log-likelihood of a batch's completions, summed over their tokens, in nats."""
    return -completion_log_probs(model, batch.to(next(model.parameters()).device)).sum()


if __name__ == "__main__":
    run_as_module(SFTArguments, train, __doc__)
