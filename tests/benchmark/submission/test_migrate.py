"""A submission of version 0 lies under ``frozen``, made of a real run once and never again."""

import gzip
import json
from pathlib import Path

import pytest
from tiny_submissions import SAMPLES, Tiny

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.records import sha256_of
from benchmark.submission.migrate import MIGRATIONS, current
from benchmark.submission.reading import parse
from benchmark.submission.record import VERSION, Submission
from benchmark.submission.unpack import as_run, read_submission

FROZEN = Path(__file__).parent / "frozen"
WHERE = Path("submission.json")


@pytest.fixture
def old() -> Tiny:
    return Tiny(FROZEN)


def test_the_frozen_submission_is_of_version_0_and_has_not_changed(old: Tiny) -> None:
    fields = old.fields()
    assert fields["version"] == 0
    assert "model" not in fields
    assert sha256_of(fields) == "07c1a009900de3d35fe59aaee51786bcc966b47fe6b5e37e95886c2de4e57b87"
    assert len(gzip.decompress((old.folder / f"{SAMPLES}.gz").read_bytes()).splitlines()) == 6


def test_an_old_submission_is_read_and_gives_the_scores_that_it_claims(old: Tiny) -> None:
    submission = read_submission(old.folder, old.root)
    assert (submission.version, submission.model, submission.claimed_judge) == (VERSION, "me/random", "oracle")
    with as_run(submission, old.folder) as run:
        scores = pipeline.score(run, judge=submission.claimed_judge, embeddings=False, own=False)
    here = {(found.metric, found.task, found.role, found.temperature): found for found in scores.estimates}
    assert len(submission.claims) == 49
    for claim in submission.claims:
        found = here[claim.metric, claim.task, claim.role, claim.temperature]
        assert [found.value, found.low, found.high] == pytest.approx([claim.value, claim.low, claim.high], abs=1e-9)
        assert (found.n, found.method) == (claim.n, claim.method)


def test_there_is_a_way_from_every_version_to_the_present_one() -> None:
    assert sorted(MIGRATIONS) == list(range(VERSION))


def test_what_is_of_the_present_version_comes_back_as_it_is(honest: Tiny) -> None:
    data = honest.record.read_bytes()
    assert current(data, WHERE) is data


def test_migration_is_the_inverse_of_what_version_0_was(old: Tiny) -> None:
    now = parse(current(old.record.read_bytes(), WHERE), Submission, WHERE).model_dump(mode="json", exclude_unset=True)
    was = old.fields()
    assert now.pop("claimed_judge") == was["manifest"]["identity"]["judge"]
    assert now.pop("model") == f"{was.pop('organisation')}/{was.pop('name')}"
    assert {**now, "version": 0} == was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"organisation": 1}, "is no submission of version"),
        ({"organisation": ["me"]}, "is no submission of version"),
        ({"name": None}, "is no submission of version"),
        ({"manifest": None}, "is no submission of version"),
        ({"manifest": {"identity": []}}, "is no submission of version"),
        ({"claimed_judge": "mine"}, "is no submission of version"),
        ({"model": "a/b"}, None),
        ({"organisation": "../.."}, "model: String should match pattern"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_strange_old_submission_is_refused(old: Tiny, change: dict[str, object], message: str | None) -> None:
    data = json.dumps(old.fields() | change).encode()
    if message is None:  # a name of a later version's is written over
        assert parse(current(data, WHERE), Submission, WHERE).model == "me/random"
        return
    with pytest.raises(UserError, match=r"^submission\.json: ") as error:
        parse(current(data, WHERE), Submission, WHERE)
    assert message in str(error.value)


def test_migration_washes_nothing_clean(old: Tiny) -> None:
    """What is refused of the present version is refused of an old one, though it is written again in between."""
    data = old.record.read_bytes()
    for bad, message in (
        (data.replace(b'"version": 0', b'"version": 0, "revision": "x"', 1), "a field is there twice"),
        (data.replace(b'"value": ', b'"value": NaN, "x": ', 1), "NaN is no JSON number"),
        (data.replace(b'"training_seed": 0', b'"training_seed": 1e999', 1), "a number out of range"),
        (data.replace(b"a floor", b"\\ud800", 1), "text with half a character"),
        (data.replace(b'"training_seed": 0', b'"training_seed": 0.0', 1), "training_seed: Input should be a valid int"),
    ):
        assert bad != data
        with pytest.raises(UserError, match=message):
            parse(current(bad, WHERE), Submission, WHERE)
