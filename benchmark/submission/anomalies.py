"""What looks wrong with a submission whose arithmetic is right: shown, explained, unranked until it is looked at."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.records import Flag, Sample
from benchmark.suites import HEADLINE_TEMPERATURE

Fingerprint = Mapping[str, str]
"""``task/doc id/sample`` → hash of the words of a longer output, at the headline temperature; and for some prompts
``~task/doc id`` → sketches of all its outputs there, in hexadecimal."""

MOST_COPIED = 0.5
"""Share of the longer outputs that two submissions may have in common, cell by cell."""
LEAST_WORDS = 8
"""Shorter outputs are often alike by chance."""
SKETCHED = 256
"""Outputs of a task that are sketched, of whole prompts."""
HASHES = 16
"""Bytes of a sketch."""
QUICK = 6
"""Prompts by which submissions are compared first."""
MOST_ALIKE = 0.3
"""How much more alike another submission's outputs may be than each one's own outputs to a prompt are. Honest models of
one family that share their noise reach 0.27, those that do not 0.1; a copy with one word in five changed has 0.34 to
0.5, but 0.16 to 0.22 where a model says nearly the same thing every time: such a copy is no more alike than an honest
rerun (tests/benchmark/submission/test_anomalies.py)."""
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


def at_headline(samples: Sequence[Sample]) -> list[Sample]:
    """Those of the samples that are at the headline temperature."""
    return [sample for sample in samples if sample.temperature == HEADLINE_TEMPERATURE]


class Look:
    """What is found in a submission's outputs, shown a task at a time; nothing of them is kept but counts and hashes.

    Attributes
    ----------
    fingerprint
        Of all that was shown.
    """

    def __init__(self) -> None:
        self.fingerprint: dict[str, str] = {}
        self._outputs = 0
        self._spoken: list[str] = []

    def at(self, samples: Sequence[Sample]) -> None:
        """Look at all samples of a task; those at the headline temperature count."""
        found = at_headline(samples)
        self.fingerprint |= fingerprint(found)
        self._outputs += len(found)
        self._spoken += [match.group() for sample in found if (match := _TO_THE_JUDGE.search(sample.text))]

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What is wrong with these outputs."""
        spoken = _spoken(self._spoken, self._outputs)
        return (spoken,) if spoken else ()


def _spoken(found: Sequence[str], outputs: int) -> Flag | None:
    if len(found) <= MOST_ADDRESSED * outputs:
        return None
    said = " ".join(found[0].split())[:60]
    share = len(found) / outputs
    return Flag(code="judge_injection", text=f"{share:.0%} of the outputs speak to a judge, such as {said!r}")


def fingerprint(samples: Sequence[Sample]) -> dict[str, str]:
    """Hash the words of every longer output, without case and punctuation, and sketch those of some prompts.

    Which prompts are sketched is told by a hash of their names, so that submissions have the same.
    """
    found = {}
    groups: dict[tuple[str, str], dict[int, list[str]]] = {}
    for sample in samples:
        words = re.findall(r"\w+", sample.text.casefold())
        if len(words) >= LEAST_WORDS:
            digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
            found[f"{sample.task}/{sample.doc_id}/{sample.index}"] = digest[:12]
        groups.setdefault((sample.task, sample.doc_id), {})[sample.index] = words
    for task in {task for task, _ in groups}:
        mine = {doc_id: group for (of, doc_id), group in groups.items() if of == task}
        chosen = sorted(mine, key=lambda doc_id: hashlib.sha256(doc_id.encode()).digest())
        k = max(map(len, mine.values()))
        for doc_id in chosen[: max(1, SKETCHED // k)]:
            texts = [words for _, words in sorted(mine[doc_id].items())]
            if k > 1 or len(texts[0]) >= LEAST_WORDS:  # with one output there is nothing that chance is known from
                found[f"~{task}/{doc_id}"] = b"".join(map(sketch, texts)).hex()
    return found


def sketch(words: Sequence[str]) -> bytes:
    """MinHash of a text's pairs of neighbouring words (Broder 1997), a byte of each of `HASHES` hash functions.

    The share of equal bytes of two sketches estimates the Jaccard similarity of the two sets, and is 1/256 for nothing
    in common. A text of one word is that word, and one of none is empty.
    """
    pairs = {" ".join(pair) for pair in itertools.pairwise(words)} or {" ".join(words)}
    hashes = [np.frombuffer(hashlib.blake2b(pair.encode(), digest_size=4 * HASHES).digest(), "<u4") for pair in pairs]
    return bytes((np.min(hashes, axis=0) & 255).astype(np.uint8))


def copies(mine: Fingerprint, others: Mapping[str, Fingerprint]) -> Flag | None:
    """Flag a submission whose outputs are those of another one, or those with some words changed.

    Two honest models rarely write the same eight words in one cell, for each draws its own noise. A copy that was
    worked over is told by its outputs being more like another's to the same prompt than either's are among
    themselves: see `likeness`. Only what was submitted before is to be given: what is copied is not to blame.
    """
    longer = {cell: words for cell, words in mine.items() if not cell.startswith("~")}
    sketched = {cell: words for cell, words in mine.items() if cell.startswith("~")}
    few = dict(sorted(sketched.items())[:QUICK])
    for name, theirs in others.items():
        alike = sum(theirs.get(cell) == words for cell, words in longer.items())
        if longer and alike > MOST_COPIED * len(longer):
            share = alike / len(longer)
            return Flag(code="copy", text=f"{share:.0%} of the longer outputs are those of {name}, in the same places")
        # Most pairs are told apart by a few prompts.
        if likeness(few, theirs) > MOST_ALIKE / 2 and (excess := likeness(sketched, theirs)) > MOST_ALIKE:
            text = (
                f"the outputs are nearly those of {name}: {excess:.0%} of the way from how much different outputs to "
                "one prompt are alike to being the same"
            )
            return Flag(code="copy", text=text)
    return None


def likeness(mine: Fingerprint, theirs: Fingerprint) -> float:
    """Tell how much more alike two submissions' outputs to the same prompts are than the outputs of either.

    Parameters
    ----------
    mine, theirs
        Fingerprints; prompts that both sketched count.

    Returns
    -------
    float
        ``(a - b) / (1 - b)``, with a = the likeness of each of mine to that of theirs which is most like it, whatever
        its place, and b = that of each output to the most like of the others of its own, of the submission where that
        is higher; 0 with one output a prompt. At most 1; about 0 for two samples of one model; 0 where no prompt is in
        both, or all outputs to a prompt are the same.
    """
    shared = tuple(sorted(key for key in mine if key.startswith("~") and len(mine[key]) == len(theirs.get(key, ""))))
    found: list[tuple[float, float, int]] = []
    for size in {len(mine[key]) for key in shared}:
        keys = [key for key in shared if len(mine[key]) == size]
        here, there = (_sketches(tuple(each[key] for key in keys)) for each in (mine, theirs))
        found.append((_likest(here, there), max(_likest(here), _likest(there)), len(keys)))
    if not found:
        return 0.0
    across, within = (float(np.average([part[n] for part in found], weights=[p[2] for p in found])) for n in (0, 1))
    return (across - within) / (1 - within) if within < 1 else 0.0


@functools.lru_cache(maxsize=4096)
def _sketches(texts: tuple[str, ...]) -> NDArray[np.uint8]:
    """[prompts, k, HASHES]."""
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), -1, HASHES)


def _likest(here: NDArray[np.uint8], there: NDArray[np.uint8] | None = None) -> float:
    """Mean over outputs of their likeness to the most like of the others; 0 where there is none."""
    other = here if there is None else there
    alike = (here[:, :, None, :] == other[:, None, :, :]).mean(axis=-1)
    if there is None:
        alike[:, np.arange(here.shape[1]), np.arange(here.shape[1])] = 0.0
    return float(alike.max(axis=-1).mean())
