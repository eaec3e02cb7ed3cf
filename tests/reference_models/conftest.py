"""What the trainers' tests share: tiny checkpoints and data of uneven lengths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_runs import ANSWERS, ARCHITECTURE, WORDS, Trainers, make_gpt2, write_jsonl

from reference_models.tiny import make_checkpoint


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    """An untrained Llama of two layers, 13 words."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE)
    return folder


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory) -> Path:
    """An untrained GPT-2 of two layers with the same words."""
    folder = tmp_path_factory.mktemp("gpt2") / "model"
    make_gpt2(folder, WORDS)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with ``pairs.jsonl`` and ``preferences.jsonl``; no two neighbours have as many tokens."""
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(
        folder / "pairs.jsonl", [{"prompt": p, "completion": c} for p, c in [*ANSWERS.items(), *ANSWERS.items()]]
    )
    others = [*list(ANSWERS.values())[1:], "warm"]
    rows = []
    for (prompt, chosen), rejected in zip(ANSWERS.items(), others, strict=True):
        rows += [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]
        if "and" in prompt or "not" in prompt:  # more than a pair of one prompt
            rows += [{"prompt": prompt, "chosen": chosen, "rejected": "green"}]
    write_jsonl(folder / "preferences.jsonl", rows)
    return folder


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory, llama, data) -> Path:
    """A reward model of the Llama, trained for a few steps."""
    from reference_models.reward_model import RewardModelArguments, train

    return train(
        RewardModelArguments(
            model=str(llama),
            data=str(data / "preferences.jsonl"),
            output=str(tmp_path_factory.mktemp("rm") / "rm"),
            steps=4,
            batch_size=4,
            learning_rate=1e-2,
        )
    )


@pytest.fixture
def trainers(llama, data, reward_model, tmp_path, monkeypatch) -> Trainers:
    monkeypatch.setitem(sys.modules, "altair", None)  # to draw the curves takes longer than to train
    return Trainers(llama, data, reward_model, tmp_path)
