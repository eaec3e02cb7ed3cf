"""Words of the paper are tested on our own families, seed by seed, and said to be about them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from synthetic_scores import SUITES, swept

from benchmark.records import Estimate, Scores
from leaderboard.board import Board, boards
from leaderboard.paper_tables import Claim, ClaimTest, PaperColumn, PaperRow, PaperTable, Relation
from leaderboard.reproduction_claims import Difference, Judged, judge_claims, outcome
from leaderboard.reproduction_text import as_tables, data, fill

TEST = ClaimTest(metric="win_rate", role="ood", first="ppo", relation="above", second="sft")
GAP = ClaimTest(metric="win_rate", role="gap", first="ppo", relation="alike", second="sft")
SEEDS = (1, 2, 3)


def table_of(*tests: ClaimTest) -> PaperTable:
    return PaperTable(
        name="figure-1",
        kind="figure",
        title="A figure",
        place="Figure 1",
        suite="toy",
        note="",
        claims=(Claim(text="PPO wins more often than SFT.", source="notes N1", tests=tests),),
        columns=(PaperColumn(key="win", title="win", role="ood", metric="win_rate"),),
        rows=(PaperRow(model="org/base", method="sft"),),
    )


def family(name: str, method: str, quality: float, seeds: tuple[int, ...] = SEEDS, **changes: object) -> list[Scores]:
    made = []
    for seed in seeds:
        run = swept(f"{name}-{seed}", quality=quality, n=40, **changes)  # type: ignore[arg-type]
        card = {"method": method, "family": name.partition("/")[2], "training_seed": seed}
        made.append(run.model_copy(update={"card": run.card.model_copy(update=card)}))
    return made


def judged(*runs: Scores, test: ClaimTest = TEST) -> list[Judged]:
    return judge_claims(table_of(test), boards(runs, SUITES))


def wins(run: Scores, role: str = "ood") -> Estimate:
    return next(e for e in run.estimates if (e.metric, e.role, e.temperature) == ("win_rate", role, 1.0))


RELATIONS: list[Relation] = ["above", "not below", "alike"]


@given(st.sampled_from(RELATIONS), st.floats(-1, 1), st.floats(0, 1))
def test_an_interval_off_0_alone_tells_and_never_that_two_are_alike(
    relation: Relation, low: float, wide: float
) -> None:
    found = outcome(relation, Difference(low + wide / 2, low, low + wide, 3, paired=True))
    if low <= 0 <= low + wide:
        assert found == "not told apart"
    elif relation == "alike" or low < 0:
        assert found == "does not hold"
    else:
        assert found == "holds"


def test_what_is_plain_in_our_world_holds_there_and_its_opposite_does_not() -> None:
    strong, weak = family("x/ppo", "ppo", 0.8), family("x/sft", "sft", 0.3)
    (one,) = judged(*strong, *weak)
    assert (one.suite, one.first, one.second, one.outcome) == ("toy@v1", "x/ppo", "x/sft", "holds")
    (other,) = judged(*family("x/ppo", "ppo", 0.3), *family("x/sft", "sft", 0.8))
    assert other.outcome == "does not hold"
    (equal,) = judged(*family("x/ppo", "ppo", 0.5), *family("x/sft", "sft", 0.5))
    assert equal.outcome == "not told apart"


def test_the_difference_is_the_mean_over_seeds_of_one_minus_the_other() -> None:
    strong, weak = family("x/ppo", "ppo", 0.8), family("x/sft", "sft", 0.3)
    (one,) = judged(*strong, *weak)
    expected = np.mean([wins(a).value - wins(b).value for a, b in zip(strong, weak, strict=True)])
    assert one.difference.value == pytest.approx(expected)
    assert one.difference.paired
    assert one.difference.low < expected < one.difference.high


def lopsided(runs: list[Scores]) -> list[Scores]:
    """Runs whose intervals of the gap reach farther up than down."""
    return [
        run.model_copy(
            update={
                "estimates": tuple(
                    e.model_copy(update={"high": e.high + 0.2}) if e.role == "gap" else e for e in run.estimates
                )
            }
        )
        for run in runs
    ]


def test_without_values_a_prompt_both_errors_over_prompts_are_added_to_that_over_seeds() -> None:
    strong, weak = map(lopsided, (family("x/ppo", "ppo", 0.7, gap=0.3), family("x/sft", "sft", 0.6, gap=0.1)))
    (one,) = judged(*strong, *weak, test=GAP)
    ours = [(wins(a, "gap"), wins(b, "gap")) for a, b in zip(strong, weak, strict=True)]
    values = [a.value - b.value for a, b in ours]
    margin = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    errors = [np.mean([a.value - a.low for a, _ in ours]), np.mean([b.high - b.value for _, b in ours])]
    assert not one.difference.paired
    assert one.difference.low == pytest.approx(np.mean(values) - np.sqrt(margin**2 + sum(e**2 for e in errors)))
    errors = [np.mean([a.high - a.value for a, _ in ours]), np.mean([b.value - b.low for _, b in ours])]
    assert one.difference.high == pytest.approx(np.mean(values) + np.sqrt(margin**2 + sum(e**2 for e in errors)))


def test_a_claim_of_a_columns_metric_is_tested_with_the_protocols_own() -> None:
    column = PaperColumn(key="d", title="d", role="ood", metric="ead_per_input", paper_metric="sbert_across_input")
    table = table_of(TEST.model_copy(update={"metric": "ead_per_input"})).model_copy(update={"columns": (column,)})
    made = boards([*family("x/ppo", "ppo", 0.8), *family("x/sft", "sft", 0.3)], SUITES)
    found = [judge_claims(table, made, paper_protocol=asked)[0].test.metric for asked in (False, True)]
    assert found == ["ead_per_input", "sbert_across_input"]


def test_fewer_than_three_seeds_in_common_say_nothing() -> None:
    assert judged(*family("x/ppo", "ppo", 0.8, (1, 2)), *family("x/sft", "sft", 0.3, (1, 2))) == []
    assert judged(*family("x/ppo", "ppo", 0.8, (1, 2, 3)), *family("x/sft", "sft", 0.3, (2, 3, 4))) == []


def test_seeds_are_paired_by_their_number() -> None:
    strong, weak = family("x/ppo", "ppo", 0.8, (1, 2, 3, 9)), family("x/sft", "sft", 0.3, (2, 1, 7, 3))
    (one,) = judged(*strong, *weak)
    assert one.difference.seeds == 3
    by_seed = {run.card.training_seed: wins(run).value for run in weak}
    assert one.difference.value == pytest.approx(
        np.mean([wins(run).value - by_seed[run.card.training_seed] for run in strong[:3]])
    )


def test_families_of_two_organisations_are_not_held_against_each_other() -> None:
    assert judged(*family("x/ppo", "ppo", 0.8), *family("y/sft", "sft", 0.3)) == []


def test_a_family_at_one_temperature_speaks_where_none_is_swept_like_the_other() -> None:
    single = family("x/ppo", "ppo", 0.8, grid=(1.0,))
    (one,) = judged(*single, *family("x/sft", "sft", 0.3))
    assert one.outcome == "holds"
    both = [run.model_copy(update={"name": f"{run.name}-one"}) for run in family("x/ppo", "ppo", 0.8, grid=(1.0,))]
    strong, weak = family("x/ppo", "ppo", 0.6), family("x/sft", "sft", 0.3)
    (other,) = judged(*both, *strong, *weak)
    expected = np.mean([wins(a).value - wins(b).value for a, b in zip(strong, weak, strict=True)])
    assert other.difference.value == pytest.approx(expected)


def test_a_verdict_is_printed_under_our_world_and_the_words_under_the_paper() -> None:
    filled = fill(table_of(TEST, GAP), _boards())
    _, said, *_, ours = as_tables(filled)
    assert [str(cell) for cell in said.rows[0]] == ["1", "PPO wins more often than SFT.", "notes N1"]
    assert ours.title == "The same words in our worlds, which are not the paper's"
    assert [str(cell) for cell in ours.rows[0]][:3] == ["1", "toy@v1", "win rate, OOD: ppo above sft"]
    assert str(ours.rows[1][2]) == "win rate, gap: ppo and sft alike"
    lines = [dict(zip(data({"figure-1": filled}).header, row, strict=True)) for row in data({"f": filled}).rows]
    assert [(line["whose"], line["model"]) for line in lines if line["verdict"] == "holds"] == [("toy@v1", None)]


def _boards() -> list[Board]:
    return boards([*family("x/ppo", "ppo", 0.8), *family("x/sft", "sft", 0.3)], SUITES)


@pytest.mark.parametrize("which", [0, 1])
def test_a_seed_without_the_quantity_is_left_out(which: int) -> None:
    runs = [family("x/ppo", "ppo", 0.8, (1, 2, 3, 4)), family("x/sft", "sft", 0.3, (1, 2, 3, 4))]
    cut = tuple(e for e in runs[which][3].estimates if e.role != "gap")
    runs[which][3] = runs[which][3].model_copy(update={"estimates": cut})
    (one,) = judged(*runs[0], *runs[1], test=GAP)
    assert one.difference.seeds == 3
