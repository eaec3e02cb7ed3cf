"""An untrained small Llama with a word-level tokenizer, as an ordinary checkpoint for the trainers to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_checkpoint(folder: Path, words: Sequence[str], *, seed: int, architecture: dict[str, Any]) -> None:
    """Write a randomly initialised checkpoint.

    Parameters
    ----------
    folder
        Where; made if absent.
    words
        The vocabulary: whitespace-separated words, beside ``<pad>``, ``</s>`` and ``<unk>``.
    seed
        Of the initialisation.
    architecture
        Fields of `transformers.LlamaConfig`. For models this small, tied embeddings and ``initializer_range`` 0.1
        matter more than any trainer setting: with the usual 0.02 the model ignores the prompt for thousands of steps.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(set(words) - set(special))])}
    words_only = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words_only.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words_only,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=int(architecture["max_position_embeddings"]),
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary), pad_token_id=0, eos_token_id=1, bos_token_id=None, dtype="float32", **architecture
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
