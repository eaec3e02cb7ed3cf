"""Ladders of two seeds in miniature, trained for two steps: enough for every study to run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_models.methods import train_as_job
from reference_models.studies.setting import QUICK_STEPS
from reference_models.studies.size_pocket import PocketSize
from reference_models.studies.world import load_world

SEEDS = (3, 4)


def quiet(*_told) -> None:
    """Report no progress."""


@pytest.fixture(scope="session")
def ladders(tmp_path_factory) -> Path:
    """A folder of ladders with SFT, reward model and PPO of each seed."""
    folder = tmp_path_factory.mktemp("ladders")
    world = load_world("pocket", folder)
    for seed in SEEDS:
        PocketSize(32, 1).make_chain(world, seed, True, quiet)
        few = {"steps": QUICK_STEPS, "batch_size": 8}
        train_as_job("ppo", world.arguments("ppo", seed, world.model(seed, "ppo"), few), quiet)
    return folder
