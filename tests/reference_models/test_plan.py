"""Hours from operations and measured speed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from reference_models import plan
from reference_models.arguments import read_recipe
from reference_models.flops import Shape, forward_flops, learning_flops, ppo_flops, sft_flops, training_flops
from reference_models.methods import METHODS
from reference_models.plan import Hours, Means, Measured

SHAPE = Shape(layers=2, width=8, intermediate=16, vocabulary=30)
ROWS = (
    Measured("NVIDIA H200", "sft", 40e6, 1e14),
    Measured("NVIDIA H200", "sft", 160e6, 3e14),
    Measured("NVIDIA H100 80GB", "sft", 40e6, 2e14),
    Measured("NVIDIA H200", "ppo", 160e6, 1e14),
    Measured("NVIDIA H200", "reward-model", 160e6, 2e14),
)
PATHS = {"model": "m", "data": "d", "output": "o"}


def arguments(method, **change):
    needed = {"steps": 5, "batch_size": 8, "learning_rate": 1e-3} if method != "best-of-n" else {}
    needed |= {"reward_model": "r"} if method in ("ppo", "rloo", "best-of-n") else {}
    return read_recipe(METHODS[method].load(), None, PATHS | needed | change)


def test_the_nearest_size_is_expected_and_the_others_bound_it():
    large, small = (plan.speed(ROWS, "NVIDIA H200", "sft", size) for size in (7e9, 1e6))
    assert (large.nearest, large.slowest, large.fastest) == (3e14, 1e14, 3e14)
    assert small.nearest == 1e14
    assert "sft of 160 M parameters" in large.of
    assert plan.hours(3600 * 3e14, large) == Hours(expected=1.0, low=1.0, high=3.0)


@pytest.mark.parametrize(
    ("method", "stands_for_it"),
    [("dpo", "reward-model"), (plan.LEARNING, "sft")],
)
def test_another_method_stands_for_one_that_was_not_measured_and_it_is_said(method, stands_for_it):
    found = plan.speed(ROWS, "NVIDIA H200", method, 7e9)
    assert found.of == f"{stands_for_it} of 160 M parameters, in place of {method}"
    own = plan.speed((*ROWS, Measured("NVIDIA H200", method, 1e6, 7.0)), "NVIDIA H200", method, 7e9)
    assert (own.nearest, own.of) == (7.0, f"{method} of 1 M parameters")


def test_what_was_not_measured_is_one_line():
    with pytest.raises(
        UserError, match="the speed of generate was not measured on NVIDIA H100 80GB; measured were: sft"
    ):
        plan.speed(ROWS, "NVIDIA H100 80GB", plan.GENERATE, 1e9)
    with pytest.raises(UserError, match="--gpu B300: none such was measured; there are: NVIDIA H200, NVIDIA H100 80GB"):
        plan.choose_gpu(ROWS, "B300")
    with pytest.raises(UserError, match="several were measured"):
        plan.choose_gpu(ROWS, "NVIDIA")
    assert [plan.choose_gpu(ROWS, name) for name in (None, "h100")] == ["NVIDIA H200", "NVIDIA H100 80GB"]
    with pytest.raises(UserError, match="there are: none"):
        plan.choose_gpu(())


def test_the_file_is_read_with_whatever_else_it_says(tmp_path):
    path = tmp_path / "throughput.yaml"
    path.write_text(
        "- {gpu: X, parameters: 38.7e6, method: sft, sequences: 1, flops_per_second: 1.5e14, tokens: 512}\n"
    )
    assert plan.read_throughput(path) == (Measured("X", "sft", 38.7e6, 1.5e14),)
    for text in ("- {gpu: X}", "3", "[3]", "{", "- {gpu: X, parameters: a, method: sft, flops_per_second: 1}"):
        path.write_text(text)
        with pytest.raises(UserError, match="is no list of measured throughput") as caught:
            plan.read_throughput(path)
        assert "\n" not in str(caught.value).replace(text, "")
    with pytest.raises(UserError, match="is a folder, and no list"):
        plan.read_throughput(tmp_path)
    with pytest.raises(UserError, match="no throughput was measured here"):
        plan.read_throughput(tmp_path / "none.yaml")


def flops_of(*whole, **rows):
    return sum(plan.parts_of(*whole, **rows).values())


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_whole_training_is_its_steps(prompt, response):
    means = Means(prompt, response)
    sft = flops_of("sft", arguments("sft", frozen_layers=0.5), SHAPE, means)
    assert sft == sft_flops(SHAPE, 40, prompt + response, predicted=response, frozen=0.5)
    ppo = flops_of("ppo", arguments("ppo", epochs=3, value_model="shared"), SHAPE, means)
    assert ppo == ppo_flops(SHAPE, 40, prompt, response, epochs=3, shared=True)
    own = flops_of("ppo", arguments("ppo", epochs=3), SHAPE, means)
    assert own == ppo_flops(SHAPE, 40, prompt, response, epochs=3)


def test_ppo_but_for_generation_has_the_speed_of_what_is_left_of_its_time(tmp_path):
    path = tmp_path / "throughput.yaml"
    ppo = "{gpu: X, parameters: 9, method: ppo, seconds: 5, flops_per_second: 100}"
    path.write_text(f"- {ppo}\n- {{gpu: X, parameters: 9, method: generate, seconds: 3, flops_per_second: 20}}\n")
    *_, learning = plan.read_throughput(path)
    assert learning == Measured("X", plan.LEARNING, 9, (500 - 60) / 2, 2)
    for other in ("8, method: generate, seconds: 3", "9, method: generate", "9, method: generate, seconds: 5"):
        path.write_text(f"- {ppo}\n- {{gpu: X, parameters: {other}, flops_per_second: 20}}\n")
        assert len(plan.read_throughput(path)) == 2


def test_the_parts_of_a_training_are_told_apart_by_their_speed():
    means = Means(10, 2)
    parts = plan.parts_of("ppo", arguments("ppo", epochs=3), SHAPE, means)
    assert parts[plan.GENERATE] == plan.drawn_flops(SHAPE, 40, means, 1)
    assert set(parts) == {plan.GENERATE, plan.LEARNING} == set(plan.parts_of("rloo", arguments("rloo"), SHAPE, means))
    assert set(plan.parts_of("sft", arguments("sft"), SHAPE, means)) == {"sft"}
    chosen = plan.parts_of("best-of-n", arguments("best-of-n", n=4, pool=16), SHAPE, means, rows=1)
    assert chosen["reward-model"] == plan.read_flops(SHAPE, 1, means, 16)
    assert set(chosen) == {plan.GENERATE, "reward-model"}


def test_what_is_not_compiled_is_as_much_slower_as_was_measured():
    page = (Path(__file__).parents[1] / "benchmarks" / "ppo_two_gpus.md").read_text(encoding="utf-8")
    cells = next(line for line in page.splitlines() if line.startswith("| one GPU | 3.")).split("|")
    seconds = float(cells[4]) + float(cells[5])
    shape = Shape(layers=12, width=768, intermediate=2048, vocabulary=50_000)
    slow = learning_flops(shape, 512, 256, 64, epochs=2) / seconds
    fast = plan.speed(plan.read_throughput(), "NVIDIA H200", plan.LEARNING, 160e6).nearest
    assert plan.slowdown(plan.LEARNING, compiled=False) == pytest.approx(fast / slow, abs=0.05)
    assert plan.slowdown(plan.LEARNING, compiled=True) == plan.slowdown(plan.GENERATE, compiled=False) == 1


def test_every_answer_of_a_prompt_is_read():
    args, whole = arguments("reward-model"), 12.0
    found = flops_of("reward-model", args, SHAPE, Means(10, 2, 4))
    assert found == training_flops(SHAPE, 5 * 8 * 4 * whole, whole)
    dpo = flops_of("dpo", arguments("dpo"), SHAPE, Means(10, 2, 4))
    tokens, logits = 5 * 8 * 4 * whole, 5 * 8 * 4 * 2
    assert dpo == pytest.approx(4 * forward_flops(SHAPE, tokens, whole, logits=logits))


def test_best_of_n_draws_and_reads_its_pool_for_as_many_prompts_as_there_are():
    args = arguments("best-of-n", n=4, pool=16)
    per_prompt = flops_of("best-of-n", args, SHAPE, Means(10, 2), rows=1)
    read = forward_flops(SHAPE, 16 * 12, 12)
    assert per_prompt == plan.drawn_flops(SHAPE, 1, Means(10, 2), 16) + read
    assert flops_of("best-of-n", args, SHAPE, Means(10, 2), rows=7) == pytest.approx(7 * per_prompt)
    limited = arguments("best-of-n", n=4, pool=16, limit=3)
    assert flops_of("best-of-n", limited, SHAPE, Means(10, 2), rows=7) == pytest.approx(3 * per_prompt)


def test_rloo_has_no_value_model_and_reads_a_prompt_once_for_its_samples():
    means = Means(10, 2)
    one, four = (flops_of("rloo", arguments("rloo", samples=samples, epochs=1), SHAPE, means) for samples in (2, 4))
    prompts = forward_flops(SHAPE, 10, 10)
    assert one - four == pytest.approx((40 / 2 - 40 / 4) * prompts)
    shared = flops_of("ppo", arguments("ppo", epochs=1, value_model="shared"), SHAPE, means)
    assert shared - one == pytest.approx((40 - 40 / 2) * prompts)


def test_hours_add_up_and_are_told_with_their_range():
    both = Hours(1, 0.5, 2) + Hours(10, 9, 40)
    assert both == Hours(11, 9.5, 42)
    assert str(both) == "11.0 (9.50–42.0)"
    assert str(Hours(1, 1, 2)) == "1.00 (to 2.00)"
    assert str(Hours(1234.5, 1234.5, 1234.5)) == "1,234"
    assert str(plan.NONE) == "0.00"


@pytest.mark.parametrize("recipe", ["tldr-llama-7b", "tldr-opt-125m", "alpaca-farm-llama-7b"])
def test_a_folder_of_recipes_stands_for_the_methods_file(recipe):
    for method in ("sft", "reward-model", "ppo", "best-of-n"):
        more = {"reward_model": "r"} if method in ("ppo", "best-of-n") else {}
        cls = METHODS[method].load()
        by_folder = read_recipe(cls, Path(recipe), PATHS | more)
        assert by_folder == read_recipe(cls, Path(recipe) / f"{method}.yaml", PATHS | more)
