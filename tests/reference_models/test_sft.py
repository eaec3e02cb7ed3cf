"""Supervised fine-tuning: what it learns, what it writes, what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from reference_models.sft import SFTArguments, epochs, read_pairs, read_recipe, train
from reference_models.tiny import make_checkpoint

RECIPES = Path(__file__).parents[2] / "reference_models" / "recipes"
WORDS = ["red", "blue", "green", "warm", "cold", "wet", "is", "very"]
ANSWERS = {"red is": "warm", "blue is": "cold", "green is": "very wet"}
ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}


@pytest.fixture
def arguments(tmp_path):
    make_checkpoint(tmp_path / "init", WORDS, seed=0, architecture=ARCHITECTURE)
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in ANSWERS.items()] * 8
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": str(tmp_path / "init"),
        "data": str(tmp_path / "pairs.jsonl"),
        "output": str(tmp_path / "out"),
        "steps": 60,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "warmup_steps": 3,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": 1,
    }


def test_it_learns_the_answers_and_to_stop_after_them(arguments):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses = []
    folder = train(SFTArguments(**arguments), progress=lambda step, metrics: losses.append(metrics["loss"]))
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for prompt, completion in ANSWERS.items():
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=5)
        assert out[0, ids.shape[1] :].tolist() == [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]


def test_the_loss_is_the_mean_over_completion_tokens_and_the_end(arguments):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first = []
    train(SFTArguments(**arguments | {"steps": 1, "batch_size": 24}), progress=lambda _, m: first.append(m["loss"]))
    model, tokenizer = (cls.from_pretrained(arguments["model"]) for cls in (AutoModelForCausalLM, AutoTokenizer))
    total, count = 0.0, 0
    for prompt, completion in ANSWERS.items():
        ids = tokenizer(prompt)["input_ids"]
        for token in [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]:
            with torch.no_grad():
                total -= torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)[token].item()
            ids, count = [*ids, token], count + 1
    assert first[0] == pytest.approx(total / count, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(arguments, tmp_path):
    def weights(name, **change):
        folder = train(SFTArguments(**arguments | {"steps": 5, "output": str(tmp_path / name)} | change))
        return (folder / "model.safetensors").read_bytes()

    assert weights("a") == weights("b") != weights("c", seed=2)


def test_the_checkpoint_says_how_it_came_about_and_appears_whole(arguments, tmp_path):
    folder = train(SFTArguments(**arguments | {"steps": 2}))
    record = json.loads((folder / "training.json").read_text())
    assert record["arguments"]["seed"] == 1
    assert record["arguments"]["steps"] == 2
    assert len(record["data_sha256"]) == 64
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not list(tmp_path.glob(".*tmp"))


def test_a_tokenizer_whose_padding_is_its_end_is_refused(arguments, tmp_path):
    from transformers import AutoTokenizer

    broken = shutil.copytree(arguments["model"], tmp_path / "broken")
    tokenizer = AutoTokenizer.from_pretrained(broken)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(broken)
    with pytest.raises(ValueError, match="not its end-of-sequence token"):
        train(SFTArguments(**arguments | {"model": str(broken)}))


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_no_checkpoint(arguments, tmp_path):
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        train(SFTArguments(**arguments | {"learning_rate": 1e20, "max_grad_norm": 1e30, "warmup_steps": 0}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "the file is empty"), ('{"prompt": "a"}\n', r":1: not a prompt–completion pair"), ("nonsense\n", ":1: ")],
)
def test_data_that_are_no_pairs_are_named(tmp_path, content, says):
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=says):
        list(read_pairs(path))


def test_an_epoch_is_a_permutation_without_its_ragged_end():
    batches = epochs(10, 3, seed=0)
    for _ in range(4):
        epoch = [next(batches) for _ in range(3)]
        seen = [number for batch in epoch for number in batch]
        assert len(set(seen)) == len(seen) == 9
    with pytest.raises(ValueError, match="more than the 2 pairs"):
        next(epochs(2, 3, seed=0))


def test_every_recipe_is_read_and_a_wrong_field_is_named(tmp_path):
    folders = {"model": "m", "data": "d", "output": "o"}
    for path in sorted(RECIPES.rglob("sft*.yaml")):
        assert read_recipe(path, folders).adam_eps == 1e-5
    path = tmp_path / "r.yaml"
    path.write_text("stesp: 3\n")
    with pytest.raises(ValueError, match="unknown field 'stesp'; there are: model"):
        read_recipe(path, folders)
    path.write_text("steps: 3\n")
    with pytest.raises(ValueError, match="missing"):
        read_recipe(path, folders)


def test_the_trainer_needs_torch_transformers_accelerate_and_numpy_alone():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "for name in ('pydantic', 'lm_eval', 'datasets', 'pandas', 'typer', 'scipy', 'sentence_transformers'):\n"
        "    sys.modules[name] = None\n"
        "import reference_models.sft, reference_models.core, reference_models.tiny\n"
        "import benchmark.sampling.kv_cache, benchmark.sampling.noise\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
