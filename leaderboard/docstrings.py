"""Docstrings of the code as HTML: read from its source, so that nothing heavy is imported to tell what it does."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup, escape

RULE = re.compile(r"-{3,}\s*")
LISTED = ("Parameters", "Returns", "Yields", "Raises", "Attributes", "Other Parameters")
"""Sections of numpydoc that are terms with definitions; all others are running text."""
BULLET = re.compile(r"[-*] ")
INLINE = re.compile(
    r"``(?P<literal>.+?)``"
    r"|`(?P<name>[^`\n]+)`"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|(?<![\w*])\*(?P<stress>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])"
    r"|arXiv[: ]?\s?(?P<paper>\d{4}\.\d{4,5})",
    re.DOTALL,
)


class Member(NamedTuple):
    """A public function or class of a module."""

    name: str
    signature: str
    """``name(argument, …)`` of a function, the name of a class."""
    doc: str
    fields: tuple[tuple[str, str], ...]
    """Attribute → docstring after it, of a class."""


class Module(NamedTuple):
    """What a module says of itself."""

    name: str
    """Dotted."""
    doc: str
    members: tuple[Member, ...]
    """Those with a docstring, in order of the file."""

    @property
    def title(self) -> str:
        """Its first words, up to a colon, a comma or the end of the sentence."""
        first = re.split(r"[:,;]|\.(?:\s|$)|\s\(", self.doc, maxsplit=1)[0]
        return " ".join(first.replace("`", "").split())


class Section(NamedTuple):
    """One part of a docstring; its head has no title."""

    title: str
    lines: tuple[str, ...]


@functools.cache
def read_module(name: str) -> Module:
    """Read a module's docstrings, and those of its public functions and classes, without importing it.

    Raises
    ------
    ModuleNotFoundError
        If there is no source of that name.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {name}", name=name)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    members = tuple(
        _member(node, doc)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and (doc := ast.get_docstring(node))
    )
    return Module(name, ast.get_docstring(tree) or "", members)


def _member(node: ast.FunctionDef | ast.ClassDef, doc: str) -> Member:
    if isinstance(node, ast.ClassDef):
        return Member(node.name, node.name, doc, tuple(_fields(node.body)))
    return Member(node.name, f"{node.name}({_arguments(node.args)})", doc, ())


def _arguments(arguments: ast.arguments) -> str:
    """Names and defaults as they are written; no annotations, which the text says better."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    said = [_argument(a, default) for a, default in zip(positional, defaults, strict=True)]
    if arguments.vararg:
        said.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        said.append("*")
    said += [_argument(a, default) for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        said.append(f"**{arguments.kwarg.arg}")
    return ", ".join(said)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"


def _fields(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Attributes that a string stands after."""
    for field, after in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            yield field.target.id, inspect.cleandoc(after.value.value)


def sections(doc: str) -> list[Section]:
    """Split a docstring where a line of dashes stands under a title; the head comes first, and may be empty."""
    lines = inspect.cleandoc(doc).splitlines()
    heads = [place for place in range(len(lines) - 1) if lines[place].strip() and RULE.fullmatch(lines[place + 1])]
    ends = [*heads, len(lines)]
    found = [Section("", tuple(lines[: ends[0]]))]
    for head, end in zip(heads, ends[1:], strict=True):
        found.append(Section(lines[head].strip(), tuple(lines[head + 2 : end])))
    return found


def summary(doc: str) -> Markup:
    """The first paragraph of a docstring."""
    head = sections(doc)[0].lines
    first = next(iter(_paragraphs(head)), ())
    return inline(" ".join(line.strip() for line in first))


def html(doc: str, *, skip_summary: bool = False) -> Markup:
    """Render a docstring: paragraphs, formulas, lists, and the sections of numpydoc as definition lists.

    Parameters
    ----------
    doc
        As `inspect.getdoc` gives it, or raw.
    skip_summary
        Leave out the first paragraph.
    """
    head, *others = sections(doc)
    lines = head.lines
    if skip_summary:
        blank = next((place for place, line in enumerate(lines) if not line.strip()), len(lines))
        lines = lines[blank:]
    parts = [blocks(lines)]
    for section in others:
        parts.append(Markup("<h5>{}</h5>").format(section.title))
        parts.append(_definitions(section.lines) if section.title in LISTED else blocks(section.lines))
    return Markup("").join(parts)


def blocks(lines: Sequence[str]) -> Markup:
    """Render running text: what is indented by four stands as it is, what begins with a dash or a star is a list."""
    parts: list[Markup] = []
    for paragraph in _paragraphs(lines):
        if all(line.startswith("    ") for line in paragraph):
            text = inspect.cleandoc("\n" + "\n".join(paragraph))
            parts.append(Markup("<pre>{}</pre>").format(text))
            continue
        start = next((place for place, line in enumerate(paragraph) if BULLET.match(line)), len(paragraph))
        if start:
            parts.append(Markup("<p>{}</p>").format(inline(" ".join(line.strip() for line in paragraph[:start]))))
        if start < len(paragraph):
            parts.append(_bullets(paragraph[start:]))
    return Markup("").join(parts)


def _paragraphs(lines: Sequence[str]) -> Iterator[tuple[str, ...]]:
    paragraph: list[str] = []
    for line in (*lines, ""):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield tuple(paragraph)
            paragraph = []


def _bullets(lines: Sequence[str]) -> Markup:
    items: list[str] = []
    for line in lines:
        if BULLET.match(line):
            items.append(line[2:].strip())
        else:
            items[-1] += f" {line.strip()}"
    listed = Markup("").join(Markup("<li>{}</li>").format(inline(item)) for item in items)
    return Markup("<ul>{}</ul>").format(listed)


def _definitions(lines: Sequence[str]) -> Markup:
    entries: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.strip() and not line.startswith(" "):
            entries.append((line.strip(), []))
        elif entries:
            entries[-1][1].append(line)
    parts = [
        Markup("<dt><code>{}</code></dt><dd>{}</dd>").format(
            term, blocks(inspect.cleandoc("\n" + "\n".join(said)).splitlines())
        )
        for term, said in entries
    ]
    return Markup("<dl>{}</dl>").format(Markup("").join(parts))


def inline(text: str) -> Markup:
    """Render code, emphasis and arXiv numbers within a line; all else is escaped."""
    parts: list[Markup] = []
    end = 0
    for match in INLINE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        kind, said = next((kind, said) for kind, said in match.groupdict().items() if said is not None)
        if kind == "paper":
            parts.append(Markup('<a href="https://arxiv.org/abs/{0}">arXiv {0}</a>').format(said))
        else:
            tag = {"literal": "code", "name": "code", "strong": "strong", "stress": "em"}[kind]
            parts.append(Markup(f"<{tag}>{{}}</{tag}>").format(said))
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])
