"""In-process sampling from a causal language model: prefill a prompt once, expand its KV cache n ways, decode.

This file needs torch and transformers alone; the trainers draw their rollouts with it.

How it differs from ``model.generate``: every sampling field is explicit (transformers fills in ``top_k=50`` and
whatever ``generation_config.json`` says), the noise comes from the caller, and finished rows leave the batch.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple

import torch


class Continuation(NamedTuple):
    """One sampled output."""

    tokens: list[int]
    """Generated tokens; ends with an end-of-sequence token exactly if ``finished`` by one."""
    finished: bool
    """True if an end-of-sequence token or a stop condition ended it, False if the budget did."""


def draw(
    logits: torch.Tensor, temperature: torch.Tensor, uniform: torch.Tensor, *, top_p: float, top_k: int
) -> torch.Tensor:
    """Draw one token a row by inverting the cumulative distribution at ``uniform``.

    Parameters
    ----------
    logits
        [rows, vocabulary].
    temperature
        [rows]; 0 takes the most likely token.
    uniform
        [rows], in [0, 1).
    top_p, top_k
        Nucleus mass (1 = off) and number of most likely tokens kept (0 = off; ties at the edge are kept).

    Returns
    -------
    torch.Tensor
        int64 [rows].
    """
    # Double precision: a cumulative sum over 100,000 tokens in fp32 is off by more than a rare token's probability.
    logits = logits if logits.device.type == "mps" else logits.double()
    scaled = logits / torch.where(temperature > 0, temperature, 1.0).to(logits)[:, None]
    if 0 < top_k < scaled.shape[-1]:
        edge = scaled.topk(top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < edge, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    if top_p < 1:
        descending, order = probabilities.sort(dim=-1, descending=True, stable=True)
        # A token stays while the mass before it is below top_p, so the first one always stays.
        dropped = descending.cumsum(dim=-1) - descending >= top_p
        probabilities = probabilities.masked_fill(dropped.gather(-1, order.argsort(dim=-1)), 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    # Times the total, which is 1 only up to rounding and less under top-p.
    target = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    sampled = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    temperature = temperature.to(logits.device)
    if logits.device.type == "cpu" and bool((temperature > 0).all()):  # a GPU would have to be waited for
        return sampled
    return torch.where(temperature > 0, sampled, logits.argmax(dim=-1))


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
    """

    def __init__(self, forward: Callable[..., Any], cache: Any, mask: torch.Tensor, room: int) -> None:
        self.forward, self.cache = forward, cache
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

    def attend(self, number: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend in layer ``number`` over prompts and own tokens; scaled query and result are [rows, heads, width]."""
        keys, values = self.prompts[number]
        prompts, heads, _, width = keys.shape
        group = query.shape[1] // heads
        together = query.new_zeros(prompts * self.width, heads, group, width)
        together[self.places] = query.view(-1, heads, group, width)
        together = together.view(prompts, self.width, heads, group, width).transpose(1, 2).flatten(2, 3)
        scores = together @ keys.transpose(-1, -2)
        if self.padding is not None:
            scores.masked_fill_(self.padding, -torch.inf)
        theirs = _softmax_parts(scores, values)
        own = _softmax_parts(query.view(-1, heads, group, width) @ key.transpose(-1, -2), value)
        seen, sums, tops = (
            part.view(prompts, heads, self.width, group, -1).transpose(1, 2).flatten(0, 1)[self.places]
            for part in theirs
        )
        top = torch.maximum(tops, own[2])
        a, b = (tops - top).exp_(), (own[2] - top).exp_()
        joined: torch.Tensor = (a * seen + b * own[0]) / (a * sums + b * own[1])
        return joined.flatten(1, 2)


def _softmax_parts(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted sum, sum of weights and largest score of a part of a softmax; overwrites the scores."""
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    return weights @ values, weights.sum(-1, keepdim=True), top


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
def _attending(model: Any, name: str) -> Iterator[None]:
    """Let a model attend in another way for a while."""
    from transformers import AttentionInterface

    AttentionInterface.register(SharedCache.name, _attend_shared)
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


@torch.inference_mode()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    temperatures: Sequence[float],
    uniforms: torch.Tensor,
    *,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    top_p: float,
    top_k: int,
    stop: Callable[[list[int]], bool] | None = None,
    graph: bool = False,
    shared: bool = False,
) -> list[Continuation]:
    """Sample a batch of continuations.

    Parameters
    ----------
    model
        A transformers causal language model in evaluation mode.
    prompts
        Token ids of each distinct prompt; none may be empty.
    rows
        For each continuation wanted, the number of its prompt.
    temperatures
        One for each row.
    uniforms
        [rows, max_new_tokens], in [0, 1): the noise, and the budget.
    eos_token_ids
        Tokens that end an output.
    pad_token_id
        Fills the left of shorter prompts; never read by the model.
    top_p, top_k
        See `draw`.
    stop
        Called with a row's tokens after each step; True ends the row.
    graph
        Decode with a `FixedDecoder` if the model fits one; only rounding differs.
    shared
        Decode with a `SharedCache` if the model fits one; only rounding differs. `expands` tells whether it does.

    Returns
    -------
    list of Continuation
        One for each row, in the order of ``rows``.

    Raises
    ------
    FloatingPointError
        If a logit is NaN: what is drawn from it would look like text.
    """
    device = model.device
    accepts = set(inspect.signature(model.forward).parameters)
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_token_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, prompt in enumerate(prompts):
        ids[number, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[number, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)

    def forward(tokens: torch.Tensor, positions: torch.Tensor, **kwargs: Any) -> Any:
        # Positions are stated because left padding would shift learned and rotary ones alike.
        if "position_ids" in accepts:
            kwargs["position_ids"] = positions
        if "logits_to_keep" in accepts:
            kwargs["logits_to_keep"] = 1
        return model(input_ids=tokens, use_cache=True, **kwargs)

    out = forward(ids, (mask.cumsum(-1) - 1).clamp(min=0), attention_mask=mask)
    cache = out.past_key_values
    index = torch.tensor(rows, dtype=torch.long, device=device)
    budget = uniforms.shape[1]
    states_positions = "position_ids" in accepts
    fixed: FixedDecoder | None = None
    roomy: RoomyCache | SharedCache | None = None
    scope: AbstractContextManager[None] = nullcontext()
    if graph and states_positions and FixedDecoder.fits(model, cache):
        cache.batch_select_indices(index)
        fixed = FixedDecoder(forward, cache, mask[index], budget - 1)
    elif shared and states_positions and SharedCache.fits(model, cache):
        roomy = SharedCache(cache, mask, index, budget - 1)
        scope = _attending(model, SharedCache.name)
    elif RoomyCache.fits(cache):
        roomy = RoomyCache(cache, index, budget - 1)
    else:
        cache.batch_select_indices(index)
    logits, mask = out.logits[:, -1][index], mask[index]
    lengths = mask.sum(-1)
    if isinstance(roomy, SharedCache):
        # Four dimensions, which transformers takes as they are. Of the prompts the cache itself knows.
        mask = torch.ones(len(rows), 1, 1, 0, dtype=torch.bool, device=device)
    # Never in the model's own dtype: bfloat16 makes 0.3 into 0.3008.
    temperature = torch.tensor(temperatures, dtype=torch.float32 if device.type == "mps" else torch.float64).to(device)
    noise = uniforms.to(device)
    eos = torch.tensor(list(eos_token_ids), dtype=torch.long, device=device)

    table = torch.zeros(len(rows), budget, dtype=torch.long)
    counts = [budget] * len(rows)
    finished = [False] * len(rows)
    active = torch.arange(len(rows))
    going = torch.ones(len(rows), dtype=torch.bool)  # of the active rows, those that have not ended
    with scope:
        for step in range(budget):
            if torch.isnan(logits.amax()):  # a maximum hands NaN on
                raise FloatingPointError("the model's logits are not numbers")
            drawn = draw(logits, temperature, noise[:, step], top_p=top_p, top_k=top_k)
            table[active, step] = drawn.cpu()
            ended = torch.isin(drawn, eos).cpu() & going
            if stop is not None:
                for place in (going & ~ended).nonzero()[:, 0].tolist():
                    ended[place] = stop(table[active[place], : step + 1].tolist())
            for row in active[ended].tolist():
                counts[row], finished[row] = step + 1, True
            going &= ~ended
            alive = int(going.sum())
            if not alive or step == budget - 1:
                break
            # Dropping rows copies the cache, so wait until a quarter of the batch is dead weight.
            if alive <= 0.75 * len(active):
                active, keep = active[going], going.nonzero()[:, 0].to(device)
                going = going[going]
                (fixed or roomy or _Plain(cache)).keep(keep)
                drawn, mask, lengths, temperature, noise = (x[keep] for x in (drawn, mask, lengths, temperature, noise))
            positions = (lengths + step)[:, None]
            if fixed is not None:
                logits = fixed.step(drawn[:, None], positions)
                continue
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            out = forward(drawn[:, None], positions, attention_mask=mask, past_key_values=cache)
            cache, logits = out.past_key_values, out.logits[:, -1]
    return [Continuation(table[row, : counts[row]].tolist(), finished[row]) for row in range(len(rows))]


class _Plain(NamedTuple):
    """A cache of any other kind, which knows itself how to drop rows."""

    cache: Any

    def keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)


@torch.inference_mode()
def expands(model: Any, *, graph: bool = False, shared: bool = False) -> bool:
    """Whether a model may be sampled by `sample`: padded and expanded, it gives what a plain forward pass gives.

    Tried on two short prompts, since no attribute of a model tells: some have no cache that can be expanded, some take
    no positions, and some compute parts of attention in fp32, where a mask made for fp64 overflows to NaN. ``graph``
    and ``shared`` are those of `sample`: a model that has no use for one does without it, and so passes.
    """
    size = int(model.get_input_embeddings().weight.shape[0])
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 48
    long, short = [token % size for token in range(5, 5 + min(40, limit - 8))], [token % size for token in range(3, 6)]
    exact = next(model.parameters()).dtype == torch.float64
    try:
        noise = torch.full((3, 8), 0.5, dtype=torch.float64)
        together = sample(
            model, [long, short], [1, 0, 0], [0.0] * 3, noise, eos_token_ids=(), pad_token_id=0, top_p=1.0, top_k=0,
            graph=graph, shared=shared,
        )  # fmt: skip
        for prompt, continuation in ((short, together[0]), (long, together[1])):
            ids = torch.tensor([prompt + continuation.tokens], device=model.device)
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            chosen = logits.gather(-1, ids[0, len(prompt) :, None])[:, 0]
            # Equal up to rounding: the token chosen must be (nearly) the most likely one of the plain pass.
            slack = (1e-6 if exact else 0.05) * logits.std(dim=-1)
            if not bool((logits.max(dim=-1).values - chosen <= slack).all()):
                return False
    except (FloatingPointError, RuntimeError, AttributeError, TypeError, IndexError, ValueError):
        return False
    return True
