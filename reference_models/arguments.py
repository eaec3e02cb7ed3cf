"""What every trainer is told: one frozen dataclass a method, filled by a YAML recipe and ``--set field=value``."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import yaml

from benchmark.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """What all trainers share; whatever changes the weights of a run is in its arguments."""

    model: str
    """Checkpoint folder or hub id to start from."""
    data: str
    """JSONL; which fields it needs is said by each method."""
    output: str
    """Folder of the new checkpoint."""
    steps: int
    """Steps of the learning-rate schedule: batches, or updates of a policy."""
    batch_size: int
    """Examples a step over all processes."""
    microbatch_size: int = 0
    """Examples that one process reads at a time; 0 = its whole share. It changes memory and speed, not the result."""
    learning_rate: float
    """Rises linearly over ``warmup_steps``, then falls linearly to 0 at the end."""
    warmup_steps: int = 0
    weight_decay: float = 0.0
    """On matrices; never on norms and biases."""
    max_grad_norm: float = 1.0
    adam_eps: float = 1e-5
    frozen_layers: float = 0.0
    """Share of the transformer layers, from the first, that stay as they are, embeddings with them (the paper: 0.8)."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank instead of the weights; 0 = off. Needs the ``lora`` extra."""
    lora_alpha: int = 0
    """Scale of the adapters; 0 = twice the rank."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Weights and optimizer stay in float32 either way."""
    compile: bool = False
    """Compile the model: half a minute once, then faster on a GPU."""
    seed: int = 1
    """Of the order of the data, of new weights and of every rollout."""
    threads: int = 1
    """CPU threads. One is often the fastest for small models, and never the slow side of oversubscription."""
    save_every: int = 100
    """Steps between states to resume from. Whatever it is, a run that was killed ends with the same weights."""

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 1."""
        return self.learning_rate * min(step / max(self.warmup_steps, 1), 1 - (step - 1) / self.steps)


Parsed = TypeVar("Parsed")

POSITIVE = {
    *("steps", "batch_size", "learning_rate", "max_grad_norm", "threads", "save_every"),
    *("epochs", "minibatches", "samples", "max_new_tokens", "temperature", "max_kl", "beta"),
}
SIGNED = {"weight"}
"""The only one that may be below 0: an average that goes on beyond its ends."""
SHARES = {"frozen_layers", "held_out", "gamma", "lam", "vllm_memory"}
"""At most 1."""


def read_recipe(cls: type[Parsed], recipe: Path | None, overrides: Mapping[str, Any]) -> Parsed:
    """Build a method's arguments from a YAML recipe and overrides.

    Parameters
    ----------
    cls
        The dataclass of the method.
    recipe
        A YAML mapping, or None. A name is looked for among those that come with GenDiv as well: ``pocket/ppo.yaml``; a
        folder stands for the file in it that is named as the method: ``tldr-llama-7b``.
    overrides
        Field → value, as text or typed; they win.

    Raises
    ------
    UserError
        If a field is unknown, missing, not of its type or out of range.
    """
    given, where = recipe_values(recipe, method_of(cls))
    values = {**given, **overrides}
    known = typing.get_type_hints(cls)
    declared = fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in declared]
    if unknown := sorted(set(values) - set(names)):
        place = "--set" if unknown[0] in overrides else where
        fits = [] if unknown[0] in overrides else _methods_of(given, where)
        whose = f", as of a recipe of {' or '.join(fits)}" if fits else ""
        raise UserError(f"unknown field {unknown[0]!r}{whose}; there are: {', '.join(names)}", where=place)
    if missing := [f.name for f in declared if f.default is MISSING and f.name not in values]:
        raise UserError(
            f"field {missing[0]!r} is missing; give it in the recipe or by --set {missing[0]}=…", where=where
        )
    said = {name: "--set" if name in overrides else where for name in values}
    converted = {name: _convert(name, value, known[name], said[name]) for name, value in values.items()}
    for name, value in converted.items():
        if name not in SIGNED and isinstance(value, int | float) and (value < 0 or (value == 0 and name in POSITIVE)):
            raise UserError(
                f"field {name!r} is {value}, and must be {'above' if name in POSITIVE else 'at least'} 0",
                where=said[name],
            )
        if name in SHARES and value > 1:
            raise UserError(f"field {name!r} is {value}, and must be at most 1", where=said[name])
    return cls(**converted)


def recipe_values(recipe: Path | None, method: str) -> tuple[dict[str, Any], Path | str]:
    """Read the fields that a method's recipe gives, as they are written, and say where; of none, none by ``--set``.

    Raises
    ------
    UserError
        If there is no such recipe, or it is no mapping.
    """
    if recipe is None:
        return {}, "--set"
    where = find_recipe(recipe, method)
    try:
        values = yaml.safe_load(where.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=where) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not YAML: {error}", where=where) from None
    if not isinstance(values, dict):
        raise UserError("a recipe is a mapping of fields", where=where)
    return values, where


def find_recipe(recipe: Path, method: str) -> Path:
    """Find a recipe's file: the path itself, before one that comes with GenDiv; a folder's is ``METHOD.yaml``.

    Raises
    ------
    UserError
        If there is none; the message lists what there is where it was looked for.
    """
    for place in (recipe, RECIPES / recipe, recipe / f"{method}.yaml", RECIPES / recipe / f"{method}.yaml"):
        if place.is_file():
            return place
    folders = sorted({path.parent.name for path in RECIPES.rglob("*.yaml")})
    folder = next((part for part in (recipe.name, recipe.parent.name) if part in folders), None)
    if folder is None:
        raise UserError(f"no such recipe; with GenDiv come the folders {', '.join(folders)}", where=recipe)
    there = ", ".join(str(path.relative_to(RECIPES)) for path in sorted((RECIPES / folder).glob("*.yaml")))
    what = f"no recipe for {method}" if folder == recipe.name else "no such recipe"
    raise UserError(f"{what}; with GenDiv come {there}", where=recipe)


def method_of(cls: type) -> str:
    """Name of the method whose arguments a dataclass holds; the dataclass's own where it is no method's."""
    from reference_models.methods import METHODS

    return next((name for name, method in METHODS.items() if method.arguments == cls.__name__), cls.__name__)


def _methods_of(given: Mapping[str, Any], where: Path | str) -> list[str]:
    """Name the methods that have every field of a recipe; the one that its file is named after, if that is one."""
    from reference_models.methods import METHODS

    fits = [name for name, method in METHODS.items() if given.keys() <= {field.name for field in fields(method.load())}]
    return [name for name in fits if name == Path(where).stem] or fits


def _convert(name: str, value: Any, kind: Any, where: Path | str) -> Any:
    """Turn a YAML or command-line value into the declared type."""
    if get_origin(kind) in (types.UnionType, typing.Union):
        if value is None or str(value).lower() in ("none", "null", ""):
            return None
        return _convert(name, value, next(k for k in get_args(kind) if k is not type(None)), where)
    if get_origin(kind) is Literal:
        # YAML reads a bare `no` as false.
        text = "no" if value is False else str(value)
        if text not in get_args(kind):
            raise UserError(f"field {name!r} is {text!r}, and must be one of {', '.join(get_args(kind))}", where=where)
        return text
    given = value
    try:
        if get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(get_args(kind)[0](part) for part in parts)
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise TypeError  # an empty field, a list, a bare `yes`: text is all that they would become
        if kind is int and not isinstance(value, int):
            # 1e3 is a whole number too.
            value = int(value) if str(value).lstrip("-").isdigit() else float(value)
            if value != int(value):
                raise ValueError
        converted = kind(value)
        if converted != converted or converted in (float("inf"), float("-inf")):
            raise ValueError
    except (TypeError, ValueError, KeyError, OverflowError):
        raise UserError(f"field {name!r} is {given!r}, and must be {_named(kind)}", where=where) from None
    return converted


def _named(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        kind, "numbers with commas"
    )


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """Turn ``field=value`` items into a mapping."""
    for item in items:
        if "=" not in item:
            raise UserError(f"--set {item!r}: give field=value")
    return dict(item.split("=", 1) for item in items)


def differing(old: Mapping[str, Any], new: DataclassInstance) -> str | None:
    """Name the first argument in which a recorded run differs from ``new``, with both values; None if there is none."""
    for name, value in asdict(new).items():
        recorded = old.get(name)
        if (tuple(recorded) if isinstance(recorded, list) else recorded) != value:
            return f"{name} is {old.get(name)!r} there and {value!r} here"
    return None


class RunFolder:
    """Where a run writes, and whose it is: ``OUTPUT.partial`` while it is under way, ``OUTPUT`` once it is complete.

    Parameters
    ----------
    method
        Its name, as recorded.
    args
        The method's arguments.
    output
        The folder.
    inputs_sha256
        Hashes of the files and checkpoints among the arguments; they must be the same to resume.

    Attributes
    ----------
    identity
        What makes a run this one, as recorded.

    Raises
    ------
    UserError
        From `is_done` and `begin`, if what is there belongs to other arguments or inputs, or another process is at it.
    """

    def __init__(
        self, method: str, args: DataclassInstance, output: str, inputs_sha256: Mapping[str, str | None]
    ) -> None:
        self.args, self.output = args, Path(output)
        if not self.output.name:
            raise UserError(f"output {output!r} names no folder")
        self.partial = self.output.with_name(f"{self.output.name}.partial")
        self.identity: dict[str, Any] = {
            "method": method,
            "arguments": asdict(args),
            "inputs_sha256": dict(inputs_sha256),
        }
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, OSError):
            # A full disk, most likely, which is no bug of ours.
            raise UserError(f"{type(error).__name__}: {error}", where=self.partial) from error

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()

    def is_done(self) -> bool:
        """Whether ``output`` is there already, made by these very arguments."""
        if not self.output.exists():
            return False
        self._refuse_other(self.output / "training.json", "give another output")
        return True

    def begin(self) -> bool:
        """Hold the folder and note what is done in it; return whether it is done already."""
        if self.is_done() and not self.partial.exists():
            return True
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.partial)
        if self.is_done():  # by a process that held the folder until now, or was stopped while it tidied up
            shutil.rmtree(self.partial, ignore_errors=True)
            return True
        path = self.partial / "begun.json"
        if path.exists():
            self._refuse_other(path, f"give another output, or remove {self.partial}")
            return False
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.identity, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return False

    def _refuse_other(self, path: Path, mend: str) -> None:
        """Refuse to go on from what other arguments or inputs made."""
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            method, arguments, hashes = there["method"], there["arguments"], there["inputs_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"is in the way, and no trainer of GenDiv made it; {mend}", where=path.parent) from None
        difference = None
        if method != self.identity["method"]:
            difference = f"method is {method!r} there and {self.identity['method']!r} here"
        difference = difference or differing(arguments, self.args)
        for name, digest in self.identity["inputs_sha256"].items():
            if difference is None and hashes.get(name) != digest:
                difference = f"the content of {name} has changed since"
        if difference:
            raise UserError(f"belongs to another run: {difference}; {mend}", where=path)


def _locked(folder: Path) -> IO[str]:
    """Hold a folder for this process; the lock ends with the process, however that ends."""
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError("another process is training into this folder", where=folder) from None
    return file


def run_as_module(cls: type[Parsed], train: Callable[..., Path], doc: str) -> None:
    """Run a method from its own file, by ``python -m reference_models.METHOD`` or ``accelerate launch -m …``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--set", nargs="*", action="extend", default=[], metavar="FIELD=VALUE", help="override fields")
    options = parser.parse_args()
    try:
        output = train(read_recipe(cls, options.recipe, parse_overrides(options.set)), view=True)
    except UserError as error:
        if os.environ.get("GENDIV_TRACEBACK"):
            raise
        print(f"{parser.prog}: {error}", file=sys.stderr)
        _leave_group(has_failed=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    _leave_group(has_failed=False)
    if os.environ.get("RANK", "0") == "0":
        print(output)


def _leave_group(*, has_failed: bool) -> None:
    """Take leave of the other processes, if there are any: without it gloo may abort a process while it exits.

    After a failure that may be this process's own, NCCL would wait for the others instead.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if not has_failed or distributed.get_backend() == "gloo":
        distributed.destroy_process_group()
