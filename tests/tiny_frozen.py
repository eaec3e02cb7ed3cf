"""The suites that freeze their prompts, frozen with invented data instead; and a reward model to judge by."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tiny_runs import WORDS
from tiny_suites import ARCHITECTURE, make_data_root

from benchmark.judging.config import find_judge, load_judge_configs
from benchmark.records import prompts_sha256
from benchmark.submission import suited
from benchmark.suites import PromptSet, Suite, data_of, load_prompts, load_suites, load_task
from reference_models.tiny import make_checkpoint

SUITES = ("real-text-summarisation", "real-text-instructions")
JUDGE = "real-text-judge"


def make_data(folder: Path, prompts: int = 5) -> Path:
    """Invent a data root; the sequential instructions have no outputs."""
    make_data_root(folder, prompts)
    path = folder / "sequential_instructions" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({"instruction": row["instruction"]}) + "\n" for row in rows), encoding="utf-8")
    return folder


def make_reward_model(folder: Path, seed: int = 1) -> Path:
    """Write a random sequence classifier with one label."""
    import torch
    from transformers import AutoModelForSequenceClassification

    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE | {"max_position_embeddings": 2048})
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.score.weight.data.normal_()
    model.save_pretrained(folder)
    return folder


@contextmanager
def frozen(data: Path, weights_sha256: str) -> Iterator[None]:
    """Have the suites be of this data, and their judge of these weights, for the length of a ``with`` block."""
    ours, judges = load_suites(), load_judge_configs()
    thawed = {
        name: suite.model_copy(update={"tasks": tuple(t.model_copy(update={"prompts": None}) for t in suite.tasks)})
        for name, suite in ours.items()
        if suite.suite in SUITES
    }
    with patch.dict(os.environ, {"GENDIV_DATA": str(data)}):
        found = {name: _freeze(suite) for name, suite in thawed.items()}
    judges[JUDGE] = find_judge(JUDGE).model_copy(update={"weights_sha256": weights_sha256})
    suited._suites_own.cache_clear()
    try:
        with (
            patch("benchmark.suites.load_suites", lambda: ours | found),
            patch("benchmark.judging.config.load_judge_configs", lambda: judges),
        ):
            yield
    finally:
        suited._suites_own.cache_clear()


def _freeze(suite: Suite) -> Suite:
    tasks = []
    for entry, prompts in zip(suite.tasks, load_prompts(suite).values(), strict=True):
        sets = PromptSet(
            n=len(prompts),
            sha256=prompts_sha256(prompts),
            data=data_of(load_task(entry.task)),
            references=any(prompt.references for prompt in prompts),
            references_apart=random.Random(entry.task).random(),
        )
        tasks.append(entry.model_copy(update={"prompts": sets}))
    return suite.model_copy(update={"tasks": tuple(tasks)})
