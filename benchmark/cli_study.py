"""``gendiv study``: questions that the paper left open, each answered by one command."""

from __future__ import annotations

import importlib
import inspect
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

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


def _offered(
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
    """What a study may be told; its signature is that of every command."""


def _offer(name: str, told: str) -> None:
    """Add a study's command."""
    hints = get_type_hints(_offered, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(_offered).parameters.values()
    ]

    def command(**given: Any) -> None:
        for option in _unused(name, given["world"], quick=given["quick"]):
            if given[option] != inspect.signature(_offered).parameters[option].default:
                raise UserError(f"--{option}: study {name} of {given['world']} has no use for it; leave it out")
        _study(name, **given)

    command.__doc__ = told
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name)(command)


_offer("kl", "PPO's KL penalty: estimators k1, k2 and k3 over their coefficients, at equal KL and at equal win rate.")
_offer("temperature", "PPO beside SFT's own temperature curve: at equal diversity, win rate and token entropy.")
_offer("best-of-n", "Best-of-n for n = 1 to 64 from one pool: reward, win rate, diversity and distance.")
_offer(
    "size",
    "PPO beside SFT at several model sizes, each with a chain of its own under --out; of pocket it needs no --ladders.",
)
_offer(
    "seeds",
    "Every method beside SFT, over training seeds. Of the pocket world reference_models/results/pocket.md says it.",
)


def _unused(name: str, world: str, *, quick: bool) -> list[str]:
    """Tell the options that a study would ignore."""
    if name == "size" and world == "pocket":
        return ["ladders"]  # every size has one of its own
    if name == "seeds":  # reads the ladders, which have runs and judges of their own
        return [*(["suite", "judge"] if world == "pocket" else []), *([] if quick else ["out"])]
    return []


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
