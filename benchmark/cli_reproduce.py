"""``gendiv reproduce``: the paper's tables and figures, filled from the submissions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.errors import UserError
from benchmark.terminal import print_table

if TYPE_CHECKING:
    from leaderboard.board import Board
    from leaderboard.paper_tables import PaperTable
    from leaderboard.reproduction_text import Filled

app = typer.Typer(help="The paper's tables and figures, published values beside ours.", no_args_is_help=True)

Submissions = Annotated[Path, typer.Option("--submissions", metavar="DIR", help="The folder of all submissions.")]
BoardFolder = Annotated[Path, typer.Option("--board", metavar="DIR", help="The board, which keeps their scores.")]
PaperProtocol = Annotated[
    bool,
    typer.Option("--paper-protocol", help="The paper's own choices instead of ours; they are printed."),
]
OutFolder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for files of it.")]


@app.command("list")
def list_() -> None:
    """Name every table and figure that this project covers."""
    from leaderboard.paper_tables import paper_tables

    rows = [
        (table.name, table.place, table.title, str(len(table.rows) * len(table.columns)), str(_known(table)))
        for table in paper_tables().values()
    ]
    print_table("tables and figures of arXiv 2310.06452", ("name", "place", "title", "cells", "known"), rows)


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as 11.")],
    out: OutFolder = None,
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Print one table, or numbers of the text; with --out write Markdown and CSV, and draw what is published."""
    from leaderboard.paper_tables import paper_table

    _refuse_file(out)
    filled = _fill(paper_table(name, "table", "text"), submissions, board, paper_protocol=paper_protocol)
    _show(filled, paper_protocol=paper_protocol)
    if out is not None:
        _write(filled, out)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as 5.")],
    out: OutFolder = None,
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Print the numbers of one figure; with --out draw it, as SVG and PNG, and write its Markdown and CSV."""
    from leaderboard.paper_tables import paper_table

    _refuse_file(out)
    filled = _fill(paper_table(name, "figure"), submissions, board, paper_protocol=paper_protocol)
    _show(filled, paper_protocol=paper_protocol)
    if out is not None:
        _write(filled, out)


@app.command("all")
def all_(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for paper.html, .md, .csv, .json and drawings.")
    ] = Path("paper"),
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Write all of them."""
    from benchmark.runs import write_atomically
    from leaderboard.build import paper_files
    from leaderboard.reproduction import counts

    _refuse_file(out)
    boards = _boards(submissions, board)
    files, found = paper_files(boards, paper_protocol=paper_protocol, drawings=True)
    for file, text in files.items():
        write_atomically(out / file, text)
    keys = ("cells", "published", "agrees", "differs", "not comparable", "not run")
    _print_choices(paper_protocol=paper_protocol)
    rows = [(name, *(str(counts(filled.cells)[key]) for key in keys)) for name, filled in found.items()]
    print_table("the paper's tables and figures", ("name", *keys), rows)
    print(f"report: {out / 'paper.html'}")


@app.command()
def plan(
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for plan.md and plan.sh.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Part of the name of a GPU that was measured, such as H200.")] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(min=0, metavar="USD", help="Of one GPU.")] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Instead of a suite's published judge; may be given several times."),
    ] = None,
    throughput: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured speeds, instead of those that come with GenDiv.")
    ] = None,
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Print what the cells that nothing answers would take: commands in order, GPU hours, the judge's cost."""
    from benchmark.cli_plan import reproduction

    _refuse_file(out)
    reproduction(
        _boards(submissions, board),
        out=out,
        gpu=gpu,
        price=price_per_gpu_hour,
        judges=judge,
        throughput=throughput,
        paper_protocol=paper_protocol,
    )


def _refuse_file(out: Path | None) -> None:
    """Refuse what is no folder, nor can become one, before anything is read and printed."""
    # Not Path.exists, which raises where a folder may not be read; writing says so itself.
    there = [place for place in (out, *out.parents) if os.path.exists(place)] if out else []
    if there and not os.path.isdir(there[0]):
        raise UserError("is a file; --out names a folder", where=there[0])


def _fill(table: PaperTable, submissions: Path, board: Path, *, paper_protocol: bool) -> Filled:
    from leaderboard.reproduction_text import fill

    return fill(table, _boards(submissions, board), paper_protocol=paper_protocol)


def _show(filled: Filled, *, paper_protocol: bool) -> None:
    from leaderboard.escape import plain
    from leaderboard.reproduction_text import as_tables, summary

    _print_choices(paper_protocol=paper_protocol)
    for shown in as_tables(filled):
        print_table(shown.title, shown.headers, [tuple(plain(str(cell)) for cell in row) for row in shown.rows])
    for text in (filled.table.note, filled.table.comparable, summary(filled.cells)):
        if text:
            print(text)


def _print_choices(*, paper_protocol: bool) -> None:
    from leaderboard.reproduction_text import protocol_table

    shown = protocol_table(paper_protocol=paper_protocol)
    print_table(shown.title, shown.headers, [tuple(map(str, row)) for row in shown.rows])


def _write(filled: Filled, out: Path) -> None:
    from benchmark.runs import write_atomically
    from leaderboard.plane_figure import png
    from leaderboard.reproduction_figure import has_drawing, svg
    from leaderboard.reproduction_text import data, markdown_of

    files: dict[str, str | bytes] = {"md": markdown_of(filled, "#"), "csv": data({filled.table.name: filled}).csv()}
    if has_drawing(filled.table):
        drawn = svg(filled.table, filled.cells, filled.beside)
        files |= {"svg": drawn, "png": png(drawn)}
    for ending, content in files.items():
        write_atomically(out / f"{filled.table.name}.{ending}", content)
    print(f"written: {', '.join(f'{out / filled.table.name}.{ending}' for ending in files)}")


def _boards(submissions: Path, board: Path) -> Sequence[Board]:
    from benchmark.progress import Bars
    from benchmark.submission.published import published
    from leaderboard.board import boards

    if not submissions.is_dir():
        raise UserError("no such folder; the paper's tables are filled from submissions", where=submissions)
    if not board.is_dir():
        raise UserError("no such folder; --board is where `gendiv leaderboard` has put the scores", where=board)
    with Bars() as bars:
        rows = published(submissions, board / "scores", bars.counter("reading"))
    return boards([row.scores for row in rows]) if rows else []


def _known(table: PaperTable) -> int:
    return sum(len(row.published) for row in table.rows)
