"""The prompt that Alpaca's and AlpacaFarm's models were trained on; an answer follows at once, without a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)


def alpaca(document: Mapping[str, Any]) -> str:
    """Write an ``instruction``, with its ``input`` where it has one."""
    given = document.get("input", "")
    if given.strip():
        return WITH_INPUT.format(instruction=document["instruction"], input=given)
    return WITHOUT_INPUT.format(instruction=document["instruction"])
