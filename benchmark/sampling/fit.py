"""What a model is asked: the text in its format, shortened to its budget where the task allows it."""

from __future__ import annotations

import contextlib
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmark.errors import UserError
from benchmark.records import Prompt, Sampling, Truncation

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
        else, ``keep_end`` the first words of the whole text, but not all of the document where its task names one.
    model_id
        What the user called the model, for the message.

    Returns
    -------
    Fitted
        The text unchanged where it fits; else with as many whole words as fit, or where a document's first one does
        not (Chinese is written without spaces), as many characters, and one at least.

    Raises
    ------
    UserError
        If it does not fit and cannot be made to.
    """
    with _not_warned_of_length():
        return _fit(prompt, limit, count, chat=chat, truncation=truncation, model_id=model_id)


def room_for_prompt(max_length: int, sampling: Sampling, model_id: str) -> int:
    """Count the tokens that an output leaves to its prompt; a `UserError` where that is none."""
    room = max_length - sampling.max_new_tokens
    if room < 1:
        raise UserError(
            f"{model_id}: the model has room for {max_length} tokens, and max_new_tokens is {sampling.max_new_tokens}, "
            "which leaves none to a prompt; take a model with a longer context"
        )
    return room


@contextlib.contextmanager
def _not_warned_of_length() -> Iterator[None]:
    """Keep transformers from saying that a text is too long for the model, which is what counting is to find out."""
    logger = logging.getLogger("transformers.tokenization_utils_base")

    def passes(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Token indices sequence length is longer than")

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)


def _fit(
    prompt: Prompt,
    limit: int | None,
    count: Callable[[str], int],
    *,
    chat: bool,
    truncation: Truncation,
    model_id: str,
) -> Fitted:
    text = prompt.chat if chat and prompt.chat is not None else prompt.text
    if limit is None or count(text) <= limit:
        return Fitted(_as_asked(prompt, text), shortened=False)
    where = f"{model_id}: prompt {prompt.doc_id} of {prompt.task} has {count(text)} tokens, and its budget is {limit}"
    # A template may have trimmed it. The last place: what stands before a document, a title say, may repeat its words.
    named = (prompt.shortens or "").strip()
    before, document, after = text.rpartition(named) if named else ("", "", text)
    cut: Callable[[int], str]
    if truncation == "keep_end":
        ends = len(before + document) if document else len(text)
        words = [word.start() for word in re.finditer(r"\S+", text) if word.start() < ends][::-1]
        letters = range(ends - 1, words[0], -1) if document else range(0)
        within, cut = text, lambda start: text[start:]
    else:
        if not named:
            raise UserError(
                f"{where}; its task names no part of it that may be shortened, so raise max_prompt_tokens, lower "
                "max_new_tokens or take a model with more room"
            )
        if not document:
            raise UserError(f"{where}; what its task's metadata.shortens names is not in it")
        words = [word.end() for word in re.finditer(r"\S+", document)]
        letters = range(1, words[0])
        within, cut = document, lambda end: before + document[:end] + after
    place = _longest(words, cut, limit, count)
    if place is None:
        # An accent stays with its letter.
        places = [place for place in letters if not unicodedata.combining(within[place])]
        place = _longest(places, cut, limit, count)
    if place is None:
        raise UserError(f"{where}, too little for one word of what may be shortened")
    return Fitted(_as_asked(prompt, cut(place)), shortened=True)


def _longest(places: Sequence[int], cut: Callable[[int], str], limit: int, count: Callable[[str], int]) -> int | None:
    """Find the last place, of those that keep ever more, whose cut fits; None where none does.

    Counting is the cost, so the middle is tried first.
    """
    fits, too_many = 0, len(places) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if count(cut(places[middle - 1])) <= limit:
            fits = middle
        else:
            too_many = middle
    ahead = range(fits + 2, min(fits + 1 + LOOK_AHEAD, len(places)) + 1)
    most = max((number for number in ahead if count(cut(places[number - 1])) <= limit), default=fits)
    return places[most - 1] if most else None


def _as_asked(prompt: Prompt, text: str) -> Prompt:
    return prompt.model_copy(update={"text": text, "chat": None, "shortens": None})
