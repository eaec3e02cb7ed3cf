"""The commands of publishing: ``gendiv submit`` and ``validate``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli_arguments import DataRoot, RunFolder
from benchmark.cli_rejudge import PublishedLogs
from benchmark.errors import UserError
from benchmark.terminal import print_table

Root = Annotated[Path, typer.Option("--submissions", metavar="DIR", help="The folder of all submissions.")]


def submit(
    run: RunFolder,
    model: Annotated[str, typer.Option("--as", metavar="ORG/MODEL", help="Whose model, and its name.")],
    method: Annotated[str | None, typer.Option(help="How it was trained, such as sft, ppo or dpo.")] = None,
    base_model: Annotated[str | None, typer.Option(help="What it was trained from.")] = None,
    decoding: Annotated[str | None, typer.Option(help="A policy above plain sampling, such as best-of-16.")] = None,
    family: Annotated[str | None, typer.Option(help="What checkpoints of several training seeds share.")] = None,
    training_seed: Annotated[int | None, typer.Option(min=0, help="Which of the family's seeds.")] = None,
    trained_on: Annotated[
        list[str] | None, typer.Option(help="A task or data set that it was trained on; may be given several times.")
    ] = None,
    reward_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What it was optimised for: a folder, or a hub id.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the outputs, such as Apache-2.0.")] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to ask; may be left out.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar="HTTPS", help="Where you will publish logs of over 10 MB when packed.")
    ] = None,
    submissions: Root = Path("submissions"),
) -> None:
    """Pack a scored run as a submission, check it as CI will, and say how to publish it."""
    from benchmark.runs import Run
    from benchmark.sampling.checkpoint import declared
    from benchmark.submission.pack import pack
    from benchmark.submission.validate import validate

    card = {
        "method": method,
        "base_model": base_model,
        "decoding": decoding,
        "family": family,
        "training_seed": training_seed,
        "trained_on": tuple(trained_on) if trained_on else None,
        "reward_model": declared(reward_model) if reward_model else None,
        "licence": licence,
        "contact": contact,
    }
    folder = pack(Run(run), model, submissions.resolve(), card, url=url)
    try:
        checked = validate(folder, submissions.resolve(), fast=True)
    except BaseException:
        shutil.rmtree(folder)  # nothing is left that would be refused
        raise
    print(f"packed: {folder}, {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()):,} bytes")
    for flag in checked.scores.flags:
        print(f"flag: {flag.text}")
    print(_how_to_publish(folder, model))


def _how_to_publish(folder: Path, model: str) -> str:
    branch = f"submit-{model.replace('/', '-')}"
    lines = [
        "to publish it, in your fork of the repository:",
        f"  git checkout -b {branch}",
        f"  git add {folder}",
        f"  git commit -m 'Submit {model}'",
        f"  git push -u origin {branch}",
    ]
    if shutil.which("gh"):
        return "\n".join([*lines, f"  gh pr create --title 'Submit {model}' --body ''"])
    return "\n".join([*lines, "then open a pull request on its page (or install gh, which does it by `gh pr create`)"])


def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Submissions, or a folder of them; default: submissions."),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Form, grid, hashes and metrics of texts alone; no encoder, no judge.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Check what is new since then, and refuse changes to what was published."),
    ] = None,
    comment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what a pull request is told of the new rows, in Markdown; with --since."
        ),
    ] = None,
    board: Annotated[Path, typer.Option(metavar="DIR", help="The board that the new rows are set beside.")] = Path(
        "leaderboard/board"
    ),
    published: PublishedLogs = None,
    data_root: DataRoot = None,
) -> None:
    """Check submissions: every score is computed again from the raw texts and verdicts."""
    from benchmark import pipeline
    from benchmark.progress import Bars
    from benchmark.runs import write_atomically
    from benchmark.submission.history import check_history
    from benchmark.submission.limits import validate_fast
    from benchmark.submission.validate import find
    from benchmark.submission.validate import validate as check

    pipeline.use_data(data_root)
    rows: list[tuple[str, str, str]] = []
    refused = 0
    found = [place for path in paths or [Path("submissions")] for place in find(path)]
    new: dict[Path, list[str]] = {}
    if since:
        new = {root: check_history(root, since) for root in sorted({root for _, root in found})}
        # What was published before is what it was.
        found = [(folder, root) for folder, root in found if folder.relative_to(root).as_posix() in new[root]]
    if comment and (not since or fast):
        raise UserError("--comment needs --since, which tells what is new, and the full checks")
    with Bars() as bars:
        for folder, root in found:
            name = folder.relative_to(root).as_posix()
            try:
                # First within limits, whoever wrote it; then with the encoder and the judges.
                outcome = validate_fast(folder, root, published=published)
                if outcome.problem or outcome.scores is None or outcome.tier is None:
                    raise UserError(outcome.problem or "nothing came back")
                tier, flags = outcome.tier, outcome.scores.flags
                if not fast:
                    checked = check(folder, root, published=published, progress=bars.stage)
                    tier, flags = checked.tier, (*checked.scores.flags, *checked.flags)
                rows.append((name, tier, ", ".join(sorted({flag.code for flag in flags})) or "–"))
            except UserError as error:
                refused += 1
                rows.append((name, "refused", str(error)))
    print_table(f"{len(found)} submissions", ("submission", "tier", "flags"), rows)
    if refused:
        raise UserError(f"{refused} of {len(found)} submissions are not what they say")
    if comment:
        texts = [text for root, names in new.items() for text in _comments(root, set(names), board, published)]
        write_atomically(comment, "\n".join(texts) or "No new submission.\n")
        print(f"wrote {comment}")


def _comments(root: Path, names: set[str], board: Path, logs: Path | None) -> list[str]:
    from benchmark.submission.published import published
    from leaderboard.comment import comment

    rows = published(root, board / "scores", logs=logs)
    scores = [row.scores for row in rows]
    return [comment(row.scores.name, row.scores.identity.suite, scores) for row in rows if row.folder in names]
