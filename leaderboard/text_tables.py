"""`Table` objects as Markdown, as LaTeX, and as plain strings for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leaderboard import escape
from leaderboard.board import Board
from leaderboard.families import every_table
from leaderboard.tables import Cell, Table
from leaderboard.tables import notes as notes_of

TablesOf = Mapping[str, Sequence[Table]]
"""Suite id → its tables."""


def terminal(board: Board) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, headers, rows) of every table, without control characters.

    The strings are no markup: print them as `rich.text.Text`, not as rich markup.
    """
    return [
        (
            f"{escape.plain(board.suite.title)} ({board.suite.id}): {table.title}",
            list(table.headers),
            [[escape.plain(str(cell)) for cell in row] for row in table.rows],
        )
        for table in every_table(board)
    ]


def markdown(boards: Sequence[Board], title: str, tables: TablesOf, *, notes: bool = False) -> str:
    """Every board's tables in Markdown, with the notes on how to read them."""
    parts = [f"# {title}"]
    for board in boards:
        parts += [
            f"## {escape.markdown(board.suite.title)} ({board.suite.id})",
            escape.markdown(board.suite.description),
        ]
        for table in tables[board.suite.id]:
            parts += [f"### {escape.markdown(table.title)}", markdown_table(table)]
        if notes:
            parts.append("\n".join(f"- {escape.markdown(note)}" for note in notes_of(board)))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """One table; numbers are set to the right."""
    rules = ["---:" if cell.number else ":---" for cell in table.rows[0]]
    lines = [table.headers, rules]
    lines += [tuple(_markdown_cell(cell) for cell in row) for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    # Numbers are ours and hold no markup; what else there is may come from a run.
    return str(cell) if cell.number else escape.markdown(str(cell))


def latex(boards: Sequence[Board], tables: TablesOf, *, notes: bool = False) -> str:
    r"""Every board's tables in LaTeX, one ``table*`` each, to be read with ``\\usepackage{booktabs}``."""
    parts = ["% needs \\usepackage{booktabs}, \\usepackage{graphicx} and \\usepackage{textcomp}"]
    for board in boards:
        parts += [latex_table(board, table) for table in tables[board.suite.id]]
        if notes:
            parts.append("\n".join(rf"\noindent{{\footnotesize {escape.latex(note)}\par}}" for note in notes_of(board)))
    return "\n\n".join(parts) + "\n"


def latex_table(board: Board, table: Table) -> str:
    """One ``table*``."""
    alignment = "".join("r" if cell.number else "l" for cell in table.rows[0])
    caption = f"{board.suite.title} ({board.suite.id}). {table.title}."
    body = [
        " & ".join(escape.latex(header) for header in table.headers) + r" \\",
        r"\midrule",
        *(" & ".join(escape.latex(str(cell)) for cell in row) + r" \\" for row in table.rows),
    ]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{escape.latex(caption)}}}",
            rf"\label{{tab:{board.suite.suite}-v{board.suite.version}-{table.key}}}",
            # Shrinks a table that is too wide; a narrow one keeps its size.
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
        ]
    )
