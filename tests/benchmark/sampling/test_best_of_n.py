"""Best-of-n as a sampler, with a real policy and a real reward model, both small and untrained."""

import json
import shutil
from itertools import pairwise

import pytest
import torch

from benchmark import reward_model
from benchmark.errors import UserError
from benchmark.pipeline import identity
from benchmark.records import Manifest, Prompt
from benchmark.runs import Run
from benchmark.sampling.best_of_n import BestOfNSampler
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.sampling.generate_until import GenerateUntilSampler
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request, sample_run
from benchmark.suites import load_suite
from reference_models.tiny import make_checkpoint
from tasks.pocket.words import vocabulary

SUITE = load_suite("pocket")
TEXTS = ("my puppy is driving me crazy . tl;dr", "the oven . tl;dr", "officials said on tuesday . the bank . tl;dr")
PROMPTS = [Prompt(task="t", doc_id=str(n), text=text, references=("dog",), doc={}) for n, text in enumerate(TEXTS)]
SAMPLING = SUITE.sampling.model_copy(update={"k": 3, "temperatures": (0.7, 1.3), "max_new_tokens": 10})
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def make_reward_model(folder, words, **fields):
    """An untrained reward model; its tokenizer is that of a policy with the same words."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    make_checkpoint(folder, words, seed=0, architecture=ARCHITECTURE)
    size = LlamaConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=size, num_labels=1, pad_token_id=0, eos_token_id=1, bos_token_id=None, **ARCHITECTURE
    )
    for name, value in fields.items():
        setattr(config, name, value)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return make_reward_model(tmp_path_factory.mktemp("rm") / "judge", vocabulary(), reward_mean=0.5, reward_std=2.0)


@pytest.fixture(scope="module")
def ending(checkpoint, tmp_path_factory):
    """The policy, made to end some of its outputs before their budget."""
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("policy") / "ending")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[1] *= 3
    model.save_pretrained(folder)
    return folder


def spec(policy, scorer, n):
    return f"best-of-n:policy={policy},reward_model={scorer},n={n}"


def make(policy, scorer, n, **options):
    return build(spec(policy, scorer, n), SUITE, {}, device="cpu", **options).sampler


def requests(sampling=SAMPLING):
    return [Request(prompt, t, i) for prompt in PROMPTS for t in sampling.temperatures for i in range(sampling.k)]


def pool(policy, request, n, sampling=SAMPLING):
    """The outputs that a cell is the best of, drawn one by one: token ids and records."""
    asked = [Request(request.prompt, request.temperature, request.index * n + j) for j in range(n)]
    return [(policy.continuations([one], sampling)[0], policy.draw([one], sampling)[0]) for one in asked]


def score_by_stock_forward(folder, policy, prompt, continuation):
    """One sequence, no padding, fp64, the stock forward pass; the policy's ids with their own end if they have one."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    model.config.pad_token_id = None  # an untrained policy may well write the padding token; here it is none
    ids = torch.tensor([[*policy.encode(prompt), *continuation.tokens]])
    with torch.inference_mode():
        return (model(input_ids=ids).logits.item() - 0.5) / 2.0


def test_the_best_is_the_argmax_of_the_reward_over_the_cells_own_pool(ending, scorer):
    policy = build(str(ending), SUITE, {}, device="cpu").sampler
    n, ends, places = 4, set(), set()
    drawn = make(ending, scorer, n).draw(requests(), SAMPLING)
    for request, best in zip(requests(), drawn, strict=True):
        candidates = pool(policy, request, n)
        scores = [score_by_stock_forward(scorer, policy, request.prompt, tokens) for tokens, _ in candidates]
        place = max(range(n), key=scores.__getitem__)
        assert best == candidates[place][1].model_copy(update={"index": request.index, "log_prob": None})
        ends |= {record.finish_reason for _, record in candidates}
        places.add(place)
    assert ends == {"stop", "length"}
    assert len(places) > 1


def test_an_output_that_ran_to_its_budget_is_scored_without_an_end(ending, scorer):
    sampler = make(ending, scorer, 4)
    asked = [Request(PROMPTS[0], 1.3, index) for index in range(24)]
    samples, sequences = sampler._candidates(asked, SAMPLING)
    assert {sample.finish_reason for sample in samples} == {"stop", "length"}
    prompt = sampler.policy.encode(PROMPTS[0])
    for sample, sequence in zip(samples, sequences, strict=True):
        assert len(sequence) == len(prompt) + sample.n_tokens
        assert (sequence[-1] == sampler.tokenizer.eos_token_id) == (sample.finish_reason == "stop")


def test_samples_do_not_depend_on_batch_order_or_neighbours(checkpoint, scorer):
    whole = make(checkpoint, scorer, 4).draw(requests(), SAMPLING)
    assert [sample.cell for sample in whole] == [(r.prompt.doc_id, r.temperature, r.index) for r in requests()]
    for batch_size in (1, 3, 7, 64):
        sampler = make(checkpoint, scorer, 4, batch_size=batch_size)
        assert sampler.batch_size == max(1, batch_size // 4)
        assert [sampler.draw([request], SAMPLING)[0] for request in requests()] == whole
        assert sampler.draw(requests()[::-1], SAMPLING)[::-1] == whole


def test_pools_of_different_cells_are_disjoint_and_together_the_policys_first_samples(checkpoint, scorer):
    sampler, asked = make(checkpoint, scorer, 4), []
    inner = sampler.policy.continuations
    sampler.policy.continuations = lambda part, sampling: asked.extend(part) or inner(part, sampling)
    sampler.draw(requests(), SAMPLING)
    cells = [(one.prompt.doc_id, one.temperature, one.index) for one in asked]
    assert len(set(cells)) == len(cells) == len(requests()) * 4
    assert set(cells) == {(p.doc_id, t, i) for p in PROMPTS for t in SAMPLING.temperatures for i in range(3 * 4)}


def test_best_of_one_is_the_policy(checkpoint, scorer):
    policy = build(str(checkpoint), SUITE, {}, device="cpu").sampler
    found = make(checkpoint, scorer, 1).draw(requests(), SAMPLING)
    assert found == policy.draw(requests(), SAMPLING)
    assert all(sample.log_prob is not None for sample in found)


def test_more_draws_of_the_same_pool_never_score_worse(checkpoint, scorer):
    rewards = []
    for n in (1, 2, 4, 16):
        sampler = make(checkpoint, scorer, n)
        cells = [Request(prompt, 1.0, 0) for prompt in PROMPTS]  # sample 0: the pools begin alike, and grow
        samples, sequences = sampler._candidates(
            [Request(cell.prompt, cell.temperature, j) for cell in cells for j in range(n)], SAMPLING
        )
        scores = reward_model.score_sequences(sampler.scorer, sequences)
        reward = {(s.doc_id, s.text, s.n_tokens): score for s, score in zip(samples, scores, strict=True)}
        rewards.append([reward[s.doc_id, s.text, s.n_tokens] for s in sampler.draw(cells, SAMPLING)])
    for fewer, more in pairwise(rewards):
        assert all(a <= b + 1e-9 for a, b in zip(fewer, more, strict=True))
    assert sum(rewards[-1]) > sum(rewards[0])


def test_of_outputs_that_tie_the_first_drawn_is_kept_whatever_the_batch(checkpoint, tmp_path):
    flat = make_reward_model(tmp_path / "flat", vocabulary())
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(flat)
    with torch.no_grad():
        model.score.weight.zero_()
    model.save_pretrained(flat)
    policy = build(str(checkpoint), SUITE, {}, device="cpu").sampler
    first = policy.draw([Request(r.prompt, r.temperature, r.index * 4) for r in requests()], SAMPLING)
    expected = [
        s.model_copy(update={"index": r.index, "log_prob": None}) for r, s in zip(requests(), first, strict=True)
    ]
    assert make(checkpoint, flat, 4).draw(requests(), SAMPLING) == expected
    # Nor does rounding decide, which is different in every batch.
    sampler = make(checkpoint, flat, 4)
    rounding = iter(range(10_000))
    inner = reward_model.score_sequences
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "score_sequences", lambda *args: [s + 1e-14 * next(rounding) for s in inner(*args)])
        assert sampler.draw(requests(), SAMPLING) == expected


def test_greedy_decoding_draws_its_one_output_once(checkpoint, scorer):
    sampler, asked = make(checkpoint, scorer, 8), []
    inner = sampler.policy.continuations
    sampler.policy.continuations = lambda part, sampling: asked.extend(part) or inner(part, sampling)
    greedy = [Request(prompt, 0.0, 0) for prompt in PROMPTS]
    found = sampler.draw(greedy, SAMPLING)
    assert len(asked) == len(PROMPTS)
    assert found == build(str(checkpoint), SUITE, {}, device="cpu").sampler.draw(greedy, SAMPLING)


# ---- What the reward model reads ----


def test_another_vocabulary_and_stop_strings_are_read_as_texts(ending, scorer, tmp_path):
    other = make_reward_model(tmp_path / "other", vocabulary()[::2], reward_mean=0.5, reward_std=2.0)
    model, tokenizer = reward_model.load(str(other), "cpu")
    reward_model.compute_exactly(model)
    policy = build(str(ending), SUITE, {}, device="cpu").sampler
    sampler = make(ending, other, 4)
    assert not sampler.shares_vocabulary
    assert make(ending, scorer, 4).shares_vocabulary
    for request, best in zip(requests(), sampler.draw(requests(), SAMPLING), strict=True):
        records = [record for _, record in pool(policy, request, 4)]
        finished = [record.finish_reason == "stop" for record in records]
        texts = [record.text for record in records]
        scores = reward_model.score(model, tokenizer, [request.prompt.text] * 4, texts, finished=finished)
        assert best.text == texts[max(range(4), key=scores.__getitem__)]

    word = policy.draw([Request(PROMPTS[0], 1.3, 0)], SAMPLING)[0].text.split()[1]
    stopping = SAMPLING.model_copy(update={"stop": (word,)})
    samples, sequences = make(ending, scorer, 4)._candidates([Request(PROMPTS[0], 1.3, i) for i in range(12)], stopping)
    own = policy.lm.tokenizer
    for sample, sequence in zip(samples, sequences, strict=True):
        assert word not in sample.text
        expected = own(f"{PROMPTS[0].text} {sample.text}")["input_ids"]
        assert sequence == expected + ([own.eos_token_id] if sample.finish_reason == "stop" else [])


def test_a_chat_template_is_for_the_policy_alone(checkpoint, scorer, tmp_path):
    from transformers import AutoTokenizer

    chat = shutil.copytree(checkpoint, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = "{% for m in messages %}hi everyone . {{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(chat)
    sampler = make(chat, scorer, 4)
    _, sequences = sampler._candidates([Request(PROMPTS[0], 1.0, 0)], SAMPLING)
    plain = tokenizer(PROMPTS[0].text)["input_ids"]
    assert sequences[0][: len(plain)] == plain
    assert len(sampler.policy.encode(PROMPTS[0])) == len(plain) + 3


def test_a_policy_of_any_backend_can_be_sampled(scorer):
    policy = build("dummy:", SUITE, {}).sampler
    assert isinstance(policy, GenerateUntilSampler)
    sampler = BestOfNSampler(policy, *reward_model.load(str(scorer), "cpu"), str(scorer), n=4)
    drawn = sampler.draw(requests(), SAMPLING)
    assert [sample.cell for sample in drawn] == [(r.prompt.doc_id, r.temperature, r.index) for r in requests()]


def test_a_prompt_that_the_reward_model_has_no_room_for_is_refused_by_name(checkpoint, scorer):
    sampler = make(checkpoint, scorer, 2)
    fits = Prompt(task="t", doc_id="fits", text="bank " * 54, references=("dog",), doc={})
    long = Prompt(task="t", doc_id="long", text="bank " * 55, references=("dog",), doc={})
    assert [prompt.doc_id for prompt in sampler.prepare([PROMPTS[0], fits], SAMPLING)] == ["fits", "0"]
    with pytest.raises(UserError, match=r"judge: prompt long of t has 55 tokens.* at most 64, max_new_tokens 10 among"):
        sampler.prepare([PROMPTS[0], long], SAMPLING)


def test_prompts_are_scored_as_they_were_asked(checkpoint, scorer):
    sampler = make(checkpoint, scorer, 2)
    document = " ".join(["bank"] * 80)
    long = Prompt(task="t", doc_id="long", text=f"post {document} tl;dr", references=(), doc={}, shortens=document)
    short = SAMPLING.model_copy(update={"max_prompt_tokens": 20})
    [asked] = sampler.prepare([long], short)
    assert len(asked.text.split()) == 20
    assert sampler.shortened == {"t": 1}
    [sequence] = sampler._candidates([Request(asked, 0.0, 0)], short)[1]
    assert sequence[:20] == sampler.policy.encode(asked)


def test_an_automatic_batch_is_the_policys_own_and_draws_the_same(checkpoint, scorer):
    sampler = make(checkpoint, scorer, 4)
    assert sampler.batch_size == sampler.policy.batch_size // 4
    assert sampler.policy.by_memory
    whole = sampler.draw(requests(), SAMPLING)
    sampler.policy.most_rows = 7
    assert sampler.draw(requests(), SAMPLING) == whole


# ---- Which model it is, and how it is called ----


def test_the_identity_is_the_policys_with_n_and_the_reward_model(checkpoint, scorer, tmp_path):
    built = build(spec(checkpoint, scorer, 4), SUITE, {}, device="cpu")
    assert (built.kind, built.name) == ("model", "tiny best-of-4")
    found = built.sampler.identity(SAMPLING)
    policy = build(str(checkpoint), SUITE, {}, device="cpu").sampler.identity(SAMPLING)
    assert found.model_copy(update={"arguments": {}}) == policy.model_copy(update={"arguments": {}})
    assert found.arguments == {
        "best_of": 4,
        "reward_model": "judge",
        "reward_model_revision": None,
        "reward_model_sha256": weights_sha256(scorer),
        "reward_model_dtype": "float32, computed in float64",
    }
    assert type(found).model_validate_json(found.model_dump_json()) == found
    other = shutil.copytree(scorer, tmp_path / "judge")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"reward_mean": 0.6}))
    for policy_n in ((scorer, 5), (other, 4)):
        assert make(checkpoint, *policy_n).identity(SAMPLING) != found


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("", "policy is missing; write best-of-n:policy="),
        ("policy={policy},n=4", "reward_model is missing"),
        ("policy={policy},reward_model={scorer}", "n is missing"),
        ("policy={policy},reward_model={scorer},n=", "n is missing"),
        ("policy={policy},reward_model={scorer},n=0", "n must be a whole number above 0, not '0'"),
        ("policy={policy},reward_model={scorer},n=2.5", "n must be a whole number above 0, not '2.5'"),
        ("policy={policy},reward_model={scorer},n=4,k=3", "no field 'k'; write best-of-n:policy="),
        ("policy={policy},reward_model=./nowhere,n=4", "no such checkpoint folder: ./nowhere"),
        ("policy=./nowhere,reward_model={scorer},n=4", "no such checkpoint folder: ./nowhere"),
        ("policy={policy},reward_model={policy},n=4", "config.json: num_labels is 2"),
        ("policy={policy},reward_model=someone/not-here,n=4", "reward model someone/not-here cannot be loaded"),
    ],
)
def test_a_mistake_is_one_line(checkpoint, scorer, args, says):
    with pytest.raises(UserError) as caught:
        build("best-of-n:" + args.format(policy=checkpoint, scorer=scorer), SUITE, {}, device="cpu")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_n_below_one_is_refused(checkpoint, scorer):
    policy = build(str(checkpoint), SUITE, {}, device="cpu").sampler
    with pytest.raises(UserError, match="n must be at least 1"):
        BestOfNSampler(policy, *reward_model.load(str(scorer), "cpu"), str(scorer), n=0)


# ---- Interruption ----


def run_with(sampler, folder):
    comparable = identity(SUITE, {entry.task: PROMPTS for entry in SUITE.tasks}, SAMPLING)
    manifest = Manifest(name="best", kind="model", identity=comparable, model=sampler.identity(SAMPLING))
    drawn = sample_run(Run(folder), sampler, manifest, {"t": PROMPTS})
    return drawn, Run(folder).samples_path("t").read_bytes()


def test_a_run_cut_off_anywhere_and_resumed_with_another_batch_size_has_the_same_bytes(checkpoint, scorer, tmp_path):
    drawn, expected = run_with(make(checkpoint, scorer, 4), tmp_path / "whole")
    assert drawn == expected.count(b"\n") == len(requests())
    for number, (batch_size, share) in enumerate([(1, 0.0), (5, 0.31), (13, 0.77), (64, 1.0)]):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        kept = expected[: int(len(expected) * share)]
        Run(folder).samples_path("t").write_bytes(kept)
        again, found = run_with(make(checkpoint, scorer, 4, batch_size=batch_size), folder)
        assert found == expected
        assert again == len(requests()) - kept.count(b"\n")


def test_a_run_is_not_resumed_with_another_reward_model_or_n(checkpoint, scorer, tmp_path):
    run_with(make(checkpoint, scorer, 2), tmp_path / "run")
    with pytest.raises(UserError, match=r"another run: model\.arguments\.best_of is 2, asked for 3"):
        run_with(make(checkpoint, scorer, 3), tmp_path / "run")
