"""N-grams that occur more than once in a set of texts, and how often each text holds them, exactly.

What texts share is all that the n-gram metrics need beyond lengths, and it is little: most n-grams of running text
occur once. The textbook way builds Python tuples and sets. Here a whole corpus is one integer array, sorted once an
order:

* an n-gram is the pair (rank of its first n-1 words, last word), so one integer key names it without collisions;
* only an n-gram whose first and last n-1 words both occur elsewhere in the set can occur twice, so all others are
  settled without being sorted again; few are left after n = 2;
* the position is packed into the low bits of the key: a plain sort, which numpy vectorises, then orders both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmark.metrics.tokenise import Ints, Tokens, tokens

MAX_N = 5
"""Longest n-gram of the published metrics."""

_KEY_BITS = 63


@dataclass(frozen=True)
class Order:
    """Repeated n-grams of one length: an entry for each text that holds one, by n-gram, then text.

    Parameters
    ----------
    ngram
        N-gram of every entry, int64 [m], ascending from 0 without gaps. Equal n-grams of two sets are two n-grams.
    text
        Text of every entry, int64 [m].
    times
        How often that text holds that n-gram, int64 [m], at least 1; at least 2 where no other text of the set does.
    """

    ngram: Ints
    text: Ints
    times: Ints


@dataclass(frozen=True)
class Repeats:
    """Repeated n-grams of sets of texts.

    Parameters
    ----------
    orders
        Those of n = 1 … N; entry ``n-1`` is about n-grams.
    of_text
        All n-grams of every text, int64 [n_texts, N].
    sets
        Set of every text, int64 [n_texts].
    n_sets
        Sets, those without a text included.
    """

    orders: tuple[Order, ...]
    of_text: Ints
    sets: Ints
    n_sets: int


def repeats(corpus: Tokens, sets: ArrayLike, n_max: int = MAX_N, *, n_sets: int | None = None) -> Repeats:
    """Repeated n-grams of every set of texts, n-grams lying inside one text.

    Parameters
    ----------
    corpus
        The texts, [n_texts].
    sets
        Set of every text, integers [n_texts] from 0.
    n_max
        Longest n-gram, at least 1.
    n_sets
        How many sets there are; None = up to the highest one in ``sets``.

    Returns
    -------
    Repeats
        Those of n = 1 … ``n_max``.

    Raises
    ------
    ValueError
        If ``sets`` is not one integer in 0 … ``n_sets - 1`` a text, or ``n_max < 1``.
    """
    of_set = np.asarray(sets, np.int64)
    n_texts = len(corpus.lengths)
    if of_set.shape != (n_texts,) or (n_texts and of_set.min() < 0):
        raise ValueError(f"sets must be {n_texts} non-negative integers")
    used = int(of_set.max(initial=-1)) + 1
    if n_sets is not None and n_sets < used:
        raise ValueError(f"set {used - 1} is none of the {n_sets} sets")
    if n_max < 1:
        raise ValueError("n_max must be at least 1")
    n_tokens = len(corpus.words)
    ends = np.cumsum(corpus.lengths)
    text = np.repeat(np.arange(n_texts, dtype=np.int32), corpus.lengths)
    start, key = np.arange(n_tokens), of_set[text]
    key *= corpus.n_words
    key += corpus.words
    orders = []
    for n in range(n_max):
        start, key = by_key(start, key)
        new = np.ones(len(key) + 1, bool)
        np.not_equal(key[1:], key[:-1], out=new[1:-1])
        again = ~(new[:-1] & new[1:])
        start, new = start[again], new[:-1][again]
        ngram, at = np.cumsum(new) - 1, text[start]
        # Starts are ascending within a run of equal n-grams, so those of one text are neighbours.
        entry = new.copy()
        entry[1:] |= at[1:] != at[:-1]
        where = np.flatnonzero(entry)
        orders.append(Order(ngram[where], at[where].astype(np.int64), np.diff(where, append=len(start))))

        repeated = np.zeros(n_tokens + 1, bool)
        repeated[start] = True
        grows = (ends[at] - start > n + 1) & repeated[start + 1]
        start = start[grows]
        key = ngram[grows] * corpus.n_words + corpus.words[start + n + 1]
    of_text = np.maximum(corpus.lengths[:, None] - np.arange(n_max), 0)
    return Repeats(tuple(orders), of_text, of_set, used if n_sets is None else n_sets)


def repeats_of(sets: Sequence[Sequence[str]], tokeniser: str = "words", n_max: int = MAX_N) -> Repeats:
    """Repeated n-grams of sets given as texts; see ``repeats``. Texts are numbered through, set after set."""
    corpus = tokens([text for texts in sets for text in texts], tokeniser)
    return repeats(corpus, np.repeat(np.arange(len(sets)), [len(texts) for texts in sets]), n_max, n_sets=len(sets))


def by_key(start: Ints, key: Ints) -> tuple[Ints, Ints]:
    """``start`` and ``key`` by ascending key, then start; neither is negative."""
    bits = int(start.max(initial=0)).bit_length()
    if int(key.max(initial=0)).bit_length() + bits <= _KEY_BITS:
        packed = key << bits
        packed |= start
        packed.sort()
        start = packed & ((1 << bits) - 1)
        packed >>= bits
        return start, packed
    order = np.lexsort((start, key))
    return start[order], key[order]
