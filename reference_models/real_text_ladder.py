"""The ladder on real text: a small model from nothing, every method on top of it, sampled and judged.

    texts → pretrain-SIZE-EPOCHS … → base → sft-EPOCHS … → sft → comparisons ┬→ reward-model ┬→ ppo
                                                                             │               ├→ rloo
                                                                             │               └→ best-of-n
                                                                             ├→ dpo
                                                                             └→ judge → every run is judged

`base` and `sft` are the candidates of the lowest loss on rows held out. Every finished checkpoint is kept in bfloat16,
in shards of at most 16 MiB, and what comes after starts from that; what is there already is not done again, and a
training that was stopped goes on. The judge is a reward model of the half of the preference pairs that the policy's own
never saw; both start from the same fine-tuned model.

    python -m reference_models.real_text --corpora … --pairs … --out real-text
    python -m reference_models.real_text_preferences --people … --pairs … --out preferences
    python -m reference_models.real_text_ladder --texts real-text --preferences preferences --out ladder

On one H100 every stage takes minutes. `--tiny` does the same in miniature on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import io
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.contamination import WORDS, runs, words
from benchmark.errors import UserError
from benchmark.judging.runs import JudgeOptions
from benchmark.records import ModelCard
from benchmark.runs import Run, write_atomically
from reference_models.arguments import differing, read_recipe
from reference_models.methods import METHODS, load_method
from reference_models.real_text_preferences import HALVES, in_order
from reference_models.schedule import Job, Progress, Report, run_jobs

SHARD = "16MB"
"""Of published weights; a little less than 16 MiB."""
BEST_OF = 16
JUDGE = "reward-model"
TRAINED_ON = ("gendiv_tldr", "gendiv_alpaca_farm")
SHARE = 0.15
"""Of a GPU's memory, for each run that is sampled or judged beside others."""
TEMPLATE = 30
"""Rows in which 13 words in a row are no longer a copied passage, but a template."""
COMPARED_TOKENS = 96
"""Longest sample that is compared with a reference."""


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
    (("14m", 3), ("14m", 2), ("10m", 2), ("5m", 2), ("14m", 1)),
    (1, 2, 3),
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
POLICIES = ("sft", "ppo", "rloo", "dpo")


def climb(
    texts: Path,
    preferences: Path,
    out: Path,
    *,
    suites: Sequence[str] = ("summarisation",),
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
    workers
        Processes side by side; all share one GPU, if there is one.
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
    data, models = out / "data", out / "models"
    jobs = [Job("texts", functools.partial(_texts, texts, preferences, data, budget))]

    def train(name: str, method: str, recipe: str, needs: str, **given: Any) -> None:
        job = functools.partial(_train, method, recipe, models / name, given, budget)
        jobs.append(Job(name, job, (needs,)))

    for size, epochs in budget.candidates:
        init = models / f"init-{size}"
        shape = next(shape for shape in budget.sizes if shape.name == size)
        if f"init-{size}" not in [job.name for job in jobs]:
            jobs.append(Job(f"init-{size}", functools.partial(_init, texts / "init", init, shape)))
        name = f"pretrain-{size}-{epochs}"
        given = {"model": init, "data": data / "pretrain.jsonl", "epochs": epochs, "compile": budget.compile}
        job = functools.partial(_train, "sft", "pretrain", models / name, given, budget)
        jobs.append(Job(name, job, ("texts", f"init-{size}")))
    first = [f"pretrain-{size}-{epochs}" for size, epochs in budget.candidates]
    jobs.append(Job("base", functools.partial(_choose, models, first, "base"), tuple(first)))
    for epochs in budget.sft_epochs:
        train(f"sft-{epochs}", "sft", "sft", "base", model=models / "base", data=data / "pairs.jsonl", epochs=epochs)
    tuned = [f"sft-{epochs}" for epochs in budget.sft_epochs]
    jobs.append(Job("sft", functools.partial(_choose, models, tuned, "sft"), tuple(tuned)))
    sft, judge = models / "sft", models / "judge"
    jobs.append(Job("comparisons", functools.partial(_compare, data, sft, budget), ("sft",)))
    for name, half in (("reward-model", "policy"), ("judge", "judge")):
        train(name, "reward-model", name, "comparisons", model=sft, data=data / f"{half}.jsonl")
    rewarded = {"model": sft, "reward_model": models / "reward-model", "data": data / "prompts.jsonl"}
    for name in ("ppo", "rloo", "best-of-n"):
        train(name, name, name, "reward-model", **rewarded)
    train("dpo", "dpo", "dpo", "comparisons", model=sft, data=data / "policy.jsonl")
    for suite in suites:
        for name in (*POLICIES, f"best-of-{BEST_OF}"):
            policy = str(models / name)
            best = f"best-of-n:policy={sft},reward_model={models / 'reward-model'},n={BEST_OF}"
            sampled = functools.partial(
                _sample, policy if name in POLICIES else best, suite, out / "runs" / suite / name, budget
            )
            needs = (name, "judge") if name in POLICIES else ("reward-model", "judge")
            jobs.append(Job(f"{suite}: {name} sampled", sampled, needs))
            judged = functools.partial(_judge, out / "runs" / suite / name, judge)
            jobs.append(Job(f"{suite}: {name} judged", judged, (f"{suite}: {name} sampled",)))
    run_jobs(jobs, workers, progress)
    found = summary(out, budget)
    write_atomically(out / "ladder.json", json.dumps(found, indent=1) + "\n")
    return found


def summary(out: Path, budget: Budget) -> dict[str, Any]:
    """Sum up what every stage recorded."""
    models, stages = out / "models", {}
    for folder in sorted(path for path in models.iterdir() if (path / "training.json").is_file()):
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        kept = ("steps_done", "metrics", "held_out_accuracy", "held_out_pairs", "seconds", "device")
        stages[folder.name] = {name: record[name] for name in kept if name in record}
        stages[folder.name]["bytes"] = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for told in (out / "held-out").glob(f"{folder.name}.json"):
            stages[folder.name]["held_out"] = json.loads(told.read_text(encoding="utf-8"))
    chosen = {
        name: json.loads((out / "held-out" / f"{name}-chosen.json").read_text(encoding="utf-8"))
        for name in ("base", "sft")
    }
    return {"budget": budget.name, "chosen": chosen, "stages": stages}


# ---- Data ----


def _texts(texts: Path, preferences: Path, data: Path, budget: Budget, report: Report) -> None:
    """Split off held-out rows and write what is trained on; nothing trained on is a copy of one."""
    from transformers import AutoTokenizer

    if (data / "done").exists():
        return
    for name in ("pretrain", "pairs"):
        rows = in_order(_read(texts / f"{name}.jsonl"), seed=1)
        if len(rows) <= 2 * budget.held_out:
            raise UserError(f"{len(rows)} rows are too few to hold out {budget.held_out}", where=texts)
        held, rest = rows[: budget.held_out], rows[budget.held_out :]
        _write(data / f"{name}-held-out.jsonl", held)
        _write(data / f"{name}.jsonl", _without_copies(rest, held))
        report("writing", 1, 3)
    tokenizer = AutoTokenizer.from_pretrained(texts / "init")
    asked = []

    def fits(prompt: str) -> bool:
        return len(tokenizer(prompt)["input_ids"]) + COMPARED_TOKENS <= tokenizer.model_max_length

    for half in HALVES:
        rows = [row for row in _read(preferences / f"{half}-references.jsonl") if fits(row["prompt"])]
        tasks = sorted({row["task"] for row in rows})
        first = [row for task in tasks for row in [r for r in rows if r["task"] == task][: budget.compared]]
        _write(data / f"{half}-references.jsonl", first)
        if half == "policy":
            # As many of each task, so that neither is forgotten.
            by_task = [[row for row in first if row["task"] == task] for task in tasks]
            asked = [row for rows_ in by_task for row in rows_[: min(map(len, by_task))]]
    _write(data / "prompts.jsonl", in_order(asked, seed=2))
    for half in HALVES:
        prompts = {row["prompt"] for row in _read(data / f"{half}-references.jsonl")}
        pairs = _read(preferences / f"{half}-pairs.jsonl")
        kept = [pair for pair in pairs if pair["kind"] != "other-reference" or pair["prompt"] in prompts]
        _write(data / f"{half}-pairs.jsonl", kept)
    write_atomically(data / "done", "")
    report("writing", 1, 3)


def _without_copies(rows: Sequence[dict[str, str]], held: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out rows that share 13 words in a row with one held out, unless these words are a template's.

    Corpora of tasks hold a passage several times, under different templates, and a template hundreds of times.
    """

    def runs_of(row: dict[str, str]) -> set[tuple[str, ...]]:
        # Alpaca's template with the first words of an instruction behind it is shared by few, and is no copy.
        own = row["prompt"].rpartition("### Instruction:")[2]
        return set(runs(words(f"{own} {row['completion']}"), WORDS))

    sought = set().union(*map(runs_of, held))
    found = [runs_of(row) & sought for row in rows]
    often = Counter(run for shared in found for run in shared)
    return [row for row, shared in zip(rows, found, strict=True) if all(often[run] > TEMPLATE for run in shared)]


def _compare(data: Path, policy: Path, budget: Budget, report: Report) -> None:
    """Write ``policy.jsonl`` and ``judge.jsonl``: a half's pairs, and references over the model's own samples."""
    import torch

    from reference_models.models import load_policy, load_tokenizer
    from reference_models.rollouts import InProcessSampler

    if all((data / f"{half}.jsonl").exists() for half in HALVES):
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, model = load_tokenizer(str(policy)), load_policy(str(policy)).to(device)
    tokens = min(COMPARED_TOKENS, budget.changes.get("ppo", {}).get("max_new_tokens", COMPARED_TOKENS))
    for seed, half in enumerate(HALVES, start=1):
        sampler = InProcessSampler(
            model,
            is_copy=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            max_new_tokens=tokens,
            temperature=1.0,
            seed=seed,
            batch_size=1024,
            autocast=contextlib.nullcontext,
        )
        rows = _read(data / f"{half}-references.jsonl")
        prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
        drawn = sampler.generate(prompts, budget.samples, range(len(rows)))
        pairs = list(_read(data / f"{half}-pairs.jsonl"))
        for place, output in enumerate(drawn):
            row = rows[place // budget.samples]
            text = tokenizer.decode(output.tokens, skip_special_tokens=True)
            told = text.strip() and text.strip() != row["completion"].strip()
            # One that was cut off would be known by its missing end alone, and so would one without the space before.
            if told and (output.finished or budget.name == "tiny"):
                head = " " if row["completion"].startswith(" ") else ""
                same = {"prompt": row["prompt"], "chosen": head + row["completion"].strip()}
                pairs.append({"kind": "own-sample", **same, "rejected": head + text.strip()})
        _write(data / f"{half}.jsonl", in_order(pairs, seed))
        report("answering", 1, 2)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError("no such file; see the first lines of reference_models/real_text_ladder.py", where=path)
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


# ---- Models ----


def _init(source: Path, folder: Path, size: Size, report: Report) -> None:
    """Write an untrained model of a size with the tokenizer of the texts."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    if folder.exists():
        return
    config = AutoConfig.from_pretrained(source)
    config.hidden_size, config.intermediate_size = size.hidden, size.intermediate
    config.num_hidden_layers, config.head_dim = size.layers, size.hidden // size.heads
    config.num_attention_heads = config.num_key_value_heads = size.heads
    temporary = folder.with_name(f".{folder.name}.tmp")
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(temporary)
    AutoTokenizer.from_pretrained(source).save_pretrained(temporary)
    temporary.replace(folder)
    report("writing", 1, 1)


def _train(method: str, recipe: str, target: Path, given: Mapping[str, Any], budget: Budget, report: Report) -> None:
    """Train into ``TARGET.whole``, publish it as ``TARGET`` in bfloat16, and measure what was held out."""
    change = dict(budget.changes.get(recipe, {}))
    epochs = given.get("epochs")
    overrides = {name: str(value) for name, value in given.items() if name != "epochs"}
    overrides |= change | {"output": str(target.with_name(f"{target.name}.whole"))}
    kind = METHODS[method].load()
    if epochs:
        size = read_recipe(kind, Path("real-text") / f"{recipe}.yaml", overrides | {"steps": 1}).batch_size
        overrides["steps"] = max(1, epochs * _count(Path(given["data"])) // size)
    arguments = read_recipe(kind, Path("real-text") / f"{recipe}.yaml", overrides)
    if target.exists():
        record = json.loads((target / "training.json").read_text(encoding="utf-8"))
        if difference := differing(record["arguments"], arguments):
            raise UserError(f"belongs to another run: {difference}; give another --out", where=target)
    else:
        _fit(method, arguments, report)
        publish(Path(arguments.output), target)
        shutil.rmtree(arguments.output)
    if recipe in ("pretrain", "sft"):
        told = target.parents[1] / "held-out" / f"{target.name}.json"
        if not told.exists():
            found = held_out_loss(target, Path(given["data"]).with_name(f"{Path(given['data']).stem}-held-out.jsonl"))
            write_atomically(told, json.dumps(found | {"epochs": epochs, "steps": arguments.steps}) + "\n")
    _leave_the_gpu()


def _fit(method: str, arguments: Any, report: Report) -> None:
    before = 0
    steps = getattr(arguments, "steps", 0)

    def progress(step: int, _metrics: dict[str, float]) -> None:
        nonlocal before
        report("training", step - before, steps or step)
        before = step

    with contextlib.redirect_stderr(io.StringIO()):
        load_method(method).train(arguments, progress=progress)


def _count(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)


def publish(folder: Path, target: Path) -> None:
    """Copy a finished checkpoint with its weights in bfloat16, in shards; what was no checkpoint is copied as it is.

    ``config.json`` says float32, so that what reads it computes in float32, with the rounded weights.
    """
    import torch
    import transformers

    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    if (folder / "config.json").is_file():
        architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
        model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.bfloat16)
        model.save_pretrained(temporary, max_shard_size=SHARD)
        path = temporary / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    temporary.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.suffix != ".safetensors" and not (temporary / path.name).exists():
            shutil.copy(path, temporary)
    temporary.replace(target)


def held_out_loss(folder: Path, pairs: Path) -> dict[str, float]:
    """Measure a model's mean loss on completions, in nats a token over all tokens, and its standard error over rows.

    Returns
    -------
    dict
        ``loss``, ``standard_error`` (of the ratio of sums, by its linearisation), ``tokens``, ``rows``.
    """
    import torch

    from reference_models.core import collate
    from reference_models.data import encode, read_pairs
    from reference_models.models import completion_log_probs, load_policy, load_tokenizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, model = load_tokenizer(str(folder)), load_policy(str(folder)).to(device)
    rows = sorted((encode(tokenizer, *pair) for pair in read_pairs(pairs)), key=lambda row: len(row[0]) + len(row[1]))
    nats: list[float] = []
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            part = rows[start : start + 32]
            batch = collate([p for p, _ in part], [c for _, c in part], tokenizer.pad_token_id).to(device)
            nats += (-completion_log_probs(model, batch).double().sum(dim=-1)).tolist()
    lengths = [len(completion) for _, completion in rows]
    loss = sum(nats) / sum(lengths)
    spread = sum((a - loss * n) ** 2 for a, n in zip(nats, lengths, strict=True))
    error = math.sqrt(spread * len(rows) / max(1, len(rows) - 1)) / sum(lengths)
    parameters = sum(p.numel() for p in model.parameters())
    found: dict[str, float] = {"loss": loss, "standard_error": error, "tokens": sum(lengths), "rows": len(rows)}
    return found | {"parameters": parameters}


def _choose(models: Path, names: Sequence[str], chosen: str, report: Report) -> None:
    """Copy the candidate of the lowest held-out loss."""
    told = models.parent / "held-out"
    losses = {name: json.loads((told / f"{name}.json").read_text(encoding="utf-8"))["loss"] for name in names}
    best = min(names, key=lambda name: losses[name])
    write_atomically(told / f"{chosen}-chosen.json", json.dumps({"chosen": best, "losses": losses}) + "\n")
    if not (models / chosen).exists():
        temporary = models / f".{chosen}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(models / best, temporary)
        temporary.replace(models / chosen)
    report("choosing", 1, 1)


@contextlib.contextmanager
def _a_share_of_the_gpu() -> Iterator[None]:
    """Hold to a part of the memory: a sampler that finds none takes smaller batches, and a training would end."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(SHARE)
    try:
        yield
    finally:
        _leave_the_gpu()
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(1.0)


def _leave_the_gpu() -> None:
    """Give back what the allocator holds: other jobs share the GPU, and this process lives on."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# ---- Runs ----


def _sample(model: str, suite: str, folder: Path, budget: Budget, report: Report) -> None:
    method = folder.name if folder.name in POLICIES else "best-of-n"
    temperatures = budget.temperatures if method in POLICIES else (1.0,)
    options = pipeline.SampleOptions(
        k=budget.k,
        temperatures=temperatures,
        limit=budget.evaluated_prompts,
        name=f"real-text-{folder.name}",
        batch_size=budget.decoded_together,
        dtype="float32",
        card=ModelCard(method=method, trained_on=TRAINED_ON),
    )
    with _a_share_of_the_gpu():
        pipeline.sample(model, suite, folder, options, report)


def _judge(folder: Path, judge: Path, report: Report) -> None:
    with _a_share_of_the_gpu():
        pipeline.judge(Run(folder), report, JudgeOptions(judge=JUDGE, model=str(judge), batch_size=256))


def main() -> None:
    """Run as a module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--preferences", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suites", nargs="*", default=["summarisation"])
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--tiny", action="store_true", help="in miniature, on a CPU")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the model in pretraining")
    arguments = parser.parse_args()
    budget = TINY if arguments.tiny else FULL
    if arguments.no_compile:
        budget = dataclasses.replace(budget, compile=False)
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
            workers=arguments.workers,
            budget=budget,
            progress=progress,
        )
    except UserError as error:
        sys.exit(f"error: {error}")
    print(arguments.out / "ladder.json")


if __name__ == "__main__":
    main()
