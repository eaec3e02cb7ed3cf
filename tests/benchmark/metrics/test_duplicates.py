import math

import pytest

from benchmark.metrics.duplicates import duplicate_share


@pytest.mark.parametrize(
    ("texts", "expected"), [(["a", "b"], 0), (["a", "a"], 0.5), (["a"] * 10, 0.9), (["a", "A"], 0), (["a"], 0)]
)
def test_share_of_texts_that_repeat_another(texts: list[str], expected: float) -> None:
    assert duplicate_share(texts) == pytest.approx(expected)


def test_no_texts_are_missing() -> None:
    assert math.isnan(duplicate_share([]))
