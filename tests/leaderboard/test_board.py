"""What stands on a board, what is ranked, and what is refused."""

import math
import random

import numpy as np
import pytest
from scipy import stats
from synthetic_scores import CONSTANT, GRID, SUITES, imported, imported_rows, swept, toy_rows

from benchmark.errors import UserError
from benchmark.records import Sampling, Scores, TaskIdentity
from leaderboard.board import Board, boards, floors_above_models
from leaderboard.row import Row


def board_of(*rows: Scores) -> Board:
    (board,) = boards(rows, SUITES)
    return board


def row_of(board: Board, name: str) -> Row:
    return next(row for row in board.rows if row.name == name)


def test_order_of_runs_does_not_matter(all_rows: list[Scores]) -> None:
    shuffled = random.Random(3).sample(all_rows, len(all_rows))
    assert boards(shuffled, SUITES) == boards(all_rows, SUITES)


def test_sampled_suites_come_before_imported_ones(all_rows: list[Scores]) -> None:
    assert [board.suite.id for board in boards(all_rows, SUITES)] == ["toy@v1", "imported@v2"]


def test_floors_and_ceilings_are_never_ranked(toy: list[Scores]) -> None:
    board = board_of(*toy)
    controls = {row.name for row in toy if row.kind != "model"}
    assert controls == {row.name for row in board.controls}
    assert not controls & board.ranks.keys()


def test_flagged_rows_are_shown_with_their_reason_and_never_ranked() -> None:
    board = board_of(*imported_rows())
    assert [row.name for row in board.unranked] == ["NullModel"]
    assert CONSTANT.text in board.unranked[0].unranked[0]
    assert "NullModel" not in board.ranks
    assert len(board.ranks) == 9


def test_a_flag_takes_no_rank_from_others() -> None:
    rows = imported_rows()
    without = board_of(*(row for row in rows if not row.flags))
    assert board_of(*rows).ranks == without.ranks


def test_swept_and_single_rows_are_ranked_in_families_of_their_own(toy: list[Scores]) -> None:
    board = board_of(*toy)
    assert [row.name for row in board.ranked("single")] == ["SFT, one temperature"]
    assert str(board.ranks["SFT, one temperature"]) == "1 (1–1)"
    assert sorted(board.ranks[row.name].rank for row in board.ranked("swept")) == [1, 2, 3, 4, 5]
    assert all(board.ranks[row.name].high <= 5 for row in board.ranked("swept"))


def test_rank_sets_hold_the_rank_by_score(toy: list[Scores]) -> None:
    board = board_of(*toy)
    for place, row in enumerate(board.ranked("swept"), start=1):
        found = board.ranks[row.name]
        assert found.low <= found.rank == place <= found.high
        assert str(found) == f"{found.rank} ({found.low}–{found.high})"


def test_two_equal_models_share_a_rank_set() -> None:
    rows = [swept(name, quality=0.5).model_copy(update={"name": name}) for name in ("a", "b")]
    twin = rows[0].model_copy(update={"name": "b"})
    board = board_of(rows[0], twin)
    assert {str(found) for found in board.ranks.values()} == {"1 (1–2)"}


def test_the_score_of_one_temperature_is_the_root_of_x_times_y() -> None:
    for name, scale in (("claude-2", 1.0), ("SFT, one temperature", 0.2)):
        rows = imported_rows() if scale == 1.0 else toy_rows()
        row = row_of(board_of(*rows), name)
        y = row.scores.estimates[1].value if scale == 1.0 else row.point.y.value  # type: ignore[union-attr]
        assert row.score is not None
        assert row.score.value == pytest.approx(math.sqrt(row.point.x.value * y), abs=1e-12)  # type: ignore[union-attr]


def test_the_score_of_a_sweep_is_the_root_of_the_area_it_covers(toy: list[Scores]) -> None:
    row = row_of(board_of(*toy), "DPO")
    points = [(point.x.value, point.y.value) for point in row.curves["ood"]]
    step = 1 / 2000
    area = sum(step * max((y for x, y in points if x >= (i + 0.5) * step), default=0.0) for i in range(2000))
    assert row.score is not None
    assert row.score.value == pytest.approx(math.sqrt(area), abs=1e-3)


def test_the_interval_of_a_score_is_its_delete_one_prompt_jackknife() -> None:
    row = row_of(board_of(*imported_rows()), "claude-2")
    x, y = (np.array(row.scores.per_prompt["far"]["1.0"][metric]) for metric in ("win_rate", "sbert_across_input"))
    n = len(x)
    left_out = np.array([math.sqrt(np.delete(x, i).mean() * np.delete(y, i).mean()) for i in range(n)])
    error = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert row.score is not None
    assert row.score.high - row.score.value == pytest.approx(stats.t.ppf(0.975, n - 1) * error, rel=1e-9)


def test_y_is_the_share_of_the_suites_reference_clipped_to_one(toy: list[Scores]) -> None:
    board = board_of(*toy, swept("more diverse than the references", diversity=0.4))
    for row in board.rows:
        estimate = row.headline("effective_per_input_oracle", "ood")
        assert estimate is not None
        assert row.point is not None
        assert row.point.y.value == pytest.approx(min(estimate.value / 0.2, 1.0))
    assert row_of(board, "more diverse than the references").point.y.value == 1.0  # type: ignore[union-attr]


def test_the_arrow_leads_from_id_to_ood(toy: list[Scores]) -> None:
    row = row_of(board_of(*toy), "PPO")
    assert row.id_point is not None
    assert row.point is not None
    assert row.id_point.x.value == row.headline("win_rate", "id").value  # type: ignore[union-attr]
    assert row.point.x.value == row.headline("win_rate", "ood").value  # type: ignore[union-attr]
    assert {point.temperature for point in row.curves["ood"]} == set(GRID)


def test_every_corner_of_the_ellipse_is_at_the_chi_squared_distance() -> None:
    row = row_of(board_of(*imported_rows()), "claude-2")
    cells = row.scores.per_prompt["far"]["1.0"]
    values = np.array([cells["win_rate"], cells["sbert_across_input"]], dtype=float)
    inverse = np.linalg.inv(np.cov(values) / values.shape[1])
    assert row.point is not None
    offsets = np.array(row.outline) - [row.point.x.value, row.point.y.value]
    distances = np.einsum("ni,ij,nj->n", offsets, inverse, offsets)
    assert distances == pytest.approx(np.full(len(offsets), stats.chi2.ppf(0.95, 2)), rel=1e-6)


def test_no_floor_scores_above_a_model_that_clearly_beats_it(all_rows: list[Scores]) -> None:
    assert [floors_above_models(board) for board in boards(all_rows, SUITES)] == [[], []]


def test_a_floor_above_a_clearly_better_model_is_told() -> None:
    floor = swept("lucky noise", kind="floor", quality=0.3, diversity=0.19)
    model = swept("collapsed", quality=0.8, diversity=0.005)
    assert floors_above_models(board_of(floor, model)) == [("lucky noise", "collapsed")]


def test_a_row_trained_on_the_ood_task_is_shown_and_unranked(toy: list[Scores]) -> None:
    board = board_of(*toy, swept("leak", trained_on=("toy_id", "toy_ood")))
    assert "toy_ood" in row_of(board, "leak").unranked[0]
    assert "leak" not in board.ranks


def test_a_row_of_another_grid_is_shown_and_unranked(toy: list[Scores]) -> None:
    board = board_of(*toy, swept("two temperatures", grid=(0.7, 1.0)))
    assert "depends on its grid" in row_of(board, "two temperatures").unranked[0]


def test_a_row_without_the_headline_temperature_says_so(toy: list[Scores]) -> None:
    row = row_of(board_of(*toy, swept("cold", grid=(0.3,))), "cold")
    assert row.point is None
    assert "at temperature 1" in row.unranked[0]


def without(scores: Scores, metric: str, reason: str) -> Scores:
    return scores.model_copy(
        update={
            "estimates": tuple(found for found in scores.estimates if found.metric != metric),
            "absent": {metric: reason},
        }
    )


def test_a_row_without_an_axis_is_shown_with_the_reason_it_gives() -> None:
    rows = [*imported_rows(), without(imported("no encoder", win=0.2, spread=0.9), "sbert_across_input", "not encoded")]
    row = row_of(board_of(*rows), "no encoder")
    assert row.score is None
    assert row.unranked == ("not on the plane: no sbert_across_input (not encoded) at temperature 1",)


def test_prompts_without_a_value_are_left_out_of_the_score() -> None:
    full = imported("gaps", win=0.3, spread=0.9)
    cells = {metric: list(values) for metric, values in full.per_prompt["far"]["1.0"].items()}
    cells["sbert_across_input"][0] = None  # type: ignore[call-overload]
    scores = full.model_copy(update={"per_prompt": {"far": {"1.0": {m: tuple(v) for m, v in cells.items()}}}})
    row = row_of(board_of(scores), "gaps")
    assert row.score is not None
    assert row.score.n == 59
    assert "q0" not in row.influence


SAMPLING = Sampling(k=8, temperatures=GRID, top_p=1.0, top_k=0, max_new_tokens=20, stop=(), seed=0)
OTHER_PROMPTS = tuple(
    TaskIdentity(task=f"toy_{role}", role=role, version="1", n_prompts=60, prompts_sha256="f" * 64)  # type: ignore[arg-type]
    for role in ("id", "ood", "ood_hard")
)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"judge": "another"}, "judge"),
        ({"judge_sha256": "0" * 64}, "judge_sha256"),
        ({"encoder": "another"}, "encoder"),
        ({"sampling": SAMPLING}, "sampling.k"),
        ({"sampling": None}, "sampling"),
        ({"tasks": OTHER_PROMPTS}, "tasks.toy_id.prompts_sha256"),
        ({"tasks": OTHER_PROMPTS[:1]}, "tasks"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused_by_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(UserError) as refused:
        board_of(swept("one"), swept("two", **changes))
    message = str(refused.value)
    assert "'one'" in message
    assert "'two'" in message
    assert f"{field} differs" in message


def test_the_sampling_seed_may_differ() -> None:
    assert len(board_of(swept("a"), swept("longer name")).rows) == 2


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="both called 'same'"):
        board_of(swept("same"), swept("same"))


def test_one_name_may_stand_on_two_suites() -> None:
    made = boards([swept("same"), imported("same", win=0.2, spread=0.9)], SUITES)
    assert [board.rows[0].name for board in made] == ["same", "same"]


def test_no_run_is_refused() -> None:
    with pytest.raises(UserError, match="no run"):
        boards([], SUITES)


def test_a_suite_that_is_not_known_is_refused() -> None:
    with pytest.raises(UserError, match="no suite 'toy@v1'"):
        boards([swept("a")])


def test_a_quantity_given_twice_is_refused() -> None:
    scores = swept("twice")
    with pytest.raises(UserError, match="twice"):
        board_of(scores.model_copy(update={"estimates": (*scores.estimates, scores.estimates[0])}))


def test_per_prompt_values_that_do_not_match_their_prompts_are_refused() -> None:
    scores = imported("short", win=0.2, spread=0.9)
    with pytest.raises(UserError, match="do not match"):
        board_of(scores.model_copy(update={"doc_ids": {"far": ("q0",)}}))


def test_another_sampling_than_the_suites_is_shown_and_not_ranked(toy: list[Scores]) -> None:
    first = toy[0]
    assert first.identity.sampling is not None
    for change in ({"k": 2}, {"top_k": 50}, {"max_new_tokens": 5}):
        sampling = first.identity.sampling.model_copy(update=change)
        other = first.model_copy(update={"identity": first.identity.model_copy(update={"sampling": sampling})})
        board = board_of(other)
        ((field, value),) = change.items()
        assert not board.ranks
        assert f"sampled with {field} {value} instead of" in board.unranked[0].unranked[0]


def test_a_row_that_is_lower_on_both_axes_is_shown_to_be_behind_and_the_front_holds_the_rest(toy: list[Scores]) -> None:
    board = board_of(*toy, swept("weak", quality=0.1, diversity=0.03))
    assert set(board.standing) == {row.name for row in board.rows if row.competes}
    places = {row.name: np.mean(list(row.place.values()), axis=0) for row in board.rows if row.competes}
    for name, standing in board.standing.items():
        above = [other for other, at in places.items() if (at > places[name]).all()]
        assert bool(above) == (standing != "front")
        if standing == "dominated":
            mine = row_of(board, name).place
            prompts = sorted(mine)
            best = min(
                max(
                    stats.ttest_rel(
                        [row_of(board, other).place[p][axis] for p in prompts],
                        [mine[p][axis] for p in prompts],
                        alternative="greater",
                    ).pvalue
                    for axis in (0, 1)
                )
                for other in above
            )
            assert best < 0.05
    assert board.standing["weak"] == "dominated"


def test_the_same_row_twice_is_twice_on_the_front() -> None:
    one = swept("one")
    board = board_of(one, one.model_copy(update={"name": "two"}))
    assert board.standing == {"one": "front", "two": "front"}
