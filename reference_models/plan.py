"""GPU hours of a training before it is started: operations that it needs over operations a second that were measured.

Measured are small models (`throughput.yaml`, by ``tests/benchmarks/gpu_throughput.py``). That a model of billions of
parameters reaches the same share of a GPU's peak is an extrapolation. What is drawn a token at a time reaches a tenth
of the speed of what is read at once, so the two are counted apart. Every figure is given with those of the slowest and
fastest model measured; these are no bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import UserError
from reference_models.flops import Shape, forward_flops, generation_flops, learning_flops, sft_flops, training_flops

THROUGHPUT = Path(__file__).with_name("throughput.yaml")
GENERATE, LEARNING = "generate", "scoring and training of ppo"
"""What PPO's time consists of; the speed of the second is that of PPO without its generation."""
STAND_INS = {"dpo": "reward-model", LEARNING: "sft"}
"""What is done → that whose measured speed stands for it where it has none of its own."""
UNCOMPILED = 2.2
"""Times as long as measured, which is with compiled layers, where they are not: 162 M parameters, PPO but for its
generation, 344 TFLOP/s against 155 (``tests/benchmarks/ppo_two_gpus.md``). Generation is the same either way."""


@dataclass(frozen=True)
class Measured:
    """One trainer with one model on one GPU."""

    gpu: str
    method: str
    parameters: float
    flops_per_second: float
    seconds: float = 0.0
    """Of a step; 0 = not said."""


@dataclass(frozen=True)
class Speed:
    """Operations a second that a method is expected to reach."""

    nearest: float
    """Of the measured model whose size is nearest."""
    slowest: float
    fastest: float
    of: str
    """What was measured, in words."""


@dataclass(frozen=True)
class Hours:
    """GPU hours: expected, and of the fastest and slowest model measured."""

    expected: float
    low: float
    high: float

    def __add__(self, other: Hours) -> Hours:
        return Hours(self.expected + other.expected, self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        """Return such as "3.1 (2.4–5.0)", or "3.1 (to 5.0)" where the nearest model was the fastest as well."""
        if round(self.low, 2) == round(self.high, 2):
            return _short(self.expected)
        if round(self.low, 2) == round(self.expected, 2):
            return f"{_short(self.expected)} (to {_short(self.high)})"
        return f"{_short(self.expected)} ({_short(self.low)}–{_short(self.high)})"


NONE = Hours(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Means:
    """Mean tokens of data."""

    prompt: float
    response: float
    """With its end; of PPO, of what is drawn."""
    answers: float = 1.0
    """Answers a prompt, of preferences."""

    @property
    def whole(self) -> float:
        """Of prompt and response."""
        return self.prompt + self.response


def read_throughput(path: Path | None = None) -> tuple[Measured, ...]:
    """Read what was measured.

    Parameters
    ----------
    path
        A list of ``{gpu, parameters, method, flops_per_second, seconds, …}``, without ``seconds`` if need be; None =
        ``throughput.yaml`` of this package.

    Returns
    -------
    tuple
        Its rows, and where the seconds of both ``ppo`` and ``generate`` are said, one of `LEARNING`.

    Raises
    ------
    UserError
        If there is no such file, or it is none.
    """
    path = path or THROUGHPUT
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = tuple(
            Measured(
                str(row["gpu"]),
                str(row["method"]),
                float(row["parameters"]),
                float(row["flops_per_second"]),
                float(row.get("seconds", 0.0)),
            )
            for row in rows
        )
    except FileNotFoundError:
        raise UserError(
            "no throughput was measured here; tests/benchmarks/gpu_throughput.py measures it", where=path
        ) from None
    except IsADirectoryError:
        raise UserError("is a folder, and no list of measured throughput", where=path) from None
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"is no list of measured throughput: {type(error).__name__} {error}", where=path) from None
    return (*found, *_learning(found))


def _learning(measured: Sequence[Measured]) -> list[Measured]:
    """PPO without its generation: what is left of its operations over what is left of its time."""
    drawn = {(row.gpu, row.parameters): row for row in measured if row.method == GENERATE and row.seconds}
    found = []
    for row in measured:
        part = drawn.get((row.gpu, row.parameters))
        if row.method == "ppo" and part and row.seconds > part.seconds:
            seconds = row.seconds - part.seconds
            flops = row.flops_per_second * row.seconds - part.flops_per_second * part.seconds
            found.append(Measured(row.gpu, LEARNING, row.parameters, flops / seconds, seconds))
    return found


def gpus(measured: Sequence[Measured]) -> list[str]:
    """Names of the GPUs that were measured, in the file's order."""
    return list(dict.fromkeys(row.gpu for row in measured))


def choose_gpu(measured: Sequence[Measured], name: str | None = None) -> str:
    """Find a GPU by a part of its name; None = the first that was measured.

    Raises
    ------
    UserError
        If nothing was measured on such a one, or the name is of several.
    """
    there = gpus(measured)
    found = [gpu for gpu in there if name is None or name.casefold() in gpu.casefold()]
    if not found or (name is not None and len(found) > 1):
        known = ", ".join(there) or "none"
        raise UserError(f"--gpu {name}: {'several were' if found else 'none such was'} measured; there are: {known}")
    return found[0]


def speed(measured: Sequence[Measured], gpu: str, method: str, parameters: float) -> Speed:
    """Find what a method reaches on a GPU.

    Parameters
    ----------
    measured
        See `read_throughput`.
    gpu
        Its whole name.
    method
        ``sft``, ``reward-model``, ``dpo``, `GENERATE` or `LEARNING`; `STAND_INS` says which one stands for one that was
        not measured.
    parameters
        Of the model that is planned.

    Raises
    ------
    UserError
        If neither was measured.
    """
    asked, here = method, [row for row in measured if row.gpu == gpu]
    while not (rows := [row for row in here if row.method == method]) and method in STAND_INS:
        method = STAND_INS[method]
    if not rows:
        there = ", ".join(dict.fromkeys(row.method for row in here)) or "nothing"
        raise UserError(f"the speed of {asked} was not measured on {gpu}; measured were: {there}")
    nearest = min(rows, key=lambda row: abs(row.parameters - parameters))
    instead = "" if method == asked else f", in place of {asked}"
    rates = [row.flops_per_second for row in rows]
    of = f"{method} of {nearest.parameters / 1e6:.0f} M parameters{instead}"
    return Speed(nearest.flops_per_second, min(rates), max(rates), of)


def slowdown(part: str, *, compiled: bool) -> float:
    """Times as long as measured that a part takes; 1 where layers are compiled, and for generation."""
    return 1.0 if compiled or part == GENERATE else UNCOMPILED


def hours(flops: float, at: Speed) -> Hours:
    """Hours of one GPU that so many operations take."""
    return Hours(flops / at.nearest / 3600, flops / at.fastest / 3600, flops / at.slowest / 3600)


def parts_of(method: str, args: Any, shape: Shape, means: Means, rows: int = 0) -> dict[str, float]:
    """Operations of a whole training, by what their speed is that of.

    Parameters
    ----------
    method, args
        The method's name and arguments.
    shape
        Of the model; a reward model's is the same.
    means
        Of the data.
    rows
        Prompts of the data; for best-of-n alone, which draws for each of them, or for ``args.limit`` of them.

    Returns
    -------
    dict
        What `speed` is asked for → operations.
    """
    if method == "best-of-n":
        pool, prompts = args.pool or args.n, min(args.limit or rows, rows)
        read = read_flops(shape, prompts, means, pool)
        return {GENERATE: drawn_flops(shape, prompts, means, pool), "reward-model": read}
    examples, frozen = args.steps * args.batch_size, args.frozen_layers
    if method == "sft":
        return {method: sft_flops(shape, examples, means.whole, predicted=means.response, frozen=frozen)}
    sequences = examples * means.answers
    if method == "reward-model":
        return {method: training_flops(shape, sequences * means.whole, means.whole, frozen=frozen)}
    if method == "ppo":
        shared = args.value_model == "shared"
        learning = learning_flops(
            shape, examples, means.prompt, means.response, epochs=args.epochs, frozen=frozen, shared=shared
        )
        return {GENERATE: generation_flops(shape, examples, means.prompt, means.response), LEARNING: learning}
    if method == "dpo":
        tokens, logits = sequences * means.whole, sequences * means.response
        reference = forward_flops(shape, tokens, means.whole, logits=logits)
        return {method: reference + training_flops(shape, tokens, means.whole, logits=logits, frozen=frozen)}
    if method == "rloo":
        tokens, logits = examples * means.whole, examples * means.response
        drawing = generation_flops(shape, examples, means.prompt, means.response, samples=args.samples)
        scoring = 2 * forward_flops(shape, tokens, means.whole, logits=logits)
        scoring += forward_flops(shape, tokens, means.whole)
        training = training_flops(shape, tokens, means.whole, logits=logits, frozen=frozen)
        return {GENERATE: drawing, LEARNING: scoring + args.epochs * training}
    raise ValueError(f"{method} trains nothing that is planned")


def drawn_flops(shape: Shape, prompts: float, means: Means, n: int) -> float:
    """Operations of drawing n outputs of each prompt, which is read once for them."""
    return generation_flops(shape, prompts * n, means.prompt, means.response, samples=n)


def read_flops(shape: Shape, prompts: float, means: Means, n: int) -> float:
    """Operations of reading n outputs of each prompt, behind their prompt, with a reward model of the same shape."""
    return forward_flops(shape, prompts * n * means.whole, means.whole)


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"
