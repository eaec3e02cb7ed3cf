"""A chat judge's reply → a preference, or why it is none. Pure functions: the stored raw reply alone decides.

A raw reply is one line of JSON,
``{"order": 0, "finish": "stop", "content": "A", "model": "gpt-4", "top": [["A", -0.1], ["B", -2.3]]}``: which order it
was asked in (0 = the sample was shown first), why it ended, its text, which model the server says it is of, and the
candidates for its first token with their log-probabilities. What a server sent in another form is kept as it came and
cannot be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from benchmark.judging.config import ChatConfig

TOP_LOGPROBS = 20
"""Candidates asked for: the most that OpenAI's protocol allows. A server that allows fewer says so in its refusal."""
LONGEST = 200_000
"""Characters of a raw reply; a longer one is kept cut, and is not read."""
ENDS = 2_000
"""Characters at either end of a reply that is kept cut."""
LONGEST_MODEL = 100
"""Characters of a model's name that are kept."""
MOST_TOKENS = 2**40
"""No count of tokens is higher."""
ABOVE_ONE = 1e-3
"""How far a probability may be above 1, and their sum: servers compute in half precision."""
LOWEST = 1e9
"""No log-probability is below the negative of it; some servers write -9999 for none at all."""
ENOUGH = 0.5
"""Least probability of the two labels together: below it the judge wanted to say something else."""
TOKEN_MARKS = "▁Ġ"
"""How tokenizers spell the space before a word, where a server sends tokens as they are stored."""
DECORATION = " \t\r\f\v\u00a0*_`#>~-\"'“”‘’«»()[]{}.,;:!。"
"""What may stand around a label, or around ``Verdict``."""
INTRODUCTIONS = {"verdict", "answer", "final verdict", "final answer"}


class UnreadableError(Exception):
    """A reply that is no verdict; the message says why, on one line."""


class NoReplyError(Exception):
    """What a server sent is not a chat completion at all."""


def raw_of(body: Any, order: int, scrub: Callable[[str], str] = str) -> str:
    """Write down what is worth keeping of a chat completion, as one line of ASCII.

    Parameters
    ----------
    body
        The decoded JSON.
    order
        0 if the sample was shown first, 1 if the reference was.
    scrub
        Takes secrets out of the line before anything is read from it or stored.

    Raises
    ------
    NoReplyError
        If it has no choice with a message.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choice := choices[0], dict):
        raise NoReplyError("the server's reply has no choices")
    if not isinstance(message := choice.get("message"), dict):
        raise NoReplyError("the server's reply has no message")
    kept = {"order": order, "finish": choice.get("finish_reason"), "content": message.get("content")}
    if isinstance(model := body.get("model"), str):
        kept["model"] = model[:LONGEST_MODEL]
    if message.get("refusal"):
        kept["refusal"] = message["refusal"]
    if choice.get("logprobs") is not None:
        kept["top"] = _compact(choice["logprobs"])
    try:
        line = scrub(json.dumps(kept, separators=(",", ":")))
    except RecursionError:
        raise NoReplyError("the server's reply is nested too deep") from None
    if len(line) > LONGEST:
        cut = {"order": order, "characters": len(line), "start": line[:ENDS], "end": line[-ENDS:]}
        line = json.dumps(cut, separators=(",", ":"))
    return line


def tokens_of(body: Any) -> tuple[int, int] | None:
    """Read how many tokens the server counted, prompt and completion; None if it does not say."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (
        count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < MOST_TOKENS else None
        for count in counts
    )
    return None if prompt is None or completion is None else (prompt, completion)


def reparse(raw: str, config: ChatConfig) -> float | None:
    """Read a stored raw reply again: the preference for the sample in [0, 1], or None if it was none."""
    try:
        return preference_of(raw, config)
    except UnreadableError:
        return None


def preference_of(raw: str, config: ChatConfig) -> float:
    """Read the preference for the sample off a raw reply.

    With log-probabilities it is the share of the sample's label in the probability of both labels; without, it is 1 if
    the reply's last line names the sample's label and 0 if it names the other.

    Raises
    ------
    UnreadableError
        If it is no verdict: ended by a filter or a limit, of another form, or naming no label or several.
    """
    try:
        reply = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnreadableError("the stored reply is not JSON") from None
    order = reply.get("order") if isinstance(reply, dict) else None
    if type(order) is not int or order not in (0, 1):
        raise UnreadableError("the stored reply does not say in which order it was asked")
    if "characters" in reply:
        raise UnreadableError(f"the reply is longer than {LONGEST} characters")
    if reply.get("refusal"):
        raise UnreadableError("the judge refused to answer")
    finished = ("stop", "eos_token", None) + (("length",) if config.verdict == "logprobs" else ())
    if (finish := reply.get("finish")) not in finished:
        mend = "; raise max_tokens" if finish == "length" else ""
        raise UnreadableError(f"the reply ended with {_shown(finish)}{mend}")
    if config.verdict == "reply":
        return float(_named(reply.get("content"), config.labels) == order)
    masses = _masses(reply.get("top"), config.labels)
    return masses[order] / (masses[0] + masses[1])


def _compact(logprobs: Any) -> Any:
    """Keep the first token's candidates as pairs, or whatever was sent instead of them."""
    try:
        return [[entry["token"], entry["logprob"]] for entry in logprobs["content"][0]["top_logprobs"]]
    except (LookupError, TypeError):
        return {"unknown": logprobs}


def _masses(top: Any, labels: tuple[str, str]) -> tuple[float, float]:
    """Sum the probability of each label over the candidates that spell it, with or without a space before it.

    Case counts: as a first token, ``a`` opens a sentence.
    """
    if top is None:
        raise UnreadableError("the server sends no log-probabilities; take a judge with `verdict: reply`")
    if not isinstance(top, list) or not top or not all(map(_is_candidate, top)):
        raise UnreadableError("the reply's log-probabilities have another form")
    found: tuple[list[float], list[float]] = ([], [])
    everything = []
    for token, logprob in top:
        if not -LOWEST <= logprob <= ABOVE_ONE:
            raise UnreadableError(f"a log-probability is {_shown(logprob)}")
        everything.append(math.exp(logprob))
        word = token.strip().lstrip(TOKEN_MARKS)
        for label, masses in zip(labels, found, strict=True):
            if word == label.strip():
                masses.append(everything[-1])
    if (total := math.fsum(everything)) > 1 + ABOVE_ONE:
        raise UnreadableError(f"the probabilities sum to {total:.4g}")
    first, second = map(math.fsum, found)
    if first + second < ENOUGH:
        raise UnreadableError(f"the labels {labels[0]} and {labels[1]} have a probability of {first + second:.3g}")
    return first, second


def _is_candidate(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], int | float)
        and not isinstance(entry[1], bool)
    )


def _named(content: Any, labels: tuple[str, str]) -> int:
    """Find which label the last line that is not empty names, and names alone.

    Around it may stand markup, quotes and punctuation, before it ``Verdict:`` or ``Answer:``. Case does not count.
    """
    lines = [line for line in content.splitlines() if line.strip()] if isinstance(content, str) else []
    if not lines:
        raise UnreadableError("the reply is empty")
    line = lines[-1]
    head, colon, tail = line.partition(":")
    if colon and " ".join(head.strip(DECORATION).casefold().split()) in INTRODUCTIONS:
        line = tail
    whole = [label.strip().casefold() for label in labels]
    bare = [_bare(label) for label in labels]
    for said, names in ((line.strip().casefold(), whole), (_bare(line), bare)):
        if names[0] != names[1] and said and said in names:
            return names.index(said)
    raise UnreadableError(f"the reply's last line is neither {labels[0]} nor {labels[1]}")


def _bare(text: str) -> str:
    return text.strip(DECORATION).casefold()


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"
