"""Reward models: sequence classifiers with one label, and the one way in which GenDiv reads a score off them.

A sequence is the prompt's tokens, the completion's and the end-of-sequence token; its score is the logit at its last
token, normalised by ``reward_mean`` and ``reward_std`` of ``config.json`` (0 and 1 where they are absent). The
trainers, best-of-n and the judge all call the functions here, so that they cannot disagree about the last token.

This file needs torch and transformers alone.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UserError


def load(name: str, device: str | None = None) -> tuple[Any, Any]:
    """Load a reward model, ready to score.

    Parameters
    ----------
    name
        Checkpoint folder or hub id of any model that `AutoModelForSequenceClassification` loads. Only safetensors are
        read, and no code that comes with a checkpoint is run.
    device
        Where to put it; None = a GPU where there is one.

    Returns
    -------
    tuple
        The model in evaluation mode, its ``config.pad_token_id`` set, and its tokenizer.

    Raises
    ------
    UserError
        If it cannot be loaded, has not one label or no trained head, or if its tokenizer lacks an end-of-sequence
        token or a padding token that is another one.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError("no config.json: not a Hugging Face checkpoint folder", where=folder)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _check_config(config, name)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype="auto", use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"reward model {name} cannot be loaded: {type(error).__name__}: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        # Transformers would fill them with random numbers and go on.
        raise UserError(f"{name}: the checkpoint has no weights for {', '.join(missing[:3])}; is it a reward model?")
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if eos is None:
        raise UserError(f"{name}: the tokenizer has no eos_token, and every finished sequence ends with one")
    if pad is None or pad == eos:
        what = "no pad_token" if pad is None else f"the pad_token {tokenizer.pad_token!r} that is its eos_token as well"
        raise UserError(f"{name}: the tokenizer has {what}; give it a pad_token of its own (tokenizer_config.json)")
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = pad
    return model.eval(), tokenizer


def score_ids(model: Any, ids: Tensor, attention: Tensor) -> Tensor:
    """Score sequences of token ids.

    Parameters
    ----------
    model
        A sequence classifier with one label; also one that is wrapped for distributed or compiled training.
    ids
        int64 [batch, length], padded on the left, on the right or on both sides.
    attention
        [batch, length]; 0 on padding. It alone says where a sequence ends, whatever the token ids there.

    Returns
    -------
    Tensor
        [batch]; the logit at the last token of each sequence, less ``reward_mean``, divided by ``reward_std``. Single
        precision at least; gradients flow.

    Raises
    ------
    ValueError
        If a row is padding alone.

    Notes
    -----
    Rows are first shifted to begin at the left, so that every architecture's own count of positions (rotary, learned,
    or RoBERTa's, which starts behind the padding id) is right, and causal models never look at padding.
    """
    lengths = attention.long().sum(dim=-1)
    if not lengths.all():
        raise ValueError("a sequence is empty")
    config = getattr(model, "module", model).config
    pad = config.get_text_config().pad_token_id
    order = (attention == 0).to(torch.uint8).argsort(dim=-1, stable=True)[:, : int(lengths.max())]
    mask = torch.arange(order.shape[1], device=ids.device) < lengths[:, None]
    shifted = ids.gather(-1, order).masked_fill(~mask, 0 if pad is None else pad)
    if _has_a_plain_head(model):
        hidden = model.base_model(input_ids=shifted, attention_mask=mask.long(), use_cache=False).last_hidden_state
        logits = model.score(hidden[torch.arange(len(ids), device=ids.device), lengths - 1])[:, 0]
    else:
        # The stock forward finds the last token by the padding id, which no ordinary sequence holds.
        logits = model(input_ids=shifted, attention_mask=mask.long()).logits[:, 0]
    mean, std = normalisation(config)
    scores: Tensor = (logits.to(torch.promote_types(logits.dtype, torch.float32)) - mean) / std
    return scores


def score(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    batch_size: int = 64,
    finished: Sequence[bool] | None = None,
) -> list[float]:
    """Score completions of prompts.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    prompts, completions
        As many of the one as of the other; no chat template is applied.
    batch_size
        Sequences a forward pass.
    finished
        Whether each completion came to its end: only then an end-of-sequence token follows it. None = all did.

    Returns
    -------
    list of float
        Normalised scores, in the order given.

    Raises
    ------
    UserError
        If a sequence is longer than the model can read, or a score is not a number.
    """
    ended = [True] * len(prompts) if finished is None else finished
    return score_sequences(
        model,
        [
            encode(tokenizer, prompt, completion, finished=end)
            for prompt, completion, end in zip(prompts, completions, ended, strict=True)
        ],
        batch_size=batch_size,
    )


def encode(tokenizer: Any, prompt: str | Sequence[int], completion: str, *, finished: bool = True) -> list[int]:
    """Make a prompt and a completion one sequence of token ids, the end-of-sequence token last if it is finished.

    The prompt may be given as its token ids, where many completions follow it.
    """
    asked = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    completed = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return [*asked, *completed, *([tokenizer.eos_token_id] if finished else [])]


@torch.inference_mode()
def score_sequences(
    model: Any, sequences: Sequence[Sequence[int]], *, batch_size: int = 64, one_prompt: bool = False
) -> list[float]:
    """Score whole sequences of token ids, as `score` does texts; equal ones are computed once, and score the same.

    With ``one_prompt`` the tokens that all of them begin with are read once, by a causal model that can go on from
    them; only rounding differs.
    """
    if (limit := max_length(model)) is not None and (longest := max(map(len, sequences), default=0)) > limit:
        raise UserError(f"{_name(model)}: a sequence has {longest} tokens, and the reward model reads at most {limit}")
    unique = sorted({tuple(sequence) for sequence in sequences}, key=len)  # neighbours then need little padding
    shared = _shared(unique) if one_prompt and len(unique) > 1 else 0
    if shared and _has_a_plain_head(model) and _goes_on(model):
        found = _scores_after(model, unique[0][:shared], [sequence[shared:] for sequence in unique], batch_size)
    else:
        found = _scores_alone(model, unique, batch_size)
    scores = dict(zip(unique, found, strict=True))
    if not all(map(math.isfinite, scores.values())):
        raise UserError(f"{_name(model)}: the reward model's scores are not numbers; are its weights whole?")
    return [scores[tuple(sequence)] for sequence in sequences]


def _shared(sequences: Sequence[tuple[int, ...]]) -> int:
    """Count the tokens that all begin with; each keeps a last token of its own, at which its score is read."""
    heads = [sequence[:-1] for sequence in sequences]
    first, last = min(heads), max(heads)  # what these two share all share
    differing = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(differing, min(len(first), len(last)))


def _scores_alone(model: Any, sequences: Sequence[tuple[int, ...]], batch_size: int) -> Iterator[float]:
    """Score sequences, each from its first token."""
    for start in range(0, len(sequences), batch_size):
        ids, attention = _padded(sequences[start : start + batch_size])
        yield from score_ids(model, ids.to(model.device), attention.to(model.device)).tolist()


def _scores_after(
    model: Any, prompt: Sequence[int], rests: Sequence[tuple[int, ...]], batch_size: int
) -> Iterator[float]:
    """Score what follows one prompt; its keys and values are computed once."""
    mean, std = normalisation(model.config)
    ids = torch.tensor([prompt], device=model.device)
    read = model.base_model(input_ids=ids, use_cache=True).past_key_values
    for start in range(0, len(rests), batch_size):
        ids, attention = (values.to(model.device) for values in _padded(rests[start : start + batch_size]))
        rows, length = ids.shape
        cache = copy.deepcopy(read)
        cache.batch_repeat_interleave(rows)
        hidden = model.base_model(
            input_ids=ids,
            attention_mask=torch.cat([attention.new_ones(rows, len(prompt)), attention], dim=1),
            position_ids=torch.arange(len(prompt), len(prompt) + length, device=ids.device).expand(rows, length),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        last = attention.sum(dim=1) - 1
        logits = model.score(hidden[torch.arange(rows, device=ids.device), last])[:, 0]
        yield from ((logits.to(torch.promote_types(logits.dtype, torch.float32)) - mean) / std).tolist()


def _padded(sequences: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Make sequences one tensor, padded on the right, and tell which of it is theirs."""
    ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    attention = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        attention[row, : len(sequence)] = 1
    return ids, attention


_GOING_ON: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def _goes_on(model: Any) -> bool:
    """Whether a model with a plain head reads on from a prompt's keys and values, tried once on short sequences."""
    if model not in _GOING_ON:
        _GOING_ON[model] = _is_causal(model) and _reads_on(model)
    return _GOING_ON[model]


def _is_causal(model: Any) -> bool:
    """Whether what it says of a prompt is the same whatever follows, and however long that is.

    No attribute tells; but positions that are scaled by the whole length (dynamic and LongRoPE) short sequences do not.
    """
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if any(part.get("rope_type") in {"dynamic", "longrope"} for part in kinds):
        return False
    size = int(model.get_input_embeddings().weight.shape[0])
    prompt, tails = range(5, 13), (range(13, 17), range(17, 21))
    ids = torch.tensor([[token % size for token in (*prompt, *tail)] for tail in tails], device=model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, : len(prompt)]
    return torch.equal(hidden[0], hidden[1])


def _reads_on(model: Any) -> bool:
    size = int(model.get_input_embeddings().weight.shape[0])
    prompt, long, short = ([token % size for token in tokens] for tokens in (range(5, 13), range(3, 9), range(4, 6)))
    rests = [tuple(short), tuple(long)]
    mean, std = normalisation(model.config)
    try:
        after = list(_scores_after(model, prompt, rests, len(rests)))
        alone = list(_scores_alone(model, [(*prompt, *rest) for rest in rests], 1))
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    near = {torch.float64: 1e-9, torch.float32: 1e-2}.get(model.dtype, 0.1)
    # Of the logits, which no shift makes large.
    return all(abs(a - b) * std <= near * max(abs(b * std + mean), 1e-3) for a, b in zip(after, alone, strict=True))


def normalisation(config: Any) -> tuple[float, float]:
    """Read ``reward_mean`` and ``reward_std`` of a configuration; 0 and 1 where they are absent."""
    return float(getattr(config, "reward_mean", 0.0)), float(getattr(config, "reward_std", 1.0))


def max_length(model: Any) -> int | None:
    """Tokens that a model has positions for; None where its configuration does not tell."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit and limit > 0 else None


def compute_exactly(model: Any) -> str:
    """Compute fp32 weights in fp64 where a model on a CPU can, and say in words what is computed in.

    A score's last bits then depend on the batch by some 1e-15 instead of 1e-7, and never decide which of two different
    texts is the better one. Models that cannot (some compute parts of attention in fp32, where a mask made for fp64
    overflows), those of other dtypes and those on a GPU are left as they are.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    if model.device.type == "cpu" and model.dtype == torch.float32:
        if _scores_do_not_depend_on_padding(model.double()):
            return f"{dtype}, computed in float64"
        model.float()  # the way back is exact
    return dtype


def _has_a_plain_head(model: Any) -> bool:
    """Whether backbone and linear head can be called one after the other, going around nothing.

    Whatever wraps a model or its forward (data parallelism, compilation, autocast, adapters that hold the head) wants
    its own forward called.
    """
    from transformers import PreTrainedModel

    return (
        isinstance(model, PreTrainedModel)
        and "forward" not in vars(model)
        and model.base_model is not model
        and isinstance(getattr(model, "score", None), torch.nn.Linear)
    )


@torch.inference_mode()
def _scores_do_not_depend_on_padding(model: Any) -> bool:
    size = int(model.get_input_embeddings().weight.shape[0])
    long, short = [token % size for token in range(5, 25)], [token % size for token in range(3, 6)]
    ids = torch.tensor([long, short + [0] * (len(long) - len(short))])
    attention = torch.zeros_like(ids)
    attention[0], attention[1, : len(short)] = 1, 1
    try:
        together = score_ids(model, ids, attention)
        alone = score_ids(model, ids[1:, : len(short)], attention[1:, : len(short)])
    except (RuntimeError, TypeError, ValueError):
        return False
    return bool(together.isfinite().all()) and math.isclose(
        together[1].item(), alone.item(), rel_tol=1e-9, abs_tol=1e-9
    )


def _check_config(config: Any, name: str) -> None:
    where = f"{name}/config.json"
    if config.num_labels != 1:
        raise UserError(f"num_labels is {config.num_labels}, and a reward model has 1", where=where)
    try:
        mean, std = normalisation(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"reward_mean or reward_std is not a number: {error}", where=where) from error
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise UserError(f"reward_mean {mean} and reward_std {std} must be numbers, the second above 0", where=where)


def _name(model: Any) -> str:
    return str(model.config.name_or_path)
