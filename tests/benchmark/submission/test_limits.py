import gzip
import json
import tempfile
from pathlib import Path

import pytest
from tiny_submissions import SAMPLES, VERDICTS, Tiny, check_told, listing, make_submission

from benchmark.runs import Run, appending, write_record
from benchmark.submission.limits import FAST, FULL, Limits, too_large, validate_fast, validate_full
from benchmark.submission.reading import MAX_JSON, MAX_LINE
from benchmark.submission.record import Submission
from benchmark.submission.unpack import read_submission
from benchmark.submission.validate import validate


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))


def test_an_honest_submission_is_within_the_limits_and_scores_as_it_does_here(
    honest: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a stranger's modules lie about: none of them is imported."""
    (tmp_path / "benchmark").mkdir()
    for name in ("json.py", "benchmark/__init__.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    found = validate_fast(honest.folder, honest.root)
    here = validate(honest.folder, honest.root, fast=True)
    assert (found.problem, found.tier) == (None, here.tier)
    assert found.scores is not None
    assert found.scores.estimates == here.scores.estimates
    assert found.peak is None or found.peak < FAST.memory
    assert not list(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.parametrize(
    ("limits", "what"),
    [(Limits(FULL.memory, 0.3), "more than 0.3 s;"), (Limits(300 * 2**20, 600.0), "more than 300 MiB of memory;")],
)
def test_the_encoder_too_is_within_limits(honest: Tiny, limits: Limits, what: str) -> None:
    found = validate_full(honest.folder, honest.root, limits)
    assert found.problem is not None
    assert f"its validation takes {what}" in found.problem
    assert (found.tier, found.scores, found.kept, found.flags) == (None, None, None, ())


def test_what_the_full_checks_find_wrong_comes_back_as_one_line(tmp_path: Path) -> None:
    def forge(run: Run) -> None:
        path = run.folder / SAMPLES
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row | {"text": row["text"] + " garden"}) + "\n" for row in rows))

    tiny = make_submission(tmp_path / "forged", spoil=forge)
    found = validate_full(tiny.folder, tiny.root)
    assert found.problem is not None
    assert "is not what control:random-words says there" in found.problem
    check_told(found.problem, tiny)
    assert found.kept is None


def test_what_is_wrong_comes_back_as_one_line(tiny: Tiny) -> None:
    tiny.write(tiny.fields() | {"claims": []})
    found = validate_fast(tiny.folder, tiny.root)
    assert found.problem is not None
    assert "claims nothing for win_rate" in found.problem
    assert (found.tier, found.scores) == (None, None)


@pytest.mark.parametrize(
    ("limits", "what"),
    [(Limits(FAST.memory, 0.3), "more than 0.3 s;"), (Limits(2**20, 60.0), "more than 1 MiB of memory;")],
)
def test_a_process_out_of_its_bounds_is_ended_and_told_of(honest: Tiny, limits: Limits, what: str) -> None:
    before = listing(honest.root)
    found = validate_fast(honest.folder, honest.root, limits)
    assert found.problem is not None
    assert f"its validation takes {what} submit fewer samples, or shorter ones" in found.problem
    check_told(found.problem, honest)
    assert found.scores is None
    assert listing(honest.root) == before
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_what_cannot_be_checked_within_the_limits_is_refused_by_its_size(tiny: Tiny) -> None:
    submission = read_submission(tiny.folder, tiny.root)
    assert too_large(submission) is None
    [task, *_] = submission.manifest.identity.tasks

    def of(n_prompts: int, size: int) -> Submission:
        tasks = tuple(entry.model_copy(update={"n_prompts": n_prompts}) for entry in submission.manifest.identity.tasks)
        identity = submission.manifest.identity.model_copy(update={"tasks": tasks})
        return submission.model_copy(
            update={
                "manifest": submission.manifest.model_copy(update={"identity": identity}),
                "files": tuple(file.model_copy(update={"bytes": size}) for file in submission.files),
            }
        )

    each = submission.cells(task.task) // task.n_prompts
    assert too_large(of(51_520 // each, 10 * 2**20)) is None  # 805 prompts, 16 samples, 4 temperatures
    long = too_large(of(51_520 // each, 60 * 2**20))
    assert long is not None
    assert "51,520 samples of gendiv_pocket_id in 62,914,560 bytes take at least" in long
    assert "and 512 are there; submit fewer samples, or shorter ones" in long
    many = too_large(of(160_000 // each, 2**20))
    assert many is not None
    assert "480,000 samples; at most 450,000 can be checked in 30 s" in many
    assert too_large(of(160_000 // each, 2**20), Limits(2**30, 60.0)) is None


def test_a_bug_of_ours_keeps_its_traceback(honest: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="broke off with exit status 1"):
        validate_fast(honest.folder, honest.root)


@pytest.mark.slow
def test_the_pocket_suite_at_its_full_size_is_within_the_limits(tmp_path: Path) -> None:
    """28,800 samples and as many verdicts: 150 prompts of three tasks, 16 samples, 4 temperatures."""
    grid = (0.3, 0.7, 1.0, 1.3)

    def at_all_temperatures(run: Run) -> None:
        manifest = run.manifest()
        sampling = manifest.identity.sampling
        assert sampling is not None
        identity = manifest.identity.model_copy(update={"sampling": sampling.model_copy(update={"temperatures": grid})})
        write_record(run.manifest_path, manifest.model_copy(update={"identity": identity}))
        for task in identity.tasks:
            samples = run.samples(task.task)
            run.samples_path(task.task).unlink()
            with appending(run.samples_path(task.task)) as log:
                for temperature in grid:
                    log.append([sample.model_copy(update={"temperature": temperature}) for sample in samples])

    full = make_submission(tmp_path, prompts=150, k=16, spoil=at_all_temperatures)
    found = validate_fast(full.folder, full.root)
    print(json.dumps([found.seconds, (found.peak or 0) / 2**20]))
    assert (found.problem, found.tier) == (None, "self-reported")
    assert found.peak is None or found.peak < 0.75 * FAST.memory


def values(tiny: Tiny) -> None:
    tiny.record.write_bytes(b'{"version":1,"x":[' + b"[]," * (MAX_JSON // 3 - 20) + b"[]]}")


def errors(tiny: Tiny) -> None:
    fields = tiny.fields()
    fields["manifest"]["card"]["trained_on"] = [0] * 190_000
    tiny.write(fields)


def names(tiny: Tiny) -> None:
    tiny.write(tiny.fields() | {f"{number:x}": 0 for number in range(95_000)})


def claims(tiny: Tiny) -> None:
    fields = tiny.fields()
    fields["claims"] = [fields["claims"][0] | {"intervals": {}}] * 15_000
    tiny.write(fields)


def lines_of_nothing(tiny: Tiny) -> None:
    forge(tiny, SAMPLES, b"\n" * (200 * 2**20))


def spaces(tiny: Tiny) -> None:
    forge(tiny, SAMPLES, (b"[" + b" " * (MAX_LINE - 2) + b"]\n") * 200)


def lines_of_values(tiny: Tiny) -> None:
    line = tiny.data(VERDICTS).splitlines()[0][:-1]
    forge(tiny, VERDICTS, line + b',"raw":[' + b"0," * 199_000 + b"0]}\n")


def long_replies(tiny: Tiny) -> None:
    line = tiny.data(VERDICTS).splitlines()[0][:-1]
    forge(tiny, VERDICTS, (line + b',"raw":["' + b"\\n" * 500_000 + b'"]}\n') * 80)


def wide_letters(tiny: Tiny) -> None:
    """Letters of four bytes where most are of one: each text is four times as long in memory."""
    line = tiny.data(SAMPLES).splitlines()[0].replace(b'"text":"', '"text":"😀'.encode() + b"a " * 500_000)
    forge(tiny, SAMPLES, (line + b"\n") * 8)


def forge(tiny: Tiny, path: str, data: bytes) -> None:
    (tiny.folder / f"{path}.gz").write_bytes(gzip.compress(data, 1, mtime=0))
    fields = tiny.fields()
    next(file for file in fields["files"] if file["path"] == path)["bytes"] = len(data)
    tiny.write(fields)


WORST = [values, errors, names, claims, lines_of_nothing, spaces, lines_of_values, long_replies, wide_letters]


@pytest.mark.slow
@pytest.mark.parametrize("trick", WORST, ids=[trick.__name__ for trick in WORST])
def test_the_worst_files_are_refused_within_the_limits(tiny: Tiny, trick: object) -> None:
    trick(tiny)  # type: ignore[operator]
    found = validate_fast(tiny.folder, tiny.root)
    print(json.dumps([found.problem and found.problem[-120:], found.seconds, (found.peak or 0) / 2**20]))
    assert found.problem is not None
    check_told(found.problem, tiny)
    assert found.peak is None or found.peak < FAST.memory
    assert found.seconds < FAST.seconds + 5
