"""Thousands of submissions that are damaged or forged at random: one clear line each, or a valid submission."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_submissions import JUDGE, SAMPLES, VERDICTS, Tiny, check_told, listing

from benchmark.errors import UserError
from benchmark.submission.validate import check_claims, validate

JUDGES = [JUDGE, "verdicts/mine.judge.json"]
CHAT = "verdicts/gendiv_pocket_id.mine.jsonl"
LOGS = [
    CHAT,
    SAMPLES,
    VERDICTS,
    "samples/alpaca_eval.jsonl",
    "verdicts/alpaca_eval.weighted_alpaca_eval_gpt4_turbo.jsonl",
]
CASES = {"honest": 2500, "imported": 1500, "chatted": 1500}
FEW = 40

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 10**17, -(10**17), 0.5, -0.0, 1e-320, 1e308, -1e308,
    "", " ", "a", "\x00", "\x1b[2J", "a\nb", "\u202e", "\ud800", "\udfff\ud800", "\ufeff", "é" * 300, "x" * 5000,
    "../../etc/passwd", "/etc/passwd", "con", "a/b", ".", "..", "<script>alert(1)</script>", "=cmd|' /C calc'!A0",
    "\\input{/etc/passwd}", "!!python/object/apply:os.system ['id']", "{{7*7}}", "%s%n", "[x](javascript:1)", "NaN",
    "1e999", [], {}, [[]], [{}], {"a": {}}, [None], ["", ""], {"": ""}, [0] * 1000, [1.0, 0.0], [0.0, 1.0, 2.0],
    {"__class__": "x"}, {"$ref": "#"}, "oracle", "pocket@v1", "gendiv_pocket_id", "samples/gendiv_pocket_id.jsonl",
]  # fmt: skip
RAW = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"-0.0", b"1" * 5000, b"0x10", b"01", b"1.", b".5", b"+1",
    b"'a'", b'"\\ud800"', b'"\\u0000"', b'"\x00"', b'"\xff"', b"undefined", b"/**/1", b"[" * 2000 + b"]" * 2000, b"{}",
    b"",
]  # fmt: skip
BYTES = [
    b"\x00",
    b"\xff",
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b"\\",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"../",
    b"<",
]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a JSON value, by the keys that lead there."""
    if way:
        yield way
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*way, key))


def forged(data: bytes, rng: random.Random) -> bytes:
    """Change one thing in a JSON text: a value, a name, a field more, less, or twice."""
    value = json.loads(data)
    every = list(places(value))
    shallow = [way for way in every if len(way) < 3 or rng.random() < 0.1]
    *way, last = rng.choice(shallow or every)
    here = value
    for key in way:
        here = here[key]
    mark = "MARK-1d5e"
    match rng.randrange(8):
        case 0 | 1 | 2:
            here[last] = rng.choice(HOSTILE)
        case 3:
            here[last] = mark
            return json.dumps(value).encode().replace(f'"{mark}"'.encode(), rng.choice(RAW), 1)
        case 4:
            del here[last]
        case 5 if isinstance(here, dict):
            here[rng.choice([text for text in HOSTILE if isinstance(text, str)])] = here.pop(last)
        case 6 if isinstance(here, dict):
            here[mark] = rng.choice(HOSTILE)
            return json.dumps(value).encode().replace(mark.encode(), str(last).encode(), 1)
        case _ if isinstance(here, list):
            here += [here[last]] * rng.choice([1, 2, 300])
        case _:
            here[last] = [here[last]]
    return json.dumps(value).encode()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, splice, swap, repeat or take out some bytes."""
    if not data:
        return b"\0"
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    short = min(b, a + rng.choice([1, 2, 8, 64]))
    match rng.randrange(9):
        case 0:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 1, 2, 10])):
                changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            return data[:a]
        case 2:
            return data[a:]
        case 3:
            return data[:a] + data[short:]
        case 4:
            return data[:a] + data[a:short] * rng.choice([2, 3, 50]) + data[short:]
        case 5:
            return data[:a] + rng.randbytes(rng.choice([1, 4, 64])) + data[short:]
        case 6:
            return data[b:] + data[a:b] + data[:a]
        case 7:
            return data[:a] + rng.choice(BYTES + RAW) + data[a:]
        case _:
            return rng.randbytes(rng.randrange(200))


def shuffled(data: bytes, rng: random.Random) -> bytes:
    """Change a log by lines: another order, one more, one less, one of another's, or one that is forged."""
    lines = data.splitlines(keepends=True)
    one = rng.randrange(len(lines))
    match rng.randrange(8):
        case 0:
            rng.shuffle(lines)
        case 1:
            lines.append(lines[one])
        case 2:
            del lines[one]
        case 3:
            lines[one] = lines[rng.randrange(len(lines))]
        case _:
            lines[one] = forged(lines[one], rng) + b"\n"
    return b"".join(lines)


def attack(tiny: Tiny, honest: Tiny, rng: random.Random) -> str:
    """Change one file of an honest submission's copy; says how."""
    kind = rng.choice(
        ["record", "record", "record bytes", "sealed", "sealed", "sealed", "sealed bytes", "packed", "judge"]
    )
    log = rng.choice([path for path in LOGS if (honest.folder / f"{path}.gz").exists()])
    judges = [name for name in JUDGES if (honest.folder / name).exists()]
    if kind == "judge" and not judges:
        kind = "record"
    if kind == "sealed" and (honest.folder / f"{CHAT}.gz").exists() and rng.random() < 0.5:
        kind = "replies"
    if kind == "record":
        tiny.record.write_bytes(forged(honest.record.read_bytes(), rng))
    elif kind == "record bytes":
        tiny.record.write_bytes(damaged(honest.record.read_bytes(), rng))
    elif kind == "sealed":
        tiny.seal(log, shuffled(honest.data(log), rng))
    elif kind == "sealed bytes":
        tiny.seal(log, damaged(honest.data(log), rng))
    elif kind == "replies":
        lines = honest.log(CHAT)
        replies = rng.choice(lines)["raw"]
        place = rng.randrange(len(replies))
        spoilt = rng.choice([forged, damaged])(replies[place].encode(), rng)
        replies[place] = spoilt.decode("utf-8", errors="replace")
        tiny.seal(CHAT, lines)
    elif kind == "packed":
        (tiny.folder / f"{log}.gz").write_bytes(damaged((honest.folder / f"{log}.gz").read_bytes(), rng))
    else:
        name = rng.choice(judges)
        (tiny.folder / name).write_bytes(rng.choice([forged, damaged])((honest.folder / name).read_bytes(), rng))
    return kind


class Opened:
    """Notes what this process opens, by the interpreter's own audit events."""

    def __init__(self) -> None:
        self.paths: set[str] | None = None
        sys.addaudithook(self)  # never to be taken away; silent while nothing is noted

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is None or event not in ("open", "os.listdir", "os.scandir"):
            return
        if isinstance(arguments[0], str | bytes | os.PathLike):
            self.paths.add(os.fsdecode(arguments[0]))

    def foreign(self, *ours: Path | str) -> list[str]:
        """What was opened that is below none of our folders; names that are opened within a folder aside."""
        paths, self.paths = self.paths or set(), None
        within = tuple(f"{place}/" for place in ours)
        return [path for path in paths if "/" in path and not f"{os.path.abspath(path)}/".startswith(within)]


OPENED = Opened()
OURS = [Path(__file__).parents[3], sys.prefix, sys.base_prefix, "/proc", "/dev", "/sys"]


def fuzz(honest: Tiny, tmp_path: Path, cases: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    rng = random.Random(seed)
    tiny = honest.copy(tmp_path / "submissions")
    (tmp_path / "bystander").write_text("unread")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    names = [path.relative_to(tiny.folder) for path in tiny.folder.rglob("*") if path.is_file()]
    found: Counter[str] = Counter()
    for case in range(cases):
        kind = attack(tiny, honest, rng)
        before = listing(tmp_path)
        OPENED.paths = set()
        try:
            checked = validate(tiny.folder, tiny.root, fast=True)
        except UserError as error:
            check_told(str(error), tiny)
            found[f"{kind} refused"] += 1
        except Exception as error:
            raise AssertionError(f"case {case} of seed {seed}, {kind}: {error!r}") from error
        else:
            check_claims(checked.submission.claims, checked.scores.estimates, fast=True, where=tiny.folder)
            found[f"{kind} valid"] += 1
        assert not OPENED.foreign(tiny.folder, temporary, *OURS)
        assert listing(tmp_path) == before
        assert not list(temporary.iterdir())
        for name in names:
            (tiny.folder / name).write_bytes((honest.folder / name).read_bytes())
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["honest", "imported", "chatted"])
def test_a_few_forged_submissions_are_refused_in_one_line_or_valid(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fuzz(request.getfixturevalue(kind), tmp_path, FEW, 1, monkeypatch).total() == FEW


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["honest", "imported", "chatted"])
def test_thousands_of_forged_submissions_are_refused_in_one_line_or_valid(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = CASES[kind]
    found = fuzz(request.getfixturevalue(kind), tmp_path, cases, 2, monkeypatch)
    print(found)
    assert found.total() == cases
    # Most do harm; some change nothing that is scored, such as the order of lines or a declared licence.
    refused = sum(number for what, number in found.items() if what.endswith("refused"))
    assert 0.5 * cases < refused < cases


def test_what_is_opened_elsewhere_is_noticed(honest: Tiny, tmp_path: Path) -> None:
    (tmp_path / "bystander").write_text("unread")
    OPENED.paths = set()
    (tmp_path / "bystander").read_text()
    honest.record.read_bytes()
    assert OPENED.foreign(honest.folder, *OURS) == [str(tmp_path / "bystander")]


def test_a_forger_damages_what_it_says(honest: Tiny) -> None:
    """The fuzzer itself: nearly all that it makes is new, and forged JSON still is mostly JSON."""
    rng = random.Random(0)
    data = honest.record.read_bytes()
    made = [forged(data, rng) for _ in range(200)]
    assert len(set(made)) > 180
    assert sum(_is_json(one) for one in made) > 120
    assert gzip.decompress((honest.folder / f"{SAMPLES}.gz").read_bytes()) == honest.data(SAMPLES)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
