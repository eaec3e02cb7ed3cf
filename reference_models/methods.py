"""The methods by name, each a module of this package, loaded when it is needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benchmark.errors import UserError


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
