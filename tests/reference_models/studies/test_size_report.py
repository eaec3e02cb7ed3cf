"""What the report of model size says where a training has no value of a quantity."""

import numpy as np

from benchmark.statistics.two_way import two_way_t
from reference_models.studies.size_report import Found, _numbers, _rows, answers

KNOWN = two_way_t(np.array([[0.1, 0.3], [0.2, 0.5]]))


def found(quantity, change, trend):
    levels = {
        "small": {"sft": KNOWN, "ppo": change, "change": change},
        "large": dict.fromkeys(("sft", "ppo", "change"), KNOWN),
    }
    return Found("ood", quantity, levels, trend)


def test_a_size_without_a_value_is_not_compared_and_the_others_are():
    (line,) = answers([found("ead_per_input", None, None)])
    assert "PPO is not compared with SFT at small, not told" in line
    assert "not told apart from SFT at large (+0.275 [" in line
    assert line.endswith("; the change at large is not compared with that at small")
    (row, other) = _rows([found("ead_per_input", None, None)], "change")[1]
    assert row == ["small", "–"]
    assert other[1].startswith("+0.275 [")
    assert _rows([found("ead_per_input", None, None)], "ppo")[1][0] == ["small", "–"]
    numbers = _numbers(found("ead_per_input", None, None))
    assert numbers["sizes"]["small"]["change"] is None
    assert numbers["largest_minus_smallest"] is None


def test_of_the_kl_no_change_with_size_is_told():
    assert answers([found("kl", KNOWN, None)]) == []
