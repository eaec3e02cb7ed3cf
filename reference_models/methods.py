"""The methods by name, each a module of this package, loaded when it is needed."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benchmark.errors import UserError
from reference_models.schedule import Report


@dataclass(frozen=True)
class Method:
    """Where a method lives and what it does."""

    module: str
    arguments: str
    """Name of its dataclass of arguments."""
    meaning: str

    def load(self) -> Any:
        """Import the method's dataclass of arguments."""
        return getattr(importlib.import_module(f"reference_models.{self.module}"), self.arguments)


METHODS = {
    "sft": Method("sft", "SFTArguments", "supervised fine-tuning on prompt–completion pairs"),
    "reward-model": Method("reward_model", "RewardModelArguments", "a score from preference pairs"),
    "best-of-n": Method("best_of_n", "BestOfNArguments", "the best of n samples by a reward model; trains nothing"),
    "ppo": Method("ppo", "PPOArguments", "proximal policy optimisation against a reward model"),
    "rloo": Method("rloo", "RLOOArguments", "REINFORCE leave-one-out against a reward model"),
    "dpo": Method("dpo", "DPOArguments", "direct preference optimisation on preference pairs"),
    "average": Method("average", "AverageArguments", "interpolation between two checkpoints; trains nothing"),
}


def load_method(name: str) -> ModuleType:
    """Import the module of a method; every one has a ``train(arguments, view=…, progress=…)``.

    Raises
    ------
    UserError
        If there is no such method; the message lists those there are.
    """
    if name not in METHODS:
        raise UserError(f"no method {name!r}; there are: {', '.join(METHODS)}")
    return importlib.import_module(f"reference_models.{METHODS[name].module}")


def train_as_job(method: str, arguments: Any, report: Report) -> None:
    """Train without a view: a weak reward model is told of by who planned the job, not in the middle of a display."""
    before, steps = 0, getattr(arguments, "steps", 0)

    def progress(step: int, _metrics: dict[str, float]) -> None:
        nonlocal before
        report("training", step - before, steps or step)  # more than one step where a run is taken up again
        before = step

    with contextlib.redirect_stderr(io.StringIO()):
        load_method(method).train(arguments, progress=progress)
