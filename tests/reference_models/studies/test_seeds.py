"""Models over training seeds: what is not in every seed is not compared, and is named."""

import json

import pytest
from synthetic_scores import swept

from reference_models.studies.seeds import write_report
from reference_models.studies.setting import Setting
from reference_models.studies.world import load_world


@pytest.fixture
def setting(tmp_path):
    return Setting(load_world("pocket", tmp_path), (3, 4), tmp_path / "out", tmp_path / "results", command="gendiv …")


def written(setting, ladders):
    path = write_report(
        setting, {seed: [swept(name, grid=(1.0,)) for name in names] for seed, names in ladders.items()}
    )
    return path.read_text(encoding="utf-8"), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_a_model_that_is_not_in_every_seed_is_named_with_the_seeds_that_have_it(setting):
    text, record = written(setting, {3: ["sft", "ppo", "dpo"], 4: ["sft", "ppo", "rloo"]})
    assert {row["model"] for row in record["over_seeds"]} == {"ppo"}
    assert record["not_in_every_seed"] == {"dpo": [3], "rloo": [4]}
    assert "- dpo: a run in seed 3 alone" in text.splitlines()


def test_where_every_seed_has_all_nothing_is_said_of_it(setting):
    text, record = written(setting, {3: ["sft", "ppo"], 4: ["ppo", "sft"]})
    assert record["not_in_every_seed"] == {}
    assert "alone" not in text
