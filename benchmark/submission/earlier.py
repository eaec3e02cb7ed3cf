"""Which submissions are copies of earlier ones: compared once, and kept as long as the earlier ones stay what they are.

Every pair of a thousand submissions takes minutes to compare; a new one beside the others a second.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmark.errors import UserError
from benchmark.records import Flag, Record, sha256_of
from benchmark.runs import first_problem, write_atomically
from benchmark.submission.anomalies import Fingerprint, copies

FILE = "copies.json"
"""Among the kept scores."""
REMOVE = "remove it, find out who changed it, and run `gendiv leaderboard`"


class Compared(Record):
    """One submission beside all that came before it."""

    among: str
    """Hash of the fingerprints that it was compared with, in order, and of its own."""
    flag: Flag | None


_KEPT = TypeAdapter(dict[str, Compared])


class Earlier:
    """Submissions in the order in which they came.

    Parameters
    ----------
    kept
        The folder of kept scores.
    believe
        Take from there what was found before; False compares all of them anew, and `check` tells.
    """

    def __init__(self, kept: Path, *, believe: bool = True) -> None:
        self._believe = believe
        self._path = kept / FILE
        self._before: dict[str, Compared] = {}
        self._now: dict[str, Compared] = {}
        self._fingerprints: dict[str, Fingerprint] = {}
        self._among = ""
        if self._path.exists():
            try:
                self._before = _KEPT.validate_json(self._path.read_bytes())
            except ValidationError as error:
                raise UserError(
                    f"not kept comparisons: {first_problem(error)}; remove the file", where=self._path
                ) from None

    def copied(self, name: str, fingerprint: Fingerprint, sha256: str) -> Flag | None:
        """Flag the next submission where it is a copy of one before it; ``sha256`` is of its fingerprint."""
        self._among = sha256_of([self._among, name, sha256])
        found = self._before.get(name)
        if not self._believe or found is None or found.among != self._among:
            found = Compared(among=self._among, flag=copies(fingerprint, self._fingerprints))
        self._now[name] = found
        self._fingerprints[name] = fingerprint
        return found.flag

    def check(self) -> None:
        """Refuse what is kept where it is not what was found now.

        Raises
        ------
        UserError
            Names the first submission.
        """
        for name in sorted(self._before.keys() | self._now.keys()):
            if self._before.get(name) != self._now.get(name):
                raise UserError(f"{name}: not what comparing it anew gives; {REMOVE}", where=self._path)

    def save(self) -> None:
        """Keep what was found of all submissions, and of no other."""
        if self._now != self._before:
            found = {name: compared.model_dump(mode="json") for name, compared in sorted(self._now.items())}
            write_atomically(self._path, json.dumps(found, indent=0, ensure_ascii=False) + "\n")
