"""Counting n-grams of many sets of texts at once, exactly.

EAD and distinct-n need two numbers a set and order: how many different n-grams its texts hold (D) and how many in all
(C). The textbook way builds Python tuples and sets. Here a whole corpus is one integer array, sorted once an order:

* an n-gram is the pair (rank of its first n-1 words, last word), so one integer key names it without collisions;
* only an n-gram whose first and last n-1 words both occur elsewhere in the set can occur twice, so all others are
  settled without being sorted again; few are left after n = 2;
* the position is packed into the low bits of the key: a plain sort, which numpy vectorises, then orders both.

The delete-one jackknife of a set statistic needs no recount either: without text i, D falls by the n-grams that only
text i holds, and C by the n-grams of text i.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.metrics.tokenise import tokeniser as tokeniser_called

Ints = NDArray[np.int64]

MAX_N = 5
"""Longest n-gram of the published metrics."""

_END = "gendivendoftext"
_KEY_BITS = 63


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


@dataclass(frozen=True)
class Counts:
    """N-gram counts of sets of texts; column ``n-1`` is about n-grams.

    Parameters
    ----------
    distinct, total
        Different n-grams and all n-grams of every set, int64 [n_sets, N]; ``distinct <= total``.
    own
        Different n-grams that a text holds and no other text of its set does, int64 [n_texts, N].
    of_text
        All n-grams of every text, int64 [n_texts, N].
    sets
        Set of every text, int64 [n_texts].
    """

    distinct: Ints
    total: Ints
    own: Ints
    of_text: Ints
    sets: Ints

    def without_each(self) -> tuple[Ints, Ints]:
        """(distinct, total) of every text's set without that text, each int64 [n_texts, N]."""
        return self.distinct[self.sets] - self.own, self.total[self.sets] - self.of_text


def tokens(texts: Sequence[str], tokeniser: str = "words") -> Tokens:
    """Words of every text as integers.

    Parameters
    ----------
    texts
        Any texts; empty ones have length 0.
    tokeniser
        Name in ``tokenise.TOKENISERS``.

    Returns
    -------
    Tokens
        The corpus. Which integer a word gets is arbitrary.

    Raises
    ------
    UserError
        If no tokeniser has that name.
    """
    split = tokeniser_called(tokeniser)
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    end = index[_END]
    # Tokenisers are local (see tokenise.py): one call for the whole corpus is cheaper than one a text.
    found = split(f" {_END} ".join([*texts, ""]))
    ids = np.fromiter(map(index.__getitem__, found), np.int64, len(found))
    ends = np.flatnonzero(ids == end)
    if len(ends) == len(texts):
        return Tokens(ids[ids != end] - 1, np.diff(ends, prepend=-1) - 1, len(index) - 1)
    each = [split(text) for text in texts]
    ids = np.fromiter(map(index.__getitem__, chain.from_iterable(each)), np.int64)
    return Tokens(ids, np.array([len(found) for found in each], np.int64), len(index))


def count(corpus: Tokens, sets: ArrayLike, n_max: int = MAX_N) -> Counts:
    """N-gram counts of every set of texts, n-grams lying inside one text.

    Parameters
    ----------
    corpus
        The texts, [n_texts].
    sets
        Set of every text, integers [n_texts] from 0; the highest one tells how many sets there are. Sets without a text
        have counts of 0.
    n_max
        Longest n-gram, at least 1.

    Returns
    -------
    Counts
        Counts for n = 1 … ``n_max``.

    Raises
    ------
    ValueError
        If ``sets`` is not one non-negative integer a text, or ``n_max < 1``.
    """
    of_set = np.asarray(sets, np.int64)
    n_texts = len(corpus.lengths)
    if of_set.shape != (n_texts,) or (n_texts and of_set.min() < 0):
        raise ValueError(f"sets must be {n_texts} non-negative integers")
    if n_max < 1:
        raise ValueError("n_max must be at least 1")
    n_sets = int(of_set.max(initial=-1)) + 1
    n_tokens = len(corpus.words)

    of_text = np.maximum(corpus.lengths[:, None] - np.arange(n_max), 0)
    own = np.zeros((n_texts, n_max), np.int64)
    first_seen = np.zeros((n_texts, n_max), np.int64)

    text = np.repeat(np.arange(n_texts), corpus.lengths)
    left = np.repeat(np.cumsum(corpus.lengths), corpus.lengths) - np.arange(n_tokens)
    start = np.arange(n_tokens)
    prefix = of_set[text]
    for n in range(n_max):
        key = prefix * corpus.n_words + corpus.words[start + n]
        start, key = _sorted(start, key)
        new = np.ones(len(key) + 1, bool)
        np.not_equal(key[1:], key[:-1], out=new[1:-1])
        again = ~(new[:-1] & new[1:])
        start, new = start[again], new[:-1][again]
        at = text[start]
        # Starts are ascending within a run of equal n-grams, so its first and last text tell whether there are others.
        first, last = at[new], at[np.roll(new, -1)]

        once = of_text[:, n] - np.bincount(at, minlength=n_texts)
        first_seen[:, n] = once + np.bincount(first, minlength=n_texts)
        own[:, n] = once + np.bincount(first[first == last], minlength=n_texts)

        repeats = np.zeros(n_tokens + 1, bool)
        repeats[start] = True
        grows = (left[start] > n + 1) & repeats[start + 1]
        prefix, start = np.cumsum(new)[grows] - 1, start[grows]

    def per_set(values: Ints) -> Ints:
        sums = np.zeros((n_sets, n_max), np.int64)
        np.add.at(sums, of_set, values)
        return sums

    return Counts(per_set(first_seen), per_set(of_text), own, of_text, of_set)


def count_sets(sets: Sequence[Sequence[str]], tokeniser: str = "words", n_max: int = MAX_N) -> Counts:
    """N-gram counts of sets given as texts; see ``count``. Texts are numbered through, set after set."""
    texts = [text for texts in sets for text in texts]
    counts = count(tokens(texts, tokeniser), np.repeat(np.arange(len(sets)), [len(texts) for texts in sets]), n_max)
    empty = len(sets) - len(counts.distinct)
    if not empty:
        return counts
    pad = ((0, empty), (0, 0))
    return Counts(np.pad(counts.distinct, pad), np.pad(counts.total, pad), counts.own, counts.of_text, counts.sets)


def _sorted(start: Ints, key: Ints) -> tuple[Ints, Ints]:
    """``start`` and ``key`` by ascending key, then start."""
    bits = int(start.max(initial=0)).bit_length()
    if int(key.max(initial=0)).bit_length() + bits <= _KEY_BITS:
        packed = np.sort(key << bits | start)
        return packed & ((1 << bits) - 1), packed >> bits
    order = np.lexsort((start, key))
    return start[order], key[order]
