"""The paper's tables: what is known stays as certain as it is, and nothing else answers a cell."""

import csv
import dataclasses
import io
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scores import SUITES, SWEPT_SUITE, swept

from benchmark.errors import UserError
from benchmark.metrics import catalog
from benchmark.records import Flag, Scores
from benchmark.suites import load_suites
from leaderboard import reproduction_text
from leaderboard.board import Board, boards
from leaderboard.build import paper_files
from leaderboard.paper_protocol import PAPER_ENCODER, PAPER_JUDGES
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable, Published, paper_table, paper_tables
from leaderboard.reproduction import PaperCell, beside, counts, reproduce
from leaderboard.reproduction_seeds import Found

PUBLISHED = 21
"""Values of the paper that are known."""
SUMMARIES = ("pocket", "real-text-summarisation")
ROW = PaperRow(model="org/base", method="ppo")
COLUMN = PaperColumn(
    key="ead", title="EAD", role="ood", metric="ead_per_input", paper_metric="conditional_per_input_oracle"
)
TABLE = PaperTable(
    name="table-1",
    kind="table",
    title="A table",
    place="Table 1",
    suite="toy",
    note="Known in part.",
    columns=(COLUMN,),
    rows=(
        PaperRow(model="org/base", method="sft", published={"ead": Published(value=0.5, decimals=1, source="notes")}),
        ROW,
        PaperRow(model="org/base", method="best-of-16"),
    ),
)


def made(name: str, method: str, base: str, **card: object) -> Scores:
    run = swept(name, n=12)
    return run.model_copy(update={"card": run.card.model_copy(update={"method": method, "base_model": base, **card})})


def board_of(*rows: Scores) -> list[Board]:
    return boards(rows, SUITES)


def value(run: Scores, metric: str, temperature: float = 1.0) -> float:
    return next(e.value for e in run.estimates if (e.metric, e.role, e.temperature) == (metric, "ood", temperature))


def test_every_published_value_says_who_says_so_and_is_rounded_as_it_is_known() -> None:
    tables = paper_tables()
    assert list(tables) == [
        *("table-11", "table-12", "table-j-win-rates"),
        *("figure-2", "figure-3", "figure-4", "figure-5", "figure-6", "figure-11"),
        *("text-instruction-diversity", "text-reward-model"),
    ]
    known = [p for table in tables.values() for row in table.rows for p in row.published.values()]
    assert len(known) == PUBLISHED
    for published in known:
        assert published.source.startswith("notes N")
        assert round(published.value, published.decimals) == published.value
    assert all(
        (published.read_off or published.approximate) == (table.kind == "figure")
        for table in tables.values()
        for row in table.rows
        for published in row.published.values()
    )
    assert str(tables["figure-4"].rows[0].published["change"]) == "≈ 0.035"
    assert all(claim.source.startswith("notes N") for table in tables.values() for claim in table.claims)


def test_the_tables_name_suites_and_roles_that_there_are() -> None:
    suites = {suite.suite: suite for suite in load_suites().values()}
    for table in paper_tables().values():
        for world in table.worlds:
            roles = {task.role for task in suites[world].tasks} | {"gap"}
            assert {column.role for column in table.columns if not column.measured_by} <= roles
            assert {test.role for claim in table.claims for test in claim.tests} <= roles
        methods = {row.method for row in table.rows}
        assert {m for claim in table.claims for test in claim.tests for m in (test.first, test.second)} <= methods


def test_every_metric_is_one_that_a_board_knows_or_says_what_else_would_measure_it() -> None:
    for table in paper_tables().values():
        for column in table.columns:
            for metric in filter(None, (column.metric, column.paper_metric)):
                assert column.measured_by or catalog.metric(metric)
        for test in (test for claim in table.claims for test in claim.tests):
            assert catalog.metric(test.metric)


def test_a_cell_that_no_row_can_hold_says_what_would_measure_it() -> None:
    (row,) = reproduction_text.as_tables(reproduction_text.fill(paper_tables()["text-reward-model"], []))[0].rows
    how = "not run (gendiv judge-accuracy)"
    assert [str(cell) for cell in row[2:]] == ["0.758", how, "0.716", how]


def test_a_table_is_found_by_number_and_by_name_and_another_is_refused() -> None:
    assert paper_table("11", "table") == paper_table("table-11", "table")
    assert paper_table("reward-model", "table", "text").name == "text-reward-model"
    with pytest.raises(UserError, match=r"no table '5'; there are: table-11, table-12, table-j-win-rates"):
        paper_table("5", "table")


@given(
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_ours_agrees_where_the_published_value_may_lie_within_its_interval(
    published: float, ours: float, half: float, decimals: int
) -> None:
    cell = PaperCell(
        row=ROW,
        column=COLUMN,
        metric="ead_per_input",
        temperature=1.0,
        published=Published(value=published, decimals=decimals, source="notes"),
        ours=Found("org/run", "ead_per_input", ours, ours - half, ours + half, 10),
    )
    gap = abs(published - ours) - half - 0.5 * 10**-decimals
    if not math.isclose(gap, 0, abs_tol=1e-9):
        assert cell.verdict == ("agrees" if gap < 0 else "differs")
        for rough in ({"read_off": True}, {"approximate": True}):
            value_ = cell.published.model_copy(update=rough)
            assert dataclasses.replace(cell, published=value_).verdict == ("agrees" if gap < 0 else "not comparable")


def test_only_the_very_model_trained_the_same_way_answers_a_cell() -> None:
    rows = [made("a", "sft", "org/base"), made("b", "sft", "org/other"), made("c", "dpo", "org/base")]
    cells = reproduce(TABLE, board_of(*rows))
    assert [cell.ours and cell.ours.who for cell in cells] == ["a", None, None]
    assert cells[0].ours is not None
    assert cells[0].ours.value == value(rows[0], "ead_per_input")
    assert cells[1].verdict == "not run"


def test_a_row_that_is_not_ranked_answers_nothing_and_stands_nowhere() -> None:
    flagged = made("liar", "sft", "org/base").model_copy(update={"flags": (Flag(code="copy", text="a copy"),)})
    codes = ("copy", "length")  # the second alone would not keep it out, see below
    flags = tuple(Flag(code=code, text="said") for code in codes)
    other = made("x/liar", "ppo", "tiny").model_copy(update={"flags": flags})
    assert reproduce(TABLE, board_of(flagged))[0].verdict == "not run"
    assert beside(TABLE, board_of(other)) == []


def test_a_model_that_falls_short_stands_beside_with_its_flags_and_in_no_claim() -> None:
    short = (Flag(code="length", text="8 words"),)
    rows = []
    for seed in (1, 2, 3):
        row = made(f"x/short-{seed}", "ppo", "tiny")
        card = row.card.model_copy(update={"family": "short", "training_seed": seed})
        rows.append(row.model_copy(update={"flags": short, "card": card}))
    (found,) = beside(TABLE, board_of(*rows))
    assert (found.who, found.method, found.seeds) == ("x/short (not ranked: length)", "ppo", 3)
    assert reproduce(TABLE, board_of(*rows))[1].verdict == "not run"


def test_another_measure_than_the_papers_is_not_comparable_and_says_so() -> None:
    run = made("a", "sft", "org/base")
    own, papers = (reproduce(TABLE, board_of(run), paper_protocol=asked)[0] for asked in (False, True))
    assert (own.verdict, own.why_not) == ("not comparable", "the paper has conditional_per_input_oracle")
    assert papers.verdict in ("agrees", "differs")


def test_an_nli_value_of_a_classifier_that_no_row_names_is_not_comparable() -> None:
    run = made("a", "sft", "org/base")
    of = ("ead_per_input", TABLE.columns[0].role, 1.0)
    estimate = next(e for e in run.estimates if (e.metric, e.role, e.temperature) == of)
    asked = TABLE.columns[0].model_copy(update={"metric": "nli_per_input", "paper_metric": None})
    measured = run.model_copy(
        update={"estimates": (*run.estimates, estimate.model_copy(update={"metric": asked.metric}))}
    )
    (cell, *_) = reproduce(TABLE.model_copy(update={"columns": (asked,)}), board_of(measured))
    assert cell.ours is not None
    assert (cell.verdict, "classifier" in cell.why_not) == ("not comparable", True)


def test_a_policy_above_plain_sampling_is_known_by_its_decoding() -> None:
    best = made("best", "sft", "org/base", decoding="best-of-16")
    cells = reproduce(TABLE, board_of(best))
    assert [cell.ours and cell.ours.who for cell in cells] == [None, None, "best"]


def test_stand_in_prompts_make_a_cell_that_cannot_be_compared() -> None:
    run = made("a", "sft", "org/base")
    tasks = tuple(task.model_copy(update={"data": "stand-in: others"}) for task in run.identity.tasks)
    moved = run.model_copy(update={"identity": run.identity.model_copy(update={"tasks": tasks})})
    cell = reproduce(TABLE, board_of(moved), paper_protocol=True)[0]
    assert (cell.verdict, cell.why_not) == ("not comparable", "stand-in prompts")


def test_the_papers_protocol_takes_its_metric_and_its_temperature_for_best_of_n() -> None:
    best, plain = made("best", "sft", "org/base", decoding="best-of-16"), made("a", "sft", "org/base")
    cells = reproduce(TABLE, board_of(best, plain), paper_protocol=True)
    assert [(cell.metric, cell.temperature) for cell in cells] == [
        ("conditional_per_input_oracle", 1.0),
        ("conditional_per_input_oracle", 1.0),
        ("conditional_per_input_oracle", 0.7),
    ]
    assert cells[2].ours is not None
    assert cells[2].ours.value == value(best, "conditional_per_input_oracle", 0.7)


def test_another_encoder_than_the_papers_is_not_comparable() -> None:
    column = COLUMN.model_copy(update={"metric": "sbert_across_input", "paper_metric": None})
    table = TABLE.model_copy(update={"columns": (column,)})
    run = made("a", "sft", "org/base")
    theirs = run.model_copy(update={"identity": run.identity.model_copy(update={"encoder": PAPER_ENCODER})})
    assert reproduce(table, board_of(run))[0].why_not == f"the paper's encoder is {PAPER_ENCODER}"
    assert reproduce(table, board_of(theirs))[0].verdict in ("agrees", "differs")


@pytest.mark.parametrize("judge", [None, *PAPER_JUDGES])
def test_under_the_papers_protocol_its_judge_alone_answers_a_win_rate(judge: str | None) -> None:
    column = COLUMN.model_copy(update={"metric": "valid_share_oracle", "paper_metric": "win_rate"})
    table = TABLE.model_copy(update={"columns": (column,)})
    run = made("a", "sft", "org/base")
    judged = run.model_copy(update={"identity": run.identity.model_copy(update={"judge": judge or "oracle"})})
    cell = reproduce(table, board_of(judged), paper_protocol=True)[0]
    assert (cell.ours is None, cell.verdict == "not run") == (judge is None, judge is None)
    plain = table.model_copy(update={"columns": (column.model_copy(update={"metric": "win_rate"}),)})
    own = reproduce(plain, board_of(judged))[0]
    assert own.why_not == ("another judge than the paper's" if judge is None else "")


def test_the_choices_in_force_are_those_asked_for_but_where_none_can_be_switched() -> None:
    ours, papers = (reproduction_text.protocol_table(paper_protocol=asked).rows for asked in (False, True))
    in_force = [(str(a[-1]), str(b[-1])) for a, b in zip(ours, papers, strict=True)]
    assert in_force[:6] == [("ours", "the paper's")] * 6
    assert all(a == b for a, b in in_force[6:])
    assert [str(row[0]) for row in ours[6:]] == ["encoder of Sentence-BERT", "KL in the reward of PPO"]


def family(method: str, base: str = "tiny", seeds: tuple[int, ...] = (1, 2, 3), **changes: object) -> list[Scores]:
    return [made(f"x/{method}-{seed}", method, base, family=method, training_seed=seed, **changes) for seed in seeds]


def without_prompts(run: Scores) -> Scores:
    """As a board keeps it: no value prompt by prompt but of the plane's axes."""
    kept = {"win_rate", "effective_per_input_oracle"}
    cut = {
        task: {t: {m: v for m, v in metrics.items() if m in kept} for t, metrics in cells.items()}
        for task, cells in run.per_prompt.items()
    }
    return run.model_copy(update={"per_prompt": cut})


def test_other_models_and_floors_stand_beside_and_seeds_of_a_family_are_one() -> None:
    seeds = [without_prompts(run) for run in family("ppo")]
    floor = swept("random words", kind="floor", n=12)
    found = beside(TABLE, board_of(*seeds, made("x/sft", "sft", "tiny"), made("own", "ppo", "org/base"), floor))
    assert [(other.who, other.method) for other in found] == [
        ("x/sft", "sft"),
        ("x/ppo", "ppo"),
        ("random words", "floor"),
    ]
    values = [value(seed, "ead_per_input") for seed in seeds]
    ead = found[1].values["ead"]
    assert (ead.n, ead.seeds, ead.over) == (12, 3, "lowest to highest")
    assert [ead.value, ead.low, ead.high] == pytest.approx([sum(values) / 3, min(values), max(values)])
    assert (found[0].values["ead"].over, found[2].values["ead"].seeds) == ("prompts", 1)


def test_a_family_is_named_with_the_most_seeds_that_a_value_of_it_is_over() -> None:
    second = COLUMN.model_copy(update={"key": "win", "metric": "win_rate", "paper_metric": None})
    table = TABLE.model_copy(update={"columns": (COLUMN, second)})
    first, *rest = family("ppo")
    less = tuple(e for e in first.estimates if e.metric != "ead_per_input")
    filled = reproduction_text.fill(table, board_of(first.model_copy(update={"estimates": less}), *rest))
    assert [filled.beside[0].values[key].seeds for key in ("ead", "win")] == [2, 3]
    assert str(reproduction_text.as_tables(filled)[1].rows[0][0]) == "x/ppo (3 seeds)"


def test_of_one_training_seed_that_is_there_twice_the_newest_alone_counts() -> None:
    old = made("x/ppo-old", "ppo", "tiny", family="ppo", training_seed=1)
    new = [run.model_copy(update={"notes": {**run.notes, "added": 5}}) for run in family("ppo", seeds=(1, 2))]
    (other,) = beside(TABLE, board_of(old, *new))
    values = [value(run, "ead_per_input") for run in new]
    assert (other.values["ead"].seeds, other.values["ead"].value) == (2, pytest.approx(sum(values) / 2))


def test_a_tables_worlds_stand_beside_it_nearest_first_with_their_floors() -> None:
    suites = {f"{name}@v1": SWEPT_SUITE.model_copy(update={"suite": name}) for name in SUMMARIES}
    runs = [
        run.model_copy(update={"identity": run.identity.model_copy(update={"suite": f"{name}@v1"})})
        for name in SUMMARIES
        for run in (*family("sft"), swept("random-words", kind="floor", n=12))
    ]
    column = COLUMN.model_copy(update={"paper_metric": None})
    table = TABLE.model_copy(update={"suite": "summarisation", "columns": (column,)})
    found = beside(table, boards(runs, suites))
    assert [(other.suite, other.method) for other in found] == [
        ("real-text-summarisation@v1", "sft"),
        ("real-text-summarisation@v1", "floor"),
        ("pocket@v1", "sft"),
        ("pocket@v1", "floor"),
    ]
    assert [cell.verdict for cell in reproduce(table, boards(runs, suites))] == ["not run"] * 3


def test_round_brackets_are_no_interval_and_square_ones_are() -> None:
    kept, cut = (boards(runs, SUITES) for runs in (family("ppo"), [without_prompts(run) for run in family("ppo")]))
    texts = [
        str(reproduction_text.as_tables(reproduction_text.fill(TABLE, made_of))[1].rows[0][3])
        for made_of in (kept, cut)
    ]
    assert re.fullmatch(r"\S+ \[\S+, \S+\]", texts[0])
    assert re.fullmatch(r"\S+ \(\S+ to \S+\)", texts[1])


def test_a_metric_that_a_suite_has_for_another_role_alone_is_not_there() -> None:
    run = made("x/sft", "sft", "tiny")
    less = tuple(e for e in run.estimates if (e.metric, e.role) != ("ead_per_input", "ood"))
    (other,) = beside(TABLE, board_of(run.model_copy(update={"estimates": less})))
    assert other.values["ead"].metric == "conditional_per_input_oracle"


def test_a_suite_without_a_columns_metric_shows_the_other_protocols_beside() -> None:
    column = COLUMN.model_copy(update={"metric": "win_rate_lc", "paper_metric": "win_rate"})
    table = TABLE.model_copy(update={"columns": (column,)})
    (other,) = beside(table, board_of(made("x/sft", "sft", "tiny")))
    assert other.values["ead"].metric == "win_rate"
    assert all(cell.ours is None for cell in reproduce(table, board_of(made("a", "sft", "org/base"))))


def test_what_is_comparable_is_said_in_the_page_and_in_markdown() -> None:
    table = TABLE.model_copy(update={"comparable": "The formula alone."})
    files = reproduction_text.files({"table-1": reproduction_text.fill(table, [])})
    assert all(files[f"paper.{ending}"].count("The formula alone.") == 1 for ending in ("html", "md"))
    assert "14 million" in paper_tables()["table-11"].comparable


def test_every_cell_is_counted_once() -> None:
    cells = reproduce(TABLE, board_of(made("a", "sft", "org/base")))
    found = counts(cells)
    assert found["cells"] == 3 == sum(found[v] for v in ("agrees", "differs", "not comparable", "not run"))
    assert found["published"] == 1


def test_a_value_that_is_not_known_is_printed_as_missing_and_never_as_a_number() -> None:
    filled = reproduction_text.fill(TABLE, [])
    (table,) = reproduction_text.as_tables(filled)
    assert [[str(cell) for cell in row[2:]] for row in table.rows] == [
        ["0.5", "not run"],
        ["–", "not run"],
        ["–", "not run"],
    ]


def test_the_report_is_the_same_in_every_format_and_every_time() -> None:
    rows = [made("a", "sft", "tiny"), made("<b>|", "ppo", "tiny")]
    files, _ = paper_files(board_of(*rows))
    again, _ = paper_files(board_of(*rows[::-1]))
    assert files == again
    lines = list(csv.DictReader(io.StringIO(files["paper.csv"])))
    objects = json.loads(files["paper.json"])
    assert len(lines) == len(objects)
    published = [o for o in objects if o["whose"] == "published"]
    assert len(published) == PUBLISHED
    assert "<b>" not in files["paper.html"]
    assert "<b>" not in files["paper.md"]
