"""A log that the suite's own oracle says again need not be packed, and is held to its hash all the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tiny_submissions import MODEL, SAMPLES, VERDICTS, Tiny, check_told, make_submission

from benchmark.errors import UserError
from benchmark.runs import Run
from benchmark.submission.derived import own_oracle, write_again
from benchmark.submission.pack import pack
from benchmark.submission.unpack import as_run
from benchmark.submission.validate import validate

TASKS = ("gendiv_pocket_id", "gendiv_pocket_ood", "gendiv_pocket_ood_hard")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("derived")
    make_submission(folder)
    return Run(folder / "run")


@pytest.fixture
def tiny(run: Run, tmp_path: Path) -> Tiny:
    root = tmp_path / "submissions"
    root.mkdir()
    pack(run, MODEL, root, {}, derive=True)
    return Tiny(root)


def refused(tiny: Tiny, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        validate(tiny.folder, tiny.root, fast=True)
    check_told(str(error.value), tiny)


def test_only_the_suites_own_judge_can_be_asked_again() -> None:
    oracle = own_oracle("pocket@v1")
    assert oracle is not None
    assert oracle.judge == "oracle"
    assert own_oracle("summarisation@v1") is None
    assert own_oracle("alpaca-eval@v2") is None


def test_verdicts_are_left_out_and_come_back_to_the_byte(run: Run, tiny: Tiny) -> None:
    assert list(tiny.folder.rglob("*.jsonl.gz"))
    assert not list((tiny.folder / "verdicts").glob("*.gz"))
    submission = validate(tiny.folder, tiny.root, fast=True).submission
    assert [file.path for file in submission.files if file.derived] == [
        f"verdicts/{task}.oracle.jsonl" for task in TASKS
    ]
    with as_run(submission, tiny.folder) as again:
        for path in run.scores().inputs_sha256:
            assert (again.folder / path).read_bytes() == (run.folder / path).read_bytes()


def test_scores_and_claims_are_those_of_a_packed_log(run: Run, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    packed = pack(run, MODEL, tmp_path / "packed", {})
    one, other = validate(packed, packed.parents[2], fast=True), validate(tiny.folder, tiny.root, fast=True)
    assert one.scores == other.scores
    assert one.submission.claims == other.submission.claims


def test_a_log_that_the_oracle_would_not_write_is_packed(run: Run, tmp_path: Path) -> None:
    log = run.folder / VERDICTS
    kept = log.read_bytes()
    lines = kept.splitlines(keepends=True)
    try:
        log.write_bytes(b"".join([*lines[1:], lines[0]]))  # the same verdicts in another order
        scores = run.scores_path.read_text()
        old, new = hashlib.sha256(kept).hexdigest(), hashlib.sha256(log.read_bytes()).hexdigest()
        run.scores_path.write_text(scores.replace(old, new))
        folder = pack(run, MODEL, tmp_path, {}, derive=True)
        run.scores_path.write_text(scores)
    finally:
        log.write_bytes(kept)
    files = {file["path"]: file["derived"] for file in json.loads((folder / "submission.json").read_bytes())["files"]}
    assert files[VERDICTS] is False
    assert sum(files.values()) == 2
    validate(folder, tmp_path, fast=True)


@pytest.mark.parametrize(("field", "value"), [("sha256", "0" * 64), ("bytes", 7)])
def test_another_hash_is_refused(tiny: Tiny, field: str, value: object) -> None:
    fields = tiny.fields()
    next(file for file in fields["files"] if file["path"] == VERDICTS)[field] = value
    tiny.write(fields)
    refused(tiny, "is not what its judge says")


def test_other_samples_are_refused(tiny: Tiny) -> None:
    log = tiny.log(SAMPLES)
    log[0]["text"] += " more"
    tiny.seal(SAMPLES, log)
    refused(tiny, "is not what its judge says")


def test_samples_that_are_no_grid_are_refused(tiny: Tiny) -> None:
    tiny.seal(SAMPLES, tiny.log(SAMPLES)[:-1])
    refused(tiny, "missing|not complete|has no")


def test_samples_are_never_derived(tiny: Tiny) -> None:
    fields = tiny.fields()
    next(file for file in fields["files"] if file["path"] == SAMPLES)["derived"] = True
    tiny.write(fields)
    refused(tiny, "derived: of verdicts alone")


def test_another_judges_log_is_never_derived(chatted: Tiny, tmp_path: Path) -> None:
    tiny = chatted.copy(tmp_path / "submissions")
    fields = tiny.fields()
    file = next(file for file in fields["files"] if file["path"].endswith(".mine.jsonl"))
    file["derived"] = True
    tiny.write(fields)
    (tiny.folder / f"{file['path']}.gz").unlink()
    refused(tiny, "not of the suite's own oracle")


def test_a_packed_log_beside_a_derived_one_is_strange(tiny: Tiny) -> None:
    (tiny.folder / f"{VERDICTS}.gz").write_bytes(b"")
    refused(tiny, "no file of this submission")


def test_a_task_that_is_not_the_suites_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no oracle that judges nothing"):
        write_again(run, ["nothing"], Run(tmp_path))
