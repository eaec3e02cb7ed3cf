"""A small model of real text, from nothing: its tokenizer, its untrained checkpoint and what it reads first.

Everything that shares 13 words in a row with an evaluated prompt or its reference is left out, and counted.

    gendiv data export gendiv_tldr --out tldr.jsonl
    gendiv data export gendiv_alpaca_farm --out alpaca.jsonl
    python -m reference_models.real_text --corpora DIR --pairs tldr.jsonl alpaca.jsonl --out real-text
    gendiv train sft --recipe real-text/pretrain.yaml --set model=real-text/init data=real-text/pretrain.jsonl output=A
    gendiv train sft --recipe real-text/sft.yaml --set model=A data=real-text/pairs.jsonl output=B
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.contamination import Evaluated, evaluated_texts
from benchmark.errors import UserError
from benchmark.runs import write_atomically

SUITES = ("summarisation", "instructions")
VOCABULARY = 8192
POSITIONS = 1024
ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": True,
}
START, PASSAGE = 12, 260
"""Words that a passage begins with as the prompt, and words of a whole passage."""
LONGEST = 520
"""Words of the longest row: with this tokenizer it leaves room in 1,024 positions."""

Row = dict[str, str]


def prepare(corpora: Path, pairs: Sequence[Path], out: Path, *, seed: int = 1) -> dict[str, int]:
    """Write ``init/``, ``pretrain.jsonl`` and ``pairs.jsonl``.

    Parameters
    ----------
    corpora
        Folder of ``*.txt.gz`` (plain text) and ``*.jsonl.gz`` (``text``, or ``prompt`` and ``completion``).
    pairs
        JSONL of `gendiv data export`.
    out
        Folder; made if absent.
    seed
        Of the order of the rows and of the untrained weights.

    Returns
    -------
    dict[str, int]
        How many rows were kept and left out, and why.

    Raises
    ------
    UserError
        If a folder or file is missing, empty or not what it should be.
    """
    evaluated = Evaluated(evaluated_by_the_suites())
    counts: Counter[str] = Counter()
    first = list(_kept(_corpus_rows(corpora), evaluated, counts, "pretrain"))
    then = list(_kept(_read_pairs(pairs), evaluated, counts, "pairs"))
    if not first or not then:
        raise UserError("nothing is left to train on", where=corpora if not first else pairs[0])
    random.Random(seed).shuffle(first)
    write_atomically(out / "pretrain.jsonl", _jsonl(first))
    write_atomically(out / "pairs.jsonl", _jsonl(then))
    make_checkpoint(out / "init", [row["prompt"] + row["completion"] for row in first + then], seed=seed)
    return dict(sorted(counts.items()))


def make_checkpoint(folder: Path, texts: Sequence[str], *, seed: int) -> None:
    """Write an untrained Llama whose byte-level BPE tokenizer was trained on some texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "</s>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="</s>",
        model_max_length=POSITIONS,
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=None, dtype="float32", **ARCHITECTURE
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def evaluated_by_the_suites() -> Iterator[str]:
    """List the texts that both suites evaluate, prompts and references."""
    from benchmark.suites import load_prompts, load_suite

    for suite in SUITES:
        for prompts in load_prompts(load_suite(suite)).values():
            yield from evaluated_texts(prompts)


def _kept(rows: Iterable[Row], evaluated: Evaluated, counts: Counter[str], name: str) -> Iterator[Row]:
    for row in rows:
        text = f"{row['prompt']} {row['completion']}"
        if any(map(evaluated.overlap, [text, row["completion"], *parts(row["prompt"])])):
            counts[f"{name}: overlaps with an evaluated text"] += 1
        elif len(text.split()) > LONGEST:
            counts[f"{name}: too long"] += 1
        else:
            counts[f"{name}: kept"] += 1
            yield row


def parts(prompt: str) -> list[str]:
    """List what of a prompt may be a whole instruction: itself, a line, or what stands between a template's marks."""
    lines = prompt.splitlines()
    told = [line for line in lines if not line.startswith("###")]
    return [prompt, *lines, " ".join(told), " ".join(told[1:])]


def _corpus_rows(folder: Path) -> Iterator[Row]:
    paths = sorted([*folder.glob("*.txt.gz"), *folder.glob("*.jsonl.gz")])
    if not paths:
        raise UserError("no *.txt.gz or *.jsonl.gz in it", where=folder)
    for path in paths:
        # Old texts hold bytes of other encodings; a replaced letter harms nothing here.
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            if path.name.endswith(".txt.gz"):
                yield from _passages(file.read())
                continue
            for number, line in enumerate(file, start=1):
                row = _parsed(line, f"{path}:{number}")
                if "text" in row:
                    yield from _passages(row["text"])
                elif row["prompt"].strip() and row["completion"].strip():
                    yield {"prompt": row["prompt"], "completion": f" {row['completion'].strip()}"}


def _parsed(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=where) from None
    for fields in (("text",), ("prompt", "completion")):
        if isinstance(row, dict) and all(isinstance(row.get(field), str) for field in fields):
            return {field: row[field] for field in fields}
    raise UserError("needs text, or prompt and completion", where=where)


def _passages(text: str) -> Iterator[Row]:
    """Cut running text into rows: the first words are the prompt, the rest of the passage is to be continued."""
    found = text.split()
    for start in range(0, len(found), PASSAGE):
        passage = found[start : start + PASSAGE]
        if len(passage) > 2 * START:
            yield {"prompt": " ".join(passage[:START]), "completion": " " + " ".join(passage[START:])}


def _read_pairs(paths: Sequence[Path]) -> Iterator[Row]:
    from reference_models.data import read_pairs

    for path in paths:
        for prompt, completion in read_pairs(path):
            yield {"prompt": prompt, "completion": completion}


def _jsonl(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Run as a module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        counts = prepare(arguments.corpora, arguments.pairs, arguments.out, seed=arguments.seed)
    except UserError as error:
        sys.exit(f"error: {error}")
    for what, count in counts.items():
        print(f"{what}: {count}")


if __name__ == "__main__":
    main()
