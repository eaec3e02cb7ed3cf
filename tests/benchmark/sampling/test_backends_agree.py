"""The in-process sampler, lm-eval's own Hugging Face loop and the exact softmax are one distribution over tokens."""

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from scipy import stats

from benchmark.records import Prompt, Sampling
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request
from benchmark.suites import load_suite
from reference_models.tiny import make_checkpoint

N, LEAST = 10_000, 1e-3
PROMPT = Prompt(task="t", doc_id="0", text="w3 w1 w4", references=(), doc={})
CASES = [(0.7, 1.0), (1.3, 1.0), (1.0, 0.8)]
"""Temperature and top-p."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model of 84 tokens, more than top-k's silent default of 50, and rather sure of the likely ones."""
    folder = tmp_path_factory.mktemp("models") / "model"
    architecture = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "initializer_range": 0.25,
    }
    make_checkpoint(folder, [f"w{n}" for n in range(80)], seed=0, architecture=architecture)
    return folder


def sampling_of(temperature, top_p):
    return Sampling(k=N, temperatures=(temperature,), top_p=top_p, top_k=0, max_new_tokens=2, stop=(), seed=0)


@pytest.fixture(scope="module")
def in_process(model):
    return build(str(model), load_suite("pocket"), {}, device="cpu").sampler


def ours(sampler, temperature, top_p):
    """Pairs of tokens, drawn in process: [N, 2], -1 behind an end."""
    requests = [Request(PROMPT, temperature, index) for index in range(N)]
    outputs = [c.tokens for c in sampler.continuations(requests, sampling_of(temperature, top_p))]
    return np.array([[*tokens, -1][:2] for tokens in outputs])


def theirs(sampler, temperature, top_p, top_k=0):
    """Pairs of tokens, drawn by what lm-eval's loop calls, before it makes them text."""
    lm = sampler.lm
    ids = torch.tensor([lm.tok_encode(PROMPT.text)] * N)
    torch.manual_seed(1)
    drawn = lm._model_generate(
        context=ids, attention_mask=torch.ones_like(ids), max_length=ids.shape[1] + 2, stop=[],
        do_sample=True, temperature=temperature, top_p=top_p, **({} if top_k is None else {"top_k": top_k}),
    )[:, ids.shape[1] :].numpy()  # fmt: skip
    drawn[drawn[:, 0] == lm.tokenizer.eos_token_id, 1] = -1
    return drawn


def exact(sampler, tokens, temperature, top_p):
    """Probabilities of the next token, from one plain forward pass."""
    with torch.inference_mode():
        logits = sampler.model(torch.tensor([sampler.encode(PROMPT) + tokens])).logits[0, -1].double()
    shares = (logits / temperature).softmax(-1).numpy()
    if top_p < 1:
        order = np.argsort(-shares)
        before = np.cumsum(shares[order]) - shares[order]
        shares[order[before >= top_p]] = 0
    return shares / shares.sum()


def against(counts, shares):
    """p-value of counts against probabilities; what is expected less than five times is one class."""
    assert not counts[shares == 0].any(), "a token that cannot be"
    often = shares * counts.sum() >= 5
    classes = [np.append(values[often], values[~often].sum()) for values in (counts, shares * counts.sum())]
    if classes[1][-1] < 5:  # too few even together
        classes = [np.append(values[:-2], values[-2:].sum()) for values in classes]
    return stats.chisquare(*classes).pvalue


def between(one, other):
    """p-value of two tables of counts being of one distribution."""
    often = one + other >= 10
    table = np.array([np.append(counts[often], counts[~often].sum()) for counts in (one, other)])
    return stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue


def tables(drawn, size):
    """Counts of the first token, and of the second behind each of the three most frequent first ones."""
    first = np.bincount(drawn[:, 0], minlength=size)
    return first, lambda token: np.bincount(drawn[drawn[:, 0] == token, 1], minlength=size)


def frequent(first, eos):
    return [token for token in np.argsort(-first, kind="stable") if token != eos][:3]


@pytest.mark.parametrize(("temperature", "top_p"), CASES)
def test_first_and_second_tokens_are_of_one_distribution_and_it_is_the_tempered_softmax(in_process, temperature, top_p):
    size, eos = in_process.model.config.vocab_size, in_process.lm.tokenizer.eos_token_id
    drawn = [way(in_process, temperature, top_p) for way in (ours, theirs)]
    (first, second), (their_first, their_second) = (tables(pairs, size) for pairs in drawn)
    shares = exact(in_process, [], temperature, top_p)
    ps = [between(first, their_first), against(first, shares), against(their_first, shares)]
    for token in frequent(first, eos):
        shares = exact(in_process, [int(token)], temperature, top_p)
        ps += [
            between(second(token), their_second(token)),
            against(second(token), shares),
            against(their_second(token), shares),
        ]
    assert min(ps) > LEAST
    assert first.sum() == N


@pytest.mark.parametrize(
    ("planted", "temperature"), [({"temperature": 1.0}, 0.7), ({"temperature": 1.0}, 1.3), ({"top_k": 50}, 1.3)]
)
def test_a_wrong_temperature_or_the_silent_top_k_would_be_found(in_process, planted, temperature):
    size = in_process.model.config.vocab_size
    wrong = theirs(in_process, **({"temperature": temperature, "top_p": 1.0} | planted))
    first, their_first = (tables(pairs, size)[0] for pairs in (ours(in_process, temperature, 1.0), wrong))
    assert between(first, their_first) < 1e-12
    assert against(their_first, exact(in_process, [], temperature, 1.0)) < 1e-12


def test_lm_evals_loop_fills_in_the_top_k_that_is_planted_here(in_process):
    silent = theirs(in_process, 1.3, 1.0, top_k=None)
    assert (silent == theirs(in_process, 1.3, 1.0, top_k=50)).all()
    assert len(set(silent[:, 0])) == 50 < len(set(ours(in_process, 1.3, 1.0)[:, 0]))


def test_lm_evals_whole_loop_returns_the_texts_of_these_draws(in_process):
    lm = in_process.lm
    arguments = {
        "do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 0, "until": [], "max_gen_toks": 2,
    }  # fmt: skip
    clones = [Instance("generate_until", {}, (PROMPT.text, arguments), number) for number in range(N)]
    lm.batch_size_per_gpu = N
    torch.manual_seed(1)
    texts = lm.generate_until(clones, disable_tqdm=True)
    drawn = [[token for token in pair if token >= 0] for pair in theirs(in_process, 0.7, 0.8).tolist()]
    assert texts == lm.tokenizer.batch_decode(drawn, skip_special_tokens=True)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_what_is_drawn_does_not_depend_on_how_many_rows_are_drawn_together(in_process, top_p):
    whole = ours(in_process, 0.7, top_p)
    most, in_process.most_rows = in_process.most_rows, 777
    try:
        assert (ours(in_process, 0.7, top_p) == whole).all()
    finally:
        in_process.most_rows = most
