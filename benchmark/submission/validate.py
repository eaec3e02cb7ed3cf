"""Is a submission what it says? Everything is computed again from its raw texts and verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark import pipeline
from benchmark.compare import OF_EMBEDDINGS
from benchmark.errors import UserError
from benchmark.judging.config import OracleConfig, read_kept
from benchmark.judging.judge import load_judge
from benchmark.judging.runs import Progress, questions
from benchmark.metrics.catalog import OWN
from benchmark.opened import is_unseen, open_run
from benchmark.records import Estimate, Flag, Sample, Scores, Verdict
from benchmark.runs import Run
from benchmark.submission.anomalies import Look
from benchmark.submission.events import FILE as EVENTS
from benchmark.submission.examples import Example, pick
from benchmark.submission.floors import UNSEEN, SaidBefore, check_kind, drawn_again
from benchmark.submission.history import NOTES, SCHEMA
from benchmark.submission.owners import OWNERS, check_case
from benchmark.submission.record import FILE, Submission
from benchmark.submission.rejudge import PLACE
from benchmark.submission.suited import refuse_strangers, suites_own
from benchmark.submission.unpack import as_run, read_submission
from benchmark.suites import load_suite

Tier = Literal["imported", "self-reported", "arithmetic checked", "re-judged", "reproduced"]
"""How far a row is to be believed, from least to most; ranked from ``re-judged`` up."""

TOLERANCE = 1e-9
"""Of a claim on texts or verdicts."""
ENCODER_TOLERANCE = 2e-3
"""Of a claim on embeddings: encoders differ in their last bits between machines."""
NOT_OURS = (OWN, "nli_")
"""Beginnings of metrics that need what is not here; no board shows them."""


BESIDE = ("README.md", EVENTS, NOTES, OWNERS, SCHEMA, PLACE)
"""What may stand beside submissions."""


class Checked(NamedTuple):
    """A submission that is what it says."""

    folder: Path
    submission: Submission
    scores: Scores
    """As they are here; without metrics of embeddings where only the fast checks were made."""
    tier: Tier
    flags: tuple[Flag, ...]
    """Anomalies of the texts; those of its scores are in ``scores``."""
    fingerprint: dict[str, str]
    """See `benchmark.submission.anomalies`."""
    examples: tuple[Example, ...]
    """See `benchmark.submission.examples`; none where only the fast checks were made."""
    unchecked: str | None = None
    """What could not be checked, as the suite's prompts are not here; None where nothing was left out."""


def find(path: Path) -> list[tuple[Path, Path]]:
    """Find the submissions at a path: (folder, the folder ``submissions`` that it lies in), sorted.

    Raises
    ------
    UserError
        If there is nothing at the path, a folder within ``submissions`` is none, or two differ in case alone.
    """
    path = path.resolve()
    if not path.is_dir():
        raise UserError("no such folder", where=path)
    if (path / FILE).exists():
        return [(path, path.parents[2])]
    found = [
        (folder, path) for folder in sorted(path.glob("*/*/*")) if folder.parent.parent.name not in (SCHEMA, PLACE)
    ]
    holding = {folder.parents[1].name for folder, _ in found}
    for entry in sorted(path.iterdir()):
        if entry.name not in BESIDE and entry.name not in holding:
            raise UserError("is no submission, <org>__<model>/<revision>/<suite>; remove it", where=entry)
    check_case((folder.relative_to(path).as_posix() for folder, _ in found), path)
    return found


def validate(
    folder: Path,
    root: Path,
    *,
    fast: bool = False,
    published: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Checked:
    """Check one submission.

    Parameters
    ----------
    folder
        The submission's.
    root
        The folder ``submissions`` that it lies in.
    fast
        Leave out the sentence encoder and the judges: form, grid, hashes, and what texts and verdicts alone give.
    published
        Folder that holds, below the submission's own name, logs that it publishes elsewhere; see
        `benchmark.submission.fetch`.
    progress
        See `benchmark.judging.runs.Progress`.

    Raises
    ------
    UserError
        Names the first thing that is not as it says, and the file.
    """
    submission = read_submission(folder, root)
    suite = load_suite(submission.manifest.identity.suite)
    manifest = submission.manifest
    check_kind(manifest, folder)
    own = suites_own(suite.id)
    said = {"judge": submission.claimed_judge, "judge_sha256": own.judge_sha256}
    refuse_strangers(manifest.identity if suite.imported else manifest.identity.model_copy(update=said), folder)
    with as_run(submission, folder, published and published / submission.folder) as run:
        look, said_before = Look(), SaidBefore(manifest)

        def looked_at(samples: Sequence[Sample]) -> None:
            look.at(samples)
            said_before.at(samples)

        scores = pipeline.score(
            run,
            progress,
            judge=submission.claimed_judge,
            embeddings=not fast,
            own=False,
            look=looked_at,
        )
        if scores.identity.judge != submission.claimed_judge:
            raise UserError(
                f"claimed_judge: {submission.claimed_judge!r}, and scored by {scores.identity.judge!r}", where=folder
            )
        refuse_strangers(scores.identity, folder)
        if not fast:
            drawn_again(open_run(run, needs_prompts=False), folder)
        plane = [axis.metric for axis in (suite.plane.x, suite.plane.y, suite.plane.y2) if axis]
        check_claims(submission.claims, scores.estimates, fast=fast, where=folder, needed=plane)
        tier: Tier = "self-reported" if fast else "arithmetic checked"
        if suite.imported:
            tier = "imported"
        elif not fast and submission.claimed_judge and judged_again(run, submission.claimed_judge, folder):
            tier = "re-judged"
        examples = () if fast else pick(run, submission.claimed_judge)
    flags = (*look.flags, *said_before.flags)
    unchecked = UNSEEN if is_unseen(suite) else None
    return Checked(folder, submission, scores, tier, flags, look.fingerprint, examples, unchecked)


def check_claims(
    claims: Sequence[Estimate], found: Iterable[Estimate], *, fast: bool, where: Path, needed: Collection[str] = ()
) -> None:
    """Compare what a submitter claims with what was computed here.

    A metric that is claimed nowhere came into GenDiv after the submission was packed: it is computed and shown, and
    nothing is hidden by its absence. For the same reason the interval that is compared is the one of the claim's own
    method, wherever it is still among those that are computed.

    Parameters
    ----------
    claims, found
        What is claimed, and what is here.
    fast
        Leave out claims on embeddings, which were not computed.
    where
        The submission, for the message.
    needed
        Metrics that have to be claimed: those of the suite's plane.

    Raises
    ------
    UserError
        For a number that is claimed and is another here, or is not here; and for one that is here and not claimed
        although its metric is claimed elsewhere, or needed.
    """
    claimed = _by_cell((claim for claim in claims if not claim.metric.startswith(NOT_OURS)), where)
    here = _by_cell(found, where)
    for cell, claim in claimed.items():
        embedded = claim.metric.startswith(OF_EMBEDDINGS)
        if embedded and fast:
            continue
        name = f"{claim.metric} of {claim.task or 'the gap'} at T = {claim.temperature:g}"
        if cell not in here:
            raise UserError(f"claims {name}, which its texts and verdicts do not give", where=where)
        ours = here[cell]
        if ours.n != claim.n or claim.method not in ours.intervals:
            raise UserError(
                f"claims n = {claim.n} by {claim.method} for {name}; here {ours.n} by {ours.method}", where=where
            )
        low, high = ours.intervals[claim.method]
        for part, mine in (("value", ours.value), ("low", low), ("high", high)):
            theirs = getattr(claim, part)
            room = ENCODER_TOLERANCE * max(1.0, abs(mine)) if embedded else TOLERANCE
            if abs(mine - theirs) > room:
                raise UserError(f"claims {part} {theirs!r} for {name}; here it is {mine!r}", where=where)
    known = {*needed, *(claim.metric for claim in claims)}
    for cell, ours in here.items():
        if cell not in claimed and ours.metric in known:
            raise UserError(
                f"claims nothing for {ours.metric} of {ours.task or 'the gap'} at T = {ours.temperature:g}; "
                "pack the run again",
                where=where,
            )


def _by_cell(estimates: Iterable[Estimate], where: Path) -> dict[tuple[str, str, str, float], Estimate]:
    found: dict[tuple[str, str, str, float], Estimate] = {}
    for estimate in estimates:
        cell = (estimate.metric, estimate.task, estimate.role, estimate.temperature)
        if cell in found:
            raise UserError(f"claims {cell[0]} of {cell[1]} twice", where=where)
        found[cell] = estimate
    return found


def judged_again(run: Run, judge: str, where: Path) -> bool:
    """Ask a judge that needs no key and no weights once more; whether there is such a one.

    Raises
    ------
    UserError
        If it says another thing than the submission's verdicts do.
    """
    config = read_kept(run.judge_path(judge))
    if not isinstance(config, OracleConfig):
        return False
    opened = open_run(run)
    asker = load_judge(config)
    for question in questions(opened, config):
        told: dict[str, Verdict] = {}
        asker.judge(list(question.pairs.values()), lambda found, told=told: told.update({v.key: v for v in found}))  # type: ignore[misc]
        for verdict in question.verdicts():
            again = told[question.pairs[verdict.cell].key]
            if (verdict.preference, verdict.score) != (again.preference, again.score):
                raise UserError(
                    f"verdicts/{question.task}.{judge}.jsonl says {verdict.preference} of {verdict.cell}; the judge "
                    f"says {again.preference}",
                    where=where,
                )
    return True
