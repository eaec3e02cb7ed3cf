"""Runs in, board out: every file is made before the first is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmark.records import Scores
from benchmark.runs import write_atomically
from benchmark.suites import Suite
from leaderboard.board import Board, boards
from leaderboard.csv_files import curve_csv, leaderboard_csv
from leaderboard.plane_figure import png, svg, svg_ids
from leaderboard.site import page
from leaderboard.text_tables import latex, markdown


def build(
    scores: Sequence[Scores],
    out: Path,
    suites: Mapping[str, Suite] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
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

    Returns
    -------
    list of Path
        The files written: ``index.html``, ``leaderboard.csv``, ``curve.csv``, ``leaderboard.md``, ``leaderboard.tex``,
        ``plane.svg`` and ``plane.png`` for the first suite, ``plane-<suite>-v<N>.svg`` and ``.png`` for any other.

    Raises
    ------
    UserError
        If there is no run, a suite is not known, or two rows of a suite cannot be compared.
    """
    files = render(scores, suites, progress)
    for name, data in files.items():
        write_atomically(out / name, data)
    return [out / name for name in files]


def render(
    scores: Sequence[Scores],
    suites: Mapping[str, Suite] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, bytes]:
    """Everything that `build` writes, by file name."""
    made = boards(scores, suites)
    figures, files = figures_of(made, progress)
    return tables_of(made, figures) | files


def figures_of(
    made: Sequence[Board], progress: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[dict[str, tuple[str, str]], dict[str, bytes]]:
    """Draw every board once: suite id → its figure as SVG, wide and narrow, for the page; and the files by name."""
    figures: dict[str, tuple[str, str]] = {}
    files: dict[str, bytes] = {}
    # Pixels are made in a thread beside the next drawing: both leave Python alone for most of their time.
    with ThreadPoolExecutor(1) as pixels:
        pictures: dict[str, Future[bytes]] = {}
        for place, board in enumerate(made):
            anchor = f"{board.suite.suite}-v{board.suite.version}"
            wide = svg(board)
            stem = "plane" if place == 0 else f"plane-{anchor}"
            pictures[f"{stem}.png"] = pixels.submit(png, wide)
            files[f"{stem}.svg"] = wide.encode()
            narrow = svg(board, "narrow", prefix=f"{anchor}-narrow-")
            figures[board.suite.id] = (svg_ids(wide, f"{anchor}-wide-"), narrow)
            progress(place + 1, len(made))
        files |= {name: picture.result() for name, picture in pictures.items()}
    return figures, files


def tables_of(made: Sequence[Board], figures: Mapping[str, tuple[str, str]]) -> dict[str, bytes]:
    """Page, CSV, Markdown and LaTeX by file name; ``figures`` as `figures_of` returns them."""
    texts = {
        "index.html": page(made, figures),
        "leaderboard.csv": leaderboard_csv(made),
        "curve.csv": curve_csv(made),
        "leaderboard.md": markdown(made),
        "leaderboard.tex": latex(made),
    }
    return {name: text.encode() for name, text in texts.items()}
