"""Trainers as real processes: killed, several of one run, two at one folder, in a bare environment."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from tiny_runs import ENVIRONMENT, METHODS, ROOT, kill_at, run, steps_of, weights

BARE = """
import sys
from importlib.machinery import PathFinder

names = {"pydantic", "rich", "altair", "pandas", "datasets", "lm_eval", "scipy", "typer", "peft",
         "sentence_transformers", "openai", "jinja2", "tabulate", "vl_convert", "sklearn"}

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in names else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
import json, warnings
warnings.simplefilter("error")
from pathlib import Path
from tiny_runs import Trainers
*folders, runs = sys.argv[1:]
trainers = Trainers(*map(Path, folders))
for method, output, change in json.loads(runs):
    trainers.train(method, output, **change)
found = sorted(names & {name.partition(".")[0] for name in sys.modules})
assert not found, found
"""


def folders(trainers):
    return [str(path) for path in (trainers.llama, trainers.data, trainers.reward_model, trainers.folder)]


def launch(trainers, runs, *, fails="", timeout=240):
    """Run trainers in two processes of one job."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(ROOT / "tests/train_several.py"), *folders(trainers), json.dumps(runs), fails]
    return run(command, timeout=timeout, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")


@pytest.mark.slow
def test_two_processes_train_what_one_does(trainers):
    """Ranks have different numbers of tokens; a mean of their means would be another gradient."""
    runs = [[method, f"{method}-two", {}] for method in METHODS]
    runs += [["sft", "sft-two-micro", {"microbatch_size": 1}], ["dpo", "dpo-two-lora", {"lora_rank": 2}]]
    runs += [["ppo", "ppo-two-shared", {"value_model": "shared"}]]
    done = launch(trainers, runs)
    assert done.returncode == 0, done.stderr
    for method, output, change in runs:
        two = trainers.folder / output
        one = trainers.train(method, f"{output}-one", **change)
        assert json.loads((two / "training.json").read_text())["processes"] == 2
        assert steps_of(two) == [1, 2, 3, 4, 5]
        assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
        for name, value in weights(one).items():
            torch.testing.assert_close(weights(two)[name], value, rtol=0, atol=1e-5)
    assert not [path.name for path in trainers.folder.iterdir() if path.name.startswith(".") or "." in path.name]


@pytest.mark.slow
def test_two_processes_go_on_from_what_one_began_and_the_other_way_round(trainers):
    whole = trainers.train("sft", "whole", save_every=1)

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(step, _metrics):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        trainers.train("sft", "begun", save_every=1, progress=stop)
    done = launch(trainers, [["sft", "begun", {"save_every": 1}]])
    assert done.returncode == 0, done.stderr
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(trainers.folder / "begun")[name], value, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_rank_ends_the_others(trainers, rank):
    done = launch(trainers, [["sft", "out", {}]], fails=f"{rank}:3", timeout=120)
    assert done.returncode != 0
    assert "RuntimeError: this rank fails" in done.stderr
    assert not (trainers.folder / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": 3}, "batch_size 3 cannot be shared by 2 processes"),
        ({"seed": 9}, "belongs to another run: seed is 1 there and 9 here"),  # found by the first rank alone
        ({"learning_rate": 1e20}, "sft diverged at step"),
    ],
)
def test_a_mistake_is_one_line_of_every_rank_and_ends_all_with_2(trainers, tmp_path, change, says):
    if "seed" in change:
        with pytest.raises(ZeroDivisionError):
            trainers.train("sft", "out", progress=lambda *_: 1 / 0)
    done = run(trainers.command("sft", "out", processes=2, **change), timeout=240)
    ours, torchs = done.stderr.split("torch/distributed/elastic", 1)
    # Torch ends a rank as soon as another has ended, its line told or not, and then writes a page of its own.
    assert sum(says in line for line in ours.splitlines()) in (1, 2), done.stderr
    assert "Traceback" not in ours
    assert "(exitcode: 2)" in torchs
    assert not (trainers.folder / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_as_a_process_and_begun_again_it_ends_with_the_same_bytes(trainers, method):
    """By the very command that began it; the other moments to be killed at are gone through in `test_training`."""
    whole = trainers.train(method, "whole", steps=12)
    command, partial = trainers.command(method, "out", steps=12), trainers.folder / "out.partial"
    for step in (2, 7) if method == "sft" else (5,):
        kill_at(command, partial / "metrics.jsonl", step)
        assert not (trainers.folder / "out").exists()
    done = run(command)
    assert (done.returncode, done.stdout) == (0, f"{trainers.folder / 'out'}\n"), done.stderr
    # On its way nothing is said but how it goes, and that this reward model is a weak one.
    ours = ("warning: ", f"{method} out ")
    assert [line for line in done.stderr.splitlines() if not line.startswith(ours)] == []
    assert (trainers.folder / "out/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert steps_of(trainers.folder / "out") == list(range(1, 13))
    assert not partial.exists()


@pytest.mark.slow
def test_a_second_process_at_the_same_folder_is_refused_and_the_first_goes_on(trainers):
    command = trainers.command("sft", "out", steps=3000, save_every=1000)
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as first:
        try:
            log = trainers.folder / "out.partial/metrics.jsonl"
            while not log.exists():
                assert first.poll() is None
            second = run(command)
            assert second.returncode == 2
            assert "out.partial: another process is training into this folder\n" in second.stderr
            assert second.stderr.count("\n") == 1
            assert first.poll() is None
        finally:
            first.kill()


@pytest.mark.slow
def test_trainers_need_torch_transformers_accelerate_and_numpy_alone(trainers):
    change = {"steps": 2}
    runs = [[method, method, change] for method in ("sft", "ppo", "reward-model", "dpo", "rloo")]
    done = run(
        [sys.executable, "-c", BARE, *folders(trainers), json.dumps(runs)], PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"
    )
    assert done.returncode == 0, done.stderr
    assert steps_of(trainers.folder / "ppo") == [1, 2]


@pytest.mark.slow
def test_compiled_it_learns_the_same(trainers):
    """As far as the rounding of fused operations goes."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    done = run(trainers.command("sft", "out", compile="true", steps=2), timeout=400)
    assert done.returncode == 0, done.stderr
    plain = trainers.train("sft", "plain", steps=2)
    for name, value in weights(trainers.folder / "out").items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=0, atol=1e-4)
