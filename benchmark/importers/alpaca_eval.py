"""AlpacaEval's published results as ordinary runs: outputs and GPT-4 verdicts made elsewhere.

AlpacaEval keeps one folder a model, with ``model_outputs.json`` and one ``annotations.json`` an annotator, each gzipped
or not. Every (model, annotator) that has a suite becomes one run. Nothing is judged again, so a run says only what the
files say:

- The decoding of the outputs is unknown, so `Identity.sampling` is None; the one output a prompt stands at temperature
  1, sample 0, where single outputs stand on the plane.
- A preference is 1 where the baseline (``output_1``) won, 2 where the model did and 1.5 or 0 for a tie, graded in
  between, as a number or as text. Ours is that minus 1. Empty, null or absent is no verdict, never a score; neither is
  a verdict on a text that ``model_outputs.json`` does not hold.
- Prompts are numbered by their place in the set that most models of the folder share (AlpacaEval's own order), so a
  row out of order, or one without a verdict, moves nothing. ``prompts_sha256`` covers the instructions alone: the
  reference texts are known only where a model was annotated, and a gap there must not make two rows incomparable.
  Their hash stands in the record instead.
- ``judge_sha256`` covers the names of annotator and reference, which is all that is known of the judge.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.importers.json_rows import JsonRows, find, read_rows, subfolders
from benchmark.importers.placing import place_run
from benchmark.records import Identity, Manifest, ModelIdentity, Prompt, Sample, Verdict, sha256_of
from benchmark.runs import Run
from benchmark.suites import HEADLINE_TEMPERATURE, Suite, load_suite, task_identities

SOURCE = "AlpacaEval results"
TASK = "alpaca_eval"
SUITES = {
    "alpaca_eval_gpt4": ("alpaca-eval@v1", "text_davinci_003"),
    "weighted_alpaca_eval_gpt4_turbo": ("alpaca-eval@v2", "gpt4_1106_preview"),
}
"""Annotator → its suite and the reference model it compares with."""
NO_ANNOTATION = "AlpacaEval has no annotation of this output"
NO_PREFERENCE = "AlpacaEval has no preference for this output"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


class Imported(list[Run]):
    """The runs of an import; ``skipped`` holds one line for everything that was left out, and why."""

    skipped: tuple[str, ...] = ()


def import_results(
    results: Path,
    out: Path,
    *,
    models: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Turn a folder of AlpacaEval results into runs ``<out>/<suite>-v<N>/<model>/``.

    A run appears whole or not at all. The same files give the same bytes, and a run that is already there with these
    bytes is not touched; an earlier import of the same row is replaced.

    Parameters
    ----------
    results
        Folder that holds one folder a model.
    out
        Folder for the runs; made if need be.
    models
        Names of the model folders to import; all if None or empty. The others still count in telling the prompt set, so
        that a row is the same however it was asked for.
    progress
        Called with (models done, models in all) after every model.

    Returns
    -------
    Imported
        The runs, by model and suite, and what was skipped: annotators without a suite, models without annotations,
        models that answered another prompt set.

    Raises
    ------
    UserError
        If a folder, file or field is not AlpacaEval's, the reference is not the suite's, nothing is left to import,
        or something else stands at a run's place.
    """
    folders = _model_folders(results)
    asked = _asked(results, folders, models)
    outputs: dict[str, JsonRows] = {}
    for name, path in folders.items():
        try:
            file = read_rows(path, f"{name}/model_outputs.json")
            for field in ("instruction", "output"):
                file.texts(field)
        except UserError:
            if name in asked:
                raise
        else:
            outputs[name] = file
    questions = _prompt_set(file.texts("instruction") for file in outputs.values())
    prompts = [
        Prompt(task=TASK, doc_id=str(number), text=text, references=(), doc={}) for number, text in enumerate(questions)
    ]
    suites = {annotator: load_suite(suite) for annotator, (suite, _) in SUITES.items()}

    imported = Imported()
    skipped = []
    for done, name in enumerate(asked, start=1):
        samples = _samples(outputs[name], prompts)
        if isinstance(samples, str):
            skipped.append(f"{name}: {samples}")
        else:
            annotators, reasons = _annotators(results / name)
            skipped += [f"{name}{reason}" for reason in reasons]
            for annotator, path in annotators.items():
                annotations = read_rows(path, f"{name}/{annotator}/annotations.json")
                verdicts = _verdicts(annotations, annotator, prompts, samples)
                if all(verdict.preference is None for verdict in verdicts):
                    skipped.append(f"{name}/{annotator}: no annotation has a verdict on these outputs")
                    continue
                suite = suites[annotator]
                run = Run(out / f"{suite.suite}-v{suite.version}" / name)
                manifest = _manifest(name, suite, prompts, outputs[name], annotations)
                place_run(run, manifest, TASK, samples, verdicts)
                imported.append(run)
        if progress:
            progress(done, len(asked))
    if not imported:
        raise UserError(f"nothing to import: {'; '.join(skipped[:5])}", where=results)
    imported.skipped = tuple(skipped)
    return imported


def _model_folders(results: Path) -> dict[str, Path]:
    """Model → its outputs file, by name."""
    if not results.is_dir():
        raise UserError("no such folder; give AlpacaEval's `results` folder, one folder a model", where=results)
    if find(results, "model_outputs.json"):
        raise UserError("this is one model's folder; give the folder that holds it", where=results)
    found = {}
    for folder in subfolders(results):
        if path := find(folder, "model_outputs.json"):
            found[folder.name] = path
    if not found:
        raise UserError("no folder in it holds model_outputs.json[.gz]; give AlpacaEval's `results`", where=results)
    return found


def _asked(results: Path, folders: Iterable[str], models: Sequence[str] | None) -> list[str]:
    """List the models to import, each once and with a name that is safe as a folder of ours."""
    names = list(folders)
    for name in models or ():
        if name not in names:
            there = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            raise UserError(f"no model {name!r} with model_outputs.json[.gz]; there are: {there}", where=results)
    asked = sorted(set(models)) if models else names
    for name in asked:
        if not _SAFE_NAME.fullmatch(name):
            raise UserError(
                f"the model folder {name!r} cannot name a run; rename it to letters, digits and . _ + - "
                "(a letter or digit first, at most 200)",
                where=results,
            )
    return asked


def _annotators(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Annotator → its annotations, for those with a suite; and why others are skipped."""
    found, reasons = {}, []
    for inner in subfolders(folder):
        path = find(inner, "annotations.json")
        if inner.name not in SUITES:
            reasons.append(f"/{inner.name}: no suite uses this annotator; there are: {', '.join(SUITES)}")
        elif path is None:
            reasons.append(f"/{inner.name}: it holds no annotations.json[.gz]")
        else:
            found[inner.name] = path
    if not found and not reasons:
        reasons.append(": outputs without annotations")
    return found, reasons


def _numbered(instructions: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Every instruction with how often it stood before: what rows are joined by, as a set may ask one thing twice."""
    seen: Counter[str] = Counter()
    for instruction in instructions:
        yield instruction, seen[instruction]
        seen[instruction] += 1


def _prompt_set(files: Iterable[list[str]]) -> tuple[str, ...]:
    """Choose the instructions, in order, that most files share; of equally common ones the longest, then the first."""
    counts = Counter(tuple(instructions) for instructions in files)
    return max(counts, key=lambda instructions: (counts[instructions], len(instructions)))


def _samples(outputs: JsonRows, prompts: list[Prompt]) -> list[Sample] | str:
    """One sample a prompt, in the prompts' order; or why the model does not cover the set."""
    texts = dict(zip(_numbered(outputs.texts("instruction")), outputs.texts("output"), strict=True))
    wanted = list(_numbered(prompt.text for prompt in prompts))
    missing = [number for number, key in enumerate(wanted) if key not in texts]
    foreign = len(texts) - (len(wanted) - len(missing))
    if missing or foreign:
        first = f" (the first is number {missing[0]})" if missing else ""
        return (
            f"its outputs are not the set that most models here answered: {len(missing)} of {len(wanted)} prompts "
            f"missing{first}, {foreign} others; an incomplete grid is not scored"
        )
    return [
        Sample(
            task=TASK,
            doc_id=prompt.doc_id,
            temperature=HEADLINE_TEMPERATURE,
            index=0,
            text=texts[key],
            finish_reason="unknown",
            n_tokens=None,
        )
        for prompt, key in zip(prompts, wanted, strict=True)
    ]


def _verdicts(annotations: JsonRows, annotator: str, prompts: list[Prompt], samples: list[Sample]) -> list[Verdict]:
    """One verdict a sample, in the samples' order."""
    places = {key: number for number, key in enumerate(_numbered(prompt.text for prompt in prompts))}
    rows = {}
    for number, key in enumerate(_numbered(annotations.texts("instruction"))):
        if key not in places:
            annotations.fail(
                number, "its instruction has no (further) row in model_outputs.json; are the files of one model?"
            )
        rows[places[key]] = number
    return [
        _verdict(annotations, rows.get(place), annotator, prompt, sample)
        for place, (prompt, sample) in enumerate(zip(prompts, samples, strict=True))
    ]


def _verdict(annotations: JsonRows, number: int | None, annotator: str, prompt: Prompt, sample: Sample) -> Verdict:
    """Read the verdict in row ``number``; without a row it is a failed one, its unknown reference of length 0."""
    baseline, preference, raw, error = None, None, None, NO_ANNOTATION
    if number is not None:
        row = annotations.rows[number]
        swapped = _swapped(annotations, number, SUITES[annotator][1])
        baseline, judged = annotations.text(number, "output_1"), annotations.text(number, "output_2")
        if swapped:
            baseline, judged = judged, baseline
        raw = row.get("raw_completion")
        coded = _coded(annotations, number)
        if judged != sample.text:
            error = "the annotation is of another text than model_outputs.json holds"
        elif coded is None:
            error = NO_PREFERENCE
        else:
            preference = 2 - coded if swapped else coded - 1
    return Verdict(
        task=TASK,
        doc_id=sample.doc_id,
        temperature=sample.temperature,
        index=sample.index,
        key=sha256_of([judge_sha256(annotator), prompt.text, sample.text, baseline])[:32],
        preference=preference,
        length=len(sample.text),
        reference_length=len(baseline or ""),
        raw=() if raw is None else (_raw_text(raw),),
        error=None if preference is not None else error,
    )


def _swapped(annotations: JsonRows, number: int, reference: str) -> bool:
    """Whether the reference stands second in a row; another reference is an error."""
    generators = [annotations.text(number, field) for field in ("generator_1", "generator_2")]
    if reference not in generators:
        annotations.fail(
            number, f"generator_1 is {generators[0]!r}, but this annotator's suite compares with {reference!r}"
        )
    return generators[0] != reference


def _coded(annotations: JsonRows, number: int) -> float | None:
    """AlpacaEval's preference in [1, 2], ties as 1.5; None where there is no verdict."""
    value = annotations.rows[number].get("preference")
    if value is None or value == "":
        return None
    try:
        coded = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        coded = float("nan")
    if coded == 0:
        return 1.5
    if not 1 <= coded <= 2:
        annotations.fail(number, f"preference must be 0 (tie), a number from 1 to 2 or empty, found {value!r:.80}")
    return coded


def _raw_text(raw: Any) -> str:
    text = raw if isinstance(raw, str) else json.dumps(raw, sort_keys=True, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


def judge_sha256(annotator: str) -> str:
    """Hash the names of annotator and reference: all that is known of the judge."""
    return sha256_of({"annotator": annotator, "reference": SUITES[annotator][1]})


def _manifest(name: str, suite: Suite, prompts: list[Prompt], outputs: JsonRows, annotations: JsonRows) -> Manifest:
    annotator = suite.judge
    assert annotator is not None, "an imported suite comes with its judge"
    reference = SUITES[annotator][1]
    texts = {
        key: annotations.text(number, "output_2" if _swapped(annotations, number, reference) else "output_1")
        for number, key in enumerate(_numbered(annotations.texts("instruction")))
    }
    return Manifest(
        name=name,
        kind="model",
        identity=Identity(
            suite=suite.id,
            tasks=task_identities(suite, {TASK: prompts}),
            sampling=None,
            judge=annotator,
            judge_sha256=judge_sha256(annotator),
            encoder=suite.encoder,
        ),
        model=ModelIdentity(
            id=name, revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=None
        ),
        record={
            "origin": {
                "source": SOURCE,
                "annotator": annotator,
                "reference": reference,
                "references_sha256": sha256_of([texts.get(key) for key in _numbered(p.text for p in prompts)]),
                "outputs": outputs.origin,
                "annotations": annotations.origin,
            }
        },
    )
