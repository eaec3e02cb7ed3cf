"""Three ways to cut TL;DR in two: subreddit, length and sentiment. Each ``_ood`` is the complement of its ``_id``.

A filter is a pure function of one document, applied to the train, validation and test splits and to the preference data
alike. Subreddits and the length are those of Kirk et al. **The sentiment split is not**: they publish lists of numbers,
and neither the classifier that made them nor which half is in distribution. Ours is the word list below, written for
this project: a post is in distribution where it has at least as many positive words as negative ones (words of the
title and the post, each occurrence counted; no negation, no weights). It is crude, and the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SUBREDDITS = frozenset({"relationship_advice", "AskReddit", "relationships", "tifu", "dating_advice"})
"""In distribution; compared exactly, as the data spells them."""
MOST_WORDS = 245
"""Most words (between white space) of a post in distribution."""

_POSITIVE = """
    accept accepted accepting admire adorable adore affection affectionate agree agreed amazing amused amusing
    appreciate appreciated awesome beautiful best better blessed brave bright brilliant calm care cared caring
    celebrate celebrated charming cheerful clever comfort comfortable comforting compliment confident congratulations
    considerate cozy cute dear delicious delight delighted desire dream eager ease easy encourage encouraged
    encouraging enjoy enjoyable enjoyed enjoying excellent excited exciting fabulous faithful fantastic favorite
    flattered fond forgive forgiven free fresh friend friendly friends fun funny generous gentle gift glad good
    gorgeous grateful great grin happier happiest happily happiness happy healthy heart helpful helped honest honesty
    hope hopeful hug hugged humor impressed improve improved improving incredible inspired interesting joke joy joyful
    kindness kiss kissed laugh laughed laughing laughter liked likes love loved lovely loves loving loyal luckily lucky
    marvelous merry nice nicely optimistic passion passionate peace peaceful perfect perfectly pleasant please pleased
    pleasure polite popular positive praise pride promising proud recovered relaxed relaxing relief relieved respect
    respected rewarding romantic safe satisfied secure smart smile smiled smiles smiling strong success successful
    support supported supportive supporting surprise sweet sweetest talented tender thank thankful thankfully thanks
    thrilled treasure trust trusted understanding united warm warmth welcome welcomed win winning wise won wonderful
    worth worthy wow
"""
_NEGATIVE = """
    abandoned abuse abused abusive accident accused ache afraid aggressive alone angry anger annoyed annoying anxiety
    anxious argue argued argument arguments arrested ashamed awful awkward bad badly betrayed bitter blame blamed
    bleeding blood bored boring bother bothered breakup broke broken bullied burden burned burnt cheat cheated cheating
    complain complained confused crash crashed crazy creepy cried cruel cry crying damage damaged danger dangerous dead
    death debt defensive denied depressed depressing depression desperate destroyed devastated die died disappointed
    disappointing disaster disgusted disgusting dishonest dislike distant distress divorce divorced doubt drama drunk
    dumb dumped embarrassed embarrassing emergency empty enemy enraged evil exhausted exploded fail failed failing
    failure fear fight fighting fights fired fool foolish forced fought freaked frustrated frustrating frustration
    furious gross grief guilt guilty hate hated hates hating heartbroken helpless horrible horrified horror hostile
    humiliated hurt hurting hurts ignored infected injured injury insane insecure insult insulted jealous jealousy jerk
    kicked kill killed lazy liar lie lied lies lonely lose losing loss lost lying mad manipulative mean mess messed
    miserable misery mistake mistakes mistreated nasty negative neglected nervous nightmare obsessed offended pain
    painful panic panicked paranoid pathetic pissed poison poor problem problems puke punched punished rage reject
    rejected rejection regret regretted resent resentment rude ruined sad sadly sadness scared scary scream screamed
    screaming screwed selfish shame shit shitty shock shocked sick sickness slapped smelly sorry stab stole stolen
    stress stressed stressful stuck stupid suffer suffered suffering suicidal suicide suspicious terrible terribly
    terrified threat threatened threatening tired toxic tragic trapped trouble troubled ugly unbearable uncomfortable
    unfair unfaithful unfortunately unhappy unstable upset upsetting useless violence violent vomit vomited weak weird
    worried worry worse worst worthless wound wrecked wrong yell yelled yelling
"""
POSITIVE, NEGATIVE = frozenset(_POSITIVE.split()), frozenset(_NEGATIVE.split())

_WORD = re.compile(r"[a-z]+")


def sentiment(text: str) -> int:
    """Count the positive words of a text less the negative ones; above 0 is positive."""
    words = _WORD.findall(text.lower())
    return sum(word in POSITIVE for word in words) - sum(word in NEGATIVE for word in words)


def subreddit_id(document: Mapping[str, Any]) -> bool:
    """Whether a post is from one of the five subreddits."""
    return document["subreddit"] in SUBREDDITS


def subreddit_ood(document: Mapping[str, Any]) -> bool:
    """Whether a post is from any other subreddit."""
    return not subreddit_id(document)


def length_id(document: Mapping[str, Any]) -> bool:
    """Whether a post has at most 245 words."""
    return len(document["post"].split()) <= MOST_WORDS


def length_ood(document: Mapping[str, Any]) -> bool:
    """Whether a post has more."""
    return not length_id(document)


def sentiment_id(document: Mapping[str, Any]) -> bool:
    """Whether title and post have at least as many positive words as negative ones."""
    return sentiment(f"{document['title']} {document['post']}") >= 0


def sentiment_ood(document: Mapping[str, Any]) -> bool:
    """Whether they have more negative ones."""
    return not sentiment_id(document)
