"""What an NLI classifier said of pairs of sentences, kept on disk: a run that was stopped goes on where it was.

One JSON line a directed pair, ``{"key": …, "chances": [entailment, neutral, contradiction]}``. The key is a hash of
both texts and of the classifier's identity (its weights and how much it reads of a pair), so that one file may serve
several classifiers and any number of runs, and answers of other weights are never taken. Texts are not in the file.

Like a log of verdicts, the file only grows, batch by batch, each flushed to the disk; one process at a time may write
it; and a last line that a killed writer left unfinished is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from benchmark.errors import UserError
from benchmark.metrics.nli import LABELS, Classifier, Floats, _distributions, by_length
from benchmark.records import Record
from benchmark.runs import appending, drop_cut_off_line, first_problem

Chance = Annotated[float, Field(ge=0.0)]
Chances = tuple[Chance, Chance, Chance]


class Answer(Record):
    """What a classifier said of one directed pair."""

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    chances: Chances
    """Columns as in ``nli.LABELS``."""


class CachedNLI:
    """A classifier that asks another one only what is not in a file yet.

    Parameters
    ----------
    classifier
        Any ``nli.Classifier``. It is called with one batch of different pairs at a time, the shortest first.
    path
        The file; it need not exist yet.
    identity
        What the classifier's answers depend on, such as ``CrossEncoderNLI.identity``.
    batch_size
        Pairs a call, and a write.
    progress
        Called with (pairs known, pairs in all), first with those that the file holds.

    Notes
    -----
    A batch is written whole, so that a run which was stopped asks the same batches as one that was not, and gets the
    same bits. Where the file holds other pairs of these texts, batches are other ones, and a cross-encoder's
    probabilities may differ in the sixth digit, as they do between a CPU and a GPU.
    """

    def __init__(
        self,
        classifier: Classifier,
        path: Path,
        *,
        identity: str,
        batch_size: int = 64,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.path, self.identity = path, identity
        self._classifier, self._batch_size = classifier, batch_size
        self._progress = progress or (lambda _known, _total: None)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Probabilities of pairs of premise and hypothesis.

        Parameters
        ----------
        pairs
            Any pairs.

        Returns
        -------
        float64 [len(pairs), 3]
            Columns as in ``nli.LABELS``. Each different pair is asked once, now or in an earlier run.

        Raises
        ------
        UserError
            If another process is writing the file, it cannot be written, or a line of it is no answer.
        ValueError
            If the classifier returns anything but a distribution for every pair; nothing of that batch is kept.
        """
        keys = {pair: self.key(*pair) for pair in pairs}
        if not keys:
            return np.zeros((0, len(LABELS)))
        with appending(self.path) as log:
            try:
                drop_cut_off_line(self.path)
                known = _read(self.path, set(keys.values()))
                missing = sorted((pair for pair, key in keys.items() if key not in known), key=by_length)
                self._progress(len(keys) - len(missing), len(keys))
                for start in range(0, len(missing), self._batch_size):
                    batch = missing[start : start + self._batch_size]
                    rows = _distributions(self._classifier(batch), len(batch)).tolist()
                    answers = [
                        Answer(key=keys[pair], chances=tuple(row)) for pair, row in zip(batch, rows, strict=True)
                    ]
                    log.append(answers)
                    known |= {answer.key: answer.chances for answer in answers}
                    self._progress(len(keys) - len(missing) + start + len(batch), len(keys))
            finally:
                if not self.path.stat().st_size:  # a classifier that could not even begin leaves nothing behind
                    self.path.unlink()
        return np.array([known[keys[pair]] for pair in pairs], dtype=np.float64)

    def key(self, premise: str, hypothesis: str) -> str:
        """Hash of the two texts, in this order, and of the classifier's identity."""
        return hashlib.sha256(json.dumps([self.identity, premise, hypothesis]).encode()).hexdigest()


def _read(path: Path, wanted: set[str]) -> dict[str, Chances]:
    """Answers of some keys, a line at a time: the file may hold millions of others."""
    known: dict[str, Chances] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                answer = Answer.model_validate_json(line)
            except ValidationError as error:
                what = f"not an answer of an NLI classifier: {first_problem(error)}; move the file away to ask again"
                raise UserError(what, where=f"{path}:{number}") from None
            if answer.key in wanted:
                known[answer.key] = answer.chances
    return known
