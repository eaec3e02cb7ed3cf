"""Checkpoints of a few thousand weights: a policy, a reward model with the same tokenizer, and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reference_models.tiny import make_checkpoint

WORDS = ("a", "b")
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}


def make_policy(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, **architecture: Any) -> Path:
    """Write a random Llama."""
    make_checkpoint(folder, words, seed=seed, architecture=LLAMA | architecture)
    return folder


def make_judge(
    folder: Path, policy: Path, *, seed: int = 1, mean: float = 0.0, std: float = 1.0, **architecture: Any
) -> Path:
    """Write a random reward model with a policy's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(policy)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
        **(LLAMA | {"initializer_range": 0.5} | architecture),
    )
    config.reward_mean, config.reward_std = mean, std
    torch.manual_seed(seed)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_gpt2(folder: Path, judge: Path, policy: Path, *, seed: int = 2) -> None:
    """Write a random policy and a random reward model with learned absolute positions, with a policy's tokenizer."""
    from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(policy)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        num_labels=1,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    torch.manual_seed(seed)
    for kind, where in ((GPT2LMHeadModel, folder), (GPT2ForSequenceClassification, judge)):
        kind(config).save_pretrained(where)
        tokenizer.save_pretrained(where)


def write_prompts(path: Path, prompts: Sequence[str], times: int = 1) -> Path:
    """Write each prompt ``times`` times, one a line."""
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts for _ in range(times)))
    return path
