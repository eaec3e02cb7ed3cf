"""PPO against loops over unpadded sequences, and its rollouts against the distribution they are drawn from."""

import json
import sys
from pathlib import Path

import pytest
import torch
from oracles import exact_sequences, tiny_world, trainer_checks
from safetensors.torch import load_file
from scipy import stats

from benchmark.errors import UserError
from reference_models import models, ppo
from reference_models.rollouts import InProcessSampler

KINDS = ["llama", "gpt2"]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """They take as long to draw as a run takes to train."""
    monkeypatch.setitem(sys.modules, "altair", None)


@pytest.fixture(scope="module", params=KINDS)
def bench(request, tmp_path_factory):
    return trainer_checks.make_bench(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_world.make_world(tmp_path_factory.mktemp("world"), seed=9)


def arguments(world: Path, output: Path, **fields) -> ppo.PPOArguments:
    return ppo.PPOArguments(
        **{
            "model": str(world / "policy"),
            "reward_model": str(world / "judge"),
            "data": str(world / "prompts.jsonl"),
            "output": str(output),
            "steps": 2,
            "batch_size": 12,
            "learning_rate": 3e-3,
            "max_new_tokens": 6,
            **fields,
        }
    )


def metrics_of(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


# ---- Numbers ----


@pytest.mark.parametrize("microbatch_size", [0, 1, 4])
def test_advantages_returns_and_metrics_are_those_of_unpadded_sequences(bench, microbatch_size):
    trainer_checks.ppo_episodes(bench, microbatch_size)


@pytest.mark.parametrize("microbatch_size", [0, 1, 4])
def test_the_loss_is_the_mean_over_tokens_whatever_the_microbatches(bench, microbatch_size):
    trainer_checks.ppo_step(bench, microbatch_size)


def test_a_score_moves_the_last_token_and_all_before_and_padding_moves_nothing(bench):
    trainer_checks.gradients(bench, ppo)


@pytest.mark.parametrize("value_model", ["reward_model", "shared"])
def test_padding_changes_no_number(bench, value_model):
    trainer_checks.padding(bench, value_model)


# ---- Runs ----


@pytest.mark.parametrize("microbatch_size", [0, 5])
@pytest.mark.parametrize("value_model", ["reward_model", "shared"])
def test_before_the_first_step_nothing_has_moved(world, tmp_path, microbatch_size, value_model):
    """Ratios are 1 and the KL is 0, to the last bit."""
    fields = {"steps": 1, "epochs": 1, "temperature": 0.8, "microbatch_size": microbatch_size}
    args = arguments(world, tmp_path / "out", value_model=value_model, **fields)
    (metrics,) = metrics_of(ppo.train(args))
    assert {name: metrics[name] for name in ("approx_kl", "clip_fraction", "kl")} == {
        "approx_kl": 0.0,
        "clip_fraction": 0.0,
        "kl": 0.0,
    }
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-6)  # the mean of whitened advantages
    assert metrics["grad_norm"] > 0


def test_microbatches_change_nothing_but_rounding(world, tmp_path):
    runs = [
        ppo.train(arguments(world, tmp_path / str(size), microbatch_size=size, minibatches=2, epochs=2))
        for size in (0, 4)
    ]
    for one, other in zip(*map(metrics_of, runs), strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == pytest.approx(
            {k: v for k, v in other.items() if "seconds" not in k}, rel=1e-3, abs=1e-5
        )


def test_a_microbatch_is_as_long_as_its_own_longest_prompt(world, tmp_path, monkeypatch):
    """Neighbours are of like length, in scoring and in training, and none is padded to the update's longest."""
    prompts = [" ".join(["a"] * length) for length in (9, 1, 5, 2, 7, 3, 8, 4)]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    lengths, forward = [], ppo.ActorCritic.forward

    def spy(model, batch, *given, **named):
        lengths.append(batch.attention[:, : -batch.mask.shape[1]].sum(dim=-1).tolist())
        assert batch.attention[:, 0].any(), "a column of padding alone is read"
        return forward(model, batch, *given, **named)

    monkeypatch.setattr(ppo.ActorCritic, "forward", spy)
    fields = {"steps": 1, "batch_size": 8, "minibatches": 2, "microbatch_size": 2}
    ppo.train(arguments(world, tmp_path / "out", data=str(data), **fields))
    assert len(set(map(tuple, lengths))) == 4
    for place in range(0, len(lengths), 2):
        minibatch = [length for part in lengths[place : place + 2] for length in part]
        assert minibatch == sorted(minibatch)


def test_the_papers_settings_train_and_leave_what_is_frozen_alone(world, tmp_path):
    """k2, a value head on the policy's trunk, and the first layers as they were."""
    output = ppo.train(
        arguments(world, tmp_path / "out", kl_estimator="k2", value_model="shared", frozen_layers=0.5, max_new_tokens=3)
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (world / "policy", output))
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if ".layers.0." in name or "embed_tokens" in name}
    assert moved == set(before) - frozen


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_with_all_layers_frozen_the_head_still_learns(world, tmp_path, share):
    output = ppo.train(arguments(world, tmp_path / "out", value_model="shared", frozen_layers=share))
    before, after = (load_file(folder / "model.safetensors") for folder in (world / "policy", output))
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"lm_head.weight", "model.norm.weight"}


@pytest.mark.parametrize("fields", [{"minibatches": 5}, {"minibatches": 0}, {"epochs": 0}])
def test_episodes_that_cannot_be_cut_into_minibatches_are_refused(world, tmp_path, fields):
    with pytest.raises(UserError, match="must be a multiple of minibatches"):
        ppo.train(arguments(world, tmp_path / "out", **fields))
    assert list(tmp_path.iterdir()) == []


# ---- Rollouts ----


def sampler(world: Path, batch_size: int = 0, **fields) -> InProcessSampler:
    made = InProcessSampler(
        models.load_policy(str(world / "policy")),
        **{
            "is_copy": False,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "max_new_tokens": 8,
            "temperature": 0.7,
            "seed": 1,
            "batch_size": batch_size,
            "autocast": torch.no_grad,
            **fields,
        },
    )
    made.sync(3, dict)
    return made


ASKED = [[1, 2], [2, 1, 2, 0], [2], [0, 0, 2], [1, 2], [2, 2, 2, 2, 2, 1]]
ROWS = [10, 4, 7, 0, 11, 5]


@pytest.mark.parametrize("n", [1, 3])
def test_completions_depend_on_no_batch_no_order_and_no_share_of_processes(world, n):
    whole = sampler(world).generate(ASKED, n, ROWS)
    assert len(whole) == n * len(ASKED)
    for batch_size in (1, 4, 100):
        assert sampler(world, batch_size).generate(ASKED, n, ROWS) == whole
    backwards = sampler(world).generate(ASKED[::-1], n, ROWS[::-1])
    assert [backwards[n * i + j] for i in reversed(range(len(ASKED))) for j in range(n)] == whole
    shares = [sampler(world).generate(ASKED[part], n, ROWS[part]) for part in (slice(0, 2), slice(2, None))]
    assert shares[0] + shares[1] == whole


def test_noise_is_new_for_every_row_completion_step_and_seed(world):
    """A prompt that stands in the data many times is drawn from as often, not copied."""
    drawn = sampler(world, max_new_tokens=20, eos_token_id=99).generate([[1, 2]] * 8, 4, range(8))
    assert len({tuple(c.tokens) for c in drawn}) == 32
    other = sampler(world, max_new_tokens=20, eos_token_id=99, seed=2)
    assert not {tuple(c.tokens) for c in other.generate([[1, 2]] * 8, 4, range(8))} & {tuple(c.tokens) for c in drawn}
    later = sampler(world, max_new_tokens=20, eos_token_id=99)
    later.sync(4, dict)
    assert not {tuple(c.tokens) for c in later.generate([[1, 2]] * 8, 4, range(8))} & {tuple(c.tokens) for c in drawn}


def test_completions_follow_the_policy_at_the_temperature_that_training_reads_it_at(world):
    """Padding tokens drawn are read as tokens; the prompt is padded on the left beside a longer one."""
    prompt, longer = [1, 2], [2, 1, 2]
    drawn = sampler(world, max_new_tokens=3).generate([prompt, longer], 4000, [0, 1])[:4000]
    assert all(c.finished == (c.tokens[-1] == 1) for c in drawn)
    assert all(len(c.tokens) == 3 or c.finished for c in drawn)
    listed = exact_sequences.completions(3, 1, 3)
    probabilities = exact_sequences.sequence_log_probs(models.load_policy(str(world / "policy")), prompt, listed, 0.7)
    counts = [sum(c.tokens == tokens for c in drawn) for tokens in listed]
    assert stats.chisquare(counts, 4000 * probabilities.exp().numpy()).pvalue > 0.01


def test_a_prompt_that_leaves_no_room_is_refused(world):
    with pytest.raises(UserError, match="30 tokens and max_new_tokens 8 are more than the 32 positions"):
        sampler(world).generate([[2] * 30], 1, [0])
