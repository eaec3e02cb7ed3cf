"""Diversity of texts that anybody has: one line a prompt, no suite, no run, no judge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.errors import UserError
from benchmark.metrics.nli import Classifier, Form
from benchmark.nli_scoring import nli_columns
from benchmark.quantities import Column, TaskGrid, columns, ranged
from benchmark.records import Estimate, Prompt, Sample
from benchmark.scoring import estimates_of
from benchmark.statistics.intervals import Interval
from benchmark.suites import HEADLINE_TEMPERATURE, Gate

TASK = "texts"
FORM = '{"prompt": "…", "outputs": ["…", "…"]}'
MEANT = {"prompt": "a text", "outputs": "a list of at least one text", "references": "a list of texts"}
OF_A_RUN = ("run.json", "scores.json")
ALIKE = 0.82
"""How alike names are that one is a misspelling of the other: two letters that changed places, not ``prompt_id``."""


class TextRow(BaseModel):
    """One prompt and its outputs; further fields of a line are not read, and a misspelt one is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    prompt: str = ""
    """Told, so that an output that repeats it counts as no answer, nor one in another script; may be left out."""
    outputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    references: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Told, so that an answer in their script is no strange one; may be left out."""


class Measured(NamedTuple):
    """One metric of texts."""

    metric: str
    value: float
    interval: Interval | None
    """None for a single prompt."""
    n: int
    """Prompts that have a value."""
    per_prompt: bool
    """A mean over prompts, not a statistic of all outputs together."""


def read_texts(path: Path) -> list[TextRow]:
    """Read JSONL of ``{"prompt": …, "outputs": […]}``, as many outputs in every line, and no prompt in two.

    Raises
    ------
    UserError
        Names the file, the line and what is wrong with it.
    """
    if path.name in OF_A_RUN and path.with_name("run.json").is_file():
        raise UserError(f"is a file of a run; give the folder: {path.parent}", where=path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=path) from None
    rows: list[TextRow] = []
    told: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            given = _json(line, where)
        except (ValueError, RecursionError):
            _refuse_document(text, path)
            raise UserError("not JSON", where=where) from None
        row = _row(given, where)
        if rows and len(row.outputs) != len(rows[0].outputs):
            raise UserError(
                f"{len(row.outputs)} outputs, where the first line has {len(rows[0].outputs)}; diversity depends on "
                "how many there are, so give every prompt as many",
                where=where,
            )
        # Intervals are over prompts that have nothing to do with each other.
        if (prompt := row.prompt.strip()) and told.setdefault(prompt, number) != number:
            raise UserError(
                f"the prompt of line {told[prompt]} again; put all outputs of a prompt into one line", where=where
            )
        rows.append(row)
    if not rows:
        raise UserError("the file is empty", where=path)
    return rows


def _json(line: str, where: str) -> Any:
    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1:
                raise UserError(f"field {name!r} is there twice; keep one", where=where)
        return dict(pairs)

    return json.loads(line, object_pairs_hook=fields)


def _refuse_document(text: str, path: Path) -> None:
    """Say so where a file is JSON as a whole, which no line of it is."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return
    raise UserError(f"is one JSON value over several lines; give JSONL, where a line is {FORM}", where=path)


def _row(given: Any, where: str) -> TextRow:
    if not isinstance(given, dict):
        raise UserError(f"must be an object; a line is {FORM}", where=where)
    absent = [name for name in MEANT if name not in given]
    for name in given:
        if name not in MEANT and (meant := get_close_matches(name.casefold(), absent, n=1, cutoff=ALIKE)):
            raise UserError(f"unknown field {name!r}; write {meant[0]!r}, or leave it out", where=where)
    try:
        row = TextRow.model_validate(given)
        "".join(row.outputs).encode()
    except ValidationError as error:
        field, *place = error.errors()[0]["loc"]
        which, what = (f"{field}.{place[0]}", "a text") if place else (field, MEANT[str(field)])
        raise UserError(f"{which}: must be {what}; a line is {FORM}", where=where) from None
    except UnicodeEncodeError:
        raise UserError("an output holds half a character", where=where) from None
    return row


def score_texts(
    rows: list[TextRow],
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int = 1,
    classifier: Classifier | None = None,
) -> list[Measured]:
    """Compute every metric that texts alone give, with its interval over prompts.

    Parameters
    ----------
    rows
        See `read_texts`.
    progress
        Called with (texts embedded, texts in all).
    threads
        CPU threads of the encoder.
    classifier
        Of pairs of sentences, for NLI diversity; None leaves it out.

    Returns
    -------
    list of Measured
        By metric; those that need several outputs a prompt, or several prompts, are left out where there are none.
    """
    from benchmark.metrics.encoder import Encoder
    from benchmark.metrics.own import own_metrics

    samples = [
        Sample(
            task=TASK,
            doc_id=str(number),
            temperature=HEADLINE_TEMPERATURE,
            index=index,
            text=text,
            finish_reason="unknown",
            n_tokens=None,
        )
        for number, row in enumerate(rows)
        for index, text in enumerate(row.outputs)
    ]
    texts = sorted({sample.text for sample in samples})
    encoder = Encoder(threads=threads, progress=progress or (lambda _done, _all: None))
    found = columns(
        TaskGrid(samples, ()),
        0,
        task=TASK,
        gates=[Gate(name="text")],
        prompts={
            str(number): Prompt(task=TASK, doc_id=str(number), text=row.prompt, references=row.references, doc={})
            for number, row in enumerate(rows)
        },
        length_control=None,
        embeddings=encoder.encode(texts),
        place={text: number for number, text in enumerate(texts)},
        own=own_metrics(),
    )
    if classifier:
        grids = {(TASK, HEADLINE_TEMPERATURE): [row.outputs for row in rows]}
        found += nli_columns(grids, classifier, forms=get_args(Form))
    found = [ranged(column, len(rows[0].outputs), len(rows)) for column in found]
    estimates = {estimate.metric: estimate for estimate in estimates_of(found, lambda _: "id")}
    return [_measured(column, estimates.get(column.metric)) for column in found if len(column.present)]


def _measured(column: Column, estimate: Estimate | None) -> Measured:
    values, per_prompt = column.present, column.statistic != "set"
    if estimate is None:
        return Measured(column.metric, float(values.mean()), None, len(values), per_prompt)
    return Measured(column.metric, estimate.value, Interval(estimate.low, estimate.high), estimate.n, per_prompt)
