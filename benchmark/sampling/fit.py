"""What a model is asked: the text in its format, shortened to its budget where the task allows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.records import Prompt, Truncation

LOOK_AHEAD = 4
"""One word more can take fewer tokens where a merge crosses its edge, so a few longer ones are tried as well."""


class Fitted(NamedTuple):
    """A prompt as it will be asked."""

    prompt: Prompt
    """``text`` is what the model is sent; ``chat`` and ``shortens`` are None."""
    shortened: bool


def fit(
    prompt: Prompt,
    limit: int | None,
    count: Callable[[str], int],
    *,
    chat: bool,
    truncation: Truncation,
    model_id: str,
) -> Fitted:
    """Choose a prompt's text and fit it to a budget of tokens.

    Parameters
    ----------
    prompt
        As the task states it.
    limit
        Tokens that the model may read; None = any number.
    count
        Tokens that the model reads for a text, its chat template included.
    chat
        Send the chat message, where the task has one of its own, instead of the base-model format.
    truncation
        Of prompts that are too long: ``keep_start`` leaves out the last words of the prompt's document and nothing
        else, ``keep_end`` the first words of the whole text.
    model_id
        What the user called the model, for the message.

    Returns
    -------
    Fitted
        The text unchanged where it fits; else with as many whole words as fit, and one at least.

    Raises
    ------
    UserError
        If it does not fit and cannot be made to.
    """
    text = prompt.chat if chat and prompt.chat is not None else prompt.text
    if limit is None or count(text) <= limit:
        return Fitted(_as_asked(prompt, text), shortened=False)
    where = f"{model_id}: prompt {prompt.doc_id} of {prompt.task} has {count(text)} tokens, and its budget is {limit}"
    if truncation == "keep_end":
        words = [word.start() for word in re.finditer(r"\S+", text)]
        cuts = [text[start:] for start in reversed(words)]
    else:
        # A template may have trimmed it.
        document = (prompt.shortens or "").strip()
        if not document:
            raise UserError(
                f"{where}; its task names no part of it that may be shortened, so raise max_prompt_tokens, lower "
                "max_new_tokens or take a model with more room"
            )
        # The last place: what stands before a document, a title say, may repeat its words.
        before, document, after = text.rpartition(document)
        if not document:
            raise UserError(f"{where}; what its task's metadata.shortens names is not in it")
        words = [word.end() for word in re.finditer(r"\S+", document)]
        cuts = [before + document[:end] + after for end in words]
    most = _most_words(cuts, limit, count)
    if not most:
        raise UserError(f"{where}, too little for one word of what may be shortened")
    return Fitted(_as_asked(prompt, cuts[most - 1]), shortened=True)


def _most_words(cuts: list[str], limit: int, count: Callable[[str], int]) -> int:
    """Find how many words fit: ``cuts[n - 1]`` has n of them. Counting is the cost, so the middle is tried first."""
    fits, too_many = 0, len(cuts) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if count(cuts[middle - 1]) <= limit:
            fits = middle
        else:
            too_many = middle
    ahead = range(fits + 2, min(fits + 1 + LOOK_AHEAD, len(cuts)) + 1)
    return max((words for words in ahead if count(cuts[words - 1]) <= limit), default=fits)


def _as_asked(prompt: Prompt, text: str) -> Prompt:
    return prompt.model_copy(update={"text": text, "chat": None, "shortens": None})
