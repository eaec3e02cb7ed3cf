"""The instruction tasks: Alpaca's prompt, references where the data has them, and none where it has none."""

import pytest
from data_root import make_data_root, write_rows

from benchmark.data import sources
from benchmark.suites import load_prompts, load_suite
from tasks.instructions.prompts import alpaca

HEADER = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(folder))
    return folder


def test_base_models_read_alpacas_prompt_and_chat_models_the_instruction(root):
    for prompts in load_prompts(load_suite("instructions")).values():
        for prompt in prompts:
            assert prompt.text == f"{HEADER}\n\n### Instruction:\n{prompt.chat}\n\n### Response:"
            assert prompt.shortens == prompt.chat == prompt.doc["instruction"]


def test_a_document_without_an_output_has_no_reference(root):
    write_rows(
        root / "alpaca_eval" / "eval.jsonl",
        [
            {"instruction": "a"},
            {"instruction": "b", "output": None},
            {"instruction": "c", "output": " \n"},
            {"instruction": "d", "output": "None"},
            {"instruction": "e", "output": "[]"},
        ],
    )
    prompts = load_prompts(load_suite("instructions"))
    assert [prompt.references for prompt in prompts["gendiv_alpaca_eval"]] == [(), (), (), ("None",), ("[]",)]
    assert [prompt.references for prompt in prompts["gendiv_sequential_instructions"]] == [()] * 5
    assert [prompt.references for prompt in prompts["gendiv_alpaca_farm"]] == [(f"farm out {n}",) for n in range(7)]


@pytest.mark.parametrize("given", ["", "  \n"])
def test_an_input_that_is_empty_is_no_input(given):
    assert alpaca({"instruction": "{x}", "input": given}) == alpaca({"instruction": "{x}"})


def test_an_input_stands_between_instruction_and_response():
    assert alpaca({"instruction": "do {it}", "input": "with {that}"}) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\ndo {it}\n\n### Input:\nwith {that}\n\n"
        "### Response:"
    )
