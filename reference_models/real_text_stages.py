"""The stages of the ladder on real text: data, checkpoints in shards, runs. `real_text_ladder` puts them in order."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.contamination import WORDS, runs, words
from benchmark.errors import UserError
from benchmark.judging.runs import JudgeOptions
from benchmark.records import ModelCard
from benchmark.runs import Run, write_atomically
from reference_models.arguments import differing, read_recipe
from reference_models.gpu import a_share_of_the_gpu, leave_the_gpu
from reference_models.methods import METHODS, train_as_job
from reference_models.real_text_budget import Budget, Size
from reference_models.real_text_preferences import HALVES, in_order
from reference_models.schedule import Report

RECORD = "training.json"
SHARD = "16MB"
"""Of published weights; a little less than 16 MiB."""
BEST_OF = 16
POLICIES = ("sft", "ppo", "rloo", "dpo")
TRAINED_ON = ("gendiv_tldr", "gendiv_alpaca_farm")
BASE_MODEL = "real-text-14m"
UNSWEPT = ("real-text-instructions",)
"""Suites that are sampled at T = 1 alone: answers are long, and the whole grid would be 14 MB among the submissions."""
TEMPLATE = 30
"""Rows in which 13 words in a row are no longer a copied passage, but a template."""
COMPARED_TOKENS = 96
"""Longest sample that is compared with a reference."""

# ---- Data ----


def write_texts(texts: Path, preferences: Path, data: Path, budget: Budget, report: Report) -> None:
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


def write_comparisons(data: Path, policy: Path, out: Path, budget: Budget, seed: int, report: Report) -> None:
    """Write ``policy.jsonl`` and ``judge.jsonl``: a half's pairs, and references over the model's own samples."""
    import torch

    from reference_models.models import load_policy, load_tokenizer
    from reference_models.rollouts import InProcessSampler

    if all((out / f"{half}.jsonl").exists() for half in HALVES):
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, model = load_tokenizer(str(policy)), load_policy(str(policy)).to(device)
    tokens = min(COMPARED_TOKENS, budget.changes.get("ppo", {}).get("max_new_tokens", COMPARED_TOKENS))
    for place, half in enumerate(HALVES, start=1):
        sampler = InProcessSampler(
            model,
            is_copy=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            max_new_tokens=tokens,
            temperature=1.0,
            seed=len(HALVES) * (seed - 1) + place,
            batch_size=1024,
            autocast=contextlib.nullcontext,
        )
        rows = _read(data / f"{half}-references.jsonl")
        prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
        drawn = sampler.generate(prompts, budget.samples, range(len(rows)))
        pairs = list(_read(data / f"{half}-pairs.jsonl"))
        for number, output in enumerate(drawn):
            row = rows[number // budget.samples]
            text = tokenizer.decode(output.tokens, skip_special_tokens=True)
            told = text.strip() and text.strip() != row["completion"].strip()
            # One that was cut off would be known by its missing end alone, and so would one without the space before.
            if told and (output.finished or budget.name == "tiny"):
                head = " " if row["completion"].startswith(" ") else ""
                same = {"prompt": row["prompt"], "chosen": head + row["completion"].strip()}
                pairs.append({"kind": "own-sample", **same, "rejected": head + text.strip()})
        _write(out / f"{half}.jsonl", in_order(pairs, seed=1))
        report("answering", 1, 2)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError("no such file; see the first lines of reference_models/real_text_ladder.py", where=path)
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


# ---- Models ----


def write_init(source: Path, folder: Path, size: Size, report: Report) -> None:
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


def train(
    method: str, recipe: str, target: Path, given: Mapping[str, Any], budget: Budget, told: Path, report: Report
) -> None:
    """Train into ``TARGET.whole``, publish it as ``TARGET`` in bfloat16, and measure what was held out.

    ``epochs`` among what is given, a number or the file in which `choose` told it, becomes steps.
    """
    overrides = {name: str(value) for name, value in given.items() if name != "epochs"}
    overrides |= dict(budget.changes.get(recipe, {})) | {"output": str(target.with_name(f"{target.name}.whole"))}
    kind, file = METHODS[method].load(), Path("real-text") / f"{recipe}.yaml"
    epochs = given.get("epochs")
    if isinstance(epochs, Path):
        epochs = json.loads(epochs.read_text(encoding="utf-8"))["epochs"]
    if epochs:
        size = read_recipe(kind, file, overrides | {"steps": 1}).batch_size
        overrides["steps"] = max(1, epochs * _count(Path(given["data"])) // size)
    arguments = read_recipe(kind, file, overrides)
    if target.exists():
        record = json.loads((target / "training.json").read_text(encoding="utf-8"))
        if difference := differing(record["arguments"], arguments):
            raise UserError(f"belongs to another run: {difference}; give another --out", where=target)
    else:
        train_as_job(method, arguments, report)
        publish(Path(arguments.output), target)
        shutil.rmtree(arguments.output)
    if recipe in ("pretrain", "sft") and not told.exists():
        found = held_out_loss(target, Path(given["data"]).with_name(f"{Path(given['data']).stem}-held-out.jsonl"))
        write_atomically(told, json.dumps(found | {"epochs": epochs, "steps": arguments.steps}) + "\n")
    leave_the_gpu()


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
            prompts, completions = [p for p, _ in part], [c for _, c in part]
            batch = collate(prompts, completions, tokenizer.pad_token_id, end_together=True).to(device)
            nats += (-completion_log_probs(model, batch).double().sum(dim=-1)).tolist()
    lengths = [len(completion) for _, completion in rows]
    loss = sum(nats) / sum(lengths)
    spread = sum((a - loss * n) ** 2 for a, n in zip(nats, lengths, strict=True))
    error = math.sqrt(spread * len(rows) / max(1, len(rows) - 1)) / sum(lengths)
    parameters = sum(p.numel() for p in model.parameters())
    found: dict[str, float] = {"loss": loss, "standard_error": error, "tokens": sum(lengths), "rows": len(rows)}
    return found | {"parameters": parameters}


def choose(models: Path, names: Sequence[str], target: Path, told: Path, report: Report) -> None:
    """Copy the candidate of the lowest held-out loss, and tell which it was.

    Raises
    ------
    UserError
        If another was chosen before, among other candidates.
    """
    candidates = {name: json.loads((told.parent / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    best = min(names, key=lambda name: float(candidates[name]["loss"]))
    if target.exists() and (target / RECORD).read_bytes() != (models / best / RECORD).read_bytes():
        raise UserError(
            f"{best} is the best of {', '.join(names)}, and another was chosen before; give another --out", where=told
        )
    losses = {name: found["loss"] for name, found in candidates.items()}
    write_atomically(told, json.dumps({"chosen": best, "epochs": candidates[best]["epochs"], "losses": losses}) + "\n")
    if not target.exists():
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(models / best, temporary)
        temporary.replace(target)
    report("choosing", 1, 1)


# ---- Runs ----


def sample(model: str, method: str, suite: str, folder: Path, seed: int, budget: Budget, report: Report) -> None:
    """Sample a suite from a rung; best-of-n, whose outputs cost sixteen each, at T = 1 alone."""
    at_one = method == "best-of-n" or suite in UNSWEPT
    options = pipeline.SampleOptions(
        k=budget.k,
        temperatures=(1.0,) if at_one else budget.temperatures,
        limit=budget.evaluated_prompts,
        name=f"{BASE_MODEL}-{folder.name}-seed-{seed}",
        batch_size=budget.decoded_together,
        dtype="float32",
        card=ModelCard(method=method, trained_on=TRAINED_ON),
    )
    with a_share_of_the_gpu():
        pipeline.sample(model, suite, folder, options, report)


def judge(folder: Path, judge: str, model: Path, report: Report) -> None:
    """Judge a run by a reward model."""
    with a_share_of_the_gpu():
        pipeline.judge(Run(folder), report, JudgeOptions(judge=judge, model=str(model), batch_size=256))
