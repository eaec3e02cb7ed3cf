"""What something would take, told before it is begun: ``gendiv train … --dry-run``, ``gendiv reproduce plan``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from benchmark.terminal import print_table

if TYPE_CHECKING:
    from leaderboard.board import Board
    from leaderboard.paper_plan import Open, OpenCell
    from reference_models.reproduction_plan import Cell, Wanted


def dry_run(method: str, recipe: Path | None, given: Mapping[str, str]) -> None:
    """Print what a training would read, take and write; exit with status 1 if it would fail."""
    from reference_models.dry_run import dry_run as look

    report = look(method, recipe, given)
    for title, lines in report.sections.items():
        print(title)
        for line in lines:
            print(f"    {line}")
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if report.problems:
        raise typer.Exit(1)
    print("nothing that would stop it was found; nothing was trained")


def reproduction(
    boards: Sequence[Board],
    *,
    out: Path | None = None,
    gpu: str | None = None,
    price: float | None = None,
    judges: Sequence[str] | None = None,
    throughput: Path | None = None,
    paper_protocol: bool = False,
) -> None:
    """Print what the paper's empty cells would take, and write it as ``plan.md`` and ``plan.sh``.

    Parameters
    ----------
    boards
        Of all submissions; what they answer is not planned.
    out
        Folder for the files; None = none are written.
    gpu, price, judges
        See `reference_models.reproduction_plan.make_plan`; no judges = the published ones, or by the paper's protocol
        the paper's.
    throughput
        Measured speeds; None = those that come with GenDiv.
    paper_protocol
        See `leaderboard.reproduction.reproduce`.

    Raises
    ------
    UserError
        If no throughput was measured, or the GPU or judge is not known.
    """
    from benchmark.runs import write_atomically
    from leaderboard.paper_plan import open_cells
    from leaderboard.paper_protocol import PAPER_JUDGES
    from leaderboard.paper_tables import paper_tables
    from reference_models.plan import read_throughput
    from reference_models.reproduction_plan import make_plan
    from reference_models.reproduction_plan_text import markdown, shell, tables

    empty = open_cells(list(paper_tables().values()), boards, paper_protocol=paper_protocol)
    judges = judges or (PAPER_JUDGES if paper_protocol else ())
    plan = make_plan(wanted(empty), read_throughput(throughput), gpu=gpu, price=price, judges=judges)
    if out is not None:
        write_atomically(out / "plan.md", markdown(plan))
        write_atomically(out / "plan.sh", shell(plan))
    for title, header, rows in tables(plan):
        print_table(title, header, rows)
    for note in plan.notes:
        print(f"note: {note}")
    if out is not None:
        print(f"plan: {out / 'plan.md'}, {out / 'plan.sh'}")


def wanted(empty: Open) -> Wanted:
    """Say the board's empty cells in the plan's own terms: neither of the two packages imports the other."""
    from reference_models.reproduction_plan import Wanted, WantedRun

    runs = (WantedRun(run.model, run.method, run.suite, tuple(map(_cell, run.cells))) for run in empty.runs)
    return Wanted(tuple(runs), tuple(map(_cell, empty.others)))


def _cell(cell: OpenCell) -> Cell:
    from reference_models.reproduction_plan import Cell

    named = cell.table, cell.row.model, cell.row.method, cell.column.title
    return Cell(*named, cell.metric, cell.temperature, cell.measured_by)
