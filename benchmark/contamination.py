"""Whether a text was seen among evaluated ones: word for word, or by a run of 13 words in common.

Thirteen words is the length that Brown et al. (2020, appendix C) used for GPT-3's training data. Words are compared in
lower case without punctuation, so that another line break or quotation mark is no other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from benchmark.records import Prompt

WORDS = 13


class Evaluated:
    """Texts that must not be trained on.

    Parameters
    ----------
    texts
        Posts, articles, instructions, references. Of one shorter than ``n`` words the whole is compared.
    n
        Length of a run of words in common that counts as having seen it.
    """

    def __init__(self, texts: Iterable[str], n: int = WORDS) -> None:
        self.n = n
        self._runs: set[tuple[str, ...]] = set()
        self._short: set[tuple[str, ...]] = set()
        for text in texts:
            found = words(text)
            if len(found) >= n:
                self._runs.update(runs(found, n))
            elif found:
                self._short.add(tuple(found))

    def overlap(self, text: str) -> str | None:
        """Return the words that a text has in common with an evaluated one, or None.

        A short evaluated text, such as an instruction of five words, is found only where ``text`` is that text: as
        part of another it would be everywhere.
        """
        found = words(text)
        if len(found) < self.n:
            return " ".join(found) if tuple(found) in self._short else None
        return next((" ".join(run) for run in runs(found, self.n) if run in self._runs), None)


def evaluated_texts(prompts: Iterable[Prompt]) -> Iterator[str]:
    """List what of some prompts is their own: the document or the message without the task's template, and references.

    The template's words stand in every prompt of the task, trained on or evaluated, and would be found everywhere. So
    would a short reference, such as "yes", which is left out.
    """
    for prompt in prompts:
        yield prompt.shortens or prompt.chat or prompt.text
        yield from (reference for reference in prompt.references if len(words(reference)) >= WORDS)


def words(text: str) -> list[str]:
    """Split a text into lower-case words of letters and digits."""
    return re.findall(r"[^\W_]+", text.lower())


def runs(found: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """List every run of ``n`` words in a row."""
    return (tuple(found[start : start + n]) for start in range(len(found) - n + 1))
