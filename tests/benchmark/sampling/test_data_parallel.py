"""Several processes of a launcher: the bytes of one, also when they are killed and others go on."""

import shutil

import pytest
from tiny_runs import run
from tiny_suites import bytes_drawn, cells_drawn, command, contents, kill_after, make_data_root, make_model, torchrun

PROMPTS = 8
CELLS = 5 * PROMPTS * 2 * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    data = make_data_root(tmp_path_factory.mktemp("data") / "root", PROMPTS)
    return {
        "suites": ["summarisation", "instructions"],
        "k": 2,
        "temperatures": [0.7, 1.3],
        "batch_size": 3,
        "data_root": data,
    }


@pytest.fixture(scope="module")
def whole(model, options, tmp_path_factory):
    """What one process draws, five tasks of two suites."""
    out = tmp_path_factory.mktemp("whole") / "runs"
    done = run(command(model, out, **options))
    assert (done.returncode, done.stdout) == (0, f"found 0, drew {CELLS}\n"), done.stderr
    assert len(contents(out)) == 5
    assert cells_drawn(out) == CELLS
    return out


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_draw_the_bytes_of_one(model, options, whole, tmp_path, processes):
    done = run(command(model, tmp_path / "runs", launcher=torchrun(processes), **options))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("found 0, drew ")
    # Prompts are dealt out task by task, so a process draws a whole number of them a task.
    share = int(done.stdout.split()[-1]) / CELLS
    assert share == (0.5 if processes == 2 else 3 / 8), "the first process drew its part alone"
    assert contents(tmp_path / "runs") == contents(whole)
    assert not list(tmp_path.rglob(".shards"))


@pytest.mark.slow
@pytest.mark.parametrize("then", [1, 3])
def test_killed_processes_are_gone_on_from_by_any_number_and_nothing_is_drawn_twice(
    model, options, whole, tmp_path, then
):
    out = tmp_path / "runs"
    assert kill_after(command(model, out, launcher=torchrun(2), **options), out, bytes_drawn(whole) // 2)
    there = cells_drawn(out)
    assert 0 < there < CELLS
    assert list(out.rglob(".shards/*-of-2/samples/*.jsonl"))
    launcher = torchrun(then) if then > 1 else ()
    done = run(command(model, out, launcher=launcher, **options | {"batch_size": 5}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"found {there}, drew ")
    if then == 1:
        assert done.stdout == f"found {there}, drew {CELLS - there}\n"
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_processes_may_share_one_shard(model, options, tmp_path):
    """Machines with several GPUs: each machine is given a shard, and its processes share it."""
    one, several = tmp_path / "one", tmp_path / "several"
    for out, launcher in ((one, ()), (several, torchrun(2))):
        done = run(command(model, out, launcher=launcher, **options | {"shard": (2, 3)}))
        assert done.returncode == 0, done.stderr
    assert contents(several) == contents(one)
    assert cells_drawn(one) == 5 * 3 * 4


@pytest.mark.slow
def test_a_mistake_ends_all_processes_and_writes_nothing(model, options, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "runs")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = run(command(model, out, launcher=torchrun(2), **options | {"seed": 7}))
    assert done.returncode != 0
    assert "refused: " in done.stderr
    assert "identity.sampling.seed is" in done.stderr
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
