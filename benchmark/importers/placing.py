"""Putting a whole imported run in its place: all of it or nothing, and never over something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.records import Manifest, Sample, Verdict
from benchmark.runs import Run, read_json, write_atomically


def place_run(run: Run, manifest: Manifest, task: str, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> None:
    """Put a whole run in its place, or leave the same one that stands there.

    Parameters
    ----------
    run
        The run folder.
    manifest
        Its manifest; ``record.origin.source`` names the importer, whose earlier runs may be replaced.
    task, samples, verdicts
        The run's one task and what is in it; no file of samples where there is none.

    Raises
    ------
    UserError
        If something else stands there, or it cannot be written.
    """
    judge = manifest.identity.judge
    assert judge is not None, "outputs made elsewhere come with their judge"
    contents = {
        run.manifest_path: manifest.model_dump_json(indent=1) + "\n",
        **({run.samples_path(task): "".join(s.model_dump_json() + "\n" for s in samples)} if samples else {}),
        run.verdicts_path(task, judge): "".join(verdict.model_dump_json() + "\n" for verdict in verdicts),
    }
    files = {path.relative_to(run.folder): text.encode() for path, text in contents.items()}
    try:
        if _holds(run.folder, files):
            return
        if os.path.lexists(run.folder):
            _check_replaceable(run, manifest, files)
        _replace(run.folder, files)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=run.folder) from None


def _holds(folder: Path, files: dict[Path, bytes]) -> bool:
    return all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in files.items())


def _check_replaceable(run: Run, manifest: Manifest, files: Iterable[Path]) -> None:
    """Only an earlier import of the same row may go, and only with nothing in it that another import cannot remake."""
    mend = "move it away or choose another output folder"
    try:
        there = read_json(run.manifest_path, Manifest, mend=mend)
    except UserError:
        raise UserError(f"something that is not a run stands at this place; {mend}", where=run.folder) from None
    origin = there.record.get("origin")
    own = manifest.record.get("origin")
    ours = isinstance(origin, dict) and isinstance(own, dict) and origin.get("source") == own.get("source")
    if not ours or (there.name, there.identity.suite) != (manifest.name, manifest.identity.suite):
        raise UserError(f"another run stands at this place; {mend}", where=run.folder)
    made = {run.folder / name for name in files} | {run.scores_path}
    if others := sorted(path for path in run.folder.rglob("*") if not path.is_dir() and path not in made):
        raise UserError(
            f"the files changed since this run was imported, and it holds {others[0].name}, which an import "
            f"does not make; {mend}",
            where=run.folder,
        )


def _replace(folder: Path, files: dict[Path, bytes]) -> None:
    """Build the folder aside, then rename: a reader sees the old run, the new one or, for a moment, none."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        for name, data in files.items():
            write_atomically(new / name, data)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
