"""Scores of reward models against the stock forward pass, one unpadded sequence at a time."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark import reward_model
from benchmark.errors import UserError
from reference_models.tiny import make_checkpoint

PAD, EOS, VOCABULARY = 0, 1, 23
WORDS = ["red", "blue", "green", "warm", "cold", "wet", "is", "very"]
ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
ROWS = [[5, 6, 7, 8, 9, 10, 11, EOS], [12, EOS], [5, 6, 7], [13, 14, 15, 16, EOS]]


def llama():
    """Rotary positions."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    return LlamaForSequenceClassification(
        LlamaConfig(vocab_size=VOCABULARY, pad_token_id=PAD, eos_token_id=EOS, num_labels=1, **ARCHITECTURE)
    )


def gpt2():
    """Learned absolute positions."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    return GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=32,
            n_embd=32,
            n_layer=2,
            n_head=4,
            initializer_range=0.3,
            pad_token_id=PAD,
            eos_token_id=EOS,
            num_labels=1,
        )
    )


def roberta():
    """An encoder whose head is no linear layer, and whose positions begin behind the padding id."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    return RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=40,
            initializer_range=0.3,
            pad_token_id=PAD,
            num_labels=1,
        )
    )


MODELS = {make.__name__: make for make in (llama, gpt2, roberta)}


def make(kind):
    torch.manual_seed(0)
    return MODELS[kind]().eval()


@pytest.fixture(scope="module", params=list(MODELS))
def model(request):
    return make(request.param)


def stock(model, row):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([row])).logits[0, 0].item()


def padded(rows, side, filler=PAD):
    """Rows in one batch with padding on a side, or on both; ``filler`` is what stands there."""
    length = max(map(len, rows)) + 3
    ids = torch.full((len(rows), length), filler)
    attention = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        free = length - len(row)
        start = {"left": free, "right": 0, "both": free // 2}[side]
        ids[number, start : start + len(row)] = torch.tensor(row)
        attention[number, start : start + len(row)] = 1
    return ids, attention


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_score_is_the_stock_logit_whatever_the_padding(model, side):
    expected = [stock(model, row) for row in ROWS]
    assert max(expected) - min(expected) > 0.1
    with torch.inference_mode():
        found = reward_model.score_ids(model, *padded(ROWS, side))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_score_is_that_of_a_stock_batch(kind, side):
    model = make(kind)
    ids, attention = padded(ROWS, side)
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=attention, position_ids=positions).logits[:, 0]
        found = reward_model.score_ids(model, ids, attention)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_attention_mask_says_where_a_sequence_ends_and_no_token_id_does(kind, side):
    model = make(kind)
    rows = [[5, 6, PAD], [7, PAD, 8, 9, EOS], [10]]
    model.config.pad_token_id = VOCABULARY - 1  # so that the stock pass takes 0 for a token like any other
    expected = [stock(model, row) for row in rows]
    model.config.pad_token_id = PAD
    with torch.inference_mode():
        for filler in (PAD, EOS, 17):
            found = reward_model.score_ids(model, *padded(rows, side, filler))
            assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_stands_in_the_padding_is_never_read(model, wrapped):
    expected = [stock(model, row) for row in ROWS]
    if wrapped:  # as accelerate does; the stock forward is called, which looks for the padding id
        model.forward = model.forward
    with torch.inference_mode():
        for side, filler in (("left", 17), ("right", EOS), ("both", 5)):
            found = reward_model.score_ids(model, *padded(ROWS, side, filler))
            assert found.tolist() == pytest.approx(expected, abs=1e-5)
    vars(model).pop("forward", None)


def test_scores_are_normalised_as_the_configuration_says(model):
    batch = padded(ROWS, "right")
    with torch.inference_mode():
        raw = reward_model.score_ids(model, *batch)
        model.config.reward_mean, model.config.reward_std = 0.25, 4.0
        normalised = reward_model.score_ids(model, *batch)
    del model.config.reward_mean, model.config.reward_std
    assert normalised.tolist() == pytest.approx([(logit - 0.25) / 4.0 for logit in raw.tolist()], abs=1e-6)


def test_a_sequence_without_tokens_is_refused(model):
    ids, attention = padded(ROWS, "right")
    attention[1] = 0
    with pytest.raises(ValueError, match="a sequence is empty"):
        reward_model.score_ids(model, ids, attention)


def test_gradients_reach_every_weight_that_the_stock_pass_trains():
    model = make("llama")
    ids, attention = padded(ROWS, "right")
    reward_model.score_ids(model, ids, attention).sum().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    model(input_ids=ids, attention_mask=attention).logits.sum().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-4)


def test_a_wrapped_model_is_called_by_its_own_forward():
    model, calls = make("llama"), []
    batch = padded(ROWS, "left")
    with torch.inference_mode():
        expected = reward_model.score_ids(model, *batch)
        inner = model.forward
        model.forward = lambda **kwargs: calls.append("patched") or inner(**kwargs)
        found = reward_model.score_ids(model, *batch)

        class Parallel(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.module = make("llama")

            def forward(self, **kwargs):
                calls.append("parallel")
                return self.module(**kwargs)

        parallel = reward_model.score_ids(Parallel(), *batch)
    assert calls == ["patched", "parallel"]
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert parallel.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_half_precision_logits_are_normalised_in_single_precision():
    model = make("llama").bfloat16()
    assert reward_model.score_ids(model, *padded(ROWS, "right")).dtype == torch.float32


@pytest.mark.parametrize("kind", list(MODELS))
def test_fp32_weights_are_computed_with_in_fp64_on_a_cpu_and_others_as_they_are(kind):
    model = make(kind)
    assert reward_model.compute_exactly(model) == "float32, computed in float64"
    assert model.dtype == torch.float64
    assert reward_model.score_ids(model, *padded(ROWS, "left")).dtype == torch.float64
    half = make(kind).bfloat16()
    assert (reward_model.compute_exactly(half), half.dtype) == ("bfloat16", torch.bfloat16)


def test_a_model_that_is_not_finite_in_fp64_stays_as_it_was():
    model = make("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    class OverflowsInDouble(torch.nn.Module):
        def forward(self, hidden):
            return hidden * (float("nan") if hidden.dtype == torch.float64 else 1.0)

    model.model.norm = torch.nn.Sequential(model.model.norm, OverflowsInDouble())
    assert (reward_model.compute_exactly(model), model.dtype) == ("float32", torch.float32)
    assert all(
        torch.equal(weight, before[name.replace("norm.0.", "norm.")]) for name, weight in model.state_dict().items()
    )


# ---- Checkpoints and texts ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reward model with a word-level tokenizer."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    place = tmp_path_factory.mktemp("rm") / "tiny-rm"
    make_checkpoint(place, WORDS, seed=0, architecture=ARCHITECTURE)
    policy = LlamaConfig.from_pretrained(place)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=policy.vocab_size, num_labels=1, eos_token_id=1, bos_token_id=None, **ARCHITECTURE
    )  # no padding id: `load` has to set it
    model = LlamaForSequenceClassification(config)
    model.config.reward_mean, model.config.reward_std = 0.5, 2.0
    model.save_pretrained(place)
    return place


def edited(folder, tmp_path, file, **fields):
    copy = shutil.copytree(folder, tmp_path / "edited")
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return copy


def test_a_loaded_model_is_ready_to_score(folder):
    model, tokenizer = reward_model.load(str(folder))
    assert not model.training
    assert model.config.pad_token_id == tokenizer.pad_token_id == PAD
    assert reward_model.normalisation(model.config) == (0.5, 2.0)


def test_a_text_is_prompt_completion_and_an_end_where_it_has_one(folder):
    model, tokenizer = reward_model.load(str(folder), "cpu")
    prompts, completions = ["red is", "very", "red is", "red is"], ["warm", "wet cold blue", "very cold", ""]
    finished = [True, False, False, True]
    number = tokenizer.convert_tokens_to_ids
    by_hand = [
        [*map(number, f"{prompt} {completion}".split()), *([EOS] if end else [])]
        for prompt, completion, end in zip(prompts, completions, finished, strict=True)
    ]
    expected = [(stock(model, row) - 0.5) / 2.0 for row in by_hand]
    assert reward_model.score(model, tokenizer, prompts, completions, finished=finished) == pytest.approx(
        expected, abs=1e-5
    )
    ended = reward_model.score(model, tokenizer, prompts, completions)
    assert ended[0] == pytest.approx(expected[0], abs=1e-5)
    assert abs(ended[1] - expected[1]) > 1e-3
    with pytest.raises(ValueError, match="zip"):
        reward_model.score(model, tokenizer, prompts, completions[1:])


def test_special_tokens_stand_before_the_prompt_alone(folder):
    class WithStart:
        eos_token_id = EOS

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [*([2] if add_special_tokens else []), *(5 for _ in text.split())]}

    assert reward_model.encode(WithStart(), "a b", "c") == [2, 5, 5, 5, EOS]
    assert reward_model.encode(WithStart(), "a b", "c", finished=False) == [2, 5, 5, 5]


@pytest.fixture(scope="module")
def exact(folder):
    model, _ = reward_model.load(str(folder), "cpu")
    assert "float64" in reward_model.compute_exactly(model)
    return model


@given(st.lists(st.lists(st.integers(2, 10), min_size=1, max_size=12), max_size=8), st.integers(1, 9))
def test_a_score_does_not_depend_on_batch_order_or_neighbours(exact, sequences, batch_size):
    together = reward_model.score_sequences(exact, sequences, batch_size=batch_size)
    assert reward_model.score_sequences(exact, sequences[::-1])[::-1] == pytest.approx(together, abs=1e-12)
    alone = [reward_model.score_sequences(exact, [sequence])[0] for sequence in sequences]
    assert together == pytest.approx(alone, abs=1e-12)
    again = reward_model.score_sequences(exact, [*sequences, *sequences], batch_size=batch_size)
    assert again[: len(sequences)] == again[len(sequences) :]  # equal ones to the last bit


PROMPT = [5, 6, 7, 8]
ANSWERS = [[9, 10, EOS], [11], [12, 13, 14, 15, 16, EOS], [9, 10, EOS], [9, 10]]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_prompt_that_is_read_once_gives_the_scores_of_whole_sequences(kind, batch_size):
    model = make(kind).double()
    whole = [[*PROMPT, *answer] for answer in ANSWERS]
    found = reward_model.score_sequences(model, whole, batch_size=batch_size, one_prompt=True)
    assert found == pytest.approx(reward_model.score_sequences(model, whole), abs=1e-12)


@pytest.mark.parametrize(("kind", "times"), [("llama", 1), ("gpt2", 1), ("roberta", 0)])
def test_a_causal_model_reads_a_prompt_once_and_an_encoder_every_time(kind, times, monkeypatch):
    read, after = [], reward_model._scores_after
    monkeypatch.setattr(reward_model, "_scores_after", lambda *given: read.append(given[1]) or after(*given))
    reward_model.score_sequences(make(kind).double(), [[*PROMPT, *answer] for answer in ANSWERS], one_prompt=True)
    assert read.count(tuple(PROMPT)) == times


def seeing_what_follows():
    """Has a plain linear head, and looks ahead."""
    from transformers import Gemma3TextConfig, Gemma3TextForSequenceClassification

    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        pad_token_id=PAD,
        eos_token_id=EOS,
        num_labels=1,
        head_dim=8,
        use_bidirectional_attention=True,
        **ARCHITECTURE,
    )
    return Gemma3TextForSequenceClassification(config)


def with_long_rope():
    """Its positions are scaled once a sequence is longer than 16."""
    from transformers import Phi3Config, Phi3ForSequenceClassification

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [4.0] * 4, "short_factor": [1.0] * 4}
    config = Phi3Config(
        vocab_size=VOCABULARY,
        pad_token_id=PAD,
        eos_token_id=EOS,
        num_labels=1,
        original_max_position_embeddings=16,
        rope_parameters=rope | {"original_max_position_embeddings": 16},
        **ARCHITECTURE,
    )
    return Phi3ForSequenceClassification(config)


@pytest.mark.parametrize("make_model", [seeing_what_follows, with_long_rope])
def test_a_model_to_which_what_follows_a_prompt_changes_the_prompt_reads_whole_sequences(make_model):
    torch.manual_seed(0)
    model = make_model().eval()
    model.config.reward_mean = -20.0  # a shift makes no difference small
    whole = [[*PROMPT, *answer] for answer in ([9, 10, EOS], [11], [12, 13] * 8)]
    found = [reward_model.score_sequences(model, whole, batch_size=1, one_prompt=one) for one in (True, False)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert not reward_model._goes_on(model)


def test_no_sequences_have_no_scores():
    assert reward_model.score_sequences(make("llama"), [], one_prompt=True) == []


def test_scores_behind_one_prompt_are_normalised_and_padding_is_not_read():
    model = make("gpt2").double()
    model.config.reward_mean, model.config.reward_std = 3.0, 0.5
    whole = [[*PROMPT, *answer] for answer in ANSWERS]
    with torch.inference_mode():
        found = list(reward_model._scores_after(model, PROMPT, [tuple(answer) for answer in ANSWERS], 64))
    assert found == pytest.approx(reward_model.score_sequences(model, whole), abs=1e-12)


def test_a_sequence_that_begins_another_keeps_a_token_of_its_own():
    model = make("llama").double()
    nested = [[5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8, 9]]
    found = reward_model.score_sequences(model, nested, one_prompt=True)
    assert found == pytest.approx(reward_model.score_sequences(model, nested), abs=1e-12)


def test_a_sequence_that_the_model_has_no_positions_for_is_refused(exact):
    assert len(reward_model.score_sequences(exact, [[5] * 32])) == 1
    with pytest.raises(UserError, match="a sequence has 33 tokens, and the reward model reads at most 32"):
        reward_model.score_sequences(exact, [[5], [5] * 33])


def test_scores_that_are_no_numbers_are_refused(folder):
    model, tokenizer = reward_model.load(str(folder), "cpu")
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="scores are not numbers"):
        reward_model.score(model, tokenizer, ["red"], ["blue"])


@pytest.mark.parametrize(
    ("file", "fields", "says"),
    [
        ("config.json", {"num_labels": 2, "id2label": {"0": "a", "1": "b"}}, r"config\.json: num_labels is 2"),
        ("config.json", {"reward_std": 0.0}, r"config\.json: reward_mean 0\.5 and reward_std 0\.0 must"),
        ("config.json", {"reward_std": -1.0}, "must be numbers, the second above 0"),
        ("config.json", {"reward_mean": float("nan")}, "must be numbers"),
        ("config.json", {"reward_mean": "much"}, "is not a number"),
        ("config.json", {"num_hidden_layers": 3}, r"no weights for model\.layers\.2\."),
        ("tokenizer_config.json", {"pad_token": "</s>"}, r"the pad_token '</s>' that is its eos_token as well"),
        ("tokenizer_config.json", {"pad_token": None}, r"no pad_token; give it a pad_token of its own \(tok"),
        ("tokenizer_config.json", {"eos_token": None}, "no eos_token"),
    ],
)
def test_what_is_no_reward_model_is_one_line_that_names_the_place(folder, tmp_path, file, fields, says):
    with pytest.raises(UserError, match=says) as caught:
        reward_model.load(str(edited(folder, tmp_path, file, **fields)))
    assert str(tmp_path / "edited") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_language_model_is_no_reward_model_whatever_its_labels(tmp_path):
    make_checkpoint(tmp_path / "policy", WORDS, seed=0, architecture=ARCHITECTURE)
    with pytest.raises(UserError, match="num_labels is 2"):
        reward_model.load(str(tmp_path / "policy"))
    one = edited(tmp_path / "policy", tmp_path, "config.json", id2label={"0": "reward"}, label2id={"reward": 0})
    with pytest.raises(UserError, match=r"no weights for score\.weight; is it a reward model\?"):
        reward_model.load(str(one))


@pytest.mark.parametrize("damage", ["no folder", "no config", "truncated", "pickled", "code"])
def test_a_checkpoint_that_cannot_be_read_is_one_line(folder, tmp_path, damage):
    copy = shutil.copytree(folder, tmp_path / "broken")
    weights = copy / "model.safetensors"
    if damage == "no folder":
        shutil.rmtree(copy)
    elif damage == "no config":
        (copy / "config.json").unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "pickled":
        weights.unlink()
        torch.save({}, copy / "pytorch_model.bin")
    else:
        (copy / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        config = json.loads((copy / "config.json").read_text())
        theirs = {"AutoConfig": "theirs.Config", "AutoModelForSequenceClassification": "theirs.Model"}
        (copy / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": theirs}))
    with pytest.raises(UserError, match=r"cannot be loaded|no config\.json") as caught:
        reward_model.load(str(copy))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_model_without_a_limit_has_none():
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace())
    assert reward_model.max_length(SimpleNamespace(config=config)) is None
