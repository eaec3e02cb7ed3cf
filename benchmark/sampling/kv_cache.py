"""In-process sampling from a causal language model: prefill a prompt once, expand its KV cache n ways, decode.

This file needs torch and transformers alone; the trainers draw their rollouts with it.

How it differs from ``model.generate``: every sampling field is explicit (transformers fills in ``top_k=50`` and
whatever ``generation_config.json`` says), the noise comes from the caller, and finished rows leave the batch.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
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
    return torch.where(temperature.to(logits.device) > 0, sampled, logits.argmax(dim=-1))


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
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.graph.capture_begin(capture_error_mode="thread_local")
            self.logits = self._run()
            self.graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)


def _write(
    layer: Any, column: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any
) -> tuple[Any, Any]:
    """Put a token's keys and values into their column of a layer's cache."""
    layer.keys.index_copy_(2, column, keys.to(layer.keys.dtype))
    layer.values.index_copy_(2, column, values.to(layer.values.dtype))
    return layer.keys, layer.values


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
    cache.batch_select_indices(index)
    logits, mask = out.logits[:, -1][index], mask[index]
    lengths = mask.sum(-1)
    fixed = None
    if graph and "position_ids" in accepts and FixedDecoder.fits(model, cache):
        fixed = FixedDecoder(forward, cache, mask, uniforms.shape[1] - 1)
    # Never in the model's own dtype: bfloat16 makes 0.3 into 0.3008.
    temperature = torch.tensor(temperatures, dtype=torch.float32 if device.type == "mps" else torch.float64).to(device)
    noise = uniforms.to(device)
    eos = torch.tensor(list(eos_token_ids), dtype=torch.long, device=device)

    tokens: list[list[int]] = [[] for _ in rows]
    finished = [False] * len(rows)
    active = list(range(len(rows)))
    for step in range(uniforms.shape[1]):
        if torch.isnan(logits).any():
            raise FloatingPointError("the model's logits are not numbers")
        drawn = draw(logits, temperature, noise[:, step], top_p=top_p, top_k=top_k)
        ended = torch.isin(drawn, eos).tolist()
        for place, (row, token) in enumerate(zip(active, drawn.tolist(), strict=True)):
            if not finished[row]:
                tokens[row].append(token)
                finished[row] = ended[place] or (stop is not None and stop(tokens[row]))
        alive = [place for place, row in enumerate(active) if not finished[row]]
        if not alive or step == uniforms.shape[1] - 1:
            break
        # Dropping rows copies the cache, so wait until a quarter of the batch is dead weight.
        if len(alive) <= 0.75 * len(active):
            keep = torch.tensor(alive, dtype=torch.long, device=device)
            if fixed is not None:
                fixed.keep(keep)
            else:
                cache.batch_select_indices(keep)
            drawn, mask, lengths, temperature, noise = (x[keep] for x in (drawn, mask, lengths, temperature, noise))
            active = [active[place] for place in alive]
        if fixed is not None:
            logits = fixed.step(drawn[:, None], (lengths + step)[:, None])
            continue
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
        out = forward(drawn[:, None], (lengths + step)[:, None], attention_mask=mask, past_key_values=cache)
        cache, logits = out.past_key_values, out.logits[:, -1]
    return [Continuation(tokens[row], finished[row]) for row in range(len(rows))]


@torch.inference_mode()
def expands(model: Any) -> bool:
    """Whether a model may be sampled by `sample`: padded and expanded, it gives what a plain forward pass gives.

    Tried on two short prompts, since no attribute of a model tells: some have no cache that can be expanded, some take
    no positions, and some compute parts of attention in fp32, where a mask made for fp64 overflows to NaN.
    """
    size = int(model.get_input_embeddings().weight.shape[0])
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 48
    long, short = [token % size for token in range(5, 5 + min(40, limit - 8))], [token % size for token in range(3, 6)]
    exact = next(model.parameters()).dtype == torch.float64
    try:
        noise = torch.full((2, 8), 0.5, dtype=torch.float64)
        together = sample(
            model, [long, short], [1, 0], [0.0, 0.0], noise, eos_token_ids=(), pad_token_id=0, top_p=1.0, top_k=0
        )
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
