"""Make a data root of stand-ins: other public data, in the fields of the data sets that it stands in for.

The folder that is read holds copies of public research data. What is made of it lets every task be run for real where
the hub is out of reach; its runs name the stand-in and never compare with runs on the data sets themselves. Same input,
same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmark.data.rows import FieldType, Row, read_rows
from benchmark.data.sources import load_sources, local_copy
from benchmark.errors import UserError

TIFU = "superni_summ/task511_reddit_tifu_long_text_summarization_{}"
EVALUATED_INSTRUCTIONS = 500
VALIDATION_INSTRUCTIONS = 100
MARK = "adopted.txt"
"""File of a data root that says what `adopt` put there."""
_STAGE = ".adopt"
_ALPACA: dict[str, FieldType] = {"instruction": "text", "input": "text", "output": "text"}


class StandIn(NamedTuple):
    """Rows of every split, and what they are."""

    stand_in: str
    note: str
    splits: dict[str, list[Row]]


def adopt(shared: Path, out: Path) -> list[str]:
    """Write a data root of stand-ins.

    Parameters
    ----------
    shared
        The folder with the data, as its README.md lays it out.
    out
        The data root; it must not be there yet, or be one that this function made. Of the latter the stand-ins are
        replaced, one folder at a time, and everything else stays.

    Returns
    -------
    list[str]
        One line a source: what stands in for it, with rows a split.

    Raises
    ------
    UserError
        If a file is missing or not as expected, or ``out`` holds something else in the place of a stand-in; nothing is
        then written.
    """
    adopted = (out / MARK).is_file()
    if out.exists() and not adopted and (not out.is_dir() or any(path.name != _STAGE for path in out.iterdir())):
        raise UserError("is there already and not made by `gendiv data adopt`: choose another folder", where=out)
    made = {source: make(shared) for source, make in STAND_INS.items()}
    for source, stand_in in made.items():
        _refuse_another(out, source, stand_in)
    stage = out / _STAGE
    try:
        shutil.rmtree(stage, ignore_errors=True)
        for source, stand_in in made.items():
            _write(stage / source, source, stand_in)
        lines = [_told(source, stand_in) for source, stand_in in made.items()]
        (stage / MARK).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        # At every moment what is there is known for adopted, so that a run that was ended can be taken up.
        for name in (*made, MARK) if adopted else (MARK, *made):
            if (out / name).is_dir():
                (out / name).rename(stage / f"{name}.old")
            (stage / name).replace(out / name)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", where=out) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return lines


def normalised(text: str) -> str:
    """Leave case, punctuation and white space out: texts that are equal so are near-duplicates."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def tldr(shared: Path) -> StandIn:
    """Reddit TIFU for TL;DR: 600 posts to train on, 100 to validate, the rest evaluated."""
    raw = [
        *_read(shared, TIFU.format("train.jsonl.gz"), {"input": "text", "output": "list"}),
        *_read(shared, TIFU.format("dev.jsonl"), {"input": "text", "output": "list"}),
    ]
    posts = [
        {
            "subreddit": "tifu",
            "title": "",
            "post": row["input"].removeprefix("Text: "),
            "summary": str(row["output"][0]) if row["output"] else "",
        }
        for row in raw
    ]
    posts = _in_hash_order(posts, "post")
    unsaid = sum(not post["summary"].strip() for post in posts)
    note = (
        "the posts of the train and dev files of Super-NaturalInstructions task 511, without titles and in lower case; "
        f"{unsaid} of {len(posts)} have an empty summary, and so no reference; split by the order of the SHA-256 of "
        "the post; all of one subreddit, so that the subreddit shift has no evaluated document out of distribution"
    )
    return StandIn(
        "Reddit TIFU (long)", note, {"train": posts[:600], "validation": posts[600:700], "test": posts[700:]}
    )


def cnn_dailymail(shared: Path) -> StandIn:
    """Take the articles that are not cut off."""
    fields: dict[str, FieldType] = {"source": "text", "article": "text", "highlights": "text", "truncated": "boolean"}
    raw = [row for row in _read(shared, "cnndm/cnndm_articles.jsonl.gz", fields) if not row["truncated"]]
    articles = [
        {"article": row["article"], "highlights": row["highlights"], "id": _sha256(row["article"])} for row in raw
    ]
    leads = [row for row in raw if normalised(row["article"]).startswith(normalised(row["highlights"]))]
    note = (
        "uncut CNN/DailyMail articles from four public collections; in "
        f"{len(leads)} of {len(raw)} ({', '.join(sorted({row['source'] for row in leads}))}) the highlights are the "
        "article's own beginning, word for word, and not what an editor wrote: a win rate against them says little"
    )
    return StandIn("CNN/DailyMail articles of T0, QAGS, SummEval and REALSumm", note, {"test": articles})


def alpaca_farm_id_test(shared: Path) -> StandIn:
    """Take 500 rows of an Alpaca subset as fresh prompts of that pipeline, the input folded into the instruction."""
    rows = [
        {
            "dataset": "alpaca",
            "instruction": f"{row['instruction']}\n\n{row['input']}" if row["input"].strip() else row["instruction"],
            "output": row["output"],
            "generator": "text_davinci_003",
        }
        for row in _alpaca(shared)[:EVALUATED_INSTRUCTIONS]
    ]
    note = "the first 500 of a random subset of Alpaca 52k by the SHA-256 of instruction and input; the rest trains"
    return StandIn("a random subset of Alpaca 52k, evaluated part", note, {"train": rows})


def alpaca_farm(shared: Path) -> StandIn:
    """Take the rest of that subset to train on; no human preferences."""
    rest = _alpaca(shared)[EVALUATED_INSTRUCTIONS:]
    val, sft = rest[:VALIDATION_INSTRUCTIONS], rest[VALIDATION_INSTRUCTIONS:]
    note = "what the evaluated part leaves, 100 of it for validation; no unlabeled split and no preferences"
    return StandIn("a random subset of Alpaca 52k, training part", note, {"sft": sft, "val": val})


def alpaca_eval(shared: Path) -> StandIn:
    """AlpacaEval's own prompts and text_davinci_003's outputs, from its results folder."""
    fields: dict[str, FieldType] = {"dataset": "text", "instruction": "text", "output_text_davinci_003": "text"}
    rows = [
        {
            "dataset": row["dataset"],
            "instruction": row["instruction"],
            "output": row["output_text_davinci_003"],
            "generator": "text_davinci_003",
        }
        for row in _read(shared, "alpaca_eval/eval_set.jsonl.gz", fields)
    ]
    note = "the 805 prompts as they stand in tatsu-lab/alpaca_eval's results; not compared with the hub's own file"
    return StandIn("AlpacaEval's prompts and text_davinci_003 outputs from its results", note, {"eval": rows})


def sequential_instructions(shared: Path) -> StandIn:
    """Take SeqEval, AlpacaEval's prompts rewritten as sequences; it has no outputs."""
    rows = [
        {"dataset": "seqeval", "instruction": row["instruction"]}
        for row in _read(shared, "sequential_instructions/seqEval.jsonl", {"instruction": "text"})
    ]
    note = "AlpacaEval's prompts rewritten as sequences of one to four instructions; no outputs, so no references"
    return StandIn("SeqEval", note, {"train": rows})


STAND_INS: dict[str, Callable[[Path], StandIn]] = {
    "tldr": tldr,
    "cnn_dailymail": cnn_dailymail,
    "alpaca_farm_id_test": alpaca_farm_id_test,
    "alpaca_farm": alpaca_farm,
    "alpaca_eval": alpaca_eval,
    "sequential_instructions": sequential_instructions,
}


def _read(shared: Path, name: str, fields: dict[str, FieldType]) -> list[Row]:
    path = shared / name
    if not path.is_file():
        raise UserError("no such file: give the folder that holds the shared data (its README.md lists it)", where=path)
    return read_rows(path, fields, {})


def _alpaca(shared: Path) -> list[Row]:
    rows = _read(shared, "alpaca_subsets/random_9k.jsonl.gz", _ALPACA)
    return _in_hash_order(rows, "instruction", "input")


def _in_hash_order(rows: Iterable[Row], *fields: str) -> list[Row]:
    """Order rows by the SHA-256 of their text, near-duplicates (the later ones in that order) left out."""
    ordered = sorted(rows, key=lambda row: _sha256("\n".join(row[field] for field in fields)))
    first: dict[str, Row] = {}
    for row in ordered:
        first.setdefault(normalised(" ".join(row[field] for field in fields)), row)
    return list(first.values())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_another(out: Path, source: str, stand_in: StandIn) -> None:
    """Refuse to replace what stands in a stand-in's place and is none that `adopt` made, in this version or another."""
    there = out / source
    if not there.exists() and not there.is_symlink():
        return
    named = local_copy(out, source).stand_in
    told = (out / MARK).read_text(encoding="utf-8", errors="replace").splitlines()
    if named != stand_in.stand_in and not any(line.startswith(f"{source}: {named} (") for line in told):
        raise UserError(
            "is not a stand-in that `gendiv data adopt` made: move it away, or choose another folder", where=there
        )


def _write(folder: Path, source: str, stand_in: StandIn) -> None:
    folder.mkdir(parents=True)
    for split, rows in stand_in.splits.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    about = {
        "dataset": load_sources()[source].dataset,
        "revision": None,
        "stand_in": stand_in.stand_in,
        "note": stand_in.note,
    }
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=120)
    (folder / "source.yaml").write_text(text, encoding="utf-8")


def _told(source: str, stand_in: StandIn) -> str:
    return f"{source}: {stand_in.stand_in} ({', '.join(_counts(stand_in))})"


def _counts(stand_in: StandIn) -> Iterator[str]:
    for split, rows in stand_in.splits.items():
        yield f"{split} {len(rows)}"
