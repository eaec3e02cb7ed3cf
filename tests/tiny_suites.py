"""The real suites' five tasks at the size of a test: invented data, a checkpoint, and commands to sample them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from tiny_runs import ENVIRONMENT, ROOT, WORDS, write_jsonl

from reference_models.tiny import make_checkpoint

TASKS = {
    "summarisation": ("gendiv_tldr", "gendiv_cnn_dailymail"),
    "instructions": ("gendiv_alpaca_farm", "gendiv_alpaca_eval", "gendiv_sequential_instructions"),
}
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}


def make_data_root(folder: Path, prompts: int) -> Path:
    """Invent local data for the five tasks, of uneven lengths, so that the order of sampling is not the file's."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 25)))

    def instruction(_: int) -> dict[str, str]:
        return {"instruction": text(), "output": text()}

    splits: dict[str, Callable[[int], dict[str, str]]] = {
        "tldr/test": lambda n: {"subreddit": f"r{n}", "title": text(), "post": text(), "summary": text()},
        "cnn_dailymail/test": lambda _: {"article": text(), "highlights": text()},
        "alpaca_farm_id_test/train": instruction,
        "alpaca_eval/eval": instruction,
        "sequential_instructions/train": instruction,
    }
    for place, row in splits.items():
        path = folder / f"{place}.jsonl"
        path.parent.mkdir(parents=True)
        write_jsonl(path, [row(number) for number in range(prompts)])
    return folder


def make_model(folder: Path) -> Path:
    """Write a random Llama of thirteen tokens: an output ends after some ten of them."""
    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE)
    return folder


def command(model: Path | str, out: Path, *, launcher: Sequence[str] = (), **options: Any) -> list[str]:
    """Return the command line that samples, in one process or under a launcher."""
    script = str(ROOT / "tests" / "sample_several.py")
    return [*(launcher or (sys.executable,)), script, str(model), str(out), json.dumps(options, default=str)]


def torchrun(processes: int) -> list[str]:
    """Return the start of a command line that starts several processes."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def kill_after(arguments: Sequence[str], out: Path, wanted: int, timeout: float = 300) -> bool:
    """Start a command and kill -9 it, and all processes it started, once the sample files hold so many bytes.

    Returns
    -------
    bool
        False if it came to its end before.
    """
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + timeout
        try:
            while bytes_drawn(out) < wanted:
                if (status := process.poll()) is not None:
                    assert process.stderr is not None
                    assert status == 0, process.stderr.read()
                    return False
                assert time.monotonic() < deadline, f"it hangs at {bytes_drawn(out)} bytes"
                time.sleep(0.002)  # a poll, not a wait: what is asserted does not depend on it
        finally:
            # A launcher's processes outlive it.
            for started in _with_children(process.pid) if process.poll() is None else ():
                started.kill()
    return True


def _with_children(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def bytes_drawn(out: Path) -> int:
    """Count the bytes in all sample files of runs, in the hidden folders of processes as well."""
    total = 0
    # Not `rglob`: it raises where a folder is gathered, and so removed, between its listing and its reading.
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(".jsonl"):
                with contextlib.suppress(FileNotFoundError):  # gathered in this moment
                    total += os.stat(os.path.join(folder, name)).st_size
    return total


def cells_drawn(out: Path) -> int:
    """Count the different whole lines in all sample files of runs, in the hidden folders of processes as well.

    A cell is in two places where its gathering was killed.
    """
    lines = {line for path in out.rglob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)}
    return sum(line.endswith(b"\n") for line in lines)


def contents(out: Path) -> dict[str, bytes]:
    """Read every file of runs but the manifests, whose record of wall time differs."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }
