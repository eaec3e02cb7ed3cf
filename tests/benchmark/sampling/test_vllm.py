"""vLLM's engine for real, on a GPU or with its CPU build; see constraints-vllm.txt for an environment that has it."""

import os

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; constraints-vllm.txt says how to get it")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# Read when the engine starts; the first two matter to the CPU build alone.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from collections import Counter  # noqa: E402

from benchmark.errors import UserError  # noqa: E402
from benchmark.records import Prompt, Sampling  # noqa: E402
from benchmark.sampling.model import build  # noqa: E402
from benchmark.sampling.sampler import Request  # noqa: E402
from benchmark.sampling.vllm import VLLMSampler, base_seed  # noqa: E402
from benchmark.suites import load_suite  # noqa: E402
from reference_models.tiny import make_checkpoint  # noqa: E402
from tasks.pocket.words import vocabulary  # noqa: E402

SUITE = load_suite("pocket")
SAMPLING = SUITE.sampling.model_copy(update={"k": 8, "temperatures": (0.0, 0.7, 1.0)})
TEXTS = ("my puppy is driving me crazy . tl;dr", "the oven . tl;dr", "officials said on tuesday . the bank . tl;dr")
PROMPTS = [Prompt(task="t", doc_id=str(n), text=text, references=("dog",), doc={}) for n, text in enumerate(TEXTS)]
TEMPLATE = "{% for m in messages %}hi everyone . {{ m['content'] }}{% endfor %}"
ARCHITECTURE = {
    "hidden_size": 128,  # heads of 64: the CPU build has no kernel for smaller ones
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with a chat template."""
    from transformers import AutoTokenizer

    path = tmp_path_factory.mktemp("models") / "tiny-chat"
    make_checkpoint(path, vocabulary(), seed=0, architecture=ARCHITECTURE)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def chat_sampler(folder):
    """The engine, in single precision, so that rounding seldom tips a token."""
    spec = f"vllm:pretrained={folder},dtype=float32,enforce_eager=True,max_num_seqs=64,gpu_memory_utilization=0.3"
    sampler = build(spec, SUITE, {}).sampler
    assert isinstance(sampler, VLLMSampler)
    return sampler


@pytest.fixture(scope="module")
def sampler(chat_sampler, folder):
    """The same engine in the base-model format."""
    return VLLMSampler(chat_sampler.lm, str(folder), chat=False)


def requests(sampling, prompts=PROMPTS):
    return [Request(p, t, i) for p in prompts for t in sampling.temperatures for i in range(sampling.k)]


def untold(samples):
    """Samples without what rounding in another batch changes."""
    return [sample.model_copy(update={"log_prob": None}) for sample in samples]


def test_one_request_for_k_samples_gives_what_k_single_requests_with_following_seeds_give(sampler):
    wanted = requests(SAMPLING)
    whole = sampler.draw(wanted, SAMPLING)
    assert [s.cell for s in whole] == [(r.prompt.doc_id, r.temperature, r.index) for r in wanted]
    groups = [wanted[start : start + SAMPLING.k] for start in range(0, len(wanted), SAMPLING.k)]
    for group in groups:
        base = base_seed(SAMPLING.seed, "t", group[0].prompt.doc_id, group[0].temperature)
        together = sampler.parameters(group, SAMPLING)
        assert (together.n, together.seed) == (1 if group[0].temperature == 0 else SAMPLING.k, base)
        alone = [sampler.parameters([request], SAMPLING) for request in group]
        assert [(one.n, one.seed) for one in alone] == [(1, base + index) for index in range(SAMPLING.k)]
    assert untold([sampler.draw([request], SAMPLING)[0] for request in wanted]) == untold(whole)
    for prompt in PROMPTS:
        assert len({s.text for s in whole if (s.doc_id, s.temperature) == (prompt.doc_id, 1.0)}) == SAMPLING.k


def test_missing_cells_of_a_prompt_that_was_cut_off_are_the_ones_it_would_have_had(sampler):
    wanted = requests(SAMPLING)
    whole = sampler.draw(wanted, SAMPLING)
    for missing in (wanted[11:], wanted[:3] + wanted[5:6] + wanted[13:20], wanted[::2]):
        places = [wanted.index(request) for request in missing]
        assert untold(sampler.draw(missing, SAMPLING)) == untold([whole[place] for place in places])


def test_more_prompts_than_one_step_can_read_give_what_each_gives_alone(sampler):
    sampling = SAMPLING.model_copy(update={"k": 2, "temperatures": (1.0,)})
    words = vocabulary()
    prompts = [
        Prompt(task="t", doc_id=f"m{n}", text=" ".join(words[n : n + 100]), references=("dog",), doc={})
        for n in range(64)
    ]
    whole = sampler.draw(requests(sampling, prompts), sampling)
    for number in (0, 20, 40, 41, 63):
        alone = sampler.draw(requests(sampling, prompts[number : number + 1]), sampling)
        assert untold(alone) == untold(whole[2 * number :][:2])


def test_greedy_outputs_are_those_of_our_own_sampler_in_both_prompt_formats(sampler, chat_sampler, folder):
    greedy = SAMPLING.model_copy(update={"temperatures": (0.0,), "k": 2})
    texts = {}
    for ours, chat in ((sampler, False), (chat_sampler, True)):
        own = build(str(folder), SUITE, {}, device="cpu", chat=chat, backend="hf").sampler
        drawn = {s.cell: s for s in ours.draw(requests(greedy, ours.prepare(PROMPTS, greedy)), greedy)}
        for sample in own.draw(requests(greedy, own.prepare(PROMPTS, greedy)), greedy):
            assert drawn[sample.cell] == sample
        texts[chat] = [sample.text for sample in drawn.values()]
    assert texts[True] != texts[False]


@pytest.mark.parametrize("change", [{}, {"temperatures": (0.7,), "top_p": 0.9}, {"temperatures": (1.3,), "top_k": 12}])
def test_the_first_two_tokens_are_distributed_as_our_own_samplers(sampler, folder, change, record_property):
    from scipy.stats import chi2_contingency

    two = {"k": 4096, "temperatures": (1.0,), "max_new_tokens": 2}
    sampling = Sampling.model_validate(SUITE.sampling.model_dump() | two | change)
    own = build(str(folder), SUITE, {}, device="cpu", chat=False, backend="hf", batch_size=1024).sampler
    size = own.batch_size
    wanted = requests(sampling, PROMPTS[:1])
    a = Counter(s.text for s in sampler.draw(wanted, sampling))
    b = Counter(
        s.text for start in range(0, len(wanted), size) for s in own.draw(wanted[start : start + size], sampling)
    )
    # Texts are joined until every bin holds enough of both for the test to be valid.
    table, rest = [], [0, 0]
    for text in sorted(a | b, key=lambda text: (-(a[text] + b[text]), text)):
        if a[text] + b[text] >= 20:
            table.append([a[text], b[text]])
        else:
            rest = [rest[0] + a[text], rest[1] + b[text]]
    table += [rest] if sum(rest) >= 20 else []
    test = chi2_contingency(table)
    record_property("chi2", f"{test.statistic:.1f} on {test.dof}, p = {test.pvalue:.3f}")
    print(f"{change}: chi2 {test.statistic:.1f}, {test.dof} degrees of freedom, p = {test.pvalue:.3f}")
    assert len(table) > 10
    assert test.pvalue > 1e-3


def test_records_say_how_an_output_ended_and_how_long_it_is(sampler):
    sampling = SAMPLING.model_copy(update={"k": 64, "temperatures": (1.3,)})
    samples = sampler.draw(requests(sampling), sampling)
    assert {sample.finish_reason for sample in samples} == {"stop", "length"}
    for sample in samples:
        words = len(sample.text.split())
        if sample.finish_reason == "length":
            assert sample.n_tokens == sampling.max_new_tokens
        else:
            assert words + 1 <= sample.n_tokens <= sampling.max_new_tokens


def test_log_probabilities_are_those_of_the_draw_and_told_where_it_is_of_the_plain_logits_alone(sampler, folder):
    import torch

    own = build(str(folder), SUITE, {}, device="cpu", chat=False, backend="hf").sampler
    outputs = []
    generate = sampler.lm.model.generate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler.lm.model, "generate", lambda *a, **k: outputs.extend(found := generate(*a, **k)) or found)
        samples = sampler.draw(requests(SAMPLING), SAMPLING)
    tokens = [list(one.token_ids) for out in outputs for one in sorted(out.outputs, key=lambda one: one.index)]
    plain = [sample for sample in samples if sample.temperature == 1.0]
    assert len(plain) == SAMPLING.k * len(PROMPTS)
    assert {sample.log_prob for sample in samples if sample.temperature != 1.0} == {None}
    kept = {(sample.doc_id, sample.index): sample for sample in plain}
    # A greedy prompt has one output for k samples.
    per_prompt = 1 + SAMPLING.k * 2
    for number, prompt in enumerate(PROMPTS):
        ours = own.encode(prompt)
        for index in range(SAMPLING.k):
            ids = tokens[number * per_prompt + 1 + SAMPLING.k + index]
            with torch.inference_mode():
                logits = own.model(torch.tensor([ours + ids])).logits[0, len(ours) - 1 : -1]
            exact = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None]).sum().item()
            assert kept[prompt.doc_id, index].n_tokens == len(ids)
            assert kept[prompt.doc_id, index].log_prob == pytest.approx(exact, abs=2e-3)
    for change in ({"top_p": 0.9}, {"top_k": 12}):
        cut = SAMPLING.model_copy(update={"temperatures": (1.0,), "k": 2, **change})
        assert {sample.log_prob for sample in sampler.draw(requests(cut), cut)} == {None}


def test_stop_strings_end_an_output_and_are_cut_off(sampler):
    free = sampler.draw(requests(SAMPLING), SAMPLING)
    word = next(s.text.split()[2] for s in free if len(s.text.split()) > 4)
    stopped = sampler.draw(requests(SAMPLING), SAMPLING.model_copy(update={"stop": (word,)}))
    for before, after in zip(free, stopped, strict=True):
        assert after.text == before.text.split(word)[0]
        assert word not in before.text or (after.finish_reason == "stop" and after.n_tokens <= before.n_tokens)


def test_a_near_flat_model_is_not_cut_to_fifty_tokens(sampler):
    sampling = SAMPLING.model_copy(update={"k": 2048, "temperatures": (2.0,), "max_new_tokens": 1})
    assert len({s.text for s in sampler.draw(requests(sampling, PROMPTS[:1]), sampling)}) > 60


def test_identity_names_dtype_and_format_and_nothing_that_only_says_how_fast(sampler, chat_sampler):
    base, chat = sampler.identity(SAMPLING), chat_sampler.identity(SAMPLING)
    assert (base.id, base.dtype, base.prompt_format, base.arguments) == ("vllm:tiny-chat", "float32", "base", {})
    assert (chat.prompt_format, chat.arguments) == ("chat", {})
    assert base.weights_sha256 == chat.weights_sha256 is not None
    assert chat.chat_template_sha256
    assert not base.chat_template_sha256


def test_prompts_are_fitted_to_the_models_room_or_refused_by_name(sampler):
    long = Prompt(task="t", doc_id="long", text="bank " * 120, references=("dog",), doc={})
    with pytest.raises(UserError, match="prompt long of t has 120 tokens"):
        sampler.prepare([PROMPTS[0], long], SAMPLING)
    cut = long.model_copy(update={"shortens": long.text})
    [prepared] = sampler.prepare([cut], SAMPLING)
    assert len(prepared.text.split()) == 128 - SAMPLING.max_new_tokens
    assert sampler.shortened == {"t": 1}


def test_temperatures_that_vllm_would_change_are_refused(sampler):
    for temperature in (0.001, 2.5):
        with pytest.raises(UserError, match="out of its range"):
            sampler.prepare(PROMPTS, SAMPLING.model_copy(update={"temperatures": (temperature,)}))


def test_a_broken_checkpoint_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        build(f"vllm:pretrained={tmp_path}", SUITE, {})
