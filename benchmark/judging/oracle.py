"""The exact oracle of a generated suite: the sample wins if it scores above the reference."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmark.judging.judge import JudgeConfig, verdict_key
from benchmark.records import Prompt, Sample, Verdict


class OracleJudge:
    """Judges by a scoring function (doc, text) → float, which must be pure.

    Parameters
    ----------
    config
        Its ``function`` is imported from our own ``tasks`` folder.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        module, function = config.function.rsplit(".", 1)
        self.score = getattr(importlib.import_module(module), function)

    def verdicts(self, pairs: Sequence[tuple[Prompt, Sample]]) -> list[Verdict]:
        """Score each sample and its prompt's reference; preference is 1, 1/2 (equal scores) or 0."""
        return [self._verdict(prompt, sample) for prompt, sample in pairs]

    def _verdict(self, prompt: Prompt, sample: Sample) -> Verdict:
        reference = prompt.references[0]
        score = float(self.score(prompt.doc, sample.text))
        reference_score = float(self.score(prompt.doc, reference))
        return Verdict(
            task=sample.task,
            doc_id=sample.doc_id,
            temperature=sample.temperature,
            index=sample.index,
            key=verdict_key(self.config.sha256, prompt, sample),
            preference=0.5 if score == reference_score else float(score > reference_score),
            score=score,
            reference_score=reference_score,
            length=len(sample.text),
            reference_length=len(reference),
        )
