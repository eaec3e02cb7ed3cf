"""A few outputs of a run, picked when it is validated: what a model's page shows, so that no board reads logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from benchmark.opened import open_run
from benchmark.records import FinishReason, Prompt, Record, Role, Sample, Share, Verdict
from benchmark.runs import Run
from benchmark.suites import Suite, load_suite

PROMPTS = 2
"""Prompts a task."""
SAMPLES = 4
"""Samples a prompt and temperature."""
MOST_TEXT = 1_200
"""Characters of a text."""
MOST_REPLY = 400
"""Characters of a judge's reply."""

Count = Annotated[int, Field(ge=0)]


class Excerpt(Record):
    """The start of a text."""

    text: str
    """What is cut ends in an ellipsis."""
    left_out: Count = 0
    """Characters that were cut off its end."""


class ExampleVerdict(Record):
    """What a judge said of one shown sample; see `benchmark.records.Verdict`."""

    preference: Share | None
    """None = asked and not answered: never a score."""
    orders: Annotated[tuple[Share | None, ...], Field(strict=False)] = ()
    score: float | None = None
    reference_score: float | None = None
    reply: Excerpt | None = None
    """The judge's first reply: its words where it is a chat's, otherwise as it came; None = the judge says none."""


class ExampleSample(Record):
    """One shown sample."""

    temperature: Annotated[float, Field(ge=0.0)]
    index: Count
    text: Excerpt
    finish_reason: FinishReason
    verdict: ExampleVerdict | None = None
    """None = not judged."""


class Example(Record):
    """One prompt of a task with some of its outputs at every temperature."""

    task: str
    role: Role
    doc_id: str
    prompt: Excerpt | None = None
    """None where the text is somebody else's, and not ours to publish."""
    reference: Excerpt | None = None
    """The first reference; None where there is none, or it is not ours to publish."""
    samples: Annotated[tuple[ExampleSample, ...], Field(strict=False)]
    """By temperature, then by index."""


def pick(run: Run, judge: str | None) -> tuple[Example, ...]:
    """Pick the same few prompts of every run of a suite, with their first samples.

    Parameters
    ----------
    run
        A whole run, of which every log is there.
    judge
        Whose verdicts are shown; None = nobody's.

    Returns
    -------
    tuple of Example
        Task by task, the prompts of the smallest ``sha256("task/doc_id")``: which they are depends on no model. Empty
        for an imported suite, whose texts are not ours to publish. Prompts and references are left out where they come
        from a data set (`benchmark.records.TaskIdentity.data`).

    Raises
    ------
    UserError
        If the run cannot be opened, or a log of it cannot be read.
    """
    opened = open_run(run, needs_prompts=False)
    if opened.suite.imported:
        return ()
    asked = opened.prompts or {}
    made_here = {task.task for task in opened.manifest.identity.tasks if task.data is None}
    ours = {
        (prompt.task, prompt.doc_id): prompt
        for task in made_here
        for prompt in sorted(asked[task], key=lambda prompt: _lot(prompt.task, prompt.doc_id))[:PROMPTS]
    }
    return _pick(
        opened.suite, {entry.task: opened.samples(entry.task) for entry in opened.suite.tasks}, run, judge, ours
    )


def pick_outputs(run: Run, judge: str | None) -> tuple[Example, ...]:
    """Pick as `pick` does, from the logs alone: without prompts and references, which take lm-eval to load.

    Empty for an imported suite.
    """
    suite = load_suite(run.manifest().identity.suite)
    if suite.imported:
        return ()
    return _pick(suite, {entry.task: run.samples(entry.task) for entry in suite.tasks}, run, judge, {})


def _pick(
    suite: Suite,
    logs: Mapping[str, Sequence[Sample]],
    run: Run,
    judge: str | None,
    prompts: Mapping[tuple[str, str], Prompt],
) -> tuple[Example, ...]:
    examples = []
    for entry in suite.tasks:
        chosen = sorted({sample.doc_id for sample in logs[entry.task]}, key=lambda doc_id: _lot(entry.task, doc_id))
        told = _told(run, entry.task, judge)
        for doc_id in chosen[:PROMPTS]:
            prompt = prompts.get((entry.task, doc_id))
            reference = next(iter(prompt.references), None) if prompt else None
            shown = [sample for sample in logs[entry.task] if sample.doc_id == doc_id and sample.index < SAMPLES]
            examples.append(
                Example(
                    task=entry.task,
                    role=entry.role,
                    doc_id=doc_id,
                    prompt=excerpt(prompt.text, MOST_TEXT) if prompt else None,
                    reference=excerpt(reference, MOST_TEXT) if reference is not None else None,
                    samples=tuple(
                        ExampleSample(
                            temperature=sample.temperature,
                            index=sample.index,
                            text=excerpt(sample.text, MOST_TEXT),
                            finish_reason=sample.finish_reason,
                            verdict=_verdict(told.get(sample.cell)),
                        )
                        for sample in sorted(shown, key=lambda sample: (sample.temperature, sample.index))
                    ),
                )
            )
    return tuple(examples)


def excerpt(text: str, most: int) -> Excerpt:
    """Cut a text after ``most`` characters, and say how many were left out."""
    if len(text) <= most:
        return Excerpt(text=text)
    return Excerpt(text=text[:most] + "…", left_out=len(text) - most)


def _lot(task: str, doc_id: str) -> str:
    return hashlib.sha256(f"{task}/{doc_id}".encode()).hexdigest()


def _told(run: Run, task: str, judge: str | None) -> dict[tuple[str, float, int], Verdict]:
    """Cell → its last verdict; empty where the judge has no log of the task."""
    if judge is None or not run.verdicts_path(task, judge).exists():
        return {}
    return {verdict.cell: verdict for verdict in run.verdicts(task, judge)}


def _verdict(verdict: Verdict | None) -> ExampleVerdict | None:
    if verdict is None:
        return None
    return ExampleVerdict(
        preference=verdict.preference,
        orders=verdict.orders,
        score=verdict.score,
        reference_score=verdict.reference_score,
        reply=excerpt(_words(verdict.raw[0]), MOST_REPLY) if verdict.raw else None,
    )


def _words(raw: str) -> str:
    """What a chat judge said, of all that is kept of its reply."""
    try:
        reply = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    content = reply.get("content") if isinstance(reply, dict) else None
    # JSON may spell half a character, which no file can hold.
    return content.encode(errors="replace").decode() if isinstance(content, str) else raw
