"""OpenAI-compatible endpoints, completion and chat, one request a sample.

How it differs from lm-eval's API models, whose argument names it takes: every sample has a seed of its own, or none
(theirs send a constant one, and a server that honours it answers k times the same); no field is left to the server
(``vllm serve`` applies the model's ``generation_config.json`` to whatever is not sent); an empty list of stop strings,
which some servers refuse, is not sent; the finish reason and the token count are kept, and the log-probability where
the server tells it; and a request that fails is a failure, never a text.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.records import FinishReason, ModelIdentity, Prompt, Sample, Sampling
from benchmark.runs import first_problem
from benchmark.sampling.checkpoint import locate, public_arguments
from benchmark.sampling.fit import fit, room_for_prompt
from benchmark.sampling.generate_until import refuse_what_may_be_too_long
from benchmark.sampling.log_probs import is_plain, total
from benchmark.sampling.noise import generator
from benchmark.sampling.sampler import PartlyDrawn, Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BACKENDS = ("local-completions", "local-chat-completions", "openai-completions", "openai-chat-completions")
OPENAI = "https://api.openai.com/v1"
STRICT_HOSTS = ("api.openai.com", ".openai.azure.com")
"""They refuse every field that is not of OpenAI's own protocol."""
NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0}
"""Fields beyond the protocol which ``generation_config.json`` or a server's default may set, switched off."""
ARGUMENTS: dict[str, Any] = {
    **{"model": "", "pretrained": "", "base_url": "", "num_concurrent": 8, "max_retries": 5, "timeout": 300},
    **{"tokenizer": None, "max_length": None, "seed": "per_sample", "protocol": None},
    **{"tokenizer_backend": None, "tokenized_requests": False},
}
"""What an endpoint may be given, with the defaults."""


class NoTextError(Exception):
    """A server's reply holds no text, or is none that a record can be made of."""


class OpenAISampler:
    """Samples from a served model.

    The key is read from ``OPENAI_API_KEY`` and goes nowhere but to the server; local servers need none.

    Log-probabilities are asked for at temperature 1 without truncation, where those that servers tell are those of the
    draw. A server that refuses a request because of them is asked without from there on. One that tells them of other
    tokens than it counts, as where it hides some, has told none.

    Parameters
    ----------
    backend
        One of `BACKENDS`.
    arguments
        As lm-eval spells them. ``model``: the served name. ``base_url``: the endpoint (``…/v1/completions``) or what
        is before it (``…/v1``). ``num_concurrent``: requests in the air at once. ``max_retries``: of transient faults,
        with growing pauses or those that the server asks for. ``timeout``: seconds a request. ``tokenizer``: a folder
        or hub id, to count the tokens of prompts; ``none`` sends prompts whole though they have a budget.
        ``max_length``: tokens that the model has room for, prompt and output. ``seed``: ``per_sample`` or ``none``.
        ``protocol=openai``: send OpenAI's own fields alone, to servers other than OpenAI's that refuse any other.
    batch_size
        Samples asked for between two writes to the run; None = four times ``num_concurrent``.
    chat
        Must say what the backend is, if anything.

    Raises
    ------
    UserError
        If an argument is missing, unknown or not of these values.
    """

    def __init__(
        self,
        backend: str,
        arguments: Mapping[str, Any],
        *,
        batch_size: int | None = None,
        chat: bool | None = None,
    ) -> None:
        self.backend, self.chat = backend, "chat" in backend
        given = ARGUMENTS | dict(arguments)
        _check(backend, arguments)
        if chat is not None and chat != self.chat:
            other = backend.replace("-chat", "") if self.chat else backend.replace("-completions", "-chat-completions")
            raise UserError(f"{backend} {'is' if self.chat else 'is not'} a chat endpoint; see {other}")
        self.model = str(given["model"] or given["pretrained"])
        self.base_url = _base_url(backend, str(given["base_url"] or ""))
        self.host = urlsplit(self.base_url).hostname or ""
        strict = self.host.endswith(STRICT_HOSTS)
        self.extra_fields = not strict and given["protocol"] != "openai"
        # OpenAI's newer models know the token limit by its newer name alone; local servers mostly by the old one.
        self.limit_field = "max_completion_tokens" if strict and self.chat else "max_tokens"
        self.num_concurrent, self.max_retries = int(given["num_concurrent"]), int(given["max_retries"])
        self.timeout, self.max_length = float(given["timeout"]), given["max_length"]
        self.seeded = given["seed"] is not None
        self.batch_size = batch_size or 4 * self.num_concurrent
        self.whole = "tokenizer" in arguments and given["tokenizer"] is None
        self.tokenizer = _load_tokenizer(given["tokenizer"], chat=self.chat) if given["tokenizer"] else None
        told = {"seed": "per_sample" if self.seeded else "none"} | ({"tokenizer": "none"} if self.whole else {})
        kept = ("tokenizer", "max_length", "protocol")
        self.arguments = public_arguments({name: given[name] for name in kept if given[name] is not None} | told)
        self.key = os.environ.get("OPENAI_API_KEY", "")
        if not self.key and strict:
            raise UserError(f"{backend}: no key; set OPENAI_API_KEY in the environment")
        self.shortened: dict[str, int] = {}
        self.asks_log_probs = True

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the model by its served name: its weights, dtype and chat template cannot be seen."""
        where = locate(self.model)
        return ModelIdentity(
            id=f"{self.backend}:{where.id}",
            revision=where.revision,
            weights_sha256=where.weights_sha256,
            dtype=None,
            chat_template_sha256=None,
            seed=sampling.seed,
            prompt_format="chat" if self.chat else "base",
            arguments=self.arguments,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Fit a task's prompts to their budget; what might be over it and cannot be counted is refused."""
        room = None if self.max_length is None else room_for_prompt(self.max_length, sampling, self.model)
        limit = min((n for n in (sampling.max_prompt_tokens, room) if n is not None), default=None)
        if self.tokenizer is None:
            if limit is not None and not self.whole:
                refuse_what_may_be_too_long(
                    prompts,
                    limit,
                    chat=self.chat,
                    mend=f"give {self.backend} tokenizer=FOLDER_OR_ID of the served model, or tokenizer=none to send "
                    "prompts whole",
                )
            limit = None
        fitted = [
            fit(
                prompt,
                limit,
                self._count,
                chat=self.chat,
                truncation=sampling.truncation,
                model_id=f"{self.backend}:{self.model}",
            )
            for prompt in prompts
        ]
        self.shortened |= dict.fromkeys({prompt.task for prompt in prompts}, 0)
        for prompt, shortened in fitted:
            self.shortened[prompt.task] += shortened
        return [prompt for prompt, _ in fitted]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Ask for every cell on its own, ``num_concurrent`` at a time.

        Raises
        ------
        PartlyDrawn
            If a request failed for good; it holds the samples that were had. No new request is sent then.
        """
        if sampling.top_k and not self.extra_fields:
            raise UserError(f"{self.backend}: OpenAI's protocol has no top_k, and this sampling has {sampling.top_k}")
        samples, failure = asyncio.run(self._ask_all(requests, sampling))
        if failure is not None:
            raise PartlyDrawn(samples, failure)
        return samples

    def payload(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """Write the request for one cell, as the client's ``create`` takes it."""
        text = request.prompt.text
        fields: dict[str, Any] = {
            "model": self.model,
            "temperature": request.temperature,
            "top_p": sampling.top_p,
            "n": 1,
            self.limit_field: sampling.max_new_tokens,
            **({"messages": [{"role": "user", "content": text}]} if self.chat else {"prompt": text}),
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if self.seeded:
            cell = (request.prompt.task, request.prompt.doc_id, request.temperature, request.index)
            fields["seed"] = int(generator(sampling.seed, *cell).integers(2**31))
        if self.asks_log_probs and is_plain(request.temperature, sampling):
            # Of one more token than the drawn one, since to some servers 0 is "none".
            fields["logprobs"] = True if self.chat else 1
        if self.extra_fields:
            # -1 is "off" to every server that knows the field; to some of them 0 is a mistake.
            fields["extra_body"] = {"top_k": sampling.top_k or -1, **NEUTRAL}
        return fields

    async def _ask_all(self, requests: Sequence[Request], sampling: Sampling) -> tuple[list[Sample], str | None]:
        from openai import AsyncOpenAI, OpenAIError

        gate = asyncio.Semaphore(self.num_concurrent)
        failures: list[str] = []

        async def fill(request: Request) -> Sample | None:
            async with gate:
                if failures:
                    return None
                try:
                    return await self._ask(client, request, sampling)
                except (OpenAIError, NoTextError) as error:
                    cell = f"prompt {request.prompt.doc_id} of {request.prompt.task}, sample {request.index}"
                    failures.append(self._one_line(f"{cell}: {type(error).__name__}: {error}"))
                    return None

        # Never an empty key: the client would look for another one in the environment.
        async with AsyncOpenAI(
            api_key=self.key or "none", base_url=self.base_url, max_retries=self.max_retries, timeout=self.timeout
        ) as client:
            found = await asyncio.gather(*map(fill, requests))
        return [sample for sample in found if sample is not None], failures[0] if failures else None

    async def _ask(self, client: AsyncOpenAI, request: Request, sampling: Sampling) -> Sample:
        endpoint: Any = client.chat.completions if self.chat else client.completions
        payload = self.payload(request, sampling)
        try:
            reply = await self._create(endpoint, payload)
        except ValueError as error:  # the client reads JSON unguarded
            raise NoTextError(f"the server's reply is not JSON: {error}") from error
        # The client validates nothing of what it was sent.
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise NoTextError("the server's reply has no choices")
        reason = getattr(choices[0], "finish_reason", None)
        if not isinstance(reason, str | None):
            raise NoTextError(f"the server's finish reason is {reason!r}")
        text = self._text(choices[0], reason)
        ends = [text.find(stop) for stop in sampling.stop if stop in text]
        counted = getattr(getattr(reply, "usage", None), "completion_tokens", None)
        n_tokens = counted if isinstance(counted, int) and counted >= 0 else None
        known: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
        try:
            return Sample(
                task=request.prompt.task,
                doc_id=request.prompt.doc_id,
                temperature=request.temperature,
                index=request.index,
                text=text[: min(ends, default=None)],
                finish_reason=known.get(reason or "", "unknown"),
                n_tokens=n_tokens,
                log_prob=self._log_prob(choices[0], n_tokens) if "logprobs" in payload else None,
            )
        except ValidationError as error:
            raise NoTextError(f"the server's reply makes no sample: {first_problem(error)}") from error

    async def _create(self, endpoint: Any, payload: dict[str, Any]) -> Any:
        """Send a request, and once more without log-probabilities where a refusal speaks of them."""
        from openai import APIStatusError

        try:
            return await endpoint.create(**payload)
        except APIStatusError as error:
            if "logprobs" not in payload or "logprob" not in str(error):
                raise
            reply = await endpoint.create(**{name: value for name, value in payload.items() if name != "logprobs"})
        # Only now is it known that they were the reason.
        self.asks_log_probs = False
        return reply

    def _log_prob(self, choice: Any, n_tokens: int | None) -> float | None:
        """Add up what a choice tells of its tokens; the client validates nothing of it."""
        told = getattr(choice, "logprobs", None)
        values = getattr(told, "content" if self.chat else "token_logprobs", None)
        if not isinstance(values, list):
            return None
        return total([getattr(one, "logprob", None) for one in values] if self.chat else values, n_tokens)

    def _text(self, choice: Any, reason: str | None) -> str:
        """Read the text of a choice; a chat model that ends without a word has said nothing, which is an answer."""
        from openai import BaseModel

        if self.chat:
            message = getattr(choice, "message", None)
            if not isinstance(message, BaseModel):
                raise NoTextError(f"the server's reply has no message; its finish reason is {reason!r}")
            text = getattr(message, "content", None)
            text = "" if text is None and reason in ("stop", "length") else text
        else:
            text = getattr(choice, "text", None)
        if not isinstance(text, str):
            raise NoTextError(f"the server's reply has no text; its finish reason is {reason!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NoTextError(f"the server's reply has half a character at {error.start}") from error
        return text

    def _count(self, text: str) -> int:
        assert self.tokenizer is not None
        if not self.chat:
            return len(self.tokenizer(text)["input_ids"])
        chat = [{"role": "user", "content": text}]
        rendered = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return len(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def _one_line(self, message: str) -> str:
        line = " ".join(f"{self.backend} at {self.host}: {message}".split())
        # A server may send back what it was sent.
        line = line.replace(self.key, "…") if self.key else line
        return line if len(line) <= 400 else line[:399] + "…"


def _check(backend: str, arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in ARGUMENTS:
            raise UserError(f"{backend}: no argument {name!r}; there are: {', '.join(ARGUMENTS)}")
    given = ARGUMENTS | dict(arguments)
    if not (given["model"] or given["pretrained"]):
        raise UserError(f"{backend}: needs model=SERVED_NAME")
    if given["seed"] not in ("per_sample", None):
        raise UserError(f"{backend}: seed is per_sample or none, not {given['seed']!r}; the run's own is --seed")
    if given["protocol"] not in ("openai", None):
        raise UserError(f"{backend}: protocol is openai or left out, not {given['protocol']!r}")
    if given["tokenized_requests"]:
        raise UserError(f"{backend}: tokenized_requests: prompts are sent as text; leave it out")
    if given["tokenizer_backend"] not in ("huggingface", None):
        raise UserError(f"{backend}: tokenizer_backend is huggingface or left out, not {given['tokenizer_backend']!r}")
    for name, least in (("num_concurrent", 1), ("max_retries", 0), ("timeout", 1), ("max_length", 1)):
        value = given[name]
        if value is None and ARGUMENTS[name] is None:
            continue
        kinds, what = ((int, float), "a number") if name == "timeout" else ((int,), "a whole number")
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < least:
            raise UserError(f"{backend}: {name} must be {what} of {least} or more, not {value!r}")


def _base_url(backend: str, url: str) -> str:
    """Take off the endpoint, which lm-eval wants in it and the client does not."""
    if not url:
        if backend.startswith("local"):
            raise UserError(f"{backend}: needs base_url=http://HOST:PORT/v1")
        return OPENAI
    form = f"{backend}: base_url must be of the form http://HOST:PORT/v1"
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise UserError(f"{form}: {error}") from error
    if not there or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UserError(form)
    url = url.rstrip("/")
    chat = url.endswith("/chat/completions")
    if url.endswith("/completions") and chat != ("chat" in backend):
        raise UserError(f"{backend}: base_url names the {'chat' if chat else 'completion'} endpoint")
    return url.removesuffix("/completions").removesuffix("/chat")


def _load_tokenizer(name: str, *, chat: bool) -> Any:
    from transformers import AutoTokenizer

    from benchmark.sampling.model import loading

    with loading(f"tokenizer={name}"):
        # Left to itself, it asks on the terminal whether to run a tokenizer's own code.
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if chat and not tokenizer.chat_template:
        raise UserError(f"tokenizer={name}: it has no chat template, so the tokens of a chat cannot be counted")
    return tokenizer
