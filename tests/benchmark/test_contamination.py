from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.contamination import Evaluated, evaluated_texts, words
from benchmark.records import Prompt

LETTERS = st.lists(st.sampled_from("abc"), max_size=30)


def slow_overlap(evaluated: list[list[str]], text: list[str], n: int) -> bool:
    """Compare every stretch with every stretch."""
    for other in evaluated:
        if len(other) < n:
            if other and other == text:
                return True
            continue
        for start in range(len(text) - n + 1):
            for place in range(len(other) - n + 1):
                if all(text[start + step] == other[place + step] for step in range(n)):
                    return True
    return False


@given(st.lists(LETTERS, max_size=4), LETTERS, st.integers(2, 6))
def test_an_overlap_is_found_exactly_where_comparing_everything_finds_one(
    evaluated: list[list[str]], text: list[str], n: int
) -> None:
    found = Evaluated([" ".join(other) for other in evaluated], n).overlap(" ".join(text))
    assert (found is not None) == slow_overlap(evaluated, text, n)


def test_thirteen_words_in_common_are_found_and_twelve_are_not() -> None:
    numbers = [f"w{number}" for number in range(40)]
    evaluated = Evaluated([" ".join(numbers)])
    assert evaluated.overlap("before " + " ".join(numbers[5:18]) + " after") == " ".join(numbers[5:18])
    assert evaluated.overlap("before " + " ".join(numbers[5:17]) + " after and some more words") is None


@pytest.mark.parametrize("text", ["What is  RLHF?", "what is rlhf", "“What is RLHF”"])
def test_case_space_and_punctuation_make_no_other_text(text: str) -> None:
    assert Evaluated(["What is RLHF?"]).overlap(text) is not None


def test_a_short_instruction_is_not_found_within_another() -> None:
    assert Evaluated(["What is RLHF?"]).overlap("What is RLHF good for?") is None


def test_the_template_of_a_task_is_not_compared_but_its_document_and_long_references_are() -> None:
    long = " ".join("abcdefghijklm")
    summary = Prompt(
        task="t", doc_id="0", text="POST: a\nTL;DR:", references=(long, "yes"), doc={}, shortens="a", chat="Sum: a"
    )
    instruction = Prompt(task="t", doc_id="1", text="### do it ###", references=(), doc={}, chat="do it")
    plain = Prompt(task="t", doc_id="2", text="p", references=(), doc={})
    assert list(evaluated_texts([summary, instruction, plain])) == ["a", long, "do it", "p"]


def test_an_empty_text_overlaps_with_nothing() -> None:
    assert words("…!") == []
    assert Evaluated(["", "…"]).overlap("") is None
