"""Which trainings of a study learned to say nothing: those most of whose outputs are empty.

A policy may learn to end every output at once. It then has a KL and a win rate like any other, and a diversity of 0 or
none at all, so that a report has to say of which numbers that is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.records import Role
from reference_models.studies.report import MOSTLY, NAMES, table

Shares = Mapping[tuple[str, ...], Mapping[int, float]]
"""Names of a kind of training → seed → share of its outputs that are empty, in [0, 1]."""
TEXT = (
    f"Share of the outputs without text, by seed, where it is above {MOSTLY:g} in any. The win rate counts them: it is "
    "then what the judge makes of no text. They are alike, so that Sentence-BERT finds no diversity in them, and EAD "
    "has no words to count."
)


def silences(empty: Shares) -> Shares:
    """Find the kinds of training of which some seed says mostly nothing, with the shares of all their seeds."""
    return {names: shares for names, shares in empty.items() if max(shares.values()) > MOSTLY}


def counted(empty: Mapping[Role, Shares]) -> list[str]:
    """Say how many trainings say mostly nothing, a line a role and kind that has any."""
    lines = []
    for role, own in empty.items():
        for names, shares in silences(own).items():
            many = sum(share > MOSTLY for share in shares.values())
            lines.append(
                f"{NAMES[role]}, more than half of the outputs are empty in {many} of {len(shares)} trainings of "
                f"{', '.join(names)}"
            )
    return lines


def section(header: Sequence[str], empty: Mapping[Role, Shares], seeds: Sequence[int]) -> list[str]:
    """Lay the shares out, a dash where a training diverged; nothing where none says mostly nothing."""
    rows = [
        [role, *names, *(f"{shares[seed]:.2f}" if seed in shares else "–" for seed in seeds)]
        for role, own in empty.items()
        for names, shares in silences(own).items()
    ]
    if not rows:
        return []
    head = ["role", *header, *(f"seed {seed}" for seed in seeds)]
    return ["## Trainings that mostly say nothing", "", TEXT, "", table(head, rows), ""]
