"""Where documents come from, and that what is not the pinned data never says that it is."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from data_root import describe, rows, write_rows
from huggingface_hub import HfApi

from benchmark.data import sources
from benchmark.data.documents import DOCUMENTS
from benchmark.errors import UserError
from benchmark.suites import tasks_folder

PINNED = {name: source for name, source in sources.load_sources().items() if source.revision}
OTHER = "0123456789" * 4


def test_every_source_names_files_types_and_functions_that_there_are():
    assert {"tldr", "cnn_dailymail", "alpaca_eval"} <= set(PINNED)
    for source in sources.load_sources().values():
        assert source.identifies in source.splits
        for split in source.splits.values():
            assert split.document is None or split.document in DOCUMENTS
            assert split.reference is None or split.reference in {**split.fields, **split.optional}
            assert not any(os.path.isabs(pattern) or ".." in pattern for pattern in split.files)


def test_documents_are_the_rows_in_order_with_ids_and_references(root):
    docs = list(sources.documents("tldr", "test"))
    raw = rows()["tldr"]["test"]
    assert [doc["post"] for doc in docs] == [row["post"] for row in raw]
    assert [doc["id"] for doc in docs] == [f"test-{n:02d}" for n in range(24)]
    # Every seventh has white space for a summary, and so no reference.
    assert [doc["references"] for doc in docs] == [[r["summary"]] if r["summary"].strip() else [] for r in raw]
    assert "references" not in raw[0]


def test_evaluated_documents_are_the_first_that_are_kept_and_keep_their_numbers(root):
    keep = "tasks.tldr_shifts.shifts.subreddit_ood"
    docs = sources.evaluated_documents("tldr", prompts=5, keep=keep)
    assert [doc["id"] for doc in docs] == ["test-02", "test-04", "test-07", "test-09", "test-12"]
    assert len(sources.evaluated_documents("tldr", prompts=500)) == 24
    assert len(sources.evaluated_documents("tldr", prompts=24)) == 24


def test_a_split_without_a_document_of_the_tasks_is_refused(root):
    write_rows(root / "tldr" / "test.jsonl", [r for r in rows()["tldr"]["test"] if r["subreddit"] == "tifu"])
    with pytest.raises(UserError, match="tldr: its test split has no document that subreddit_ood keeps"):
        sources.evaluated_documents("tldr", keep="tasks.tldr_shifts.shifts.subreddit_ood")


def test_what_lm_eval_calls_reads_only_the_splits_that_are_asked_for(root):
    (root / "tldr" / "train.jsonl").write_text("not JSON")
    splits = sources.dataset(source="tldr", split="test", prompts=3, version=1, chat="{{x}}", pretrained="tiny")
    assert list(splits) == ["test"]
    assert splits["test"]["id"] == ["test-00", "test-01", "test-02"]


def test_a_copy_of_the_pinned_revision_has_the_hubs_provenance(root, monkeypatch):
    # Sequential Instructions has 533 rows at the hub.
    source = PINNED["sequential_instructions"]
    write_rows(
        root / "sequential_instructions" / "train.jsonl",
        [{"instruction": f"do {n}", "output": "o"} for n in range(533)],
    )
    describe(root, "sequential_instructions", dataset=source.dataset, revision=source.revision)
    local = sources.provenance("sequential_instructions")
    monkeypatch.delenv(sources.DATA_ROOT)
    assert local == sources.provenance("sequential_instructions") == f"{source.dataset}@{source.revision}"


@pytest.mark.parametrize(
    ("about", "says"),
    [
        (None, "UCL-DARK/openai-tldr-filtered, revision not stated, sha256:"),
        ({"note": "from a friend"}, "UCL-DARK/openai-tldr-filtered, revision not stated, sha256:"),
        ({"revision": "main"}, "UCL-DARK/openai-tldr-filtered, revision not stated, sha256:"),
        ({"revision": OTHER}, f"UCL-DARK/openai-tldr-filtered@{OTHER}, not the pinned revision, sha256:"),
        ({"revision": PINNED["tldr"].revision}, f"@{PINNED['tldr'].revision}, 24 of 6553 rows, sha256:"),
        ({"dataset": "me/mine", "revision": PINNED["tldr"].revision}, ", not the pinned revision, sha256:"),
        ({"stand_in": "Reddit TIFU"}, "stand-in: Reddit TIFU, sha256:"),
        ({"stand_in": "x", "revision": PINNED["tldr"].revision}, "stand-in: x, sha256:"),
    ],
)
def test_any_other_copy_says_what_it_is_and_has_its_contents_hash(root, monkeypatch, about, says):
    if about is not None:
        describe(root, "tldr", **about)
    found = sources.provenance("tldr")
    assert says in found
    write_rows(root / "tldr" / "test.jsonl", rows()["tldr"]["test"][1:])
    changed = sources.provenance("tldr")
    assert changed.rpartition(":")[2] != found.rpartition(":")[2]
    monkeypatch.delenv(sources.DATA_ROOT)
    assert sources.provenance("tldr") not in (found, changed)


def test_where_no_revision_is_pinned_a_copys_own_word_never_makes_the_hubs_provenance(root, monkeypatch):
    name = "UCL-DARK/alpaca-farm-id-test"
    describe(root, "alpaca_farm_id_test", revision=OTHER)
    found = sources.provenance("alpaca_farm_id_test")
    assert found.startswith(f"{name}@{OTHER}, revision not verified, sha256:")
    monkeypatch.delenv(sources.DATA_ROOT)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_: SimpleNamespace(sha=OTHER))
    sources._hub_revision.cache_clear()
    try:
        assert sources.provenance("alpaca_farm_id_test") == f"{name}@{OTHER}"
    finally:
        sources._hub_revision.cache_clear()


def test_provenance_of_a_split_is_of_its_own_content_and_needs_no_other(root):
    whole = sources.provenance("tldr", "train")
    assert whole != sources.provenance("tldr") == sources.provenance("tldr", "test")
    (root / "tldr" / "test.jsonl").unlink()
    assert sources.provenance("tldr", "train") == whole


@pytest.mark.parametrize("second", ["test.jsonl.gz", "test.json", "test.parquet"])
def test_two_files_of_one_split_are_refused_and_both_named(root, second):
    (root / "tldr" / second).write_bytes(b"")
    for ask in (lambda: sources.load("tldr", "test"), lambda: sources.provenance("tldr")):
        with pytest.raises(UserError, match=rf"tldr: test\.jsonl and {second} are the same split"):
            ask()


@pytest.mark.parametrize("name", list(sources.load_sources()))
def test_a_stand_in_never_has_the_hubs_provenance(root, monkeypatch, name):
    source = sources.load_sources()[name]
    describe(root, name, dataset=source.dataset, revision=source.revision or OTHER, stand_in="another")
    assert sources.provenance(name).startswith("stand-in: another, sha256:")


def test_jsonl_and_parquet_copies_of_one_content_have_one_provenance(root):
    before = sources.provenance("tldr")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()["tldr"]["test"]), root / "tldr" / "test.parquet")
    (root / "tldr" / "test.jsonl").unlink()
    assert sources.provenance("tldr") == before
    assert len(sources.load("tldr", "test")) == 24


def test_columns_that_are_not_read_do_not_make_other_data(root):
    before = sources.provenance("tldr")
    write_rows(root / "tldr" / "test.jsonl", [{**row, "extra": 1} for row in rows()["tldr"]["test"]])
    assert sources.provenance("tldr") == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stand_in: [1]", "not a description of a local copy: stand_in"),
        ("standin: typo", "standin"),
        ("a: [", "cannot be read as YAML"),
        ("just text", "not a description of a local copy"),
        ("stand_in: x\nnote: 2023-13-45", r"source\.yaml:2: cannot be read as YAML: month must be in 1\.\.12"),
        ("a: " + "[" * 5000, "cannot be read as YAML: too many mappings or lists in one another"),
        ("note: " + "1" * 5000, r"source\.yaml:1: cannot be read as YAML: .*digits"),
        (r'note: "\ud800"', r"source\.yaml:1: cannot be read as YAML: half a character"),
        (r'"\ud800": x', r"source\.yaml:1: cannot be read as YAML: half a character"),
        (f"revision: {'1234567890' * 4}", "revision is a number, .*: put it in quotes"),
        ("note: 2023-10-12", "note is .* a date .*: put it in quotes"),
    ],
)
def test_a_wrong_source_yaml_is_one_line(root, text, says):
    (root / "tldr" / "source.yaml").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        sources.provenance("tldr")
    assert str(caught.value).startswith(f"{root / 'tldr' / 'source.yaml'}:")
    assert "\n" not in str(caught.value)


def test_what_is_not_in_the_data_root_is_missing_and_the_mend_is_told(root):
    (root / "tldr" / "test.jsonl").unlink()
    for ask in (lambda: sources.load("tldr", "test"), lambda: sources.provenance("tldr")):
        with pytest.raises(
            UserError, match=r"tldr/test\.jsonl: no such file .*--data-root or GENDIV_DATA; .*data adopt"
        ):
            ask()


def test_an_unknown_name_lists_the_known_ones(root, monkeypatch):
    for ask in (lambda: sources.load("nope", "test"), lambda: sources.provenance("nope")):
        with pytest.raises(UserError, match=r"no source 'nope' in .*there are: tldr, tldr_preferences"):
            ask()
    with pytest.raises(UserError, match="source tldr has no split 'eval'; there are: train, validation, test"):
        sources.load("tldr", "eval")
    monkeypatch.setenv(sources.DATA_ROOT, str(root / "nowhere"))
    with pytest.raises(UserError, match="nowhere: the data root is no folder"):
        sources.load("tldr", "test")


def test_a_wrong_field_names_file_line_and_field(root):
    write_rows(
        root / "cnn_dailymail" / "test.jsonl", [{"article": "a", "highlights": "h"}, {"article": "a", "summary": ""}]
    )
    with pytest.raises(UserError, match=r"test\.jsonl:2: needs a text under 'highlights'; there is: article, summary"):
        sources.load("cnn_dailymail", "test")


def test_a_wrong_comparison_names_row_and_field(root):
    row = rows()["tldr_preferences"]["train"][0]
    for change, says in (
        ({"choice": 2}, "'choice' is 2"),
        ({"summaries": row["summaries"][:1]}, "two summaries"),
        ({"info": {"post": None, "title": "", "subreddit": ""}}, "needs a text under 'info.post'"),
    ):
        write_rows(root / "tldr_preferences" / "train.jsonl", [row, {**row, **change}])
        with pytest.raises(UserError, match=f"tldr_preferences, split train: row 2 .*{says}"):
            list(sources.documents("tldr_preferences", "train"))


def test_using_puts_the_environment_back(root):
    with sources.using(None):
        assert sources.data_root() is None
    assert sources.data_root() == root
    with sources.using(root.parent):
        assert sources.data_root() == root.parent
    assert sources.data_root() == root


HUB = """
import sys
from benchmark.data import sources
from benchmark.errors import UserError
for name, split in (("tldr", "test"), ("cnn_dailymail", "test"), ("tldr", "train"), ("alpaca_farm_id_test", "train")):
    try:
        print(len(sources.load(name, split)), sources.provenance(name))
    except UserError as error:
        print("refused:", error)
"""


def test_without_a_data_root_the_pinned_revision_is_read_from_the_hubs_cache(tmp_path):
    """Offline, against a real cache folder of the hub's client: what it has is read, the rest refused in a line."""

    def cached(name, file, written):
        folder = tmp_path / "hub" / f"datasets--{PINNED[name].dataset.replace('/', '--')}"
        path = folder / "snapshots" / PINNED[name].revision / file
        path.parent.mkdir(parents=True)
        if file.endswith(".parquet"):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(written), path)
        else:
            write_rows(path, written)

    cached("tldr", "test.jsonl", rows()["tldr"]["test"])
    cached("cnn_dailymail", "3.0.0/test-00000-of-00001.parquet", rows()["cnn_dailymail"]["test"])
    environment = {k: v for k, v in os.environ.items() if k != sources.DATA_ROOT}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    ran = subprocess.run(
        [sys.executable, "-c", HUB], capture_output=True, text=True, check=True, env=environment,
        cwd=tasks_folder().parent,
    )  # fmt: skip
    lines = ran.stdout.splitlines()
    assert lines[0] == f"24 UCL-DARK/openai-tldr-filtered@{PINNED['tldr'].revision}"
    assert lines[1] == f"9 abisee/cnn_dailymail@{PINNED['cnn_dailymail'].revision}"
    assert lines[2].startswith(
        "refused: source tldr: UCL-DARK/openai-tldr-filtered cannot be had from the hub (no train.jsonl"
    )
    assert lines[3].startswith("refused: source alpaca_farm_id_test: ")
    assert all("--data-root DIR or set GENDIV_DATA" in line for line in lines[2:])
    assert len(lines) == 4


def test_the_file_of_sources_reads_as_yaml_without_duplicates():
    text = (tasks_folder() / "sources.yaml").read_text()
    assert list(yaml.safe_load(text)) == [line.rstrip(":") for line in text.splitlines() if line[:1].isalpha()]
    assert json.dumps(yaml.safe_load(text))
