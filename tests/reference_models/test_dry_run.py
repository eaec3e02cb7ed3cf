"""What a training would take, without training: what would stop it is found, and nothing is written or fetched."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from tiny_runs import ANSWERS, METHODS, write_jsonl

from benchmark import cli
from benchmark.errors import UserError
from reference_models.dry_run import dry_run


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process: (status, standard output, error stream)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


def look(trainers, method="ppo", **change):
    return dry_run(method, None, trainers.arguments(method, "out", **change))


def told(report, title):
    return "\n".join(report.sections.get(title, []))


def edit(folder, name, **change):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


# ---- A run that goes through ----


@pytest.mark.parametrize("method", METHODS)
def test_what_trains_has_no_problem_and_nothing_is_written(trainers, method):
    before = sorted(trainers.folder.rglob("*"))
    report = look(trainers, method)
    assert report.problems == []
    assert sorted(trainers.folder.rglob("*")) == before
    assert {"model", "data", "memory", "plan", "files"} <= set(report.sections)
    trainers.train(method, "out")
    again = look(trainers, method)
    assert again.problems == []
    assert "nothing would be done" in told(again, "files")


def test_best_of_n_has_a_plan_as_well(trainers):
    given = {"model": trainers.llama, "reward_model": trainers.reward_model, "data": trainers.data / "pairs.jsonl"}
    report = dry_run("best-of-n", None, {**{k: str(v) for k, v in given.items()}, "output": str(trainers.folder / "b")})
    assert "16 completions for each of 12 prompts" in told(report, "plan")
    # The tiny model has 32 positions.
    assert report.problems == [
        f"{trainers.data / 'pairs.jsonl'}: 12 of 12 sequences are longer than the 32 positions there are, the "
        "longest 68 tokens; shorten the prompts of `data` or lower max_new_tokens"
    ]


def test_the_data_is_counted(trainers):
    report = look(trainers, "sft")
    assert "12 pairs" in told(report, "data")
    assert "longest prompt 4 tokens, mean 3; longest completion 8, mean 4" in told(report, "data")
    assert "none of 12 sequences is longer than the 32 positions there are" in told(report, "data")
    assert "5 steps of 4: 20 in all" in told(report, "plan")
    assert "1.67 epochs over the data; one is 3 steps" in told(report, "plan")


def test_answers_of_a_prompt_are_counted_once_and_those_held_out_are_none(trainers):
    assert "6 prompts with preferences" in told(look(trainers, "dpo"), "data")
    report = look(trainers, "reward-model")
    assert "5 prompts with preferences" in told(report, "data")
    assert "different answers a prompt" in told(report, "data")


def test_the_reward_models_vocabulary_is_compared(trainers, tmp_path):
    assert "vocabulary: 13 tokens, the same in both" in told(look(trainers), "model")
    other = shutil.copytree(trainers.reward_model, tmp_path / "other")
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"blue"', '"violet"'))
    assert look(trainers, reward_model=str(other)).problems == [
        f"{other}: the reward model's vocabulary is not the policy's"
    ]


def test_a_policy_is_no_reward_model(trainers):
    assert look(trainers, reward_model=str(trainers.llama)).problems == [
        f"{trainers.llama}: num_labels is 2, and a reward model has 1"
    ]


def test_a_reward_model_of_fewer_positions_is_the_limit(trainers, tmp_path):
    short = shutil.copytree(trainers.reward_model, tmp_path / "short")
    edit(short, "config.json", max_position_embeddings=9)
    [problem] = look(trainers, reward_model=str(short)).problems
    assert "longer than the 9 positions there are" in problem


# ---- What would stop it ----


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "none.jsonl"}, "none.jsonl: no such file; `gendiv data export` makes one"),
        ({"model": "models/none"}, "models/none: no such folder"),
        ({"model": "/a/b/c"}, "/a/b/c: no such folder"),
        ({"batch_size": 24}, "batch_size is 24, and there are 12 examples"),
        ({"batch_size": 3}, "batch_size 3 must be a multiple of 2"),
        ({"max_new_tokens": 30}, "6 of 12 sequences are longer than the 32 positions"),
        ({"sampler": "vllm"}, "sampler vllm needs vLLM"),
    ],
)
def test_what_would_stop_it_is_one_line_each(trainers, change, says, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    [problem] = look(trainers, **change).problems
    assert says in problem
    assert "\n" not in problem


def test_several_are_all_found(trainers):
    report = look(trainers, data="none.jsonl", reward_model="/none/at/all", batch_size=3)
    assert len(report.problems) == 3


def test_a_line_without_its_field_is_named_as_the_trainer_does(trainers, tmp_path):
    path = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "red is", "completion": "warm"}, {"prompt": "red is"}])
    assert look(trainers, "sft", data=str(path)).problems == [f"{path}:2: needs a text under 'completion'"]


@pytest.mark.parametrize("harm", ["no weights", "a shard", "cut off", "no config", "padding"])
def test_a_checkpoint_that_cannot_be_loaded_is_found(trainers, tmp_path, harm):
    folder = shutil.copytree(trainers.llama, tmp_path / "broken")
    weights = folder / "model.safetensors"
    says = "there are no weights in safetensors"
    if harm == "no weights":
        weights.unlink()
    elif harm == "a shard":
        names = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
        weights.rename(folder / names["a"])
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        says = "1 of 2 files of weights are missing: model-2-of-2.safetensors"
    elif harm == "cut off":
        weights.write_bytes(weights.read_bytes()[:100])
        says = "cannot be read"
    elif harm == "no config":
        (folder / "config.json").unlink()
        says = "there is no config.json"
    else:
        edit(folder, "tokenizer_config.json", pad_token="</s>")
        says = "needs a padding token that is not its end"
    [problem] = look(trainers, "sft", model=str(folder)).problems
    assert says in problem
    assert "\n" not in problem


def test_an_output_of_another_run_is_in_the_way(trainers):
    trainers.train("sft", "out")
    [problem] = look(trainers, "sft", seed=2).problems
    assert "belongs to another run: seed is 1 there and 2 here" in problem


def test_a_disk_without_room_is_found(trainers, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    [problem] = look(trainers, "sft").problems
    assert "are needed for states and weights" in problem


def test_a_run_that_was_stopped_is_said_to_go_on(trainers):
    partial = trainers.folder / "out.partial"
    partial.mkdir()
    (partial / "state-00000004.safetensors").touch()
    assert "it would go on from step 4" in told(look(trainers, "sft"), "files")


def test_what_trains_nothing_and_what_is_no_method_have_no_plan(trainers):
    for method, says in (("average", "nothing to plan"), ("grpo", "no method 'grpo'")):
        with pytest.raises(UserError, match=says):
            dry_run(method, None, {})


# ---- Models of the hub ----


@pytest.mark.parametrize(("offline", "is_problem"), [(True, True), (False, False)])
def test_a_name_of_the_hub_that_is_not_cached_is_a_problem_only_offline(trainers, monkeypatch, offline, is_problem):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    report = look(trainers, "sft", model="some-org/no-such-model-at-all")
    assert bool(report.problems) == is_problem
    if not is_problem:
        assert "cannot be checked" in told(report, "model")
    assert "about: there is no tokenizer" in told(report, "data")


def test_a_cached_model_is_looked_at_where_it_lies(trainers, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(trainers.llama / "config.json"))
    report = look(trainers, "sft", model="some-org/model")
    assert report.problems == []
    assert "model: some-org/model, llama" in told(report, "model")


def test_the_papers_base_models_say_how_they_are_made_ready(trainers):
    report = look(trainers, "sft", model="facebook/opt-350m")
    [problem] = report.problems
    assert "pickled" in problem
    assert "python -m reference_models.base_model facebook/opt-350m OUTPUT`" in problem
    assert "331,196,416 parameters" in told(report, "memory")


# ---- Recipes ----


@pytest.mark.parametrize("method", ["sft", "reward-model", "ppo", "best-of-n"])
def test_a_recipe_alone_tells_memory_and_plan_and_what_is_still_to_be_said(gendiv, method):
    status, out, err = gendiv("train", method, "--recipe", "tldr-opt-125m", "--dry-run")
    assert status == 1
    missing = {"data", "output", *({"model"} if method != "sft" else ())}
    missing |= {"reward_model"} if method in ("ppo", "best-of-n") else set()
    assert {name for name in missing if f"field '{name}' is missing; give it by --set {name}=…" in err} == missing
    assert len(err.strip().splitlines()) == len(missing) + (method == "sft")
    assert "one process: about" in out
    assert "125," in out or method in ("best-of-n", "reward-model")


def test_a_recipe_on_a_stand_in_goes_through_by_command(gendiv, trainers, tmp_path):
    rows = [{"prompt": p, "completion": c} for p, c in ANSWERS.items()]
    data = write_jsonl(tmp_path / "data.jsonl", rows * 50)
    words = [f"model={trainers.llama}", f"reward_model={trainers.reward_model}", f"data={data}", "max_new_tokens=8"]
    command = ["train", "ppo", "--recipe", "tldr-llama-7b", "--dry-run", "--set", *words, f"output={tmp_path / 'out'}"]
    status, out, err = gendiv(*command)
    assert (status, err) == (0, "")
    assert "750 steps of 256: 192,000 in all" in out
    assert "nothing that would stop it was found" in out
    assert not Path(tmp_path / "out").exists()


def test_hours_are_told_where_throughput_was_measured(trainers, tmp_path, monkeypatch):
    path = tmp_path / "throughput.yaml"
    monkeypatch.setattr("reference_models.plan.THROUGHPUT", path)
    assert "GPU hours cannot be told" in told(look(trainers), "plan")
    rows = [
        f"- {{gpu: NVIDIA H200, parameters: 40e6, method: {method}, seconds: {seconds}, flops_per_second: 1.0e9}}\n"
        for method, seconds in (("ppo", 3), ("generate", 1))
    ]
    path.write_text("".join(rows))
    said = told(look(trainers), "plan")
    assert "GPU hours on one NVIDIA H200: " in said
    assert "generate of 40 M parameters and scoring and training of ppo of 40 M parameters (2.2 times as long" in said
    assert "the speed of sft was not measured" in told(look(trainers, "sft"), "plan")
