"""Validation in a process of its own, which may take so much memory and time and no more.

What a submission is made of is bounded when it is read (`benchmark.submission.reading`); what it costs to score is not,
and a process that is out of bounds can only be ended from outside.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import benchmark
from benchmark.errors import UserError
from benchmark.records import Flag, Scores
from benchmark.submission.reading import MAX_FILE, MAX_JSON, read_bytes
from benchmark.submission.record import FILE, Submission


class Limits(NamedTuple):
    """What one validation may take."""

    memory: int
    """Bytes, our own code and libraries among them."""
    seconds: float
    """By the clock on the wall; and as much of one core."""


FAST = Limits(512 * 2**20, 30.0)
"""Of the checks without an encoder."""
FULL = Limits(6 * 2**30, 3600.0)
"""Of all checks. The encoder is loaded and embeds within them, in the same process and on one core: the pocket suite's
28,800 outputs took 810 MiB and 130 s of a busy machine."""


_OURS = 240 * 2**20
"""Bytes of our own code and libraries."""
_OF_A_SAMPLE = 1_200
"""Bytes that a sample and its verdict take at the least, whatever they say."""
_OF_A_BYTE = 6
"""Bytes that each byte of a log of samples takes at the least, as text, record and words."""
_SAMPLES_A_SECOND = 15_000
"""More are checked nowhere."""


class Outcome(NamedTuple):
    """What became of one validation."""

    folder: Path
    problem: str | None
    """One line; None = the submission is what it says."""
    tier: str | None
    """See `benchmark.submission.validate.Tier`; None where there is a problem."""
    scores: Scores | None
    """As they were computed here; None where there is a problem."""
    flags: tuple[Flag, ...]
    """Of the scores and of the texts."""
    kept: bytes | None
    """What a board keeps of it, see `benchmark.submission.published.kept_of`; None after the fast checks."""
    seconds: float
    peak: int | None
    """Most bytes that were resident; None where the process was ended, or the system does not tell."""
    unchecked: str | None = None
    """See `benchmark.submission.validate.Checked`."""


def validate_fast(folder: Path, root: Path, limits: Limits = FAST, published: Path | None = None) -> Outcome:
    """Make the fast checks of one submission, within limits; see `validate_within`."""
    return validate_within(folder, root, limits, fast=True, published=published)


def validate_full(folder: Path, root: Path, limits: Limits = FULL, published: Path | None = None) -> Outcome:
    """Make all checks of one submission, within limits; see `validate_within`."""
    return validate_within(folder, root, limits, fast=False, published=published)


def validate_within(folder: Path, root: Path, limits: Limits, *, fast: bool, published: Path | None = None) -> Outcome:
    """Check one submission in a process of its own.

    Parameters
    ----------
    folder, root, fast, published
        See `benchmark.submission.validate.validate`.
    limits
        What it may take.

    Returns
    -------
    Outcome
        A submission that is not what it says, or takes too much, is an outcome and no exception.

    Raises
    ------
    RuntimeError
        If validation itself broke: a bug of ours, with its traceback.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gendiv-") as place:
        left = Path(place)
        with (left / "errors").open("wb") as errors:
            process = subprocess.Popen(
                # Without -P a folder `benchmark` or a `json.py` of a stranger's, where we happen to be, would be ours.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    __name__,
                    str(folder),
                    str(root),
                    place,
                    json.dumps([*limits, fast, str(published or "")]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | _environment(place),
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(limits.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        seconds = time.monotonic() - begun
        if code == 0:
            said = json.loads((left / "outcome.json").read_bytes())
            kept = left / "scores.json"
            scores = Scores.model_validate_json(kept.read_bytes()) if kept.exists() else None
            flags = tuple(Flag.model_validate(flag) for flag in said["flags"])
            row = (left / "row").read_bytes() if (left / "row").exists() else None
            problem, tier, peak, unchecked = (said[name] for name in ("problem", "tier", "peak", "unchecked"))
            return Outcome(folder, problem, tier, scores, flags, row, seconds, peak, unchecked)
        tail = (left / "errors").read_text(encoding="utf-8", errors="replace")[-4000:]
        if code in (None, -signal.SIGXCPU):
            what = f"{limits.seconds:g} s"
        elif code == _NO_MEMORY or code in _KILLED or "allocat" in tail:  # OpenBLAS says so and exits with 1
            what = f"{limits.memory // 2**20:,} MiB of memory"
        else:
            raise RuntimeError(f"{folder}: validation broke off with exit status {code}\n{tail}")
    problem = f"{folder}: its validation takes more than {what}; submit fewer samples, or shorter ones"
    return Outcome(folder, problem, None, None, (), None, seconds, None)


def too_large(submission: Submission, limits: Limits = FAST) -> str | None:
    """Tell beforehand what cannot be checked within the limits: the samples of one task are in memory at a time.

    Returns
    -------
    str or None
        Why not, in one line; None where it may be. What is let through may still turn out to take too much.
    """
    tasks = [task.task for task in submission.manifest.identity.tasks]
    sizes = {Path(file.path).name.partition(".")[0]: file.bytes for file in submission.files if "samples/" in file.path}
    for task in tasks:
        cells, size = submission.cells(task), sizes.get(task, 0)
        if (least := _OURS + cells * _OF_A_SAMPLE + size * _OF_A_BYTE) > limits.memory:
            return (
                f"{cells:,} samples of {task} in {size:,} bytes take at least {least // 2**20:,} MiB to check, and "
                f"{limits.memory // 2**20:,} are there; submit fewer samples, or shorter ones"
            )
    if (cells := sum(map(submission.cells, tasks))) > (most := int(limits.seconds * _SAMPLES_A_SECOND)):
        return f"{cells:,} samples; at most {most:,} can be checked in {limits.seconds:g} s; submit fewer"
    return None


_NO_MEMORY = 3
_KILLED = (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)


def _environment(place: str) -> dict[str, str]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    ours = str(Path(benchmark.__file__).parents[1])
    return one | {
        "TMPDIR": place,  # a process that is ended leaves nothing behind
        "PYTHONPATH": os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve a gigabyte, and limits count it
        "TOKENIZERS_PARALLELISM": "false",
    }


def _load(suite: str, *, fast: bool) -> None:
    """Load our own code before the limits are set, so that they are the submission's.

    ``suite`` is what the folder is called; where it is another, or none, what is lacking is loaded within the limits.
    """
    import scipy.stats  # noqa: F401

    import benchmark.scoring
    import benchmark.submission.validate
    from benchmark.suites import load_prompts, load_suite, load_suites

    load_prompts(load_suite("pocket"))  # lm-eval and what it brings
    if fast:
        return
    import benchmark.submission.published  # noqa: F401

    if suite in (suites := load_suites()) and suites[suite].texts:
        import sentence_transformers  # noqa: F401
        import torch

        torch.set_num_threads(1)


def _status(field: str) -> int | None:
    """Bytes that this process has by a field of its status; None where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return None if found is None else int(found) * 1024


def _limit(limits: Limits) -> None:
    """Bound this process for good."""
    data, resident = _status("VmData"), _status("VmHWM")
    if data is not None and resident is not None:
        # What is reserved and not resident stays so; all that comes now is counted whole.
        _bound(resource.RLIMIT_DATA, data + max(limits.memory - resident, 0))
    _bound(resource.RLIMIT_CPU, int(time.process_time() + limits.seconds) + 1)
    _bound(resource.RLIMIT_FSIZE, MAX_FILE + 2**20)
    _bound(resource.RLIMIT_CORE, 0)


def _bound(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _main(folder: str, root: str, place: str, how: str) -> int:
    memory, seconds, fast, published = json.loads(how)
    _load(Path(folder).name, fast=fast)
    gc.freeze()  # our own code is not looked through for garbage again and again
    _limit(Limits(memory, seconds))
    from benchmark.submission.unpack import read_submission
    from benchmark.submission.validate import validate

    problem = tier = unchecked = None
    flags: list[dict[str, str]] = []
    try:
        if why := too_large(read_submission(Path(folder), Path(root)), Limits(memory, seconds)):
            raise UserError(why, where=folder)
        found = validate(Path(folder), Path(root), fast=fast, published=Path(published) if published else None)
        tier, unchecked = found.tier, found.unchecked
        flags = [flag.model_dump(mode="json") for flag in (*found.scores.flags, *found.flags)]
        (Path(place) / "scores.json").write_text(found.scores.model_dump_json(), encoding="utf-8")
        if not fast:
            from benchmark.submission.published import kept_of

            record = read_bytes(Path(folder), FILE, MAX_JSON)
            (Path(place) / "row").write_bytes(kept_of(found, record))
    except UserError as error:
        problem = str(error)
    except BaseException as error:
        # Libraries tell of it in ways of their own.
        if isinstance(error, MemoryError) or "allocat" in str(error):
            return _NO_MEMORY
        traceback.print_exc()
        return 1
    said = {"problem": problem, "tier": tier, "flags": flags, "unchecked": unchecked, "peak": _status("VmHWM")}
    (Path(place) / "outcome.json").write_text(json.dumps(said), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
