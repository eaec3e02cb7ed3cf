"""What is gained by not reading padding in fine-tuning and PPO, and by reading a prompt once for all of its outputs.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/unread_tokens.py > tests/benchmarks/unread_tokens.md

Both sides in turn, in one process: as it is, and with that one thing turned off.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch
from tabulate import tabulate

from benchmark import reward_model
from reference_models import ppo, sft
from reference_models.core import Batch, collate
from reference_models.tiny import make_checkpoint
from reference_models.training import Training

WORDS = [f"w{number}" for number in range(500)]
ARCHITECTURE = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
}
EPISODES, UPDATES, ROUNDS = 32, 2, 2
OUTPUTS, OUTPUT = 64, 24
EXPLANATION = """
SFT: the rows of a batch are put in order of length before they are cut into microbatches, and those of a microbatch end
together, so that it is as long as its longest row. Turned off: still in order of length, but prompts end together, so
that a microbatch is as long as its longest prompt plus its longest completion.
PPO: the episodes of a minibatch are put in order of length before they are cut into microbatches, and a microbatch is
as long as its own longest prompt. Turned off: as they come, as long as the update's longest. A sum over tokens knows no
order, so that only rounding differs. The time is that of scoring and training; rollouts are drawn alike.
Reward model: 64 outputs of 24 tokens, each behind the same prompt, which is read once, or 64 times.
"""


def write_models(root: Path) -> list[int]:
    """Write prompts, an untrained policy and an untrained reward model; the prompts' lengths."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    # About those of posts and instructions: median 100, one in ten above 360.
    lengths = [drawn_length(4.6, 20) for _ in range(4 * EPISODES)]
    rows = [{"prompt": " ".join(random.choices(WORDS, k=n))} for n in lengths]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pairs = [row | {"completion": " ".join(random.choices(WORDS, k=drawn_length(3.0, 2)))} for row in rows]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    make_checkpoint(root / "policy", WORDS, seed=1, architecture=ARCHITECTURE)
    model = AutoModelForSequenceClassification.from_pretrained(root / "policy", num_labels=1)
    model.save_pretrained(root / "judge")
    AutoTokenizer.from_pretrained(root / "policy").save_pretrained(root / "judge")
    return lengths


def drawn_length(mean: float, least: int) -> int:
    """Draw a length whose logarithm has a mean, and standard deviation 1."""
    return min(800, max(least, round(random.lognormvariate(mean, 1.0))))


def steps(root: Path, name: str, microbatch_size: int, *, padded: bool) -> list[float]:
    """Fine-tune, and tell what each step but the first took."""
    times = []
    args = sft.SFTArguments(
        model=str(root / "policy"),
        data=str(root / "pairs.jsonl"),
        output=str(root / name),
        steps=UPDATES + 1,
        batch_size=EPISODES,
        microbatch_size=microbatch_size,
        learning_rate=1e-5,
    )
    with ExitStack() as stack:
        if padded:
            stack.enter_context(patch.object(sft, "collate", lambda *rows, **_: collate(*rows)))
        sft.train(args, progress=lambda *_: times.append(perf_counter()))
    return [after - before for before, after in pairwise(times)]


def updates(root: Path, name: str, microbatch_size: int, *, padded: bool) -> list[float]:
    """Train, and tell what scoring and training took in each update."""
    seconds = []
    args = ppo.PPOArguments(
        model=str(root / "policy"),
        reward_model=str(root / "judge"),
        data=str(root / "prompts.jsonl"),
        output=str(root / name),
        steps=UPDATES,
        batch_size=EPISODES,
        microbatch_size=microbatch_size,
        minibatches=2,
        epochs=2,
        max_new_tokens=32,
        max_kl=1e9,
        learning_rate=1e-5,
    )
    with ExitStack() as stack:
        if padded:
            stack.enter_context(patch.object(Training, "by_length", lambda _, items, length: items))
            stack.enter_context(patch.object(Batch, "tight", lambda batch: batch))
        ppo.train(args, progress=lambda _, m: seconds.append(m["seconds_scoring"] + m["seconds_training"]))
    return seconds


def scoring(model: object, prompt: int, *, one_prompt: bool) -> float:
    """Time the scores of many outputs of one prompt."""
    draw = random.Random(1)
    head = draw.choices(range(3, 400), k=prompt)
    sequences = [[*head, *draw.choices(range(3, 400), k=OUTPUT)] for _ in range(OUTPUTS)]
    start = perf_counter()
    reward_model.score_sequences(model, sequences, one_prompt=one_prompt)
    return perf_counter() - start


def main() -> None:
    """Measure, and print the table."""
    random.seed(1)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lengths = write_models(root)
        for size in (4, 8):
            taken_by: dict[bool, list[float]] = {True: [], False: []}
            for number in range(ROUNDS):
                for padded, own in taken_by.items():
                    own += steps(root, f"sft-{size}-{number}-{padded}", size, padded=padded)
            off, on = (statistics.median(own) for own in taken_by.values())
            rows.append([f"SFT: a step of {EPISODES} rows, microbatches of {size}", off, on, off / on])
        for size in (4, 8):
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for number in range(ROUNDS):
                for padded, own in seconds.items():
                    own += updates(root, f"{size}-{number}-{padded}", size, padded=padded)
            off, on = (statistics.median(own) for own in seconds.values())
            rows.append([f"PPO: an update of {EPISODES} episodes, microbatches of {size}", off, on, off / on])
        model, _ = reward_model.load(str(root / "judge"))
        for prompt in (50, 200, 800):
            taken: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(ROUNDS):
                for once, times in taken.items():
                    times.append(scoring(model, prompt, one_prompt=once))
            off, on = (min(times) for times in taken.values())
            rows.append([f"reward model: {OUTPUTS} outputs of a prompt of {prompt} tokens", off, on, off / on])
    print("# Tokens that are not read\n")
    print((__doc__ or "").split("\n\n")[1])
    print(f"\nOne CPU thread, Llamas of 2 layers and width 64, torch {torch.__version__.partition('+')[0]}; both sides")
    print(f"in turn, medians of {ROUNDS * UPDATES} steps, or the better of {ROUNDS} calls. Prompts of SFT and PPO have")
    print(f"{min(lengths)} to {max(lengths)} tokens, {statistics.mean(lengths):.0f} on average.\n")
    header = ["what", "turned off (s)", "as it is (s)", "ratio"]
    print(tabulate(rows, headers=header, tablefmt="pipe", floatfmt=("", ".2f", ".2f", ".2f")))
    print(EXPLANATION, end="")


if __name__ == "__main__":
    main()
