"""PPO on one GPU and on two: the same curves, and how much faster.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/ppo_two_gpus.py > tests/benchmarks/ppo_two_gpus.md

The model is the 162 million parameters of `ppo_speed.py`, random, with a random reward model. Every run is a process
group of its own: one GPU, two by accelerate's FSDP version 2 (weights, gradients and optimizer in halves), two by data
parallelism (whole copies).

*The same curves.* In float32, at a rate at which the policy moves. What each process computes is split otherwise, so
sums are rounded otherwise; a token that is drawn near an edge then falls on its other side, and its episode is another
one. The largest difference of any update is held against the spread of the metric over the updates on one GPU; the
run fails where it is above `TOLERANCE` of it. A further run on one GPU, with microbatches of half the size, says how
far rounding alone takes the curves.

*Throughput.* In bfloat16, not compiled on either side. Seconds are medians over the counted updates.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ppo_speed
import torch
import transformers

SETTINGS = ppo_speed.COMMON | ppo_speed.CONFIGURATIONS["gpu-160m"] | {"updates": 8, "warmup": 2}
METRICS = ("reward", "kl", "entropy", "policy_loss", "value_loss", "clip_fraction", "grad_norm")
TOLERANCE = 0.02
FSDP = [
    *("--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
    *("--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer", "--num_processes", "2"),
]
LAUNCHED = {"one GPU": None, "two GPUs, FSDP": FSDP, "two GPUs, data parallel": ["--multi_gpu", "--num_processes", "2"]}
ALIKE = {"mixed_precision": "no", "learning_rate": 2e-5, "batch_size": 64, "microbatch_size": 16, "steps": 8}
FAST = {"mixed_precision": "bf16", "learning_rate": 1e-6, "batch_size": 512, "microbatch_size": 128, "steps": 8}

Rows = list[dict[str, float]]


def run(folder: Path, name: str, inputs: Mapping[str, str], launched: list[str] | None, **given: Any) -> Rows:
    """Train in processes of its own; metrics of each update."""
    gpu = given.pop("gpu", None)
    arguments = {"model": inputs["policy"], "reward_model": inputs["reward"], "data": inputs["data"]}
    arguments |= {"output": str(folder / name), "epochs": 2, "minibatches": 1, "max_new_tokens": 64, "save_every": 1000}
    arguments |= {"kl_coef": 0.05, "max_kl": 1e6, **given}
    sets = [f"{key}={value}" for key, value in arguments.items()]
    start = [sys.executable] if launched is None else [sys.executable, "-m", "accelerate.commands.launch", *launched]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": str(gpu)} if gpu is not None else {})
    done = subprocess.run(
        [*start, "-m", "reference_models.ppo", "--set", *sets], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    print(name, file=sys.stderr, flush=True)
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def seconds(rows: Rows) -> float:
    """Median time of the counted updates: generating, scoring and training."""
    parts = ("seconds_generating", "seconds_scoring", "seconds_training")
    return statistics.median(sum(row[part] for part in parts) for row in rows[SETTINGS["warmup"] :])


def main() -> None:
    """Run all, and print the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = ppo_speed.make_inputs(folder, SETTINGS)
        with ThreadPoolExecutor(2) as pool:  # a GPU each, and nothing on it beside them
            alone = [
                pool.submit(run, folder, name, inputs, None, gpu=gpu, **settings)
                for name, gpu, settings in (
                    ("alike-one", 0, ALIKE),
                    ("fast-one", 1, FAST),
                    ("alike-micro", 0, ALIKE | {"microbatch_size": 8}),
                )
            ]
            one, fast_one, micro = (future.result() for future in alone)
        curves = {"one GPU, microbatches of half the size": micro}
        fast = {"one GPU": fast_one}
        for kind, launched in LAUNCHED.items():
            if launched:
                if launched is FSDP:
                    curves[kind] = run(folder, "alike-two", inputs, launched, **ALIKE)
                fast[kind] = run(folder, f"fast-{len(fast)}", inputs, launched, **FAST)
    print("# PPO on one GPU and on two\n")
    print("    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/ppo_two_gpus.py\n")
    print(f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}; torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}. What is run stands at the top of `ppo_two_gpus.py`.\n")
    print(f"## The same curves: {ALIKE['steps']} updates of {ALIKE['batch_size']} episodes, float32\n")
    print("Largest difference from one GPU over the updates, over the metric's spread (highest − lowest) there:\n")
    print("| | " + " | ".join(METRICS) + " |")
    print("|---" * (len(METRICS) + 1) + "|")
    spread = {m: max(row[m] for row in one) - min(row[m] for row in one) for m in METRICS}
    print("| spread on one GPU | " + " | ".join(f"{spread[m]:.4g}" for m in METRICS) + " |")
    failed = False
    for kind, rows in curves.items():
        off = {m: max(abs(a[m] - b[m]) for a, b in zip(one, rows, strict=True)) / spread[m] for m in METRICS}
        print(f"| {kind} | " + " | ".join(f"{off[m]:.2g}" for m in METRICS) + " |")
        failed |= kind.startswith("two") and max(off.values()) > TOLERANCE
    print("\nUpdate by update, reward / KL / policy loss:\n")
    print("| update | one GPU | " + " | ".join(kind for kind in LAUNCHED if kind in curves) + " |")
    print("|---" * 3 + "|")
    sides = [one, *(curves[kind] for kind in LAUNCHED if kind in curves)]
    for number, rows in enumerate(zip(*sides, strict=True), start=1):
        cells = (f"{row['reward']:.5f} / {row['kl']:.5f} / {row['policy_loss']:.6f}" for row in rows)
        print(f"| {number} | " + " | ".join(cells) + " |")
    print(f"\n## Throughput: updates of {FAST['batch_size']} episodes, bfloat16\n")
    print("| | s an update | generating | scoring | training | episodes/s | against one GPU |")
    print("|---|---|---|---|---|---|---|")
    base = seconds(fast["one GPU"])
    for kind, rows in fast.items():
        counted = rows[SETTINGS["warmup"] :]
        parts = (statistics.median(row[f"seconds_{part}"] for row in counted) for part in ("generating", "scoring"))
        training = statistics.median(row["seconds_training"] for row in counted)
        took = seconds(rows)
        print(
            f"| {kind} | {took:.3f} | "
            + " | ".join(f"{part:.3f}" for part in itertools.chain(parts, [training]))
            + f" | {FAST['batch_size'] / took:.0f} | {base / took:.2f}× |"
        )
    if failed:
        raise SystemExit(f"the curves differ by more than {TOLERANCE:.0%} of their spread")


if __name__ == "__main__":
    main()
