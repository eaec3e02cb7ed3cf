"""How far a policy is from another, and how sure it is of its tokens: on the very outputs that a run holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.opened import open_run
from benchmark.records import Cell, Prompt, Sample, Sampling
from benchmark.runs import Run, write_atomically
from benchmark.sampling.hf import HFSampler
from benchmark.sampling.kv_cache import Continuation
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request
from reference_models.core import collate, entropy, token_log_probs
from reference_models.models import completion_logits, load_policy

ENTRIES = 2**24
"""Logits of one forward pass, at most."""
TOGETHER = 128
"""Outputs that are read together, at most; neighbours are of like length."""
MOST_OTHERS = {"cpu": 0.01, "cuda": 0.05}
"""Share of outputs that may come out otherwise when they are drawn again: as many as rounding may change.

On a GPU another batch rounds otherwise. What it draws is the policy's as well as what the run holds is.
"""
Measured = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Task → temperature → document → ``kl``, ``log_ratio``, ``entropy``, ``tokens``: means over its outputs."""


class Terms(NamedTuple):
    """Sums over the tokens of each completion: [batch] each."""

    kl: Tensor
    log_ratio: Tensor
    entropy: Tensor


def divergences(logits: Tensor, reference: Tensor, tokens: Tensor, mask: Tensor) -> Terms:
    """Estimate KL(policy ‖ reference) of whole completions, from ones that the policy drew, in nats.

    Parameters
    ----------
    logits, reference
        [batch, C, vocabulary]: the policy's, divided by the temperature that it drew at, and the reference's.
    tokens, mask
        [batch, C]; the mask is 1 on completion tokens.

    Returns
    -------
    Terms
        ``kl``: the exact divergence of the two next-token distributions, summed over the states that the completion
        went through. ``log_ratio``: log π(y) − log π_ref(y). Both have the mean KL(π ‖ π_ref) over completions that π
        drew, up to the longest length that it may draw; the first never is below 0 and varies less, because each
        token's choice is averaged out given what stands before it. ``entropy``: of the next-token distributions.
    """
    mine, other = (values.double().log_softmax(dim=-1) for values in (logits, reference))
    # A token that the policy rules out adds nothing.
    states = torch.where(mine > -torch.inf, mine.exp() * (mine - other), 0.0).sum(dim=-1)
    ratios = token_log_probs(mine, tokens) - token_log_probs(other, tokens)
    sums = [values.masked_fill(mask == 0, 0.0).sum(dim=-1) for values in (states, ratios, entropy(mine))]
    return Terms(*sums)


def measure(
    run: Run,
    policy: Path,
    reference: Path,
    *,
    dtype: str | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Measured, float]:
    """Draw a run's outputs once more, token by token, and read them with the policy and with a reference.

    Parameters
    ----------
    run
        A run of the policy, on the suite as it is here.
    policy, reference
        Checkpoint folders with one vocabulary.
    dtype, batch_size
        As the run was sampled with.
    progress
        Called with outputs done since the last call, and outputs in all.

    Returns
    -------
    tuple
        What was measured; and the largest share of a task's outputs at a temperature that came out otherwise than the
        run holds them.

    Raises
    ------
    UserError
        If the policy cannot be sampled in process, or more than `MOST_OTHERS` of a task's outputs at a temperature are
        not those that the run holds.
    """
    opened = open_run(run)
    sampling, prompts = opened.manifest.identity.sampling, opened.prompts
    assert sampling is not None
    assert prompts is not None
    sampler = build(str(policy), opened.suite, prompts, backend="hf", dtype=dtype, batch_size=batch_size).sampler
    if not isinstance(sampler, HFSampler):
        raise UserError(f"{policy}: its outputs cannot be drawn in process, and its divergence not measured")
    other = load_policy(str(reference)).to(device=sampler.model.device, dtype=sampler.model.dtype)
    total = sum(map(len, prompts.values())) * len(sampling.temperatures) * sampling.k
    found: Measured = {}
    others = 0.0
    for task, asked in prompts.items():
        prepared = sampler.prepare(asked, sampling)
        found[task] = {}
        held = {sample.cell: sample for sample in run.samples(task)}
        for temperature in sampling.temperatures:
            by_document: dict[str, dict[str, float]] = {}
            outputs = _outputs(sampler, prepared, temperature, sampling)
            share = _refuse_others(run, task, sampler, outputs, temperature, sampling, held)
            others = max(others, share)
            together = max(1, TOGETHER // sampling.k)
            for start in range(0, len(outputs), together):
                part = outputs[start : start + together]
                by_document |= _means(sampler, other, part, temperature)
                progress(len(part) * sampling.k, total)
            found[task][str(temperature)] = {prompt.doc_id: by_document[prompt.doc_id] for prompt in asked}
    return found, others


def write_measured(path: Path, found: Measured, outputs: int, others: float) -> None:
    """Write what was measured, the number of outputs a prompt that each mean is over, and the share drawn otherwise."""
    write_atomically(path, json.dumps({"outputs": outputs, "drawn_otherwise": others, "tasks": found}) + "\n")


def read_measured(path: Path) -> Measured:
    """Read what `write_measured` wrote.

    Raises
    ------
    UserError
        If there is no such file.
    """
    try:
        found: Measured = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    except FileNotFoundError:
        raise UserError("no such file; the study's `--only run` makes it", where=path) from None
    return found


def drawn_otherwise(path: Path) -> float | None:
    """Read the share of outputs that came out otherwise when they were drawn again; None where it was not recorded."""
    share: float | None = json.loads(path.read_text(encoding="utf-8")).get("drawn_otherwise")
    return share


def _outputs(
    sampler: HFSampler, prompts: Sequence[Prompt], temperature: float, sampling: Sampling
) -> list[tuple[Prompt, list[Continuation]]]:
    k = sampling.k
    requests = [Request(prompt, temperature, index) for prompt in prompts for index in range(k)]
    drawn = sampler.continuations(requests, sampling)
    return [(prompt, drawn[place * k : (place + 1) * k]) for place, prompt in enumerate(prompts)]


def _refuse_others(
    run: Run,
    task: str,
    sampler: HFSampler,
    outputs: Sequence[tuple[Prompt, list[Continuation]]],
    temperature: float,
    sampling: Sampling,
    held: dict[Cell, Sample],
) -> float:
    requests = [Request(prompt, temperature, index) for prompt, drawn in outputs for index in range(len(drawn))]
    again = sampler.records(requests, [one for _, drawn in outputs for one in drawn], sampling)
    share = share_of_others(again, held)
    if share > MOST_OTHERS.get(sampler.model.device.type, MOST_OTHERS["cpu"]):
        raise UserError(
            f"{share:.1%} of its outputs at temperature {temperature:g} came out otherwise when they were drawn again; "
            "measure on the machine that sampled, with its batch size and versions",
            where=run.samples_path(task),
        )
    return share


def share_of_others(again: Sequence[Sample], held: dict[Cell, Sample]) -> float:
    """Share of outputs, drawn again, that are not those held: another text, number of tokens or way to end."""
    others = 0
    for sample in again:
        own = held.get(sample.cell)
        same = own is not None and (own.text, own.finish_reason, own.n_tokens) == (
            sample.text,
            sample.finish_reason,
            sample.n_tokens,
        )
        others += not same
    return others / len(again) if again else 0.0


@torch.no_grad()
def _means(
    sampler: HFSampler,
    reference: torch.nn.Module,
    outputs: Sequence[tuple[Prompt, list[Continuation]]],
    temperature: float,
) -> dict[str, dict[str, float]]:
    """Means over each prompt's outputs; of the entropy, over all their tokens."""
    prompts = [sampler.encode(prompt) for prompt, drawn in outputs for _ in drawn]
    completions = [output.tokens for _, drawn in outputs for output in drawn]
    batch = collate(prompts, completions, sampler.pad_id).to(sampler.model.device)
    rows = max(1, ENTRIES // (batch.mask.shape[1] * sampler.model.get_output_embeddings().weight.shape[0]))
    parts = []
    for start in range(0, len(completions), rows):
        part = batch.rows(slice(start, start + rows))
        logits, _ = completion_logits(sampler.model, part, temperature)
        before, _ = completion_logits(reference, part)
        parts.append(torch.stack(divergences(logits, before, part.completions, part.mask)))
    terms, start = torch.cat(parts, dim=1).cpu(), 0
    found = {}
    for prompt, drawn in outputs:
        kl, log_ratio, entropies = terms[:, start : start + len(drawn)].mean(dim=1).tolist()
        start += len(drawn)
        tokens = sum(len(output.tokens) for output in drawn) / len(drawn)
        found[prompt.doc_id] = {"kl": kl, "log_ratio": log_ratio, "entropy": entropies / tokens, "tokens": tokens}
    return found
