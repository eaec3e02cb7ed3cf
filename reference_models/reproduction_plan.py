"""What it would take to fill the paper's empty cells: the commands in order, GPU hours, and what the judge costs.

Nothing is begun and nothing asked. Hours are operations (`reference_models.flops`) over measured speed
(`reference_models.plan`); tokens of data that is not here are assumed, and the assumptions are printed.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.suites import Suite, load_suite
from reference_models import plan
from reference_models.architectures import PaperModel, paper_models
from reference_models.judge_cost import judge_cost, priced_judge
from reference_models.memory import Counts, Lengths, count, memory
from reference_models.paper_experiments import EXPERIMENTS, Experiment

MEMORY = {"H200": 141e9, "H100": 80e9, "A100": 80e9}
"""Part of a GPU's name → its bytes, as its maker says."""
ROOM = 1.1
"""The estimated memory is taken so many times."""
LAYERS = {"opt": "OPTDecoderLayer", "llama": "LlamaDecoderLayer"}
"""Model type → the class of its layers, which FSDP wraps."""
PROCESSES = (1, 2, 4, 8)
BEST_OF = "best-of-"


@dataclass(frozen=True)
class Cell:
    """A cell of one of the paper's tables that holds no value of ours yet."""

    table: str
    model: str
    method: str
    column: str
    """Its title."""
    metric: str
    temperature: float
    measured_by: str | None = None
    """What would measure it where no row of a board can hold it."""


@dataclass(frozen=True)
class WantedRun:
    """A run of a suite whose row would fill cells."""

    model: str
    """Base model, by its name on the hub."""
    method: str
    """``sft``, ``ppo`` or ``best-of-N``."""
    suite: str
    cells: tuple[Cell, ...]

    @property
    def n(self) -> int:
        """Outputs of which the best is kept; 1 where none is chosen."""
        return int(self.method.removeprefix(BEST_OF)) if self.method.startswith(BEST_OF) else 1

    @property
    def is_judged(self) -> bool:
        """Whether a cell holds a win rate against the references."""
        return any(cell.metric.startswith("win_rate") for cell in self.cells)


@dataclass(frozen=True)
class Wanted:
    """What a plan is made for."""

    runs: tuple[WantedRun, ...]
    others: tuple[Cell, ...] = ()
    """Cells that no row of a board can hold: told, not planned."""


@dataclass(frozen=True)
class Step:
    """One command."""

    stage: str
    command: tuple[str, ...]
    hours: plan.Hours = plan.NONE
    dollars: float = 0.0
    gpus: int = 1
    run: str = ""
    """The method of the run that it is of; empty where it makes a checkpoint or data."""
    made: str = ""
    """A pattern of what is there once it is done, for a command that refuses to write over it; else empty."""


@dataclass(frozen=True)
class Section:
    """Everything for one base model on one suite, in order."""

    title: str
    model: PaperModel
    suite: str
    steps: tuple[Step, ...]
    runs: tuple[WantedRun, ...]

    def needed_by(self, run: WantedRun) -> list[Step]:
        """Steps that a run takes, those before it included."""
        stages = {"sft"} if run.method == "sft" else {"sft", "reward-model", run.method}
        return [step for step in self.steps if step.run == run.method or (not step.run and step.stage in stages)]

    @property
    def hours(self) -> plan.Hours:
        """GPU hours of all steps."""
        return sum((step.hours for step in self.steps), plan.NONE)

    @property
    def dollars(self) -> float:
        """What the judge costs."""
        return sum(step.dollars for step in self.steps)


@dataclass(frozen=True)
class Plan:
    """The whole."""

    sections: tuple[Section, ...]
    exports: tuple[Step, ...]
    """Training data, once for all models."""
    others: tuple[Cell, ...]
    gpu: str
    notes: tuple[str, ...]
    price: float | None = None
    """Dollars for a GPU hour; None = not given."""

    @property
    def hours(self) -> plan.Hours:
        """GPU hours in all."""
        return sum((section.hours for section in self.sections), plan.NONE)

    @property
    def dollars(self) -> float:
        """What the judge costs in all."""
        return sum(section.dollars for section in self.sections)


@dataclass
class _Speeds:
    """Speeds on one GPU, and in what words they are to be told."""

    measured: Sequence[plan.Measured]
    gpu: str
    told: dict[str, str] = field(default_factory=dict)
    uncompiled: bool = False
    """Whether a training was counted that compiles nothing."""

    def hours(self, flops: float, method: str, parameters: float, *, compiled: bool = True) -> plan.Hours:
        slower = plan.slowdown(method, compiled=compiled)
        self.uncompiled |= slower > 1
        at = plan.speed(self.measured, self.gpu, method, parameters)
        self.told[method] = f"{method}: {at.of}, {at.nearest / 1e12:.0f} TFLOP/s ({at.slowest / 1e12:.0f}–"
        self.told[method] += f"{at.fastest / 1e12:.0f} over the models measured)"
        return plan.hours(slower * flops, at)


def make_plan(
    wanted: Wanted,
    measured: Sequence[plan.Measured],
    *,
    gpu: str | None = None,
    price: float | None = None,
    judges: Sequence[str] = (),
) -> Plan:
    """Lay out what the wanted runs need.

    Parameters
    ----------
    wanted
        The runs that would fill the empty cells, and the cells that none would.
    measured
        See `plan.read_throughput`.
    gpu
        A part of the GPU's name; None = the first that was measured.
    price
        Dollars for a GPU hour.
    judges
        Names of chat judges; a suite is judged by the first that knows its tasks, else by its published one.

    Raises
    ------
    UserError
        If the GPU or a method was not measured, or a judge is none that costs something.
    """
    speeds = _Speeds(measured, plan.choose_gpu(measured, gpu))
    sections, exports = [], dict[tuple[str, ...], Step]()
    groups: dict[tuple[str, str], list[WantedRun]] = {}
    for run in wanted.runs:
        groups.setdefault((run.suite, run.model), []).append(run)
    known = paper_models()
    order = sorted(groups, key=lambda key: (list(EXPERIMENTS).index(key[0]), known[key[1]].parameters))
    suites = {name: _judged(name, [run for run in wanted.runs if run.suite == name], judges) for name, _ in order}
    for suite, model in order:
        section = _section(suites[suite], known[model], groups[suite, model], speeds)
        sections.append(section)
        for step in _exports(EXPERIMENTS[suite], groups[suite, model]):
            exports[step.command] = step
    return Plan(
        tuple(sections), tuple(exports.values()), wanted.others, speeds.gpu, tuple(_notes(sections, speeds)), price
    )


@dataclass(frozen=True)
class _Judged:
    """A suite, and what judging a run of it costs."""

    suite: Suite
    judge: str
    """Empty where nothing is judged."""
    dollars: float


def _judged(name: str, runs: Sequence[WantedRun], judges: Sequence[str]) -> _Judged:
    suite = load_suite(name)
    if not any(run.is_judged for run in runs):
        return _Judged(suite, "", 0.0)
    config = priced_judge(suite, judges)
    return _Judged(suite, config.judge, judge_cost(suite, EXPERIMENTS[name], config))


# ---- Training ----


def _exports(experiment: Experiment, runs: Sequence[WantedRun]) -> list[Step]:
    kinds = ["pairs", *(["preferences"] if _methods(runs) > {"sft"} else []), *(["prompts"] if _has_ppo(runs) else [])]
    return [
        Step("data", ("gendiv", "data", "export", experiment.task, "--kind", kind, "--out", _data(experiment, kind)))
        for kind in kinds
    ]


def _section(judged: _Judged, model: PaperModel, runs: Sequence[WantedRun], speeds: _Speeds) -> Section:
    suite = judged.suite.suite
    experiment = EXPERIMENTS[suite]
    recipe = experiment.recipe(model)
    copy = ("python", "-m", "reference_models.base_model", model.name, _base(model), *shlex.split(model.base))
    steps = [Step("base model", copy, made=_base(model))]
    trained = ["sft", *(["reward-model"] if _methods(runs) > {"sft"} else []), *(["ppo"] if _has_ppo(runs) else [])]
    for method in trained:
        steps.append(_training(method, recipe, model, experiment, speeds))
    for run in runs:
        steps += _evaluation(run, recipe, model, judged, speeds)
    return Section(f"{model.name}, {suite}", model, suite, tuple(steps), tuple(runs))


def _training(method: str, recipe: str, model: PaperModel, experiment: Experiment, speeds: _Speeds) -> Step:
    from reference_models.arguments import read_recipe
    from reference_models.methods import METHODS

    kind = {"sft": "pairs", "reward-model": "preferences", "ppo": "prompts"}[method]
    given = {
        "model": _base(model) if method == "sft" else _model(recipe, "sft"),
        "data": _data(experiment, kind),
        "output": _model(recipe, method),
    }
    if method == "ppo":
        given["reward_model"] = _model(recipe, "reward-model")
    args = read_recipe(METHODS[method].load(), Path(recipe), given)
    means = experiment.means
    if method == "reward-model":
        means = plan.Means(means.prompt, means.response, experiment.answers)
    elif method == "ppo":
        # As if every response ran to its budget.
        means = plan.Means(means.prompt, args.max_new_tokens)
    hours = plan.NONE
    for part, flops in plan.parts_of(method, args, model.shape, means).items():
        hours += speeds.hours(flops, part, model.parameters, compiled=args.compile)
    processes = _processes(method, args, model, experiment, speeds.gpu)
    fields = [f"{name}={value}" for name, value in given.items()]
    command = [*_launcher(method, model, processes), "--recipe", recipe, "--set", *fields]
    return Step(method, tuple(command), hours, gpus=processes)


def _launcher(method: str, model: PaperModel, processes: int) -> list[str]:
    if processes == 1:
        return ["gendiv", "train", method]
    layer = LAYERS[model.config["model_type"]]
    fsdp = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"]
    wrapped = ["--fsdp_transformer_layer_cls_to_wrap", layer, "--num_processes", str(processes)]
    module = method.replace("-", "_")
    return ["accelerate", "launch", *fsdp, *wrapped, "-m", f"reference_models.{module}"]


def _processes(method: str, args: Any, model: PaperModel, experiment: Experiment, gpu: str) -> int:
    """Fewest processes in whose GPUs the training fits, by the estimate; 1 where the GPU's memory is not known."""
    room = next((size for part, size in MEMORY.items() if part in gpu), None)
    if room is None:
        return 1
    longest = experiment.longest
    if method == "reward-model":
        longest = Lengths(longest.prompt, longest.completion, round(experiment.answers))
    elif method == "ppo":
        longest = Lengths(longest.prompt, args.max_new_tokens)
    counts = _counts(method, args, model.name)
    for processes in PROCESSES:
        if ROOM * memory(method, args, counts, model.shape, longest, processes).peak <= room:
            return processes
    raise UserError(f"{method} of {model.name} does not fit {PROCESSES[-1]} of {gpu}: lower its microbatch_size")


@functools.cache
def _counts(method: str, args: Any, model: str) -> Counts:
    return count(method, args, paper_models()[model].config)


# ---- Evaluation ----


def _evaluation(run: WantedRun, recipe: str, model: PaperModel, judged: _Judged, speeds: _Speeds) -> list[Step]:
    suite, experiment = judged.suite, EXPERIMENTS[run.suite]
    sampling = suite.sampling
    assert sampling is not None
    name, folder = f"{recipe}-{run.method}", f"runs/{recipe}/{run.method}"
    method = "sft" if run.n > 1 else run.method
    sampled = _model(recipe, run.method)
    if run.n > 1:
        sampled = f"best-of-n:policy={_model(recipe, 'sft')},reward_model={_model(recipe, 'reward-model')},n={run.n}"
    drawn = read = 0.0
    for task, texts in experiment.evaluated.items():
        means = plan.Means(experiment.prompt_tokens(task), sampling.max_new_tokens)
        prompts, outputs = len(sampling.temperatures) * texts.prompts, sampling.k * run.n
        drawn += plan.drawn_flops(model.shape, prompts, means, outputs)
        read += plan.read_flops(model.shape, prompts, means, outputs) if run.n > 1 else 0.0
    hours = speeds.hours(drawn, plan.GENERATE, model.parameters)
    if run.n > 1:
        hours += speeds.hours(read, "reward-model", model.parameters, compiled=False)
    told = ("--name", name, "--method", method, "--trained-on", experiment.task)
    steps = [Step("sampling", ("gendiv", "run", sampled, "--suite", suite.id, "--out", folder, *told), hours)]
    if run.is_judged:
        steps.append(Step("judge", ("gendiv", "judge", folder, "--judge", judged.judge), dollars=judged.dollars))
    asked = ("--judge", judged.judge) if run.is_judged else ()
    steps.append(Step("score", ("gendiv", "score", folder, *asked)))
    card = ["--method", method, "--base-model", model.name, "--trained-on", experiment.task]
    if run.n > 1:
        card += ["--decoding", run.method]
    if run.method != "sft":
        card += ["--reward-model", _model(recipe, "reward-model")]
    submit = ("gendiv", "submit", folder, "--as", f"$ORG/{name}", *card)
    # As `benchmark.submission.record.Submission.folder` has it; the revision between is known once it is trained.
    steps.append(Step("submit", submit, made=f"submissions/$ORG__{name}/*/{suite.id}"))
    return [replace(step, run=run.method) for step in steps]


# ---- Names of files ----


def _data(experiment: Experiment, kind: str) -> str:
    return f"data/{experiment.task}-{kind}.jsonl"


def _model(recipe: str, method: str) -> str:
    return f"models/{recipe}/{method}"


def _base(model: PaperModel) -> str:
    return f"models/{model.name.rpartition('/')[2]}"


def _methods(runs: Iterable[WantedRun]) -> set[str]:
    return {"sft", *(run.method for run in runs)}


def _has_ppo(runs: Iterable[WantedRun]) -> bool:
    return any(run.method == "ppo" for run in runs)


def _notes(sections: Sequence[Section], speeds: _Speeds) -> list[str]:
    """What the numbers rest on."""
    sizes = sorted({row.parameters for row in speeds.measured if row.gpu == speeds.gpu})
    largest = f"{sizes[-1] / 1e6:.0f} M"
    notes = [
        f"Hours are of one {speeds.gpu}, operations over measured speed, of the model nearest in size; in brackets "
        "those at the speed of the fastest and the slowest model measured, or of the slowest alone where the nearest "
        f"was the fastest. They are no bounds: the largest measured has {largest} parameters, and that one of billions "
        "reaches the same share of the GPU's peak is extrapolated, which may err either way.",
        *(f"Speed of {line}." for line in speeds.told.values()),
        "PPO is generation, at the speed of its own generation, and scoring and training, at the speed of PPO without "
        "it. All speeds are of models of which nothing is frozen, of sequences without padding, and of compiled "
        "layers. Padding, frozen layers and what GPUs exchange make it longer than told.",
        "Responses are counted as if each ran to its budget, which is too many; reading data, saving and scoring by "
        "encoders are not counted.",
        "Sampled is the suite's whole grid of temperatures, as for a row of the board; the cells alone are of one. "
        "`gendiv run` takes vLLM for models of a billion parameters and more where it is there; its speed is not among "
        "those measured.",
    ]
    if speeds.uncompiled:
        notes.append(
            f"Where nothing is compiled, all but generation is told as {plan.UNCOMPILED:g} times as long, as measured "
            "with PPO of 162 M parameters (tests/benchmarks/ppo_two_gpus.md). The recipes do not set `compile`: with "
            "frozen layers of OPT, and under FSDP, it was not run here."
        )
    for suite in dict.fromkeys(section.suite for section in sections):
        notes += EXPERIMENTS[suite].assumptions()
    return notes
