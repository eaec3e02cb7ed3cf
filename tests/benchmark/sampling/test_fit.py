"""Prompts are shortened to their budget word by word, and only where the task allows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling.fit import LOOK_AHEAD, fit

WORDS = st.lists(st.text("ab .,é", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=40)
SPACE = st.sampled_from([" ", "\n", "  ", "\n\n"])
BEFORE, AFTER = "TITLE: a b\nPOST: ", "\nTL;DR:"


def pieces(text):
    """Tokens as a crude byte-pair encoder counts them: whole short words, long ones in parts, line ends apart."""
    return sum(1 + len(word) // 4 for word in text.split()) + text.count("\n")


def bumpy(text):
    """A count that is not monotone in words: every third word is free, and makes the one before it free as well."""
    n = len(text.split())
    return n - 2 * (n % 3 == 0)


def make(document, **fields):
    return Prompt(
        task="t", doc_id="7", text=BEFORE + document + AFTER, references=(), doc={}, **({"shortens": document} | fields)
    )


def ask(prompt, limit, count=pieces, *, chat=False, truncation="keep_start"):
    return fit(prompt, limit, count, chat=chat, truncation=truncation, model_id="org/model")


@st.composite
def documents(draw):
    return draw(SPACE).join(draw(WORDS)).strip()


@given(documents(), st.integers(0, 80))
def test_the_longest_prefix_of_whole_words_that_fits_is_kept_and_what_is_around_it_stays(document, limit):
    prompt, words = make(document), document.split()
    sizes = [pieces(BEFORE + document[:end] + AFTER) for end in ends(document)]
    if pieces(BEFORE + document[:1] + AFTER) > limit:
        with pytest.raises(UserError):
            ask(prompt, limit)
        return
    found = ask(prompt, limit)
    if sizes[0] > limit:
        letters = [BEFORE + document[:end] + AFTER for end in range(1, len(words[0]))]
        assert found == (prompt.model_copy(update={"text": longest(letters, limit), "shortens": None}), True)
        return
    assert pieces(found.prompt.text) <= limit
    kept = found.prompt.text.removeprefix(BEFORE).removesuffix(AFTER)
    assert found.prompt.text == BEFORE + kept + AFTER
    assert document.startswith(kept)
    if found.shortened:
        assert kept.split() == words[: len(kept.split())]
        assert len(kept.split()) == max(n for n, size in enumerate(sizes, 1) if size <= limit)
    else:
        assert found.prompt.text == prompt.text


def longest(texts, limit):
    return max((text for text in texts if pieces(text) <= limit), key=len)


def ends(document):
    """Where each word of a document ends."""
    places, at = [], 0
    for word in document.split():
        at = document.index(word, at) + len(word)
        places.append(at)
    return places


@given(documents(), st.integers(1, 80))
def test_what_fits_is_unchanged(document, more):
    prompt = make(document)
    for limit in (None, pieces(prompt.text), pieces(prompt.text) + more):
        for truncation in ("keep_start", "keep_end"):
            found = ask(prompt, limit, truncation=truncation)
            assert found == (prompt.model_copy(update={"shortens": None}), False)


@given(st.integers(1, 60), st.integers(5, 60))
def test_where_counts_are_not_monotone_the_result_still_fits_and_no_near_longer_one_does(n_words, limit):
    document = " ".join("w" * n_words)
    prompt = make(document)
    if bumpy(prompt.text) <= limit:
        return
    found = ask(prompt, limit, bumpy).prompt.text
    assert bumpy(found) <= limit
    kept = len(found.split()) - 5  # the words around the document
    longer = (f"{BEFORE}{' '.join('w' * n)}{AFTER}" for n in range(kept + 1, min(kept + LOOK_AHEAD, n_words) + 1))
    assert all(bumpy(text) > limit for text in longer)


@given(documents(), st.integers(0, 80))
def test_keep_end_cuts_the_start_of_the_whole_prompt_at_a_word(document, limit):
    prompt = make(document)
    if limit < pieces(document[-1] + AFTER):
        with pytest.raises(UserError, match="too little for one"):
            ask(prompt, limit, truncation="keep_end")
        return
    found = ask(prompt, limit, truncation="keep_end")
    text = found.prompt.text
    assert pieces(text) <= limit
    last = document.split()[-1]
    assert text.removesuffix(AFTER)[-1] == last[-1], "something of the document is left"
    if limit < pieces(last + AFTER):
        assert text == longest([last[start:] + AFTER for start in range(1, len(last))], limit)
        return
    assert prompt.text.endswith(text)
    assert text.endswith("TL;DR:")
    if found.shortened:
        left_out = prompt.text[: -len(text)]
        assert left_out[-1].isspace()
        assert not text[0].isspace()
        assert pieces(left_out.split()[-1] + left_out[len(left_out.rstrip()) :] + text) > limit


def test_a_chat_model_is_asked_the_chat_message_and_a_base_model_the_text():
    prompt = make("a b c", chat="Summarise: a b c")
    assert ask(prompt, None, chat=True).prompt.text == "Summarise: a b c"
    assert ask(prompt, None).prompt.text == prompt.text
    assert ask(make("a b c"), None, chat=True).prompt.text == prompt.text
    short = ask(prompt, 4, chat=True)
    assert (short.prompt.text, short.shortened) == ("Summarise: a", True)
    for found in (short, ask(prompt, None, chat=True), ask(prompt, 12)):
        assert (found.prompt.chat, found.prompt.shortens) == (None, None)
        assert found.prompt.doc_id == "7"


def test_the_document_is_taken_where_it_stands_last():
    prompt = Prompt(
        task="t", doc_id="7", text="TITLE: my cat POST: my cat TL;DR:", references=(), doc={}, shortens="my cat"
    )
    assert ask(prompt, 6, lambda text: len(text.split())).prompt.text == "TITLE: my cat POST: my TL;DR:"


def test_a_document_that_its_template_trimmed_is_found():
    prompt = make("one two three", shortens="\n one two three ")
    assert ask(prompt, 11).prompt.text == BEFORE + "one" + AFTER


def test_a_document_without_spaces_is_cut_between_characters_and_accents_stay_with_their_letters():
    document = "猫は机の上で寝ている。e\u0301" * 3
    for kept in range(1, len(document)):
        start = ask(make(document), len(BEFORE + AFTER) + kept, len).prompt.text
        end = ask(make(document), len(AFTER) + kept, len, truncation="keep_end").prompt.text if kept > 1 else AFTER
        severed = document[kept] == "\u0301"
        assert start == BEFORE + document[: kept - severed] + AFTER
        severed = document[-kept] == "\u0301"
        assert end == (document[-kept:][severed:] if kept > 1 else "") + AFTER


def test_keep_end_cuts_at_words_alone_where_no_document_is_named():
    prompt = make("猫" * 50, shortens=None)
    assert ask(prompt, 3, truncation="keep_end").prompt.text == "TL;DR:"


def test_few_counts_are_enough():
    asked = []
    prompt = make(" ".join(["word"] * 10_000))
    ask(prompt, 300, lambda text: asked.append(1) or pieces(text))
    assert len(asked) < 25


@pytest.mark.parametrize(
    ("fields", "limit", "truncation", "says"),
    [
        (
            {"shortens": None},
            8,
            "keep_start",
            "its task names no part of it that may be shortened, so raise max_prompt_tokens",
        ),
        ({"shortens": "elsewhere"}, 8, "keep_start", "what its task's metadata.shortens names is not in it"),
        ({"shortens": " "}, 8, "keep_start", "its task names no part of it"),
        ({}, 3, "keep_start", "too little for one word of what may be shortened"),
        ({}, 0, "keep_end", "too little for one word"),
    ],
)
def test_what_cannot_fit_is_one_line_that_names_prompt_task_model_and_budget(fields, limit, truncation, says):
    with pytest.raises(UserError) as caught:
        ask(make("one two three four", **fields), limit, truncation=truncation)
    message = str(caught.value)
    assert message.startswith("org/model: prompt 7 of t has 16 tokens, and its budget is " + str(limit))
    assert says in message
    assert "\n" not in message
