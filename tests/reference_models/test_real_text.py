"""The small model of real text is never shown an evaluated prompt or its reference."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from data_root import make_data_root
from real_texts import read, thirteens, write

from benchmark.errors import UserError
from benchmark.suites import load_prompts, load_suite
from reference_models import real_text

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv("GENDIV_DATA", str(folder))
    return folder


def test_rows_with_an_evaluated_text_in_them_are_left_out_and_counted(root: Path, tmp_path: Path) -> None:
    prompts = load_prompts(load_suite("summarisation"))["gendiv_tldr"]
    instruction = load_prompts(load_suite("instructions"))["gendiv_alpaca_eval"][0]
    post = next(prompt.shortens for prompt in prompts if prompt.shortens and len(prompt.shortens.split()) > 100)
    clean = {"prompt": "Tell me of whales.", "completion": "They are large and live in the sea."}
    planted = [
        {"prompt": "Classify:", "completion": " ".join(post.split()[3:30])},
        {"prompt": f"Read this. {post[:200]}", "completion": "good"},
        {"prompt": str(instruction.chat), "completion": ""},
    ]
    corpora = tmp_path / "corpora"
    write(corpora / "tasks.jsonl.gz", [clean, *planted[:2]])
    with gzip.open(corpora / "book.txt.gz", "wt") as file:
        file.write("call me ishmael " * 200 + post)
    pairs = write(tmp_path / "pairs.jsonl", [clean, planted[0], {"prompt": "x", "completion": "filler " * 600}])
    counts = real_text.prepare(corpora, [pairs], tmp_path / "out")
    kept = read(tmp_path / "out" / "pretrain.jsonl") + read(tmp_path / "out" / "pairs.jsonl")
    seen = set().union(*(thirteens(row["prompt"] + row["completion"]) for row in kept))
    assert not seen & thirteens(post)
    assert {"prompt": clean["prompt"], "completion": " " + clean["completion"]} in kept
    assert counts["pretrain: overlaps with an evaluated text"] == 2 + 2, "two tasks, two passages of the book"
    assert counts["pairs: overlaps with an evaluated text"] == 1
    assert counts["pairs: too long"] == 1


@pytest.mark.parametrize(
    "prompt",
    ["{}", "{} ", "Answer well.\n{}", "Below is an instruction.\n\n### Instruction:\n{}\n\n### Response:", "“{}”"],
)
def test_a_short_evaluated_instruction_is_found_in_any_template(root: Path, tmp_path: Path, prompt: str) -> None:
    instruction = str(load_prompts(load_suite("instructions"))["gendiv_alpaca_eval"][0].chat)
    assert len(instruction.split()) < 13
    clean = {"prompt": "Tell me of whales.", "completion": "They are large and live in the sea."}
    planted = {"prompt": prompt.format(instruction.upper()), "completion": "no"}
    write(tmp_path / "corpora" / "tasks.jsonl.gz", [clean, planted])
    counts = real_text.prepare(tmp_path / "corpora", [write(tmp_path / "p.jsonl", [clean, planted])], tmp_path / "out")
    assert counts["pretrain: overlaps with an evaluated text"] == counts["pairs: overlaps with an evaluated text"] == 1


def test_a_corpus_that_is_not_json_is_refused_by_its_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "corpora").mkdir()
    with gzip.open(tmp_path / "corpora" / "bad.jsonl.gz", "wt") as file:
        file.write('{"text": "a"}\n{"text"\n')
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UserError, match=r"bad\.jsonl\.gz:2: not JSON"):
        real_text.prepare(tmp_path / "corpora", [pairs], tmp_path / "out")


def test_the_same_input_gives_the_same_rows_and_checkpoint(root: Path, tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    write(corpora / "a.jsonl.gz", [{"text": " ".join(f"word{i % 50}" for i in range(900))}])
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "completion": "b"}])
    made = []
    for name in ("one", "two"):
        real_text.prepare(corpora, [pairs], tmp_path / name)
        made.append({p.name: p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()})
    assert made[0] == made[1]


def test_a_folder_without_corpora_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "completion": "b"}])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*\.txt\.gz"):
        real_text.prepare(tmp_path / "empty", [pairs], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "corpora").is_dir(), reason="needs ../shared/data, which a clone does not have")
def test_on_the_real_corpora_no_row_shares_13_words_with_an_evaluated_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.data.adopt import adopt
    from benchmark.export import training_data
    from benchmark.export import write as write_rows

    adopt(SHARED, tmp_path / "data")
    monkeypatch.setenv("GENDIV_DATA", str(tmp_path / "data"))
    pairs = []
    for task in ("gendiv_tldr", "gendiv_alpaca_farm"):
        pairs.append(tmp_path / f"{task}.jsonl")
        write_rows(pairs[-1], training_data(task).rows)
    # The largest corpus, and the only one with articles in it.
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    (corpora / "t0.jsonl.gz").symlink_to(SHARED / "corpora" / "t0_train_subset.jsonl.gz")
    monkeypatch.setattr(real_text, "make_checkpoint", lambda *_, **__: None)
    counts = real_text.prepare(corpora, pairs, tmp_path / "out")
    assert counts["pretrain: overlaps with an evaluated text"] > 0, "T0 holds articles that are evaluated here"
    evaluated: set[str] = set()
    whole: set[str] = set()
    for suite in real_text.SUITES:
        for prompts in load_prompts(load_suite(suite)).values():
            for prompt in prompts:
                evaluated |= thirteens(prompt.shortens or prompt.chat or prompt.text)
                whole.add(" ".join(prompt.text.split()))
    for row in read(tmp_path / "out" / "pretrain.jsonl") + read(tmp_path / "out" / "pairs.jsonl"):
        assert not evaluated & thirteens(f"{row['prompt']} {row['completion']}")
        assert " ".join(row["prompt"].split()) not in whole
