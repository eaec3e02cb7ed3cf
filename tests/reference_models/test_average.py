"""Weight interpolation: against the obvious sum, at its ends, by groups of layers, and what it refuses."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from benchmark.errors import UserError
from reference_models.average import AverageArguments, average, group_of, interpolate
from reference_models.tiny import make_checkpoint

WORDS = ["red", "blue", "green", "warm", "cold"]
LAYERS = 3
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
    "initializer_range": 0.1,
}


def make_gpt2(folder, seed):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    make_checkpoint(folder, WORDS, seed=seed, architecture=ARCHITECTURE)
    (folder / "model.safetensors").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=16, n_embd=16, n_layer=LAYERS, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)


def make(kind, folder, seed):
    if kind == "gpt2":
        make_gpt2(folder, seed)
    else:
        make_checkpoint(folder, WORDS, seed=seed, architecture=ARCHITECTURE | {"tie_word_embeddings": kind == "tied"})


KINDS = ("tied", "untied", "gpt2")


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in KINDS:
        for seed, name in ((0, "first"), (1, "second")):
            make(kind, root / kind / name, seed)
    return root


@pytest.fixture
def pair(originals, tmp_path):
    """Copies of two untied Llamas that a test may break."""
    return [shutil.copytree(originals / "untied" / name, tmp_path / name) for name in ("first", "second")]


def mix(first, second, output, **more):
    return average(AverageArguments(first=str(first), second=str(second), output=str(output), **more))


def tensors(folder):
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def change(path, **fields):
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def logits(folder):
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(input_ids=torch.tensor([[3, 4, 5, 6]])).logits


floats = st.floats(-1e4, 1e4, width=32)


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=20), st.floats(-1, 2))
def test_interpolation_is_the_obvious_sum(values, a):
    first, second = (torch.tensor(side) for side in zip(*values, strict=True))
    mixed = interpolate(first, second, a)
    for (x, y), found in zip(values, mixed.tolist(), strict=True):
        assert found == pytest.approx((1 - a) * x + a * y, rel=1e-6, abs=4e-7 * (abs(x) + abs(y)))


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=20), st.floats(-1, 2), st.sampled_from(["bf16", "f16"]))
def test_a_narrow_type_is_computed_in_float32_and_rounded_once(values, a, kind):
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[kind]
    first, second = (torch.tensor(side, dtype=dtype) for side in zip(*values, strict=True))
    wide = (1 - a) * first.float() + a * second.float()
    expected = torch.where(first == second, first.float(), wide).to(dtype)
    assert torch.equal(interpolate(first, second, a), expected)


@given(st.lists(floats, min_size=1, max_size=20), st.floats(-1, 2))
def test_equal_weights_stay_as_they_are_to_the_last_bit(values, a):
    tensor = torch.tensor(values)
    assert interpolate(tensor, tensor.clone(), a).numpy().tobytes() == tensor.numpy().tobytes()


def test_double_precision_stays():
    first, second = torch.tensor([1.0], dtype=torch.float64), torch.tensor([1 + 1e-12], dtype=torch.float64)
    assert interpolate(first, second, 0.5).item() == pytest.approx(1 + 5e-13, abs=1e-15)


def test_masks_of_infinities_are_kept_and_an_overflow_is_told():
    mask = torch.tensor([0.0, -torch.inf])
    assert torch.equal(interpolate(mask, mask.clone(), 0.3), mask)
    assert interpolate(torch.tensor([torch.inf]), torch.tensor([1.0]), 0.3).item() == torch.inf
    far = torch.tensor([6e4, -6e4], dtype=torch.float16)
    with pytest.raises(UserError, match=r"wte: at weight 2.0 it overflows torch.float16"):
        interpolate(far, -far, 2.0, name="wte")


def test_integers_must_be_equal():
    tensor = torch.tensor([1, 2])
    assert torch.equal(interpolate(tensor, tensor.clone(), 0.5), tensor)
    with pytest.raises(UserError, match="int64 differ, and cannot be averaged"):
        interpolate(tensor, tensor + 1, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_in_transformers_with_the_interpolated_weights(originals, tmp_path, kind):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = originals / kind / "first", originals / kind / "second"
    folder = mix(first, second, tmp_path / "out", weight=0.25)
    states = [AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, first, second)]
    for name, found in states[0].items():
        torch.testing.assert_close(found, 0.75 * states[1][name] + 0.25 * states[2][name], rtol=1e-6, atol=1e-7)
    assert tensors(folder).keys() == tensors(first).keys()
    assert ("lm_head.weight" in tensors(folder)) == (kind == "untied")
    assert AutoTokenizer.from_pretrained(folder)("red cold")["input_ids"] == [6, 4]
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (first / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("more", "end"), [({"weight": 0.0}, "first"), ({"group_weights": (1.0, 1.0)}, "second")])
def test_a_weight_of_0_or_1_is_either_end_byte_for_byte(originals, tmp_path, kind, more, end):
    folder = mix(originals / kind / "first", originals / kind / "second", tmp_path / "out", **more)
    original = originals / kind / end
    assert (folder / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()
    assert torch.equal(logits(folder), logits(original))


def test_at_the_ends_what_is_no_number_on_the_other_side_does_not_matter(pair, tmp_path):
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors(pair[1]).items()}
    save_file(broken, pair[1] / "model.safetensors", metadata={"format": "pt"})
    folder = mix(*pair, tmp_path / "out", weight=0.0)
    assert (folder / "model.safetensors").read_bytes() == (pair[0] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_group_weights_are_the_uniform_weight(originals, tmp_path, kind):
    ends = (originals / kind / "first", originals / kind / "second")
    uniform = mix(*ends, tmp_path / "uniform", weight=0.3) / "model.safetensors"
    for groups in range(1, LAYERS + 1):
        grouped = mix(*ends, tmp_path / f"of-{groups}", group_weights=(0.3,) * groups) / "model.safetensors"
        assert grouped.read_bytes() == uniform.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_has_its_group_s_weight_embeddings_the_first_and_the_head_the_last(originals, tmp_path, kind):
    ends = (originals / kind / "first", originals / kind / "second")
    found = tensors(mix(*ends, tmp_path / "out", group_weights=(0.0, 1.0)))
    first, second = (tensors(end) for end in ends)
    # Three layers in two groups: two and one.
    for name in found:
        early = any(part in name for part in ("wte", "wpe", "embed_tokens", "layers.0.", "layers.1.", "h.0.", "h.1."))
        assert torch.equal(found[name], (first if early else second)[name]), name


@given(st.integers(1, 40), st.data())
def test_groups_are_contiguous_and_of_nearly_one_size(layers, data):
    groups = data.draw(st.integers(1, layers))
    of_layers = [group_of(f"model.layers.{layer}.mlp.experts.7.up.weight", layers, groups) for layer in range(layers)]
    assert of_layers == sorted(of_layers)
    sizes = [of_layers.count(group) for group in range(groups)]
    assert sum(sizes) == layers
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.embed_tokens.weight", 0),
        ("transformer.wte.weight", 0),
        ("wpe.weight", 0),
        ("gpt_neox.embed_in.weight", 0),
        ("transformer.word_embeddings_layernorm.bias", 0),
        ("h.0.attn.c_attn.weight", 0),
        ("model.layers.11.input_layernorm.weight", 3),
        ("gpt_neox.embed_out.weight", 3),
        ("embed_out.weight", 3),
        ("model.norm.weight", 3),
        ("transformer.ln_f.bias", 3),
        ("lm_head.weight", 3),
        ("score.weight", 3),
    ],
)
def test_what_is_outside_the_layers_goes_with_an_end(name, group):
    assert group_of(name, layers=12, groups=4) == group


@pytest.mark.parametrize("kind", ["tied", "gpt2"])
def test_shards_stay_and_hold_the_same_weights_as_one_file(originals, tmp_path, kind):
    from transformers import AutoModelForCausalLM

    whole = [originals / kind / name for name in ("first", "second")]
    sharded = [tmp_path / name for name in ("first", "second")]
    for source, target, size in zip(whole, sharded, ("4KB", "6KB"), strict=True):
        shutil.copytree(source, target)
        (target / "model.safetensors").unlink()
        AutoModelForCausalLM.from_pretrained(source).save_pretrained(target, max_shard_size=size)
        assert len(list(target.glob("*.safetensors"))) > 2
    expected = tensors(mix(*whole, tmp_path / "of-whole", weight=0.4))
    for first, second in (sharded, (sharded[0], whole[1]), (whole[0], sharded[1])):
        folder = mix(first, second, tmp_path / f"{first.parent.name}-{second.parent.name}", weight=0.4)
        found = tensors(folder)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert sorted(p.name for p in folder.glob("*.safetensors*")) == sorted(
            p.name for p in first.glob("*.safetensors*")
        )
        assert torch.equal(logits(folder), logits(tmp_path / "of-whole"))


def test_weights_saved_without_their_format_load_afterwards(pair, tmp_path):
    from safetensors import safe_open

    save_file(tensors(pair[0]), pair[0] / "model.safetensors")
    with safe_open(mix(*pair, tmp_path / "out") / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_it_says_how_it_came_about_and_appears_whole(pair, tmp_path):
    (pair[0] / "metrics.jsonl").write_text("{}\n")
    folder = mix(*pair, tmp_path / "deep" / "out", group_weights=(0.1, 0.9))
    record = json.loads((folder / "training.json").read_text())
    assert record["method"] == "average"
    assert record["arguments"]["group_weights"] == [0.1, 0.9]
    assert record["inputs_sha256"]["first"] != record["inputs_sha256"]["second"]
    assert all(len(digest) == 64 for digest in record["inputs_sha256"].values())
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert not (folder / "metrics.jsonl").exists()


def test_a_finished_average_is_kept_and_another_one_is_never_written_over(pair, tmp_path):
    folder = mix(*pair, tmp_path / "out", group_weights=(0.1, 0.9))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert mix(*pair, tmp_path / "out", group_weights=(0.1, 0.9)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="group_weights is another there; give another output"):
        mix(*pair, tmp_path / "out", group_weights=(0.1, 0.8))
    save_file(tensors(pair[1]) | tensors(pair[0]), pair[1] / "model.safetensors")
    with pytest.raises(UserError, match="the content of second has changed"):
        mix(*pair, tmp_path / "out", group_weights=(0.1, 0.9))
    for name in ("first", "second"):
        with pytest.raises(UserError, match="in the way"):
            mix(*pair, tmp_path / name)


def test_a_failure_leaves_nothing_behind(pair, tmp_path):
    spoilt = tensors(pair[0])
    spoilt["model.norm.weight"] = torch.full_like(spoilt["model.norm.weight"], 3e38)
    save_file(spoilt, pair[0] / "model.safetensors", metadata={"format": "pt"})
    spoilt["model.norm.weight"] *= -1
    save_file(spoilt, pair[1] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model.norm.weight: at weight 2.0 it overflows"):
        mix(*pair, tmp_path / "out", weight=2.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def _wider(_first, second):
    shutil.rmtree(second)
    make_checkpoint(second, WORDS, seed=1, architecture=ARCHITECTURE | {"intermediate_size": 28})


def _more_words(_first, second):
    shutil.rmtree(second)
    make_checkpoint(second, [*WORDS, "new"], seed=1, architecture=ARCHITECTURE)


def _other_words(_first, second):
    shutil.rmtree(second)
    make_checkpoint(second, [*WORDS[1:], "new"], seed=1, architecture=ARCHITECTURE)


def _lose_a_tensor(_first, second):
    kept = tensors(second)
    del kept["model.norm.weight"]
    save_file(kept, second / "model.safetensors")


def _reshape(_first, second):
    save_file(tensors(second) | {"model.norm.weight": torch.zeros(4)}, second / "model.safetensors")


def _narrow(_first, second):
    save_file({name: tensor.bfloat16() for name, tensor in tensors(second).items()}, second / "model.safetensors")


def _cut_off(first, _second):
    data = (first / "model.safetensors").read_bytes()
    (first / "model.safetensors").write_bytes(data[:-10])


def _index(weight_map):
    def spoil(first, _second):
        (first / "model.safetensors").rename(first / "shard.safetensors")
        (first / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return spoil


def _adapter(first, _second):
    (first / "model.safetensors").rename(first / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _, second: shutil.rmtree(second), r"second: no such folder"),
        (lambda first, _: (first / "config.json").unlink(), r"first/config.json: cannot be read: No such file"),
        (lambda first, _: (first / "config.json").write_text("{"), r"first/config.json: not JSON"),
        (lambda first, _: (first / "model.safetensors").unlink(), r"first: no model.safetensors and no model.safete"),
        (_adapter, r"first: no model.safetensors .* adapter, to be merged"),
        (_cut_off, r"first/model.safetensors: not a safetensors file, or cut off"),
        (_index({}), r"index.json: field 'weight_map'"),
        (_index({"model.norm.weight": "../second/model.safetensors"}), r"index.json: field 'weight_map'"),
        (_index({"model.norm.weight": "lost.safetensors"}), r"lost.safetensors: no such file"),
        (_index({"model.norm.weight": "shard.safetensors"}), r"shard.safetensors: .* disagree on lm_head.weight"),
        (_lose_a_tensor, r"second: has no tensor 'model.norm.weight', and .*first has"),
        (
            lambda first, second: _lose_a_tensor(second, first),
            r"first: has no tensor 'model.norm.weight', and .*second",
        ),
        (_reshape, r"second: shape of 'model.norm.weight' is \[4\], and \[16\] in"),
        (_narrow, r"second: type of 'lm_head.weight' is BF16, and F32 in"),
        (_wider, r"second/config.json: field 'intermediate_size' is 28, and 24 in .*first"),
        (_more_words, r"second/config.json: field 'vocab_size' is 9, and 8 in"),
        (_other_words, r"second/tokenizer.json: field 'model' differs"),
        (lambda _, second: (second / "tokenizer.json").unlink(), r"second: has not the same tokenizer files"),
        (
            lambda _, second: change(second / "tokenizer_config.json", pad_token="<unk>"),
            r"second/tokenizer_config.json: field 'pad_token' is \"<unk>\", and \"<pad>\" in",
        ),
        (
            lambda _, second: change(second / "config.json", architectures=["LlamaForSequenceClassification"]),
            r"second/config.json: field 'architectures' is \[\"LlamaForSeq",
        ),
        (
            lambda _, second: change(second / "config.json", num_hidden_layers=4),
            r"field 'num_hidden_layers' is 4, and 3",
        ),
        (lambda _, second: change(second / "config.json", reward_mean=0.2), r"'reward_mean' is 0.2, and absent in"),
        (lambda _, second: change(second / "config.json", rms_norm_eps=None), r"'rms_norm_eps' is absent, and 1e-06"),
        (lambda first, _: change(first / "config.json", quantization_config={}), r"first/config.json: quantised"),
    ],
)
def test_checkpoints_that_do_not_fit_are_told_by_file_and_field(pair, tmp_path, spoil, says):
    spoil(*pair)
    with pytest.raises(UserError, match=says):
        mix(*pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"weight": 2.1}, "a weight is 2.1, and must be from -1 to 2"),
        ({"weight": float("nan")}, "a weight is nan"),
        ({"group_weights": (0.5, -1.5)}, "a weight is -1.5"),
        ({"group_weights": ()}, "group_weights has 0 weights; give from 1 to 3"),
        ({"group_weights": (0.5,) * 4}, "group_weights has 4 weights; give from 1 to 3, the number of layers"),
    ],
)
def test_weights_out_of_range_are_refused(pair, tmp_path, more, says):
    with pytest.raises(UserError, match=says):
        mix(*pair, tmp_path / "out", **more)


def test_layers_that_names_do_not_tell_cannot_be_grouped_but_averaged_as_one(pair, tmp_path):
    for folder in pair:
        renamed = {name.replace("layers.2.", "third."): tensor for name, tensor in tensors(folder).items()}
        save_file(renamed, folder / "model.safetensors")
    with pytest.raises(UserError, match="its 3 layers cannot be told"):
        mix(*pair, tmp_path / "out", group_weights=(0.5, 0.6))
    assert mix(*pair, tmp_path / "out").is_dir()


def test_what_does_not_change_the_model_may_differ(pair, tmp_path):
    change(pair[1] / "config.json", transformers_version="4.0.0", use_cache=False, _name_or_path="elsewhere")
    change(pair[1] / "tokenizer.json", padding={"direction": "Left"}, truncation={"max_length": 5})
    change(pair[1] / "tokenizer_config.json", pad_token={"content": "<pad>", "lstrip": False}, model_max_length=7)
    assert mix(*pair, tmp_path / "out").is_dir()


def test_extrapolation_goes_beyond_the_second_checkpoint(originals, tmp_path):
    first, second = originals / "tied" / "first", originals / "tied" / "second"
    found = tensors(mix(first, second, tmp_path / "out", weight=2.0))
    for name, tensor in tensors(second).items():
        torch.testing.assert_close(found[name], 2 * tensor - tensors(first)[name])


def test_averaging_needs_torch_safetensors_and_numpy_alone(originals, tmp_path):
    ends = {name: str(originals / "tied" / name) for name in ("first", "second")}
    code = (
        "import sys\n"
        "for name in ('transformers', 'accelerate', 'pydantic', 'pandas', 'rich', 'altair', 'yaml', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "from reference_models.average import AverageArguments, average\n"
        f"average(AverageArguments(**{ends!r}, output={str(tmp_path / 'out')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "out" / "model.safetensors").is_file()
