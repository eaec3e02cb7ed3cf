"""Rows of suites that freeze their prompts are checked without them: less is looked at, and numbers are the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from tiny_frozen import JUDGE, SUITES, frozen, make_data, make_reward_model
from tiny_submissions import Tiny
from tiny_suites import make_data_root, make_model

from benchmark import pipeline, scoring
from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig, read_kept
from benchmark.judging.runs import JudgeOptions, judged, questions
from benchmark.opened import open_run
from benchmark.records import Sample, Verdict
from benchmark.runs import Run, write_record
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.submission.floors import UNSEEN, SaidBefore, drawn_again
from benchmark.submission.pack import pack
from benchmark.submission.rejudge import check_drawn, rejudge
from benchmark.submission.unpack import lay_out, read_submission
from benchmark.submission.validate import Checked, validate
from benchmark.suites import load_suite

SUITE = SUITES[1]
SAMPLES = "samples/real_text_alpaca_eval.jsonl"
VERDICTS = f"verdicts/real_text_alpaca_eval.{JUDGE}.jsonl"


def using(root: Path | str) -> AbstractContextManager[Any]:
    return patch.dict(os.environ, {"GENDIV_DATA": str(root)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "root")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("models") / "judge")


@pytest.fixture(scope="module", autouse=True)
def world(data: Path, reward_model: Path) -> Iterator[None]:
    with frozen(data, weights_sha256(reward_model)):
        yield


def made(model: str, folder: Path, data: Path, reward_model: Path) -> Run:
    with using(data):
        [run] = pipeline.sample(model, SUITE, folder, pipeline.SampleOptions(k=2, temperatures=(0.7, 1.0)))
        pipeline.judge(run, options=JudgeOptions(judge=JUDGE, model=str(reward_model), device="cpu"))
        pipeline.score(run, embeddings=False, own=False)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, reward_model: Path) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return made(str(make_model(folder / "model")), folder / "run", data, reward_model)


@pytest.fixture(scope="module")
def packed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    root = tmp_path_factory.mktemp("packed") / "submissions"
    root.mkdir()
    pack(run, "me/small", root, {"licence": "Apache-2.0"})
    return Tiny(root)


@pytest.fixture
def tiny(packed: Tiny, tmp_path: Path) -> Tiny:
    return packed.copy(tmp_path / "submissions")


def checked(tiny: Tiny, root: Path | str) -> Checked:
    with using(root):
        return validate(tiny.folder, tiny.root, fast=True)


def test_scores_are_the_same_bytes_with_and_without_the_data(run: Run, data: Path) -> None:
    found = []
    for root in (data, "", data):
        with using(root):
            pipeline.score(run, embeddings=False, own=False)
        found.append(run.scores_path.read_bytes())
    assert found[0] == found[1] == found[2]
    assert b"no references here to be compared with" in found[0]


def test_what_is_not_looked_at_without_the_data_is_told_and_nothing_else_differs(tiny: Tiny, data: Path) -> None:
    seen, unseen = checked(tiny, data), checked(tiny, "")
    assert (seen.unchecked, unseen.unchecked) == (None, UNSEEN)
    assert seen._replace(unchecked=None) == unseen._replace(unchecked=None)


def test_of_outputs_made_elsewhere_nothing_is_left_unchecked_for_want_of_data(imported: Tiny) -> None:
    assert checked(imported, "").unchecked is None


def change(log: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [log[0] | fields, *log[1:]]


FORGED: list[tuple[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = [
    ("a preference", lambda log: change(log, preference=1.0 - log[0]["preference"]), "what the judge replied gives"),
    ("its scores", lambda log: change(log, score=log[0]["reference_score"] + 1.0 - 2 * log[0]["preference"]), "gives"),
    ("a length", lambda log: change(log, length=log[0]["length"] + 1), "other lengths than its texts have"),
    ("one reference's length", lambda log: change(log, reference_length=9999), "other lengths than its texts have"),
    ("a huge reference", lambda log: [line | {"reference_length": 10**15} for line in log], "other lengths"),
    ("a line less", lambda log: log[1:], "has no verdict|samples have a verdict|is missing"),
    ("a line twice", lambda log: [*log, log[0]], "is there twice"),
    ("a cell of nowhere", lambda log: change(log, index=7), "of no sample"),
]


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(("what", "forge", "says"), FORGED, ids=[what for what, *_ in FORGED])
def test_forged_verdicts_are_refused_with_and_without_the_data(
    tiny: Tiny, data: Path, what: str, forge: Callable[..., Any], says: str, seen: bool
) -> None:
    tiny.seal(VERDICTS, forge(tiny.log(VERDICTS)))
    with pytest.raises(UserError, match=says):
        checked(tiny, data if seen else "")


@pytest.mark.parametrize("root", ["", "data"])
def test_a_changed_claim_is_refused_with_and_without_the_data(tiny: Tiny, data: Path, root: str) -> None:
    fields = tiny.fields()
    claim = next(c for c in fields["claims"] if c["metric"] == "valid_share_text")
    claim["value"] = claim["value"] / 2 + 0.1
    tiny.write(fields)
    with pytest.raises(UserError, match="claims value"):
        checked(tiny, data if root else "")


def test_a_verdict_on_another_text_is_seen_with_the_data_alone(tiny: Tiny, data: Path) -> None:
    tiny.seal(VERDICTS, change(tiny.log(VERDICTS), key="0" * 16))
    assert checked(tiny, "").unchecked == UNSEEN
    with pytest.raises(UserError, match="of another text or another version of the judge"):
        checked(tiny, data)


def test_a_prompt_less_and_another_hash_are_refused_without_the_data(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENDIV_TRIAL")
    monkeypatch.setattr("benchmark.submission.suited._OF_TRIALS", ())
    for part, value in (("prompts_sha256", "0" * 64), ("n_prompts", 4), ("data", None), ("data", "mine")):
        changed = tiny.fields()
        changed["manifest"]["identity"]["sampling"]["k"] = 16
        changed["manifest"]["identity"]["tasks"][0][part] = value
        tiny.write(changed)
        with pytest.raises(UserError, match=rf"manifest\.identity\.tasks\.real_text_alpaca_farm\.{part}: "):
            checked(tiny, "")


def test_other_data_than_the_suites_are_refused_and_not_taken_for_none(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the data here give 4 prompts of hash"):
        checked(tiny, make_data_root(tmp_path / "other", 4))


def test_a_run_of_the_first_prompts_is_scored_without_the_data(tmp_path: Path, data: Path) -> None:
    with using(data):
        [run] = pipeline.sample("control:constant", SUITE, tmp_path / "run", pipeline.SampleOptions(k=2, limit=2))
    with using(""):
        assert pipeline.score(run, embeddings=False, own=False).identity.tasks[0].n_prompts == 2


def test_a_floor_is_drawn_again_where_the_data_are_and_left_out_where_not(
    tmp_path: Path, data: Path, reward_model: Path
) -> None:
    run = made("control:random-words", tmp_path / "run", data, reward_model)
    path = run.folder / SAMPLES
    lines = path.read_text(encoding="utf-8")
    for text, seen in ((lines, True), (lines.replace('"text":"', '"text":"more ', 1), False)):
        path.write_text(text, encoding="utf-8")
        with using(""):
            drawn_again(open_run(run, needs_prompts=False), Path("x"))
        with using(data):
            if seen:
                drawn_again(open_run(run, needs_prompts=False), Path("x"))
            else:
                with pytest.raises(UserError, match="is not what control:random-words says there"):
                    drawn_again(open_run(run, needs_prompts=False), Path("x"))


def test_a_model_that_says_the_references_is_flagged_where_the_data_are(tmp_path: Path, data: Path, tiny: Tiny) -> None:
    with using(data):
        opened = open_run(lay_out(read_submission(tiny.folder, tiny.root), tiny.folder, tmp_path / "run"))
        assert opened.prompts is not None
        references = {p.doc_id: p.references[0] for p in opened.prompts["real_text_alpaca_eval"]}
    said = [line | {"text": references[line["doc_id"]]} for line in tiny.log(SAMPLES)]
    for root, flags in ((data, ["references"]), ("", [])):
        with using(root):
            before = SaidBefore(opened.manifest)
            before.at([Sample.model_validate(line) for line in said])
            assert [flag.code for flag in before.flags] == flags


def test_verdicts_of_a_judge_that_reads_texts_cannot_be_checked_without_them(run: Run, tmp_path: Path) -> None:
    config = ChatConfig(
        judge="chat", description="", version=1, samples="all", kind="chat", model="m", system="", user="",
        tasks={}, verdict="reply", temperature=0.0, max_tokens=9,
    )  # fmt: skip
    write_record(run.judge_path("chat"), config)
    log = [
        line.model_copy(update={"score": None, "reference_score": None})
        for line in run.verdicts("real_text_alpaca_farm", JUDGE)
    ]
    path = run.verdicts_path("real_text_alpaca_farm", "chat")
    try:
        path.write_text("".join(f"{Verdict.model_dump_json(line)}\n" for line in log), encoding="utf-8")
        with using(""), pytest.raises(UserError, match="cannot be checked without the suite's prompts"):
            judged(open_run(run, needs_prompts=False), "chat")
    finally:
        path.unlink()
        run.judge_path("chat").unlink()


def test_a_record_of_asking_again_is_checked_with_and_without_the_data(
    tiny: Tiny, data: Path, reward_model: Path, tmp_path: Path
) -> None:
    options = JudgeOptions(model=str(reward_model), device="cpu")
    with using(""), pytest.raises(UserError, match="make them with `gendiv data adopt`"):
        rejudge(tiny.folder, tiny.root, options, pairs=6, seed=3, logs=tmp_path / "logs")
    with using(data):
        record = rejudge(tiny.folder, tiny.root, options, pairs=6, seed=3, logs=tmp_path / "logs")
    assert {pair.claimed - pair.again for pair in record.drawn} == {0.0}
    submission = read_submission(tiny.folder, tiny.root)
    for root in (data, ""):
        with using(root):
            check_drawn(record, submission, tiny.root)
            with pytest.raises(UserError, match=r"drawn: is not what seed 4 draws"):
                check_drawn(record.model_copy(update={"seed": 4}), submission, tiny.root)


def test_a_text_that_is_its_reference_is_no_pair_to_be_asked_again_about_with_and_without_the_data(
    tmp_path: Path, data: Path, reward_model: Path
) -> None:
    """The constant is the first prompt's own reference."""
    run = made("control:constant", tmp_path / "run", data, reward_model)
    config = read_kept(run.judge_path(JUDGE))
    assert config is not None
    equal = []
    for root in (data, ""):
        with using(root):
            asked = questions(open_run(run, needs_prompts=False), config)
        equal.append({(q.task, cell) for q in asked for cell, p in q.pairs.items() if p.sample.text == p.reference})
    assert equal[0] == equal[1]
    assert len(equal[0]) == 4


def test_judging_asks_for_the_data(run: Run, reward_model: Path) -> None:
    with using(""), pytest.raises(UserError, match="make them with `gendiv data adopt`"):
        pipeline.judge(run, options=JudgeOptions(judge=JUDGE, model=str(reward_model), device="cpu"))


def test_the_flag_of_outputs_more_diverse_than_references_is_by_the_frozen_number(run: Run, data: Path) -> None:
    class Apart:
        """Every text is a direction of its own."""

        name, precision, max_tokens = "apart", "exact", 99

        def encode(self, texts: Any) -> Any:
            return np.eye(len(texts), 4096, dtype=np.float32)

        def truncated_share(self, texts: Any) -> float:
            return 0.0

    suite = load_suite(SUITE)
    with using(data):
        opened = open_run(run)
    samples = {task.task: opened.samples(task.task) for task in suite.tasks}
    manifest = opened.manifest.model_copy(
        update={"identity": opened.manifest.identity.model_copy(update={"judge": None})}
    )
    for known in (0.0, None):
        tasks = tuple(
            t.model_copy(update={"prompts": t.prompts and t.prompts.model_copy(update={"references_apart": known})})
            for t in suite.tasks
        )
        found = scoring.score(manifest, suite.model_copy(update={"tasks": tasks}), samples, {}, Apart())
        assert ("above_references" in {flag.code for flag in found.flags}) == (known is not None)
