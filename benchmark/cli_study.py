"""``gendiv study``: questions that the paper left open, each answered by one command."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmark.errors import UserError

if TYPE_CHECKING:
    from reference_models.studies.setting import Setting

app = typer.Typer(
    help="Studies of training on the pocket world or the small models of real text: trained, measured, reported.",
    no_args_is_help=True,
)

World = Annotated[
    Literal["pocket", "real-text"], typer.Option("--world", help="The generated world, or the small models of text.")
]
Ladders = Annotated[
    Path,
    typer.Option(
        "--ladders", metavar="DIR", help="What reference_models.study or reference_models.real_text_ladder made."
    ),
]
Seeds = Annotated[str, typer.Option("--seeds", help='Training seeds, such as "11,12,13,14,15".')]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of trainings and runs.")]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of the report.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes side by side, one CPU thread each.")]
SuiteName = Annotated[str | None, typer.Option("--suite", help="What is evaluated; default: the world's own.")]
JudgeName = Annotated[
    str | None, typer.Option("--judge", help="By whom; on real text the name that the ladder's judge goes by.")
]
Only = Annotated[
    Literal["run", "report"] | None,
    typer.Option("--only", help="Only train, sample and judge; or only score and report what is there."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Few prompts and steps: it shows that it works, and no more.")]


@app.command()
def kl(
    world: World = "pocket",
    ladders: Ladders = Path("runs/study"),
    seeds: Seeds = "11,12,13,14,15",
    out: Out = Path("runs/studies"),
    results: Results = Path("reference_models/results"),
    suite: SuiteName = None,
    judge: JudgeName = None,
    workers: Workers = 2,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """PPO's KL penalty: estimators k1, k2 and k3 over their coefficients, compared at equal KL."""
    _study("kl", **locals())


@app.command()
def temperature(
    world: World = "pocket",
    ladders: Ladders = Path("runs/study"),
    seeds: Seeds = "11,12,13,14,15",
    out: Out = Path("runs/studies"),
    results: Results = Path("reference_models/results"),
    suite: SuiteName = None,
    judge: JudgeName = None,
    workers: Workers = 2,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """PPO beside SFT's own temperature curve: at equal diversity, win rate and token entropy."""
    _study("temperature", **locals())


@app.command("best-of-n")
def best_of_n(
    world: World = "pocket",
    ladders: Ladders = Path("runs/study"),
    seeds: Seeds = "11,12,13,14,15",
    out: Out = Path("runs/studies"),
    results: Results = Path("reference_models/results"),
    suite: SuiteName = None,
    judge: JudgeName = None,
    workers: Workers = 2,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """Best-of-n for n = 1 to 64 from one pool: reward, win rate, diversity and distance."""
    _study("best-of-n", **locals())


@app.command()
def size(
    world: World = "pocket",
    ladders: Ladders = Path("runs/study"),
    seeds: Seeds = "11,12,13,14,15",
    out: Out = Path("runs/studies"),
    results: Results = Path("reference_models/results"),
    suite: SuiteName = None,
    judge: JudgeName = None,
    workers: Workers = 2,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """PPO at three sizes of the model, each with a reward model of its own; pocket alone."""
    _study("size", **locals())


@app.command()
def seeds(
    world: World = "pocket",
    ladders: Ladders = Path("runs/study"),
    seeds: Seeds = "11,12,13,14,15",
    out: Out = Path("runs/studies"),
    results: Results = Path("reference_models/results"),
    suite: SuiteName = None,
    judge: JudgeName = None,
    workers: Workers = 2,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """Every method beside SFT, over training seeds."""
    _study("seeds", **locals())


def _study(
    name: str,
    *,
    world: Any,
    ladders: Path,
    seeds: str,
    suite: str | None,
    judge: str | None,
    only: str | None,
    **given: Any,
) -> None:
    from benchmark.progress import Bars
    from reference_models.studies.setting import Setting
    from reference_models.studies.world import load_world

    module = importlib.import_module(f"reference_models.studies.{name.replace('-', '_')}")
    with Bars() as bars:
        setting = Setting(
            load_world(world, ladders, suite, judge), _seeds(seeds), command=_command(), progress=bars.job, **given
        )
        if only != "report":
            module.run(setting)
        path = module.report(setting) if only != "run" else None
    _tell(setting, name, path)


def _tell(setting: Setting, name: str, path: Path | None) -> None:
    if path is None:
        print(f"made: {setting.folder(name)}; `--only report` scores and reports it")
        return
    print(f"report: {path}")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds {text!r}: give whole numbers with commas between, such as 11,12,13") from None
    if min(found) < 1 or len(set(found)) < len(found):
        raise UserError(f"--seeds {text!r}: seeds are different numbers from 1 on")
    return found


def _command() -> str:
    return shlex.join(["gendiv", *sys.argv[1:]])
