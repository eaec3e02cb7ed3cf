"""What `gendiv data check` finds: task by task, without the network, and never by failing."""

import re
import subprocess
import sys

import pytest
from data_root import comparison, describe, rows, write_rows

from benchmark.data import sources
from benchmark.data.adopt import adopt
from benchmark.data.check import check


def of(root):
    return {finding.task: finding for finding in check(root)}


def test_every_task_with_a_source_is_looked_at_once(root):
    found = check(root)
    assert len({finding.task for finding in found}) == len(found) == 16
    assert {finding.status for finding in found} == {"other revision"}
    assert not any(finding.task.startswith("gendiv_pocket") for finding in found)


def test_prompts_references_and_training_documents_are_counted(root):
    tldr = of(root)["gendiv_tldr"]
    assert (tldr.status, tldr.prompts, tldr.references, tldr.suites) == (
        "other revision",
        24,
        20,
        ("summarisation@v1",),
    )
    assert tldr.training == {
        "pairs.train": 40,
        "pairs.validation": 8,
        "prompts.train": 40,
        "prompts.validation": 8,
        "preferences.train": 6,
        "preferences.validation": "missing",
    }
    farm = of(root)["gendiv_alpaca_farm"]
    assert (farm.prompts, farm.references) == (7, 7)
    # Two of six prefer neither.
    assert (farm.training["prompts.train"], farm.training["preferences.train"]) == (6, 4)
    assert of(root)["gendiv_sequential_instructions"].references == 0
    assert of(root)["gendiv_cnn_dailymail"].training == {}


def test_a_whole_copy_of_the_pinned_revision_is_found_and_a_stand_in_is_named(root):
    pinned = sources.load_sources()["sequential_instructions"].revision
    write_rows(root / "sequential_instructions" / "train.jsonl", [{"instruction": str(n)} for n in range(533)])
    describe(root, "sequential_instructions", revision=pinned)
    describe(root, "tldr", stand_in="Reddit TIFU")
    found = of(root)
    sequential = found["gendiv_sequential_instructions"]
    assert (sequential.status, sequential.prompts) == ("found", 500)
    assert sequential.detail == f"UCL-DARK/sequential-instructions@{pinned}"
    assert found["gendiv_tldr"].status == found["gendiv_tldr_length_ood"].status == "stand-in"
    assert found["gendiv_tldr"].detail.startswith("stand-in: Reddit TIFU, sha256:")


def test_what_is_missing_wrong_or_empty_is_said_and_the_rest_is_still_looked_at(root):
    (root / "alpaca_eval" / "eval.jsonl").unlink()
    (root / "cnn_dailymail" / "test.jsonl").write_text('{"article": "a", "highlights": "h"}\n{"article": "a", "hi')
    write_rows(root / "tldr" / "test.jsonl", [r for r in rows()["tldr"]["test"] if r["subreddit"] == "tifu"])
    (root / "alpaca_farm" / "sft.jsonl").write_text('{"prompt": "p"}\n')
    (root / "sequential_instructions" / "source.yaml").write_text("revisoin: typo\n")
    found = of(root)
    assert found["gendiv_alpaca_eval"].status == "missing"
    assert "no eval split of tatsu-lab/alpaca_eval in" in found["gendiv_alpaca_eval"].detail
    assert found["gendiv_cnn_dailymail"].status == "wrong"
    assert "test.jsonl:2: not JSON" in found["gendiv_cnn_dailymail"].detail
    assert found["gendiv_tldr_subreddit_ood"].status == "empty"
    assert "has no document that subreddit_ood keeps" in found["gendiv_tldr_subreddit_ood"].detail
    assert found["gendiv_tldr_subreddit_id"].status == "other revision"
    assert "sft.jsonl:1: needs a text under 'instruction'" in found["gendiv_alpaca_farm"].training["pairs.train"]
    assert found["gendiv_alpaca_farm"].prompts == 7
    assert found["gendiv_sequential_instructions"].status == "wrong"
    assert all("\n" not in finding.detail for finding in found.values())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("test.jsonl", '{"article": "\\ud800", "highlights": "h"}', r"test\.jsonl:1: half a character"),
        ("test.jsonl", "[" * 100_000, r"test\.jsonl: too many objects or lists"),
        ("test.json", "[]", r"test\.jsonl and test\.json are the same split"),
        ("source.yaml", "note: 2023-13-45", r"source\.yaml:1: cannot be read as YAML: month"),
        ("source.yaml", "[" * 5000, r"source\.yaml: cannot be read as YAML: too many"),
    ],
)
def test_what_no_reader_can_take_is_a_finding(root, name, content, says):
    (root / "cnn_dailymail" / name).write_text(content)
    finding = of(root)["gendiv_cnn_dailymail"]
    assert finding.status == "wrong"
    assert re.search(says, finding.detail)


def test_what_no_reader_can_take_is_told_of_training_data_too(root):
    nan = comparison(0, 0)
    nan["info"]["site"] = float("nan")
    write_rows(root / "tldr_preferences" / "train.jsonl", [nan])
    (root / "tldr" / "train.json").write_text("[]")
    training = of(root)["gendiv_tldr"].training
    assert "train.jsonl:1: no JSON value" in training["preferences.train"]
    assert "train.jsonl and train.json are the same split" in training["pairs.train"]


def test_a_copy_of_what_is_not_pinned_is_another_revision(root):
    describe(root, "alpaca_farm_id_test", revision="0123456789" * 4)
    finding = of(root)["gendiv_alpaca_farm"]
    assert finding.status == "other revision"
    assert ", revision not verified, sha256:" in finding.detail


def test_without_a_data_root_nothing_is_fetched_and_the_revision_is_told(root):
    found = {finding.task: finding for finding in check(None)}
    assert {finding.status for finding in found.values()} == {"hub"}
    assert sources.load_sources()["tldr"].revision in found["gendiv_tldr"].detail
    assert "at its current commit (none is pinned)" in found["gendiv_alpaca_farm"].detail
    assert sources.data_root() == root, "the environment is put back"


def test_an_empty_folder_is_missing_everywhere(tmp_path):
    found = check(tmp_path)
    assert {finding.status for finding in found} == {"missing"}
    assert {value for finding in found for value in finding.training.values()} == {"missing"}


def test_checking_loads_nothing_heavy(root):
    code = f"import sys, pathlib; from benchmark.data.check import check; check(pathlib.Path({str(root)!r}))\n"
    code += "print('LOADED', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.rpartition("LOADED")[2].split()) & {"torch", "transformers", "lm_eval", "datasets"}


@pytest.mark.parametrize(
    ("task", "prompts", "references"),
    [
        ("gendiv_tldr", 400, 398),
        ("gendiv_cnn_dailymail", 473, 473),
        ("gendiv_alpaca_farm", 500, 500),
        ("gendiv_alpaca_eval", 805, 803),
        ("gendiv_sequential_instructions", 500, 0),
    ],
)
def test_the_real_stand_ins_serve_all_five_tasks(adopted, task, prompts, references):
    finding = adopted[task]
    assert (finding.status, finding.prompts, finding.references) == ("stand-in", prompts, references)


def test_the_real_stand_ins_have_no_other_subreddit_and_it_is_said(adopted):
    assert adopted["gendiv_tldr_subreddit_ood"].status == "empty"


@pytest.fixture(scope="module")
def adopted(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("adopted") / "data"
    adopt(shared_data, root)
    return of(root)
