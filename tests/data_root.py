"""A small data root of invented rows, in the fields of the hub's data sets."""

import json
from pathlib import Path
from typing import Any

import yaml

SUBREDDITS = ("tifu", "AskReddit", "aww", "relationships", "books")


def post(split: str, number: int, words: int = 12) -> dict[str, str]:
    mood = ("happy", "sad", "green")[number % 3]
    return {
        "id": f"t3_{split}{number}",
        "subreddit": SUBREDDITS[number % len(SUBREDDITS)],
        "title": f"title {number}",
        "post": " ".join([f"{split} post {number} is {mood}", *["word"] * (words + (400 if number % 4 == 0 else 0))]),
        "summary": f" summary {number}" if number % 7 else "  ",
    }


def comparison(number: int, choice: int) -> dict[str, Any]:
    return {
        "info": {**{k: v for k, v in post("train", number).items() if k != "summary"}, "site": None},
        "summaries": [
            {"text": f" first of {number}", "policy": "ref", "note": None},
            {"text": f" second of {number}", "policy": "sup4", "note": None},
        ],
        "choice": choice,
        "worker": "w",
    }


def instruction(split: str, number: int) -> dict[str, str]:
    given = f"input {number}" if number % 2 else ""
    return {"instruction": f"do {split} {number}", "input": given, "output": f"done {number}"}


def rows() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows by source and split."""

    def evaluated(kind: str, n: int, *, outputs: bool = True) -> list[dict[str, Any]]:
        return [
            {"dataset": kind, "instruction": f"{kind} {i}", **({"output": f"{kind} out {i}"} if outputs else {})}
            for i in range(n)
        ]

    return {
        "tldr": {
            "train": [post("train", i) for i in range(40)],
            "validation": [post("valid", i) for i in range(8)],
            "test": [post("test", i) for i in range(24)],
        },
        "tldr_preferences": {"train": [comparison(i, i % 2) for i in range(6)]},
        "cnn_dailymail": {
            "test": [{"article": f"news {i}", "highlights": f"high {i} .\nlight", "id": f"{i:x}"} for i in range(9)]
        },
        "alpaca_farm_id_test": {"train": evaluated("farm", 7)},
        "alpaca_farm": {
            "sft": [instruction("sft", i) for i in range(10)],
            "unlabeled": [instruction("unlabeled", i) for i in range(6)],
            "val": [instruction("val", i) for i in range(4)],
            "human_preference": [
                {**instruction("pref", i), "output_1": "one", "output_2": "two", "preference": i % 3} for i in range(6)
            ],
        },
        "alpaca_eval": {"eval": evaluated("eval", 6)},
        "sequential_instructions": {"train": evaluated("seq", 5, outputs=False)},
    }


def write_rows(path: Path, written: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written), encoding="utf-8")


def make_data_root(folder: Path) -> Path:
    for source, splits in rows().items():
        for split, written in splits.items():
            write_rows(folder / source / f"{split}.jsonl", written)
    return folder


def describe(folder: Path, source: str, **about: Any) -> None:
    (folder / source / "source.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
