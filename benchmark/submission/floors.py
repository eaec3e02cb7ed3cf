"""Floors and ceilings are drawn again, and a model whose outputs are the references is told of.

Both are of suites that are sampled here: of others GenDiv has no prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmark.errors import UserError
from benchmark.opened import Opened, is_unseen
from benchmark.records import Flag, Manifest, Sample
from benchmark.sampling.controls import CONTROLS, ControlSampler
from benchmark.sampling.sampler import Request
from benchmark.submission.anomalies import at_headline
from benchmark.submission.suited import prompts_of
from benchmark.suites import load_suite

_CONTROL = "control:"
UNSEEN = (
    "without the suite's prompts (GENDIV_DATA): whether verdicts are on its prompts and references, a model's outputs "
    "are references, and a control's are what it says"
)
"""What cannot be checked of a run whose suite freezes its prompts, where these are not here."""
MOST_REFERENCES = 0.5
"""Share of a task's outputs that may be its references, word for word; models of the pocket ladder have 0.005."""


def check_kind(manifest: Manifest, where: Path) -> None:
    """Refuse a floor or ceiling that is no known control of its kind, and a control that is called a model.

    Raises
    ------
    UserError
        Names the kind, the model's id and the controls there are.
    """
    name = manifest.model.id.removeprefix(_CONTROL) if manifest.model.id.startswith(_CONTROL) else None
    if name is None and manifest.kind == "model":
        return
    if name not in CONTROLS:
        raise UserError(
            f"manifest.kind: {manifest.model.id!r} is no control, and no {manifest.kind}; there are "
            f"{', '.join(_CONTROL + control for control in CONTROLS)}",
            where=where,
        )
    if (kind := CONTROLS[name][0]) != manifest.kind:
        raise UserError(f"manifest.kind: {manifest.model.id!r} is a {kind}, and no {manifest.kind}", where=where)
    if load_suite(manifest.identity.suite).imported:
        what = f"suite {manifest.identity.suite} has no prompts to make a control of"
        raise UserError(f"manifest.kind: {what}", where=where)


def drawn_again(opened: Opened, where: Path) -> None:
    """Draw a control's outputs again, and compare: it is made of the suite and the run's seed alone.

    Raises
    ------
    UserError
        Names the first output that is another.
    """
    manifest = opened.manifest
    sampling = manifest.identity.sampling
    if manifest.kind == "model" or sampling is None or opened.prompts is None:
        return
    name = manifest.model.id.removeprefix(_CONTROL)
    # As when it was sampled: a run of the first prompts is made of those.
    sampler = ControlSampler(name, opened.suite, opened.prompts)
    for task, prompts in opened.prompts.items():
        asked = {prompt.doc_id: prompt for prompt in sampler.prepare(prompts, sampling)}
        samples = opened.samples(task)
        requests = [Request(asked[sample.doc_id], sample.temperature, sample.index) for sample in samples]
        for sample, again in zip(samples, sampler.draw(requests, sampling), strict=True):
            if sample.text != again.text:
                raise UserError(
                    f"samples/{task}.jsonl: {sample.cell} is not what {manifest.model.id} says there with seed "
                    f"{sampling.seed}",
                    where=where,
                )


class SaidBefore:
    """How many of a model's outputs are references of its suite; shown a task at a time.

    References are those of all prompts of the task, and the fresh ones of the prompt and the place with the run's seed
    or seed 0, where the suite has a generator of them.

    Parameters
    ----------
    manifest
        The run's; of anything but a model nothing is counted, nor where the suite's prompts are not here.
    """

    def __init__(self, manifest: Manifest) -> None:
        suite = load_suite(manifest.identity.suite)
        counted = manifest.kind == "model" and not suite.imported and not is_unseen(suite)
        self._titles = {entry.task: entry.title for entry in suite.tasks}
        prompts = prompts_of(suite.id) if counted else {}
        self._asked = {task: {prompt.doc_id: prompt for prompt in found} for task, found in prompts.items()}
        self._said = {
            task: {_words(text) for prompt in found for text in prompt.references} for task, found in prompts.items()
        }
        self._seeds: tuple[int, ...] = ()
        if counted and suite.fresh_references and manifest.identity.sampling:
            self._fresh = ControlSampler("fresh-references", suite, prompts).write
            self._seeds = (0, manifest.identity.sampling.seed)
        self._found: Counter[str] = Counter()
        self._outputs: Counter[str] = Counter()

    def at(self, samples: Sequence[Sample]) -> None:
        """Look at all samples of a task; those at the headline temperature count."""
        for sample in at_headline(samples):
            if sample.task in self._said:
                self._outputs[sample.task] += 1
                self._found[sample.task] += self._is_said(sample)

    def _is_said(self, sample: Sample) -> bool:
        text = _words(sample.text)
        if text in self._said[sample.task]:
            return True
        prompt = self._asked[sample.task].get(sample.doc_id)
        if prompt is None:
            return False
        request = Request(prompt, sample.temperature, sample.index)
        return any(text == _words(self._fresh(request, seed)) for seed in self._seeds)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """One of each task whose outputs are references in the main."""
        return tuple(
            Flag(
                code="references",
                text=f"{self._titles[task]}: {self._found[task] / outputs:.0%} of the outputs are references of the "
                "suite, word for word",
            )
            for task, outputs in self._outputs.items()
            if self._found[task] > MOST_REFERENCES * outputs
        )


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
