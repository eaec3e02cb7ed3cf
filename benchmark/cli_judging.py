"""The commands that judge and compare: ``gendiv judge``, ``score``, ``compare`` and ``judge-accuracy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli_arguments import DataRoot, Device, RunFolder, Threads
from benchmark.errors import UserError
from benchmark.terminal import print_scores, print_table

if TYPE_CHECKING:
    from benchmark.judging.chat import Plan
    from benchmark.judging.head_to_head import HeadToHead
    from benchmark.judging.report import JudgeReport
    from benchmark.records import Estimate

JudgeName = Annotated[
    str | None,
    typer.Option("--judge", metavar="NAME", help="`gendiv list judges`, or a .yaml file; default: the suite's."),
]
JudgeModel = Annotated[str | None, typer.Option("--model", help="A model instead of the one that the judge names.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="OpenAI-compatible server; default: the judge's, else OPENAI_BASE_URL, else OpenAI.")
]
OrdersOption = Annotated[
    Literal["both", "one"] | None,
    typer.Option(help="Both orders of presentation, averaged, or one drawn a prompt, as in the paper."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests in the air at once.")]
MaxCost = Annotated[float | None, typer.Option(min=0, metavar="USD", help="Stop before this command has spent more.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Go on although something that was to be judged has no verdict.")
]


def judge(
    run: RunFolder,
    judge: JudgeName = None,
    model: JudgeModel = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Compare with this run's samples instead of the references.")
    ] = None,
    orders: OrdersOption = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = 32,
    max_cost: MaxCost = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and price, and ask nothing.")] = False,
    allow_missing: AllowMissing = False,
    device: Device = None,
    data_root: DataRoot = None,
) -> None:
    """Judge the samples of a run that have no verdict yet. Stop it at any time: the same command asks the rest.

    The key of a judge behind a server is read from OPENAI_API_KEY.
    """
    from benchmark import pipeline
    from benchmark.judging.head_to_head import head_to_head
    from benchmark.judging.runs import JudgeOptions, plan
    from benchmark.progress import Bars
    from benchmark.runs import Run

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
    other = Run(against) if against else None
    if dry_run:
        print_plans(plan(Run(run), options, against=other))
        return
    with Bars() as bars:
        if other:
            result = head_to_head(Run(run), other, bars.stage, options, allow_missing=allow_missing)
            reports = list(result.reports)
        else:
            reports = pipeline.judge(Run(run), bars.stage, options)
    print_reports(reports)
    if other:
        print_head_to_head(result)
    print(f"judged: {run}")


def score(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help='A run folder; or JSONL of {"prompt": …, "outputs": […]}, one line a prompt.'
        ),
    ],
    judge: JudgeName = None,
    gate: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A quality gate beside the suite's own, see `gendiv gate`; may be repeated."),
    ] = None,
    nli: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Add NLI diversity by this cross-encoder (safetensors); folder or hub id."),
    ] = None,
    allow_missing: AllowMissing = False,
    metrics: Annotated[
        str | None, typer.Option(help='Print these alone: beginnings of names, such as "ead,vendi,win_rate".')
    ] = None,
    threads: Threads = 1,
    data_root: DataRoot = None,
) -> None:
    """Score a run, or just texts: win rate and gap where it is judged, and diversity, each with its interval."""
    from benchmark import pipeline
    from benchmark.progress import Bars
    from benchmark.runs import Run

    wanted = _wanted(metrics)
    if nli is None and any(part.startswith("nli") for part in wanted):
        raise UserError("--metrics: NLI diversity needs a classifier of sentence pairs; give --nli MODEL")
    if not run.exists():
        raise UserError("no such file or run folder", where=run)
    if run.is_file():
        # Not --data-root: it may come from the environment, and texts have no use for it.
        given = {"--judge": judge, "--gate": gate, "--allow-missing": allow_missing}
        if strange := [option for option, value in given.items() if value]:
            raise UserError(f"{strange[0]} is for a run; texts of a file have no suite", where=run)
        print_texts(run, threads, wanted, nli)
        return
    pipeline.use_data(data_root)
    with Bars() as bars:
        scores = pipeline.score(
            Run(run), bars.stage, threads, judge=judge, gates=gate or (), nli=nli, allow_missing=allow_missing
        )
    print_scores(scores, wanted)


def gate(
    run: RunFolder,
    judge: Annotated[str, typer.Option("--judge", metavar="NAME", help="A judge with scores that has judged the run.")],
    name: Annotated[str, typer.Option(help="The gate's name: part of the names of the metrics that it gates.")],
    quantile: Annotated[float, typer.Option(min=0, max=0.999, help="Share of the references that may fail.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the YAML here instead of printing it.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Freeze a quality gate: a quantile of the scores that a reward model gives the references, a task at a time.

    Then `gendiv score RUN --gate FILE` adds effective diversity by that gate.
    """
    import yaml

    from benchmark import pipeline
    from benchmark.judging.gate import freeze
    from benchmark.opened import open_run
    from benchmark.runs import Run, write_atomically

    pipeline.use_data(data_root)
    found = freeze(open_run(Run(run)), judge, name, quantile)
    text = yaml.safe_dump(found.model_dump(mode="json", exclude_none=True), sort_keys=False)
    if out is None:
        print(text, end="")
        return
    write_atomically(out, text)
    print(f"wrote {out}")


def _wanted(metrics: str | None) -> tuple[str, ...]:
    """Read beginnings of metrics' names; each must begin one."""
    from benchmark.metrics.catalog import METRICS, OWN

    if metrics is not None and not metrics.strip(" ,"):
        raise UserError(f"--metrics {metrics!r} names none; give beginnings of names, such as ead,vendi")
    wanted = tuple(part.strip().casefold() for part in (metrics or "").split(",") if part.strip()) or ("",)
    for part in wanted:
        if not any(name.startswith(part) for name in [*METRICS, OWN]) and not part.startswith(OWN):
            raise UserError(f"--metrics: no metric begins with {part!r}; `gendiv list metrics` names them")
    return wanted


def print_texts(path: Path, threads: int, wanted: tuple[str, ...], nli: str | None = None) -> None:
    """Score a file of prompts and outputs, and print a line a metric; what ``nli`` says is kept beside the file."""
    from benchmark.metrics.catalog import metric
    from benchmark.metrics.encoder import DEFAULT as DEFAULT_ENCODER
    from benchmark.metrics.own import own_metrics
    from benchmark.nli_scoring import load_classifier
    from benchmark.progress import Bars
    from benchmark.texts import read_texts, score_texts

    with Bars() as bars:
        rows = read_texts(path)
        asked = load_classifier(nli, Path(f"{path}.nli"), progress=bars.counter("comparing")) if nli else None
        measured = score_texts(rows, bars.counter("embedding"), threads=threads, classifier=asked)
    own = {found.metric: found.about for found in own_metrics()}
    k = len(rows[0].outputs)
    shown = [found for found in measured if found.metric.startswith(wanted)]
    if not shown:
        raise UserError(f"--metrics {','.join(wanted)}: texts alone give none of these, or too few of them")
    print_table(
        f"{path.name}: {len(rows)} prompt{'s' if len(rows) > 1 else ''} × {k} output{'s' if k > 1 else ''}, "
        "95 % intervals over prompts",
        ("metric", "value", "interval", "direction", "meaning"),
        [
            (
                found.metric,
                f"{found.value:z.3f}",
                ("–" if found.interval is None else f"[{found.interval.low:z.3f}, {found.interval.high:z.3f}]")
                + (f" (n = {found.n} of {len(rows)})" if found.n < len(rows) and found.per_prompt else ""),
                about.direction,
                about.meaning,
            )
            for found in shown
            for about in (own.get(found.metric) or metric(found.metric),)
        ],
    )
    print(f"words are counted by the tokeniser `words` (ead_rlfh: `rlfh`); embeddings are of {DEFAULT_ENCODER}")
    if len(rows) == 1:
        print("note: one prompt has no interval; give several, a line each")
    if len(rows) == 2:
        print("note: two prompts are too few for diversity across inputs; give three or more, a line each")
    if k == 1:
        print("note: one output a prompt, so there is no diversity per input; give several for it")
    if untold := sum(not row.prompt.strip() for row in rows):
        print(
            f"note: {untold} of {len(rows)} lines have no prompt; an output there that repeats it, or is in another "
            "script, counts as valid"
        )


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A scored run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another, of the same suite.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric, such as win_rate; may be given several times.")
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Only this temperature; may be given several times.")
    ] = None,
) -> None:
    """Compare two scored runs: paired differences of everything, second minus first, Holm over all of them."""
    from benchmark import compare as comparing
    from benchmark.runs import Run

    one, other = Run(first).scores(), Run(second).scores()
    if one == other:
        raise UserError(f"both are the same run, {one.name!r}; give two", where=second)
    header, rows = comparing.table(
        comparing.compare(one, other, metrics=metric, temperatures=temperature), (one.name, other.name)
    )
    print_table(f"{other.name} minus {one.name} on {one.identity.suite}", header, rows)
    for note in [*comparing.left_out(one, other), *comparing.on_the_plane(one, other)]:
        print(f"note: {note}")


def tournament(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Two runs or more of the same prompts.")],
    judge: JudgeName = None,
    model: JudgeModel = None,
    orders: OrdersOption = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = 32,
    max_cost: MaxCost = None,
    allow_missing: AllowMissing = False,
    device: Device = None,
    data_root: DataRoot = None,
) -> None:
    """Judge every run against every other, and print Bradley-Terry strengths with rank sets.

    Stop it at any time: the same command asks the rest, and a further run is compared with those that are there alone.
    """
    from benchmark import pipeline
    from benchmark.judging.runs import JudgeOptions
    from benchmark.judging.tournament import tournament as play
    from benchmark.progress import Bars
    from benchmark.runs import Run

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
    with Bars() as bars:
        tables = play([Run(run) for run in runs], bars.stage, options, allow_missing=allow_missing)
    for found in tables:
        print_table(
            f"{found.task}: {len(found.players)} models against each other by {found.judge}, {found.prompts} prompts",
            ("rank", "model", "strength", "95 % interval", "games won", "games"),
            [
                (
                    str(player.rank or "–"),
                    player.name,
                    f"{player.strength:+.3f}",
                    f"{player.name} is 0"
                    if player.name == found.anchor
                    else "too few won or lost"
                    if player.interval is None
                    else f"[{player.interval.low:+.3f}, {player.interval.high:+.3f}]",
                    f"{player.win_rate:.1%}",
                    f"{player.games:,}",
                )
                for player in found.players
            ],
        )


def judge_accuracy(
    inside: Annotated[
        Path, typer.Option("--id", metavar="PAIRS", help="Labelled pairs, JSONL, like those the judge was made on.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the verdicts; the same command goes on in it.")],
    judge: Annotated[str, typer.Option("--judge", metavar="NAME", help="`gendiv list judges`, or a .yaml file.")],
    outside: Annotated[
        list[Path] | None,
        typer.Option("--ood", metavar="PAIRS", help="Labelled pairs of another kind; may be given several times."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The task as which a chat judge is asked; default: the first that it knows.")
    ] = None,
    model: JudgeModel = None,
    orders: OrdersOption = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = 32,
    max_cost: MaxCost = None,
    allow_missing: AllowMissing = False,
    device: Device = None,
) -> None:
    """Measure a judge on pairs that people have labelled: accuracy, agreement beyond chance, and what it loses OOD.

    Rows hold prompt, chosen and rejected, or are those of hh-rlhf, PandaLM, LLMBar or SummEval.
    """
    from benchmark.judging.accuracy import generalisation, table
    from benchmark.judging.measure import measure
    from benchmark.judging.runs import JudgeOptions
    from benchmark.progress import Bars

    options = JudgeOptions(
        judge=judge,
        model=model,
        orders=orders,
        base_url=base_url,
        concurrency=concurrency,
        max_cost=max_cost,
        device=device,
    )
    files = [inside, *(outside or [])]
    with Bars() as bars:
        found = measure(files, out, options, bars.stage, task=task, allow_missing=allow_missing)
    print_table("agreement with people, 95 % intervals", *table(found))
    for other in found[1:]:
        drop = generalisation(found[0], other)
        ends = "" if drop.interval is None else f" [{drop.interval.low:+.3f}, {drop.interval.high:+.3f}]"
        print(f"{found[0].name} (ID) minus {other.name} (OOD): {drop.estimate:+.3f}{ends}")


def print_plans(plans: list[tuple[str, Plan]]) -> None:
    """Print what judging would ask and cost, task by task and in all."""
    header = ("task", "pairs to judge", "identical texts", "calls", "≈ prompt tokens", "≤ reply tokens", "≈ USD")
    rows = [[task, *(f"{count:,}" for count in plan[:5]), _dollars(plan.cost)] for task, plan in plans]
    if len(plans) > 1:
        whole = [plan for _, plan in plans]
        numbers = [
            sum(plan.pairs for plan in whole),
            sum(plan.ties for plan in whole),
            sum(plan.calls for plan in whole),
            sum(plan.prompt_tokens for plan in whole),
            sum(plan.completion_tokens for plan in whole),
        ]
        costs = [plan.cost for plan in whole if plan.cost is not None]
        total = _dollars(sum(costs) if len(costs) == len(whole) else None)
        rows.append(["in all", *(f"{number:,}" for number in numbers), total])
    print_table("nothing was asked; tokens are estimated from the texts' length", header, rows)


def _dollars(cost: float | None) -> str:
    return "no price in its file" if cost is None else f"{cost:.4f}"


def print_head_to_head(result: HeadToHead) -> None:
    """Print win rates, plain and length-controlled, with the lengths beside them."""
    cells: dict[tuple[str, float], dict[str, Estimate]] = {}
    for estimate in result.estimates:
        cells.setdefault((estimate.task, estimate.temperature), {})[estimate.metric] = estimate
    rows = []
    for (task, temperature), found in cells.items():
        mine, theirs = result.lengths[task][str(temperature)]
        shown = [found.get(metric) for metric in ("win_rate", "win_rate_lc")]
        rates = ["–" if e is None else f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in shown]
        rows.append([task, f"{temperature:g}", *rates, f"{mine:.0f}", f"{theirs:.0f}", str(found["win_rate"].n)])
    print_table(
        f"{result.name} against {result.against}: win rate, 95 % intervals",
        ["task", "T", "win rate", "length-controlled", "characters", "the other's", "prompts"],
        rows,
    )


def print_reports(reports: list[JudgeReport]) -> None:
    """Print what is to be known of a judge on each task."""
    header = ["task", "judged", "ties", "failed", "position bias", "orders agree", "calls", "tokens", "USD"]
    rows = []
    for found in reports:
        bias = "–" if found.position_bias is None else f"{found.position_bias:+.3f}"
        if found.position_bias_interval:
            bias += " [{:+.3f}, {:+.3f}]".format(*found.position_bias_interval)
        rows.append(
            [
                found.task,
                f"{found.judged} of {found.pairs}",
                "–" if found.tie_share is None else f"{found.tie_share:.1%}",
                str(found.failed),
                bias,
                "–" if found.consistency is None else f"{found.consistency:.1%}",
                f"{found.calls:,}",
                f"{found.prompt_tokens + found.completion_tokens:,}" + (" and more" if found.uncounted else ""),
                "–" if found.cost is None else f"{found.cost:.4f}",
            ]
        )
    print_table(f"judge {reports[0].judge}", header, rows)
    for found in reports:
        if found.uncounted:
            print(f"{found.task}: {found.uncounted} replies came without token counts; their cost is not known")
        for reason, count in found.failures.items():
            print(f"{found.task}: {count} failed: {reason}")
