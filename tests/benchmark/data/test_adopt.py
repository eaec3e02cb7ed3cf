"""Stand-ins: deterministic, disjoint, in the hub's fields, and never written half."""

import contextlib
import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.data import sources
from benchmark.data.adopt import STAND_INS, adopt, normalised
from benchmark.errors import UserError


def zipped(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


@pytest.fixture
def shared(tmp_path):
    """A folder laid out like the shared data, with invented rows."""
    folder = tmp_path / "shared"
    tifu = "superni_summ/task511_reddit_tifu_long_text_summarization_{}"
    posts = [{"id": str(n), "input": f"Text: post number {n}.", "output": [f"sum {n}"]} for n in range(720)]
    posts[5]["output"] = [""]
    posts[6]["input"] = "Text: Post  number, 7"  # a near-duplicate of the next
    zipped(folder / tifu.format("train.jsonl.gz"), posts[:700])
    zipped(folder / tifu.format("dev.jsonl"), posts[700:])
    zipped(
        folder / "cnndm/cnndm_articles.jsonl.gz",
        [
            {"source": "A", "article": "One two three four.", "highlights": "Three", "truncated": False},
            {"source": "B", "article": "One two five six.", "highlights": "one two", "truncated": False},
            {"source": "A", "article": "Cut", "highlights": "off", "truncated": True},
        ],
    )
    alpaca = [{"instruction": f"do {n}", "input": "with" if n % 2 else "", "output": f"done {n}"} for n in range(640)]
    zipped(folder / "alpaca_subsets/random_9k.jsonl.gz", alpaca)
    zipped(
        folder / "alpaca_eval/eval_set.jsonl.gz",
        [{"dataset": "d", "instruction": f"eval {n}", "output_text_davinci_003": f"out {n}"} for n in range(805)],
    )
    zipped(
        folder / "sequential_instructions/seqEval.jsonl",
        [{"instruction": f"seq {n}", "iteration": 1} for n in range(9)],
    )
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_input_gives_the_same_bytes_and_replaces_what_was_adopted_before(shared, tmp_path):
    told = adopt(shared, tmp_path / "a")
    assert adopt(shared, tmp_path / "b") == told
    (tmp_path / "b" / "tldr" / "left.jsonl").write_text("over")
    adopt(shared, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert told[0] == "tldr: Reddit TIFU (long) (train 600, validation 100, test 19)"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "shared"}


def test_the_order_of_the_rows_makes_no_difference_where_a_hash_splits_them(shared, tmp_path):
    adopt(shared, tmp_path / "a")
    path = shared / "alpaca_subsets/random_9k.jsonl.gz"
    zipped(path, [json.loads(line) for line in reversed(gzip.decompress(path.read_bytes()).splitlines())])
    adopt(shared, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_splits_share_no_text_not_even_a_near_duplicate(shared, tmp_path):
    adopt(shared, tmp_path / "a")
    _assert_disjoint(tmp_path / "a")


def _assert_disjoint(root):
    posts = {
        s: [normalised(r["post"]) for r in lines(root / "tldr" / f"{s}.jsonl")]
        for s in sources.load_sources()["tldr"].splits
    }
    every = [text for texts in posts.values() for text in texts]
    assert len(set(every)) == len(every)
    train = {
        normalised(f"{row['instruction']} {row['input']}")
        for split in ("sft", "val")
        for row in lines(root / "alpaca_farm" / f"{split}.jsonl")
    }
    for source, split in (
        ("alpaca_farm_id_test", "train"),
        ("alpaca_eval", "eval"),
        ("sequential_instructions", "train"),
    ):
        asked = [normalised(row["instruction"]) for row in lines(root / source / f"{split}.jsonl")]
        assert len(set(asked)) == len(asked)
        assert not set(asked) & train


def test_every_source_is_read_back_and_names_its_stand_in(shared, tmp_path, monkeypatch):
    adopt(shared, tmp_path / "a")
    monkeypatch.setenv(sources.DATA_ROOT, str(tmp_path / "a"))
    for source in STAND_INS:
        for path in (tmp_path / "a" / source).glob("*.jsonl"):
            assert len(sources.load(source, path.stem)) == len(lines(path))
        assert sources.provenance(source).startswith("stand-in: ")
    articles = sources.load("cnn_dailymail", "test")
    assert [row["highlights"] for row in articles] == ["Three", "one two"]
    note = yaml.safe_load((tmp_path / "a" / "cnn_dailymail" / "source.yaml").read_text())["note"]
    assert "in 1 of 2 (B) the highlights are" in note
    assert {row["instruction"][-4:] for row in sources.load("alpaca_farm_id_test", "train")} >= {"with"}
    assert "output" not in sources.load("sequential_instructions", "train")[0]
    assert not (tmp_path / "a" / "tldr_preferences").exists()


def test_a_missing_or_cut_file_is_one_line_and_leaves_nothing(shared, tmp_path):
    for name in ("cnndm/cnndm_articles.jsonl.gz", "sequential_instructions/seqEval.jsonl"):
        whole = (shared / name).read_bytes()
        for broken, says in ((None, "no such file: give the folder"), (whole[:-9], "cannot be read|not JSON")):
            (shared / name).unlink() if broken is None else (shared / name).write_bytes(broken)
            with pytest.raises(UserError, match=says) as caught:
                adopt(shared, tmp_path / "new" / "a")
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
        (shared / name).write_bytes(whole)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_else_is_refused_and_stays(shared, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="mine: is there already and not made by"):
        adopt(shared, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    shutil.rmtree(tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    assert adopt(shared, tmp_path / "mine")


def test_what_a_user_added_to_an_adopted_folder_stays(shared, tmp_path):
    adopt(shared, tmp_path / "a")
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "tldr_preferences").mkdir()
    (tmp_path / "a" / "tldr_preferences" / "train.jsonl").write_text("mine")
    (tmp_path / "a" / "notes.txt").write_text("mine too")
    adopt(shared, tmp_path / "a")
    after = contents(tmp_path / "a")
    assert {str(path) for path in after.keys() - before.keys()} == {"tldr_preferences/train.jsonl", "notes.txt"}
    assert after.items() >= before.items()


@pytest.mark.parametrize("about", [None, "stand_in: my own\n", "revision: null\n"])
def test_a_users_own_data_in_the_place_of_a_stand_in_is_refused_and_stays(shared, tmp_path, about):
    adopt(shared, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "tldr")
    (tmp_path / "a" / "tldr").mkdir()
    (tmp_path / "a" / "tldr" / "train.jsonl").write_text("mine")
    if about:
        (tmp_path / "a" / "tldr" / "source.yaml").write_text(about)
    before = contents(tmp_path / "a")
    with pytest.raises(UserError, match=r"tldr: is not a stand-in that .* made: move it away"):
        adopt(shared, tmp_path / "a")
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize("moves", range(14))
def test_a_kill_in_the_middle_loses_nothing_of_the_users_and_can_be_taken_up(shared, tmp_path, monkeypatch, moves):
    adopt(shared, tmp_path / "whole")
    root = tmp_path / "a"
    if moves % 2:
        adopt(shared, root)
        (root / "tldr_preferences").mkdir()
        (root / "tldr_preferences" / "train.jsonl").write_text("mine")
    done = iter(range(moves))

    def killed(move):
        def moving(self, target):
            if next(done, None) is None:
                raise KeyboardInterrupt
            return move(self, target)

        return moving

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed(Path.rename))
        patch.setattr(Path, "replace", killed(Path.replace))
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with contextlib.suppress(KeyboardInterrupt):
            adopt(shared, root)
    assert not moves % 2 or (root / "tldr_preferences" / "train.jsonl").read_text() == "mine"
    adopt(shared, root)
    shutil.rmtree(root / "tldr_preferences", ignore_errors=True)
    assert contents(root) == contents(tmp_path / "whole")


def test_the_folder_of_work_can_be_the_data_root(shared, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    adopt(shared, Path())
    assert contents(tmp_path / "here") == contents(Path()) != {}
    adopt(shared, Path())


def test_the_real_stand_ins_are_disjoint_and_of_the_stated_sizes(shared_data, tmp_path):
    adopt(shared_data, tmp_path / "a")
    counts = {
        f"{path.parent.name}/{path.stem}": len(lines(path)) for path in sorted((tmp_path / "a").glob("*/*.jsonl"))
    }
    assert counts == {
        "alpaca_eval/eval": 805,
        "alpaca_farm/sft": 8629,
        "alpaca_farm/val": 100,
        "alpaca_farm_id_test/train": 500,
        "cnn_dailymail/test": 473,
        "sequential_instructions/train": 805,
        "tldr/test": 400,
        "tldr/train": 600,
        "tldr/validation": 100,
    }
    _assert_disjoint(tmp_path / "a")
