"""Imported preferences as a submission: verdicts alone, and whatever is more, or less, or other is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_preferences import COMMIT, N, rows, write
from tiny_submissions import Tiny, check_told

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.importers.alpaca_eval_preferences import import_preferences, submit_preferences
from benchmark.submission.limits import validate_fast, validate_full
from benchmark.submission.published import kept_of, published
from benchmark.submission.validate import validate

LOG = "verdicts/alpaca_eval.weighted_alpaca_eval_gpt4_turbo.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("preferences")
    found = rows("a+b")
    found[9]["preference"] = ""
    runs = import_preferences(write(folder, found), folder / "runs", commit=COMMIT)
    for run in runs:
        pipeline.score(run)
    (folder / "submissions").mkdir()
    submit_preferences(runs, folder / "submissions")
    return Tiny(folder / "submissions")


@pytest.fixture
def tiny(made: Tiny, tmp_path: Path) -> Tiny:
    return made.copy(tmp_path / "submissions")


def refused(tiny: Tiny, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        validate(tiny.folder, tiny.root)
    check_told(str(error.value), tiny)


def test_it_is_imported_and_its_arithmetic_is_done_again(tiny: Tiny) -> None:
    checked = validate(tiny.folder, tiny.root)
    assert checked.tier == "imported"
    assert [claim.metric for claim in checked.submission.claims] == [e.metric for e in checked.scores.estimates]
    assert checked.examples == ()
    assert checked.fingerprint == {}
    assert tiny.folder.relative_to(tiny.root).parts[:2] == ("alpaca-eval__a-plus-b", COMMIT)
    assert checked.submission.manifest.name == "a+b"


def test_it_passes_within_the_limits_of_the_fast_checks(tiny: Tiny) -> None:
    outcome = validate_fast(tiny.folder, tiny.root)
    assert (outcome.problem, outcome.tier) == (None, "imported")


def test_all_checks_are_made_within_limits_and_what_a_board_keeps_comes_back(tiny: Tiny, tmp_path: Path) -> None:
    log = [line | {"length": 872} for line in tiny.log(LOG)]
    outcome = validate_full(tiny.folder, tiny.root)
    here = validate(tiny.folder, tiny.root)
    assert (outcome.problem, outcome.tier, outcome.flags) == (None, "imported", here.scores.flags)
    assert outcome.kept == kept_of(here, tiny.record.read_bytes())
    tiny.seal(LOG, log)
    with pytest.raises(UserError, match="claims"):
        published(tiny.root, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("metric", ["win_rate", "win_rate_lc", "length_characters", "reference_length_characters"])
def test_a_claim_is_met_to_1e_9(tiny: Tiny, metric: str) -> None:
    fields = tiny.fields()
    claim = next(claim for claim in fields["claims"] if claim["metric"] == metric)
    claim["value"] += 5e-10
    tiny.write(fields)
    validate(tiny.folder, tiny.root)
    claim["value"] += 1e-8
    tiny.write(fields)
    refused(tiny, f"claims value .* for {metric}")


def test_a_row_that_is_left_out_is_refused_and_a_missing_preference_is_not(tiny: Tiny) -> None:
    log = tiny.log(LOG)
    assert log[9]["preference"] is None
    tiny.seal(LOG, log[:-1])
    refused(tiny, str(N - 1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"raw": ["what the judge said"]}, "publishes none"),
        ({"error": "x" * 300}, "characters"),
        ({"preference": 1.5}, "less than or equal"),
        ({"doc_id": "805"}, "no sample"),
        ({"index": 1}, "no sample"),
        ({"temperature": 0.7}, "no sample"),
        ({"text": "an output"}, "not permitted"),
        ({"length": -1}, "length"),
    ],
)
def test_a_line_that_is_more_than_a_verdict_is_refused(tiny: Tiny, change: dict[str, Any], match: str) -> None:
    log = tiny.log(LOG)
    log[9] |= change
    tiny.seal(LOG, log)
    refused(tiny, match)


def test_texts_are_refused_where_the_suite_has_none(tiny: Tiny) -> None:
    fields = tiny.fields()
    fields["files"].append({"path": "samples/alpaca_eval.jsonl", "sha256": "0" * 64, "bytes": 1})
    tiny.write(fields)
    (tiny.folder / "samples").mkdir()
    tiny.seal("samples/alpaca_eval.jsonl", [{"text": "an output"}])
    refused(tiny, "publishes no samples")


def test_texts_are_asked_for_where_the_suite_has_them(honest: Tiny, tmp_path: Path) -> None:
    tiny = honest.copy(tmp_path / "submissions")
    fields = tiny.fields()
    gone = [file for file in fields["files"] if file["path"].startswith("samples/")]
    fields["files"] = [file for file in fields["files"] if file not in gone]
    tiny.write(fields)
    for file in gone:
        (tiny.folder / f"{file['path']}.gz").unlink()
    refused(tiny, "no samples")


@pytest.mark.parametrize(("field", "value"), [("n_prompts", 804), ("prompts_sha256", "0" * 64)])
def test_other_prompts_are_refused(tiny: Tiny, field: str, value: object) -> None:
    fields = tiny.fields()
    fields["manifest"]["identity"]["tasks"][0][field] = value
    tiny.write(fields)
    refused(tiny, "805 prompts")


def test_a_second_import_leaves_what_is_there(tmp_path: Path) -> None:
    runs = import_preferences(write(tmp_path, rows()), tmp_path / "runs", commit=COMMIT)
    pipeline.score(runs[0])
    root = tmp_path / "submissions"
    root.mkdir()
    assert len(submit_preferences(runs, root)) == 1
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert submit_preferences(runs, root) == []
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_published_row_is_unranked_and_says_that_it_is_imported(tiny: Tiny, tmp_path: Path) -> None:
    (row,) = published(tiny.root, tmp_path / "kept")
    assert row.tier == "imported"
    assert [flag.code for flag in row.scores.flags] == ["tier"]
    assert row.scores.name == "alpaca-eval/a-plus-b"
    assert json.dumps(row.scores.record, sort_keys=True).count(COMMIT) == 1
