"""Suites: their tasks load through lm-eval, and their prompts are those they were frozen with."""

import pytest
from pydantic import ValidationError

from benchmark import suites
from benchmark.errors import UserError
from benchmark.suites import Suite, load_prompts, load_suite, load_suites, task_identities
from tasks.pocket import world


def test_every_suite_has_a_name_a_version_and_tasks_of_its_own_roles():
    for name, suite in load_suites().items():
        assert name == suite.id == f"{suite.suite}@v{suite.version}"
        assert suite.plane.role in {entry.role for entry in suite.tasks}


def test_a_name_alone_is_the_newest_version():
    assert load_suite("alpaca-eval").id == "alpaca-eval@v2"
    assert load_suite("alpaca-eval@v1").version == 1


@pytest.mark.parametrize("name", ["nope", "pocket@v9", ""])
def test_an_unknown_suite_lists_the_known_ones(name):
    with pytest.raises(UserError, match=r"there are: .*pocket@v1"):
        load_suite(name)


def test_an_imported_suite_cannot_be_sampled():
    with pytest.raises(UserError, match="gendiv import"):
        load_prompts(load_suite("alpaca-eval@v2"))


def test_the_pocket_prompts_come_through_lm_eval_unchanged():
    suite = load_suite("pocket")
    prompts = load_prompts(suite)
    for entry in suite.tasks:
        docs = [world.document(entry.role, number) for number in range(150)]
        assert [p.text for p in prompts[entry.task]] == [doc["prompt"] for doc in docs]
        assert [p.references for p in prompts[entry.task]] == [(doc["reference"],) for doc in docs]
        assert [p.doc for p in prompts[entry.task]] == docs
        assert len({p.doc_id for p in prompts[entry.task]}) == 150
    assert [t.n_prompts for t in task_identities(suite, prompts)] == [150, 150, 150]


def test_prompts_that_are_not_the_frozen_ones_are_refused(monkeypatch):
    monkeypatch.setattr(suites, "prompts_sha256", lambda prompts: "0" * 64)
    with pytest.raises(UserError, match="needs a new version"):
        load_prompts(load_suite("pocket"))


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": [{"task": "a", "role": "id", "title": "a"}, {"task": "b", "role": "id", "title": "b"}]},
        {"tasks": [{"task": "a", "role": "id", "title": "a"}]},  # the plane's role is ood
        {"sampling": None},
        {"unknown": 1},
        {"version": 0},
    ],
)
def test_a_senseless_suite_is_refused(change):
    with pytest.raises(ValidationError):
        Suite.model_validate(load_suite("pocket").model_dump() | change, strict=False)
