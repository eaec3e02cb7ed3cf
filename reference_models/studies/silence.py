"""Which trainings of a study learned to say nothing: those most of whose outputs are empty.

A policy may learn to end every output at once. It then has a KL and a win rate like any other, and a diversity of 0 or
none at all, so that a report has to say of which numbers that is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.records import Role
from reference_models.studies.report import ENOUGH, table

MOSTLY = 0.5
"""Share of empty outputs above which a training is one of them."""
Shares = Mapping[tuple[str, ...], Mapping[int, float]]
"""Names of a kind of training → seed → share of its outputs that are empty, in [0, 1]."""
TEXT = (
    f"Share of the outputs without text, by seed, where it is above {MOSTLY:g} in any. An empty output has no words "
    f"for EAD to count. A quantity that more than {1 - ENOUGH:.0%} of the prompts lack is not compared: those that "
    "have it were chosen by what came out. Empty outputs are alike, so that Sentence-BERT finds no diversity in them."
).replace("%", " %")


def silences(empty: Shares) -> Shares:
    """Find the kinds of training of which some seed says mostly nothing.

    Parameters
    ----------
    empty
        Of every training.

    Returns
    -------
    mapping
        Of those kinds, the shares of all their seeds.
    """
    return {names: shares for names, shares in empty.items() if max(shares.values()) > MOSTLY}


def counted(silent: Shares, preposition: str) -> list[str]:
    """Say of every first name that has such trainings how many, a clause each."""
    many: dict[str, int] = {}
    for (name, *_), shares in silent.items():
        many[name] = many.get(name, 0) + sum(share > MOSTLY for share in shares.values())
    return [
        f"more than half of the outputs are empty in {n} training{'s' if n > 1 else ''} {preposition} {name}"
        for name, n in many.items()
    ]


def section(header: Sequence[str], silent: Mapping[Role, Shares], seeds: Sequence[int]) -> list[str]:
    """Lay the shares out, a dash where a training diverged; nothing where there are none."""
    rows = [
        [role, *names, *(f"{shares[seed]:.2f}" if seed in shares else "–" for seed in seeds)]
        for role, own in silent.items()
        for names, shares in own.items()
    ]
    if not rows:
        return []
    head = ["role", *header, *(f"seed {seed}" for seed in seeds)]
    return ["## Trainings that mostly say nothing", "", TEXT, "", table(head, rows), ""]
