"""Hostile submissions, one trick at a time: each is refused with one clear line, or shown to be inert."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_submissions import JUDGE, SAMPLES, VERDICTS, Tiny, check_told, listing, make_submission

from benchmark.errors import UserError
from benchmark.runs import Run
from benchmark.submission.reading import MAX_JSON, MAX_LINE
from benchmark.submission.validate import validate

pytestmark = pytest.mark.usefixtures("quick")

INJECTIONS = {
    "html": "<script>alert(1)</script>",
    "attribute": "\" onmouseover='alert(1)'",
    "markdown": "[click](javascript:alert(1)) ![x](https://x.example/p.png) | a | b |",
    "latex": "\\input{/etc/passwd}\\write18{id}%$#_{}~^&",
    "csv": "=cmd|' /C calc'!A0",
    "csv at": '@SUM(1+1)*cmd|" /C calc"!A0',
    "yaml": "!!python/object/apply:os.system ['id']",
    "jinja": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format": "%s%n{0.__class__}",
    "path": "../../etc/passwd",
    "rich": "[bold red]x[/] [link=file:///etc/passwd]y[/link]",
    "sql": "'; DROP TABLE rows; --",
}
STRANGE = {
    "nul": "a\x00b",
    "escape": "\x1b[2J\x1b]0;x\x07",
    "line": "a\nb",
    "return": "a\rb",
    "line separator": "a\u2028b",
    "bidi": "abc\u202etxt.exe",
    "isolate": "a\u2067b",
    "no width": "gp\u200bt-4",
    "byte order": "\ufeffx",
    "private": "\ue000",
    "noncharacter": "\uffff",
    "tag": "\U000e0041",
    "next line": "a\x85b",
}


def refusal(tiny: Tiny) -> str:
    """What validation says of a submission that it must refuse, seen to be one clear line about its own files."""
    before = listing(tiny.root.parent)
    with pytest.raises(UserError) as caught:
        validate(tiny.folder, tiny.root, fast=True)
    message = str(caught.value)
    check_told(message, tiny)
    assert listing(tiny.root.parent) == before
    return message


def change(tiny: Tiny, place: str, value: Any) -> None:
    """Set one field of ``submission.json``; a place is names and numbers with dots between them."""
    fields = tiny.fields()
    *way, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    here: Any = fields
    for part in way:
        here = here[part]
    here[last] = value
    tiny.write(fields)


def test_the_honest_submission_is_valid(honest: Tiny) -> None:
    checked = validate(honest.folder, honest.root, fast=True)
    assert checked.tier == "self-reported"
    assert checked.scores.identity.judge == "oracle"


# ---- files ----


def link_to_a_file(tiny: Tiny) -> None:
    target = tiny.folder / f"{SAMPLES}.gz"
    target.rename(tiny.root.parent / "outside")
    target.symlink_to(tiny.root.parent / "outside")


def hard_link(tiny: Tiny) -> None:
    os.link(tiny.folder / f"{SAMPLES}.gz", tiny.root.parent / "outside")


def link_to_a_folder(tiny: Tiny) -> None:
    (tiny.folder / "samples").rename(tiny.root.parent / "outside")
    (tiny.folder / "samples").symlink_to(tiny.root.parent / "outside")


def is_a_link(tiny: Tiny) -> None:
    tiny.folder.rename(tiny.root.parent / "outside")
    tiny.folder.symlink_to(tiny.root.parent / "outside")


def lies_behind_a_link(tiny: Tiny) -> None:
    model = tiny.folder.parent.parent
    model.rename(tiny.root.parent / "outside")
    model.symlink_to(tiny.root.parent / "outside")


def dangling_link(tiny: Tiny) -> None:
    (tiny.folder / "more").symlink_to("/nowhere")


def fifo(tiny: Tiny) -> None:
    (tiny.folder / f"{SAMPLES}.gz").unlink()
    os.mkfifo(tiny.folder / f"{SAMPLES}.gz")


def unix_socket(tiny: Tiny) -> None:
    here = Path.cwd()
    os.chdir(tiny.folder)  # a socket's name may have 100 letters alone
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(here)


def folder_for_a_file(tiny: Tiny) -> None:
    tiny.record.unlink()
    tiny.record.mkdir()


def missing_record(tiny: Tiny) -> None:
    tiny.record.unlink()


def missing_log(tiny: Tiny) -> None:
    (tiny.folder / f"{SAMPLES}.gz").unlink()


def more_files(tiny: Tiny) -> None:
    (tiny.folder / "conftest.py").write_text("raise SystemExit")


def pickled(tiny: Tiny) -> None:
    (tiny.folder / "model.pkl").write_bytes(pickle.dumps(print))


def hidden(tiny: Tiny) -> None:
    (tiny.folder / ".git").mkdir()


def strange_name(tiny: Tiny) -> None:
    (tiny.folder / "a\x1b[2J\n‮b").write_text("")


def name_that_is_not_unicode(tiny: Tiny) -> None:
    (tiny.folder / os.fsdecode(b"\xff\xfe")).write_text("")


def clash_of_case(tiny: Tiny) -> None:
    (tiny.folder / "SAMPLES").mkdir()


def many_files(tiny: Tiny) -> None:
    for number in range(300):
        (tiny.folder / f"f{number}").touch()


def many_folders(tiny: Tiny) -> None:
    for number in range(300):
        (tiny.folder / f"f{number}").mkdir()


def deep(tiny: Tiny) -> None:
    (tiny.folder / "/".join("abcdefghi")).mkdir(parents=True)


FILES: list[tuple[Callable[[Tiny], None], str]] = [
    (link_to_a_file, "gz': is a link or no plain file; a submission holds files alone"),
    (hard_link, "is a hard link to another file; put a copy there"),
    (link_to_a_folder, "samples': is a link or no plain file"),
    (is_a_link, "is a link; a submission is a folder of files"),
    (lies_behind_a_link, "me__random: is a link; a submission is a folder of files"),
    (dangling_link, "more': is a link or no plain file"),
    (fifo, "is a link or no plain file"),
    (unix_socket, "is a link or no plain file"),
    (folder_for_a_file, "submission.json: no such file; `gendiv submit` makes a submission"),
    (missing_record, "submission.json: no such file; `gendiv submit` makes a submission"),
    (missing_log, "no such file, and submission.json names it; pack it again"),
    (more_files, "conftest.py: is no file of this submission; remove it"),
    (pickled, "model.pkl: is no file of this submission; remove it"),
    (hidden, "a name in a submission is of letters, digits and . _ @ + -; rename it"),
    (strange_name, r"a\x1b[2J\n\u202eb': a name in a submission is of letters, digits"),
    (name_that_is_not_unicode, r"\udcff\udcfe': a name in a submission is of letters, digits"),
    (clash_of_case, "samples': differs from another name in case alone; rename one of them"),
    (many_files, "holds more than 200 files"),
    (many_folders, "holds more than 200 files"),
    (deep, "is too deep for a submission"),
]


@pytest.mark.parametrize(("trick", "message"), FILES, ids=[trick.__name__ for trick, _ in FILES])
def test_a_strange_folder_is_refused(tiny: Tiny, trick: Callable[[Tiny], None], message: str) -> None:
    trick(tiny)
    assert message in refusal(tiny)


def test_a_folder_outside_the_root_is_refused(honest: Tiny, tmp_path: Path) -> None:
    for folder, root in (
        (honest.folder, tmp_path),
        (honest.folder / "samples", honest.root),
        (honest.root, honest.root),
        (honest.root / "me__random" / ".." / "me__random" / "1", honest.root),
    ):
        with pytest.raises(UserError, match="below the root"):
            validate(folder, root, fast=True)


# ---- packed bytes ----


def tar(member: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    return made.getvalue()


def bomb() -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as file:
        for _ in range(300):
            file.write(bytes(2**20))
    return made.getvalue()


PACKED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is cut off; pack it again"),
    "not gzip": (lambda _: b"hello", "is no gzip file"),
    "pickle": (lambda _: pickle.dumps([1]), "is no gzip file"),
    "cut": (lambda data: data[:-9], "is cut off; pack it again"),
    "without its check": (lambda data: data[:-8], "is cut off; pack it again"),
    "wrong check": (lambda data: data[:-8] + b"\0" * 8, "is no gzip file"),
    "two members": (lambda data: data + data, "has something behind its end; pack it again"),
    "tail": (lambda data: data + b"<script>", "has something behind its end; pack it again"),
    "empty line": (lambda data: gzip.compress(b"\n" + gzip.decompress(data)), "unpacks to more than"),
    "tar": (lambda _: tar("../../evil"), "unpacks to more than"),
    "bomb": (lambda _: bomb(), "unpacks to more than"),
    "bomb of bombs": (lambda _: gzip.compress(bomb()), "unpacks to more than"),
    "too large": (lambda _: bytes(11 * 2**20), "bytes; at most 10,485,760 are read"),
    "other bytes": (lambda data: gzip.compress(gzip.decompress(data).replace(b" ", b"  ")), "unpacks to more than"),
}


@pytest.mark.parametrize("trick", PACKED)
def test_strange_packed_bytes_are_refused(tiny: Tiny, trick: str) -> None:
    path = tiny.folder / f"{SAMPLES}.gz"
    make, message = PACKED[trick]
    path.write_bytes(make(path.read_bytes()))
    assert message in refusal(tiny)


def test_a_bomb_that_says_its_size_is_stopped_at_its_first_line(tiny: Tiny) -> None:
    (tiny.folder / f"{SAMPLES}.gz").write_bytes(bomb())
    change(tiny, "files.0.bytes", 200 * 2**20)
    assert f"gz:1: is longer than {MAX_LINE:,} bytes" in refusal(tiny)


# ---- lines of logs, sealed by the forger ----

HUGE = "1" + "0" * 400
LINES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "10 MB line": (SAMPLES, lambda d: d.replace(b'"text":"', b'"text":"' + b"x" * 10 * 2**20, 1), "is longer than"),
    "no end": (SAMPLES, lambda d: d[:-1], "the last line has no end; pack it again"),
    "nothing": (SAMPLES, lambda d: b" \n", "not JSON of a record"),
    "bad UTF-8": (SAMPLES, lambda d: d.replace(b'"text":"', b'"text":"\xff', 1), ":1: not UTF-8 at byte"),
    "UTF-8 of half a letter": (SAMPLES, lambda d: d.replace(b'"text":"', b'"text":"\xed\xa0\x80', 1), "not UTF-8"),
    "half a letter": (SAMPLES, lambda d: d.replace(b'"text":"', b'"text":"\\ud800', 1), "text with half a character"),
    "UTF-16": (SAMPLES, lambda d: d.decode().encode("utf-16"), "not UTF-8 at byte"),
    "byte order": (SAMPLES, lambda d: b"\xef\xbb\xbf" + d, "not JSON of a record: Unexpected UTF-8 BOM"),
    "a bare control": (SAMPLES, lambda d: d.replace(b'"text":"', b'"text":"\x01', 1), "Invalid control character"),
    "NaN": (VERDICTS, lambda d: re.sub(rb'"score":[^,]+', b'"score":NaN', d, count=1), "NaN is no JSON number"),
    "Infinity": (
        VERDICTS,
        lambda d: re.sub(rb'"score":[^,]+', b'"score":-Infinity', d, count=1),
        "-Infinity is no JSON",
    ),
    "1e999": (VERDICTS, lambda d: re.sub(rb'"score":[^,]+', b'"score":1e999', d, count=1), "a number out of range"),
    "huge integer": (
        VERDICTS,
        lambda d: re.sub(rb'"length":\d+', b'"length":' + HUGE.encode(), d, count=1),
        "an integer of 401 digits",
    ),
    "huge float of digits": (
        VERDICTS,
        lambda d: re.sub(rb'"score":[^,]+', b'"score":' + HUGE.encode(), d, count=1),
        "an integer of 401 digits",
    ),
    "negative length": (
        VERDICTS,
        lambda d: re.sub(rb'"length":\d+', b'"length":-1', d, count=1),
        "length: Input should",
    ),
    "float for int": (SAMPLES, lambda d: d.replace(b'"index":0', b'"index":0.0', 1), "index: Input should be"),
    "text for int": (SAMPLES, lambda d: d.replace(b'"index":0', b'"index":"0"', 1), "index: Input should be"),
    "true for int": (SAMPLES, lambda d: d.replace(b'"index":0', b'"index":false', 1), "index: Input should be"),
    "field twice": (SAMPLES, lambda d: d.replace(b'"index":0', b'"index":1,"index":0', 1), "a field is there twice"),
    "escaped field twice": (
        SAMPLES,
        lambda d: d.replace(b'"index":0', b'"inde\\u0078":1,"index":0', 1),
        "a field is there twice",
    ),
    "unknown field": (SAMPLES, lambda d: d.replace(b'"index":0', b'"index":0,"__class__":1', 1), "__class__: Extra"),
    "unknown field of controls": (
        SAMPLES,
        lambda d: d.replace(b'"index":0', b'"index":0,"\\u001b[2J":1', 1),
        "�[2J: Extra inputs",
    ),
    "deep": (SAMPLES, lambda d: d.replace(b'"text":"', b'"x":' + b"[" * 9000 + b"]" * 9000 + b',"text":"', 1), "deep"),
    "many values": (
        SAMPLES,
        lambda d: d.replace(b'"text":"', b'"x":[' + b"1," * 400_000 + b'1],"text":"', 1),
        "more than 200,000 values",
    ),
    "a list": (SAMPLES, lambda d: b"[]\n" + d, ":1: not a valid Sample"),
    "another task": (
        SAMPLES,
        lambda d: d.replace(b"pocket_id", b"pocket_ood", 1),
        "task is 'gendiv_pocket_ood', in a file",
    ),
    "another prompt": (SAMPLES, lambda d: d.replace(b"id-0000", b"id-9999", 1), "is not in the suite's grid"),
    "minus zero": (SAMPLES, lambda d: d.replace(b'"temperature":1.0', b'"temperature":-0.0', 1), "temperature: -0.0"),
    "control in a name": (SAMPLES, lambda d: d.replace(b"id-0000", b"id-\\u001b", 1), "doc_id: holds U+001B"),
    "a line twice": (SAMPLES, lambda d: d + d.splitlines(keepends=True)[0], "a line more than the 8 that its grid"),
    "a line missing": (SAMPLES, lambda d: d[d.index(b"\n") + 1 :], "is missing"),
    "verdict on another text": (
        VERDICTS,
        lambda d: re.sub(rb'"key":"..', b'"key":"zz', d, count=1),
        "is of another text",
    ),
    "verdict without a key": (
        VERDICTS,
        lambda d: re.sub(rb'"key":"[^"]*"', b'"key":""', d, count=1),
        "key: String should",
    ),
    "three orders": (VERDICTS, lambda d: d.replace(b'"key"', b'"orders":[1,1,1],"key"', 1), "orders: 3 of them"),
    "preference of 2": (
        VERDICTS,
        lambda d: re.sub(rb'"preference":[^,]+', b'"preference":2', d, count=1),
        "preference: Input",
    ),
    "turned preference": (
        VERDICTS,
        lambda d: re.sub(rb'"preference":0.0', b'"preference":1.0', d, count=1),
        "what the judge replied gives 0.0",
    ),
    "verdicts a hundred times": (VERDICTS, lambda d: d * 100, "a line more than the 80 that its grid may have"),
    "a failure with a page of controls": (
        VERDICTS,
        lambda d: re.sub(
            rb'"preference":[^,]+', b'"error":"' + b"\\\\u001b[2J\\\\n" * 5000 + b'","preference":null', d, count=1
        ),
        "of 8 samples have a verdict (�[2J",
    ),
}


@pytest.mark.parametrize("trick", LINES)
def test_a_strange_line_is_refused(tiny: Tiny, trick: str) -> None:
    path, make, message = LINES[trick]
    data = tiny.data(path)
    changed = make(data)
    assert changed != data
    tiny.seal(path, changed)
    assert message in refusal(tiny)


def test_any_text_may_be_an_output(tmp_path: Path) -> None:
    """What outputs say is data: it is judged and scored like any other, comes back as it was, and nothing runs."""
    texts = [
        *INJECTIONS.values(),
        *STRANGE.values(),
        "",
        " ",
        "x" * 300_000,
        "𝒳é\u0301",
        "\ufffd",
        "`" * 9999,
        "ß ǆ İ ſ",
    ]

    def spoil(run: Run) -> None:
        path = run.samples_path("gendiv_pocket_id")
        samples = run.samples("gendiv_pocket_id")
        changed = [s.model_copy(update={"text": texts[n % len(texts)]}) for n, s in enumerate(samples)]
        path.write_text("".join(s.model_dump_json(exclude_defaults=True) + "\n" for s in changed), encoding="utf-8")

    tiny = make_submission(tmp_path, prompts=(len(texts) + 1) // 2, spoil=spoil)
    before = listing(tmp_path)
    checked = validate(tiny.folder, tiny.root, fast=True)
    assert {line["text"] for line in tiny.log(SAMPLES)} == set(texts)
    assert checked.scores.doc_ids["gendiv_pocket_id"][0] == "id-0000"
    assert listing(tmp_path) == before


# ---- submission.json ----

RECORD: list[tuple[str, Any, str]] = [
    ("version", 2, "version: 2 is none of 0, 1; pack it again, or update GenDiv"),
    ("version", "1", 'version: "1" is none of 0, 1'),
    ("version", True, "version: true is none of 0, 1"),
    ("version", 1.0, "version: 1.0 is none of 0, 1"),
    ("version", ["\x1b[2J" * 99], r"version: [\"\u001b[2J".replace('\\"', '"')),
    ("version", 0, "is no submission of version"),
    ("model", "../etc", "model: String should match pattern"),
    ("model", "a/b/c", "model: String should match pattern"),
    ("model", "me/other", "lies in 'me__random/1/pocket@v1' and says 'me__other/1/pocket@v1'; move it there"),
    ("model", "me__a/b", "model: two underscores in the organisation"),
    ("revision", "..", "revision: String should match pattern"),
    ("revision", "2", "revision: '2', and the manifest's model has '1'"),
    ("claimed_judge", "../../../../etc/passwd", "claimed_judge: String should match pattern"),
    ("claimed_judge", "other", "not judged by 'other'; judged by: oracle"),
    ("claimed_judge", None, "claimed_judge: None, and scored by 'oracle'"),
    ("files.0.path", "../../etc/passwd", "files.0.path: is no samples/<task>.jsonl"),
    ("files.0.path", "samples/../../x.jsonl", "files.0.path: is no samples/<task>.jsonl"),
    ("files.0.path", "samples/x.jsonl\n", "files.0.path: is no samples/<task>.jsonl"),
    ("files.0.path", "samples/other.jsonl", "named there or in tasks alone"),
    ("files.0.path", "samples/GENDIV_pocket_ood.jsonl", "files: two files have one path"),
    ("files.3.path", "verdicts/other.oracle.jsonl", "is of no task of the manifest"),
    ("files.3.path", "verdicts/gendiv_pocket_id.evil.jsonl", "no such file, and submission.json names it"),
    ("files.0.sha256", "0" * 64, "is not what submission.json says"),
    ("files.0.bytes", 1, "unpacks to more than 1 bytes"),
    ("files.0.bytes", 10**17, "files.0.bytes: Input should be less than"),
    ("files.0.url", "https://x.example/a.gz", "is no file of this submission; remove it"),
    ("files.0.url", "file:///etc/passwd", "files.0.url: String should match pattern"),
    ("files.0.url", "http://x.example/a.gz", "files.0.url: String should match pattern"),
    ("files.0.url", "https://localhost/a.gz", "files.0.url: String should match pattern"),
    ("files.0.url", "https://127.0.0.1/a.gz", "files.0.url: String should match pattern"),
    ("files.0.url", "https://me:pw@x.example/a.gz", "files.0.url: String should match pattern"),
    ("files.0.url", 'https://x.example/"><script>', "files.0.url: String should match pattern"),
    ("files", [], "files: Tuple should have at least 1 item"),
    ("files", {}, "files: Input should be"),
    ("manifest.identity.suite", "../pocket@v1", "manifest.identity.suite: String should match"),
    ("manifest.identity.suite", "pocket@v99", "lies in 'me__random/1/pocket@v1' and says"),
    ("manifest.identity.sampling.k", 10**17, "samples of gendiv_pocket_id; at most 1,000,000 are read"),
    ("manifest.identity.sampling.k", 3, "is missing"),
    ("manifest.identity.sampling.temperatures", [-0.0], "is no temperature from 0 to 100"),
    ("manifest.identity.sampling.temperatures", [1e300], "is no temperature from 0 to 100"),
    ("manifest.identity.sampling", None, "manifest.identity.sampling: is null where outputs were made"),
    ("manifest.identity.tasks.0.n_prompts", 10**17, "at most 1,000,000 are read"),
    ("manifest.identity.tasks.0.n_prompts", 3, "a line more than the 6 that its grid may have"),
    ("manifest.identity.tasks.0.n_prompts", 5, "identity.tasks is not that of suite pocket@v1"),
    ("manifest.identity.tasks.0.role", "ood", "manifest.identity.tasks: not those of suite pocket@v1"),
    ("manifest.identity.tasks.0.prompts_sha256", "0" * 64, "submission.json: manifest: identity.tasks is not that of"),
    ("manifest.identity.tasks.0.task", "gendiv_pocket_ood", "manifest.identity.tasks: a task is there twice"),
    ("manifest.identity.encoder", "mine", "manifest.identity.encoder: 'mine', and suite pocket@v1 has"),
    ("manifest.shard", [1, 2], "manifest.shard: a shard is no submission"),
    ("manifest.record", {"x": "y" * 70_000}, "manifest.record.x: 70,000 characters"),
    ("manifest.record", {"x": [0] * 70_000}, "manifest.record: 140,"),
    ("manifest.record", {"a\u202eb": 1}, "manifest.record (a name): holds U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    ("manifest.model.arguments", {"x": "a\x1bb"}, "manifest.model.arguments.x: holds U+001B"),
    ("manifest.card.note", "x" * 3000, "manifest.card.note: 3,000 characters; at most 2,000 are shown"),
    ("manifest.card.method", "x" * 300, "manifest.card.method: 300 characters; at most 200 are shown"),
    ("manifest.card.training_seed", -1, "manifest.card.training_seed: Input should be"),
    ("manifest.card.training_seed", 10**30, "an integer of 31 digits"),
    ("manifest.card.trained_on", [1] * 1000, "manifest.card.trained_on.0: Input should be"),
    ("manifest.card.more", 1, "manifest.card.more: Extra inputs are not permitted"),
    ("claims.0.value", 1e308, "claims value 1e+308 for win_rate"),
    ("claims.0.value", 10**17, "claims value 1e+17 for win_rate"),
    ("claims.0.n", 10**17, "claims n = 100000000000000000"),
    ("claims.0.temperature", 0.7, "claims win_rate of gendiv_pocket_id at T = 0.7, which its texts"),
    ("claims.0.temperature", -0.0, "is no temperature from 0 to 100"),
    ("claims.0.metric", "a\u202eb", "claims.0.metric: holds U+202E"),
    ("claims.0.task", "x" * 300, "claims.0.task: 300 characters"),
    ("claims.0.intervals", {"a\x1bb": [0.0, 1.0]}, "claims.0.intervals: holds U+001B"),
    ("claims.0.intervals", {str(n): [0.0, 1.0] for n in range(21)}, "more than 20 of them"),
    ("claims", [], "claims nothing for win_rate"),
    ("claims", None, "claims: Input should be"),
]


@pytest.mark.parametrize(("place", "value", "message"), RECORD, ids=[f"{p}-{n}" for n, (p, _, _) in enumerate(RECORD)])
def test_a_strange_field_is_refused(tiny: Tiny, place: str, value: Any, message: str) -> None:
    change(tiny, place, value)
    assert message in refusal(tiny)


NAMES = [
    "manifest.name",
    "manifest.model.dtype",
    *(
        f"manifest.card.{field}"
        for field in ("method", "base_model", "family", "decoding", "licence", "contact", "note")
    ),
]


@pytest.mark.parametrize("place", NAMES)
@pytest.mark.parametrize("kind", STRANGE)
def test_a_name_is_one_line_of_plain_letters(tiny: Tiny, place: str, kind: str) -> None:
    change(tiny, place, STRANGE[kind])
    assert f"{place}: holds U+" in refusal(tiny)


@pytest.mark.parametrize("kind", INJECTIONS)
def test_what_a_page_would_trip_over_stays_the_text_that_it_is(tiny: Tiny, kind: str) -> None:
    """Names may be of any plain letters: what shows them has to quote them, and gets them as they were."""
    fields = tiny.fields()
    for place in NAMES:
        _, part, *rest = place.split(".")
        if rest:
            fields["manifest"][part][rest[0]] = INJECTIONS[kind]
        else:
            fields["manifest"][part] = INJECTIONS[kind]
    fields["manifest"]["card"]["trained_on"] = [INJECTIONS[kind]]
    fields["manifest"]["record"] = {INJECTIONS[kind]: [INJECTIONS[kind]]}
    tiny.write(fields)
    before = listing(tiny.root.parent)
    checked = validate(tiny.folder, tiny.root, fast=True)
    assert checked.scores.name == checked.scores.card.contact == INJECTIONS[kind]
    assert checked.scores.record == {INJECTIONS[kind]: [INJECTIONS[kind]]}
    assert listing(tiny.root.parent) == before


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "not JSON of a record"),
    "null": (lambda d: b"null", "no JSON object"),
    "pickle": (lambda d: pickle.dumps({}), "not UTF-8 at byte 0"),
    "YAML": (lambda d: b"!!python/object/apply:os.system ['id']", "not JSON of a record"),
    "comment": (lambda d: b"// hi\n" + d, "not JSON of a record"),
    "two": (lambda d: d + d, "not JSON of a record: Extra data"),
    "field twice": (lambda d: b'{"version":1,' + d.lstrip()[1:], "a field is there twice"),
    "old field twice": (lambda d: b'{"version":0,"version":0}', "a field is there twice"),
    "NaN": (lambda d: d.replace(b'"value":', b'"value":NaN,"x":', 1), "NaN is no JSON number"),
    "deep": (lambda d: b'{"version":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is too deep"),
    "deep objects": (lambda d: b'{"version":1,"x":' + b'{"a":' * 300 + b"1" + b"}" * 301, "recursion limit"),
    "too large": (lambda d: d + b" " * MAX_JSON, "bytes; at most 4,194,304 are read"),
    "many values": (lambda d: b"[" + b"1," * 500_000 + b"1]", "more than 200,000 values"),
    "digits": (lambda d: b'{"version":' + b"1" * 100_000 + b"}", "an integer of 100000 digits"),
}


@pytest.mark.parametrize("trick", BYTES)
def test_strange_bytes_of_the_record_are_refused(tiny: Tiny, trick: str) -> None:
    make, message = BYTES[trick]
    tiny.record.write_bytes(make(tiny.record.read_bytes()))
    assert message in refusal(tiny)


# ---- the judge's configuration ----

JUDGES: list[tuple[str, Any, str]] = [
    ("judge", "other", "judge: 'other' is not what the file is called"),
    ("judge", "../x", "judge: String should match pattern"),
    ("kind", "\x1b[2J" + "x" * 5000, "not a valid judge: Input tag"),
    ("kind", "chat", "not a valid judge: chat.model: Field required"),
    ("function", "os.system", "an oracle that is not the suite's own"),
    ("function", "tasks.pocket.world.Path", "an oracle that is not the suite's own"),
    ("version", 2, "an oracle that is not the suite's own"),
    ("version", 1.0, "version: Input should be a valid integer"),
    ("more", 1, "more: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("field", "value", "message"), JUDGES, ids=[f"{f}-{n}" for n, (f, _, _) in enumerate(JUDGES)])
def test_a_strange_judge_is_refused(tiny: Tiny, field: str, value: Any, message: str) -> None:
    path = tiny.folder / JUDGE
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {field: value}))
    assert message in refusal(tiny)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "oracle.judge.json: not JSON of a record"),
        (b"null", "not a valid judge"),
        (b"[]", "not a valid judge"),
        (b'{"kind":"oracle","kind":"oracle"}', "a field is there twice"),
        (b"x" * 300_000, "has 300,000 bytes; at most 262,144 are read"),
    ],
)
def test_strange_bytes_of_a_judge_are_refused(tiny: Tiny, data: bytes, message: str) -> None:
    (tiny.folder / JUDGE).write_bytes(data)
    assert message in refusal(tiny)


def test_a_judge_without_its_configuration_is_refused(tiny: Tiny) -> None:
    (tiny.folder / JUDGE).unlink()
    assert "not judged by 'oracle'" in refusal(tiny)
