"""What every study is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from benchmark.runs import Run
from reference_models.schedule import Job, Progress, run_jobs
from reference_models.studies import cells
from reference_models.studies.cells import Cell
from reference_models.studies.world import World

QUICK_PROMPTS = 6
QUICK_STEPS = 2
QUICK_OUTPUTS = 4
NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Setting:
    """Where, on which seeds and how large a study is."""

    world: World
    seeds: tuple[int, ...]
    out: Path
    """Folder of cells."""
    results: Path
    """Folder of reports."""
    workers: int = 2
    quick: bool = False
    """Few prompts, outputs and steps: it shows that everything works, and nothing else."""
    command: str = ""
    """What the report says made it."""
    progress: Progress = lambda *_: None

    def folder(self, study: str) -> Path:
        """Folder of a study's cells; a quick one has one of its own."""
        return self.out / f"{study}-{self.world.title}{'-quick' if self.quick else ''}"

    def report(self, study: str) -> Path:
        """The report in Markdown; the numbers lie beside it in JSON."""
        return self.results / f"{study}-{self.world.title}{'-quick' if self.quick else ''}.md"

    @property
    def limit(self) -> int | None:
        """First so many prompts of each task; None = all."""
        return QUICK_PROMPTS if self.quick else None

    @property
    def k(self) -> int | None:
        """Outputs a prompt; None = the suite's."""
        return QUICK_OUTPUTS if self.quick else None

    def do(
        self, planned: Sequence[Cell], before: Sequence[Job] = (), needs: Mapping[str, tuple[str, ...]] = NOTHING
    ) -> None:
        """Make cells, each a job; ``before`` are further jobs, and ``needs`` tells which of them a cell waits for."""
        jobs = [Job(cell.name, partial(cells.do, cell, self.world), needs.get(cell.name, ())) for cell in planned]
        run_jobs([*before, *jobs], self.workers, self.progress)

    def score(self, runs: Sequence[Run]) -> None:
        """Score runs that are not scored yet."""
        jobs = [Job(f"{run.folder} scored", partial(cells.score, run)) for run in runs if not run.scores_path.exists()]
        run_jobs(jobs, self.workers, self.progress)
