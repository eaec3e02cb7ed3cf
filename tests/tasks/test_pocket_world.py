"""The pocket world: its words, its roles, its oracle."""

import itertools
from collections import Counter
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pocket import world
from tasks.pocket.words import FILLERS, FORUM, IN_ORDER, JOINERS, LEADS, NEWS, NEXT_POST, TOPICS, vocabulary

ROLES = ("id", "ood", "ood_hard")
numbers = st.integers(0, 10_000)


def frame_words(*frames):
    return {
        word
        for frame in frames
        for sentences in frame.values()
        for sentence in sentences
        for word in sentence.replace("{}", " ").split()
    }


def test_no_word_plays_two_parts():
    cues = [set(cues) for cues, _ in TOPICS.values()]
    labels = [set(labels) for _, labels in TOPICS.values()]
    frame = frame_words(FORUM, NEWS) | set(f"{NEXT_POST} {IN_ORDER}".split())
    plain = set(" ".join(LEADS).split()) | set(JOINERS)
    for a, b in itertools.combinations([*cues, *labels, set(FILLERS), plain], 2):
        assert not a & b
    for part in (*cues, *labels):
        assert not part & frame


def test_most_news_words_are_never_seen_in_training():
    assert len(frame_words(NEWS) - frame_words(FORUM)) >= 20


@pytest.mark.parametrize("role", ROLES)
def test_a_document_is_a_function_of_role_seed_and_number(role):
    assert [world.document(role, n) for n in (3, 7)] == [world.document(role, n) for n in (3, 7)]
    assert world.document(role, 3) != world.document(role, 4)
    assert world.document(role, 3, seed=1) != world.document(role, 3, seed=2)


@given(numbers, st.sampled_from(ROLES))
def test_every_word_is_in_the_vocabulary(number, role):
    doc = world.document(role, number)
    assert set(f"{doc['prompt']} {doc['reference']}".split()) <= set(vocabulary())


@given(numbers)
def test_id_uses_trained_triples_alone(number):
    topics = world.document("id", number)["topics"]
    assert 2 <= len(topics) <= 3
    for triple in world.TRIPLES:
        if set(triple) <= set(topics):
            assert triple in world.TRAINED_TRIPLES


@given(numbers, st.sampled_from(("ood", "ood_hard")))
def test_ood_uses_at_most_half_trained_triples(number, role):
    topics = world.document(role, number)["topics"]
    triples = [triple for triple in world.TRIPLES if set(triple) <= set(topics)]
    assert 3 <= len(topics) <= 4
    assert sum(triple in world.TRAINED_TRIPLES for triple in triples) <= len(triples) / 2


@given(numbers, st.sampled_from(ROLES))
def test_a_prompt_holds_cues_of_its_topics_alone_and_no_label(number, role):
    doc = world.document(role, number)
    said = set(doc["prompt"].split())
    cued = {topic for topic, (cues, _) in TOPICS.items() if said & set(cues)}
    assert cued == set(doc["topics"])
    assert not said & set(world.LABELS)


@given(numbers)
def test_two_posts_name_their_topics_in_order(number):
    doc = world.document("ood_hard", number)
    first, second = doc["prompt"].split(NEXT_POST)
    for topic in doc["topics"][: doc["first"]]:
        assert set(first.split()) & set(TOPICS[topic][0])
    for topic in doc["topics"][doc["first"] :]:
        assert set(second.split()) & set(TOPICS[topic][0])


def test_training_prompts_are_none_of_the_evaluated_ones():
    evaluated = {world.document(role, number)["prompt"] for role in ROLES for number in range(150)}
    assert not evaluated & {doc["prompt"] for doc in world.training_pairs(2000, seed=1)}
    with pytest.raises(ValueError, match="seed 0"):
        next(world.training_pairs(1, seed=0))


TWO = {"topics": ["pet", "car"], "first": 0}
ORDERED = {"topics": ["pet", "car", "music"], "first": 1}


@pytest.mark.parametrize(
    ("doc", "text", "score"),
    [
        (TWO, "thoughts on dog and car", 1.0),
        (TWO, "vehicle and animal", 1.0),
        (TWO, "dog , car", 1.0),
        (TWO, "dog", 2 / 3),
        (TWO, "dog and music", 0.5),
        (TWO, "dog , car and music", 0.8),
        (TWO, "dog , pet and car", 0.9),
        (TWO, "honestly dog and car", 0.95),
        (TWO, "question about dog and car and and", 0.95),  # seven words, six are free
        (TWO, "", 0.0),
        (TWO, "leash", -0.05),  # a cue word names nothing
        (ORDERED, "dog , car and band", 1.0),
        (ORDERED, "car , band and dog", 0.5),
        (ORDERED, "car , dog and band", 0.75),
        (ORDERED, "dog and car", 0.8 * 0.75),  # the unnamed pair is not in order
    ],
)
def test_the_oracle_scores_by_hand(doc, text, score):
    assert world.oracle(doc, text) == pytest.approx(score, abs=1e-12)


@given(numbers, st.sampled_from(ROLES), st.text(max_size=80))
def test_the_oracle_takes_any_text_and_1_is_the_most(number, role, text):
    assert world.oracle(world.document(role, number), text) <= 1.0


@given(numbers, st.sampled_from(ROLES), st.randoms())
def test_every_right_phrasing_is_perfect(number, role, rng):
    doc = world.document(role, number)
    first, second = doc["topics"][: doc["first"]], doc["topics"][doc["first"] :]
    rng.shuffle(first)
    rng.shuffle(second)
    labels = [rng.choice(TOPICS[topic][1]) for topic in [*first, *second]]
    text = f"{rng.choice(LEADS)} {' , '.join(labels[:-1])} and {labels[-1]}"
    assert world.oracle(doc, text) == 1.0


@pytest.mark.parametrize("role", ROLES)
def test_references_vary_in_quality_so_that_fresh_ones_win_about_half(role):
    docs = [world.document(role, number) for number in range(150)]
    wins = []
    for doc in docs:
        target = world.oracle(doc, doc["reference"])
        scores = [world.oracle(doc, world.fresh_reference(doc, number, seed=0)) for number in range(8)]
        wins.append(mean((score > target) + 0.5 * (score == target) for score in scores))
    assert 0.4 < mean(wins) < 0.6
    perfect = mean(world.oracle(doc, doc["reference"]) == 1.0 for doc in docs)
    assert 0.3 < perfect < 0.6


def test_fresh_references_differ_by_number_and_seed():
    doc = world.document("ood", 0)
    fresh = Counter(world.fresh_reference(doc, number, seed) for number in range(20) for seed in range(2))
    assert len(fresh) > 20
    assert world.fresh_reference(doc, 3, 1) == world.fresh_reference(doc, 3, 1)
