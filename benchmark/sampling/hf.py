"""Hugging Face causal models that lm-eval built, sampled in process with noise that belongs to the cell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UserError
from benchmark.records import FinishReason, ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.noise import uniforms
from benchmark.sampling.sampler import Request

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

WEIGHT_FILES = ("*.safetensors", "*.json", "tokenizer.model")


class HFSampler:
    """Samples from an lm-eval ``hf`` model.

    On a CPU, fp32 weights are computed with in fp64: then a logit's last bits, which depend on how many rows share a
    matrix product, are some 1e-15 and never decide a token, so that no sample depends on its batch. Elsewhere, and
    for other dtypes, the model runs as it was loaded.

    Parameters
    ----------
    lm
        The model as lm-eval built it.
    model_id
        What the user called it: a folder or a hub id.
    batch_size
        Sequences decoded together.
    chat
        Wrap prompts in the tokenizer's chat template; None = where it has one.
    """

    def __init__(self, lm: HFLM, model_id: str, *, batch_size: int, chat: bool | None = None) -> None:
        import torch

        self.lm, self.model_id, self.batch_size = lm, model_id, batch_size
        self.model = lm.model.eval()
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        if self.model.device.type == "cpu" and self.model.dtype == torch.float32:
            self.model = self.model.double()
        self.template: str | None = lm.tokenizer.chat_template if chat is not False else None
        if chat and not self.template:
            raise UserError(f"{model_id}: --chat was given, but its tokenizer has no chat template")
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = lm.tokenizer.eos_token_id
        self.eos_ids: list[int] = list(eos) if isinstance(eos, list) else [eos]
        self.pad_id: int = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else self.eos_ids[0]
        self._encoded: dict[str, list[int]] = {}

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the model by its commit on the hub, or by the hash of its files."""
        folder = Path(self.model_id)
        local = folder.is_dir()
        return ModelIdentity(
            id=folder.resolve().name if local else self.model_id,
            revision=None if local else hub_commit(self.model_id, str(getattr(self.lm, "revision", "main"))),
            weights_sha256=weights_sha256(folder) if local else None,
            dtype=self.dtype,
            chat_template_sha256=hashlib.sha256(self.template.encode()).hexdigest() if self.template else None,
            seed=sampling.seed,
        )

    def order(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Longest first: neighbours need little padding, and a prompt too large for the memory is met at once."""
        return sorted(prompts, key=lambda prompt: -len(self.encode(prompt)))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, chat template applied."""
        if prompt.text not in self._encoded:
            text = prompt.text
            if self.template:
                text = self.lm.apply_chat_template([{"role": "user", "content": text}])
            self._encoded[prompt.text] = list(self.lm.tok_encode(text))
        return self._encoded[prompt.text]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Prefill each prompt of the batch once and decode all its cells from copies of that cache."""
        import torch

        from benchmark.sampling.kv_cache import sample

        prompts = list({request.prompt.doc_id: request.prompt for request in requests}.values())
        number = {prompt.doc_id: place for place, prompt in enumerate(prompts)}
        ids = [self.encode(prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, ids, strict=True):
            room = self.lm.max_length - sampling.max_new_tokens
            if not tokens or len(tokens) > room:
                raise UserError(
                    f"{self.model_id}: prompt {prompt.doc_id} of {prompt.task} has {len(tokens)} tokens, and the "
                    f"model has room for 1 to {room} beside max_new_tokens {sampling.max_new_tokens}"
                )
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
        continuations = sample(
            self.model,
            ids,
            [number[request.prompt.doc_id] for request in requests],
            [request.temperature for request in requests],
            torch.from_numpy(noise),
            eos_token_ids=self.eos_ids,
            pad_token_id=self.pad_id,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop=(lambda tokens: self._stop_at(self._decode(tokens), sampling) is not None) if sampling.stop else None,
        )
        return [
            self._record(request, continuation.tokens, continuation.finished, sampling)
            for request, continuation in zip(requests, continuations, strict=True)
        ]

    def _record(self, request: Request, tokens: list[int], finished: bool, sampling: Sampling) -> Sample:
        text = self._decode(tokens)
        end = self._stop_at(text, sampling)
        reason: FinishReason = "stop" if finished else "length"
        return Sample(
            task=request.prompt.task,
            doc_id=request.prompt.doc_id,
            temperature=request.temperature,
            index=request.index,
            text=text if end is None else text[:end],
            finish_reason=reason,
            n_tokens=len(tokens),
        )

    def _decode(self, tokens: list[int]) -> str:
        body = tokens[:-1] if tokens and tokens[-1] in self.eos_ids else tokens
        return str(self.lm.tokenizer.decode(body, skip_special_tokens=True))

    @staticmethod
    def _stop_at(text: str, sampling: Sampling) -> int | None:
        places = [text.find(stop) for stop in sampling.stop if stop in text]
        return min(places, default=None)


def hub_commit(model_id: str, revision: str) -> str | None:
    """Find the commit of a hub model that was just loaded, in the local cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def weights_sha256(folder: Path) -> str:
    """SHA-256 over a checkpoint's weights, configuration and tokenizer, by file name and content.

    ``training.json``, which says how it came about, is left out: it holds times.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)}):
        if path.name != "training.json":
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name}\0{content}\n".encode())
    return digest.hexdigest()
