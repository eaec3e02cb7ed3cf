"""Verdicts on their way to the disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from benchmark.judging.judge import Write
from benchmark.records import Verdict


class Writer:
    """Hands verdicts to a `Write` in batches, on one thread of its own: a disk that is slow holds up no request."""

    def __init__(self, write: Write, *, batch: int, seconds: float) -> None:
        self._write, self._batch, self._seconds = write, batch, seconds
        self._thread = ThreadPoolExecutor(1, "verdicts")
        self._waiting: list[Verdict] = []
        self._error: BaseException | None = None

    def add(self, verdict: Verdict) -> None:
        """Take a verdict, to be written soon."""
        self._waiting.append(verdict)
        if len(self._waiting) >= self._batch:
            self.flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._seconds, self.flush)

    def flush(self) -> None:
        """Begin to write what is there."""
        if self._waiting:
            self._thread.submit(self._write_batch, self._waiting)
            self._waiting = []

    @property
    def failed(self) -> bool:
        """Whether a batch could not be written; no other is written after it."""
        return self._error is not None

    def finish(self, verdicts: list[Verdict]) -> None:
        """Write the rest and wait for it; raises what writing raised."""
        self._waiting.extend(verdicts)
        self.flush()
        self._thread.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def _write_batch(self, verdicts: list[Verdict]) -> None:
        if self._error is None:
            try:
                self._write(verdicts)
            except BaseException as error:
                self._error = error
