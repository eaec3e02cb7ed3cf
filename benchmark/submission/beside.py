"""Is a submission a copy of another below the same root? Told by what is kept of the others, before any board is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from benchmark.records import Flag
from benchmark.submission.anomalies import Fingerprint, copies
from benchmark.submission.events import added
from benchmark.submission.published import derived_path, read_derived
from benchmark.submission.reading import MAX_JSON, read_bytes
from benchmark.submission.record import FILE


class Beside:
    """The submissions below one root, as far as their fingerprints are known.

    Parameters
    ----------
    root
        The folder ``submissions``.
    kept
        The folder of kept scores; those of a submission that has changed since are left aside.
    names
        Folders of all submissions below ``root``.
    known
        Fingerprints that were computed just now, by folder.

    Attributes
    ----------
    unknown : tuple of str
        Folders of those that nothing can be compared with, sorted.
    """

    def __init__(self, root: Path, kept: Path, names: Collection[str], known: Mapping[str, Fingerprint]) -> None:
        self._order = {name: place for place, name in enumerate(added(root))}
        self._fingerprints: dict[str, Fingerprint] = {}
        unknown = []
        for name in sorted(names, key=lambda name: (self._place(name), name)):
            found = known[name] if name in known else _kept(root, kept, name)
            if found is None:
                unknown.append(name)
            else:
                self._fingerprints[name] = found
        self.unknown = tuple(sorted(unknown))

    def copied(self, name: str) -> Flag | None:
        """Flag a submission that is a copy of one that came before it by the log of events.

        Of two that are not in the log nobody knows which came first, and both are flagged.
        """
        mine = self._fingerprints[name]
        last = self._place(name)
        others = {o: theirs for o, theirs in self._fingerprints.items() if o != name and self._place(o) <= last}
        return copies(mine, others)

    def _place(self, name: str) -> int:
        return self._order.get(name, len(self._order))


def _kept(root: Path, kept: Path, name: str) -> Fingerprint | None:
    path = derived_path(kept, name)
    if not path.exists():
        return None
    derived, _ = read_derived(path.read_bytes(), path)
    same = derived.submission_sha256 == hashlib.sha256(read_bytes(root / name, FILE, MAX_JSON)).hexdigest()
    return derived.fingerprint if same else None
