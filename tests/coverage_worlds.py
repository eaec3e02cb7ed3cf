"""Populations to simulate coverage in: preferences, texts, embeddings and trained seeds.

Texts come as integers (`Tokens`), many sets at once, so that the metrics see what a tokeniser would give them. Prompts
are drawn independently of each other; the outputs of one prompt share its topics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.ngrams import Tokens

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

POPULATION = 20_000
"""Prompts of a finite population, drawn from with replacement."""
TOPICS, WORDS, PHRASES, PHRASE = 30, 8_000, 4_000, 4
PER_TOPIC = 60
"""Words, and phrases, that a topic prefers."""
COMMON, OF_TOPIC = 0.5, 0.25
"""Shares of words of the common vocabulary, and of the topic's; the rest are phrases, half of them the topic's."""
WIDTH = 48


def graded(rate: float, rng: np.random.Generator) -> Floats:
    """Preferences as a log-prob judge gives them: piled up near 0 and 1, few between."""
    return rng.beta(0.5 * rate, 0.5 * (1.0 - rate), POPULATION)


def ternary(lost: float, drawn: float) -> Floats:
    """Loss, draw or win, in these shares of the population."""
    return np.repeat([0.0, 0.5, 1.0], np.rint(POPULATION * np.array([lost, drawn, 1.0 - lost - drawn])).astype(int))


def binary(rate: float) -> Floats:
    """Win or loss."""
    return ternary(1.0 - rate, 0.0)


def hardness_pairs(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Preferences of two models whose prompts are hard for both alike."""
    hardness = rng.normal(size=POPULATION)
    first, second = (expit(hardness + shift + rng.normal(0.0, 0.7, POPULATION)) for shift in (0.0, 0.3))
    return first, second


def sweep(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Preference and diversity at four temperatures, [prompts, 4] each, both moved by the prompt's hardness."""
    hardness = rng.normal(size=(POPULATION, 1))
    x = expit(-hardness - np.array([0.2, 0.4, 0.8, 1.6]) + rng.normal(0.0, 0.5, (POPULATION, 4)))
    y = np.array([0.1, 0.25, 0.4, 0.55]) + 0.05 * hardness + rng.normal(0.0, 0.05, (POPULATION, 4))
    return x, np.clip(y, 0.0, 1.0)


def seeds_by_prompts(rng: np.random.Generator, seeds: int, prompts: int, of_seed: float, of_prompt: float) -> Floats:
    """Values [seeds, prompts] of mean 0: an effect of the seed, one of the prompt, and unit noise in every cell."""
    effects = of_seed * rng.normal(size=(seeds, 1)) + of_prompt * rng.normal(size=(1, prompts))
    return np.asarray(effects + rng.normal(size=(seeds, prompts)))


def shares(rng: np.random.Generator, mean: float, k: int, spread: float) -> Floats:
    """Share of k outputs that pass, one a prompt: the chance varies with the prompt.

    ``spread`` in (0, 1) is the correlation of two outputs of one prompt; 1 = all k pass or none.
    """
    if spread == 1.0:
        return binary(mean)
    size = 1.0 / spread - 1.0
    return rng.binomial(k, rng.beta(mean * size, (1.0 - mean) * size, POPULATION)) / k


class TextWorld:
    """Texts of Zipf words and phrases, some of them the prompt's topic's own.

    Parameters
    ----------
    shortest, longest
        Words of a text, all lengths alike.
    same
        Share of the prompts that have one fixed answer, which is also the same for all of them.
    """

    def __init__(self, shortest: int = 20, longest: int = 40, same: float = 0.0) -> None:
        rng = np.random.default_rng(20)
        self.lengths, self.same = (shortest, longest), same
        self.phrases = _zipf(rng, WORDS, (PHRASES, PHRASE))
        self.words_of = rng.integers(0, WORDS, (TOPICS, PER_TOPIC))
        self.phrases_of = rng.integers(0, PHRASES, (TOPICS, PER_TOPIC))
        self.fixed = _zipf(rng, WORDS, (longest,))

    def draw(self, rng: np.random.Generator, prompts: int, k: int, topic: Ints | None = None) -> tuple[Tokens, Ints]:
        """Texts of prompts, k each, prompt by prompt; and the topic of every prompt, drawn unless it is given."""
        if topic is None:
            topic = _zipf(rng, TOPICS, (prompts,))
        of_text = np.repeat(topic, k)
        n, longest = prompts * k, self.lengths[1]
        segments = (n, longest)
        kind, rank = rng.random(segments), _zipf(rng, PER_TOPIC, segments)
        row = np.broadcast_to(of_text[:, None], segments)
        own = rng.random(segments) < 0.5
        word = np.where(kind < COMMON, _zipf(rng, WORDS, segments), self.words_of[row, rank])
        phrase = np.where(own, self.phrases_of[row, rank], _zipf(rng, PHRASES, segments))
        is_word = kind < COMMON + OF_TOPIC
        spelled = np.where(is_word[..., None], word[..., None], self.phrases[phrase])
        there = ~is_word[..., None] | (np.arange(PHRASE) == 0)
        lengths = rng.integers(self.lengths[0], longest + 1, n)
        lengths[np.repeat(rng.random(prompts) < self.same, k)] = 0
        place = np.cumsum(there.reshape(n, -1), axis=1)
        kept = there.reshape(n, -1) & (place <= lengths[:, None])
        words = spelled.reshape(n, -1)
        if self.same:
            fixed = lengths == 0
            kept[fixed, :longest] = True
            words[fixed, :longest] = self.fixed
            lengths[fixed] = longest
        return Tokens(words[kept], lengths, WORDS), topic


def resampled(corpus: Tokens, texts: Ints) -> Tokens:
    """The texts of these numbers, in this order."""
    ends = np.cumsum(corpus.lengths)
    lengths = corpus.lengths[texts]
    starts = np.repeat(ends[texts] - lengths, lengths)
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Tokens(corpus.words[starts + inside], lengths, corpus.n_words)


def strings(corpus: Tokens) -> list[str]:
    """The texts, spelled in letters."""
    names = np.array([_spelled(word) for word in range(corpus.n_words)])
    ends = np.cumsum(corpus.lengths)
    return [" ".join(part) for part in np.split(names[corpus.words], ends[:-1])]


class EmbeddingWorld:
    """Unit vectors as an encoder gives them: a common direction, the prompt's topic, the prompt, and the output.

    Parameters
    ----------
    noise
        Size of an output's own part beside its prompt's.
    same
        Share of the prompts whose outputs are all one vector.
    """

    def __init__(self, noise: float = 0.7, same: float = 0.0) -> None:
        self.centres = np.random.default_rng(21).normal(size=(TOPICS, WIDTH))
        self.noise, self.same = noise, same

    def draw(self, rng: np.random.Generator, prompts: int, k: int) -> Floats:
        """Unit rows [prompts, k, d]."""
        base = 0.5 + self.centres[_zipf(rng, TOPICS, (prompts,))] + rng.normal(0.0, 0.7, (prompts, WIDTH))
        own = rng.normal(0.0, self.noise, (prompts, k, WIDTH))
        own[rng.random(prompts) < self.same] = 0.0
        rows = base[:, None] + own
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def valid(rng: np.random.Generator, prompts: int, k: int, share: float, size: float = 1.0) -> Mask:
    """Which outputs pass a gate, [prompts, k]; the chance varies with the prompt."""
    chance = rng.beta(share * size, (1.0 - share) * size, (prompts, 1))
    return np.asarray(rng.random((prompts, k)) < chance)


def batches(repetitions: int, size: int) -> Iterator[int]:
    """Split repetitions into parts of at most that size."""
    for start in range(0, repetitions, size):
        yield min(size, repetitions - start)


def error(coverage: float, repetitions: int) -> float:
    """Monte-Carlo standard error of a coverage."""
    return math.sqrt(coverage * (1.0 - coverage) / repetitions)


def expit(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _zipf(rng: np.random.Generator, size: int, shape: tuple[int, ...]) -> Ints:
    """Ranks from 0 with chances of about 1/(rank + 2.7)."""
    low, high = math.log(2.7), math.log(size + 2.7)
    return np.minimum(np.exp(rng.uniform(low, high, shape)) - 2.7, size - 1).astype(np.int64)


def _spelled(number: int) -> str:
    letters = ""
    while number or not letters:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
    return letters
