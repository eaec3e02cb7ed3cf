"""Low-rank adapters: what they train, what they leave alone, and what is written."""

import sys

import pytest
import torch
from tiny_runs import METHODS, steps_of, weights

from benchmark.errors import UserError
from reference_models import dpo
from reference_models.core import collate
from reference_models.models import Reference, completion_log_probs, load_policy, make_trainable, parameter_groups

LORA = {"lora_rank": 2, "learning_rate": 5e-2}
BATCH = collate([[5, 6], [7, 8, 9, 10], [11]], [[4, 3, 1], [5, 1], [1]], 0)

pytest.importorskip("peft")


class Stopped(Exception):  # noqa: N818
    """Stands for whatever ends a run."""


def base_with_adapter(folder, start, kind):
    """Put the written adapter on the checkpoint that training began from, as a user of peft would."""
    import transformers
    from peft import PeftModel

    more = {"num_labels": 1} if kind == "AutoModelForSequenceClassification" else {}
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # that a head is new
    base = getattr(transformers, kind).from_pretrained(start, **more)
    transformers.logging.set_verbosity(verbosity)
    return PeftModel.from_pretrained(base, folder / "adapter").eval()


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
@pytest.mark.parametrize("method", METHODS)
def test_the_checkpoint_is_an_ordinary_one_equal_to_base_and_adapter(trainers, request, method, fixture):
    import transformers

    start = request.getfixturevalue(fixture)
    kind = "AutoModelForSequenceClassification" if method == "reward-model" else "AutoModelForCausalLM"
    folder = trainers.train(method, "out", model=str(start), **LORA)
    merged = getattr(transformers, kind).from_pretrained(folder).eval()
    adapted = base_with_adapter(folder, start, kind)
    assert not any("lora" in name for name in merged.state_dict())
    with torch.no_grad():
        found, expected, first = (
            model(input_ids=BATCH.ids[1:2], attention_mask=BATCH.attention[1:2]).logits
            for model in (merged, adapted, load_policy(str(start)))
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if method != "reward-model":
        assert (found - first).abs().max() > 1e-3
    if method == "reward-model":
        assert merged.config.reward_std > 0
        assert merged.config.reward_mean != 0
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".jsonl", ".md"}


@pytest.mark.parametrize("method", METHODS)
def test_base_weights_keep_their_values(trainers, llama, method):
    """What is written differs from the start by matrices of the adapters' rank, and nowhere else."""
    folder = trainers.train(method, "out", **LORA)
    before, after = weights(llama), weights(folder)
    changed = set()
    for name, value in after.items():
        if name in before and not torch.equal(value, before[name]):
            changed.add(name.split(".")[-2])
            singular = torch.linalg.svdvals((value - before[name]).double())
            assert singular[2] < 1e-5 * singular[0], name
    assert changed <= {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(changed) >= 5


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_gone_on_with_it_ends_with_the_same_bytes(trainers, method):
    whole = trainers.train(method, "whole", save_every=1, **LORA)

    def stop(step, _metrics):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        trainers.train(method, "stopped", save_every=1, **LORA, progress=stop)
    again = trainers.train(method, "stopped", save_every=1, **LORA)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert steps_of(again) == [1, 2, 3, 4, 5]


def test_the_reference_is_the_start_to_the_last_bit_while_adapters_are_trained(trainers, llama, monkeypatch):
    start = completion_log_probs(load_policy(str(llama)), BATCH).detach()
    seen = []
    original = dpo.loss

    def look(model, reference, beta, found, item):
        with torch.no_grad():
            seen.append((reference.log_probs(BATCH), completion_log_probs(model, BATCH)))
        return original(model, reference, beta, found, item)

    monkeypatch.setattr(dpo, "loss", look)
    trainers.train("dpo", "out", **LORA)
    assert len(seen) == 5
    for reference, policy in seen:
        assert torch.equal(reference, start)
        assert torch.equal(policy, start) == (policy is seen[0][1])


def test_adapters_cost_no_second_copy_and_train_nothing_else(trainers, llama):
    args = trainers.make("sft", "out", **LORA)
    policy = make_trainable(load_policy(str(llama)), args)
    assert Reference(policy, args, torch.device("cpu")).model is policy
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert sum(len(group["params"]) for group in parameter_groups(policy, 0.0)) == len(trained)
    assert not any(module.training for module in policy.modules())


def test_without_peft_the_mend_is_named(trainers, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"lora_rank needs peft: pip install 'gendiv\[lora\]'"):
        trainers.train("sft", "out", lora_rank=2)


def test_bfloat16_and_adapters_go_together(trainers):
    folder = trainers.train("sft", "out", mixed_precision="bf16", **LORA)
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}
