"""Tiny OPT checkpoints, whose embeddings may be of another width than their layers, as OPT-350M's are."""

from __future__ import annotations

from pathlib import Path

from tiny_runs import ARCHITECTURE, WORDS

from reference_models.tiny import make_checkpoint


def make_opt(folder: Path, width: int) -> Path:
    """Write an untrained OPT of five layers; ``width`` is the embeddings'."""
    import torch
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE)
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)) + 3, hidden_size=16, num_hidden_layers=5, ffn_dim=32,
        num_attention_heads=2, max_position_embeddings=64, word_embed_proj_dim=width, pad_token_id=0, eos_token_id=1,
        bos_token_id=1, init_std=0.2,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(folder)
    return folder
