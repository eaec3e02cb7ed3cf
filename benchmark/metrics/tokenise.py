"""Two named word tokenisers: the published one, kept bit for bit, and ours.

A score is only comparable with scores made by the same tokeniser, so its name belongs with every score.

A tokeniser is a pure function from a text to its words. It must also be *local*: two texts joined by a space, a plain
word and a space give the words of the first text, that word and the words of the second. ``tokens`` relies on this to
tokenise a whole corpus in one call. It does so without a Python string for each word: the words' bytes are hashed and
sorted by numpy, every word is then compared with the one that stands for it, and the corpus goes through a dictionary
if a single one differs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError

Ints = NDArray[np.int64]
Tokeniser = Callable[[str], list[str]]

_WORD = re.compile(r"\w+")
_ASCII = {code: chr(code).lower() if _WORD.match(chr(code)) else " " for code in range(128)}
_END = "gendivendoftext"
_SPACE = 32
_CHUNK = 8
_LONGEST = 512
"""Bytes of the longest word that is hashed; a step of that takes eight of them."""
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_CHUNK + 1)], np.uint64)
_BLOCK = 256
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Tokens:
    """A corpus as integers.

    Parameters
    ----------
    words
        Word of every token, int64 [n_tokens] in 0 … n_words-1; texts follow one another.
    lengths
        Words of every text, int64 [n_texts].
    n_words
        Different words.
    """

    words: Ints
    lengths: Ints
    n_words: int


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
    return list(filter(None, _spaced_rlfh(text).split(" ")))


def _spaced_rlfh(text: str) -> str:
    return text.replace(".", "").replace("\n", "")


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
    return _spaced_words(text).split()


def _spaced_words(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        # The same words at a fraction of the time: on ASCII, NFKC does nothing and case folding is lower-casing.
        return text.translate(_ASCII)
    return " ".join(_WORD.findall(text))


TOKENISERS: Mapping[str, Tokeniser] = MappingProxyType({"rlfh": rlfh, "words": words})
_SPACED: Mapping[str, Callable[[str], str]] = {"rlfh": _spaced_rlfh, "words": _spaced_words}
"""A text's words with spaces between them, and before and after them in any number."""


def tokeniser(name: str) -> Tokeniser:
    """Tokeniser of that name.

    Raises
    ------
    UserError
        If there is none.
    """
    return TOKENISERS[_known(name)]


def tokens(texts: Sequence[str], tokeniser: str = "words") -> Tokens:
    """Words of every text as integers.

    Parameters
    ----------
    texts
        Any texts; empty ones have length 0.
    tokeniser
        Name in ``TOKENISERS``.

    Returns
    -------
    Tokens
        The corpus. Which integer a word gets is arbitrary.

    Raises
    ------
    UserError
        If no tokeniser has that name.
    """
    name = _known(tokeniser)
    return _hashed(texts, _SPACED[name]) or _looked_up(texts, TOKENISERS[name])


def _known(name: str) -> str:
    if name not in TOKENISERS:
        raise UserError(f"no tokeniser is called {name!r}; there are {', '.join(TOKENISERS)}")
    return name


def _looked_up(texts: Sequence[str], split: Tokeniser) -> Tokens:
    """``tokens`` by a dictionary."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    each = [split(text) for text in texts]
    ids = np.fromiter(map(index.__getitem__, chain.from_iterable(each)), np.int64)
    return Tokens(ids, np.array([len(found) for found in each], np.int64), len(index))


def _hashed(texts: Sequence[str], spaced: Callable[[str], str]) -> Tokens | None:
    """``tokens`` by hashes; None where it cannot be done: a long word, one that is the end mark, or equal hashes."""
    blocks = []
    for start in range(0, len(texts), _BLOCK):
        # Memory that is used over and over is much cheaper than new memory for a whole corpus.
        block = _Words.of(texts[start : start + _BLOCK], spaced)
        if block is None:
            return None
        blocks.append(block)
    packed = np.concatenate([np.empty(0, np.uint64), *(block.hashes for block in blocks)])
    packed >>= np.uint64(1)
    packed = packed.view(np.int64)
    low = (1 << len(packed).bit_length()) - 1
    packed &= ~low
    packed |= np.arange(len(packed))
    packed.sort()
    new = np.ones(len(packed), bool)
    np.greater(packed[1:] ^ packed[:-1], low, out=new[1:])
    packed &= low
    ids = np.empty(len(packed), np.int64)
    ids[packed] = np.cumsum(new) - 1
    model = packed[new]
    if not _all_equal(blocks, model, ids):
        return None
    return Tokens(ids, np.array([length for block in blocks for length in block.lengths], np.int64), len(model))


@dataclass(frozen=True)
class _Words:
    """The words of some texts as bytes, without their strings.

    Parameters
    ----------
    lengths
        Words of every text, int64 [n_texts].
    hashes
        Hash of every word, uint64 [n_tokens].
    sizes
        Bytes of every word, int64 [n_tokens].
    chunks
        First, second, … eight bytes of words as integers, 0 after a word's end, each with the numbers of the words
        that have them.
    """

    lengths: Ints
    hashes: NDArray[np.uint64]
    sizes: Ints
    chunks: list[tuple[Ints, NDArray[np.uint64]]]

    @classmethod
    def of(cls, texts: Sequence[str], spaced: Callable[[str], str]) -> _Words | None:
        """Find the words between the spaces of texts; None if one is too long, or is the end mark."""
        text = spaced(f" {_END} ".join([*texts, ""]))
        # A lone surrogate is no valid UTF-8, and a character like any other here.
        raw = np.frombuffer(b"".join([b" ", text.encode("utf-8", "surrogatepass"), b" " * _CHUNK]), np.uint8)
        spaces = np.flatnonzero(raw == _SPACE)
        sizes = np.diff(spaces) - 1
        starts = spaces[:-1][sizes > 0] + 1
        sizes = sizes[sizes > 0]
        if sizes.max(initial=0) > _LONGEST:
            return None
        eight = np.ndarray(len(raw) - _CHUNK + 1, "<u8", raw, strides=(1,))
        # The last word is the end mark.
        ends = np.flatnonzero((sizes == sizes[-1]) & (eight[starts] == eight[starts[-1]]))
        if len(ends) != len(texts):
            return None
        starts, sizes = np.delete(starts, ends), np.delete(sizes, ends)
        hashes, chunks = _mixed(sizes.astype(np.uint64)), []
        for offset in range(0, max(sizes.max(initial=0), 1), _CHUNK):
            which = np.flatnonzero(sizes > offset)
            chunk = eight[starts[which] + offset] & _FIRST_BYTES[np.minimum(sizes[which] - offset, _CHUNK)]
            hashes[which] = _mixed(hashes[which] ^ chunk)
            chunks.append((which, chunk))
        lengths = np.diff(ends, prepend=-1) - 1
        return cls(lengths, _mixed(hashes), sizes, chunks)


def _all_equal(blocks: Sequence[_Words], model: Ints, ids: Ints) -> bool:
    """Whether every word has the bytes of its model, the first one of its number: word ``model[ids[i]]`` for word i."""
    sizes = np.zeros(len(model), np.int64)
    chunks = np.zeros((max((len(block.chunks) for block in blocks), default=0), len(model)), np.uint64)
    start = 0
    for block in blocks:
        own = ids[start : start + len(block.hashes)]
        leads = model[own] == np.arange(start, start + len(own))
        sizes[own[leads]] = block.sizes[leads]
        if not np.array_equal(sizes[own], block.sizes):
            return False
        for of_model, (which, chunk) in zip(chunks, block.chunks, strict=False):
            lead = leads[which]
            of_model[own[which[lead]]] = chunk[lead]
            if not np.array_equal(of_model[own[which]], chunk):
                return False
        start += len(own)
    return True


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values * _MIX
    return values ^ values >> np.uint64(32)
