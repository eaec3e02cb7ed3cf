"""Build the board of 1,000 generated submissions from their kept scores: cold, after one change, and its sizes.

    export PYTHONPATH=.:tests OMP_NUM_THREADS=1
    python tests/benchmarks/board_scale.py > tests/benchmarks/board_scale.md

A suite like the pocket's: three tasks of 500 prompts, four temperatures, the 25 metrics that scoring gives a pocket
run, drawn from a few numbers a model. Every submission has a ``submission.json`` with its claims, and stand-ins for
its logs, which a build never reads. Each time is that of `gendiv leaderboard` in a process of its own: the start of
Python, imports, reading, figures, pages and writing. "Cold" has an empty build cache, but the disk's own.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy import special

from benchmark.records import Estimate, Identity, Manifest, ModelCard, ModelIdentity, Scores, TaskIdentity
from benchmark.submission.published import kept_of
from benchmark.submission.record import FILE, PackedFile, Submission
from benchmark.submission.validate import Checked
from benchmark.suites import Suite, load_suite

MODELS, PROMPTS = 1_000, 500
SUITE = "pocket@v1"
METRICS: dict[str, tuple[float, float, str]] = {
    # id: value at the middle of the field, its spread over prompts, its printed interval
    "win_rate": (0.5, 0.28, "plus4_t"),
    "valid_share_oracle": (0.7, 0.2, "plus4_t"),
    "length_words": (5.0, 0.4, "t"),
    "empty_share": (0.01, 0.03, "t"),
    "cut_off_share": (0.02, 0.05, "t"),
    "token_entropy_per_input": (0.9, 0.15, "t"),
    "ead_per_input": (0.62, 0.1, "t"),
    "ead_rlfh_per_input": (0.62, 0.1, "t"),
    "distinct_per_input": (0.62, 0.1, "t"),
    "self_bleu_per_input": (0.5, 0.12, "t"),
    "ngram_cosine_per_input": (0.85, 0.05, "t"),
    "compression_per_input": (2.9, 0.2, "t"),
    "sbert_per_input": (0.42, 0.08, "t"),
    "vendi_per_input": (4.1, 0.5, "t"),
    "distinct_k_per_input": (4.0, 1.2, "t"),
    "effective_per_input_oracle": (0.24, 0.09, "t"),
    "conditional_per_input_oracle": (0.33, 0.08, "t"),
    "ead_across_input": (0.7, 0.2, "jackknife_t"),
    "ead_rlfh_across_input": (0.7, 0.2, "jackknife_t"),
    "distinct_across_input": (0.7, 0.2, "jackknife_t"),
    "self_bleu_across_input": (0.4, 0.3, "jackknife_t"),
    "ngram_cosine_across_input": (0.9, 0.1, "jackknife_t"),
    "sbert_across_input": (0.75, 0.15, "jackknife_t"),
    "vendi_across_input": (15.0, 4.0, "jackknife_t"),
    "effective_across_input_oracle": (0.58, 0.2, "jackknife_t"),
}
METHODS = ("SFT", "best-of-n", "PPO", "DPO", "RLOO")
QUANTILE = float(special.stdtrit(PROMPTS - 1, 0.975))


def checked(number: int, suite: Suite, *, prompts: int = PROMPTS, salt: int = 0) -> Checked:
    """One validated submission with drawn values; another ``salt`` gives the same model other values."""
    rng = np.random.default_rng([number, salt])
    quality, width, heat = rng.uniform(0.7, 1.3), rng.uniform(0.4, 1.5), rng.uniform(0.3, 1.2)
    assert suite.sampling is not None
    tasks = tuple(
        TaskIdentity(task=entry.task, role=entry.role, version="1", n_prompts=prompts, prompts_sha256="a" * 64)
        for entry in suite.tasks
    )
    identity = Identity(
        suite=suite.id, tasks=tasks, sampling=suite.sampling, judge="oracle", judge_sha256="b" * 64,
        encoder=suite.encoder,
    )  # fmt: skip
    model = ModelIdentity(
        id=f"runs/model-{number:04d}", revision=None, weights_sha256=f"{number:012x}" + "c" * 52, dtype="float32",
        chat_template_sha256=None, seed=0,
    )  # fmt: skip
    card = ModelCard(
        method=METHODS[number % len(METHODS)], base_model=f"base-{number % 7}", trained_on=(suite.tasks[0].task,),
        family=f"family-{number // 5:03d}", training_seed=number % 5, licence="Apache-2.0",
    )  # fmt: skip
    estimates: list[Estimate] = []
    per_prompt: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    for drop, entry in zip((0.0, 0.12, 0.25), suite.tasks, strict=True):
        cells = per_prompt[entry.task] = {}
        for temperature in suite.sampling.temperatures:
            step = heat * (temperature - 1.0)
            values = _values(rng, quality * (1 - drop) * (1 - 0.25 * step), width * (1 + 0.7 * step), prompts)
            cells[str(temperature)] = {
                name: tuple(column) for name, column in zip(METRICS, values.tolist(), strict=True)
            }
            means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(prompts)
            for (name, (_, _, method)), mean, error in zip(METRICS.items(), means, errors, strict=True):
                ends = (float(mean - QUANTILE * error), float(mean + QUANTILE * error))
                estimates.append(
                    Estimate(
                        metric=name, task=entry.task, role=entry.role, temperature=temperature, value=float(mean),
                        low=ends[0], high=ends[1], method=method, n=prompts,
                        intervals={method: ends, "percentile": ends},
                    )
                )  # fmt: skip
    doc_ids = {task.task: tuple(f"{task.role}-{place:04d}" for place in range(prompts)) for task in tasks}
    name = f"lab-{number % 40:02d}/model-{number:04d}"
    scores = Scores(
        name=f"model-{number:04d}", kind="model", identity=identity, model=model, card=card, inputs_sha256={},
        estimates=tuple(estimates), doc_ids=doc_ids, per_prompt=per_prompt,  # type: ignore[arg-type]
        notes={"encoder": {"share_over_token_limit": 0.0}},
    )  # fmt: skip
    manifest = Manifest(name=scores.name, kind="model", identity=identity, model=model, card=card)
    logs = [f"samples/{entry.task}.jsonl" for entry in suite.tasks]
    logs += [f"verdicts/{entry.task}.oracle.jsonl" for entry in suite.tasks]
    submission = Submission(
        version=1, model=name, revision=f"{number:012x}", manifest=manifest, claims=scores.estimates,
        files=tuple(PackedFile(path=log, sha256="d" * 64, bytes=1_000_000) for log in logs), claimed_judge="oracle",
    )  # fmt: skip
    # Other values of the same outputs: what tells copies stays.
    drawn = np.random.default_rng(number).integers(2**48, size=prompts)
    marks = {f"{suite.tasks[0].task}/id-{cell:04d}/0": f"{word:012x}" for cell, word in enumerate(drawn.tolist())}
    return Checked(Path(), submission, scores, "re-judged", (), marks, ())


def _values(rng: np.random.Generator, quality: float, width: float, prompts: int) -> np.ndarray:
    """[metrics, prompts]: what is judged goes with quality, the rest with width, and prompts are hard for all."""
    ease = np.random.default_rng(7).normal(0, 0.3, prompts)
    rows = []
    for name, (middle, spread, _) in METRICS.items():
        judged = name.startswith(("win", "valid"))
        values = middle * (quality if judged else width) + spread * (rng.normal(0, 1, prompts) + ease * judged)
        rows.append(np.clip(values, 0, 1) if judged else np.maximum(values, 0))
    return np.round(rows, 6)


def write(number: int, folder: Path, suite: Suite, *, salt: int = 0) -> None:
    """Put one submission and its kept scores below a folder."""
    found = checked(number, suite, salt=salt)
    place = folder / "submissions" / found.submission.folder
    record = place / FILE
    if not record.exists():
        for file in found.submission.files:
            log = place / f"{file.path}.gz"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(gzip.compress(b"", mtime=0))
        record.write_text(found.submission.model_dump_json(indent=1) + "\n", encoding="utf-8")
    path = folder / "board" / "scores" / f"{found.submission.folder}.json.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kept_of(found._replace(folder=place), record.read_bytes()))


def generate(folder: Path, numbers: Sequence[int]) -> None:
    """Write many submissions, on all cores."""
    suite = load_suite(SUITE)
    workers = []
    for part in range(os.cpu_count() or 1):
        if (worker := os.fork()) == 0:
            try:
                for number in numbers[part :: os.cpu_count() or 1]:
                    write(number, folder, suite)
            finally:
                os._exit(0)
        workers.append(worker)
    for worker in workers:
        os.waitpid(worker, 0)


def build(folder: Path) -> tuple[float, float, float]:
    """Run ``gendiv leaderboard``; its wall and processor seconds, and the peak of its memory in MiB."""
    command = [sys.executable, "-c", "from benchmark.cli import main; main()", "leaderboard"]
    command += ["--submissions", str(folder / "submissions"), "--out", str(folder / "board")]
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    seconds = perf_counter() - start
    if status:
        assert process.stderr is not None
        raise SystemExit(process.stderr.read().decode())
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def sizes(board: Path) -> Iterator[tuple[str, int, int]]:
    """(what, files, bytes) of a board's parts."""
    files = [path for path in board.rglob("*") if path.is_file() and ".cache" not in path.parts]
    parts: dict[str, list[int]] = {}
    for path in sorted(files):
        top = path.relative_to(board).parts
        parts.setdefault(top[0] if len(top) == 1 else f"{top[0]}/", []).append(path.stat().st_size)
    yield from ((what, len(found), sum(found)) for what, found in parts.items())


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--models", type=int, default=MODELS)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--keep", type=Path, help="folder of the generated submissions, kept for another time")
    arguments = asked.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    suite = load_suite(SUITE)
    if not (folder / "submissions").exists():
        (folder / "submissions").mkdir(parents=True)
        generate(folder, range(arguments.models))
    times: dict[str, list[tuple[float, float, float]]] = {}

    def timed(what: str) -> None:
        times.setdefault(what, []).append(build(folder))

    for repeat in range(arguments.repeats):
        for old in [path for path in (folder / "board").iterdir() if path.name != "scores"]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        (folder / "submissions" / "EVENTS.jsonl").unlink(missing_ok=True)
        timed("cold: no board, no build cache")
        timed("again, nothing changed")
        write(17, folder, suite, salt=repeat + 1)
        timed("one submission's kept scores changed")
        write(arguments.models + repeat, folder, suite)
        timed("one submission more")
    report(times, folder, arguments.models)


def report(times: dict[str, list[tuple[float, float, float]]], folder: Path, models: int) -> None:
    title, _, rest = (__doc__ or "").partition("\n")
    print(f"# {title.rstrip('.')}\n{rest.rstrip()}\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, numpy {np.__version__}.")
    print(f"{models} submissions and a few more.\n")
    print("| build | wall s, each repeat | processor s, each repeat | peak MiB |\n|---|---|---|---|")
    for what, found in times.items():
        walls, processors, peaks = zip(*found, strict=True)
        spelled = [", ".join(f"{seconds:.1f}" for seconds in each) for each in (walls, processors)]
        print(f"| {what} | {spelled[0]} | {spelled[1]} | {max(peaks):.0f} |")
    print("\n| part of the board | files | MB |\n|---|---|---|")
    for what, files, size in sizes(folder / "board"):
        print(f"| {what} | {files:,} | {size / 1e6:.2f} |")


if __name__ == "__main__":
    main()
