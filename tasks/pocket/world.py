"""Generator and oracle of the pocket world.

A post names topics only through cue words; its summary names every topic once, briefly, by any of the topic's label
words in any order, so that hundreds of phrasings are equally right. One training post with its reference::

    long time reader here . my bouquet and bride are driving me crazy . i had to sort out the kitchen and the oven .
    anyway i am tired . nobody warned me about the puppy . tl;dr
    thoughts on dog , marriage and food

The roles differ in frame, length and topic combinations:

========  ==============================================================================================
id        forum frame, 2 or 3 topics, triples of topics out of the 60 % that are trained on
ood       news frame, 3 or 4 topics, an untrained triple or 4 topics with at most half of their triples trained
ood_hard  two news posts in a row, 3 or 4 topics in all, "name the first then the second" (never trained)
========  ==============================================================================================

References are right summaries plus noise, so that the win rate against them is not stuck at 0 or 1. Every document
is drawn from a generator of its own, seeded by its role, seed and number: the first n do not change when more are made.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tasks.pocket.words import END_OF_PROMPT, FILLERS, FORUM, IN_ORDER, JOINERS, LEADS, NEWS, NEXT_POST, TOPICS

Role = Literal["id", "ood", "ood_hard"]
Doc = dict[str, Any]

WORLD = "pocket-v1"
TRIPLES = tuple(itertools.combinations(TOPICS, 3))
TRAINED_TRIPLES = frozenset(random.Random(WORLD).sample(TRIPLES, round(0.6 * len(TRIPLES))))
LABELS = {label: topic for topic, (_, labels) in TOPICS.items() for label in labels}
PLAIN_WORDS = frozenset(" ".join(LEADS).split()) | frozenset(JOINERS)


def document(role: Role, number: int, seed: int = 0) -> Doc:
    """Make one document of a role.

    Parameters
    ----------
    role
        ``id``, ``ood`` or ``ood_hard``.
    number
        Number of the document, from 0.
    seed
        Seed of the document set.

    Returns
    -------
    dict
        ``id``, ``prompt`` (ends in ``tl;dr``), ``reference``, ``topics`` (in order of appearance) and ``first``, the
        number of topics in the first of two posts (0 where order does not matter).
    """
    rng = random.Random(f"{WORLD}/{role}/{seed}/{number}")
    topics = _topics(role, rng)
    first = rng.choice((1, 2, len(topics) - 1)) if role == "ood_hard" else 0
    frame = FORUM if role == "id" else NEWS
    if role == "ood_hard":
        posts = [_post(topics[:first], frame, rng), NEXT_POST, _post(topics[first:], frame, rng), IN_ORDER]
    else:
        posts = [_post(topics, frame, rng)]
    return {
        "id": f"{role}-{number:04d}",
        "prompt": " ".join([*posts, END_OF_PROMPT]),
        "reference": _reference(topics, first, rng),
        "topics": topics,
        "first": first,
    }


def fresh_reference(doc: Mapping[str, Any], number: int, seed: int) -> str:
    """Draw another reference for a document: the ceiling that no model is asked to pass."""
    rng = random.Random(f"{WORLD}/fresh/{seed}/{doc['id']}/{number}")
    return _reference(list(doc["topics"]), int(doc["first"]), rng)


def training_pairs(n: int, seed: int) -> Iterator[Doc]:
    """Yield ``n`` training documents: role ``id``, never a prompt that seed 0 evaluates."""
    evaluated = {document("id", number)["prompt"] for number in range(1000)}
    if seed == 0:
        raise ValueError("seed 0 makes the evaluated prompts; train on another")
    candidates = (document("id", number, seed) for number in itertools.count())
    yield from itertools.islice((doc for doc in candidates if doc["prompt"] not in evaluated), n)


def oracle(doc: Mapping[str, Any], text: str) -> float:
    """Score any text as a summary of a document; higher is better, 1 is perfect, and there is no lower bound.

    The F1 of named against true topics, times a factor for order in ``ood_hard``, minus 0.1 for each repeated topic,
    0.05 for each word that is neither label, lead nor joiner, and 0.05 for each word beyond 2·topics + 2.

    Parameters
    ----------
    doc
        The document, as made by `document`.
    text
        Any text; the empty one scores 0.
    """
    words = text.lower().replace(",", " , ").split()
    named = [LABELS[word] for word in words if word in LABELS]
    distinct, topics, first = set(named), list(doc["topics"]), int(doc["first"])
    f1 = 2 * len(distinct & set(topics)) / (len(distinct) + len(topics)) if distinct else 0.0
    if first:
        f1 *= 0.5 + 0.5 * _share_in_order(named, topics[:first], topics[first:])
    strange = sum(word not in LABELS and word not in PLAIN_WORDS for word in words)
    excess = max(0, len(words) - 2 * len(topics) - 2)
    return f1 - 0.1 * (len(named) - len(distinct)) - 0.05 * strange - 0.05 * excess


def dataset(role: Role, prompts: int, **_: Any) -> Any:
    """Make the lm-eval dataset of a role (``custom_dataset`` of the task YAML, which passes its metadata too)."""
    from datasets import Dataset

    return {"test": Dataset.from_list([document(role, number) for number in range(prompts)])}


def _topics(role: Role, rng: random.Random) -> list[str]:
    """Draw the topics of a document, in the order in which they appear."""
    while True:
        topics = rng.sample(list(TOPICS), rng.choice((2, 3) if role == "id" else (3, 4)))
        triples = [triple for triple in TRIPLES if set(triple) <= set(topics)]
        trained = sum(triple in TRAINED_TRIPLES for triple in triples)
        if (trained == len(triples)) if role == "id" else (trained <= (len(triples) // 2)):
            return topics


def _post(topics: list[str], frame: Mapping[str, tuple[str, ...]], rng: random.Random) -> str:
    """Write a post: an opener, a sentence a topic with one cue or two, and noise."""
    sentences = []
    for topic in topics:
        count = rng.choice((1, 2))
        cues = rng.sample(TOPICS[topic][0], count)
        sentences.append(rng.choice(frame["one" if count == 1 else "two"]).format(*cues))
    # Noise goes between the topics but never reorders them: in two posts "first" must stay first.
    for noise in rng.sample(frame["noise"], rng.choice((1, 1, 2))):
        sentences.insert(rng.randrange(len(sentences) + 1), noise)
    return " ".join([rng.choice(frame["openers"]), *sentences])


def _reference(topics: list[str], first: int, rng: random.Random) -> str:
    """Write a right summary and then, often, spoil it a little."""
    named = [*rng.sample(topics[:first], first), *rng.sample(topics[first:], len(topics) - first)]
    if rng.random() < 0.2:
        named.remove(rng.choice(named))
    if rng.random() < 0.2:
        named.insert(rng.randrange(len(named) + 1), rng.choice([topic for topic in TOPICS if topic not in topics]))
    if rng.random() < 0.1:
        named.insert(rng.randrange(len(named) + 1), rng.choice(named))
    labels = [rng.choice(TOPICS[topic][1]) for topic in named]
    text = labels[0] if len(labels) == 1 else f"{' , '.join(labels[:-1])} and {labels[-1]}"
    words = f"{rng.choice(LEADS)} {text}".split()
    if rng.random() < 0.25:
        words.insert(rng.randrange(len(words) + 1), rng.choice(FILLERS))
    return " ".join(words)


def _share_in_order(named: list[str], first: list[str], second: list[str]) -> float:
    """Share of (first-post topic, second-post topic) pairs that are both named, in that order."""
    position = {topic: index for index, topic in reversed(list(enumerate(named)))}
    pairs = list(itertools.product(first, second))
    return sum(a in position and b in position and position[a] < position[b] for a, b in pairs) / len(pairs)
