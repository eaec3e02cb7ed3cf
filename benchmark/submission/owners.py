"""Whose an organisation's name is: names differ in more than case, and those that are owned are their owners' alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from benchmark.errors import UserError
from benchmark.submission.history import plain_yaml
from benchmark.submission.reading import plain, read_bytes

OWNERS = "OWNERS.yaml"
"""Organisation → the GitHub accounts that may submit for it, below ``submissions/``; a maintainers' file."""
MAX_OWNERS = 2**18
"""Bytes of the file."""


def read_owners(root: Path) -> dict[str, frozenset[str]]:
    """Read who may submit for which organisation; all in lower case, as GitHub's accounts have none.

    Returns
    -------
    dict
        Organisation → accounts. Empty where there is no such file; an organisation that is not in it is anybody's.

    Raises
    ------
    UserError
        For a file that is no such mapping, or an organisation that is there twice.
    """
    path = root.resolve() / OWNERS
    if not os.path.lexists(path):
        return {}
    data = read_bytes(path.parent, OWNERS, MAX_OWNERS)
    try:
        found = plain_yaml(data.decode("utf-8")) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"not a mapping of organisations: {plain(str(error))}", where=path) from None
    if not isinstance(found, dict):
        raise UserError("not a mapping of organisations to lists of accounts", where=path)
    owners: dict[str, frozenset[str]] = {}
    for organisation, accounts in found.items():
        if not isinstance(organisation, str) or organisation.casefold() in owners:
            raise UserError(f"{plain(repr(organisation))}: is no name, or there twice", where=path)
        if not isinstance(accounts, list) or not accounts or not all(isinstance(name, str) for name in accounts):
            raise UserError(f"{plain(organisation)}: is no list of accounts", where=path)
        owners[organisation.casefold()] = frozenset(name.casefold() for name in accounts)
    return owners


def check_author(owners: Mapping[str, frozenset[str]], folder: str, author: str) -> None:
    """Refuse a new submission in the name of an organisation that its author may not submit for.

    Parameters
    ----------
    owners
        See `read_owners`.
    folder
        The submission's, below ``submissions/``.
    author
        The GitHub account that asks for it.

    Raises
    ------
    UserError
        Names the organisation and the account.
    """
    organisation = folder.partition("__")[0]
    accounts = owners.get(organisation.casefold())
    if accounts is not None and author.casefold() not in accounts:
        raise UserError(
            f"{author!r} is no account that {OWNERS} has for {organisation}; submit under another organisation, or "
            "have a maintainer add the account",
            where=folder,
        )


def check_case(folders: Iterable[str], root: Path) -> None:
    """Refuse submissions whose folders' names differ from another's in case alone, as would their models' pages.

    Parameters
    ----------
    folders
        All of them, ``<organisation>__<model>/<revision>/<suite>``: of organisations, of models, of one model's
        revisions and of their suites no two may be one where case does not count.
    root
        The folder ``submissions``, for the message.

    Raises
    ------
    UserError
        Names both.
    """
    seen: dict[str, str] = {}
    for folder in sorted(folders):
        parts = folder.split("/")
        above = [folder.partition("__")[0] + "__", *("/".join(parts[:n]) for n in range(1, len(parts) + 1))]
        for name in above:
            if (first := seen.setdefault(name.casefold(), name)) != name:
                raise UserError(f"differs from {first!r} in case alone; rename it", where=root / name)
