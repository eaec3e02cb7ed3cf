"""Shards of one run, drawn on several machines, into the run that one machine would have drawn."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.records import Cell, Manifest, Sampling
from benchmark.runs import Run, write_atomically, write_record
from benchmark.sampling.grid import Shard, cells, check_grid, order_sha256, part, spelled
from benchmark.sampling.sampler import first_difference


def merge(folders: Sequence[Path], out: Path) -> Run:
    """Merge all shards of a run.

    Prompts are dealt out in turn, so they are taken in turn: the sample files are, byte for byte, those of a run of
    all prompts on one machine (where the backend's draws are exact). Neither the model nor the data is needed. The
    folder appears whole or not at all, and merging again changes nothing.

    Parameters
    ----------
    folders
        The shards' run folders, in any order, or folders that hold them, at most one folder between.
    out
        Folder of the merged run.

    Raises
    ------
    UserError
        If the shards are not all there, once each, of one run and complete, or ``out`` holds something else.
    """
    runs = [Run(folder) for given in folders for folder in _run_folders(given, out)]
    _refuse_several_suites(runs, out)
    shards = _in_order(runs)
    manifests = [shard.manifest() for shard in shards]
    merged = manifests[0].model_copy(update={"shard": None, "record": _record(manifests)})
    files = {
        entry.task: _merged_lines(
            shards, entry.task, entry.n_prompts, _sampling(merged, shards[0]), _order(shards, manifests, entry.task)
        )
        for entry in merged.identity.tasks
    }
    run = Run(out)
    if _is_there(run, merged, files):
        return run
    whole = out.resolve()
    staged = Run(whole.with_name(f".{whole.name}.{os.getpid()}.tmp"))
    try:
        for task, lines in files.items():
            write_atomically(staged.samples_path(task), lines)
        write_record(staged.manifest_path, merged)
        try:
            staged.folder.replace(out)
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", where=out) from error
    finally:
        shutil.rmtree(staged.folder, ignore_errors=True)
    return run


def _run_folders(given: Path, out: Path) -> Iterable[Path]:
    """Give a run folder itself, or the run folders in a folder of them; hidden ones and the merged one left out."""
    if Run(given).manifest_path.exists():
        return [given]
    # Of several suites, each shard is a folder of runs.
    for pattern in ("*/run.json", "*/*/run.json"):
        found = sorted(path.parent for path in given.glob(pattern))
        inside = [
            path
            for path in found
            if not any(part.startswith(".") for part in path.relative_to(given).parts)
            and path.resolve() != out.resolve()
        ]
        if inside:
            return inside
    raise UserError("no run in it; `gendiv sample --shard i/n` makes one shard", where=given)


def _refuse_several_suites(runs: Sequence[Run], out: Path) -> None:
    """Say how to merge the shards of several suites, whose runs are one for each."""
    of_suite: dict[str, list[Path]] = {}
    for run in runs:
        of_suite.setdefault(run.manifest().identity.suite.partition("@")[0], []).append(run.folder)
    if len(of_suite) > 1:
        commands = " and ".join(
            f"`{shlex.join(['gendiv', 'merge', *map(str, folders), '--out', str(out / suite)])}`"
            for suite, folders in of_suite.items()
        )
        raise UserError(f"runs of {len(of_suite)} suites, which are merged one by one: {commands}")


def _in_order(runs: list[Run]) -> list[Run]:
    """Sort shards 1 to n of one run; refuse what is no shard, of another run, double or missing."""
    found: dict[Shard, Run] = {}
    first: tuple[Run, Manifest] | None = None
    for run in runs:
        manifest = run.manifest()
        if manifest.shard is None:
            raise UserError("shard is null: the run holds all prompts and needs no merging", where=run.manifest_path)
        if first is None:
            first = (run, manifest)
        _refuse_another(run, manifest, *first)
        if manifest.shard in found:
            raise UserError(
                f"{spelled(manifest.shard)}, as {found[manifest.shard].folder} is; give each shard once",
                where=run.manifest_path,
            )
        found[manifest.shard] = run
    if first is None or first[1].shard is None:
        raise UserError("no shard to merge; give the run folders of all")
    count = first[1].shard[1]
    if missing := [number for number in range(1, count + 1) if (number, count) not in found]:
        raise UserError(
            f"shard is one of {count}, and {', '.join(f'{number}/{count}' for number in missing[:8])}"
            f"{' …' if len(missing) > 8 else ''} {'are' if len(missing) > 1 else 'is'} not given; give all of them",
            where=first[0].manifest_path,
        )
    return [found[number, count] for number in range(1, count + 1)]


def _refuse_another(run: Run, manifest: Manifest, first: Run, its: Manifest) -> None:
    where = run.manifest_path
    if other := first_difference(manifest, its):
        raise UserError(f"{other.field} is {other.one}, but {other.other} in {first.folder}: not one run", where=where)
    for field in ("name", "kind", "card"):
        if getattr(manifest, field) != getattr(its, field):
            raise UserError(
                f"{field} is {getattr(manifest, field)}, but {getattr(its, field)} in {first.folder}; "
                "say it to `gendiv sample` again",
                where=where,
            )
    if manifest.shard and its.shard and manifest.shard[1] != its.shard[1]:
        raise UserError(
            f"{spelled(manifest.shard)}, but {first.folder} is {spelled(its.shard)}: not of one division",
            where=where,
        )


def _sampling(manifest: Manifest, run: Run) -> Sampling:
    if manifest.identity.sampling is None:
        raise UserError("identity.sampling is missing", where=run.manifest_path)
    return manifest.identity.sampling


def _order(shards: list[Run], manifests: list[Manifest], task: str) -> str | None:
    """Hash of a task's prompts and their order, as the shards recorded it; None where none did."""
    order: str | None = None
    for shard, manifest in zip(shards, manifests, strict=True):
        told = manifest.record.get("prompt_order_sha256")
        its = told.get(task) if isinstance(told, dict) else None
        if not isinstance(its, str):
            continue
        if order not in (None, its):
            raise UserError(
                f"record.prompt_order_sha256 of {task} is {its[:8]}…, but {(order or '')[:8]}… in other shards; "
                "sample it again as they were",
                where=shard.manifest_path,
            )
        order = its
    return order


def _merged_lines(shards: list[Run], task: str, n_prompts: int, sampling: Sampling, order: str | None) -> bytes:
    """Take the shards' prompts in turn; refuse a shard whose grid is not full, and prompts that are not the task's."""
    blocks, places, seen = [], [], set[str]()
    for number, shard in enumerate(shards, start=1):
        path = shard.samples_path(task)
        wanted = len(part(range(n_prompts), (number, len(shards))))
        lines: dict[Cell, bytes] = {}
        doc_ids: list[str] = []
        if wanted or (path.exists() and path.stat().st_size):
            found = [sample.cell for sample in shard.samples(task)]
            lines = dict(zip(found, path.read_bytes().splitlines(keepends=True), strict=True))
            doc_ids = list(dict.fromkeys(doc_id for doc_id, _, _ in found))
            check_grid(found, doc_ids, sampling, where=path)
            if len(doc_ids) != wanted:
                raise UserError(
                    f"{len(doc_ids)} of its {wanted} prompts; run `gendiv sample` again to finish it", where=path
                )
            if double := next((doc_id for doc_id in doc_ids if doc_id in seen), None):
                raise UserError(f"doc_id {double!r} is in another shard as well; sample the shard again", where=path)
            seen.update(doc_ids)
        places.append(doc_ids)
        blocks.append([b"".join(lines[cell] for cell in cells([doc_id], sampling)) for doc_id in doc_ids])
    merged = [doc_id for turn in itertools.zip_longest(*places) for doc_id in turn if doc_id is not None]
    if order is not None and order_sha256(merged) != order:
        raise UserError(
            f"the doc_ids of {task} are not those that the shards were to sample, or not in that order: a sample file "
            "was changed or stands in another shard's folder; sample the shards again",
            where=shards[0].samples_path(task),
        )
    return b"".join(block for turn in itertools.zip_longest(*blocks, fillvalue=b"") for block in turn)


def _record(manifests: list[Manifest]) -> dict[str, JsonValue]:
    """What all shards' records say alike, the sum of their wall times, and under ``shards`` what they say apart."""
    records = [manifest.record for manifest in manifests]
    alike = {
        name: value
        for name, value in records[0].items()
        if name != "sampling_seconds" and all(record.get(name) == value for record in records)
    }
    seconds = [record.get("sampling_seconds", 0.0) for record in records]
    apart: list[JsonValue] = [
        {name: value for name, value in record.items() if name not in alike} for record in records
    ]
    total = round(sum(value for value in seconds if isinstance(value, int | float)), 1)
    return {**alike, "sampling_seconds": total, "shards": apart}


def _is_there(run: Run, merged: Manifest, files: dict[str, bytes]) -> bool:
    """Tell whether ``out`` is this very run already; refuse one that is anything else."""
    if not run.folder.exists() or (run.folder.is_dir() and not any(run.folder.iterdir())):
        return False
    if not run.manifest_path.exists():
        raise UserError("is there, and is not a run folder; give another --out", where=run.folder)
    begun = run.manifest()
    if other := first_difference(begun, merged):
        raise UserError(
            f"the folder holds another run: {other.field} is {other.one}, and {other.other} in the shards; "
            "give another --out",
            where=run.manifest_path,
        )
    if begun.shard is not None:
        raise UserError(f"the folder holds {spelled(begun.shard)} itself; give another --out", where=run.manifest_path)
    for task, lines in files.items():
        path = run.samples_path(task)
        if not path.is_file() or path.read_bytes() != lines:
            raise UserError("holds other samples than the shards; give another --out", where=path)
    return True
