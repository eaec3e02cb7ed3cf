"""The paper's tables with ours beside them, for people (Markdown, a page) and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from leaderboard import ink
from leaderboard.board import Board
from leaderboard.data_files import Data, Value
from leaderboard.names import upper_first
from leaderboard.paper_tables import PaperTable, paper_tables
from leaderboard.reproduction import Beside, Found, PaperCell, beside, counts, reproduce
from leaderboard.tables import MISSING, Cell, Table, number
from leaderboard.templating import environment
from leaderboard.text_tables import markdown_table
from leaderboard.whole_table import plain_table

HOW_SURE = (
    "Nothing here was read in the paper itself: published values are second-hand, from public reading notes that give "
    "their place in it; ≈ marks one that was read off a figure. A cell without a published value is one that is not "
    "known here. Ours is of the very model as its card declares it, from a ranked submission, which is named, with "
    "its 95 % interval; “agrees” means that the interval, widened by half a unit of the published value's last digit, "
    "holds it. The second table of each has other models, trained in the same way in worlds that this project can "
    "afford, and floors: they show what the protocol gives there, are not comparable, and answer no cell of the paper. "
    "Of several training seeds it has the mean and the lowest to the highest, which is no interval."
)


class Filled(NamedTuple):
    """A table of the paper with everything that is known of it."""

    table: PaperTable
    cells: list[PaperCell]
    beside: list[Beside]


Reproduction = Mapping[str, Filled]


def everything(boards: Sequence[Board], *, paper_protocol: bool = False) -> Reproduction:
    """Fill all tables and figures; by name."""
    return {name: fill(table, boards, paper_protocol=paper_protocol) for name, table in paper_tables().items()}


def fill(table: PaperTable, boards: Sequence[Board], *, paper_protocol: bool = False) -> Filled:
    """Fill one."""
    return Filled(
        table,
        reproduce(table, boards, paper_protocol=paper_protocol),
        beside(table, boards, paper_protocol=paper_protocol),
    )


def as_tables(filled: Filled) -> list[Table]:
    """The paper's cells, and what stands beside them."""
    table, cells, _ = filled
    width = len(table.columns)
    headers = ["model", "method"]
    for column in table.columns:
        headers += [f"{column.title}: published", "ours"]
    rows = []
    for place, row in enumerate(table.rows):
        line = [row.model, row.method]
        for cell in cells[place * width : (place + 1) * width]:
            line += [str(cell.published) if cell.published else "", _answer(cell)]
        rows.append(tuple(Cell(text or MISSING, number=False) for text in line))
    made = [Table(table.name, f"{table.place}: {table.title}", tuple(headers), tuple(rows))]
    if filled.beside:
        others = tuple(
            tuple(
                Cell(text, number=False)
                for text in (
                    _named(other),
                    other.suite,
                    other.method,
                    *(_said(other.values.get(column.key)) or MISSING for column in table.columns),
                )
            )
            for other in filled.beside
        )
        titles = ("who", "suite", "method", *(column.title for column in table.columns))
        made.append(Table(f"{table.name}-beside", "Beside it, not comparable", titles, others))
    return made


def markdown(found: Reproduction) -> str:
    """All tables, each with what is known of it."""
    parts = ["# The paper's tables and figures, and ours", HOW_SURE]
    for filled in found.values():
        first, *others = as_tables(filled)
        parts += [f"## {first.title}", filled.table.note, summary(filled.cells), markdown_table(first)]
        for table in others:
            parts += [f"### {table.title}", markdown_table(table)]
    return "\n\n".join(parts) + "\n"


def page(found: Reproduction) -> str:
    """``paper.html``."""
    sections = [
        {
            "anchor": name,
            "title": f"{filled.table.place}: {filled.table.title}",
            "note": filled.table.note,
            "summary": summary(filled.cells),
            "tables": [plain_table(table) for table in as_tables(filled)],
        }
        for name, filled in found.items()
    ]
    return environment().get_template("paper.html.j2").render(sections=sections, ink=ink, how_sure=HOW_SURE)


def data(found: Reproduction) -> Data:
    """One row a value, unrounded: published, ours, and what stands beside."""
    header = ["table", "model", "method", "role", "metric", "temperature", "whose", "who"]
    header += ["value", "low", "high", "n", "seeds", "source", "verdict"]
    rows: list[list[Value]] = []
    for name, (table, cells, others) in found.items():
        for cell in cells:
            at: list[Value] = [name, cell.row.model, cell.row.method, cell.column.role, cell.metric, cell.temperature]
            if published := cell.published:
                source = f"{published.source}{', read off a figure' if published.read_off else ''}"
                rows.append([*at, "published", None, published.value, None, None, None, None, source, cell.verdict])
            if f := cell.ours:
                rows.append([*at, "ours", f.who, f.value, f.low, f.high, f.n, f.seeds, None, cell.verdict])
            elif not cell.published:
                rows.append([*at, None, None, None, None, None, None, None, None, cell.verdict])
        for other in others:
            for column in table.columns:
                if f := other.values.get(column.key):
                    at = [name, None, other.method, column.role, column.key, None, other.suite, other.who]
                    rows.append([*at, f.value, f.low, f.high, f.n, f.seeds, None, "not comparable"])
    return Data(header, rows)


def summary(cells: Sequence[PaperCell]) -> str:
    """How many cells there are, of how many a value is known, and what became of them."""
    found = counts(cells)
    told = ", ".join(
        f"{found[name]} {name}" for name in ("agrees", "differs", "not comparable", "not run") if found[name]
    )
    return f"{found['cells']} cells, of {found['published']} the published value is known. {upper_first(told)}."


def _answer(cell: PaperCell) -> str:
    if cell.ours is None:
        return cell.verdict
    why = f" ({cell.why_not})" if cell.why_not else ""
    return f"{cell.ours.who}: {_said(cell.ours)} {cell.verdict}{why}"


def _said(found: Found | None) -> str:
    if found is None:
        return ""
    low, high = number(found.low), number(found.high)
    return f"{number(found.value)} ({low} to {high})" if found.seeds > 1 else f"{number(found.value)} [{low}, {high}]"


def _named(other: Beside) -> str:
    seeds = max(found.seeds for found in other.values.values())
    return f"{other.who} ({seeds} seeds)" if seeds > 1 else other.who
