"""What a row is and where it came from, as terms and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.submission.published import ADDED
from leaderboard.escape import shorten
from leaderboard.names import metric_title
from leaderboard.row import Row

MOST_FACTS = 200
"""A record may hold anything, and as much of it as a file may."""
MOST_TEXT = 600
"""Characters of one value."""
MOST_TERM = 120
CARD = ("tier", "submission", ADDED)
"""Notes that a page says at its head, or that are of a row's place alone."""


def provenance(row: Row) -> list[tuple[str, str]]:
    """What a row is and where it came from, each value on one visible line.

    Returns
    -------
    list of (term, value)
        Fields without a value are left out; at most `MOST_FACTS`, and then a last one that says how many there are
        more.
    """
    facts = [
        (shorten(term, MOST_TERM), shorten(said, MOST_TEXT))
        for term, value in _facts(row)
        if value is not None and (said := str(value)) != ""
    ]
    if len(facts) > MOST_FACTS:
        return [*facts[:MOST_FACTS], ("and more", f"{len(facts) - MOST_FACTS:,} facts, in the files of the run")]
    return facts


def _facts(row: Row) -> Iterator[tuple[str, object]]:
    scores = row.scores
    yield "model", scores.model.id
    yield "revision", scores.model.revision
    yield "weights SHA-256", scores.model.weights_sha256
    yield "dtype", scores.model.dtype
    yield "prompt format", scores.model.prompt_format
    yield "chat template SHA-256", scores.model.chat_template_sha256
    yield "model seed", scores.model.seed
    for name, value in _flat(scores.model.arguments):
        yield name.replace("_", " "), _said(value)
    yield "trained on", ", ".join(scores.card.trained_on) if scores.card.trained_on is not None else "not declared"
    yield "judge", scores.identity.judge
    yield "judge SHA-256", scores.identity.judge_sha256
    yield "encoder", scores.identity.encoder
    if scores.identity.sampling is None:
        yield "sampling", "not known: outputs made elsewhere"
    else:
        sampling = scores.identity.sampling.model_dump(mode="json")
        yield "sampling", ", ".join(f"{name} {_said(value)}" for name, value in sampling.items() if value is not None)
    for task in scores.identity.tasks:
        yield f"data of {task.task}", task.data
        yield f"prompts of {task.task}", f"{task.n_prompts}, SHA-256 {task.prompts_sha256}"
    notes = {name: value for name, value in scores.notes.items() if name not in CARD}
    for name, value in _flat({**notes, **scores.record}):
        yield name.replace("_", " "), _said(value)
    for metric, reason in sorted(scores.absent.items()):
        yield f"absent: {metric_title(metric)}", reason


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is said, however deep; what is null is not known, and no fact."""
    for name, value in sorted(values.items()):
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}: ")
        elif value is not None:
            yield prefix + name, value


def _said(value: object) -> str:
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_said(item) for item in value) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
