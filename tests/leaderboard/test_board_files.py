"""The files of a board: the same bytes always, nothing hostile alive, nothing missing turned into a number."""

import csv
import hashlib
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pikepdf
import pytest
from synthetic_scores import CONSTANT, SUITES, imported_rows, swept, toy_rows

from benchmark.errors import UserError
from benchmark.records import Flag, ModelCard, Scores
from leaderboard.board import boards
from leaderboard.build import build, render
from leaderboard.text_tables import terminal

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '=HYPERLINK("http://evil.example","x")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "-2+3",
    "\t=1+1",
    "a | b | c",
    "[x](javascript:alert(1)) `code` ![i](http://evil.example/i.png)",
    r"\input{/etc/passwd} \immediate\write18{ls} $x_1^2$ 50% & # {}~",
    "line one\nline two\r\n| --- |",
    "\x1b[31mred\x00 \u202egnp.exe",
    "{{ 7*7 }} {% raw %}",
    "www.evil.example https://evil.example a@evil.example",
    "模型 é ß 🤖",
    "x" * 200,
]


@pytest.fixture(scope="module")
def files(all_rows: list[Scores]) -> dict[str, bytes]:
    return render(all_rows, SUITES)


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    bad = [
        swept(
            text, quality=0.3 + 0.02 * place, n=12, flags=(Flag(code="odd", text=text),) if place % 4 == 0 else ()
        ).model_copy(
            update={
                "card": ModelCard(method=text[:200], note=text, trained_on=(text,)),
                "absent": {f"made_up_{place}": text},
                "notes": {text: text},
            }
        )
        for place, text in enumerate(HOSTILE)
    ]
    return render(bad, SUITES)


class Tags(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_same_bytes_in_any_order(all_rows: list[Scores], files: dict[str, bytes]) -> None:
    shuffled = random.Random(1).sample(all_rows, len(all_rows))
    assert render(shuffled, SUITES) == files


def test_same_bytes_in_another_process_hash_seed_zone_and_locale(files: dict[str, bytes]) -> None:
    code = (
        "import hashlib, json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from synthetic_scores import SUITES, imported_rows, toy_rows\n"
        "from leaderboard.build import render\n"
        "files = render(imported_rows() + toy_rows(), SUITES)\n"
        "print(json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "TZ": "Pacific/Chatham", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_every_file_is_written_where_it_is_said_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "board"
    paths = build(toy_rows(12), folder, SUITES)
    endings = ("csv", "json", "md", "tex")
    assert {path.relative_to(folder).as_posix() for path in paths if path.parent.name != "models"} == {
        "index.html",
        "methods.html",
        "paper.html",
        *(f"paper.{ending}" for ending in ("csv", "json", "md")),
        "citation.bib",
        *(f"leaderboard.{ending}" for ending in endings),
        *(f"curve.{ending}" for ending in endings),
        *(f"plane.{ending}" for ending in ("svg", "png", "pdf")),
        *(f"assets/{name}" for name in ("vega.js", "tables.js", "tables.css", "page.js")),
    }
    assert len([path for path in paths if path.parent.name == "models"]) == len(toy_rows(12))
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)


def test_other_suites_have_figures_of_their_own(files: dict[str, bytes]) -> None:
    assert {name for name in files if name.startswith("plane")} == {
        f"{stem}.{ending}" for stem in ("plane", "plane-imported-v2") for ending in ("svg", "png", "pdf")
    }


def test_a_refused_board_leaves_old_files_untouched(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("old")
    with pytest.raises(UserError):
        build([swept("same", n=12), swept("same", n=12)], tmp_path, SUITES)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"index.html": "old"}


def test_the_csv_has_one_row_a_model_and_suite(all_rows: list[Scores], files: dict[str, bytes]) -> None:
    rows = table(files["leaderboard.csv"])
    assert sorted((row["model"], row["suite"]) for row in rows) == sorted(
        (scores.name, scores.identity.suite) for scores in all_rows
    )
    assert {row["kind"] for row in rows} == {"model", "floor", "ceiling"}


def test_every_quantity_is_in_the_csv_unrounded_with_its_interval(
    all_rows: list[Scores], files: dict[str, bytes]
) -> None:
    rows = {row["model"]: row for row in table(files["leaderboard.csv"])}
    for scores in all_rows:
        for found in scores.estimates:
            if found.temperature == 1.0:
                name = f"{found.metric}_{found.role}"
                values = [float(rows[scores.name][name + end]) for end in ("", "_low", "_high")]
                assert values == [found.value, found.low, found.high]


def test_missing_is_an_empty_cell_and_a_dash_never_zero(files: dict[str, bytes]) -> None:
    rows = {row["model"]: row for row in table(files["leaderboard.csv"])}
    assert [rows["claude-2"][f"ead_per_input_ood{end}"] for end in ("", "_low", "_high")] == ["", "", ""]
    assert rows["claude-2"]["win_rate_gap"] == ""
    assert float(rows["NullModel"]["sbert_across_input_ood"]) == 0.0
    line = next(line for line in files["leaderboard.md"].decode().splitlines() if "claude-2" in line)
    assert line.endswith("| – |")
    assert "diversity per input needs several outputs a prompt" in files["index.html"].decode()


def test_unranked_rows_have_empty_ranks_and_keep_their_reason(files: dict[str, bytes]) -> None:
    rows = {row["model"]: row for row in table(files["leaderboard.csv"])}
    for name in ("NullModel", "random words", "fresh references"):
        assert [rows[name][column] for column in ("rank", "rank_low", "rank_high")] == ["", "", ""]
    assert rows["NullModel"]["flags"] == "constant_output"
    for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "index.html"):
        assert CONSTANT.text in files[name].decode(), name


def test_the_curve_file_has_every_temperature_and_role(files: dict[str, bytes]) -> None:
    rows = [row for row in table(files["curve.csv"]) if row["model"] == "DPO"]
    assert [(row["role"], row["temperature"]) for row in rows] == [
        (role, temperature) for role in ("id", "ood", "ood_hard") for temperature in ("0.3", "0.7", "1.0", "1.3")
    ]
    assert all(0.0 <= float(row["y_low"]) <= float(row["y"]) <= float(row["y_high"]) <= 1.0 for row in rows)


def test_pages_load_nothing_but_the_files_beside_them(files: dict[str, bytes]) -> None:
    for page in (name for name in files if name.endswith(".html")):
        text = files[page].decode()
        assert not re.search(r"url\((?!#)|@import|<iframe", text)
        for tag, attributes in Tags(text).tags:
            for name in ("src", "href", "xlink:href"):
                target = attributes.get(name) or "#"
                if tag == "a" and re.match(r"https://(arxiv\.org|github\.com)/", target):
                    continue
                assert ":" not in target, target
                beside = os.path.normpath(Path(page).parent / unquote(target.partition("#")[0]))
                assert target.startswith("#") or beside in files, (page, target)


def test_no_page_may_run_or_load_what_is_not_beside_it(files: dict[str, bytes]) -> None:
    for page in (name for name in files if name.endswith(".html")):
        policy = next(
            attributes["content"] or ""
            for tag, attributes in Tags(files[page].decode()).tags
            if attributes.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        assert ("script-src 'self';" in policy) == (page == "index.html")


def test_ids_on_the_page_are_unique(files: dict[str, bytes]) -> None:
    ids = [attributes["id"] for _, attributes in Tags(files["index.html"].decode()).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_figure_has_a_text_for_those_who_cannot_see_it(files: dict[str, bytes]) -> None:
    tags = Tags(files["index.html"].decode()).tags
    charts = [attributes["aria-label"] for _, attributes in tags if attributes.get("class") == "chart"]
    static = [attributes["alt"] for tag, attributes in tags if tag == "img"]
    assert len(charts) == 2
    assert charts == static
    assert all(text and "higher is better" in text for text in charts)


def test_hostile_strings_make_no_tag_and_no_attribute(hostile: dict[str, bytes], files: dict[str, bytes]) -> None:
    ours = {tag for tag, _ in Tags(files["index.html"].decode()).tags}
    for page in (name for name in hostile if name.endswith(".html")):
        for tag, attributes in Tags(hostile[page].decode()).tags:
            assert page != "index.html" or tag in ours
            assert page == "index.html" or tag not in {"script", "img", "iframe", "object"}
            assert not [name for name in attributes if name.startswith("on")]
            assert "javascript:" not in str(attributes.get("href"))
    scripts = [attributes for tag, attributes in Tags(hostile["index.html"].decode()).tags if tag == "script"]
    assert all(a.get("type") == "application/json" or (a["src"] or "").startswith("assets/") for a in scripts)


def test_what_the_chart_is_told_is_the_rows_in_json(hostile: dict[str, bytes]) -> None:
    page = hostile["index.html"].decode()
    specs = re.findall(r'<script type="application/json" class="spec">(.*?)</script>', page, flags=re.S)
    assert len(specs) == 1
    assert "<" not in specs[0]
    lookup = next(part for part in json.loads(specs[0])["transform"] if "lookup" in part)
    names = {row["name"] for row in lookup["from"]["data"]["values"]}
    assert "<script>alert(1)</script>" in names
    assert len(names) == len(HOSTILE)


def test_no_control_or_direction_character_survives(hostile: dict[str, bytes]) -> None:
    for name, data in hostile.items():
        if not name.endswith((".png", ".pdf")) and not name.startswith("assets/"):
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", data.decode()), name


def test_json_tables_hold_what_the_csv_tables_hold(files: dict[str, bytes]) -> None:
    for name in ("leaderboard", "curve"):
        for line, row in zip(table(files[f"{name}.csv"]), json.loads(files[f"{name}.json"]), strict=True):
            assert list(line) == list(row)
            for field, value in row.items():
                if isinstance(value, str):
                    assert line[field].removeprefix("'") == value
                else:
                    assert (line[field] or None) == (None if value is None else repr(value))


def test_each_pdf_is_one(files: dict[str, bytes]) -> None:
    for name in (name for name in files if name.endswith(".pdf")):
        with pikepdf.open(io.BytesIO(files[name])) as drawn:
            assert len(drawn.pages) == 1
            assert "/Info" not in drawn.trailer


def test_hostile_names_make_no_formula_in_a_csv(hostile: dict[str, bytes]) -> None:
    for name in ("leaderboard.csv", "curve.csv"):
        lines = list(csv.reader(io.StringIO(hostile[name].decode())))
        assert len({len(line) for line in lines}) == 1
        for line in lines[1:]:
            for cell in line:
                assert not re.match(r"[=+@\t\r]", cell), cell
                assert not cell.startswith("-") or float(cell) <= 0


def test_hostile_names_make_no_markup_in_markdown(hostile: dict[str, bytes]) -> None:
    text = hostile["leaderboard.md"].decode()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) <= 2  # the ranked table and the unranked one
    assert "<" not in text
    assert not re.search(r"(?<!\\)`|https?://|www\.|(?<!\\)\]\(|a@evil", text)


def test_hostile_names_make_no_command_in_latex(hostile: dict[str, bytes]) -> None:
    text = hostile["leaderboard.tex"].decode()
    ours = set(re.findall(r"\\([a-zA-Z]+)", render([swept("plain", n=12)], SUITES)["leaderboard.tex"].decode()))
    escapes = {"textbackslash", "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "char"}
    escapes |= {
        "textquotesingle",
        "textasciigrave",
        "textdagger",
        "rightarrow",
        "surd",
        "cdot",
        "times",
        "geq",
        "ldots",
    }
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= ours | escapes
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, flags=re.S)
    for body in bodies:
        cells = {len(re.findall(r"(?<!\\)&", line)) for line in body.strip().splitlines()}
        assert len(cells) == 1
    assert not re.search(r"(?<!\\)[%#]", "\n".join(bodies))


def test_figures_of_hostile_names_are_well_formed_and_hold_no_markup(hostile: dict[str, bytes]) -> None:
    root = ET.fromstring(hostile["plane.svg"].decode())
    names = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert names <= {"svg", "g", "path", "line", "rect", "text", "tspan", "defs", "clipPath", "title"}


def test_a_long_name_is_shortened_in_the_figure_and_whole_in_the_tables(hostile: dict[str, bytes]) -> None:
    assert "x" * 200 in hostile["leaderboard.csv"].decode()
    assert "x" * 30 not in hostile["plane.svg"].decode()


def test_the_png_is_the_svg_at_twice_its_size(files: dict[str, bytes]) -> None:
    png = files["plane.png"]
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    root = ET.fromstring(files["plane.svg"].decode())
    assert (width, height) == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))
    assert 1200 <= width <= 2400
    assert 600 <= height <= 1600


def test_every_row_is_named_in_its_figure(files: dict[str, bytes]) -> None:
    for name, rows in (("plane.svg", toy_rows(2)), ("plane-imported-v2.svg", imported_rows(2))):
        for row in rows:
            assert row.name in files[name].decode()


def test_the_terminal_gets_the_same_tables(all_rows: list[Scores]) -> None:
    for board in boards(all_rows, SUITES):
        for _, headers, rows in terminal(board):
            assert all(len(row) == len(headers) for row in rows)


def test_a_board_where_no_row_is_on_the_plane_still_builds() -> None:
    assert b"not on the plane" in render([swept("cold", grid=(0.3,), n=12)], SUITES)["index.html"]
