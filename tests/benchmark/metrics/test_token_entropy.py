import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracles import exact_sequences, tiny_world
from scipy import stats

from benchmark.metrics import token_entropy
from benchmark.sampling.kv_cache import sample

EOS, LENGTH, N = 1, tiny_world.LENGTH, 8192
TEMPERATURES = (0.7, 1.0, 1.3)
CUTS = ((1.0, 0), (0.8, 0), (1.0, 2), (0.9, 2))
"""Top-p and top-k."""


@pytest.mark.parametrize(
    ("log_probs", "n_tokens", "expected"),
    [
        ([-1.0, -2.0], [2, 4], 0.5),
        ([-1.0, -3.0], [1, 7], 0.5),  # tokens count the same, and not outputs
        ([0.0, 0.0], [3, 1], 0.0),
        ([-3 * math.log(7)], [3], math.log(7)),
        ([0.0, -1.0], [0, 2], 0.5),
        ([np.nan, -1.0], [2, 2], np.nan),
        ([-1.0, -1.0], [np.nan, 2], np.nan),
        ([0.0, 0.0], [0, 0], np.nan),
        ([], [], np.nan),
    ],
)
def test_known_entropies(log_probs, n_tokens, expected):
    found = token_entropy.per_input(np.array([log_probs], float), np.array([n_tokens], float))
    assert found.shape == (1,)
    assert found[0] == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert math.copysign(1.0, found[0]) == 1.0 or math.isnan(found[0])


@pytest.mark.parametrize(
    ("log_probs", "n_tokens", "says"),
    [
        ([[-1.0]], [[1, 2]], "one shape"),
        ([[0.1]], [[1]], "at most 0"),
        ([[-np.inf]], [[1]], "finite"),
        ([[-1.0]], [[-1]], "at least 0"),
        ([[-1.0]], [[np.inf]], "finite"),
    ],
)
def test_what_is_no_log_probability_or_number_of_tokens_is_refused(log_probs, n_tokens, says):
    with pytest.raises(ValueError, match=says):
        token_entropy.per_input(np.array(log_probs), np.array(n_tokens, float))


def slow(log_probs, n_tokens):
    """Definition, output by output."""
    if any(math.isnan(one) for one in (*log_probs, *n_tokens)) or not sum(n_tokens):
        return math.nan
    return sum(-one for one in log_probs) / sum(n_tokens)


@given(
    st.tuples(st.integers(0, 4), st.integers(0, 5)).flatmap(
        lambda shape: st.tuples(
            arrays.arrays(float, shape, elements=st.floats(-50, 0) | st.just(math.nan)),
            arrays.arrays(float, shape, elements=st.integers(0, 9).map(float)),
        )
    )
)
def test_every_prompt_is_that_of_the_slow_one_and_alone(both):
    log_probs, n_tokens = both
    found = token_entropy.per_input(log_probs, n_tokens)
    assert found == pytest.approx(
        np.array([slow(*rows) for rows in zip(log_probs.tolist(), n_tokens.tolist(), strict=True)]),
        rel=1e-12,
        nan_ok=True,
    )
    assert np.all((found >= 0) | np.isnan(found))
    backwards = token_entropy.per_input(log_probs[:, ::-1], n_tokens[:, ::-1])
    assert backwards == pytest.approx(found, rel=1e-12, nan_ok=True)


# ---- A model whose outputs can all be listed ----


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A random policy of three tokens, made less even than it begins."""
    from transformers import AutoModelForCausalLM

    folder = tiny_world.make_policy(tmp_path_factory.mktemp("models") / "policy", seed=3)
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 6
    return model


def exact_log_probs(model, prompt, listed, temperature, top_p, top_k):
    """Log-probability of each listed output, token by token; -inf where it cannot be drawn."""
    if (top_p, top_k) == (1.0, 0):
        return exact_sequences.sequence_log_probs(model, prompt, listed, temperature).numpy()
    found = []
    for tokens in listed:
        total = 0.0
        for step, token in enumerate(tokens):
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + tokens[:step]])).logits[0, -1].tolist()
            weights = [math.exp(one / temperature) for one in logits]
            ranked = sorted(range(len(weights)), key=lambda one: -weights[one])
            kept = ranked[: top_k or None]
            mass = sum(weights[one] for one in kept)
            before = [sum(weights[one] for one in kept[:place]) / mass for place in range(len(kept))]
            kept = [one for one, share in zip(kept, before, strict=True) if share < top_p]
            mass = sum(weights[one] for one in kept)
            total += math.log(weights[token] / mass) if token in kept else -math.inf
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize(("temperature", "cut"), product(TEMPERATURES, CUTS))
def test_outputs_come_with_their_exact_log_probabilities_and_tell_the_exact_entropy(policy, temperature, cut):
    top_p, top_k = cut
    prompt = [EOS, 2]
    listed = exact_sequences.completions(3, EOS, LENGTH)
    exact = exact_log_probs(policy, prompt, listed, temperature, top_p, top_k)
    probabilities = np.exp(exact)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-12)

    noise = torch.from_numpy(np.random.default_rng(0).random((N, LENGTH)))
    drawn = sample(
        policy, [prompt], [0] * N, [temperature] * N, noise,
        eos_token_ids=[EOS], pad_token_id=0, top_p=top_p, top_k=top_k, log_probs=True,
    )  # fmt: skip
    place = {tuple(tokens): number for number, tokens in enumerate(listed)}
    outputs = np.array([place[tuple(continuation.tokens)] for continuation in drawn])
    log_probs = np.array([continuation.log_prob for continuation in drawn])
    assert np.abs(log_probs - exact[outputs]).max() < 1e-6

    counts, often = np.bincount(outputs, minlength=len(listed)), probabilities * N >= 5
    classes = [np.append(values[often], values[~often].sum()) for values in (counts, probabilities * N)]
    table = np.array(classes)[:, classes[1] >= 1e-9]
    assert stats.chisquare(*table).pvalue > 1e-3

    lengths = np.array([len(tokens) for tokens in listed], float)
    surprise = np.where(probabilities > 0, -exact, 0.0)
    entropy = (probabilities @ surprise) / (probabilities @ lengths)
    found = token_entropy.per_input(log_probs[None], lengths[outputs][None])[0]
    # The ratio's standard error, by the delta method with the exact moments.
    error = math.sqrt(probabilities @ (surprise - entropy * lengths) ** 2 / N) / (probabilities @ lengths)
    assert abs(found - entropy) < 4 * error
    assert 0 < entropy < math.log(3)
    assert error < 0.02


def test_the_expected_surprise_is_the_expected_sum_of_the_steps_entropies(policy):
    prompt = [EOS, 2]
    listed = exact_sequences.completions(3, EOS, LENGTH)
    exact = exact_log_probs(policy, prompt, listed, 1.0, 1.0, 0)
    steps = 0.0
    for head in {tuple(tokens[:step]) for tokens in listed for step in range(len(tokens))}:
        reached = sum(
            math.exp(one) for one, tokens in zip(exact, listed, strict=True) if tuple(tokens[: len(head)]) == head
        )
        with torch.inference_mode():
            shares = policy(torch.tensor([prompt + list(head)])).logits[0, -1].softmax(-1)
        steps += reached * float(-(shares * shares.log()).sum())
    assert -(np.exp(exact) @ exact) == pytest.approx(steps, rel=1e-12)


@pytest.mark.parametrize(("uniform", "expected"), [(True, math.log(3)), (False, 0.0)])
def test_a_model_to_which_all_is_equal_has_log_v_and_one_that_is_certain_0(policy, uniform, expected):
    import copy

    model = copy.deepcopy(policy)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.0 if uniform else 1e6)
    noise = torch.from_numpy(np.random.default_rng(0).random((64, LENGTH)))
    drawn = sample(
        model, [[EOS, 2]], [0] * 64, [1.0] * 64, noise,
        eos_token_ids=[EOS], pad_token_id=0, top_p=1.0, top_k=0, log_probs=True,
    )  # fmt: skip
    log_probs = np.array([[continuation.log_prob for continuation in drawn]])
    n_tokens = np.array([[len(continuation.tokens) for continuation in drawn]])
    assert token_entropy.per_input(log_probs, n_tokens)[0] == pytest.approx(expected, abs=1e-12)
