"""Memory that is counted, beside what a small run holds; and what is estimated, within a factor that is stated."""

import contextlib

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from reference_models.arguments import read_recipe
from reference_models.flops import shape_of
from reference_models.memory import Lengths, count, memory, positions
from reference_models.methods import METHODS
from reference_models.models import make_trainable, parameter_groups
from reference_models.plan import THROUGHPUT

FACTOR = 1.3
"""By which the estimate of activations may be off."""
LLAMA = {
    "model_type": "llama", "num_hidden_layers": 5, "hidden_size": 64, "intermediate_size": 160,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 50, "max_position_embeddings": 512,
}  # fmt: skip
OPT = {
    "model_type": "opt", "num_hidden_layers": 5, "hidden_size": 64, "ffn_dim": 256, "num_attention_heads": 4,
    "vocab_size": 50, "max_position_embeddings": 512, "word_embed_proj_dim": 64,
}  # fmt: skip
CONFIGS = {"llama": LLAMA, "opt": OPT}
PATHS = {"model": "m", "data": "d", "output": "o"}


def arguments(method, **change):
    needed = {"steps": 2, "batch_size": 8, "learning_rate": 1e-3} if method != "best-of-n" else {}
    needed |= {"reward_model": "r"} if method in ("ppo", "rloo", "best-of-n") else {}
    return read_recipe(METHODS[method].load(), None, PATHS | needed | change)


def build(name, args):
    fields = dict(CONFIGS[name])
    config = AutoConfig.for_model(fields.pop("model_type"), **fields, pad_token_id=0)
    torch.manual_seed(0)
    return make_trainable(AutoModelForCausalLM.from_config(config).eval(), args)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frozen", [0.0, 0.8])
def test_weights_gradients_and_adams_states_are_exact(name, frozen):
    args = arguments("sft", frozen_layers=frozen)
    model = build(name, args)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3)
    model(torch.randint(3, 50, (2, 8))).logits.sum().backward()
    optimizer.step()
    held = {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        "Adam's states": sum(t.nbytes for s in optimizer.state.values() for k, t in s.items() if k != "step"),
    }
    counts = count("sft", args, CONFIGS[name])
    found = memory("sft", args, counts, shape_of(CONFIGS[name]), Lengths(4, 4))
    assert {**found.standing, "gradients": found.phases["training"]["gradients"]} == held
    assert found.exact == sum(held.values()) < found.peak


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("frozen", [0.0, 0.6])
def test_activations_are_about_what_is_kept_for_the_backward_pass(name, precision, frozen):
    batch, length = 4, 96
    args = arguments("sft", frozen_layers=frozen, mixed_precision=precision, microbatch_size=batch)
    model, kept, alive = build(name, args), {}, []
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        alive.append(tensor)  # so that no later storage takes its address
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    ids = torch.randint(3, 50, (batch, length))
    with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1)
    counts = count("sft", args, CONFIGS[name])
    parts = memory("sft", args, counts, shape_of(CONFIGS[name]), Lengths(length - 1, 1)).phases["training"]
    estimated = parts["activations"] + parts.get("bf16 copies of weights", 0.0)
    assert estimated / FACTOR < sum(kept.values()) < estimated * FACTOR


def measured():
    """Peaks that a GPU has shown, with the microbatch and lengths of `tests/benchmarks/gpu_throughput.py`."""
    sizes = {
        38664192: (64, 256, {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 2304}),
        161734656: (32, 128, {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2048}),
    }
    common = {"model_type": "llama", "vocab_size": 50_000, "num_attention_heads": 12, "max_position_embeddings": 1024}
    for row in yaml.safe_load(THROUGHPUT.read_text(encoding="utf-8")) if THROUGHPUT.exists() else []:
        if row["parameters"] in sizes and row["method"] in ("sft", "reward-model", "ppo"):
            micro, episodes, shape = sizes[row["parameters"]]
            shape = {**common, **shape, "tie_word_embeddings": shape["hidden_size"] == 384}
            sizes_of = {"sft": micro, "reward-model": micro // 2, "ppo": episodes}
            batch = row["sequences"] // (2 if row["method"] == "reward-model" else 1)
            change = {"batch_size": batch, "microbatch_size": sizes_of[row["method"]]}
            name = f"{row['method']} {row['parameters'] / 1e6:.0f} M"
            yield pytest.param(row["method"], shape, change, row["peak_memory"], id=name)


@pytest.mark.parametrize(("method", "config", "change", "peak"), measured())
def test_the_estimate_is_no_less_than_a_gpu_has_shown_and_at_most_three_fifths_more(method, config, change, peak):
    args = arguments(method, mixed_precision="bf16", **change)
    lengths = Lengths(256, 64) if method == "ppo" else Lengths(1, 511, 2 if method == "reward-model" else 1)
    found = memory(method, args, count(method, args, config), shape_of(config), lengths).peak
    # It was compiled there, and so kept less.
    assert peak <= found <= 1.6 * peak


def test_what_a_method_holds_beside_the_policy():
    def names(method, **change):
        return set(count(method, arguments(method, **change), LLAMA).beside)

    assert names("sft") == names("reward-model") == set()
    assert names("dpo") == {"reference"}
    assert names("ppo") == names("rloo") == {"reference", "reward model"}
    assert names("ppo", lora_rank=2) == {"reward model"}, "with adapters off the policy is its own reference"
    assert names("best-of-n") == {"policy", "reward model"}


def test_a_value_model_of_its_own_doubles_what_is_trained_and_a_shared_one_adds_a_head():
    own, shared = (count("ppo", arguments("ppo", value_model=kind), LLAMA) for kind in ("reward_model", "shared"))
    policy, judge = own.beside["reference"], own.beside["reward model"]
    assert own.trained_module == own.trainable == policy + judge
    assert shared.trainable == policy + 65


def test_the_ppo_trainers_own_module_has_the_parameters_that_are_counted(trainers):
    from reference_models.architectures import read_config
    from reference_models.models import load_policy
    from reference_models.ppo import ActorCritic

    args = trainers.make("ppo", "out", value_model="shared", frozen_layers=0.5)
    module = ActorCritic(make_trainable(load_policy(args.model), args), None)
    counts = count("ppo", args, read_config(trainers.llama))
    assert counts.trained_module == sum(p.numel() for p in module.parameters())
    assert counts.trainable == sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_processes_share_what_is_trained_and_nothing_else():
    args = arguments("ppo", value_model="shared", microbatch_size=2, mixed_precision="bf16")
    counts = count("ppo", args, LLAMA)
    one, two = (memory("ppo", args, counts, shape_of(LLAMA), Lengths(8, 8), n) for n in (1, 2))
    for name in ("weights", "Adam's states"):
        assert two.standing[name] == one.standing[name] / 2
    for name in ("reference", "reward model"):
        assert two.standing[name] == one.standing[name]
    assert two.standing["copy to draw from"] == one.standing["reference"]
    assert two.phases["training"]["gradients"] == one.phases["training"]["gradients"] / 2
    assert two.phases["training"]["activations"] == one.phases["training"]["activations"], "a microbatch is one's own"
    copies = [found.phases["training"]["bf16 copies of weights"] for found in (one, two)]
    assert copies == [2 * counts.trainable, 2 * counts.layer]


def test_smaller_microbatches_and_rollouts_take_less_and_the_exact_part_stays():
    counts = count("ppo", arguments("ppo"), LLAMA)
    found = [
        memory("ppo", arguments("ppo", **change), counts, shape_of(LLAMA), Lengths(64, 64))
        for change in ({}, {"microbatch_size": 2}, {"rollout_batch_size": 2})
    ]
    assert found[1].phases["training"]["activations"] == found[0].phases["training"]["activations"] / 4
    assert found[2].phases["generating"]["KV cache"] == found[0].phases["generating"]["KV cache"] / 4
    assert len({each.exact for each in found}) == 1


def test_a_cache_holds_what_a_models_own_does():
    args = arguments("best-of-n", batch_size=3, n=3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA)).eval()
    with torch.no_grad():
        cache = model(torch.randint(3, 50, (3, 20)), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    counts = count("best-of-n", args, LLAMA)
    assert positions(LLAMA) == 512
    assert memory("best-of-n", args, counts, shape_of(LLAMA), Lengths(12, 8)).phases["generating"]["KV cache"] == held
