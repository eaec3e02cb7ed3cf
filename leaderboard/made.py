"""What of a board need not be made again: files that lie there, of which it is known what they were made of.

The knowledge is a small file beside the board, never needed and never published. It holds hashes alone, so that
whatever becomes of it, or of the board's files, costs time and changes no byte.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from importlib import metadata, resources
from pathlib import Path

from benchmark.runs import write_atomically

Reuse = Callable[[str, str, Callable[[], bytes]], bytes]
"""(file's name, all that it is made of but code, how to make it) → its bytes."""

FOLDER = ".cache"
SOURCES = ("leaderboard", "benchmark", "tasks")
CODE = (".py", ".j2", ".js", ".css", ".yaml", ".json")
PACKAGES = ("jinja2", "markupsafe", "numpy", "pikepdf", "scipy", "vl-convert-python", "itables", "pydantic")


def anew(_name: str, _of: str, make: Callable[[], bytes]) -> bytes:
    """Make everything: what a check of a board does."""
    return make()


class Made:
    """Files of one board that were made before.

    Parameters
    ----------
    out
        The board's folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out.absolute().parent / FOLDER / f"{out.absolute().name}.json"
        self._before = self._read()
        self._now: dict[str, list[str]] = {}

    def __call__(self, name: str, of: str, make: Callable[[], bytes]) -> bytes:
        """Take a file as it lies there if it was made of the same and is what was made, else make it."""
        key = fingerprint([code(), name, of])
        known = self._before.get(name)
        data = self._there(name) if known and known[0] == key else None
        if data is None or known is None or known[1] != hashlib.sha256(data).hexdigest():
            data = make()
        self._now[name] = [key, hashlib.sha256(data).hexdigest()]
        return data

    def save(self) -> None:
        """Remember what was made or taken since the start, and nothing else."""
        write_atomically(self._path, json.dumps(self._now, sort_keys=True) + "\n")

    def _there(self, name: str) -> bytes | None:
        try:
            return (self._out / name).read_bytes()
        except OSError:
            return None

    def _read(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {name: known for name, known in found.items() if isinstance(known, list) and len(known) == 2}


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of some strings, each with its length."""
    seen = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        seen.update(len(data).to_bytes(8, "big") + data)
    return seen.hexdigest()


@functools.cache
def code() -> str:
    """Hash of all code, templates and suites that a board's files may depend on, and of the packages' versions."""
    parts = [platform.python_version(), platform.machine()]
    parts += [f"{name} {metadata.version(name)}" for name in PACKAGES]
    for package in SOURCES:
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix in CODE and not name.startswith("board/") and path.is_file():
                parts += [f"{package}/{name}", path.read_text(encoding="utf-8", errors="surrogateescape")]
    return fingerprint(parts)
