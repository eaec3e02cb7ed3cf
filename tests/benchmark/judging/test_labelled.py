"""Labelled pairs: every format on made-up rows, and on the published files where they are."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.judging.labelled import LEAST_DIFFERENCE, SCORES, read_labelled
from tasks.instructions.prompts import alpaca

PANDALM = {"instruction": "do", "input": "it", "response1": "a", "response2": "b"}


def put(folder: Path, rows: list[object], name: str = "pairs.jsonl") -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def human(a: int, b: int, c: int) -> dict[str, int]:
    return {"annotator1": a, "annotator2": b, "annotator3": c}


def summary(text: str, *scores: float) -> dict[str, object]:
    return {"sys_summ": text, "scores": dict(zip(SCORES, scores, strict=True))}


def better(pair):
    return pair.first if pair.preference == 1.0 else pair.second


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_exported_preferences_keep_prompt_and_answers_and_half_are_chosen_first(tmp_path, name):
    rows = [{"doc_id": "d", "prompt": f"p{n}", "chosen": f" good {n}", "rejected": f" bad {n}"} for n in range(400)]
    pairs = read_labelled(put(tmp_path, rows, name))
    assert [(p.prompt, better(p)) for p in pairs] == [(r["prompt"], r["chosen"]) for r in rows]
    assert all({p.first, p.second} == {r["chosen"], r["rejected"]} for p, r in zip(pairs, rows, strict=True))
    assert 160 < sum(p.preference for p in pairs) < 240
    assert len({p.id for p in pairs}) == 400


def test_what_is_shown_first_does_not_hang_on_which_is_better(tmp_path):
    rows = [{"prompt": f"p{n}", "chosen": "one", "rejected": "two"} for n in range(20)]
    other = [{"prompt": f"p{n}", "chosen": "two", "rejected": "one"} for n in range(20)]
    there, back = read_labelled(put(tmp_path, rows)), read_labelled(put(tmp_path, other))
    assert [(p.first, p.second) for p in there] == [(p.first, p.second) for p in back]
    assert [1 - p.preference for p in there] == [p.preference for p in back]


def test_dialogues_are_cut_after_the_last_turn_they_share(tmp_path):
    head = "\n\nHuman: hi\n\nAssistant: ho\n\nHuman: so?\n\nAssistant:"
    (pair,) = read_labelled(put(tmp_path, [{"chosen": f"{head} yes, well", "rejected": f"{head} yes, no"}]))
    assert (pair.prompt, better(pair)) == (head, " yes, well")
    assert {pair.first, pair.second} == {" yes, well", " yes, no"}
    # They part before the last turn of both: that turn belongs to the answers.
    one, other = (f"\n\nHuman: hi\n\nAssistant: {x}\n\nHuman: ok\n\nAssistant: z" for x in ("a", "b"))
    (pair,) = read_labelled(put(tmp_path, [{"chosen": one, "rejected": other}]))
    assert pair.prompt == "\n\nHuman: hi\n\nAssistant:"
    assert better(pair) == " a\n\nHuman: ok\n\nAssistant: z"


def test_pandalm_keeps_its_annotators(tmp_path):
    rows = [PANDALM | human(1, 2, 0), PANDALM | {"input": " "} | human(1, 1, 2)]
    first, second = read_labelled(put(tmp_path, rows))
    assert (first.first, first.second, first.annotators) == ("a", "b", (1.0, 0.0, 0.5))
    assert first.preference == 0.5
    assert second.preference == pytest.approx(2 / 3)
    assert (first.prompt, first.chat) == (alpaca({"instruction": "do", "input": "it"}), "do\n\nit")
    assert (second.prompt, second.chat) == (alpaca({"instruction": "do"}), "do")


def test_llmbar_names_the_better_output(tmp_path):
    rows = [{"input": "do", "output_1": "a", "output_2": "b", "label": label} for label in (1, 2)]
    one, two = read_labelled(put(tmp_path, rows))
    assert [(p.first, p.second, p.preference) for p in (one, two)] == [("a", "b", 1.0), ("a", "b", 0.0)]
    assert (one.prompt, one.chat, one.annotators) == (alpaca({"instruction": "do"}), "do", ())


@given(st.lists(st.integers(1, 5), min_size=2, max_size=9))
def test_summaries_are_paired_once_each_and_the_higher_mean_is_better(tmp_path_factory, means):
    systems = {f"M{n}": summary(f"text {n}", mean, mean, mean - 0.2, mean + 0.2) for n, mean in enumerate(means)}
    row = {"id": "x", "src": "article", "sys_summs": systems}
    path = put(tmp_path_factory.mktemp("s"), [row, row | {"sys_summs": {"A": summary("a", *[5.0] * 4), "B": summary(
        "b", *[1.0] * 4)}}])  # fmt: skip
    *pairs, last = read_labelled(path)
    mean = {system["sys_summ"]: value for system, value in zip(systems.values(), means, strict=True)}
    shown = [text for pair in pairs for text in (pair.first, pair.second)]
    assert len(shown) == len(set(shown)) <= len(means)
    for pair in pairs:
        assert (mean[pair.first] > mean[pair.second]) == (pair.preference == 1.0)
        assert mean[pair.first] != mean[pair.second]
        assert pair.document == "article"
    if len(set(means)) == len(means):
        assert len(pairs) == len(means) // 2
    assert better(last) == "a"


def test_summaries_closer_than_the_least_difference_make_no_pair(tmp_path):
    def row(by: float) -> dict[str, object]:
        return {"id": "x", "src": "s", "sys_summs": {"A": summary("a", 3, 3, 3, 3), "B": summary("b", 3, 3, 3, 3 + by)}}

    (pair,) = read_labelled(put(tmp_path, [row(4 * LEAST_DIFFERENCE), row(4 * LEAST_DIFFERENCE - 0.1)]))
    assert (pair.id.partition(".")[0], better(pair)) == ("1", "b")
    with pytest.raises(UserError, match="no pair of which people prefer one"):
        read_labelled(put(tmp_path, [row(0.1)]))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (PANDALM | human(1, 2, 3), "pairs.jsonl:2: annotator3 must be one of 0, 1, 2, not 3"),
        (PANDALM | {"annotator1": 1, "annotator2": 1}, "pairs.jsonl:2: annotator3 must be one of 0, 1, 2, not None"),
        (PANDALM | human(1, 1, 1) | {"response1": None}, "pairs.jsonl:2: response1 must be text, not NoneType"),
        (PANDALM | human(1, 1, 1) | {"response1": "\ud800"}, "pairs.jsonl:2: response1 holds half a character"),
        ({k: v for k, v in (PANDALM | human(1, 1, 1)).items() if k != "input"}, "2: input must be text, not left out"),
        ("{", "pairs.jsonl:2: not an object with fields"),
    ],
)
def test_a_wrong_row_is_named_with_its_field(tmp_path, row, says):
    with pytest.raises(UserError, match=says):
        read_labelled(put(tmp_path, [PANDALM | human(1, 1, 1), row]))


def test_other_wrong_rows_are_named_as_well(tmp_path):
    for row, says in (
        ({"input": "i", "output_1": "a", "output_2": "b", "label": 0}, "jsonl:1: label must be one of 1, 2, not 0"),
        ({"chosen": "a", "rejected": "b"}, "jsonl:1: chosen and rejected share no 'Assistant:' turn"),
        (
            {"id": "x", "src": "s", "sys_summs": {"A": {"sys_summ": "a"}}},
            "jsonl:1: sys_summs.A needs sys_summ and scores",
        ),
        ({"question": "q"}, "no labelled pairs: there is question; needs prompt, chosen, rejected; "),
        ({}, "no labelled pairs: there is nothing"),
    ):
        with pytest.raises(UserError, match=says):
            read_labelled(put(tmp_path, [row]))
    (tmp_path / "broken.jsonl").write_text("not json\n")
    (tmp_path / "broken.jsonl.gz").write_bytes(b"not gzip")
    for name, says in (
        ("broken.jsonl", "broken.jsonl:1: not JSON"),
        ("broken.jsonl.gz", "cannot be read: "),
        ("none.jsonl", "no such file"),
        ("pairs.csv", "labelled pairs are .jsonl or .jsonl.gz"),
    ):
        with pytest.raises(UserError, match=says):
            read_labelled(tmp_path / name)


def test_the_published_files_are_read_whole(shared_data):
    hh = read_labelled(shared_data / "hh_rlhf" / "harmless-base_test.jsonl.gz")
    assert len(hh) == 2312
    assert all(pair.prompt.endswith("\n\nAssistant:") for pair in hh)
    assert abs(sum(pair.preference for pair in hh) / len(hh) - 0.5) < 0.04
    pandalm = read_labelled(shared_data / "pandalm" / "testset-v1.jsonl")
    assert (len(pandalm), pandalm[157].first) == (999, "True")  # ``true`` in the file
    natural = read_labelled(shared_data / "llmbar" / "LLMBar_Natural_dataset.jsonl")
    assert (len(natural), sum(pair.preference for pair in natural)) == (100, 42)
    summaries = read_labelled(shared_data / "summ_human_eval" / "SummEval.jsonl.gz")
    assert len(summaries) == 397
    assert len({pair.id for pair in summaries}) == len(summaries)
