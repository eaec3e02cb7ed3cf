"""Submissions of older schema versions, brought to the present one when they are read; their files never change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.submission.reading import plain, strict_json
from benchmark.submission.record import VERSION

Fields = dict[str, Any]


def _from_0(fields: Fields) -> Fields:
    """Version 0 named the organisation and the model apart, and the judge in the manifest alone."""
    organisation, name = fields.pop("organisation"), fields.pop("name")
    manifest = fields["manifest"]
    judge = manifest["identity"]["judge"]
    if not isinstance(organisation, str) or not isinstance(name, str) or "claimed_judge" in fields:
        raise TypeError
    return fields | {"model": f"{organisation}/{name}", "claimed_judge": judge}


MIGRATIONS: Mapping[int, Callable[[Fields], Fields]] = {0: _from_0}
"""Version → what makes the next one of it."""


def current(data: bytes, where: Path) -> bytes:
    """Bring a ``submission.json`` to the present version; what is of it already comes back as it is.

    Raises
    ------
    UserError
        If it is no JSON object with a known version, or lacks what its version has.
    """
    # Strictly, here already: a field that is there twice would be once when it is written again.
    fields = strict_json(data, where)
    if not isinstance(fields, dict):
        raise UserError("no JSON object; `gendiv submit` makes a submission", where=where)
    version = fields.get("version")
    if type(version) is not int or version not in {*MIGRATIONS, VERSION}:
        known = ", ".join(map(str, sorted([*MIGRATIONS, VERSION])))
        said = plain(json.dumps(version)[:200], 40)
        raise UserError(f"version: {said} is none of {known}; pack it again, or update GenDiv", where=where)
    if version == VERSION:
        return data
    try:
        while version != VERSION:
            fields = MIGRATIONS[version](fields) | {"version": (version := version + 1)}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"is no submission of version {version}; pack it again", where=where) from None
    return json.dumps(fields).encode()
