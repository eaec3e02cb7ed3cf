"""The record part of a manifest: what a run was made with. Shown where it differs, never compared."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from pydantic import JsonValue

PACKAGES = ("gendiv", "lm_eval", "torch", "transformers", "tokenizers", "numpy", "sentence-transformers")


def environment() -> dict[str, JsonValue]:
    """Describe this process: commit, packages, Python and hardware, without names of users, hosts or folders."""
    versions: dict[str, JsonValue] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **_commit(),
        "packages": versions,
        "python": platform.python_version(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": _gpu()},
    }


def _commit() -> dict[str, JsonValue]:
    """Commit of the checkout this file lies in, and whether it was dirty; empty outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return {}
    git = ["git", "-C", str(here)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "dirty": bool(status.strip())}


def _gpu() -> str | None:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
