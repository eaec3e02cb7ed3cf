"""Agreement coefficients against slow definitions and textbook values; the order of presentation by hand."""

import collections
import gzip
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.statistics.agreement import (
    by_cluster,
    cohen_kappa,
    consistency,
    gwet_ac1,
    observed_agreement,
    position_bias,
)
from benchmark.statistics.intervals import t_interval

LABELS = ["first", "tie", "second"]
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), max_size=30)
PREFERENCE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
ORDERS = st.lists(st.tuples(PREFERENCE, PREFERENCE), min_size=1, max_size=20)


def items(*cells):
    """Two raters from the cells of their table: (label, label, how often)."""
    rows = [(a, b) for a, b, count in cells for _ in range(count)]
    return [a for a, _ in rows], [b for _, b in rows]


def slow_kappa(first, second):
    n = len(first)
    by_chance = [Fraction(a == b) for a, b in itertools.product(first, second)]
    agree = Fraction(sum(a == b for a, b in zip(first, second, strict=True)), n)
    chance = sum(by_chance) / n**2
    return None if chance == 1 else float((agree - chance) / (1 - chance))


def slow_ac1(first, second, labels):
    n, q = len(first), len(labels)
    agree = Fraction(sum(a == b for a, b in zip(first, second, strict=True)), n)
    chance = Fraction(0)
    for label in labels:
        share = (Fraction(first.count(label), n) + Fraction(second.count(label), n)) / 2
        chance += share * (1 - share)
    chance /= q - 1
    return float((agree - chance) / (1 - chance))


@given(PAIRS)
def test_both_coefficients_are_their_definitions_in_fractions(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    if not pairs:
        assert cohen_kappa(first, second) is gwet_ac1(first, second, categories=3) is None
        assert observed_agreement(first, second) is None
        return
    expected = slow_kappa(first, second)
    assert cohen_kappa(first, second) == (expected if expected is None else pytest.approx(expected, abs=1e-12))
    assert gwet_ac1(first, second, categories=3) == pytest.approx(slow_ac1(first, second, LABELS), abs=1e-12)


def test_textbook_tables():
    # 20 grants read twice: kappa .4 of the usual worked example.
    assert cohen_kappa(*items(("y", "y", 20), ("y", "n", 5), ("n", "y", 10), ("n", "n", 15))) == pytest.approx(0.4)
    # The paradox of high agreement (Gwet 2008): 118, 5, 2, 0 of 125.
    paradox = items(("+", "+", 118), ("+", "-", 5), ("-", "+", 2))
    assert cohen_kappa(*paradox) == pytest.approx(-0.0234, abs=5e-5)
    assert gwet_ac1(*paradox, categories=2) == pytest.approx(0.9408, abs=5e-5)


@given(PAIRS.filter(bool))
def test_who_comes_first_changes_nothing_and_perfect_agreement_is_one(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    assert cohen_kappa(first, second) == cohen_kappa(second, first)
    assert gwet_ac1(first, second, categories=3) == gwet_ac1(second, first, categories=3)
    assert gwet_ac1(first, first, categories=3) == pytest.approx(1.0)
    assert cohen_kappa(first, first) == (pytest.approx(1.0) if len(set(first)) > 1 else None)


def test_the_number_of_categories_is_part_of_chance_and_holds_all_that_are_used():
    first, second = items(("a", "a", 3), ("a", "b", 1))
    assert gwet_ac1(first, second, categories=3) > gwet_ac1(first, second, categories=2)
    for number in (0, 1):
        with pytest.raises(ValueError, match="two categories at least"):
            gwet_ac1(first, second, categories=number)
    with pytest.raises(ValueError, match="two categories at least"):
        gwet_ac1(["a", "b", "c"], ["a", "b", "c"], categories=2)
    with pytest.raises(ValueError, match="both must label the same items; got 1 and 2"):
        cohen_kappa(["a"], ["a", "b"])


def test_position_bias_by_hand():
    assert position_bias([[1, 0], [1, 0], [1, 0]]) == (0.5, (0.5, 0.5), 3)  # always the first text
    assert position_bias([[0, 1]] * 3).estimate == -0.5  # always the second
    assert position_bias([[1, 1], [0, 0], [1, 1]]).estimate == 0.0  # always the same text
    found = position_bias([[0.9, 0.5], [0.4, 0.4], [1.0, 0.0]])
    assert found.estimate == pytest.approx((0.2 + 0.0 + 0.5) / 3)
    assert found.interval == pytest.approx((max(-0.5, t_interval([0.2, 0.0, 0.5]).low), 0.5))
    turned = position_bias([[0.5, 0.9], [0.4, 0.4], [0.0, 1.0]])
    assert turned.interval == pytest.approx((-0.5, -found.interval.low))
    assert position_bias([[1, 0]]) == (0.5, None, 1)
    assert position_bias([]) is position_bias(np.empty((0, 2))) is None


@given(ORDERS)
def test_bias_is_the_mean_preference_for_the_text_shown_first(orders):
    shown_first = [p for a, b in orders for p in (a, 1 - b)]  # the sample's in one order, the reference's in the other
    assert position_bias(orders).estimate == pytest.approx(math.fsum(shown_first) / len(shown_first) - 0.5)
    swapped = [(1 - b, 1 - a) for a, b in orders]  # sample and reference exchanged: the same showings
    assert position_bias(swapped).estimate == pytest.approx(position_bias(orders).estimate)
    assert consistency(swapped) == pytest.approx(consistency(orders))


@given(ORDERS)
def test_consistency_is_one_word_twice_and_a_tie_in_one_order_half_of_it(orders):
    def winner(p):
        return "tie" if p == 0.5 else "sample" if p > 0.5 else "reference"

    words = [(winner(a), winner(b)) for a, b in orders]
    counted = [1.0 if a == b else 0.5 if "tie" in (a, b) else 0.0 for a, b in words]
    assert consistency(orders) == pytest.approx(sum(counted) / len(counted))
    assert consistency([]) is None


@pytest.mark.parametrize("wrong", [[[0.5, float("nan")]], [[1.5, 0.0]], [[0.1, 0.2, 0.3]], [0.5, 0.5]])
def test_orders_that_are_not_both_preferences_are_refused(wrong):
    for function in (position_bias, consistency):
        with pytest.raises(ValueError, match="orders must be"):
            function(wrong)


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=20))
def test_cluster_values_have_the_mean_over_rows_and_the_variance_of_the_ratio_estimator(rows):
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    found = by_cluster(values, clusters)
    assert len(found) == len(set(clusters))
    mean = math.fsum(values) / len(values)
    assert found.mean() == pytest.approx(mean, abs=1e-12)
    sums = {c: math.fsum(v - mean for v, d in rows if c == d) for c in clusters}
    count = len(sums)
    if count > 1:
        variance = math.fsum(s**2 for s in sums.values()) * count / (count - 1) / len(rows) ** 2
        assert found.var(ddof=1) / count == pytest.approx(variance, abs=1e-12)
    assert by_cluster(values, range(len(values))).tolist() == values


def test_pairs_of_one_prompt_do_not_count_as_independent():
    orders = [[1, 0]] * 8 + [[0.5, 0.5]] * 8 + [[0.75, 0.25]] * 8
    alone, together = position_bias(orders), position_bias(orders, clusters=[0] * 8 + [1] * 8 + [2] * 8)
    assert alone.estimate == together.estimate
    assert together.interval.low < alone.interval.low
    with pytest.raises(ValueError, match="one cluster id a value"):
        position_bias(orders, clusters=[0])


def test_llmbars_published_agreement_is_reproduced_from_its_decisions(shared_data):
    folder = shared_data / "llmbar"
    groups = collections.defaultdict(list)
    for row in map(json.loads, gzip.decompress((folder / "evaluator_results.jsonl.gz").read_bytes()).splitlines()):
        groups[row["dataset"], row["evaluator"], row["prompt"]].append(row)
    published = [json.loads(line) for line in (folder / "evaluator_statistics.jsonl").read_text().splitlines()]
    assert len(published) == len(groups) == 96
    for expected in published:
        rows = groups[expected["dataset"], expected["evaluator"], expected["prompt"]]
        labels, shown = [str(row["label"]) for row in rows], {}
        for swap in ("False", "True"):
            shown[swap] = [row[f"swap = {swap}.winner"] for row in rows]
            correct = observed_agreement(shown[swap], labels)
            assert f"{round(correct * len(rows))} / {len(rows)} =" in expected[f"correct_{swap}"]
            # As published: the label is coded 1 / 2 and the verdict 1 / 0.
            coded = [int(winner == "1") for winner in shown[swap]]
            assert cohen_kappa(coded, [int(label) for label in labels]) == pytest.approx(expected[f"kappa_{swap}"])
        unread = sum(a is b is None for a, b in zip(*shown.values(), strict=True))
        orders = [
            (float(a == "1"), float(b == "1")) for a, b in zip(*shown.values(), strict=True) if None not in (a, b)
        ]
        equal = round(consistency(orders) * len(orders)) + unread
        assert f"{equal} / {len(rows)} =" in expected["equal"]
        # As published: an unread verdict is no "1".
        ones = [[winner == "1" for winner in shown[swap]] for swap in shown]
        assert cohen_kappa(*ones) == pytest.approx(expected["kappa_agreement"])
        # Shown first is output 1, then output 2.
        firsts = [p for a, b in orders for p in (a, 1 - b)]
        assert position_bias(orders).estimate == pytest.approx(sum(firsts) / len(firsts) - 0.5)
