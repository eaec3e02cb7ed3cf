"""vLLM's engine, as lm-eval built it: one request for all samples of a prompt at a temperature.

A prompt is then read once for its k samples, whatever the engine's cache does. Seeds follow the cells: a request for n
samples with seed s is to vLLM n requests with seeds s, s + 1, … (``ParentRequest`` in its source), and sample ``i`` of
a prompt and temperature has the seed ``base_seed(…) + i`` in whichever request it is asked for. So a run that was
killed in the middle of a prompt asks for the missing samples alone, and gets those that it would have got.

The engine's numbers are not those of our own sampler to the last bit, nor the same in every batch: equal seeds give
equal samples up to rounding, and log-probabilities that differ in their last decimals. These are the plain logits', so
that they are asked for at temperature 1 without truncation alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import FinishReason, ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.checkpoint import locate
from benchmark.sampling.fit import fit, room_for_prompt
from benchmark.sampling.log_probs import is_plain, total
from benchmark.sampling.noise import generator
from benchmark.sampling.sampler import Request

if TYPE_CHECKING:
    from lm_eval.models.vllm_causallms import VLLM

BATCH = 4096
"""Samples drawn between two writes to the run: enough that the engine is seldom short of work at a batch's end."""
ENGINE_ONLY = {
    *("max_num_seqs", "max_num_batched_tokens", "enforce_eager", "kv_cache_memory_bytes", "enable_prefix_caching"),
    *("pipeline_parallel_size", "distributed_executor_backend", "disable_log_stats", "block_size", "swap_space"),
    *("cpu_offload_gb", "enable_chunked_prefill", "disable_custom_all_reduce", "max_parallel_loading_workers"),
}
"""Arguments of the engine that say how fast it runs, not what it draws."""
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""vLLM raises what is lower without a word, and refuses what is higher."""
LOG_PROBS = ("raw_logprobs", "processed_logprobs")
"""Modes of the engine in which what it calls log-probabilities are some; where nothing is truncated, they are equal."""


def base_seed(seed: int, task: str, doc_id: str, temperature: float) -> int:
    """Seed of sample 0 of a prompt at a temperature; sample i has ``base_seed(…) + i``.

    Out of 2**62, so that the ranges of two prompts practically never meet; vLLM takes 64 bits with a sign.
    """
    return int(generator(seed, task, doc_id, temperature, 0).integers(2**62))


class VLLMSampler:
    """Samples from the engine inside lm-eval's ``vllm`` model.

    Tensor parallelism and everything else that lm-eval's argument string says is the engine's. With
    ``data_parallel_size`` > 1 lm-eval makes no engine, but new ones for every call, so that such a model is sampled by
    `GenerateUntilSampler`, with the same seeds; a process and a shard a GPU is the better way.

    Parameters
    ----------
    lm
        The model as lm-eval built it.
    model_id
        What the user called it: a folder or a hub id.
    arguments
        What else it was built with, as far as it may change what is drawn.
    batch_size
        Samples drawn between two writes to the run; the engine batches as it likes. None = `BATCH`.
    chat
        Wrap prompts in the tokenizer's chat template; None = where it has one.
    """

    def __init__(
        self,
        lm: VLLM,
        model_id: str,
        *,
        batch_size: int | None = None,
        chat: bool | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.lm, self.model_id, self.batch_size = lm, model_id, batch_size or BATCH
        self.arguments = {name: value for name, value in (arguments or {}).items() if name not in ENGINE_ONLY}
        self.template: str | None = lm.tokenizer.chat_template if chat is not False else None
        if chat and not self.template:
            raise UserError(f"{model_id}: --chat was given, but its tokenizer has no chat template")
        self.dtype = str(lm.model.llm_engine.model_config.dtype).removeprefix("torch.")
        # Engines of before there was a choice told the raw ones.
        mode = getattr(lm.model.llm_engine.model_config, "logprobs_mode", LOG_PROBS[0])
        self.tells_log_probs = str(getattr(mode, "value", mode)) in LOG_PROBS
        self.shortened: dict[str, int] = {}
        self._encoded: dict[str, list[int]] = {}

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the model by its commit on the hub, or by the hash of its files."""
        where = locate(self.model_id, str(self.arguments.get("revision") or "main"))
        return ModelIdentity(
            id=f"vllm:{where.id}",
            revision=where.revision,
            weights_sha256=where.weights_sha256,
            dtype=self.dtype,
            chat_template_sha256=hashlib.sha256(self.template.encode()).hexdigest() if self.template else None,
            seed=sampling.seed,
            prompt_format="chat" if self.template else "base",
            arguments=self.arguments,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Fit a task's prompts to their budget and the model's room, and refuse temperatures that vLLM changes."""
        for temperature in sampling.temperatures:
            if 0 < temperature < LEAST_TEMPERATURE or temperature > MOST_TEMPERATURE:
                raise UserError(
                    f"vllm: temperature {temperature:g} is out of its range, 0 or {LEAST_TEMPERATURE:g} to "
                    f"{MOST_TEMPERATURE:g}"
                )
        room = room_for_prompt(self.lm.max_length, sampling, self.model_id)
        limit = min(room, sampling.max_prompt_tokens or room)
        fitted = [
            fit(
                prompt,
                limit,
                lambda text: len(self._tokens(text)),
                chat=self.template is not None,
                truncation=sampling.truncation,
                model_id=self.model_id,
            )
            for prompt in prompts
        ]
        self.shortened |= dict.fromkeys({prompt.task for prompt in prompts}, 0)
        for prompt, shortened in fitted:
            self.shortened[prompt.task] += shortened
            if not self.encode(prompt.text):
                raise UserError(f"{self.model_id}: prompt {prompt.doc_id} of {prompt.task} has no tokens")
        # Longest first: what is still running at the end is then short.
        return sorted((prompt for prompt, _ in fitted), key=lambda prompt: -len(self.encode(prompt.text)))

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt's text, chat template applied."""
        if text not in self._encoded:
            self._encoded[text] = self._tokens(text)
        return self._encoded[text]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Ask for each run of neighbouring cells at once."""
        from vllm import TokensPrompt

        groups = _groups(requests)
        try:
            outputs = self.lm.model.generate(
                [TokensPrompt(prompt_token_ids=self.encode(group[0].prompt.text)) for group in groups],
                sampling_params=[self.parameters(group, sampling) for group in groups],
                use_tqdm=False,
                lora_request=self.lm.lora_request,
            )
        except Exception as error:  # whatever an engine throws is not ours to foresee
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"vllm failed: {type(error).__name__}: {reason}") from error
        samples = []
        for group, output in zip(groups, outputs, strict=True):
            drawn = sorted(output.outputs, key=lambda one: one.index)
            # Greedy decoding gives the same output k times; vLLM wants to be asked once.
            drawn = drawn * len(group) if group[0].temperature == 0 else drawn
            samples += [self._record(request, one, sampling) for request, one in zip(group, drawn, strict=True)]
        return samples

    def parameters(self, group: Sequence[Request], sampling: Sampling) -> Any:
        """Write vLLM's parameters for neighbouring cells of one prompt and temperature, every field explicit."""
        from vllm import SamplingParams

        first = group[0]
        base = base_seed(sampling.seed, first.prompt.task, first.prompt.doc_id, first.temperature)
        return SamplingParams(
            n=len(group) if first.temperature > 0 else 1,
            temperature=first.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            max_tokens=sampling.max_new_tokens,
            min_tokens=0,
            stop=list(sampling.stop) or None,
            include_stop_str_in_output=False,
            ignore_eos=False,
            seed=base + first.index,
            # 0: the drawn token's own, and no others'.
            logprobs=0 if self.tells_log_probs and is_plain(first.temperature, sampling) else None,
            skip_special_tokens=True,
        )

    def _tokens(self, text: str) -> list[int]:
        chat = self.lm.apply_chat_template([{"role": "user", "content": text}]) if self.template else text
        return list(self.lm.tok_encode(chat))

    def _record(self, request: Request, output: Any, sampling: Sampling) -> Sample:
        known: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
        return Sample(
            task=request.prompt.task,
            doc_id=request.prompt.doc_id,
            temperature=request.temperature,
            index=request.index,
            text=self._text(output, sampling),
            finish_reason=known.get(output.finish_reason, "unknown"),
            n_tokens=len(output.token_ids),
            log_prob=_log_prob(output),
        )

    def _text(self, output: Any, sampling: Sampling) -> str:
        # Decoded on its own, as our other sampler's. vLLM decodes behind the prompt, which leaves the space of a
        # first word to tokenizers that would drop it there.
        text = str(self.lm.tokenizer.decode(list(output.token_ids), skip_special_tokens=True))
        places = [text.find(stop) for stop in sampling.stop if stop in text]
        if isinstance(output.stop_reason, str) and not places:
            return str(output.text)  # only with that space is the stop string in it
        return text[: min(places, default=None)]


def _log_prob(output: Any) -> float | None:
    """Add up the log-probabilities of an output's own tokens; None where the engine did not tell them all."""
    if output.logprobs is None or len(output.logprobs) != len(output.token_ids):
        return None
    told = [place.get(token) for place, token in zip(output.logprobs, output.token_ids, strict=True)]
    return total([getattr(one, "logprob", None) for one in told], len(output.token_ids))


def _groups(requests: Sequence[Request]) -> list[list[Request]]:
    """Cut requests into runs of one prompt and temperature whose indices follow each other."""
    groups: list[list[Request]] = []
    for request in requests:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (last.prompt.task, last.prompt.doc_id) == (request.prompt.task, request.prompt.doc_id)
            and last.temperature == request.temperature
            and last.index + 1 == request.index
        ):
            groups[-1].append(request)
        else:
            groups.append([request])
    return groups
