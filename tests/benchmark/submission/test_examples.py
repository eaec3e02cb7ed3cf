"""Excerpts of a run: small, the same prompts for every model, and silent where there is nothing to say."""

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tiny_submissions import Tiny

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.opened import open_run
from benchmark.records import Verdict
from benchmark.runs import Run, read_jsonl, write_record
from benchmark.submission.examples import MOST_REPLY, MOST_TEXT, PROMPTS, SAMPLES, Example, excerpt, pick
from benchmark.submission.pack import pack
from benchmark.submission.published import published
from benchmark.submission.unpack import as_run, read_submission
from benchmark.submission.validate import validate

EXAMPLES = TypeAdapter(tuple[Example, ...])
TASK = "gendiv_pocket_ood"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sample and judge six prompts a task, five samples each, by random words."""
    [made] = pipeline.sample(
        "control:random-words", "pocket", tmp_path_factory.mktemp("run") / "run", pipeline.SampleOptions(k=5, limit=6)
    )
    pipeline.judge(made)
    return made


@pytest.fixture
def own(run: Run, tmp_path: Path) -> Run:
    """A copy of the run, to be spoiled."""
    shutil.copytree(run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def laid_out(tiny: Tiny) -> AbstractContextManager[Run]:
    return as_run(read_submission(tiny.folder, tiny.root), tiny.folder)


def rewrite(path: Path, change: dict[str, object], *, only: int | None = None) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        if only is None or number == only:
            line |= change
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_first_samples_of_two_prompts_are_there_at_every_temperature_of_every_task(run: Run) -> None:
    found = pick(run, "oracle")
    opened = open_run(run)
    assert opened.prompts is not None
    assert [example.task for example in found] == [entry.task for entry in opened.suite.tasks for _ in range(PROMPTS)]
    sampling = opened.manifest.identity.sampling
    assert sampling is not None
    for example in found:
        assert [(s.temperature, s.index) for s in example.samples] == [
            (temperature, index) for temperature in sampling.temperatures for index in range(SAMPLES)
        ]
        texts = {sample.cell: sample for sample in run.samples(example.task)}
        told = {verdict.cell: verdict for verdict in run.verdicts(example.task, "oracle")}
        prompt = next(p for p in opened.prompts[example.task] if p.doc_id == example.doc_id)
        assert example.prompt is not None
        assert example.prompt.text == prompt.text
        assert example.reference is not None
        assert example.reference.text == prompt.references[0]
        for shown in example.samples:
            cell = (example.doc_id, shown.temperature, shown.index)
            assert shown.text.text == texts[cell].text
            assert shown.finish_reason == texts[cell].finish_reason
            assert shown.verdict is not None
            assert (shown.verdict.preference, shown.verdict.score) == (told[cell].preference, told[cell].score)


def test_every_model_shows_the_same_prompts_whatever_it_says_and_in_whatever_order(run: Run, tmp_path: Path) -> None:
    options = pipeline.SampleOptions(k=1, limit=6)
    [other] = pipeline.sample("control:constant", "pocket", tmp_path / "other", options)
    chosen = [(example.task, example.doc_id) for example in pick(run, "oracle")]
    assert chosen == [(example.task, example.doc_id) for example in pick(other, None)]
    log = other.samples_path(TASK)
    log.write_text("".join(reversed(log.read_text().splitlines(keepends=True))))
    assert pick(other, None) == pick(other, None)
    assert chosen == [(example.task, example.doc_id) for example in pick(other, None)]


def test_the_prompts_are_those_of_the_smallest_hashes_and_so_not_the_first_ones(run: Run) -> None:
    # Computed once with sha256sum: a change would show other prompts on every page.
    assert [example.doc_id for example in pick(run, None) if example.task == TASK] == ["ood-0001", "ood-0004"]


def test_what_has_no_verdict_is_missing_and_no_number(own: Run) -> None:
    assert all(sample.verdict is None for example in pick(own, None) for sample in example.samples)
    assert all(sample.verdict is None for example in pick(own, "another") for sample in example.samples)
    rewrite(own.verdicts_path(TASK, "oracle"), {"preference": None, "error": "no answer"})
    for example in pick(own, "oracle"):
        for sample in example.samples:
            assert sample.verdict is not None
            assert (sample.verdict.preference is None) == (example.task == TASK)


def test_the_last_verdict_on_a_cell_is_the_one_that_is_shown(own: Run) -> None:
    path = own.verdicts_path(TASK, "oracle")
    again = [verdict.model_copy(update={"preference": 0.25}) for verdict in read_jsonl(path, Verdict, mend="")]
    with path.open("a") as log:
        log.writelines(verdict.model_dump_json() + "\n" for verdict in again)
    shown = [s.verdict for example in pick(own, "oracle") if example.task == TASK for s in example.samples]
    assert {verdict.preference for verdict in shown if verdict} == {0.25}


def test_of_a_chat_judge_its_words_are_kept_and_of_another_its_raw_reply_both_cut(own: Run) -> None:
    path = own.verdicts_path(TASK, "oracle")
    for raw, said in (
        (json.dumps({"order": 0, "content": "Well.\nVerdict: A"}), "Well.\nVerdict: A"),
        (json.dumps({"content": ["no", "text"]}), '{"content": ["no", "text"]}'),
        ('{"content": "half a character \\ud800"}', "half a character ?"),
        ("[" * 100_000, "[" * MOST_REPLY + "…"),
        ("9" * 10_000, "9" * MOST_REPLY + "…"),
        ("not JSON \x00 <b>", "not JSON \x00 <b>"),
    ):
        rewrite(path, {"raw": [raw, "second"]})
        found = pick(own, "oracle")
        replies = [s.verdict.reply for e in found if e.task == TASK for s in e.samples if s.verdict]
        assert {reply.text for reply in replies if reply} == {said}
        assert EXAMPLES.validate_json(EXAMPLES.dump_json(found)) == found


@given(st.text(max_size=60), st.integers(1, 30))
def test_a_text_is_cut_at_its_limit_and_says_what_was_left_out(text: str, most: int) -> None:
    found = excerpt(text, most)
    if len(text) <= most:
        assert (found.text, found.left_out) == (text, 0)
    else:
        assert (found.text, found.left_out) == (text[:most] + "…", len(text) - most)


def test_huge_outputs_stay_small_and_a_pocket_excerpt_is_below_40_kb(own: Run, run: Run) -> None:
    assert len(EXAMPLES.dump_json(pick(run, "oracle"))) < 40_000
    rewrite(own.samples_path(TASK), {"text": "\u202e<script>" * 100_000})
    longest = max(len(s.text.text) for example in pick(own, "oracle") for s in example.samples)
    assert longest == MOST_TEXT + 1


def test_texts_of_data_sets_are_not_repeated(own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_run(own)
    manifest = own.manifest()
    tasks = tuple(task.model_copy(update={"data": "hub/set at 0123"}) for task in manifest.identity.tasks)
    changed = manifest.model_copy(update={"identity": manifest.identity.model_copy(update={"tasks": tasks})})
    monkeypatch.setattr("benchmark.submission.examples.open_run", lambda _, **__: opened._replace(manifest=changed))
    found = pick(own, "oracle")
    assert found
    assert all(example.prompt is None and example.reference is None for example in found)


def test_outputs_made_elsewhere_are_not_shown(imported: Tiny) -> None:
    with laid_out(imported) as made:
        assert pick(made, made.manifest().identity.judge) == ()


def test_validation_picks_examples_and_the_board_keeps_them(own: Run, tmp_path: Path) -> None:
    pipeline.score(own)
    root = tmp_path / "submissions"
    root.mkdir()
    folder = pack(own, "me/random", root, {"licence": "Apache-2.0"})
    [made] = published(root, tmp_path / "kept")
    assert made.examples == pick(own, "oracle")
    [again] = published(root, tmp_path / "kept", write=False)
    assert again.examples == made.examples
    assert validate(folder, root, fast=True).examples == ()


def test_an_example_is_closed_to_unknown_fields_and_to_numbers_that_are_none(run: Run) -> None:
    text = EXAMPLES.dump_json(pick(run, "oracle")).decode()
    with pytest.raises(ValidationError):
        EXAMPLES.validate_json(text.replace('"left_out":0', '"left_out":0,"rank":1', 1))
    with pytest.raises(ValidationError):
        EXAMPLES.validate_json(text.replace('"preference":1.0', '"preference":NaN').replace("0.0", "NaN"))


def test_a_manifest_that_is_not_the_suites_is_refused_as_it_is_when_scoring(own: Run) -> None:
    manifest = own.manifest()
    changed = manifest.identity.model_copy(update={"encoder": "another"})
    write_record(own.manifest_path, manifest.model_copy(update={"identity": changed}))
    with pytest.raises(UserError, match="encoder is not that of suite"):
        pick(own, "oracle")


def test_a_chat_judged_submission_shows_what_the_judge_said(chatted: Tiny) -> None:
    with laid_out(chatted) as made:
        shown = [s.verdict for e in pick(made, "mine") for s in e.samples]
    assert {v.reply.text[:5] for v in shown if v and v.reply} == {"Well."}
    assert all(v is not None and len(v.orders) == 2 for v in shown)
