"""Self-BLEU: how well each text of a set is matched by all the others (Zhu et al. 2018, arXiv 1802.01886).

Which BLEU: sentence BLEU-4 of every text against the set's other texts as references, averaged over texts. Precisions
of n = 1 … 4, clipped by the highest count of any one reference, weighted alike; an order without a match counts 0.1
matches (method 1 of Chen and Cherry 2014, epsilon 0.1), a text without any matching word scores 0; the brevity penalty
takes the reference of the closest length, the shorter one of two as close. It equals nltk's ``sentence_bleu`` with
``method1`` and sacrebleu's ``floor`` smoothing by 0.1 on the same words. The words are those of the tokeniser that
``repeats`` was made with (``words`` for new scores), and its name belongs with every value.

Range [0, 1]; **higher is less diverse**. Floor, for identical texts: 1. Ceiling, no two texts share a word: 0. Texts
without a word are no members, and sets of fewer than two are missing (NaN); under ``short="zero"``, nltk's rule, texts
without a word score 0 and very short ones less than 1 even if they are identical.

Clipping needs no look at every pair of texts. With c1 ≥ c2 ≥ c3 the highest counts of an n-gram in a set, every text
matches all its own occurrences but the first, which matches c2; and leaving a text out matters only between the first
and the second, who then match c3. So the delete-one jackknife costs little more than the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.distinct_n import Short
from benchmark.metrics.ngrams import Ints
from benchmark.metrics.repeats import Order, Repeats, by_key

Floats = NDArray[np.float64]

N = 4
"""Longest n-gram."""

EPSILON = 0.1
"""Matches of an order without any."""


def per_input(repeats: Repeats, *, short: Short = "skip") -> Floats:
    """Self-BLEU of every set (one a prompt).

    Parameters
    ----------
    repeats
        Of sets of texts, with n up to 4 at least.
    short
        What texts that are too short do: under ``"skip"`` a text's mean is over the orders that it has n-grams of, and
        one without words is no member of the set; ``"zero"`` counts an order without n-grams as one without a match,
        0.1 of 1, and a text without words as BLEU 0, as nltk does (which puts two identical words at 0.178).

    Returns
    -------
    float64 [n_sets]
        In [0, 1]; **higher is less diverse**. The ceiling 1 means that every text is made of n-grams of the others,
        as in a set of identical texts; the floor 0 that no two texts share a word. Missing (NaN) for sets of fewer than
        two texts, under ``"skip"`` two texts with words.

    Raises
    ------
    ValueError
        If ``repeats`` lacks an order, or ``short`` is neither ``"skip"`` nor ``"zero"``.

    Notes
    -----
    Rises with the number of texts, since each adds references: compare equal k only. Not comparable with self-BLEU of
    other smoothings, tokenisers or scales (sacrebleu prints 0 … 100).
    """
    return _Set(repeats, short).value


def across_input(repeats: Repeats, *, short: Short = "skip") -> tuple[Floats, Floats]:
    """Self-BLEU of every set, and of every set without each of its texts, for the jackknife.

    Parameters
    ----------
    repeats
        Of sets with one text a prompt, with n up to 4 at least.
    short
        See ``per_input``.

    Returns
    -------
    value : float64 [n_sets]
        The statistic of each set; NaN = missing.
    without : float64 [n_texts]
        The statistic of each text's set without that text, neither as a candidate nor as a reference; NaN where fewer
        than two would be left.

    Raises
    ------
    ValueError
        As ``per_input``.
    """
    found = _Set(repeats, short)
    return found.value, found.without_each()


@dataclass(frozen=True)
class _Nearest:
    """The text of the closest length to every text, and what leaving it out changes; all [n_texts]."""

    text: Ints
    length: Ints
    next_length: Ints


@dataclass(frozen=True)
class _Pairs:
    """Texts that lose matches without each other, [m]."""

    one: Ints
    other: Ints
    lost: Ints


class _Set:
    """BLEU of every text, and the sums of its set."""

    def __init__(self, repeats: Repeats, short: Short) -> None:
        if short not in ("skip", "zero"):
            raise ValueError(f'short must be "skip" or "zero", not {short!r}')
        if len(repeats.orders) < N:
            raise ValueError(f"self-BLEU needs n-grams up to n = {N}, not {len(repeats.orders)}")
        self.sets, self.n_sets, self.short = repeats.sets, repeats.n_sets, short
        self.total = repeats.of_text[:, :N]
        self.lengths = self.total[:, 0]
        self.member = self.lengths > 0 if short == "skip" else np.ones(len(self.lengths), bool)
        found = [_matches(order, len(self.lengths)) for order in repeats.orders[:N]]
        self.matches = np.stack([matches for matches, _ in found], axis=1)
        self.pairs = [pairs for _, pairs in found]
        self.nearest = _nearest(self.lengths, self.sets, self.member)
        self.bleu = self._bleu(np.arange(len(self.lengths)), self.matches, self.nearest.length)
        self.sum = np.bincount(self.sets, self.bleu, self.n_sets).astype(np.float64)
        self.members = np.bincount(self.sets[self.member], minlength=self.n_sets)

    @property
    def value(self) -> Floats:
        return _mean(self.sum, self.members)

    def without_each(self) -> Floats:
        n_texts = len(self.lengths)
        texts = np.flatnonzero(self.member)
        candidate = [np.concatenate([pairs.one, pairs.other]) for pairs in self.pairs]
        left_out = [np.concatenate([pairs.other, pairs.one]) for pairs in self.pairs]
        key = np.concatenate([*candidate, texts]) * n_texts + np.concatenate([*left_out, self.nearest.text[texts]])
        changed, place = np.unique(key, return_inverse=True)
        row, out = np.divmod(changed, max(n_texts, 1))
        matches = self.matches[row]
        end = 0
        for n, pairs in enumerate(self.pairs):
            begin, end = end, end + 2 * len(pairs.lost)
            np.subtract.at(matches[:, n], place[begin:end], np.tile(pairs.lost, 2))
        nearest = self.nearest
        length = np.where(nearest.text[row] == out, nearest.next_length[row], nearest.length[row])
        change = np.bincount(out, self._bleu(row, matches, length) - self.bleu[row], n_texts)
        return _mean(self.sum[self.sets] - self.bleu + change, self.members[self.sets] - self.member)

    def _bleu(self, text: Ints, matches: Ints, reference: Ints) -> Floats:
        """BLEU of texts [m] with these matches [m, N] and reference lengths [m]."""
        total, length = self.total[text], self.lengths[text]
        precision = np.where(matches > 0, matches, EPSILON) / np.maximum(total, 1)
        counted = total > 0 if self.short == "skip" else np.ones(total.shape, bool)
        logs = np.where(counted, np.log(precision), 0.0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
        brevity = np.minimum(0.0, 1.0 - reference / np.maximum(length, 1))
        return np.where(matches[:, 0] > 0, np.exp(logs + brevity), 0.0)


def _matches(order: Order, n_texts: int) -> tuple[Ints, _Pairs]:
    """Clipped matches of every text with the others of its set, and what pairs owe each other alone."""
    most = int(order.times.max(initial=0))
    by_count, key = by_key(np.arange(len(order.times)), order.ngram * (most + 1) + most - order.times)
    text, times, ngram = order.text[by_count], order.times[by_count], key // (most + 1)
    first = np.flatnonzero(np.diff(ngram, prepend=-1))
    holders = np.diff(first, append=len(ngram))

    def count(rank: int) -> Ints:
        """Count of the text in that place, 0 where fewer hold the n-gram."""
        there = holders > rank
        found = np.zeros(len(first), np.int64)
        found[there] = times[first[there] + rank]
        return found

    second, third = count(1), count(2)
    matches = np.bincount(text, times, n_texts) - np.bincount(text[first], times[first] - second, n_texts)
    owed = second > third
    at = first[owed]
    return matches.astype(np.int64), _Pairs(text[at], text[at + 1], (second - third)[owed])


def _nearest(lengths: Ints, sets: Ints, member: NDArray[np.bool_]) -> _Nearest:
    """Closest and second closest length among the other members of every member's set.

    Texts of one set stand together by length, so the two are among two neighbours on either side. Of equally close ones
    the shorter is first. Where there is none, the text is any and the length 0.
    """
    n_texts = len(lengths)
    found = _Nearest(*(np.zeros(n_texts, np.int64) for _ in range(3)))
    texts = np.flatnonzero(member)
    texts = texts[np.lexsort((lengths[texts], sets[texts]))]
    longest = int(lengths.max(initial=0)) + 1
    neighbours = np.arange(len(texts))[:, None] + np.array([-2, -1, 1, 2])
    inside = (neighbours >= 0) & (neighbours < len(texts))
    other = texts[np.where(inside, neighbours, 0)] if len(texts) else np.zeros((0, 4), np.int64)
    inside &= sets[other] == sets[texts][:, None]
    cost = np.abs(lengths[other] - lengths[texts][:, None]) * longest + lengths[other]
    rank = np.argsort(np.where(inside, cost, np.iinfo(np.int64).max), axis=1, kind="stable")[:, :2]
    other = np.take_along_axis(other, rank, axis=1)
    length = np.where(np.take_along_axis(inside, rank, axis=1), lengths[other], 0)
    found.text[texts] = other[:, 0]
    found.length[texts], found.next_length[texts] = length[:, 0], length[:, 1]
    return found


def _mean(total: Floats, members: Ints) -> Floats:
    """``total / members``; NaN below two. Sums of differences may miss the bounds by rounding."""
    mean = np.full(len(total), np.nan)
    np.divide(total, members, out=mean, where=members > 1)
    return np.clip(mean, 0.0, 1.0, out=mean)
