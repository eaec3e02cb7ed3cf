"""The comment on a pull request says what the board says, and is inert."""

from scipy import stats
from synthetic_scores import SUITES, swept, toy_rows

from benchmark.records import Scores
from benchmark.statistics.ranks import holm
from leaderboard.board import boards
from leaderboard.comment import comment


def rows() -> list[Scores]:
    return [row for row in toy_rows() if row.identity.suite == "toy@v1"]


def test_the_row_has_the_rank_set_and_the_intervals_of_the_board():
    everything = [*rows(), swept("new", quality=0.6)]
    text = comment("new", "toy@v1", everything, SUITES)
    [board] = boards(everything, SUITES)
    row = next(row for row in board.rows if row.name == "new")
    assert f"| {board.ranks['new']} of {len(board.ranked('swept'))} |" in text
    assert f"{row.score.value:.3f} [{row.score.low:.3f}, {row.score.high:.3f}]" in text


def test_differences_are_paired_from_every_other_ranked_row_and_holm_is_over_all():
    everything = [*rows(), swept("new", quality=0.6)]
    text = comment("new", "toy@v1", everything, SUITES)
    [board] = boards(everything, SUITES)
    others = [row for row in board.rows if row.competes and row.name != "new"]
    mine = next(row for row in everything if row.name == "new").per_prompt["toy_ood"]["1.0"]
    p_values = []
    for other in others:
        theirs = other.scores.per_prompt["toy_ood"]["1.0"]
        p_values += [stats.ttest_rel(mine[m], theirs[m]).pvalue for m in ("win_rate", "effective_per_input_oracle")]
    printed = [line.split(" | ")[-2] for line in text.splitlines() if " | win rate | " in line or "| effective" in line]
    expected = ["< 0.0001" if p < 0.0001 else f"{p:.4f}" for p in holm(p_values)]
    assert sorted(printed[-len(expected) :]) == sorted(expected)


def test_a_strangers_words_are_inert():
    name = "<script>alert(1)</script> | [x](http://y) @all"
    text = comment(name, "toy@v1", [*rows(), swept(name)], SUITES)
    for word in ("<script>", "[x](http", "://", "@all"):
        assert word not in text


def test_a_row_that_is_not_ranked_says_why():
    text = comment("new", "toy@v1", [*rows(), swept("new", trained_on=("toy_ood",))], SUITES)
    assert "Shown but not ranked: declares training on" in text


def test_the_first_row_of_a_board_has_nothing_beside_it():
    text = comment("new", "toy@v1", [swept("new")], SUITES)
    assert "1 (1–1) of 1" in text
    assert "minus each" not in text
