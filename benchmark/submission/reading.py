"""Reading files that strangers wrote: bounded in size, strict in form, and never outside their folder."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import stat
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from benchmark.errors import UserError
from benchmark.runs import first_problem

R = TypeVar("R", bound=BaseModel)

MAX_PACKED = 10 * 2**20
"""Bytes of one file in a submission; what is larger is published elsewhere, by URL."""
MAX_PUBLISHED = 64 * 2**20
"""Bytes of one file that is published elsewhere, as it is packed."""
MAX_FILE = 256 * 2**20
"""Bytes of one file when it is unpacked."""
MAX_UNPACKED = 2**30
"""Bytes of all files of a submission when they are unpacked."""
MAX_LINE = 2**20
"""Bytes of one line: no output of a suite is near it."""
MAX_JSON = 4 * 2**20
"""Bytes of one JSON file that is no log."""
MAX_VALUES = 200_000
"""Values in one JSON text: each costs its reader many times its bytes."""
MAX_FILES = 200
"""Files and folders of a submission."""
MAX_DEPTH = 6
MAX_MESSAGE = 900
"""Characters of a message about a submission, its file's name aside."""
_CHUNK = 2**16
_MAX_DIGITS = 18
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,149}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO must not wait for its writer


def list_files(folder: Path) -> list[str]:
    """Names of all files below a folder, by ``/``, sorted.

    Raises
    ------
    UserError
        For a link, soft or hard, a device, a name that is not plain, names that are one where case does not count,
        too many files or too deep a folder. Nothing is followed.
    """
    if folder.is_symlink():
        raise UserError("is a link; a submission is a folder of files", where=folder)
    found: list[str] = []
    seen: dict[str, str] = {}
    folders = [("", 0)]
    while folders:
        below, depth = folders.pop()
        try:
            with os.scandir(folder / below) as listing:
                entries = list(itertools.islice(listing, MAX_FILES + 1))
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=folder / below) from None
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{below}{entry.name}"
            where = f"{folder}/{name!a}"
            if not _PART.fullmatch(entry.name):
                raise UserError("a name in a submission is of letters, digits and . _ @ + -; rename it", where=where)
            if seen.setdefault(name.casefold(), name) != name:
                raise UserError("differs from another name in case alone; rename one of them", where=where)
            if len(seen) > MAX_FILES:
                raise UserError(f"holds more than {MAX_FILES} files", where=folder)
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                raise UserError(f"cannot be read: {error.strerror}", where=where) from None
            if stat.S_ISDIR(status.st_mode):
                if depth >= MAX_DEPTH:
                    raise UserError("is too deep for a submission", where=where)
                folders.append((f"{name}/", depth + 1))
            else:
                _check_plain(status, where)
                found.append(name)
    return sorted(found)


def _check_plain(status: os.stat_result, where: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError("is a link or no plain file; a submission holds files alone", where=where)
    if status.st_nlink != 1:
        raise UserError("is a hard link to another file; put a copy there", where=where)


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """Read a whole plain file of at most so many bytes.

    No link below ``folder`` is followed, nor ``folder`` if it is one, whatever becomes of them meanwhile.

    Parameters
    ----------
    folder
        The submission's.
    name
        Of the file below it, by ``/``.
    most
        Bytes that a file may have.
    """
    where = folder / name
    *between, last = name.split("/")
    opened: list[int] = []
    try:
        opened.append(os.open(folder, _FOLDER))
        for part in between:
            opened.append(os.open(part, _FOLDER, dir_fd=opened[-1]))
        file = os.fdopen(os.open(last, _FILE, dir_fd=opened[-1]), "rb")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=where) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
    with file:
        status = os.fstat(file.fileno())
        _check_plain(status, where)
        if status.st_size > most:
            raise UserError(f"has {status.st_size:,} bytes; at most {most:,} are read", where=where)
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=where) from None
    if len(data) != status.st_size:
        raise UserError("changed while it was being read; try again", where=where)
    return data


def unpacked(packed: bytes, where: Path, most: int = MAX_FILE) -> Iterator[bytes]:
    """Unpack gzip piece by piece, and stop where it is too large: a bomb never gets to go off.

    Raises
    ------
    UserError
        If it is no whole gzip file, holds more than one member or more than ``most`` bytes.
    """
    stream = zlib.decompressobj(wbits=31)
    total, read = 0, 0
    try:
        while not stream.eof:
            given = stream.unconsumed_tail
            if not given:
                given = packed[read : read + _CHUNK]
                read += len(given)
            piece = stream.decompress(given, _CHUNK)
            total += len(piece)
            if total > most:
                raise UserError(f"unpacks to more than {most:,} bytes", where=where)
            if piece:
                yield piece
            elif not given:
                raise UserError("is cut off; pack it again", where=where)
    except zlib.error as error:
        raise UserError(f"is no gzip file: {error}; pack it again", where=where) from None
    if stream.unused_data or read < len(packed):
        raise UserError("has something behind its end; pack it again", where=where)


def lines(pieces: Iterable[bytes], where: Path) -> Iterator[bytes]:
    """Cut pieces into lines; the last must have an end, and none may be longer than `MAX_LINE`."""
    rest, number = b"", 0
    for piece in pieces:
        found = (rest + piece).split(b"\n")
        rest = found.pop()
        for line in found:
            number += 1
            _check_length(line, where, number)
            yield line
        _check_length(rest, where, number + 1)
    if rest:
        raise UserError("the last line has no end; pack it again", where=f"{where}:{number + 1}")


def _check_length(line: bytes, where: Path, number: int) -> None:
    if len(line) > MAX_LINE:
        raise UserError(f"is longer than {MAX_LINE:,} bytes", where=f"{where}:{number}")


def strict_json(data: bytes, where: str | Path) -> Any:
    """Read JSON as its standard has it, and no more than is sensible of it.

    Raises
    ------
    UserError
        For what is not UTF-8 or no JSON, NaN and Infinity, a number out of range, an integer of more than 18 digits, a
        field that is there twice, text with half a character, too deep a structure or more than `MAX_VALUES` values.
    """
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("Unexpected UTF-8 BOM")
        found = _STRICT.decode(text)
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=where) from None
    except RecursionError:
        raise UserError("not JSON of a record: it is too deep", where=where) from None
    except ValueError as error:
        raise UserError(f"not JSON of a record: {plain(str(error))}", where=where) from None
    # Two bytes a value at the least, so that short texts need not be walked; half a character is written \ud800.
    if len(data) > 2 * MAX_VALUES or b"\\u" in data:
        _check_values(found, where)
    return found


def _check_values(found: Any, where: str | Path) -> None:
    todo, number = [found], 0
    while todo:
        value = todo.pop()
        number += 1
        if number + len(todo) > MAX_VALUES:
            raise UserError(f"not JSON of a record: more than {MAX_VALUES:,} values", where=where)
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UserError("not JSON of a record: text with half a character", where=where)


def parse(data: bytes, record: type[R], where: str | Path) -> R:
    """Read one record of strict JSON.

    Raises
    ------
    UserError
        For anything but such a record; see `strict_json`.
    """
    # Twice: what pydantic's parser accepts and Python's hooks refuse must not pass, nor the other way round.
    strict_json(data, where)
    return checked(lambda: record.model_validate_json(data), record.__name__, where)


def checked(validate: Callable[[], R], what: str, where: str | Path) -> R:
    """Run a validation of strangers' JSON; what it complains of is told in one plain line."""
    try:
        return validate()
    except ValidationError as error:
        raise UserError(f"not a valid {what}: {plain(first_problem(error))}", where=where) from None


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _integer(digits: str) -> int:
    if (number := len(digits.removeprefix("-"))) > _MAX_DIGITS:
        raise ValueError(f"an integer of {number} digits")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number out of range")
    return value


_STRICT = json.JSONDecoder(
    object_pairs_hook=_no_doubles, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
)


def strange_letter(text: str) -> str | None:
    """Name the first letter that is not to be shown in one line: of control, of direction, of no width or unknown.

    Returns
    -------
    str or None
        Such as ``U+202E (RIGHT-TO-LEFT OVERRIDE)``; None where all are plain.
    """
    if text.isprintable():
        return None
    letter = next(letter for letter in text if not letter.isprintable())
    name = unicodedata.name(letter, "")
    return f"U+{ord(letter):04X}" + (f" ({name})" if name else "")


def plain(text: str, most: int = 300) -> str:
    """Write a stranger's words as one printable line."""
    text = " ".join(text[: 4 * most].replace("Value error, ", "").split())
    return "".join(letter if letter.isprintable() else "�" for letter in text)[:most]
