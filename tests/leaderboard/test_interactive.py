"""What the page's figure and table are told: every row, with the numbers of the board."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scores import SUITES, imported_rows, swept, toy_rows

from benchmark.records import ModelCard, Scores
from leaderboard import assets
from leaderboard.board import Board, boards
from leaderboard.interactive import MANY, POINT, UNIT, labels, spec
from leaderboard.row import Row
from leaderboard.sides import SIDES, sides
from leaderboard.views import views
from leaderboard.whole_table import whole_table


def board_of(rows: list[Scores]) -> Board:
    (board,) = boards(rows, SUITES)
    return board


def page_of(row: Row) -> str:
    return f"models/{row.name}.html"


def points(board: Board) -> list[dict[str, float]]:
    told = spec(board, page_of, "#place")
    assert told is not None
    return [dict(zip(POINT, point, strict=True)) for point in told["data"]["values"]]


def told_of(board: Board) -> list[dict[str, object]]:
    told = spec(board, page_of, "#place")
    assert told is not None
    lookup = next(step for step in told["transform"] if "lookup" in step)
    return lookup["from"]["data"]["values"]


def test_every_point_of_every_view_is_the_boards_to_three_decimals() -> None:
    board = board_of(toy_rows(12))
    found = points(board)
    expected = []
    for view_number, view in enumerate(views(board)):
        for number, row in enumerate(board.rows):
            drawn = [(0, point) for point in view.curve(row)]
            tail = view.tail(row)
            drawn += [(1, tail)] if tail and any(p.temperature == 1.0 for _, p in drawn) else []
            expected += [
                (
                    *(number, view_number, is_tail, point.temperature),
                    *(round(UNIT * v) for i in (point.x, point.y) for v in (i.value, i.low, i.high)),
                )
                for is_tail, point in drawn
            ]
    fields = [field for field in POINT if field != "label"]
    assert [tuple(point[field] for field in fields) for point in found] == expected
    assert {point["view"] for point in found} == set(range(len(views(board))))


def test_of_many_rows_other_views_have_their_headline_alone() -> None:
    board = board_of([swept(f"m{n}", quality=0.3 + 0.001 * n, n=4) for n in range(MANY + 1)])
    found = points(board)
    assert {p["t"] for p in found if p["view"] == 0 and not p["tail"]} == {0.3, 0.7, 1.0, 1.3}
    assert {p["t"] for p in found if p["view"] != 0} == {1.0}
    assert {p["row"] for p in found if p["view"] == 1} == set(range(MANY + 1))


def test_the_first_and_the_last_temperature_of_a_curve_are_marked() -> None:
    board = board_of([swept("one", n=12)])
    curve = [p for p in points(board) if p["view"] == 0 and not p["tail"] and p["t"] != 1.0]
    assert {p["t"]: p["label"] for p in curve} == {0.3: 1, 0.7: 0, 1.3: 1}


def test_a_row_is_told_with_its_rank_its_state_and_its_page() -> None:
    board = board_of(toy_rows(12))
    for row, told in zip(board.rows, told_of(board), strict=True):
        assert told["name"] == row.name
        assert told["page"] == f"models/{row.name}.html"
        assert told["state"] == ("model" if row.competes else row.kind if row.kind != "model" else "not ranked")
        assert told["rank"] == (str(board.ranks[row.name]) if row.competes else f"none: {row.kind}")
        assert ("front" in told) == (board.standing.get(row.name) == "front")
        assert told["n"] == "12"


def test_only_what_tells_rows_apart_is_a_filter() -> None:
    alike = spec(board_of(toy_rows(12)), page_of, "#place")
    cards = [ModelCard(method=method, base_model="b") for method in ("sft", "ppo")]
    apart = spec(
        board_of([swept(card.method or "", n=12).model_copy(update={"card": card}) for card in cards]),
        page_of,
        "#place",
    )
    assert alike is not None
    assert apart is not None
    bound = [
        {p["name"]: p["bind"]["options"] for p in s["params"] if "options" in p.get("bind", {})} for s in (alike, apart)
    ]
    assert set(bound[0]) == {"view"}
    assert set(bound[1]) == {"view", "method"}
    assert bound[1]["method"] == [None, "ppo", "sft"]
    # A filter that is not offered is there all the same: the figure reads it.
    assert {"method", "base_model", "tier", "found"} <= {p["name"] for p in alike["params"]}


def test_rows_that_no_judge_has_seen_are_drawn_over_temperature() -> None:
    row = swept("unjudged", n=12)
    row = row.model_copy(
        update={
            "estimates": tuple(e for e in row.estimates if e.metric != "win_rate"),
            "per_prompt": {
                task: {t: {m: v for m, v in cell.items() if m != "win_rate"} for t, cell in cells.items()}
                for task, cells in row.per_prompt.items()
            },
        }
    )
    board = board_of([row])
    assert [view.x_title for view in views(board)] == ["temperature"] * 3
    assert all(p["x"] == UNIT * p["t"] for p in points(board))


def test_the_table_has_every_row_once_in_the_boards_order_and_knows_its_number() -> None:
    board = board_of(toy_rows(12))
    table = whole_table(board, page_of)
    assert sorted(row.number for row in table.rows if row.number is not None) == list(range(len(board.rows)))
    names = [board.rows[row.number].name for row in table.rows if row.number is not None]
    order = [*board.ranked("swept"), *board.ranked("single"), *board.unranked, *board.controls]
    assert names == [row.name for row in order]
    assert all(len(row.cells) == len(table.columns) for row in table.rows)


def test_cells_are_sorted_by_their_numbers_and_rows_without_a_rank_come_last() -> None:
    board = board_of(toy_rows(12))
    table = whole_table(board, page_of)
    score = [column.title for column in table.columns].index("score")
    for row in table.rows:
        assert row.number is not None
        found = board.rows[row.number]
        assert found.score is not None
        assert float(row.cells[score].order or "nan") == pytest.approx(found.score.value, abs=5e-4)
    orders = [int(row.cells[0].order or "0") for row in table.rows]
    assert orders == sorted(orders), "one table's ranks, then the other's, then the rows without one"
    assert len(set(orders[: len(board.ranks)])) == len(board.ranks)


def test_filters_of_the_figure_are_columns_of_the_table() -> None:
    cards = [ModelCard(method=method, base_model=base) for method, base in (("sft", "a"), ("ppo", "b"))]
    board = board_of([swept(card.method or "", n=12).model_copy(update={"card": card}) for card in cards])
    table = whole_table(board, page_of)
    for key, name in (("method", "method"), ("base_model", "base model")):
        place = [column.key for column in table.columns].index(key)
        for row in table.rows:
            assert row.number is not None
            assert row.cells[place].text == labels(board.rows[row.number])[name]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12),
    st.lists(st.text("abcdefgh-", min_size=1, max_size=20), min_size=12, max_size=12),
)
def test_every_name_gets_one_of_the_sides(places: list[tuple[float, float]], names: list[str]) -> None:
    points = dict(enumerate(places))
    chosen = sides(points, dict(enumerate(names)), [])
    assert chosen.keys() == points.keys()
    assert set(chosen.values()) <= set(range(len(SIDES)))
    assert chosen == sides(points, dict(enumerate(names)), [])


def test_names_of_two_points_side_by_side_do_not_lie_on_each_other() -> None:
    # 0 and 1 are so near that both names would be written over each other to the right.
    chosen = sides({0: (0.50, 0.5), 1: (0.51, 0.5)}, {0: "a long name", 1: "another name"}, [(0.0, 0.0), (1.0, 1.0)])
    assert chosen[0] != chosen[1]


def test_the_module_of_the_tables_becomes_a_script_that_sets_jquery() -> None:
    script = assets.as_script("var a=1,b=2;\nexport{a as ITable,b as jQuery};\n/*! licences */\n")
    assert script.startswith("(()=>{var a=1,b=2;")
    assert "window.jQuery=b;" in script
    assert "export" not in script
    assert script.endswith("/*! licences */\n")
    with pytest.raises(ValueError, match="export of jQuery"):
        assets.as_script("var a=1;\nexport{a as ITable};\n")


def test_the_assets_are_those_that_are_named_and_say_whose_they_are() -> None:
    found = assets.assets()
    assert set(found) == set(assets.NAMES)
    for name in ("vega.js", "tables.js", "tables.css"):
        assert found[f"assets/{name}"].startswith(b"/*!")
    assert b"export{" not in found["assets/tables.js"]


def test_imported_rows_are_drawn_without_curves_or_arrows() -> None:
    board = board_of(imported_rows(12))
    assert {p["tail"] for p in points(board)} == {0}
    told = spec(board, page_of, "#place")
    assert told is not None
    offered = [p["name"] for p in told["params"] if "bind" in p]
    assert not set(offered) & {"curves", "arrows", "controls"}
    assert all(a != b for a, b in itertools.pairwise(offered))
