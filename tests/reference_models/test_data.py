"""Training data: what is read, in which order it comes, and how a mistake in it is named."""

import json

import pytest
from tiny_runs import write_jsonl

from benchmark.errors import UserError
from reference_models.data import (
    Epochs,
    collate_comparisons,
    encode,
    read_comparisons,
    read_pairs,
    read_preferences,
    read_prompts,
    sha256_of,
)
from reference_models.models import load_tokenizer


@pytest.mark.parametrize("read", [read_pairs, read_prompts, read_preferences])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "x.jsonl: the file is empty"),
        ("nonsense\n", "x.jsonl:1: not JSON"),
        ("[1]\n", "x.jsonl:1: needs a text under 'prompt'"),
        ('{"completion": "a", "chosen": "a", "rejected": "b"}\n', "x.jsonl:1: needs a text under 'prompt'"),
        ('{"prompt": 3, "completion": "a", "chosen": "a", "rejected": "b"}\n', ":1: needs a text under 'prompt'"),
        ('{"prompt": " ", "completion": "a", "chosen": "a", "rejected": "b"}\n', ":1: the prompt is empty"),
        ('{"prompt": "a", "completion": "", "chosen": "", "rejected": "b"}\n\n', ":2: not JSON"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(tmp_path, read, content, says):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        list(read(path))


@pytest.mark.parametrize(
    ("read", "row", "field"),
    [
        (read_pairs, {"prompt": "a"}, "completion"),
        (read_preferences, {"prompt": "a", "rejected": "b"}, "chosen"),
        (read_preferences, {"prompt": "a", "chosen": "b", "rejected": None}, "rejected"),
    ],
)
def test_the_missing_field_of_the_second_line_is_named(tmp_path, read, row, field):
    whole = {"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c", "doc_id": 7}
    path = write_jsonl(tmp_path / "x.jsonl", [whole, row])
    with pytest.raises(UserError, match=f"x.jsonl:2: needs a text under '{field}'"):
        list(read(path))


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n{"prompt": "\xff"}\n')
    with pytest.raises(UserError, match=r"x.jsonl:2: not UTF-8"):
        list(read_pairs(path))


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    for path, says in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "is a folder; give a file of JSONL")):
        with pytest.raises(UserError, match=f"^{path}: {says}"):
            read_pairs(path)


def test_other_keys_are_ignored_and_any_text_comes_through(tmp_path):
    text = "ünï \u2028 “x”\n\ttab"
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": text, "completion": "", "n": 3}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_pairs(path) == [(text, "")]
    assert read_prompts(path) == [text]


def test_a_finished_completion_ends_with_the_end_even_if_it_is_empty(llama):
    tokenizer = load_tokenizer(str(llama))
    prompt, completion = encode(tokenizer, "red is", "warm")
    assert tokenizer.convert_ids_to_tokens(prompt) == ["red", "is"]
    assert tokenizer.convert_ids_to_tokens(completion) == ["warm", "</s>"]
    assert encode(tokenizer, "red is", "") == (prompt, [tokenizer.eos_token_id])
    assert encode(tokenizer, "red is") == (prompt, [])


def test_an_epoch_is_a_permutation_without_its_ragged_end_and_step_s_is_always_the_same(tmp_path):
    forward, backward = Epochs(10, 3, 0, tmp_path), Epochs(10, 3, 0, tmp_path)
    batches = [forward[step] for step in range(1, 13)]
    for epoch in range(4):
        seen = [number for batch in batches[3 * epoch : 3 * epoch + 3] for number in batch]
        assert len(set(seen)) == len(seen) == 9
        assert set(seen) <= set(range(10))
    assert batches == [backward[step] for step in range(12, 0, -1)][::-1]
    assert len({tuple(batch) for batch in batches}) == 12
    assert batches[0] != Epochs(10, 3, 1, tmp_path)[1]
    with pytest.raises(UserError, match="batch_size is 3, and there are 2 examples"):
        Epochs(2, 3, 0, tmp_path)


def test_pairs_of_one_prompt_become_one_example_that_reads_each_answer_once(tmp_path, llama):
    tokenizer = load_tokenizer(str(llama))
    rows = [("red is", "warm", "wet"), ("red is", "warm", "cold"), ("red is", "wet", "wet"), ("blue is", "wet", "cold")]
    path = write_jsonl(tmp_path / "x.jsonl", [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in rows])
    examples = read_comparisons(path, tokenizer)
    assert [len(example.answers) for example in examples] == [3, 2]
    batch, chosen, rejected = collate_comparisons(examples, tokenizer.pad_token_id)

    def text(row):
        return tokenizer.decode(batch.ids[row][batch.attention[row].bool()][:-1])

    found = [(text(c), text(r)) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    assert found == [(f"{p} {c}", f"{p} {r}") for p, c, r in rows if c != r]


def test_pairs_that_all_tell_nothing_are_refused(tmp_path, llama):
    path = write_jsonl(tmp_path / "x.jsonl", [{"prompt": "red is", "chosen": "wet", "rejected": "wet"}])
    with pytest.raises(UserError, match="no pair has two different answers"):
        read_comparisons(path, load_tokenizer(str(llama)))


def test_a_hash_is_of_content_and_names_and_of_nothing_else(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1")
    first = sha256_of(str(folder))
    (folder / "training.json").write_text("{}")  # says how long it took
    (folder / "curves.png").write_bytes(b"")
    assert sha256_of(str(folder)) == first
    (folder / "model.safetensors").write_bytes(b"2")
    assert sha256_of(str(folder)) != first
    assert sha256_of("some/hub-id") is None
    monkeypatch.chdir(folder)
    assert sha256_of("") is None  # an argument left out is not the folder one happens to be in
