"""Any lm-eval backend through its own generate_until, with real ones: `dummy`, `hf`, and APIs on a local server."""

import pytest
from lm_eval.api.registry import get_model
from openai_server import OpenAIServer

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling.generate_until import GenerateUntilSampler
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request
from benchmark.suites import load_suite

SAMPLING = load_suite("pocket").sampling.model_copy(update={"k": 4, "temperatures": (0.0, 1.0), "top_p": 0.9})
PROMPTS = [
    Prompt(task="t", doc_id=str(n), text=f"my {w} . tl;dr", references=("a",), doc={}) for n, w in enumerate("ab")
]
REQUESTS = [Request(prompt, t, i) for prompt in PROMPTS for t in SAMPLING.temperatures for i in range(SAMPLING.k)]


def test_every_request_gets_its_own_record_in_order():
    samples = GenerateUntilSampler(get_model("dummy")(), "dummy", "", batch_size=8).draw(REQUESTS, SAMPLING)
    assert [s.cell for s in samples] == [(r.prompt.doc_id, r.temperature, r.index) for r in REQUESTS]
    assert {(s.text, s.finish_reason, s.n_tokens) for s in samples} == {("lol", "unknown", None)}


def test_k_samples_stay_k_and_greedy_is_greedy(checkpoint):
    lm = get_model("hf").create_from_arg_obj({"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32"})
    samples = GenerateUntilSampler(lm, "hf", "", batch_size=64).draw(REQUESTS, SAMPLING)
    for prompt in PROMPTS:
        texts = {t: [s.text for s in samples if s.doc_id == prompt.doc_id and s.temperature == t] for t in (0.0, 1.0)}
        assert len(set(texts[0.0])) == 1
        assert len(set(texts[1.0])) == 4
    assert all(s.n_tokens is not None for s in samples)


@pytest.mark.parametrize("backend", ["local-completions", "local-chat-completions"])
def test_an_api_is_never_sent_the_same_seed_for_two_samples_of_a_prompt(backend):
    lm = get_model(backend)(
        model="m", base_url="http://127.0.0.1:9/v1", tokenizer_backend=None, tokenized_requests=False
    )
    sampler = GenerateUntilSampler(lm, backend, "m", batch_size=8)
    sent = [sampler._arguments(request, SAMPLING.model_copy(update={"stop": ("x",)})) for request in REQUESTS]
    for prompt in PROMPTS:
        own = [a["seed"] for a, r in zip(sent, REQUESTS, strict=True) if r.prompt == prompt]
        assert len(set(own)) == len(own) == 8
    assert all("top_k" not in arguments for arguments in sent)
    assert sent[5] == {
        "do_sample": True,
        "temperature": 1.0,
        "top_p": SAMPLING.top_p,
        "max_gen_toks": SAMPLING.max_new_tokens,
        "until": ["x"],
        "seed": sent[5]["seed"],
    }
    # What lm-eval makes of it: our seed stands, not its constant 1234.
    payload = lm._create_payload(
        [{"role": "user", "content": "x"}], generate=True, gen_kwargs=dict(sent[5]), eos="</s>"
    )
    assert payload["seed"] == sent[5]["seed"]
    assert payload["temperature"] == 1.0


API = {"model": "m", "max_retries": 1, "tokenizer_backend": None, "tokenized_requests": False}


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_not_there_is_one_line():
    lm = get_model("local-completions")(base_url="http://127.0.0.1:9/v1/completions", **API)
    with pytest.raises(UserError, match="backend azure failed: ") as caught:
        GenerateUntilSampler(lm, "azure", "m", batch_size=8).draw(REQUESTS[:2], SAMPLING)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "path"), [("local-completions", "completions"), ("local-chat-completions", "chat/completions")]
)
@pytest.mark.filterwarnings("ignore")
def test_an_api_model_of_lm_evals_is_asked_for_k_different_samples(checkpoint, backend, path):
    stop = SAMPLING.model_copy(update={"stop": ("END",)})
    with OpenAIServer(checkpoint) as server:
        address = {"base_url": f"{server.url}/{path}", "num_concurrent": 2, "model": server.name}
        sampler = GenerateUntilSampler(get_model(backend)(**API | address), backend, server.name, batch_size=16)
        samples = sampler.draw(REQUESTS, stop)
    assert [s.cell for s in samples] == [(r.prompt.doc_id, r.temperature, r.index) for r in REQUESTS]
    for prompt in PROMPTS:
        texts = {t: {s.text for s in samples if (s.doc_id, s.temperature) == (prompt.doc_id, t)} for t in (0.0, 1.0)}
        assert [len(texts[0.0]), len(texts[1.0])] == [1, 4]
    identity = sampler.identity(stop)
    assert identity.id == f"{backend}:{server.name}"
    assert identity.prompt_format == ("chat" if "chat" in backend else "base")
    assert "127.0.0.1" not in identity.model_dump_json()


LONG = Prompt(task="t", doc_id="l", text="my oven . tl;dr", references=("d",), doc={}, chat="my", shortens="my oven")


def test_prompts_are_fitted_to_a_local_models_budget(checkpoint):
    lm = get_model("hf").create_from_arg_obj({"pretrained": str(checkpoint), "device": "cpu", "dtype": "float32"})
    sampler = GenerateUntilSampler(lm, "hf", "tiny", batch_size=8)
    tight = SAMPLING.model_copy(update={"max_prompt_tokens": 3})
    assert [prompt.text for prompt in sampler.prepare([LONG], tight)] == ["my . tl;dr"]
    assert sampler.shortened == {"t": 1}
    full = LONG.model_copy(update={"text": "my " * 120, "shortens": None})
    with pytest.raises(UserError, match=r"hf:tiny: prompt l of t has 120 tokens, and its budget is 108"):
        sampler.prepare([full], SAMPLING)


def test_what_cannot_be_counted_goes_whole_where_it_surely_fits_and_is_refused_where_not():
    sampler = GenerateUntilSampler(get_model("dummy")(), "dummy", "", batch_size=8)
    assert sampler.prepare([LONG], SAMPLING)[0].text == LONG.text
    roomy = SAMPLING.model_copy(update={"max_prompt_tokens": len(LONG.text)})
    assert sampler.prepare([LONG], roomy)[0].text == LONG.text
    with pytest.raises(UserError, match="prompt l of t may have more than its budget of 14 tokens"):
        sampler.prepare([LONG], SAMPLING.model_copy(update={"max_prompt_tokens": len(LONG.text) - 1}))


def test_an_encoder_decoder_is_sampled_with_the_runs_seed(checkpoint, tmp_path):
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    folder = tmp_path / "t5"
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sampler = build(str(folder), load_suite("pocket"), {}, device="cpu").sampler
    assert isinstance(sampler, GenerateUntilSampler)
    first = sampler.draw(REQUESTS, SAMPLING)
    torch.manual_seed(99)
    assert sampler.draw(REQUESTS, SAMPLING) == first
    assert sampler.draw(REQUESTS, SAMPLING.model_copy(update={"seed": 5})) != first
    assert all(len(s.text.split()) <= SAMPLING.max_new_tokens for s in first)
    identity = sampler.identity(SAMPLING)
    assert identity.id == "hf:t5"
    assert identity.weights_sha256
    assert str(tmp_path) not in identity.model_dump_json()


def test_a_recurrent_model_is_sampled_with_the_runs_seed_and_its_own_template(checkpoint, tmp_path):
    import torch
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = "{% for m in messages %}hi everyone . {{ m['content'] }}{% endfor %}"
    torch.manual_seed(0)
    folder = tmp_path / "mamba"
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, state_size=4, eos_token_id=1)
    MambaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sampler = build(str(folder), load_suite("pocket"), {}, device="cpu").sampler
    assert isinstance(sampler, GenerateUntilSampler)
    assert sampler.chat
    first = sampler.draw(REQUESTS, SAMPLING)
    torch.manual_seed(99)
    assert sampler.draw(REQUESTS, SAMPLING) == first
    identity = sampler.identity(SAMPLING)
    assert (identity.id, identity.dtype) == ("hf:mamba", "float32")
    assert identity.weights_sha256
    assert identity.chat_template_sha256
    half = build(str(folder), load_suite("pocket"), {}, device="cpu", dtype="bfloat16").sampler
    assert half.identity(SAMPLING) != identity
