"""Direct preference optimisation: its loss, its reference, and the optimum that its theorem promises."""

import itertools
import json
import math
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmark.errors import UserError
from reference_models import dpo, training
from reference_models.arguments import read_recipe
from reference_models.data import Comparisons, collate_comparisons, read_comparisons
from reference_models.dpo import DPOArguments, loss, train
from reference_models.models import Reference, load_policy, load_tokenizer
from reference_models.tiny import make_checkpoint

PROMPTS = ["one", "two", "three three"]
WORDS = ["red", "blue", "green", "warm", "cold", "wet"]
ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


@pytest.fixture(autouse=True, scope="module")
def _without_curves():
    """The curves have tests of their own, and would take most of the time of runs this short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_curves", lambda *_, **__: False)
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Untrained language models: Llama with its rotary positions, GPT-2 with its learned ones."""
    from transformers import GPT2Config, GPT2LMHeadModel

    place = tmp_path_factory.mktemp("start")
    make_checkpoint(place / "llama", [*" ".join(PROMPTS).split(), *WORDS], seed=0, architecture=ARCHITECTURE)
    shutil.copytree(place / "llama", place / "gpt2")
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    tokens = {"vocab_size": 12, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    GPT2LMHeadModel(GPT2Config(**sizes, **tokens)).save_pretrained(place / "gpt2")
    return place


@pytest.fixture
def run(start, tmp_path):
    """Train on (prompt, chosen, rejected) rows, and give the folder; ``log`` gets the metrics of every step."""
    return partial(trained, start / "llama", tmp_path)


def trained(model, place, name, rows, log=None, **change):
    data = written(place / f"{name}.jsonl", rows)
    arguments = {"steps": 3, "batch_size": len(PROMPTS), "learning_rate": 1e-2, "save_every": 1000}
    arguments |= {"model": str(model), "data": str(data), "output": str(place / name)}
    seen = [] if log is None else log
    return train(DPOArguments(**arguments | change), progress=lambda _, metrics: seen.append(metrics))


def written(path, rows):
    keys = ("prompt", "chosen", "rejected")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return path


def flipped(rows):
    return [(prompt, rejected, chosen) for prompt, chosen, rejected in rows]


ROWS = [
    ("one", "red", "blue green"),
    ("one", "red", "warm cold wet red"),
    ("one", "blue green", "warm cold wet red"),
    ("two", "wet", "warm warm"),
    ("three three", "cold cold blue", "green"),
    ("three three", "", "green"),
]


def log_probability(model, tokenizer, prompt, answer):
    """Of an answer and its end, token by token, from the stock model's logits of one unpadded sequence each."""
    number, total = tokenizer.convert_tokens_to_ids, 0.0
    ids = [number(word) for word in prompt.split()]
    for token in [*(number(word) for word in answer.split()), tokenizer.eos_token_id]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        total += (logits[token] - logits.logsumexp(0)).item()
        ids.append(token)
    return total


def stock(folder):
    """The checkpoint as someone without GenDiv loads it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def rewards(folder, start, beta, rows):
    """Implied rewards β · log(policy / reference) of (prompt, answer) rows."""
    (policy, tokenizer), (reference, _) = stock(folder), stock(start)
    return [
        beta * (log_probability(policy, tokenizer, *row) - log_probability(reference, tokenizer, *row)) for row in rows
    ]


# ---- The loss ----


@pytest.fixture
def double(start, tmp_path):
    """A policy in double precision that has moved away from its reference, and the examples of ROWS."""
    tokenizer = load_tokenizer(str(start / "gpt2"))
    policy = load_policy(str(start / "gpt2")).double()
    arguments = DPOArguments(
        model=str(start / "gpt2"), data="", output="", steps=1, batch_size=1, learning_rate=1.0, beta=0.3
    )
    reference = Reference(policy, arguments, torch.device("cpu"))
    reference.model.double()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return policy, reference, tokenizer, read_comparisons(written(tmp_path / "pairs.jsonl", ROWS), tokenizer)


def gradients(policy, reference, items, beta=0.3):
    """Loss summed over microbatches, what it has seen, and its gradient."""
    seen = []
    policy.zero_grad()
    total = sum(loss(policy, reference, beta, seen, item) for item in items)
    total.backward()
    return [
        total.detach(),
        torch.stack(seen).sum(dim=0),
        *(parameter.grad.clone() for parameter in policy.parameters()),
    ]


def test_loss_and_gradient_are_those_of_the_obvious_implementation(double):
    policy, reference, tokenizer, examples = double

    def log_probability(model, prompt, answer):
        text, end = tokenizer(f"{prompt} {answer}")["input_ids"], [tokenizer.eos_token_id]
        log_probs = model(input_ids=torch.tensor([[*text, *end]])).logits[0].log_softmax(dim=-1)
        first = len(prompt.split())
        return sum(log_probs[place - 1, token] for place, token in enumerate([*text, *end]) if place >= first)

    policy.zero_grad()
    total, seen = torch.zeros((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for prompt, *pair in ROWS:
        high, low = (
            0.3 * (log_probability(policy, prompt, answer) - log_probability(reference.model, prompt, answer).detach())
            for answer in pair
        )
        total = total - torch.log(1 / (1 + torch.exp(-(high - low))))
        seen += torch.stack([(high > low).double(), high, low]).detach()
    total.backward()
    expected = [total.detach(), seen, *(parameter.grad.clone() for parameter in policy.parameters())]
    assert abs(total.item() / len(ROWS) - math.log(2)) > 0.01
    found = gradients(policy, reference, [collate_comparisons(examples, tokenizer.pad_token_id)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert all(parameter.grad is None for parameter in reference.model.parameters())


def test_reading_each_answer_once_is_the_same_as_reading_every_pair_by_itself(double):
    policy, reference, tokenizer, examples = double
    together = collate_comparisons(examples, tokenizer.pad_token_id)
    assert (len(together[0].ids), len(together[1])) == (3 + 2 + 3, len(ROWS))
    separate = [
        collate_comparisons([Comparisons(e.prompt, [e.answers[c], e.answers[r]], [(0, 1)])], tokenizer.pad_token_id)
        for e in examples
        for c, r in e.pairs
    ]
    found, expected = (gradients(policy, reference, items) for items in ([together], separate))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "adapters"])
def test_at_the_start_the_loss_is_log_two_and_every_margin_zero(start, tmp_path, kind):
    change = {}
    if kind == "adapters":
        pytest.importorskip("peft")
        change["lora_rank"] = 2
    log = []
    trained(start / ("gpt2" if kind == "gpt2" else "llama"), tmp_path, "out", ROWS, log, **change)
    for name in ("margin", "chosen_reward", "rejected_reward", "accuracy"):
        assert log[0][name] == 0
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert log[0]["grad_norm"] > 0.01
    assert log[1]["margin"] > 0
    assert log[-1]["loss"] < math.log(2) - 1e-3


def test_the_log_tells_the_mean_rewards_of_the_policy_before_each_step(start, run):
    log = []
    # The first steps of one step's schedule and of two's are the same, so the second line is about `folder`.
    folder = run("out", ROWS, log, steps=1, learning_rate=3e-2, beta=0.5)
    again = []
    trained(folder, folder.parent, "again", ROWS, again, steps=1, beta=0.5)
    assert again[0]["margin"] == 0  # the reference is what training starts from, and not what that had started from
    two = []
    run("two", ROWS, two, steps=2, learning_rate=3e-2, beta=0.5)
    found = rewards(folder, start / "llama", 0.5, [row for p, c, r in ROWS for row in ((p, c), (p, r))])
    chosen, rejected = np.array(found[::2]), np.array(found[1::2])
    expected = {
        "chosen_reward": chosen.mean(),
        "rejected_reward": rejected.mean(),
        "margin": (chosen - rejected).mean(),
        "accuracy": (chosen > rejected).mean(),
        "loss": np.log1p(np.exp(rejected - chosen)).mean(),
    }
    assert {name: two[1][name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert abs(two[1]["margin"]) > 0.01


def test_microbatches_of_unequal_pairs_change_nothing(run):
    logs = {size: [] for size in (0, 1, 2)}
    folders = [run(f"out-{size}", ROWS, logs[size], microbatch_size=size) for size in logs]
    expected, *others = (load_file(folder / "model.safetensors") for folder in folders)
    for found in others:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for size in (1, 2):
        for found, step in zip(logs[size], logs[0], strict=True):
            assert found == pytest.approx(step, rel=1e-4, abs=1e-5)


# ---- The reference ----


@pytest.mark.parametrize("rank", [0, 2])
def test_the_reference_is_the_start_to_the_last_bit_however_long_it_is_trained(run, start, monkeypatch, tmp_path, rank):
    if rank:
        pytest.importorskip("peft")
    made = []

    class Watched(Reference):
        def __init__(self, policy, *args):
            super().__init__(policy, *args)
            made.append((self, policy))

    monkeypatch.setattr(dpo, "Reference", Watched)
    run("out", ROWS, steps=20, lora_rank=rank)
    ((reference, policy),) = made
    tokenizer = load_tokenizer(str(start / "llama"))
    batch, *_ = collate_comparisons(read_comparisons(tmp_path / "out.jsonl", tokenizer), tokenizer.pad_token_id)
    untouched = load_policy(str(start / "llama"))
    expected = dpo.completion_log_probs(untouched, batch)
    assert torch.equal(reference.log_probs(batch), expected)
    assert not reference.log_probs(batch).requires_grad
    assert (dpo.completion_log_probs(policy, batch) - expected).abs().max() > 0.1
    if not rank:
        for name, weight in untouched.state_dict().items():
            assert torch.equal(reference.model.state_dict()[name], weight)


# ---- The optimum ----

STRENGTHS = {"one": (1, 2, 3, 6), "two": (5, 1, 1, 2), "three three": (1, 4, 2, 3)}
ANSWERS = ("red", "blue green", "warm", "")


def population():
    """Every pair as often as Bradley–Terry expects: of strengths a and b, a is chosen a times in a + b."""
    return [
        (prompt, ANSWERS[i], ANSWERS[j])
        for prompt, strengths in STRENGTHS.items()
        for i, j in itertools.permutations(range(len(ANSWERS)), 2)
        for _ in range(strengths[i])
    ]


@pytest.mark.parametrize(("beta", "sign"), [(0.5, 1), (0.1, 1), (0.5, -1)])
def test_the_optimum_s_implied_rewards_differ_as_the_utilities_do(run, start, beta, sign):
    rows, log = population() if sign > 0 else flipped(population()), []
    folder = run("out", rows, log, steps=300, learning_rate=1e-2, warmup_steps=10, beta=beta)
    for prompt, strengths in STRENGTHS.items():
        found = np.array(rewards(folder, start / "llama", beta, [(prompt, answer) for answer in ANSWERS]))
        utilities = sign * np.log(strengths)
        assert found - found.mean() == pytest.approx(utilities - utilities.mean(), abs=0.02)
    chances = [(a, a / (a + b)) for strengths in STRENGTHS.values() for a, b in itertools.permutations(strengths, 2)]
    least = -sum(count * math.log(p) for count, p in chances) / sum(count for count, _ in chances)
    assert least - 1e-5 < log[-1]["loss"] < least + 1e-4


def test_labels_that_are_swapped_turn_the_margins_round(run, start):
    for name, rows, share in (("right", ROWS, 1.0), ("wrong", flipped(ROWS), 0.0)):
        folder = run(name, rows, steps=40)
        found = rewards(folder, start / "llama", 0.1, [row for p, c, r in ROWS for row in ((p, c), (p, r))])
        assert np.mean(np.array(found[::2]) > np.array(found[1::2])) == share


def test_pairs_of_equal_answers_alone_are_refused_in_one_line(run, tmp_path):
    with pytest.raises(UserError, match=r"out\.jsonl: no pair has two different answers") as caught:
        run("out", [("one", "red", "red")] * 3)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_negative_beta_is_refused():
    values = {"model": "m", "data": "d", "output": "o", "steps": 1, "batch_size": 1, "learning_rate": 0.1}
    assert read_recipe(DPOArguments, None, values).beta == 0.1
    with pytest.raises(UserError, match="field 'beta' is -1"):
        read_recipe(DPOArguments, None, values | {"beta": -1})
