"""Loading, freezing and reading models: what is refused, and what stays as it was."""

import contextlib
import io
import json
import shutil

import pytest
import torch
from tiny_runs import METHODS, weights

from benchmark.errors import UserError
from reference_models import reward_model as reward_models
from reference_models.core import collate
from reference_models.models import (
    completion_log_probs,
    forward,
    load_policy,
    load_tokenizer,
    parameter_groups,
    transformer_layers,
)
from reference_models.ppo import ActorCritic
from reference_models.sft import nll

PROMPTS, COMPLETIONS = [[5, 6], [7, 8, 9, 10], [11]], [[4, 3, 1], [5, 1], [1]]


def edit(folder, name, **change):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


# ---- What cannot be loaded ----


@pytest.mark.parametrize("method", METHODS)
def test_padding_that_is_the_end_is_refused_by_every_method(trainers, llama, tmp_path, method):
    broken = shutil.copytree(llama, tmp_path / "broken")
    edit(broken, "tokenizer_config.json", pad_token="</s>")
    with pytest.raises(UserError, match="broken: the tokenizer needs a padding token that is not its end-of-seq"):
        trainers.train(method, "out", model=str(broken))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "says"), [("eos_token", "no end-of-sequence token"), ("pad_token", "needs a pad")])
def test_a_tokenizer_without_an_end_or_a_padding_is_refused(llama, tmp_path, missing, says):
    broken = shutil.copytree(llama, tmp_path / "broken")
    edit(broken, "tokenizer_config.json", **{missing: None})
    with pytest.raises(UserError, match=f"broken: the tokenizer.*{says}"):
        load_tokenizer(str(broken))


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_filled_with_noise(reward_model, gpt2, tmp_path):
    from safetensors.torch import save_file

    broken = shutil.copytree(gpt2, tmp_path / "broken")
    tensors = weights(broken)
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"broken: the checkpoint has no weights for transformer\.h\.1\.mlp\.c_fc"):
        load_policy(str(broken))


@pytest.mark.parametrize("harm", ["absent", "cut off", "pickled", "no config"])
def test_a_checkpoint_that_cannot_be_read_is_one_line(llama, tmp_path, harm):
    broken = shutil.copytree(llama, tmp_path / "broken")
    file = broken / "model.safetensors"
    if harm == "absent":
        shutil.rmtree(broken)
    elif harm == "cut off":
        file.write_bytes(file.read_bytes()[:1000])
    elif harm == "pickled":
        torch.save(weights(broken), broken / "pytorch_model.bin")
        file.unlink()
    else:
        (broken / "config.json").unlink()
    with pytest.raises(UserError, match=r"broken: cannot be loaded: .") as caught:
        load_policy(str(broken))
    assert "\n" not in str(caught.value)


# ---- Dropout ----


@pytest.mark.parametrize("kind", ["policy", "scorer", "actor-critic"])
def test_dropout_is_off_whatever_the_configuration_says(gpt2, kind):
    batch = collate(PROMPTS, COMPLETIONS, 0)
    scorer = reward_models.with_new_head(str(gpt2), load_tokenizer(str(gpt2)), 1)
    policy = load_policy(str(gpt2))

    def read():
        if kind == "policy":
            return nll(policy, batch)
        if kind == "scorer":
            return reward_models.Scorer(scorer)(batch.ids, batch.attention)
        return torch.cat(ActorCritic(policy, scorer)(batch, 1.0)[:2])

    assert torch.equal(read(), read())
    assert not any(module.training for module in [*policy.modules(), *scorer.modules()])


@pytest.mark.parametrize("method", METHODS)
def test_dropout_stays_off_while_a_gpt2_is_trained(trainers, gpt2, method, tmp_path):
    judge = trainers.train("reward-model", "judge", model=str(gpt2), steps=1)
    more = {"reward_model": str(judge)} if method in ("ppo", "rloo") else {}
    first, second = [], []
    for name, losses in (("a", first), ("b", second)):
        # Other noise of torch's own between the steps would change what dropout drops.
        trainers.train(
            method, name, model=str(gpt2), steps=3, **more,
            progress=lambda step, metrics, losses=losses, name=name: (
                losses.append({k: v for k, v in metrics.items() if not k.startswith("seconds")}),
                torch.rand(1 if name == "a" else 2),
            ),
        )  # fmt: skip
    assert first == second
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


# ---- Reading ----


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
def test_padding_on_the_left_changes_no_log_probability(request, fixture):
    model = load_policy(str(request.getfixturevalue(fixture)))
    with torch.no_grad():
        together = completion_log_probs(model, collate(PROMPTS, COMPLETIONS, 0))
        for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            alone = completion_log_probs(model, collate([prompt], [completion], 0))[0]
            torch.testing.assert_close(together[row, : len(completion)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
def test_rows_that_end_together_have_the_log_probabilities_they_have_alone(request, fixture):
    model = load_policy(str(request.getfixturevalue(fixture)))
    with torch.no_grad():
        together = completion_log_probs(model, collate(PROMPTS, COMPLETIONS, 0, end_together=True))
        for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            alone = completion_log_probs(model, collate([prompt], [completion], 0))[0]
            torch.testing.assert_close(together[row, -len(completion) :], alone, rtol=0, atol=1e-5)
            assert not together[row, : -len(completion)].any()


def test_logits_are_computed_for_no_column_but_those_that_are_scored(llama):
    model, shapes = load_policy(str(llama)), []
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape[1]))
    batch = collate(PROMPTS, COMPLETIONS, 0)
    completion_log_probs(model, batch)
    forward(model, batch)
    assert shapes == [4, 7]


# ---- What is trained ----


def test_matrices_decay_and_norms_and_biases_do_not(gpt2):
    model = load_policy(str(gpt2))
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].endswith("bias") or ".ln_" in names[id(p)] for p in plain["params"])
    assert not any(names[id(p)].endswith("bias") or ".ln_" in names[id(p)] for p in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


@pytest.mark.parametrize("fixture", ["llama", "gpt2"])
def test_the_stack_of_layers_is_found(request, fixture):
    assert len(transformer_layers(load_policy(str(request.getfixturevalue(fixture))))) == 2


@pytest.mark.parametrize("method", METHODS)
def test_frozen_layers_and_embeddings_keep_their_bytes_and_the_others_move(trainers, tmp_path, method, deep):
    folder = trainers.train(method, "out", model=str(deep), frozen_layers=0.8, steps=2)
    before, after = weights(deep), weights(folder)
    frozen = {f"model.layers.{number}." for number in range(4)} | {"model.embed_tokens."}
    for name, value in after.items():
        if name == "score.weight":
            continue
        is_frozen = any(name.startswith(prefix) for prefix in frozen)
        assert torch.equal(value, before[name]) == is_frozen, name


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A Llama of five layers."""
    from tiny_runs import ARCHITECTURE, WORDS

    from reference_models.tiny import make_checkpoint

    folder = tmp_path_factory.mktemp("deep") / "model"
    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE | {"num_hidden_layers": 5})
    return folder


@pytest.mark.parametrize("loader", ["policy", "tokenizer", "reward model"])
def test_no_code_that_comes_with_a_checkpoint_is_ever_run(llama, tmp_path, monkeypatch, loader):
    folder = shutil.copytree(llama, tmp_path / "hostile")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    for name, key in (("config.json", "AutoModelForCausalLM"), ("tokenizer_config.json", "AutoTokenizer")):
        config = json.loads((folder / name).read_text())
        value = "code.Class" if key != "AutoTokenizer" else ["code.Class", None]
        classes = {key: value, "AutoModelForSequenceClassification": "code.Class", "AutoConfig": "code.Class"}
        (folder / name).write_text(json.dumps(config | {"auto_map": classes, "model_type": "unheard-of"}))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))
    load = {
        "policy": lambda: load_policy(str(folder)),
        "tokenizer": lambda: load_tokenizer(str(folder)),
        "reward model": lambda: reward_models.with_new_head(str(folder), load_tokenizer(str(llama)), 1),
    }[loader]
    with contextlib.suppress(UserError):
        load()
    assert not (tmp_path / "ran").exists()


def test_adapters_and_frozen_layers_exclude_each_other(trainers):
    with pytest.raises(UserError, match="exclude each other"):
        trainers.train("sft", "both", lora_rank=2, frozen_layers=0.5)
