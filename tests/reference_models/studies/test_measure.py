"""The distance between two policies: exact where every completion can be listed, and equal to what runs recorded."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.records import Sample
from reference_models.studies.measure import divergences, share_of_others

END, VOCABULARY = 0, 3


def listed(length):
    """Every completion: words until the end, or until there is no more room."""
    for n in range(1, length + 1):
        for words in itertools.product(range(1, VOCABULARY), repeat=n):
            yield [*words[:-1], END] if n <= length else words
        if n == length:
            yield from (list(words) for words in itertools.product(range(1, VOCABULARY), repeat=n))


def completions(length):
    return sorted({tuple(one) for one in listed(length)})


def table(rng, length, scale):
    """Logits after every prefix."""
    prefixes = [p for n in range(length) for p in itertools.product(range(1, VOCABULARY), repeat=n)]
    return {prefix: rng.normal(0, scale, VOCABULARY) for prefix in prefixes}


def log_softmax(logits):
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def log_prob(tree, completion):
    return sum(log_softmax(tree[completion[:place]])[token] for place, token in enumerate(completion))


def stacked(tree, rows, length):
    empty = np.zeros(VOCABULARY)
    return torch.tensor(np.array([[tree[row[:t]] if t < len(row) else empty for t in range(length)] for row in rows]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.1, 3))
def test_both_estimates_have_the_exact_divergence_as_their_mean_and_entropies_add_up(seed, length, scale):
    rng = np.random.default_rng(seed)
    policy, reference = table(rng, length, scale), table(rng, length, scale)
    rows = completions(length)
    mine, other = (np.array([log_prob(tree, row) for row in rows]) for tree in (policy, reference))
    weights = np.exp(mine)
    assert weights.sum() == pytest.approx(1), "they are all completions there are"
    tokens = torch.tensor([[*row, *[END] * (length - len(row))] for row in rows])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (length - len(row)) for row in rows])
    found = divergences(stacked(policy, rows, length), stacked(reference, rows, length), tokens, mask)
    exact = float(weights @ (mine - other))
    assert float(found.kl.numpy() @ weights) == pytest.approx(exact, abs=1e-6)
    assert float(found.log_ratio.numpy() @ weights) == pytest.approx(exact, abs=1e-6)
    assert float(found.entropy.numpy() @ weights) == pytest.approx(float(-weights @ mine), abs=1e-5)
    assert found.log_ratio.numpy() == pytest.approx(mine - other, abs=1e-6)
    assert (found.kl >= -1e-9).all()


def test_a_policy_is_at_no_distance_from_itself_and_padding_adds_nothing():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    tokens, mask = torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    same = divergences(logits, logits, tokens, mask)
    assert same.kl.abs().max() == 0
    assert same.log_ratio.abs().max() == 0
    spoilt = logits.clone()
    spoilt[mask == 0] = math.nan
    assert torch.equal(divergences(spoilt, spoilt, tokens, mask).entropy, same.entropy)


def test_a_token_that_is_ruled_out_adds_nothing():
    logits = torch.tensor([[[0.0, 0.0, -math.inf]]])
    reference = torch.zeros(1, 1, 3)
    found = divergences(logits, reference, torch.tensor([[0]]), torch.ones(1, 1))
    assert found.kl.item() == pytest.approx(math.log(3 / 2))


def output(index, text="words", n_tokens=2, finish_reason="stop"):
    return Sample(
        task="t", doc_id="a", temperature=1.0, index=index, text=text, finish_reason=finish_reason, n_tokens=n_tokens
    )


@pytest.mark.parametrize("other", [{"text": "word"}, {"n_tokens": 3}, {"finish_reason": "length"}])
def test_an_output_drawn_again_is_the_same_only_in_text_length_and_end(other):
    held = {sample.cell: sample for sample in (output(0), output(1), output(2), output(3))}
    again = [output(0), output(1, **other), output(2), output(3)]
    assert share_of_others(again, held) == 0.25
    assert share_of_others(list(held.values()), held) == 0
    assert share_of_others([output(9)], held) == 1, "one that is not held is another"
