"""Supervised fine-tuning: maximise the likelihood of completions given their prompts.

Differs from the textbook only where a detail matters: the loss is on completion tokens alone, the end-of-sequence
token is one of them (else the model never learns to stop), padding is never the end-of-sequence token, every token of
a batch counts alike, dropout is off, Adam's epsilon is 1e-5, and the learning rate falls linearly to zero.

    python -m reference_models.sft --recipe reference_models/recipes/pocket/sft.yaml \
        --set model=MODEL data=pairs.jsonl output=CHECKPOINT
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SFTArguments:
    """What a run of supervised fine-tuning needs; everything that changes its weights is here."""

    model: str
    """Checkpoint folder or hub id to start from."""
    data: str
    """JSONL with ``prompt`` and ``completion``, one pair a line."""
    output: str
    """Folder of the new checkpoint."""
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    seed: int
    adam_eps: float = 1e-5
    threads: int = 1
    """CPU threads. One is often the fastest for small models, and never the slow side of oversubscription."""


def train(args: SFTArguments, *, progress: Callable[[int, dict[str, float]], None] = lambda *_: None) -> Path:
    """Fine-tune and save an ordinary Hugging Face checkpoint with a ``training.json``.

    Parameters
    ----------
    args
        See `SFTArguments`.
    progress
        Called after every step with its number (from 1) and its metrics.

    Returns
    -------
    pathlib.Path
        The checkpoint folder. It appears when it is complete, and not before.

    Raises
    ------
    ValueError
        If the tokenizer has no padding token of its own, or the data are not prompt–completion pairs.
    FloatingPointError
        If the loss is no longer finite.
    """
    import torch
    from accelerate import Accelerator
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reference_models.core import collate, masked_mean, token_log_probs

    started = time.perf_counter()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ValueError(f"{args.model}: the tokenizer needs a padding token that is not its end-of-sequence token")
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]  # no dropout; gradients flow all the same
    pairs = [
        (tokenizer(prompt)["input_ids"], [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id])
        for prompt, completion in read_pairs(Path(args.data))
    ]

    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=args.learning_rate,
        eps=args.adam_eps,
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    batches = epochs(len(pairs), args.batch_size, args.seed)
    losses: list[float] = []
    for step in range(1, args.steps + 1):
        rate = args.learning_rate * min(step / max(args.warmup_steps, 1), 1 - (step - 1) / args.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = [pairs[number] for number in next(batches)]
        batch = collate([p for p, _ in chosen], [c for _, c in chosen], tokenizer.pad_token_id)
        ids, attention, completion = (tensor.to(accelerator.device) for tensor in batch)
        logits = model(input_ids=ids, attention_mask=attention).logits
        loss = -masked_mean(token_log_probs(logits, ids), completion[:, 1:])
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: the loss is {losses[-1]}; a lower learning rate may help")
        progress(step, {"loss": losses[-1], "grad_norm": float(norm), "learning_rate": rate})

    record = {
        "method": "sft",
        "arguments": asdict(args),
        "data_sha256": hashlib.sha256(Path(args.data).read_bytes()).hexdigest(),
        "final_loss": sum(losses[-50:]) / len(losses[-50:]),
        "seconds": round(time.perf_counter() - started, 1),
    }
    output = Path(args.output)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    accelerator.unwrap_model(model).save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    (temporary / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    temporary.replace(output)
    return output


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Read (prompt, completion) pairs from a JSONL file.

    Raises
    ------
    ValueError
        Naming the first line that is no such pair, or the file if it is empty.
    """
    number = 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                yield str(row["prompt"]), str(row["completion"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: not a prompt–completion pair ({error!r})") from None
    if not number:
        raise ValueError(f"{path}: the file is empty")


def epochs(n: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of numbers below ``n`` for ever: each epoch a new permutation, its ragged end dropped."""
    import numpy as np

    if batch_size > n:
        raise ValueError(f"batch_size {batch_size} is more than the {n} pairs there are")
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        for start in range(0, n - batch_size + 1, batch_size):
            yield order[start : start + batch_size].tolist()


def read_recipe(path: Path, overrides: dict[str, Any]) -> SFTArguments:
    """Build the arguments from a YAML recipe and overrides.

    Raises
    ------
    ValueError
        If a field is unknown, missing, or not of its type.
    """
    import yaml

    values = yaml.safe_load(path.read_text(encoding="utf-8")) | overrides
    known = {field.name: str(field.type) for field in fields(SFTArguments)}
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{path}: unknown field {unknown[0]!r}; there are: {', '.join(known)}")
    convert: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}
    try:
        return SFTArguments(**{name: convert[known[name]](value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="override fields of the recipe")
    options = parser.parse_args()
    overrides = dict(item.split("=", 1) for item in options.set)
    args = read_recipe(options.recipe, overrides)

    def report(step: int, metrics: dict[str, float]) -> None:
        if step % 100 == 0 or step == args.steps:
            print(json.dumps({"step": step, **{name: round(value, 4) for name, value in metrics.items()}}), flush=True)

    print(train(args, progress=report))


if __name__ == "__main__":
    main()
