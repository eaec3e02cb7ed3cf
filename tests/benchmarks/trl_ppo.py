"""TRL's side of `ppo_speed.py`: time updates of trl 1.12.0's PPOTrainer as it is. Needs trl, and nothing of GenDiv.

    python tests/benchmarks/trl_ppo.py SETTINGS.json RESULT.json

The loop that is timed is TRL's own. This file loads the models, fills in `PPOConfig`, and notes the time at the end of
every update, after the generation, and at the first pass of the training phase.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
# What `accelerate launch --mixed_precision bf16 --dynamo_backend inductor` sets. PPOTrainer makes its own Accelerator
# from the environment alone: under transformers 5, bf16=True in PPOConfig would be ignored without a word.
os.environ["ACCELERATE_MIXED_PRECISION"] = settings["mixed_precision"]
if settings["trl_compile"]:
    os.environ["ACCELERATE_DYNAMO_BACKEND"] = "INDUCTOR"

import accelerate  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer  # noqa: E402

CUDA = torch.cuda.is_available() and settings["device"] == "cuda"
GENERATE = ppo_trainer.batch_generation


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """Notes when each phase of each update ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.phase = "generating"
        self.split: dict[str, list[float]] = {"generating": [], "scoring": [], "training": []}
        self.lengths: list[float] = []
        self.optimizer_steps = 0

    def now(self) -> float:
        if CUDA:
            torch.cuda.synchronize()
        return time.perf_counter()

    def count(self, *_: Any) -> None:
        self.optimizer_steps += 1

    def turn(self, phase: str) -> None:
        """End the phase under way."""
        now = self.now()
        self.split[self.phase].append(now - self.begun)
        self.begun, self.phase = now, phase

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.begun = self.now()
        self.ends.append(self.begun)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.turn("generating")
        self.ends.append(self.begun)


def measure(per_device: int, rollout: int, clock: Clock) -> dict[str, Any]:
    """Run the updates with so many sequences a training pass, and so many a generation and scoring pass."""
    episodes, updates = settings["episodes"], settings["warmup"] + settings["updates"]
    tokenizer = AutoTokenizer.from_pretrained(settings["policy"], padding_side="left")
    rows = [json.loads(line) for line in Path(settings["data"]).read_text(encoding="utf-8").splitlines()]
    prompts = [tokenizer(row["prompt"])["input_ids"] for row in rows]
    # Accelerate ends an accumulation at the last batch of the data, so that batch must never come.
    assert len(prompts) > (updates + 1) * episodes
    # TRL steps the optimizer once per gradient_accumulation_steps passes, whatever minibatch they belong to.
    assert settings["minibatches"] == 1 or per_device == episodes
    frozen = torch.bfloat16 if settings["mixed_precision"] == "bf16" else torch.float32
    policy = AutoModelForCausalLM.from_pretrained(settings["policy"], dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(settings["policy"], dtype=frozen)
    load_scorer = AutoModelForSequenceClassification.from_pretrained
    reward = load_scorer(settings["reward"], num_labels=1, dtype=frozen)
    value = load_scorer(settings["reward"], num_labels=1, dtype=torch.float32)
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=episodes // per_device,
        num_mini_batches=settings["minibatches"],
        num_ppo_epochs=settings["epochs"],
        total_episodes=updates * episodes,
        local_rollout_forward_batch_size=rollout,
        response_length=settings["new_tokens"],
        stop_token="eos",
        temperature=1.0,
        learning_rate=settings["learning_rate"],
        kl_coef=settings["kl_coef"],
        vf_coef=settings["value_coef"],
        bf16=settings["mixed_precision"] == "bf16",
        tf32=True if CUDA else None,
        gradient_checkpointing=False,
        num_sample_generations=0,
        use_cpu=not CUDA,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        seed=1,
    )
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        eval_dataset=Dataset.from_dict({"input_ids": prompts[:1]}),
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.PrinterCallback)

    def timed_generation(model: Any, queries: Any, *rest: Any) -> Any:
        out = GENERATE(model, queries, *rest)
        clock.turn("scoring")
        clock.lengths.append((out[0][:, queries.shape[1] :] != tokenizer.pad_token_id).sum(1).float().mean().item())
        return out

    def first_pass(*_: Any) -> None:
        if clock.phase == "scoring":
            clock.turn("training")

    ppo_trainer.batch_generation = timed_generation
    trainer.model.register_forward_pre_hook(first_pass)
    counting = register_optimizer_step_post_hook(clock.count)
    try:
        trainer.train()
    finally:
        counting.remove()
    after = slice(settings["warmup"], None)
    return {
        "seconds": [b - a for a, b in itertools.pairwise(clock.ends)][after],
        **{phase: seconds[after] for phase, seconds in clock.split.items()},
        "length": sum(clock.lengths[after]) / settings["updates"],
        "optimizer_steps": clock.optimizer_steps / updates,
        "parameters": sum(p.numel() for p in policy.parameters()),
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if CUDA else None,
        "settings": {
            "per_device_train_batch_size": per_device,
            "local_rollout_forward_batch_size": rollout,
            "bf16": config.bf16,
            "autocast": str(trainer.accelerator.mixed_precision),
            "reference and reward model": str(frozen).removeprefix("torch."),
            "optim": str(config.optim),
            "compile": settings["trl_compile"],
            "attention": policy.config._attn_implementation,
        },
    }


def main() -> None:
    torch.set_num_threads(settings["threads"])
    clock = Clock()
    try:
        result = measure(settings["trl_microbatch"], settings["trl_rollout"], clock)
    except torch.cuda.OutOfMemoryError:
        result = {"out_of_memory": clock.phase}
    modules = (trl, torch, transformers, accelerate)
    result["versions"] = {module.__name__: module.__version__ for module in modules}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
