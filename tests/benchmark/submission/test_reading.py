import gzip
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from benchmark.errors import UserError
from benchmark.records import Record
from benchmark.submission import reading
from benchmark.submission.reading import (
    MAX_LINE,
    lines,
    list_files,
    parse,
    plain,
    read_bytes,
    strange_letter,
    strict_json,
    unpacked,
)

HERE = Path("a.jsonl.gz")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def one_line(error: pytest.ExceptionInfo[UserError]) -> bool:
    return str(error.value).isprintable() and len(str(error.value)) < 1000


def got(pieces: Iterator[bytes]) -> tuple[list[bytes], str | None]:
    """All that comes, and what is said where it ends early."""
    found = []
    try:
        for piece in pieces:
            found.append(piece)
    except UserError as error:
        return found, str(error)
    return found, None


def refusal(folder: Path) -> str:
    """What is said of a folder; nothing if it is all right."""
    try:
        list_files(folder)
    except UserError as error:
        return str(error)
    return ""


class Two(Record):
    number: float
    words: tuple[str, ...] = Field(strict=False)


@given(st.binary(max_size=300_000), st.integers(1, 9))
def test_gzip_comes_back_whole_however_it_was_packed(data: bytes, level: int) -> None:
    assert b"".join(unpacked(gzip.compress(data, level), HERE, max(len(data), 1))) == data


@given(st.binary(max_size=2000))
def test_any_bytes_unpack_or_are_refused_in_one_line(data: bytes) -> None:
    found = got(unpacked(data, HERE))
    if found[1] is None:
        assert b"".join(found[0]) == gzip.decompress(data)
    else:
        assert found[1].startswith("a.jsonl.gz: ")
        assert found[1].isprintable()


@given(st.binary(min_size=1, max_size=500), st.data())
def test_one_changed_byte_is_refused_or_changes_nothing(data: bytes, draw: st.DataObject) -> None:
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[draw.draw(st.integers(0, len(packed) - 1))] ^= draw.draw(st.integers(1, 255))
    found, problem = got(unpacked(bytes(packed), HERE))
    assert problem is not None or b"".join(found) == data  # of the head, time and system are free


def test_what_stands_behind_the_end_is_seen_where_a_piece_ends_too() -> None:
    for length in range(65_500, 65_520):
        packed = gzip.compress(b"x" * length, 0, mtime=0)
        _, problem = got(unpacked(packed + b"!", HERE))
        assert problem == "a.jsonl.gz: has something behind its end; pack it again"
        assert got(unpacked(packed, HERE))[1] is None


@pytest.mark.parametrize("most", [0, 1, 99_999])
def test_no_more_is_unpacked_than_may_be(most: int) -> None:
    pieces, problem = got(unpacked(gzip.compress(bytes(100_000)), HERE, most))
    assert problem == f"a.jsonl.gz: unpacks to more than {most:,} bytes"
    assert sum(map(len, pieces)) <= most


def test_a_bomb_is_stopped_after_one_piece_too_many() -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    assert len(bomb) < 60_000
    pieces, problem = got(unpacked(bomb, HERE, 2**20))
    assert problem == "a.jsonl.gz: unpacks to more than 1,048,576 bytes"
    assert max(map(len, pieces)) <= 2**16


@given(st.lists(st.binary(max_size=40)))
def test_lines_are_those_of_the_whole_however_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    found, problem = got(lines(pieces, HERE))
    assert found == expected[:-1]
    cut = f"a.jsonl.gz:{len(expected)}: the last line has no end; pack it again"
    assert problem == (cut if expected[-1] else None)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_may_be_of_a_mebibyte_and_not_a_byte_more(end: bytes) -> None:
    assert list(lines([b"x" * MAX_LINE, b"\n"], HERE)) == [b"x" * MAX_LINE]
    with pytest.raises(UserError, match=":2: is longer than 1,048,576 bytes"):
        list(lines([b"a\n", b"x" * MAX_LINE, b"x", end], HERE))


@given(JSON)
def test_strict_json_reads_what_json_writes(value: object) -> None:
    assert strict_json(json.dumps(value, allow_nan=False).encode(), "x") == value


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(UserError) as error:
        parse(data, Two, "x")
    assert one_line(error)


@given(st.floats(allow_nan=False, allow_infinity=False), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_record_comes_back_as_it_was(number: float, words: list[str]) -> None:
    record = Two(number=number, words=tuple(words))
    assert parse(record.model_dump_json().encode(), Two, "x") == record


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"number": NaN, "words": []}', "NaN is no JSON number"),
        ('{"number": 1e999, "words": []}', "a number out of range"),
        ('{"number": -1E+400, "words": []}', "a number out of range"),
        (f'{{"number": {10**18}, "words": []}}', "an integer of 19 digits"),
        (f'{{"number": -{10**18}, "words": []}}', "an integer of 19 digits"),
        ('{"number": 1, "words": [], "number": 2}', "a field is there twice"),
        ('{"number": 1, "words": ["\\udc00"]}', "text with half a character"),
        ('{"number": 1, "words": ["\\ud83d"]}', "text with half a character"),
        ('{"number": "1", "words": []}', "not a valid Two: number: Input should be a valid number"),
        ('{"number": true, "words": []}', "not a valid Two: number: Input should be a valid number"),
        ('{"number": 1, "words": [], "\\u0007": 1}', "not a valid Two: �: Extra inputs are not permitted"),
        ("[" * 100_000, "it is too deep"),
        ('{"a":' * 100_000, "it is too deep"),
        ("[" + "1," * 300_000 + "1]", "more than 200,000 values"),
    ],
)
def test_what_is_no_sensible_json_is_refused(data: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^x: ") as error:
        parse(data.encode(), Two, "x")
    assert message in str(error.value)
    assert one_line(error)


def test_a_pair_of_halves_is_a_character() -> None:
    assert parse(b'{"number": 1, "words": ["\\ud83d\\ude00"]}', Two, "x").words == ("😀",)


@given(st.text(), st.integers(1, 50))
def test_plain_words_are_one_printable_line(text: str, most: int) -> None:
    assert plain(text, most).isprintable()
    assert len(plain(text, most)) <= most


@given(st.text())
def test_a_text_is_plain_where_python_would_print_it(text: str) -> None:
    assert (strange_letter(text) is None) == text.isprintable()
    assert (strange_letter(text) or "U+").startswith("U+")


@given(
    st.sets(st.lists(st.sampled_from(["a", "b", "C.d", "e@f", "0"]), min_size=1, max_size=4).map("/".join), max_size=8)
)
def test_all_plain_files_are_listed(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        made = set()
        for name in sorted(names):
            path = Path(place, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
            made.add(name)
        assert list_files(Path(place)) == sorted(made)
        assert all(read_bytes(Path(place), name, 100) == name.encode() for name in made)


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_is_listed_or_refused_in_one_line(name: bytes) -> None:
    if name in (b".", b".."):
        return
    with tempfile.TemporaryDirectory() as place:
        os.close(os.open(os.path.join(place.encode(), name), os.O_CREAT | os.O_WRONLY))
        if name.isascii() and name.isalnum():
            assert list_files(Path(place)) == [os.fsdecode(name)]
        else:
            assert refusal(Path(place)).isprintable()


def test_a_folder_that_is_a_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert "is a link" in refusal(tmp_path / "link")
    assert refusal(tmp_path / "in") == ""


def test_a_swapped_folder_is_not_followed(tmp_path: Path) -> None:
    """Between listing and reading, a folder may have become a link."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "f").symlink_to(tmp_path / "outside" / "f")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for folder, name in ((tmp_path / "in", "sub/f"), (tmp_path / "in", "f"), (tmp_path / "link", "f")):
        with pytest.raises(UserError, match="cannot be read"):
            read_bytes(folder, name, 100)


@pytest.mark.parametrize("name", ["fifo", "folder", "nowhere", "large", "/dev/zero"])
def test_what_is_no_small_plain_file_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(UserError, match=r"cannot be read|is a link or no plain file|at most 100 are read"):
        read_bytes(tmp_path, name, 100)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    check = reading._check_plain

    def grow(status: os.stat_result, where: Path | str) -> None:
        check(status, where)
        path.write_bytes(b"1234567")

    monkeypatch.setattr(reading, "_check_plain", grow)
    with pytest.raises(UserError, match="changed while it was being read"):
        read_bytes(tmp_path, "f", 100)


def test_numbers_keep_their_last_bit() -> None:
    number = math.nextafter(0.1, 1)
    assert parse(json.dumps({"number": number, "words": []}).encode(), Two, "x").number == number
