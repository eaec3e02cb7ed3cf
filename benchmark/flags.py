"""Facts about a whole task's outputs, and the flags they raise: a flagged row is shown, with the reason, unranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from benchmark.judging.config import JudgeConfig, RewardModelConfig
from benchmark.metrics import sentence_bert
from benchmark.metrics.duplicates import duplicate_share
from benchmark.metrics.repeats import repeats_of
from benchmark.metrics.validity import invalid_reason
from benchmark.quantities import TaskGrid
from benchmark.records import Estimate, Flag, Manifest
from benchmark.suites import HEADLINE_TEMPERATURE, Gate, Suite

MOST_DUPLICATES = 0.5
MOST_NEARLY_CONSTANT = 0.5
"""Share of outputs that may be a common phrase in the main; models of AlpacaEval have 0.00, our trained ones 0.02."""
LEAST_ALIKE = 3
"""Outputs that a phrase is in, at the least, to be a common one."""
MOST_INVALID = 0.5
MOST_CUT_OFF = 0.9
"""Share of outputs that may be cut off where a cut-off one is valid: the paper's budget for TL;DR cuts many off."""
MOST_FAILED = 0.05


class Facts(TypedDict):
    """What is shown beside a task's numbers."""

    temperature: float
    prompts: int
    k: int
    duplicate_share: float
    """Share of outputs that repeat another prompt's word for word, mean over the k slots."""
    nearly_constant_share: float
    """Share of outputs half of whose pairs of words are in half of the outputs to all prompts, over the k slots."""
    invalid_text_share: float
    verdicts: int
    failed_verdicts: int
    length_ratio: float | None
    """Characters of the outputs over characters of their references, where judged."""
    all_ties: bool
    """Every verdict is an exact tie between texts of one length: the outputs are the references."""


def facts_of(grid: TaskGrid, gate: Gate) -> Facts:
    """Gather a task's facts at the headline temperature, or the nearest there is; the gate says what is valid."""
    level = _headline(grid)
    samples, verdicts = grid.samples[:, level], grid.verdicts[:, level]
    judged = [verdict for verdict in verdicts.flat if verdict is not None]
    references = sum(verdict.reference_length for verdict in judged)
    return Facts(
        temperature=grid.temperatures[level],
        prompts=len(grid.doc_ids),
        k=grid.k,
        duplicate_share=float(np.mean([duplicate_share([sample.text for sample in slot]) for slot in samples.T])),
        nearly_constant_share=nearly_constant_share([[sample.text for sample in slot] for slot in samples.T]),
        invalid_text_share=float(
            np.mean(
                [
                    invalid_reason("", sample.text, sample.finish_reason, cut_off_is_valid=gate.cut_off_is_valid)
                    is not None
                    for sample in samples.flat
                ]
            )
        ),
        verdicts=len(judged),
        failed_verdicts=sum(verdict.preference is None for verdict in judged),
        length_ratio=sum(verdict.length for verdict in judged) / references if references else None,
        all_ties=bool(judged)
        and all(verdict.preference == 0.5 and verdict.length == verdict.reference_length for verdict in judged),
    )


def cut_off(grid: TaskGrid, gate: Gate, title: str) -> Flag | None:
    """Flag a model that hardly ever ends, where the gate takes a cut-off output as a valid one.

    What such outputs would have come to is not known, and a judge who likes long texts likes them.

    Parameters
    ----------
    grid
        The task's samples; those of the headline temperature count, or of the nearest there is.
    gate
        Where a cut-off output is not valid, `flags_of` counts it among those.
    title
        The task's.
    """
    if not gate.cut_off_is_valid:
        return None
    share = float(np.mean([sample.finish_reason == "length" for sample in grid.samples[:, _headline(grid)].flat]))
    if share <= MOST_CUT_OFF:
        return None
    return Flag(code="cut_off", text=f"{title}: {share:.0%} of the outputs are cut off")


def _headline(grid: TaskGrid) -> int:
    return int(np.argmin([abs(temperature - HEADLINE_TEMPERATURE) for temperature in grid.temperatures]))


def nearly_constant_share(slots: Sequence[Sequence[str]]) -> float:
    """Share of outputs that are mostly what half of all outputs say, mean over slots.

    Parameters
    ----------
    slots
        One output a prompt, each.

    Returns
    -------
    float
        In [0, 1], 1 for one and the same text, or a template with some words of each prompt in it. An output counts if
        half of its pairs of neighbouring words are in at least half of its slot's outputs, and in `LEAST_ALIKE`; one
        of less than two words never does.
    """
    found = repeats_of(slots, n_max=2)
    pairs, of_text = found.orders[1], found.of_text[:, 1]
    least = np.maximum(np.array([len(slot) for slot in slots])[found.sets] / 2, LEAST_ALIKE)
    held_by = np.bincount(pairs.ngram)[pairs.ngram]
    common = np.bincount(pairs.text, pairs.times * (held_by >= least[pairs.text]), minlength=len(of_text))
    return float(np.mean((of_text > 0) & (common >= of_text / 2))) if len(of_text) else 0.0


def references_apart(references: NDArray[np.float32]) -> float | None:
    """Measure the Sentence-BERT diversity of the references of different prompts.

    Parameters
    ----------
    references
        Unit rows, one reference of each prompt.

    Returns
    -------
    float or None
        In [0, 1], higher is more diverse; None of less than two.
    """
    if len(references) < 2:
        return None
    [apart], _ = sentence_bert.across_input(references[None])
    return float(apart)


def above_references(found: Estimate, apart: float | None, title: str) -> Flag | None:
    """Flag outputs to one prompt that differ more than the references of different prompts do.

    No set of good answers to one question is as diverse as answers to many: such outputs are noise. What references
    of one prompt have is no ceiling for a model that errs: honest ones of the pocket ladder are 1.5 times above it.

    Parameters
    ----------
    found
        Sentence-BERT diversity per input, not gated.
    apart
        What `references_apart` gives; None = no flag.
    title
        The task's.
    """
    if apart is None or not found.low > apart:
        return None
    text = (
        f"{title}: outputs to one prompt are more diverse ({found.value:.2f}) than references of different prompts are "
        f"({apart:.2f})"
    )
    return Flag(code="above_references", text=text)


def judge_is_reward(manifest: Manifest, judges: Sequence[JudgeConfig]) -> Flag | None:
    """Flag a model that is judged by the reward model that it was trained on, or whose outputs were chosen by it.

    Parameters
    ----------
    manifest
        Its card's ``reward_model``, and the arguments of a best-of-n policy, tell the reward model.
    judges
        All whose verdicts or scores are counted.
    """
    arguments = manifest.model.arguments
    told = {manifest.card.reward_model, arguments.get("reward_model_sha256")}
    if isinstance(revision := arguments.get("reward_model_revision"), str):
        told.add(f"{arguments.get('reward_model')}@{revision}")
    rewards = {str(name).casefold().removeprefix("sha256:") for name in told if name}
    for judge in judges:
        if not isinstance(judge, RewardModelConfig):
            continue
        names = {judge.weights_sha256}
        if judge.weights_sha256 is None:  # a folder's name says nothing of what is in it
            names |= {judge.model, f"{judge.model}@{judge.revision}"}
        if any(name and name.casefold() in rewards for name in names):
            text = f"judged by {judge.judge}, the reward model that it was trained on or chosen by"
            return Flag(code="judge_is_reward", text=text)
    return None


def flags_of(facts: Facts, suite: Suite, title: str) -> list[Flag]:
    """Raise flags for one task of a suite; ``title`` is the task's."""
    flags = []
    if (share := facts["duplicate_share"]) > MOST_DUPLICATES:
        text = f"{title}: {share:.0%} of the outputs repeat another prompt's word for word"
        flags.append(Flag(code="constant_output", text=text))
    elif (share := facts["nearly_constant_share"]) > MOST_NEARLY_CONSTANT:
        text = f"{title}: {share:.0%} of the outputs are mostly the same words, whatever the prompt"
        flags.append(Flag(code="nearly_constant_output", text=text))
    if (share := facts["invalid_text_share"]) > MOST_INVALID:
        what = "empty" if suite.gate.cut_off_is_valid else "empty or cut off"
        flags.append(Flag(code="invalid_text", text=f"{title}: {share:.0%} of the outputs are {what}"))
    if facts["failed_verdicts"] > MOST_FAILED * facts["verdicts"]:
        mend = "" if suite.imported else "; run `gendiv judge` again"
        text = f"{title}: {facts['failed_verdicts']} verdicts failed{mend}"
        flags.append(Flag(code="failed_verdicts", text=text))
    if facts["all_ties"]:
        flags.append(
            Flag(code="reference", text=f"{title}: the outputs are the references, which win half by definition")
        )
    ratio = facts["length_ratio"]
    if suite.length_range and ratio is not None:
        low, high = suite.length_range
        if not low <= ratio <= high:
            text = f"{title}: outputs are {ratio:.2f} times as long as their references, outside {low}–{high}"
            flags.append(Flag(code="length", text=text))
    return flags
