"""Flags: each fires on what it is for, and on nothing that an honest run is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.flags import (
    MOST_NEARLY_CONSTANT,
    above_references,
    cut_off,
    judge_is_reward,
    nearly_constant_share,
    references_apart,
)
from benchmark.judging.config import OracleConfig, RewardModelConfig
from benchmark.quantities import TaskGrid
from benchmark.records import Estimate, Flag, Identity, Manifest, ModelCard, ModelIdentity, Sample, TaskIdentity
from benchmark.suites import Gate

WORDS = [f"word{number}" for number in range(40)]
HASH = "ab" * 32


def slots(make, prompts=30, k=3):
    return [[make(prompt, slot) for prompt in range(prompts)] for slot in range(k)]


def slowly(found):
    """The definition, with sets."""
    flags = []
    for slot in found:
        pairs = [list(zip(text.split(), text.split()[1:], strict=False)) for text in slot]
        for mine in pairs:
            common = sum(sum(pair in other for other in map(set, pairs)) >= max(3, len(slot) / 2) for pair in mine)
            flags.append(bool(mine) and common >= len(mine) / 2)
    return float(np.mean(flags)) if flags else 0.0


def test_a_template_filled_with_words_of_the_prompt_is_nearly_constant():
    found = slots(lambda n, _: f"thank you for asking about {WORDS[n % 40]} today my friend")
    assert nearly_constant_share(found) == 1.0
    assert nearly_constant_share(slots(lambda *_: "the same two words")) == 1.0


def test_half_of_the_pairs_of_words_is_enough():
    assert nearly_constant_share(slots(lambda n, _: f"the answer {n} words{n}x", prompts=9)) == 0.0
    assert nearly_constant_share(slots(lambda n, _: f"the answer {n}", prompts=9)) == 1.0


def test_outputs_that_begin_alike_and_go_on_by_themselves_are_not():
    rng = random.Random(0)
    found = slots(lambda *_: "the answer is " + " ".join(rng.choices(WORDS, k=8)))
    assert nearly_constant_share(found) < 0.1 < MOST_NEARLY_CONSTANT
    assert nearly_constant_share(slots(lambda *_: "")) == nearly_constant_share([]) == 0.0
    assert nearly_constant_share([["the same two words"] * 2]) == 0.0  # two alike are no habit


@given(st.lists(st.lists(st.text("ab ", max_size=8), min_size=4, max_size=4), min_size=1, max_size=3))
def test_the_share_is_that_of_its_definition(found):
    assert nearly_constant_share(found) == pytest.approx(slowly(found))


def diversity(value, low):
    return Estimate(
        metric="sbert_per_input", task="t", role="id", temperature=1.0, value=value, low=low, high=1.0, method="t",
        n=9, intervals={"t": (low, 1.0)},
    )  # fmt: skip


@pytest.mark.parametrize(("ended", "flagged"), [(1, True), (2, False)])
def test_who_ends_one_output_in_ten_at_the_headline_temperature_is_not_flagged_for_being_cut_off(ended, flagged):
    samples = [
        Sample(
            task="t",
            doc_id=str(number),
            temperature=temperature,
            index=index,
            text="w",
            finish_reason="stop" if temperature == 1.0 and index == 0 and number < ended else "length",
            n_tokens=1,
        )
        for number in range(10)
        for temperature in (0.7, 1.0)
        for index in range(2)
    ]
    found = cut_off(TaskGrid(samples, []), Gate(name="attempt", cut_off_is_valid=True), "Title")
    assert found == (Flag(code="cut_off", text="Title: 95% of the outputs are cut off") if flagged else None)
    assert cut_off(TaskGrid(samples, []), Gate(name="attempt"), "Title") is None, "it is no answer there at all"


def test_only_what_is_surely_more_diverse_than_references_of_different_prompts_is_flagged():
    references = np.eye(4, dtype=np.float32)
    references[1] = references[0]  # five of six pairs have nothing in common
    apart = references_apart(references)
    flag = above_references(diversity(0.9, 0.85), apart, "posts")
    assert flag is not None
    assert (flag.code, "(0.90)" in flag.text, "(0.83)" in flag.text) == ("above_references", True, True)
    assert above_references(diversity(0.9, 0.83), apart, "posts") is None
    assert references_apart(references[:1]) is None
    assert above_references(diversity(0.9, 0.85), None, "posts") is None


def manifest(card=None, **arguments):
    task = TaskIdentity(task="t", role="id", version="1", n_prompts=1, prompts_sha256=HASH)
    return Manifest(
        name="m",
        kind="model",
        identity=Identity(suite="s@v1", tasks=(task,), sampling=None, judge=None, judge_sha256=None, encoder="e"),
        model=ModelIdentity(
            id="m", revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=None,
            arguments=arguments,
        ),
        card=ModelCard(reward_model=card),
    )  # fmt: skip


def reward_model(**fields):
    given = {"judge": "rm", "description": "", "version": 1, "samples": "all", "kind": "reward-model"}
    return RewardModelConfig.model_validate(
        given | {"model": "org/rm", "input": "text", "preference": "winner"} | fields
    )


BY_HASH = reward_model(model="folder", weights_sha256=HASH)
BY_ID = reward_model(revision="c0ffee")


@pytest.mark.parametrize(
    ("found", "judge"),
    [
        (manifest(HASH), BY_HASH),
        (manifest(f"sha256:{HASH.upper()}"), BY_HASH),
        (manifest("Org/RM"), BY_ID),
        (manifest("org/rm@c0ffee"), BY_ID),
        (manifest(best_of=4, reward_model="rm", reward_model_sha256=HASH), BY_HASH),
        (manifest(reward_model="org/rm", reward_model_revision="c0ffee", reward_model_sha256=None), BY_ID),
    ],
)
def test_a_judge_that_is_the_reward_model_is_flagged(found, judge):
    flag = judge_is_reward(found, [judge])
    assert flag is not None
    assert flag.code == "judge_is_reward"


@pytest.mark.parametrize(
    ("found", "judge"),
    [
        (manifest(), BY_HASH),
        (manifest(), BY_ID),
        (manifest("folder"), BY_HASH),  # two folders may have one name
        (manifest("org/rm@another"), BY_ID),
        (manifest("cd" * 32), BY_HASH),
        (manifest(reward_model="org/rm", reward_model_revision=None, reward_model_sha256=None), BY_HASH),
        (manifest("f"), OracleConfig(judge="o", description="", version=1, samples="all", kind="oracle", function="f")),
    ],
)
def test_any_other_judge_is_not(found, judge):
    assert judge_is_reward(found, [judge]) is None
