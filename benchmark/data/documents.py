"""Rows of preference data as documents of the task whose prompts they compare answers to. Pure functions.

Each gives the fields that the task's own template reads, and ``chosen`` and ``rejected``, or None where the row prefers
neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Document = dict[str, Any]


def summary_preference(row: Mapping[str, Any]) -> Document | None:
    """Turn a comparison of OpenAI's summaries into a TL;DR document.

    Parameters
    ----------
    row
        ``info`` (``subreddit``, ``title``, ``post``), two ``summaries`` with a ``text`` each, and ``choice``, the
        number of the preferred one.

    Raises
    ------
    ValueError
        Naming the field that is not so.
    """
    info, summaries, choice = row["info"], row["summaries"], row["choice"]
    for field in ("subreddit", "title", "post"):
        if not isinstance(info.get(field), str):
            raise ValueError(f"needs a text under 'info.{field}'")
    texts = [summary.get("text") if isinstance(summary, Mapping) else None for summary in summaries]
    if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError("needs two summaries with a text each under 'summaries'")
    if choice not in (0, 1):
        raise ValueError(f"'choice' is {choice}, and there are summaries 0 and 1")
    post = {field: info[field] for field in ("subreddit", "title", "post")}
    return {**post, "chosen": texts[choice], "rejected": texts[1 - choice]}


def instruction_preference(row: Mapping[str, Any]) -> Document | None:
    """Turn an AlpacaFarm comparison, whose ``preference`` is 1 or 2, into an instruction document."""
    if row["preference"] not in (1, 2):
        return None
    answers = [row["output_1"], row["output_2"]]
    chosen = row["preference"] - 1
    return {
        "instruction": row["instruction"],
        "input": row["input"],
        "chosen": answers[chosen],
        "rejected": answers[1 - chosen],
    }


DOCUMENTS: dict[str, Callable[[Mapping[str, Any]], Document | None]] = {
    "summary_preference": summary_preference,
    "instruction_preference": instruction_preference,
}
