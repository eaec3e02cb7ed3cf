"""Progress bars on the terminal: one bar a stage or job, with rate and time left."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """A context manager that draws bars on the error stream; on a pipe or in a log it draws nothing."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        if self._progress.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.console.is_terminal:
            self._progress.stop()

    def stage(self, stage: str, done: int, total: int) -> None:
        """Advance the bar of a stage by ``done`` of ``total`` units."""
        self.job("", stage, done, total)

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """Make a callback for code that tells (units done so far, units in all)."""
        seen = 0

        def report(done: int, total: int) -> None:
            nonlocal seen
            self.stage(stage, done - seen, total)
            seen = done

        return report

    def job(self, job: str, stage: str, done: int, total: int) -> None:
        """Advance the bar of one job's stage; a job's finished stages make room for the next."""
        name = f"{job} {stage}".strip()
        if name not in self._bars:
            for other, bar in list(self._bars.items()):
                if job and other.startswith(f"{job} "):
                    self._progress.remove_task(bar)
                    del self._bars[other]
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], advance=done, total=total)
