import numpy as np
import pytest

from benchmark.metrics import distinct_n, ngrams


def test_the_mean_is_over_orders_that_exist() -> None:
    assert distinct_n.distinct_from_counts([2, 1, 0], [4, 1, 0]) == pytest.approx((0.5 + 1) / 2)
    assert distinct_n.distinct_from_counts([2, 1, 0], [4, 1, 0], short="zero") == pytest.approx((0.5 + 1) / 3)


def test_a_set_without_words_is_missing() -> None:
    assert np.isnan(distinct_n.per_input(ngrams.count_sets([["", "?"], []]))).all()


def test_values_of_many_sets_are_those_of_each() -> None:
    sets = [["a b", "a c"], ["x"], ["p q r s t u", "p q r s t u"]]
    together = distinct_n.per_input(ngrams.count_sets(sets))
    assert together.tolist() == [float(distinct_n.per_input(ngrams.count_sets([texts]))[0]) for texts in sets]
    assert together == pytest.approx([(3 / 4 + 1) / 2, 1.0, 0.5])
