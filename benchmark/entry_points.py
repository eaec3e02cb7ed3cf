"""Functions of other packages, found by their entry points: a metric or a judge of one's own."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any, Literal, NamedTuple

from benchmark.errors import UserError

Group = Literal["gendiv.metrics", "gendiv.judges"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Found(NamedTuple):
    """A function behind an entry point."""

    name: str
    """The entry point's."""
    function: Callable[..., Any]
    package: str
    """Distribution and version that it came with."""
    code_sha256: str
    """Hash of the file that the function is in: a version says little of a package that is being worked on."""


def find(group: Group) -> dict[str, Found]:
    """Load every function of a group, by name.

    Raises
    ------
    UserError
        If two packages use one name, a name is not of small letters, digits and ``_``, or what it names cannot be
        imported or is no function of a Python file.
    """
    found: dict[str, Found] = {}
    for entry in sorted(metadata.entry_points(group=group), key=lambda entry: entry.name):
        where = f"entry point {group}: {entry.name} = {entry.value}"
        if not _NAME.fullmatch(entry.name):
            raise UserError(f"{where}: a name is up to 40 small letters, digits and _, a letter first")
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "no package"
        if entry.name in found:
            raise UserError(f"{where}: {found[entry.name].package} and {package} use one name; uninstall one")
        try:
            function = entry.load()
        except Exception as error:  # whatever a stranger's module does when it is imported
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"{where}: cannot be imported: {why}; mend it or uninstall {package}") from error
        try:
            code = inspect.getsourcefile(inspect.unwrap(function)) if callable(function) else None
        except TypeError:
            code = None
        if code is None:
            raise UserError(f"{where}: is no function of a Python file; mend it or uninstall {package}")
        with open(code, "rb") as file:
            found[entry.name] = Found(entry.name, function, package, hashlib.sha256(file.read()).hexdigest())
    return found
