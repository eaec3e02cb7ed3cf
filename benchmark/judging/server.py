"""One chat endpoint: an attempt at a request, and what its failure means for the question and for all others."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from benchmark.errors import UserError

OPENAI = "https://api.openai.com/v1"
STRICT_HOSTS = ("api.openai.com", ".openai.azure.com")
"""They want a key, and know the token limit by its newer name."""
NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
"""Codes of a 429 that waiting does not mend."""
TOO_LARGE = "request too large"
"""In the message of a 429 on one question that is over the limit by itself."""
HOPELESS = {401: "the key is refused", 402: "no credit"}
"""Statuses that every question would get."""
OF_ALL = {403: "access is refused", 404: "no such model or address"}
"""Statuses that every question may get, or this one alone: some servers' filters answer so."""
PASSING = {408, 409, 425, 429}
"""Statuses below 500 that another attempt may not get."""
NEVER_OPENED = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
"""Errors of the client's HTTP library before a request was sent."""
SHORTEST_SECRET = 8
"""A shorter key, such as ``none`` or ``EMPTY``, is no secret, and may be a word of an honest reply."""
LONGEST_PART = 12
"""So many characters of a key in a row are taken out; fewer are what servers show of one, such as ``sk-ab***yz``."""


class HopelessError(Exception):
    """The server refused, and would refuse every question; the message says why."""


class RefusedError(Exception):
    """The server wants nothing to do with this question; it may be too long.

    Parameters
    ----------
    message
        What the server said.
    of_all
        Whether it may refuse every question alike.
    """

    def __init__(self, message: str, *, of_all: bool = False) -> None:
        self.of_all = of_all
        super().__init__(message)


class FaultError(Exception):
    """An attempt failed in a way that may pass.

    Parameters
    ----------
    message
        What happened.
    after
        Seconds that the server asks to wait, if it does.
    billed
        Whether the server may have answered, and count it.
    limited
        Whether it is a rate limit, which is everybody's.
    unopened
        Whether there was no connection at all.
    """

    def __init__(
        self,
        message: str,
        *,
        after: float | None = None,
        billed: bool = False,
        limited: bool = False,
        unopened: bool = False,
    ) -> None:
        self.after, self.billed, self.limited, self.unopened = after, billed, limited, unopened
        super().__init__(message)


class Server:
    """An OpenAI-compatible server, while it is connected to.

    Parameters
    ----------
    create
        The client's method, which gives raw responses.
    model
        Served name.
    timeout
        Seconds a request.
    longest_asked
        A server that asks for a longer pause is not waited for longer.
    scrub
        Takes the key out of what a server says.
    """

    def __init__(
        self, create: Any, model: str | None, *, timeout: float, longest_asked: float, scrub: Callable[[str], str]
    ) -> None:
        self._create, self._model, self._timeout = create, model, timeout
        self._longest_asked, self._scrub = longest_asked, scrub

    async def send(self, fields: Mapping[str, Any]) -> Any:
        """Make one attempt: the decoded JSON of a reply.

        Raises
        ------
        FaultError
            If another attempt may do better.
        RefusedError
            If this question gets no answer.
        HopelessError
            If no question would.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            async with asyncio.timeout(self._timeout):
                # Further fields are sent as they are; its walk through typed ones is a fifth of the client's work.
                response = await self._create(model=self._model, messages=(), extra_body=fields)
        except TimeoutError:
            raise FaultError("no reply in time", billed=True) from None
        except APIStatusError as error:
            raise self._refusal(error.status_code, error.response.headers, error.body, error.message) from None
        except APIConnectionError as error:  # a time-out is one as well
            cause = error.__cause__ or error
            unopened = _never_opened(error)
            line = self._line(f"{type(cause).__name__}: {cause}")
            raise FaultError(line, billed=not unopened, unopened=unopened) from None
        except (OpenAIError, ValueError) as error:
            raise FaultError(self._line(f"{type(error).__name__}: {error}"), billed=True) from None
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise FaultError("the server's reply is not JSON", billed=True) from None

    def _refusal(self, status: int, headers: Mapping[str, str], body: Any, message: str) -> Exception:
        """Tell what a status other than 200 means for the question, or for all of them."""
        error = body.get("error", body) if isinstance(body, dict) else body
        told = error if isinstance(error, dict) else {}
        code = {value for name in ("code", "type") if isinstance(value := told.get(name), str)}
        said = told.get("message") if isinstance(told.get("message"), str) else message
        line = self._line(f"HTTP {status}: {said}")
        if status in HOPELESS or (status == 429 and code & NO_CREDIT):
            return HopelessError(f"{HOPELESS.get(status, 'no credit')} ({line})")
        if status in OF_ALL:
            return RefusedError(f"{OF_ALL[status]} ({line})", of_all=True)
        if status == 429 and TOO_LARGE in line.casefold():
            return RefusedError(line)
        if status >= 500 or status < 400 or status in PASSING:
            return FaultError(line, after=asked_pause(headers, self._longest_asked), limited=status == 429)
        return RefusedError(line)

    def _line(self, text: str) -> str:
        # Control characters, also those that turn the direction of writing, are not for a terminal.
        printable = "".join(character if character.isprintable() else " " for character in self._scrub(text))
        line = " ".join(printable.split())
        return line if len(line) <= 300 else line[:299] + "…"


@asynccontextmanager
async def connected(
    base_url: str,
    key: str,
    model: str | None,
    *,
    concurrency: int,
    timeout: float,
    longest_asked: float,
    scrub: Callable[[str], str],
) -> AsyncIterator[Server]:
    """Connect to a server for the length of an ``async with`` block; see `Server`."""
    from openai import DEFAULT_CONNECTION_LIMITS, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    # The default keeps at most 100 connections open for the next request.
    limits = type(DEFAULT_CONNECTION_LIMITS)(max_connections=concurrency, max_keepalive_connections=concurrency)
    # A connection that does not open is told before the whole request is late: nothing was sent, so nothing is billed.
    patience = Timeout(timeout, connect=timeout / 2, pool=timeout / 2)
    async with AsyncOpenAI(
        api_key=key or "none",  # never an empty one: the client would look for another in the environment
        base_url=base_url,
        max_retries=0,
        timeout=patience,
        http_client=DefaultAsyncHttpxClient(limits=limits, timeout=patience),
    ) as client:
        create = client.chat.completions.with_raw_response.create
        yield Server(create, model, timeout=timeout, longest_asked=longest_asked, scrub=scrub)


def asked_pause(headers: Mapping[str, str], longest: float) -> float | None:
    """Seconds that a server asks to wait, at most ``longest``; None if it asks for nothing that can be read.

    ``retry-after-ms`` has milliseconds; ``Retry-After`` has seconds or an HTTP date.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if (text := headers.get(name)) is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if not math.isnan(seconds):
            return min(max(seconds, 0.0), longest)
    return None


def scrubber(key: str) -> Callable[[str], str]:
    """Take the key out of texts: whole or in long parts, as it is, as JSON spells it and in base64."""
    if len(key) < SHORTEST_SECRET:
        return str
    parts: dict[int, set[str]] = {}
    for spelled in _spellings(key):
        width = min(LONGEST_PART, len(spelled))
        parts.setdefault(width, set()).update(spelled[i : i + width] for i in range(len(spelled) - width + 1))

    def scrub(text: str) -> str:
        found = sorted(
            (start, start + width)
            for width, known in parts.items()
            for start in range(len(text) - width + 1)
            if text[start : start + width] in known
        )
        kept, end = [], 0
        for place, (start, stop) in enumerate(found):
            if not place or start > end:
                kept += [text[end:start], "[key]"]
            end = max(end, stop)
        return "".join(kept) + text[end:]

    return scrub


def checked_url(url: str) -> str:
    """Check an address and take off the endpoint, which the client adds."""
    form = "base_url must be of the form http://HOST:PORT/v1"
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        there = False
    if not there or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UserError(form)
    if "@" in parts.netloc:
        raise UserError(f"{form}, without a user or password; a key is read from OPENAI_API_KEY")
    return url.rstrip("/").removesuffix("/chat/completions")


def _spellings(key: str) -> set[str]:
    json_once = json.dumps(key)[1:-1]
    spelled = {key, json_once, json.dumps(json_once)[1:-1]}
    for before in range(3):  # base64 of three bytes at a time: what stands before the key shifts it
        data = b"\0" * before + key.encode()
        # Digits that hold bits of what stands before or after are left out.
        inner = slice((before * 8 + 5) // 6, len(data) * 8 // 6)
        spelled |= {encode(data).decode()[inner] for encode in (b64encode, urlsafe_b64encode)}
    return spelled


def _never_opened(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in NEVER_OPENED:
            return True
        cause = cause.__cause__
    return False
