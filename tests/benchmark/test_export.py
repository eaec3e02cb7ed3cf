"""Exported training data: what the trainers read, and never an evaluated prompt."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from data_root import comparison, make_data_root, post, rows, write_rows
from hypothesis import given
from hypothesis import strategies as st

from benchmark import cli, export, suites
from benchmark.data import sources
from benchmark.errors import UserError
from benchmark.records import Prompt, prompts_sha256
from benchmark.suites import load_prompts, load_suite
from tasks.pocket import world

TRAIN = [
    {"q": "one", "a": ["first", "1st"], "good": "yes", "bad": "no"},
    {"q": "two", "a": ["second"], "good": "naïve ☃", "bad": "two\nlines"},
    {"q": "asked", "a": ["third"], "good": "x", "bad": "y"},
    {"q": "one", "a": ["other"], "good": "more", "bad": "less"},
    {"q": "beside", "a": ["fourth"], "good": "x", "bad": "y"},
    {"q": "three", "a": ["fifth"], "good": "same", "bad": "same"},
]
ASKED = [{"q": " asked\n", "a": ["r"], "good": "g", "bad": "b"}, {"q": "also", "a": ["r"], "good": "g", "bad": "b"}]
BESIDE = [{"q": "beside", "a": ["r"], "good": "g", "bad": "b"}]


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process; returns (exit status, output, error output)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Write a task of local JSONL files into a tasks folder of its own; returns the writer."""
    folder = tmp_path / "tasks"
    (folder / "mine").mkdir(parents=True)
    monkeypatch.setattr(suites, "tasks_folder", lambda: folder)

    def make(name, *, metadata=None, **splits):
        files = {}
        for split, docs in splits.items():
            files[split] = str(tmp_path / f"{name}-{split}.jsonl")
            (tmp_path / f"{name}-{split}.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
            **{f"{'training' if split == 'train' else split}_split": split for split in splits},
            "output_type": "generate_until",
            "doc_to_text": "Q: {{q}}\nA:",
            "doc_to_target": "{{a}}",
            "generation_kwargs": {"until": []},
            "metric_list": [{"metric": "exact_match"}],
            "metadata": {"version": 1, **(metadata or {})},
        }
        path = folder / "mine" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        suites._load_task.cache_clear()
        return path

    return make


def make_suite(path, *tasks):
    """Write a suite of tasks by role, all else as in the pocket suite."""
    suite = yaml.safe_load((Path(world.__file__).parent / "pocket-v1.suite.yaml").read_text())
    del suite["training_documents"], suite["fresh_references"]
    suite |= {"suite": "mine", "tasks": [{"task": name, "role": role, "title": name} for name, role in tasks]}
    (path.parent / "mine-v1.suite.yaml").write_text(yaml.safe_dump(suite))


def frozen(name, docs):
    """The hash of what a made task asks."""
    asked = [
        Prompt(task=name, doc_id=str(n), text=f"Q: {d['q']}\nA:", references=tuple(d["a"]), doc={})
        for n, d in enumerate(docs)
    ]
    return {"prompts_sha256": prompts_sha256(asked)}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_pocket_pairs_are_the_generators_in_its_order(gendiv, tmp_path):
    out = tmp_path / "new" / "pairs.jsonl"
    status, said, err = gendiv("data", "export", "gendiv_pocket_id", "--limit", 40, "--seed", 3, "--out", out)
    assert (status, said, err) == (0, f"exported: 40 rows to {out}\n", "")
    assert read(out) == [
        {"doc_id": doc["id"], "prompt": doc["prompt"], "completion": doc["reference"]}
        for doc in world.training_pairs(40, seed=3)
    ]
    assert [path.name for path in out.parent.iterdir()] == ["pairs.jsonl"]


def test_no_pocket_row_is_an_evaluated_prompt_of_any_role():
    rows = export.training_data("gendiv_pocket_id", limit=1000).rows
    evaluated = {prompt.text for prompts in load_prompts(load_suite("pocket")).values() for prompt in prompts}
    assert len(evaluated) == 450
    assert not evaluated & {row["prompt"] for row in rows}


def test_a_smaller_limit_is_a_prefix_and_another_seed_is_other_data():
    rows = export.training_data("gendiv_pocket_id", limit=30).rows
    assert rows == export.training_data("gendiv_pocket_id", limit=30, seed=1).rows
    assert rows[:7] == export.training_data("gendiv_pocket_id", limit=7).rows
    assert not {row["prompt"] for row in rows} & {
        row["prompt"] for row in export.training_data("gendiv_pocket_id", limit=30, seed=2).rows
    }


def test_same_inputs_are_the_same_bytes_and_replace_what_was_there(gendiv, tmp_path):
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    b.write_text("old")
    for out in (a, b, b):
        assert gendiv("data", "export", "gendiv_pocket_id", "--limit", 5, "--out", out)[0] == 0
        assert out.read_bytes().count(b"\n") == 5
    assert a.read_bytes() == b.read_bytes()


def test_a_generator_that_makes_an_evaluated_prompt_loses_it(monkeypatch):
    ood = world.document("ood", 3)
    ood["prompt"] = ood["prompt"].replace(" ", "  ", 1)
    monkeypatch.setattr(world, "training_pairs", lambda n, seed: [world.document("id", 5, seed), ood][:n])
    exported = export.training_data("gendiv_pocket_id")
    assert [row["doc_id"] for row in exported.rows] == ["id-0005"]
    assert exported.dropped == {"with an evaluated prompt": 1}


def test_evaluated_prompts_are_written_only_where_asked_for_and_with_a_warning(gendiv, tmp_path):
    out = tmp_path / "test.jsonl"
    status, said, err = gendiv("data", "export", "gendiv_pocket_ood", "--split", "test", "--limit", 3, "--out", out)
    assert (status, said) == (0, f"exported: 3 rows to {out}\n")
    assert err == "warning: the test prompts of gendiv_pocket_ood are evaluated and must not be trained on\n"
    assert [row["doc_id"] for row in read(out)] == ["ood-0000", "ood-0001", "ood-0002"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nope",), "no task 'nope'; there are: gendiv_alpaca_eval, "),
        (("gendiv_pocket_ood",), "task gendiv_pocket_ood has no train split; there are: test"),
        (("gendiv_pocket_id", "--split", "validation"), "has no validation split; there are: train, test"),
        (("gendiv_pocket_id", "--kind", "preferences"), "has no preferences: its YAML names no metadata.chosen"),
        (("gendiv_pocket_id", "--split", "test", "--seed", "2"), "leave out --seed"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(gendiv, tmp_path, arguments, says):
    status, said, err = gendiv("data", "export", *arguments, "--out", tmp_path / "x" / "out.jsonl")
    assert (status, said, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "x").exists()


def test_an_output_that_is_a_folder_is_refused_and_stays(gendiv, tmp_path):
    status, _, err = gendiv("data", "export", "gendiv_pocket_id", "--limit", 1, "--out", tmp_path)
    assert status == 2
    assert f"{tmp_path}: cannot be written" in err
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_local_files_exports_its_training_split_less_its_own_evaluated_prompts(gendiv, task, tmp_path):
    task("mine", train=TRAIN, test=ASKED)
    out = tmp_path / "pairs.jsonl"
    status, said, err = gendiv("data", "export", "mine", "--out", out)
    assert (status, said) == (0, f"exported: 5 rows to {out}\n")
    assert err.endswith("dropped: 1 with an evaluated prompt\n")
    assert [(row["doc_id"], row["prompt"], row["completion"]) for row in read(out)] == [
        ("0", "Q: one\nA:", "first"),
        ("1", "Q: two\nA:", "second"),
        ("3", "Q: one\nA:", "other"),
        ("4", "Q: beside\nA:", "fourth"),
        ("5", "Q: three\nA:", "fifth"),
    ]
    assert len(export.training_data("mine", limit=4).rows) == 3


def test_prompts_of_every_task_of_the_suite_are_left_out(task):
    path = task("mine", train=TRAIN, test=ASKED, metadata=frozen("mine", ASKED))
    task("beside", test=BESIDE, metadata=frozen("beside", BESIDE))
    make_suite(path, ("mine", "id"), ("beside", "ood"))
    exported = export.training_data("mine")
    assert [row["doc_id"] for row in exported.rows] == ["0", "1", "3", "5"]
    assert exported.dropped == {"with an evaluated prompt": 2}


def test_the_split_that_is_evaluated_is_the_test_split_or_else_the_validation_split(task):
    task("tested", train=TRAIN, validation=ASKED + BESIDE, test=ASKED)
    task("validated", train=TRAIN, validation=ASKED)
    exported = export.training_data("tested", split="validation")
    assert (len(exported.rows), exported.evaluated) == (1, False), "a validation split is clean of tested prompts"
    assert export.training_data("tested", split="test").evaluated
    assert export.training_data("validated", split="validation").evaluated
    with pytest.raises(UserError, match="no test split; there are: train, validation"):
        export.training_data("validated", split="test")


@pytest.mark.parametrize(
    "metadata", [{"chosen": "{{good}}", "rejected": "{{bad}}"}, {"chosen": "good", "rejected": "bad"}]
)
def test_preferences_that_documents_carry_stand_together_by_prompt(gendiv, task, tmp_path, metadata):
    task("mine", train=TRAIN, test=ASKED, metadata=metadata)
    out = tmp_path / "preferences.jsonl"
    status, _, err = gendiv("data", "export", "mine", "--kind", "preferences", "--out", out)
    assert status == 0
    assert "dropped: 1 with an evaluated prompt\n" in err
    assert "dropped: 1 with two equal answers\n" in err
    assert read(out) == [
        {"doc_id": "0", "prompt": "Q: one\nA:", "chosen": "yes", "rejected": "no"},
        {"doc_id": "3", "prompt": "Q: one\nA:", "chosen": "more", "rejected": "less"},
        {"doc_id": "1", "prompt": "Q: two\nA:", "chosen": "naïve ☃", "rejected": "two\nlines"},
        {"doc_id": "4", "prompt": "Q: beside\nA:", "chosen": "x", "rejected": "y"},
    ]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"chosen": "{{good}}"}, "names no metadata.rejected"),
        ({"chosen": "{{good}}", "rejected": "worse"}, "'worse', which is neither a field nor a template"),
        ({"chosen": "{{good}}", "rejected": "{{worse}}"}, "metadata.rejected of document 0: 'worse' is undefined"),
        ({"chosen": "{{good", "rejected": "{{bad}}"}, "metadata.chosen of document 0: "),
        ({"chosen": "a", "rejected": "bad"}, "metadata.chosen of document 0 is no text"),
    ],
)
def test_preferences_that_are_not_there_are_refused_by_name(task, metadata, says):
    task("mine", train=TRAIN, test=ASKED, metadata=metadata)
    with pytest.raises(UserError, match=says):
        export.training_data("mine", kind="preferences")


def test_a_split_of_which_nothing_is_left_is_refused(task):
    task("mine", train=ASKED, test=ASKED)
    with pytest.raises(UserError, match="no row of the train split of mine is left: 2 with an evaluated prompt"):
        export.training_data("mine")


def test_a_task_without_free_text_or_without_a_reference_is_refused(task):
    path = task("mine", train=TRAIN, test=ASKED)
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"doc_to_target": "{{[]}}"}))
    with pytest.raises(UserError, match="no row of the train split of mine is left: 6 without a reference"):
        export.training_data("mine")
    suites._load_task.cache_clear()
    del config["generation_kwargs"]
    choices = {"output_type": "multiple_choice", "doc_to_choice": ["x", "y"], "doc_to_target": 0}
    path.write_text(yaml.safe_dump(config | choices | {"metric_list": [{"metric": "acc"}]}))
    with pytest.raises(UserError, match="asks for multiple_choice"):
        export.training_data("mine")


texts = st.text(st.characters(exclude_categories=["Cs"]))
written = st.lists(
    st.fixed_dictionaries({"doc_id": texts, "prompt": st.sampled_from(["a", "b", "c"]), "chosen": texts})
)


@given(written)
def test_grouping_moves_rows_to_their_prompts_first_and_loses_none(rows):
    grouped = export._together(rows)
    prompts = [row["prompt"] for row in grouped]
    changes = sum(a != b for a, b in itertools.pairwise(prompts))
    assert changes == max(0, len(set(prompts)) - 1)
    assert list(dict.fromkeys(prompts)) == list(dict.fromkeys(row["prompt"] for row in rows))
    for prompt in set(prompts):
        assert [r for r in grouped if r["prompt"] == prompt] == [r for r in rows if r["prompt"] == prompt]


@given(rows=written)
def test_any_text_comes_back_from_one_line(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    export.write(path, rows)
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == rows


def test_the_help_loads_nothing_heavy():
    code = "import sys; from benchmark import cli; sys.argv = ['gendiv', 'data', 'export', '--help']\n"
    code += "try: cli.main()\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.rpartition("LOADED")[2].split()) & {"torch", "transformers", "lm_eval", "datasets"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root of invented rows, set."""
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(folder))
    return folder


def test_pairs_of_real_suites_follow_the_published_prompt_after_one_space(root):
    exported = export.training_data("gendiv_tldr")
    raw = [row for row in rows()["tldr"]["train"] if row["summary"].strip()]
    assert exported.rows == [
        {
            "doc_id": f"train-{row['id'].removeprefix('t3_train'):0>2}",
            "prompt": f"SUBREDDIT: r/{row['subreddit']}\nTITLE: {row['title']}\nPOST: {row['post']}\nTL;DR:",
            "completion": f" {row['summary'].strip()}",
        }
        for row in raw
    ]
    assert exported.dropped == {"without a reference": 6}
    assert exported.data == sources.provenance("tldr", "train") != sources.provenance("tldr")
    assert not exported.evaluated


def test_instruction_pairs_carry_their_input_and_answer_at_once(root):
    pairs = export.training_data("gendiv_alpaca_farm").rows
    assert "### Input:" not in pairs[0]["prompt"]
    assert pairs[1]["prompt"].endswith("### Instruction:\ndo sft 1\n\n### Input:\ninput 1\n\n### Response:")
    assert [row["completion"] for row in pairs] == [f"done {n}" for n in range(10)]


def test_prompts_have_no_answer_and_come_from_their_own_split(root):
    prompts = export.training_data("gendiv_alpaca_farm", kind="prompts")
    assert [set(row) for row in prompts.rows] == [{"doc_id", "prompt"}] * 6
    assert all("do unlabeled" in row["prompt"] for row in prompts.rows)
    # A document without a reference is a prompt as good as any.
    assert len(export.training_data("gendiv_tldr", kind="prompts").rows) == 40


def test_preferences_have_the_prompt_of_their_pair(root):
    pairs = {row["doc_id"]: row for row in export.training_data("gendiv_tldr", kind="prompts").rows}
    preferences = export.training_data("gendiv_tldr", kind="preferences").rows
    assert [row["prompt"] for row in preferences] == [pairs[f"train-{n:02d}"]["prompt"] for n in range(6)]
    assert (preferences[1]["chosen"], preferences[1]["rejected"]) == (" second of 1", " first of 1")
    farm = export.training_data("gendiv_alpaca_farm", kind="preferences")
    assert [row["chosen"] for row in farm.rows] == ["one", "two"] * 2
    assert farm.dropped == {"without a preference": 2}


def test_a_shift_filters_every_view(root):
    for kind in ("pairs", "prompts", "preferences"):
        whole = export.training_data("gendiv_tldr", kind=kind).rows
        part = export.training_data("gendiv_tldr_subreddit_id", kind=kind).rows
        kept = [row for row in whole if "r/aww" not in row["prompt"] and "r/books" not in row["prompt"]]
        assert [row["prompt"] for row in part] == [row["prompt"] for row in kept]
        assert 0 < len(part) < len(whole)


def test_a_training_row_that_is_evaluated_in_the_suite_is_left_out(root):
    asked = rows()["tldr"]["test"][3]
    write_rows(root / "tldr" / "train.jsonl", [*rows()["tldr"]["train"], {**asked, "post": f"{asked['post']} \n"}])
    exported = export.training_data("gendiv_tldr")
    assert exported.dropped == {"without a reference": 6, "with an evaluated prompt": 1}
    assert export.training_data("gendiv_tldr", split="test").evaluated


@pytest.mark.parametrize("asked", ["Do sft 1!\n\nInput 1", "DO SFT 1 INPUT 1", "do sft 1\ninput_1"])
@pytest.mark.parametrize("beside", ["alpaca_farm_id_test/train", "alpaca_eval/eval", "sequential_instructions/train"])
def test_an_evaluated_instruction_is_found_in_any_case_and_with_its_input_folded_in(root, asked, beside):
    write_rows(root / f"{beside}.jsonl", [{"instruction": asked}])
    exported = export.training_data("gendiv_alpaca_farm")
    assert exported.dropped == {"with an evaluated prompt": 1}
    assert [row["doc_id"] for row in exported.rows] == ["sft-0", *(f"sft-{n}" for n in range(2, 10))]


def test_an_instruction_of_another_input_or_without_words_is_no_evaluated_one(root):
    write_rows(root / "alpaca_eval" / "eval.jsonl", [{"instruction": "do sft 1"}, {"instruction": "?!"}])
    write_rows(root / "alpaca_farm" / "val.jsonl", [{"instruction": "☃", "input": "", "output": "o"}])
    assert export.training_data("gendiv_alpaca_farm").dropped == {}
    assert export.training_data("gendiv_alpaca_farm", split="validation").dropped == {}


def test_an_evaluated_post_is_found_under_another_title_and_among_comparisons(root):
    asked = rows()["tldr"]["test"][3]
    write_rows(
        root / "tldr" / "train.jsonl", [{**asked, "title": "t", "post": asked["post"].upper()}, post("train", 1)]
    )
    compared = comparison(1, 0)
    compared["info"]["post"] = asked["post"] + "!"
    write_rows(root / "tldr_preferences" / "train.jsonl", [compared, comparison(2, 0)])
    for kind in ("pairs", "prompts", "preferences"):
        assert export.training_data("gendiv_tldr", kind=kind).dropped == {"with an evaluated prompt": 1}


def test_preferences_need_no_other_split_of_their_source(root):
    for split in ("sft", "unlabeled", "val"):
        (root / "alpaca_farm" / f"{split}.jsonl").unlink()
    exported = export.training_data("gendiv_alpaca_farm", kind="preferences")
    assert len(exported.rows) == 4
    assert exported.data == sources.provenance("alpaca_farm", "human_preference")


def test_the_data_of_a_task_beside_it_need_not_be_there_and_is_then_named(root):
    (root / "cnn_dailymail" / "test.jsonl").unlink()
    assert export.training_data("gendiv_tldr").not_compared == ("gendiv_cnn_dailymail",)
    assert export.training_data("gendiv_alpaca_farm").not_compared == ()
    (root / "tldr" / "test.jsonl").unlink()
    suites._load_task.cache_clear()
    with pytest.raises(UserError, match=r"tldr/test\.jsonl: no such file"):
        export.training_data("gendiv_tldr")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "gendiv_cnn_dailymail"}, "has no train split; there are: test"),
        ({"name": "gendiv_tldr_length_ood"}, "has no train split; there are: test"),
        ({"kind": "preferences", "split": "validation"}, r"tldr_preferences/validation\.jsonl: no such file"),
        (
            {"name": "gendiv_alpaca_farm", "kind": "preferences", "split": "validation"},
            "has no validation split of these",
        ),
        ({"seed": 3}, "leave out --seed"),
        ({"subset": 0.0}, "a subset of 0 is no share"),
        ({"subset": 0.5, "split": "validation"}, "a random subset is of training data"),
        ({"subset": 0.3, "subset_draw": "published"}, "the published subsets are 0.1 and 0.5, not 0.3"),
        ({"subset_draw": "published"}, "give a subset of 0.1 or 0.5 with it"),
        ({"subset": 0.01}, "a subset of 0.01 of 40 documents rounds to none"),
    ],
)
def test_a_view_that_is_not_there_is_refused_by_name(root, arguments, says):
    with pytest.raises(UserError, match=says):
        export.training_data(**{"name": "gendiv_tldr", **arguments})


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1])
def test_a_subset_without_replacement_is_that_share_of_different_documents_in_order(share):
    docs = [{"n": n} for n in range(1000)]
    drawn = [doc["n"] for doc in export.draw_subset(docs, share, "without_replacement")]
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 1000 * share
    assert drawn == [doc["n"] for doc in export.draw_subset(docs, share, "without_replacement")]


@pytest.mark.parametrize(("share", "seed", "different"), [(0.1, 10, 0.952), (0.5, 50, 0.787)])
def test_the_published_subset_is_drawn_with_replacement(share, seed, different):
    numbers = np.random.default_rng(seed).integers(0, 116_722, 116_722 // round(1 / share))
    drawn = [doc["n"] for doc in export.draw_subset([{"n": n} for n in range(116_722)], share, "published")]
    assert drawn == list(numbers)
    assert len(set(drawn)) / len(drawn) == pytest.approx(different, abs=0.005)


def test_a_subset_is_drawn_before_anything_is_dropped_or_limited(root):
    whole = {row["doc_id"] for row in export.training_data("gendiv_tldr", kind="prompts").rows}
    half = export.training_data("gendiv_tldr", kind="prompts", subset=0.5)
    assert len(half.rows) == 20
    assert {row["doc_id"] for row in half.rows} < whole
    assert export.training_data("gendiv_tldr", kind="prompts", subset=0.5, limit=3).rows == half.rows[:3]


@pytest.mark.parametrize(
    "view", [{"source": "tldr"}, {"source": "tldr", "train": "train", "dev": "x"}, {"train": "train"}]
)
def test_a_wrong_view_is_one_line(view):
    with pytest.raises(UserError, match=r"metadata\.views\.pairs: "):
        export.views({"views": {"pairs": view}})
