"""The ``gendiv`` command. The only file that sees every package, and it imports them when a command needs them."""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmark import cli_judging, cli_leaderboard, cli_plan, cli_rejudge, cli_reproduce, cli_study, cli_submission
from benchmark.cli_arguments import (
    Backend,
    BatchSize,
    Chat,
    DataRoot,
    Device,
    Dtype,
    K,
    Limit,
    MaxPromptTokens,
    Method,
    Model,
    RowName,
    Seed,
    ShardOption,
    SuiteNames,
    Temperatures,
    Threads,
    TrainedOn,
    Truncation,
)
from benchmark.errors import UserError
from benchmark.terminal import print_scores, print_table

if TYPE_CHECKING:
    from benchmark.pipeline import SampleOptions
    from benchmark.progress import Bars

INTERRUPTED = 130
MAX_TEMPERATURE = 100
"""Far above all that is of use: a distribution is all but uniform there."""
_USAGE: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""Whatever is wrong with a command line; typer has no public name for it."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
importing = typer.Typer(help="Turn outputs made elsewhere into runs.", no_args_is_help=True)
app.add_typer(importing, name="import")
app.add_typer(cli_reproduce.app, name="reproduce")
app.add_typer(cli_study.app, name="study")
data = typer.Typer(
    help="Local data: see what is there, take it over, make the JSONL that trainers read.", no_args_is_help=True
)
app.add_typer(data, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from benchmark import __version__

        print(f"gendiv {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def top(
    # By a callback of the option: the body of this function is not reached where no command is named.
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Place language models on the generalisation–diversity plane."""


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder for data, models, runs and the board.")] = None,
    seed: Annotated[int, typer.Option(min=1, help="Training seed.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side, one CPU thread each.")] = 2,
    full: Annotated[bool, typer.Option("--full", help="The recipes' own steps and all prompts: five minutes.")] = False,
) -> None:
    """Train the pocket ladder, sample, judge and score it, and build its board. Resumes where it was stopped."""
    from reference_models.findings import compare, sentences, table
    from reference_models.ladder import DEMO, FULL, climb, judge_warning

    _stay_offline()
    budget = FULL if full else DEMO
    folder = out or Path("runs") / ("demo-full" if full else "demo")
    with _progress() as bars:
        runs = climb(folder, seed=seed, workers=workers, budget=budget, progress=bars.job)
    if weak := judge_warning(folder):
        print(f"warning: {weak}", file=sys.stderr)
    scores = [run.scores() for run in runs]
    cli_leaderboard.build_board(scores, folder / "leaderboard", cli_leaderboard.examples_of(runs))
    findings = compare(scores)
    print_table(
        "out of distribution at T = 1: each model minus sft, 95 % intervals paired over prompts", *table(findings)
    )
    for line in sentences([finding for finding in findings if finding.model == "ppo"]):
        print(f"finding: {line}")
    print(budget)


@app.command()
def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="`gendiv list methods` names them.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A YAML file, or one that comes with GenDiv: pocket/ppo.yaml, tldr-llama-7b.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE…", help="Fields of the method's arguments; they win over the recipe."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data, models, memory and time, and train nothing.")
    ] = False,
    more: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]…", hidden=True)] = None,
) -> None:
    """Train a model, or make one of others. Kill it at any time: the same command ends with the same weights."""
    from reference_models.arguments import parse_overrides, read_recipe
    from reference_models.methods import METHODS, load_method

    module = load_method(method)
    given = parse_overrides([*(overrides or []), *(more or [])])
    if dry_run:
        cli_plan.dry_run(method, recipe, given)
        return
    print(f"made: {module.train(read_recipe(METHODS[method].load(), recipe, given), view=True)}")


@app.command()
def sample(
    model: Model,
    suite: SuiteNames,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")],
    k: K = None,
    temperatures: Temperatures = None,
    limit: Limit = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = None,
    chat: Chat = None,
    threads: Threads = 1,
    name: RowName = None,
    method: Method = None,
    trained_on: TrainedOn = None,
    data_root: DataRoot = None,
    backend: Backend = "auto",
    max_prompt_tokens: MaxPromptTokens = None,
    truncation: Truncation = None,
    shard: ShardOption = None,
) -> None:
    """Draw k outputs a prompt and temperature. Kill it at any time: the same command finishes the missing ones."""
    from benchmark import pipeline
    from benchmark.sampling.grid import parse_shard

    options = _options(
        **{"k": k, "limit": limit, "seed": seed, "batch_size": batch_size, "device": device, "dtype": dtype},
        **{"chat": chat, "threads": threads, "data_root": data_root, "backend": backend, "truncation": truncation},
        **{"max_prompt_tokens": max_prompt_tokens, "shard": parse_shard(shard) if shard else None},
        temperatures=temperatures,
        name=name,
        method=method,
        trained_on=trained_on,
    )
    with _progress() as bars:
        runs = pipeline.sample(model, suite, out, options, bars.stage)
    for run in runs:
        _tell(f"sampled: {run.folder}")


@app.command()
def merge(
    shards: Annotated[
        list[Path], typer.Argument(metavar="SHARD…", help="Run folders of all shards, or folders of them.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")],
) -> None:
    """Merge the shards of one run: the files are those of a run on one machine."""
    from benchmark.sampling.shards import merge as merge_shards

    print(f"merged: {merge_shards(shards, out).folder}")


for command in (
    cli_judging.judge,
    cli_judging.gate,
    cli_judging.score,
    cli_judging.compare,
    cli_judging.tournament,
    cli_submission.submit,
    cli_submission.validate,
    cli_rejudge.rejudge,
    cli_rejudge.fetch_logs,
    cli_leaderboard.leaderboard,
    cli_judging.judge_accuracy,
):
    app.command()(command)


@app.command("run")
def run_all(
    model: Model,
    suite: SuiteNames,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder; default: runs/SUITE/NAME.")] = None,
    k: K = None,
    temperatures: Temperatures = None,
    limit: Limit = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    device: Device = None,
    dtype: Dtype = None,
    chat: Chat = None,
    threads: Threads = 1,
    name: RowName = None,
    method: Method = None,
    trained_on: TrainedOn = None,
    data_root: DataRoot = None,
    backend: Backend = "auto",
    max_prompt_tokens: MaxPromptTokens = None,
    truncation: Truncation = None,
) -> None:
    """Sample, judge and score a model."""
    from benchmark import pipeline
    from benchmark.sampling.processes import launched
    from benchmark.suites import load_suite

    options = _options(
        **{"k": k, "limit": limit, "seed": seed, "batch_size": batch_size, "device": device, "dtype": dtype},
        **{"chat": chat, "threads": threads, "data_root": data_root, "backend": backend, "truncation": truncation},
        **{"max_prompt_tokens": max_prompt_tokens},
        temperatures=temperatures,
        name=name,
        method=method,
        trained_on=trained_on,
    )
    own_name = _folder_name(name or model)
    folder = out or (
        Path("runs") / suite[0].partition("@")[0] / own_name if len(suite) == 1 else Path("runs") / own_name
    )
    with _progress() as bars:
        runs = pipeline.sample(model, suite, folder, options, bars.stage)
        for run in runs if launched().is_main else ():
            if load_suite(run.manifest().identity.suite).judge is None:
                print(f"note: not judged; `gendiv judge {run.folder} --judge NAME` does it", file=sys.stderr)
            else:
                pipeline.judge(run, bars.stage)
            print_scores(pipeline.score(run, bars.stage, threads))
            print(f"run: {run.folder}")


@importing.command("alpaca-eval")
def import_alpaca_eval(
    results: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="AlpacaEval's results folder.")],
    out: Annotated[Path, typer.Option(metavar="RUNS_DIR", help="Folder for the runs.")],
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be given several times.")] = None,
    threads: Threads = 1,
) -> None:
    """Read AlpacaEval's outputs and verdicts into runs, and score them."""
    from functools import partial

    from benchmark import pipeline
    from benchmark.importers.alpaca_eval import import_results

    with _progress() as bars:
        runs = import_results(results, out, models=model, progress=bars.counter("importing"))
        for run in runs:
            if not run.scores_path.exists():
                pipeline.score(run, partial(bars.job, run.folder.name), threads)
    for reason in runs.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    for run in runs:
        print(f"imported: {run.folder}")


@importing.command("alpaca-eval-preferences")
def import_alpaca_eval_preferences(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="AlpacaEval's results folder, or preferences_v1.csv.gz or _v2.csv.gz."),
    ],
    out: Annotated[Path, typer.Option(metavar="RUNS_DIR", help="Folder for the runs.")],
    commit: Annotated[str, typer.Option(metavar="SHA", help="Commit of tatsu-lab/alpaca_eval that it was taken from.")],
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be given several times.")] = None,
    submissions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pack them in there as well, as alpaca-eval/<model>.")
    ] = None,
) -> None:
    """Read AlpacaEval's verdicts and lengths into runs without any text, and score them."""
    from functools import partial

    from benchmark import pipeline
    from benchmark.importers.alpaca_eval_preferences import import_preferences, submit_preferences

    with _progress() as bars:
        runs = import_preferences(source, out, commit=commit, models=model, progress=bars.counter("importing"))
        for run in runs:
            if not run.scores_path.exists():
                pipeline.score(run, partial(bars.job, run.folder.name))
    for reason in runs.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    for run in runs:
        print(f"imported: {run.folder}")
    for folder in submit_preferences(runs, submissions.resolve()) if submissions else ():
        print(f"packed: {folder}")


@data.command("check")
def data_check(data_root: DataRoot = None) -> None:
    """Say for each task on real data what is found, missing, another revision, or wrong."""
    from benchmark.data.check import USABLE, check

    findings = check(data_root)
    for found in findings:
        counted = f": {found.prompts} prompts, {found.references} with a reference" if found.status in USABLE else ""
        print(f"{found.task}: {found.status}{counted}")
        print(f"    {found.detail}")
        if found.training:
            print("    training: " + ", ".join(f"{view} {count}" for view, count in found.training.items()))
    if data_root is None:
        print("no data root: every task will ask the hub; give --data-root DIR or set GENDIV_DATA")
    elif not any(found.status in USABLE for found in findings):
        raise UserError("no task has data that can be used", where=data_root)


@data.command("adopt")
def data_adopt(
    shared: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Copies of public data; benchmark/data/adopt.py lists the files.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The data root to make.")],
) -> None:
    """Make a data root of stand-ins for the hub's data sets; runs on it name them and never mix with hub runs."""
    from benchmark.data.adopt import adopt

    for line in adopt(shared, out):
        print(line)
    print(f"adopted: {out}; give it as --data-root, or set GENDIV_DATA")


@data.command("export")
def data_export(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task; `gendiv list tasks` names them.")],
    out: Annotated[Path, typer.Option(metavar="JSONL", help="The file; one that is there is replaced.")],
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Which documents.")] = "train",
    kind: Annotated[
        Literal["pairs", "prompts", "preferences"],
        typer.Option(help="Prompt and completion, prompt alone, or prompt, chosen and rejected."),
    ] = "pairs",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N documents; default: all, or 20,000 of a generator's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=1, help="Seed of a generator's documents; default: 1.")] = None,
    subset: Annotated[float | None, typer.Option(help="Share of the training documents, drawn at random.")] = None,
    subset_draw: Annotated[
        Literal["without_replacement", "published"],
        typer.Option(help="How; published: 0.1 or 0.5, with replacement, as in the code of Kirk et al."),
    ] = "without_replacement",
    data_root: DataRoot = None,
) -> None:
    """Write a task's training documents as JSONL. Same inputs, same bytes; never an evaluated prompt unasked."""
    from benchmark import export, pipeline

    pipeline.use_data(data_root)
    exported = export.training_data(
        task, kind=kind, split=split, limit=limit, seed=seed, subset=subset, subset_draw=subset_draw
    )
    export.write(out, exported.rows)
    if exported.evaluated:
        print(f"warning: the {split} prompts of {task} are evaluated and must not be trained on", file=sys.stderr)
    if exported.data:
        print(f"data: {exported.data}", file=sys.stderr)
    if exported.not_compared:
        names = ", ".join(exported.not_compared)
        print(f"warning: not compared with the evaluated prompts of {names}, whose data is not there", file=sys.stderr)
    for reason, count in exported.dropped.items():
        print(f"dropped: {count} {reason}", file=sys.stderr)
    print(f"exported: {len(exported.rows)} rows to {out}")


@app.command("list")
def list_(
    what: Annotated[Literal["suites", "tasks", "metrics", "judges", "methods"], typer.Argument(help="What to list.")],
) -> None:
    """List what there is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    header, rows = _listing(what)
    for column in header:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=max(Console().width, 160)).print(table)


def _listing(what: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    from benchmark.suites import load_suites

    if what == "suites":
        suites = load_suites().values()
        return ("suite", "title", "description"), [(s.id, s.title, s.description) for s in suites]
    if what == "tasks":
        entries = [(suite, entry) for suite in load_suites().values() for entry in suite.tasks]
        return ("task", "suite", "role", "title"), [(e.task, s.id, e.role, e.title) for s, e in entries]
    if what == "metrics":
        from benchmark.metrics.catalog import METRICS
        from benchmark.metrics.own import own_metrics

        metrics = [*METRICS.items(), *((own.metric, own.about) for own in own_metrics())]
        return ("metric", "meaning", "direction", "range", "floor", "ceiling"), [
            (name, metric.meaning, metric.direction, metric.range, metric.floor or "–", metric.ceiling or "–")
            for name, metric in metrics
        ]
    if what == "methods":
        from reference_models.methods import METHODS

        return ("method", "meaning"), [(name, method.meaning) for name, method in METHODS.items()]
    from benchmark.judging.config import load_judge_configs, own_judges

    configs = [*load_judge_configs().values(), *own_judges().values()]
    return ("judge", "kind", "judges", "description"), [
        (config.judge, config.kind, config.workload, config.description) for config in configs
    ]


def _options(
    *,
    temperatures: str | None,
    name: str | None,
    method: str | None,
    trained_on: list[str] | None,
    **others: Any,
) -> SampleOptions:
    from benchmark.pipeline import SampleOptions
    from benchmark.records import ModelCard

    try:
        grid = tuple(float(part) for part in temperatures.split(",")) if temperatures else None
    except ValueError:
        raise UserError(f"--temperatures {temperatures!r}: give numbers with commas between, such as 0.3,1.0") from None
    if grid and not all(0 <= temperature <= MAX_TEMPERATURE for temperature in grid):
        raise UserError(f"--temperatures {temperatures!r}: temperatures are from 0 to {MAX_TEMPERATURE}")
    if grid and len(set(grid)) < len(grid):
        raise UserError(f"--temperatures {temperatures!r}: one is there twice; give each once")
    for option, texts in (("--name", [name]), ("--method", [method]), ("--trained-on", trained_on or [])):
        for text in texts:
            if text is not None and not (text.isprintable() and 0 < len(text.strip()) <= 200):
                raise UserError(f"{option} needs 1 to 200 printable characters")
    card = ModelCard(method=method, trained_on=tuple(trained_on) if trained_on else None)
    return SampleOptions(temperatures=grid, name=name, card=card, **others)


def _tell(line: str) -> None:
    """Print a line once, of however many processes a launcher has started."""
    from benchmark.sampling.processes import launched

    if launched().is_main:
        print(line)


def _folder_name(model: str) -> str:
    folder = Path(model)
    name = folder.resolve().name if folder.is_dir() else model
    return "".join(letter if letter.isalnum() or letter in "-._" else "__" for letter in name)


def _progress() -> Bars:
    from benchmark.progress import Bars

    return Bars()


def _stay_offline() -> None:
    """Nothing in the demo is fetched; say so to the libraries that would ask."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")


def main() -> None:
    """Run the command; a user's mistake is one line and exit status 2, a bug keeps its traceback."""
    try:
        _refuse_empty(sys.argv[1:])
        status = app(standalone_mode=False)
    except UserError as error:
        if os.environ.get("GENDIV_TRACEBACK"):
            raise
        print(f"gendiv: {error}", file=sys.stderr)
        sys.exit(2)
    except _USAGE as error:
        # Nothing is said where there was no argument at all: the help is printed by then.
        if text := " ".join(error.format_message().split()):
            # Of NaN, too, which is refused as if it were too small.
            text = re.sub("Input should be (?=greater|less)", "must be a number ", text.replace("Value error, ", ""))
            see = f"; see `{error.ctx.command_path} --help`" if error.ctx else ""
            print(f"gendiv: {text.removesuffix('.')}{see}", file=sys.stderr)
        sys.exit(2)
    if status == INTERRUPTED:
        print("gendiv: interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(status)


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an option with an empty value, which would count as left out."""
    for before, text in itertools.pairwise(["", *arguments]):
        option, _, value = text.partition("=") if text.startswith("--") and "=" in text else (before, "", text)
        if option.startswith("-") and not value.strip():
            raise UserError(f"{option} has an empty value; give one, or leave the option out")


if __name__ == "__main__":
    main()
