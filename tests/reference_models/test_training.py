"""What surrounds a training loop: stopping and going on, splitting, diverging, and what is already in the folder."""

import fcntl
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys

import pytest
import torch
from tiny_runs import METHODS, steps_of, weights

from benchmark.errors import UserError
from reference_models.core import Batch
from reference_models.sft import SFTArguments
from reference_models.training import DivergedError, Training

FORK = multiprocessing.get_context("fork")


class Stopped(Exception):  # noqa: N818
    """Stands for whatever ends a run."""


def stop_at(stop):
    def progress(step, _metrics):
        if step == stop:
            raise Stopped

    return progress


# ---- Stopping and going on ----


@pytest.mark.parametrize("save_every", [1, 3, 100])
@pytest.mark.parametrize("method", METHODS)
def test_stopped_after_every_step_in_turn_a_run_ends_with_the_same_bytes(trainers, method, save_every):
    whole = trainers.train(method, "whole", save_every=save_every)
    for step in range(1, 6):
        with pytest.raises(Stopped):
            trainers.train(method, "stopped", save_every=save_every, progress=stop_at(step))
        assert not (trainers.folder / "stopped").exists()
    again = trainers.train(method, "stopped", save_every=save_every)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert steps_of(again) == steps_of(whole) == [1, 2, 3, 4, 5]
    assert metrics_of(again) == metrics_of(whole)


def metrics_of(folder):
    """The log without its times."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def test_a_run_that_goes_on_does_no_step_twice_that_was_kept(trainers):
    with pytest.raises(Stopped):
        trainers.train("sft", "out", progress=stop_at(5))
    seen = []
    trainers.train("sft", "out", progress=lambda step, _: seen.append(step))
    assert seen == [5]  # states are kept after steps 2 and 4


def killed_at(trainers, number, events):
    """Train in a process that kills itself at its n-th change of a file; tell in ``events`` how many there were."""

    def child():
        count = 0
        changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile"}

        def hook(event, args):
            nonlocal count
            if event in changes or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
                if str(trainers.folder) not in str(args[0]):
                    return
                count += 1
                events.value = count
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        trainers.train("sft", "out", steps=3, save_every=1)

    process = FORK.Process(target=child)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_killed_at_any_change_of_a_file_it_ends_with_the_same_bytes(trainers):
    whole = (trainers.train("sft", "whole", steps=3, save_every=1) / "model.safetensors").read_bytes()
    out, number, events = trainers.folder / "out", 1, FORK.Value("i", 0)
    while (code := killed_at(trainers, number, events)) != 0:
        assert code == -signal.SIGKILL
        if out.exists():  # then it is whole
            assert (out / "model.safetensors").read_bytes() == whole
            assert (out / "training.json").exists()
        folder = trainers.train("sft", "out", steps=3, save_every=1)
        assert (folder / "model.safetensors").read_bytes() == whole
        assert steps_of(folder) == [1, 2, 3]
        assert sorted(path.name for path in trainers.folder.iterdir()) == ["out", "whole"]
        shutil.rmtree(folder)
        number += 1
    assert number == events.value + 1 > 20


def test_nothing_that_could_run_code_is_written_finished_or_not(trainers):
    seen = set()

    def look(_step, _metrics):
        seen.update(path.suffix for path in trainers.folder.rglob("*") if path.is_file())

    trainers.train("ppo", "out", save_every=1, progress=look)
    look(0, {})
    assert ".safetensors" in seen
    assert seen <= {".safetensors", ".json", ".jsonl", ""}


# ---- The split does not matter ----


@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_a_microbatch_changes_no_loss_and_no_weight(trainers, method):
    whole = trainers.train(method, "whole")
    for size in (1, 3):
        split = trainers.train(method, f"split-{size}", microbatch_size=size)
        for name, value in weights(split).items():
            torch.testing.assert_close(value, weights(whole)[name], rtol=0, atol=1e-5)
        for row, other in zip(metrics_of(split), metrics_of(whole), strict=True):
            assert row == pytest.approx(other, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_minibatch_is_cut_into_microbatches_in_order_of_length(trainers, method, monkeypatch):
    seen, descend = [], Training.descend

    def spy(run, items, loss, count):
        seen.append([longest(item) for item in items])
        return descend(run, items, loss, count)

    def longest(item):
        """Tokens of its longest prompt, which PPO and RLOO sort by, or of its longest sequence."""
        batch = next(part for part in (item, *item) if isinstance(part, Batch))
        drawn = batch.mask.shape[1] if method in ("ppo", "rloo") else 0
        return int(batch.attention[:, : batch.attention.shape[1] - drawn].sum(dim=-1).max())

    monkeypatch.setattr(Training, "descend", spy)
    trainers.train(method, "out", microbatch_size=1)
    assert all(lengths == sorted(lengths) for lengths in seen)
    assert any(lengths[0] < lengths[-1] for lengths in seen)


def test_the_mean_of_means_would_be_another_number(trainers, llama, data):
    """So that the test above can fail: microbatches differ in tokens, and dividing by each one's own count is wrong."""
    from reference_models.core import collate
    from reference_models.data import Epochs, encode, read_pairs
    from reference_models.models import load_policy, load_tokenizer
    from reference_models.sft import nll

    first = []
    trainers.train("sft", "out", microbatch_size=1, progress=lambda _, metrics: first.append(metrics["loss"]))
    tokenizer, model = load_tokenizer(str(llama)), load_policy(str(llama))
    pairs = [encode(tokenizer, *pair) for pair in read_pairs(data / "pairs.jsonl")]
    rows = [pairs[number] for number in Epochs(len(pairs), 4, 1, data)[1]]
    sums = [nll(model, collate([p], [c], 0)).item() for p, c in rows]
    by_token = sum(sums) / sum(len(c) for _, c in rows)
    of_means = sum(s / len(c) for s, (_, c) in zip(sums, rows, strict=True)) / len(rows)
    assert first[0] == pytest.approx(by_token, abs=1e-5)
    assert abs(of_means - by_token) > 0.005


def test_precision_of_one_run_is_not_that_of_the_next(trainers):
    first = (trainers.train("sft", "a") / "model.safetensors").read_bytes()
    half = trainers.train("sft", "b", mixed_precision="bf16")
    assert (half / "model.safetensors").read_bytes() != first
    for name, value in weights(half).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, weights(trainers.folder / "a")[name], rtol=0, atol=0.03)
    assert (trainers.train("sft", "c") / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_runs_on_a_cpu_and_reads_padded_rows_right(trainers, method):
    whole, half = [], []
    trainers.train(method, "whole", steps=2, progress=lambda _, metrics: whole.append(metrics["loss"]))
    trainers.train(
        method, "half", steps=2, mixed_precision="bf16", progress=lambda _, metrics: half.append(metrics["loss"])
    )
    assert half != whole
    if method not in ("ppo", "rloo"):  # whose rollouts differ once a probability does
        assert half == pytest.approx(whole, rel=0.03)


def test_no_trainer_uses_the_attention_whose_gradients_were_nan_on_a_gpu(trainers):
    torch.backends.cuda.enable_cudnn_sdp(True)
    Training(trainers.make("sft", "out"), "sft", inputs=(), shown=())
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_nothing_is_printed(trainers, capfd):
    trainers.train("sft", "out")
    assert capfd.readouterr() == ("", "")


# ---- Diverging ----


@pytest.mark.parametrize("rate", [1e6, 1e20])
@pytest.mark.parametrize("method", METHODS)
def test_a_senseless_learning_rate_is_one_line_and_writes_no_output(trainers, method, rate):
    with pytest.raises(DivergedError) as caught:
        trainers.train(method, "out", learning_rate=rate, warmup_steps=0, save_every=1)
    message = str(caught.value)
    assert re.match(rf"{method} diverged at step [1-5]: (loss|grad_norm) is nan; ", message)
    assert "A lower learning_rate may help" in message
    assert "\n" not in message
    left = {path.name for path in trainers.folder.iterdir()}
    # The first step's weights are what makes the second one's loss no number, so they are not called good.
    began = "the checkpoint it began from is the last good one" in message
    assert left == ({"out.partial"} if began else {"out.partial", "out.last-good"})
    assert began or (" at step 1:" not in message and " at step 2:" not in message)


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_a_policy_that_gives_no_numbers_to_draw_from_has_diverged(trainers, method):
    with pytest.raises(DivergedError, match=f"{method} diverged at step 2: the model's logits are not numbers"):
        trainers.train(method, "out", learning_rate=1e9, warmup_steps=0, save_every=1, epochs=1, minibatches=1)


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_a_policy_that_leaves_the_reference_stops_and_its_last_state_within_the_limit_is_kept(trainers, method):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kls = []
    change = {"save_every": 1, "learning_rate": 5e-2, "kl_coef": 0.0, "warmup_steps": 0}
    trainers.train(method, "free", **change, progress=lambda _, metrics: kls.append(metrics["kl"]))
    assert kls[0] == pytest.approx(0, abs=1e-5)
    at = next(step for step in (3, 4, 5) if kls[step - 1] > max(kls[: step - 1]))
    limit = (kls[at - 1] + max(kls[: at - 1])) / 2
    for _ in range(2):  # the same command again says the same
        with pytest.raises(DivergedError) as caught:
            trainers.train(method, "held", **change, max_kl=limit)
        assert f"{method} diverged at step {at}: kl is" in str(caught.value)
        assert f"above the limit of {limit:g}" in str(caught.value)
        assert f"of step {at - 2}, is {trainers.folder / 'held.last-good'}. A" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (trainers.folder / "held").exists()
        good = trainers.folder / "held.last-good"
        model = AutoModelForCausalLM.from_pretrained(good)
        assert all(torch.isfinite(p).all() for p in model.parameters())
        assert AutoTokenizer.from_pretrained(good).pad_token_id == 0
        assert json.loads((good / "training.json").read_text())["steps_done"] == at - 2
    # It is the state after that very step.
    with pytest.raises(Stopped):
        trainers.train(method, "again", **change, max_kl=limit, progress=stop_at(at - 1))
    from safetensors.torch import load_file

    state = load_file(trainers.folder / f"again.partial/state-{at - 2:08d}.safetensors")
    prefix = "weight.policy." if method == "ppo" else "weight."
    for name, value in weights(good).items():
        assert torch.equal(value, state[prefix + name])


# ---- What is there already ----


def test_the_same_command_again_does_nothing(trainers, capfd):
    first = trainers.train("sft", "out")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.iterdir()}
    again = trainers.train("sft", "out", progress=stop_at(1))
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in again.iterdir()} == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"steps": 7}, "steps is 5 there and 7 here"),
        ({"lora_rank": 2}, "lora_rank is 0 there and 2 here"),
    ],
)
def test_another_argument_is_refused_by_its_name(trainers, is_done, change, says):
    begin(trainers, is_done)
    with pytest.raises(UserError, match=f"belongs to another run: {says}; give another output") as caught:
        trainers.train("sft", "out", **change)
    assert str(caught.value).startswith(str(trainers.folder / ("out/training.json" if is_done else "out.partial/beg")))


def begin(trainers, is_done):
    if is_done:
        trainers.train("sft", "out")
    else:
        with pytest.raises(Stopped):
            trainers.train("sft", "out", progress=stop_at(3))


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("changed", ["data", "model"])
def test_changed_content_under_the_same_name_is_refused_by_the_arguments_name(
    trainers, tmp_path, llama, data, is_done, changed
):
    model = shutil.copytree(llama, tmp_path / "model")
    pairs = shutil.copy(data / "pairs.jsonl", tmp_path / "pairs.jsonl")
    own = {"model": str(model), "data": str(pairs)}
    begin_with = {"progress": None if is_done else stop_at(3)}
    if is_done:
        trainers.train("sft", "out", **own)
    else:
        with pytest.raises(Stopped):
            trainers.train("sft", "out", **own, **begin_with)
    with open(pairs if changed == "data" else model / "config.json", "a") as file:
        file.write("\n" if changed == "model" else '{"prompt": "red", "completion": "wet"}\n')
    with pytest.raises(UserError, match=f"the content of {changed} has changed since"):
        trainers.train("sft", "out", **own)


def test_another_method_is_refused(trainers):
    trainers.train("dpo", "out")
    with pytest.raises(UserError, match="method is 'dpo' there and 'sft' here"):
        trainers.train("sft", "out")


@pytest.mark.parametrize("kind", ["folder", "file", "empty folder", "checkpoint", "other json"])
def test_what_no_trainer_made_is_refused_and_left_as_it_is(trainers, llama, kind):
    out = trainers.folder / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "checkpoint":
        shutil.copytree(llama, out)
    else:
        out.mkdir()
        if kind != "empty folder":
            (out / ("training.json" if kind == "other json" else "thesis.tex")).write_text("[1]")
    before = sorted((path, path.is_file() and path.read_bytes()) for path in trainers.folder.rglob("*"))
    with pytest.raises(UserError, match="out: is in the way, and no trainer of GenDiv made it"):
        trainers.train("sft", "out")
    assert sorted((path, path.is_file() and path.read_bytes()) for path in trainers.folder.rglob("*")) == before


def test_a_folder_that_another_process_holds_is_refused(trainers):
    begin(trainers, is_done=False)
    with (trainers.folder / "out.partial/lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"out\.partial: another process is training into this folder"):
            trainers.train("sft", "out")
    assert trainers.train("sft", "out").is_dir()


def test_a_run_that_another_process_finished_meanwhile_is_done_and_not_begun_again(trainers):
    with Training(trainers.make("sft", "out"), "sft", inputs=("model", "data"), shown=()) as late:
        assert not late.is_done
    late = Training(trainers.make("sft", "out"), "sft", inputs=("model", "data"), shown=())
    folder = trainers.train("sft", "out")
    with late:
        assert late.is_done
    assert sorted(path.name for path in trainers.folder.iterdir()) == [folder.name]


def test_what_is_left_over_beside_a_finished_run_goes(trainers):
    begin(trainers, is_done=False)
    left = shutil.copytree(trainers.folder / "out.partial", trainers.folder / "left")
    trainers.train("sft", "out")
    left.rename(trainers.folder / "out.partial")  # as if it was killed while it tidied up
    trainers.train("sft", "out", progress=stop_at(1))
    assert [path.name for path in trainers.folder.iterdir()] == ["out"]


# ---- Disks ----


def test_a_folder_that_cannot_be_written_is_one_line(trainers):
    (trainers.folder / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written|is in the way"):
        trainers.train("sft", "file/out")


@pytest.mark.parametrize("output", ["/", ".", ""])
def test_an_output_that_is_no_name_is_refused(llama, data, output):
    wanted = {"model": str(llama), "data": str(data / "pairs.jsonl"), "steps": 1, "batch_size": 1, "learning_rate": 1.0}
    with pytest.raises(UserError, match="names no folder"):
        Training(SFTArguments(output=output, **wanted), "sft", inputs=(), shown=())


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(trainers):
    whole = (trainers.train("sft", "whole") / "model.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match=r"out\.partial: .*Error: .*(large|space)") as caught:
            trainers.train("sft", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert not (trainers.folder / "out").exists()
    assert (trainers.train("sft", "out") / "model.safetensors").read_bytes() == whole
