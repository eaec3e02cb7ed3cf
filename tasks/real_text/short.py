"""Which documents a model of 1,024 tokens reads whole: by characters, so that every model is asked the same.

With the 8,192-token vocabulary of `reference_models.real_text` no prompt of the stand-ins that passes is longer than
699 tokens, and none with its reference longer than 737: there is room for any output, and for a reward model that reads
it written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.instructions.prompts import alpaca
from tasks.summarisation.prompts import cnn_dailymail, tldr

MOST_TO_SUMMARISE = 2400
"""Most characters of a prompt and its reference; news articles are long."""
MOST_TO_ANSWER = 1600
"""The same of an instruction and its answer, whose words are rarer and take more tokens."""


def post(document: Mapping[str, Any]) -> bool:
    """Whether a Reddit post has a summary and is short enough."""
    return _summarised(tldr(document), document["summary"])


def article(document: Mapping[str, Any]) -> bool:
    """Whether a news article has highlights and is short enough."""
    return _summarised(cnn_dailymail(document), document["highlights"])


def instruction(document: Mapping[str, Any]) -> bool:
    """Whether an instruction is short enough; it may have no answer to be compared with."""
    return len(alpaca(document)) + len(document.get("output") or "") <= MOST_TO_ANSWER


def _summarised(prompt: str, reference: str) -> bool:
    return bool(reference.strip()) and len(prompt) + len(reference) <= MOST_TO_SUMMARISE
