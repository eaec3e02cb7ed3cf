"""Which model it is: a hub commit or a hash of the files, and the arguments that change what it says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

HASHED = {".safetensors", ".json", ".txt", ".model", ".jinja", ".py", ".tiktoken", ".gguf", ".bin"}
NOT_HASHED = {"training.json", "trainer_state.json"}
"""They say how a checkpoint came about, and hold times."""
NO_IDENTITY = {
    *("pretrained", "model", "dtype", "device", "use_safetensors", "batch_size", "max_batch_size", "num_concurrent"),
    *("max_retries", "timeout", "base_url", "tensor_parallel_size", "data_parallel_size", "gpu_memory_utilization"),
}
"""Arguments that say where and how fast a model runs, or that have a field of their own."""

SECRET = re.compile(r"key$|^(hf_|api_|auth_|access_)?token$|secret|password|header", re.IGNORECASE)


class Located(NamedTuple):
    """A checkpoint, named without a path of this machine."""

    id: str
    revision: str | None
    weights_sha256: str | None


def locate(model_id: str, revision: str = "main") -> Located:
    """Identify a checkpoint folder by its name and content, and a hub model by its commit where the cache knows it."""
    folder = Path(model_id)
    if folder.is_dir():
        return Located(folder.resolve().name, None, weights_sha256(folder))
    return Located(model_id, hub_commit(model_id, revision), None)


def declared(model: str) -> str:
    """Name a checkpoint as a model card does: a folder by its weights' hash, a hub id with its commit where known."""
    found = locate(model)
    return found.weights_sha256 or (f"{found.id}@{found.revision}" if found.revision else found.id)


def public_arguments(arguments: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Keep what may change a model's outputs and may be shown: no secrets, and folders by name and content."""
    public: dict[str, JsonValue] = {}
    for name, value in sorted(arguments.items()):
        if name in NO_IDENTITY or SECRET.search(name):
            continue
        if isinstance(value, str) and Path(value).is_dir():
            where = locate(value)
            public[name] = f"{where.id} ({where.weights_sha256})"
        else:
            public[name] = value if isinstance(value, str | int | float | bool) else str(value)
    return public


def hub_commit(model_id: str, revision: str) -> str | None:
    """Find the commit of a hub model that was just loaded, in the local cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def weights_sha256(folder: Path) -> str:
    """SHA-256 over a checkpoint's weights, configuration, tokenizer and code, by file name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in HASHED and path.name not in NOT_HASHED and path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
