"""The grid of a run: every (prompt, temperature, sample index) exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.records import Cell, Sampling


def cells(doc_ids: Iterable[str], sampling: Sampling) -> list[Cell]:
    """List every cell of a task: prompts in order, then temperatures, then sample indices."""
    return [
        (doc_id, temperature, index)
        for doc_id in doc_ids
        for temperature in sampling.temperatures
        for index in range(sampling.k)
    ]


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
