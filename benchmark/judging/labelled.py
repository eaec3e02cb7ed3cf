"""Pairs of answers with a human's word on which is better: one reader for every format that GenDiv knows.

A file's format is told by the fields of its first row:

- ``prompt``, ``chosen``, ``rejected``: what ``gendiv data export --kind preferences`` writes.
- ``chosen``, ``rejected``: whole dialogues as in hh-rlhf, alike up to the last ``Assistant:``.
- ``instruction``, ``input``, ``response1``, ``response2``, ``annotator1`` to ``annotator3`` (0 = tie, 1, 2): PandaLM.
- ``input``, ``output_1``, ``output_2``, ``label`` (1 or 2): LLMBar.
- ``src``, ``sys_summs``: SummEval, several systems' summaries with human scores.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UserError
from tasks.instructions.prompts import alpaca
from tasks.summarisation.prompts import cnn_dailymail

LEAST_DIFFERENCE = 0.5
"""Of mean human scores from 1 to 5, for a pair of SummEval's summaries to have a better one."""
SCORES = ("coherence", "consistency", "fluency", "relevance")
TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class LabelledPair:
    """Two answers to one prompt, and which one people prefer.

    Parameters
    ----------
    id
        Unique within its file.
    prompt
        As a base model reads it, in the format of our own tasks.
    first, second
        The answers. Where the data names the better one, which stands first is drawn by a hash of both: half of them,
        and the same ones every time.
    preference
        1 = the first is better, 0 = the second is, 1/2 = a tie; the mean over annotators.
    annotators
        Each annotator's preference, in {0, 1/2, 1}; empty where the data has one word alone.
    chat
        What a chat model is sent as the user's message; None = ``prompt``.
    document
        What is summarised; None = nothing is.
    """

    id: str
    prompt: str
    first: str
    second: str
    preference: float
    annotators: tuple[float, ...] = ()
    chat: str | None = None
    document: str | None = None


Row = dict[str, Any]


class _Format(NamedTuple):
    fields: tuple[str, ...]
    pairs: Callable[[int, Row], Iterator[LabelledPair]]


def read_labelled(path: Path) -> list[LabelledPair]:
    """Read a file of labelled pairs, ``.jsonl`` or ``.jsonl.gz``; see the module's head for the formats.

    Raises
    ------
    UserError
        Naming the file, the line and the field that is wrong, or the formats that are read.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError("labelled pairs are .jsonl or .jsonl.gz", where=path)
    pairs: list[LabelledPair] = []
    form = None
    for number, row in _rows(path):
        form = form or _format_of(row, path)
        try:
            pairs += form.pairs(number, row)
        except _MalformedError as problem:
            raise UserError(str(problem), where=f"{path}:{number}") from None
    if not pairs:
        raise UserError("no pair of which people prefer one", where=path)
    return pairs


class _MalformedError(Exception):
    """What is wrong with a row, and the mend."""


def _format_of(row: Row, path: Path) -> _Format:
    for form in _FORMATS:
        if row.keys() >= set(form.fields):
            return form
    known = "; ".join(", ".join(form.fields) for form in _FORMATS)
    raise UserError(f"no labelled pairs: there is {', '.join(row) or 'nothing'}; needs {known}", where=path)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Read the rows with the numbers of their lines."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold a line separator of Unicode's
    except FileNotFoundError:
        raise UserError("no such file", where=path) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"not JSON ({error}); is the file cut off?", where=f"{path}:{number}") from None
        if not isinstance(row, dict):
            raise UserError("not an object with fields: give one a line", where=f"{path}:{number}")
        yield number, row


def _text(row: Row, field: str) -> str:
    """Read a text; what is ``true`` in JSON was one, as the answer "True" of PandaLM's."""
    value = row.get(field)
    if isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _MalformedError(f"{field} must be text, not {type(value).__name__ if field in row else 'left out'}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _MalformedError(f"{field} holds half a character (a lone surrogate): take it out")
    return value


def _label(row: Row, field: str, labels: tuple[int, ...]) -> int:
    value = row.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value not in labels:
        raise _MalformedError(f"{field} must be one of {', '.join(map(str, labels))}, not {value!r}")
    return value


def _preferences(number: int, row: Row) -> Iterator[LabelledPair]:
    yield _drawn(str(number), _text(row, "prompt"), _text(row, "chosen"), _text(row, "rejected"))


def _dialogues(number: int, row: Row) -> Iterator[LabelledPair]:
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    alike = sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)))
    start = chosen[:alike].rfind(TURN)
    if start < 0:
        raise _MalformedError(
            f"chosen and rejected share no {TURN.strip()!r} turn: give dialogues that differ at their end"
        )
    start += len(TURN)
    yield _drawn(str(number), chosen[:start], chosen[start:], rejected[start:])


def _pandalm(number: int, row: Row) -> Iterator[LabelledPair]:
    labels = [
        {0: 0.5, 1: 1.0, 2: 0.0}[_label(row, field, (0, 1, 2))] for field in ("annotator1", "annotator2", "annotator3")
    ]
    instruction, given = _text(row, "instruction"), _text(row, "input")
    yield LabelledPair(
        id=str(number),
        prompt=alpaca({"instruction": instruction, "input": given}),
        first=_text(row, "response1"),
        second=_text(row, "response2"),
        preference=sum(labels) / len(labels),
        annotators=tuple(labels),
        chat="\n\n".join(part for part in (instruction, given) if part.strip()),
    )


def _llmbar(number: int, row: Row) -> Iterator[LabelledPair]:
    instruction = _text(row, "input")
    yield LabelledPair(
        id=str(number),
        prompt=alpaca({"instruction": instruction}),
        first=_text(row, "output_1"),
        second=_text(row, "output_2"),
        preference=float(_label(row, "label", (1, 2)) == 1),
        chat=instruction,
    )


def _summeval(number: int, row: Row) -> Iterator[LabelledPair]:
    """Pair the systems of an article, each with one other.

    Systems are put in an order drawn by a hash of the article and their names, and neighbours are paired: 8 pairs of 16
    systems that share no summary. The better one has the higher mean over the four scores, by `LEAST_DIFFERENCE` at
    least; closer pairs are left out.
    """
    article, scored = _text(row, "src"), {}
    if not isinstance(row["sys_summs"], dict):
        raise _MalformedError("sys_summs must be an object: system → sys_summ and scores")
    for system, output in row["sys_summs"].items():
        try:
            scored[system] = (_text(output, "sys_summ"), sum(float(output["scores"][name]) for name in SCORES) / 4)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise _MalformedError(
                f"sys_summs.{system} needs sys_summ and scores of {', '.join(SCORES)}: {error}"
            ) from None
    drawn = sorted(scored, key=lambda system: _hash(article, system))
    for one, other in zip(drawn[::2], drawn[1::2], strict=False):
        difference = scored[one][1] - scored[other][1]
        if abs(difference) >= LEAST_DIFFERENCE - 1e-9:  # means of thirds, with their rounding
            yield LabelledPair(
                id=f"{number}.{one}.{other}",
                prompt=cnn_dailymail({"article": article}),
                first=scored[one][0],
                second=scored[other][0],
                preference=float(difference > 0),
                chat=f"Here is a news article.\n\n{article}\n\nSummarise it. Answer with the summary alone.",
                document=article,
            )


def _drawn(pair_id: str, prompt: str, better: str, worse: str) -> LabelledPair:
    """Put the better answer first or second, by a hash: a judge with a liking for one place gains nothing by it."""
    first = bool(_hash(prompt, *sorted((better, worse)))[0] & 1) == (better <= worse)
    return LabelledPair(
        id=pair_id,
        prompt=prompt,
        first=better if first else worse,
        second=worse if first else better,
        preference=float(first),
    )


def _hash(*texts: str) -> bytes:
    return hashlib.sha256("\0".join(texts).encode()).digest()


_FORMATS = (
    _Format(("prompt", "chosen", "rejected"), _preferences),
    _Format(("chosen", "rejected"), _dialogues),
    _Format(
        ("instruction", "input", "response1", "response2", "annotator1", "annotator2", "annotator3"),
        _pandalm,
    ),
    _Format(("input", "output_1", "output_2", "label"), _llmbar),
    _Format(("src", "sys_summs"), _summeval),
)
