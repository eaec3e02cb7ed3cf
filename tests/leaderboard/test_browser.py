"""The pages in a real browser, from disk and without a network: what readers see, press and type."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_scores import SUITES, imported_rows, swept, toy_rows

from benchmark.records import ModelCard, Scores
from leaderboard.build import build

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here; on Debian: apt install chromium"),
    pytest.mark.slow,
]
expect = sync_api.expect
POINTS = ".chart .mark-symbol.role-mark path[aria-label*='across:']"
HEADLINES = f"{POINTS}[aria-label*='; state: ']"
ROWS = "#toy-v1 table.rows tbody tr"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def with_cards(rows: list[Scores]) -> list[Scores]:
    methods = ("sft", "ppo", "dpo")
    return [
        row.model_copy(update={"card": ModelCard(method=methods[number % 3], base_model="tiny")})
        if row.kind == "model"
        else row
        for number, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    build(with_cards(toy_rows(24)) + imported_rows(24), folder, SUITES)
    return folder


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a page; at the end of the test nothing may have been complained of, and nothing asked for elsewhere."""
    contexts, said = [], []

    def opened(path: Path, *, width: int = 1280, scheme: str = "light", touch: bool = False) -> Any:
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, has_touch=touch)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on(
            "request", lambda r: said.append(r.url) if not r.url.startswith(("file://", "data:", "blob:")) else None
        )
        page.goto(path.as_uri())
        if path.name == "index.html":
            page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait for what the page does after it has answered."""
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(25)
    raise AssertionError("it never came about")


def shown_rows(page: Any, section: str) -> list[str]:
    return page.eval_on_selector_all(f"#{section} table.rows tbody tr", "rows => rows.map(r => r.cells[1].innerText)")


def drawn(page: Any, section: str) -> set[str]:
    """Names of the rows that have a headline mark in the figure."""
    labels = page.eval_on_selector_all(f"#{section} {HEADLINES}", "marks => marks.map(m => m.ariaLabel)")
    return {re.search(r"model: (.*?); across:", label)[1] for label in labels}


def hover(page: Any, name: str) -> str:
    """Put the pointer on a row's headline mark; return the tooltip's text."""
    page.mouse.move(1, 1)
    marks = page.query_selector_all(f"#toy-v1 {HEADLINES}")
    mark = next(m for m in marks if f"model: {name};" in m.get_attribute("aria-label"))
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#vg-tooltip-element.visible")
    return page.inner_text("#vg-tooltip-element")


def test_the_index_loads_from_disk_without_a_word_on_the_console(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    assert page.locator(".chart svg.marks").count() == 2
    assert set(shown_rows(page, "toy-v1")) >= {row.name for row in toy_rows(2) if row.kind != "model"}
    assert drawn(page, "toy-v1") == {row.name for row in toy_rows(2)}


def test_the_pointer_tells_both_intervals_of_a_mark(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    name = next(row.name for row in toy_rows(2) if row.kind == "model")
    told = hover(page, name)
    assert name in told
    assert len(re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", told)) >= 2


def test_a_filter_of_the_figure_filters_the_table(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    everyone = drawn(page, "toy-v1")
    page.select_option("#toy-v1-controls select[name='method']", label="ppo")
    expected = {row.name for row in with_cards(toy_rows(2)) if row.card.method == "ppo"}
    controls = {row.name for row in toy_rows(2) if row.kind != "model"}
    expect(page.locator(ROWS)).to_have_count(len(expected))
    assert {name.removesuffix(" †") for name in shown_rows(page, "toy-v1")} == expected
    expect(page.locator(f"#toy-v1 {HEADLINES}")).to_have_count(len(expected | controls))
    assert drawn(page, "toy-v1") == expected | controls
    page.select_option("#toy-v1-controls select[name='method']", label="all")
    expect(page.locator(ROWS)).to_have_count(len(everyone))
    assert drawn(page, "toy-v1") == everyone


def test_a_search_in_the_table_filters_the_figure(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    name = next(row.name for row in toy_rows(2) if row.kind == "model")
    page.fill("#toy-v1 input[type=search]", name)
    expect(page.locator(ROWS)).not_to_have_count(len(toy_rows(2)))
    found = {text.removesuffix(" †") for text in shown_rows(page, "toy-v1")}
    controls = {row.name for row in toy_rows(2) if row.kind != "model"}
    assert name in found
    expect(page.locator(f"#toy-v1 {HEADLINES}")).to_have_count(len(found | controls))
    assert drawn(page, "toy-v1") == found | controls


def test_a_heading_sorts_by_number_with_mouse_and_keyboard(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")

    def scores() -> list[float]:
        cells = page.eval_on_selector_all(
            "#toy-v1 table.rows tbody tr",
            "rows => rows.map(r => r.cells[[...r.closest('table').tHead.rows[0].cells]"
            ".findIndex(c => c.innerText.trim() == 'score')].dataset.order)",
        )
        return [float(cell) if cell else -1.0 for cell in cells]

    heading = page.locator("#toy-v1 table.rows thead th", has_text=re.compile("^score$")).first
    heading.click()
    until(page, lambda: scores() == sorted(scores()))
    heading.get_by_role("button").press("Enter")
    until(page, lambda: scores() == sorted(scores(), reverse=True))


def test_another_view_has_its_own_axes_and_points(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    titles = "marks => marks.map(m => m.textContent).filter(t => t.endsWith('→'))"
    before = page.eval_on_selector_all("#toy-v1 .chart text", titles)
    for view in page.eval_on_selector_all("#toy-v1-controls select[name='view'] option", "o => o.map(x => x.label)")[
        1:
    ]:
        page.select_option("#toy-v1-controls select[name='view']", label=view)
        until(page, lambda: page.eval_on_selector_all("#toy-v1 .chart text", titles) != before)
        after = page.eval_on_selector_all("#toy-v1 .chart text", titles)
        assert len(after) == 2
        assert drawn(page, "toy-v1")


def test_the_wheel_zooms_and_a_double_click_resets(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")

    def ticks() -> list[str]:
        return sorted(page.locator("#toy-v1 .chart .role-axis-label text").all_text_contents())

    before = ticks()
    box = page.locator("#toy-v1 .chart svg.marks").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    assert ticks() == before, "without a key the wheel is the page's"
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    until(page, lambda: ticks() != before)
    page.mouse.dblclick(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    until(page, lambda: ticks() == before)


def test_a_row_and_its_mark_lead_to_the_models_page(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    name = next(row.name for row in toy_rows(2) if row.kind == "model")
    page.click(f"#toy-v1 table.rows a:text-is('{name}'), #toy-v1 table.rows a:text-is('{name} †')")
    assert name in page.inner_text("h1")
    page.go_back()
    page.wait_for_selector("html[data-ready]")
    hover(page, name)
    with page.expect_navigation():
        page.mouse.down()
        page.mouse.up()
    assert name in page.inner_text("h1")
    page.click("a[href*='index.html']")
    page.wait_for_selector("html[data-ready]")


@pytest.mark.parametrize("which", ["index.html", "methods.html", "model"])
def test_a_page_fits_a_telephone(open_page: Open, board: Path, which: str) -> None:
    path = next((board / "models").iterdir()) if which == "model" else board / which
    page = open_page(path, width=360, touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if which == "index.html":
        assert page.locator("#toy-v1 .chart svg.marks").bounding_box()["width"] <= 360


@pytest.mark.parametrize("which", ["index.html", "methods.html", "model"])
def test_the_dark_is_dark_and_legible(open_page: Open, board: Path, which: str) -> None:
    path = next((board / "models").iterdir()) if which == "model" else board / which
    page = open_page(path, scheme="dark")
    light = "c => c.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765"
    paper = page.evaluate(f"({light})(getComputedStyle(document.body).backgroundColor)")
    ink = page.evaluate(f"({light})(getComputedStyle(document.body).color)")
    assert paper < 0.2
    assert ink > 0.7
    if which == "index.html":
        fills = page.eval_on_selector_all(".chart text", f"t => t.map(x => ({light})(getComputedStyle(x).fill))")
        assert min(fills) > 0.5


def test_one_suite_can_be_looked_at_alone(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    assert page.locator("section.suite:visible").count() == 2
    page.get_by_role("radio", name=SUITES["toy@v1"].title).check(force=True)
    assert page.locator("section.suite:visible").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.locator("section.suite:visible").get_attribute("id") == "imported-v2"


def test_the_keyboard_reaches_every_control(open_page: Open, board: Path) -> None:
    page = open_page(board / "index.html")
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        what = page.evaluate("(e => `${e.tagName} ${e.name || e.type || ''}`.trim())(document.activeElement)")
        reached.add(what)
        if what == "BODY":
            break
    assert reached >= {
        "SELECT view",
        "SELECT method",
        "INPUT curves",
        "INPUT search",
        "SPAN",
        "A",
        "SUMMARY",
        "INPUT suite",
    }


def test_hostile_names_stay_text_under_the_pointer_and_in_the_table(open_page: Open, tmp_path: Path) -> None:
    names = [
        "<img src=x onerror=alert(1)>",
        "'); alert(1); ('",
        "</script><script>alert(2)</script>",
        "{{constructor}}",
    ]
    build([swept(name, quality=0.3 + 0.1 * place, n=24) for place, name in enumerate(names)], tmp_path, SUITES)
    page = open_page(tmp_path / "index.html")
    assert {text.removesuffix(" †") for text in shown_rows(page, "toy-v1")} == set(names)
    for name in names:
        assert name in hover(page, name)
    assert page.locator("#toy-v1 img").count() == 0


def test_a_thousand_rows_can_be_filtered_and_paged(open_page: Open, tmp_path: Path) -> None:
    rows = [swept(f"model {number:04d}", quality=0.2 + 0.0006 * number, n=6) for number in range(1000)]
    build(with_cards(rows), tmp_path, SUITES)
    assert sum(path.stat().st_size for path in (tmp_path / "index.html", *(tmp_path / "assets").iterdir())) < 3 * 10**6
    page = open_page(tmp_path / "index.html")
    assert len(drawn(page, "toy-v1")) == 1000
    assert page.locator("#toy-v1 table.rows tbody tr").count() == 50
    page.fill("#toy-v1 input[type=search]", "model 0007")
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator(f"#toy-v1 {HEADLINES}")).to_have_count(1)
    assert drawn(page, "toy-v1") == {"model 0007"}
