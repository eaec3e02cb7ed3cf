"""Training data: JSONL in, token ids and batches out. Every order is a function of the seed and the step alone."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import UserError
from reference_models.core import Batch, collate


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read (prompt, completion) pairs.

    Raises
    ------
    UserError
        Naming the first line that is no such pair, or the file if it is absent or empty.
    """
    return [(prompt, completion) for prompt, completion in _read(path, ("prompt", "completion"))]


def read_prompts(path: Path) -> list[str]:
    """Read the prompts of a file of pairs or preferences; see `read_pairs` for what is refused."""
    return [prompt for (prompt,) in _read(path, ("prompt",))]


def read_preferences(path: Path) -> list[tuple[str, str, str]]:
    """Read (prompt, chosen, rejected) triples; see `read_pairs` for what is refused."""
    return [(prompt, chosen, rejected) for prompt, chosen, rejected in _read(path, ("prompt", "chosen", "rejected"))]


def _read(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if path.is_dir():
        raise UserError("is a folder; give a file of JSONL", where=path)
    if not path.is_file():
        raise UserError("no such file; `gendiv data export` makes one", where=path)
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                raise UserError("not UTF-8", where=where) from None
            except json.JSONDecodeError as error:
                raise UserError(f"not JSON: {error}", where=where) from None
            for name in wanted:
                if not isinstance(row, dict) or not isinstance(row.get(name), str):
                    raise UserError(f"needs a text under {name!r}", where=where)
            if not row["prompt"].strip():
                raise UserError("the prompt is empty", where=where)
            yield tuple(row[name] for name in wanted)
    if not number:
        raise UserError("the file is empty", where=path)


def encode(tokenizer: Any, prompt: str, completion: str | None = None) -> tuple[list[int], list[int]]:
    """Turn a prompt and a finished completion into token ids; the completion's end with the end-of-sequence token."""
    if completion is None:
        return list(tokenizer(prompt)["input_ids"]), []
    ids = list(tokenizer(completion, add_special_tokens=False)["input_ids"])
    return list(tokenizer(prompt)["input_ids"]), [*ids, tokenizer.eos_token_id]


class Epochs:
    """Batches for every step: each epoch a new permutation of the numbers below ``n``, its ragged end dropped.

    Step s is always the same batch, so that a resumed run needs no state of its own for it.
    """

    def __init__(self, n: int, batch_size: int, seed: int, where: Path) -> None:
        if batch_size > n:
            raise UserError(f"batch_size is {batch_size}, and there are {n} examples", where=where)
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, step: int) -> list[int]:
        """Numbers of the batch of a step, from 1."""
        epoch, place = divmod(step - 1, self.n // self.batch_size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return list(self._order[place * self.batch_size : (place + 1) * self.batch_size].tolist())


class Comparisons(NamedTuple):
    """What is known of one prompt's answers."""

    prompt: list[int]
    answers: list[list[int]]
    """Token ids of the different answers, each once: four answers compared in six pairs are read four times, not
    twelve."""
    pairs: list[tuple[int, int]]
    """(chosen, rejected), as numbers of answers."""

    @property
    def length(self) -> int:
        """Tokens of the prompt and its longest answer."""
        return len(self.prompt) + max(map(len, self.answers))


def read_comparisons(path: Path, tokenizer: Any) -> list[Comparisons]:
    """Read preference pairs; those that share a prompt and stand together become one example.

    A pair of equal answers tells nothing and is left out.
    """
    examples = []
    for prompt, group in itertools.groupby(read_preferences(path), key=lambda row: row[0]):
        pairs = [(chosen, rejected) for _, chosen, rejected in group if chosen != rejected]
        answers = list(dict.fromkeys(itertools.chain.from_iterable(pairs)))
        if not pairs:
            continue
        encoded = [encode(tokenizer, prompt, answer) for answer in answers]
        numbers = [(answers.index(chosen), answers.index(rejected)) for chosen, rejected in pairs]
        examples.append(Comparisons(encoded[0][0], [ids for _, ids in encoded], numbers))
    if not examples:
        raise UserError("no pair has two different answers", where=path)
    return examples


def collate_comparisons(examples: Sequence[Comparisons], pad_token_id: int) -> tuple[Batch, Tensor, Tensor]:
    """Put every answer of some examples into one batch.

    Returns
    -------
    tuple
        The batch, and for each pair the row of the chosen and of the rejected answer (int64 [pairs] both).
    """
    prompts = [example.prompt for example in examples for _ in example.answers]
    batch = collate(prompts, [answer for example in examples for answer in example.answers], pad_token_id)
    starts = itertools.accumulate((len(example.answers) for example in examples), initial=0)
    pairs = [(start + c, start + r) for start, example in zip(starts, examples, strict=False) for c, r in example.pairs]
    rows = torch.tensor(pairs, dtype=torch.long)
    return batch, rows[:, 0], rows[:, 1]


def sha256_of(name: str) -> str | None:
    """Hash a file, or the weights, configuration and tokenizer of a checkpoint folder; None for a name on a hub."""
    if not name:
        return None
    path = Path(name)
    if path.is_file():
        return _hash([path])
    if path.is_dir():
        kept = {".safetensors", ".json", ".model", ".txt"}
        skipped = {"training.json"}  # says how long it took, which changes no result
        files = [p for p in sorted(path.iterdir()) if p.suffix in kept and p.name not in skipped]
        return _hash(files)
    return None


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
