"""Drawing completions from the policy while it is trained: one interface, an in-process sampler and vLLM.

    sampler.sync(step, weights)          take the policy's weights of this step
    sampler.generate(prompts, n, rows)   n completions of each prompt; rows say which of the data they are

Both ask for nothing but top-p 1 and no top-k: what is drawn must come from the distribution whose log-probabilities
are trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.sampling.kv_cache import Continuation, expands, sample
from benchmark.sampling.noise import uniforms
from reference_models.arguments import TrainingArguments
from reference_models.core import KL
from reference_models.models import load_policy, plain

if TYPE_CHECKING:
    from reference_models.training import Training

Weights = Callable[[], Iterable[tuple[str, Tensor]]]
"""Makes the policy's whole weights by name, where a sampler wants them."""


@dataclass(frozen=True, kw_only=True)
class RolloutArguments(TrainingArguments):
    """What PPO and RLOO share: ``data`` holds a ``prompt`` a line; a step is an update, ``batch_size`` its episodes."""

    reward_model: str
    """Checkpoint of a sequence classifier with one label and the policy's vocabulary."""
    max_new_tokens: int = 64
    temperature: float = 1.0
    kl_coef: float = 0.05
    """β: the reward is the score − β · KL."""
    kl_estimator: KL = "k1"
    missing_eos_penalty: float = 1.0
    """Taken off the score of a completion that did not end, which is at most 0 before that."""
    clip: float = 0.2
    """Ratios of new to old probability count within 1 ± this."""
    max_kl: float = 100.0
    """KL to the reference, in nats a completion, at which a run has diverged and stops."""
    sampler: Literal["in-process", "vllm"] = "in-process"
    rollout_batch_size: int = 0
    """Completions that the in-process sampler decodes together; 0 = all of an update, which is the fastest."""
    vllm_memory: float = 0.3
    """Share of the GPU's memory for vLLM."""


class Sampler(Protocol):
    """Draws completions from the policy."""

    def sync(self, step: int, weights: Weights) -> None:
        """Take the policy's weights; the noise of what is drawn next belongs to this step."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], n: int, rows: Sequence[int]) -> list[Continuation]:
        """Draw n completions of each prompt: those of the first prompt, then those of the second, and so on.

        ``rows`` are the prompts' numbers in the data. They name the noise, so that a prompt that stands in the data
        twice gets completions of its own each time.
        """
        ...


class InProcessSampler:
    """Prefills each prompt once, expands its KV cache n ways and decodes all together.

    The noise is keyed by (seed, step, row of the data, number of the completion), so that a rollout depends on no
    batch, no number of processes and no interruption.

    Parameters
    ----------
    model
        The policy itself, or a copy of it.
    is_copy
        Whether its weights have to be brought up to date at every `sync`.
    eos_token_id, pad_token_id
        Of the tokenizer.
    max_new_tokens, temperature, seed
        Of the rollouts.
    batch_size
        Completions decoded together; 0 = all.
    """

    def __init__(
        self,
        model: Any,
        *,
        is_copy: bool,
        eos_token_id: int,
        pad_token_id: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        batch_size: int = 0,
        autocast: Callable[[], Any],
    ) -> None:
        self.model, self.is_copy = model, is_copy
        self.eos, self.pad = eos_token_id, pad_token_id
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.seed, self.step, self.batch_size, self.autocast = seed, 0, batch_size, autocast

    def sync(self, step: int, weights: Weights) -> None:
        """Note the step and, for a copy, its weights."""
        self.step = step
        if self.is_copy:
            self.model.load_state_dict(dict(weights()))

    def generate(self, prompts: Sequence[Sequence[int]], n: int, rows: Sequence[int]) -> list[Continuation]:
        """Draw n completions of each prompt; see `Sampler`."""
        _check_room(self.model.config, prompts, self.max_new_tokens)
        together = max(1, self.batch_size // n) if self.batch_size else len(prompts)
        drawn: list[Continuation] = []
        for start in range(0, len(prompts), together):
            part = prompts[start : start + together]
            named = rows[start : start + together]
            noise = np.stack([self._noise(row, number) for row in named for number in range(n)])
            # Compiled layers would be compiled anew for each length of the cache.
            with self.autocast(), torch.compiler.set_stance("force_eager"):
                drawn += sample(
                    self.model,
                    part,
                    [place for place in range(len(part)) for _ in range(n)],
                    [self.temperature] * (n * len(part)),
                    torch.from_numpy(noise),
                    eos_token_ids=(self.eos,),
                    pad_token_id=self.pad,
                    top_p=1.0,
                    top_k=0,
                    graph=self.model.device.type == "cuda",
                )
        return drawn

    def _noise(self, row: int, number: int) -> np.ndarray:
        return uniforms(self.max_new_tokens, self.seed, f"rollout {self.step}", str(row), self.temperature, number)


def make_sampler(policy: Any, tokenizer: Any, args: RolloutArguments, run: Training) -> Sampler:
    """Make the sampler that the arguments name."""
    common: dict[str, Any] = {
        "eos_token_id": tokenizer.eos_token_id,
        "max_new_tokens": args.max_new_tokens,
        "temperature": args.temperature,
        "seed": args.seed,
    }
    if args.sampler == "vllm":
        if args.lora_rank or run.processes > 1:
            raise UserError(
                "sampler vllm is for one process and whole weights; use in-process with adapters or several"
            )
        return VLLMSampler(args.model, memory=args.vllm_memory, **common)
    # Sharded weights cannot be decoded with: processes would wait for each other at every token.
    copy = load_policy(args.model).to(run.device) if run.is_sharded else None
    if not expands(plain(policy) if copy is None else copy):
        raise UserError(f"{args.model}: its cache cannot be filled once and expanded; set sampler=vllm")
    return InProcessSampler(
        plain(policy) if copy is None else copy,
        is_copy=copy is not None,
        pad_token_id=tokenizer.pad_token_id,
        batch_size=args.rollout_batch_size,
        autocast=run.accelerator.autocast,
        **common,
    )


class VLLMSampler:
    """Draws with a vLLM engine in this process, one request a prompt with ``n`` outputs.

    For policies from about a billion parameters, or long and uneven outputs. Its noise is vLLM's own, seeded by
    row and step; the same bytes are promised by the in-process sampler alone.

    Parameters
    ----------
    model
        Checkpoint the engine starts from; the weights of later steps are loaded into it.
    eos_token_id, max_new_tokens, temperature, seed
        Of the rollouts.
    memory
        Share of the GPU's memory for the engine; the trainer needs the rest.
    """

    def __init__(
        self, model: str, *, eos_token_id: int, max_new_tokens: int, temperature: float, seed: int, memory: float
    ) -> None:
        import os

        # The engine must live in this process for its weights to be reached.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        try:
            from vllm import LLM
        except ImportError:
            raise UserError(
                "sampler vllm needs vLLM, in an environment of its own; the default is in-process"
            ) from None
        self.engine = LLM(model=model, dtype="bfloat16", gpu_memory_utilization=memory, seed=seed)
        self.eos, self.max_new_tokens, self.temperature = eos_token_id, max_new_tokens, temperature
        self.seed, self.step = seed, 0

    def sync(self, step: int, weights: Weights) -> None:
        """Load the policy's weights into the engine, and drop what it cached of older ones."""
        self.step = step
        self.engine.apply_model(lambda model: model.load_weights(iter(weights())))
        self.engine.reset_prefix_cache()

    def generate(self, prompts: Sequence[Sequence[int]], n: int, rows: Sequence[int]) -> list[Continuation]:
        """Draw n completions of each prompt; see `Sampler`."""
        from vllm import SamplingParams

        def parameters(row: int) -> Any:
            name = f"{self.seed} {self.step} {row}"
            return SamplingParams(
                n=n,
                temperature=self.temperature,
                top_p=1.0,
                top_k=0,
                max_tokens=self.max_new_tokens,
                # The tokenizer's end alone, whatever else generation_config.json names.
                ignore_eos=True,
                stop_token_ids=[self.eos],
                seed=int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]),
                detokenize=False,
            )

        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs = self.engine.generate(asked, [parameters(row) for row in rows], use_tqdm=False)
        return [
            # vLLM leaves a stop token in the ids; an output that ended without one gets it.
            _finished(list(answer.token_ids), answer.finish_reason == "stop", self.eos)
            for output in outputs
            for answer in output.outputs
        ]


def _finished(tokens: list[int], stopped: bool, eos: int) -> Continuation:
    if stopped and (not tokens or tokens[-1] != eos):
        tokens.append(eos)
    return Continuation(tokens, stopped)


def _check_room(config: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    limit = getattr(config, "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if limit and longest + max_new_tokens > limit:
        raise UserError(
            f"a prompt of {longest} tokens and max_new_tokens {max_new_tokens} are more than the {limit} positions of "
            "the policy; shorten the prompts of `data` or lower max_new_tokens"
        )
