"""Tokens a second of each trainer on one GPU, and the share of the GPU's peak that they amount to.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/gpu_throughput.py --yaml reference_models/throughput.yaml \\
        > tests/benchmarks/gpu_throughput.md

The models are those of `ppo_speed.py`: random Llamas of 39 and 162 million parameters, bfloat16 autocast over float32
weights, layers compiled. Steps are timed from the end of one to the end of the next; the first ones, which compile, are
not counted. Every sequence has its whole length, so that no padding is counted or computed.

Share of peak = floating-point operations that the *model* needs (`reference_models.flops`) over the time and 989
TFLOP/s (dense bfloat16 of an H100 or H200). In PPO every pass counts: generation (a prompt is read once, then a token
at a time), scoring by policy, value model, reference and reward model, and the epochs of training of policy and value
model. Tokens of PPO are prompt and response tokens of an update's episodes, each counted once; those of generation are
response tokens alone, and its time is PPO's own generation's. `gendiv reproduce plan` is made of the YAML.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ppo_speed
import torch
import transformers
import yaml

from reference_models.arguments import read_recipe
from reference_models.flops import Shape, generation_flops, ppo_flops, reward_flops, sft_flops
from reference_models.methods import METHODS, load_method

PEAK = 989e12
LENGTH, STEPS, WARMUP = 512, 14, 6
BATCH = {
    "gpu-40m": {"sft": 128, "reward-model": 64, "micro": 64},
    "gpu-160m": {"sft": 64, "reward-model": 32, "micro": 32},
}
Entry = dict[str, Any]


def rows(path: Path, number: int, vocabulary: int) -> str:
    """Write sequences of ``LENGTH`` tokens, as pairs and as preferences alike."""
    rng = random.Random(4)
    words = [f"w{n}" for n in range(vocabulary - 3)]

    def text(n: int) -> str:
        return " ".join(rng.choices(words, k=n))

    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            answers = {name: text(LENGTH - 2) for name in ("completion", "chosen", "rejected")}
            file.write(json.dumps({"prompt": text(1), **answers}) + "\n")
    return str(path)


def timed(method: str, arguments: dict[str, Any], warmup: int) -> tuple[list[float], list[Any]]:
    """Train, and return the seconds of each step that counts, and its metrics."""
    ends: list[float] = []
    metrics: list[Any] = []

    def progress(_step: int, found: dict[str, float]) -> None:
        torch.cuda.synchronize()
        ends.append(time.perf_counter())
        metrics.append(found)

    common = {"mixed_precision": "bf16", "compile": True, "save_every": 1000, "learning_rate": 1e-6}
    load_method(method).train(read_recipe(METHODS[method].load(), None, common | arguments), progress=progress)
    return [b - a for a, b in itertools.pairwise(ends)][warmup - 1 :], metrics[warmup:]


def measure(name: str, folder: Path) -> list[Entry]:
    """Measure every trainer with one model."""
    settings = ppo_speed.COMMON | ppo_speed.CONFIGURATIONS[name]
    inputs = ppo_speed.make_inputs(folder, settings)
    numbers = {key: settings[key] for key in ("layers", "vocabulary", "intermediate", "tied")}
    shape, batch = Shape(**numbers, width=settings["hidden"]), BATCH[name]
    parameters = shape.layers * shape.layer + shape.output * (1 if shape.tied else 2)
    data = rows(folder / "rows.jsonl", 4 * batch["sft"] + 64, settings["vocabulary"])
    found: list[Entry] = []

    def add(method: str, sequences: int, length: float, tokens: float, flops: float, seconds: list[float]) -> None:
        middle = statistics.median(seconds)
        entry: Entry = {"gpu": torch.cuda.get_device_name(), "parameters": parameters, "method": method}
        entry |= {"sequences": sequences, "tokens": round(length, 1), "seconds": middle}
        entry |= {"fastest": min(seconds), "slowest": max(seconds), "tokens_per_second": tokens / middle}
        entry |= {"flops_per_second": flops / middle, "share_of_peak": flops / middle / PEAK}
        entry |= {"peak_memory": torch.cuda.max_memory_allocated()}
        found.append(entry)
        print(line(entry), file=sys.stderr, flush=True)

    for method in ("sft", "reward-model"):
        torch.cuda.reset_peak_memory_stats()
        size = batch[method]
        given: dict[str, Any] = {"model": inputs["policy"], "data": data, "output": str(folder / method)}
        micro = batch["micro"] if method == "sft" else batch["micro"] // 2
        given |= {"steps": STEPS, "batch_size": size, "microbatch_size": micro}
        seconds, _ = timed(method, given, WARMUP)
        sequences = size if method == "sft" else 2 * size
        flops = sft_flops(shape, size, LENGTH) if method == "sft" else reward_flops(shape, size, LENGTH)
        add(method, sequences, LENGTH, sequences * LENGTH, flops, seconds)
    torch.cuda.reset_peak_memory_stats()
    episodes, prompt, epochs = settings["episodes"], settings["prompt"], settings["epochs"]
    given = {"model": inputs["policy"], "reward_model": inputs["reward"], "data": inputs["data"]}
    given |= {"output": str(folder / "ppo"), "steps": settings["warmup"] + settings["updates"]}
    given |= {"batch_size": episodes, "microbatch_size": settings["microbatch"], "epochs": epochs}
    given |= {"minibatches": 1, "max_new_tokens": settings["new_tokens"]}
    seconds, metrics = timed("ppo", given, settings["warmup"])
    response = statistics.mean(row["length"] for row in metrics)
    length = prompt + response
    flops = ppo_flops(shape, episodes, prompt, response, epochs=epochs)
    add("ppo", episodes, length, episodes * length, flops, seconds)
    generating = [row["seconds_generating"] for row in metrics]
    flops = generation_flops(shape, episodes, prompt, response)
    add("generate", episodes, length, episodes * response, flops, generating)
    return found


def line(entry: Entry) -> str:
    """Write an entry as a row of the table."""
    milliseconds = (1000 * entry[key] for key in ("seconds", "fastest", "slowest"))
    return (
        f"| {entry['parameters'] / 1e6:.1f} M | {entry['method']} | {entry['sequences']} × {entry['tokens']:.0f} | "
        "{:,.0f} ({:,.0f}–{:,.0f}) | ".format(*milliseconds)
        + f"{entry['tokens_per_second'] / 1e3:,.0f}k | "
        f"{entry['flops_per_second'] / 1e12:.0f} | {100 * entry['share_of_peak']:.1f} % | "
        f"{entry['peak_memory'] / 2**30:.1f} |"
    )


def main() -> None:
    """Measure all, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--yaml", type=Path, required=True, help="what `gendiv reproduce plan` reads")
    options = parser.parse_args()
    found: list[Entry] = []
    for name in ("gpu-40m", "gpu-160m"):
        with tempfile.TemporaryDirectory() as folder:
            found += measure(name, Path(folder))
    head = "# Written by tests/benchmarks/gpu_throughput.py, which says what is counted; nothing else writes it.\n"
    options.yaml.write_text(head + yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    print("# Tokens a second of each trainer on one GPU\n")
    print("    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/gpu_throughput.py --yaml FILE\n")
    print(f"{ppo_speed.hardware('cuda')}; torch {torch.__version__}, transformers {transformers.__version__}.")
    print(
        "What is counted stands at the top of `gpu_throughput.py`. Medians over the counted steps (least–most); `sft`"
    )
    print("is pretraining as well. Layers are compiled, bfloat16 over float32 weights.\n")
    print("| model | method | sequences × tokens a step | ms a step | tokens/s | TFLOP/s | of peak | peak GiB |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(map(line, found)))


if __name__ == "__main__":
    main()
