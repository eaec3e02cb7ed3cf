"""What a chat judge is asked: a pair and an order → the messages, and how long they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig
from benchmark.judging.judge import Pair

BYTES_A_TOKEN = 4.0
"""UTF-8 bytes of English text to a token, about; other languages have fewer. No tokenizer is loaded."""
TOKENS_A_MESSAGE = 8
"""Around every message: its role and the marks of the chat format."""
MOST_A_MESSAGE = 128
"""Around every message at most: some chat formats add a date, or a sentence of their own."""
FIXED = ("prompt", "document", "first", "second", "boundary")
"""What the template is told of a pair; a task's own words have other names."""
BOUNDARY = 12
"""Hexadecimal digits of a boundary."""


class Question:
    """A judge's template.

    The texts of a pair are data: nothing in them is read as a template, nothing is escaped. The template itself runs in
    Jinja's sandbox, for a judge's file may be anybody's. A template that puts ``boundary`` into the tags around a text
    (see `boundary_of`) cannot have them closed from within.

    Parameters
    ----------
    config
        Its ``user`` is the template; its ``system`` is sent as it is, and left out if it is empty.

    Raises
    ------
    UserError
        If the template is none, or a task's own words take the place of a pair's.
    """

    def __init__(self, config: ChatConfig) -> None:
        self.config = config
        self._template = self._parsed(config.user)
        for task, words in config.tasks.items():
            if taken := sorted(set(words) & set(FIXED)):
                raise UserError(f"judge {config.judge}: tasks.{task}: {taken[0]!r} is told of every pair; rename it")

    def check(self, pairs: Sequence[Pair]) -> None:
        """Refuse, before anything is paid for, tasks that the judge is not made for and a template that fails."""
        for pair in {pair.sample.task: pair for pair in pairs}.values():
            self.messages(pair, 0)

    def messages(self, pair: Pair, order: int) -> list[dict[str, str]]:
        """Write the messages for one pair.

        Parameters
        ----------
        pair
            The sample and what it is compared with.
        order
            0 shows the sample first, 1 the reference.

        Raises
        ------
        UserError
            If the judge is not made for the pair's task, or the template fails on it.
        """
        prompt, task = pair.prompt, pair.sample.task
        if (words := self.config.tasks.get(task)) is None:
            made_for = ", ".join(self.config.tasks) or "none"
            raise UserError(f"judge {self.config.judge} is not made for {task}; its tasks are: {made_for}")
        texts = (pair.sample.text, pair.reference)
        told: dict[str, Any] = {
            **words,
            "prompt": prompt.text if prompt.chat is None else prompt.chat,
            "document": prompt.shortens or "",
            "first": texts[order],
            "second": texts[1 - order],
        }
        told["boundary"] = boundary_of(pair.key, told.values())
        try:
            user = self._template.render(told)
        except Exception as error:  # a template can raise anything
            raise UserError(
                f"judge {self.config.judge}: its template fails on {prompt.doc_id} of {task}: "
                f"{type(error).__name__}: {error}"
            ) from error
        system = [{"role": "system", "content": self.config.system}] if self.config.system else []
        return [*system, {"role": "user", "content": user}]

    def _parsed(self, template: str) -> Template:
        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        try:
            return environment.from_string(template)
        except TemplateError as error:
            raise UserError(f"judge {self.config.judge}: user is not a Jinja template: {error}") from None


def boundary_of(key: str, texts: Iterable[str]) -> str:
    """Draw a mark for the tags around a pair's texts that none of the texts has, in either case.

    It is a hash of the pair's key, which is a hash of both texts: a text that was written to contain it has another
    key, and so another mark. Should one occur in a text all the same, the next is drawn.

    Returns
    -------
    str
        `BOUNDARY` hexadecimal digits, the same for both orders and on every run.
    """
    folded = [text.casefold() for text in texts]
    digests = (hashlib.sha256(f"boundary {number}\n{key}".encode()).hexdigest() for number in count())
    marks = (digest[:BOUNDARY] for digest in digests)
    return next(mark for mark in marks if not any(mark in text for text in folded))


def orders_asked(config: ChatConfig, pair: Pair) -> tuple[int, ...]:
    """Orders in which a pair is asked: both, or one drawn by the prompt, the same for every model and judge."""
    if config.orders == "both":
        return (0, 1)
    return (hashlib.sha256(f"order of presentation\n{pair.prompt.text}".encode()).digest()[0] & 1,)


def missing_orders(config: ChatConfig, pair: Pair) -> tuple[int, ...]:
    """Those orders of a pair that no earlier attempt has an answer in."""
    known = answered_before(pair)
    return tuple(order for order in orders_asked(config, pair) if known[order] is None)


def answered_before(pair: Pair) -> tuple[float | None, float | None]:
    """Read what an earlier attempt that failed was told, by order."""
    if pair.before is None or len(pair.before.orders) != 2:
        return (None, None)
    return (pair.before.orders[0], pair.before.orders[1])


def size_of(messages: Sequence[dict[str, str]]) -> int:
    """UTF-8 bytes of the messages' texts."""
    return sum(len(message["content"].encode()) for message in messages)


def most_tokens(messages: Sequence[dict[str, str]]) -> int:
    """Bound the prompt's tokens from above: one for every byte of the texts, and an allowance for the chat format.

    Tokenisers over bytes never make more, in any language, since no token is shorter than a byte. One that rewrites the
    text first, or a server with a long prompt of its own, might.
    """
    return size_of(messages) + MOST_A_MESSAGE * len(messages)


def about_tokens(messages: Sequence[dict[str, str]]) -> int:
    """Estimate the prompt's tokens from its length, as for English; a few per cent off, more for other languages."""
    return round(size_of(messages) / BYTES_A_TOKEN) + TOKENS_A_MESSAGE * len(messages)
