"""The exact oracle of a generated suite: the sample wins if it scores above the reference."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmark.errors import UserError
from benchmark.judging.config import OracleConfig
from benchmark.judging.judge import Pair, Write
from benchmark.records import Verdict


class OracleJudge:
    """Judges by a scoring function (doc, text) → float, which must be pure.

    Parameters
    ----------
    config
        Its ``function`` is imported from our own ``tasks`` folder, and from nowhere else.
    """

    def __init__(self, config: OracleConfig) -> None:
        self.config = config
        module, _, function = config.function.rpartition(".")
        if not module.startswith("tasks."):
            raise UserError(f"judge {config.judge}: function {config.function!r} is not within tasks")
        try:
            self.score = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise UserError(f"judge {config.judge}: function {config.function!r} is not there: {error}") from None

    def judge(self, pairs: Sequence[Pair], write: Write) -> None:
        """Score each sample and what it is compared with; preference is 1, 1/2 (equal scores) or 0."""
        write([self._verdict(pair) for pair in pairs])

    def _verdict(self, pair: Pair) -> Verdict:
        sample = pair.sample
        score = float(self.score(pair.prompt.doc, sample.text))
        reference_score = float(self.score(pair.prompt.doc, pair.reference))
        return Verdict(
            task=sample.task,
            doc_id=sample.doc_id,
            temperature=sample.temperature,
            index=sample.index,
            key=pair.key,
            preference=0.5 if score == reference_score else float(score > reference_score),
            score=score,
            reference_score=reference_score,
            length=len(sample.text),
            reference_length=len(pair.reference),
        )
