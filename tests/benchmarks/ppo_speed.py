"""PPO updates a second, beside the last TRL that had PPO (trl 1.12.0), at the same model, batch, epochs and lengths.

    python3 -m venv THROWAWAY; THROWAWAY/bin/pip install -c constraints.txt trl==1.12.0 torch transformers
    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/ppo_speed.py --trl-python THROWAWAY/bin/python \\
        > tests/benchmarks/ppo_speed.md

Every configuration runs both sides in turn, each in a process of its own, one after the other (TRL, ours, TRL, ours).
An update is all that lies between the ends of two updates in a row: drawing the prompts, generating, scoring, every
epoch of training, and the bookkeeping. Start-up, and the first updates (warm-up, compilation), are not counted.

Equal on both sides: the checkpoints (a random Llama as policy and reference, a random Llama with a scalar head as
reward model and as the value model's start, four models in all, policy and value model trained whole); the prompts,
all of one length, so that there is no padding before them; episodes an update; PPO epochs; minibatches, and so
optimizer steps (counted, and reported); the most new tokens; temperature 1, no top-k, no top-p; AdamW in float32, the
fused one; learning rate and coefficients; threads; on the GPU, bfloat16 autocast over float32 weights in training.
Generation stops at the end-of-sequence token on both sides. A random model draws it once in about as many tokens as it
has words, so the responses have nearly their full length; the mean length of each side is reported.

Not equal, because each side does it in its own way:
- Sequences a training pass, which are listed: on the CPU a whole minibatch; on the GPU each side's own, halved until it
  fits. TRL generates and scores all episodes of an update together, if they fit.
- TRL computes logits at every position, in training and in the reference's pass; it takes the old log-probabilities
  from the scores of generation; it keeps all hidden states of the value and reward models; it empties the GPU's cache
  after each phase and minibatch; it clips no gradients.
- TRL's autocast covers the training passes alone. Its reference and reward model are loaded in bfloat16 instead (its
  own examples' --dtype), so only the generation and the old values are computed in float32 (TF32 allowed).
- PPOTrainer of trl 1.12.0 under transformers 5 does not see PPOConfig(bf16=True); autocast is switched on through the
  variable that `accelerate launch` sets. Without it TRL would train in float32 and be slower.
- TRL draws the minibatches anew every epoch, and computes the entropy of every training pass.
- Ours is compiled on the GPU, which its arguments offer. TRL's PPO has no such option; the side "TRL compiled" sets the
  variable of `accelerate launch --dynamo_backend inductor`, which compiles its training passes.
- For TRL, num_sample_generations=0, no gradient checkpointing, nothing saved and nothing reported: nothing but PPO.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CPU = {"device": "cpu", "mixed_precision": "no", "compile": False, "warmup": 2}
GPU = {"device": "cuda", "mixed_precision": "bf16", "compile": True, "warmup": 2, "vocabulary": 50_000, "prompt": 256}
GPU |= {"new_tokens": 64, "epochs": 4, "minibatches": 1, "updates": 3}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "cpu-tiny": CPU
    | {"layers": 2, "hidden": 64, "heads": 4, "intermediate": 256, "vocabulary": 200, "prompt": 32, "new_tokens": 20}
    | {"episodes": 96, "epochs": 2, "minibatches": 2, "updates": 12},
    "cpu-small": CPU
    | {"layers": 4, "hidden": 128, "heads": 4, "intermediate": 512, "vocabulary": 224, "prompt": 32, "new_tokens": 32}
    | {"episodes": 32, "epochs": 4, "minibatches": 2, "updates": 8},
    "gpu-40m": GPU
    | {"layers": 6, "hidden": 384, "heads": 6, "intermediate": 2304, "tied": True}
    | {"episodes": 512, "microbatch": 256, "trl_microbatch": 256},
    "gpu-160m": GPU
    | {"layers": 12, "hidden": 768, "heads": 12, "intermediate": 2048}
    | {"episodes": 256, "microbatch": 128, "trl_microbatch": 128},
}
COMMON = {"learning_rate": 1e-6, "kl_coef": 0.05, "value_coef": 0.1, "threads": 1, "tied": False}
"""A low rate, so that the random policy stays one and its responses keep their length."""


def make_inputs(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write the policy, the reward model and the prompts that both sides read."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForSequenceClassification

    from reference_models.tiny import make_checkpoint

    words = [f"w{number}" for number in range(settings["vocabulary"] - 3)]
    architecture = {
        "num_hidden_layers": settings["layers"],
        "hidden_size": settings["hidden"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": settings["intermediate"],
        "tie_word_embeddings": settings["tied"],
        "max_position_embeddings": 2 * (settings["prompt"] + settings["new_tokens"]),
    }
    policy, reward, data = folder / "policy", folder / "reward", folder / "prompts.jsonl"
    make_checkpoint(policy, words, seed=1, architecture=architecture)
    torch.manual_seed(2)
    scorer = LlamaForSequenceClassification(AutoConfig.from_pretrained(policy, num_labels=1))
    scorer.save_pretrained(reward)
    AutoTokenizer.from_pretrained(policy).save_pretrained(reward)
    rng = random.Random(3)
    with data.open("w", encoding="utf-8") as file:
        for _ in range((settings["warmup"] + settings["updates"] + 2) * settings["episodes"]):
            row = {"prompt": " ".join(rng.choices(words, k=settings["prompt"])), "completion": words[0]}
            file.write(json.dumps(row) + "\n")
    return {"policy": str(policy), "reward": str(reward), "data": str(data)}


def time_ours(settings: dict[str, Any], result: Path) -> None:
    """Time updates of `reference_models.ppo`; runs in a process of its own."""
    import accelerate
    import torch
    import transformers
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from reference_models.arguments import read_recipe
    from reference_models.ppo import PPOArguments, train

    if settings["device"] == "cpu" and torch.cuda.is_available():
        raise SystemExit("hide the GPU from a CPU configuration: CUDA_VISIBLE_DEVICES=")
    updates = settings["warmup"] + settings["updates"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "model": settings["policy"],
            "reward_model": settings["reward"],
            "value_model": "reward_model",
            "data": settings["data"],
            "output": f"{folder}/checkpoint",
            "steps": updates,
            "batch_size": settings["episodes"],
            "microbatch_size": settings.get("microbatch", 0),
            "epochs": settings["epochs"],
            "minibatches": settings["minibatches"],
            "max_new_tokens": settings["new_tokens"],
            "temperature": 1.0,
            "learning_rate": settings["learning_rate"],
            "kl_coef": settings["kl_coef"],
            "value_coef": settings["value_coef"],
            "mixed_precision": settings["mixed_precision"],
            "compile": settings["compile"],
            "threads": settings["threads"],
            "save_every": updates + 1,
            **settings["ours"],
        }
        args = read_recipe(PPOArguments, None, arguments)
        ends: list[float] = []
        rows: list[dict[str, float]] = []
        optimizer_steps = 0

        def count(*_: Any) -> None:
            nonlocal optimizer_steps
            optimizer_steps += 1

        def progress(_step: int, metrics: dict[str, float]) -> None:
            if settings["device"] == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())
            rows.append(dict(metrics))

        hook = register_optimizer_step_post_hook(count)
        try:
            train(args, progress=progress)
        except torch.cuda.OutOfMemoryError:
            result.write_text(json.dumps({"out_of_memory": "training"}), encoding="utf-8")
            return
        hook.remove()
    after = rows[settings["warmup"] :]
    found = {
        # The first update has no end before it, so warm-up must be at least one.
        "seconds": [b - a for a, b in itertools.pairwise(ends)][settings["warmup"] - 1 :],
        **{phase: [row[f"seconds_{phase}"] for row in after] for phase in ("generating", "scoring", "training")},
        "length": statistics.mean(row["length"] for row in after),
        "optimizer_steps": optimizer_steps / updates,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if settings["device"] == "cuda" else None,
        "settings": {
            **{name: getattr(args, name) for name in ("microbatch_size", "mixed_precision", "compile")},
            **settings["ours"],
        },
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, accelerate)},
    }
    result.write_text(json.dumps(found), encoding="utf-8")


def run(side: str, trl_python: str, given_settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one side once, in a process of its own; halve a batch that does not fit, and run again."""
    given, made = folder / "settings.json", folder / "result.json"
    made.unlink(missing_ok=True)
    here = Path(__file__).resolve()
    settings = given_settings | {"trl_compile": side == "TRL compiled"}
    given.write_text(json.dumps(settings), encoding="utf-8")
    if side == "ours":
        command = [sys.executable, str(here), "--time-ours", str(given), str(made)]
    else:
        command = [trl_python, str(here.with_name("trl_ppo.py")), str(given), str(made)]
    environment = os.environ | {"OMP_NUM_THREADS": str(settings["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    if side != "ours" and "TRL_PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["TRL_PYTHONPATH"]
    if settings["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    result: dict[str, Any] = json.loads(made.read_text(encoding="utf-8"))
    if "out_of_memory" in result:
        whole = "trl_microbatch" if result["out_of_memory"] == "training" else "trl_rollout"
        name = "microbatch" if side == "ours" else whole
        if given_settings[name] < 2:
            raise SystemExit(f"{side}: no batch fits")
        # Kept for the rounds to come: what did not fit once need not be tried again.
        given_settings[name] //= 2
        print(f"{side}: out of memory; {name} is now {given_settings[name]}", file=sys.stderr, flush=True)
        return run(side, trl_python, given_settings, folder)
    seconds = statistics.median(result["seconds"])
    took = time.perf_counter() - started
    summary = f"{settings['name']} {side}: {seconds:.3f} s an update; {took:.0f} s in all"
    print(summary, json.dumps(result), file=sys.stderr, flush=True)
    return result


def hardware(device: str) -> str:
    """Name the processor, or the GPU."""
    if device == "cuda":
        import torch

        return f"one {torch.cuda.get_device_name()}, {os.cpu_count()} cores"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"


def medians(results: list[dict[str, Any]], name: str) -> float:
    """Median over the updates of all rounds."""
    return statistics.median(value for result in results for value in result[name])


def table(measured: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Lay out the medians, a row for each configuration and side."""
    lines = [
        "| configuration | side | s/update (least–most) | updates/s | generating | scoring | training "
        "| tokens a response | optimizer steps | peak GB | its time over ours (by round) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in measured.items():
        for side, results in sides.items():
            seconds = [value for result in results for value in result["seconds"]]
            ratio = ""
            if side != "ours" and "ours" in sides:
                rounds = [
                    statistics.median(theirs["seconds"]) / statistics.median(ours["seconds"])
                    for theirs, ours in zip(results, sides["ours"], strict=True)
                ]
                ratio = f"{statistics.median(rounds):.2f}× ({', '.join(f'{value:.2f}' for value in rounds)})"
            peak = results[0]["peak_gb"]
            phases = " | ".join(f"{medians(results, phase):.3f}" for phase in ("generating", "scoring", "training"))
            lines.append(
                f"| {name} | {side} "
                f"| {statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f}) "
                f"| {1 / statistics.median(seconds):.2f} | {phases} | {results[0]['length']:.1f} "
                f"| {results[0]['optimizer_steps']:g} | {'' if peak is None else f'{peak:.1f}'} | {ratio} |"
            )
    return "\n".join(lines)


def parse(items: list[str]) -> dict[str, Any]:
    """Turn ``name=JSON`` items into a mapping; what is no JSON is text."""
    found: dict[str, Any] = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl-python", help="Python with trl 1.12.0; TRL_PYTHONPATH is its PYTHONPATH")
    parser.add_argument("--configurations", nargs="+", choices=CONFIGURATIONS, default=["cpu-tiny", "cpu-small"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=["TRL", "ours", "TRL compiled"], default=["TRL", "ours"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change every configuration")
    parser.add_argument("--ours", nargs="*", default=[], metavar="NAME=VALUE", help="further fields of PPOArguments")
    parser.add_argument("--time-ours", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time_ours:
        time_ours(json.loads(options.time_ours[0].read_text(encoding="utf-8")), options.time_ours[1])
        return
    if options.trl_python is None and options.sides != ["ours"]:
        parser.error("--trl-python is needed")
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    described = []
    for name in options.configurations:
        settings = {"name": name, **COMMON, **CONFIGURATIONS[name], **parse(options.set), "ours": parse(options.ours)}
        settings.setdefault("trl_microbatch", settings["episodes"])
        settings.setdefault("trl_rollout", settings["episodes"])
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
        with tempfile.TemporaryDirectory() as folder:
            settings |= make_inputs(Path(folder), settings)
            for _ in range(options.rounds):
                for side in options.sides:
                    results[side].append(run(side, options.trl_python, settings, Path(folder)))
        measured[name] = results
        size = next((r["parameters"] for rs in results.values() for r in rs if "parameters" in r), None)
        described.append(
            f"- {name}: Llama of {settings['layers']} layers, width {settings['hidden']}, vocabulary "
            f"{settings['vocabulary']:,}" + (f" ({size / 1e6:.1f}M parameters)" if size else "") + "; "
            f"{settings['episodes']} episodes an update, prompts of {settings['prompt']} tokens, at most "
            f"{settings['new_tokens']} new ones, {settings['epochs']} epochs of "
            f"{settings['minibatches']} minibatch(es), {settings['updates']} updates after {settings['warmup']}, "
            f"{settings['threads']} thread(s) on the CPU."
        )
        described += [f"  - {side}: {json.dumps(rs[0]['settings'])}" for side, rs in results.items()]
    versions = {side: results[0]["versions"] for side, results in measured[options.configurations[0]].items()}
    print(f"""# PPO updates a second, beside trl 1.12.0

    python tests/benchmarks/ppo_speed.py --trl-python … --configurations {" ".join(options.configurations)}

{hardware(settings["device"])}; Python {platform.python_version()}. {options.rounds} round(s), the sides in turn.
Seconds are medians over all counted updates. What is equal and what is not: see the top of `ppo_speed.py`.
""")
    for side, found in versions.items():
        print(f"- {side}: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    print("\n".join(["", *described, "", table(measured)]))


if __name__ == "__main__":
    main()
