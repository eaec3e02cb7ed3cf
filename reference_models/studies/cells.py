"""One policy of a study: trained, sampled, judged and measured; its weights are deleted once nothing needs them.

A cell's folder holds, in order of their making, ``training.json`` and ``metrics.jsonl`` (of a policy that was trained
here), ``run/`` and ``measured.json``, which is written last. A cell that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import ModelCard
from benchmark.runs import Run, write_atomically
from reference_models.arguments import differing
from reference_models.gpu import a_share_of_the_gpu
from reference_models.methods import train_as_job
from reference_models.schedule import Report
from reference_models.studies.bound import refuse_others_run
from reference_models.studies.measure import Measured, measure, write_measured
from reference_models.studies.world import World
from reference_models.training import DivergedError

KEPT = ("training.json", "metrics.jsonl")


@dataclass(frozen=True)
class Cell:
    """One policy of a study."""

    name: str
    folder: Path
    method: str
    reference: Path | None = None
    """Checkpoint that its divergence is measured from; None = nothing is measured."""
    policy: Path | None = None
    """A checkpoint that is there; None = it is trained by ``arguments``."""
    arguments: Any = None
    temperatures: tuple[float, ...] | None = (1.0,)
    """None = the suite's grid."""
    limit: int | None = None
    """First so many prompts of each task; None = all."""
    k: int | None = None
    """Outputs a prompt and temperature; None = the suite's."""

    @property
    def run(self) -> Run:
        """Its run folder."""
        return Run(self.folder / "run")

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do but to score it."""
        return self.measured_path.exists() or self.diverged_path.exists()

    @property
    def measured_path(self) -> Path:
        """What was measured of it."""
        return self.folder / "measured.json"

    @property
    def diverged_path(self) -> Path:
        """Why its training stopped, where it did."""
        return self.folder / "diverged.json"


def do(cell: Cell, world: World, report: Report) -> None:
    """Make a cell; what is there already is not done again.

    A training that diverges is a finding: it is written down, and the cell has no run.

    Raises
    ------
    UserError
        If the folder belongs to other arguments, another policy, suite or judge; or the policy is not there.
    """
    trained = cell.folder / "model"
    if cell.policy is None:
        _check_arguments(cell)
    elif not cell.policy.is_dir():
        raise UserError("no such checkpoint", where=cell.policy)
    if cell.measured_path.exists():
        refuse_others_run(cell.run, world, cell.policy)
    if not cell.is_done:
        if cell.policy is None:
            cell.folder.mkdir(parents=True, exist_ok=True)
            try:
                train_as_job(cell.method, cell.arguments, report)
            except DivergedError as error:
                _keep(trained.with_name("model.partial"), cell.folder)
                write_atomically(cell.diverged_path, json.dumps({"reason": str(error)}) + "\n")
                return
            _keep(trained, cell.folder)
        _evaluate(cell, cell.policy or trained, world, report)
    if cell.policy is None:
        for folder in (trained, trained.with_name("model.partial")):
            shutil.rmtree(folder, ignore_errors=True)


def score(run: Run, report: Report) -> None:
    """Score a run, unless that is done."""
    with contextlib.suppress(UserError):
        run.scores()
        return
    pipeline.score(run, report)


def _evaluate(cell: Cell, policy: Path, world: World, report: Report) -> None:
    options = pipeline.SampleOptions(
        k=cell.k,
        temperatures=cell.temperatures,
        limit=cell.limit,
        name=cell.name.replace("/", "-"),
        card=ModelCard(method=cell.method),
        **world.sampling,
    )
    with a_share_of_the_gpu():
        (run,) = pipeline.sample(str(policy), world.suite, cell.run.folder, options, report)
        pipeline.judge(run, report, world.judge)
        found: Measured = {}
        others = 0.0
        if cell.reference is not None:
            found, others = measure(
                run,
                policy,
                cell.reference,
                dtype=options.dtype,
                batch_size=options.batch_size,
                progress=lambda done, total: report("measuring", done, total),
            )
    sampling = run.manifest().identity.sampling
    assert sampling is not None
    write_measured(cell.measured_path, found, sampling.k, others)


def _keep(model: Path, folder: Path) -> None:
    for name in KEPT:
        if (model / name).exists():
            shutil.copy(model / name, folder)


def _check_arguments(cell: Cell) -> None:
    """Refuse a folder whose policy was trained otherwise; its weights may be gone, and cannot tell."""
    path = cell.folder / "training.json"
    if not path.exists():
        return
    record = json.loads(path.read_text(encoding="utf-8"))
    if difference := differing(record["arguments"], cell.arguments):
        raise UserError(f"belongs to another training: {difference}; give another --out", where=cell.folder)
