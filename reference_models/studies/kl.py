"""Does the estimator of the KL penalty decide how diverse PPO's outputs are? k1, k2 and k3, compared at equal KL.

The penalty's coefficient cannot be compared between estimators: the same one lets a policy go to different lengths. So
each estimator is trained over a range of coefficients, the distance that a policy has gone is measured on the prompts
that it is evaluated on, and win rate and diversity are compared where the distances are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reference_models.core import KL
from reference_models.studies.cells import Cell
from reference_models.studies.setting import QUICK_STEPS, Setting

ESTIMATORS: tuple[KL, ...] = ("k1", "k2", "k3")
COEFFICIENTS: dict[str, dict[KL, tuple[float, ...]]] = {
    "pocket": {
        "k1": (0.003, 0.01, 0.03, 0.06, 0.12, 0.24, 0.48),
        "k2": (0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0),
        "k3": (0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0),
    },
    "real-text": {
        "k1": (0.02, 0.05, 0.15),
        "k2": (0.02, 0.1, 10.0),
        "k3": (0.3, 1.0, 5.0),
    },
}
"""World → estimator → penalties, chosen so that the distances overlap; see `reference_models/results/kl-pocket.md`."""
QUICK: tuple[float, ...] = (0.01, 1.0)


def plan(setting: Setting, seeds: Sequence[int] | None = None) -> list[Cell]:
    """List the cells: of every seed SFT itself, then every estimator with every coefficient."""
    found = []
    changes = {"steps": QUICK_STEPS, "batch_size": 8} if setting.quick else {}
    for seed in seeds or setting.seeds:
        sft, folder = setting.world.model(seed, "sft"), setting.folder("kl") / f"seed-{seed}"
        common = Cell("", folder, "sft", reference=sft, limit=setting.limit, k=setting.k)
        found.append(replace(common, name=f"seed-{seed}/sft", folder=folder / "sft", policy=sft))
        for estimator in ESTIMATORS:
            for coefficient in QUICK if setting.quick else COEFFICIENTS[setting.world.name][estimator]:
                name = cell_name(estimator, coefficient)
                given = {**changes, "kl_coef": coefficient, "kl_estimator": estimator}
                arguments = setting.world.arguments("ppo", seed, folder / name / "model", given)
                found.append(
                    replace(common, name=f"seed-{seed}/{name}", folder=folder / name, method="ppo", arguments=arguments)
                )
    return found


def cell_name(estimator: KL, coefficient: float) -> str:
    """Name a cell of a seed."""
    return f"{estimator}-{coefficient:g}"


def run(setting: Setting) -> None:
    """Train, sample, judge and measure every cell."""
    for seed in setting.seeds:
        setting.world.check(seed, "sft", "reward-model")
    setting.do(plan(setting))


def report(setting: Setting) -> Path:
    """Score what `run` made, and write the report."""
    from reference_models.studies.kl_report import write_report

    return write_report(setting)
