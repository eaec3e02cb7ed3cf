"""Are the scores that are kept of a submission what it gives? They are computed again and compared, field by field."""

from __future__ import annotations

import json
from typing import Any

from benchmark.compare import OF_EMBEDDINGS
from benchmark.submission.validate import ENCODER_TOLERANCE, TOLERANCE


def first_difference(kept: bytes, anew: bytes) -> str | None:
    """Compare two texts of JSON; numbers may differ by what is allowed between a claim and a computation.

    Parameters
    ----------
    kept, anew
        What is kept, and what was computed here.

    Returns
    -------
    str or None
        Where they first differ, and how, in one line; None where they do not. Numbers of metrics of embeddings have
        `ENCODER_TOLERANCE` as room, as encoders differ in their last bits between machines, and all others
        `TOLERANCE`, in both cases of the number itself where it is above 1; all else is the same or differs.
    """
    if kept == anew:
        return None
    # An integer of any length is a number like others.
    one, other = (json.loads(text, parse_int=float) for text in (kept, anew))
    return _differ(one, other, "", TOLERANCE)


def _differ(kept: Any, anew: Any, place: str, room: float) -> str | None:
    if isinstance(kept, dict) and isinstance(anew, dict) and kept.keys() == anew.keys():
        metric = str(anew.get("metric", ""))
        return _first((kept[key], anew[key], f"{place}.{key}", _room(key, metric, room=room)) for key in anew)
    if isinstance(kept, list) and isinstance(anew, list) and len(kept) == len(anew):
        return _first(
            (one, other, f"{place}[{n}]", room) for n, (one, other) in enumerate(zip(kept, anew, strict=True))
        )
    if isinstance(kept, float) and isinstance(anew, float):
        if kept == anew or abs(kept - anew) <= room * max(1.0, abs(anew)):
            return None
    elif kept == anew and type(kept) is type(anew):
        return None
    return f"{place.removeprefix('.')} is {_short(kept)}; computed anew it is {_short(anew)}"


def _first(pairs: Any) -> str | None:
    return next((found for pair in pairs if (found := _differ(*pair))), None)


def _room(*names: str, room: float) -> float:
    return ENCODER_TOLERANCE if any(name.startswith(OF_EMBEDDINGS) for name in names) else room


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
