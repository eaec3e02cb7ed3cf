"""An NLI cross-encoder that is small and not trained: a checkpoint folder like any other."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = ["yes", "no", "it", "may", "be", "so", "is", "red", "blue", "green", ".", "!"]
"""Its vocabulary; all other words are one."""
ORDERS = {
    "bert": ["contradiction", "neutral", "entailment"],
    "roberta": ["Contradiction", "ENTAILMENT", "neutral"],
}
"""Labels of each kind, by column."""
POSITIONS = {"bert": 24, "roberta": 26}


def make_checkpoint(folder: Path, kind: str = "bert", seed: int = 0) -> Path:
    """Write a model of a dozen words and two layers; returns its folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    special = ["<pad>", "<unk>", "<s>", "</s>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1" if kind == "bert" else "<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 2), ("</s>", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])],
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    configuration, model = {
        "bert": (BertConfig, BertForSequenceClassification),
        "roberta": (RobertaConfig, RobertaForSequenceClassification),
    }[kind]
    config = configuration(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS[kind],
        initializer_range=0.3,
        pad_token_id=0,
        id2label=dict(enumerate(ORDERS[kind])),
    )
    model(config).save_pretrained(folder)
    return folder
