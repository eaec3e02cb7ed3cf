"""A model's page: nothing a stranger writes is markup, nothing missing is a number, nothing of other rows is on it."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from synthetic_scores import SUITES, imported, swept

from benchmark.errors import UserError
from benchmark.records import Flag, ModelCard, Scores
from benchmark.submission.examples import Example, ExampleSample, ExampleVerdict, Excerpt
from leaderboard.board import boards
from leaderboard.model_figure import own_curves
from leaderboard.model_page import model_pages, page_name, visible
from leaderboard.provenance import MOST_FACTS, provenance
from leaderboard.row import read_row

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</div></table><style>*{display:none}</style>",
    "javascript:alert(1)",
    "\u202eevil\u202c\u200b\x00\x1b[31m\ud7ff",
    "a\x00b",
    "x" * 100_000,
    "&lt;b&gt; &amp;",
    "<!-- ",
    "]]>",
)
TEMPERATURES = (0.3, 0.7, 1.0, 1.3)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text, its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "link", "img", "br", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def values(self, name: str) -> list[str]:
        return [value or "" for _, found, value in self.attributes if found == name]


def shown(text: str = "the cat", verdict: ExampleVerdict | None = None, **changes: Any) -> Example:
    """An example of the toy suite with one text in every cell."""
    fields = {
        "task": "toy_ood",
        "role": "ood",
        "doc_id": "toy_ood-007",
        "prompt": Excerpt(text="What is on the mat?"),
        "reference": Excerpt(text="A cat."),
        "samples": tuple(
            ExampleSample(
                temperature=temperature, index=index, text=Excerpt(text=text), finish_reason="stop", verdict=verdict
            )
            for temperature in TEMPERATURES
            for index in range(2)
        ),
    }
    return Example(**(fields | changes))


def one(scores: Scores, examples: Sequence[Example] = ()) -> str:
    """The page of a single run."""
    [page] = model_pages(boards([scores], SUITES), {(scores.name, scores.identity.suite): examples}).values()
    return page


def test_every_row_has_a_page_floors_and_ceilings_too_and_a_name_of_two_suites_has_one(all_rows: list[Scores]) -> None:
    both = swept("claude-2")
    pages = model_pages(boards([*all_rows, both], SUITES), {})
    assert set(pages) == {f"models/{page_name(row.name)}" for row in all_rows}
    assert Page(pages["models/claude-2.html"]).tags.count("section") == 2
    assert "A floor: it shows what the scale means" in pages[f"models/{page_name('random words')}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_submission_says_is_inert(text: str) -> None:
    scores = swept("model", flags=(Flag(code=text[:200], text=text),))
    card = ModelCard(
        method=text, base_model=text, decoding=text[:200], family=text[:200], licence=text[:200], note=text,
        contact=text[:200], trained_on=(text,),
    )  # fmt: skip
    hostile = scores.model_copy(
        update={
            "name": text[:200],
            "card": card,
            "record": {text: text, "nested": {text: [text, {text: 1.0}]}},
            "notes": {"tier": text, "submission": text},
            "absent": {text: text},
            "model": scores.model.model_copy(update={"id": text[:200], "arguments": {text: text}}),
        }
    )
    reply = Excerpt(text=text[:401], left_out=3)
    verdict = ExampleVerdict(preference=0.5, orders=(0.0, None), score=1.0, reference_score=2.0, reply=reply)
    quoted = Excerpt(text=text[:1201], left_out=9)
    found = shown(text[:1201], verdict, prompt=quoted, reference=quoted, doc_id=text[:200], task="of another suite")
    plain_page, page = Page(one(scores, [shown("x", verdict)])), one(hostile, [found])
    read = Page(page)
    assert set(read.tags) <= set(plain_page.tags) | {"h4", "details", "summary", "ul", "li"}
    assert not {"script", "img", "iframe", "object", "base", "form", "input"} & set(read.tags)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert all(link.startswith(("../", "#")) for link in read.values("href") if link != "#")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", page)
    assert len(page) < 300_000


def test_a_text_keeps_its_line_breaks_and_signs_and_loses_what_steers_or_hides() -> None:
    text = "one\r\n\ttwo <b>\u202e\x00\u200d\u2028 ünïcödé 漢字 🙂\n"
    assert visible(text) == "one\n\ttwo <b>���\ufffd ünïcödé 漢字 🙂\n"
    page = one(swept("model"), [shown(text)])
    assert "one\n\ttwo &lt;b&gt;" in page
    assert 'class="said" dir="auto"' in page
    assert "white-space: pre-wrap" in page


@given(st.text(alphabet=st.characters(), max_size=200))
def test_a_visible_text_has_only_printable_signs_line_breaks_and_spaces(text: str) -> None:
    found = visible(text)
    assert all(letter.isprintable() or letter in "\n\t" or letter.isspace() for letter in found)
    assert len(found) == len(text.replace("\r\n", "\n"))
    assert visible(found) == found


def test_what_was_cut_says_how_much_is_missing() -> None:
    page = one(swept("model"), [shown(prompt=Excerpt(text="abc…", left_out=1234))])
    assert "cut here: 1,234 more characters" in page
    assert "cut here" not in one(swept("model"), [shown()])


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (None, "not judged"),
        (ExampleVerdict(preference=None, score=None), "no verdict"),
        (ExampleVerdict(preference=0.0), "not preferred"),
        (ExampleVerdict(preference=0.5), "tie"),
        (ExampleVerdict(preference=1.0), "preferred"),
        (ExampleVerdict(preference=0.25), "not preferred 0.25"),
        (ExampleVerdict(preference=0.75), "preferred 0.75"),
    ],
)
def test_a_verdict_is_said_in_words_and_a_missing_one_is_no_number(verdict: ExampleVerdict | None, word: str) -> None:
    found = re.findall(r'<div class="word \w+"><b>([^<]*)</b>([^<]*)', one(swept("model"), [shown("text", verdict)]))
    assert len(found) == 2 * len(TEMPERATURES)
    assert all(said.startswith(word) and not detail.strip() for said, detail in found)
    if verdict is None or verdict.preference is None:
        assert not any(digit in said for said, _ in found for digit in string.digits)


def test_the_judges_numbers_stand_beside_its_word() -> None:
    verdict = ExampleVerdict(
        preference=0.5, orders=(1.0, None), score=0.25, reference_score=0.75, reply=Excerpt(text="Verdict: A")
    )
    text = Page(one(swept("model"), [shown("text", verdict)])).text
    assert "score 0.25 against 0.75; 1 shown first, – shown second" in text
    assert "Verdict: A" in text


def test_samples_stand_in_columns_by_temperature_and_a_cell_that_is_not_there_is_a_dash() -> None:
    samples = shown().samples[:3]
    samples = tuple(s.model_copy(update={"text": Excerpt(text=f"T{s.temperature:g} #{s.index}")}) for s in samples)
    page = one(swept("model"), [shown(samples=samples)])
    table = page[page.index('<table class="samples">') :]
    assert re.findall(r"temperature ([\d.]+)</th>", table) == ["0.3", "0.7"]
    rows = re.findall(r"<tr><th scope=\"row\">(\d)</th>(.*?)</tr>", table, re.DOTALL)
    assert [(number, re.findall(r"T[\d.]+ #\d|–", cells)) for number, cells in rows] == [
        ("1", ["T0.3 #0", "T0.7 #0"]),
        ("2", ["T0.3 #1", "–"]),
    ]


def test_the_tables_numbers_are_the_estimates_and_what_is_missing_is_a_dash() -> None:
    scores = swept("model")
    page = one(scores)
    table = page[page.index('<table class="numbers">') : page.index("</table>")]
    heads = re.findall(r'href="../methods.html#([^"]+)"', table)
    assert heads[:2] == ["win_rate", "valid_share"]
    assert "ead_per_input" in heads
    rows = re.findall(r"<th scope=\"row\">([^<]+)</th><td class=\"n\">([\d.]+)</td>(.*?)</tr>", table)
    estimates = {(e.role, f"{e.temperature:g}"): e for e in scores.estimates if e.metric == "win_rate"}
    names = {"id": "ID", "ood": "OOD", "ood_hard": "OOD-hard", "gap": "ID − OOD"}
    assert [(role, temperature) for role, temperature, _ in rows] == [
        *((names[role], f"{t:g}") for role in ("id", "ood", "ood_hard") for t in TEMPERATURES),
        ("ID − OOD", "1"),
    ]
    for role, temperature, cells in rows:
        [key] = [key for key in estimates if (names[key[0]], key[1]) == (role, temperature)]
        value, interval = re.findall(r"<td class=\"n\">([^<]*)<i>([^<]*)</i>", cells)[0]
        e = estimates[key]
        assert value == f"{e.value:.3f}".replace("-", "−")
        assert interval == f"[{e.low:.3f}, {e.high:.3f}]".replace("-", "−")
    gap = re.findall(r"<td class=\"n\">([^<]*)", rows[-1][2])
    assert gap[1:] == ["–"] * (len(heads) - 1)


def test_a_run_without_a_judge_has_dashes_and_no_zero() -> None:
    scores = swept("model")
    kept = tuple(e for e in scores.estimates if e.metric != "win_rate")
    page = one(scores.model_copy(update={"estimates": kept, "absent": {"win_rate": "not judged: no win rate"}}))
    tiles = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span><small>([^<]*)", page)
    assert tiles[:2] == [("–", "", "not on the plane"), ("–", "", "not judged: no win rate")]
    assert tiles[2][0] != "–"


def test_ranks_and_other_rows_are_not_on_a_page(toy: list[Scores]) -> None:
    alone = {name: page for scores in toy for name, page in model_pages(boards([scores], SUITES), {}).items()}
    assert model_pages(boards(toy, SUITES), {}) == alone
    assert not any(re.search(r"\brank set|\brank \d|\(\d+–\d+\)", page) for page in alone.values())


def test_rows_boards_and_examples_in_any_order_give_the_same_bytes(all_rows: list[Scores]) -> None:
    rows = [*all_rows, swept("claude-2")]
    examples = {(row.name, row.identity.suite): [shown(row.name)] for row in rows}
    expected = model_pages(boards(rows, SUITES), examples)
    shuffled = random.Random(1).sample(rows, len(rows))
    mixed = dict(random.Random(2).sample(list(examples.items()), len(examples)))
    found = model_pages(boards(shuffled, SUITES)[::-1], mixed)
    assert list(found.items()) == list(expected.items())


def test_a_page_leads_back_to_the_board_and_to_every_metrics_text() -> None:
    links = set(Page(one(swept("model"))).values("href"))
    assert {"../index.html", "../methods.html", "../methods.html#score"} <= links
    shown_here = ("win_rate", "valid_share", "effective_per_input", "conditional_per_input", "sbert_across_input")
    assert {f"../methods.html#{metric}" for metric in (*shown_here, "ead_per_input")} <= links


def test_flags_and_reasons_are_on_the_page_and_of_floors_too() -> None:
    flag = Flag(code="near_copy", text="says what another says")
    for kind in ("model", "floor"):
        assert "near copy: says what another says" in Page(one(swept("row", kind=kind, flags=(flag,)))).text
    assert "their texts are not ours to publish" in one(imported("model", win=0.5, spread=0.5))
    assert "No samples are kept with these scores" in one(swept("model"))


def test_a_page_needs_no_script_and_no_network() -> None:
    page = one(swept("model"), [shown()])
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_provenance_is_bounded_however_much_a_record_holds() -> None:
    scores = swept("model").model_copy(
        update={"record": {f"key {number:05d}": "v" * 10_000 for number in range(5_000)}}
    )
    facts = provenance(read_row(scores, SUITES["toy@v1"]))
    assert len(facts) == MOST_FACTS + 1
    assert facts[-1][0] == "and more"
    assert max(len(value) for _, value in facts) <= 600


def test_what_is_not_known_is_no_fact_however_deep_it_lies() -> None:
    record = {"judge": {"toy_id": {"cost": None, "calls": 0}}, "hardware": {"gpu": None}, "weights": None}
    scores = swept("model")
    assert scores.identity.sampling is not None
    sampling = scores.identity.sampling.model_copy(update={"max_prompt_tokens": None})
    identity = scores.identity.model_copy(update={"sampling": sampling})
    facts = provenance(read_row(scores.model_copy(update={"record": record, "identity": identity}), SUITES["toy@v1"]))
    assert ("judge: toy id: calls", "0") in facts
    assert not [fact for fact in facts if "None" in fact[1]]


names = st.text(alphabet=st.characters() | st.sampled_from("aA/_.-0f"), max_size=80)


@given(names)
@example("")
@example("..")
@example("../../etc/passwd")
@example("/")
@example("CON")
@example("a" * 500)
@example("\x00")
@example("org/model-1.5B")
def test_a_page_name_is_safe_and_short(name: str) -> None:
    found = page_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,68}\.html", found)
    assert found == page_name(name)


@given(st.lists(names, unique=True, max_size=30))
@example(["a/b", "a__b", "a_/_b", "a/_b", "a_/b", "a___b"])
@example(["a!", "a?", "a-", "a"])
@example([".a", "a", "-a"])
@example(["a" * 60, "a" * 61, "a" * 62])
def test_page_names_of_different_names_differ(found: list[str]) -> None:
    assert len({page_name(name) for name in found}) == len(found)


@given(names)
def test_no_name_can_be_made_to_take_the_page_of_another(name: str) -> None:
    taken = page_name(name).removesuffix(".html")
    for forged in (taken, taken.replace("__", "/"), taken + ".html"):
        assume(forged != name)
        assert page_name(forged) != page_name(name)


def test_usual_names_are_readable() -> None:
    assert page_name("gpt4_1106_preview") == "gpt4_1106_preview.html"
    assert page_name("meta-llama/Llama-3.1-8B") == "meta-llama__Llama-3.1-8B.html"
    assert re.fullmatch(r"SFT-800-steps-[0-9a-f]{8}\.html", page_name("SFT, 800 steps"))


def test_two_names_with_one_page_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.model_page.page_name", lambda _: "same.html")
    with pytest.raises(UserError, match="'a' and 'b' would have one page"):
        model_pages(boards([swept("a"), swept("b")], SUITES), {})


def test_pages_come_in_order_of_names(toy: list[Scores]) -> None:
    found = list(model_pages(boards(toy, SUITES), {}))
    order = sorted(row.name for row in toy)
    assert found == [f"models/{page_name(name)}" for name in order]


def test_the_drawing_has_a_mark_a_role_and_temperature_further_right_and_up_for_more() -> None:
    row = read_row(swept("model"), SUITES["toy@v1"])
    drawn = own_curves(SUITES["toy@v1"], row)
    Page(str(drawn))
    for role, curve in row.curves.items():
        marks = re.findall(rf'<path class="{role}" transform="translate\(([\d.-]+) ([\d.-]+)\)"', drawn)
        assert len(marks) == len(curve) == len(TEMPERATURES)
        across, down = ([float(mark[axis]) for mark in marks] for axis in (0, 1))
        assert sorted(range(4), key=across.__getitem__) == sorted(range(4), key=lambda n: curve[n].x.value)
        assert sorted(range(4), key=down.__getitem__) == sorted(range(4), key=lambda n: -curve[n].y.value)
        [(left, right)] = re.findall(rf'<path class="{role} cross" d="M([\d.-]+),[\d.-]+H([\d.-]+)M', drawn)
        assert float(left) < across[TEMPERATURES.index(1.0)] < float(right)
    [said] = Page(str(drawn)).values("aria-label")
    assert all(f"at {temperature:g}" in said for temperature in TEMPERATURES)


def test_a_single_point_is_not_drawn() -> None:
    assert own_curves(SUITES["toy@v1"], read_row(swept("model", grid=(1.0,)), SUITES["toy@v1"])) == ""
    assert "<figure" not in one(swept("model", grid=(1.0,)))
