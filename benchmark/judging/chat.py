"""A chat model behind an OpenAI-compatible server as a judge: what is paid for is kept, and asked once.

How it differs from alpaca_eval's annotator: every fault that may pass is tried again, not rate limits alone; a reply
that could not be read is asked for again, kept and counted; a verdict is on disk within a second; what failed is asked
again on the next run, and what was answered is not; and spending has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmark.errors import UserError
from benchmark.judging.budget import Purse
from benchmark.judging.config import ChatConfig
from benchmark.judging.judge import Pair, Write
from benchmark.judging.question import Question, about_tokens, answered_before, missing_orders, most_tokens
from benchmark.judging.replies import TOP_LOGPROBS, NoReplyError, UnreadableError, preference_of, raw_of, tokens_of
from benchmark.judging.server import (
    OPENAI,
    STRICT_HOSTS,
    FaultError,
    HopelessError,
    RefusedError,
    checked_url,
    connected,
    scrubber,
)
from benchmark.judging.writer import Writer
from benchmark.records import Verdict

SLOWEST = 10
"""Completion tokens a second that no server is slower than."""


class Pace(NamedTuple):
    """How patient a judge is, in seconds and attempts."""

    attempts: int = 8
    """Of one question, as long as it fails; and pauses for a rate limit with no answer between them."""
    readings: int = 3
    """Replies to one question, as long as none can be read."""
    hopeless: int = 20
    """Questions in a row that fail for good, with none answered, until the judge gives up."""
    first_pause: float = 0.5
    longest_pause: float = 60.0
    """Pauses double from the first to the longest."""
    longest_asked: float = 120.0
    """A server that asks for a longer pause is not waited for longer."""
    timeout: float = 60.0
    """Of one request, besides the time to write its tokens."""
    batch: int = 256
    batch_seconds: float = 0.5
    """Verdicts are written when there are so many, or the first has waited so long."""


class Plan(NamedTuple):
    """What judging would take, estimated: no tokenizer is loaded and nothing is sent."""

    pairs: int
    ties: int
    """Pairs of identical texts, which tie without a call."""
    calls: int
    prompt_tokens: int
    """From the length of the prompts, as for English."""
    completion_tokens: int
    """At most."""
    cost: float | None
    """US dollars; None = the judge has no price."""


class ChatJudge:
    """Asks a chat model which of two texts is better.

    The key is read from ``OPENAI_API_KEY`` and goes nowhere but to the server; servers other than OpenAI's need none.
    Identical texts tie without a call. Each order of a pair is one question; a preference is the mean over the orders.

    Parameters
    ----------
    config
        Which model, what it is asked, and how its replies are read.
    base_url
        The server (``http://HOST:PORT/v1``); None = the configuration's, else that of ``OPENAI_BASE_URL``, else
        OpenAI's own.
    concurrency
        Requests in the air at once.
    max_cost
        US dollars that this object may spend, over all calls of `judge`; None = no limit. Requests in the air count
        with the most that they may cost: a token for every byte of the prompt, so the last few per cent of the limit,
        and of a small limit more, stay unspent. Requests whose reply was lost, or came without a count of tokens,
        stay counted so. A server that counts more tokens than the prompt has bytes, or writes more than
        ``max_tokens``, breaks the limit by what was in the air when its first reply came; nothing is sent after it.
    pace
        How patient it is.

    Raises
    ------
    UserError
        If the template is none, the address is none, or ``max_cost`` is set and the judge has no price.
    """

    def __init__(
        self,
        config: ChatConfig,
        *,
        base_url: str | None = None,
        concurrency: int = 32,
        max_cost: float | None = None,
        pace: Pace = Pace(),  # noqa: B008 - it is immutable
    ) -> None:
        self.config, self.concurrency, self.max_cost, self.pace = config, concurrency, max_cost, pace
        self.question = Question(config)
        self.base_url = checked_url(base_url or config.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self.purse = Purse(max_cost, config.price, config.max_tokens)
        self.heard = False  # whether the server has replied to anything yet
        self.host = urlsplit(self.base_url).hostname or ""
        self.strict = self.host.endswith(STRICT_HOSTS)
        if concurrency < 1:
            raise UserError(f"judge {config.judge}: concurrency must be 1 or more, not {concurrency}")
        if max_cost is not None and not (math.isfinite(max_cost) and max_cost > 0):
            raise UserError(f"judge {config.judge}: max_cost must be dollars above 0, not {max_cost}")
        if max_cost is not None and config.price is None:
            raise UserError(
                f"judge {config.judge} has no price, so no --max-cost can be kept; add `price:` to a .yaml file of it"
            )

    def plan(self, pairs: Sequence[Pair]) -> Plan:
        """Estimate what `judge` would ask for; orders that an earlier attempt was answered in are not counted.

        Raises
        ------
        UserError
            If the judge is not made for a pair's task, or its template fails on it.
        """
        ties = sum(_identical(pair) for pair in pairs)
        asked = [
            about_tokens(self.question.messages(pair, order))
            for pair in pairs
            if not _identical(pair)
            for order in missing_orders(self.config, pair)
        ]
        completion = len(asked) * self.config.max_tokens
        price = self.config.price
        cost = None if price is None else price.of(sum(asked), completion)
        return Plan(len(pairs), ties, len(asked), sum(asked), completion, cost)

    def judge(self, pairs: Sequence[Pair], write: Write) -> None:
        """Ask about every pair and write what comes, at least twice a second while something does.

        A question whose fault does not pass, or whose replies cannot be read, makes a failed verdict, which keeps what
        the other order was told. Whatever ends the judging, an interrupt as well, what was answered is written first.

        Raises
        ------
        UserError
            If the judge cannot go on: no credit, a key that is refused, an address or model that is refused before
            anything was answered, a rate limit that does not pass, many failures in a row, or ``max_cost`` reached.
        """
        self.question.check(pairs)
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and self.strict:
            raise UserError(f"judge {self.config.judge}: no key; set OPENAI_API_KEY in the environment")
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"judge {self.config.judge}: OPENAI_API_KEY has a character that no key has")
        asking = _Asking(
            self, pairs, Writer(write, batch=self.pace.batch, seconds=self.pace.batch_seconds), scrubber(key)
        )
        try:
            asyncio.run(asking.run(key))
        except BaseException:
            asking.finish("interrupted")
            raise
        asking.finish(asking.stopped_by)
        if asking.stopped_by is not None:
            spent = self.purse.spent
            raise UserError(
                f"judge {self.config.judge} at {self.host}: {asking.stopped_by}; {asking.judged} of {len(pairs)} pairs "
                f"judged{spent and f', {spent}'}; the same command goes on"
            )

    def fields(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """Write the body of a request: fields of OpenAI's protocol alone."""
        limit = "max_completion_tokens" if self.strict else "max_tokens"
        logprobs = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self.config.verdict == "logprobs" else {}
        return {
            "model": self.config.model,
            "messages": messages,
            "temperature": self.config.temperature,
            limit: self.config.max_tokens,
            **logprobs,
        }


class _StoppedError(Exception):
    """The judge does not go on; nothing is wrong with this question."""


class _FailedError(Exception):
    """A question has no answer; the message is the verdict's error."""


@dataclass(slots=True, eq=False)
class _Open:
    """A pair that is being asked about, with the replies of this run."""

    pair: Pair
    orders: list[float | None]
    unanswered: int
    raw: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    error: str | None = None

    def verdict(self, unfinished: str | None = None) -> Verdict:
        error = self.error or unfinished
        known = [order for order in self.orders if order is not None]
        return _verdict(
            self.pair,
            preference=None if error is not None else sum(known) / len(known),
            orders=tuple(self.orders),
            raw=tuple(self.raw),
            calls=len(self.raw),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            uncounted=self.uncounted,
            error=error,
        )


class _Asking:
    """One pass over the pairs: workers that share a queue, a pause and a purse."""

    def __init__(self, judge: ChatJudge, pairs: Sequence[Pair], writer: Writer, scrub: Callable[[str], str]) -> None:
        self.config, self.pace, self._judge, self._scrub, self._writer = judge.config, judge.pace, judge, scrub, writer
        self.stopped_by: str | None = None
        self.judged = 0
        # What never failed comes first: questions that always fail keep nobody waiting.
        self._queue = self._questions(sorted(pairs, key=lambda pair: pair.before is not None))
        self._open: dict[str, _Open] = {}
        self._purse = judge.purse
        self._failed_in_a_row = self._answered = 0
        self._pauses_in_a_row, self._pause_until, self._next_pause_from = 0, 0.0, 0.0

    async def run(self, key: str) -> None:
        """Ask until all is answered or nothing more can be."""
        self._stop_event, self._freed = asyncio.Event(), asyncio.Event()
        async with connected(
            self._judge.base_url,
            key,
            self.config.model,
            concurrency=self._judge.concurrency,
            timeout=self.pace.timeout + self.config.max_tokens / SLOWEST,
            longest_asked=self.pace.longest_asked,
            scrub=self._scrub,
        ) as self._server:
            workers = [asyncio.create_task(self._work()) for _ in range(self._judge.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def finish(self, reason: str | None) -> None:
        """Write all that is not written: of pairs half asked, what was answered, what replies came and what failed."""
        halves = [opened for opened in self._open.values() if opened.raw or opened.error]
        self._open.clear()
        self._writer.finish([opened.verdict(f"not finished: {reason}") for opened in halves])

    def _questions(self, pairs: Sequence[Pair]) -> Iterator[tuple[_Open, int]]:
        for pair in pairs:
            missing = () if _identical(pair) else missing_orders(self.config, pair)
            if not missing:
                self._judged(_tie(pair) if _identical(pair) else _Open(pair, list(answered_before(pair)), 0).verdict())
                continue
            opened = self._open[pair.key] = _Open(pair, list(answered_before(pair)), len(missing))
            for order in missing:
                yield opened, order

    async def _work(self) -> None:
        with contextlib.suppress(_StoppedError):
            while not self._stop_event.is_set() and (question := next(self._queue, None)) is not None:
                await self._answer(*question)

    async def _answer(self, opened: _Open, order: int) -> None:
        try:
            opened.orders[order] = await self._ask(opened, order)
            self._failed_in_a_row = 0
        except _FailedError as error:
            opened.error = opened.error or str(error)
        opened.unanswered -= 1
        if not opened.unanswered:
            del self._open[opened.pair.key]
            self._judged(opened.verdict())

    def _judged(self, verdict: Verdict) -> None:
        self._writer.add(verdict)
        self.judged += verdict.preference is not None
        if self._writer.failed:
            self._stop("the log cannot be written")

    async def _ask(self, opened: _Open, order: int) -> float:
        """Ask one question until a reply can be read."""
        messages = self._judge.question.messages(opened.pair, order)
        most, fields = most_tokens(messages), self._judge.fields(messages)
        name = f"{opened.pair.key} {order}"
        faults = unopened = unreadable = pauses = 0
        answered = self._answered
        while True:
            reserved = await self._may_send(most, f"{name} {pauses}")
            # Until the server says otherwise, an interrupt as well, the request may have been answered and billed.
            used: tuple[int, int] | None = None
            sent = time.monotonic()
            fault: FaultError | None = None
            try:
                body = await self._server.send(fields)
                raw = raw_of(body, order, self._scrub)
                self._judge.heard = True
                self._answered += 1
                used = tokens_of(body)
            except (FaultError, NoReplyError) as error:
                fault = error if isinstance(error, FaultError) else FaultError(str(error), billed=True)
                used = None if fault.billed else (0, 0)
            except HopelessError as error:
                used = (0, 0)
                raise self._stop(str(error)) from None
            except RefusedError as error:
                used = (0, 0)
                # A pair that was refused on an earlier run keeps no others waiting on this one.
                if error.of_all and not self._judge.heard and opened.pair.before is None:
                    self._stop(str(error))
                raise self._given_up(str(error), counts=opened.pair.before is None) from None
            finally:
                self._purse.give_back(reserved, used, most)
                self._freed.set()
            if fault is not None and fault.limited:
                pauses += 1
                self._pause(sent, fault)
            elif fault is not None:
                faults += 1
                unopened += fault.unopened
                if unopened >= self.pace.attempts and answered == self._answered:
                    raise self._stop(f"the server cannot be reached ({fault}, {unopened} times)")
                if faults >= self.pace.attempts:
                    raise self._given_up(f"{fault}, {faults} times", counts=True)
                await self._sleep(max(self._back_off(name, faults), fault.after or 0.0))
            else:
                opened.raw.append(raw)
                opened.uncounted += used is None
                prompt_tokens, completion_tokens = used or (0, 0)
                opened.prompt_tokens += prompt_tokens
                opened.completion_tokens += completion_tokens
                self._pauses_in_a_row = 0
                try:
                    return preference_of(raw, self.config)
                except UnreadableError as error:
                    unreadable += 1
                    if unreadable >= self.pace.readings:
                        raise self._given_up(
                            f"{error} ({unreadable} replies)", counts=opened.pair.before is None
                        ) from None

    async def _may_send(self, most: int, name: str) -> tuple[int, int]:
        """Wait for pauses to end and for money to be free; returns the tokens reserved."""
        while True:
            if self._stop_event.is_set():
                raise _StoppedError
            if (pause := self._pause_until - time.monotonic()) > 0:
                # Not all at once, or the limit is hit again.
                await self._sleep(pause * (1 + _share(name) / 4))
            elif (reserved := self._purse.take(most)) is not None:
                return reserved
            elif not self._purse.waiting_helps:
                raise self._stop(self._purse.refusal(most))
            else:
                self._freed.clear()
                await self._freed.wait()

    def _pause(self, sent: float, fault: FaultError) -> None:
        """Pause everybody for a rate limit; refusals of what was sent before the pause are of the same one."""
        now = time.monotonic()
        asked = fault.after or 0.0
        if sent < self._next_pause_from:
            self._pause_until = max(self._pause_until, now + asked)
            return
        self._pauses_in_a_row += 1
        if self._pauses_in_a_row > self.pace.attempts:
            raise self._stop(f"nothing was answered between {self.pace.attempts} pauses ({fault})")
        self._pause_until = now + max(asked, self._back_off("rate limit", self._pauses_in_a_row))
        self._next_pause_from = self._pause_until

    def _given_up(self, message: str, *, counts: bool) -> _FailedError:
        """Fail one question; after many in a row the judge stops."""
        if counts:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= self.pace.hopeless:
                self._stop(f"{self._failed_in_a_row} questions in a row failed ({message})")
        return _FailedError(message)

    def _stop(self, reason: str) -> _StoppedError:
        """Send nothing more; what is in the air comes in."""
        self.stopped_by = self.stopped_by or reason
        self._stop_event.set()
        self._freed.set()
        return _StoppedError(reason)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not longer than the judge goes on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_event.wait(), seconds)

    def _back_off(self, name: str, attempt: int) -> float:
        """Half to all of a pause that doubles with every attempt."""
        pause = min(self.pace.longest_pause, self.pace.first_pause * 2.0 ** (attempt - 1))
        return pause * (1 + _share(f"{name} {attempt}")) / 2


def _identical(pair: Pair) -> bool:
    return pair.sample.text == pair.reference


def _tie(pair: Pair) -> Verdict:
    return _verdict(pair, preference=0.5)


def _verdict(pair: Pair, **told: Any) -> Verdict:
    sample = pair.sample
    return Verdict(
        task=sample.task,
        doc_id=sample.doc_id,
        temperature=sample.temperature,
        index=sample.index,
        key=pair.key,
        length=len(sample.text),
        reference_length=len(pair.reference),
        **told,
    )


def _share(name: str) -> float:
    """A number in [0, 1) that the name decides: jitter that no global state knows of."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
