"""Hugging Face causal models that lm-eval built, sampled in process with noise that belongs to the cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import FinishReason, ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.checkpoint import locate
from benchmark.sampling.noise import uniforms
from benchmark.sampling.sampler import Request

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    from benchmark.sampling.kv_cache import Continuation


class CannotExpandError(Exception):
    """A model cannot be prefilled once and decoded k ways."""


class HFSampler:
    """Samples from an lm-eval ``hf`` model.

    On a CPU, fp32 weights are computed with in fp64: then a logit's last bits, which depend on how many rows share a
    matrix product, are some 1e-15 and never decide a token, so that no sample depends on its batch. Models that cannot
    be computed in fp64, those of other dtypes and those on a GPU run as they were loaded; ``dtype`` tells which.

    Parameters
    ----------
    lm
        The model as lm-eval built it.
    model_id
        What the user called it: a folder or a hub id.
    arguments
        What else it was built with, as far as it may change what is drawn.
    batch_size
        Sequences decoded together.
    chat
        Wrap prompts in the tokenizer's chat template; None = where it has one.

    Raises
    ------
    CannotExpandError
        If the model's cache cannot be expanded; `GenerateUntilSampler` can sample it all the same.
    """

    def __init__(
        self,
        lm: HFLM,
        model_id: str,
        *,
        batch_size: int,
        chat: bool | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.lm, self.model_id, self.batch_size = lm, model_id, batch_size
        self.arguments = dict(arguments or {})
        self.model, self.dtype = _as_exact_as_it_can_be(lm.model.eval(), model_id)
        self.template: str | None = lm.tokenizer.chat_template if chat is not False else None
        if chat and not self.template:
            raise UserError(f"{model_id}: --chat was given, but its tokenizer has no chat template")
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = lm.tokenizer.eos_token_id
        # Without an end-of-sequence token every output runs to its budget, and is recorded as cut off.
        self.eos_ids: list[int] = list(eos) if isinstance(eos, list) else [eos] if eos is not None else []
        self.pad_id: int = lm.tokenizer.pad_token_id or 0  # masked, so any token will do
        self._encoded: dict[str, list[int]] = {}

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the model by its commit on the hub, or by the hash of its files."""
        where = locate(self.model_id, str(getattr(self.lm, "revision", "main")))
        return ModelIdentity(
            id=where.id,
            revision=where.revision,
            weights_sha256=where.weights_sha256,
            dtype=self.dtype,
            chat_template_sha256=hashlib.sha256(self.template.encode()).hexdigest() if self.template else None,
            seed=sampling.seed,
            arguments=self.arguments,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Refuse prompts without room for an answer, and put the longest first: neighbours then need little padding."""
        room = self.lm.max_length - sampling.max_new_tokens
        for prompt in prompts:
            if not 0 < len(self.encode(prompt)) <= room:
                raise UserError(
                    f"{self.model_id}: prompt {prompt.doc_id} of {prompt.task} has {len(self.encode(prompt))} tokens, "
                    f"and the model has room for 1 to {room} beside max_new_tokens {sampling.max_new_tokens}"
                )
        return sorted(prompts, key=lambda prompt: -len(self.encode(prompt)))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, chat template applied."""
        if prompt.text not in self._encoded:
            text = prompt.text
            if self.template:
                text = self.lm.apply_chat_template([{"role": "user", "content": text}])
            tokenizer = self.lm.tokenizer
            if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
                ids = tokenizer(text)["input_ids"]  # lm-eval's own way needs one of them
            else:
                ids = self.lm.tok_encode(text)
            self._encoded[prompt.text] = list(ids)
        return self._encoded[prompt.text]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Prefill each prompt of the batch once and decode all its cells from copies of that cache."""
        return [
            self.record(request, continuation, sampling)
            for request, continuation in zip(requests, self.continuations(requests, sampling), strict=True)
        ]

    def continuations(self, requests: Sequence[Request], sampling: Sampling) -> list[Continuation]:
        """Draw the token ids of at most ``batch_size`` cells, in order."""
        import torch

        from benchmark.sampling.kv_cache import sample

        prompts = list({request.prompt.doc_id: request.prompt for request in requests}.values())
        number = {prompt.doc_id: place for place, prompt in enumerate(prompts)}
        ids = [self.encode(prompt) for prompt in prompts]
        noise = np.stack(
            [
                uniforms(
                    sampling.max_new_tokens,
                    sampling.seed,
                    request.prompt.task,
                    request.prompt.doc_id,
                    request.temperature,
                    request.index,
                )
                for request in requests
            ]
        )
        try:
            return sample(
                self.model,
                ids,
                [number[request.prompt.doc_id] for request in requests],
                [request.temperature for request in requests],
                torch.from_numpy(noise),
                eos_token_ids=self.eos_ids,
                pad_token_id=self.pad_id,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                stop=(lambda ids: self._stop_at(self._decode(ids), sampling) is not None) if sampling.stop else None,
            )
        except FloatingPointError as error:
            raise UserError(f"{self.model_id}: {error}; are its weights whole?") from error

    def record(self, request: Request, continuation: Continuation, sampling: Sampling) -> Sample:
        """Make a cell's record of its token ids."""
        text = self._decode(continuation.tokens)
        end = self._stop_at(text, sampling)
        reason: FinishReason = "stop" if continuation.finished else "length"
        return Sample(
            task=request.prompt.task,
            doc_id=request.prompt.doc_id,
            temperature=request.temperature,
            index=request.index,
            text=text if end is None else text[:end],
            finish_reason=reason,
            n_tokens=len(continuation.tokens),
        )

    def body(self, tokens: list[int]) -> list[int]:
        """Leave out the end-of-sequence token that ends an output, if one does."""
        return tokens[:-1] if tokens and tokens[-1] in self.eos_ids else tokens

    def _decode(self, tokens: list[int]) -> str:
        return str(self.lm.tokenizer.decode(self.body(tokens), skip_special_tokens=True))

    @staticmethod
    def _stop_at(text: str, sampling: Sampling) -> int | None:
        places = [text.find(stop) for stop in sampling.stop if stop in text]
        return min(places, default=None)


def _as_exact_as_it_can_be(model: Any, model_id: str) -> tuple[Any, str]:
    """Choose what to compute in, and name it; see `HFSampler`."""
    import torch

    from benchmark.sampling.kv_cache import expands

    dtype = str(model.dtype).removeprefix("torch.")
    if model.device.type == "cpu" and model.dtype == torch.float32:
        if expands(model.double()):
            return model, f"{dtype}, computed in float64"
        model = model.float()  # the way back is exact
    if not expands(model):
        raise CannotExpandError(model_id)
    return model, dtype
