"""A copy of a published model that can be trained."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from tiny_opt import make_opt
from tiny_runs import weights

from benchmark.errors import UserError
from reference_models.base_model import make_base
from reference_models.models import load_policy, load_tokenizer


def edit(folder, name, **change):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.fixture
def pickled(tmp_path):
    """An OPT as the hub has it: tied weights once, pickled, half precision."""
    folder = make_opt(tmp_path / "pickled", 16)
    tensors = {name: value.half() for name, value in weights(folder).items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickled_checkpoint_becomes_one_that_loads_with_the_same_weights(pickled, tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        load_policy(str(pickled))
    folder = make_base(str(pickled), tmp_path / "base")
    found = load_policy(str(folder)).state_dict()
    for name, value in torch.load(pickled / "pytorch_model.bin").items():
        assert torch.equal(found[name], value.float()), name
    assert load_tokenizer(str(folder)).pad_token_id == 0
    assert not (tmp_path / "base.partial").exists()


def test_a_padding_token_is_named_and_kept(llama, tmp_path):
    bare = shutil.copytree(llama, tmp_path / "bare")
    edit(bare, "tokenizer_config.json", pad_token=None)
    with pytest.raises(UserError, match="needs a padding token"):
        make_base(str(bare), tmp_path / "base")
    assert not list(tmp_path.glob("base*")), "nothing is left of one that is refused"
    folder = make_base(str(bare), tmp_path / "base", "<unk>")
    assert load_tokenizer(str(folder)).pad_token == "<unk>"
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == 2


@pytest.mark.parametrize(
    ("token", "says"), [("<none>", "is not in the tokenizer's vocabulary"), ("</s>", "that is not its end-of-sequence")]
)
def test_a_token_that_cannot_pad_is_refused(llama, tmp_path, token, says):
    with pytest.raises(UserError, match=says):
        make_base(str(llama), tmp_path / "base", token)
    assert not (tmp_path / "base").exists()


def test_a_checkpoint_without_some_weights_is_refused(pickled, tmp_path):
    tensors = torch.load(pickled / "pytorch_model.bin")
    del tensors["model.decoder.layers.0.fc1.weight"]
    torch.save(tensors, pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no weights for model\.decoder\.layers\.0\.fc1\.weight"):
        make_base(str(pickled), tmp_path / "base")


def test_the_command_says_where_and_a_mistake_is_one_line(llama, tmp_path):
    command = [sys.executable, "-m", "reference_models.base_model", str(llama), str(tmp_path / "base")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "base")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.strip().endswith("base: is there already; give another output")
