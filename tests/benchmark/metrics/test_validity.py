import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.metrics.validity import invalid_reason, main_script

SAMPLES = {
    "Latin": ["an answer", "Über Größe", "tiếng Việt", "ｆｕｌｌ ｗｉｄｔｈ", "𝐛𝐨𝐥𝐝"],
    "Cyrillic": ["ответ", "Відповідь м’яка", "одговор"],
    "Greek": ["η απάντηση", "Ἑλληνική γλῶσσα"],
    "Arabic": ["الجواب", "پاسخ", "جواب"],
    "Hebrew": ["התשובה"],
    "Devanagari": ["उत्तर यह है", "नमस्ते"],
    "Bengali": ["উত্তর"],
    "Tamil": ["பதில்"],
    "Thai": ["คำตอบ"],
    "Georgian": ["პასუხი"],
    "Armenian": ["պատասխան"],
    "Ethiopic": ["መልስ"],
    "Hangul": ["대답입니다", "大學 에서 공부합니다"],
    "Han and kana": ["答案", "これは答えです", "カタカナー", "ﾊﾝｶｸ", "人々", "ㄅㄆㄇ", "我用 PyTorch 写这个程序"],
}
WITHOUT_LETTERS = ["42", "3.14 × 10²", "😀🎉", "...", "٣٤", "→ ✓", "```\nprint('x')\n```", "`x = 1`", "½", "ʼ", "ˇ"]
TEXT = st.text(st.sampled_from("ab éяд ωΩ答えハ한국 ना ก5!`\n"), max_size=20)
REASONS = {"empty", "cut_off", "prompt_copy", "wrong_script", None}


def scripts(text: str) -> set[str | None]:
    """Scripts of all letters; twice each, since a Greek one alone is a symbol."""
    return {main_script(letter * 2) for letter in text if letter.isalpha()}


@pytest.mark.parametrize(
    ("output", "finish_reason", "expected"),
    [
        ("an answer", "stop", None),
        ("an answer", "unknown", None),
        ("an answer", "length", "cut_off"),
        ("", "stop", "empty"),
        (" \n\t\N{NO-BREAK SPACE}", "stop", "empty"),
        ("", "length", "empty"),
        ("  a question\n", "stop", "prompt_copy"),
        ("A question", "stop", None),
        ("a question and more", "stop", None),
        ("ответ", "stop", "wrong_script"),
        ("ответ", "length", "cut_off"),
    ],
)
def test_reasons(output: str, finish_reason: str, expected: str | None) -> None:
    assert invalid_reason("a question ", output, finish_reason) == expected  # type: ignore[arg-type]


def test_reasons_add_up() -> None:
    outputs = ["", "q", "fine", "fine", "да"]
    assert Counter(invalid_reason("q", output, "stop") for output in outputs) == {
        "empty": 1,
        "prompt_copy": 1,
        "wrong_script": 1,
        None: 2,
    }


def test_a_gate_may_let_cut_off_outputs_pass_but_no_empty_one_and_no_copy() -> None:
    def reason(output: str) -> str | None:
        return invalid_reason("q", output, "length", cut_off_is_valid=True)

    assert (reason("an answer"), reason(" "), reason("q"), reason("да")) == (
        None,
        "empty",
        "prompt_copy",
        "wrong_script",
    )


@pytest.mark.parametrize(("script", "text"), [(script, text) for script, texts in SAMPLES.items() for text in texts])
def test_the_main_script_of_a_text(script: str, text: str) -> None:
    assert main_script(text) == script


@pytest.mark.parametrize("text", WITHOUT_LETTERS)
def test_a_text_without_letters_has_no_script_and_is_not_in_the_wrong_one(text: str) -> None:
    assert main_script(text) is None
    assert invalid_reason("вопрос", text, "stop") is None


@pytest.mark.parametrize("script", SAMPLES)
def test_answers_are_right_in_the_prompts_script_and_wrong_in_every_other(script: str) -> None:
    for other, texts in SAMPLES.items():
        for text in texts:
            for prompt in SAMPLES[script]:
                # A prompt may hold letters of a second script, and then that is right as well.
                mixed = other in scripts(prompt)
                expected = None if mixed else "wrong_script"
                assert invalid_reason(f"{prompt}?", f"{text}!", "stop") == expected


def test_a_reference_makes_its_script_right() -> None:
    prompt, answer = "Translate into Russian: good morning", "доброе утро"
    assert invalid_reason(prompt, answer, "stop") == "wrong_script"
    assert invalid_reason(prompt, answer, "stop", references=("hello", "утро")) is None
    assert invalid_reason(prompt, "good morning to you", "stop", references=("утро",)) is None
    assert invalid_reason(prompt, "こんにちは", "stop", references=("утро",)) == "wrong_script"


def test_an_answer_in_another_language_of_one_script_passes() -> None:
    assert invalid_reason("What is the capital of France?", "La capitale de la France est Paris.", "stop") is None


def test_where_the_prompt_is_not_known_or_tells_no_script_nothing_is_wrong() -> None:
    assert invalid_reason("", "ответ", "stop", references=("answer",)) is None
    assert invalid_reason(" \n", "ответ", "stop") is None
    assert invalid_reason("2 + 2 =", "четыре", "stop") is None
    assert invalid_reason("2 + 2 =", "четыре", "stop", references=("four",)) == "wrong_script"
    assert invalid_reason("2 + 2 =", "four", "stop", references=("четыре",)) == "wrong_script"


def test_code_and_symbols_are_read_in_no_script() -> None:
    assert (
        invalid_reason("Напиши функцию", "Вот:\n```python\ndef sort_the_whole_list(x):\n    ...\n```", "stop") is None
    )
    assert invalid_reason("Напиши функцию", "```\nunfinished and in Latin", "stop") is None
    assert invalid_reason("What is the area?", "π/2", "stop") is None
    assert invalid_reason("How wide is it?", "5 µm", "stop") is None
    assert invalid_reason("What is the area?", "пи/2", "stop") == "wrong_script"


def test_two_latin_names_do_not_outweigh_the_chinese_sentence_they_are_in() -> None:
    assert invalid_reason("我该用什么?", "我用 PyTorch 写这个程序", "stop") is None
    assert invalid_reason("我该用什么?", "You should use PyTorch, 谢谢", "stop") == "wrong_script"
    assert invalid_reason("무엇을 쓸까요?", "저는 PyTorch 씁니다", "stop") is None


def test_of_two_scripts_of_one_size_latin_comes_first() -> None:
    assert main_script("abcд ef жзик") == "Latin"
    assert main_script("абв ابت") == "Arabic"


def slow_main_script(text: str) -> str | None:
    """Letter by letter, from the names that Unicode gives them."""
    text = re.sub(r"```.*?(```|$(?!\n))", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", " ", text)
    found: list[str] = []
    for letter in text:
        name = unicodedata.name(letter, "") if letter.isalpha() else ""
        for start, script, weight in (
            ("LATIN", "Latin", 1),
            ("CYRILLIC", "Cyrillic", 1),
            ("DEVANAGARI", "Devanagari", 1),
            ("GREEK", "Greek", 1),
            ("OHM", "Greek", 1),
            ("THAI", "Thai", 1),
            ("HANGUL", "Hangul", 2),
            ("CJK", "Han and kana", 3),
            ("HIRAGANA", "Han and kana", 3),
            ("KATAKANA", "Han and kana", 3),
        ):
            if name.startswith(start):
                found += [script] * weight
    order = sorted(set(found), key=lambda script: (-found.count(script), script != "Latin", script))
    if order and order[0] == "Greek" and re.search(r"(?<![^\W\d_])[ωΩ](?![^\W\d_])", text):
        return slow_main_script(re.sub(r"(?<![^\W\d_])[ωΩ](?![^\W\d_])", " ", text))
    return order[0] if order else None


@given(TEXT.filter(lambda text: "``" not in text))
def test_the_main_script_equals_a_count_letter_by_letter(text: str) -> None:
    assert main_script(text) == slow_main_script(text)


@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_any_unicode_has_a_reason_or_none(prompt: str, output: str, references: list[str]) -> None:
    assert invalid_reason(prompt, output, "stop", references=references) in REASONS


@given(TEXT, TEXT, st.lists(TEXT, max_size=2))
def test_what_is_in_the_script_of_the_prompt_or_a_reference_is_never_in_the_wrong_one(
    prompt: str, output: str, references: list[str]
) -> None:
    found = invalid_reason(prompt, output, "stop", references=references)
    main = main_script(output)
    known = scripts("".join((prompt, *references)))
    if found == "wrong_script":
        assert main is not None
        assert main not in known
        assert prompt.strip()
    elif found is None:
        assert main is None or main in known or not prompt.strip() or not known


@given(TEXT, TEXT, st.lists(TEXT, max_size=2), TEXT)
def test_a_prompt_with_letters_and_one_more_reference_make_no_output_invalid(
    prompt: str, output: str, references: list[str], more: str
) -> None:
    before = invalid_reason(f"q {prompt}", output, "stop", references=references)
    after = invalid_reason(f"q {prompt}", output, "stop", references=[*references, more])
    assert after == before or (before, after) == ("wrong_script", None)


@given(TEXT.filter(lambda text: "`" not in text and not set("ωΩ") & set(text)), st.randoms(use_true_random=False))
def test_the_order_of_letters_does_not_matter(text: str, random: object) -> None:
    mixed = "".join(random.sample(text, len(text)))  # type: ignore[attr-defined]
    assert main_script(mixed) == main_script(text)
