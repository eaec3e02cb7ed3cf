"""Samples and verdicts → scores. Pure but for the sentence encoder: the same files give the same bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.flags import above_references, cut_off, facts_of, flags_of, references_apart
from benchmark.judging.report import JudgeReport
from benchmark.metrics.compression import compressor
from benchmark.metrics.nli import Classifier, Form
from benchmark.metrics.own import OwnMetric
from benchmark.nli_scoring import nli_columns
from benchmark.quantities import Column, TaskGrid, columns
from benchmark.records import Estimate, Flag, Manifest, Prompt, Role, Sample, Scores, Verdict
from benchmark.statistics.bootstrap import RESAMPLES, bootstrap, weights
from benchmark.statistics.intervals import (
    TIES,
    Interval,
    guarded_t,
    hull,
    plus4_welch,
    squared_share_guard,
    t_interval,
    welch,
)
from benchmark.statistics.win_rate import win_rates
from benchmark.suites import HEADLINE_TEMPERATURE, Gate, Suite, SuiteTask

BOOTSTRAP_SEED = 20231010
EAD_TIES = 3
"""Decimals to which EADs are compared: without a repeat it differs by the texts' lengths, from the fifth on."""

TOKENISERS: dict[str, JsonValue] = {
    **dict.fromkeys(("ead", "distinct", "self_bleu", "ngram_cosine", "length_words"), "words"),
    "ead_rlfh": "rlfh",
}
"""Beginning of a metric's id → the tokeniser that it counts by."""

PerPrompt = dict[str, dict[str, dict[str, tuple[float | None, ...]]]]


class TextEncoder(Protocol):
    """What scoring needs of a sentence encoder."""

    @property
    def name(self) -> str:
        """What the suite version pins."""

    @property
    def precision(self) -> str:
        """What it computed in: moves no score by 1e-3, and is recorded."""

    @property
    def max_tokens(self) -> int:
        """Tokens that are read of a text."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed: unit rows [len(texts), d]."""

    def truncated_share(self, texts: Sequence[str]) -> float:
        """Share of different texts over the encoder's token limit."""


def score(
    manifest: Manifest,
    suite: Suite,
    samples: Mapping[str, Sequence[Sample]],
    verdicts: Mapping[str, Sequence[Verdict]],
    encoder: TextEncoder | None,
    prompts: Mapping[str, Sequence[Prompt]] | None = None,
    inputs_sha256: Mapping[str, str] | None = None,
    *,
    gates: Sequence[Gate] = (),
    gate_verdicts: Mapping[str, Mapping[str, Sequence[Verdict]]] = MappingProxyType({}),
    reports: Sequence[JudgeReport] = (),
    own: Sequence[OwnMetric] = (),
    classifier: Classifier | None = None,
) -> Scores:
    """Score a run.

    Parameters
    ----------
    manifest
        What the run is; its identity names the judge of the verdicts, or none.
    suite
        The suite, of the very version that the manifest names.
    samples, verdicts
        Task → records; the grid of samples is complete (see `sampling.grid.check_grid`).
    encoder
        The suite's sentence encoder; None leaves out what is made of embeddings.
    prompts
        Task → prompts, for the text gate's copy test; None where they are not ours to ship, or frozen with the suite.
    inputs_sha256
        File → hash of what was read, to be kept with the scores.
    gates
        Quality gates beside the suite's own.
    gate_verdicts
        Judge → task → its verdicts, for gates that ask for the scores of another judge than ``verdicts`` is of.
    reports
        What is known of the judge, to be kept with the scores.
    own
        Metrics of other packages.
    classifier
        Of pairs of sentences, for NLI diversity at the headline temperature; None leaves it out.

    Returns
    -------
    Scores
        Every estimate with all its intervals, and the per-prompt values that the board pairs.

    Raises
    ------
    UserError
        If a verdict has no sample, or a run that was judged has a task with references and no verdict at all.
    """
    texts = sorted({sample.text for group in samples.values() for sample in group}) if encoder else []
    embeddings = encoder.encode(texts) if encoder else None
    place = {text: number for number, text in enumerate(texts)}
    found: list[Column] = []
    flags: list[Flag] = []
    doc_ids: dict[str, tuple[str, ...]] = {}
    facts: dict[str, Any] = {}
    judge = manifest.identity.judge
    outputs: dict[tuple[str, float], list[list[str]]] = {}
    absent = {} if judge else {"win_rate": "not judged: no win rate"}
    for entry in suite.tasks:
        grid = TaskGrid(
            samples[entry.task],
            _of(entry.task, verdicts),
            {name: _of(entry.task, found) for name, found in gate_verdicts.items()},
        )
        asked = {prompt.doc_id: prompt for prompt in prompts[entry.task]} if prompts else {}
        part = [
            column
            for level in range(len(grid.temperatures))
            for column in columns(
                grid,
                level,
                task=entry.task,
                gates=[suite.gate, *gates],
                prompts=asked,
                length_control=suite.length_control,
                embeddings=embeddings,
                place=place,
                own=own,
            )
        ]
        if classifier and HEADLINE_TEMPERATURE in grid.temperatures:
            level = grid.temperatures.index(HEADLINE_TEMPERATURE)
            outputs[entry.task, HEADLINE_TEMPERATURE] = [
                [sample.text for sample in row] for row in grid.samples[:, level]
            ]
        gaps = next((found.pairs - found.judged for found in reports if found.task == entry.task), 0)
        if judge and not any(len(column.present) for column in part if column.metric == "win_rate"):
            if not gaps and _has_references(entry, prompts):
                raise UserError(f"run {manifest.name}: task {entry.task} has no verdict; run `gendiv judge` first")
            why = "no verdict" if gaps else "no references here to be compared with"
            absent["win_rate"] = f"{entry.title}: {why}"
        if gaps:
            text = f"{entry.title}: {gaps} samples have no verdict of {judge}; run `gendiv judge` again"
            flags.append(Flag(code="not_judged_in_full", text=text))
        if reason := next((column.absent for column in part if column.absent), None):
            before = f"{absent['win_rate_lc']}; " if "win_rate_lc" in absent else ""
            absent["win_rate_lc"] = f"{before}{entry.title}: {reason}"
        found += part
        doc_ids[entry.task] = tuple(grid.doc_ids)
        facts[entry.task] = facts_of(grid, suite.gate)
        flags += flags_of(facts[entry.task], suite, entry.title)
        if flag := cut_off(grid, suite.gate, entry.title):
            flags.append(flag)
        if grid.k == 1:
            absent["per_input"] = "diversity per input needs several outputs a prompt; these runs have one"
        del grid  # before the next task is read
    if classifier:
        found += nli_columns(outputs, classifier, forms=get_args(Form))
    estimates = (*estimates_of(found, suite.role_of), *_gaps(found, suite))
    if encoder:
        flags += _above_references(estimates, suite, prompts, encoder)
    return Scores(
        name=manifest.name,
        kind=manifest.kind,
        identity=manifest.identity,
        model=manifest.model,
        card=manifest.card,
        inputs_sha256=dict(inputs_sha256 or {}),
        estimates=estimates,
        doc_ids=doc_ids,
        per_prompt=per_prompt_of(found),
        flags=tuple(flags),
        absent=absent,
        notes={
            "tasks": facts,
            **({"encoder": _about(encoder, texts)} if encoder else {}),
            "tokenisers": TOKENISERS,
            "compressor": compressor(),
            "bootstrap": {"resamples": RESAMPLES, "seed": BOOTSTRAP_SEED},
            **({"gates": {gate.name: gate.model_dump(mode="json") for gate in gates}} if gates else {}),
            **({"nli": getattr(classifier, "identity", "")} if classifier else {}),
            **({"own": {metric.metric: dict(metric.provenance) for metric in own}} if own else {}),
            **({"judge": {found.task: found.model_dump(mode="json") for found in reports}} if reports else {}),
        },
        record=manifest.record,
    )


def _of(task: str, verdicts: Mapping[str, Sequence[Verdict]]) -> Sequence[Verdict]:
    # No get(): where verdicts are read when they are asked for, it would take an error of reading for their absence.
    if task not in verdicts:
        return ()
    return verdicts[task]


def _has_references(entry: SuiteTask, prompts: Mapping[str, Sequence[Prompt]] | None) -> bool:
    if prompts is None:
        return entry.prompts is None or entry.prompts.references
    return any(prompt.references for prompt in prompts[entry.task])


def _above_references(
    estimates: Sequence[Estimate],
    suite: Suite,
    prompts: Mapping[str, Sequence[Prompt]] | None,
    encoder: TextEncoder,
) -> list[Flag]:
    flags = []
    frozen = {entry.task: entry.prompts for entry in suite.tasks}
    for found in estimates:
        if (found.metric, found.temperature) != ("sbert_per_input", HEADLINE_TEMPERATURE):
            continue
        known = frozen[found.task]
        apart = _apart(prompts[found.task], encoder) if prompts else known.references_apart if known else None
        title = next(entry.title for entry in suite.tasks if entry.task == found.task)
        if flag := above_references(found, apart, title):
            flags.append(flag)
    return flags


def _apart(prompts: Sequence[Prompt], encoder: TextEncoder) -> float | None:
    references = [prompt.references[0] for prompt in prompts if prompt.references]
    if len(references) < 2:
        return None
    texts = sorted(set(references))
    place = {text: number for number, text in enumerate(texts)}
    return references_apart(encoder.encode(texts)[[place[text] for text in references]])


def _about(encoder: TextEncoder, texts: Sequence[str]) -> dict[str, JsonValue]:
    return {
        "name": encoder.name,
        "precision": encoder.precision,
        "different_texts": len(texts),
        "token_limit": encoder.max_tokens,
        "share_over_token_limit": encoder.truncated_share(texts),
    }


def estimates_of(found: Sequence[Column], role_of: Callable[[str], Role]) -> list[Estimate]:
    """Mean and intervals of every column that has enough values for one; ``role_of`` tells a task's role.

    The printed interval covers what it promises (tests/benchmarks/coverage.md), with these limits, at nominal 95 %.
    Where nine of ten prompts have one and the same answer: EAD, distinct-n and the compression ratio per input have .90
    to .92 at n = 50, and hold from n = 100 on; statistics of a whole set but effective diversity have .87 to .92 at
    n = 50 and 100, and hold from n = 500 on. Where a few prompts are much more alike than others: the n-gram cosine has
    .92 and the compression ratio .90 at n = 50; they hold from n = 100 and 500 on.
    """
    resampled = _resampled(found)
    estimates = []
    for number, column in enumerate(found):
        values = column.present
        plain = t_interval(values) if len(values) else None
        if plain is None:
            continue
        plain = _cut(column, plain)
        if column.statistic == "rate":
            rate = win_rates(values[:, None], _weights(len(values)))[0]
            intervals, printed = rate.intervals, rate.method
        elif column.statistic == "controlled":
            assert column.interval is not None, "a controlled rate without an interval has no values"
            intervals, printed = {"logit_t": column.interval}, "logit_t"
        else:
            printed = "jackknife_t" if column.statistic == "set" else "t"
            intervals = {printed: plain, **resampled.get(number, {})}
            guarded = _guarded(column, plain)
            if guarded != plain:
                printed = f"guarded_{printed}"
                intervals[printed] = guarded
        estimates.append(
            Estimate(
                metric=column.metric,
                task=column.task,
                role=role_of(column.task),
                temperature=column.temperature,
                value=float(values.mean()),
                low=intervals[printed].low,
                high=intervals[printed].high,
                method=printed,
                n=len(values),
                intervals={name: (interval.low, interval.high) for name, interval in intervals.items()},
            )
        )
    return estimates


def _guarded(column: Column, plain: Interval) -> Interval:
    """Stretch an interval to hold what is rare and not in the draw; it stays where nothing is known of that."""
    values = column.present
    if column.shares is not None:
        return hull(plain, squared_share_guard(float(values.mean()), column.shares))
    if column.bounds is None or not np.isfinite(column.bounds).all():
        return plain
    ties = EAD_TIES if column.metric.startswith("ead_") else TIES
    # Pseudo-values may lie anywhere, but where no prompt matters they are the statistic itself.
    if column.statistic == "set" and len(np.unique(values.round(ties))) > 1:
        return plain
    guard = guarded_t(values, *column.bounds, ties=ties)
    return plain if guard is None else _cut(column, guard)


def _cut(column: Column, interval: Interval) -> Interval:
    """Cut an interval where no mean of the quantity can lie."""
    if column.bounds is None:
        return interval
    low, high = column.bounds
    return Interval(max(interval.low, low), min(interval.high, high))


def _resampled(found: Sequence[Column]) -> dict[int, dict[str, Interval]]:
    """Bootstrap intervals of the means, all columns over the same number of prompts in one matrix product."""
    groups: dict[int, list[int]] = {}
    for number, column in enumerate(found):
        if column.statistic == "mean" and len(column.present):
            groups.setdefault(len(column.present), []).append(number)
    intervals: dict[int, dict[str, Interval]] = {}
    for n, numbers in groups.items():
        result = bootstrap(np.column_stack([found[number].present for number in numbers]), _weights(n))
        if result is not None:
            for place, number in enumerate(numbers):
                intervals[number] = {
                    name: Interval(float(ends[place, 0]), float(ends[place, 1]))
                    for name, ends in zip(result._fields, result, strict=True)
                }
    return intervals


def _gaps(found: Sequence[Column], suite: Suite) -> list[Estimate]:
    """ID − OOD win rates at each temperature, by Welch: the two roles have different prompts.

    The interval of plain rates is ``plus4_welch``, that of length-controlled rates Welch's own, since theirs are no
    preferences: it is not meant for rates within a few percent of 0 or 1.
    """
    rates: dict[tuple[str, str, float], Column] = {
        (column.metric, suite.role_of(column.task), column.temperature): column
        for column in found
        if column.statistic in ("rate", "controlled")
    }
    gaps = []
    for (metric, role, temperature), inside in rates.items():
        outside = rates.get((metric, "ood", temperature))
        if role != "id" or outside is None or not len(inside.present) or not len(outside.present):
            continue
        gap = welch(inside.present, outside.present)
        if gap.interval is None:
            continue
        intervals, printed = {"welch": gap.interval}, "welch"
        if inside.statistic == "rate" and (wider := plus4_welch(inside.present, outside.present)):
            printed = "plus4_welch"
            intervals[printed] = wider
        gaps.append(
            Estimate(
                metric=metric,
                task="",
                role="gap",
                temperature=temperature,
                value=gap.estimate,
                low=intervals[printed].low,
                high=intervals[printed].high,
                method=printed,
                n=len(inside.present) + len(outside.present),
                intervals={name: (interval.low, interval.high) for name, interval in intervals.items()},
            )
        )
    return gaps


@functools.lru_cache(maxsize=8)
def _weights(n: int) -> NDArray[Any]:
    """One matrix of resample weights for each number of prompts, shared by all columns: paired by construction."""
    return cast("NDArray[Any]", weights(n, RESAMPLES, BOOTSTRAP_SEED))


def per_prompt_of(found: Sequence[Column]) -> PerPrompt:
    """Per-prompt values to 1e-6: what a board is built of."""
    cache: PerPrompt = {}
    for column in found:
        if len(column.present):
            values = tuple(None if np.isnan(value) else round(float(value), 6) for value in column.values)
            cache.setdefault(column.task, {}).setdefault(str(column.temperature), {})[column.metric] = values
    return cache
