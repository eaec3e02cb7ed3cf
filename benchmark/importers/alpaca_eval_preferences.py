"""AlpacaEval's published verdicts as runs without texts: per prompt the preference and both lengths, and no more.

What AlpacaEval's results hold is partly third parties' (CC BY-NC 4.0), so a submission that everybody clones keeps
facts about it alone: no instruction, no output and no reply of the judge's. Two sources give the same verdicts:

- AlpacaEval's own results folder, read by `benchmark.importers.alpaca_eval` into a temporary place; its texts stay
  there.
- ``preferences_v1.csv`` and ``preferences_v2.csv``, gzipped or not: ``model, index, preference, len_output_1_baseline,
  len_output_2_model``, and for v2 ``logprob_m, logprob_M``, which are not kept. ``index`` counts AlpacaEval's 805
  prompts from 0, lengths are characters, and the name of the file tells the suite, as nothing in it does. A preference
  is 1 where the baseline won, 2 where the model did, graded in between, and 0 for a draw; empty is no verdict.

A prompt without a row, or with an empty one, is a failed verdict and never a score. The files do not know their own
commit, so it has to be said: rows of another commit are another revision.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from benchmark.errors import UserError
from benchmark.importers.alpaca_eval import (
    NO_ANNOTATION,
    NO_PREFERENCE,
    SUITES,
    TASK,
    Imported,
    import_results,
    judge_sha256,
)
from benchmark.importers.json_rows import MAX_BYTES
from benchmark.importers.placing import place_run
from benchmark.records import Identity, Manifest, ModelCard, ModelIdentity, TaskIdentity, Verdict
from benchmark.runs import Run
from benchmark.submission.pack import pack
from benchmark.submission.record import revision_of
from benchmark.suites import HEADLINE_TEMPERATURE, PromptSet, Suite, load_suite

SOURCE = "AlpacaEval preferences"
REPOSITORY = "tatsu-lab/alpaca_eval"
LICENCE = "CC BY-NC 4.0"
"""Of AlpacaEval's data, as its README says."""
ORGANISATION = "alpaca-eval"
"""Who published the verdicts; the models are many others'."""
PREFERENCES = "alpaca-eval-preferences"
ANNOTATORS = {suite.partition("@v")[2]: (annotator, name) for annotator, (suite, name) in SUITES.items()}
"""Version → annotator and reference; those of the suites with texts."""
KEY = "imported"
"""Of every verdict: without the texts there is nothing to tell its question by."""
_COLUMNS = ("model", "index", "preference", "len_output_1_baseline", "len_output_2_model")
_FILE = re.compile(r"preferences_v([12])\.csv(\.gz)?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_LENGTH = re.compile(r"[0-9]{1,8}")


class _Row(NamedTuple):
    """One model's verdicts under one suite, and the file they are of."""

    model: str
    suite: Suite
    verdicts: list[Verdict]
    origin: dict[str, JsonValue]


def import_preferences(
    source: Path,
    out: Path,
    *,
    commit: str,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Turn published verdicts into runs ``<out>/alpaca-eval-preferences-v<N>/<model>/`` without texts.

    A run appears whole or not at all. The same files give the same bytes; an earlier import of a row is replaced.

    Parameters
    ----------
    source
        ``preferences_v<N>.csv[.gz]``, or AlpacaEval's results folder.
    out
        Folder for the runs; made if need be.
    commit
        Of `REPOSITORY`, which the source was taken from.
    models
        Names of the models to import; all if None or empty.
    progress
        Called with (models done, models in all) after every model.

    Returns
    -------
    Imported
        The runs, by suite and model, and what was skipped.

    Raises
    ------
    UserError
        If the source is neither, a row of it is not what it should be, the prompts are not the suite's, a model is not
        there, or something else stands at a run's place.
    """
    if not _COMMIT.fullmatch(commit):
        raise UserError(f"--commit {commit[:60]!r}: give 7 to 40 hexadecimal digits of a commit of {REPOSITORY}")
    if source.is_dir():
        rows, skipped = _of_results(source, models)
    else:
        rows, skipped = _of_file(source, models), ()
    imported = Imported()
    imported.skipped = skipped
    for done, row in enumerate(rows, start=1):
        run = Run(out / f"{row.suite.suite}-v{row.suite.version}" / row.model)
        place_run(run, _manifest(row, commit), TASK, (), row.verdicts)
        imported.append(run)
        if progress:
            progress(done, len(rows))
    return imported


def published_name(model: str) -> str:
    """Spell a model's name as a submission's may be: each ``+`` is written ``-plus-``, all else stays.

    The run's manifest and the submission's note keep AlpacaEval's own spelling.
    """
    return model.replace("+", "-plus-")


def submit_preferences(runs: Sequence[Run], root: Path) -> list[Path]:
    """Pack imported and scored runs as submissions ``alpaca-eval/<model>``; those that are there already stay.

    Parameters
    ----------
    runs
        What `import_preferences` made, scored.
    root
        The folder ``submissions``.

    Returns
    -------
    list of Path
        Folders of the new ones.

    Raises
    ------
    UserError
        If a run is not scored, or two models would have one name.
    """
    manifests = [run.manifest() for run in runs]
    names = {(published_name(manifest.name), manifest.identity.suite): manifest.name for manifest in manifests}
    if len(names) != len(runs):
        raise UserError("two models would have one name; import them one by one", where=root)
    packed = []
    for run, manifest in zip(runs, manifests, strict=True):
        model = f"{ORGANISATION}/{published_name(manifest.name)}"
        there = root / model.replace("/", "__") / revision_of(manifest.model) / manifest.identity.suite
        if not there.exists():
            packed.append(pack(run, model, root, {}))
    return packed


def _of_results(results: Path, models: Sequence[str] | None) -> tuple[list[_Row], tuple[str, ...]]:
    """Read a results folder with its texts, and keep what is not one."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="gendiv-") as place:
        with_texts = import_results(results, Path(place), models=models)
        for run in with_texts:
            manifest = run.manifest()
            suite = _suite(manifest.identity.suite.partition("@v")[2])
            asked, frozen = manifest.identity.tasks[0], _prompts(suite)
            if (asked.n_prompts, asked.prompts_sha256) != (frozen.n, frozen.sha256):
                raise UserError(
                    f"the models here answered {asked.n_prompts} prompts that are not the {frozen.n} of {suite.id}",
                    where=results,
                )
            judge = manifest.identity.judge
            assert judge is not None, "outputs made elsewhere come with their judge"
            kept = [
                _missing(verdict.doc_id)
                if verdict.error == NO_ANNOTATION
                else verdict.model_copy(update={"raw": (), "key": KEY})
                for verdict in run.verdicts(TASK, judge)
            ]
            origin = manifest.record["origin"]
            assert isinstance(origin, dict), "every import says where it is from"
            rows.append(_Row(manifest.name, suite, kept, {"annotations": origin["annotations"]}))
    rows.sort(key=lambda row: (row.suite.version, row.model))
    return rows, with_texts.skipped


def _of_file(path: Path, models: Sequence[str] | None) -> list[_Row]:
    named = _FILE.fullmatch(path.name)
    if named is None:
        raise UserError(
            "give AlpacaEval's results folder, or a file called preferences_v1.csv[.gz] or preferences_v2.csv[.gz]; "
            "its name tells the judge",
            where=path,
        )
    suite, data = _suite(named[1]), _read(path)
    reader = csv.DictReader(io.StringIO(_text(data, path)), strict=True)
    header = tuple(reader.fieldnames or ())
    if header[: len(_COLUMNS)] != _COLUMNS or (named[1] == "2") != ("logprob_m" in header):
        raise UserError(f"its columns are not those of {path.name}: {', '.join(header)[:200]}", where=path)
    frozen = _prompts(suite)
    found: dict[str, dict[str, Verdict]] = {}
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            verdict = _verdict(row, frozen, where)
            if verdict.doc_id in (there := found.setdefault(_model(row["model"], where), {})):
                raise UserError(f"index {verdict.doc_id} of {row['model']} is there twice", where=where)
            there[verdict.doc_id] = verdict
    except csv.Error as error:
        raise UserError(f"not CSV: {error}", where=f"{path}:{reader.line_num}") from None
    asked = sorted(set(models)) if models else sorted(found)
    if unknown := [model for model in asked if model not in found]:
        raise UserError(f"no model {unknown[0]!r}; there are: {', '.join(sorted(found)[:20])}", where=path)
    origin: dict[str, JsonValue] = {
        "preferences": {"file": path.name.removesuffix(".gz"), "sha256": hashlib.sha256(data).hexdigest()}
    }
    return [
        _Row(model, suite, [found[model].get(n) or _missing(n) for n in map(str, range(frozen.n))], origin)
        for model in asked
    ]


def _read(path: Path) -> bytes:
    """Read a plain or gzipped file, unpacked; never more than fits."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"not a whole gzip file: {error}; fetch it again", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    if len(data) > MAX_BYTES:
        raise UserError(f"it unpacks to more than {MAX_BYTES} bytes; fetch it again", where=path)
    return data


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}; fetch it again", where=path) from None


def _model(name: str, where: str) -> str:
    if not _MODEL.fullmatch(name):
        raise UserError(f"model {name[:100]!r} cannot name a run: letters, digits and . _ + -, at most 96", where=where)
    return name


def _verdict(row: Mapping[str, str | None], frozen: PromptSet, where: str) -> Verdict:
    values = {name: row[name] or "" for name in _COLUMNS}
    for name in ("index", "len_output_1_baseline", "len_output_2_model"):
        if not _LENGTH.fullmatch(values[name]):
            raise UserError(f"{name} must be a whole number, found {values[name][:60]!r}", where=where)
    if int(values["index"]) >= frozen.n:
        raise UserError(f"index {values['index']} is none of the {frozen.n} prompts", where=where)
    preference = _preference(values["preference"], where)
    return Verdict(
        task=TASK,
        doc_id=str(int(values["index"])),
        temperature=HEADLINE_TEMPERATURE,
        index=0,
        key=KEY,
        preference=preference,
        length=int(values["len_output_2_model"]),
        reference_length=int(values["len_output_1_baseline"]),
        error=NO_PREFERENCE if preference is None else None,
    )


def _preference(said: str, where: str) -> float | None:
    """Read 1 to 2 as 0 to 1, decimal by decimal, and a draw's 0 as a half; None where nothing is said."""
    if not said:
        return None
    try:
        coded = Decimal(said)
    except InvalidOperation:
        coded = Decimal("NaN")
    if coded == 0:
        return 0.5
    if coded.is_nan() or not 1 <= coded <= 2:
        raise UserError(f"preference must be 0 (a draw), 1 to 2 or empty, found {said[:60]!r}", where=where)
    return float(coded - 1)


def _missing(doc_id: str) -> Verdict:
    """A prompt that has no row: no preference and, for want of texts, no lengths."""
    return Verdict(
        task=TASK,
        doc_id=doc_id,
        temperature=HEADLINE_TEMPERATURE,
        index=0,
        key=KEY,
        preference=None,
        length=0,
        reference_length=0,
        error=NO_ANNOTATION,
    )


def _suite(version: str) -> Suite:
    return load_suite(f"{PREFERENCES}@v{version}")


def _prompts(suite: Suite) -> PromptSet:
    frozen = suite.tasks[0].prompts
    assert frozen is not None, "a suite without texts freezes its prompts"
    return frozen


def _manifest(row: _Row, commit: str) -> Manifest:
    annotator, reference = ANNOTATORS[str(row.suite.version)]
    entry, frozen = row.suite.tasks[0], _prompts(row.suite)
    task = TaskIdentity(
        task=entry.task,
        role=entry.role,
        version=str(row.suite.version),
        n_prompts=frozen.n,
        prompts_sha256=frozen.sha256,
        data=None,
    )
    return Manifest(
        name=row.model,
        kind="model",
        identity=Identity(
            suite=row.suite.id,
            tasks=(task,),
            sampling=None,
            judge=annotator,
            judge_sha256=judge_sha256(annotator),
            encoder=row.suite.encoder,
        ),
        model=ModelIdentity(
            id=row.model,
            # Which weights is not known; which outputs is: those of this commit.
            revision=commit,
            weights_sha256=None,
            dtype=None,
            chat_template_sha256=None,
            seed=None,
        ),
        card=ModelCard(
            note=f"Preferences and lengths alone, published by {REPOSITORY} ({LICENCE}) for the row {row.model!r}; "
            "nothing was sampled or judged again.",
            licence=LICENCE,
        ),
        record={
            "origin": {
                "source": SOURCE,
                "repository": REPOSITORY,
                "commit": commit,
                "licence": LICENCE,
                "annotator": annotator,
                "reference": reference,
                "lengths": "characters",
                **row.origin,
            }
        },
    )
