"""What data there is for each task, without a model, lm-eval or the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from benchmark.data import sources
from benchmark.data.documents import Document
from benchmark.errors import UserError
from benchmark.suites import load_suites, tasks_folder

Status = Literal["found", "stand-in", "other revision", "hub", "missing", "wrong", "empty"]
"""found: a whole copy of the pinned revision · stand-in: other data · other revision: another, none stated or
pinned, or not all its rows · hub: no data root, so the hub will be asked · missing: not in the data root · wrong:
unreadable, or without a field · empty: no document of the task's in it."""

USABLE: frozenset[Status] = frozenset({"found", "stand-in", "other revision"})


class Finding(NamedTuple):
    """What was found for one task."""

    task: str
    suites: tuple[str, ...]
    source: str
    status: Status
    prompts: int
    """Documents that would be evaluated; 0 where they cannot be read."""
    references: int
    """How many of them have a reference."""
    detail: str
    """Where they come from, or what is wrong and how to mend it, on one line."""
    training: dict[str, int | str]
    """``pairs.train`` and the like → documents, or what is wrong; empty for a task without training views."""


def check(root: Path | None) -> list[Finding]:
    """Look at the data of every task that has a source.

    Parameters
    ----------
    root
        The data root; None = none, so that the hub will be asked when a task is run (nothing is asked now).

    Returns
    -------
    list[Finding]
        In the order of the suites. A file that cannot be read is a finding and raises nothing.
    """
    suites: dict[str, list[str]] = {}
    for suite in load_suites().values():
        for entry in suite.tasks:
            suites.setdefault(entry.task, []).append(suite.id)
    configs = dict(_task_configs())
    asked = [name for name in suites if "source" in (configs.get(name, {}).get("dataset_kwargs") or {})]
    with sources.using(root):
        return [_finding(name, tuple(suites[name]), configs[name], root) for name in asked]


def _finding(name: str, suites: tuple[str, ...], config: dict[str, Any], root: Path | None) -> Finding:
    from benchmark.export import views

    wanted = dict(config["dataset_kwargs"])
    source = str(wanted["source"])
    status, detail, docs = _evaluated(wanted, root)
    training: dict[str, int | str] = {}
    for kind, view in views(config.get("metadata") or {}).items():
        for split, there in (("train", view.train), ("validation", view.validation)):
            if there is not None:
                training[f"{kind}.{split}"] = _count(view.source, there, wanted.get("keep"), root)
    referenced = sum(bool(doc["references"]) for doc in docs)
    return Finding(name, suites, source, status, len(docs), referenced, detail, training)


def _evaluated(wanted: dict[str, Any], root: Path | None) -> tuple[Status, str, list[Document]]:
    source = str(wanted["source"])
    declared = sources.load_sources()[source]
    if root is None:
        which = f"at {declared.revision}" if declared.revision else "at its current commit (none is pinned)"
        return "hub", f"no data root: {declared.dataset} will be read from the hub {which}", []
    try:
        if not sources.is_local(source, wanted.get("split", "test")):
            return "missing", f"no {wanted.get('split', 'test')} split of {declared.dataset} in {root / source}", []
        provenance = sources.provenance(source)
        docs = sources.evaluated_documents(**wanted)
    except sources.NoDocumentsError as error:
        return "empty", str(error), []
    except UserError as error:
        return "wrong", str(error), []
    if provenance.startswith("stand-in: "):
        return "stand-in", provenance, docs
    return "found" if "," not in provenance else "other revision", provenance, docs


def _count(source: str, split: str, keep: str | None, root: Path | None) -> int | str:
    if root is None:
        return "at the hub"
    try:
        if not sources.is_local(source, split):
            return "missing"
        return sum(1 for document in sources.documents(source, split, keep=keep) if document is not None)
    except UserError as error:
        return str(error)


def _task_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the task YAMLs as far as data goes: functions by name, and `include` not followed, which names none."""
    for path in sorted(tasks_folder().glob("*/*.yaml")):
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
        if isinstance(config, dict) and isinstance(config.get("task"), str):
            yield config["task"], config


class _Loader(yaml.SafeLoader):
    """Reads ``!function`` as the function's name."""


_Loader.add_constructor("!function", lambda _, node: str(node.value))
