"""The ladder on real text: a small model from nothing, every method on top of it, sampled and judged.

    texts → pretrain-SIZE-EPOCHS … → base → sft-EPOCHS … ┐
    and with each training seed:  sft → comparisons ┬→ reward-model ┬→ ppo
                                                    │               ├→ rloo
                                                    │               └→ best-of-n
                                                    ├→ dpo
                                                    └→ judge (of the first seed) → every run is judged

`base` and the first seed's `sft` are the candidates of the lowest loss on rows held out; the other seeds take as many
epochs. Every finished checkpoint is kept in bfloat16, in shards of at most 16 MiB, and what comes after starts from
that; what is there already is not done again, and a training that was stopped goes on. The judge is a reward model of
the half of the preference pairs that no policy's own ever saw; all reward models start from a fine-tuned model.

    python -m reference_models.real_text --corpora … --pairs … --out real-text
    python -m reference_models.real_text_preferences --people … --pairs … --out preferences
    python -m reference_models.real_text_ladder --texts real-text --preferences preferences --out ladder

On one GPU every stage takes minutes; several GPUs are shared by the workers. `--tiny` does the same in miniature on a
CPU. Who takes up what an earlier climb chose leaves out the rest: `--candidates 14m-4 --sft-epochs 5`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.runs import write_atomically
from reference_models import real_text_stages as stages
from reference_models.real_text_budget import FULL, TINY, Budget
from reference_models.real_text_stages import BEST_OF, POLICIES
from reference_models.schedule import Job, Progress, run_jobs

JUDGE = "reward-model"
SEEDS = (1, 2, 3)
SUITES = ("real-text-summarisation", "real-text-instructions")
METHODS = ("ppo", "rloo", "dpo", "best-of-n")


def climb(
    texts: Path,
    preferences: Path,
    out: Path,
    *,
    suites: Sequence[str] = SUITES,
    seeds: Sequence[int] = SEEDS,
    methods: Sequence[str] = METHODS,
    judge: str = JUDGE,
    workers: int = 6,
    budget: Budget = FULL,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Do all stages in order, and sum up what came out.

    Parameters
    ----------
    texts
        What `real_text.prepare` wrote.
    preferences
        What `real_text_preferences.prepare` wrote.
    out
        Folder for ``data/``, ``models/``, ``runs/`` and ``ladder.json``.
    suites
        Sampled from every rung and judged; none trains alone.
    seeds
        Of everything from fine-tuning on; pretraining and judge are the same for all.
    methods
        That are trained on top of each seed's SFT model and reward model; `reference_models.studies` need none.
    judge
        Judge by which the trained one judges: ``reward-model``, or a suite's own that has its weights.
    workers
        Processes side by side; they share what GPUs there are.
    budget
        See `Budget`.
    progress
        See `Progress`.

    Returns
    -------
    dict
        What ``ladder.json`` holds: held-out losses, accuracies, last metrics and seconds of every stage.
    """
    out.mkdir(parents=True, exist_ok=True)
    data, models, told = out / "data", out / "models", out / "held-out"
    jobs = [Job("texts", functools.partial(stages.write_texts, texts, preferences, data, budget))]

    def train(name: str, method: str, recipe: str, needs: str | tuple[str, ...], **given: Any) -> None:
        report_to = told / f"{name.replace('/', '-')}.json"
        job = functools.partial(stages.train, method, recipe, models / name, given, budget, report_to)
        jobs.append(Job(name, job, (needs,) if isinstance(needs, str) else needs))

    for size in budget.sizes:
        init = functools.partial(stages.write_init, texts / "init", models / f"init-{size.name}", size)
        jobs.append(Job(f"init-{size.name}", init))
    for size_, epochs in budget.candidates:
        given = {"model": models / f"init-{size_}", "data": data / "pretrain.jsonl", "epochs": epochs}
        needs = ("texts", f"init-{size_}")
        train(f"pretrain-{size_}-{epochs}", "sft", "pretrain", needs, **given, compile=budget.compile)
    names = [f"pretrain-{size_}-{epochs}" for size_, epochs in budget.candidates]
    base = functools.partial(stages.choose, models, names, models / "base", told / "base-chosen.json")
    jobs.append(Job("base", base, tuple(names)))
    tuned = {"model": models / "base", "data": data / "pairs.jsonl", "seed": seeds[0]}
    for epochs in budget.sft_epochs:
        train(f"sft-{epochs}", "sft", "sft", "base", **tuned, epochs=epochs)
    names, chosen = [f"sft-{epochs}" for epochs in budget.sft_epochs], told / "sft-chosen.json"
    first = f"seed-{seeds[0]}"
    fine_tuned = functools.partial(stages.choose, models, names, models / first / "sft", chosen)
    jobs.append(Job(f"{first}/sft", fine_tuned, tuple(names)))
    for seed in seeds:
        at = f"seed-{seed}"
        if at != first:
            known = len(budget.sft_epochs) == 1  # there is nothing to wait for
            after, epochs_ = ("base", budget.sft_epochs[0]) if known else (f"{first}/sft", chosen)
            train(f"{at}/sft", "sft", "sft", after, **tuned | {"seed": seed}, epochs=epochs_)
        sft, pairs = models / at / "sft", data / at
        compare = functools.partial(stages.write_comparisons, data, sft, pairs, budget, seed)
        jobs.append(Job(f"{at}/comparisons", compare, (f"{at}/sft",)))
        if at == first:
            given = {"model": sft, "data": pairs / "judge.jsonl"}
            train("judge", "reward-model", "judge", f"{at}/comparisons", **given)
        given = {"model": sft, "data": pairs / "policy.jsonl", "seed": seed}
        train(f"{at}/reward-model", "reward-model", "reward-model", f"{at}/comparisons", **given)
        if "dpo" in methods:
            train(f"{at}/dpo", "dpo", "dpo", f"{at}/comparisons", **given)
        rewarded = {"model": sft, "reward_model": models / at / "reward-model", "data": data / "prompts.jsonl"}
        for name in (method for method in ("ppo", "rloo", "best-of-n") if method in methods):
            train(f"{at}/{name}", name, name, f"{at}/reward-model", **rewarded, seed=seed)
    for suite in suites:
        for seed in seeds:
            at = f"seed-{seed}"
            best = f"best-of-n:policy={models / at / 'sft'},reward_model={models / at / 'reward-model'},n={BEST_OF}"
            for name in (f"best-of-{BEST_OF}", *POLICIES):  # the longest first
                method, model = (name, str(models / at / name)) if name in POLICIES else ("best-of-n", best)
                if method not in ("sft", *methods):
                    continue
                run = out / "runs" / suite / at / name
                sample = functools.partial(stages.sample, model, method, suite, run, seed, budget)
                needs = (f"{at}/{name if name in POLICIES else 'reward-model'}", "judge")
                jobs.append(Job(f"{suite}/{at}: {name} sampled", sample, needs))
                judged = functools.partial(stages.judge, run, judge, models / "judge")
                jobs.append(Job(f"{suite}/{at}: {name} judged", judged, (f"{suite}/{at}: {name} sampled",)))
    run_jobs(jobs, workers, progress)
    found = summary(out, budget)
    write_atomically(out / "ladder.json", json.dumps(found, indent=1) + "\n")
    return found


def summary(out: Path, budget: Budget) -> dict[str, Any]:
    """Sum up what every stage recorded."""
    models, found = out / "models", {}
    for record_file in sorted(models.rglob("training.json")):
        folder, name = record_file.parent, record_file.parent.relative_to(models).as_posix()
        record = json.loads(record_file.read_text(encoding="utf-8"))
        kept = ("steps_done", "metrics", "held_out_accuracy", "held_out_pairs", "seconds", "device")
        found[name] = {key: record[key] for key in kept if key in record}
        found[name]["bytes"] = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for told in (out / "held-out").glob(f"{name.replace('/', '-')}.json"):
            found[name]["held_out"] = json.loads(told.read_text(encoding="utf-8"))
    chosen = {
        name: json.loads((out / "held-out" / f"{name}-chosen.json").read_text(encoding="utf-8"))
        for name in ("base", "sft")
    }
    return {"budget": budget.name, "chosen": chosen, "stages": found}


def main() -> None:
    """Run as a module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--preferences", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suites", nargs="*", default=SUITES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--judge", default=JUDGE, help="by which the trained reward model judges")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--candidates", nargs="+", metavar="SIZE-EPOCHS", help="what is pretrained; default: all")
    parser.add_argument("--sft-epochs", nargs="+", type=int, metavar="N", help="of fine-tuning; default: all")
    parser.add_argument("--tiny", action="store_true", help="in miniature, on a CPU")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the model in pretraining")
    arguments = parser.parse_args()
    budget = TINY if arguments.tiny else FULL
    if arguments.no_compile:
        budget = dataclasses.replace(budget, compile=False)
    if arguments.candidates:
        offered = {f"{size}-{epochs}": (size, epochs) for size, epochs in budget.candidates}
        if unknown := [name for name in arguments.candidates if name not in offered]:
            parser.error(f"--candidates {unknown[0]}: there are {', '.join(offered)}")
        budget = dataclasses.replace(budget, candidates=tuple(offered[name] for name in arguments.candidates))
    if arguments.sft_epochs:
        budget = dataclasses.replace(budget, sft_epochs=tuple(arguments.sft_epochs))
    started, last = time.perf_counter(), dict[str, tuple[str, float]]()
    done: dict[str, int] = {}

    def progress(job: str, stage: str, n: int, total: int) -> None:
        now = time.perf_counter() - started
        done[job] = done.get(job, 0) + n if last.get(job, ("", 0.0))[0] == stage else n
        if last.get(job, ("", -99.0))[0] != stage or now - last[job][1] > 15 or done[job] >= total:
            last[job] = (stage, now)
            print(f"{now:6.0f} s  {job}: {stage} {done[job]}/{total}", file=sys.stderr, flush=True)

    try:
        climb(
            arguments.texts,
            arguments.preferences,
            arguments.out,
            suites=arguments.suites,
            seeds=arguments.seeds,
            methods=arguments.methods,
            judge=arguments.judge,
            workers=arguments.workers,
            budget=budget,
            progress=progress,
        )
    except UserError as error:
        sys.exit(f"error: {error}")
    print(arguments.out / "ladder.json")


if __name__ == "__main__":
    main()
