from collections import Counter

import pytest

from benchmark.metrics.validity import invalid_reason


@pytest.mark.parametrize(
    ("output", "finish_reason", "expected"),
    [
        ("an answer", "stop", None),
        ("an answer", "unknown", None),
        ("an answer", "length", "cut_off"),
        ("", "stop", "empty"),
        (" \n\t\N{NO-BREAK SPACE}", "stop", "empty"),
        ("", "length", "empty"),
        ("  a question\n", "stop", "prompt_copy"),
        ("A question", "stop", None),
        ("a question and more", "stop", None),
    ],
)
def test_reasons(output: str, finish_reason: str, expected: str | None) -> None:
    assert invalid_reason("a question ", output, finish_reason) == expected  # type: ignore[arg-type]


def test_reasons_add_up() -> None:
    outputs = ["", "q", "fine", "fine"]
    assert Counter(invalid_reason("q", output, "stop") for output in outputs) == {
        "empty": 1,
        "prompt_copy": 1,
        None: 2,
    }


def test_a_gate_may_let_cut_off_outputs_pass_but_no_empty_one_and_no_copy() -> None:
    def reason(output: str) -> str | None:
        return invalid_reason("q", output, "length", cut_off_is_valid=True)

    assert (reason("an answer"), reason(" "), reason("q")) == (None, "empty", "prompt_copy")
