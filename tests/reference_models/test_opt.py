"""OPT, the paper's family: learned positions, tied embeddings and, in OPT-350M, another width before the layers."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_opt import make_opt
from tiny_runs import ANSWERS, weights, write_jsonl

from reference_models.arguments import read_recipe
from reference_models.methods import METHODS, load_method
from reference_models.models import load_policy, make_trainable, transformer_layers


@pytest.fixture(scope="module", params=[16, 8], ids=["one width", "two widths"])
def opt(request, tmp_path_factory):
    return make_opt(tmp_path_factory.mktemp("opt") / "base", request.param)


def arguments(method, recipe, opt, folder, **change):
    given = {"model": opt, "data": folder / "data.jsonl", "output": folder / method, "batch_size": 4}
    if method != "best-of-n":
        given |= {"steps": 2, "microbatch_size": 2}
    if method in ("ppo", "best-of-n"):
        given |= {"reward_model": folder / "reward-model", "max_new_tokens": 5}
    given = {name: str(value) for name, value in {**given, **change}.items()}
    return read_recipe(METHODS[method].load(), Path(recipe), given)


def test_every_recipe_of_the_paper_trains_it(opt, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)  # to draw the curves takes longer than to train
    rows = [{"prompt": p, "completion": c, "chosen": c, "rejected": "green"} for p, c in ANSWERS.items()]
    write_jsonl(tmp_path / "data.jsonl", rows * 2)
    model = opt
    for method in ("sft", "reward-model", "ppo", "best-of-n"):
        output = load_method(method).train(arguments(method, "tldr-opt-350m", model, tmp_path))
        assert (output / "training.json").exists()
        if method == "sft":
            model = output
    before, after = weights(model), weights(tmp_path / "ppo")
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".layers.4." in name or "final_layer_norm" in name or "project_out" in name for name in moved), moved


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_no_gradient_goes_back_through_frozen_layers(opt, share):
    """Were positions or the matrix before the layers trained, the frozen layers would be computed backwards."""
    args = arguments("sft", "tldr-opt-125m", opt, Path(), frozen_layers=share)
    model = make_trainable(load_policy(str(opt)), args)
    layers, kept = transformer_layers(model), []
    for layer in layers:
        layer.register_forward_hook(lambda _layer, _given, out: kept.append(torch.as_tensor(out).requires_grad))
    model(torch.tensor([[3, 4, 5]]))
    first = round(share * len(layers))
    assert kept == [number >= first for number in range(len(layers))]
