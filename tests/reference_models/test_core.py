"""Tokens, masks and log-probabilities against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference_models.core import collate, masked_mean, token_log_probs

tokens = st.lists(st.integers(3, 20), min_size=1, max_size=6)
pairs = st.lists(st.tuples(tokens, st.lists(st.integers(1, 20), max_size=5)), min_size=1, max_size=5)


@given(pairs)
def test_a_batch_holds_every_token_once_and_marks_completions_alone(rows):
    batch = collate([p for p, _ in rows], [c for _, c in rows], pad_token_id=0)
    for (prompt, completion), ids, attention, learned in zip(rows, *batch, strict=True):
        n = len(prompt) + len(completion)
        assert ids[:n].tolist() == [*prompt, *completion]
        assert attention.tolist() == [1] * n + [0] * (len(ids) - n)
        assert learned.tolist() == [0] * len(prompt) + [1] * len(completion) + [0] * (len(ids) - n)


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="a prompt is empty"):
        collate([[]], [[1]], 0)
    with pytest.raises(ValueError, match="at least one"):
        collate([], [], 0)
    with pytest.raises(ValueError, match="as many prompts"):
        collate([[1]], [], 0)


def test_log_probs_are_those_of_the_next_token():
    torch.manual_seed(0)
    logits, ids = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    found = token_log_probs(logits, ids)
    assert found.shape == (3, 4)
    for row in range(3):
        for position in range(4):
            expected = torch.log_softmax(logits[row, position], -1)[ids[row, position + 1]]
            assert found[row, position].item() == pytest.approx(expected.item(), abs=1e-6)


def test_every_token_counts_alike_whatever_its_sequence():
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert masked_mean(values, mask).item() == 4.0  # not (2 + 10) / 2
    with pytest.raises(ValueError, match="empty"):
        masked_mean(values, torch.zeros_like(mask))
