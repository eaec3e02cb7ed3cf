"""``gendiv reproduce``: the paper's tables and figures, filled from the submissions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.errors import UserError
from benchmark.terminal import print_table

if TYPE_CHECKING:
    from leaderboard.board import Board
    from leaderboard.paper_tables import PaperTable

app = typer.Typer(help="The paper's tables and figures, published values beside ours.", no_args_is_help=True)

Submissions = Annotated[Path, typer.Option("--submissions", metavar="DIR", help="The folder of all submissions.")]
BoardFolder = Annotated[Path, typer.Option("--board", metavar="DIR", help="The board, which keeps their scores.")]
PaperProtocol = Annotated[
    bool,
    typer.Option("--paper-protocol", help="The paper's own metrics, and its temperature of 0.7 for best-of-N."),
]


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
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Print one table."""
    _show(name, "table", submissions, board, paper_protocol=paper_protocol)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as 5.")],
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Print the numbers of one figure."""
    _show(name, "figure", submissions, board, paper_protocol=paper_protocol)


@app.command("all")
def all_(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for paper.html, .md, .csv and .json.")] = Path(
        "paper"
    ),
    paper_protocol: PaperProtocol = False,
    submissions: Submissions = Path("submissions"),
    board: BoardFolder = Path("leaderboard/board"),
) -> None:
    """Write all of them."""
    from benchmark.runs import write_atomically
    from leaderboard.build import paper_files
    from leaderboard.reproduction import counts

    boards = _boards(submissions, board)
    files, found = paper_files(boards, paper_protocol=paper_protocol)
    for file, text in files.items():
        write_atomically(out / file, text)
    keys = ("cells", "published", "agrees", "differs", "not comparable", "not run")
    rows = [(name, *(str(counts(filled.cells)[key]) for key in keys)) for name, filled in found.items()]
    print_table("the paper's tables and figures", ("name", *keys), rows)
    print(f"report: {out / 'paper.html'}")


def _show(name: str, kind: Literal["table", "figure"], submissions: Path, board: Path, *, paper_protocol: bool) -> None:
    from leaderboard.paper_tables import paper_table
    from leaderboard.reproduction_text import as_tables, fill, summary

    filled = fill(paper_table(name, kind), _boards(submissions, board), paper_protocol=paper_protocol)
    for shown in as_tables(filled):
        print_table(shown.title, shown.headers, [tuple(str(cell) for cell in row) for row in shown.rows])
    print(f"{filled.table.note}\n{summary(filled.cells)}")


def _boards(submissions: Path, board: Path) -> Sequence[Board]:
    from benchmark.progress import Bars
    from benchmark.submission.published import published
    from leaderboard.board import boards

    if not submissions.is_dir():
        raise UserError("no such folder; the paper's tables are filled from submissions", where=submissions)
    with Bars() as bars:
        rows = published(submissions, board / "scores", bars.counter("reading"))
    return boards([row.scores for row in rows]) if rows else []


def _known(table: PaperTable) -> int:
    return sum(len(row.published) for row in table.rows)
