"""Kept scores are compared number by number, each with the room that it may have."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.submission.recomputed import first_difference
from benchmark.submission.validate import ENCODER_TOLERANCE, TOLERANCE


def differ(one, other):
    return first_difference(json.dumps(one).encode(), json.dumps(other).encode())


@pytest.mark.parametrize(("metric", "room"), [("win_rate", TOLERANCE), ("sbert_per_input", ENCODER_TOLERANCE)])
@pytest.mark.parametrize("value", [0.25, -40.0])
def test_a_number_has_the_room_of_its_metric(metric, room, value):
    for share, same in ((0.9, True), (1.1, False)):
        other = value + share * room * max(1.0, abs(value))
        for sign in (other, 2 * value - other):
            estimates = [{"estimates": [{"metric": metric, "value": v}]} for v in (sign, value)]
            values = [{"per_prompt": {"t": {metric: [1.0, v]}}} for v in (sign, value)]
            for pair in (estimates, values):
                assert (differ(*pair) is None) == same
    assert "estimates[0].value is" in str(differ(*({"estimates": [{"metric": metric, "value": v}]} for v in (1, 2))))


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"b": 1}), ([1], [1, 2]), (True, 1), ("1", 1), (None, 0), ({"a": "x"}, {"a": "y"}), ({}, [])],
)
def test_all_else_is_the_same_or_differs(one, other):
    assert differ({"f": one}, {"f": other})
    assert differ({"f": other}, {"f": one})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_is_the_same_does_not_differ_however_it_is_written(value):
    assert first_difference(json.dumps(value, indent=1).encode(), json.dumps(value).encode()) is None
