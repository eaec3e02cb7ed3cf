"""Comparisons as documents: the preferred answer is the chosen one, and the text is the data's own."""

import pytest
from data_root import comparison, instruction
from hypothesis import given
from hypothesis import strategies as st

from benchmark.data.documents import instruction_preference, summary_preference

texts = st.text()


@given(texts, texts, st.sampled_from([0, 1]))
def test_choice_is_the_number_of_the_chosen_summary(first, second, choice):
    row = comparison(3, choice) | {"summaries": [{"text": first}, {"text": second}]}
    document = summary_preference(row)
    assert (document["chosen"], document["rejected"]) == ((first, second), (second, first))[choice]
    assert {k: document[k] for k in ("subreddit", "title", "post")} == {
        k: row["info"][k] for k in ("subreddit", "title", "post")
    }


@pytest.mark.parametrize(("preference", "chosen"), [(1, "one"), (2, "two")])
def test_preference_is_the_number_of_the_chosen_output_from_one(preference, chosen):
    row = {**instruction("pref", 1), "output_1": "one", "output_2": "two", "preference": preference}
    document = instruction_preference(row)
    assert document["chosen"] == chosen
    assert {document["chosen"], document["rejected"]} == {"one", "two"}
    assert (document["instruction"], document["input"]) == ("do pref 1", "input 1")


@pytest.mark.parametrize("preference", [0, 3, -1])
def test_a_comparison_that_prefers_neither_is_no_document(preference):
    assert instruction_preference({"output_1": "a", "output_2": "b", "preference": preference}) is None
