"""In-process sampling from a causal language model: prefill a prompt once, expand its KV cache n ways, decode.

This file needs torch and transformers alone; the trainers draw their rollouts with it.

How it differs from ``model.generate``: every sampling field is explicit (transformers fills in ``top_k=50`` and
whatever ``generation_config.json`` says), the noise comes from the caller, and finished rows leave the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from benchmark.sampling.caches import FixedDecoder, RoomyCache, SharedCache, attending

CPU_LOGITS = 2**17
"""So many logits are drawn from at a time on a CPU: 1 MiB in double precision, which its cache holds.

All at once, each copy on the way is so large that the allocator gives it back, and page faults outweigh arithmetic.
"""


class Continuation(NamedTuple):
    """One sampled output."""

    tokens: list[int]
    """Generated tokens; ends with an end-of-sequence token exactly if ``finished`` by one."""
    finished: bool
    """True if an end-of-sequence token or a stop condition ended it, False if the budget did."""
    log_prob: float | None = None
    """Natural log-probability of the tokens together, under the distribution that they were drawn from; None at
    temperature 0, and where it was not asked for."""


class Drawn(NamedTuple):
    """One token a row."""

    tokens: torch.Tensor
    """int64 [rows]."""
    log_probs: torch.Tensor
    """[rows]: natural log-probability of each token under the distribution that it was drawn from, 0 at temperature 0.
    Empty where it was not asked for."""


def draw(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    uniform: torch.Tensor,
    *,
    top_p: float,
    top_k: int,
    log_probs: bool = False,
) -> Drawn:
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
    log_probs
        Tell how likely each token was.
    """
    if logits.device.type != "cpu":
        return _draw(logits, temperature, uniform, top_p, top_k, log_probs)
    rows = max(1, CPU_LOGITS // logits.shape[-1])
    parts = zip(torch.split(logits, rows), torch.split(temperature, rows), torch.split(uniform, rows), strict=True)
    drawn = [_draw(*part, top_p, top_k, log_probs) for part in parts]
    return Drawn(torch.cat([part.tokens for part in drawn]), torch.cat([part.log_probs for part in drawn]))


def _draw(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    uniform: torch.Tensor,
    top_p: float,
    top_k: int,
    log_probs: bool,
) -> Drawn:
    """Draw one token a row, all rows at once."""
    # Double precision: a cumulative sum over 100,000 tokens in fp32 is off by more than a rare token's probability.
    logits = logits if logits.device.type == "mps" else logits.double()
    scaled = logits
    if logits.device.type != "cpu" or not bool((temperature == 1).all()):  # a GPU would have to be waited for
        scaled = logits / torch.where(temperature > 0, temperature, 1.0).to(logits)[:, None]
    if 0 < top_k < scaled.shape[-1]:
        edge = scaled.topk(top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < edge, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    on_cpu = logits.device.type == "cpu"
    # A GPU always needs it: to know whether some row is greedy would be to wait for it.
    best = None if on_cpu else logits.argmax(dim=-1)
    # The most likely token's tells what softmax divided by; no second sum of exponentials is needed.
    highest = _largest(probabilities, best) if log_probs else None
    if top_p < 1:
        descending, order = probabilities.sort(dim=-1, descending=True, stable=True)
        # A token stays while the mass before it is below top_p, so the first one always stays.
        dropped = descending.cumsum(dim=-1) - descending >= top_p
        probabilities = probabilities.masked_fill(dropped.gather(-1, order.argsort(dim=-1)), 0.0)
    cumulative = probabilities.cumsum_(dim=-1)
    # Times the total, which is 1 only up to rounding and less under top-p.
    target = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    sampled = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    told = logits.new_empty(0)
    if highest is not None:
        # Of logits: the difference of two cumulative sums is nothing but rounding where a token is rare.
        told = scaled.gather(-1, sampled[:, None])[:, 0] - _largest(scaled, best) + highest.log()
        if top_p < 1:
            told = told - cumulative[:, -1].log()
    temperature = temperature.to(logits.device)
    if on_cpu and bool((temperature > 0).all()):
        return Drawn(sampled, told)
    told = torch.where(temperature > 0, told, 0.0) if log_probs else told
    return Drawn(torch.where(temperature > 0, sampled, logits.argmax(dim=-1) if best is None else best), told)


def _largest(values: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    """Each row's largest value: at its place, where that is known, and else by a search, which a CPU is quick at."""
    return values.amax(dim=-1) if place is None else values.gather(-1, place[:, None])[:, 0]


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
    log_probs: bool = False,
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
    log_probs
        Tell how likely each continuation was. Its last bits depend on the batch, as the logits' do.

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
        heads = model.config.get_text_config().num_attention_heads
        fixed = FixedDecoder(forward, cache, mask[index], budget - 1, heads)
    elif shared and states_positions and SharedCache.fits(model, cache):
        roomy = SharedCache(cache, mask, index, budget - 1)
        scope = attending(model, SharedCache.name)
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
    told: list[tuple[torch.Tensor, torch.Tensor]] = []  # of each step: its rows, and their tokens' log-probabilities
    with scope:
        for step in range(budget):
            if torch.isnan(logits.amax()):  # a maximum hands NaN on
                raise FloatingPointError("the model's logits are not numbers")
            drawn, likely = draw(logits, temperature, noise[:, step], top_p=top_p, top_k=top_k, log_probs=log_probs)
            told.append((active, likely))
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
            dead = len(active) - alive
            if dead >= 0.25 * len(active) and (not fixed or fixed.pays(dead, budget - step - 1, logits.shape[-1])):
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
    sums = _sums(told, counts) if log_probs else [0.0] * len(rows)
    return [
        Continuation(
            table[row, : counts[row]].tolist(),
            finished[row],
            sums[row] if log_probs and temperatures[row] > 0 else None,
        )
        for row in range(len(rows))
    ]


def _sums(told: list[tuple[torch.Tensor, torch.Tensor]], counts: list[int]) -> list[float]:
    """Add up each row's log-probabilities, leaving out what was drawn after its end.

    All steps at once: to fetch every step's own would have a GPU wait for it.
    """
    table = torch.zeros(len(counts), len(told), dtype=torch.float64)
    steps = torch.arange(len(told)).repeat_interleave(torch.tensor([len(active) for active, _ in told]))
    table[torch.cat([active for active, _ in told]), steps] = torch.cat([likely for _, likely in told]).cpu().double()
    own = torch.arange(len(told)) < torch.tensor(counts)[:, None]
    sums: list[float] = torch.where(own, table, 0.0).sum(dim=-1).tolist()
    return sums


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
