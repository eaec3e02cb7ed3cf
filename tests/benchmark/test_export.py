"""Exported training data: what the trainers read, and never an evaluated prompt."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmark import cli, export, suites
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
        (("nope",), "no task 'nope'; there are: gendiv_pocket_id, "),
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
    with pytest.raises(UserError, match="document 0 has no reference"):
        export.training_data("mine")
    del config["generation_kwargs"]
    choices = {"output_type": "multiple_choice", "doc_to_choice": ["x", "y"], "doc_to_target": 0}
    path.write_text(yaml.safe_dump(config | choices | {"metric_list": [{"metric": "acc"}]}))
    with pytest.raises(UserError, match="asks for multiple_choice"):
        export.training_data("mine")


texts = st.text(st.characters(exclude_categories=["Cs"]))
rows = st.lists(st.fixed_dictionaries({"doc_id": texts, "prompt": st.sampled_from(["a", "b", "c"]), "chosen": texts}))


@given(rows)
def test_grouping_moves_rows_to_their_prompts_first_and_loses_none(rows):
    grouped = export._together(rows)
    prompts = [row["prompt"] for row in grouped]
    changes = sum(a != b for a, b in itertools.pairwise(prompts))
    assert changes == max(0, len(set(prompts)) - 1)
    assert list(dict.fromkeys(prompts)) == list(dict.fromkeys(row["prompt"] for row in rows))
    for prompt in set(prompts):
        assert [r for r in grouped if r["prompt"] == prompt] == [r for r in rows if r["prompt"] == prompt]


@given(rows=rows)
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
