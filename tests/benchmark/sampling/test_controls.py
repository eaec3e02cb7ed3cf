"""Floors and the ceiling are what they say they are."""

import pytest

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling.controls import ControlSampler
from benchmark.sampling.sampler import Request
from benchmark.suites import load_suite
from tasks.pocket import world

SUITE = load_suite("pocket")
DOCS = [world.document("ood", number) for number in range(5)]
PROMPTS = {"t": [Prompt(task="t", doc_id=d["id"], text=d["prompt"], references=(d["reference"],), doc=d) for d in DOCS]}
REQUESTS = [Request(prompt, 1.0, index) for prompt in PROMPTS["t"] for index in range(12)]


def texts(name, sampling=SUITE.sampling):
    drawn = ControlSampler(name, SUITE, PROMPTS).draw(REQUESTS, sampling)
    assert [s.cell for s in drawn] == [(r.prompt.doc_id, r.temperature, r.index) for r in REQUESTS]
    return [s.text for s in drawn]


def test_random_words_are_new_at_every_cell_and_as_many_as_the_reference_has():
    found = texts("random-words")
    assert len(set(found)) == len(found)
    known = {w for d in DOCS for w in f"{d['prompt']} {d['reference']}".split()}
    for request, text in zip(REQUESTS, found, strict=True):
        assert len(text.split()) == len(request.prompt.references[0].split())
        assert set(text.split()) <= known


def test_shuffled_references_are_never_a_prompts_own():
    for request, text in zip(REQUESTS, texts("shuffled-references"), strict=True):
        assert text in {p.references[0] for p in PROMPTS["t"]} - {request.prompt.references[0]}
    assert len(set(texts("shuffled-references"))) > 1


def test_the_constant_is_constant():
    assert set(texts("constant")) == {DOCS[0]["reference"]}


def test_fresh_references_are_new_draws_for_the_same_document():
    found = texts("fresh-references")
    assert found[:12] == [world.fresh_reference(DOCS[0], index, SUITE.sampling.seed) for index in range(12)]
    assert len(set(found[:12])) > 6


@pytest.mark.parametrize("name", ["random-words", "shuffled-references", "fresh-references"])
def test_another_seed_gives_another_control(name):
    assert texts(name) == texts(name)
    assert texts(name) != texts(name, SUITE.sampling.model_copy(update={"seed": 9}))


BARE = Prompt(task="t", doc_id="bare", text="no reference here", references=(), doc={})


@pytest.mark.parametrize("name", ["random-words", "shuffled-references", "constant"])
def test_a_suite_without_any_reference_has_no_such_control(name):
    with pytest.raises(UserError, match="no prompt has a reference here") as caught:
        ControlSampler(name, SUITE, {"t": [BARE], "bare": [BARE.model_copy(update={"task": "bare"})]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["random-words", "shuffled-references", "constant"])
def test_a_task_without_references_borrows_those_of_the_other_tasks_and_changes_none_of_them(name):
    bare = BARE.model_copy(update={"task": "bare"})
    another = BARE.model_copy(update={"task": "another", "references": ("of another task altogether",)})
    sampler = ControlSampler(name, SUITE, {"bare": [bare], "another": [another]} | PROMPTS)
    [sample] = sampler.draw([Request(bare, 1.0, 0)], SUITE.sampling)
    references = {prompt.references[0] for prompt in (another, *PROMPTS["t"])}
    if name == "random-words":
        assert set(sample.text.split()) <= set(bare.text.split())
        assert len(sample.text.split()) in {len(text.split()) for text in references}
    else:
        assert sample.text in references
    assert [s.text for s in sampler.draw(REQUESTS, SUITE.sampling)] == texts(name)


@pytest.mark.parametrize("name", ["random-words", "shuffled-references", "constant"])
def test_a_prompt_without_a_reference_among_others_gets_a_control_all_the_same(name):
    prompts = {"t": [BARE, *PROMPTS["t"]]}
    [sample] = ControlSampler(name, SUITE, prompts).draw([Request(BARE, 1.0, 0)], SUITE.sampling)
    references = {prompt.references[0] for prompt in PROMPTS["t"]}
    if name == "random-words":
        assert len(sample.text.split()) in {len(text.split()) for text in references}
    else:
        assert sample.text in references


def test_a_single_reference_cannot_be_shuffled():
    one = {"t": PROMPTS["t"][:1]}
    with pytest.raises(UserError, match="task t has one reference alone"):
        ControlSampler("shuffled-references", SUITE, one).draw(REQUESTS[:1], SUITE.sampling)


def test_prompts_come_back_as_they_are_asked_and_are_never_shortened():
    sampler = ControlSampler("constant", SUITE, PROMPTS)
    prompt = PROMPTS["t"][0].model_copy(update={"chat": "else", "shortens": "x"})
    tight = SUITE.sampling.model_copy(update={"max_prompt_tokens": 1})
    assert sampler.prepare([prompt], tight) == [PROMPTS["t"][0]]
    assert sampler.shortened == {"t": 0}
