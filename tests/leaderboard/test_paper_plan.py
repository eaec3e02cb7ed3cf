"""Which runs the empty cells need: those that nothing answers, and each once."""

from collections import Counter

from synthetic_scores import SUITES, swept

from benchmark.metrics.catalog import OWN
from benchmark.submission.validate import NOT_OURS
from leaderboard.board import boards
from leaderboard.paper_plan import NLI as NLI_METRICS
from leaderboard.paper_plan import open_cells
from leaderboard.paper_tables import PaperColumn, PaperRow, PaperTable, paper_tables

EAD = PaperColumn(key="ead", title="EAD", role="ood", metric="ead_per_input")
RATE = PaperColumn(key="rate", title="win rate", role="ood", metric="win_rate")
NLI = PaperColumn(key="nli", title="NLI", role="ood", metric="nli_per_input", paper_metric="nli_paper_table_per_input")
OVER = PaperColumn(
    key="over", title="over SFT", role="ood", metric="head_to_head", measured_by="gendiv judge --against"
)
STUDY = PaperColumn(key="study", title="EAD", role="ood", metric="ead_per_input", measured_by="gendiv study")
ROWS = tuple(PaperRow(model="org/base", method=method) for method in ("sft", "ppo", "best-of-16", "reward-model"))


def table(name, *columns, rows=ROWS):
    return PaperTable(
        name=name, kind="table", title="A table", place="Table", suite="toy", note="", columns=columns, rows=rows
    )


def row(method):
    run = swept(f"m-{method}", n=12)
    card = run.card.model_copy(update={"method": method, "base_model": "org/base"})
    return run.model_copy(update={"card": card})


def test_cells_of_several_tables_are_answered_by_one_run():
    found = open_cells([table("table-1", EAD, RATE), table("table-2", EAD)], [])
    assert [(run.method, run.suite, len(run.cells)) for run in found.runs] == [
        (method, "toy", 3) for method in ("sft", "ppo", "best-of-16")
    ]
    assert [cell.table for cell in found.runs[0].cells] == ["table-1", "table-1", "table-2"]
    assert {cell.row.method for cell in found.others} == {"reward-model"}


def test_a_cell_that_a_row_answers_is_not_open():
    found = open_cells([table("table-1", EAD, RATE)], boards([row("ppo")], SUITES))
    assert [run.method for run in found.runs] == ["sft", "best-of-16"]


def test_what_no_row_can_hold_needs_no_run():
    found = open_cells([table("table-1", STUDY, OVER, NLI, EAD, rows=ROWS[1:2])], [])
    [run] = found.runs
    assert [cell.column.key for cell in run.cells] == ["ead"]
    assert [(cell.column.key, cell.measured_by) for cell in found.others] == [
        ("study", "gendiv study"),
        ("over", "gendiv judge --against"),
        ("nli", "gendiv score --nli MODEL, on its run"),
    ]


def test_what_a_row_cannot_hold_is_what_is_left_out_of_the_claims_that_are_checked():
    assert set(NOT_OURS) == {OWN, NLI_METRICS}, "what an author's own metric gives is no cell of the paper"


def test_of_a_way_that_no_card_declares_nothing_here_measures_anything():
    found = open_cells([table("table-1", NLI, EAD, rows=ROWS[3:])], [])
    assert (found.runs, [cell.measured_by for cell in found.others]) == ((), [None, None])


def test_the_papers_protocol_asks_for_its_own_quantities():
    nli, ead = NLI, EAD.model_copy(update={"paper_metric": "ead_rlfh_per_input"})
    ours, papers = (open_cells([table("table-1", nli, ead)], [], paper_protocol=own) for own in (False, True))
    assert [(cell.metric, cell.temperature) for run in ours.runs for cell in run.cells] == [("ead_per_input", 1.0)] * 3
    temperatures = {run.method: run.cells[0].temperature for run in papers.runs}
    assert temperatures == {"sft": 1.0, "ppo": 1.0, "best-of-16": 0.7}
    assert {cell.metric for run in papers.runs for cell in run.cells} == {"ead_rlfh_per_input"}
    assert [cell.metric for cell in papers.others[:3]] == ["nli_paper_table_per_input"] * 3


def test_of_the_papers_own_tables_every_run_is_of_a_way_that_a_card_declares():
    found = open_cells(list(paper_tables().values()), [])
    assert {run.method for run in found.runs} == {"sft", "ppo", "best-of-16"}
    assert len({(run.model, run.suite, run.method) for run in found.runs}) == len(found.runs)
    assert sum(len(run.cells) for run in found.runs) == 123
    told = Counter((cell.metric.startswith("nli"), cell.table == "figure-4") for cell in found.others)
    assert told == {(True, False): 36, (False, True): 6, (False, False): 5}
