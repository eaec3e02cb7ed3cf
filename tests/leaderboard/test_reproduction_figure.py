"""A drawing has every value that is known, no other, and nothing of a name becomes markup."""

import json
import re
from typing import Any

import altair as alt
import pytest
from synthetic_scores import SUITES, swept

from benchmark.records import Scores
from leaderboard import ink
from leaderboard.board import Board, boards
from leaderboard.build import paper_files
from leaderboard.paper_tables import Claim, PaperColumn, PaperRow, PaperTable, Published, paper_tables
from leaderboard.plane_figure import png
from leaderboard.reproduction_figure import alt_text, spec, svg
from leaderboard.reproduction_text import files, fill

TABLE = PaperTable(
    name="figure-1",
    kind="figure",
    title="A figure",
    place="Figure 1",
    suite="toy",
    note="",
    columns=(
        PaperColumn(key="ead", title="EAD", role="ood", metric="ead_per_input"),
        PaperColumn(key="nli", title="NLI", role="ood", metric="nli_per_input"),
    ),
    rows=(
        PaperRow(
            model="org/base",
            method="sft",
            published={"ead": Published(value=0.41, decimals=2, source="notes", read_off=True)},
        ),
        PaperRow(model="org/base", method="ppo", published={"ead": Published(value=0.3, decimals=1, source="notes")}),
        PaperRow(model="org/other", method="ppo"),
    ),
)
PUBLISHED = ("table-11", "table-12", "text-reward-model")
"""Of what is no figure, these have published values."""
HOSTILE = "<script>alert(1)</script>&lt;b&gt;\"'"


def made(name: str, method: str, base: str, **card: object) -> Scores:
    run = swept(name, n=12)
    return run.model_copy(update={"card": run.card.model_copy(update={"method": method, "base_model": base, **card})})


def drawn(made_of: list[Board], table: PaperTable = TABLE) -> dict[str, Any]:
    filled = fill(table, made_of)
    return spec(filled.table, filled.cells, filled.beside)


def texts(found: dict[str, Any]) -> list[str]:
    return [row["text"] for rows in found["datasets"].values() for row in rows if "text" in row]


def panels(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for part in found["vconcat"] for panel in part.get("hconcat", ())]


def layers(found: dict[str, Any], place: int, kind: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    return [
        (layer, found["datasets"][layer["data"]["name"]])
        for layer in panels(found)[place]["layer"]
        if layer["mark"]["type"] == kind
    ]


def points(found: dict[str, Any], place: int = 1) -> dict[tuple[str, bool], list[float]]:
    """Shape and whether it is filled → values."""
    return {
        (layer["mark"]["shape"], "fill" in layer["encoding"]): [row["x"] for row in rows]
        for layer, rows in layers(found, place, "point")
        if rows
    }


BESIDE = [
    made("x/tiny", "sft", "tiny"),
    swept("random words", kind="floor", n=12),
]


def test_published_values_are_diamonds_hollow_where_read_off_and_ours_are_circles() -> None:
    own = made("own", "sft", "org/base")
    found = points(drawn(boards([own, *BESIDE], SUITES)))
    estimates = [
        next(e.value for e in run.estimates if (e.metric, e.role, e.temperature) == ("ead_per_input", "ood", 1.0))
        for run in (own, *BESIDE)
    ]
    assert found == {
        ("diamond", False): [0.41],
        ("diamond", True): [0.3],
        ("circle", True): [pytest.approx(value) for value in estimates],
    }


def test_ours_is_hollow_where_it_cannot_be_held_against_what_is_published() -> None:
    columns = tuple(column.model_copy(update={"paper_metric": "win_rate"}) for column in TABLE.columns)
    found = drawn(boards([made("own", "sft", "org/base")], SUITES), TABLE.model_copy(update={"columns": columns}))
    assert ("circle", False) in points(found)
    assert ("circle", True) not in points(found)
    assert "ours, of another measure or prompts" in texts(found)


def test_a_long_table_leaves_out_rows_without_a_value_and_says_how_many() -> None:
    whole, short = (drawn([], TABLE.model_copy(update={"kind": kind})) for kind in ("figure", "table"))
    assert "other, ppo" in texts(whole)
    assert "other, ppo" not in texts(short)
    assert any(text.endswith("Rows of the table without any value, left out here: 1.") for text in texts(short))
    assert not any("left out" in text for text in texts(whole))


def test_what_stands_beside_is_on_a_grey_ground_below_a_heading_that_says_so() -> None:
    found = drawn(boards(BESIDE, SUITES))
    ((ground, (band,)),) = layers(found, 1, "rect")
    assert ground["mark"]["fill"] == ink.GRID
    marks = {row["x"]: row["y"] for _, rows in layers(found, 1, "point") for row in rows}
    assert all((y > band["y"]) == (x not in (0.41, 0.3)) for x, y in marks.items())
    assert "Not comparable: toy@v1" in texts(found)
    assert len(texts(drawn([]))) < len(texts(found))
    ((_, none),) = layers(drawn([]), 1, "rect")
    assert none == []


def test_a_quantity_of_which_nothing_is_known_has_no_panel_and_is_named() -> None:
    found = drawn(boards(BESIDE, SUITES))
    assert [panel["title"]["text"] for panel in panels(found)[1:]] == ["EAD"]
    assert "Of NLI no value is known, here or there." in texts(found)


def test_a_figure_without_any_value_says_so_row_by_row() -> None:
    bare = TABLE.model_copy(update={"rows": tuple(PaperRow(model=r.model, method=r.method) for r in TABLE.rows)})
    found = drawn([], bare)
    assert len(panels(found)) == len(found["vconcat"]) == 1
    assert "base, sft: no value is known, and none of ours run" in texts(found)
    assert png(svg(bare, fill(bare, []).cells, [])).startswith(b"\x89PNG")


def test_a_cell_without_a_value_says_so_in_its_panel() -> None:
    found = drawn(boards(BESIDE, SUITES))
    assert texts(found).count("not known here, not run") == 1


def test_a_method_has_the_same_colour_whichever_others_the_table_has() -> None:
    def colour(rows: tuple[PaperRow, ...]) -> dict[float, str]:
        found = drawn([], TABLE.model_copy(update={"rows": rows}))
        return {row["x"]: row["own"] for _, marks in layers(found, 1, "point") for row in marks}

    both, without_sft = colour(TABLE.rows), colour(TABLE.rows[1:])
    assert both[0.3] == without_sft[0.3] == ink.PALETTE[1][0]
    assert both[0.41] == ink.PALETTE[0][0]


def test_a_line_that_is_no_interval_is_broken() -> None:
    seeds = [made(f"x/ppo-{s}", "ppo", "tiny", family="ppo", training_seed=s) for s in (1, 2)]
    found = drawn(boards([*seeds, *BESIDE], SUITES))
    broken = [rows for layer, rows in layers(found, 1, "rule") if "strokeDash" in layer["mark"]]
    whole = [rows for layer, rows in layers(found, 1, "rule") if "strokeDash" not in layer["mark"]]
    assert [len(rows) for rows in broken + whole] == [1, 2]
    assert "mean of seeds, lowest to highest: no interval" in texts(found)
    assert "mean of seeds, lowest to highest: no interval" not in texts(drawn(boards(BESIDE, SUITES)))


@pytest.mark.parametrize("values", [(0.001, 0.04), (0.5, 0.99), (-1.54, 0.06), (0.035, 0.035), (0.2, 1.3)])
def test_every_mark_and_its_number_lie_in_the_panel(values: tuple[float, float]) -> None:
    rows = tuple(
        PaperRow(model=f"m{i}", method="sft", published={"ead": Published(value=v, decimals=3, source="notes")})
        for i, v in enumerate(values)
    )
    found = drawn([], TABLE.model_copy(update={"rows": rows}))
    panel = panels(found)[1]
    low, high = panel["encoding"]["x"]["scale"]["domain"]
    assert low <= 0.0 <= high
    unit = panel["width"] / (high - low)
    for layer, rows_drawn in layers(found, 1, "text"):
        for row in rows_drawn:
            if "at" in row:
                start = row["at"] if layer["mark"]["align"] == "left" else row["at"] - 36 / unit
                assert low - 1e-9 <= start
                assert start + 36 / unit <= high + 1e-9
    marks = [row["x"] for _, drawn_rows in layers(found, 1, "point") for row in drawn_rows]
    assert all(low <= x <= high and (x >= 0.0 or x > low) for x in marks)


def test_a_name_that_is_too_long_is_cut() -> None:
    found = drawn(boards([made("x/" + "long " * 30, "sft", "tiny")], SUITES))
    assert max(map(len, texts(found))) < 60
    assert any(text.endswith("…") for text in texts(found))


def test_what_answers_a_cell_is_named_on_a_line_of_its_own() -> None:
    found = drawn(boards([made("own", "sft", "org/base")], SUITES))
    places = {row["text"]: row["y"] for rows in found["datasets"].values() for row in rows if "text" in row}
    assert places["base, sft"] < places["ours: own"] < places["base, ppo"]
    marks = {row["shape"]: row["y"] for _, rows in layers(found, 1, "point") for row in rows[:1]}
    assert marks["circle"] == places["ours: own"]


@pytest.mark.parametrize(("value", "low"), [(-1e-7, 0.0), (-0.1, -0.12)])
def test_what_is_below_0_by_rounding_alone_needs_no_room_there(value: float, low: float) -> None:
    rows = (PaperRow(model="m", method="sft", published={"ead": Published(value=value, decimals=3, source="notes")}),)
    found = drawn([], TABLE.model_copy(update={"rows": rows}))
    assert panels(found)[1]["encoding"]["x"]["scale"]["domain"][0] == pytest.approx(low)


def test_the_first_line_is_the_uppermost_and_all_panels_have_the_same_lines() -> None:
    found = drawn(boards(BESIDE, SUITES))
    domains = [panel["encoding"]["y"]["scale"]["domain"] for panel in panels(found)]
    heights = [panel["height"] for panel in panels(found)]
    assert domains == [[height, 0] for height in heights] == [[heights[0], 0]] * len(domains)


def test_shares_are_drawn_from_0_to_1() -> None:
    assert panels(drawn(boards(BESIDE, SUITES)))[1]["encoding"]["x"]["scale"]["domain"] == [0.0, 1.0]


@pytest.mark.parametrize("name", list(paper_tables()))
def test_each_of_the_papers_figures_is_a_valid_specification_and_the_same_bytes_again(name: str) -> None:
    filled = fill(paper_tables()[name], [])
    alt.Chart.from_dict(spec(filled.table, filled.cells, filled.beside))
    first, again = (svg(filled.table, filled.cells, filled.beside, prefix="p-") for _ in range(2))
    assert first == again
    assert all(found.startswith("p-figure-") for found in re.findall(r'\sid="([^"]+)"', first))


def test_a_hostile_name_stays_text_in_the_drawing_and_on_the_page() -> None:
    made_of = boards([made(HOSTILE, "sft", "tiny")], SUITES)
    filled = fill(TABLE, made_of)
    picture = svg(filled.table, filled.cells, filled.beside)
    assert "<script" not in picture
    assert "&lt;script&gt;" in picture
    assert HOSTILE[:8] in json.dumps(spec(filled.table, filled.cells, filled.beside))
    said = TABLE.model_copy(update={"title": HOSTILE, "claims": (Claim(text=HOSTILE, source=HOSTILE),)})
    found = files({"figure-1": fill(said, made_of)})
    assert found["paper.html"].count("&lt;script&gt;") > found["paper.html"].count("<svg")
    assert "<script" not in found["paper.html"]
    assert "<script" not in files({"figure-1": filled})["paper.md"]


def test_the_page_has_every_drawing_within_and_the_folder_has_it_beside() -> None:
    made_of, found = paper_files(boards(BESIDE, SUITES), drawings=True)
    names = [name for name, filled in found.items() if filled.table.kind == "figure" or name in PUBLISHED]
    assert [file for file in made_of if file.endswith(".svg")] == [f"paper-{name}.svg" for name in names]
    assert all(made_of[f"paper-{name}.svg"] in made_of["paper.html"] for name in names)
    page = paper_files(boards(BESIDE, SUITES))[0]
    assert page == {file: text for file, text in made_of.items() if not file.endswith(".svg")}


def test_what_a_drawing_shows_is_told_to_those_who_cannot_see_it() -> None:
    filled = fill(TABLE, boards(BESIDE, SUITES))
    told = alt_text(filled.table, filled.cells, filled.beside)
    assert "base sft, EAD ≈ 0.41; base ppo, EAD 0.3. 0 of 6 cells have a value of ours; 2 other rows" in told
