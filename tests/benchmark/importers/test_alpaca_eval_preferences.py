"""AlpacaEval's verdicts without texts: what is read, what is refused, and what becomes of it up to the board."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_preferences import COMMIT, N, Row, rows, write

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.importers.alpaca_eval import import_results
from benchmark.importers.alpaca_eval_preferences import import_preferences, published_name
from benchmark.preference_scoring import LEAST_LENGTHS, NO_TEXTS, constant_length
from benchmark.records import Scores, Verdict
from benchmark.runs import Run
from benchmark.statistics.length_control import length_controlled
from benchmark.suites import load_suite

TASK = "alpaca_eval"


def imported(folder: Path, found: list[Row], *, version: int = 2) -> Run:
    (run,) = import_preferences(write(folder, found, version=version), folder / "runs", commit=COMMIT)
    return run


def verdicts_of(run: Run) -> list[Verdict]:
    judge = run.manifest().identity.judge
    assert judge
    return run.verdicts(TASK, judge)


def estimates(scores: Scores) -> dict[str, Any]:
    return {estimate.metric: estimate for estimate in scores.estimates}


def test_a_verdict_is_a_preference_and_two_lengths(tmp_path: Path) -> None:
    found = rows()
    found[3]["preference"] = "1.7328323962"
    run = imported(tmp_path, found)
    told = verdicts_of(run)
    assert [verdict.doc_id for verdict in told] == [str(number) for number in range(N)]
    assert told[3].preference == 0.7328323962  # decimal by decimal, without the dirt of 1.7328323962 - 1
    assert (told[3].reference_length, told[3].length) == (found[3]["baseline"], found[3]["own"])
    assert {verdict.temperature for verdict in told} == {1.0}
    manifest = run.manifest()
    assert manifest.record["origin"]["repository"] == "tatsu-lab/alpaca_eval"  # type: ignore[index,call-overload]
    assert manifest.record["origin"]["commit"] == COMMIT  # type: ignore[index,call-overload]
    assert manifest.model.revision == COMMIT


def test_a_run_holds_no_text(tmp_path: Path) -> None:
    run = imported(tmp_path, rows())
    files = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file())
    assert files == ["run.json", "verdicts/alpaca_eval.weighted_alpaca_eval_gpt4_turbo.jsonl"]
    said = {v for line in verdicts_of(run) for v in line.model_dump().values() if isinstance(v, str)}
    assert said <= {TASK, "imported", *(str(number) for number in range(N))}
    assert all(verdict.raw == () and verdict.error is None for verdict in verdicts_of(run))


@pytest.mark.parametrize(
    ("said", "preference"), [("0", 0.5), ("0.0", 0.5), ("1.5", 0.5), ("1", 0.0), ("2.0", 1.0), ("", None)]
)
def test_a_draw_is_a_half_and_nothing_is_no_verdict(tmp_path: Path, said: str, preference: float | None) -> None:
    found = rows()
    found[7]["preference"] = said
    verdict = verdicts_of(imported(tmp_path, found, version=1))[7]
    assert verdict.preference == preference
    assert (verdict.error is None) == (preference is not None)
    assert verdict.length == found[7]["own"]


def test_missing_rows_stay_missing_and_are_counted(tmp_path: Path) -> None:
    found = rows()
    found[20]["preference"] = ""
    del found[5:8]
    run = imported(tmp_path, found)
    assert [verdict.doc_id for verdict in verdicts_of(run) if verdict.preference is None] == ["5", "6", "7", "20"]
    scores = pipeline.score(run)
    assert scores.notes["tasks"] == {TASK: {"prompts": N, "preferences": N - 4, "missing_preferences": 4}}
    assert estimates(scores)["win_rate"].n == estimates(scores)["length_characters"].n == N - 4
    kept = [row for row in found if row["preference"] != ""]
    assert estimates(scores)["length_characters"].value == pytest.approx(sum(row["own"] for row in kept) / len(kept))
    assert not scores.flags


def test_a_row_with_many_missing_preferences_is_flagged(tmp_path: Path) -> None:
    most = int(0.05 * N)
    assert not pipeline.score(imported(tmp_path / "few", rows()[most:])).flags
    (flag,) = pipeline.score(imported(tmp_path / "many", rows()[most + 1 :])).flags
    assert flag.code == "failed_verdicts"
    assert f"{most + 1} of {N}" in flag.text


def test_the_reference_itself_is_flagged(tmp_path: Path) -> None:
    found = [row | {"preference": "1.5", "own": row["baseline"]} for row in rows()]
    scores = pipeline.score(imported(tmp_path, found))
    assert [flag.code for flag in scores.flags] == ["reference"]
    assert "win_rate_lc" not in estimates(scores)
    assert "do not vary" in scores.absent["win_rate_lc"]


def test_scores_are_the_statistics_of_the_files_own_numbers(tmp_path: Path) -> None:
    found = rows()
    scores = pipeline.score(imported(tmp_path, found))
    preferences = [row["preference"] - 1 for row in found]
    suite = load_suite("alpaca-eval-preferences@v2")
    assert suite.length_control is not None
    fit = length_controlled(
        preferences,
        [row["own"] for row in found],
        [row["baseline"] for row in found],
        penalty=suite.length_control.penalty,
    )
    assert fit.interval is not None
    told = estimates(scores)
    assert told["win_rate"].value == pytest.approx(sum(preferences) / N)
    assert told["win_rate_lc"].value == pytest.approx(fit.rate)
    assert (told["win_rate_lc"].low, told["win_rate_lc"].high) == pytest.approx(fit.interval)
    assert fit.rate < told["win_rate"].value - 0.001 or fit.rate > told["win_rate"].value + 0.001
    assert told["reference_length_characters"].value == pytest.approx(sum(row["baseline"] for row in found) / N)
    assert set(told) == {"win_rate", "win_rate_lc", "length_characters", "reference_length_characters"}


def test_what_needs_a_text_is_absent_and_says_why(tmp_path: Path) -> None:
    scores = pipeline.score(imported(tmp_path, rows()))
    assert set(scores.absent.values()) == {NO_TEXTS}
    for metric in ("sbert_across_input", "ead_per_input", "length_words", "valid_share_text", "empty_share"):
        assert any(part in metric for part in scores.absent), metric


def test_gates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no texts"):
        pipeline.score(imported(tmp_path, rows()), nli="nowhere")


def _row(**changes: Any) -> Callable[[list[Row]], None]:
    return lambda found: found[4].update(changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_row(preference="2.1"), "preference must be 0"),
        (_row(preference="0.5"), "preference must be 0"),
        (_row(preference="nan"), "preference must be 0"),
        (_row(preference="better"), "preference must be 0"),
        (_row(index=805), "none of the 805"),
        (_row(index=-1), "whole number"),
        (_row(index="4.0"), "whole number"),
        (_row(index=3), "twice"),
        (_row(own="-5"), "len_output_2_model"),
        (_row(baseline=""), "len_output_1_baseline"),
        (_row(model="../up"), "cannot name a run"),
        (_row(model=""), "cannot name a run"),
        (_row(model='"open'), "CSV"),
    ],
)
def test_a_wrong_row_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[list[Row]], None], message: str) -> None:
    found = rows()
    spoil(found)
    with pytest.raises(UserError, match=message) as refused:
        import_preferences(write(tmp_path, found), tmp_path / "runs", commit=COMMIT)
    assert "\n" not in str(refused.value)
    assert "preferences_v2.csv.gz" in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_the_files_name_and_columns_tell_the_judge(tmp_path: Path) -> None:
    path = write(tmp_path, rows())
    with pytest.raises(UserError, match="columns"):
        import_preferences(path.rename(tmp_path / "preferences_v1.csv.gz"), tmp_path / "runs", commit=COMMIT)
    with pytest.raises(UserError, match="called preferences_v1"):
        import_preferences(tmp_path / "other.csv", tmp_path / "runs", commit=COMMIT)
    with pytest.raises(UserError, match="columns"):
        import_preferences(write(tmp_path, rows(), header="a,b"), tmp_path / "runs", commit=COMMIT)
    broken = tmp_path / "preferences_v2.csv.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(UserError, match="gzip"):
        import_preferences(broken, tmp_path / "runs", commit=COMMIT)


@pytest.mark.parametrize("commit", ["", "main", "cd543a1 4", "CD543A14", "../../x"])
def test_the_commit_is_one(tmp_path: Path, commit: str) -> None:
    with pytest.raises(UserError, match="--commit"):
        import_preferences(write(tmp_path, rows()), tmp_path / "runs", commit=commit)


def test_models_are_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, rows("one") + rows("two", seed=1))
    assert [run.folder.name for run in import_preferences(path, tmp_path / "runs", commit=COMMIT)] == ["one", "two"]
    (run,) = import_preferences(path, tmp_path / "more", commit=COMMIT, models=["two"])
    assert run.manifest().name == "two"
    with pytest.raises(UserError, match="no model 'three'"):
        import_preferences(path, tmp_path / "more", commit=COMMIT, models=["three"])


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    runs = [imported(tmp_path / place, rows()) for place in ("a", "b")]
    first, second = ({p.name: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} for run in runs)
    assert first == second


def test_a_plus_is_spelled_out_where_names_may_have_none() -> None:
    assert published_name("Mistral-7B+RAHF-DUAL+LoRA") == "Mistral-7B-plus-RAHF-DUAL-plus-LoRA"
    assert published_name("alpaca-7b_concise") == "alpaca-7b_concise"


@pytest.mark.parametrize(
    ("version", "board", "models"), [(1, "leaderboard_v1_gpt4.csv", 27), (2, "leaderboard_v2_gpt4turbo.csv", 30)]
)
def test_every_published_win_rate_comes_back(
    shared_data: Path, tmp_path: Path, version: int, board: str, models: int
) -> None:
    source = shared_data / "alpaca_eval"
    with (source / board).open(newline="") as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    runs = import_preferences(source / f"preferences_v{version}.csv.gz", tmp_path, commit=COMMIT)
    assert len(runs) == models
    for run in runs:
        name = run.manifest().name
        told = estimates(pipeline.score(run))["win_rate"]
        if name in published:
            assert told.n == int(published[name]["n_total"]), name
            assert 100 * told.value == pytest.approx(float(published[name]["win_rate"]), abs=0.01), name
        else:
            assert name == "text_davinci_003"


def test_results_folder_and_table_tell_the_same(shared_data: Path, tmp_path: Path) -> None:
    results = shared_data / "alpaca_eval" / "results"
    names = ["alpaca-7b", "claude-2", "phi-2-sft"]
    folder = import_preferences(results, tmp_path / "folder", commit=COMMIT, models=names)
    assert len(folder) == 6
    for version in (1, 2):
        table = import_preferences(
            shared_data / "alpaca_eval" / f"preferences_v{version}.csv.gz",
            tmp_path / "table",
            commit=COMMIT,
            models=names,
        )
        for one in table:
            other = next(run for run in folder if run.folder.parts[-2:] == one.folder.parts[-2:])
            assert one.manifest().identity == other.manifest().identity
            for mine, theirs in zip(verdicts_of(one), verdicts_of(other), strict=True):
                assert (mine.preference is None) == (theirs.preference is None)
                assert mine.preference is None or mine.preference == pytest.approx(theirs.preference, abs=1e-9)
                assert mine.model_copy(update={"preference": None}) == theirs.model_copy(update={"preference": None})


def test_of_a_results_folder_no_word_is_left(shared_data: Path, tmp_path: Path) -> None:
    results = shared_data / "alpaca_eval" / "results"
    (texts, *_) = import_results(results, tmp_path / "texts", models=["alpaca-7b"])
    runs = import_preferences(results, tmp_path / "none", commit=COMMIT, models=["alpaca-7b"])
    outputs = {sample.text for sample in texts.samples(TASK) if len(sample.text) > 20}
    assert len(outputs) > 700
    for run in runs:
        files = "".join(path.read_text() for path in run.folder.rglob("*") if path.is_file())
        assert not any(json.dumps(text)[1:-1] in files for text in outputs)
        assert "logprobs" not in files


def test_outputs_of_one_length_are_flagged_and_one_that_differs_is_enough_not_to_be(tmp_path: Path) -> None:
    found = [row | {"own": 872} for row in rows()]
    (flag,) = pipeline.score(imported(tmp_path / "same", found)).flags
    assert flag.code == "constant_length"
    assert flag.text.endswith(": every output has the same length, 872 characters: a constant answer")
    found[4]["own"] = 873
    assert pipeline.score(imported(tmp_path / "other", found)).flags == ()


def test_few_outputs_are_of_one_length_by_chance() -> None:
    assert LEAST_LENGTHS == 100
    assert constant_length([7] * 99, "t") is None
    assert constant_length([7] * 100, "t") is not None
    assert constant_length([7] * 99 + [8], "t") is None
    assert constant_length([], "t") is None


def test_the_null_model_is_flagged_and_an_honest_one_is_not(tmp_path: Path, shared_data: Path) -> None:
    lines = gzip.decompress((shared_data / "alpaca_eval" / "preferences_v2.csv.gz").read_bytes()).decode().splitlines()
    kept = [lines[0], *(line for line in lines if line.startswith(("NullModel,", "alpaca-7b,")))]
    path = tmp_path / "preferences_v2.csv.gz"
    path.write_bytes(gzip.compress("\n".join(kept).encode() + b"\n"))
    scores = {row.name: row for row in map(pipeline.score, import_preferences(path, tmp_path / "runs", commit=COMMIT))}
    assert [flag.code for flag in scores["NullModel"].flags] == ["constant_length"]
    assert scores["alpaca-7b"].flags == ()
