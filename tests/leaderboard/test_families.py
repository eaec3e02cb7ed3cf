"""Training seeds of one family: grouped by who declares them, and spread over seeds and prompts."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any

import pytest
from scipy import stats
from synthetic_scores import CONSTANT, SUITES, SWEPT_SUITE, swept

from benchmark.records import Scores
from leaderboard.board import Board, boards
from leaderboard.families import LEAST_SEEDS, Family, families, family_table


def declared(name: str, family: str | None, seed: int | None, **given: Any) -> Scores:
    row = swept(name, **given)
    return row.model_copy(update={"card": row.card.model_copy(update={"family": family, "training_seed": seed})})


def ladder(family: str, seeds: range, **given: Any) -> list[Scores]:
    return [declared(f"us/{family}-{seed}", family, seed, **given) for seed in seeds]


def board_of(rows: list[Scores]) -> Board:
    (board,) = boards(rows, SUITES)
    return board


def only(rows: list[Scores]) -> Family:
    (family,) = families(board_of(rows))
    return family


def slow_two_way(table: list[list[float]]) -> tuple[float, float, float]:
    """The two-way interval of a table [seeds][prompts], sum by sum."""
    seeds, prompts = len(table), len(table[0])
    grand = mean(mean(row) for row in table)
    by_seed = [mean(row) for row in table]
    by_prompt = [mean(row[place] for row in table) for place in range(prompts)]
    v_seed = sum((value - grand) ** 2 for value in by_seed) / (seeds - 1) / seeds
    v_prompt = sum((value - grand) ** 2 for value in by_prompt) / (prompts - 1) / prompts
    rest = sum((table[s][p] - by_seed[s] - by_prompt[p] + grand) ** 2 for s in range(seeds) for p in range(prompts))
    cells = (seeds - 1) * (prompts - 1)
    v_cell = rest / cells / (seeds * prompts)
    squared = max(v_seed - v_cell, 0) + max(v_prompt - v_cell, 0) + v_cell
    df = squared**2 / (v_seed**2 / (seeds - 1) + v_prompt**2 / (prompts - 1) + v_cell**2 / cells)
    margin = max(
        stats.t.ppf(0.975, d) * math.sqrt(v) for d, v in ((df, squared), (seeds - 1, v_seed), (prompts - 1, v_prompt))
    )
    return grand, grand - margin, grand + margin


def values_of(rows: list[Scores], metric: str, scale: float) -> list[list[float]]:
    return [[value / scale for value in row.per_prompt["toy_ood"]["1.0"][metric]] for row in rows]  # type: ignore[operator]


def test_both_axes_are_the_two_way_means_of_the_rows_own_values() -> None:
    rows = ladder("ppo", range(1, 6), diversity=0.06)
    family = only(rows)
    reference = SWEPT_SUITE.plane.y.reference
    assert reference is not None
    for spread, metric, scale in ((family.x, "win_rate", 1.0), (family.y, "effective_per_input_oracle", reference)):
        value, low, high = slow_two_way(values_of(rows, metric, scale))
        assert spread.interval is not None
        assert spread.value == spread.interval.value == pytest.approx(value)
        assert (spread.interval.low, spread.interval.high) == (pytest.approx(low), pytest.approx(high))
        assert (spread.interval.n, spread.interval.method) == (60, "two_way_t")


def test_the_score_is_the_mean_of_the_rows_scores_with_the_spread_of_their_pseudo_values() -> None:
    rows = ladder("ppo", range(1, 5))
    board = board_of(rows)
    family = only(rows)
    by_name = {row.name: row for row in board.rows}
    found = [by_name[row.name] for row in rows]
    prompts = sorted(found[0].influence)
    middle, low, high = slow_two_way([[row.influence[prompt] for prompt in prompts] for row in found])
    value = mean(row.score.value for row in found if row.score)
    assert family.score.interval is not None
    assert family.score.value == pytest.approx(value)
    assert family.score.interval.low == pytest.approx(value + low - middle)
    assert family.score.interval.high == pytest.approx(value + high - middle)


def test_seeds_that_differ_are_told_apart_from_prompts_that_do() -> None:
    alike = only(ladder("alike", range(1, 5), quality=0.55))
    apart = only([declared(f"us/apart-{s}", "apart", s, quality=0.35 + 0.1 * s) for s in range(1, 5)])
    assert alike.x.interval is not None
    assert apart.x.interval is not None
    assert apart.x.interval.high - apart.x.interval.low > 2 * (alike.x.interval.high - alike.x.interval.low)


def test_two_seeds_have_no_interval_and_say_whom_they_speak_for() -> None:
    assert LEAST_SEEDS == 3
    rows = ladder("ppo", range(2))
    family = only(rows)
    assert (family.x.interval, family.y.interval, family.score.interval) == (None, None, None)
    assert family.x.value == pytest.approx(mean(map(mean, values_of(rows, "win_rate", 1.0))))
    table = family_table(board_of(rows))
    assert table is not None
    assert [str(cell) for cell in table.rows[0]][-1] == "these checkpoints only"


def test_one_seed_alone_is_no_family() -> None:
    assert family_table(board_of(ladder("ppo", range(1)))) is None


def test_three_seeds_speak_for_others() -> None:
    table = family_table(board_of(ladder("ppo", range(3))))
    assert table is not None
    (row,) = table.rows
    assert [str(cell) for cell in row][:3] == ["us/ppo", "swept", "0, 1, 2"]
    assert str(row[-1]) == "other seeds and prompts"
    assert all(cell.interval for cell in row[3:6])
    assert len(table.headers) == len(row)


def test_nobody_joins_somebody_elses_family() -> None:
    rows = [*ladder("ppo", range(1, 4)), declared("them/best", "ppo", 4, quality=0.95)]
    assert {family.name: family.seeds for family in families(board_of(rows))} == {"us/ppo": (1, 2, 3)}


def test_runs_of_ones_own_are_one_organisation() -> None:
    rows = [declared(f"ppo {seed}", "ppo", seed) for seed in range(3)]
    assert [family.name for family in families(board_of(rows))] == ["ppo"]


def noted(row: Scores, **notes: Any) -> Scores:
    return row.model_copy(update={"notes": {**row.notes, **notes}})


def test_of_a_seed_that_is_there_twice_the_one_that_was_added_last_counts() -> None:
    rows = [noted(row, added=place) for place, row in enumerate(ladder("ppo", range(1, 4)))]
    for other, newest in ((9, True), (1, False)):
        again = noted(declared("us/another", "ppo", 3, quality=0.9), added=other)
        for order in ([*rows, again], [again, *rows]):
            family = only(order)
            assert family.seeds == (1, 2, 3)
            assert [row.name for row in family.rows] == ["us/ppo-1", "us/ppo-2", "us/another" if newest else "us/ppo-3"]


def test_where_it_is_not_known_which_was_added_last_names_tell() -> None:
    rows = ladder("ppo", range(1, 4))
    again = declared("us/ppo-3-again", "ppo", 3)
    assert [row.name for row in only([again, *rows]).rows] == ["us/ppo-1", "us/ppo-2", "us/ppo-3-again"]
    first, last = noted(again, submission="us__a/1/p@v1"), noted(rows[2], submission="us__b/1/p@v1")
    assert [row.name for row in only([last, first, *rows[:2]]).rows][2] == "us/ppo-3"
    assert only([*rows[:2], rows[2], noted(again, added=0)]).rows[2].name == "us/ppo-3-again"


def test_a_newer_revision_with_a_flag_does_not_take_an_older_ones_place() -> None:
    rows = [noted(row, added=place) for place, row in enumerate(ladder("ppo", range(1, 4)))]
    flagged = noted(declared("us/flagged", "ppo", 3, flags=(CONSTANT,)), added=9)
    assert only([*rows, flagged]).rows[2].name == "us/ppo-3"


def test_flagged_rows_and_controls_are_in_no_family() -> None:
    rows = ladder("ppo", range(1, 4))
    flagged = declared("us/ppo-4", "ppo", 4, flags=(CONSTANT,))
    floor = declared("us/floor", "ppo", 5, kind="floor")
    assert only([*rows, flagged, floor]).seeds == (1, 2, 3)


def test_swept_and_single_temperatures_are_apart() -> None:
    rows = [*ladder("ppo", range(1, 4)), *(declared(f"us/one-{s}", "ppo", s, grid=(1.0,)) for s in range(4, 7))]
    assert [(family.protocol, family.seeds) for family in families(board_of(rows))] == [
        ("swept", (1, 2, 3)),
        ("single", (4, 5, 6)),
    ]


def test_families_stand_by_score_whatever_the_order_of_rows() -> None:
    rows = [*ladder("worse", range(3), quality=0.4), *ladder("better", range(3), quality=0.7)]
    found = families(board_of(rows))
    assert [family.name for family in found] == ["us/better", "us/worse"]
    assert found == families(board_of(rows[::-1]))


def test_no_family_is_no_table() -> None:
    rows = [declared("us/a", None, 1), declared("us/b", "b", None)]
    assert families(board_of(rows)) == []
    assert family_table(board_of(rows)) is None
