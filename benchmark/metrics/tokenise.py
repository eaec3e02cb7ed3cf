"""Two named word tokenisers: the published one, kept bit for bit, and ours.

A score is only comparable with scores made by the same tokeniser, so its name belongs with every score.

A tokeniser is a pure function from a text to its words. It must also be *local*: two texts joined by a space, a plain
word and a space give the words of the first text, that word and the words of the second. ``ngrams.tokens`` relies on
this to tokenise a whole corpus in one call.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmark.errors import UserError

Tokeniser = Callable[[str], list[str]]

_WORD = re.compile(r"\w+")
_ASCII = {code: chr(code).lower() if _WORD.match(chr(code)) else " " for code in range(128)}


def rlfh(text: str) -> list[str]:
    r"""Words as the published code of Kirk et al. (arXiv 2310.06452) splits them.

    ``.`` and ``\n`` are removed, then the text is split at single spaces.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    list[str]
        Words in order; empty for a text without any.

    Notes
    -----
    Kept for comparison with published numbers only: a line break glues words (``"end.\nStart"`` → ``endStart``), tabs
    and no-break spaces do not split, case and punctuation make different words, and ``3.5`` equals ``35``.
    """
    return list(filter(None, text.replace(".", "").replace("\n", "").split(" ")))


def words(text: str) -> list[str]:
    r"""Words as GenDiv counts them: NFKC, case folded, maximal runs of Unicode word characters (``\w+``).

    Parameters
    ----------
    text
        Any text; lone surrogates are allowed and separate words.

    Returns
    -------
    list[str]
        Words in order; empty for a text of spaces and punctuation.

    Notes
    -----
    Scripts that write no spaces give one word a phrase. Apostrophes split (``don't`` → ``don``, ``t``).
    """
    if text.isascii():
        # The same words at half the time: on ASCII, NFKC does nothing and case folding is lower-casing.
        return text.translate(_ASCII).split()
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


TOKENISERS: Mapping[str, Tokeniser] = MappingProxyType({"rlfh": rlfh, "words": words})


def tokeniser(name: str) -> Tokeniser:
    """Tokeniser of that name.

    Raises
    ------
    UserError
        If there is none.
    """
    if name not in TOKENISERS:
        raise UserError(f"no tokeniser is called {name!r}; there are {', '.join(TOKENISERS)}")
    return TOKENISERS[name]
