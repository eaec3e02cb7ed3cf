"""Hugging Face causal models that lm-eval built, sampled in process with noise that belongs to the cell."""

from __future__ import annotations

import gc
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.checkpoint import locate
from benchmark.sampling.fit import fit, room_for_prompt
from benchmark.sampling.log_probs import in_doubt, rounded
from benchmark.sampling.noise import uniforms
from benchmark.sampling.sampler import PartlyDrawn, Request

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    from benchmark.sampling.kv_cache import Continuation


CPU_ROWS, GPU_ROWS = 128, 4096
"""Most rows decoded together: on a CPU what its caches hold counts, on a GPU that all of it has work."""
CPU_REQUESTS = 512
"""Cells of one `draw` on a CPU, which is what a killed run loses at most."""
CPU_BYTES, GPU_SHARE = 2**30, 0.5
"""Memory for what is decoded together: of a CPU, and as a share of what is free on a GPU."""


class CannotExpandError(Exception):
    """A model cannot be prefilled once and decoded k ways."""


class HFSampler:
    """Samples from an lm-eval ``hf`` model.

    On a CPU, fp32 weights are computed with in fp64: then a logit's last bits, which depend on how many rows share a
    matrix product, are some 1e-15 and never decide a token, so that no sample depends on its batch. Models that cannot
    be computed in fp64, those of other dtypes and those on a GPU run as they were loaded; ``dtype`` tells which.
    Log-probabilities are rounded, and the same there: one that the last bits could tip is computed once more, alone.

    Parameters
    ----------
    lm
        The model as lm-eval built it.
    model_id
        What the user called it: a folder or a hub id.
    arguments
        What else it was built with, as far as it may change what is drawn.
    batch_size
        Sequences decoded together; None = what memory has room for. Where a GPU's memory runs out all the same, half
        as many are from there on.
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
        batch_size: int | None,
        chat: bool | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.lm, self.model_id = lm, model_id
        self.arguments = dict(arguments or {})
        self.model, self.dtype = _as_exact_as_it_can_be(lm.model.eval(), model_id)
        on_cpu = self.model.device.type == "cpu"
        self.batch_size = batch_size or (CPU_REQUESTS if on_cpu else GPU_ROWS)
        self.most_rows = batch_size or (CPU_ROWS if on_cpu else GPU_ROWS)
        self.by_memory = batch_size is None
        self.how = _fastest_way(self.model)
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
        self.shortened: dict[str, int] = {}

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
            prompt_format="chat" if self.template else "base",
            arguments=self.arguments,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Fit prompts to their budget, and put the longest first: neighbours then need little padding."""
        room = room_for_prompt(self.lm.max_length, sampling, self.model_id)
        limit = room if sampling.max_prompt_tokens is None else min(room, sampling.max_prompt_tokens)
        self.shortened |= dict.fromkeys({prompt.task for prompt in prompts}, 0)
        asked = []
        for prompt in prompts:
            fitted, shortened = fit(
                prompt,
                limit,
                lambda text: len(self._tokenise(text)),
                chat=self.template is not None,
                truncation=sampling.truncation,
                model_id=self.model_id,
            )
            if not self.encode(fitted):
                raise UserError(f"{self.model_id}: prompt {prompt.doc_id} of {prompt.task} has no tokens")
            self.shortened[prompt.task] += shortened
            asked.append(fitted)
        return sorted(asked, key=lambda prompt: -len(self.encode(prompt)))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt's text, chat template applied."""
        if prompt.text not in self._encoded:
            self._encoded[prompt.text] = self._tokenise(prompt.text)
        return self._encoded[prompt.text]

    def _tokenise(self, text: str) -> list[int]:
        if self.template:
            text = self.lm.apply_chat_template([{"role": "user", "content": text}])
        tokenizer = self.lm.tokenizer
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            return list(tokenizer(text)["input_ids"])  # lm-eval's own way needs one of them
        return list(self.lm.tok_encode(text))

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Prefill each prompt once a batch, and decode all its cells of the batch from that cache."""
        return self.records(requests, self.continuations(requests, sampling), sampling)

    def continuations(self, requests: Sequence[Request], sampling: Sampling) -> list[Continuation]:
        """Draw the token ids of cells, in order, with as many rows together as there is room for.

        Raises
        ------
        PartlyDrawn
            If there is no room for one output, or the weights are broken; it holds what was drawn before.
        """
        import torch

        drawn: list[Continuation] = []
        while len(drawn) < len(requests):
            rows = self._rows_together(requests[len(drawn) :], sampling)
            try:
                part = requests[len(drawn) : len(drawn) + rows]
                drawn += self._settled(part, self._decode_together(part, sampling), sampling)
                continue
            except torch.OutOfMemoryError as error:
                if rows == 1:
                    raise PartlyDrawn(
                        self.records(requests[: len(drawn)], drawn, sampling),
                        f"{self.model_id}: the GPU's memory has no room for one output; take a smaller --dtype, "
                        "max_prompt_tokens or model, or another --device",
                    ) from error
            except FloatingPointError as error:
                raise PartlyDrawn(
                    self.records(requests[: len(drawn)], drawn, sampling),
                    f"{self.model_id}: {error}; are its weights whole?",
                ) from error
            # Outside of the handler, whose traceback holds on to the tensors.
            self.most_rows = rows // 2
            gc.collect()
            torch.cuda.empty_cache()
        return drawn

    def _settled(
        self, requests: Sequence[Request], drawn: list[Continuation], sampling: Sampling
    ) -> list[Continuation]:
        """Take the log-probabilities that are in doubt from rows that are decoded alone, where that settles them."""
        if self.model.device.type != "cpu" or self.model.dtype.itemsize < 8:
            return drawn
        return [
            continuation._replace(log_prob=self._decode_together([request], sampling)[0].log_prob)
            if len(drawn) > 1 and in_doubt(continuation.log_prob)
            else continuation
            for request, continuation in zip(requests, drawn, strict=True)
        ]

    def _rows_together(self, requests: Sequence[Request], sampling: Sampling) -> int:
        """Count how many of the requests, from the first, to decode together: whole prompts, if that is not too few."""
        room = self._free_bytes() if self.by_memory else math.inf
        rows = longest = ends = 0
        seen: set[str] = set()
        for request in requests[: self.most_rows]:
            if rows and request.prompt.doc_id not in seen:
                ends = rows
            seen.add(request.prompt.doc_id)
            longest = max(longest, len(self.encode(request.prompt)))
            if rows and self._bytes(rows + 1, len(seen), longest, sampling) > room:
                break
            rows += 1
        if rows == len(requests) or requests[rows].prompt.doc_id != requests[rows - 1].prompt.doc_id:
            return rows
        return ends if 2 * ends >= rows else rows

    def _bytes(self, rows: int, prompts: int, longest: int, sampling: Sampling) -> float:
        """Estimate the memory that a batch needs: keys and values, logits, and what the prefill has in work."""
        config, size = self.model.config.get_text_config(), self.model.dtype.itemsize
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token = config.num_hidden_layers * 2 * heads * width * size
        kept = prompts * longest + (0 if self.how.get("shared") else rows * longest) + rows * sampling.max_new_tokens
        # In double precision, several times over; sorting for top-p makes as many copies again.
        logits = rows * config.vocab_size * 8 * (6 if sampling.top_p == 1 else 12)
        return float(token * kept + logits + prompts * longest * config.hidden_size * 16 * size)

    def _free_bytes(self) -> float:
        import torch

        device = self.model.device
        if device.type != "cuda":
            return CPU_BYTES
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return GPU_SHARE * (torch.cuda.mem_get_info(device)[0] + unused)

    def _decode_together(self, requests: Sequence[Request], sampling: Sampling) -> list[Continuation]:
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
            stop=(lambda ids: self._stop_at(self._decode([ids])[0], sampling) is not None) if sampling.stop else None,
            log_probs=True,
            **self.how,
        )

    def records(
        self, requests: Sequence[Request], continuations: Sequence[Continuation], sampling: Sampling
    ) -> list[Sample]:
        """Make cells' records of their token ids."""
        texts = self._decode([continuation.tokens for continuation in continuations])
        return [
            Sample(
                task=request.prompt.task,
                doc_id=request.prompt.doc_id,
                temperature=request.temperature,
                index=request.index,
                text=text[: self._stop_at(text, sampling)],
                finish_reason="stop" if continuation.finished else "length",
                n_tokens=len(continuation.tokens),
                log_prob=rounded(continuation.log_prob),
            )
            for request, continuation, text in zip(requests, continuations, texts, strict=True)
        ]

    def body(self, tokens: list[int]) -> list[int]:
        """Leave out the end-of-sequence token that ends an output, if one does."""
        return tokens[:-1] if tokens and tokens[-1] in self.eos_ids else tokens

    def _decode(self, outputs: Sequence[list[int]]) -> list[str]:
        if not outputs:
            return []  # transformers takes an empty batch for one empty output
        return list(self.lm.tokenizer.batch_decode([self.body(tokens) for tokens in outputs], skip_special_tokens=True))

    @staticmethod
    def _stop_at(text: str, sampling: Sampling) -> int | None:
        places = [text.find(stop) for stop in sampling.stop if stop in text]
        return min(places, default=None)


def _fastest_way(model: Any) -> dict[str, bool]:
    """Choose how `kv_cache.sample` is to decode: a way is tried before it is trusted."""
    import torch

    from benchmark.sampling.kv_cache import expands

    one_device = len({parameter.device for parameter in model.parameters()}) == 1  # a recording is of one GPU
    if model.device.type == "cuda" and one_device and expands(model, graph=True):
        return {"graph": True}
    exact = model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64)
    if exact and model.config._attn_implementation == "sdpa" and expands(model, shared=True):
        return {"shared": True}
    return {}


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
