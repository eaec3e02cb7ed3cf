"""One task is in memory at a time, and a mapping of tasks is like any other."""

from __future__ import annotations

import weakref

import pytest

from benchmark.task_by_task import TaskByTask


class Kept(list[str]):
    """A list that can be referred to weakly."""


def test_each_is_read_when_it_is_asked_for_and_the_last_is_let_go_before_the_next_is_read():
    read, alive = [], []

    def one(task):
        assert not [there for there in alive if there() is not None], "the one before is still there"
        read.append(task)
        found = Kept([task])
        alive.append(weakref.ref(found))
        return found

    tasks = TaskByTask(["b", "a"], one)
    assert (list(tasks), len(tasks), read) == (["b", "a"], 2, [])
    assert ("a" in tasks, "c" in tasks) == (True, False)
    assert [tasks["b"], tasks["b"]] == [["b"], ["b"]]
    assert tasks["a"] == ["a"]
    assert read == ["b", "a"]
    assert dict(TaskByTask(["b", "a"], lambda task: task)) == {"b": "b", "a": "a"}
    with pytest.raises(KeyError, match="c"):
        tasks["c"]


def test_what_could_not_be_read_is_read_again():
    answers = iter([ValueError("broken"), "fine"])

    def one(_):
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    tasks = TaskByTask(["a"], one)
    with pytest.raises(ValueError, match="broken"):
        tasks["a"]
    assert tasks["a"] == "fine"
