"""Every other lm-eval backend, through its own ``generate_until``.

That signature returns bare strings, so the finish reason is ``unknown`` and tokens are counted by tokenising again.
Where a backend takes a seed, each cell gets its own: lm-eval's API models otherwise send the same one with every
request, and k samples collapse into one. With vLLM's data parallelism, for which lm-eval has no engine of its own but
starts new ones for every call, a cell's seed is the one that `VLLMSampler` would give it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.checkpoint import locate
from benchmark.sampling.fit import fit, room_for_prompt
from benchmark.sampling.noise import generator
from benchmark.sampling.sampler import Request
from benchmark.sampling.vllm import base_seed

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class GenerateUntilSampler:
    """Samples from any model that lm-eval builds.

    Parameters
    ----------
    lm
        The model as lm-eval built it.
    backend
        Its name in lm-eval's registry.
    model_id
        Checkpoint folder, hub id or served name.
    arguments
        What else it was built with, as far as it may change what is drawn.
    batch_size
        Requests handed to lm-eval at once (what is lost when killed); the backend batches them as it likes.
    chat
        Send prompts as a chat; None = where the backend is a chat one, or the checkpoint has a chat template.
    dtype
        What the model was asked to be loaded in, where the loaded model does not tell.
    """

    def __init__(
        self,
        lm: LM,
        backend: str,
        model_id: str,
        *,
        batch_size: int,
        chat: bool | None = None,
        dtype: str | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.lm, self.backend, self.model_id, self.batch_size = lm, backend, model_id, batch_size
        self.arguments = dict(arguments or {})
        self.tokenizer = _tokenizer(lm)
        has_template = bool(getattr(self.tokenizer, "chat_template", None))
        self.local = backend in ("hf", "vllm")
        if chat and self.local and not has_template:
            raise UserError(f"{model_id}: --chat was given, but its tokenizer has no chat template")
        self.chat = ("chat" in backend or (self.local and has_template)) if chat is None else chat
        loaded = getattr(getattr(lm, "model", None), "dtype", None)
        self.dtype = str(loaded).removeprefix("torch.") if loaded is not None else dtype
        self.seeded = backend == "vllm" or any("api_models" in base.__module__ for base in type(lm).__mro__)
        self.shortened: dict[str, int] = {}

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the model by backend, name and arguments: a served model's weights cannot be seen."""
        where = locate(self.model_id, str(self.arguments.get("revision", "main")))
        template = getattr(self.tokenizer, "chat_template", None) if self.chat else None
        return ModelIdentity(
            id=f"{self.backend}:{where.id}",
            revision=where.revision,
            weights_sha256=where.weights_sha256,
            dtype=self.dtype,
            chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else None,
            seed=sampling.seed,
            prompt_format="chat" if self.chat else "base",
            arguments=self.arguments,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Fit a task's prompts to their budget and a local model's room, and keep their order: lm-eval sorts."""
        limit = min((n for n in (sampling.max_prompt_tokens, self._room(sampling)) if n is not None), default=None)
        if limit is not None and not hasattr(self.tokenizer, "encode"):
            refuse_what_may_be_too_long(
                prompts, limit, chat=self.chat, mend=f"give {self.backend} a tokenizer in its arguments"
            )
            limit = None
        fitted = [
            fit(
                prompt,
                limit,
                self._count_prompt,
                chat=self.chat,
                truncation=sampling.truncation,
                model_id=f"{self.backend}:{self.model_id}",
            )
            for prompt in prompts
        ]
        self.shortened |= dict.fromkeys({prompt.task for prompt in prompts}, 0)
        for prompt, shortened in fitted:
            self.shortened[prompt.task] += shortened
        return [prompt for prompt, _ in fitted]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Ask for all cells of a batch at once."""
        import torch
        from lm_eval.api.instance import Instance

        instances = [
            Instance(
                request_type="generate_until",
                doc=request.prompt.doc,
                arguments=(self._context(request.prompt.text), self._arguments(request, sampling)),
                idx=number,
            )
            for number, request in enumerate(requests)
        ]
        if not self.seeded:
            # Backends without a seed of their own draw from torch's: the same draws for the same batches.
            first = requests[0]
            rng = generator(sampling.seed, first.prompt.task, first.prompt.doc_id, first.temperature, first.index)
            torch.manual_seed(int(rng.integers(2**31)))
        try:
            texts = self.lm.generate_until(instances, disable_tqdm=True)
        except Exception as error:  # whatever a backend or its server throws is not ours to foresee
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"backend {self.backend} failed: {type(error).__name__}: {reason}") from error
        if len(texts) != len(requests):
            raise UserError(f"backend {self.backend} answered {len(texts)} of {len(requests)} requests")
        return [
            Sample(
                task=request.prompt.task,
                doc_id=request.prompt.doc_id,
                temperature=request.temperature,
                index=request.index,
                text=str(text),
                finish_reason="unknown",
                n_tokens=self._count(str(text)),
            )
            for request, text in zip(requests, texts, strict=True)
        ]

    def _context(self, text: str) -> Any:
        # Not a string for every backend: lm-eval's chat APIs take a wrapper of their own.
        return self.lm.apply_chat_template([{"role": "user", "content": text}]) if self.chat else text

    def _room(self, sampling: Sampling) -> int | None:
        """Tokens of a prompt that a model in this process has room for; lm-eval cuts longer ones without a word."""
        if not self.local:
            return None
        length = int(self.lm.max_length)
        seq2seq = getattr(self.lm, "backend", None) == "seq2seq"
        return length if seq2seq else room_for_prompt(length, sampling, self.model_id)

    def _count_prompt(self, text: str) -> int:
        context = self._context(text)
        return len(self.tokenizer.encode(context if isinstance(context, str) else text))

    def _arguments(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "do_sample": request.temperature > 0,
            "temperature": request.temperature,
            "top_p": sampling.top_p,
            "max_gen_toks": sampling.max_new_tokens,
            "until": list(sampling.stop),
        }
        if getattr(self.lm, "backend", None) == "seq2seq":
            # lm-eval would give the decoder the encoder's length on top; one token is the decoder's start.
            arguments["max_length"] = sampling.max_new_tokens + 1
        # OpenAI's protocol has no top_k, and its servers take its absence for "off"; everywhere else 0 must be said.
        if sampling.top_k or not self.seeded:
            arguments["top_k"] = sampling.top_k
        if self.backend == "vllm":
            cell = (request.prompt.task, request.prompt.doc_id, request.temperature)
            arguments["seed"] = base_seed(sampling.seed, *cell) + request.index
        elif self.seeded:
            # The same for every prompt: lm-eval runs one group of requests for each distinct set of arguments.
            rng = generator(sampling.seed, request.prompt.task, "", request.temperature, request.index)
            arguments["seed"] = int(rng.integers(2**31))
        return arguments

    def _count(self, text: str) -> int | None:
        return len(self.tokenizer.encode(text)) if hasattr(self.tokenizer, "encode") else None


def refuse_what_may_be_too_long(prompts: Sequence[Prompt], limit: int, *, chat: bool, mend: str) -> None:
    """Raise a `UserError` for a prompt which may be over its budget of tokens, where nothing can count them.

    A token is hardly ever shorter than a byte of UTF-8, so what has no more bytes than that needs no counting.
    """
    for prompt in prompts:
        text = prompt.chat if chat and prompt.chat is not None else prompt.text
        if len(text.encode()) > limit:
            raise UserError(
                f"prompt {prompt.doc_id} of {prompt.task} may have more than its budget of {limit} tokens, and there "
                f"is no tokenizer to count them; {mend}"
            )


def _tokenizer(lm: LM) -> Any:
    """The backend's tokenizer, or None where it has none or cannot get it: token counts are then missing."""
    try:
        return getattr(lm, "tokenizer", None)
    except OSError:
        return None
