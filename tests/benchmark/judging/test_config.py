"""Judges as YAML: everything that can change a verdict is in the hash, and what is wrong is named."""

import pytest
import yaml

from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig, OneSample, find_judge, load_judge_configs, read_judge, read_kept
from benchmark.records import Sample
from benchmark.runs import write_record
from benchmark.suites import load_suite, tasks_folder

MINIMAL = {
    "judge": "mine",
    "kind": "chat",
    "description": "d",
    "version": 1,
    "model": "m",
    "system": "s",
    "user": "{{ first }} {{ second }}",
    "tasks": {"gendiv_tldr": {}},
    "verdict": "logprobs",
    "temperature": 0.0,
    "max_tokens": 1,
    "samples": {"temperature": 1.0, "index": 0},
}


def written(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes))
    return path


def test_every_judge_that_comes_with_gendiv_is_named_like_its_file():
    for path in tasks_folder().glob("*/judges/*.yaml"):
        assert read_judge(path).judge == path.stem
    assert "oracle" in load_judge_configs()


@pytest.mark.parametrize("name", ["summarisation", "tldr-subreddit", "tldr-length", "tldr-sentiment", "instructions"])
def test_every_suite_on_real_data_has_judges_for_all_its_tasks(name):
    tasks = {entry.task for entry in load_suite(name).tasks}
    knowing = [c for c in load_judge_configs().values() if isinstance(c, ChatConfig) and tasks <= c.tasks.keys()]
    assert {config.verdict for config in knowing} == {"logprobs", "reply"}
    assert {config.orders for config in knowing} == {"both", "one"}, "the paper's single order is one of them"


def test_everything_that_can_change_a_verdict_is_in_the_hash_and_nothing_else(tmp_path):
    own = read_judge(written(tmp_path)).sha256
    for field, value in {
        "version": 2,
        "model": "n",
        "base_url": "http://x/v1",
        "system": "t",
        "user": "{{ second }} {{ first }}",
        "tasks": {"gendiv_tldr": {"a": "b"}},
        "labels": ["1", "2"],
        "verdict": "reply",
        "temperature": 0.5,
        "max_tokens": 2,
        "orders": "one",
        "samples": "all",
        "judge": "yours",
    }.items():
        assert read_judge(written(tmp_path, **{field: value})).sha256 != own, field
    for field, value in {"description": "e", "price": {"input": 1.0, "output": 2.0, "as_of": "now"}}.items():
        assert read_judge(written(tmp_path, **{field: value})).sha256 == own, field


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"verdict": "gut"}, "chat.verdict"),
        ({"kind": "soothsayer"}, "kind"),
        ({"labels": ["A", " a"]}, "labels are the same"),
        ({"judge": "../../x"}, "chat.judge"),
        ({"price": {"input": -1.0, "output": 1.0, "as_of": ""}}, "price.input"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, changes, says):
    with pytest.raises(UserError, match=says) as error:
        read_judge(written(tmp_path, **changes))
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "[]", "", "\x00"])
def test_what_is_no_yaml_of_fields_is_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml") as error:
        read_judge(path)
    assert "\n" not in str(error.value)


def test_a_file_takes_what_it_does_not_say_from_the_one_it_includes(tmp_path):
    written(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text("include: mine.yaml\njudge: other\norders: one\n")
    assert read_judge(other) == read_judge(tmp_path / "mine.yaml").model_copy(
        update={"judge": "other", "orders": "one"}
    )


def test_another_model_or_order_makes_another_judge_with_a_name_of_its_own(tmp_path):
    path = str(written(tmp_path, price={"input": 1.0, "output": 2.0, "as_of": "now"}))
    own = find_judge(path)
    other = find_judge(path, model="org/large-1", orders="one")
    assert (other.judge, other.model, other.orders) == ("mine.large-1.one-order", "org/large-1", "one")
    assert other.price is None, "the price is of another model"
    assert other.sha256 != own.sha256
    assert find_judge(path, orders="both") == own


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("summaries-local", {}, "names no model; give --model"),
        ("oracle", {"model": "x"}, "has no model; leave --model out"),
        ("oracle", {"orders": "one"}, "sees no order; leave --orders out"),
        ("gpt-9", {}, "there are: .*oracle"),
        ("nowhere.yaml", {}, r"nowhere\.yaml"),
    ],
)
def test_what_a_judge_does_not_have_cannot_be_changed(name, options, says):
    with pytest.raises(UserError, match=says):
        find_judge(name, **options)


def test_a_kept_copy_is_the_configuration(tmp_path):
    config = find_judge("summaries-gpt-4.1")
    write_record(tmp_path / "kept.json", config)
    kept = read_kept(tmp_path / "kept.json")
    assert kept == config
    assert kept.sha256 == config.sha256
    assert read_kept(tmp_path / "none.json") is None


def test_a_paid_judge_is_shown_one_sample_a_prompt_and_a_free_one_all():
    samples = [
        Sample(task="t", doc_id=str(n), temperature=t, index=i, text="x", finish_reason="stop", n_tokens=1)
        for n in range(3)
        for t in (0.3, 1.0)
        for i in range(2)
    ]
    paid = find_judge("summaries-gpt-4.1")
    assert paid.samples == OneSample(temperature=1.0, index=0)
    assert [s.cell for s in paid.selected(samples)] == [(str(n), 1.0, 0) for n in range(3)]
    assert find_judge("oracle").selected(samples) == samples
