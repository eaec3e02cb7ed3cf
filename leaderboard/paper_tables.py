"""The tables and figures of Kirk et al. that this project covers, as ``leaderboard/paper/*.yaml`` describes them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from benchmark.errors import UserError
from benchmark.records import Record, Role
from benchmark.runs import first_problem


class Published(Record):
    """A value that the paper is said to print."""

    value: float
    decimals: Annotated[int, Field(ge=0)]
    """To which it is known."""
    source: str
    """Who says so: nothing here was read in the paper itself."""
    read_off: bool = False
    """Taken from a figure by eye."""

    @property
    def half_unit(self) -> float:
        """How far the true value may be from the one that is known, by its decimals alone."""
        return 0.5 * 10.0**-self.decimals

    def __str__(self) -> str:
        """Return the value as certain as it is, such as "0.79" or "≈ 0.8"."""
        text = f"{self.value:.{self.decimals}f}".replace("-", "−")
        return f"≈ {text}" if self.read_off else text


class PaperColumn(Record):
    """One quantity."""

    key: str
    title: str
    role: Role
    metric: str
    """What this project measures there."""
    paper_metric: str | None = None
    """What the paper's own protocol measures, where that is something else."""


class PaperRow(Record):
    """One model, trained in one way."""

    model: str
    """Base model, by its name on the hub."""
    method: str
    """``sft``, ``ppo`` or ``best-of-16``."""
    published: dict[str, Published] = Field(default={})
    """Column's key → value; a column without one is not known here."""


class PaperTable(Record):
    """A table or a figure of the paper."""

    name: str
    """``table-11``, ``figure-5``: the file's own."""
    kind: Literal["table", "figure"]
    title: str
    place: str
    """Where it stands in the paper."""
    suite: str
    note: str
    columns: Annotated[tuple[PaperColumn, ...], Field(min_length=1, strict=False)]
    rows: Annotated[tuple[PaperRow, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _keys_are_columns(self) -> PaperTable:
        keys = {column.key for column in self.columns}
        for row in self.rows:
            if strange := sorted(row.published.keys() - keys):
                raise ValueError(f"{row.model} {row.method}: published {strange[0]!r} is no column")
        return self


def paper_tables() -> dict[str, PaperTable]:
    """All of them by name, tables first, each in order of number.

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
    found.sort(key=lambda table: (table.kind != "table", int(table.name.rpartition("-")[2])))
    return {table.name: table for table in found}


def paper_table(name: str, kind: Literal["table", "figure"]) -> PaperTable:
    """Find one by its number, its name or the part of it that tells it apart.

    Raises
    ------
    UserError
        If there is none; the message lists those there are.
    """
    tables = {key: table for key, table in paper_tables().items() if table.kind == kind}
    key = name if name in tables else f"{kind}-{name}"
    if key not in tables:
        raise UserError(f"no {kind} {name!r}; there are: {', '.join(tables)}")
    return tables[key]
