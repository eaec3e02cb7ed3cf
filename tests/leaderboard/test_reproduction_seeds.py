"""Several seeds are a mean, with an interval where values are kept prompt by prompt, and otherwise with none."""

import numpy as np
import pytest
from synthetic_scores import SUITES, swept

from benchmark.records import Scores
from benchmark.statistics.two_way import two_way_t
from leaderboard.board import boards
from leaderboard.families import families
from leaderboard.reproduction_seeds import by_prompt, over_seeds
from leaderboard.row import Row

WINS = ("win_rate", "ood", 1.0)
EAD = ("ead_per_input", "ood", 1.0)


def seed(number: int, **changes: object) -> Scores:
    run = swept(f"x/ppo-{number}", n=20)
    card = run.card.model_copy(update={"family": "ppo", "training_seed": number})
    return run.model_copy(update={"card": card, **changes})


def rows_of(*runs: Scores) -> list[Row]:
    (board,) = boards(runs, SUITES)
    return sorted(board.rows, key=lambda row: row.name)


def kept(row: Row, metric: str) -> list[float | None]:
    return list(row.scores.per_prompt["toy_ood"]["1.0"][metric])


def test_the_interval_over_seeds_and_prompts_is_that_of_the_boards_families() -> None:
    (board,) = boards([seed(number) for number in (1, 2, 3)], SUITES)
    (family,) = families(board)
    found = over_seeds("x/ppo", family.rows, WINS)
    assert found is not None
    assert family.x.interval is not None
    assert (found.over, found.n, found.seeds) == ("seeds and prompts", 20, 3)
    assert (found.value, found.low, found.high) == pytest.approx(
        (family.x.value, family.x.interval.low, family.x.interval.high)
    )


def test_an_interval_of_a_win_rate_stays_within_0_and_1_and_of_another_metric_need_not() -> None:
    rows = rows_of(*(seed(number) for number in (1, 2, 3)))
    table = by_prompt([(row, EAD) for row in rows])
    assert table is not None
    both = two_way_t(table)
    assert both.interval is not None
    found = over_seeds("x/ppo", rows, EAD)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((both.interval.low, both.interval.high), abs=1e-6)
    wide = [swept(f"x/wide-{number}", diversity=0.6, n=5) for number in (1, 2, 3)]
    above = over_seeds("x/wide", rows_of(*wide), ("sbert_across_input", "ood", 1.0))
    assert above is not None
    assert above.high > 1.0
    low = [swept(f"x/low-{number}", quality=0.13, n=5) for number in (1, 2, 3)]
    wins = over_seeds("x/low", rows_of(*low), WINS)
    assert wins is not None
    assert wins.low == 0.0


def test_two_seeds_and_seeds_without_values_a_prompt_have_a_lowest_and_a_highest() -> None:
    rows = rows_of(*(seed(number) for number in (1, 2, 3)))
    values = [row.estimates[EAD].value for row in rows]
    pair = over_seeds("x/ppo", rows[:2], EAD)
    assert pair is not None
    assert (pair.over, pair.low, pair.high) == ("lowest to highest", min(values[:2]), max(values[:2]))
    bare = rows_of(*(seed(number, per_prompt={}) for number in (1, 2, 3)))
    three = over_seeds("x/ppo", bare, EAD)
    assert three is not None
    assert (three.over, three.low, three.high, three.seeds) == ("lowest to highest", min(values), max(values), 3)
    assert three.value == pytest.approx(np.mean(values))


def test_a_single_row_keeps_its_own_interval_and_none_has_no_value() -> None:
    (row,) = rows_of(seed(1))
    found, estimate = over_seeds("x/ppo", [row], EAD), row.estimates[EAD]
    assert found is not None
    assert (found.value, found.low, found.high, found.over) == (estimate.value, estimate.low, estimate.high, "prompts")
    assert over_seeds("x/ppo", [row], ("nli_per_input", "ood", 1.0)) is None


def test_only_prompts_that_all_rows_have_a_value_of_are_taken_in_one_order() -> None:
    first, second = seed(1), seed(2)
    cells = {**second.per_prompt["toy_ood"]["1.0"]}
    cells["ead_per_input"] = (None, *cells["ead_per_input"][1:])[::-1]
    moved = second.model_copy(
        update={
            "per_prompt": {**second.per_prompt, "toy_ood": {"1.0": cells}},
            "doc_ids": {**second.doc_ids, "toy_ood": second.doc_ids["toy_ood"][::-1]},
        }
    )
    one, other = rows_of(first)[0], rows_of(moved)[0]
    table = by_prompt([(one, EAD), (other, EAD)])
    assert table is not None
    assert table.tolist() == [
        kept(one, "ead_per_input")[1:],
        list(second.per_prompt["toy_ood"]["1.0"]["ead_per_input"][1:]),
    ]
    assert by_prompt([(one, ("win_rate", "gap", 1.0))]) is None
