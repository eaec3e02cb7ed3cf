"""The command that builds the board, from runs or from all submissions."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli_rejudge import PublishedLogs
from benchmark.errors import UserError

MOST_PRINTED = 50
"""Rows of a table on the terminal."""

if TYPE_CHECKING:
    from benchmark.records import Scores
    from benchmark.runs import Run
    from benchmark.submission.examples import Example

    Examples = Mapping[tuple[str, str], Sequence[Example]]


def leaderboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN…", help="Scored runs, or folders that hold them; default: all submissions."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the board; of submissions: leaderboard/board.")
    ] = None,
    submissions: Annotated[Path, typer.Option(metavar="DIR", help="The folder of all submissions.")] = Path(
        "submissions"
    ),
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing; compute every score anew and fail where the board is not what they give."
        ),
    ] = False,
    believe_scores: Annotated[
        bool, typer.Option("--believe-scores", help="Of --check: take the scores beside the board as they are; quick.")
    ] = False,
    unmoved: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Fail, after building, where a row of this earlier board has other numbers."),
    ] = None,
    published: PublishedLogs = None,
) -> None:
    """Build tables, the plane and the page, from scored runs or from all submissions.

    What is new among the submissions is computed first, and kept beside the board.
    """
    from benchmark.progress import Bars

    if believe_scores and not check:
        raise UserError("--believe-scores is of --check; building computes what is new or has changed")
    if not runs:
        folder = out or Path("leaderboard") / "board"
        published_board(submissions, folder, check=check, believe=not check or believe_scores, logs=published)
        if unmoved:
            _refuse_moved(unmoved, folder)
        return
    if out is None or check or unmoved:
        raise UserError("a board of runs needs --out, and only a board of submissions can be checked")
    found = [run for folder in runs for run in _find_runs(folder)]
    with Bars() as bars:
        examples = examples_of(found, bars.counter("reading"))
    build_board([run.scores() for run in found], out, examples)


def examples_of(runs: Sequence[Run], progress: Callable[[int, int], None] = lambda *_: None) -> Examples:
    """Pick what the models' pages show of some runs: (row, suite) → excerpts."""
    from benchmark.submission.examples import pick_outputs

    found = {}
    for number, run in enumerate(runs, start=1):
        scores = run.scores()
        found[scores.name, scores.identity.suite] = pick_outputs(run, scores.identity.judge)
        progress(number, len(runs))
    return found


def _find_runs(folder: Path) -> Iterator[Run]:
    from benchmark.runs import Run

    found = sorted(path.parent for path in folder.rglob("run.json")) if folder.is_dir() else []
    # Hidden folders are what a killed import left.
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not found:
        raise UserError("no run in it; `gendiv run` or `gendiv import` makes one", where=folder)
    yield from (Run(path) for path in found)


def published_board(root: Path, out: Path, *, check: bool, believe: bool = True, logs: Path | None = None) -> None:
    """Build the board of all submissions, or see whether it is what they give, or what believed scores of them do."""
    from benchmark.progress import Bars
    from benchmark.submission.earlier import FILE as COPIES
    from benchmark.submission.events import log_events
    from benchmark.submission.published import published
    from leaderboard.build import render
    from leaderboard.files import SCORES, check_files

    # A thousand rows are millions of small values, none in a cycle: to look for them takes a third of the build.
    if believe:
        gc.disable()
    kept = out / SCORES
    with Bars() as bars:
        rows = published(
            root,
            kept,
            bars.counter("reading" if believe else "computing anew"),
            write=not check,
            believe=believe,
            logs=logs,
        )
    if not rows:
        raise UserError("no submission; `gendiv submit` makes one", where=root)
    examples = {(row.scores.name, row.scores.identity.suite): row.examples for row in rows}
    if not check:
        made_of = {(row.scores.name, row.scores.identity.suite): row.made_of for row in rows}
        build_board([row.scores for row in rows], out, examples, made_of)
        for event in log_events(root, rows):
            print(f"{event.event}: {event.submission} ({', '.join([event.tier or 'gone', *event.flags])})")
        return
    files = render([row.scores for row in rows], examples=examples)
    check_files(out, files, [f"{SCORES}/{COPIES}", *(f"{SCORES}/{row.folder}.json.gz" for row in rows)])
    if believe:
        print(f"{out}: what the kept scores of the {len(rows)} submissions give; the scores were believed")
    else:
        print(f"{out}: what the {len(rows)} submissions give, every score computed anew")


def _refuse_moved(before: Path, after: Path) -> None:
    """A new row leaves every number of the others as it was."""
    from leaderboard.golden import moved

    if found := moved(before, after):
        raise UserError(f"rows that have moved: {len(found)}; {'; '.join(map(str, found[:20]))}", where=after)
    print(f"{after}: no row of {before} has moved")


def build_board(
    scores: Sequence[Scores], out: Path, examples: Examples, made_of: Mapping[tuple[str, str], str] | None = None
) -> None:
    """Write a board, print its tables and the path of its page."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from benchmark.progress import Bars
    from leaderboard.board import boards, floors_above_models
    from leaderboard.build import write
    from leaderboard.text_tables import terminal

    made = boards(scores)
    with Bars() as bars:
        write(made, out, progress=bars.counter("drawing"), examples=examples, made_of=made_of)
    console = Console(width=max(Console().width, 160))  # wide enough on a pipe too, where 80 is assumed
    for board in made:
        for title, headers, rows in terminal(board):
            # Text, not markup: a row's name is whatever its submitter wrote.
            table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
            for header in headers:
                table.add_column(Text(header), overflow="fold", no_wrap=header == "model")
            for row in rows[:MOST_PRINTED]:
                table.add_row(*map(Text, row))
            console.print(table)
            if len(rows) > MOST_PRINTED:
                print(f"… and {len(rows) - MOST_PRINTED:,} more, in {out / 'leaderboard.md'}")
        for floor, model in floors_above_models(board):
            print(f"warning: floor {floor} outscores {model}: something is wrong with this board", file=sys.stderr)
    print(f"board: {out / 'index.html'}")
