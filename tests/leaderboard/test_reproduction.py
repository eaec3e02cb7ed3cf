"""The paper's tables: what is known stays as certain as it is, and nothing else answers a cell."""

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scores import SUITES, swept

from benchmark.errors import UserError
from benchmark.records import Flag, Scores
from benchmark.suites import load_suites
from leaderboard import reproduction_text
from leaderboard.board import Board, boards
from leaderboard.build import paper_files
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable, Published, paper_table, paper_tables
from leaderboard.reproduction import Found, PaperCell, beside, counts, reproduce

ROW = PaperRow(model="org/base", method="ppo")
COLUMN = PaperColumn(key="ead", title="EAD", role="ood", metric="ead_per_input", paper_metric="sbert_across_input")
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
    assert set(tables) == {"table-11", "table-12", "figure-2", "figure-3", "figure-5", "figure-6"}
    known = [p for table in tables.values() for row in table.rows for p in row.published.values()]
    assert len(known) == 17
    for published in known:
        assert published.source.startswith("notes N")
        assert round(published.value, published.decimals) == published.value
    assert all(
        published.read_off == (table.kind == "figure")
        for table in tables.values()
        for row in table.rows
        for published in row.published.values()
    )


def test_the_tables_name_suites_and_roles_that_there_are() -> None:
    suites = {suite.suite: suite for suite in load_suites().values()}
    for table in paper_tables().values():
        roles = {task.role for task in suites[table.suite].tasks}
        assert {column.role for column in table.columns} <= roles


def test_a_table_is_found_by_number_and_by_name_and_another_is_refused() -> None:
    assert paper_table("11", "table") == paper_table("table-11", "table")
    with pytest.raises(UserError, match=r"no table '5'; there are: table-11, table-12"):
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
        ours=Found("org/run", ours, ours - half, ours + half, 10),
    )
    gap = abs(published - ours) - half - 0.5 * 10**-decimals
    if not math.isclose(gap, 0, abs_tol=1e-9):
        assert cell.verdict == ("agrees" if gap < 0 else "differs")


def test_only_the_very_model_trained_the_same_way_answers_a_cell() -> None:
    rows = [made("a", "sft", "org/base"), made("b", "sft", "org/other"), made("c", "dpo", "org/base")]
    cells = reproduce(TABLE, board_of(*rows))
    assert [cell.ours and cell.ours.who for cell in cells] == ["a", None, None]
    assert cells[0].ours is not None
    assert cells[0].ours.value == value(rows[0], "ead_per_input")
    assert cells[1].verdict == "not run"


def test_a_row_that_is_not_ranked_answers_nothing_and_stands_nowhere() -> None:
    flagged = made("liar", "sft", "org/base").model_copy(update={"flags": (Flag(code="copy", text="a copy"),)})
    other = made("x/liar", "ppo", "tiny").model_copy(update={"flags": (Flag(code="copy", text="a copy"),)})
    assert reproduce(TABLE, board_of(flagged))[0].verdict == "not run"
    assert beside(TABLE, board_of(other)) == []


def test_another_measure_than_the_papers_is_not_comparable_and_says_so() -> None:
    run = made("a", "sft", "org/base")
    own, papers = (reproduce(TABLE, board_of(run), paper_protocol=asked)[0] for asked in (False, True))
    assert (own.verdict, own.why_not) == ("not comparable", "the paper has sbert_across_input")
    assert papers.verdict in ("agrees", "differs")


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
        ("sbert_across_input", 1.0),
        ("sbert_across_input", 1.0),
        ("sbert_across_input", 0.7),
    ]
    assert cells[2].ours is not None
    assert cells[2].ours.value == value(best, "sbert_across_input", 0.7)


def test_other_models_and_floors_stand_beside_and_seeds_of_a_family_are_one() -> None:
    seeds = [made(f"x/ppo-{s}", "ppo", "tiny", family="ppo", training_seed=s) for s in (1, 2, 3)]
    floor = swept("random words", kind="floor", n=12)
    found = beside(TABLE, board_of(*seeds, made("x/sft", "sft", "tiny"), made("own", "ppo", "org/base"), floor))
    assert [(other.who, other.method) for other in found] == [
        ("x/sft", "sft"),
        ("x/ppo", "ppo"),
        ("random words", "floor"),
    ]
    values = [value(seed, "ead_per_input") for seed in seeds]
    family = found[1].values["ead"]
    assert (family.n, family.seeds) == (12, 3)
    assert [family.value, family.low, family.high] == pytest.approx([sum(values) / 3, min(values), max(values)])


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
    assert len(published) == 17
    assert "<b>" not in files["paper.html"]
    assert "<b>" not in files["paper.md"]
