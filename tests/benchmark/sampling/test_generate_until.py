"""Any lm-eval backend through its own generate_until, with real ones: `dummy`, and `hf` driven that way."""

import pytest
from lm_eval.api.registry import get_model

from benchmark.records import Prompt
from benchmark.sampling.generate_until import GenerateUntilSampler
from benchmark.sampling.sampler import Request
from benchmark.suites import load_suite

SAMPLING = load_suite("pocket").sampling.model_copy(update={"k": 4, "temperatures": (0.0, 1.0)})
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
    sampler = GenerateUntilSampler(lm, backend, "", batch_size=8)
    sent = [sampler._arguments(request, SAMPLING) for request in REQUESTS]
    for prompt in PROMPTS:
        own = [a["seed"] for a, r in zip(sent, REQUESTS, strict=True) if r.prompt == prompt]
        assert len(set(own)) == len(own) == 8
    assert all("top_k" not in arguments for arguments in sent)
    # What lm-eval makes of it: our seed stands, not its constant 1234.
    payload = lm._create_payload(
        [{"role": "user", "content": "x"}], generate=True, gen_kwargs=dict(sent[5]), eos="</s>"
    )
    assert payload["seed"] == sent[5]["seed"]
    assert payload["temperature"] == 1.0
