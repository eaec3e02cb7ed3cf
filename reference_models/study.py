"""Run the pocket ladder on several seeds and write down what it shows.

    python -m reference_models.study --seeds 11 12 13 14 15 --out runs/study --results reference_models/results

Every seed is trained and evaluated in full; what is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.progress import Bars
from benchmark.provenance import environment
from benchmark.records import Role, Scores
from benchmark.runs import write_atomically
from reference_models.findings import Finding, compare, over_seeds, sentences, table
from reference_models.ladder import FULL, climb

ROLES: tuple[Role, ...] = ("ood", "id", "ood_hard")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, models and runs, a folder a seed")
    parser.add_argument("--results", type=Path, required=True, help="folder for the report")
    options = parser.parse_args()
    ladders: dict[int, list[Scores]] = {}
    for seed in options.seeds:
        folder, started = options.out / f"seed-{seed}", time.perf_counter()
        with Bars() as bars:
            runs = climb(folder, seed=seed, budget=FULL, progress=bars.job)
        ladders[seed] = [run.scores() for run in runs]
        took = folder / "seconds.json"
        if not took.exists():
            write_atomically(took, json.dumps({"seconds": round(time.perf_counter() - started, 1)}) + "\n")
        print(f"seed {seed}: {json.loads(took.read_text())['seconds']} s")
    seeds = " ".join(map(str, options.seeds))
    command = f"python -m reference_models.study --seeds {seeds} --out {options.out} --results {options.results}"
    report, record = write_up(ladders, {seed: options.out / f"seed-{seed}" for seed in ladders}, command)
    options.results.mkdir(parents=True, exist_ok=True)
    write_atomically(options.results / "pocket.md", report)
    write_atomically(options.results / "pocket.json", json.dumps(record, indent=1) + "\n")
    print(options.results / "pocket.md")


def write_up(ladders: dict[int, list[Scores]], folders: dict[int, Path], command: str) -> tuple[str, dict[str, Any]]:
    """Turn the scores of several seeds into a report in Markdown, and its numbers.

    Parameters
    ----------
    ladders
        Seed → scores of its ladder.
    folders
        Seed → its folder, for what the trainers recorded.
    command
        What made them.
    """
    per_seed = {seed: compare(scores, ROLES) for seed, scores in ladders.items()}
    together = over_seeds(list(per_seed.values()))
    judges = {seed: _record(folders[seed], "reward-model") for seed in ladders}
    seconds = {seed: json.loads((folders[seed] / "seconds.json").read_text())["seconds"] for seed in ladders}
    made_with = environment()
    lines = [
        "# The pocket ladder",
        "",
        f"Made by `{command}`: {len(ladders)} seeds, each trained from scratch and sampled on all prompts, "
        f"k = {next(iter(ladders.values()))[0].identity.sampling.k}.",  # type: ignore[union-attr]
        "Suite, recipes, seeds and this analysis were committed before any of these seeds was run; they were run once.",
        "Brackets are 95 % intervals: paired over prompts within a seed, two-way over seeds × prompts across seeds.",
        "",
        "## Over the seeds: each model minus SFT at temperature 1",
        "",
        _markdown(*table(together)),
        "",
        "`out of range`: in at least one seed the model is less (or more) diverse than SFT at any temperature of the "
        "grid, so that there is no point of the curve to compare with.",
        "",
        "In words, out of distribution:",
        "",
        *(f"- {line}" for line in sentences([f for f in together if f.role == "ood"])),
        "",
        "## Seed by seed, out of distribution",
        "",
    ]
    for seed, findings in per_seed.items():
        header, rows = table([finding for finding in findings if finding.role == "ood"])
        accuracy = f"{judges[seed]['held_out_accuracy']:.3f}"
        lines += [f"### Seed {seed} (reward model: {accuracy} of held-out pairs; {seconds[seed]:.0f} s)", ""]
        lines += [_markdown(header, rows), ""]
    lines += ["## Levels at temperature 1", "", _markdown(*_levels(ladders)), ""]
    lines += ["## SFT's and PPO's temperature curves, out of distribution", "", _markdown(*_curves(ladders)), ""]
    machine = f"{platform.processor() or platform.machine()}, one thread a process, two processes"
    packages = ", ".join(f"{name} {version}" for name, version in made_with["packages"].items())  # type: ignore[union-attr]
    lines += [f"Hardware: {machine}. Packages: {packages}.", ""]
    record = {
        "command": command,
        "seeds": {
            str(seed): {
                "findings": [_numbers(finding) for finding in findings],
                "reward_model_held_out_accuracy": judges[seed]["held_out_accuracy"],
                "seconds": seconds[seed],
            }
            for seed, findings in per_seed.items()
        },
        "over_seeds": [_numbers(finding) for finding in together],
        "environment": made_with,
    }
    return "\n".join(lines), record


def _levels(ladders: dict[int, list[Scores]]) -> tuple[list[str], list[list[str]]]:
    roles = [entry.role for entry in next(iter(ladders.values()))[0].identity.tasks]
    metrics = {"win_rate": "win", "sbert_per_input": "diversity", "effective_per_input_oracle": "effective"}
    header = ["model", "seed", *(f"{role} {short}" for role in roles for short in metrics.values())]
    rows = []
    for name in [row.name for row in next(iter(ladders.values()))]:
        for seed, scores in ladders.items():
            row = next(row for row in scores if row.name == name)
            found = {(e.role, e.metric): e.value for e in row.estimates if e.temperature == 1.0}
            rows.append([name, str(seed), *(f"{found[role, metric]:z.3f}" for role in roles for metric in metrics)])
    return header, rows


def _curves(ladders: dict[int, list[Scores]]) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    temperatures: list[float] = []
    for seed, scores in ladders.items():
        for name in ("sft", "ppo"):
            row = next(row for row in scores if row.name == name)
            found = {(e.temperature, e.metric): e.value for e in row.estimates if e.role == "ood"}
            temperatures = sorted({temperature for temperature, _ in found if temperature is not None})
            points = [f"{found[t, 'win_rate']:.3f}, {found[t, 'sbert_per_input']:.3f}" for t in temperatures]
            rows.append([str(seed), name, *points])
    return ["seed", "model", *(f"T = {t:g}: win, diversity" for t in temperatures)], rows


def _record(folder: Path, method: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "models" / method / "training.json").read_text(encoding="utf-8"))
    return record


def _numbers(finding: Finding) -> dict[str, Any]:
    return {
        "model": finding.model,
        "role": finding.role,
        "quantity": finding.quantity,
        "estimate": finding.estimate,
        "interval": finding.interval,
        "verdict": finding.verdict,
    }


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers=header, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
