"""What the report of the KL penalty says in words."""

import pytest

from benchmark.statistics.intervals import Interval
from reference_models.studies.equal_kl import GRID, Gap, WithinSeeds
from reference_models.studies.kl_report import METHOD, answers, is_falling, profile

UP, ROUND = Interval(0.1, 0.3), Interval(-0.1, 0.3)
METRICS = ("sbert_per_input", "ead_per_input")


def line(reach=(1.0, 2.0), interval=ROUND, per_seed=(0.1, 0.1)):
    there = Gap(0.2, UP, reach, [0.2, 0.2], [])
    equal = WithinSeeds(0.1, interval, list(per_seed), [])
    gaps = [("ood", "k2", metric, there) for metric in ("win_rate", *METRICS)]
    (found,) = answers(gaps, [("ood", "k2", metric, equal) for metric in METRICS])
    return found


def test_an_answer_says_both_what_is_at_equal_kl_and_what_at_equal_win_rate():
    first, _, second = line().partition("; ")
    assert first.startswith("out of distribution, at equal KL (1.00 to 2.00 nats an output) k2 is above k1 in win rate")
    assert second.startswith("at equal win rate (2 of 2 seeds) it is not told apart from k1 in diversity")


@pytest.mark.parametrize(("high", "told"), [(1.12, "a range of only 12 %"), (1.21, None)])
def test_a_narrow_range_of_kl_is_told(high, told):
    text = line(reach=(1.0, high))
    assert told in text if told else "only" not in text


def test_seeds_that_were_chosen_by_their_outcome_bear_no_verdict():
    text = line(interval=UP, per_seed=(0.1, 0.1, None))
    assert "at equal win rate (2 of 3 seeds) it is not compared with k1" in text
    assert "+0.100 [+0.100, +0.300]" in text
    assert "it is above" in line(interval=UP)


def test_where_no_win_rate_is_shared_that_is_the_answer():
    assert line(per_seed=(None, None)).endswith("; no seed has a win rate that k2 and k1 share")


def test_a_penalty_that_works_lowers_what_it_penalises_at_every_step():
    assert is_falling([3.0, 2.0, 1.0])
    assert not is_falling([3.0, 1.0, 2.0])
    assert not is_falling([3.0, 3.0, 2.0])


def test_the_average_over_kl_is_shown_with_what_it_is_of():
    at = [(1.0, -0.3), (2.0, 0.0), (4.0, 0.15)]
    there = Gap(-0.05, ROUND, (1.0, 4.0), [-0.05], at)
    gaps = [("ood", "k2", metric, there) for metric in ("win_rate", *METRICS)]
    header, rows = profile([*gaps, ("ood", "k3", "win_rate", None)])
    assert header == ["role", "minus k1", "compared", "0%", "50%", "100%"]
    assert rows == [["ood", "k2", name, "-0.300 (1.00)", "+0.000 (2.00)", "+0.150 (4.00)"] for name in ("win", "SBERT")]
    assert profile([("ood", "k3", "win_rate", None)])[1] == []
    assert f"averaged over {GRID} points" in " ".join(METHOD)
