"""Records refuse what they do not know; run files tell which line is wrong."""

import json

import pytest
from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.records import Sample, Sampling, Verdict, canonical_json, sha256_of
from benchmark.runs import Appender, Run, appending, drop_cut_off_line, read_json, read_jsonl, write_atomically

SAMPLE = Sample(task="t", doc_id="d", temperature=1.0, index=0, text="x\ny é", finish_reason="stop", n_tokens=2)
SAMPLING = {
    "k": 2,
    "temperatures": [0.3, 1.0],
    "top_p": 1.0,
    "top_k": 0,
    "max_new_tokens": 4,
    "stop": [],
    "seed": 0,
}


def test_a_sample_survives_its_file(tmp_path):
    path = tmp_path / "s.jsonl"
    with appending(path) as log:
        log.append([SAMPLE, SAMPLE.model_copy(update={"index": 1})])
    assert read_jsonl(path, Sample, mend="") == [SAMPLE, SAMPLE.model_copy(update={"index": 1})]


@pytest.mark.parametrize("field", sorted(SAMPLING))
def test_no_field_of_the_sampling_has_a_default(field):
    with pytest.raises(ValidationError):
        Sampling.model_validate({name: value for name, value in SAMPLING.items() if name != field})


@pytest.mark.parametrize(
    "change",
    [
        {"temperatures": [1.0, 0.3]},
        {"temperatures": [1.0, 1.0]},
        {"temperatures": []},
        {"temperatures": [float("nan")]},
        {"k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"extra": 1},
        {"k": "2"},
    ],
)
def test_a_senseless_sampling_is_refused(change):
    with pytest.raises(ValidationError):
        Sampling.model_validate(SAMPLING | change)


@pytest.mark.parametrize("preference", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_preference_lies_between_0_and_1(preference):
    with pytest.raises(ValidationError):
        Verdict(
            task="t", doc_id="d", temperature=1.0, index=0, key="k", preference=preference, length=1, reference_length=1
        )


def test_the_canonical_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
    assert sha256_of({"b": 1, "a": 2}) == sha256_of({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


LINE = SAMPLE.model_dump_json()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\n", "empty"),
        (f"{LINE}\n{LINE[:20]}", ":2: the last line is cut off"),
        (f"{LINE}\n{LINE[:20]}\n{LINE}\n", ":2: not a valid Sample"),
        (LINE.replace('"stop"', '"sotp"') + "\n", ":1: not a valid Sample: finish_reason"),
        (LINE.replace("1.0", "NaN") + "\n", ":1: not a valid Sample"),
        (LINE.replace('"index":0', '"index":-1') + "\n", ":1: not a valid Sample: index"),
        (LINE[:-1] + ',"evil":1}\n', ":1: not a valid Sample: evil"),
        ("\udcff\n".encode("utf-8", "surrogateescape"), ":1: not a valid Sample"),
    ],
)
def test_a_broken_line_is_named(tmp_path, content, says):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_jsonl(path, Sample, mend="mend it")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_its_mend(tmp_path):
    with pytest.raises(UserError, match=r"run\.json: no such file; .*`gendiv sample`"):
        Run(tmp_path).manifest()
    with pytest.raises(UserError, match="no such file"):
        read_jsonl(tmp_path / "a" / "b.jsonl", Sample, mend="")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 at byte 0"):
        read_json(tmp_path / "bytes.json", Sample, mend="")


def test_a_log_that_another_process_writes_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    with appending(path), pytest.raises(UserError, match="another process is writing it"):
        Appender(path)
    with appending(path) as log:
        log.append([SAMPLE])


def test_only_an_unfinished_last_line_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    assert drop_cut_off_line(path) == 0
    path.write_bytes(b'{"a":1}\n{"b":2}\n{"c')
    assert drop_cut_off_line(path) == 3
    assert drop_cut_off_line(path) == 0
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'
    path.write_bytes(b'{"a')
    drop_cut_off_line(path)
    assert path.read_bytes() == b""
    path.write_bytes(b"a file of somebody else's")
    assert drop_cut_off_line(path) == 0
    assert path.read_bytes() == b"a file of somebody else's"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_atomically(path, "old")

    def fail(_fd):
        raise OSError("disk full")

    monkeypatch.setattr("benchmark.runs.os.fsync", fail)
    with pytest.raises(UserError, match=r"f\.json: cannot be written: disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_records_are_compact_but_whole(tmp_path):
    verdict = Verdict(
        task="t",
        doc_id="d",
        temperature=1.0,
        index=0,
        key="k",
        preference=None,
        length=1,
        reference_length=1,
        error="x",
    )
    with appending(tmp_path / "v.jsonl") as log:
        log.append([verdict])
    assert "raw" not in json.loads((tmp_path / "v.jsonl").read_text())
    assert read_jsonl(tmp_path / "v.jsonl", Verdict, mend="") == [verdict]
