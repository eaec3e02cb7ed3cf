"""Tokens, masks, KL, advantages and losses against hand values and loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import core_checks

from reference_models import core
from reference_models.core import collate, gae, masked_mean, whiten

tokens = st.lists(st.integers(0, 20), min_size=1, max_size=6)
pairs = st.lists(st.tuples(tokens, st.lists(st.integers(0, 20), max_size=5)), min_size=1, max_size=5)
lengths = st.lists(st.integers(1, 7), min_size=1, max_size=6)
seeds = st.integers(0, 1000)
shares = st.floats(0, 1)


# ---- Tokens and masks ----


@given(pairs, st.integers(0, 20))
def test_a_batch_holds_every_token_once_and_marks_completions_alone(rows, pad):
    """Whatever the padding token's id: tokens drawn are tokens, equal to it or not."""
    batch = collate([p for p, _ in rows], [c for _, c in rows], pad_token_id=pad)
    left, right = max(len(p) for p, _ in rows), max(1, *(len(c) for _, c in rows))
    assert batch.ids.shape == batch.attention.shape == (len(rows), left + right)
    for (prompt, completion), ids, attention, positions, mask, drawn in zip(
        rows, batch.ids, batch.attention, batch.positions, batch.mask, batch.completions, strict=True
    ):
        before, n, after = left - len(prompt), len(prompt) + len(completion), right - len(completion)
        assert ids.tolist() == [pad] * before + [*prompt, *completion] + [pad] * after
        assert attention.tolist() == [0] * before + [1] * n + [0] * after
        assert positions[before : before + n].tolist() == list(range(n))
        assert mask.tolist() == [1] * len(completion) + [0] * after
        assert drawn[: len(completion)].tolist() == completion


@given(pairs, st.integers(0, 20))
def test_rows_that_end_together_are_no_longer_than_the_longest(rows, pad):
    batch = collate([p for p, _ in rows], [c for _, c in rows], pad_token_id=pad, end_together=True)
    width, drawn = max(len(p) + max(1, len(c)) for p, c in rows), max(1, *(len(c) for _, c in rows))
    assert batch.ids.shape == batch.attention.shape == (len(rows), width)
    assert batch.mask.shape == batch.completions.shape == (len(rows), drawn)
    for number, (prompt, completion) in enumerate(rows):
        own = [*prompt, *completion]
        assert batch.ids[number].tolist() == [pad] * (width - len(own)) + own
        assert batch.attention[number].tolist() == [0] * (width - len(own)) + [1] * len(own)
        assert batch.positions[number, width - len(own) :].tolist() == list(range(len(own)))
        assert batch.mask[number].tolist() == [0] * (drawn - len(completion)) + [1] * len(completion)
        assert batch.completions[number, drawn - len(completion) :].tolist() == completion


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="a prompt is empty"):
        collate([[]], [[1]], 0)
    with pytest.raises(ValueError, match="at least one"):
        collate([], [], 0)
    with pytest.raises(ValueError, match="as many prompts"):
        collate([[1]], [], 0)


def test_some_rows_of_a_batch_are_those_rows():
    batch = collate([[1], [2, 3]], [[4, 5], [6]], 0)
    assert [part.tolist() for part in batch.rows(slice(1, 2))] == [part[1:].tolist() for part in batch]


@given(pairs, st.integers(0, 20), st.data())
def test_a_tight_batch_is_as_long_as_its_own_longest_prompt_and_reads_the_same(rows, pad, drawn):
    kept = drawn.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, unique=True))
    batch = collate([p for p, _ in rows], [c for _, c in rows], pad_token_id=pad)
    some = batch.rows(torch.tensor(kept))
    tight = some.tight()
    longest = max(len(rows[number][0]) for number in kept)
    assert tight.ids.shape == (len(kept), longest + batch.mask.shape[1])
    assert torch.equal(tight.mask, some.mask)
    assert torch.equal(tight.completions, some.completions)
    read, before = tight.attention == 1, some.attention == 1
    assert torch.equal(tight.ids[read], some.ids[before])
    assert torch.equal(tight.positions[read], some.positions[before])


# ---- Numbers ----


def test_numbers_worked_out_by_hand():
    core_checks.hand_values()


@given(lengths, seeds)
def test_every_token_counts_alike_whatever_its_sequence(lengths, seed):
    core_checks.means(lengths, seed)


def test_a_mean_over_nothing_is_refused():
    with pytest.raises(ValueError, match="empty"):
        masked_mean(torch.ones(1, 2), torch.zeros(1, 2))


@given(lengths, seeds)
def test_whitened_values_have_mean_0_and_variance_1_over_tokens_and_are_0_elsewhere(lengths, seed):
    core_checks.whitening(lengths, seed)


def test_equal_values_are_whitened_to_nothing():
    assert whiten(torch.full((2, 3), 7.0), torch.ones(2, 3)).tolist() == [[0.0] * 3] * 2


@given(lengths, seeds)
def test_moments_of_a_batch_do_not_depend_on_how_it_is_split(lengths, seed):
    """``total`` adds up over processes: here it is told what the other process would have added."""
    rows = core_checks.random_rows([*lengths, 3], seed)
    values, mask = core_checks.padded(rows), core_checks.mask_of(rows)
    whole = whiten(values, mask)
    for cut in range(1, len(rows)):
        mine, other = slice(0, cut), slice(cut, None)
        mean = masked_mean(values, mask)
        theirs = iter(
            [
                mask[other].sum(),
                (values * mask)[other].sum(),
                mask[other].sum(),
                (values * mask)[other].sum(),
                mask[other].sum(),
                ((values - mean) ** 2 * mask)[other].sum(),
            ]
        )
        found = whiten(values[mine], mask[mine], lambda value, theirs=theirs: value + next(theirs))
        assert torch.allclose(found, whole[mine], atol=1e-9)


@given(lengths, seeds, shares, shares)
def test_advantages_are_the_discounted_sum_of_surprises(lengths, seed, gamma, lam):
    core_checks.advantages(lengths, seed, gamma, lam)


@given(lengths, seeds)
def test_advantages_at_lambda_1_are_rewards_to_go_less_values_and_at_0_one_step(lengths, seed):
    rewards, values = core_checks.random_rows(lengths, seed), core_checks.random_rows(lengths, seed + 1)
    tensors = core_checks.padded(rewards), core_checks.padded(values), core_checks.mask_of(values)
    core_checks.equal(
        gae(*tensors, 1.0, 1.0),
        [[sum(r[t:]) - v[t] for t in range(len(r))] for r, v in zip(rewards, values, strict=True)],
    )
    core_checks.equal(
        gae(*tensors, 1.0, 0.0),
        [[r[t] + [*v, 0.0][t + 1] - v[t] for t in range(len(r))] for r, v in zip(rewards, values, strict=True)],
    )


@given(lengths, seeds)
def test_the_score_lands_on_the_last_token_and_the_penalty_on_all(lengths, seed):
    core_checks.rewards(lengths, seed)


def test_only_k1_and_k3_estimate_the_kl_and_only_k1_pulls_towards_it():
    core_checks.estimates()


def test_not_to_stop_never_pays():
    core_checks.unfinished()


@given(seeds, st.integers(1, 4), st.integers(2, 6))
def test_the_baseline_is_the_mean_of_the_others(seed, prompts, n):
    core_checks.baselines(seed, prompts, n)


@given(seeds)
def test_losses_are_clipped_on_the_pessimistic_side(seed):
    core_checks.clipped_losses(seed)


@given(seeds)
def test_log_probabilities_and_entropies_are_those_of_the_softmax(seed):
    core_checks.log_probs(seed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_read_in_single_precision(dtype):
    logits = (8 * torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))).to(dtype)
    drawn = torch.zeros(2, 3, dtype=torch.long)
    assert core.token_log_probs(logits, drawn).dtype == torch.float32
    assert torch.equal(core.token_log_probs(logits, drawn), core.token_log_probs(logits.float(), drawn))
    assert torch.equal(core.entropy(logits), core.entropy(logits.float()))


def test_a_fair_coin_has_an_entropy_of_a_bit():
    assert core.entropy(torch.zeros(1, 1, 2)).item() == pytest.approx(0.6931472)
    assert core.entropy(torch.tensor([[[0.0, -torch.inf]]])).item() == 0.0
