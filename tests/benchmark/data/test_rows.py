"""Files of rows: every format gives the same rows, and what is wrong is told by file, line and field."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.rows import read_rows
from benchmark.errors import UserError
from benchmark.records import sha256_of

FIELDS = {"a": "text", "n": "integer"}
OPTIONAL = {"b": "text"}
ROWS = [{"a": "x\u2028y", "n": 1, "b": "naïve ☃"}, {"a": "", "n": -2}]


def write(path, rows):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(json.dumps(rows, indent=1) if path.name.endswith("list.json") else lines, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "lines.json", "list.json", "r.parquet"])
def test_every_format_gives_the_same_rows_without_other_columns(tmp_path, name):
    path = write(tmp_path / name, [{**row, "more": 1} for row in ROWS])
    assert read_rows(path, FIELDS, OPTIONAL) == ROWS


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.fixed_dictionaries({"a": texts, "n": st.integers(-9, 9)}, optional={"b": texts}), min_size=1))
def test_jsonl_and_parquet_of_one_content_have_one_hash(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    schema = pyarrow.schema([("a", pyarrow.string()), ("n", pyarrow.int64()), ("b", pyarrow.string())])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), folder / "r.parquet")
    lines, parquet = (read_rows(p, FIELDS, OPTIONAL) for p in (write(folder / "r.jsonl", rows), folder / "r.parquet"))
    assert sha256_of(lines) == sha256_of(parquet) == sha256_of(rows)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": "x", "n": 1}\n{"a": "x", "n"', r"r\.jsonl:2: not JSON .*is the file cut off\?"),
        (b'{"a": "x", "n": 1}\n{"n": 1, "c": 2}\n', r"r\.jsonl:2: needs a text under 'a'; there is: n, c"),
        (b'{"a": "x", "n": "1"}\n', r"r\.jsonl:1: needs an integer under 'n'"),
        (b'{"a": "x", "n": true}\n', r"needs an integer under 'n'"),
        (b'{"a": null, "n": 1}\n', r"needs a text under 'a'"),
        (b'{"a": "x", "n": 1, "b": 3}\n', r"needs a text under 'b'"),
        (b"3\n", r"r\.jsonl:1: not an object with fields"),
        (b"[1, 2", r"r\.jsonl: not JSON"),
        (b'[{"a": "x", "n": 1}, {}]', r"r\.jsonl, row 2: needs a text under 'a'; there is: nothing"),
        (b"\xff\xfe", r"r\.jsonl: not UTF-8 at byte 0"),
        (b'{"a": "x", "n": 1}\n' + b"[" * 100_000, r"r\.jsonl:2: too many objects or lists in one another"),
        (b'{"a": "x", "n": 1}\n{"n": ' + b"1" * 5000 + b"}", r"r\.jsonl:2: a number of thousands of digits"),
        (b'[{"n": ' + b"1" * 5000 + b"}]", r"r\.jsonl: a number of thousands of digits"),
        (rb'{"a": "\ud800", "n": 1}', r"r\.jsonl:1: half a character \(a lone surrogate\) under 'a'"),
        (rb'{"\ud800": "x"}', r"needs a text under 'a'; there is: \\ud800"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, content, says):
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_rows(tmp_path / "r.jsonl", FIELDS, OPTIONAL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [("NaN", "no JSON value"), ("-Infinity", "no JSON value"), (r'"\ud800"', "half a character")],
)
def test_what_cannot_be_hashed_is_refused_inside_an_object_and_left_out_of_other_columns(tmp_path, value, says):
    (tmp_path / "r.jsonl").write_text(f'{{"o": {{"v": 1}}, "other": {value}}}\n{{"o": {{"v": {value}}}}}\n')
    with pytest.raises(UserError, match=rf"r\.jsonl:2: {says}.* under 'o'"):
        read_rows(tmp_path / "r.jsonl", {"o": "object"}, {})
    (tmp_path / "r.jsonl").write_text(f'{{"o": {{"v": 1}}, "other": {value}}}\n')
    assert read_rows(tmp_path / "r.jsonl", {"o": "object"}, {}) == [{"o": {"v": 1}}]


@pytest.mark.parametrize("name", ["r.jsonl", "list.json"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path, name):
    path = write(tmp_path / name, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_rows(path, FIELDS, OPTIONAL) == ROWS


@pytest.mark.parametrize(("name", "says"), [("r.jsonl.gz", "cannot be read"), ("r.parquet", "not a Parquet file")])
def test_a_broken_archive_is_one_line(tmp_path, name, says):
    whole = write(tmp_path / name, ROWS).read_bytes()
    for broken in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(broken)
        if broken or name.endswith(".parquet"):
            with pytest.raises(UserError, match=says):
                read_rows(tmp_path / name, FIELDS, OPTIONAL)


def test_a_missing_file_is_a_mistake_and_an_empty_one_has_no_rows(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_rows(tmp_path / "r.jsonl", FIELDS, OPTIONAL)
    assert read_rows(write(tmp_path / "r.jsonl", []), FIELDS, OPTIONAL) == []
