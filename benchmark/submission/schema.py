"""The JSON Schema of ``submission.json``, published beside the submissions for those who write their own packers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.submission.record import VERSION, Submission

PLACE = Path("schema") / f"submission-v{VERSION}.json"
"""Below the folder ``submissions``."""


def schema() -> dict[str, Any]:
    """Write the schema of this version.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12. What it allows may still be refused: that strings are of plain letters, that files
        are those of the manifest, and that scores are what texts and verdicts give, no schema can say.
    """
    made = Submission.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"GenDiv submission, version {VERSION}",
        **{name: part for name, part in made.items() if name != "title"},
    }


def schema_json() -> str:
    """The file's text; the same code gives the same bytes."""
    return json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_schema(root: Path) -> Path:
    """Write the schema below the folder ``submissions``; returns where."""
    place = root / PLACE
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(schema_json(), encoding="utf-8")
    return place
