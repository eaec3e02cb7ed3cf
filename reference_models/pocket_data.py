"""Training data of the pocket ladder: pairs, prompts and labelled comparisons, all drawn from the generator."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmark.runs import write_atomically
from tasks.pocket.world import oracle, training_pairs

ANSWERS = 4
"""Answers of the policy to each prompt that is compared; every two different ones make a pair."""
LABEL_NOISE = 0.1
"""A labeller prefers a to b with probability σ((oracle(a) − oracle(b)) / this)."""
PAIRS, REFERENCES, PROMPTS = 20_000, 500, 4000
# Documents are numbered by seed: each kind of data has seeds of its own, and no evaluated prompt is among them.
COMPARED, SCORED, ASKED = 1_000_000, 2_000_000, 3_000_000


def write_pairs(folder: Path, seed: int) -> None:
    """Write what needs no model: ``sft.jsonl``, ``references.jsonl`` and ``prompts.jsonl``."""
    for name, number, offset in (
        ("sft", PAIRS, 0),
        ("references", REFERENCES, SCORED),
        ("prompts", PROMPTS, ASKED),
    ):
        _write_once(folder / f"{name}.jsonl", lambda n=number, s=seed + offset: _pairs(n, s))  # type: ignore[misc]


def write_comparisons(folder: Path, policy: Path, prompts: int, seed: int, report: Callable[[int], None]) -> None:
    """Write ``comparisons.jsonl``: every two different answers of the policy to a prompt, labelled with noise.

    Parameters
    ----------
    folder
        Of the data.
    policy
        The checkpoint that answers.
    prompts
        How many.
    seed
        Of prompts, answers and labels.
    report
        Called with the number of prompts answered since the last call.
    """
    path = folder / "comparisons.jsonl"
    _write_once(path, lambda: _comparisons(policy, prompts, seed, report))


def _pairs(number: int, seed: int) -> Iterator[dict[str, Any]]:
    for doc in training_pairs(number, seed):
        yield {"prompt": doc["prompt"], "completion": doc["reference"]}


def _comparisons(policy: Path, number: int, seed: int, report: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    from reference_models.models import load_policy, load_tokenizer
    from reference_models.rollouts import InProcessSampler

    tokenizer = load_tokenizer(str(policy))
    sampler = InProcessSampler(
        load_policy(str(policy)),
        is_copy=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=20,
        temperature=1.0,
        seed=seed,
        autocast=contextlib.nullcontext,
    )
    docs = list(training_pairs(number, seed + COMPARED))
    rng = random.Random(f"labels {seed}")
    for start in range(0, len(docs), 100):
        part = docs[start : start + 100]
        prompts = [tokenizer(doc["prompt"])["input_ids"] for doc in part]
        drawn = sampler.generate(prompts, ANSWERS, range(start, start + len(part)))
        texts = tokenizer.batch_decode([continuation.tokens for continuation in drawn], skip_special_tokens=True)
        for place, doc in enumerate(part):
            yield from _labelled(doc, texts[place * ANSWERS : (place + 1) * ANSWERS], rng)
        report(len(part))


def _labelled(doc: dict[str, Any], texts: list[str], rng: random.Random) -> Iterator[dict[str, Any]]:
    answers = list(dict.fromkeys(texts))
    scores = [oracle(doc, text) for text in answers]
    for a in range(len(answers)):
        for b in range(a):
            prefers_a = rng.random() < 1 / (1 + math.exp((scores[b] - scores[a]) / LABEL_NOISE))
            chosen, rejected = (a, b) if prefers_a else (b, a)
            yield {"prompt": doc["prompt"], "chosen": answers[chosen], "rejected": answers[rejected]}


def _write_once(path: Path, rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows()))
