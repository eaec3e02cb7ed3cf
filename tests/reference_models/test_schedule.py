"""Jobs in processes of their own, in the order of their needs."""

import functools
import os
import threading

import pytest

from benchmark.errors import UserError
from reference_models.schedule import Job, run_jobs


def note(folder, name, needs, report):
    """Write down that this job ran, and that all it needs had."""
    assert all((folder / need).exists() for need in needs)
    (folder / name).write_text(str(os.getpid()))
    report("noting", 1, 1)


def fail(_report):
    raise UserError("this job cannot be done")


def job(folder, name, *needs):
    return Job(name, functools.partial(note, folder, name, needs), needs)


def test_every_job_runs_once_after_those_it_needs_and_all_progress_arrives(tmp_path):
    seen = []
    jobs = [job(tmp_path, "d", "b", "c"), job(tmp_path, "b", "a"), job(tmp_path, "c", "a"), job(tmp_path, "a")]
    run_jobs(jobs, 2, lambda *message: seen.append(message))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
    assert sorted(seen) == [(name, "noting", 1, 1) for name in "abcd"]
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}


def test_a_need_that_is_not_among_the_jobs_counts_as_done(tmp_path):
    run_jobs([Job("b", functools.partial(note, tmp_path, "b", ()), ("elsewhere",))], 1, lambda *_: None)
    assert (tmp_path / "b").exists()


def test_a_failure_is_raised_as_it_is_and_what_needs_it_does_not_run(tmp_path):
    jobs = [Job("a", fail), job(tmp_path, "b", "a")]
    with pytest.raises(UserError, match="cannot be done"):
        run_jobs(jobs, 2, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_a_circle_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wait for each other: a, b"):
        run_jobs([job(tmp_path, "a", "b"), job(tmp_path, "b", "a")], 2, lambda *_: None)


def note_gpu(folder, name, _report):
    """Write down which GPU this process sees, once the other job has begun as well."""
    (folder / f"{name}-begun").touch()
    for _ in range(600):
        if len(list(folder.glob("*-begun"))) == 2:
            break
        threading.Event().wait(0.1)
    (folder / name).write_text(os.environ["CUDA_VISIBLE_DEVICES"])


def test_each_process_sees_one_of_several_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    run_jobs([Job(name, functools.partial(note_gpu, tmp_path, name)) for name in "ab"], 2, lambda *_: None)
    assert {(tmp_path / name).read_text() for name in "ab"} == {"3", "5"}
