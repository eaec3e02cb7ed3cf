"""Supervised fine-tuning: what it learns, and that every step is the documented one."""

import json

import pytest
import torch
from tiny_runs import ANSWERS, weights

from reference_models import sft
from reference_models.core import collate
from reference_models.data import Epochs, encode, read_pairs
from reference_models.models import load_policy, load_tokenizer
from reference_models.sft import nll


def test_it_learns_the_answers_and_to_stop_after_them(trainers):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses = []
    folder = trainers.train(
        "sft", "out", steps=80, batch_size=12, learning_rate=2e-2, weight_decay=0.0,
        progress=lambda _, metrics: losses.append(metrics["loss"]),
    )  # fmt: skip
    assert losses[-1] < 0.05 < 1.0 < losses[0]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for prompt, completion in ANSWERS.items():
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert out[0, ids.shape[1] :].tolist() == [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]


def test_the_loss_is_the_mean_over_completion_tokens_and_the_end(trainers, llama):
    from transformers import AutoModelForCausalLM

    first = []
    trainers.train("sft", "out", steps=1, batch_size=12, progress=lambda _, metrics: first.append(metrics["loss"]))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama), load_tokenizer(str(llama))
    total, count = 0.0, 0
    for prompt, completion in ANSWERS.items():
        ids = tokenizer(prompt)["input_ids"]
        for token in [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]:
            with torch.no_grad():
                total -= torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)[token].item()
            ids, count = [*ids, token], count + 1
    assert first[0] == pytest.approx(total / count, abs=1e-5)


def test_the_gradient_comes_from_completion_tokens_and_the_end_and_from_nothing_else(llama):
    """At the position before each of them, and at no other."""
    model, kept = load_policy(str(llama)), []
    prompts, completions = [[5, 6, 7], [8]], [[9, 1], [4, 5, 6, 1]]

    def keep(_module, _inputs, output):
        output.retain_grad()
        kept.append(output)

    model.lm_head.register_forward_hook(keep)
    nll(model, collate(prompts, completions, 0)).backward()
    # Columns are the last prompt token and the completion; each predicts the next one.
    learned = kept[0].grad.abs().sum(dim=-1) > 0
    assert learned.tolist() == [[True, True, False, False, False], [True, True, True, True, False]]


@pytest.mark.parametrize("microbatch_size", [0, 2])
def test_a_microbatch_is_as_long_as_its_longest_row_and_a_whole_batch_as_its_longest_halves(
    trainers, data, monkeypatch, microbatch_size
):
    tokenizer, seen = load_tokenizer(str(trainers.llama)), []

    def spy(model, batch):
        seen.append(batch)
        return nll(model, batch)

    monkeypatch.setattr(sft, "nll", spy)
    trainers.train("sft", "out", steps=3, microbatch_size=microbatch_size)
    pairs = [encode(tokenizer, *pair) for pair in read_pairs(data / "pairs.jsonl")]
    lengths = {tuple(p + c): (len(p), len(c)) for p, c in pairs}
    shorter = 0
    for batch in seen:
        rows = [lengths[tuple(ids[read == 1].tolist())] for ids, read in zip(batch.ids, batch.attention, strict=True)]
        longest, halves = max(map(sum, rows)), max(p for p, _ in rows) + max(c for _, c in rows)
        assert batch.ids.shape[1] == (longest if microbatch_size else halves)
        assert batch.mask.sum(dim=-1).tolist() == [c for _, c in rows]
        shorter += longest < halves
    assert shorter, "the two layouts can be told apart"


def test_every_step_is_one_of_plain_adamw_on_the_documented_schedule(trainers, llama, data):
    """Against torch's unfused AdamW: ε 1e-5, decay of matrices alone, linear rates, clipping at 1."""
    norms = []
    folder = trainers.train(
        "sft", "out", steps=6, weight_decay=0.3, learning_rate=2e-2,
        progress=lambda _, metrics: norms.append(metrics["grad_norm"]),
    )  # fmt: skip
    model, tokenizer = load_policy(str(llama)), load_tokenizer(str(llama))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.3},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-5, fused=False, foreach=False)
    pairs = [encode(tokenizer, *pair) for pair in read_pairs(data / "pairs.jsonl")]
    batches = Epochs(len(pairs), 4, 1, data)
    for step in range(1, 7):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * min(step / 2, (6 - step + 1) / 6)
        optimizer.zero_grad()
        rows = [pairs[number] for number in batches[step]]
        total = sum(nll(model, collate([p], [c], 0)) for p, c in rows)
        (total / sum(len(c) for _, c in rows)).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        assert norm == pytest.approx(norms[step - 1], rel=1e-3)
        optimizer.step()
    assert max(norms) > 1  # so that clipping was seen
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=2e-5)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trainers):
    def trained(name, **change):
        return (trainers.train("sft", name, **change) / "model.safetensors").read_bytes()

    assert trained("a") == trained("b") != trained("c", seed=2)


def test_a_finished_folder_is_an_ordinary_checkpoint_that_says_how_it_came_about(trainers, llama, data, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    folder = trainers.train("sft", "out")
    record = json.loads((folder / "training.json").read_text())
    assert record["method"] == "sft"
    assert record["arguments"]["seed"] == 1
    assert (record["arguments"]["steps"], record["steps_done"], record["processes"]) == (5, 5, 1)
    assert {name: len(digest) for name, digest in record["inputs_sha256"].items()} == {"model": 64, "data": 64}
    assert set(record["metrics"]) == {"loss", "grad_norm", "learning_rate"}
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float32
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == AutoTokenizer.from_pretrained(llama).get_vocab()
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
