"""The text gate: which outputs count as an attempt at an answer at all."""

from __future__ import annotations

from typing import Literal

from benchmark.records import FinishReason

Invalid = Literal["empty", "cut_off", "prompt_copy"]


def invalid_reason(
    prompt: str, output: str, finish_reason: FinishReason, *, cut_off_is_valid: bool = False
) -> Invalid | None:
    """Why an output is no valid answer, or None if it is one.

    Parameters
    ----------
    prompt
        The prompt's text.
    output
        The output's text.
    finish_reason
        How the output ended; ``"unknown"`` passes.
    cut_off_is_valid
        Let outputs pass that the token limit ended.

    Returns
    -------
    Invalid or None
        The first that holds of ``"empty"`` (white space alone), ``"cut_off"`` (ended by the token limit) and
        ``"prompt_copy"`` (the prompt word for word, outer white space aside). One reason an output, so that a
        ``Counter`` of them adds up to the invalid ones.
    """
    if not output.strip():
        return "empty"
    if finish_reason == "length" and not cut_off_is_valid:
        return "cut_off"
    if output.strip() == prompt.strip():
        return "prompt_copy"
    return None
