"""Invented corpora and people's choices for the tests of the model of real text."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from reference_models.real_text_preferences import DIALOGUES, PANDALM

NUMBER = 40


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        with gzip.open(path, "wt") as file:
            file.write(text)
    else:
        path.write_text(text)
    return path


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def thirteens(text: str) -> set[str]:
    """Another way of writing runs of 13 words: as one regular expression over the joined words."""
    joined = " ".join(re.sub(r"[\W_]+", " ", text.lower()).split())
    return set(re.findall(r"(?=(?<!\S)((?:\S+ ){12}\S+)(?!\S))", joined))


def pandalm(instruction: str, *votes: int, given: str = "") -> dict[str, Any]:
    answers = {"response1": f"one of {instruction}", "response2": f"two of {instruction}"}
    told = {f"annotator{number}": vote for number, vote in enumerate(votes, start=1)}
    return {"instruction": instruction, "input": given, **answers, **told}


def dialogue(question: str, chosen: str, rejected: str) -> dict[str, str]:
    before = f"\n\nHuman: {question}\n\nAssistant: Why?\n\nHuman: Because.\n\nAssistant:"
    return {"chosen": f"{before} {chosen}", "rejected": f"{before} {rejected}"}


def make_people(folder: Path) -> Path:
    """Invented choices of people, in the files' own fields."""
    write(folder / PANDALM, [pandalm(f"count to {number}", 1, 1, 2) for number in range(NUMBER)])
    rows = [dialogue(f"what is {number}?", f"it is {number}", "go away") for number in range(NUMBER)]
    write(folder / DIALOGUES, rows)
    return folder
