"""A reward model as a judge: whichever of two texts it scores higher is the better one."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmark import reward_model
from benchmark.errors import UserError
from benchmark.judging.config import RewardModelConfig
from benchmark.judging.judge import Pair, Write
from benchmark.records import Prompt, Verdict
from benchmark.sampling.checkpoint import locate

DECIMALS = 9
"""Kept of a score. Rounding in the last bits differs between batches, and may neither decide nor be seen."""
IN_DOUBT = 1e-3
"""Of the last decimal: a score this near to being rounded the other way is computed once more, alone."""

Ids = tuple[int, ...]


class RewardModelJudge:
    """Judges by a sequence classifier with one label.

    Both texts are scored as whole answers, each with the end-of-sequence token (or what its chat template closes with)
    behind it, though a sample may have run to its budget: a verdict is on texts, and equal texts must get equal
    words. In ``input: text``, where white space stands at the head of one text alone, it is put before the other as
    well: a base model writes the space after ``TL;DR:``, and a reference has none, which is no merit of either.

    On a CPU the verdicts are the same bytes whatever the batch: scores are rounded to `DECIMALS` places, and weights
    that cannot be computed in fp64 are scored one text at a time.

    Parameters
    ----------
    config
        A hub id is loaded at ``revision``; a ``weights_sha256`` must be that of the folder.
    found_at
        Where the checkpoint is, of a judge that names its weights and no model.
    device
        Where to compute; None = a GPU where there is one.
    batch_size
        Most texts a forward pass; halved where a GPU has no room for them.

    Attributes
    ----------
    config
        With the model's name without a path, and what identifies its weights: the folder's hash or the hub's commit.
        Of a judge that is known by its weights alone, as it was given.

    Raises
    ------
    UserError
        If the model cannot be loaded (see `benchmark.reward_model.load`), has no chat template where it needs one, or
        has other weights than the configuration says.
    """

    def __init__(
        self,
        config: RewardModelConfig,
        *,
        found_at: str | None = None,
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        place = config.model or found_at
        if place is None:
            raise UserError(f"judge {config.judge} names no model; give --model")
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} texts is none: give a batch size of 1 or more")
        self.model, self.tokenizer = reward_model.load(_source(place, config.revision), device)
        self.config = identified(config, place)
        self.computed_in = reward_model.compute_exactly(self.model)
        exact = self.model.dtype == torch.float64
        self.batch_size = batch_size if exact or self.model.device.type != "cpu" else 1
        # Pairs of one prompt follow each other.
        self._prompt_ids = lru_cache(maxsize=1)(lambda text: tuple(self.tokenizer(text)["input_ids"]))
        if config.input == "chat" and not self.tokenizer.chat_template:
            raise UserError(f"{place}: the tokenizer has no chat template; use `input: text`, or add one")

    def judge(self, pairs: Sequence[Pair], write: Write) -> None:
        """Score each text once and compare; a pair with a text too long for the model fails, and the others go on."""
        encoded = [self._encoded(pair) for pair in pairs]
        limit = reward_model.max_length(self.model)
        scores = self._scores(
            (ids for both in encoded for ids in both if limit is None or max(map(len, both), default=0) <= limit),
            one_prompt=len({pair.prompt.text for pair in pairs}) == 1,
        )
        write([self._verdict(pair, both, scores, limit) for pair, both in zip(pairs, encoded, strict=True)])

    def _encoded(self, pair: Pair) -> tuple[Ids, Ids]:
        texts = (pair.sample.text, pair.reference)
        if self.config.input == "chat":
            first, second = (self._as_chat(pair.prompt, text) for text in texts)
        else:
            asked = self._prompt_ids(pair.prompt.text)
            first, second = (tuple(reward_model.encode(self.tokenizer, asked, text)) for text in with_one_head(*texts))
        return first, second

    def _as_chat(self, prompt: Prompt, text: str) -> Ids:
        said = prompt.text if prompt.chat is None else prompt.chat
        conversation = [{"role": "user", "content": said}, {"role": "assistant", "content": text}]
        whole = self.tokenizer.apply_chat_template(conversation, tokenize=False)
        # The template writes the special tokens itself.
        return tuple(self.tokenizer(whole, add_special_tokens=False)["input_ids"])

    def _scores(self, sequences: Iterable[Ids], *, one_prompt: bool) -> dict[Ids, float]:
        """Score every different sequence, the longest first: what has no room shows at once."""
        unique = sorted(set(sequences), key=lambda ids: (-len(ids), ids))
        found: dict[Ids, float] = {}
        while len(found) < len(unique):
            batch = unique[len(found) : len(found) + self.batch_size]
            try:
                scores = reward_model.score_sequences(self.model, batch, batch_size=len(batch), one_prompt=one_prompt)
                found |= zip(batch, scores, strict=True)
                continue
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise UserError(
                        f"judge {self.config.judge}: the GPU's memory has no room for one text of {len(batch[0])} "
                        "tokens; take another --device"
                    ) from None
            # Outside of the handler, whose traceback holds on to the tensors.
            self.batch_size = len(batch) // 2
            gc.collect()
            torch.cuda.empty_cache()
        for ids, score in found.items():
            if in_doubt(score):
                (found[ids],) = reward_model.score_sequences(self.model, [ids])
        return {ids: round(score, DECIMALS) + 0.0 for ids, score in found.items()}

    def _verdict(self, pair: Pair, both: tuple[Ids, Ids], scores: dict[Ids, float], limit: int | None) -> Verdict:
        sample = pair.sample
        about: dict[str, Any] = {
            **{"task": sample.task, "doc_id": sample.doc_id, "temperature": sample.temperature, "index": sample.index},
            **{"key": pair.key, "length": len(sample.text), "reference_length": len(pair.reference)},
        }
        if limit is not None and (longest := max(map(len, both))) > limit:
            which = "the sample" if len(both[0]) == longest else "the reference"
            why = f"prompt and {which} are {longest} tokens, and the reward model reads at most {limit}"
            return Verdict(**about, preference=None, error=why)
        score, reference_score = scores[both[0]], scores[both[1]]
        return Verdict(
            **about, preference=self._preference(score, reference_score), score=score, reference_score=reference_score
        )

    def _preference(self, score: float, reference_score: float) -> float:
        if score == reference_score:
            return 0.5
        if self.config.preference == "winner":
            return float(score > reference_score)
        _, std = reward_model.normalisation(self.model.config)
        return 0.5 + 0.5 * math.tanh((score - reference_score) * std / 2.0)


def with_one_head(first: str, second: str) -> tuple[str, str]:
    """Put the white space at the head of one text before the other, where that one has none."""
    heads = [text[: len(text) - len(text.lstrip())] if text.strip() else "" for text in (first, second)]
    if not first.strip() or not second.strip() or all(heads):
        return first, second
    return heads[1] + first, heads[0] + second


def in_doubt(score: float) -> bool:
    """Whether another batch's last bits might round a score the other way."""
    return abs(math.fmod(abs(score) * 10.0**DECIMALS, 1.0) - 0.5) < IN_DOUBT


def _source(model: str, revision: str | None) -> str:
    """Find where to load a model from: as it is named, or the hub's files at the revision that is asked for."""
    if revision is None:
        return model
    if Path(model).is_dir():
        raise UserError("a folder has no revision; leave it out", where=model)
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(
            model, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
        )
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"reward model {model} at {revision} cannot be had: {reason}") from error


def identified(config: RewardModelConfig, place: str) -> RewardModelConfig:
    """Fill in what the weights are that a judge judges by; they are not loaded.

    Parameters
    ----------
    config
        As it was found. What is known by its weights alone is given back as it is.
    place
        Checkpoint folder or hub id.

    Raises
    ------
    UserError
        If the weights are others than the configuration says, or of a hub model whose commit is not known.
    """
    located = locate(place, config.revision or "main")
    if config.weights_sha256 not in (None, located.weights_sha256):
        raise UserError(
            f"judge {config.judge}: weights_sha256 of {located.id} is {located.weights_sha256 or 'of no folder'}, "
            f"not {config.weights_sha256}; take the right checkpoint, or leave weights_sha256 out"
        )
    if located.weights_sha256 is None and located.revision is None:
        raise UserError(f"judge {config.judge}: the commit of {located.id} is not known; give a folder, or a revision")
    if config.is_pinned:
        return config
    found = {"model": located.id, "revision": located.revision, "weights_sha256": located.weights_sha256}
    return config.model_copy(update=found)
