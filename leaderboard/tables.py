"""The tables people read: few columns, one row a model, every number beside its interval.

A `Table` holds raw text; whoever prints it escapes it for its own format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmark.records import Estimate
from leaderboard.board import Board
from leaderboard.names import method_title, metric_title, role_title, upper_first
from leaderboard.row import Interval, Row

MISSING = "–"
SOURCE_MARK = "†"
EAD = "ead_per_input"


@dataclass(frozen=True)
class Cell:
    """One value as text, its interval as text, and whether it is a number."""

    text: str
    interval: str = ""
    number: bool = True

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip()


@dataclass(frozen=True)
class Column:
    """A heading and what stands under it."""

    title: str
    cell: Callable[[Row], Cell]
    value: Callable[[Row], Interval | Estimate | None] = lambda _: None
    """Where the cell's number comes from, for the note on intervals."""


@dataclass(frozen=True)
class Table:
    """A titled table of text."""

    key: str
    """``swept``, ``single``, ``controls`` or ``unranked``."""
    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def human_tables(board: Board) -> list[Table]:
    """Tables of one board: ranked swept, ranked single, unranked with reasons, floors and ceilings.

    A table without rows is left out; where no model at all is ranked, nothing stands in its place.
    """
    shared = columns(board)
    rank = Column("rank", lambda row: Cell(str(board.ranks[row.name])))
    why = Column("why it is not ranked", lambda row: Cell("; ".join(row.unranked), number=False))
    kind = Column("kind", lambda row: Cell(row.kind, number=False))
    swept = "Swept over the suite's temperatures"
    if board.suite.sampling:
        swept = f"Swept over temperatures {', '.join(f'{t:g}' for t in board.suite.sampling.temperatures)}"
    parts = [
        ("swept", swept, [rank, *shared], board.ranked("swept")),
        ("single", "At a single temperature", [rank, *shared], board.ranked("single")),
        ("unranked", "Shown but not ranked", [shared[0], why, *shared[1:]], board.unranked),
        ("controls", "Ceilings and floors, never ranked", [shared[0], kind, *shared[1:]], board.controls),
    ]
    return [
        Table(
            key,
            title,
            tuple(column.title for column in chosen),
            tuple(tuple(column.cell(row) for column in chosen) for row in rows),
        )
        for key, title, chosen, rows in parts
        if rows
    ]


def curve_table(board: Board) -> Table:
    """Both axes of every row at every role and temperature."""
    plane = board.suite.plane
    rows = tuple(
        (
            Cell(row.name, number=False),
            Cell(role_title(role), number=False),
            Cell(f"{point.temperature:g}"),
            interval_cell(point.x),
            interval_cell(point.y),
        )
        for row in board.rows
        for role, points in row.curves.items()
        for point in points
    )
    headers = (
        "model",
        "role",
        "temperature",
        f"x: {metric_title(plane.x.metric)}",
        f"y: {_y_title(board)}",
    )
    return Table("curves", "Every temperature and role", headers, rows)


def interval_cell(value: Interval | Estimate | None) -> Cell:
    """``0.312`` and ``[0.274, 0.356]``; a missing value is a dash, never 0."""
    if value is None:
        return Cell(MISSING)
    return Cell(number(value.value), f"[{number(value.low)}, {number(value.high)}]")


def number(value: float) -> str:
    """Three decimals, fewer from 10 on, with a true minus sign; a rounded zero has no sign."""
    size = abs(value)
    text = f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:.1f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def is_source_only(board: Board, row: Row) -> bool:
    """Whether a row is declared to be trained on the ``id`` split alone, so that *ID* and *OOD* are said rightly."""
    own = {task.task for task in board.suite.tasks if task.role == "id"}
    return not own or set(row.scores.card.trained_on or ()) == own


def display_name(board: Board, row: Row) -> str:
    """The row's name, marked where its training split is not declared to be the suite's."""
    marked = row.kind == "model" and not is_source_only(board, row)
    return f"{row.name} {SOURCE_MARK}" if marked else row.name


def _y_title(board: Board) -> str:
    axis = board.suite.plane.y
    return f"{metric_title(axis.metric)} (share)" if axis.reference else metric_title(axis.metric)


def columns(board: Board) -> list[Column]:
    """Name and numbers of a row, as every table of a board has them."""
    plane = board.suite.plane
    roles = {task.role for task in board.suite.tasks}
    x, y = plane.x.metric, plane.y.metric
    if not board.suite.texts:
        metrics = (x, "win_rate", "length_characters", "reference_length_characters")
        return [
            Column("model", lambda row: Cell(row.name, number=False)),
            *(_estimate(metric, plane.role, False) for metric in metrics),
            Column("preferences", lambda row: Cell(_preferences(board, row))),
        ]
    found = [
        Column("model", lambda row: Cell(display_name(board, row), number=False)),
        Column("score", lambda row: interval_cell(row.score), lambda row: row.score),
        _estimate(x, plane.role, len(roles) > 1),
    ]
    # Raw, length-controlled and the length itself are read together or not at all.
    if board.suite.length_control and any(row.headline("win_rate", plane.role) for row in board.rows):
        other = "win_rate" if x == "win_rate_lc" else "win_rate_lc"
        found += [_estimate(other, plane.role, len(roles) > 1), _estimate("length_words", plane.role, False)]
    if "id" in roles and plane.role != "id":
        found += [_estimate(x, "id", True), _estimate(x, "gap", True)]
    if "ood_hard" in roles:
        found.append(_estimate(x, "ood_hard", True))
    found.append(
        Column(
            _y_title(board),
            lambda row: interval_cell(row.diversity_at(plane.role)),
            lambda row: row.diversity_at(plane.role),
        )
    )
    gate = board.suite.gate.name
    for metric in (f"valid_share_{gate}", f"conditional_per_input_{gate}"):
        if any(row.headline(metric, plane.role) for row in board.rows):
            found.append(_estimate(metric, plane.role, False))
    found.append(_estimate(EAD, plane.role, False))
    if plane.y2 and plane.y2.metric != y:
        found.append(_estimate(plane.y2.metric, plane.role, False))
    return found


def _preferences(board: Board, row: Row) -> str:
    """How many prompts have a preference, and of how many where some have none."""
    found = row.headline("win_rate", board.suite.plane.role)
    judged = found.n if found else 0
    asked = next(task.n_prompts for task in row.scores.identity.tasks if task.role == board.suite.plane.role)
    return str(judged) if judged == asked else f"{judged} of {asked}"


def _estimate(metric: str, role: str, say_role: bool) -> Column:
    title = metric_title(metric)
    if role == "gap":
        title = "ID − OOD gap"
    elif say_role:
        title = f"{role_title(role)} {title}"
    return Column(title, lambda row: interval_cell(row.headline(metric, role)), lambda row: row.headline(metric, role))


def notes(board: Board) -> list[str]:
    """What the reader of a board's tables must know: intervals, ranks, the marks in it, EAD's floor, the dashes."""
    return list(_notes(board, columns(board)))


def _notes(board: Board, columns: Sequence[Column]) -> Iterable[str]:
    plane = board.suite.plane
    methods: dict[str, list[str]] = {}
    for column in columns:
        used = sorted({method_title(found.method) for row in board.rows if (found := column.value(row))})
        if used:
            methods.setdefault(" or ".join(used), []).append(column.title)
    said = "; ".join(f"{', '.join(titles)}: {method}" for method, titles in methods.items())
    counts = sorted({found.n for row in board.rows if (found := row.diversity_at(plane.role))})
    prompts = f" over {' or '.join(str(n) for n in counts)} prompts" if counts else ""
    at = " at temperature 1" if board.suite.sampling else ""
    yield f"Brackets are 95 % intervals{at}{prompts}, for this checkpoint only. {upper_first(said)}."
    if any(row.score and row.protocol == "swept" for row in board.rows):
        yield "Score: √ of the area that a model's temperatures cover on the plane; √(x·y) for a single temperature."
    elif any(row.score for row in board.rows):
        yield "Score: √(x·y)."
    if board.ranks:
        yield (
            "A rank is a set, such as 3 (2–9): from 1 + the models that are significantly better to the last place "
            "left by those significantly worse (paired t on the score, Holm over the table)."
        )
    yield from _front(board)
    titles = [column.title for column in columns]
    if plane.y.reference:
        yield (
            f"(share): {metric_title(plane.y.metric)} divided by {plane.y.reference:g}, the suite's frozen reference, "
            "and clipped to 1; leaderboard.csv has it undivided."
        )
    for k in sorted({row.scores.identity.sampling.k for row in board.rows if row.scores.identity.sampling}):
        if k == 1 or metric_title(EAD) not in titles:
            continue
        yield f"{metric_title(EAD)} has a floor: {k} identical outputs score about 1/{k} = {1 / k:.4g}."
    yield from _over_token_limit(board)
    if any(display_name(board, row) != row.name for row in board.rows):
        yield (
            f"{SOURCE_MARK} not declared to be trained on the ID split alone: for this model read ID, OOD and gap as "
            "source, shifted and difference."
        )
    if any(str(column.cell(row)) == MISSING for column in columns for row in board.rows):
        yield f"{MISSING} means not measured; it is never 0."
    for metric, reason in board.absent.items():
        yield f"Not measured ({metric_title(metric)}): {reason}."


def _front(board: Board) -> Iterable[str]:
    """Say who is on the Pareto front, and who is shown to be behind another."""
    if len(board.standing) < 2:
        return
    names: dict[str, list[str]] = {}
    for row in board.rows:
        if row.name in board.standing:
            names.setdefault(board.standing[row.name], []).append(row.name)
    at = " at temperature 1" if board.suite.sampling else ""
    yield f"On the Pareto front{at} (no ranked row is higher on both axes): {', '.join(names['front'])}."
    if "dominated" in names:
        yield (
            f"Shown to be behind another row on both axes (one-sided paired t on each, Holm over all pairs): "
            f"{', '.join(names['dominated'])}."
        )
    if "undecided" in names:
        yield f"Neither on it nor shown to be behind: {', '.join(names['undecided'])}."


def tier(row: Row) -> str | None:
    """How far a submission is to be believed; None for a run of one's own."""
    found = row.scores.notes.get("tier")
    return found if isinstance(found, str) else None


def submission(row: Row) -> str | None:
    """Folder of a submission below ``submissions/``; None for a run of one's own."""
    found = row.scores.notes.get("submission")
    return found if isinstance(found, str) else None


def share_over_token_limit(row: Row) -> float | None:
    """Share of a row's different texts that the sentence encoder cuts off; None where the scores do not tell."""
    encoder = row.scores.notes.get("encoder")
    share = encoder.get("share_over_token_limit") if isinstance(encoder, dict) else None
    return float(share) if isinstance(share, int | float) else None


def _over_token_limit(board: Board) -> Iterable[str]:
    """Say how much of the texts the encoder never sees."""
    shares = [share for row in board.rows if (share := share_over_token_limit(row)) is not None]
    if shares:
        low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
        said = low if low == high else f"{low} to {high}"
        yield (
            f"The sentence encoder ({board.suite.encoder}) reads the start of a text: {said} of a row's texts "
            "are longer than its token limit, and are cut there."
        )
