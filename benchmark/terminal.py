"""What the commands print: tables wide enough for a pipe, and text that is never markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.records import Estimate, Scores


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; its cells are text, whatever a submitter wrote in them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=max(Console().width, 160)).print(table)


def print_scores(scores: Scores, wanted: tuple[str, ...] = ("",)) -> None:
    """Print the headline numbers of one run: a line a metric whose name begins so, a column a role."""
    from rich.console import Console
    from rich.table import Table

    from benchmark.suites import HEADLINE_TEMPERATURE

    temperatures = {estimate.temperature for estimate in scores.estimates} or {HEADLINE_TEMPERATURE}
    temperature = min(temperatures, key=lambda t: (abs(t - HEADLINE_TEMPERATURE), t))
    shown = [e for e in scores.estimates if e.temperature == temperature]
    roles = list(dict.fromkeys(estimate.role for estimate in shown))
    cells = {(e.metric, e.role): f"{e.value:z.3f} [{e.low:z.3f}, {e.high:z.3f}]{_of_fewer(e, scores)}" for e in shown}
    table = Table("metric", *roles, box=None, pad_edge=False)
    for metric in dict.fromkeys(estimate.metric for estimate in shown if estimate.metric.startswith(wanted)):
        table.add_row(metric, *(cells.get((metric, role), "–") for role in roles))
    # Wide enough on a pipe too: a cut-off number is worse than a long line.
    console = Console(width=max(Console().width, 28 + 40 * (1 + len(roles))))
    console.print(f"{scores.name} on {scores.identity.suite}, T = {temperature:g}, 95 % intervals", markup=False)
    console.print(table)
    encoder = scores.notes["encoder"]
    assert isinstance(encoder, dict)
    console.print(
        f"{encoder['share_over_token_limit']:.1%} of {encoder['different_texts']} different texts are over the "
        f"{encoder['token_limit']} tokens that {encoder['name']} reads",
        markup=False,
        highlight=False,
    )
    for line in (*scores.absent.values(), *(f"flagged, not ranked: {flag.text}" for flag in scores.flags)):
        console.print(line, markup=False)


def _of_fewer(estimate: Estimate, scores: Scores) -> str:
    """Say how many prompts a number rests on, where it is not all of them."""
    prompts = len(scores.doc_ids.get(estimate.task, ()))
    return f" (n = {estimate.n} of {prompts})" if prompts and estimate.n < prompts else ""
