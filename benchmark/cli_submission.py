"""The commands of publishing: ``gendiv submit`` and ``validate``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli_arguments import DataRoot, RunFolder
from benchmark.cli_rejudge import PublishedLogs
from benchmark.errors import UserError
from benchmark.terminal import print_table

if TYPE_CHECKING:
    from benchmark.records import Flag

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
    from benchmark.submission.pack import aside, pack
    from benchmark.submission.validate import Checked, validate

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
    root = submissions.resolve()
    found: list[Checked] = []

    def check(folder: Path) -> None:
        found.append(validate(folder, root, fast=True, published=aside(root)))

    folder = pack(Run(run), model, root, card, url=url, check=check)
    print(f"packed: {folder}, {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()):,} bytes")
    for flag in found[0].scores.flags:
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
    maintainer: Annotated[
        bool,
        typer.Option(
            "--maintainer", help="The branch is a maintainer's: notes and records may change, and rows leave by a note."
        ),
    ] = False,
    author: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT", help="Whose branch it is: OWNERS.yaml tells who may submit for whom; with --since."
        ),
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
    from benchmark.submission.limits import validate_fast, validate_full
    from benchmark.submission.owners import check_author, read_owners
    from benchmark.submission.validate import find

    pipeline.use_data(data_root)
    rows: list[tuple[str, str, str]] = []
    refused = 0
    found = [place for path in paths or [Path("submissions")] for place in find(path)]
    new: dict[Path, list[str]] = {}
    if since:
        for link in filter(Path.is_symlink, paths or [Path("submissions")]):
            raise UserError("is a link, and its history is not what is behind it", where=link)
        # Where nothing is left, something was taken away.
        roots = {root for _, root in found} or {path.resolve() for path in paths or [Path("submissions")]}
        new = {root: check_history(root, since, maintainer=maintainer) for root in sorted(roots)}
        # What was published before is what it was.
        found = [(folder, root) for folder, root in found if folder.relative_to(root).as_posix() in new[root]]
    if maintainer and not since:
        raise UserError("--maintainer needs --since, which tells what is the branch's own")
    if author is not None and not since:
        raise UserError("--author needs --since, which tells what is new")
    if comment and (not since or fast):
        raise UserError("--comment needs --since, which tells what is new, and the full checks")
    made: dict[tuple[Path, str], bytes] = {}
    unchecked: dict[str, list[str]] = {}
    with Bars() as bars:
        checked_one = bars.counter("checking")
        for folder, root in found:
            name = folder.relative_to(root).as_posix()
            try:
                if author is not None:
                    check_author(read_owners(root), name, author)
                # Within limits, whoever wrote it.
                outcome = (validate_fast if fast else validate_full)(folder, root, published=published)
                if outcome.problem or outcome.tier is None:
                    raise UserError(outcome.problem or "nothing came back")
                if outcome.kept:
                    made[root, name] = outcome.kept
                if outcome.unchecked:
                    unchecked.setdefault(outcome.unchecked, []).append(name)
                rows.append((name, outcome.tier, ", ".join(sorted({flag.code for flag in outcome.flags})) or "–"))
                checked_one(len(rows), len(found))
            except UserError as error:
                refused += 1
                rows.append((name, "refused", str(error)))
    copied, unknown = _copies(made, board)
    rows = [(n, tier, f"{flags}, copy".removeprefix("–, ") if n in copied else flags) for n, tier, flags in rows]
    print_table(f"{len(found)} submissions", ("submission", "tier", "flags"), rows)
    for what, names in unchecked.items():
        print(f"not checked {what}: {', '.join(names)}")
    for name, flag in copied.items():
        print(f"flag: {name}: {flag.text}")
    if unknown:
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        print(f"not looked at for copies, as nothing is kept of them in {board}: {', '.join(unknown[:5])}{more}")
    if refused:
        raise UserError(f"{refused} of {len(found)} submissions are not what they say")
    if comment:
        texts = [text for root, names in new.items() for text in _comments(root, set(names), board, published, made)]
        write_atomically(comment, "\n".join(texts) or "No new submission.\n")
        print(f"wrote {comment}")


def _copies(made: Mapping[tuple[Path, str], bytes], board: Path) -> tuple[dict[str, Flag], list[str]]:
    """Look for what was validated just now among the others: flags by name, and whom it could not be compared with."""
    from benchmark.submission.beside import Beside
    from benchmark.submission.published import read_derived
    from benchmark.submission.validate import find
    from leaderboard.files import SCORES

    copied: dict[str, Flag] = {}
    unknown: list[str] = []
    for root in sorted({root for root, _ in made}):
        known = {name: read_derived(data, root)[0].fingerprint for (of, name), data in made.items() if of == root}
        names = [folder.relative_to(root).as_posix() for folder, _ in find(root)]
        beside = Beside(root, board / SCORES, names, known)
        copied |= {name: flag for name in known if (flag := beside.copied(name))}
        unknown += beside.unknown
    return copied, unknown


def _comments(
    root: Path, names: set[str], board: Path, logs: Path | None, made: Mapping[tuple[Path, str], bytes]
) -> list[str]:
    """Write what is told of new rows; ``made`` is what was computed of them just now."""
    from benchmark.runs import write_atomically
    from benchmark.submission.published import derived_path, published
    from leaderboard.comment import comment
    from leaderboard.files import SCORES

    with tempfile.TemporaryDirectory(prefix="gendiv-") as place:
        # A copy: what is kept beside the board is the board's, and only a build of it writes there.
        kept = Path(place) / SCORES
        if (board / SCORES).is_dir():
            shutil.copytree(board / SCORES, kept)
        for (_, name), data in made.items():
            write_atomically(derived_path(kept, name), data)
        rows = published(root, kept, logs=logs)
    scores = [row.scores for row in rows]
    return [comment(row.scores.name, row.scores.identity.suite, scores) for row in rows if row.folder in names]
