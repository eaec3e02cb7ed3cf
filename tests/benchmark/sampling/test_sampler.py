"""The loop: what is drawn is kept, and a finished file is in canonical order however it came about."""

import json
import os
import shutil

import pytest

from benchmark.errors import UserError
from benchmark.records import Identity, Manifest, ModelIdentity, Prompt, Sample, Sampling, TaskIdentity
from benchmark.runs import Run, appending
from benchmark.sampling.processes import ALONE, Processes, launched
from benchmark.sampling.sampler import (
    MAX_CELLS,
    Difference,
    Job,
    PartlyDrawn,
    Request,
    first_difference,
    sample_run,
    sample_runs,
)
from benchmark.submission import record

SAMPLING = Sampling(k=3, temperatures=(0.5, 1.0), top_p=1.0, top_k=0, max_new_tokens=4, stop=(), seed=0)
PROMPTS = {
    task: [Prompt(task=task, doc_id=f"{n}", text=f"{n}", references=("r",), doc={}) for n in range(4)] for task in "ab"
}
CELLS = 2 * 4 * 3 * 2


class Writer:
    """A backend that writes the cell's own name, of several batch sizes, the last prompt first; it may stop short."""

    def __init__(self, sizes=(4,), stops_after=None):
        self.sizes, self.stops_after, self.asked = list(sizes), stops_after, []
        self.shortened = {"b": 1}

    @property
    def batch_size(self):
        return self.sizes[len(self.asked) % len(self.sizes)]

    def identity(self, sampling):
        return ModelIdentity(
            id="writer", revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=sampling.seed
        )

    def prepare(self, prompts, sampling):
        return list(reversed(prompts))

    def draw(self, requests, sampling):
        self.asked.append(list(requests))
        samples = [write(request) for request in requests]
        if self.stops_after is not None and len(self.asked) > self.stops_after:
            raise PartlyDrawn(samples[1:3], "the server is gone; start it and run the command again")
        return samples


def write(request: Request):
    return Sample(
        task=request.prompt.task, doc_id=request.prompt.doc_id, temperature=request.temperature, index=request.index,
        text=f"{request.prompt.text} at {request.temperature}, {request.index}", finish_reason="stop", n_tokens=None,
    )  # fmt: skip


def manifest(sampler):
    tasks = tuple(
        TaskIdentity(task=task, role=role, version="1", n_prompts=4, prompts_sha256="0" * 64)
        for task, role in (("a", "id"), ("b", "ood"))
    )
    identity = Identity(suite="s@v1", tasks=tasks, sampling=SAMPLING, judge=None, judge_sha256=None, encoder="e")
    return Manifest(name="w", kind="model", identity=identity, model=sampler.identity(SAMPLING))


def fill(folder, sampler=None, **options):
    sampler = sampler or Writer()
    return sample_run(Run(folder), sampler, manifest(sampler), PROMPTS, **options)


def lines(folder):
    return {task: (folder / "samples" / f"{task}.jsonl").read_bytes().splitlines(keepends=True) for task in "ab"}


@pytest.fixture
def whole(tmp_path):
    assert fill(tmp_path / "whole") == CELLS
    return tmp_path / "whole"


def test_the_batch_size_may_change_from_call_to_call(whole, tmp_path):
    sampler = Writer(sizes=(7, 1, 3))
    fill(tmp_path / "run", sampler)
    assert [len(batch) for batch in sampler.asked] == [7, 1, 3, 7, 1, 3, 2, 1, 3, 7, 1, 3, 7, 1, 1]
    assert lines(tmp_path / "run") == lines(whole)


def test_what_a_backend_drew_before_it_failed_is_kept_and_not_drawn_again(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="the server is gone; start it") as caught:
        fill(folder, Writer(stops_after=2))
    assert isinstance(caught.value.__cause__, PartlyDrawn)
    assert len(lines(folder)["a"]) == 4 + 4 + 2
    sampler = Writer()
    assert fill(folder, sampler) == CELLS - 10
    assert sum(len(batch) for batch in sampler.asked) == CELLS - 10
    assert lines(folder) == lines(whole), "the cells that were left out are in their places"


@pytest.mark.parametrize("cut_off", [False, True])
def test_what_killed_processes_left_is_gathered_into_the_bytes_of_one(whole, tmp_path, cut_off):
    """Cells in the run itself, in the folders of two processes, and in both, as a killed gathering leaves them."""
    folder = shutil.copytree(whole, tmp_path / "run")
    everything = lines(whole)
    for task, own in everything.items():
        (folder / "samples" / f"{task}.jsonl").write_bytes(b"".join(own[3:9]))
        for name, part in (("1-of-2", own[7:12]), ("2-of-2", own[18:20]), ("3-of-3", [])):
            path = folder / ".shards" / name / "samples" / f"{task}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(part) + (own[20][:17] if cut_off else b""))
    told = []
    sampler = Writer()
    drawn = fill(folder, sampler, advance=told.append)
    assert drawn == sum(len(batch) for batch in sampler.asked) == CELLS - 2 * 11
    assert (told[0], sum(told)) == (2 * 11, CELLS), "what was found is told first"
    assert lines(folder) == everything
    assert not (folder / ".shards").exists()


def test_a_folder_that_another_process_draws_into_is_left_alone(whole):
    own = Run(whole / ".shards" / "2-of-2")
    with appending(own.samples_path("b")), pytest.raises(UserError, match="another process is writing it"):
        fill(whole)
    assert own.samples_path("b").exists()


def test_a_run_that_is_being_written_is_refused(whole):
    with appending(Run(whole).samples_path("b")), pytest.raises(UserError, match="another process is writing it"):
        fill(whole)


def test_a_run_that_is_being_written_keeps_its_name(whole):
    sampler = Writer()
    renamed = manifest(sampler).model_copy(update={"name": "other"})
    before = (whole / "run.json").read_bytes()
    with appending(Run(whole).samples_path("b")), pytest.raises(UserError, match="another process is writing it"):
        sample_run(Run(whole), sampler, renamed, PROMPTS)
    assert (whole / "run.json").read_bytes() == before
    sample_run(Run(whole), sampler, renamed, PROMPTS)
    assert Run(whole).manifest().name == "other"


def test_a_finished_run_is_not_written_again(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert fill(whole) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_the_record_tells_shortened_prompts_and_wall_time(whole):
    record = json.loads((whole / "run.json").read_text())["record"]
    assert record["shortened_prompts"] == {"a": 0, "b": 1}
    assert record["sampling_seconds"] >= 0


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0"}, ALONE),
        ({"WORLD_SIZE": "4"}, ALONE),
        ({"WORLD_SIZE": "4", "RANK": "2"}, Processes(3, 4)),
    ],
)
def test_a_launcher_is_known_by_its_environment(environment, place):
    assert launched(environment) == place
    assert launched(environment).is_main == (place.number == 1)


def test_a_number_of_processes_that_is_none_is_refused():
    for environment in ({"WORLD_SIZE": "abc"}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "-1"}):
        with pytest.raises(UserError, match="is no number of processes; unset it"):
            launched(environment)


@pytest.mark.parametrize(("rank", "size"), [("4", "4"), ("-1", "2"), ("x", "2"), ("0", "many")])
def test_a_senseless_place_among_processes_is_refused(rank, size):
    with pytest.raises(UserError, match="are no place among processes"):
        launched({"RANK": rank, "WORLD_SIZE": size})


def test_processes_that_cannot_meet_are_told_so_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    jobs = [Job(Run(tmp_path / "run"), Writer(), manifest(Writer()), PROMPTS)]
    with pytest.raises(UserError, match="WORLD_SIZE is 2 and MASTER_ADDR is not set"):
        sample_runs(jobs, processes=Processes(1, 2))
    assert not (tmp_path / "run").exists()


def test_a_plan_of_more_samples_than_a_submission_may_hold_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    assert MAX_CELLS == record.MAX_CELLS
    monkeypatch.setattr("benchmark.sampling.sampler.MAX_CELLS", CELLS // 2 - 1)
    with pytest.raises(
        UserError, match=r"^24 samples of a, 6 of each of 4 prompts; at most 23 are drawn: give a smaller"
    ):
        fill(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("benchmark.sampling.sampler.MAX_CELLS", CELLS // 2)
    assert fill(tmp_path / "run") == CELLS


def test_two_runs_differ_in_the_innermost_field_that_tells_them_apart():
    one = manifest(Writer())
    [first, second] = one.identity.tasks

    def changed(part, **fields):
        return one.model_copy(update={part: getattr(one, part).model_copy(update=fields)})

    assert first_difference(one, one) is None
    fewer = changed("identity", tasks=(first, second.model_copy(update={"n_prompts": 3, "prompts_sha256": "1" * 64})))
    assert first_difference(one, fewer) == Difference("identity.tasks.b.n_prompts", "4", "3")
    hotter = changed("identity", sampling=SAMPLING.model_copy(update={"temperatures": (0.5,)}))
    assert first_difference(one, hotter) == Difference("identity.sampling.temperatures", "[0.5, 1.0]", "[0.5]")
    adapted = changed("model", arguments={"peft": {"name": "x"}})
    assert first_difference(one, adapted) == Difference("model.arguments.peft", "None", "{'name': 'x'}")
    # A field that is there and says nothing, where the other has none.
    assert first_difference(one, changed("model", arguments={"peft": None})) == (
        "model.arguments", "{}", "{'peft': None}",
    )  # fmt: skip
    assert first_difference(one, changed("identity", tasks=(second, first))) is not None
    assert first_difference(one, one.model_copy(update={"name": "another"})) is None


def test_libraries_do_not_see_the_other_processes_and_what_comes_after_does(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    with Processes(2, 2).apart():
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(os.environ)
    assert dict(os.environ) == before
    with ALONE.apart():
        assert dict(os.environ) == before
