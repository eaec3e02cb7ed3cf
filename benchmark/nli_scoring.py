"""NLI diversity as columns of scores, for whoever brings a classifier; no suite and no board asks for it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.metrics import nli
from benchmark.metrics.nli_cache import CachedNLI
from benchmark.quantities import Column, over_slots

Texts = Sequence[Sequence[str]]
"""Outputs [prompts][k]."""

ACROSS_PAIRS = 20_000
"""Pairs of outputs that are compared across inputs, over all k slots; all pairs at 500 × 16 would be 2 million."""


def nli_columns(
    grids: Mapping[tuple[str, float], Texts],
    classifier: nli.Classifier,
    *,
    forms: Sequence[nli.Form] = ("nli",),
    neighbours: int | None = 1,
    across_pairs: int = ACROSS_PAIRS,
    max_sentences: int | None = nli.MAX_SENTENCES,
) -> list[Column]:
    """NLI diversity per input and across inputs.

    Parameters
    ----------
    grids
        (Task, temperature) → its outputs, as many for every prompt.
    classifier
        Called once, with the different directed pairs of sentences of all grids and of both quantities; see
        `load_classifier`.
    forms
        ``"nli"``, and those of the published forms that are wanted. They cost nothing more.
    neighbours
        Outputs of a prompt that each is compared with, in a circle; None = all. See `nli.per_input`.
    across_pairs
        Pairs that are compared across inputs, at least; as many neighbours for every output. Prompts stand in a circle
        in a random order, another one in each slot, so that it does not matter how they are sorted.
    max_sentences
        Sentences read of an output; None = all, and 0 = the whole output as one, as in the papers.

    Returns
    -------
    list of Column
        ``<form>_per_input`` where k > 1 and ``<form>_across_input`` where there are more than 2 prompts.

    Raises
    ------
    ValueError
        If the prompts of a task have unlike numbers of outputs, an option is out of its range, or the classifier
        returns anything but a distribution for every pair.
    """
    if across_pairs < 1:
        raise ValueError(f"across_pairs must be at least 1, not {across_pairs}")
    asked: dict[tuple[str, str], None] = {}
    for texts in grids.values():
        for sets, near in ((texts, neighbours), (_slots(texts), _neighbours(texts, across_pairs))):
            asked |= dict.fromkeys(nli.compared_pairs(sets, neighbours=near, max_sentences=max_sentences))
    chances = classifier(list(asked)) if asked else np.zeros((0, len(nli.LABELS)))
    place = {pair: row for row, pair in enumerate(asked)}

    def answered(pairs: list[tuple[str, str]]) -> nli.Floats:
        return chances[[place[pair] for pair in pairs]]

    found = []
    for (task, temperature), texts in grids.items():
        for form in forms:
            if texts and len(texts[0]) > 1:
                values = nli.per_input(texts, answered, form=form, neighbours=neighbours, max_sentences=max_sentences)
                found.append(Column(f"{form}_per_input", task, temperature, "mean", values))
            if len(texts) > 2:
                value, without = nli.across_input(
                    _slots(texts),
                    answered,
                    form=form,
                    neighbours=_neighbours(texts, across_pairs),
                    max_sentences=max_sentences,
                )
                for slot, order in enumerate(_orders(texts)):
                    without[slot, order] = without[slot].copy()
                values = over_slots(value, without)
                found.append(Column(f"{form}_across_input", task, temperature, "set", values))
    return found


def load_classifier(
    model: str,
    cache: Path,
    *,
    device: str | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], object] | None = None,
) -> CachedNLI:
    """Load a cross-encoder whose answers are kept in a file.

    Parameters
    ----------
    model
        Checkpoint folder or hub id, see `nli.CrossEncoderNLI`: safetensors alone, and no code of the checkpoint's.
    cache
        The file of answers; of any classifiers and texts.
    device
        Where to put it; None = a GPU where there is one.
    batch_size
        Pairs a forward pass.
    progress
        Called with (pairs known, pairs in all).

    Raises
    ------
    UserError
        If it cannot be loaded, or nothing tells which weights it has.
    """
    loaded = nli.CrossEncoderNLI(model, device=device, batch_size=batch_size)
    return CachedNLI(loaded, cache, identity=loaded.identity, batch_size=batch_size, progress=progress)


def _neighbours(texts: Texts, across_pairs: int) -> int:
    """Neighbours in every slot's circle that make so many pairs in all; more than there are = all."""
    outputs = sum(map(len, texts))
    return max(1, math.ceil(across_pairs / max(outputs, 1)))


def _slots(texts: Texts) -> list[list[str]]:
    """Sets of one output a prompt, [k][n], the prompts in another order in each; none where there are too few."""
    if len(texts) < 3:
        return []
    return [[texts[row][slot] for row in order] for slot, order in enumerate(_orders(texts))]


def _orders(texts: Texts) -> list[list[int]]:
    """An order of the prompts for every slot: random, and the same on every machine and version."""
    rows = range(len(texts))
    return [
        sorted(rows, key=lambda row, slot=slot: hashlib.sha256(f"{slot} {row}".encode()).digest())  # type: ignore[misc]
        for slot in range(len(texts[0]))
    ]
