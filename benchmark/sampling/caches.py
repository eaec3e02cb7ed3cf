"""Caches of keys and values for decoding: of full size and recorded on a GPU, written in place, or shared by rows.

This file needs torch and transformers alone; `benchmark.sampling.kv_cache` chooses among them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

RECORDING = 2**33
"""Bytes a layer that decoding reads in the time that it takes to run one step as written and record the next.

That is about 2 ms, for the launches of two steps, at an H200's 4.3 TB/s. Whether rows are dropped may depend on no
clock, because rounding depends on the rows.
"""


class FixedDecoder:
    """Decodes with a cache that has its full size from the start, so that a step can be recorded and replayed.

    A step of a small model is a thousand launches of tiny kernels, which keep the CPU busy for longer than the GPU; a
    CUDA graph is launched once. The first step runs as it is written, the second is recorded, and from then on it is
    replayed. Without a GPU all run as written.

    Parameters
    ----------
    forward
        Runs the model on (tokens, positions, attention_mask=…, past_key_values=…).
    cache
        Filled by the prompts; changed in place.
    mask
        [rows, prompt]: 0 on padding.
    room
        Tokens to be decoded at most.
    heads
        Of queries; where there are fewer of keys and values, a step copies these for every query head.
    """

    def __init__(self, forward: Callable[..., Any], cache: Any, mask: torch.Tensor, room: int, heads: int) -> None:
        self.forward, self.cache = forward, cache
        self.group = heads // cache.layers[0].keys.shape[1]
        self.column = torch.tensor([mask.shape[1]], device=mask.device)
        # Four dimensions, which transformers takes as they are; two it would look into, and wait for the GPU.
        self.mask = torch.nn.functional.pad(mask.bool(), (0, room))[:, None, None]
        kind = mask.device.type
        for layer in cache.layers:
            # Autocast would keep the cache in float32, and cast all of it at every step.
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.keys.dtype
            whole = layer.keys.to(dtype), layer.values.to(dtype)
            layer.keys, layer.values = (torch.nn.functional.pad(x, (0, 0, 0, room)) for x in whole)
            # A circle of references would keep the cache until some later garbage collection.
            layer.update = partial(_write, weakref.proxy(layer), self.column)
        self.steps = 0

    @staticmethod
    def fits(model: Any, cache: Any) -> bool:
        """Whether a model attends over a plain cache by masks alone."""
        from transformers.cache_utils import DynamicLayer

        config = model.config
        # These look at the positions, and so wait for the GPU, which a recording cannot.
        rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
        if config._attn_implementation != "sdpa" or getattr(config, "alibi", False) or rope in {"dynamic", "longrope"}:
            return False
        return all(type(layer) is DynamicLayer for layer in cache.layers)

    def pays(self, dropped: int, steps: int, vocabulary: int) -> bool:
        """Whether so many steps without so many rows save more, by an estimate, than it takes to record one anew."""
        layers = self.cache.layers
        row = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers) // len(self.mask)
        if self.group > 1:
            row *= 1 + 2 * self.group  # read, and each copy written and read again
        row += 6 * 8 * vocabulary  # logits are drawn from in float64, of which some six copies are made
        return bool(row * dropped * steps > RECORDING * len(layers))

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows."""
        self.cache.batch_select_indices(rows)
        self.mask, self.steps = self.mask[rows], 0

    def step(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read a token a row, and return the logits of the next: [rows, vocabulary], overwritten by the next step."""
        self.mask.index_fill_(-1, self.column, True)
        if self.steps == 0:
            self.tokens, self.positions = tokens, positions
        else:
            self.tokens.copy_(tokens)
            self.positions.copy_(positions)
        if self.steps == 0 or tokens.device.type != "cuda":
            logits = self._run()
        else:
            if self.steps == 1:
                self._record()
            self.graph.replay()
            logits = self.logits
        self.steps += 1
        self.column += 1
        return logits

    def _run(self) -> torch.Tensor:
        out = self.forward(self.tokens, self.positions, attention_mask=self.mask, past_key_values=self.cache)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _record(self) -> None:
        # Not by torch.cuda.graph(), which gives all unused memory back first and makes training ask for it again.
        device = self.mask.device
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        # The model's GPU need not be the current one.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            self.graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.logits = self._run()
            except BaseException:
                # Or the GPU would go on recording whatever its memory is used for next.
                with suppress(RuntimeError):
                    self.graph.capture_end()
                raise
            self.graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)


def _write(
    layer: Any, column: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any
) -> tuple[Any, Any]:
    """Put a token's keys and values into their column of a layer's cache."""
    layer.keys.index_copy_(2, column, keys.to(layer.keys.dtype))
    layer.values.index_copy_(2, column, values.to(layer.values.dtype))
    return layer.keys, layer.values


class RoomyCache:
    """Gives the layers of a cache room for all tokens to come, so that a step writes its own keys and values alone.

    Without it a step copies the whole cache, which takes longer than all that is computed with it.

    Parameters
    ----------
    cache
        Filled by the prompts, a row each; changed in place.
    rows
        For each continuation, the number of its prompt.
    room
        Tokens to be decoded at most.
    """

    def __init__(self, cache: Any, rows: torch.Tensor, room: int) -> None:
        self.cache = cache
        for layer in cache.layers:
            filled = layer.keys, layer.values
            layer.whole = [_with_room(part[rows], room) for part in filled]
            layer.keys, layer.values = filled
            layer.update = partial(_append, weakref.proxy(layer))
            _show(layer, filled[0].shape[2])

    @staticmethod
    def fits(cache: Any) -> bool:
        """Whether all layers are of the kind that keeps every token."""
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in cache.layers)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows."""
        _keep_rows(self.cache, rows)


class SharedCache:
    """Keeps the keys and values of a prompt once, however many continuations it has, and only their own beside it.

    All continuations of a prompt look at it together, in one matrix product each for keys and values; what they see
    there and what each sees in its own tokens is then joined, as parts of one softmax. This is exact, and many times
    faster than to look at a copy each, since memory is what attention waits for.

    Parameters
    ----------
    cache
        Filled by the prompts, a row each; its layers hold the continuations' own tokens from here on.
    mask
        [prompts, longest]: 0 on padding.
    rows
        For each continuation, the number of its prompt.
    room
        Tokens to be decoded at most.
    """

    name = "gendiv_shared_prompts"

    def __init__(self, cache: Any, mask: torch.Tensor, rows: torch.Tensor, room: int) -> None:
        self.cache, self.prompts = cache, [(layer.keys, layer.values) for layer in cache.layers]
        self.padding = None if bool(mask.all()) else (mask == 0)[:, None, None]
        self.rows = rows
        self._arrange()
        for number, layer in enumerate(cache.layers):
            layer.whole = [
                part.new_empty(len(rows), part.shape[1], room, part.shape[3]) for part in self.prompts[number]
            ]
            layer.update = partial(_append_marked, weakref.proxy(layer), weakref.proxy(self), number)
            _show(layer, 0)

    @staticmethod
    def fits(model: Any, cache: Any) -> bool:
        """Whether it is worth a try, which `expands` makes."""
        exact = model.dtype in (torch.float32, torch.float64) and model.device.type == "cpu"
        return exact and FixedDecoder.fits(model, cache)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows, and with the prompts that these have."""
        left, self.rows = torch.unique(self.rows[rows], return_inverse=True)
        self.prompts = [(keys[left], values[left]) for keys, values in self.prompts]
        self.padding = None if self.padding is None else self.padding[left]
        _keep_rows(self.cache, rows)
        self._arrange()

    def _arrange(self) -> None:
        """Give each row a place beside the others of its prompt: the p-th prompt's are p · width and following."""
        counts = self.rows.bincount(minlength=len(self.prompts[0][0]))
        order = self.rows.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[self.rows[order]]
        self.width = int(counts.max())
        self.places = self.rows * self.width + rank
        # Whole prompts in a row, as most batches are, need no moving.
        self.in_place = torch.equal(self.places, torch.arange(len(counts) * self.width))

    def attend(self, number: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend in layer ``number`` over prompts and own tokens; scaled query and result are [rows, heads, width]."""
        keys, values = self.prompts[number]
        prompts, heads, _, width = keys.shape
        group = query.shape[1] // heads
        single = together = query.view(-1, heads, group, width)
        if not self.in_place:
            together = query.new_zeros(prompts * self.width, heads, group, width)
            together[self.places] = single
        together = together.view(prompts, self.width, heads, group, width).transpose(1, 2).flatten(2, 3)
        scores = together @ keys.transpose(-1, -2)
        if self.padding is not None:
            scores.masked_fill_(self.padding, -torch.inf)
        theirs = _softmax_parts(scores, values)
        own = _softmax_parts(single @ key.transpose(-1, -2), value)
        parts = [part.view(prompts, heads, self.width, group, -1).transpose(1, 2).flatten(0, 1) for part in theirs]
        seen, sums, tops = parts if self.in_place else [part[self.places] for part in parts]
        top = torch.maximum(tops, own[2])
        a, b = (tops - top).exp_(), (own[2] - top).exp_()
        joined: torch.Tensor = (a * seen + b * own[0]) / (a * sums + b * own[1])
        return joined.flatten(1, 2)


def _softmax_parts(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted sum, sum of weights and largest score of a part of a softmax; overwrites the scores."""
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    # So small a product, torch computes on a CPU by a plain loop, at twice the time.
    tiny = weights.shape[-2] == 1 and weights.shape[-1] * values.shape[-1] < 400
    summed = (weights.transpose(-1, -2) * values).sum(-2, keepdim=True) if tiny else weights @ values
    return summed, weights.sum(-1, keepdim=True), top


def _attend_shared(
    module: Any,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  # own tokens are never padding, and all in the past
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention functions do: [rows, 1, heads, width]."""
    unknown = [name for name, given in kwargs.items() if given is not None and name not in _HARMLESS]
    if dropout or unknown:
        raise ValueError(f"attention with {unknown or 'dropout'} is not what is computed here")
    cache, number = key.shared  # type: ignore[attr-defined]  # by _append_marked; whatever changed them dropped it
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return cache.attend(number, query[:, :, 0] * scale, key, value)[:, None], None


_HARMLESS = {"position_ids", "use_cache", "is_causal", "output_attentions", "output_hidden_states", "return_dict"}


def _append_marked(
    layer: Any, cache: Any, number: int, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any
) -> tuple[Any, Any]:
    """Append, and say with the keys to whose prompts they belong."""
    keys, values = _append(layer, keys, values)
    keys.shared = cache, number  # type: ignore[attr-defined]
    return keys, values


def _append(layer: Any, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
    """Put a token's keys and values behind those of a layer."""
    start = layer.keys.shape[2]
    for whole, new in zip(layer.whole, (keys, values), strict=True):
        whole[:, :, start : start + new.shape[2]] = new
    _show(layer, start + keys.shape[2])
    return layer.keys, layer.values


def _keep_rows(cache: Any, rows: torch.Tensor) -> None:
    for layer in cache.layers:
        length = layer.keys.shape[2]
        layer.whole = [_with_room(part[:, :, :length][rows], part.shape[2] - length) for part in layer.whole]
        _show(layer, length)


def _show(layer: Any, length: int) -> None:
    """Let a layer hold so much of what it has room for."""
    layer.keys, layer.values = (whole[:, :, :length] for whole in layer.whole)


def _with_room(filled: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, length, width = filled.shape
    whole = filled.new_empty(rows, heads, length + room, width)
    whole[:, :, :length] = filled
    return whole


@contextmanager
def attending(model: Any, name: str) -> Iterator[None]:
    """Let a model attend in another way for a while."""
    from transformers import AttentionInterface

    AttentionInterface.register(SharedCache.name, _attend_shared)
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before
