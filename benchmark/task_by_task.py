"""What is known of each task, read when it is asked for: one task is in memory, and not all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class TaskByTask(Mapping[str, T]):
    """A mapping from tasks that keeps only what was asked for last.

    Parameters
    ----------
    tasks
        Its keys, in order.
    read
        Task → what is known of it. Whoever asks for the tasks in order has each read once.
    """

    def __init__(self, tasks: Sequence[str], read: Callable[[str], T]) -> None:
        self._tasks, self._read = tuple(tasks), read
        self._kept: tuple[str, T] | None = None

    def __getitem__(self, task: str) -> T:
        if task not in self._tasks:
            raise KeyError(task)
        if self._kept is None or self._kept[0] != task:
            self._kept = None  # what is kept goes before the next is read
            self._kept = (task, self._read(task))
        return self._kept[1]

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)
