"""Whoever could not stand beside the other rows of the suite is refused alone, and no board is stopped by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_submissions import Tiny

from benchmark.errors import UserError
from benchmark.records import Identity
from benchmark.submission.suited import TRIAL, refuse_strangers, suites_own, what_must_be_equal
from benchmark.submission.validate import validate

SUITES = ("pocket@v1", "alpaca-eval@v2", "alpaca-eval-preferences@v1", "real-text-instructions@v1")


@pytest.fixture(autouse=True)
def _in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRIAL)


def other(value: Any) -> Any:
    if isinstance(value, bool | None):
        return "other"
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, list):
        return [*value, "more"]
    return {"keep_start": "keep_end", "id": "ood", "ood": "ood_hard", "ood_hard": "id"}.get(
        value, "0" * 64 if len(value) == 64 else "other"
    )


def changed(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The same identity but for one of the fields that must be equal."""
    if name == "tasks":
        return fields | {"tasks": fields["tasks"][:-1] or [fields["tasks"][0] | {"task": "another"}]}
    if name == "sampling":
        sampling = suites_own("pocket@v1").sampling
        assert sampling is not None
        return fields | {"sampling": None if fields["sampling"] else sampling.model_dump(mode="json")}
    first, *rest = name.split(".")
    if first == "tasks":
        task, part = rest
        return fields | {"tasks": [t | {part: other(t[part])} if t["task"] == task else t for t in fields["tasks"]]}
    if first == "sampling":
        now = fields["sampling"][rest[0]]
        return fields | {"sampling": fields["sampling"] | {rest[0]: 9 if rest[0].startswith("max") else other(now)}}
    return fields | {first: other(fields[first])}


FIELDS = [(suite, name) for suite in SUITES for name in what_must_be_equal(suites_own(suite))]


@pytest.mark.parametrize(("suite", "name"), FIELDS)
def test_every_field_that_a_board_compares_is_compared_before(suite: str, name: str) -> None:
    own = suites_own(suite)
    refuse_strangers(own, Path("x"))
    found = Identity.model_validate(changed(own.model_dump(mode="json"), name))
    assert what_must_be_equal(found) != what_must_be_equal(own)
    with pytest.raises(UserError, match=r"manifest\.identity\.") as error:
        refuse_strangers(found, Path("x"))
    if name not in ("tasks", "sampling"):
        assert f"manifest.identity.{name}: " in str(error.value)


@pytest.mark.parametrize("change", [{"seed": 7}, {"temperatures": [1.0]}, {"temperatures": [0.1, 1.0]}])
def test_seed_and_temperatures_are_the_runs_own(change: dict[str, Any]) -> None:
    own = suites_own("pocket@v1")
    assert own.sampling is not None
    refuse_strangers(own.model_copy(update={"sampling": own.sampling.model_copy(update=change)}), Path("x"))


@pytest.mark.parametrize(
    ("field", "value", "theirs"), [("top_p", 0.9, 1.0), ("top_k", 50, 0), ("stop", ["\n"], ()), ("k", 8, 16)]
)
def test_a_submission_of_another_sampling_is_refused_by_field_value_and_the_suites_value(
    tiny: Tiny, field: str, value: object, theirs: object
) -> None:
    fields = tiny.fields()
    fields["manifest"]["identity"] = suites_own("pocket@v1").model_dump(mode="json")
    fields["manifest"]["identity"]["sampling"][field] = value
    tiny.write(fields)
    shown = tuple(value) if isinstance(value, list) else value
    with pytest.raises(UserError) as error:
        validate(tiny.folder, tiny.root, fast=True)
    assert f"manifest.identity.sampling.{field}: {shown!r}, and suite pocket@v1 has {theirs!r}" in str(error.value)


def test_a_trial_is_of_fewer_prompts_and_samples_and_of_no_other_sampling(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="and suite pocket@v1 has"):
        validate(tiny.folder, tiny.root, fast=True)
    monkeypatch.setenv(TRIAL, "1")
    validate(tiny.folder, tiny.root, fast=True)
    fields = tiny.fields()
    fields["manifest"]["identity"]["sampling"]["top_p"] = 0.9
    tiny.write(fields)
    with pytest.raises(UserError, match=r"sampling\.top_p: 0\.9"):
        validate(tiny.folder, tiny.root, fast=True)


def test_a_judge_that_is_not_the_suites_is_refused(tiny: Tiny) -> None:
    fields = tiny.fields()
    fields["manifest"]["identity"] = suites_own("pocket@v1").model_dump(mode="json")
    tiny.write(fields | {"claimed_judge": "mine"})
    with pytest.raises(UserError, match=r"manifest\.identity\.judge: 'mine', and suite pocket@v1 has 'oracle'"):
        validate(tiny.folder, tiny.root, fast=True)


def test_another_judge_under_the_suites_judges_name_is_refused(
    chatted: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else of it is a trial's: what it is scored by is compared as it was found in its files."""
    monkeypatch.setenv(TRIAL, "1")
    monkeypatch.setattr("benchmark.submission.suited._OF_TRIALS", ("sampling.k", "n_prompts", "prompts_sha256"))
    tiny = chatted.copy(tmp_path / "submissions")
    with pytest.raises(UserError, match=r"manifest\.identity\.judge: 'mine', and suite pocket@v1 has 'oracle'"):
        validate(tiny.folder, tiny.root, fast=True)
    fields = tiny.fields()
    config = json.loads((tiny.folder / "verdicts/mine.judge.json").read_bytes()) | {"judge": "oracle"}
    (tiny.folder / "verdicts/mine.judge.json").unlink()
    (tiny.folder / "verdicts/oracle.judge.json").write_text(json.dumps(config))
    fields["files"] = [file for file in fields["files"] if ".oracle." not in file["path"]]
    for file in fields["files"]:
        if ".mine." in file["path"]:
            old = tiny.folder / f"{file['path']}.gz"
            file["path"] = file["path"].replace(".mine.", ".oracle.")
            old.rename(tiny.folder / f"{file['path']}.gz")
    for path in tiny.folder.glob("verdicts/*.gz"):
        if not any(path.name == f"{Path(file['path']).name}.gz" for file in fields["files"]):
            path.unlink()
    tiny.write(fields | {"claimed_judge": "oracle"})
    with pytest.raises(UserError, match="is not judge oracle as it is here"):
        validate(tiny.folder, tiny.root, fast=True)
