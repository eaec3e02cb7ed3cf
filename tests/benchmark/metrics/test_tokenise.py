import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.metrics.tokenise import _WORD, TOKENISERS, rlfh, tokeniser, words

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
