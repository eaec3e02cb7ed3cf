import shutil
import tempfile
from pathlib import Path

import pytest
from tiny_submissions import SAMPLES, Tiny, listing

from benchmark.errors import UserError
from benchmark.submission.unpack import as_run, read_submission, told_of

URL = "https://files.example.org/me/gendiv_pocket_id.jsonl.gz"


def test_a_submission_is_laid_out_as_the_run_that_was_packed(honest: Tiny, tmp_path: Path) -> None:
    submission = read_submission(honest.folder, honest.root)
    packed = honest.root.parent / "run"
    with as_run(submission, honest.folder) as run:
        for file in submission.files:
            assert (run.folder / file.path).read_bytes() == (packed / file.path).read_bytes()
        assert run.manifest() == submission.manifest
        assert run.judge_path("oracle").read_bytes() == (packed / "verdicts/oracle.judge.json").read_bytes()
        there = run.folder
    assert not there.exists()


def test_reading_writes_nothing(honest: Tiny) -> None:
    before = listing(honest.root)
    with as_run(read_submission(honest.folder, honest.root), honest.folder):
        pass
    assert listing(honest.root) == before


def test_nothing_is_left_where_a_log_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    submission = read_submission(tiny.folder, tiny.root)
    (tiny.folder / f"{SAMPLES}.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is cut off"), as_run(submission, tiny.folder):
        pass
    assert not list(place.iterdir())


def test_what_is_published_elsewhere_is_read_where_it_was_put(tiny: Tiny, tmp_path: Path) -> None:
    fields = tiny.fields()
    fields["files"][0]["url"] = URL
    tiny.write(fields)
    published = tmp_path / "published"
    (published / "samples").mkdir(parents=True)
    shutil.move(tiny.folder / f"{SAMPLES}.gz", published / f"{SAMPLES}.gz")
    submission = read_submission(tiny.folder, tiny.root)
    with pytest.raises(UserError, match=f"is published at {URL}; fetch it first"), as_run(submission, tiny.folder):
        pass
    with as_run(submission, tiny.folder, published) as run:
        assert len(run.samples("gendiv_pocket_id")) == 8
    (published / f"{SAMPLES}.gz").write_bytes((tiny.folder / "samples/gendiv_pocket_ood.jsonl.gz").read_bytes())
    with pytest.raises(UserError, match=f"{SAMPLES}.gz: "), as_run(submission, tiny.folder, published):
        pass


def test_complaints_are_of_the_submissions_own_files() -> None:
    run, folder = Path("/tmp/x/run"), Path("submissions/a__b/1/pocket@v1")
    assert told_of(f"{run}/samples/t.jsonl:3: is\x1b bad", run, folder) == f"{folder}/samples/t.jsonl:3: is� bad"
    assert told_of(f"{run}/run.json: shard", run, folder) == f"{folder}/submission.json: manifest: shard"
    assert len(told_of("x" * 10_000, run, folder)) < 1000
