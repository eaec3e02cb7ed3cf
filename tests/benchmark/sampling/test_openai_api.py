"""OpenAI-compatible endpoints: a real server with a real model, the openai client, and every fault on the way."""

import json
import shutil
from unittest.mock import patch

import pytest
from openai_server import BadRequestError, Fault, OpenAIServer

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling import kv_cache
from benchmark.sampling.model import build
from benchmark.sampling.openai_api import OpenAISampler
from benchmark.sampling.sampler import PartlyDrawn, Request
from benchmark.suites import load_suite

SUITE = load_suite("pocket")
SAMPLING = SUITE.sampling.model_copy(update={"k": 4, "temperatures": (0.0, 1.0)})
TEXTS = ("my puppy is driving me crazy . tl;dr", "the oven . tl;dr")
PROMPTS = [Prompt(task="t", doc_id=str(n), text=text, references=("dog",), doc={}) for n, text in enumerate(TEXTS)]
REQUESTS = [Request(prompt, t, i) for prompt in PROMPTS for t in SAMPLING.temperatures for i in range(SAMPLING.k)]
COMPLETION, CHAT = "local-completions", "local-chat-completions"
ENDPOINT = {COMPLETION: "completions", CHAT: "chat/completions"}


@pytest.fixture
def server(checkpoint):
    with OpenAIServer(checkpoint) as running:
        yield running


def make(server, backend=COMPLETION, **arguments):
    return OpenAISampler(backend, {"model": server.name, "base_url": server.url, "max_retries": 2, **arguments})


@pytest.mark.parametrize("backend", [COMPLETION, CHAT])
@pytest.mark.parametrize("whole", [True, False])
def test_every_cell_is_one_request_with_every_field_and_a_seed_of_its_own(server, backend, whole):
    url = f"{server.url}/{ENDPOINT[backend]}" if whole else server.url
    sampler = build(f"{backend}:model={server.name},base_url={url},num_concurrent=3", SUITE, {}).sampler
    samples = sampler.draw(REQUESTS, SAMPLING)
    assert [s.cell for s in samples] == [(r.prompt.doc_id, r.temperature, r.index) for r in REQUESTS]
    assert len(server.bodies) == len(REQUESTS)
    assert {asked.path for asked in server.asked} == {f"/v1/{ENDPOINT[backend]}"}
    assert len({body["seed"] for body in server.bodies}) == len(REQUESTS)
    text = "messages" if backend == CHAT else "prompt"
    fields = {"max_tokens", "min_p", "model", "n", "repetition_penalty", "seed", "temperature", "top_k", "top_p", text}
    for body in server.bodies:
        assert set(body) == fields | ({"logprobs"} if body["temperature"] == 1 else set())
    assert {(b["top_k"], b["top_p"], b["max_tokens"], b["n"]) for b in server.bodies} == {(-1, 1.0, 20, 1)}
    for prompt in PROMPTS:
        texts = {t: [s.text for s in samples if (s.doc_id, s.temperature) == (prompt.doc_id, t)] for t in (0.0, 1.0)}
        assert len(set(texts[0.0])) == 1
        assert len(set(texts[1.0])) == 4


def test_the_same_run_again_gives_the_same_samples_and_another_seed_others(server):
    sampler = make(server)
    first = sampler.draw(REQUESTS, SAMPLING)
    assert sampler.draw(REQUESTS[::-1], SAMPLING)[::-1] == first
    assert sampler.draw(REQUESTS, SAMPLING.model_copy(update={"seed": 5})) != first


def test_no_seed_is_sent_where_none_is_wanted(server):
    sampler = make(server, seed=None)
    texts = [sample.text for sample in sampler.draw(REQUESTS[4:8], SAMPLING)]
    assert all("seed" not in body for body in server.bodies)
    assert len(set(texts)) == 4
    assert sampler.identity(SAMPLING).arguments["seed"] == "none"
    assert sampler.identity(SAMPLING) != make(server).identity(SAMPLING)


def test_records_say_how_an_output_ended_and_how_long_it_is(server):
    sampling = SAMPLING.model_copy(update={"k": 16, "temperatures": (1.3,)})
    requests = [Request(prompt, 1.3, index) for prompt in PROMPTS for index in range(16)]
    samples = make(server).draw(requests, sampling)
    assert {sample.finish_reason for sample in samples} == {"stop", "length"}
    for sample in samples:
        assert (sample.n_tokens == sampling.max_new_tokens) or sample.finish_reason == "stop"
        assert len(sample.text.split()) <= sample.n_tokens


def test_stop_strings_are_sent_only_if_there_are_some_and_are_cut_off(server):
    free = make(server).draw(REQUESTS, SAMPLING)
    word = next(s.text.split()[2] for s in free if len(s.text.split()) > 4)
    stopped = make(server).draw(REQUESTS, SAMPLING.model_copy(update={"stop": (word,)}))
    assert all("stop" not in body for body in server.bodies[: len(REQUESTS)])
    assert all(body["stop"] == [word] for body in server.bodies[len(REQUESTS) :])
    for before, after in zip(free, stopped, strict=True):
        assert after.text == before.text.split(word)[0]
        assert word not in before.text or after.finish_reason == "stop"


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(429, {"Retry-After": "0"}), Fault(429, {"retry-after-ms": "1"}), Fault(0)]
)
def test_transient_faults_are_tried_again(checkpoint, fault):
    with OpenAIServer(checkpoint) as server:
        whole = make(server).draw(REQUESTS, SAMPLING)
    some = {body["seed"] for body in server.bodies[::5]}
    with OpenAIServer(checkpoint, fault=lambda b, before: fault if b["seed"] in some and not before else None) as shaky:
        assert make(shaky).draw(REQUESTS, SAMPLING) == whole
        assert len(shaky.bodies) == len(REQUESTS) + len(some)


def reply(reason="stop", *, tokens=1, **choice):
    """An answer as a server gives it, or one that is wrong in what is said here."""
    whole = {"index": 0, "finish_reason": reason, "text": "a", "message": {"role": "assistant", "content": "a"}}
    return Fault(200, body={"choices": [whole | choice], "usage": {"completion_tokens": tokens}})


EMPTY = [
    Fault(200, body={"choices": []}),
    Fault(200, body={"error": {"message": "overloaded"}}),
    Fault(200, body="hello"),
    Fault(200, body=b'{"choices": ['),
    *(Fault(200, body={"choices": choices}) for choices in ("abc", {"0": "a"}, ["a"], [None], [["a"]], 1)),
    reply(text=None, message=None),
    reply(text=1, message="a"),
    reply(text=["a"], message={"content": ["a"]}),
    reply("content_filter", text=None, message={"content": None}),
    reply(["a"]),
    reply(tokens=True),
    reply(text="\ud800", message={"content": "\ud800"}),
]


@pytest.mark.parametrize("backend", [COMPLETION, CHAT])
@pytest.mark.parametrize("fault", [Fault(400), Fault(500), Fault(0), *EMPTY])
def test_a_final_failure_keeps_what_was_drawn_and_becomes_no_sample(checkpoint, backend, fault):
    whole = {}
    with OpenAIServer(checkpoint) as server:
        whole = {s.cell: s for s in make(server, backend).draw(REQUESTS, SAMPLING)}
        broken = server.bodies[-1]["seed"]
    with OpenAIServer(checkpoint, fault=lambda body, _: fault if body["seed"] == broken else None) as server:
        sampler = make(server, backend, max_retries=0, num_concurrent=1)
        with pytest.raises(PartlyDrawn) as caught:
            sampler.draw(REQUESTS, SAMPLING)
    kept = caught.value.samples
    assert 0 < len(kept) < len(REQUESTS)
    assert all(whole[sample.cell] == sample for sample in kept)
    assert caught.value.reason.startswith(f"{backend} at 127.0.0.1: prompt ")
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("content", [None, ""])
def test_a_chat_model_that_ends_without_a_word_has_given_an_empty_answer(checkpoint, reason, content):
    empty = reply(reason, message={"role": "assistant", "content": content})
    with OpenAIServer(checkpoint, fault=lambda *_: empty) as server:
        samples = make(server, CHAT).draw(REQUESTS, SAMPLING)
    assert {(sample.text, sample.finish_reason, sample.n_tokens) for sample in samples} == {("", reason, 1)}


def test_after_a_final_failure_no_new_request_is_sent(checkpoint):
    with OpenAIServer(checkpoint, fault=lambda *_: Fault(400)) as server:
        with pytest.raises(PartlyDrawn) as caught:
            make(server, num_concurrent=2).draw(REQUESTS, SAMPLING)
        assert len(server.bodies) <= 2
    assert caught.value.samples == []


def test_a_server_that_is_not_there_is_one_line():
    sampler = build("local-completions:model=m,base_url=http://127.0.0.1:9/v1,max_retries=0", SUITE, {}).sampler
    with pytest.raises(PartlyDrawn, match=r"local-completions at 127\.0\.0\.1: .*Connection error"):
        sampler.draw(REQUESTS[:2], SAMPLING)


def test_the_key_is_sent_and_never_told(checkpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    back = Fault(401, body={"error": {"message": "no such key: sk-very-secret"}})
    with OpenAIServer(checkpoint, fault=lambda *_: back) as server:
        sampler = make(server)
        with pytest.raises(PartlyDrawn) as caught:
            sampler.draw(REQUESTS[:1], SAMPLING)
        assert server.asked[0].headers["authorization"] == "Bearer sk-very-secret"
    assert "401" in caught.value.reason
    assert "secret" not in caught.value.reason
    assert "secret" not in sampler.identity(SAMPLING).model_dump_json()


def test_identity_names_the_model_and_the_prompt_format_and_no_address(server):
    one, other = (make(server, backend).identity(SAMPLING) for backend in (COMPLETION, CHAT))
    assert (one.id, one.prompt_format) == (f"local-completions:{server.name}", "base")
    assert (other.id, other.prompt_format) == (f"local-chat-completions:{server.name}", "chat")
    assert "127.0.0.1" not in one.model_dump_json()
    assert one == make(server, num_concurrent=1, max_retries=9, timeout=5).identity(SAMPLING)


def test_openai_is_sent_its_own_protocol_alone(monkeypatch):
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        OpenAISampler("openai-chat-completions", {"model": "gpt"})
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    sampler = OpenAISampler("openai-chat-completions", {"model": "gpt"})
    assert sampler.base_url == "https://api.openai.com/v1"
    fields = sampler.payload(REQUESTS[0], SAMPLING)
    assert set(fields) == {"model", "messages", "temperature", "top_p", "n", "max_completion_tokens", "seed"}
    fields = OpenAISampler("openai-completions", {"model": "gpt"}).payload(REQUESTS[0], SAMPLING)
    assert set(fields) == {"model", "prompt", "temperature", "top_p", "n", "max_tokens", "seed"}
    with pytest.raises(UserError, match="has no top_k, and this sampling has 40"):
        sampler.draw(REQUESTS[:1], SAMPLING.model_copy(update={"top_k": 40}))
    strict = OpenAISampler(COMPLETION, {"model": "m", "base_url": "https://elsewhere/v1", "protocol": "openai"})
    assert "extra_body" not in strict.payload(REQUESTS[0], SAMPLING)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("local-completions:base_url=http://h/v1", "needs model="),
        ("local-completions:model=m", "needs base_url="),
        ("local-completions:model=m,base_url=h", "base_url must be of the form"),
        ("local-completions:model=m,base_url=http://h/v1/chat/completions", "base_url names the chat endpoint"),
        ("local-chat-completions:model=m,base_url=http://h/v1/completions", "base_url names the completion endpoint"),
        ("local-completions:model=m,base_url=http://h/v1,temperature=1", "no argument 'temperature'; there are: model"),
        ("local-completions:model=m,base_url=http://h/v1,seed=1234", "seed is per_sample or none, not 1234"),
        ("local-completions:model=m,base_url=http://h/v1,tokenized_requests=True", "prompts are sent as text"),
        (
            "local-completions:model=m,base_url=http://h/v1,num_concurrent=0",
            "num_concurrent must be a whole number of 1",
        ),
        ("local-completions:model=m,base_url=http://h/v1,timeout=soon", "timeout must be a number"),
        ("local-completions:model=m,base_url=http://h/v1,tokenizer=/no/where", "tokenizer=/no/where cannot be loaded"),
        ("local-completions:model=m,base_url=http://127.0.0.1:notaport/v1", "base_url must be of the form"),
        ("local-completions:model=m,base_url=http://127.0.0.1:99999/v1", "base_url must be of the form"),
        ("local-completions:model=m,base_url=http://[::1/v1", "base_url must be of the form"),
        ("local-completions:model=m,base_url=http://a host/v1", "base_url must be of the form"),
        ("local-completions:model=m,base_url=http://h/v1,num_concurrent=inf", "num_concurrent must be a whole number"),
        ("local-completions:model=m,base_url=http://h/v1,num_concurrent=1.5", "num_concurrent must be a whole number"),
        ("local-completions:model=m,base_url=http://h/v1,num_concurrent=None", "num_concurrent must be a whole number"),
        ("local-completions:model=m,base_url=http://h/v1,max_length=inf", "max_length must be a whole number of 1"),
        ("local-completions:model=m,base_url=http://h/v1,max_length=nan", "max_length must be a whole number of 1"),
        ("local-completions:model=m,base_url=http://h/v1,timeout=nan", "timeout must be a number of 1 or more"),
    ],
)
def test_a_wrong_argument_is_one_line(spec, says):
    with pytest.raises(UserError) as caught:
        build(spec, SUITE, {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("backend", "chat"), [(COMPLETION, True), (CHAT, False)])
def test_a_prompt_format_that_the_endpoint_has_not_is_refused(backend, chat):
    with pytest.raises(UserError, match="a chat endpoint; see local-"):
        build(f"{backend}:model=m,base_url=http://h/v1", SUITE, {}, chat=chat)


def test_a_tokenizers_own_code_is_never_run_nor_asked_about(checkpoint, tmp_path, monkeypatch):
    folder = shutil.copytree(checkpoint, tmp_path / "own-code")
    (folder / "config.json").unlink()
    told = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "y")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(f"local-completions:model=m,base_url=http://h/v1,tokenizer={folder}", SUITE, {})
    assert not asked
    assert not (tmp_path / "ran").exists()


def test_a_context_that_an_output_fills_is_told_by_both_numbers(server, checkpoint):
    sampler = make(server, tokenizer=str(checkpoint), max_length=SAMPLING.max_new_tokens)
    with pytest.raises(UserError, match=r"has room for 20 tokens, and max_new_tokens is 20, .*take a model with a l"):
        sampler.prepare(PROMPTS, SAMPLING)


LONG = Prompt(
    task="t", doc_id="l", text="a post . tl;dr", references=("d",), doc={}, chat="the oven", shortens="a post"
)


def test_chat_endpoints_are_sent_the_chat_message_and_others_the_text(server):
    assert [p.text for p in make(server).prepare([LONG], SAMPLING)] == ["a post . tl;dr"]
    assert [p.text for p in make(server, CHAT).prepare([LONG], SAMPLING)] == ["the oven"]


def test_a_budget_needs_a_tokenizer_or_a_word_that_prompts_go_whole(server, checkpoint):
    tight = SAMPLING.model_copy(update={"max_prompt_tokens": 3})
    with pytest.raises(
        UserError, match=r"may have more than its budget of 3 tokens, .* give local-completions tokenizer="
    ):
        make(server).prepare([LONG], tight)
    roomy = SAMPLING.model_copy(update={"max_prompt_tokens": len(LONG.text)})
    assert make(server).prepare([LONG], roomy)[0].text == LONG.text
    whole = make(server, tokenizer=None)
    assert whole.prepare([LONG], tight)[0].text == LONG.text
    assert whole.identity(tight).arguments["tokenizer"] == "none"
    counted = make(server, tokenizer=str(checkpoint))
    assert counted.prepare([LONG], tight)[0].text == "a . tl;dr"
    assert counted.shortened == {"t": 1}
    assert str(checkpoint) not in counted.identity(tight).model_dump_json()
    room = make(server, tokenizer=str(checkpoint), max_length=SAMPLING.max_new_tokens + 3)
    assert room.prepare([LONG], SAMPLING)[0].text == "a . tl;dr"


def test_a_chats_tokens_are_counted_with_its_template(server, checkpoint, tmp_path):
    from transformers import AutoTokenizer

    with pytest.raises(UserError, match="has no chat template"):
        make(server, CHAT, tokenizer=str(checkpoint))
    folder = shutil.copytree(checkpoint, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}hi everyone . {{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    sampler = make(server, CHAT, tokenizer=str(folder))
    prompt = LONG.model_copy(update={"chat": "the oven is cold", "shortens": "the oven is cold"})
    five = SAMPLING.model_copy(update={"max_prompt_tokens": 5})
    assert sampler.prepare([prompt], five)[0].text == "the oven"


# ---- Log-probabilities ----


class TellingServer(OpenAIServer):
    """Tells the log-probability of every token as servers do: of the plain logits, whatever it drew from."""

    def _complete(self, path, body):
        self._told = []
        reply = super()._complete(path, body)
        for choice, values in zip(reply["choices"], self._told, strict=True):
            if body.get("logprobs"):
                content = {"content": [{"token": "x", "logprob": value, "top_logprobs": []} for value in values]}
                listed = {"tokens": ["x"] * len(values), "token_logprobs": values, "top_logprobs": None}
                choice["logprobs"] = content if "message" in choice else listed
        return reply

    def _sample(self, prompt, body, number):
        import torch

        drawn = []
        sample = kv_cache.sample
        with patch.object(kv_cache, "sample", lambda *args, **options: drawn.extend(sample(*args, **options)) or drawn):
            found = super()._sample(prompt, body, number)
        [output] = drawn
        with torch.inference_mode():
            logits = self._model(torch.tensor([prompt + output.tokens])).logits[0, len(prompt) - 1 : -1]
        self._told.append(logits.log_softmax(-1).gather(-1, torch.tensor(output.tokens)[:, None])[:, 0].tolist())
        return found


@pytest.mark.parametrize("backend", [COMPLETION, CHAT])
def test_log_probabilities_are_those_of_our_own_sampler_where_the_draw_is_of_the_plain_logits(checkpoint, backend):
    own = build(str(checkpoint), SUITE, {}, device="cpu").sampler
    with TellingServer(checkpoint) as server:
        samples = make(server, backend).draw(REQUESTS, SAMPLING)
        assert {body.get("logprobs") for body in server.bodies} == {None, 1 if backend == COMPLETION else True}
        for changes in ({"top_p": 0.9}, {"top_k": 7}):
            cut = make(server, backend).draw(REQUESTS, SAMPLING.model_copy(update=changes))
            assert {sample.log_prob for sample in cut} == {None}
        warm = make(server, backend).draw([Request(PROMPTS[0], 1.3, 0)], SAMPLING)
        assert warm[0].log_prob is None
        assert all("logprobs" not in body for body in server.bodies[len(REQUESTS) :])
    for request, sample in zip(REQUESTS, samples, strict=True):
        if request.temperature == 0:
            assert sample.log_prob is None
            continue
        words = own.lm.tokenizer.encode(sample.text)
        if sample.n_tokens == len(words) + (sample.finish_reason == "stop"):  # no special word was left out of the text
            tokens = words + [1] * (sample.finish_reason == "stop")
            assert sample.log_prob == pytest.approx(
                plain_log_prob(own.model, own.encode(request.prompt), tokens), abs=6e-5
            )
    assert sum(sample.log_prob is not None for sample in samples) == 8


def plain_log_prob(model, prompt, tokens):
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None]).sum().item()


def test_a_server_that_ignores_the_question_tells_nothing(server):
    samples = make(server).draw(REQUESTS, SAMPLING)
    assert {sample.log_prob for sample in samples} == {None}
    assert any("logprobs" in body for body in server.bodies)


class RefusingServer(OpenAIServer):
    """Refuses to tell log-probabilities, as servers of reasoning models do."""

    def _complete(self, path, body):
        if "logprobs" in body:
            raise BadRequestError(400, "logprobs are not supported with this model")
        return super()._complete(path, body)


@pytest.mark.parametrize("backend", [COMPLETION, CHAT])
def test_a_server_that_refuses_the_question_is_asked_without_it_from_there_on(checkpoint, backend):
    with OpenAIServer(checkpoint) as server:
        whole = make(server, backend).draw(REQUESTS, SAMPLING)
    with RefusingServer(checkpoint) as server:
        sampler = make(server, backend, num_concurrent=1)
        assert sampler.draw(REQUESTS, SAMPLING) == whole
        assert sum("logprobs" in body for body in server.bodies) == 1
        assert len(server.bodies) == len(REQUESTS) + 1
        many = make(server, backend, num_concurrent=4)
        assert many.draw(REQUESTS, SAMPLING) == whole
        assert sum("logprobs" in body for body in server.bodies) <= 1 + 4


def test_a_refusal_for_another_reason_is_a_failure_and_nothing_is_learnt_of_it(checkpoint):
    back = Fault(400, body={"error": {"message": "too long: {'max_tokens': 20, 'logprobs': 1}"}})
    with OpenAIServer(checkpoint, fault=lambda *_: back) as server:
        sampler = make(server, num_concurrent=1)
        with pytest.raises(PartlyDrawn, match="too long"):
            sampler.draw(REQUESTS[4:8], SAMPLING)
        assert ["logprobs" in body for body in server.bodies] == [True, False]
        assert sampler.asks_log_probs
    with OpenAIServer(checkpoint, fault=lambda *_: Fault(400)) as server:
        with pytest.raises(PartlyDrawn):
            make(server, num_concurrent=1).draw(REQUESTS[4:8], SAMPLING)
        assert len(server.bodies) == 1


def listed(values):
    return {"tokens": ["x"], "token_logprobs": values}


def as_content(*values):
    return {"content": [{"token": "x", "logprob": value} for value in values]}


@pytest.mark.parametrize(
    ("backend", "tokens", "told", "log_prob"),
    [
        (COMPLETION, 2, listed([-0.5, -0.25]), -0.75),
        (COMPLETION, 2, listed([0, -0.25]), -0.25),
        (COMPLETION, 2, listed([-1.00004, -1.000011]), -2.0001),
        (COMPLETION, 0, listed([]), 0.0),
        (CHAT, 2, as_content(-0.5, -0.25), -0.75),
        # Of other tokens than were counted: some are hidden.
        (COMPLETION, 3, listed([-0.5, -0.25]), None),
        (COMPLETION, 1, listed([-0.5, -0.25]), None),
        (COMPLETION, None, listed([-0.5]), None),
        (CHAT, 2, as_content(-0.5), None),
        # No log-probabilities.
        (COMPLETION, 2, listed([None, -0.25]), None),
        (COMPLETION, 2, listed([0.1, -0.25]), None),
        (COMPLETION, 2, listed([-9999.0, -0.25]), None),
        (COMPLETION, 1, listed([float("nan")]), None),
        (COMPLETION, 1, listed([float("-inf")]), None),
        (COMPLETION, 1, listed(["x"]), None),
        (CHAT, 2, as_content(-0.5, None), None),
        # Other forms.
        (COMPLETION, 1, as_content(-0.5), None),
        (CHAT, 1, listed([-0.5]), None),
        (CHAT, 1, {"content": None}, None),
        (CHAT, 1, {"content": ["x"]}, None),
        (COMPLETION, 1, {"token_logprobs": "x"}, None),
        (COMPLETION, 1, [-0.5], None),
        (COMPLETION, 1, "x", None),
        (CHAT, 1, -0.5, None),
    ],
)
def test_what_a_server_tells_is_added_up_or_nothing_but_never_an_error(checkpoint, backend, tokens, told, log_prob):
    with OpenAIServer(checkpoint, fault=lambda *_: reply(tokens=tokens, logprobs=told)) as server:
        [sample] = make(server, backend).draw([REQUESTS[4]], SAMPLING)
    assert (sample.text, sample.n_tokens, sample.log_prob) == ("a", tokens, log_prob)
