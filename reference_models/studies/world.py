"""Where the studies take place: what a world gives for a seed, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmark.errors import UserError
from benchmark.judging.runs import JudgeOptions
from benchmark.records import prompts_sha256
from benchmark.runs import Run
from benchmark.suites import load_prompts, load_suite
from reference_models.arguments import read_recipe
from reference_models.methods import METHODS

Name = Literal["pocket", "real-text"]
SUITES: Mapping[Name, str] = {"pocket": "pocket", "real-text": "real-text-summarisation"}
"""What is evaluated where nothing else is asked for."""
REAL_TEXT_JUDGE = "real-text-judge"


@dataclass(frozen=True)
class World:
    """A suite, recipes, and for every training seed a fine-tuned model with a reward model of its own."""

    name: Name
    ladders: Path
    """What `reference_models.study` made, a folder a seed; or what `reference_models.real_text_ladder` made."""
    suite: str
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `benchmark.pipeline.SampleOptions`."""

    @property
    def title(self) -> str:
        """What folders and reports are called after: its name, with the suite where that is not the world's own."""
        suite = load_suite(self.suite).id
        if suite == load_suite(SUITES[self.name]).id:
            return self.name
        return suite if suite.startswith(f"{self.name}-") else f"{self.name}-{suite}"

    def model(self, seed: int, name: str) -> Path:
        """Folder of a model of a seed's ladder: ``sft``, ``reward-model``, ``ppo``."""
        return self.folder(seed) / "models" / name if self.name == "pocket" else self._models(seed) / name

    def folder(self, seed: int) -> Path:
        """Folder of a seed's ladder; on real text all seeds share one."""
        return self.ladders / f"seed-{seed}" if self.name == "pocket" else self.ladders

    def prompts(self, seed: int) -> Path:
        """File of the prompts that policies are trained on."""
        return self.folder(seed) / "data" / "prompts.jsonl"

    def arguments(self, method: str, seed: int, output: Path, changes: Mapping[str, Any]) -> Any:
        """Make the arguments of a training against a seed's reward model, from the world's recipe.

        Parameters
        ----------
        method
            ``ppo`` or ``rloo``.
        seed
            Training seed, of the ladder and of the training alike.
        output
            Folder of the new checkpoint.
        changes
            Field → value, where it is not the recipe's.
        """
        given = {
            "model": str(self.model(seed, "sft")),
            "reward_model": str(self.model(seed, "reward-model")),
            "data": str(self.prompts(seed)),
            "output": str(output),
            "seed": seed,
        }
        return read_recipe(METHODS[method].load(), Path(self.name) / f"{method}.yaml", {**given, **changes})

    def run(self, seed: int, name: str) -> Run | None:
        """Find the run of a model of a seed's ladder on the whole suite, scored or not; None where there is none."""
        folder = self.folder(seed) / "runs"
        run = Run(folder / name if self.name == "pocket" else folder / self.suite / f"seed-{seed}" / name)
        if not run.manifest_path.exists():
            return None
        identity, suite = run.manifest().identity, load_suite(self.suite)
        whole = {task: prompts_sha256(asked) for task, asked in load_prompts(suite).items()}
        same = {entry.task: entry.prompts_sha256 for entry in identity.tasks} == whole
        assert suite.sampling is not None
        return run if same and identity.sampling is not None and identity.sampling.k == suite.sampling.k else None

    def check(self, seed: int, *names: str) -> None:
        """Refuse a seed whose ladder is not there.

        Parameters
        ----------
        seed
            Training seed.
        *names
            Models that are needed.

        Raises
        ------
        UserError
            If a model is missing, or the prompts that policies are trained on.
        """
        for path in (*(self.model(seed, name) for name in names), self.prompts(seed)):
            if not path.exists():
                raise UserError(f"no such file or folder; {self._mend(seed)}", where=path)

    def _mend(self, seed: int) -> str:
        if self.name == "pocket":
            return f"gendiv study seeds --only run --seeds {seed} --ladders {self.ladders} makes it"
        return f"python -m reference_models.real_text_ladder --seeds {seed} makes it (--help tells of what)"

    def _models(self, seed: int) -> Path:
        return self.ladders / "models" / f"seed-{seed}"


def load_world(name: Name, ladders: Path, suite: str | None = None, judge: str | None = None) -> World:
    """Find a world by its name.

    Parameters
    ----------
    name
        ``pocket`` or ``real-text``.
    ladders
        See `World`.
    suite
        Evaluated; None = ``pocket``, or ``real-text-summarisation``.
    judge
        By whom; None = the suite's own, or on real text the published one. On real text it is the ladder's own reward
        model ``models/judge``, under whichever name.
    """
    if name == "pocket":
        return World(name, ladders, suite or SUITES[name], JudgeOptions(judge=judge))
    options = JudgeOptions(judge=judge or REAL_TEXT_JUDGE, model=str(ladders / "models" / "judge"), batch_size=256)
    # As many rows as a GPU that several processes share has room for.
    return World(name, ladders, suite or SUITES[name], options, {"dtype": "float32", "batch_size": 384})
