"""The paper's tables with ours beside them, for people (Markdown, a page) and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from leaderboard import ink
from leaderboard.board import Board
from leaderboard.data_files import Data, Value
from leaderboard.escape import plain
from leaderboard.names import metric_title, role_title, upper_first
from leaderboard.paper_protocol import choices
from leaderboard.paper_tables import ClaimTest, PaperTable, paper_tables
from leaderboard.reproduction import Beside, PaperCell, beside, counts, reproduce
from leaderboard.reproduction_claims import Judged, judge_claims
from leaderboard.reproduction_figure import alt_text, has_drawing, svg
from leaderboard.reproduction_seeds import Found
from leaderboard.tables import MISSING, Cell, Table, number
from leaderboard.templating import environment
from leaderboard.text_tables import markdown_table
from leaderboard.whole_table import plain_table

HOW_SURE = (
    "Nothing here was read in the paper itself: published values are second-hand, from public reading notes that give "
    "their place in it; ≈ marks one that was read off a figure, or is said to be about so much. A cell without a "
    "published value is one that is not known here. Ours is of the very model as its card declares it, from the ranked "
    "submission that is best, which is named, with its 95 % interval; “agrees” means that this, widened by half a unit "
    "of the published value's last digit, holds it. A published value is itself of one training and one draw of "
    "outputs, whose error nobody knows and no verdict counts: of exact repetitions about one in six would “differ”, "
    "one in three where seeds vary as much as prompts. From one marked ≈ nothing differs. What stands beside is of "
    "other models, trained in the same way in worlds that this project can afford, and floors: they show what the "
    "protocol gives there, are not comparable, and answer no cell of the paper. Of several training seeds it has the "
    "mean: in square brackets a 95 % interval over seeds and prompts, in round ones the lowest to the highest seed, "
    "which is no interval."
)
HOW_CLAIMS = (
    "What is said in words is held against those worlds too, seed by seed, on families of three training seeds or "
    "more: it is a finding about them, and never about the paper. An interval that holds 0 tells nothing apart; "
    "nothing is ever shown to be alike. Each test is at 95 % by itself. Of most metrics a board keeps no value prompt "
    "by prompt: both methods' errors over prompts then count in full, and the interval is wider than a paired one."
)


class Filled(NamedTuple):
    """A table of the paper with everything that is known of it."""

    table: PaperTable
    cells: list[PaperCell]
    beside: list[Beside]
    judged: list[Judged]


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
        judge_claims(table, boards, paper_protocol=paper_protocol),
    )


def as_tables(filled: Filled) -> list[Table]:
    """The paper's cells, what is said of them in words, what stands beside, and what our worlds say to the words."""
    made = [_cells(filled)]
    if filled.table.claims:
        said = tuple(
            (Cell(str(place)), Cell(claim.text, number=False), Cell(claim.source, number=False))
            for place, claim in enumerate(filled.table.claims, 1)
        )
        title = "Said of it in words"
        made.append(Table(f"{filled.table.name}-claims", title, ("claim", "what is said", "source"), said))
    if filled.beside:
        made.append(_beside(filled))
    if filled.judged:
        made.append(_judged(filled))
    return made


def protocol_table(*, paper_protocol: bool) -> Table:
    """Choices in which the paper's protocol and ours differ, with those that are in force."""
    rows = tuple(
        tuple(Cell(text, number=False) for text in choice) for choice in choices(paper_protocol=paper_protocol)
    )
    return Table("protocol", "Choices in force", ("choice", "ours", "the paper's", "in force"), rows)


def markdown(found: Reproduction, *, paper_protocol: bool = False) -> str:
    """All tables, each with what is known of it."""
    protocol = protocol_table(paper_protocol=paper_protocol)
    parts = ["# The paper's tables and figures, and ours", HOW_SURE, HOW_CLAIMS]
    parts += [f"## {protocol.title}", markdown_table(protocol)]
    parts += [markdown_of(filled) for filled in found.values()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def markdown_of(filled: Filled, heading: str = "##") -> str:
    """One of them."""
    first, *others = as_tables(filled)
    table = filled.table
    parts = [f"{heading} {first.title}", table.note, *([table.comparable] if table.comparable else [])]
    parts += [summary(filled.cells), markdown_table(first)]
    for other in others:
        parts += [f"{heading}# {other.title}", markdown_table(other)]
    return "\n\n".join(parts) + "\n"


def files(found: Reproduction, *, paper_protocol: bool = False, drawings: bool = False) -> dict[str, str]:
    """The report by file name: a page with its drawings in it, Markdown, CSV, JSON, and if asked for each drawing."""
    drawn = {name: _drawing(filled) for name, filled in found.items() if has_drawing(filled.table)}
    values = data(found)
    texts = {
        "paper.html": page(found, drawn, paper_protocol=paper_protocol),
        "paper.md": markdown(found, paper_protocol=paper_protocol),
        "paper.csv": values.csv(),
        "paper.json": values.json(),
    }
    return texts | ({f"paper-{name}.svg": svg for name, svg in drawn.items()} if drawings else {})


def page(found: Reproduction, drawn: Mapping[str, str], *, paper_protocol: bool = False) -> str:
    """``paper.html``; ``drawn`` is the SVG of each that has a drawing."""
    sections = [
        {
            "anchor": name,
            "title": f"{filled.table.place}: {filled.table.title}",
            "note": filled.table.note,
            "comparable": filled.table.comparable,
            "summary": summary(filled.cells),
            # Vega escapes the names in it.
            "drawing": Markup(drawn.get(name, "")),
            "alt": plain(alt_text(filled.table, filled.cells, filled.beside)),
            "tables": [plain_table(table) for table in as_tables(filled)],
        }
        for name, filled in found.items()
    ]
    return (
        environment()
        .get_template("paper.html.j2")
        .render(
            sections=sections,
            ink=ink,
            how_sure=HOW_SURE,
            how_claims=HOW_CLAIMS,
            protocol=plain_table(protocol_table(paper_protocol=paper_protocol)),
        )
    )


def data(found: Reproduction) -> Data:
    """One row a value, unrounded: published, ours, what stands beside, and how our worlds differ within."""
    header = ["table", "model", "method", "role", "metric", "temperature", "whose", "who"]
    header += ["value", "low", "high", "interval", "n", "seeds", "source", "verdict"]
    rows: list[list[Value]] = []
    for name, (table, cells, others, judged) in found.items():
        for cell in cells:
            at: list[Value] = [name, cell.row.model, cell.row.method, cell.column.role, cell.metric, cell.temperature]
            if published := cell.published:
                source = f"{published.source}{', read off a figure' if published.read_off else ''}"
                source += ", approximate" if published.approximate else ""
                value = published.value
                rows.append([*at, "published", None, value, None, None, None, None, None, source, cell.verdict])
            if cell.ours:
                rows.append([*at, "ours", *_numbers(cell.ours), None, cell.verdict])
            elif not cell.published:
                rows.append([*at, None, None, None, None, None, None, None, None, None, cell.verdict])
        for other in others:
            for column in table.columns:
                if f := other.values.get(column.key):
                    at = [name, None, other.method, column.role, f.metric, None, other.suite]
                    rows.append([*at, *_numbers(f), None, "not comparable"])
        for one in judged:
            test, difference = one.test, one.difference
            at = [name, None, f"{test.first} minus {test.second}", test.role, test.metric, None, one.suite]
            over = "paired seeds and prompts" if difference.paired else "paired seeds, prompts"
            line: list[Value] = [f"{one.first} minus {one.second}", difference.value, difference.low, difference.high]
            source = f"{one.claim.source}: {one.claim.text} ({_tested(test)})"
            rows.append([*at, *line, over, None, difference.seeds, source, one.outcome])
    return Data(header, rows)


def summary(cells: Sequence[PaperCell]) -> str:
    """How many cells there are, of how many a value is known, what became of them, and what no row can ever answer."""
    found = counts(cells)
    told = ", ".join(
        f"{found[name]} {name}" for name in ("agrees", "differs", "not comparable", "not run") if found[name]
    )
    said = f"{found['cells']} cells, of {found['published']} the published value is known. {upper_first(told)}."
    if any(cell.metric.startswith("nli") for cell in cells):
        said += " Boards keep no NLI: gendiv score RUN --nli MODEL measures it."
    return said


def _drawing(filled: Filled) -> str:
    return svg(filled.table, filled.cells, filled.beside, prefix=f"{filled.table.name}-")


def _cells(filled: Filled) -> Table:
    table = filled.table
    width = len(table.columns)
    headers = ["model", "method"]
    for column in table.columns:
        headers += [f"{column.title}: published", "ours"]
    rows = []
    for place, row in enumerate(table.rows):
        line = [row.model, row.method]
        for cell in filled.cells[place * width : (place + 1) * width]:
            line += [str(cell.published) if cell.published else "", _answer(cell)]
        rows.append(tuple(Cell(text or MISSING, number=False) for text in line))
    return Table(table.name, f"{table.place}: {table.title}", tuple(headers), tuple(rows))


def _beside(filled: Filled) -> Table:
    columns = filled.table.columns
    rows = tuple(
        tuple(
            Cell(text, number=False)
            for text in (
                f"{other.who} ({other.seeds} seeds)" if other.seeds > 1 else other.who,
                other.suite,
                other.method,
                *(_said(other.values.get(column.key)) or MISSING for column in columns),
            )
        )
        for other in filled.beside
    )
    titles = ("who", "suite", "method", *(column.title for column in columns))
    return Table(f"{filled.table.name}-beside", "Beside it, not comparable", titles, rows)


def _judged(filled: Filled) -> Table:
    rows = tuple(
        tuple(
            Cell(text, number=False)
            for text in (
                str(filled.table.claims.index(one.claim) + 1),
                one.suite,
                _tested(one.test),
                f"{one.first} − {one.second}, {one.difference.seeds} seeds",
                f"{number(one.difference.value)} [{number(one.difference.low)}, {number(one.difference.high)}]",
                one.outcome,
            )
        )
        for one in filled.judged
    )
    titles = ("claim", "suite", "tested as", "first − second", "difference", "in this world")
    return Table(f"{filled.table.name}-worlds", "The same words in our worlds, which are not the paper's", titles, rows)


def _tested(test: ClaimTest) -> str:
    words = f"{test.first} and {test.second} alike" if test.relation == "alike" else ""
    words = words or f"{test.first} {test.relation} {test.second}"
    return f"{metric_title(test.metric)}, {role_title(test.role)}: {words}"


def _numbers(found: Found) -> list[Value]:
    return [found.who, found.value, found.low, found.high, found.over, found.n, found.seeds]


def _answer(cell: PaperCell) -> str:
    if cell.ours is None:
        how = cell.column.measured_by
        return f"{cell.verdict} ({how})" if how else cell.verdict
    why = f" ({cell.why_not})" if cell.why_not else ""
    return f"{cell.ours.who}: {_said(cell.ours)} {cell.verdict}{why}"


def _said(found: Found | None) -> str:
    if found is None:
        return ""
    low, high = number(found.low), number(found.high)
    if found.over == "lowest to highest":
        return f"{number(found.value)} ({low} to {high})"
    return f"{number(found.value)} [{low}, {high}]"
