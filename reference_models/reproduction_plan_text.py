"""A plan of reproduction as tables, as Markdown, and as the shell script of its commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from reference_models.plan import Hours
from reference_models.reproduction_plan import Plan, Section, Step

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, header, rows."""
STAGES = ("sft", "reward-model", "ppo", "sampling", "judge")
"""Those that cost something."""


def tables(plan: Plan) -> list[Table]:
    """Costs by base model and stage, then by run with what it needs before it, then the cells that no row can hold."""
    price = "" if plan.price is None else f", at ${plan.price:g} a GPU hour"
    header = ("base model", "suite", "cells", *(f"{stage} h" for stage in STAGES[:-1]), "GPU h in all", *_money(plan))
    rows = [
        (
            section.model.name,
            section.suite,
            str(sum(len(run.cells) for run in section.runs)),
            *(str(_hours(section.steps, stage)) for stage in STAGES[:-1]),
            str(section.hours),
            *_dollars(plan, section.hours, section.dollars),
        )
        for section in plan.sections
    ]
    cells = sum(len(run.cells) for section in plan.sections for run in section.runs)
    by_stage = [str(_hours([s for part in plan.sections for s in part.steps], stage)) for stage in STAGES[:-1]]
    total = ("in all", "", str(cells), *by_stage, str(plan.hours), *_dollars(plan, plan.hours, plan.dollars))
    found: list[Table] = [(f"GPU hours on one {plan.gpu}{price}", header, [*rows, total])]
    found.append(_by_run(plan))
    if plan.others:
        named = ("table", "model", "method", "column", "measured by")
        others: list[tuple[str, ...]] = [
            (cell.table, cell.model, cell.method, cell.column, cell.measured_by or "nothing here")
            for cell in plan.others
        ]
        found.append(("cells that no row of a board can hold", named, others))
    return found


def _by_run(plan: Plan) -> Table:
    header = ("cells of", "base model", "run", "cells", "GPU h with all before it", "GPUs", *_money(plan))
    rows: list[tuple[str, ...]] = []
    for section in plan.sections:
        for run in section.runs:
            steps = section.needed_by(run)
            hours, dollars = _hours(steps), sum(step.dollars for step in steps)
            rows.append(
                (
                    ", ".join(dict.fromkeys(cell.table for cell in run.cells)),
                    run.model,
                    f"{run.method} on {run.suite}",
                    str(len(run.cells)),
                    str(hours),
                    str(max(step.gpus for step in steps)),
                    *_dollars(plan, hours, dollars),
                )
            )
    return ("each run, with the training that it needs", header, rows)


def _money(plan: Plan) -> tuple[str, ...]:
    return ("judge $",) if plan.price is None else ("judge $", "GPU and judge $")


def _dollars(plan: Plan, hours: Hours, judge: float) -> tuple[str, ...]:
    if plan.price is None:
        return (f"{judge:,.2f}",)
    return (f"{judge:,.2f}", f"{hours.expected * plan.price + judge:,.2f}")


def _hours(steps: Sequence[Step], stage: str | None = None) -> Hours:
    found = Hours(0.0, 0.0, 0.0)
    for step in steps:
        if stage is None or step.stage == stage:
            found += step.hours
    return found


def markdown(plan: Plan) -> str:
    """The whole plan as a page."""
    parts = ["# What the paper's empty cells would take", "By `gendiv reproduce plan`; nothing of it was run."]
    for title, header, rows in tables(plan):
        parts += [f"## {title[0].upper()}{title[1:]}", _rows(header, rows)]
    parts += ["## Every cell", _rows(*_cells(plan))]
    parts += ["## What this rests on", "\n".join(f"- {note}" for note in plan.notes)]
    parts += ["## Commands", _fence(plan.exports)]
    for section in plan.sections:
        parts += [f"### {section.title}", _fence(section.steps)]
    return "\n\n".join(parts) + "\n"


def _cells(plan: Plan) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = ("table", "base model", "method", "column", "metric", "T", "GPU h with all before it", "judge $")
    rows: list[tuple[str, ...]] = []
    for section in plan.sections:
        for run in section.runs:
            steps = section.needed_by(run)
            costs = str(_hours(steps)), f"{sum(step.dollars for step in steps):,.2f}"
            for cell in run.cells:
                named = (cell.table, run.model, run.method, cell.column, cell.metric, f"{cell.temperature:g}")
                rows.append((*named, *costs))
    return header, rows


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def shell(plan: Plan) -> str:
    """The commands as a script; each can be repeated, and what is done is done."""
    lines = [
        "#!/usr/bin/env bash",
        "# Fills the paper's empty cells, by `gendiv reproduce plan`. The judge's key is read from OPENAI_API_KEY.",
        "set -euo pipefail",
        ': "${ORG:?set ORG to whose models they are: the part before the slash}"',
        "mkdir -p data models runs",
        "",
        "# Training data",
        *map(line_of, plan.exports),
    ]
    for section in plan.sections:
        lines += ["", f"# {_title(section)}", *map(line_of, section.steps)]
    return "\n".join(lines) + "\n"


def _title(section: Section) -> str:
    return f"{section.title}: {section.hours} GPU hours, ${section.dollars:,.2f} for the judge"


def line_of(step: Step) -> str:
    """One command for a shell; what refuses to write over what is there is left out where it is there."""
    words = " ".join(f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in step.command)
    if not step.made:
        return words
    # The organisation alone is quoted: a pattern in quotes would be taken as the name of a file.
    made = step.made.replace("$ORG", '"$ORG"')
    return f"ls -d {made} >/dev/null 2>&1 || {words}"


def _fence(steps: Sequence[Step]) -> str:
    return "\n".join(["```bash", *map(line_of, steps), "```"])
