import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.metrics import tokenise
from benchmark.metrics.tokenise import _WORD, TOKENISERS, rlfh, tokeniser, tokens, words

FIXED = settings(derandomize=True, deadline=None)


def plain_words(text: str) -> list[str]:
    import unicodedata

    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("end.\nStart now", ["endStart", "now"]),
        ("3.5  U.S. ", ["35", "US"]),
        ("dog, dog", ["dog,", "dog"]),
        ("a\tb c", ["a\tb", "c"]),
        ("a\N{NO-BREAK SPACE}b", ["a\N{NO-BREAK SPACE}b"]),
        ("", []),
        (" . ", []),
    ],
)
def test_rlfh_splits_as_published(text: str, expected: list[str]) -> None:
    assert rlfh(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("End.\nstart", ["end", "start"]),
        ("a\tb\N{NO-BREAK SPACE}c", ["a", "b", "c"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ﬁne Ⅷ e\u0301", ["fine", "viii", "é"]),
        ("don't snake_case 3.5", ["don", "t", "snake_case", "3", "5"]),
        ("—!?…", []),
        ("a\ud800b", ["a", "b"]),
        ("", []),
    ],
)
def test_words_splits_unicode_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_every_ascii_character_takes_the_short_way_as_the_long_one() -> None:
    for character in map(chr, range(128)):
        assert words(f"aB{character}Cd") == plain_words(f"aB{character}Cd")


@FIXED
@given(st.text(st.characters(max_codepoint=127)) | st.text())
def test_words_equals_its_definition(text: str) -> None:
    assert words(text) == plain_words(text)


@FIXED
@given(st.lists(st.text(), min_size=1, max_size=4), st.sampled_from(list(TOKENISERS)))
def test_tokenisers_are_local(texts: list[str], name: str) -> None:
    split = TOKENISERS[name]
    apart = [word for text in texts for word in [*split(text), "plainword"]]
    assert split(" plainword ".join([*texts, ""])) == apart


@FIXED
@given(
    st.text(st.characters(categories=["Mn", "Mc", "Lm", "Cf", "Zs", "Lo"])),
    st.text(st.characters(categories=["Mn", "Mc", "Lm", "Cf", "Zs", "Lo"])),
)
def test_combining_marks_do_not_reach_across_texts(a: str, b: str) -> None:
    assert words(f"{a} plainword {b}") == [*words(a), "plainword", *words(b)]


def test_an_unknown_tokeniser_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="rlfh, words"):
        tokeniser("bert")


LONG = st.sampled_from(
    ["a" * 7, "a" * 8, "a" * 9, "a" * 16, "a" * 17, "a" * 16 + "b", "é" * 4, "\0", "a\0", "\ud800", "—"]
)
TEXTS = st.lists(st.lists(st.one_of(LONG, st.text(max_size=3)), max_size=6).map(" ".join), max_size=9)


def expected(texts: list[str], name: str) -> list[list[str]]:
    return [TOKENISERS[name](text) for text in texts]


def check(texts: list[str], name: str) -> None:
    """Equal words have equal numbers, unlike ones do not, and no number is left out."""
    found, each = tokens(texts, name), expected(texts, name)
    flat = [word for split in each for word in split]
    assert found.lengths.tolist() == [len(split) for split in each]
    assert len(set(zip(flat, found.words.tolist(), strict=True))) == len(set(flat)) == found.n_words
    assert sorted(set(found.words.tolist())) == list(range(found.n_words))


@settings(derandomize=True, deadline=None)
@given(TEXTS, st.sampled_from(list(TOKENISERS)), st.sampled_from([1, 2, 256]))
def test_a_corpus_is_numbered_like_its_words(texts: list[str], name: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenise, "_BLOCK", block)
        assert tokenise._hashed(texts, tokenise._SPACED[name]) is not None
        check(texts, name)


@pytest.mark.parametrize(
    "texts",
    [["a b"], ["a", "b"], ["aaaaaaaab aaaaaaaac"], ["a aa"], ["a a\0"], ["aaaaaaaa aaaaaaaa\0"], ["b aaaaaaaaa"]],
)
def test_words_of_equal_hash_are_told_apart(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenise, "_MIX", np.uint64(0))
    monkeypatch.setattr(tokenise, "_BLOCK", 1)
    assert tokenise._hashed(texts, tokenise._SPACED["rlfh"]) is None
    check(texts, "rlfh")


@pytest.mark.parametrize("name", TOKENISERS)
def test_a_long_word_goes_through_the_dictionary(name: str) -> None:
    texts = ["a" * 513 + " b", "b " + "a" * 513]
    assert tokenise._hashed(texts, tokenise._SPACED[name]) is None
    check(texts, name)
    check([text[1:] for text in texts], name)
