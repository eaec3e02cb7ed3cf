"""The text gate: which outputs count as an attempt at an answer at all.

A share of outputs that pass lies in [0, 1] (``sentence_bert.valid_share``); higher is better, and it says nothing of
variety: k identical answers may all pass.

What scripts tell: an English answer to a question in Russian, Arabic or Chinese, or a model that falls into Cyrillic or
Thai when it is asked in English. What they do not: languages of one script (a French answer to an English question
passes, and so does Chinese for Japanese, since both write Han), nor whether words make sense. A task that asks for
another script must have a reference in it; without one, a translation into Greek counts as the wrong script.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Literal

from benchmark.records import FinishReason

Invalid = Literal["empty", "cut_off", "prompt_copy", "wrong_script"]

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_ASCII_LETTER = re.compile("[A-Za-z]")
_EAST_ASIAN = "Han and kana"
_LONE_GREEK = re.compile(r"(?<![^\W\d_])[µΩ\u0370-\u03ff](?![^\W\d_])")
_NAMED_OTHERWISE = {
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HENTAIGANA", "BOPOMOFO", "IDEOGRAPHIC", "VERTICAL"), _EAST_ASIAN),
    **dict.fromkeys(("MODIFIER", "CARON", "VEDIC"), None),  # Marks of several scripts.
}
_WEIGHTS = {_EAST_ASIAN: 3, "Hangul": 2}
"""Letters that a sign stands for, so that two names in Latin letters do not outweigh the Chinese sentence they are in:
a syllable of Hangul is two or three letters, and an ideograph a syllable or a word."""


def invalid_reason(
    prompt: str,
    output: str,
    finish_reason: FinishReason,
    *,
    references: Sequence[str] = (),
    cut_off_is_valid: bool = False,
) -> Invalid | None:
    """Why an output is no valid answer, or None if it is one.

    Parameters
    ----------
    prompt
        The prompt's text; "" where it is not known.
    output
        The output's text.
    finish_reason
        How the output ended; ``"unknown"`` passes.
    references
        Answers whose scripts are right as well as the prompt's.
    cut_off_is_valid
        Let outputs pass that the token limit ended.

    Returns
    -------
    Invalid or None
        The first that holds of ``"empty"`` (white space alone), ``"cut_off"`` (ended by the token limit),
        ``"prompt_copy"`` (the prompt word for word, outer white space aside) and ``"wrong_script"`` (neither the prompt
        nor any reference has a letter of the script that most of the output is in, see `main_script`). One reason an
        output, so that a ``Counter`` of them adds up to the invalid ones.

    Notes
    -----
    No output is in the wrong script where the prompt is not known, or where neither it nor any reference has a letter;
    and none that has no letters itself.
    """
    if not output.strip():
        return "empty"
    if finish_reason == "length" and not cut_off_is_valid:
        return "cut_off"
    if output.strip() == prompt.strip():
        return "prompt_copy"
    if prompt.strip() and _is_foreign(output, (prompt, *references)):
        return "wrong_script"
    return None


def main_script(text: str) -> str | None:
    """Script that most of a text's letters are of.

    Parameters
    ----------
    text
        Any text. What stands between backquotes, ``in a line`` or in a fenced block, is code, which is Latin in every
        language, and is not read.

    Returns
    -------
    str or None
        Such as ``"Latin"``, ``"Cyrillic"`` or ``"Han and kana"`` (Chinese and Japanese alike); None without letters.
        Signs of Han and kana count as three letters and syllables of Hangul as two. Greek letters that stand alone are
        symbols, and never make a text Greek. Of two scripts of one size it is Latin, or else the first by name.
    """
    if "`" in text:
        text = _CODE.sub(" ", text)
    if text.isascii():
        return "Latin" if _ASCII_LETTER.search(text) else None
    found = _most(text)
    return _most(_LONE_GREEK.sub(" ", text)) if found == "Greek" else found


def _most(text: str) -> str | None:
    letters: dict[str, int] = {}
    for sign, times in Counter(text).items():
        if script := _script(sign):
            letters[script] = letters.get(script, 0) + times * _WEIGHTS.get(script, 1)
    return min(letters, key=lambda script: (-letters[script], script != "Latin", script), default=None)


def _is_foreign(output: str, known: Sequence[str]) -> bool:
    """Whether there are letters in the known texts, and none of the output's main script."""
    main = main_script(output)
    if main is None:
        return False
    has_letters = False
    for text in known:
        latin = _ASCII_LETTER.search(text)
        # The letters of ASCII are all of one script; and elsewhere, too, the first letter most often settles it.
        for sign in (latin.group() if latin else "") if text.isascii() else text:
            script = _script(sign)
            if script == main:
                return False
            has_letters |= script is not None
    return has_letters


@cache
def _script(sign: str) -> str | None:
    """Script of a letter, by the first word of its name in Unicode; None of anything else."""
    if not sign.isalpha():
        return None
    # Letters for mathematics, full width or units are those that they look like.
    plain = next(filter(str.isalpha, unicodedata.normalize("NFKC", sign)), "")
    name = re.split("[ -]", unicodedata.name(plain, "") if plain else "", maxsplit=1)[0]
    return _NAMED_OTHERWISE.get(name, name.capitalize() or None)
