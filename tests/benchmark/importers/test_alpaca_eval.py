"""AlpacaEval's layout as runs: every rule of the coding on made-up folders, and the published numbers on real ones."""

import csv
import gzip
import json
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.importers import json_rows, placing
from benchmark.importers.alpaca_eval import SUITES, import_results
from benchmark.records import Verdict, sha256_of
from benchmark.runs import Run
from benchmark.suites import load_suite

V1, V2 = "alpaca_eval_gpt4", "weighted_alpaca_eval_gpt4_turbo"
QUESTIONS = ["name a colour", "count to two", "name a colour", "say nothing"]  # one is asked twice, as a set may
ANSWERS = ["red", "one two", "blue", ""]
PREFERENCES: list[Any] = [1, 2, 1.25, 1.5]


def outputs(model: str = "m", answers: list[str] = ANSWERS) -> list[dict[str, Any]]:
    return [
        {"instruction": question, "output": answer, "generator": model}
        for question, answer in zip(QUESTIONS, answers, strict=True)
    ]


def annotations(annotator: str = V2, preferences: list[Any] = PREFERENCES, model: str = "m") -> list[dict[str, Any]]:
    return [
        {
            "instruction": row["instruction"],
            "output_1": f"reference {number}",
            "output_2": row["output"],
            "generator_1": SUITES[annotator][1],
            "generator_2": model,
            "annotator": annotator,
            "preference": preference,
        }
        for number, (row, preference) in enumerate(zip(outputs(model), preferences, strict=True))
    ]


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def put_model(results: Path, model: str = "m", *, suffix: str = ".json", **annotated: Any) -> None:
    put(results / model / f"model_outputs{suffix}", outputs(model))
    for annotator, rows in annotated.items():
        put(results / model / annotator / f"annotations{suffix}", rows)


def verdicts(results: Path, rows: list[dict[str, Any]], annotator: str = V2) -> list[Verdict]:
    put_model(results, **{annotator: rows})
    (run,) = import_results(results, results.parent / "runs")
    return run.verdicts("alpaca_eval", annotator)


def preferences_of(results: Path, rows: list[dict[str, Any]], annotator: str = V2) -> list[float | None]:
    return [verdict.preference for verdict in verdicts(results, rows, annotator)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def fails(results: Path, *parts: str, **options: Any) -> str:
    """Import, expect one clear line that holds every part, and nothing written."""
    with pytest.raises(UserError) as caught:
        import_results(results, results.parent / "runs", **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message
    assert not (results.parent / "runs").exists()
    return message


class TestScoringAnImport:
    @pytest.fixture
    def run(self, results: Path, tmp_path: Path) -> Run:
        put_model(results, **{V2: annotations()})
        (run,) = import_results(results, tmp_path / "runs")
        return run

    def test_its_win_rate_is_the_mean_preference_and_per_input_diversity_is_absent(self, run: Run) -> None:
        scores = pipeline.score(run)
        (rate,) = [estimate for estimate in scores.estimates if estimate.metric == "win_rate"]
        assert rate.value == pytest.approx(sum(p - 1 for p in PREFERENCES) / 4)
        assert "per_input" in scores.absent
        assert not [estimate for estimate in scores.estimates if "per_input" in estimate.metric]
        assert run.scores() == scores

    @pytest.mark.parametrize(
        ("file", "change", "says"),
        [
            ("samples", lambda lines: lines[1:], "3 prompts, where run.json says 4"),
            ("samples", lambda lines: [*lines, lines[0]], "is there twice"),
            ("samples", lambda lines: [lines[0].replace('"index":0', '"index":1000000000'), *lines[1:]], "not in the"),
            ("verdicts", lambda lines: lines[:2], "has no verdict, nor have 1 more"),
            ("verdicts", lambda lines: [*lines, lines[0]], "is there twice"),
        ],
    )
    def test_a_grid_that_is_not_whole_is_never_scored(self, run: Run, file: str, change: Any, says: str) -> None:
        (path,) = (run.folder / file).iterdir()
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
        with pytest.raises(UserError, match=says):
            pipeline.score(run)
        assert not run.scores_path.exists()

    def test_there_is_no_judge_for_it(self, run: Run) -> None:
        with pytest.raises(UserError, match="comes with its verdicts"):
            pipeline.judge(run)


class TestWhatARunHolds:
    def test_a_run_is_a_model_and_a_suite(self, results: Path, tmp_path: Path) -> None:
        put_model(results, "b+1", **{V1: annotations(V1), V2: annotations(V2)})
        put_model(results, "a", **{V2: annotations(V2)})
        runs = import_results(results, tmp_path / "runs")
        assert [run.folder.relative_to(tmp_path / "runs").as_posix() for run in runs] == [
            "alpaca-eval-v2/a",
            "alpaca-eval-v1/b+1",
            "alpaca-eval-v2/b+1",
        ]
        assert [run.manifest().identity.suite for run in runs] == ["alpaca-eval@v2", "alpaca-eval@v1", "alpaca-eval@v2"]
        assert runs.skipped == ()

    def test_the_manifest_says_only_what_is_known(self, results: Path, tmp_path: Path) -> None:
        put_model(results, "row", **{V2: annotations(model="example")})  # the generator's name is not the row's
        (run,) = import_results(results, tmp_path / "runs")
        manifest, suite = run.manifest(), load_suite("alpaca-eval@v2")
        assert (manifest.name, manifest.model.id, manifest.kind) == ("row", "row", "model")
        assert manifest.identity.sampling is None
        assert (manifest.card.method, manifest.card.trained_on) == (None, None)
        assert (
            (manifest.identity.judge, manifest.identity.encoder) == (suite.judge, suite.encoder) == (V2, suite.encoder)
        )
        assert manifest.identity.judge_sha256 == sha256_of({"annotator": V2, "reference": "gpt4_1106_preview"})
        assert manifest.identity.tasks[0].n_prompts == 4
        origin = manifest.record["origin"]
        assert isinstance(origin, dict)
        assert origin["outputs"]["file"] == "row/model_outputs.json"
        assert str(tmp_path) not in run.manifest_path.read_text()

    def test_samples_are_a_whole_grid_of_unknown_decoding(self, results: Path) -> None:
        put_model(results, **{V2: annotations()})
        (run,) = import_results(results, results.parent / "runs")
        samples = run.samples("alpaca_eval")
        assert [sample.cell for sample in samples] == [(str(number), 1.0, 0) for number in range(4)]
        assert [sample.text for sample in samples] == ANSWERS
        assert {(sample.finish_reason, sample.n_tokens) for sample in samples} == {("unknown", None)}

    def test_lengths_are_characters_and_raw_is_kept_as_text(self, results: Path) -> None:
        rows = annotations()
        rows[0] |= {"raw_completion": {"text": "m", "index": 0}, "output_1": "à b"}
        rows[1] |= {"raw_completion": "plain"}
        found = verdicts(results, rows)
        assert [(verdict.length, verdict.reference_length) for verdict in found[:2]] == [(3, 3), (7, 11)]
        assert [verdict.raw for verdict in found] == [('{"index": 0, "text": "m"}',), ("plain",), (), ()]

    def test_the_key_tells_judge_prompt_sample_and_reference_apart(self, results: Path) -> None:
        keys = [verdict.key for verdict in verdicts(results, annotations())]
        assert len(set(keys)) == 4
        put(results / "m" / V1 / "annotations.json", annotations(V1))
        run = import_results(results, results.parent / "runs")[0]
        assert not {verdict.key for verdict in run.verdicts("alpaca_eval", V1)} & set(keys)

    def test_gzip_makes_no_difference(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put_model(tmp_path / "zipped", suffix=".json.gz", **{V2: annotations()})
        import_results(results, tmp_path / "runs")
        import_results(tmp_path / "zipped", tmp_path / "other")
        assert bytes_of(tmp_path / "runs") == bytes_of(tmp_path / "other") != {}

    def test_the_reference_model_is_a_row_like_any_other(self, results: Path, tmp_path: Path) -> None:
        name = "gpt4_1106_preview"
        put_model(results, name, **{V2: annotations(preferences=[1.5] * 4, model=name)})
        (run,) = import_results(results, tmp_path / "runs")
        assert [verdict.preference for verdict in run.verdicts("alpaca_eval", V2)] == [0.5] * 4


class TestPreferences:
    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            (1, 0.0),
            (2, 1.0),
            (1.5, 0.5),
            (0, 0.5),
            (1.25, 0.25),
            ("1", 0.0),
            ("2.0", 1.0),
            ("1.5", 0.5),
            ("0.0", 0.5),
            ("1.75", 0.75),
        ],
    )
    def test_coding(self, results: Path, stored: Any, expected: float) -> None:
        found = verdicts(results, annotations(preferences=[stored, 1, 1, 1]))
        assert (found[0].preference, found[0].error) == (expected, None)

    @pytest.mark.parametrize("stored", ["", None])
    def test_no_preference_is_a_failed_verdict_and_not_a_score(self, results: Path, stored: Any) -> None:
        found = verdicts(results, annotations(preferences=[2, stored, 2, 2]))
        assert [verdict.preference for verdict in found] == [1.0, None, 1.0, 1.0]
        assert found[1].error
        assert found[1].reference_length == len("reference 1")

    def test_an_absent_preference_is_a_failed_verdict(self, results: Path) -> None:
        rows = annotations()
        del rows[0]["preference"]
        assert preferences_of(results, rows)[0] is None

    @pytest.mark.parametrize("stored", [-1, 0.5, 2.01, 3, "yes", "nan", True, [1], {"a": 1}, 10**400, "1e999"])
    def test_anything_else_is_an_error(self, results: Path, stored: Any) -> None:
        put_model(results, **{V2: annotations(preferences=[1, stored, 1, 1])})
        fails(results, "annotations.json", "row 1", "preference")

    def test_swapped_columns_are_turned_round(self, results: Path) -> None:
        rows = annotations(preferences=[1, 2, 1.25, 0])
        for row in rows:
            for field in ("output", "generator"):
                row[f"{field}_1"], row[f"{field}_2"] = row[f"{field}_2"], row[f"{field}_1"]
        found = verdicts(results, rows)
        assert [verdict.preference for verdict in found] == [1.0, 0.0, 0.75, 0.5]
        assert [(verdict.length, verdict.reference_length) for verdict in found][:2] == [(3, 11), (7, 11)]

    def test_a_swap_changes_neither_key_nor_reference_hash(self, results: Path, tmp_path: Path) -> None:
        rows = annotations(preferences=[1.5] * 4)
        plain = verdicts(results, rows)
        hashes = [Run(tmp_path / "runs/alpaca-eval-v2/m").manifest().record["origin"]["references_sha256"]]
        for field in ("output", "generator"):
            rows[0][f"{field}_1"], rows[0][f"{field}_2"] = rows[0][f"{field}_2"], rows[0][f"{field}_1"]
        assert verdicts(results, rows) == plain
        hashes += [Run(tmp_path / "runs/alpaca-eval-v2/m").manifest().record["origin"]["references_sha256"]]
        assert hashes[0] == hashes[1]

    def test_another_reference_is_an_error(self, results: Path) -> None:
        rows = annotations()
        rows[2]["generator_1"] = "text_davinci_003"
        put_model(results, **{V2: rows})
        fails(results, "row 2", "generator_1", "text_davinci_003", "gpt4_1106_preview")

    def test_a_verdict_on_another_text_is_none(self, results: Path) -> None:
        rows = annotations()
        rows[0]["output_2"] = "green"
        found = verdicts(results, rows)
        assert found[0].preference is None
        assert "another text" in (found[0].error or "")
        assert (found[0].length, found[1].preference) == (3, 1.0)


class TestJoin:
    def test_order_of_annotations_does_not_matter(self, results: Path) -> None:
        expected = preferences_of(results, annotations())
        rows = annotations()
        assert preferences_of(results, [rows[3], rows[0], rows[1], rows[2]]) == expected == [0.0, 1.0, 0.25, 0.5]

    def test_equal_instructions_are_told_apart_by_their_place(self, results: Path) -> None:
        found = verdicts(results, annotations())
        assert [(verdict.doc_id, verdict.preference) for verdict in found if verdict.doc_id in "02"] == [
            ("0", 0.0),
            ("2", 0.25),
        ]

    def test_a_missing_annotation_is_a_failed_verdict(self, results: Path) -> None:
        rows = annotations()
        found = verdicts(results, [rows[0], rows[2], rows[3]])
        assert [verdict.preference for verdict in found] == [0.0, None, 0.25, 0.5]
        assert (found[1].reference_length, found[1].raw) == (0, ())
        assert "no annotation" in (found[1].error or "")

    def test_rows_in_another_order_get_the_ids_of_the_shared_set(self, results: Path, tmp_path: Path) -> None:
        for name in ("z1", "z2"):
            put_model(results, name, **{V2: annotations(model=name)})
        put(results / "a" / "model_outputs.json", [outputs("a")[number] for number in (3, 0, 1, 2)])
        put(results / "a" / V2 / "annotations.json", annotations(model="a"))
        runs = import_results(results, tmp_path / "runs")
        assert len({run.manifest().identity.model_dump_json() for run in runs}) == 1
        assert [sample.text for sample in runs[0].samples("alpaca_eval")] == ANSWERS

    def test_prompt_hash_is_equal_where_verdicts_are_missing(self, results: Path, tmp_path: Path) -> None:
        put_model(results, "whole", **{V2: annotations(model="whole")})
        put_model(results, "gaps", **{V2: annotations(model="gaps")[1:]})
        runs = import_results(results, tmp_path / "runs")
        assert len({run.manifest().identity.model_dump_json() for run in runs}) == 1

    def test_a_selected_row_is_the_row_of_the_full_import(self, results: Path, tmp_path: Path) -> None:
        for name in ("b", "c"):
            put_model(results, name, **{V2: annotations(model=name)})
        put(results / "a" / "model_outputs.json", outputs("a")[::-1])
        put(results / "a" / V2 / "annotations.json", annotations(model="a"))
        import_results(results, tmp_path / "all")
        import_results(results, tmp_path / "one", models=["a"])
        assert bytes_of(tmp_path / "one") == {
            name: data for name, data in bytes_of(tmp_path / "all").items() if "/a/" in name
        }

    def test_an_extra_annotation_is_an_error(self, results: Path) -> None:
        put_model(results, **{V2: [*annotations(), annotations()[0]]})
        fails(results, "row 4", "instruction")


class TestSkipped:
    def test_other_annotators(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations(), "somebody": annotations()})
        runs = import_results(results, tmp_path / "runs")
        assert len(runs) == 1
        assert [line.split(":")[0] for line in runs.skipped] == ["m/somebody"]

    def test_outputs_without_annotations(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put_model(results, "bare")
        put_model(results, "hollow")
        (results / "hollow" / V2).mkdir()
        runs = import_results(results, tmp_path / "runs")
        assert [line.split(":")[0] for line in runs.skipped] == ["bare", f"hollow/{V2}"]

    def test_an_incomplete_or_foreign_set_of_outputs(self, results: Path, tmp_path: Path) -> None:
        for name in ("m", "n"):
            put_model(results, name, **{V2: annotations(model=name)})
        put(results / "short" / "model_outputs.json", outputs("short")[:3])
        put(results / "short" / V2 / "annotations.json", annotations(model="short")[:3])
        put(results / "twice" / "model_outputs.json", [*outputs("twice"), outputs("twice")[1]])
        runs = import_results(results, tmp_path / "runs")
        assert [run.manifest().name for run in runs] == ["m", "n"]
        assert [line.split(":")[0] for line in runs.skipped] == ["short", "twice"]
        assert "1 of 4 prompts missing (the first is number 3), 0 others" in runs.skipped[0]
        assert "0 of 4 prompts missing, 1 others" in runs.skipped[1]

    def test_the_longer_set_is_the_set_where_none_is_more_common(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put(results / "a" / "model_outputs.json", outputs("a")[:3])
        put(results / "a" / V2 / "annotations.json", annotations(model="a")[:3])
        runs = import_results(results, tmp_path / "runs")
        assert [run.manifest().name for run in runs] == ["m"]

    def test_annotations_without_any_verdict(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V1: annotations(V1), V2: annotations(preferences=[None] * 4)})
        runs = import_results(results, tmp_path / "runs")
        assert len(runs) == 1
        assert runs.skipped[0].startswith(f"m/{V2}: ")

    def test_nothing_left_is_an_error_with_the_reasons(self, results: Path) -> None:
        put_model(results)
        fails(results, "nothing to import", "m: outputs without annotations")

    def test_a_model_not_asked_for_may_be_broken(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put(results / "broken" / "model_outputs.json", b"{")
        assert len(import_results(results, tmp_path / "runs", models=["m"])) == 1


class TestMistakes:
    def test_no_such_folder(self, results: Path) -> None:
        fails(results, str(results), "no such folder")

    def test_a_file_for_a_folder(self, results: Path) -> None:
        put(results, [])
        fails(results, "no such folder")

    def test_a_folder_without_any_model(self, results: Path) -> None:
        (results / "empty").mkdir(parents=True)
        fails(results, "model_outputs.json")

    def test_the_folder_of_one_model(self, results: Path) -> None:
        put_model(results, **{V2: annotations()})
        with pytest.raises(UserError, match="one model's folder"):
            import_results(results / "m", results.parent / "runs")

    def test_no_such_model(self, results: Path) -> None:
        put_model(results, **{V2: annotations()})
        fails(results, "'n'", "there are: m", models=["m", "n"])

    @pytest.mark.parametrize("name", ["a b", "a$(b)", "-a", ".hidden", "ä", "a" * 201])
    def test_an_unsafe_name(self, results: Path, name: str) -> None:
        put_model(results, name, **{V2: annotations()})
        fails(results, name, "rename")

    @pytest.mark.parametrize("suffix", [".json", ".json.gz"])
    @pytest.mark.parametrize(
        ("content", "part"),
        [
            (b"", "empty"),
            (b" \n", "empty"),
            (b'[{"instruction": ', "not valid JSON"),
            (b"[NaN]", "not valid JSON"),
            (b"\xff\xfe", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[" + b"9" * 5_000 + b"]", "not valid JSON"),
            (b'{"a": 1}', "list"),
            (b"[]", "list"),
            (b"[1]", "row 0"),
            (b"[{}]", "row 0: instruction"),
            (b'[{"instruction": "a"}]', "row 0: output"),
            (b'[{"instruction": "a", "output": null}]', "row 0: output"),
            (b'[{"instruction": "a", "output": "\\ud800"}]', "row 0: output"),
        ],
    )
    def test_outputs(self, results: Path, suffix: str, content: bytes, part: str) -> None:
        put(results / "m" / f"model_outputs{suffix}", content)
        put(results / "m" / V2 / "annotations.json", annotations())
        fails(results, f"model_outputs{suffix}", part)

    @pytest.mark.parametrize("field", ["instruction", "output_1", "output_2", "generator_1", "generator_2"])
    @pytest.mark.parametrize("value", [..., None, 3])
    def test_annotation_fields(self, results: Path, field: str, value: Any) -> None:
        rows = annotations()
        if value is ...:
            del rows[1][field]
        else:
            rows[1][field] = value
        put_model(results, **{V2: rows})
        fails(results, "annotations.json", "row 1", field)

    def test_a_cut_off_or_false_gzip(self, results: Path) -> None:
        put_model(results, suffix=".json.gz", **{V2: annotations()})
        path = results / "m" / "model_outputs.json.gz"
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 0xFF
        for data in (whole[:-12], b"[]", bytes(damaged)):
            path.write_bytes(data)
            fails(results, "model_outputs.json.gz")

    def test_a_gzip_bomb(self, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_rows, "MAX_BYTES", 10_000)
        put_model(results, **{V2: annotations()})
        put(results / "m" / V2 / "annotations.json.gz", b" " * 10_001)
        (results / "m" / V2 / "annotations.json").unlink()
        fails(results, "annotations.json.gz", "unpacks to more than 10000 bytes")

    def test_a_plain_and_a_gzipped_file(self, results: Path) -> None:
        put_model(results, **{V2: annotations()})
        put_model(results, suffix=".json.gz")
        fails(results, "model_outputs.json", "remove one")


class TestWriting:
    def test_a_second_import_touches_nothing(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        (run,) = import_results(results, tmp_path / "runs")
        run.scores_path.write_text("kept")
        times = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
        import_results(results, tmp_path / "runs")
        assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == times

    def test_an_earlier_import_is_replaced_whole(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        (run,) = import_results(results, tmp_path / "runs")
        run.scores_path.write_text("stale")
        put(results / "m" / V2 / "annotations.json", annotations(preferences=[2, 2, 2, 2]))
        import_results(results, tmp_path / "runs")
        assert [verdict.preference for verdict in run.verdicts("alpaca_eval", V2)] == [1.0] * 4
        assert not run.scores_path.exists()
        assert [path.name for path in run.folder.parent.iterdir()] == ["m"]

    def test_what_an_import_did_not_make_is_left(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        (run,) = import_results(results, tmp_path / "runs")
        run.verdicts_path("alpaca_eval", "paid-judge").write_text("dear\n")
        import_results(results, tmp_path / "runs")  # nothing has changed, so nothing is in the way
        before = bytes_of(run.folder)
        put(results / "m" / V2 / "annotations.json", annotations(preferences=[2, 2, 2, 2]))
        with pytest.raises(UserError, match=r"alpaca_eval\.paid-judge\.jsonl"):
            import_results(results, tmp_path / "runs")
        assert bytes_of(run.folder) == before

    @pytest.mark.parametrize("there", ["another run", "no run", "a file"])
    def test_anything_else_at_its_place_is_left(self, results: Path, tmp_path: Path, there: str) -> None:
        put_model(results, **{V2: annotations()})
        folder = tmp_path / "runs" / "alpaca-eval-v2" / "m"
        if there == "another run":
            (run,) = import_results(results, tmp_path / "runs")
            manifest = run.manifest().model_copy(update={"record": {}})
            run.manifest_path.write_text(manifest.model_dump_json())
        elif there == "no run":
            put(folder / "notes.txt", b"mine")
        else:
            put(folder, b"mine")
        before = bytes_of(tmp_path / "runs")
        with pytest.raises(UserError, match="stands at this place"):
            import_results(results, tmp_path / "runs")
        assert bytes_of(tmp_path / "runs") == before

    def test_a_failure_half_way_leaves_the_old_run(
        self, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_model(results, **{V2: annotations()})
        import_results(results, tmp_path / "runs")
        before = bytes_of(tmp_path / "runs")
        put(results / "m" / V2 / "annotations.json", annotations(preferences=[2, 2, 2, 2]))
        written = []

        def full_disk(path: Path, data: bytes) -> None:
            if written:
                raise OSError(28, "No space left on device")
            written.append(path)
            put(path, data)

        monkeypatch.setattr(placing, "write_atomically", full_disk)
        with pytest.raises(UserError, match="No space left"):
            import_results(results, tmp_path / "runs")
        assert bytes_of(tmp_path / "runs") == before

    def test_an_output_folder_that_cannot_be(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put(tmp_path / "runs", b"a file")
        with pytest.raises(UserError, match="cannot be written"):
            import_results(results, tmp_path / "runs")

    def test_progress_counts_models(self, results: Path, tmp_path: Path) -> None:
        put_model(results, **{V2: annotations()})
        put_model(results, "bare")
        seen: list[tuple[int, int]] = []
        import_results(results, tmp_path / "runs", progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]


LEADERBOARDS = {"alpaca-eval@v1": "leaderboard_v1_gpt4.csv", "alpaca-eval@v2": "leaderboard_v2_gpt4turbo.csv"}


def compare(runs: list[Run], data: Path) -> list[tuple[str, str, int, float, float, float, float]]:
    """Suite, model, verdicts, our win rate and standard error, and the published ones, in points."""
    published = {}
    for suite, name in LEADERBOARDS.items():
        with (data / "alpaca_eval" / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                published[suite, row[""]] = float(row["win_rate"]), float(row["standard_error"])
    rows = []
    for run in runs:
        manifest = run.manifest()
        suite, judge = manifest.identity.suite, manifest.identity.judge
        values = [verdict.preference for verdict in run.verdicts("alpaca_eval", judge)]
        scored = [100 * value for value in values if value is not None]
        error = statistics.stdev(scored) / math.sqrt(len(scored))
        if (suite, manifest.name) in published:
            rows.append(
                (suite, manifest.name, len(scored), statistics.fmean(scored), error, *published[suite, manifest.name])
            )
    return rows


def table(data: Path, out: Path) -> str:
    """Our numbers beside the published ones; ``python tests/benchmark/importers/test_alpaca_eval.py`` prints it."""
    rows = compare(import_results(data / "alpaca_eval" / "results", out), data)
    lines = [f"{'suite':15} {'model':24} {'n':>4} {'ours':>8} {'SE':>6} {'published':>10} {'SE':>6} {'difference':>11}"]
    for suite, model, n, win_rate, error, published, published_error in rows:
        worst = max(abs(win_rate - published), abs(error - published_error))
        lines.append(
            f"{suite:15} {model:24} {n:4} {win_rate:8.4f} {error:6.4f} {published:10.4f} {published_error:6.4f} "
            f"{worst:11.1e}"
        )
    return "\n".join(lines)


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return import_results(shared_data / "alpaca_eval" / "results", tmp_path_factory.mktemp("real"))


class TestRealResults:
    def test_win_rates_and_standard_errors_are_the_published_ones(self, real: list[Run], shared_data: Path) -> None:
        rows = compare(real, shared_data)
        assert len(rows) == len(real) == 16
        for _, _, _, win_rate, error, published, published_error in rows:
            assert win_rate == pytest.approx(published, abs=0.01)
            assert error == pytest.approx(published_error, abs=0.01)

    def test_every_grid_is_whole(self, real: list[Run], shared_data: Path) -> None:
        with gzip.open(shared_data / "alpaca_eval" / "eval_set.jsonl.gz", "rt", encoding="utf-8") as file:
            references = {str(row["index"]): row["output_gpt4_1106_preview"] for row in map(json.loads, file)}
        for run in real:
            identity = run.manifest().identity
            cells = [sample.cell for sample in run.samples("alpaca_eval")]
            assert cells == [(str(number), 1.0, 0) for number in range(805)]
            verdicts = run.verdicts("alpaca_eval", identity.judge)
            assert [verdict.cell for verdict in verdicts] == cells
            if identity.suite == "alpaca-eval@v2":
                assert [verdict.reference_length for verdict in verdicts] == [
                    len(references[verdict.doc_id]) for verdict in verdicts
                ]

    def test_rows_of_a_suite_are_comparable_and_the_two_suites_are_not(self, real: list[Run]) -> None:
        identities = [run.manifest().identity for run in real]
        assert {identity.suite for identity in identities} == set(LEADERBOARDS)
        assert len({identity.model_dump_json() for identity in identities}) == 2
        names = [(run.manifest().name, run.manifest().identity.suite) for run in real]
        assert len({name for name, _ in names}) == 10
        assert ("alpaca-7b", "alpaca-eval@v1") in names
        assert ("alpaca-7b", "alpaca-eval@v2") in names

    def test_prompts_are_the_frozen_set(self, real: list[Run]) -> None:
        assert {run.manifest().identity.tasks[0].prompts_sha256 for run in real} == {
            "88e22ee1d92471f34bacbe60c1b93e71e7883ae61c3e9c153269101a976c3c4a"
        }

    def test_null_is_no_verdict_and_zero_is_a_tie(self, real: list[Run]) -> None:
        run = next(run for run in real if run.folder.parts[-2:] == ("alpaca-eval-v1", "claude-2"))
        values = {verdict.doc_id: verdict.preference for verdict in run.verdicts("alpaca_eval", V1)}
        assert [doc_id for doc_id, value in values.items() if value is None] == ["482"]
        assert sum(value == 0.5 for value in values.values()) == 1

    def test_the_reference_ties_with_itself(self, real: list[Run]) -> None:
        run = next(run for run in real if run.folder.parts[-2:] == ("alpaca-eval-v2", "gpt4_1106_preview"))
        assert {verdict.preference for verdict in run.verdicts("alpaca_eval", V2)} == {0.5}


if __name__ == "__main__":
    shared = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).parents[4] / "shared")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(table(shared / "data", Path(folder)) + "\n")
