"""Checkpoints of a few thousand weights: a policy, a reward model with the same tokenizer, and prompts.

The vocabulary is ``<pad>``, ``</s>`` and ``<unk>`` alone unless words are asked for. So a policy writes with the
padding token and the unknown one, and whatever takes a sampled padding token for padding is found out. Prompts begin
with different tokens, and none is of one token repeated: rotary attention alone cannot count equal tokens, and no
training could then reach the optimum.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from oracles import exact_sequences

from reference_models.tiny import make_checkpoint

PROMPTS = ("</s> x", "x </s> x")
LENGTH = 3
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,
}
SMALLER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
GPT2 = {"n_positions": 32, "n_embd": 32, "n_layer": 1, "n_head": 2, "initializer_range": 0.2}


def make_policy(folder: Path, *, seed: int, words: Sequence[str] = (), kind: str = "llama") -> Path:
    """Write a random Llama (rotary positions) or GPT-2 (learned absolute ones)."""
    make_checkpoint(folder, words, seed=seed, architecture=LLAMA)
    if kind == "gpt2":
        from transformers import GPT2LMHeadModel

        torch.manual_seed(seed)
        GPT2LMHeadModel(_gpt2_config(folder)).save_pretrained(folder)
    return folder


def make_judge(
    folder: Path, policy: Path, *, seed: int, mean: float = 0.0, std: float = 1.0, kind: str = "llama"
) -> Path:
    """Write a random reward model with a policy's tokenizer."""
    from transformers import AutoTokenizer, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(policy)
    config: Any = _gpt2_config(policy)
    if kind == "llama":
        common = {"num_labels": 1, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "dtype": "float32"}
        architecture = LLAMA | SMALLER | {"initializer_range": 0.3}
        config = LlamaConfig(vocab_size=len(tokenizer), **common, **architecture)
    config.reward_mean, config.reward_std = mean, std
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification if kind == "llama" else GPT2ForSequenceClassification
    model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _gpt2_config(policy: Path) -> Any:
    from transformers import AutoTokenizer, GPT2Config

    tokenizer = AutoTokenizer.from_pretrained(policy)
    common = {"num_labels": 1, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "dtype": "float32"}
    return GPT2Config(vocab_size=len(tokenizer), tie_word_embeddings=False, **common, **GPT2)


def write_prompts(path: Path, prompts: Sequence[str] = PROMPTS, times: int = 1) -> Path:
    """Write each prompt ``times`` times, one a line."""
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts for _ in range(times)))
    return path


def make_world(folder: Path, *, seed: int, kind: str = "llama") -> Path:
    """Write ``policy``, ``judge`` and ``prompts.jsonl`` whose rewards have mean 1 and variance 1 under the policy."""
    policy = make_policy(folder / "policy", seed=seed, kind=kind)
    judge = make_judge(folder / "judge", policy, seed=seed + 100)
    probabilities, raw = exact_sequences.raw_scores(policy, judge, PROMPTS, LENGTH)
    mean = (probabilities * raw).sum()
    std = (probabilities * (raw - mean) ** 2).sum().sqrt()
    make_judge(judge, policy, seed=seed + 100, mean=float(mean - std), std=float(std))
    write_prompts(folder / "prompts.jsonl", times=256)
    return folder
