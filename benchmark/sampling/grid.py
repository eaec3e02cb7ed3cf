"""The grid of a run: every (prompt, temperature, sample index) exactly once, and how it is dealt out in shards."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmark.errors import UserError
from benchmark.records import Cell, Sampling

Shard = tuple[int, int]
"""(i, n): the i-th of n parts, from 1."""
T = TypeVar("T")


def parse_shard(text: str) -> Shard:
    """Read a shard as a user writes it, such as ``2/8``; a `UserError` says what is wrong with it."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard {text!r}: write i/n, from 1/n to n/n, such as 2/8")
    return number, count


def spelled(shard: Shard | None) -> str:
    """Name a shard in a message."""
    return "all prompts" if shard is None else f"shard {shard[0]}/{shard[1]}"


def part(items: Sequence[T], shard: Shard | None) -> list[T]:
    """Pick what is at places i, i + n, i + 2n … (from 1); everything where there is no shard.

    Neighbours in the order of sampling cost alike, so that all shards take about as long.
    """
    if shard is None:
        return list(items)
    number, count = shard
    return list(items[number - 1 :: count])


def cells(doc_ids: Iterable[str], sampling: Sampling) -> list[Cell]:
    """List every cell of a task: prompts in order, then temperatures, then sample indices."""
    return [
        (doc_id, temperature, index)
        for doc_id in doc_ids
        for temperature in sampling.temperatures
        for index in range(sampling.k)
    ]


def order_sha256(doc_ids: Iterable[str]) -> str:
    """Hash which prompts a task has, and their order of sampling."""
    return hashlib.sha256(json.dumps(list(doc_ids)).encode()).hexdigest()


def check_grid(found: Iterable[Cell], doc_ids: Sequence[str], sampling: Sampling, *, where: Path) -> None:
    """Refuse a grid with a missing, a double or a foreign cell.

    Parameters
    ----------
    found
        The cells of the file.
    doc_ids
        The task's prompts.
    sampling
        The run's sampling.
    where
        The file, for the message.

    Raises
    ------
    UserError
        Names the first offending cell and counts the others.
    """
    counts = Counter(found)
    wanted = cells(doc_ids, sampling)
    for what, mend, offending in (
        ("is there twice", "remove the extra line", [cell for cell, count in counts.items() if count > 1]),
        ("is not in the suite's grid", "was the run made with another sampling?", sorted(set(counts) - set(wanted))),
        ("is missing", "run `gendiv sample` again to finish it", [cell for cell in wanted if cell not in counts]),
    ):
        if offending:
            doc_id, temperature, index = offending[0]
            others = f" (and {len(offending) - 1} more)" if len(offending) > 1 else ""
            raise UserError(
                f"cell (doc_id {doc_id!r}, temperature {temperature}, sample {index}) {what}{others}; {mend}",
                where=where,
            )
