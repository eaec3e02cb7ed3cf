"""Sizes of the pocket model, each trained from nothing.

Only the learning rates differ from the pocket recipes', in inverse proportion to the width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reference_models import pocket_data
from reference_models.arguments import read_recipe
from reference_models.ladder import ARCHITECTURE, FULL
from reference_models.methods import METHODS, train_as_job
from reference_models.schedule import Report
from reference_models.studies.setting import QUICK_STEPS
from reference_models.studies.world import World
from reference_models.tiny import make_checkpoint

QUICK_COMPARED = 40
HOW = (
    "width x layers; each with SFT, comparisons, reward model and PPO of its own by the pocket recipes, but for the "
    "learning rates, which are in inverse proportion to the width"
)


@dataclass(frozen=True)
class PocketSize:
    """A shape of the model; a head is 16 wide, and the feed-forward layer four times the model."""

    hidden: int
    layers: int

    @property
    def name(self) -> str:
        """Such as ``64x2``: width and layers."""
        return f"{self.hidden}x{self.layers}"

    @property
    def described(self) -> dict[str, Any]:
        """Fields of a configuration; the ladder's own is 64 x 2."""
        heads = self.hidden // 16
        return {
            **ARCHITECTURE,
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
        }

    @property
    def is_the_ladders(self) -> bool:
        """False: every size is trained from nothing, the ladder's as well."""
        return False

    def rate(self, recipe: float) -> float:
        """Learning rate: the recipe's at the ladder's width, and less the wider a model is."""
        return recipe * int(str(ARCHITECTURE["hidden_size"])) / self.hidden

    def changes(self, method: str, *, quick: bool) -> dict[str, Any]:
        """Fields that are not the recipe's."""
        recipe = read_recipe(
            METHODS[method].load(), Path("pocket") / f"{method}.yaml", dict.fromkeys(_NEEDED[method], "-")
        )
        changes = {"learning_rate": self.rate(recipe.learning_rate)}
        return changes | ({"steps": QUICK_STEPS, "batch_size": 8} if quick else {})

    def make_chain(self, world: World, seed: int, quick: bool, report: Report) -> None:
        """Make the model, fine-tune it, compare its answers and train its reward model; what is there stays."""
        from tasks.pocket.words import vocabulary

        data, models = world.folder(seed) / "data", world.folder(seed) / "models"
        pocket_data.write_pairs(data, seed)
        init = models / "init"
        if not init.exists():
            temporary = init.with_name(".init.tmp")
            make_checkpoint(temporary, vocabulary(), seed=seed, architecture=self.described)
            temporary.replace(init)
        inputs: dict[str, Mapping[str, Path]] = {
            "sft": {"model": init, "data": data / "sft.jsonl"},
            "reward-model": {
                "model": models / "sft",
                "data": data / "comparisons.jsonl",
                "references": data / "references.jsonl",
            },
        }
        prompts = QUICK_COMPARED if quick else FULL.compared_prompts
        for method, given in inputs.items():
            if method == "reward-model":
                answered = partial(_answered, report, prompts)
                pocket_data.write_comparisons(data, models / "sft", prompts, seed, answered)
            overrides: dict[str, Any] = {name: str(path) for name, path in given.items()}
            overrides |= {"seed": seed, "output": str(models / method), **self.changes(method, quick=quick)}
            arguments = read_recipe(METHODS[method].load(), Path("pocket") / f"{method}.yaml", overrides)
            train_as_job(method, arguments, report)


SIZES = (PocketSize(32, 1), PocketSize(64, 2), PocketSize(128, 3))
_NEEDED = {
    "sft": ("model", "data", "output"),
    "reward-model": ("model", "data", "output", "references"),
    "ppo": ("model", "data", "output", "reward_model"),
}


def _answered(report: Report, prompts: int, done: int) -> None:
    report("answering", done, prompts)
