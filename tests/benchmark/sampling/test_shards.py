"""Shards of a run, merged: the bytes of a run on one machine, or one line that says what is wrong."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.runs import Run
from benchmark.sampling.grid import parse_shard, part
from benchmark.sampling.shards import merge

CONTROL = "control:random-words"
PROMPTS = 5


def sample(out, shard=None, **options):
    [run] = pipeline.sample(CONTROL, "pocket", out, pipeline.SampleOptions(k=2, limit=PROMPTS, shard=shard, **options))
    return run.folder


def samples(folder):
    return {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both halves of the same run."""
    folder = tmp_path_factory.mktemp("halves")
    return [sample(folder / f"part-{number}", (number, 2)) for number in (1, 2)]


@pytest.fixture
def halves(made, tmp_path):
    """Copies of them to do harm to."""
    return [shutil.copytree(half, tmp_path / half.name) for half in made]


def refused(folders, out, *says):
    with pytest.raises(UserError) as caught:
        merge(folders, out)
    assert all(say in str(caught.value) for say in says), str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists() or out in folders or says
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")], "nothing half-made is left"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(count=st.integers(1, PROMPTS + 2), order=st.randoms(use_true_random=False))
def test_any_number_of_shards_in_any_order_merge_to_the_bytes_of_one_machine(tmp_path_factory, whole, count, order):
    folder = tmp_path_factory.mktemp("shards")
    shards = [sample(folder / f"s{number}", (number, count)) for number in range(1, count + 1)]
    order.shuffle(shards)
    merged = merge(shards, folder / "merged")
    assert samples(merged.folder) == samples(whole)
    ours, its = merged.manifest(), Run(whole).manifest()
    assert (ours.identity, ours.model, ours.shard, ours.kind) == (its.identity, its.model, None, its.kind)
    assert ours.record["shortened_prompts"] == its.record["shortened_prompts"]


def test_a_merged_run_is_judged_and_scored_like_any_other(halves, tmp_path):
    run = merge(halves, tmp_path / "merged")
    pipeline.judge(run)
    assert pipeline.score(run).estimates


def test_shards_may_be_given_by_the_folder_that_holds_them(halves, whole, tmp_path):
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(halves[0], tmp_path / ".hidden" / "copy")
    shutil.copytree(halves[0], tmp_path / ".left-behind")
    for _ in range(2):
        run = merge([tmp_path], tmp_path / "merged")
        assert samples(run.folder) == samples(whole)


def test_merging_again_changes_nothing(halves, tmp_path):
    run = merge(halves, tmp_path / "merged")
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert merge(halves[::-1], run.folder).folder == run.folder
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_wall_times_are_added_and_what_differs_is_kept(halves, tmp_path):
    for half, seconds, gpu in zip(halves, (1.5, 2.25), ("one", "other"), strict=True):
        manifest = json.loads((half / "run.json").read_text())
        manifest["record"] |= {"sampling_seconds": seconds, "hardware": gpu, "python": "3"}
        (half / "run.json").write_text(json.dumps(manifest))
    record = merge(halves, tmp_path / "merged").manifest().record
    assert (record["sampling_seconds"], record["python"]) == (3.8, "3")
    assert [shard["hardware"] for shard in record["shards"]] == ["one", "other"]


def test_a_missing_shard_is_named(halves, tmp_path):
    refused(halves[:1], tmp_path / "merged", "2/2 is not given", str(halves[0] / "run.json"))


def test_a_shard_given_twice_is_named(halves, tmp_path):
    twin = shutil.copytree(halves[0], tmp_path / "twin")
    refused([*halves, twin], tmp_path / "merged", str(twin), "shard 1/2, as", str(halves[0]))


def test_shards_of_another_division_are_refused(halves, tmp_path):
    third = sample(tmp_path / "third", (2, 3))
    refused([halves[0], third], tmp_path / "merged", str(third), "shard 2/3", "shard 1/2")


@pytest.mark.parametrize(("option", "says"), [({"seed": 7}, "identity.sampling"), ({"name": "other"}, "name is other")])
def test_a_shard_of_another_run_is_refused_by_folder_and_field(halves, tmp_path, option, says):
    other = sample(tmp_path / "other", (2, 2), **option)
    refused([halves[0], other], tmp_path / "merged", str(other), says)


def test_a_whole_run_is_no_shard(halves, whole, tmp_path):
    refused([halves[0], whole], tmp_path / "merged", str(whole), "shard is null")


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused([tmp_path / "empty"], tmp_path / "merged", "no run in it")


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_an_unfinished_shard_is_refused_by_file(halves, tmp_path, lines):
    """One cell less, one prompt less, and prompts less."""
    path = halves[1] / "samples" / "gendiv_pocket_ood.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:-lines]
    path.write_bytes(b"".join(kept))
    refused(halves, tmp_path / "merged", str(path), "run `gendiv sample` again to finish it")


def test_a_prompt_in_two_shards_is_refused(halves, tmp_path):
    name = "gendiv_pocket_ood.jsonl"
    lines = (halves[0] / "samples" / name).read_bytes().splitlines(keepends=True)
    path = halves[1] / "samples" / name
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[2:] + lines[:2]))
    refused(halves, tmp_path / "merged", str(path), "is in another shard as well")


@pytest.mark.parametrize("change", ["all renamed", "one renamed", "exchanged"])
def test_prompts_that_are_not_the_tasks_are_refused(halves, tmp_path, change):
    name = "gendiv_pocket_ood.jsonl"
    path = halves[1] / "samples" / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ids = list(dict.fromkeys(row["doc_id"] for row in rows))
    new = {"all renamed": {one: f"x{one}" for one in ids}, "one renamed": {ids[0]: "x"}}
    other = new.get(change, dict(zip(ids, ids[::-1], strict=True)))
    path.write_text(
        "".join(json.dumps(row | {"doc_id": other.get(row["doc_id"], row["doc_id"])}) + "\n" for row in rows)
    )
    refused(halves, tmp_path / "merged", name, "doc_ids of gendiv_pocket_ood are not those", "sample the shards again")


def test_shards_that_were_to_sample_other_prompts_are_refused(halves, tmp_path):
    manifest = json.loads((halves[1] / "run.json").read_text())
    manifest["record"]["prompt_order_sha256"]["gendiv_pocket_id"] = "0" * 64
    (halves[1] / "run.json").write_text(json.dumps(manifest))
    refused(halves, tmp_path / "merged", str(halves[1]), "prompt_order_sha256 of gendiv_pocket_id is 00000000…")


def test_shards_of_before_that_hash_are_merged(halves, whole, tmp_path):
    for half in halves:
        manifest = json.loads((half / "run.json").read_text())
        del manifest["record"]["prompt_order_sha256"]
        (half / "run.json").write_text(json.dumps(manifest))
    assert samples(merge(halves, tmp_path / "merged").folder) == samples(whole)


def test_shards_of_several_suites_are_told_how_to_be_merged(made, whole, tmp_path):
    parts = [tmp_path / "SH" / str(number) for number in (1, 2)]
    for shard, half in zip(parts, made, strict=True):
        shutil.copytree(half, shard / "pocket")
    assert samples(merge([tmp_path / "SH"], tmp_path / "merged").folder) == samples(whole)
    for shard, half in zip(parts, made, strict=True):
        other = shutil.copytree(half, shard / "other")
        manifest = json.loads((other / "run.json").read_text())
        manifest["identity"]["suite"] = "other@v1"
        (other / "run.json").write_text(json.dumps(manifest))
    out = tmp_path / "out"
    commands = [
        f"`gendiv merge {parts[0] / suite} {parts[1] / suite} --out {out / suite}`" for suite in ("pocket", "other")
    ]
    for folders in (parts, [tmp_path / "SH"]):
        refused(folders, out, "runs of 2 suites", *commands)
    assert samples(merge([shard / "pocket" for shard in parts], out / "pocket").folder) == samples(whole)


def test_an_output_that_holds_something_else_is_left_as_it_is(halves, whole, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    refused(halves, taken, "is not a run folder")
    refused(halves, halves[0], "holds shard 1/2 itself")
    other = sample(tmp_path / "other", seed=7)
    refused(halves, other, "identity.sampling.seed is 7, and 0 in the shards")
    begun = shutil.copytree(whole, tmp_path / "begun")
    path = begun / "samples" / "gendiv_pocket_id.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    refused(halves, begun, str(path), "holds other samples")
    assert (taken / "notes.txt").read_text() == "mine"


def test_a_shard_is_not_judged_or_scored(halves):
    for stage in (pipeline.judge, pipeline.score):
        with pytest.raises(UserError, match=r"run\.json: the run is shard 1/2 alone; `gendiv merge`"):
            stage(Run(halves[0]))


def test_a_folder_keeps_its_shard(halves, whole):
    for folder, shard, says in (
        (halves[0], (2, 2), "shard 1/2, asked for shard 2/2"),
        (halves[0], None, "shard 1/2, asked for all"),
        (whole, (1, 2), "all prompts, asked for shard 1/2"),
    ):
        with pytest.raises(UserError, match=says):
            sample(folder, shard)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_parts_hold_everything_once_and_are_of_like_size(items, count):
    parts = [part(items, (number, count)) for number in range(1, count + 1)]
    assert sorted(item for one in parts for item in one) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert part(items, None) == items


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2", " 1/2", "１/2"])
def test_a_senseless_shard_is_refused(text):
    with pytest.raises(UserError, match="--shard"):
        parse_shard(text)


def test_a_shard_is_read_as_it_is_written():
    assert parse_shard("2/8") == (2, 8)
