"""A judge of one's own: a function ``(prompts, outputs, references) → preferences`` in another package.

Its package names it as an entry point of the group ``gendiv.judges``; from then on ``gendiv judge RUN --judge NAME``
asks it. CONTRIBUTING.md has a worked example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmark.entry_points import find
from benchmark.errors import UserError
from benchmark.judging.config import FunctionConfig
from benchmark.judging.judge import Pair, Write
from benchmark.records import Verdict


class FunctionJudge:
    """Judges by a function of another package.

    It is called with three lists of texts: the prompts, the outputs and what each is compared with. It returns one
    preference for the output a pair, in [0, 1] (1/2 = a tie), or None where it cannot say: that verdict has failed, and
    is asked again by the next run. Identical texts tie without a call.

    Parameters
    ----------
    config
        Names the entry point, and the file that its function was in.

    Raises
    ------
    UserError
        If no installed package has that entry point, or its code is another.
    """

    def __init__(self, config: FunctionConfig) -> None:
        self.config = config
        found = find("gendiv.judges").get(config.function)
        if found is None:
            raise UserError(f"judge {config.judge}: no package here has the entry point {config.function!r}")
        if found.code_sha256 != config.code_sha256:
            raise UserError(f"judge {config.judge}: code_sha256 is not that of {found.package} as it is installed here")
        self.function = found.function

    def judge(self, pairs: Sequence[Pair], write: Write) -> None:
        """Ask for all pairs at once.

        Raises
        ------
        UserError
            If what the function returns is not one preference a pair.
        """
        asked = [pair for pair in pairs if pair.sample.text != pair.reference]
        told = self._ask(asked) if asked else []
        preferences = dict(zip((pair.key for pair in asked), told, strict=True))
        write([self._verdict(pair, preferences.get(pair.key, 0.5)) for pair in pairs])

    def _ask(self, pairs: Sequence[Pair]) -> list[float | None]:
        returned: Any = self.function(
            [pair.prompt.text for pair in pairs],
            [pair.sample.text for pair in pairs],
            [pair.reference for pair in pairs],
        )
        try:
            told = [None if value is None or math.isnan(value) else float(value) for value in returned]
        except (TypeError, ValueError):
            told = []
        if len(told) != len(pairs) or not all(value is None or 0.0 <= value <= 1.0 for value in told):
            raise UserError(
                f"judge {self.config.judge} of {self.config.package}: its function must return one preference in "
                "[0, 1], or None, a pair"
            )
        return told

    def _verdict(self, pair: Pair, preference: float | None) -> Verdict:
        sample = pair.sample
        return Verdict(
            task=sample.task,
            doc_id=sample.doc_id,
            temperature=sample.temperature,
            index=sample.index,
            key=pair.key,
            preference=preference,
            length=len(sample.text),
            reference_length=len(pair.reference),
            error=None if preference is not None else "the function gave no preference",
        )
