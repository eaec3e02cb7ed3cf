"""The loop every backend runs in: append finished cells, be killed at any moment, finish the rest next time."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import Cell, Identity, Manifest, ModelIdentity, Prompt, Record, Sample, Sampling
from benchmark.runs import Appender, Run, appending, drop_cut_off_line, write_atomically, write_record
from benchmark.sampling.grid import cells, check_grid, order_sha256, part, spelled
from benchmark.sampling.processes import ALONE, Processes

MAX_CELLS = 1_000_000
"""Samples of one task: no submission may have more, and the plan of a run has to fit into memory."""


@dataclass(frozen=True)
class Request:
    """One cell to fill."""

    prompt: Prompt
    temperature: float
    index: int


class PartlyDrawn(Exception):  # noqa: N818  (it says how far a batch came, not only that it failed)
    """A backend filled some cells of a batch and cannot fill the others: what is drawn is kept.

    Parameters
    ----------
    samples
        What was drawn.
    reason
        Why the rest was not, in one line that names the mend.
    """

    def __init__(self, samples: list[Sample], reason: str) -> None:
        self.samples, self.reason = samples, reason
        super().__init__(reason)


class Sampler(Protocol):
    """A backend."""

    @property
    def batch_size(self) -> int:
        """Most requests of one call; it may change from call to call, and must not change what is drawn."""

    @property
    def shortened(self) -> Mapping[str, int]:
        """Task → how many of its prompts `prepare` had to shorten."""

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Say which model this is, exactly."""

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Check a task's prompts, before anything is written, and put them in the order of sampling.

        They come back as they will be asked: ``text`` is the chat message or the base model's prompt, fitted to the
        budget, and ``chat`` and ``shortens`` are None.
        """

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Fill at most ``batch_size`` cells, in order; only the text of a prepared prompt is read.

        Raises
        ------
        PartlyDrawn
            If only some could be filled; those are kept.
        """


class Job(NamedTuple):
    """One run to fill."""

    run: Run
    """The run folder, new or begun."""
    sampler: Sampler
    manifest: Manifest
    """What the run is; a begun run must be the same in identity, model identity and shard."""
    prompts: dict[str, list[Prompt]]
    """Task → prompts: all of them, in a shard too."""


def sample_run(
    run: Run,
    sampler: Sampler,
    manifest: Manifest,
    prompts: dict[str, list[Prompt]],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Fill the missing cells of one run; see `sample_runs` and `Job`.

    Parameters
    ----------
    advance
        Called with the number of cells that were just found or drawn, for progress bars.

    Returns
    -------
    int
        Number of cells drawn now.
    """
    [drawn] = sample_runs([Job(run, sampler, manifest, prompts)], progress=lambda n, _: advance(n))
    return drawn


def sample_runs(
    jobs: Sequence[Job],
    *,
    processes: Processes = ALONE,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[int]:
    """Fill the missing cells of runs, one after the other.

    Cells are drawn and appended in one canonical order, and a finished file is in that order, so that a run which was
    killed and started again, with whatever batch size and number of processes, holds the same bytes as one that was
    left alone (where the backend's draws are exact).

    Several processes draw into hidden folders of the run, each every so-manieth prompt that misses a cell; the main
    one gathers them. Whatever it finds in such folders at the start was drawn by processes that were killed.

    Parameters
    ----------
    jobs
        The runs.
    processes
        This process's place among those that share the work.
    progress
        Called with the cells that were just found or drawn, and all that this process finds or draws: once for what
        was found, then after every batch.

    Returns
    -------
    list
        Number of cells drawn now, by all processes, for each run; counted by the main process alone.

    Raises
    ------
    UserError
        If a folder holds a run of something else, a broken or foreign sample file, or is being written by another.
    """
    fillings = [_Filling(job) for job in jobs]
    with processes.together(), contextlib.ExitStack() as locks:
        for filling in fillings if processes.is_main else ():
            filling.begin(locks)
        processes.wait()
        missing = [filling.missing(processes) for filling in fillings]
        found = sum(filling.found for filling in fillings)
        total = found + sum(len(requests) for tasks in missing for requests in tasks.values())
        progress(found, total)
        seconds = [
            filling.draw(tasks, processes, lambda n: progress(n, total))
            for filling, tasks in zip(fillings, missing, strict=True)
        ]
        processes.wait()
        drawn = [
            filling.finish(taken) if processes.is_main else 0 for filling, taken in zip(fillings, seconds, strict=True)
        ]
        # Nobody goes on to read what is not gathered yet.
        processes.wait()
    return drawn


class _Filling:
    """One run on its way. Making it checks everything that can be checked before anything is written."""

    def __init__(self, job: Job) -> None:
        self.run, self.sampler, manifest, prompts = job
        sampling = manifest.identity.sampling
        if sampling is None:
            raise ValueError("a run that is sampled needs its sampling")
        self.sampling = sampling
        for task, asked in prompts.items():
            each = sampling.k * len(sampling.temperatures)
            if (drawn := each * len(asked)) > MAX_CELLS:
                raise UserError(
                    f"{drawn:,} samples of {task}, {each:,} of each of {len(asked):,} prompts; at most {MAX_CELLS:,} "
                    "are drawn: give a smaller --k, or a --limit"
                )
        if self.run.manifest_path.exists():
            refuse_other_run(self.run, manifest)
        ordered = {task: self.sampler.prepare(asked, sampling) for task, asked in prompts.items()}
        # Of all prompts, in a shard too: it is a fact about the suite and the model.
        shortened: dict[str, JsonValue] = {task: self.sampler.shortened.get(task, 0) for task in prompts}
        # By it a merge knows the prompts of all shards.
        order: dict[str, JsonValue] = {
            task: order_sha256(prompt.doc_id for prompt in asked) for task, asked in ordered.items()
        }
        record = {**manifest.record, "shortened_prompts": shortened, "prompt_order_sha256": order}
        self.manifest = manifest.model_copy(update={"record": record})
        self.asked = {task: part(asked, manifest.shard) for task, asked in ordered.items()}
        self.found = 0
        self._logs: dict[str, Appender] = {}

    def begin(self, locks: contextlib.ExitStack) -> None:
        """Write the manifest, and gather what killed processes left; the sample files stay locked until the end."""
        # First of all where there is none: a folder without one is not taken for a run.
        if not self.run.manifest_path.exists():
            write_record(self.run.manifest_path, self.manifest)
        for task in self.asked:
            self._logs[task] = locks.enter_context(appending(self.run.samples_path(task)))
        # Only now is it nobody else's, who may have begun it since it was looked at.
        refuse_other_run(self.run, self.manifest)
        if self._is_renamed():
            write_record(self.run.manifest_path, self.manifest)
        for task in self.asked:
            drop_cut_off_line(self.run.samples_path(task))
        self._gather()

    def missing(self, processes: Processes) -> dict[str, list[Request]]:
        """List what is to be drawn here, by task, in canonical order; counts what was found."""
        requests: dict[str, list[Request]] = {}
        self.found = 0
        for task, asked in self.asked.items():
            done = set(self._cells(task))
            self.found += len(done)
            missing = [
                [
                    Request(prompt, temperature, index)
                    for _, temperature, index in cells([prompt.doc_id], self.sampling)
                    if (prompt.doc_id, temperature, index) not in done
                ]
                for prompt in asked
            ]
            mine = part([of_prompt for of_prompt in missing if of_prompt], processes)
            requests[task] = [request for of_prompt in mine for request in of_prompt]
        return requests

    def draw(self, missing: dict[str, list[Request]], processes: Processes, advance: Callable[[int], None]) -> float:
        """Draw and append; returns the seconds it took."""
        started = time.perf_counter()
        with contextlib.ExitStack() as locks:
            logs = self._logs
            if processes.total > 1:
                own = Run(self._shards / f"{processes.number}-of-{processes.total}")
                # All at once, so that no other command takes this folder for one that was left behind.
                logs = {task: locks.enter_context(appending(own.samples_path(task))) for task in missing}
            for task, requests in missing.items():
                done = 0
                while done < len(requests):
                    batch = requests[done : done + self.sampler.batch_size]
                    logs[task].append(self._drawn(batch, logs[task]))
                    done += len(batch)
                    advance(len(batch))
        return time.perf_counter() - started

    def finish(self, seconds: float) -> int:
        """Gather what all processes drew, check it, and put it into canonical order; returns how much was drawn."""
        self._gather()
        drawn = -self.found
        for task, asked in self.asked.items():
            path, doc_ids = self.run.samples_path(task), [prompt.doc_id for prompt in asked]
            found = self._cells(task)
            check_grid(found, doc_ids, self.sampling, where=path)
            drawn += len(found)
            if found != (wanted := cells(doc_ids, self.sampling)):
                line_of = dict(zip(found, path.read_bytes().splitlines(keepends=True), strict=True))
                write_atomically(path, b"".join(line_of[cell] for cell in wanted))
        if drawn:
            self._add_wall_time(seconds)
        return drawn

    @property
    def _shards(self) -> Path:
        return self.run.folder / ".shards"

    def _drawn(self, batch: list[Request], log: Appender) -> list[Sample]:
        try:
            return self.sampler.draw(batch, self.sampling)
        except PartlyDrawn as partly:
            log.append(partly.samples)
            raise UserError(partly.reason) from partly

    def _cells(self, task: str) -> list[Cell]:
        # A task whose first cell is still missing, or all of whose prompts are other shards', has an empty file.
        return [sample.cell for sample in self.run.samples(task)] if self.run.samples_path(task).stat().st_size else []

    def _gather(self) -> None:
        """Append the cells that lie in hidden folders to the run's own files, then remove those folders."""
        folders = sorted(path for path in self._shards.glob("*-of-*") if path.is_dir())
        with contextlib.ExitStack() as locks:
            there = [
                (task, Run(folder))
                for folder in folders
                for task in self.asked
                if Run(folder).samples_path(task).exists()
            ]
            for task, shard in there:
                locks.enter_context(appending(shard.samples_path(task)))
                drop_cut_off_line(shard.samples_path(task))
            for task, log in self._logs.items():
                done = set(self._cells(task))
                for shard in (shard for other, shard in there if other == task):
                    if not shard.samples_path(task).stat().st_size:
                        continue
                    new = [sample for sample in shard.samples(task) if sample.cell not in done]
                    log.append(new)
                    done |= {sample.cell for sample in new}
        if self._shards.is_dir():
            shutil.rmtree(self._shards)

    def _is_renamed(self) -> bool:
        begun = self.run.manifest()
        return (begun.name, begun.card) != (self.manifest.name, self.manifest.card)

    def _add_wall_time(self, seconds: float) -> None:
        manifest = self.run.manifest()
        before = manifest.record.get("sampling_seconds", 0.0)
        total = round(seconds + (before if isinstance(before, int | float) else 0.0), 1)
        record = {**manifest.record, "sampling_seconds": total}
        write_record(self.run.manifest_path, manifest.model_copy(update={"record": record}))


def refuse_other_run(run: Run, manifest: Manifest) -> None:
    """Raise a `UserError` naming the first field in which a begun run is not the run that is asked for."""
    if other := first_difference(run.manifest(), manifest):
        raise UserError(
            f"the folder holds another run: {other.field} is {other.one}, asked for {other.other}; give another --out",
            where=run.manifest_path,
        )
    if (begun := run.manifest().shard) != manifest.shard:
        raise UserError(
            f"the folder holds {spelled(begun)}, asked for {spelled(manifest.shard)}; give another --out",
            where=run.manifest_path,
        )


class Difference(NamedTuple):
    """The innermost field in which two runs differ, and what it is in each."""

    field: str
    one: str
    other: str


def first_difference(one: Manifest, other: Manifest) -> Difference | None:
    """Find the first field by which two manifests are of different runs; None where they are of the same."""
    for side in ("identity", "model"):
        left, right = getattr(one, side), getattr(other, side)
        if left != right:
            return _within(side, _as_json(left), _as_json(right))
    return None


def _as_json(record: Record) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = record.model_dump(mode="json")
    if isinstance(record, Identity):
        fields["tasks"] = {task.task: task.model_dump(mode="json", exclude={"task"}) for task in record.tasks}
    return fields


def _within(field: str, one: JsonValue, other: JsonValue) -> Difference:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if one.get(key) != other.get(key):
                return _within(f"{field}.{key}", one.get(key), other.get(key))
    return Difference(field, _short(one), _short(other))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "…"
