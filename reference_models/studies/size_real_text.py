"""Sizes of the model of real text: those that the ladder pretrained for as many epochs as the one it chose.

Each is fine-tuned, compared and given a reward model by the ladder's own recipes, from the ladder's own data; of the
chosen size the ladder has done so.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from reference_models import real_text_stages as stages
from reference_models.real_text_budget import FULL, TINY, Budget
from reference_models.schedule import Report
from reference_models.studies.setting import QUICK_STEPS
from reference_models.studies.world import World

QUICK: dict[str, Any] = {"steps": QUICK_STEPS, "batch_size": 8}
HOW = (
    "pretrained by the ladder, each for as many epochs; each with SFT, comparisons, reward model and PPO of its own "
    "by the ladder's recipes, of the size that the ladder chose the ladder's"
)


@dataclass(frozen=True)
class RealTextSize:
    """A size that the ladder pretrained."""

    name: str
    pretrained: Path
    """Its checkpoint."""
    ladder: Path
    """What `reference_models.real_text_ladder` made."""
    is_the_ladders: bool
    """Whether the ladder chose it, and goes on from it."""

    @property
    def described(self) -> dict[str, Any]:
        """The checkpoint's loss on held-out rows and number of parameters, as the ladder measured them."""
        told: dict[str, Any] = json.loads(
            (self.ladder / "held-out" / f"{self.pretrained.name}.json").read_text(encoding="utf-8")
        )
        return told

    def changes(self, method: str, *, quick: bool) -> dict[str, Any]:
        """Fields that are not the recipe's."""
        return {**TINY.changes[method], **QUICK} if quick else {}

    def make_chain(self, world: World, seed: int, quick: bool, report: Report) -> None:
        """Fine-tune the model, compare its answers and train its reward model; what is there stays."""
        if not self.pretrained.is_dir():
            raise UserError("no such checkpoint; reference_models.real_text_ladder makes it", where=self.pretrained)
        source, data = self.ladder / "data", world.folder(seed) / "data"
        prompts = world.prompts(seed)
        if not prompts.exists():
            prompts.parent.mkdir(parents=True, exist_ok=True)
            temporary = prompts.with_name(f".{prompts.name}-{seed}.tmp")
            shutil.copy(source / prompts.name, temporary)
            temporary.replace(prompts)
        budget = self._budget(quick)
        sft = world.model(seed, "sft")
        given: dict[str, Any] = {"model": self.pretrained, "data": source / "pairs.jsonl", "seed": seed}
        if not quick:
            given["epochs"] = self.ladder / "held-out" / "sft-chosen.json"
        told = world.folder(seed) / "held-out"
        stages.train("sft", "sft", sft, given, budget, told / f"seed-{seed}-sft.json", report)
        compared = data / f"seed-{seed}"
        stages.write_comparisons(source, sft, compared, budget, seed, report)
        given = {"model": sft, "data": compared / "policy.jsonl", "seed": seed}
        target = world.model(seed, "reward-model")
        stages.train("reward-model", "reward-model", target, given, budget, told / f"seed-{seed}-rm.json", report)

    def _budget(self, quick: bool) -> Budget:
        if not quick:
            return FULL
        return dataclasses.replace(TINY, changes={m: self.changes(m, quick=True) for m in TINY.changes})


def sizes(world: World) -> tuple[RealTextSize, ...]:
    """List the sizes that the ladder pretrained for as many epochs as the one it chose, the smallest first.

    Raises
    ------
    UserError
        If the ladder has not chosen, or has no other size of as many epochs.
    """
    told = world.ladders / "held-out" / "base-chosen.json"
    if not told.is_file():
        mend = "python -m reference_models.real_text_ladder makes it (--help tells of what)"
        raise UserError(f"no such file; {mend}", where=told)
    chosen = json.loads(told.read_text(encoding="utf-8"))
    found = []
    for file in sorted(told.parent.glob(f"pretrain-*-{chosen['epochs']}.json")):
        path = world.ladders / "models" / file.stem
        found.append(RealTextSize(file.stem.split("-")[1], path, world.ladders, file.stem == chosen["chosen"]))
    if len(found) < 2:
        raise UserError(f"no two sizes were pretrained for {chosen['epochs']} epochs", where=told)
    return tuple(sorted(found, key=lambda size: size.described["parameters"]))
