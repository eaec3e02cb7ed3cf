"""The commands that maintainers start: ``gendiv rejudge``, and ``fetch-logs`` for logs that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli_arguments import DataRoot, Device
from benchmark.cli_judging import BaseUrl, Concurrency, JudgeModel, JudgeName, MaxCost, OrdersOption, print_plans
from benchmark.errors import UserError
from benchmark.terminal import print_table

Submitted = Annotated[Path, typer.Argument(metavar="FOLDER", help="One submission.")]
PublishedLogs = Annotated[
    Path | None,
    typer.Option("--published", metavar="DIR", help="Logs that `gendiv fetch-logs` has fetched for a submission."),
]


def rejudge(
    folder: Submitted,
    seed: Annotated[int, typer.Option(min=0, help="Draws the pairs; recorded.")],
    pairs: Annotated[int, typer.Option(min=2, help="How many to ask about, from all tasks alike.")] = 100,
    judge: JudgeName = None,
    model: JudgeModel = None,
    orders: OrdersOption = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = 32,
    max_cost: MaxCost = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and price, and ask nothing.")] = False,
    logs: Annotated[Path, typer.Option(metavar="DIR", help="Where new verdicts are kept.")] = Path("rejudging"),
    published: PublishedLogs = None,
    device: Device = None,
    data_root: DataRoot = None,
) -> None:
    """Ask a submission's judge again about a sample of its pairs, and record how far the two agree.

    The key of a judge behind a server is read from OPENAI_API_KEY. The judge is the one that is here under the name
    that the submission gives; its own configuration is only compared with it, and nothing is sent where it says.
    """
    from benchmark import pipeline
    from benchmark.judging.runs import JudgeOptions
    from benchmark.progress import Bars
    from benchmark.submission import rejudge as again
    from benchmark.submission.validate import find

    pipeline.use_data(data_root)
    options = JudgeOptions(
        judge=judge,
        model=model,
        orders=orders,
        base_url=base_url,
        concurrency=concurrency,
        max_cost=max_cost,
        device=device,
    )
    found = find(folder)
    if len(found) != 1:
        raise UserError(f"{len(found)} submissions are there; name one", where=folder)
    [(submission, root)] = found
    if dry_run:
        print_plans(again.plan(submission, root, options, pairs=pairs, seed=seed, published=published))
        return
    with Bars() as bars:
        record = again.rejudge(
            submission, root, options, pairs=pairs, seed=seed, logs=logs, published=published, progress=bars.stage
        )
    answered = sum(pair.again is not None for pair in record.drawn)

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    wanted = min(again.PAIRS, record.there)
    few = "" if again.enough(len(record.drawn), record.there) else f": that takes at least {wanted} pairs"
    rows = [
        ("pairs", f"{answered} of {len(record.drawn)} answered"),
        ("same label", shown(record.equal)),
        ("mean absolute difference of preferences", shown(record.difference)),
        ("Cohen's kappa, Gwet's AC1", f"{shown(record.kappa)}, {shown(record.ac1)}"),
        ("win rate, claimed and again", f"{shown(record.claimed_rate)}, {shown(record.rate)}"),
        ("95 % interval of their difference", f"{shown(record.low)} to {shown(record.high)}"),
        ("calls, US dollars", f"{record.calls:,}, {shown(record.cost)}"),
        ("re-judged", "confirmed" if record.confirmed else f"not confirmed{few}"),
    ]
    print_table(f"{record.submission}: {record.judge} asked again", ("", ""), rows)
    print(f"wrote {again.record_path(root, record.submission)}")


def fetch_logs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One submission, or a folder of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to put them; not within submissions.")],
) -> None:
    """Fetch the logs that submissions publish elsewhere, and check that they are what they say."""
    from benchmark.submission.fetch import fetch
    from benchmark.submission.validate import find

    fetched = [path for submission, root in find(folder) for path in fetch(submission, root, out)]
    for path in fetched:
        print(f"fetched: {path}")
    if not fetched:
        print("nothing to fetch: all logs are in their folders")
