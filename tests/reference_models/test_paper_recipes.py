"""Recipes of the paper's sizes: what is said to be the paper's is, and every value says whose it is."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmark.errors import UserError
from reference_models.architectures import paper_models
from reference_models.arguments import RECIPES, read_recipe
from reference_models.methods import METHODS

STAGES = ("sft", "reward-model", "ppo", "best-of-n")
FOLDERS = {f"tldr-{name.rpartition('/')[2]}": name for name in paper_models()}
FILES = [path for folder in (*FOLDERS, "alpaca-farm-llama-7b") for path in sorted((RECIPES / folder).glob("*.yaml"))]
PATHS = {"model": "m", "data": "d", "output": "o"}
PAPER = {
    "sft": {"learning_rate": 3e-5, "batch_size": 128, "frozen_layers": 0.8},
    "reward-model": {"learning_rate": 3e-5, "frozen_layers": 0.8},
    "ppo": {
        "learning_rate": 1.5e-5, "batch_size": 256, "minibatches": 1, "steps": 750, "epochs": 4, "kl_coef": 0.05,
        "frozen_layers": 0.8, "value_model": "shared", "kl_estimator": "k2", "max_new_tokens": 48, "temperature": 1.0,
    },
    "best-of-n": {"n": 16, "temperature": 0.7},
}  # fmt: skip
"""Tables 2 to 4 of Appendix E and section 4, as far as they are known; the estimator and the length from the code."""


def read(method, folder):
    more = {"reward_model": "r"} if method in ("ppo", "best-of-n") else {}
    return read_recipe(METHODS[method].load(), Path(folder), PATHS | more)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("method", STAGES)
def test_they_have_the_papers_values(folder, method):
    args = read(method, folder)
    assert {name: getattr(args, name) for name in PAPER[method]} == PAPER[method]


def test_they_are_installed_with_the_package_though_some_folders_have_a_point_in_their_name():
    settings = tomllib.loads((RECIPES.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    [pattern] = settings["tool"]["setuptools"]["package-data"]["reference_models.recipes"]
    assert set(FILES) <= set(RECIPES.glob(pattern))


def test_they_are_all_there_and_nothing_else():
    assert {(path.parent.name, path.stem) for path in FILES} == {
        (folder, method) for folder in (*FOLDERS, "alpaca-farm-llama-7b") for method in STAGES
    }


@pytest.mark.parametrize(("folder", "model"), [*FOLDERS.items(), ("alpaca-farm-llama-7b", "huggyllama/llama-7b")])
def test_fine_tuning_begins_with_the_base_model(folder, model):
    text = (RECIPES / folder / "sft.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["model"] == model
    command = paper_models()[model].conversion.replace("OUTPUT", "BASE")
    assert f"#     {command}\n" in text
    # Later stages begin with what a stage before them made, which is given on the command line.
    later = [path for path in (RECIPES / folder).glob("*.yaml") if path.stem != "sft"]
    assert not any("model" in yaml.safe_load(path.read_text(encoding="utf-8")) for path in later)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_value_says_whose_it_is(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 120
        if not line.startswith(("#", "model:", "save_every:")):
            assert re.search(r"  # .*\b(paper|Paper|code|ours|farm|Farm)\b", line), line


def test_one_epoch_is_what_one_epoch_of_its_pairs_takes():
    assert read("sft", "tldr-opt-125m").steps == 116_722 // 128
    reward = read("reward-model", "tldr-opt-125m")
    assert reward.steps == int(92_900 * (1 - reward.held_out) / 64)


def test_a_folder_without_the_method_and_a_name_that_is_none_are_one_line(tmp_path, monkeypatch):
    cls = METHODS["dpo"].load()
    with pytest.raises(UserError, match=r"tldr-llama-7b: no recipe for dpo; .*tldr-llama-7b/sft.yaml$") as caught:
        read_recipe(cls, Path("tldr-llama-7b"), PATHS)
    assert "pocket" not in str(caught.value)
    with pytest.raises(UserError, match=r"tldr-llama-8b: no such recipe; with GenDiv come the folders .*tldr-llama-7b"):
        read_recipe(cls, Path("tldr-llama-8b"), PATHS)
    # A folder of that name that holds something else is in nobody's way, and one of one's own comes first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tldr-llama-7b").mkdir()
    assert read("sft", "tldr-llama-7b").steps == 911
    (tmp_path / "tldr-llama-7b" / "sft.yaml").write_text("steps: 5\nbatch_size: 4\nlearning_rate: 1\n")
    assert read("sft", "tldr-llama-7b").steps == 5
