"""What a user calls a model: every form is understood, every mistake is one line."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
import torch

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling import model
from benchmark.sampling.controls import ControlSampler
from benchmark.sampling.generate_until import GenerateUntilSampler
from benchmark.sampling.hf import HFSampler
from benchmark.sampling.model import VLLM_FROM, build, loading, parameter_count
from benchmark.suites import load_suite

SUITE = load_suite("pocket")


def test_a_folder_and_its_hf_spelling_are_the_same_model(checkpoint):
    a = build(str(checkpoint), SUITE, {}, device="cpu")
    b = build(f"hf:pretrained={checkpoint},device=cpu", SUITE, {})
    assert isinstance(a.sampler, HFSampler)
    assert a.name == b.name == checkpoint.name
    assert a.sampler.identity(SUITE.sampling) == b.sampler.identity(SUITE.sampling)


def test_any_other_backend_of_lm_eval_is_built():
    built = build("dummy:", SUITE, {})
    assert isinstance(built.sampler, GenerateUntilSampler)
    assert built.kind == "model"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("random-words", "floor"),
        ("shuffled-references", "floor"),
        ("constant", "floor"),
        ("fresh-references", "ceiling"),
    ],
)
def test_controls_are_floors_and_ceilings(name, kind):
    prompts = {"t": [Prompt(task="t", doc_id="0", text="a b", references=("c",), doc={})]}
    built = build(f"control:{name}", SUITE, prompts)
    assert isinstance(built.sampler, ControlSampler)
    assert (built.kind, built.name) == (kind, name)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("./no/such/folder", "no such checkpoint folder"),
        ("/no/such/folder", "no such checkpoint folder"),
        ("two words", "no such checkpoint folder"),
        ("control:nothing", "no control 'nothing'; there are: random-words"),
        ("nobackend:a=b", "no lm-eval backend 'nobackend'"),
        ("hf:", "needs pretrained="),
        ("local-completions:", "needs model="),
        ("dummy", "dummy cannot be loaded: "),  # a hub id, as it has no colon
        (
            "someone/not-here",
            "someone/not-here cannot be loaded: no such folder, and not in the hub's cache, which is all",
        ),
    ],
)
def test_a_model_that_is_not_there_is_one_line(spec, says):
    with pytest.raises(UserError) as caught:
        build(spec, SUITE, {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        build(str(tmp_path), SUITE, {})


@pytest.mark.parametrize("damage", ["truncated", "missing", "not json"])
def test_a_broken_checkpoint_is_one_line(checkpoint, tmp_path, damage):
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(str(folder), SUITE, {}, device="cpu")


def test_a_pickled_checkpoint_is_never_read(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(str(folder), SUITE, {}, device="cpu")


def test_a_hub_id_is_loaded_from_the_cache_and_its_commit_recorded(checkpoint, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = (
        "from benchmark.sampling.model import build; from benchmark.suites import load_suite\n"
        "suite = load_suite('pocket')\n"
        "built = build('someone/tiny', suite, {}, device='cpu')\n"
        "identity = built.sampler.identity(suite.sampling)\n"
        "print(built.name, identity.id, identity.revision, identity.weights_sha256)"
    )
    offline = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["someone/tiny", "someone/tiny", commit, "None"]


def test_what_is_here_and_broken_is_not_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    (snapshot / "config.json").write_text("{")
    for what in ("someone/tiny", str(snapshot), "--device cuda:9"):
        with pytest.raises(UserError, match=r"cannot be loaded: OSError: broken$"), loading(what):
            raise OSError("broken")


def test_prompt_format_is_recorded(checkpoint):
    assert build("dummy:", SUITE, {}).sampler.identity(SUITE.sampling).prompt_format == "base"
    assert build("dummy:", SUITE, {}, chat=True).sampler.identity(SUITE.sampling).prompt_format == "chat"
    assert build(str(checkpoint), SUITE, {}, device="cpu").sampler.identity(SUITE.sampling).prompt_format == "base"


def test_parameters_are_counted_without_the_weights(checkpoint, tmp_path):
    from transformers import AutoModelForCausalLM, LlamaConfig

    known = sum(weights.numel() for weights in AutoModelForCausalLM.from_pretrained(checkpoint).parameters())
    config = shutil.copytree(checkpoint, tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    assert parameter_count(str(config)) == known
    LlamaConfig(hidden_size=2048, num_hidden_layers=22, intermediate_size=5632, num_key_value_heads=4).save_pretrained(
        tmp_path / "large"
    )
    assert VLLM_FROM < parameter_count(str(tmp_path / "large")) < 1.3 * VLLM_FROM
    assert parameter_count(str(tmp_path)) is None


@pytest.mark.parametrize("backend", [None, "auto", "hf"])
def test_a_small_model_runs_on_our_own_sampler_whatever_is_installed(checkpoint, backend):
    assert isinstance(build(str(checkpoint), SUITE, {}, device="cpu", backend=backend).sampler, HFSampler)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
@pytest.mark.parametrize("options", [{"spec": "vllm:pretrained=a/b"}, {"spec": "a/b", "backend": "vllm"}])
def test_vllm_that_is_not_installed_is_one_line(options):
    with pytest.raises(UserError, match=r"^vllm is not installed; .* constraints-vllm\.txt$"):
        build(suite=SUITE, prompts={}, **options)


def test_a_backend_that_contradicts_the_model_is_refused(checkpoint):
    with pytest.raises(UserError, match="the model says hf, and --backend says vllm"):
        build(f"hf:pretrained={checkpoint}", SUITE, {}, backend="vllm")


def test_a_launched_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert model._own_gpu() == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert model._own_gpu() == "cuda:3"
