"""Floors and ceilings: "models" that show what a number is worth. They are drawn apart and never ranked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from benchmark.errors import UserError
from benchmark.records import Kind, ModelIdentity, Prompt, Sample, Sampling
from benchmark.sampling.fit import fit
from benchmark.sampling.noise import generator
from benchmark.sampling.sampler import Request
from benchmark.suites import Suite

Write = Callable[[Request, int], str]
"""(request, run seed) → text."""


class ControlSampler:
    """A floor or the ceiling of a suite, sampled like any model but at temperature 1 alone, since it has none.

    Parameters
    ----------
    name
        One of `CONTROLS`.
    suite
        The suite, for its generator of fresh references.
    prompts
        Task → prompts: the controls are made of the references.

    Raises
    ------
    UserError
        If there is no such control, or no task has anything to make it of.
    """

    batch_size = 4096

    def __init__(self, name: str, suite: Suite, prompts: dict[str, list[Prompt]]) -> None:
        if name not in CONTROLS:
            raise UserError(f"no control {name!r}; there are: {', '.join(CONTROLS)}")
        self.name = name
        self.kind, make = CONTROLS[name]
        self.write = make(suite, prompts)
        self.shortened: dict[str, int] = {}

    def identity(self, sampling: Sampling) -> ModelIdentity:
        """Identify the control by its name and the run's seed."""
        return ModelIdentity(
            id=f"control:{self.name}",
            revision="1",
            weights_sha256=None,
            dtype=None,
            chat_template_sha256=None,
            seed=sampling.seed,
        )

    def prepare(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Prompt]:
        """Keep the task's order and its whole prompts: a control reads as much as there is."""
        self.shortened |= {prompt.task: 0 for prompt in prompts}
        return [
            fit(prompt, None, len, chat=False, truncation=sampling.truncation, model_id=self.name).prompt
            for prompt in prompts
        ]

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> list[Sample]:
        """Write one text for each request."""
        texts = [self.write(request, sampling.seed) for request in requests]
        return [
            Sample(
                task=request.prompt.task,
                doc_id=request.prompt.doc_id,
                temperature=request.temperature,
                index=request.index,
                text=text,
                finish_reason="stop",
                n_tokens=None,
            )
            for request, text in zip(requests, texts, strict=True)
        ]


def _references(prompts: dict[str, list[Prompt]]) -> dict[str, list[Prompt]]:
    """Keep the prompts that have references; a task without any has those of all other tasks."""
    having = {task: [prompt for prompt in asked if prompt.references] for task, asked in prompts.items()}
    everywhere = [prompt for asked in having.values() for prompt in asked]
    if not everywhere:
        raise UserError("no prompt has a reference here, and this control is made of them; leave it out on this suite")
    return {task: asked or everywhere for task, asked in having.items()}


def _random_words(_: Suite, prompts: dict[str, list[Prompt]]) -> Write:
    """Uniform words of the task's prompts and references, as many as the prompt's own reference has.

    A prompt without one gets as many as some other's has.
    """
    having = _references(prompts)
    words = {
        task: sorted({word for prompt in asked for text in (prompt.text, *prompt.references) for word in text.split()})
        for task, asked in prompts.items()
    }

    def write(request: Request, seed: int) -> str:
        prompt, vocabulary = request.prompt, words[request.prompt.task]
        rng = generator(seed, prompt.task, prompt.doc_id, request.temperature, request.index)
        model = prompt if prompt.references else having[prompt.task][int(rng.integers(len(having[prompt.task])))]
        picks = rng.integers(len(vocabulary), size=len(model.references[0].split()))
        return " ".join(vocabulary[pick] for pick in picks)

    return write


def _shuffled_references(_: Suite, prompts: dict[str, list[Prompt]]) -> Write:
    """The reference of some other prompt of the task: fluent, varied and beside the point."""
    having = _references(prompts)

    def write(request: Request, seed: int) -> str:
        prompt = request.prompt
        others = [other for other in having[prompt.task] if other.doc_id != prompt.doc_id]
        if not others:
            raise UserError(f"task {prompt.task} has one reference alone, and so none to be another prompt's")
        rng = generator(seed, prompt.task, prompt.doc_id, request.temperature, request.index)
        return others[int(rng.integers(len(others)))].references[0]

    return write


def _constant(_: Suite, prompts: dict[str, list[Prompt]]) -> Write:
    """One answer to everything: the first reference."""
    having = _references(prompts)
    return lambda request, _: having[request.prompt.task][0].references[0]


def _fresh_references(suite: Suite, _: dict[str, list[Prompt]]) -> Write:
    """New draws of the process that made the references: as good and as varied as a model can be asked to be."""
    if suite.fresh_references is None:
        raise UserError(f"suite {suite.id} has no generator of references, and so no ceiling")
    module, function = suite.fresh_references.rsplit(".", 1)
    fresh = getattr(importlib.import_module(module), function)
    return lambda request, seed: str(fresh(request.prompt.doc, request.index, seed))


CONTROLS: dict[str, tuple[Kind, Callable[[Suite, dict[str, list[Prompt]]], Write]]] = {
    "random-words": ("floor", _random_words),
    "shuffled-references": ("floor", _shuffled_references),
    "constant": ("floor", _constant),
    "fresh-references": ("ceiling", _fresh_references),
}
