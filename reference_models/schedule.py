"""Jobs that depend on each other, done by a few processes side by side."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, str, int, int], None]
"""(job, stage, units done since the last call, units in all)."""
Report = Callable[[str, int, int], None]
"""(stage, units done since the last call, units in all): what a job calls."""


@dataclass(frozen=True)
class Job:
    """A piece of work that one process does from beginning to end."""

    name: str
    do: Callable[[Report], None]
    """Must be picklable: a function of a module, or a `functools.partial` of one."""
    needs: tuple[str, ...] = ()
    """Jobs that must be done before."""


def run_jobs(jobs: Sequence[Job], workers: int, progress: Progress) -> None:
    """Do all jobs, each after those it needs; where several could begin, the first listed does.

    Parameters
    ----------
    jobs
        In order of urgency. A need that is not among them counts as done.
    workers
        Processes side by side, one CPU thread each. Where there are several GPUs, each process sees one of them.
    progress
        Called in this process.

    Raises
    ------
    Exception
        The first failure of a job; the others are ended at once, for whatever they are at can be begun again.
    """
    context = multiprocessing.get_context("spawn")
    messages, seats = context.Queue(), context.Queue()
    gpus = _gpus()
    for number in range(workers):
        seats.put(gpus[number % len(gpus)] if len(gpus) > 1 else None)
    waiting, running = list(jobs), dict[str, Future[None]]()
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(messages, seats)) as pool:
        try:
            while waiting or running:
                open_names = {job.name for job in waiting} | set(running)
                ready = [job for job in waiting if not open_names & set(job.needs)]
                if not ready and not running:
                    raise ValueError(f"jobs wait for each other: {', '.join(sorted(open_names))}")
                # No more than there are workers: a job that becomes ready later may be more urgent.
                for job in ready[: workers - len(running)]:
                    waiting.remove(job)
                    running[job.name] = pool.submit(_do, job)
                with contextlib.suppress(queue.Empty):
                    progress(*messages.get(timeout=0.1))
                # However fast messages come: a worker must not wait for a lull to get its next job.
                for name, future in list(running.items()):
                    if future.done():
                        del running[name]
                        future.result()
            with contextlib.suppress(queue.Empty):
                while True:
                    progress(*messages.get(timeout=0.2))
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


_MESSAGES: Any = None
"""In a worker: where progress is told."""


def _gpus() -> list[str]:
    """List the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _start_worker(messages: Any, seats: Any) -> None:
    """Prepare a worker, and see to it that it ends with its parent: an orphan would go on writing the same files."""
    global _MESSAGES
    if seat := seats.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = seat  # before anything asks CUDA what there is
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    messages.cancel_join_thread()
    _MESSAGES = messages
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    quiet()


def _do(job: Job) -> None:
    def report(stage: str, done: int, total: int) -> None:
        _MESSAGES.put((job.name, stage, done, total))

    job.do(report)


def quiet() -> None:
    """Keep library chatter out of the progress display."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
