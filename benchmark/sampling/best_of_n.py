"""Best-of-n as a sampler: of n outputs of a policy, the one that a reward model scores highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark import reward_model
from benchmark.errors import UserError
from benchmark.records import ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.checkpoint import locate
from benchmark.sampling.hf import HFSampler
from benchmark.sampling.sampler import PartlyDrawn, Request, Sampler

INDISTINGUISHABLE = 1e-9
"""Scores closer than this are a tie: what rounding does differently in another batch must not decide."""


class BestOfNSampler:
    """Draws n outputs of the policy for every cell and keeps the best.

    Sample ``index`` of a cell is the best of the policy's samples index·n … index·n + n − 1 of that prompt and
    temperature. Pools of different cells are thus disjoint, so that the k outputs of a prompt are independent, and the
    noise of each output is its own, so that nothing depends on batch or interruption where the policy's samples do not.
    Of outputs that tie, the first drawn is kept; they are exchangeable, so that favours none. The best of several has
    no ``log_prob``: the policy's is not that of the choice.

    The reward model reads prompts as the policy is asked them, shortened where they had to be, but without chat
    template. It reads the token ids that were drawn where it has the policy's vocabulary and no stop string may have
    been cut off, and else the text; an end-of-sequence token follows unless the output ran to its budget.

    Parameters
    ----------
    policy
        Draws the outputs.
    scorer, tokenizer
        The reward model, as `benchmark.reward_model.load` gives it. On a CPU it is computed in fp64 where it can be.
    scorer_id
        What the user called it: a folder or a hub id.
    n
        Outputs drawn for each that is kept.
    """

    def __init__(self, policy: Sampler, scorer: Any, tokenizer: Any, scorer_id: str, *, n: int) -> None:
        if n < 1:
            raise UserError(f"best-of-n: n must be at least 1, not {n}")
        self.policy, self.scorer, self.tokenizer, self.scorer_id, self.n = policy, scorer, tokenizer, scorer_id, n
        self.dtype = reward_model.compute_exactly(scorer)
        self.shares_vocabulary = (
            isinstance(policy, HFSampler) and policy.lm.tokenizer.get_vocab() == tokenizer.get_vocab()
        )

    @property
    def batch_size(self) -> int:
        """Most requests of one call: n times as many are the policy's, which decodes as many together as it can."""
        return max(1, self.policy.batch_size // self.n)

    @property
    def shortened(self) -> Mapping[str, int]:
        """Task → how many of its prompts had to be shortened for the policy."""
        return self.policy.shortened

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the policy, and in the arguments n and the reward model."""
        policy, scorer = self.policy.identity(sampling), locate(self.scorer_id)
        chosen = {
            "best_of": self.n,
            "reward_model": scorer.id,
            "reward_model_revision": scorer.revision,
            "reward_model_sha256": scorer.weights_sha256,
            "reward_model_dtype": self.dtype,
        }
        return policy.model_copy(update={"arguments": {**policy.arguments, **chosen}})

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Prepare them as the policy does, and refuse as well what the reward model has no room for."""
        asked = self.policy.prepare(prompts, sampling)
        limit = reward_model.max_length(self.scorer)
        for prompt in asked if limit is not None else ():
            length = len(reward_model.encode(self.tokenizer, prompt.text, "", finished=False))
            if length + sampling.max_new_tokens > (limit or 0):
                raise UserError(
                    f"{self.scorer_id}: prompt {prompt.doc_id} of {prompt.task} has {length} tokens, and the reward "
                    f"model reads at most {limit}, max_new_tokens {sampling.max_new_tokens} among them; a lower "
                    "max_prompt_tokens shortens prompts where their task allows it"
                )
        return asked

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Fill at most ``batch_size`` cells, in order."""
        # Greedy decoding gives the same output n times.
        pools = [
            [
                Request(request.prompt, request.temperature, request.index * self.n + number)
                for number in range(self.n if request.temperature > 0 else 1)
            ]
            for request in requests
        ]
        try:
            candidates, sequences = self._candidates([request for pool in pools for request in pool], sampling)
        except PartlyDrawn as partly:  # what it holds is the policy's, and no sample of this one
            raise UserError(partly.reason) from partly
        scores = reward_model.score_sequences(self.scorer, sequences)
        best, start = [], 0
        for request, pool in zip(requests, pools, strict=True):
            mine = range(start, start + len(pool))
            least = max(scores[place] for place in mine) - INDISTINGUISHABLE
            winner = next(place for place in mine if scores[place] >= least)
            changes: dict[str, Any] = {"index": request.index} | ({"log_prob": None} if self.n > 1 else {})
            best.append(candidates[winner].model_copy(update=changes))
            start += len(pool)
        return best

    def _candidates(self, requests: list[Request], sampling: Sampling) -> tuple[list[Sample], list[list[int]]]:
        """Draw outputs of the policy: their records, and what the reward model reads."""
        samples: list[Sample] = []
        sequences: list[list[int]] = []
        policy, size = self.policy, self.policy.batch_size
        for part in (requests[start : start + size] for start in range(0, len(requests), size)):
            if isinstance(policy, HFSampler) and self.shares_vocabulary and not sampling.stop:
                continuations = policy.continuations(part, sampling)
                samples += policy.records(part, continuations, sampling)
                for request, continuation in zip(part, continuations, strict=True):
                    # The reward model's own end: a policy may have several, for example one for the end of a turn.
                    end = [self.tokenizer.eos_token_id] if continuation.finished else []
                    prompt = reward_model.encode(self.tokenizer, request.prompt.text, "", finished=False)
                    sequences.append([*prompt, *policy.body(continuation.tokens), *end])
            else:
                drawn = policy.draw(part, sampling)
                samples += drawn
                sequences += [
                    reward_model.encode(
                        self.tokenizer, request.prompt.text, sample.text, finished=sample.finish_reason != "length"
                    )
                    for request, sample in zip(part, drawn, strict=True)
                ]
        return samples, sequences
