"""Tiny checkpoints, and ways to run every trainer on them: in this process, in others, killed on the way."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference_models.arguments import read_recipe
from reference_models.tiny import make_checkpoint

WORDS = ["red", "blue", "green", "warm", "cold", "wet", "is", "very", "and", "not"]
ANSWERS = {
    "red is": "warm",
    "blue is": "cold and very very wet",
    "green is": "very wet",
    "red and blue is": "not cold",
    "not red is": "cold and wet and not very warm",
    "very green is": "wet",
}
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}
Progress = Callable[[int, dict[str, float]], None]
METHODS = {
    "sft": ("sft", "SFTArguments"),
    "reward-model": ("reward_model", "RewardModelArguments"),
    "dpo": ("dpo", "DPOArguments"),
    "ppo": ("ppo", "PPOArguments"),
    "rloo": ("rloo", "RLOOArguments"),
}
ROOT = Path(__file__).parents[1]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_gpt2(folder: Path, words: Sequence[str]) -> None:
    """Write a GPT-2 with learned positions and dropout .1, as they usually come."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    make_checkpoint(folder, words, seed=0, architecture=ARCHITECTURE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2,
        pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0.1
    GPT2LMHeadModel(config).save_pretrained(folder)


@dataclass(frozen=True)
class Trainers:
    """Runs any method on the tiny checkpoints, in this process or in others."""

    llama: Path
    data: Path
    reward_model: Path
    folder: Path

    def arguments(self, method: str, output: str, **change: Any) -> dict[str, Any]:
        """Arguments of a short run whose batches are of uneven lengths."""
        wanted = {
            "model": str(self.llama),
            "data": str(self.data / ("preferences.jsonl" if method in ("dpo", "reward-model") else "pairs.jsonl")),
            "output": str(self.folder / output),
            "steps": 5,
            "batch_size": 4,
            "learning_rate": 5e-3,
            "warmup_steps": 2,
            "weight_decay": 0.1,
            "save_every": 2,
        }
        if method in ("ppo", "rloo"):
            wanted |= {"reward_model": str(self.reward_model), "max_new_tokens": 6, "minibatches": 2, "epochs": 2}
        if method == "rloo":
            wanted |= {"samples": 2, "batch_size": 8}
        if method == "reward-model":
            wanted |= {"held_out": 0.2}
        return wanted | change

    def make(self, method: str, output: str, **change: Any) -> Any:
        """Build the method's arguments."""
        module, name = METHODS[method]
        cls = getattr(importlib.import_module(f"reference_models.{module}"), name)
        return read_recipe(cls, None, self.arguments(method, output, **change))

    def train(
        self,
        method: str,
        output: str,
        *,
        progress: Callable[[int, dict[str, float]], None] | None = None,
        **change: Any,
    ) -> Path:
        """Train in this process."""
        module = importlib.import_module(f"reference_models.{METHODS[method][0]}")
        more = {} if progress is None else {"progress": progress}
        folder: Path = module.train(self.make(method, output, **change), **more)
        return folder

    def command(self, method: str, output: str, *, processes: int = 1, **change: Any) -> list[str]:
        """Return the command line that does the same."""
        values = self.arguments(method, output, **change)
        launch = [sys.executable]
        if processes > 1:
            # On CPUs `accelerate launch` starts a single process, whatever it is told.
            launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        return [
            *launch,
            "-m",
            f"reference_models.{METHODS[method][0]}",
            "--set",
            *(f"{name}={value}" for name, value in values.items()),
        ]


ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}


def run(command: Sequence[str], *, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end; a test that hangs fails."""
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def kill_at(command: Sequence[str], log: Path, step: int, timeout: float = 120) -> None:
    """Start a command and kill it once its log of metrics has a step."""
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + timeout
        try:
            while not (log.exists() and log.read_bytes().count(b"\n") >= step):
                if process.poll() is not None or time.monotonic() > deadline:
                    assert process.stderr is not None
                    process.kill()
                    raise AssertionError(f"it ended before step {step}: {process.stderr.read()}")
        finally:
            process.kill()


def weights(folder: Path) -> dict[str, Any]:
    """Tensors of a checkpoint's one file."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def steps_of(folder: Path) -> list[int]:
    """Step numbers of a log, in their order."""
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
