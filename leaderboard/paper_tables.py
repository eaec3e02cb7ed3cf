"""The tables and figures of Kirk et al. that this project covers, as ``leaderboard/paper/*.yaml`` describes them."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from benchmark.errors import UserError
from benchmark.records import Record, Role
from benchmark.runs import first_problem

Kind = Literal["table", "figure", "text"]
Relation = Literal["above", "not below", "alike"]
KINDS: tuple[Kind, ...] = ("table", "figure", "text")
WORLDS = {
    "summarisation": ("real-text-summarisation", "pocket"),
    "instructions": ("real-text-instructions", "pocket"),
}
"""A suite of the paper's → suites that this project can afford, nearest first: their rows stand beside its cells."""


class Published(Record):
    """A value that the paper is said to print."""

    value: float
    decimals: Annotated[int, Field(ge=0)]
    """To which it is known."""
    source: str
    """Who says so: nothing here was read in the paper itself."""
    read_off: bool = False
    """Taken from a figure by eye."""
    approximate: bool = False
    """Said to be about so much, without a word on how it was read."""

    @property
    def is_rough(self) -> bool:
        """Whether it was read off a figure, or is said to be about so much."""
        return self.read_off or self.approximate

    @property
    def half_unit(self) -> float:
        """How far the true value may be from the one that is known, by its decimals alone."""
        return 0.5 * 10.0**-self.decimals

    def __str__(self) -> str:
        """Return the value as certain as it is, such as "0.79" or "≈ 0.8"."""
        text = f"{self.value:.{self.decimals}f}".replace("-", "−")
        return f"≈ {text}" if self.is_rough else text


class PaperColumn(Record):
    """One quantity."""

    key: str
    title: str
    role: Role | Literal["gap"]
    metric: str
    """What this project measures there."""
    paper_metric: str | None = None
    """What the paper's own protocol measures, where that is something else."""
    measured_by: str | None = None
    """What would measure it, where no row of a board can hold it."""


class PaperRow(Record):
    """One model, trained in one way."""

    model: str
    """Base model, by its name on the hub."""
    method: str
    """``sft``, ``ppo`` or ``best-of-16``; any other is a way that no card declares."""
    published: dict[str, Published] = Field(default={})
    """Column's key → value; a column without one is not known here."""


class ClaimTest(Record):
    """What a claim says of two methods of one world, as far as a board holds it."""

    metric: str
    role: Role | Literal["gap"]
    first: str
    relation: Relation
    second: str


class Claim(Record):
    """Something that is said of a table in words, of which no number is known."""

    text: str
    source: str
    tests: Annotated[tuple[ClaimTest, ...], Field(strict=False)] = ()
    """Its parts, as far as a board can tell; empty = nothing on one does."""


class PaperTable(Record):
    """A table or a figure of the paper, or numbers of its text."""

    name: str
    """``table-11``, ``figure-5``: the file's own."""
    kind: Kind
    title: str
    place: str
    """Where it stands in the paper."""
    suite: str
    note: str
    comparable: str = ""
    """What of the rows beside it is like the paper's, and what is not."""
    claims: Annotated[tuple[Claim, ...], Field(strict=False)] = ()
    columns: Annotated[tuple[PaperColumn, ...], Field(min_length=1, strict=False)]
    rows: Annotated[tuple[PaperRow, ...], Field(min_length=1, strict=False)]

    @property
    def worlds(self) -> tuple[str, ...]:
        """Suites whose rows stand beside the cells: the table's own, then those of `WORLDS`."""
        return (self.suite, *WORLDS.get(self.suite, ()))

    @model_validator(mode="after")
    def _keys_are_columns(self) -> PaperTable:
        keys = {column.key for column in self.columns}
        for row in self.rows:
            if strange := sorted(row.published.keys() - keys):
                raise ValueError(f"{row.model} {row.method}: published {strange[0]!r} is no column")
        return self


def paper_tables() -> dict[str, PaperTable]:
    """All of them by name: tables, figures, then numbers of the text, each in order of number.

    Raises
    ------
    UserError
        For a file that is none; it names the file and the field.
    """
    folder = Path(str(resources.files("leaderboard"))) / "paper"
    found = []
    for path in folder.glob("*.yaml"):
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
            found.append(PaperTable.model_validate({"name": path.stem, **data}, strict=False))
        except ValidationError as error:
            raise UserError(f"not a paper table: {first_problem(error)}", where=path) from None
    found.sort(key=lambda table: (KINDS.index(table.kind), _number(table.name), table.name))
    return {table.name: table for table in found}


def paper_table(name: str, *kinds: Kind) -> PaperTable:
    """Find one of some kinds by its number or its name.

    Raises
    ------
    UserError
        If there is none; the message lists those there are.
    """
    tables = {key: table for key, table in paper_tables().items() if table.kind in kinds}
    for key in (name, *(f"{kind}-{name}" for kind in kinds)):
        if key in tables:
            return tables[key]
    raise UserError(f"no {kinds[0]} {name!r}; there are: {', '.join(tables)}")


def _number(name: str) -> float:
    last = name.rpartition("-")[2]
    return int(last) if last.isdigit() else math.inf
