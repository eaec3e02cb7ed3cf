"""A page a model: its numbers and its samples in every suite, its flags, and where it comes from.

Nothing on it depends on another row: ranks and rank sets are on the board alone, so a page changes with its own inputs
only.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Template
from markupsafe import Markup

from benchmark.errors import UserError
from benchmark.records import Estimate
from benchmark.submission.examples import Example, ExampleSample, ExampleVerdict
from benchmark.suites import HEADLINE_TEMPERATURE, Suite
from leaderboard import ink
from leaderboard.anchors import metric_anchor
from leaderboard.board import Board
from leaderboard.escape import INVISIBLE, plain, shorten
from leaderboard.model_figure import legend, own_curves
from leaderboard.names import method_title, metric_title, role_title, upper_first, why_absent
from leaderboard.provenance import provenance
from leaderboard.row import ROLES, Interval, Row
from leaderboard.tables import MISSING, interval_cell
from leaderboard.templating import environment

FOLDER = "models"
LONGEST_SLUG = 60
MOST_TEXT = 600
"""Characters of a card's field or a flag."""
METRICS = (
    "win_rate",
    "win_rate_lc",
    "length_words",
    "length_characters",
    "reference_length_characters",
    "valid_share_{gate}",
    "effective_per_input_{gate}",
    "conditional_per_input_{gate}",
    "sbert_per_input",
    "ead_per_input",
    "vendi_per_input",
    "sbert_across_input",
    "ead_across_input",
    "token_entropy_per_input",
    "cut_off_share",
    "empty_share",
)
"""Columns of a model's table, where the run has them; a suite's axes are there in any case."""
FINISHED = {"stop": "", "length": "cut off by the token limit", "unknown": ""}


class Entry(NamedTuple):
    """A model in one suite."""

    suite: Suite
    row: Row
    examples: Sequence[Example]


def model_pages(boards: Sequence[Board], examples: Mapping[tuple[str, str], Sequence[Example]]) -> dict[str, str]:
    """Render a page for every name on some boards, floors and ceilings included.

    Parameters
    ----------
    boards
        One a suite, in any order.
    examples
        (row's name, ``suite@vN``) → what is shown of its outputs; a row without is said to have none.

    Returns
    -------
    dict
        ``models/<file name>`` → page, in order of names; see `page_name`. The same rows give the same bytes in any
        order.

    Raises
    ------
    UserError
        If two names would have one page.
    """
    return {file: model_page(name, entries) for file, (name, entries) in model_entries(boards, examples).items()}


def model_entries(
    boards: Sequence[Board], examples: Mapping[tuple[str, str], Sequence[Example]]
) -> dict[str, tuple[str, list[Entry]]]:
    """What `model_pages` renders: file → (name, its rows), in order of names; parameters and errors are its own."""
    entries: dict[str, list[Entry]] = {}
    for board in boards:
        for row in board.rows:
            found = examples.get((row.name, board.suite.id), ())
            entries.setdefault(row.name, []).append(Entry(board.suite, row, found))
    pages: dict[str, tuple[str, list[Entry]]] = {}
    for name in sorted(entries):
        file = f"{FOLDER}/{page_name(name)}"
        if file in pages:
            raise UserError(f"rows {pages[file][0]!r} and {name!r} would have one page, {file}; rename one of them")
        pages[file] = (name, entries[name])
    return pages


def page_name(name: str) -> str:
    """File name of a model's page: readable, safe on every file system, and another for every name.

    Parameters
    ----------
    name
        Of a row: any text.

    Returns
    -------
    str
        Letters, digits, ``.``, ``_`` and ``-``, not beginning with a dot. ``/`` is written ``__``; where the name
        cannot be read back from that, the first eight hexadecimal digits of its SHA-256 come after it. Two names with
        one page would have to share these eight digits and all that is readable.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "__"))[:LONGEST_SLUG].lstrip(".-") or "model"
    # A name that ends like a hash might be made to fit another's.
    if slug.replace("__", "/") == name and not re.search(r"-[0-9a-f]{8}$", slug):
        return f"{slug}.html"
    return f"{slug}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}.html"


def model_page(name: str, entries: Iterable[Entry]) -> str:
    """Render one model's page.

    Parameters
    ----------
    name
        The row's.
    entries
        Its rows, one a suite, in any order.
    """
    ordered = sorted(entries, key=lambda entry: (entry.suite.imported, entry.suite.suite, entry.suite.version))
    return _template().render(
        ink=ink,
        name=plain(name) or MISSING,
        kind=" / ".join(_distinct(entry.row.kind for entry in ordered)),
        facts=_card([entry.row for entry in ordered]),
        sections=[_section(entry) for entry in ordered],
    )


def visible(text: str) -> str:
    """Text as it is, with its line breaks, but for what steers or hides: that becomes U+FFFD.

    Unicode's control, format, surrogate, private, unassigned and line-separator characters do; line feed and tab stay.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


class _Visible(dict[int, int]):
    """Code point → what is shown of it, asked of Unicode once."""

    def __missing__(self, point: int) -> int:
        hidden = chr(point) not in "\n\t" and unicodedata.category(chr(point)) in INVISIBLE
        self[point] = ord("\N{REPLACEMENT CHARACTER}") if hidden else point
        return self[point]


_VISIBLE = _Visible()


@functools.cache
def _template() -> Template:
    return environment().get_template("model.html.j2")


def _card(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What is declared of a model; suites that say different things are all quoted."""
    fields: dict[str, list[str]] = {}
    for row in rows:
        card, notes = row.scores.card, row.scores.notes
        seed = None if card.training_seed is None else f"training seed {card.training_seed}"
        for term, value in (
            ("method", card.method),
            ("base model", card.base_model),
            ("decoding", card.decoding),
            ("family", ", ".join(part for part in (card.family, seed) if part)),
            ("licence", card.licence),
            ("contact", card.contact),
            ("tier", notes.get("tier")),
            ("submission", notes.get("submission")),
            ("note", card.note),
        ):
            fields.setdefault(term, [])
            if value:
                fields[term].append(shorten(str(value), MOST_TEXT))
    return [(term, " / ".join(_distinct(values))) for term, values in fields.items() if values]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _section(entry: Entry) -> dict[str, Any]:
    suite, row = entry.suite, entry.row
    columns = _columns(entry)
    return {
        "anchor": f"{suite.suite}-v{suite.version}",
        "title": plain(suite.title),
        "id": suite.id,
        "kind": row.kind,
        "reasons": [shorten(reason, MOST_TEXT) for reason in _reasons(row)],
        "tiles": list(_tiles(entry)),
        "figure": own_curves(suite, row),
        "roles": [(legend(role), role_title(role)) for role in row.curves],
        "columns": [(metric_title(metric), metric_anchor(metric)) for metric in columns],
        "rows": list(_rows(row, columns)),
        "notes": [plain(note) for note in _notes(entry, columns)],
        "examples": [_example(example, suite) for example in entry.examples],
        "imported": suite.imported,
        "provenance": provenance(row),
    }


def _reasons(row: Row) -> tuple[str, ...]:
    if row.kind == "model":
        return row.unranked
    return tuple(f"{flag.code.replace('_', ' ')}: {flag.text}" for flag in row.scores.flags)


def _tiles(entry: Entry) -> Iterator[dict[str, str]]:
    """Score and both axes at the headline temperature."""
    suite, row = entry.suite, entry.row
    plane = suite.plane
    x = row.point.x if row.point else row.headline(plane.x.metric, plane.role)
    yield _tile("score", "#score", row.score, "not on the plane")
    for axis, value in ((plane.x, x), (plane.y, row.diversity_at(plane.role))):
        why = why_absent(row.scores.absent, axis.metric) or "not measured"
        yield _tile(axis.title, f"#{metric_anchor(axis.metric)}", value, why)


def _tile(title: str, link: str, value: Interval | Estimate | None, why: str) -> dict[str, str]:
    cell = interval_cell(value)
    rests = shorten(why, MOST_TEXT) if value is None else f"{value.n} prompts, {method_title(value.method)}"
    return {"title": plain(title), "link": link, "value": cell.text, "interval": cell.interval, "rests": rests}


def _columns(entry: Entry) -> list[str]:
    """Metrics of the table: the suite's axes first, then what the run has of the others."""
    plane = entry.suite.plane
    axes = [plane.x.metric, plane.y.metric, *([plane.y2.metric] if plane.y2 else [])]
    has = {metric for metric, _, _ in entry.row.estimates}
    wanted = [metric.format(gate=entry.suite.gate.name) for metric in METRICS]
    return _distinct([axes[0], *(metric for metric in wanted if metric in has or metric in axes), *axes])


def _rows(row: Row, columns: Sequence[str]) -> Iterator[tuple[str, str, bool, Markup]]:
    """Role, temperature, whether it is the headline's, and the cells, where there is a number in one of them."""
    found = row.estimates
    cells = sorted(
        {(role, temperature) for metric, role, temperature in found if metric in columns},
        key=lambda cell: ((*ROLES, "gap").index(cell[0]), cell[1]),
    )
    for role, temperature in cells:
        values = [interval_cell(found.get((metric, role, temperature))) for metric in columns]
        title = "ID − OOD" if role == "gap" else role_title(role)
        headline = temperature == HEADLINE_TEMPERATURE
        # Digits and brackets only; a template would escape each of a few hundred.
        html = "".join(f'<td class="n">{cell.text}<i>{cell.interval}</i></td>' for cell in values)
        yield title, f"{temperature:g}", headline, Markup(html)


def _notes(entry: Entry, columns: Sequence[str]) -> Iterator[str]:
    suite, row = entry.suite, entry.row
    methods: dict[str, set[str]] = {}
    for (metric, _, _), estimate in row.estimates.items():
        methods.setdefault(metric, set()).add(method_title(estimate.method))
    used: dict[str, list[str]] = {}
    for metric in columns:
        if metric in methods:
            used.setdefault(" or ".join(sorted(methods[metric])), []).append(metric_title(metric))
    said = "; ".join(f"{', '.join(titles)}: {method}" for method, titles in used.items())
    counts = sorted({task.n_prompts for task in row.scores.identity.tasks})
    over = " or ".join(str(count) for count in counts)
    if said:
        yield f"Brackets are 95 % intervals over {over} prompts, for this checkpoint only. {upper_first(said)}."
    y = suite.plane.y
    if y.reference:
        yield (
            f"The plane shows {metric_title(y.metric)} divided by {y.reference:g}, the suite's frozen reference, and "
            "clipped to 1; the table has it undivided."
        )
    yield f"{MISSING} means not measured; it is never 0."


def _example(example: Example, suite: Suite) -> dict[str, Any]:
    titles = {entry.task: entry.title for entry in suite.tasks}
    temperatures = sorted({sample.temperature for sample in example.samples})
    grid = {(sample.index, sample.temperature): sample for sample in example.samples}
    return {
        "role": role_title(example.role),
        "task": plain(titles.get(example.task, example.task)),
        "doc_id": plain(example.doc_id),
        "prompt": _text(example.prompt),
        "reference": _text(example.reference),
        "temperatures": [f"{temperature:g}" for temperature in temperatures],
        "rows": [
            (index + 1, [_sample(grid.get((index, temperature))) for temperature in temperatures])
            for index in sorted({index for index, _ in grid})
        ],
    }


def _text(excerpt: Any) -> dict[str, Any] | None:
    if excerpt is None:
        return None
    left_out = f"{excerpt.left_out:,} more characters" if excerpt.left_out else ""
    return {"text": visible(excerpt.text), "left_out": left_out}


def _sample(sample: ExampleSample | None) -> dict[str, Any] | None:
    if sample is None:
        return None
    return {
        **(_text(sample.text) or {}),
        "ended": FINISHED[sample.finish_reason],
        **_verdict(sample.verdict),
    }


def _verdict(verdict: ExampleVerdict | None) -> dict[str, Any]:
    """What the judge said, in words, and a class for its colour; no verdict is never a number."""
    if verdict is None:
        return {"word": "not judged", "tone": "none", "detail": "", "reply": None}
    reply = _text(verdict.reply)
    preference = verdict.preference
    if preference is None:
        return {"word": "no verdict: the judge gave no readable answer", "tone": "none", "detail": "", "reply": reply}
    tone = "tie" if preference == 0.5 else "win" if preference > 0.5 else "loss"
    word = {"win": "preferred", "tie": "tie", "loss": "not preferred"}[tone]
    details = []
    if verdict.score is not None:
        against = "" if verdict.reference_score is None else f" against {verdict.reference_score:.3g}"
        details.append(f"score {verdict.score:.3g}{against}")
    if len(verdict.orders) == 2:
        first, second = (MISSING if order is None else f"{order:.3g}" for order in verdict.orders)
        details.append(f"{first} shown first, {second} shown second")
    if preference not in (0.0, 0.5, 1.0):
        word += f" {preference:.3g}"
    return {"word": word, "tone": tone, "detail": "; ".join(details), "reply": reply}
