"""Hugging Face checkpoints, as lm-eval builds them."""

import hashlib
import logging
import shutil

import pytest
import torch

from benchmark.errors import UserError
from benchmark.records import Prompt
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.sampling.model import build
from benchmark.sampling.sampler import PartlyDrawn, Request
from benchmark.suites import load_suite

SUITE = load_suite("pocket")
TEXTS = ("my puppy is driving me crazy . tl;dr", "the oven . tl;dr", "officials said on tuesday . the bank . tl;dr")
PROMPTS = [Prompt(task="t", doc_id=str(n), text=text, references=("dog",), doc={}) for n, text in enumerate(TEXTS)]


def requests(sampling):
    return [Request(prompt, t, i) for prompt in PROMPTS for t in sampling.temperatures for i in range(sampling.k)]


def make(checkpoint, **options):
    return build(str(checkpoint), SUITE, {}, device="cpu", **options).sampler


def test_samples_do_not_depend_on_batch_order_or_neighbours(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 3})
    sampler, wanted = make(checkpoint), requests(sampling)
    whole = sampler.draw(wanted, sampling)
    assert [sampler.draw([request], sampling)[0] for request in wanted] == whole
    assert sampler.draw(wanted[::-1], sampling)[::-1] == whole
    assert [s.cell for s in whole] == [(r.prompt.doc_id, r.temperature, r.index) for r in wanted]


def test_k_samples_of_a_prompt_differ_and_another_seed_gives_others(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 16, "temperatures": (1.0,)})
    sampler = make(checkpoint)
    texts = [s.text for s in sampler.draw(requests(sampling)[:16], sampling)]
    assert len(set(texts)) == 16
    other = sampling.model_copy(update={"seed": 1})
    assert [s.text for s in sampler.draw(requests(other)[:16], other)] != texts


def test_records_say_how_an_output_ended_and_how_long_it_is(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 16})
    sampler = make(checkpoint)
    for sample in sampler.draw(requests(sampling), sampling):
        words = len(sample.text.split())
        assert sample.n_tokens <= sampling.max_new_tokens
        if sample.finish_reason == "length":
            assert sample.n_tokens == sampling.max_new_tokens
        else:
            assert sample.n_tokens >= words + 1  # special words are skipped in the text, and the end is counted


def test_stop_strings_end_an_output_and_are_cut_off(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 4, "temperatures": (1.0,)})
    sampler = make(checkpoint)
    free = sampler.draw(requests(sampling), sampling)
    word = next(s.text.split()[2] for s in free if len(s.text.split()) > 4)
    stopped = sampler.draw(requests(sampling), sampling.model_copy(update={"stop": (word,)}))
    for before, after in zip(free, stopped, strict=True):
        assert after.text == before.text.split(word)[0]
        assert (word not in before.text) or (after.finish_reason == "stop" and after.n_tokens <= before.n_tokens)


def test_fp32_weights_are_computed_with_in_fp64_on_a_cpu_and_others_as_they_are(checkpoint):
    assert make(checkpoint).model.dtype == torch.float64
    assert make(checkpoint).dtype == "float32, computed in float64"
    half = make(checkpoint, dtype="bfloat16")
    assert (half.model.dtype, half.dtype) == (torch.bfloat16, "bfloat16")


def test_a_checkpoint_is_identified_by_what_is_in_it_not_by_its_place(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    (copy / "training.json").write_text("{}")
    a, b = (make(folder).identity(SUITE.sampling) for folder in (checkpoint, copy))
    assert a == b
    assert a.seed == SUITE.sampling.seed
    (copy / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert weights_sha256(copy) != weights_sha256(checkpoint)


def test_a_chat_template_is_used_where_there_is_one_and_recorded(checkpoint, tmp_path):
    from transformers import AutoTokenizer

    chat = shutil.copytree(checkpoint, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(chat)
    template = "{% for m in messages %}hi everyone . {{ m['content'] }}{% endfor %}"
    tokenizer.chat_template = template
    tokenizer.save_pretrained(chat)
    sampler, plain = make(chat), make(chat, chat=False)
    assert len(sampler.encode(PROMPTS[0])) == len(plain.encode(PROMPTS[0])) + 3
    assert sampler.identity(SUITE.sampling).chat_template_sha256 == hashlib.sha256(template.encode()).hexdigest()
    formats = [one.identity(SUITE.sampling).prompt_format for one in (sampler, plain)]
    assert formats == ["chat", "base"]
    both = PROMPTS[0].model_copy(update={"chat": "the bank"})
    assert sampler.prepare([both], SUITE.sampling)[0] == both.model_copy(update={"text": "the bank", "chat": None})
    assert plain.prepare([both], SUITE.sampling)[0] == PROMPTS[0]
    assert plain.identity(SUITE.sampling).chat_template_sha256 is None
    with pytest.raises(UserError, match="has no chat template"):
        make(checkpoint, chat=True)


def test_a_prompt_without_room_for_an_answer_is_refused_by_name(checkpoint):
    sampler = make(checkpoint)
    long = Prompt(task="t", doc_id="long", text="bank " * 120, references=("dog",), doc={})
    with pytest.raises(UserError, match=r"prompt long of t has 120 tokens, and its budget is 108; its task names no"):
        sampler.prepare([PROMPTS[0], long], SUITE.sampling)
    empty = Prompt(task="t", doc_id="empty", text="", references=("dog",), doc={})
    with pytest.raises(UserError, match="prompt empty of t has no tokens"):
        sampler.prepare([PROMPTS[0], empty], SUITE.sampling)


def test_prompts_are_fitted_to_the_models_room_or_to_a_smaller_budget_and_counted(checkpoint):
    document = " ".join(["bank"] * 120)
    long = Prompt(task="t", doc_id="long", text=f"post {document} tl;dr", references=(), doc={}, shortens=document)
    sampler = make(checkpoint)
    assert sampler.shortened == {}
    for budget, kept in ((None, 106), (200, 106), (50, 48)):
        sampling = SUITE.sampling.model_copy(update={"max_prompt_tokens": budget})
        asked = sampler.prepare([*PROMPTS, long], sampling)
        assert asked[0] == long.model_copy(update={"text": f"post {'bank ' * kept}tl;dr", "shortens": None})
        assert asked[1:] == sorted(PROMPTS, key=lambda prompt: -len(prompt.text.split()))
        assert sampler.shortened == {"t": 1}
    published = SUITE.sampling.model_copy(update={"truncation": "keep_end"})
    assert sampler.prepare([long], published)[0].text == "bank " * 107 + "tl;dr"
    assert len(sampler.draw([Request(asked[0], 1.0, 0)], SUITE.sampling)) == 1
    sampler.prepare(PROMPTS, SUITE.sampling)
    assert sampler.shortened == {"t": 0}


def test_prompts_of_equal_length_keep_their_order(checkpoint):
    same = [prompt.model_copy(update={"doc_id": str(9 - n), "text": "the oven"}) for n, prompt in enumerate(PROMPTS)]
    assert [prompt.doc_id for prompt in make(checkpoint).prepare(same, SUITE.sampling)] == ["9", "8", "7"]


def test_longest_prompts_come_first_whatever_the_batch(checkpoint):
    sampler = make(checkpoint)
    lengths = [len(sampler.encode(prompt)) for prompt in sampler.prepare(PROMPTS, SUITE.sampling)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-9}])
def test_top_k_and_top_p_reach_the_draw(checkpoint, cut):
    sampling = SUITE.sampling.model_copy(update={"k": 4, "temperatures": (0.0, 1.3)})
    free = make(checkpoint).draw(requests(sampling), sampling)
    cut_off = make(checkpoint).draw(requests(sampling), sampling.model_copy(update=cut))
    greedy = {s.doc_id: s.text for s in free if s.temperature == 0.0}
    assert all(s.text == greedy[s.doc_id] for s in cut_off)
    assert any(s.text != greedy[s.doc_id] for s in free)


def test_eager_attention_is_not_computed_in_fp64_where_its_mask_overflows(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 8})
    eager = build(f"hf:pretrained={checkpoint},attn_implementation=eager,device=cpu", SUITE, {}).sampler
    assert eager.dtype == "float32"
    exact, padded = make(checkpoint).draw(requests(sampling), sampling), eager.draw(requests(sampling), sampling)
    same = sum(a.text == b.text for a, b in zip(exact, padded, strict=True))
    assert same >= len(exact) - 1  # fp32 may tip one token in thousands
    assert eager.identity(sampling).arguments == {"attn_implementation": "eager"}
    assert eager.identity(sampling) != make(checkpoint).identity(sampling)


def test_a_model_whose_logits_are_no_numbers_is_refused(checkpoint):
    sampler = make(checkpoint)
    with torch.no_grad():
        sampler.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PartlyDrawn, match="logits are not numbers") as caught:
        sampler.draw([Request(PROMPTS[0], 1.0, 0)], SUITE.sampling)
    assert caught.value.samples == []


def test_a_model_whose_context_an_output_fills_is_told_by_both_numbers(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"max_new_tokens": 172})
    says = "has room for 128 tokens, and max_new_tokens is 172, which leaves none to a prompt; take a model with a long"
    with pytest.raises(UserError, match=says):
        make(checkpoint).prepare(PROMPTS, sampling)


def test_counting_what_is_too_long_warns_of_nothing_and_other_warnings_stay(checkpoint, caplog, monkeypatch):
    document = " ".join(["bank"] * 120)
    long = Prompt(task="t", doc_id="long", text=f"{document} tl;dr", references=(), doc={}, shortens=document)
    sampler = make(checkpoint)
    sampler.lm.tokenizer.model_max_length = 100
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.addHandler(caplog.handler)
    tokenise = sampler._tokenise
    monkeypatch.setattr(sampler, "_tokenise", lambda text: logger.warning("another") or tokenise(text))
    try:
        sampler.prepare([long], SUITE.sampling)
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"another"}


# ---- How many rows together ----


def test_prompts_are_kept_once_where_that_is_exact(checkpoint):
    assert make(checkpoint).how == {"shared": True}
    assert make(checkpoint, dtype="bfloat16").how == {}
    assert build(f"hf:pretrained={checkpoint},attn_implementation=eager,device=cpu", SUITE, {}).sampler.how == {}


def rows_seen(sampler):
    """Rows of each forward pass from here on."""
    seen = []
    sampler.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return seen


def test_rows_are_as_many_as_memory_has_room_for_and_hold_whole_prompts_where_they_can(checkpoint, monkeypatch):
    sampling = SUITE.sampling.model_copy(update={"k": 5, "temperatures": (0.7, 1.3)})
    sampler, wanted = make(checkpoint), requests(sampling)
    assert sampler.by_memory
    together, parts = sampler._rows_together, []
    monkeypatch.setattr(sampler, "_rows_together", lambda *args: parts.append(together(*args)) or parts[-1])
    whole = sampler.draw(wanted, sampling)
    assert parts == [30]
    for most, expected in ((25, [20, 10]), (15, [10, 10, 10]), (9, [9, 9, 9, 3]), (1, [1] * 30)):
        parts.clear()
        sampler.most_rows = most
        assert sampler.draw(wanted, sampling) == whole
        assert parts == expected
    sampler.most_rows, sizes = 1000, []
    for room in (0, 200_000, 400_000, 10**7):
        monkeypatch.setattr("benchmark.sampling.hf.CPU_BYTES", room)
        parts.clear()
        assert sampler.draw(wanted, sampling) == whole
        assert sum(parts) == 30
        sizes.append(max(parts))
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 30)
    assert len(set(sizes)) > 2


def test_a_batch_size_that_is_given_is_what_is_decoded_together(checkpoint):
    sampling = SUITE.sampling.model_copy(update={"k": 4, "temperatures": (1.0,)})
    sampler = make(checkpoint, batch_size=3)
    assert (sampler.batch_size, sampler.by_memory) == (3, False)
    seen = rows_seen(sampler)
    sampler.draw(requests(sampling)[:3], sampling)
    assert max(seen) == 3


@pytest.mark.parametrize(("limit", "leaves"), [(8, 7), (4, 3), (1, 1)])
def test_where_memory_runs_out_half_as_many_rows_are_decoded_and_what_is_done_is_kept(checkpoint, limit, leaves):
    sampling = SUITE.sampling.model_copy(update={"k": 7, "temperatures": (0.7, 1.3)})
    wanted = requests(sampling)
    whole = make(checkpoint).draw(wanted, sampling)
    sampler, drawn = make(checkpoint), []

    def run_out(_, args, kwargs):
        if len(kwargs["input_ids"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    sampler.model.register_forward_pre_hook(run_out, with_kwargs=True)
    decode = sampler._decode_together
    sampler._decode_together = lambda part, sampling: drawn.extend(part) or decode(part, sampling)
    assert sampler.draw(wanted, sampling) == whole
    assert sampler.most_rows == leaves, "the size that was learnt stays"
    failed = len(drawn) - len(wanted)
    assert drawn[failed:] == wanted, "only the first try, and its halves, were in vain"
    drawn.clear()
    assert sampler.draw(wanted, sampling) == whole
    assert drawn == wanted


def test_no_room_for_a_single_row_is_one_line(checkpoint):
    sampler = make(checkpoint)

    def run_out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    sampler.model.register_forward_pre_hook(run_out)
    with pytest.raises(PartlyDrawn, match="no room for one output; take a smaller --dtype") as caught:
        sampler.draw(requests(SUITE.sampling), SUITE.sampling)
    assert "\n" not in str(caught.value)
    assert sampler.model.config._attn_implementation == "sdpa", "the model attends as before"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), FloatingPointError("no numbers")])
def test_what_was_drawn_before_a_failure_is_kept(checkpoint, error):
    sampling = SUITE.sampling.model_copy(update={"k": 2})
    wanted = requests(sampling)
    whole = make(checkpoint).draw(wanted, sampling)
    sampler = make(checkpoint)
    sampler.most_rows = 1
    decode = sampler._decode_together

    def run_out(part, sampling):
        if part[0] == wanted[5]:
            raise error
        return decode(part, sampling)

    sampler._decode_together = run_out
    with pytest.raises(PartlyDrawn) as caught:
        sampler.draw(wanted, sampling)
    assert caught.value.samples == whole[:5]


@pytest.mark.parametrize("dtype", ["float99", "nn", "int8"])
@pytest.mark.parametrize("spec", ["{}", "hf:pretrained={}"])
def test_what_is_no_dtype_is_told_which_there_are(checkpoint, dtype, spec):
    says = f"dtype {dtype}: there are: auto, bfloat16, float16, float32, float64"
    with pytest.raises(UserError, match=says):
        build(spec.format(checkpoint), SUITE, {}, device="cpu", dtype=dtype)
    with pytest.raises(UserError, match=says):
        build(f"hf:pretrained={checkpoint},dtype={dtype}", SUITE, {}, device="cpu")


# ---- Log-probabilities ----


def likely(sampling, **options):
    return sampling.model_copy(update={"k": 6, "temperatures": (0.0, 0.7, 1.0, 1.3), **options})


@pytest.mark.parametrize("options", [{}, {"top_p": 0.8}, {"top_k": 9}])
def test_a_records_log_probability_is_that_of_its_own_tokens_and_greedy_has_none(checkpoint, options):
    sampling = likely(SUITE.sampling, **options)
    sampler, wanted = make(checkpoint), requests(sampling)
    drawn = sampler.continuations(wanted, sampling)
    for request, output, sample in zip(wanted, drawn, sampler.records(wanted, drawn, sampling), strict=True):
        if request.temperature == 0:
            assert sample.log_prob is None
            continue
        prompt = sampler.encode(request.prompt)
        ids = torch.tensor([prompt + output.tokens])
        with torch.inference_mode():
            scaled = sampler.model(ids).logits[0, len(prompt) - 1 : -1] / request.temperature
        if sampling.top_k:
            edge = scaled.sort(descending=True).values[:, sampling.top_k - 1 : sampling.top_k]
            scaled = scaled.masked_fill(scaled < edge, -torch.inf)
        shares = scaled.softmax(-1)
        for row in shares if sampling.top_p < 1 else ():
            order = row.argsort(descending=True)
            row[order[row[order].cumsum(0) - row[order] >= sampling.top_p]] = 0
        exact = (shares / shares.sum(-1, keepdim=True)).log().gather(-1, ids[0, len(prompt) :, None]).sum().item()
        assert output.log_prob == pytest.approx(exact, abs=1e-6)
        assert sample.log_prob == pytest.approx(exact, abs=5.1e-5)
        assert len(output.tokens) == sample.n_tokens


def test_records_are_the_same_bytes_whatever_shared_the_batch_though_the_last_bits_are_not(checkpoint, monkeypatch):
    sampling = likely(SUITE.sampling)
    sampler, wanted = make(checkpoint), requests(sampling)
    together = sampler.continuations(wanted, sampling)
    alone = [sampler.continuations([request], sampling)[0] for request in wanted]
    assert [c.log_prob for c in together] != [c.log_prob for c in alone], "then rounding would not be needed"
    lines = [sample.model_dump_json() for sample in sampler.records(wanted, together, sampling)]
    assert lines == [sample.model_dump_json() for sample in sampler.records(wanted, alone, sampling)]
    # With every sum in doubt, even what is not rounded is that of a row alone.
    monkeypatch.setattr("benchmark.sampling.log_probs.IN_DOUBT", 1.0)
    assert sampler.continuations(wanted, sampling) == alone


def test_top_k_1_is_certain(checkpoint):
    sampling = likely(SUITE.sampling, top_k=1)
    drawn = make(checkpoint).draw(requests(sampling), sampling)
    assert {str(sample.log_prob) for sample in drawn if sample.temperature > 0} == {"0.0"}
