"""Rows of JSONL, JSON and Parquet files, checked field by field. One reader for the hub's files and local copies."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from benchmark.errors import UserError
from benchmark.records import canonical_json

Row = dict[str, Any]
FieldType = Literal["text", "integer", "boolean", "object", "list"]

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
"""Files that are read."""
_TYPES: dict[str, type] = {"text": str, "integer": int, "boolean": bool, "object": dict, "list": list}


def read_rows(path: Path, fields: Mapping[str, FieldType], optional: Mapping[str, FieldType]) -> list[Row]:
    """Read the named fields of every row of a file.

    Parameters
    ----------
    path
        A file with one of `ENDINGS`; ``.json`` may hold a list or one object a line.
    fields, optional
        Field → type. Optional ones that are absent or null are left out; all other columns are dropped, so that a copy
        with more of them is the same data.

    Raises
    ------
    UserError
        Naming the file, the first line (of a list or of Parquet: the row) that is wrong, and the field.
    """
    rows = []
    for where, raw in _raw_rows(path):
        if not isinstance(raw, dict):
            raise UserError("not an object with fields", where=where)
        row = {}
        for field, kind in (*fields.items(), *optional.items()):
            value = raw.get(field)
            if value is None and field in optional:
                continue
            # bool is an int to Python and a mistake here.
            if not isinstance(value, _TYPES[kind]) or isinstance(value, bool) != (kind == "boolean"):
                there = _printable(", ".join(map(str, raw))) or "nothing"
                raise UserError(f"needs {_a(kind)} under {field!r}; there is: {there}", where=where)
            if problem := _no_json(value):
                raise UserError(f"{problem} under {field!r}: take it out, or repair what wrote the file", where=where)
            row[field] = value
        rows.append(row)
    return rows


def _no_json(value: Any) -> str | None:
    """Say why a value cannot be written as JSON again, which is what is hashed; None where it can."""
    try:
        (value if isinstance(value, str) else canonical_json(value)).encode()
    except UnicodeEncodeError:
        return "half a character (a lone surrogate)"
    except RecursionError:
        return "too many objects or lists in one another"
    except (ValueError, TypeError) as error:
        return f"no JSON value ({error})"
    return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _parsed(text: str, where: Path | str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON ({error}); is the file cut off?", where=where) from None
    except RecursionError:
        raise UserError("too many objects or lists in one another: take the row out", where=where) from None
    except ValueError:  # Python reads no longer ones
        raise UserError("a number of thousands of digits: take the row out", where=where) from None


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _raw_rows(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.is_file():
        raise UserError("no such file", where=path)
    if path.name.endswith(".parquet"):
        yield from _parquet_rows(path)
        return
    try:
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=path) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=path) from None
    if text.lstrip().startswith("["):
        yield from _list_rows(path, text)
        return
    # Not splitlines: a text may hold a line separator of Unicode's.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _list_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(_parsed(text, path), start=1):
        yield f"{path}, row {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"not a Parquet file that can be read: {error}", where=path) from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row
