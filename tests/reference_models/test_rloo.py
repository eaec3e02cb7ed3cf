"""RLOO against loops over unpadded sequences."""

import json
import sys
from pathlib import Path

import pytest
from oracles import tiny_world, trainer_checks

from benchmark.errors import UserError
from reference_models import rloo


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """They take as long to draw as a run takes to train."""
    monkeypatch.setitem(sys.modules, "altair", None)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def bench(request, tmp_path_factory):
    return trainer_checks.make_bench(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world.make_world(tmp_path_factory.mktemp("world"), seed=9)


def arguments(world: Path, output: Path, **fields) -> rloo.RLOOArguments:
    return rloo.RLOOArguments(
        **{
            "model": str(world / "policy"),
            "reward_model": str(world / "judge"),
            "data": str(world / "prompts.jsonl"),
            "output": str(output),
            "steps": 2,
            "batch_size": 12,
            "samples": 3,
            "learning_rate": 3e-3,
            "max_new_tokens": 6,
            **fields,
        }
    )


def metrics_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("microbatch_size", [0, 1, 4])
def test_advantages_and_metrics_are_those_of_unpadded_sequences(bench, microbatch_size):
    trainer_checks.rloo_episodes(bench, microbatch_size)


@pytest.mark.parametrize("microbatch_size", [0, 1, 4])
def test_the_loss_is_the_mean_over_completions_whatever_the_microbatches(bench, microbatch_size):
    trainer_checks.rloo_step(bench, microbatch_size)


def test_a_reward_moves_every_token_and_padding_moves_nothing(bench):
    trainer_checks.gradients(bench, rloo)


@pytest.mark.parametrize("microbatch_size", [0, 5])
def test_before_the_first_step_nothing_has_moved(world, tmp_path, microbatch_size):
    """Ratios are 1 and the KL is 0, to the last bit."""
    args = arguments(world, tmp_path / "out", steps=1, temperature=0.8, microbatch_size=microbatch_size)
    (metrics,) = metrics_of(rloo.train(args))
    assert {name: metrics[name] for name in ("approx_kl", "clip_fraction", "kl")} == {
        "approx_kl": 0.0,
        "clip_fraction": 0.0,
        "kl": 0.0,
    }
    assert metrics["grad_norm"] > 0


def test_microbatches_change_nothing_but_rounding(world, tmp_path):
    runs = [
        rloo.train(arguments(world, tmp_path / str(size), microbatch_size=size, minibatches=2, epochs=2))
        for size in (0, 4)
    ]
    for one, other in zip(*map(metrics_of, runs), strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == pytest.approx(
            {k: v for k, v in other.items() if "seconds" not in k}, rel=1e-3, abs=1e-5
        )


@pytest.mark.parametrize(
    "fields", [{"samples": 1}, {"samples": 0}, {"samples": 5}, {"minibatches": 3}, {"minibatches": 0}, {"epochs": 0}]
)
def test_completions_that_cannot_be_cut_into_groups_are_refused(world, tmp_path, fields):
    with pytest.raises(UserError, match="must be a multiple of samples"):
        rloo.train(arguments(world, tmp_path / "out", **fields))
    assert list(tmp_path.iterdir()) == []
