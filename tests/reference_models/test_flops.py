"""Operations, beside what torch counts while a small model runs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from reference_models.arguments import TrainingArguments
from reference_models.flops import (
    Shape,
    forward_flops,
    generation_flops,
    ppo_flops,
    reward_flops,
    sft_flops,
    shape_of,
    training_flops,
)
from reference_models.models import make_trainable

OPT = {
    "num_hidden_layers": 5,
    "hidden_size": 16,
    "ffn_dim": 48,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "llama": {
        "model_type": "llama", "num_hidden_layers": 5, "hidden_size": 16, "intermediate_size": 40,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "tie_word_embeddings": False,
    },
    "opt": {"model_type": "opt", **OPT, "word_embed_proj_dim": 16, "vocab_size": 50},
    "opt of two widths": {"model_type": "opt", **OPT, "word_embed_proj_dim": 8, "vocab_size": 50},
    "gpt2": {"model_type": "gpt2", "n_layer": 5, "n_embd": 16, "n_head": 2, "vocab_size": 50},
}  # fmt: skip
BATCH, LENGTH = 3, 8
TOKENS = BATCH * LENGTH


def build(name, frozen=0.0):
    fields = dict(CONFIGS[name])
    config = AutoConfig.for_model(fields.pop("model_type"), **fields, attn_implementation="eager", pad_token_id=0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    return make_trainable(
        model,
        TrainingArguments(model="", data="", output="", steps=1, batch_size=1, learning_rate=1.0, frozen_layers=frozen),
    )


def counted(model, keep, *, backward):
    """What torch counts of a pass over a batch; ``keep`` tokens of each sequence are predicted from."""
    ids = torch.randint(3, 50, (BATCH, LENGTH))
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=keep).logits
        if backward:
            logits.sum().backward()
    return counter.get_total_flops()


def masked(shape, layers):
    """The half of attention that is computed in vain where the whole square is, as torch does it here."""
    return layers * TOKENS * 4 * shape.width * LENGTH / 2


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("keep", [1, 5])
def test_a_forward_pass_is_what_torch_counts_but_for_the_masked_half_of_attention(name, keep):
    shape = shape_of(CONFIGS[name])
    found = counted(build(name), keep, backward=False)
    assert found == forward_flops(shape, TOKENS, LENGTH, logits=BATCH * keep) + masked(shape, shape.layers)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frozen", [0.0, 0.6, 0.8])
def test_training_is_what_torch_counts_also_where_layers_are_frozen(name, frozen):
    shape = shape_of(CONFIGS[name])
    found = counted(build(name, frozen), 5, backward=True)
    needed = training_flops(shape, TOKENS, LENGTH, logits=BATCH * 5, frozen=frozen)
    trained = shape.layers - round(frozen * shape.layers)
    assert found == needed + masked(shape, shape.layers) + 2 * masked(shape, trained)


SHAPES = st.builds(
    Shape,
    layers=st.integers(1, 4),
    width=st.integers(2, 8),
    intermediate=st.integers(2, 9),
    vocabulary=st.integers(2, 20),
    matrices=st.sampled_from((2, 3)),
    kv_width=st.sampled_from((0, 1)),
    embedding=st.sampled_from((0, 3)),
    tied=st.booleans(),
)


def slowly(shape, places, predicting):
    """Operations of reading tokens at places, counted one product at a time; attention to half a place is half."""
    kv = shape.kv_width or shape.width
    total = 0.0
    for place in places:
        for _ in range(shape.layers):
            total += 2 * shape.width * (shape.width + kv + kv + shape.width)
            total += 2 * shape.matrices * shape.width * shape.intermediate
            total += 4 * shape.width * (place + 0.5)
        if shape.embedding and shape.embedding != shape.width:
            total += 2 * 2 * shape.embedding * shape.width
        if predicting(place):
            total += 2 * (shape.embedding or shape.width) * shape.vocabulary
    return total


@given(SHAPES, st.integers(1, 5), st.integers(1, 6), st.integers(1, 3))
def test_generation_reads_a_prompt_once_and_each_response_token_by_token(shape, prompt, response, samples):
    read = slowly(shape, range(prompt), lambda _: False)
    drawn = samples * slowly(shape, range(prompt, prompt + response), lambda _: True)
    found = generation_flops(shape, samples, prompt, response, samples=samples)
    assert found == pytest.approx(read + drawn)


@given(SHAPES, st.integers(2, 8), st.integers(1, 4))
def test_sft_and_reward_models_train_on_whole_sequences(shape, length, number):
    everything = slowly(shape, range(length), lambda place: place > 0)
    assert sft_flops(shape, number, length) == pytest.approx(3 * number * everything)
    few = slowly(shape, range(length), lambda place: place >= length - 2)
    assert sft_flops(shape, number, length, predicted=2) == pytest.approx(3 * number * few)
    nothing = slowly(shape, range(length), lambda _: False)
    assert reward_flops(shape, number, length) == pytest.approx(3 * 2 * number * nothing)


@given(SHAPES, st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_ppo_draws_scores_and_trains_with_every_model_it_has(shape, prompt, response, epochs, shared):
    length = prompt + response
    policy = slowly(shape, range(length), lambda place: place >= prompt)
    other = slowly(shape, range(length), lambda _: False)
    # Drawn; scored by policy, reference, reward model and value model; trained.
    wanted = policy + (policy + policy + other) + epochs * 3 * policy
    wanted += 0 if shared else other + epochs * 3 * other
    assert ppo_flops(shape, 7, prompt, response, epochs=epochs, shared=shared) == pytest.approx(7 * wanted)


def test_frozen_layers_cost_a_forward_pass_alone():
    shape = shape_of(CONFIGS["opt"])
    whole, frozen = (training_flops(shape, 10, 10, frozen=share) for share in (0.0, 0.8))
    assert forward_flops(shape, 10, 10) < frozen < whole == 3 * forward_flops(shape, 10, 10)
    assert ppo_flops(shape, 1, 5, 5, epochs=4, frozen=0.8) < ppo_flops(shape, 1, 5, 5, epochs=4)
    assert math.isclose(training_flops(shape, 10, 10, frozen=1.0), forward_flops(shape, 10, 10))
