"""A real OpenAI-compatible server on this machine, with a real small model behind it, for tests of its clients.

    with OpenAIServer(checkpoint) as server:
        client = OpenAI(base_url=server.url, api_key="none")

It behaves as such servers do: equal seeds give equal texts, what is not sent comes from the model's
``generation_config.json`` (and top_k, if that has none, is 50), ``"stop": []`` is a server error. ``server.asked``
holds every request; ``fault`` makes chosen ones fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

OUT_OF_ORDER = json.dumps({"error": {"message": "a fault that was asked for", "type": "server_error"}})


class Fault(NamedTuple):
    """How a request fails."""

    status: int
    """0 cuts the connection without an answer."""
    headers: Mapping[str, str] = MappingProxyType({})
    body: Any = None
    """What is sent, as JSON if it is not bytes; None = an error that says it was asked for."""


class Asked(NamedTuple):
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]


class BadRequestError(Exception):
    """The client's mistake, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


MakeFault = Callable[[dict[str, Any], int], Fault | None]


class OpenAIServer:
    """Serves a checkpoint folder under ``url`` for the length of a ``with`` block.

    Parameters
    ----------
    folder
        A Hugging Face checkpoint; its folder's name is the served name.
    fault
        Called with a request's body and how often that same body was asked before; what it returns is sent instead.
    """

    def __init__(self, folder: Path, *, fault: MakeFault = lambda _body, _before: None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name, self.fault = folder.name, fault
        self.asked: list[Asked] = []
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> OpenAIServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Bodies of all requests, in order of arrival."""
        return [asked.body for asked in self.asked]

    def answer(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, Mapping[str, str], Any]:
        """Answer a request: status, further headers, and the body or None to cut the connection."""
        with self._lock:
            self.asked.append(Asked(path, {name.lower(): value for name, value in headers.items()}, body))
            spelled = json.dumps([path, body], sort_keys=True)
            before = self._before[spelled]
            self._before[spelled] += 1
            if (fault := self.fault(body, before)) is not None:
                body = json.loads(OUT_OF_ORDER) if fault.body is None else fault.body
                return fault.status, fault.headers, body if fault.status else None
            try:
                return 200, {}, self._complete(path, body)
            except BadRequestError as error:
                return error.status, {}, {"error": {"message": str(error), "type": "invalid_request_error"}}

    def _complete(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        chat = path == "/v1/chat/completions"
        if not chat and path != "/v1/completions":
            raise BadRequestError(404, f"no such endpoint: {path}")
        if body.get("model") != self.name:
            raise BadRequestError(404, f"no such model: {body.get('model')}")
        if chat:
            text = "\n".join(message["content"] for message in body["messages"])
            if self._tokenizer.chat_template:
                text = self._tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, tokenize=False)
            prompts = [self._tokenizer.encode(text, add_special_tokens=not self._tokenizer.chat_template)]
        else:
            prompts = self._prompts(body["prompt"])
        choices, tokens = [], 0
        for prompt in prompts:
            for number in range(body.get("n") or 1):
                text, reason, length = self._sample(prompt, body, number)
                content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
                choices.append({"index": len(choices), **content, "finish_reason": reason, "logprobs": None})
                tokens += length
        read = sum(map(len, prompts))
        return {
            "id": "cmpl-0",
            "object": "chat.completion" if chat else "text_completion",
            "created": 0,
            "model": self.name,
            "choices": choices,
            "usage": {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens},
        }

    def _prompts(self, prompt: Any) -> list[list[int]]:
        """Read what completion endpoints take: a text, token ids, or a list of either."""
        prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
        return [self._tokenizer.encode(one) if isinstance(one, str) else one for one in prompts]

    def _sample(self, prompt: list[int], body: dict[str, Any], number: int) -> tuple[str, str, int]:
        import numpy as np
        import torch

        from benchmark.sampling.kv_cache import sample

        stop = body.get("stop")
        if stop is not None and (not stop or not all(stop)):
            raise BadRequestError(500, "stop: an empty list or string")
        stops = [stop] if isinstance(stop, str) else list(stop or [])
        own = self._model.generation_config
        default = {"temperature": own.temperature, "top_p": own.top_p, "top_k": own.top_k}
        default = {name: value for name, value in default.items() if value is not None}
        chosen = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, **default}
        chosen |= {name: body[name] for name in chosen if body.get(name) is not None}
        seed = secrets.randbits(62) if body.get("seed") is None else body["seed"] + number
        digest = hashlib.sha256(repr((seed, prompt)).encode()).digest()
        noise = np.random.default_rng(list(digest)).random((1, body.get("max_tokens") or self._newer_limit(body)))
        eos = own.eos_token_id if own.eos_token_id is not None else self._tokenizer.eos_token_id
        ends = eos if isinstance(eos, list) else [eos]

        def text_of(ids: list[int]) -> str:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True))

        [found] = sample(
            self._model,
            [prompt],
            [0],
            [float(chosen["temperature"])],
            torch.from_numpy(noise),
            eos_token_ids=ends,
            pad_token_id=0,
            top_p=float(chosen["top_p"]),
            top_k=max(0, int(chosen["top_k"])),
            stop=(lambda ids: any(one in text_of(ids) for one in stops)) if stops else None,
        )
        text = text_of(found.tokens)
        cut = min((text.find(one) for one in stops if one in text), default=None)
        return text[:cut], "stop" if found.finished else "length", len(found.tokens)

    @staticmethod
    def _newer_limit(body: dict[str, Any]) -> int:
        return int(body.get("max_completion_tokens") or 16)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                listed = {"object": "list", "data": [{"id": server.name, "object": "model", "created": 0}]}
                self._send(*((200, {}, listed) if self.path == "/v1/models" else (404, {}, {"error": "not found"})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*server.answer(self.path, self.headers, body))

            def _send(self, status: int, headers: Mapping[str, str], body: Any) -> None:
                if body is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                # A client that is gone is no concern of the server's.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        return Handler
