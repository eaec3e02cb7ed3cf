"""Progress on the error stream: bars on a terminal, a line now and then in a log, each with rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from benchmark.sampling.processes import launched

SECONDS_BETWEEN_LINES = 30.0


class Rate(ProgressColumn):
    """Units a second, lately."""

    def render(self, task: Task) -> Text:
        """Write the rate; nothing until there is one."""
        return Text(f"{_rounded(task.speed)}/s" if task.speed else "")


@dataclass
class _Stage:
    """How far a stage is."""

    started: float
    found: int
    """What the first call told: it was there before, and took no time."""
    done: int = 0


class Bars:
    """A context manager that draws a bar a stage or job.

    On a pipe or in a log a line is written every half minute instead, of the stage or job that moved last, so that a
    short run writes nothing. Of several processes of a launcher only the first tells anything.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_main = launched().is_main
        self._stages: dict[str, _Stage] = {}
        self._last_line = clock()
        self._progress = Progress(
            TextColumn("{task.description:<32}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        if self._draws:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draws:
            self._progress.stop()

    def stage(self, stage: str, done: int, total: int) -> None:
        """Advance a stage by ``done`` of ``total`` units; the first call may tell what was done long before."""
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
        """Advance one job's stage, likewise; a job's finished stages make room for the next."""
        name = f"{job} {stage}".strip()
        if name not in self._bars:
            for other, bar in list(self._bars.items()):
                if job and other.startswith(f"{job} "):
                    self._progress.remove_task(bar)
                    del self._bars[other], self._stages[other]
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], advance=done, total=total)
        now = self._clock()
        progress = self._stages.setdefault(name, _Stage(now, done))
        progress.done += done
        if self._is_main and not self._draws and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(_line(name, progress, total, now), file=sys.stderr, flush=True)

    @property
    def _draws(self) -> bool:
        return self._is_main and self._progress.console.is_terminal


def _line(stage: str, progress: _Stage, total: int, now: float) -> str:
    """Write a stage's progress, such as ``sampling 12,345/171,000 (7 %), 410/s, 6 min left``."""
    share = f" ({100 * progress.done // total} %)" if total else ""
    parts = [f"{stage} {progress.done:,}/{total:,}{share}"]
    new, seconds = progress.done - progress.found, now - progress.started
    if new > 0 and seconds > 0:
        parts += [f"{_rounded(new / seconds)}/s", f"{_duration((total - progress.done) * seconds / new)} left"]
    return ", ".join(parts)


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
