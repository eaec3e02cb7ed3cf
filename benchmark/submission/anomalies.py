"""What looks wrong with a submission whose arithmetic is right: shown, explained, unranked until it is looked at."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from benchmark.records import Flag, Sample
from benchmark.suites import HEADLINE_TEMPERATURE

Fingerprint = Mapping[str, str]
"""``task/doc id/sample`` → hash of the words of a longer output, at the headline temperature."""

MOST_COPIED = 0.5
"""Share of the longer outputs that two submissions may have in common, cell by cell."""
LEAST_WORDS = 8
"""Shorter outputs are often alike by chance."""
MOST_ADDRESSED = 0.01
"""Share of outputs that may speak to a judge: some prompts are about judges."""

_TO_THE_JUDGE = re.compile(
    r"""
      ignore\s+(all\s+|any\s+)?(of\s+)?(the\s+|your\s+)?(previous|prior|above|earlier)\b
    | (output|response|answer|summary|assistant)\s+\(?[ab12]\)?\s+is\s+(clearly\s+|much\s+)?(the\s+)?
      (better|best|preferred)
    | \b(choose|select|prefer|pick)\s+(this|my)\s+(output|response|answer|summary)
    | \b(dear|note\s+to\s+the|as\s+the)\s+(judge|evaluator|grader|annotator)\b
    | (?<!\w)\[\[\s*[ABab12]\s*\]\]
    | <\|(im_start|im_end|system|endofprompt)\|>
    | \b(rating|score|verdict)\s*:\s*(10\s*/\s*10|5\s*/\s*5)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Phrases that have moved judges: instructions to them, forged verdicts, chat markup."""


def at_headline(samples: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """Samples at the headline temperature, of all tasks."""
    return [sample for group in samples.values() for sample in group if sample.temperature == HEADLINE_TEMPERATURE]


def speaks_to_the_judge(texts: Sequence[str]) -> Flag | None:
    """Flag outputs that talk to whoever judges them."""
    found = [match.group() for text in texts if (match := _TO_THE_JUDGE.search(text))]
    if len(found) <= MOST_ADDRESSED * len(texts):
        return None
    said = " ".join(found[0].split())[:60]
    share = len(found) / len(texts)
    return Flag(code="judge_injection", text=f"{share:.0%} of the outputs speak to a judge, such as {said!r}")


def fingerprint(samples: Sequence[Sample]) -> dict[str, str]:
    """Hash the words of every longer output, without case and punctuation."""
    found = {}
    for sample in samples:
        words = re.findall(r"\w+", sample.text.casefold())
        if len(words) >= LEAST_WORDS:
            digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
            found[f"{sample.task}/{sample.doc_id}/{sample.index}"] = digest[:12]
    return found


def copies(mine: Fingerprint, others: Mapping[str, Fingerprint]) -> Flag | None:
    """Flag a submission whose longer outputs are, cell by cell, those of another one.

    Two honest models rarely write the same eight words in one cell, for each draws its own noise. Only what was
    submitted before is to be given: what is copied is not to blame.
    """
    for name, theirs in others.items():
        alike = sum(theirs.get(cell) == words for cell, words in mine.items())
        if mine and alike > MOST_COPIED * len(mine):
            share = alike / len(mine)
            return Flag(code="copy", text=f"{share:.0%} of the longer outputs are those of {name}, in the same places")
    return None
