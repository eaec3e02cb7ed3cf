"""Runs in, board out: every file is made before the first is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmark.records import Scores
from benchmark.submission.examples import Example
from benchmark.suites import Suite
from leaderboard import reproduction_text
from leaderboard.assets import NAMES as ASSETS
from leaderboard.assets import assets
from leaderboard.board import Board, boards
from leaderboard.citation import bibtex
from leaderboard.data_files import curve_data, leaderboard_data
from leaderboard.families import every_table
from leaderboard.files import remove_stale, write_files
from leaderboard.made import Made, Reuse, anew, fingerprint
from leaderboard.methods_page import methods_page
from leaderboard.model_page import Entry, model_entries, model_page
from leaderboard.plane_figure import draw, pdf, png, spec
from leaderboard.reproduction_text import Reproduction
from leaderboard.site import page
from leaderboard.tables import Table, curve_table
from leaderboard.text_tables import latex, markdown
from leaderboard.views import views

Examples = Mapping[tuple[str, str], Sequence[Example]]
"""(row, suite) → excerpts of its samples."""
MadeOf = Mapping[tuple[str, str], str]
"""(row, suite) → hash of all that the row and its examples were made of."""
Progress = Callable[[int, int], None]


def build(
    scores: Sequence[Scores],
    out: Path,
    suites: Mapping[str, Suite] | None = None,
    progress: Progress = lambda _done, _total: None,
    examples: Examples | None = None,
    made_of: MadeOf | None = None,
) -> list[Path]:
    """Write the leaderboard of some runs into a folder.

    The same runs in any order give the same bytes. If anything is wrong nothing is written, and what was there stays.

    Parameters
    ----------
    scores
        Runs of one or of several suites.
    out
        Folder; made if it is missing.
    suites
        Suites by ``name@vN``; by default those under ``tasks/``.
    progress
        Called with (boards drawn, boards in all).
    examples
        Samples that the models' pages show; rows without any have none there.
    made_of
        None = everything is made anew; otherwise files that lie there are taken where all they were made of is the
        same, see `leaderboard.made`, and those that no row has any longer are removed.

    Returns
    -------
    list of Path
        The files written: ``index.html``, ``methods.html``, ``models/*.html`` and their ``assets/``;
        ``leaderboard`` and ``curve`` as ``.csv``, ``.json``, ``.md`` and ``.tex``; ``citation.bib``; ``plane`` for the
        first suite and ``plane-<suite>-v<N>`` for any other, as ``.svg``, ``.png`` and ``.pdf``.

    Raises
    ------
    UserError
        If there is no run, a suite is not known, or two rows of a suite cannot be compared.
    """
    return write(boards(scores, suites), out, progress, examples, made_of)


def write(
    made: Sequence[Board],
    out: Path,
    progress: Progress = lambda _done, _total: None,
    examples: Examples | None = None,
    made_of: MadeOf | None = None,
) -> list[Path]:
    """Write boards as `build` does, which makes them of runs."""
    if made_of is None:
        files = files_of(made, progress, examples)
        write_files(out, files)
    else:
        known = Made(out)
        files = files_of(made, progress, examples, made_of, known)
        write_files(out, files)
        remove_stale(out, files)
        known.save()
    return [out / name for name in files]


def render(
    scores: Sequence[Scores],
    suites: Mapping[str, Suite] | None = None,
    progress: Progress = lambda _done, _total: None,
    examples: Examples | None = None,
) -> dict[str, bytes]:
    """Everything that `build` writes, by file name, made anew."""
    return files_of(boards(scores, suites), progress, examples)


def files_of(
    made: Sequence[Board],
    progress: Progress = lambda _done, _total: None,
    examples: Examples | None = None,
    made_of: MadeOf | None = None,
    reuse: Reuse = anew,
) -> dict[str, bytes]:
    """Everything that `write` writes, by file name."""
    stems, figures = figures_of(made, progress, reuse)
    scripts = {name: reuse(name, "", partial(_asset, name)) for name in ASSETS}
    return tables_of(made, stems) | pages_of(made, examples or {}, made_of or {}, reuse) | scripts | figures


def figures_of(
    made: Sequence[Board], progress: Progress = lambda _done, _total: None, reuse: Reuse = anew
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Draw every board that has something to draw: suite id → name of its figure, and the files by name."""
    stems: dict[str, str] = {}
    files: dict[str, bytes] = {}
    # Pixels are made in a thread beside the next drawing: both leave Python alone for most of their time.
    with ThreadPoolExecutor(1) as pixels:
        pictures: dict[str, Future[bytes]] = {}
        for place, board in enumerate(made):
            if views(board):
                stem = f"plane-{board.suite.suite}-v{board.suite.version}" if stems else "plane"
                stems[board.suite.id] = stem
                chart = json.dumps(spec(board), sort_keys=True)
                drawn = reuse(f"{stem}.svg", chart, lambda chart=chart: draw(chart).encode())  # type: ignore[misc]
                text = drawn.decode()
                pictures[f"{stem}.png"] = pixels.submit(reuse, f"{stem}.png", text, partial(png, text))
                pictures[f"{stem}.pdf"] = pixels.submit(reuse, f"{stem}.pdf", text, partial(pdf, text))
                files[f"{stem}.svg"] = drawn
            progress(place + 1, len(made))
        files |= {name: picture.result() for name, picture in pictures.items()}
    return stems, files


def tables_of(made: Sequence[Board], stems: Mapping[str, str]) -> dict[str, bytes]:
    """The index and all tables by file name; ``stems`` as `figures_of` returns them."""
    rows, curve = leaderboard_data(made), curve_data(made)
    # Made once for all formats: of a thousand rows they take longer than to be written.
    tables, curves = ({board.suite.id: of(board) for board in made} for of in (every_table, _curves))
    texts = {
        "index.html": page(made, stems),
        "leaderboard.csv": rows.csv(),
        "leaderboard.json": rows.json(),
        "leaderboard.md": markdown(made, "GenDiv leaderboard", tables, notes=True),
        "leaderboard.tex": latex(made, tables, notes=True),
        "curve.csv": curve.csv(),
        "curve.json": curve.json(),
        "curve.md": markdown(made, "GenDiv: every temperature and role", curves),
        "curve.tex": latex(made, curves),
        "citation.bib": bibtex(),
    }
    return {name: text.encode() for name, text in texts.items()}


def pages_of(
    made: Sequence[Board], examples: Examples, made_of: MadeOf | None = None, reuse: Reuse = anew
) -> dict[str, bytes]:
    """The pages beside the index by file name."""
    pages = {"methods.html": reuse("methods.html", "", lambda: methods_page().encode())}
    for file, (name, entries) in model_entries(made, examples).items():
        known = [(made_of or {}).get((name, entry.suite.id)) for entry in entries]
        suites = [entry.suite.model_dump_json() for entry in entries]
        anyway = None in known
        make = partial(_model_page, name, entries)
        pages[file] = make() if anyway else reuse(file, fingerprint([name, *suites, *map(str, known)]), make)
    pages |= {file: text.encode() for file, text in paper_files(made)[0].items()}
    return pages


def paper_files(
    made: Sequence[Board], *, paper_protocol: bool = False, drawings: bool = False
) -> tuple[dict[str, str], Reproduction]:
    """The paper's tables beside ours: files by name, and what they say; ``drawings`` apart only where asked for."""
    found = reproduction_text.everything(made, paper_protocol=paper_protocol)
    return reproduction_text.files(found, paper_protocol=paper_protocol, drawings=drawings), found


def _model_page(name: str, entries: Sequence[Entry]) -> bytes:
    return model_page(name, entries).encode()


def _asset(name: str) -> bytes:
    return assets()[name]


def _curves(board: Board) -> list[Table]:
    table = curve_table(board)
    return [table] if table.rows else []
