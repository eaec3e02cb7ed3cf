"""The figure draws the board's numbers, and its labels keep apart."""

import math

import altair as alt
import numpy as np
import pytest
import slow_labels
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError
from synthetic_scores import SUITES, imported_rows, toy_rows

from benchmark.records import Scores
from leaderboard import ink
from leaderboard.board import boards
from leaderboard.frame import Frame, data_range, ticks
from leaderboard.labels import Box, Wanted, _Crowd, place
from leaderboard.plane_figure import alt_text, spec, svg


def test_pixels_and_data_are_inverse() -> None:
    frame = Frame((0.1, 0.6), (0.2, 0.9), 500, 400)
    assert frame.data(frame.pixel(0.3, 0.7)) == pytest.approx((0.3, 0.7))
    assert frame.pixel(0.1, 0.9) == pytest.approx((0.0, 0.0))


def test_a_panel_of_one_point_has_a_range() -> None:
    low, high = data_range([0.0])
    assert low < 0.0 < high
    assert data_range([1.0])[1] > 1.0


def test_ticks_lie_in_the_plane() -> None:
    assert ticks((-0.05, 1.07), 10) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(0.0 <= tick <= 1.0 for tick in ticks((-0.2, 0.031), 5))


def test_labels_of_crowded_points_do_not_overlap() -> None:
    wanted = [Wanted(f"model {i}", (200.0 + 3 * i, 150.0 + 2 * i), 11.0) for i in range(6)]
    placed = place(wanted, Box(0, 0, 400, 300), [label.anchor for label in wanted], [])
    boxes = [Box(p.centre[0] - 20, p.centre[1] - 6, p.centre[0] + 20, p.centre[1] + 6) for p in placed]
    assert len(placed) == 6
    assert not any(slow_labels.overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


GRID = st.integers(0, 6).map(float)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(GRID, GRID), max_size=200), st.lists(st.tuples(GRID, GRID, GRID, GRID), max_size=5))
def test_points_in_a_box_are_counted_edges_included(points, boxes) -> None:
    boxes = [Box(*sorted((a, b)), *sorted((c, d))) for a, b, c, d in boxes]
    boxes = [Box(box.left, box.right, box.top, box.bottom) for box in boxes]
    found = _Crowd(np.array(points).reshape(-1, 2)).inside(
        np.array([(box.left, box.top, box.right, box.bottom) for box in boxes]).reshape(-1, 4)
    )
    assert found.tolist() == [sum(slow_labels.holds(box, point) for point in points) for box in boxes]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 20), st.integers(0, 60), st.booleans())
def test_labels_lie_where_the_plain_placer_puts_them(seed: int, count: int, lines: int, crowded: bool) -> None:
    rng = np.random.default_rng(seed)
    width, height = (90, 60) if crowded else (240, 160)

    def pixels(of: int) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in rng.uniform(0, (width, height), (of, 2)).round(2)]

    wanted = [
        Wanted(
            "mmiWx"[: rng.integers(1, 6)] * int(rng.integers(1, 4)),
            anchor,
            float(rng.choice([9.6, 11.0])),
            bold=bool(rng.random() < 0.5),
            clearance=float(rng.choice([4.0, 8.7])),
            reach=float(rng.choice([3.0, 60.0, 120.0])),
            may_drop=bool(rng.random() < 0.2),
        )
        for anchor in pixels(count)
    ]
    if count > 1:
        wanted[1] = wanted[0]  # Two equal rows lie on each other, and pay alike for every place.
    marks = [label.anchor for label in wanted] + pixels(int(rng.integers(0, 4)))
    bounds, along = Box(2, 2, width - 2, height - 2), pixels(lines)
    found, expected = place(wanted, bounds, marks, along), slow_labels.place(wanted, bounds, marks, along)
    assert [label.wanted for label in found] == [label.wanted for label in expected]
    for label, other in zip(found, expected, strict=True):
        assert label.centre == pytest.approx(other.centre, abs=1e-9)
        assert (label.leader is None) == (other.leader is None)
        assert np.array(label.leader or ()) == pytest.approx(np.array(other.leader or ()), abs=1e-9)


def test_placing_is_the_same_every_time() -> None:
    wanted = [Wanted("a", (10.0, 10.0), 11.0), Wanted("b", (12.0, 11.0), 11.0)]
    assert place(wanted, Box(0, 0, 99, 99), [], []) == place(wanted, Box(0, 0, 99, 99), [], [])


def test_the_figure_is_valid_vega_lite() -> None:
    for board in boards(toy_rows(12) + imported_rows(12), SUITES):
        for width in ("wide", "narrow"):
            alt.VConcatChart.from_dict(spec(board, width), validate=True)


def test_a_chart_that_is_not_vega_lite_would_be_seen(toy: list[Scores]) -> None:
    (board,) = boards(toy, SUITES)
    with pytest.raises(ValidationError):
        alt.VConcatChart.from_dict(spec(board) | {"spacing": "wide"}, validate=True)


def test_points_of_the_figure_are_the_boards(toy: list[Scores]) -> None:
    (board,) = boards(toy, SUITES)
    drawn = {
        (row["x"], row["y"]) for rows in spec(board)["datasets"].values() for row in rows if "x" in row and "y" in row
    }
    for row in board.rows:
        assert row.point is not None
        assert (round(row.point.x.value, 6), round(row.point.y.value, 6)) in drawn
        if row.kind == "model":
            assert row.id_point is not None
            assert (round(row.id_point.x.value, 6), round(row.id_point.y.value, 6)) in drawn
            for point in row.curves["ood"]:
                assert (round(point.x.value, 6), round(point.y.value, 6)) in drawn


def test_arrow_heads_stop_short_of_their_points(toy: list[Scores]) -> None:
    (board,) = boards(toy, SUITES)
    layers = [rows for rows in spec(board)["datasets"].values() if rows and "angle" in rows[0]]
    shafts = next(rows for rows in layers if rows[0]["x"] != rows[0]["x2"])
    points = {row.id_point.x.value: row.point for row in board.rows if row.id_point and row.point}
    assert len(shafts) == 6
    for shaft in shafts:
        point = next(point for start, point in points.items() if round(start, 6) == shaft["x"])
        whole = math.dist((shaft["x"], shaft["y"]), (point.x.value, point.y.value))
        assert 0 < math.dist((shaft["x"], shaft["y"]), (shaft["x2"], shaft["y2"])) < whole
        assert 0.0 <= shaft["angle"] < 360.0


def test_every_colour_has_one_for_the_dark() -> None:
    used = {ink.PAPER, ink.INK, ink.MUTED, ink.GRID, ink.RULE, ink.CONTROL, *ink.OTHER}
    used |= {colour for pair in ink.PALETTE for colour in pair}
    assert used == set(ink.DARK)


def test_each_of_six_models_has_its_own_colour(toy: list[Scores]) -> None:
    (board,) = boards(toy, SUITES)
    colours = ink.colours(board)
    models = [colours[row.name][0] for row in board.rows if row.kind == "model"]
    assert len(set(models)) == len(models) == 6
    assert {colours[row.name][0] for row in board.controls} == {ink.CONTROL}


@pytest.mark.parametrize(("judge", "says"), [(None, ", not judged:"), ("oracle", ", no win rate:")])
def test_runs_that_no_judge_has_seen_are_drawn_over_temperature_and_not_ranked(toy, judge, says):
    unjudged = [
        row.model_copy(
            update={
                "estimates": tuple(e for e in row.estimates if e.metric != "win_rate"),
                "absent": {"win_rate": "not judged: no win rate"},
                "identity": row.identity.model_copy(update={"judge": judge}),
            }
        )
        for row in toy
    ]
    board = boards(unjudged, SUITES)[0]
    models = [row for row in board.rows if row.kind == "model"]
    assert not board.ranks
    assert all("not judged" in " ".join(row.unranked) for row in models)
    drawn = {
        (round(place["x"], 6), round(place["y"], 6))
        for data in spec(board)["datasets"].values()
        for place in data
        if "x" in place and "t" in place
    }
    for row in models:
        for temperature, value in row.diversity["ood"] if row.protocol == "swept" else ():
            assert (temperature, round(value.value, 6)) in drawn
    assert says in alt_text(board)
    assert svg(board).startswith("<svg")
