"""The in-process sampler against one full forward pass a token, without cache, padding or batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import DynamicCache

from benchmark.sampling import caches, kv_cache
from benchmark.sampling.caches import FixedDecoder, RoomyCache, SharedCache
from benchmark.sampling.kv_cache import draw, expands, sample

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [5, 6]]
ROWS = [0, 0, 2, 1, 3, 3, 2, 1, 0]
TEMPERATURES = [0.3, 1.0, 1.0, 1.3, 0.7, 0.0, 2.0, 1.0, 0.0]
STEPS = 12


def noise():
    return torch.from_numpy(np.random.default_rng(0).random((len(ROWS), STEPS)))


def batched(model, rows=None, **kwargs):
    rows = range(len(ROWS)) if rows is None else rows
    options = {"eos_token_ids": [1], "pad_token_id": 0, "top_p": 1.0, "top_k": 0} | kwargs
    return sample(
        model, PROMPTS, [ROWS[r] for r in rows], [TEMPERATURES[r] for r in rows], noise()[list(rows)], **options
    )


def slow_shares(logits, temperature, top_p, top_k):
    """Probabilities of the next token, by loops over a plain list."""
    scaled = np.asarray(logits, float) / temperature
    weights = np.exp(scaled - max(scaled))
    ranked = sorted(range(len(weights)), key=lambda token: -scaled[token])
    if top_k:
        edge = scaled[ranked[min(top_k, len(ranked)) - 1]]
        weights = np.where(scaled < edge, 0.0, weights)
    weights = weights / weights.sum()
    mass, kept = 0.0, set()
    for token in ranked:
        if top_p == 1 or mass < top_p:
            kept.add(token)
        mass += weights[token]
    weights = [weight if token in kept else 0.0 for token, weight in enumerate(weights)]
    return [weight / sum(weights) for weight in weights]


def slow_draw(logits, temperature, uniform, top_p, top_k):
    """The same token, by a loop."""
    if temperature == 0:
        return int(np.argmax(logits))
    weights = slow_shares(logits, temperature, top_p, top_k)
    target, mass = uniform * sum(weights), 0.0
    for token, weight in enumerate(weights):
        mass += weight
        if mass > target:
            return token
    raise AssertionError


def one_by_one(model, row, eos=(1,), top_p=1.0, top_k=0):
    tokens = []
    for step in range(STEPS):
        with torch.inference_mode():
            logits = model(torch.tensor([PROMPTS[ROWS[row]] + tokens])).logits[0, -1]
        tokens.append(slow_draw(logits.tolist(), TEMPERATURES[row], noise()[row, step].item(), top_p, top_k))
        if tokens[-1] in eos:
            return tokens, True
    return tokens, False


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.8, 0), (1.0, 5), (0.7, 7)])
def test_a_batch_with_a_cache_and_padding_draws_what_single_full_passes_draw(request, family, top_p, top_k):
    model = request.getfixturevalue(family)
    found = batched(model, top_p=top_p, top_k=top_k)
    assert [(c.tokens, c.finished) for c in found] == [
        one_by_one(model, r, top_p=top_p, top_k=top_k) for r in range(len(ROWS))
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_sample_does_not_depend_on_its_batch(request, family):
    model = request.getfixturevalue(family)
    whole = batched(model)
    assert [batched(model, [row])[0] for row in range(len(ROWS))] == whole
    assert batched(model, [8, 3, 0]) == [whole[8], whole[3], whole[0]]


def test_outputs_end_at_the_end_of_sequence_token_and_only_there(llama):
    several = [1, 4, 9, 17]
    found = batched(llama, eos_token_ids=several)
    assert any(c.finished for c in found)
    for c in found:
        assert not set(c.tokens[:-1]) & set(several)
        assert c.finished == (c.tokens[-1] in several)
        assert c.finished or len(c.tokens) == STEPS


def test_a_stop_condition_ends_its_row_alone(llama):
    free = batched(llama, eos_token_ids=[])
    stopped = batched(llama, eos_token_ids=[], stop=lambda tokens: len(tokens) == 3 and tokens == free[1].tokens[:3])
    for before, after in zip(free, stopped, strict=True):
        same_start = before.tokens[:3] == free[1].tokens[:3]
        assert after.tokens == (before.tokens[:3] if same_start else before.tokens)
        assert after.finished == same_start


def test_the_padding_token_is_never_read(llama):
    assert batched(llama, pad_token_id=0) == batched(llama, pad_token_id=7)


def test_temperatures_are_never_rounded_to_the_models_dtype(llama, monkeypatch):
    import copy

    seen = []

    def spy(logits, temperature, *args, **kwargs):
        seen.extend(temperature.tolist())
        return draw(logits, temperature, *args, **kwargs)

    monkeypatch.setattr(kv_cache, "draw", spy)
    batched(copy.deepcopy(llama).bfloat16())
    assert set(seen) <= set(TEMPERATURES)


def test_a_model_is_tried_before_it_is_trusted(llama, gpt2):
    import copy

    from transformers import MambaConfig, MambaForCausalLM

    assert expands(llama)
    assert expands(gpt2)
    eager = copy.deepcopy(llama)
    eager.set_attn_implementation("eager")
    assert not expands(eager), "a mask made for fp64 overflows in a softmax in fp32"
    assert expands(eager.float())
    mamba = MambaForCausalLM(MambaConfig(vocab_size=23, hidden_size=16, num_hidden_layers=1, state_size=4))
    assert not expands(mamba.eval()), "a recurrent state is no cache to expand"


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True), st.data())
def test_a_draw_equals_the_slow_one(logits, uniform, data):
    temperature = data.draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    top_k = data.draw(st.integers(0, len(logits) + 1))
    row = torch.tensor([logits], dtype=torch.float64)
    cooled = torch.tensor([temperature], dtype=torch.float64)
    found = draw(row, cooled, torch.tensor([uniform]), top_p=1.0, top_k=top_k).tokens
    slow = slow_draw(logits, temperature, uniform, 1.0, top_k)
    # A uniform on the very edge between two tokens may fall to either side by rounding.
    near = [slow_draw(logits, temperature, min(max(uniform + e, 0), 1 - 1e-12), 1.0, top_k) for e in (-1e-9, 1e-9)]
    assert found.item() in {slow, *near}


@pytest.mark.parametrize("logits_together", [1, 2 * 23, 3 * 23 + 5])
def test_rows_drawn_in_parts_are_the_rows_drawn_alone(monkeypatch, logits_together):
    monkeypatch.setattr(kv_cache, "CPU_LOGITS", logits_together)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 23, generator=generator, dtype=torch.float64)
    temperature = torch.tensor([0.0, 1.0, 0.7, 1.0, 1.0, 0.0, 2.0], dtype=torch.float64)
    uniform = torch.rand(7, generator=generator, dtype=torch.float64)
    for top_p, top_k in ((1.0, 0), (0.8, 0), (1.0, 5)):
        found = draw(logits, temperature, uniform, top_p=top_p, top_k=top_k).tokens
        rows = zip(logits.tolist(), temperature.tolist(), uniform.tolist(), strict=True)
        assert found.tolist() == [slow_draw(row, t, u, top_p, top_k) for row, t, u in rows]


def test_draws_follow_the_tempered_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])
    n, temperature = 20_000, 0.7
    uniform = torch.from_numpy(np.random.default_rng(1).random(n))
    found = draw(logits.expand(n, -1), torch.full((n,), temperature), uniform, top_p=1.0, top_k=0).tokens
    expected = (logits.double() / temperature).softmax(-1).numpy() * n
    assert stats.chisquare(np.bincount(found.numpy(), minlength=5), expected).pvalue > 1e-3


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_no_token_outside_the_nucleus_or_of_no_probability_is_drawn(uniform):
    logits = torch.tensor([[-torch.inf, 3.0, 2.9, -5.0, -torch.inf]])
    drawn = draw(logits, torch.tensor([1.0]), torch.tensor([uniform]), top_p=0.9, top_k=0, log_probs=True)
    assert drawn.tokens.item() in (1, 2)
    assert -1 < drawn.log_probs.item() < 0


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_cache_of_fixed_size_draws_the_same_while_rows_drop_out(request, monkeypatch, name):
    model = request.getfixturevalue(name)
    rows = []
    step = FixedDecoder.step
    monkeypatch.setattr(FixedDecoder, "step", lambda self, *args: rows.append(len(args[0])) or step(self, *args))
    monkeypatch.setattr(caches, "RECORDING", 0)
    # A third of the vocabulary ends a row, so that rows are dropped from the batch on the way.
    plain, fixed = (batched(model, eos_token_ids=range(1, 8), graph=graph) for graph in (False, True))
    assert plain == fixed
    assert len({len(continuation.tokens) for continuation in fixed}) > 2
    assert rows[0] > rows[-1] > 0


def test_rows_stay_where_recording_a_step_without_them_would_take_longer(llama, monkeypatch):
    rows = []
    step = FixedDecoder.step
    monkeypatch.setattr(FixedDecoder, "step", lambda self, *args: rows.append(len(args[0])) or step(self, *args))
    plain, fixed = (batched(llama, eos_token_ids=range(1, 8), graph=graph) for graph in (False, True))
    assert plain == fixed
    assert len({len(continuation.tokens) for continuation in fixed}) > 2
    assert set(rows) == {len(ROWS)}, "their cache is small"


def test_it_is_asked_whether_the_ended_rows_are_worth_dropping_for_the_steps_that_are_left(llama, monkeypatch):
    asked, steps = [], []
    monkeypatch.setattr(FixedDecoder, "pays", lambda _, *args: asked.append((len(steps), *args)))
    step = FixedDecoder.step
    monkeypatch.setattr(FixedDecoder, "step", lambda self, *args: steps.append(1) or step(self, *args))
    drawn = batched(llama, eos_token_ids=range(1, 8), graph=True)
    budget, lengths = noise().shape[1], [len(continuation.tokens) for continuation in drawn]
    assert {done for done, *_ in asked} >= {1, 2}
    for done, dropped, left, vocabulary in asked:
        assert dropped == sum(length <= done + 1 for length in lengths) >= len(ROWS) / 4
        assert left == budget - 1 - done, "of the first token the prompt's own pass tells"
        assert vocabulary == llama.config.vocab_size


@pytest.mark.parametrize(("dropped", "steps", "pays"), [(3, 5, False), (3, 6, True), (4, 5, True), (2, 6, False)])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_dropping_rows_pays_by_the_bytes_that_are_not_read_any_more(monkeypatch, dropped, steps, pays, group, layers):
    cache = DynamicCache()
    for layer in range(layers):
        cache.update(torch.zeros(8, 2, 4, 16), torch.zeros(8, 2, 4, 16), layer)
    decoder = FixedDecoder(lambda: None, cache, torch.ones(8, 4, dtype=torch.long), room=3, heads=2 * group)
    held = 2 * layers * 2 * (4 + 3) * 16 * 4
    read = {1: held, 3: 7 * held}[group]
    monkeypatch.setattr(caches, "RECORDING", 15 * (read + 48 * 100) // layers)
    assert decoder.pays(dropped, steps, vocabulary=100) is pays


def test_a_model_whose_positions_look_at_the_data_is_not_recorded(llama, monkeypatch):
    cache = llama(input_ids=torch.tensor([[5, 6]]), use_cache=True).past_key_values
    assert FixedDecoder.fits(llama, cache)
    monkeypatch.setattr(llama.config, "rope_parameters", {"rope_type": "longrope"})
    assert not FixedDecoder.fits(llama, cache)


def test_a_short_model_is_tried_within_its_positions():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=23, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=None)
    assert expands(GPT2LMHeadModel(config).double().eval())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("prompts", [PROMPTS, [[5, 6, 7]] * 4], ids=["padded", "of one length"])
def test_prompts_that_are_kept_once_draw_the_same_while_rows_drop_out(request, monkeypatch, name, prompts):
    model = request.getfixturevalue(name)
    kept = []
    keep = SharedCache.keep
    monkeypatch.setattr(
        SharedCache, "keep", lambda self, rows: kept.append(len(self.prompts[0][0])) or keep(self, rows)
    )
    options = {"eos_token_ids": range(1, 5), "pad_token_id": 0, "top_p": 1.0, "top_k": 0}
    plain, shared = (
        sample(model, prompts, ROWS, TEMPERATURES, noise(), shared=shared, **options) for shared in (False, True)
    )
    assert plain == shared
    assert len({len(continuation.tokens) for continuation in shared}) > 2
    assert kept[0] == len(prompts)
    assert kept[-1] < len(prompts), "prompts whose outputs have all ended are dropped as well"
    assert model.config._attn_implementation == "sdpa", "the model attends as before"


def test_attention_of_another_kind_is_not_taken_for_ours(llama, monkeypatch):
    assert expands(llama, shared=True)
    attention = llama.model.layers[0].self_attn
    forward = type(attention).forward
    # A cap on the scores, as some models have, would be left out.
    monkeypatch.setattr(attention, "forward", lambda *args, **kwargs: forward(attention, *args, softcap=30.0, **kwargs))
    with pytest.raises(ValueError, match="softcap"):
        batched(llama, shared=True)
    assert not expands(llama, shared=True)
    assert llama.config._attn_implementation == "sdpa"


def test_a_cache_with_room_holds_what_a_growing_one_holds(llama):
    def cache():
        return llama(input_ids=torch.tensor([[5, 6], [7, 8]]), use_cache=True).past_key_values

    rows, (growing, roomy) = torch.tensor([1, 0, 1]), (cache(), cache())
    growing.batch_select_indices(rows)
    decoder = RoomyCache(roomy, rows, room=3)
    assert RoomyCache.fits(cache())
    for token in (3, 4, 5):
        tokens = torch.full((len(growing.layers[0].keys), 1), token)
        a, b = (llama(input_ids=tokens, past_key_values=one, use_cache=True).logits for one in (growing, roomy))
        assert torch.equal(a, b)
        if token == 4:
            growing.batch_select_indices(torch.tensor([0, 2]))
            decoder.keep(torch.tensor([0, 2]))
        for one, other in zip(growing.layers, roomy.layers, strict=True):
            assert torch.equal(one.keys, other.keys)
            assert torch.equal(one.values, other.values)


# ---- Log-probabilities ----


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True), st.data())
def test_a_draws_log_probability_is_that_of_its_token_among_those_that_could_be_drawn(logits, uniform, data):
    temperature = data.draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    top_k, top_p = data.draw(st.integers(0, len(logits) + 1)), data.draw(st.sampled_from([1.0, 0.37, 0.89]))
    row = torch.tensor([logits], dtype=torch.float64)
    cooled = torch.tensor([temperature], dtype=torch.float64)
    found = draw(row, cooled, torch.tensor([uniform]), top_p=top_p, top_k=top_k, log_probs=True)
    [log_prob], [token] = found.log_probs.tolist(), found.tokens.tolist()
    assert log_prob <= 0
    if temperature == 0:
        assert log_prob == 0
    else:
        # Equal logits at the edge of the nucleus may be the other way round; that changes no probability.
        shares = slow_shares(logits, temperature, top_p, top_k)
        share = max(shares[other] for other in range(len(logits)) if logits[other] == logits[token])
        near = {slow_shares(logits, temperature, top_p + e, top_k)[token] for e in (-1e-9, 1e-9)} - {0.0}
        assert any(log_prob == pytest.approx(np.log(one), abs=1e-9) for one in {share, *near} - {0.0})


def test_a_rare_tokens_log_probability_is_no_difference_of_sums():
    logits = torch.tensor([[0.0, -34.0]], dtype=torch.float64)
    last = torch.tensor([np.nextafter(1.0, 0.0)])
    found = draw(logits, torch.tensor([1.0]), last, top_p=1.0, top_k=0, log_probs=True)
    assert found.tokens.item() == 1
    assert found.log_probs.item() == pytest.approx(-34.0, abs=1e-12)


def slow_log_prob(model, row, tokens, top_p, top_k):
    """Sum over the tokens, each by one full pass over all before it."""
    total = 0.0
    for step, token in enumerate(tokens):
        with torch.inference_mode():
            logits = model(torch.tensor([PROMPTS[ROWS[row]] + tokens[:step]])).logits[0, -1]
        total += np.log(slow_shares(logits.tolist(), TEMPERATURES[row], top_p, top_k)[token])
    return total


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("way", [{}, {"shared": True}, {"graph": True}], ids=["plain", "shared", "graph"])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.8, 0), (1.0, 5), (0.7, 7)])
def test_an_outputs_log_probability_is_the_sum_over_its_own_tokens_in_every_way(request, family, way, top_p, top_k):
    model = request.getfixturevalue(family)
    # A third of the vocabulary ends a row, so that rows are dropped on the way, and some are dead weight before.
    options = {"eos_token_ids": range(1, 8), "top_p": top_p, "top_k": top_k, **way}
    found = batched(model, log_probs=True, **options)
    assert [c._replace(log_prob=None) for c in found] == batched(model, **options), "asking changes no draw"
    assert len({len(c.tokens) for c in found}) > 2
    for row, continuation in enumerate(found):
        if TEMPERATURES[row] == 0:
            assert continuation.log_prob is None
        else:
            exact = slow_log_prob(model, row, continuation.tokens, top_p, top_k)
            assert continuation.log_prob == pytest.approx(exact, abs=1e-9)


def test_a_stopped_outputs_log_probability_ends_with_it(llama):
    whole = batched(llama, eos_token_ids=[], log_probs=True)
    stopped = batched(llama, eos_token_ids=[], log_probs=True, stop=lambda tokens: len(tokens) == 3)
    for row, (before, after) in enumerate(zip(whole, stopped, strict=True)):
        assert after.tokens == before.tokens[:3]
        if TEMPERATURES[row]:
            assert after.log_prob == pytest.approx(slow_log_prob(llama, row, after.tokens, 1.0, 0), abs=1e-9)


def test_no_log_probability_is_told_that_was_not_asked_for(llama):
    assert {continuation.log_prob for continuation in batched(llama)} == {None}
    assert len(draw(torch.zeros(2, 3), torch.ones(2), torch.zeros(2), top_p=1.0, top_k=0).log_probs) == 0
