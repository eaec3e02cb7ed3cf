"""What is kept of log-probabilities, and whose are those of the draw."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmark.records import Sample, Sampling
from benchmark.runs import Appender, read_jsonl
from benchmark.sampling.log_probs import DECIMALS, in_doubt, is_plain, rounded, total

CELL = {"task": "t", "doc_id": "d", "temperature": 1.0, "index": 0, "text": "x", "finish_reason": "stop", "n_tokens": 2}
SAMPLING = Sampling(k=1, temperatures=(1.0,), top_p=1.0, top_k=0, max_new_tokens=4, stop=(), seed=0)


@pytest.mark.parametrize("log_prob", [0.1, 5e-324, float("nan"), float("inf"), -float("inf"), "-1"])
def test_a_record_takes_no_log_probability_above_0_and_none_that_is_no_number(log_prob):
    with pytest.raises(ValidationError):
        Sample(**CELL, log_prob=log_prob)


@pytest.mark.parametrize("log_prob", [0.0, -1.5, None])
def test_a_log_probability_survives_its_file_and_is_written_where_it_is_not_known(tmp_path, log_prob):
    sample = Sample(**CELL, log_prob=log_prob)
    log = Appender(tmp_path / "s.jsonl")
    log.append([sample])
    log.close()
    [line] = (tmp_path / "s.jsonl").read_text().splitlines()
    assert json.loads(line) == CELL | {"log_prob": log_prob}
    assert json.loads(sample.model_dump_json()) == CELL | {"log_prob": log_prob}
    assert read_jsonl(tmp_path / "s.jsonl", Sample, mend="") == [sample]


def test_a_file_of_before_the_field_reads_as_not_known(tmp_path):
    (tmp_path / "s.jsonl").write_text(json.dumps(CELL) + "\n")
    assert read_jsonl(tmp_path / "s.jsonl", Sample, mend="") == [Sample(**CELL, log_prob=None)]


def test_the_plain_softmax_is_drawn_from_at_temperature_1_without_truncation_alone():
    assert is_plain(1.0, SAMPLING)
    for temperature in (0.0, 0.7, 0.999, 1.3):
        assert not is_plain(temperature, SAMPLING)
    for change in ({"top_p": 0.99}, {"top_k": 1}):
        assert not is_plain(1.0, SAMPLING.model_copy(update=change))


@given(st.floats(-1e4, 0), st.floats(-4e-10, 4e-10))
def test_what_differs_in_the_last_bits_rounds_to_the_same_or_is_in_doubt(log_prob, noise):
    other = min(log_prob + noise, 0.0)
    assert rounded(log_prob) == rounded(other) or (in_doubt(log_prob) and in_doubt(other))
    assert abs(rounded(log_prob) - log_prob) <= 0.5 * 10**-DECIMALS + 1e-11


@pytest.mark.parametrize(("log_prob", "doubtful"), [(-1.00005, True), (-0.12345, True), (-1.0001, False), (0.0, False)])
def test_what_lies_between_two_roundings_is_in_doubt(log_prob, doubtful):
    assert in_doubt(log_prob) == in_doubt(log_prob - 1e-10) == doubtful
    assert not in_doubt(log_prob - 1e-8)


def test_nothing_is_rounded_to_nothing_and_0_has_no_sign():
    assert rounded(None) is None
    assert not in_doubt(None)
    assert math.copysign(1.0, rounded(-1e-9)) == 1.0


@pytest.mark.parametrize(
    ("values", "n_tokens", "expected"),
    [
        ([-0.1] * 10, 10, -1.0),
        ([], 0, 0.0),
        ([0, -1], 2, -1.0),
        ([-1.0], 2, None),
        ([-1.0], None, None),
        ([-1.0, None], 2, None),
        ([-1.0, "-1"], 2, None),
        ([-1.0, True], 2, None),
        ([-1.0, False], 2, None),
        ([-1.0, 1e-9], 2, None),
        ([-1.0, float("nan")], 2, None),
        ([-1.0, -float("inf")], 2, None),
        ([-1.0, -9999.0], 2, None),
        ([-1.0, -9998.0], 2, -9999.0),
    ],
)
def test_a_sum_is_over_all_tokens_or_it_is_none(values, n_tokens, expected):
    assert total(values, n_tokens) == expected
