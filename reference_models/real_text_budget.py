"""How much the ladder on real text trains and evaluates: in full, and in miniature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """A shape of the model."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Budget:
    """How much is trained and evaluated."""

    name: str
    sizes: tuple[Size, ...]
    candidates: tuple[tuple[str, int], ...]
    """(size, epochs) of pretraining; the lowest held-out loss is taken."""
    sft_epochs: tuple[int, ...]
    held_out: int = 500
    """Rows kept from pretraining, and from fine-tuning each."""
    compared: int = 1000
    """Most prompts of a task in each half that references and samples are compared for."""
    samples: int = 4
    """Of the fine-tuned model, compared with each prompt's reference."""
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Recipe → fields that are not the recipe's."""
    compile: bool = False
    """Compile the layers in pretraining."""
    evaluated_prompts: int | None = None
    k: int | None = None
    temperatures: tuple[float, ...] | None = None
    decoded_together: int | None = None
    """Most outputs that one run decodes at a time: several runs and trainings share the GPU."""


FULL = Budget(
    "full",
    (Size("5m", 256, 704, 4, 4), Size("10m", 320, 864, 6, 5), Size("14m", 384, 1024, 6, 6)),
    (("14m", 8), ("14m", 4), ("10m", 4), ("5m", 4)),
    (2, 3, 5),
    compile=True,
    decoded_together=1536,
)
_SMALL: Mapping[str, Any] = {"warmup_steps": 1, "batch_size": 8, "microbatch_size": 0, "mixed_precision": "no"}
_FEW: Mapping[str, Any] = {**_SMALL, "steps": 2}
TINY = Budget(
    "tiny",
    (Size("a", 32, 64, 1, 2), Size("b", 48, 64, 2, 2)),
    (("a", 1), ("b", 1)),
    (1,),
    held_out=4,
    compared=8,
    samples=1,
    changes={
        **dict.fromkeys(("pretrain", "sft"), _SMALL),
        **{name: {**_FEW, "batch_size": 4} for name in ("reward-model", "judge", "dpo")},
        **{name: {**_FEW, "max_new_tokens": 6} for name in ("ppo", "rloo")},
        "best-of-n": {"n": 2, "pool": 2, "max_new_tokens": 6, "limit": 2, "mixed_precision": "no"},
    },
    evaluated_prompts=2,
    k=2,
    temperatures=(1.0,),
)
