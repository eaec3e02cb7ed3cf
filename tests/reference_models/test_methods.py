"""Every method by its name, from the command line."""

import json
import sys

import pytest

from benchmark import cli
from reference_models.methods import METHODS, load_method


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process: (status, standard output, error stream)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_listed_and_has_arguments_a_train_and_an_example(gendiv, name):
    module = load_method(name)
    assert METHODS[name].load().__doc__
    assert callable(module.train)
    assert f"gendiv train {name} " in module.__doc__
    _, out, _ = gendiv("list", "methods")
    assert name in out


def test_a_method_trains_by_recipe_and_overrides_and_says_where(gendiv, trainers):
    wanted = trainers.arguments("sft", "made", steps=2)
    words = [f"{name}={value}" for name, value in wanted.items()]
    status, out, err = gendiv("train", "sft", "--recipe", "pocket/sft.yaml", "--set", *words)
    assert (status, out) == (0, f"made: {wanted['output']}\n"), err
    record = json.loads((trainers.folder / "made" / "training.json").read_text())
    assert record["arguments"]["steps"] == 2, "an override wins over the recipe"
    assert record["arguments"]["max_grad_norm"] == 1.0


def test_an_average_is_made_as_the_others_are(gendiv, llama, tmp_path):
    status, out, err = gendiv("train", "average", "--set", f"first={llama}", f"second={llama}", f"output={tmp_path}/a")
    assert (status, out) == (0, f"made: {tmp_path}/a\n"), err
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (llama / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("grpo",), "no method 'grpo'; there are: sft, reward-model"),
        (("sft", "--recipe", "pocket/none.yaml"), "no such recipe; with GenDiv come pocket/"),
        (("sft", "--set", "steps"), "'steps': give field=value"),
        (("sft", "--set", "step=3"), "unknown field 'step'; there are: model, data"),
        (("sft",), "field 'model' is missing"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_mend(gendiv, words, told):
    status, out, err = gendiv("train", *words)
    assert (status, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1
