"""A suite without texts on the board: a table in order of x, no plane, no figure, no rank."""

from __future__ import annotations

import pytest
from synthetic_scores import SUITES
from tiny_preferences import COMMIT, rows, write

from benchmark import pipeline
from benchmark.importers.alpaca_eval_preferences import import_preferences
from benchmark.records import Scores
from leaderboard import interactive
from leaderboard.board import Board, boards, floors_above_models
from leaderboard.tables import curve_table, human_tables, notes


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> list[Scores]:
    """Three models: the first by name wins least, and the last lost a preference."""
    folder = tmp_path_factory.mktemp("preferences")
    found = []
    for model, lean in (("a-worst", -0.4), ("b-best", 0.3), ("c-middle", 0.0)):
        for row in rows(model, seed=len(found)):
            found.append(row | {"preference": round(min(max(row["preference"] + lean, 1), 2), 10)})
    found[-1]["preference"] = ""
    runs = import_preferences(write(folder, found), folder / "runs", commit=COMMIT)
    return [pipeline.score(run) for run in runs]


@pytest.fixture(scope="module")
def board(scored: list[Scores]) -> Board:
    (made,) = boards(scored)
    return made


def test_rows_stand_in_order_of_x_whatever_their_order_was(scored: list[Scores], board: Board) -> None:
    assert [row.name for row in board.rows] == ["b-best", "c-middle", "a-worst"]
    values = [found.value for row in board.rows if (found := row.headline("win_rate_lc", "ood"))]
    assert values == sorted(values, reverse=True)
    assert boards(scored[::-1])[0].rows == board.rows


def test_nothing_is_ranked_and_every_row_says_why(board: Board) -> None:
    assert not board.ranks
    assert not board.standing
    assert [row.name for row in board.unranked] == [row.name for row in board.rows]
    assert {row.unranked for row in board.rows} == {
        ("no place on a plane: preferences published elsewhere, without texts",)
    }
    assert floors_above_models(board) == []


def test_there_is_no_plane_and_nothing_to_draw(board: Board) -> None:
    assert board.why_no_plane == "no texts"
    assert all(row.point is None and row.score is None and not row.curves for row in board.rows)
    assert interactive.spec(board, lambda row: row.name, "#here") is None
    assert not curve_table(board).rows


def test_one_table_of_rates_and_lengths_and_no_column_of_dashes(board: Board) -> None:
    (table,) = human_tables(board)
    assert table.key == "unranked"
    assert table.headers == (
        "model",
        "why it is not ranked",
        "length-controlled win rate",
        "win rate",
        "characters",
        "reference's characters",
        "preferences",
    )
    assert [str(row[-1]) for row in table.rows] == ["805", "804 of 805", "805"]
    assert all(cell.text not in ("–", "") for row in table.rows for cell in row)
    assert any("no texts" in note for note in notes(board))


def test_it_stands_behind_suites_that_are_sampled(all_rows: list[Scores], scored: list[Scores]) -> None:
    made = boards([*scored, *all_rows], SUITES)
    assert [one.suite.suite for one in made] == ["toy", "alpaca-eval-preferences", "imported"]
