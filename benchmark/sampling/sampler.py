"""The loop every backend runs in: append finished cells, be killed at any moment, finish the rest next time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmark.errors import UserError
from benchmark.records import Manifest, ModelIdentity, Prompt, Sample, Sampling
from benchmark.runs import Run, appending, drop_cut_off_line, write_record
from benchmark.sampling.grid import check_grid


@dataclass(frozen=True)
class Request:
    """One cell to fill."""

    prompt: Prompt
    temperature: float
    index: int


class Sampler(Protocol):
    """A backend. ``batch_size`` bounds the requests of one call and must not change what is drawn."""

    batch_size: int

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Say which model this is, exactly."""

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Check a task's prompts, before anything is written, and put them in the order of sampling."""

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Fill at most ``batch_size`` cells, in order."""


def sample_run(
    run: Run,
    sampler: Sampler,
    manifest: Manifest,
    prompts: dict[str, list[Prompt]],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Fill the missing cells of a run.

    Cells are drawn and appended in one canonical order, so that a run which was killed and started again, with
    whatever batch size, holds the same bytes as one that was left alone (where the backend's draws are exact).

    Parameters
    ----------
    run
        The run folder, new or begun.
    sampler
        The backend.
    manifest
        What the run is; a begun run must be the same in identity and model identity.
    prompts
        Task → prompts.
    advance
        Called with the number of cells that were just found or drawn, for progress bars.

    Returns
    -------
    int
        Number of cells drawn now.

    Raises
    ------
    UserError
        If the folder holds a run of something else, or a broken or foreign sample file.
    """
    sampling = manifest.identity.sampling
    if sampling is None:
        raise ValueError("a run that is sampled needs its sampling")
    if run.manifest_path.exists():
        refuse_other_run(run, manifest)
    ordered = {task: sampler.prepare(asked, sampling) for task, asked in prompts.items()}
    if not run.manifest_path.exists() or _is_renamed(run, manifest):
        write_record(run.manifest_path, manifest)
    drawn = 0
    for task, asked in ordered.items():
        path = run.samples_path(task)
        with appending(path) as log:
            drop_cut_off_line(path)
            done = {sample.cell for sample in run.samples(task)} if path.stat().st_size else set()
            advance(len(done))
            missing = [
                Request(prompt, temperature, index)
                for prompt in asked
                for temperature in sampling.temperatures
                for index in range(sampling.k)
                if (prompt.doc_id, temperature, index) not in done
            ]
            for batch in _batches(missing, sampler.batch_size):
                samples = sampler.draw(batch, sampling)
                log.append(samples)
                drawn += len(samples)
                advance(len(samples))
        check_grid(
            (sample.cell for sample in run.samples(task)), [prompt.doc_id for prompt in asked], sampling, where=path
        )
    return drawn


def _is_renamed(run: Run, manifest: Manifest) -> bool:
    begun = run.manifest()
    return (begun.name, begun.card) != (manifest.name, manifest.card)


def refuse_other_run(run: Run, manifest: Manifest) -> None:
    """Raise a `UserError` naming the first field in which a begun run is not the run that is asked for."""
    begun = run.manifest()
    for part in ("identity", "model"):
        old, new = getattr(begun, part), getattr(manifest, part)
        for field in type(old).model_fields:
            if getattr(old, field) != getattr(new, field):
                raise UserError(
                    f"the folder holds another run: {part}.{field} is {_short(getattr(old, field))}, "
                    f"asked for {_short(getattr(new, field))}; give another --out",
                    where=run.manifest_path,
                )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "…"


def _batches(requests: list[Request], size: int) -> Iterator[list[Request]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
