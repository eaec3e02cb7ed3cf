"""The methods page: every metric of a board has its place, every word comes from the code, nothing heavy is loaded."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scores import SUITES
from test_model_page import Page

import benchmark.metrics.ead
import benchmark.statistics.intervals
from benchmark.metrics.catalog import GATE, METRICS
from benchmark.records import Scores
from benchmark.suites import load_suites
from leaderboard import docstrings, methods_page
from leaderboard.anchors import metric_anchor
from leaderboard.docstrings import html, inline, read_module, sections, summary
from leaderboard.names import METHODS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    return methods_page.methods_page()


@pytest.fixture(scope="module")
def read(page: str) -> Page:
    return Page(page)


def test_every_metric_of_a_board_has_its_place(read: Page, all_rows: list[Scores]) -> None:
    metrics = {estimate.metric for row in all_rows for estimate in row.estimates}
    assert metrics
    ids = read.values("id")
    assert {metric_anchor(metric) for metric in metrics} <= set(ids)
    # Those of the suites' own gates by their whole name as well.
    assert {"effective_per_input_oracle", "valid_share_oracle", *metrics} <= set(ids)


def test_every_metric_of_the_catalog_has_its_place_and_its_facts(read: Page) -> None:
    for name, metric in METRICS.items():
        assert methods_page.home_of(name) is not None, name
        assert metric_anchor(name) in read.values("id")
        for said in (name, metric.title, metric.range, metric.direction, metric.floor, metric.ceiling):
            assert said is None or said in read.text


def test_metrics_of_other_gates_and_packages_lead_to_a_place_that_is_there(read: Page) -> None:
    for metric in ("effective_per_input_mine", "valid_share_x_y", "own_rhyme", "not in the catalog"):
        assert metric_anchor(metric) in read.values("id")
    assert metric_anchor("effective_per_input_mine") == "effective_per_input"
    assert metric_anchor(f"valid_share_{GATE}") == "valid_share"


def test_no_two_elements_share_an_id_and_every_link_within_the_page_leads_somewhere(read: Page) -> None:
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in read.values("href") if link.startswith("#")} <= set(ids)


def test_every_suite_is_told_with_its_axes_its_gate_and_its_sampling(read: Page) -> None:
    text = read.text
    for suite in load_suites().values():
        plane = suite.plane
        for said in (suite.id, suite.title, suite.description, plane.x.title, plane.y.title, suite.gate.name):
            assert said in text
        for entry in suite.tasks:
            assert f"{entry.title} ({entry.task})" in text
        if suite.sampling:
            assert f"k {suite.sampling.k}; temperatures {', '.join(map(str, suite.sampling.temperatures))}" in text
    assert "divided by 0.309" in text


def test_the_suites_that_are_told_are_those_that_are_given() -> None:
    text = Page(methods_page.methods_page(SUITES)).text
    assert "Toy summaries" in text
    assert "Pocket summaries" not in text


def test_every_statistic_that_scores_and_boards_import_is_on_the_page(read: Page) -> None:
    told = {*methods_page.STATISTICS, *methods_page.METRIC_MODULES, *methods_page.PLANE}
    users = [*(ROOT / "leaderboard").glob("*.py"), ROOT / "benchmark/scoring.py", ROOT / "benchmark/quantities.py"]
    used = set()
    for path in users:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("benchmark.statistics."):
                used.add(node.module)
    assert len(used) > 5
    assert used <= told
    assert {f"interval-{method}" for method in METHODS} <= set(read.values("id"))


def test_the_words_are_those_of_the_docstrings(read: Page) -> None:
    words = " ".join(read.text.split())
    for said in (
        inspect.getdoc(benchmark.statistics.intervals.plus4_t),
        inspect.getdoc(benchmark.statistics.intervals.guarded_t),
        inspect.getdoc(benchmark.metrics.ead.published_per_input),
        benchmark.metrics.ead.__doc__,
    ):
        assert said is not None
        for line in re.split(r"\n|``|`|\*|arXiv", said):
            if set(line.strip()) - {"-", "("}:
                assert " ".join(line.split()) in words


def test_what_is_read_of_a_source_is_what_python_has_of_it() -> None:
    module = read_module("benchmark.statistics.intervals")
    assert module.doc == inspect.getdoc(benchmark.statistics.intervals)
    for member in module.members:
        assert member.doc == inspect.getdoc(getattr(benchmark.statistics.intervals, member.name))
        assert not member.name.startswith("_")
    with pytest.raises(ModuleNotFoundError):
        read_module("benchmark.nowhere")


def test_the_pages_and_the_board_are_made_without_torch() -> None:
    code = (
        "import sys; from leaderboard.methods_page import methods_page; import leaderboard.build; methods_page(); "
        "print([name for name in ('torch', 'transformers', 'lm_eval', 'datasets') if name in sys.modules])"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert made.stdout.strip() == "[]"


def test_the_page_is_the_same_every_time_and_has_no_script(page: str) -> None:
    assert methods_page.methods_page() == page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"0x[0-9a-f]{6,}", page)
    assert str(ROOT) not in page


def test_sections_are_split_where_dashes_stand_under_a_title() -> None:
    doc = """Do a thing.

    More of it.

    Parameters
    ----------
    x, y
        Two numbers, as ``[n]``.

        - one
        - the other,
          further on
    z

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Loose *words* & <tags>.
    """
    assert [section.title for section in sections(doc)] == ["", "Parameters", "Returns", "Notes"]
    assert html(doc) == (
        "<p>Do a thing.</p><p>More of it.</p>"
        "<h5>Parameters</h5><dl><dt><code>x, y</code></dt><dd><p>Two numbers, as <code>[n]</code>.</p>"
        "<ul><li>one</li><li>the other, further on</li></ul></dd><dt><code>z</code></dt><dd></dd></dl>"
        "<h5>Returns</h5><dl><dt><code>float</code></dt><dd><p>In [0, 1].</p></dd></dl>"
        "<h5>Notes</h5><p>Loose <em>words</em> &amp; &lt;tags&gt;.</p>"
    )
    assert summary(doc) == "Do a thing."
    assert html(doc, skip_summary=True).startswith("<p>More of it.</p><h5>")
    assert html("Only this.", skip_summary=True) == ""


def test_formulas_stand_as_they_are_and_lists_follow_a_sentence() -> None:
    doc = "Head\n\n    EAD = D / (S\n        < 1),\n\nTwo:\n- a\n- b\n  c"
    assert html(doc) == ("<p>Head</p><pre>EAD = D / (S\n    &lt; 1),</pre><p>Two:</p><ul><li>a</li><li>b c</li></ul>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("``a * b`` and `c`", "<code>a * b</code> and <code>c</code>"),
        ("**higher is less** *so*", "<strong>higher is less</strong> <em>so</em>"),
        ("2 * 3 * 4 and x*y*z", "2 * 3 * 4 and x*y*z"),
        ("(arXiv 2310.06452)", '(<a href="https://arxiv.org/abs/2310.06452">arXiv 2310.06452</a>)'),
        ("<b> & ``<i>``", "&lt;b&gt; &amp; <code>&lt;i&gt;</code>"),
    ],
)
def test_marks_within_a_line(text: str, expected: str) -> None:
    assert inline(text) == expected


@given(st.text(alphabet="ab <>&`*-\n:'\"_", max_size=80))
def test_any_docstring_gives_whole_elements_and_no_other(doc: str) -> None:
    read = Page(str(html(doc)))
    assert set(read.tags) <= {"p", "ul", "li", "dl", "dt", "dd", "h5", "pre", "code", "em", "strong"}
    assert docstrings.html(doc) == html(doc)
