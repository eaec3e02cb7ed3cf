"""The reward-model judge against the stock forward pass, one text at a time, and through its log."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.judging import reward_model as judging
from benchmark.judging.config import RewardModelConfig, find_judge, load_judge_configs
from benchmark.judging.judge import judge_pairs, load_judge, pairs_of
from benchmark.judging.reward_model import DECIMALS, IN_DOUBT, RewardModelJudge, in_doubt, with_one_head
from benchmark.records import Prompt, Sample, Verdict
from benchmark.runs import read_jsonl
from reference_models.tiny import make_checkpoint

WORDS = ["red", "blue", "green", "warm", "cold", "wet", "is", "very", "user:", "assistant:"]
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 12,
    "initializer_range": 0.5,
}
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }} </s> {% endfor %}"
PROMPTS = [Prompt(task="t", doc_id=str(n), text=text, references=("cold",), doc={}) for n, text in enumerate(WORDS[:3])]
TEXTS = ["warm", "cold", "very wet", "wet is very very cold", "", " warm"]


def make(folder: Path, *, chat: bool = False, **config: object) -> Path:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    make_checkpoint(folder, WORDS, seed=0, architecture=ARCHITECTURE)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.score.weight.data.normal_()
    for name, value in config.items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    if chat:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = CHAT
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("rm") / "rm", chat=True, reward_mean=0.5, reward_std=2.5)


def config(folder: Path, **change: object) -> RewardModelConfig:
    base = {"judge": "rm", "kind": "reward-model", "description": "d", "version": 1, "model": str(folder)}
    base |= {"input": "text", "preference": "winner", "samples": "all"}
    return RewardModelConfig.model_validate(base | change)


def samples() -> list[Sample]:
    return [
        Sample(task="t", doc_id=p.doc_id, temperature=1.0, index=i, text=text, finish_reason="stop", n_tokens=None)
        for p in PROMPTS
        for i, text in enumerate(TEXTS)
    ]


def verdicts(folder: Path, log: Path, *, batch_size: int = 64, **change: object) -> list[Verdict]:
    judge = RewardModelJudge(config(folder, **change), device="cpu", batch_size=batch_size)
    judge_pairs(judge, pairs_of(judge.config, PROMPTS, samples()), log)
    return read_jsonl(log, Verdict, mend="")


def stock(folder: Path, sequence: str) -> float:
    """Logit of the stock forward pass over one text that is written out, ``</s>`` and all."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    ids = AutoTokenizer.from_pretrained(folder)(sequence, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        return model(input_ids=ids).logits[0, 0].item()


def test_scores_are_the_stock_logits_of_prompt_answer_and_end_and_the_higher_wins(folder, tmp_path):
    found = verdicts(folder, tmp_path / "log.jsonl")
    assert len(found) == len(samples())
    for verdict, sample in zip(found, samples(), strict=True):
        prompt = PROMPTS[int(verdict.doc_id)].text
        mine, other = (stock(folder, f"{prompt} {text} </s>") for text in (sample.text, "cold"))
        assert verdict.score == pytest.approx((mine - 0.5) / 2.5, abs=1e-8)
        assert verdict.reference_score == pytest.approx((other - 0.5) / 2.5, abs=1e-8)
        tie = sample.text == "cold"
        assert verdict.preference == (0.5 if tie else float(mine > other))
        assert (verdict.length, verdict.reference_length) == (len(sample.text), 4)
    assert {v.preference for v in found} == {0.0, 0.5, 1.0}


def test_bradley_terry_is_the_sigmoid_of_the_difference_before_normalisation(folder, tmp_path):
    for verdict, sample in zip(
        verdicts(folder, tmp_path / "log.jsonl", preference="bradley_terry"), samples(), strict=True
    ):
        prompt = PROMPTS[int(verdict.doc_id)].text
        mine, other = (stock(folder, f"{prompt} {text} </s>") for text in (sample.text, "cold"))
        assert verdict.preference == pytest.approx(1 / (1 + math.exp(other - mine)), abs=1e-7)


def test_a_chat_judge_reads_the_conversation_in_the_template_and_nothing_more(folder, tmp_path):
    for verdict, sample in zip(verdicts(folder, tmp_path / "log.jsonl", input="chat"), samples(), strict=True):
        prompt = PROMPTS[int(verdict.doc_id)].text
        said = f"user: {prompt} </s> assistant: {sample.text} </s>"
        assert verdict.score == pytest.approx((stock(folder, said) - 0.5) / 2.5, abs=1e-8)


def test_a_chat_judge_adds_no_special_tokens_to_the_templates_own(folder, tmp_path):
    from tokenizers.processors import TemplateProcessing

    judge = RewardModelJudge(config(folder, input="chat"), device="cpu")
    plain, adding = [], []
    pairs = list(pairs_of(judge.config, PROMPTS, samples()).values())
    judge.judge(pairs, plain.extend)
    judge.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", judge.tokenizer.eos_token_id)]
    )
    assert judge.tokenizer("red")["input_ids"][0] == judge.tokenizer.eos_token_id
    judge.judge(pairs, adding.extend)
    assert adding == plain


def test_the_words_for_a_chat_model_are_those_that_a_chat_judge_reads(folder, tmp_path):
    judge = RewardModelJudge(config(folder, input="chat"), device="cpu")
    prompt = PROMPTS[0].model_copy(update={"chat": "very very red"})
    found: list[Verdict] = []
    judge.judge(list(pairs_of(judge.config, [prompt], samples()[:1]).values()), found.extend)
    said = "user: very very red </s> assistant: warm </s>"
    assert found[0].score == pytest.approx((stock(folder, said) - 0.5) / 2.5, abs=1e-8)


@pytest.mark.parametrize("exact", [True, False])
def test_the_log_is_the_same_bytes_whatever_the_batch(folder, tmp_path, monkeypatch, exact):
    if not exact:  # as models that cannot be computed in fp64
        monkeypatch.setattr(judging.reward_model, "compute_exactly", lambda model: "float32")
    logs = []
    for size in (1, 2, 5, 64):
        verdicts(folder, tmp_path / f"{size}.jsonl", batch_size=size)
        logs.append((tmp_path / f"{size}.jsonl").read_bytes())
    assert len(set(logs)) == 1


def test_each_prompt_and_text_is_scored_once(folder, tmp_path, monkeypatch):
    asked: list[tuple[int, ...]] = []
    real = judging.reward_model.score_sequences
    monkeypatch.setattr(
        judging.reward_model, "score_sequences", lambda model, ids, **k: asked.extend(ids) or real(model, ids, **k)
    )
    verdicts(folder, tmp_path / "log.jsonl")
    assert len(asked) == len(set(asked)) == len(PROMPTS) * len({text.strip() for text in TEXTS})


def test_a_text_that_is_too_long_fails_by_name_and_the_others_go_on(folder):
    judge = RewardModelJudge(config(folder), device="cpu")
    long = "very " * 12
    both = [samples()[0], samples()[1].model_copy(update={"text": long})]
    found: list[Verdict] = []
    judge.judge(list(pairs_of(judge.config, PROMPTS, both).values()), found.extend)
    judge.judge(
        list(pairs_of(judge.config, [PROMPTS[0].model_copy(update={"references": (long,)})], both[:1]).values()),
        found.extend,
    )
    good, sample_long, reference_long = found
    assert good.preference is not None
    assert good.error is None
    assert (sample_long.preference, sample_long.score) == (None, None)
    assert sample_long.error == "prompt and the sample are 14 tokens, and the reward model reads at most 12"
    assert reference_long.error == "prompt and the reference are 14 tokens, and the reward model reads at most 12"


def test_exactly_as_long_as_the_model_reads_is_judged(folder):
    judge = RewardModelJudge(config(folder), device="cpu")
    found: list[Verdict] = []
    whole = [samples()[0].model_copy(update={"text": "very " * 10})]
    judge.judge(list(pairs_of(judge.config, PROMPTS, whole).values()), found.extend)
    assert found[0].preference is not None


def test_where_there_is_no_room_the_batch_is_halved_and_the_verdicts_are_the_same(folder, tmp_path, monkeypatch):
    expected = verdicts(folder, tmp_path / "roomy.jsonl")
    real, sizes = judging.reward_model.score_sequences, []

    def cramped(model, ids, **options):
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, ids, **options)

    monkeypatch.setattr(judging.reward_model, "score_sequences", cramped)
    assert verdicts(folder, tmp_path / "cramped.jsonl", batch_size=16) == expected
    assert sizes[:4] == [15, 7, 3, 3]


def test_a_text_that_has_no_room_by_itself_is_told(folder, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(judging.reward_model, "score_sequences", full)
    with pytest.raises(UserError, match="no room for one text of 7 tokens; take another --device"):
        verdicts(folder, tmp_path / "log.jsonl")


def test_the_configuration_names_the_weights_and_no_path_as_soon_as_the_judge_is_there(folder, tmp_path):
    first = RewardModelJudge(config(folder), device="cpu").config
    assert (first.model, first.revision) == ("rm", None)
    assert first.weights_sha256 is not None
    copied = shutil.copytree(folder, tmp_path / "elsewhere" / "rm")
    assert RewardModelJudge(config(copied), device="cpu").config.sha256 == first.sha256
    about = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(about | {"reward_mean": 0.6}))
    assert RewardModelJudge(config(copied), device="cpu").config.sha256 != first.sha256
    pinned = config(folder, weights_sha256=first.weights_sha256)
    assert RewardModelJudge(pinned, device="cpu").config.sha256 == first.sha256
    with pytest.raises(UserError, match=r"weights_sha256 of rm is .*take the right checkpoint"):
        RewardModelJudge(config(copied, weights_sha256=first.weights_sha256), device="cpu")


def test_a_judge_that_is_known_by_its_weights_is_one_and_the_same_wherever_they_lie(folder, tmp_path):
    weights = RewardModelJudge(config(folder), device="cpu").config.weights_sha256
    pinned = config(folder, model=None, weights_sha256=weights)
    copied = shutil.copytree(folder, tmp_path / "another-name")
    for place in (folder, copied):
        judge = RewardModelJudge(pinned, found_at=str(place), device="cpu")
        assert judge.config == pinned
    with pytest.raises(UserError, match="judge rm names no model; give --model"):
        RewardModelJudge(pinned, device="cpu")
    with pytest.raises(UserError, match=r"judge rm: weights_sha256 of another-name is .*take the right checkpoint"):
        RewardModelJudge(pinned.model_copy(update={"weights_sha256": "0" * 64}), found_at=str(copied), device="cpu")


def test_a_judge_that_is_known_by_its_weights_keeps_its_name_whatever_model_is_given(tmp_path):
    pinned = config(tmp_path, model=None, weights_sha256="0" * 64)
    path = tmp_path / "mine.yaml"
    path.write_text(pinned.model_dump_json())
    for model in (None, str(tmp_path), "some/model"):
        assert find_judge(str(path), model=model) == pinned
    path.write_text(pinned.model_copy(update={"model": "x"}).model_dump_json())
    assert find_judge(str(path), model="some/model").judge == "rm.model"
    path.write_text(pinned.model_copy(update={"weights_sha256": None}).model_dump_json())
    with pytest.raises(UserError, match="judge rm names no model; give --model"):
        find_judge(str(path))


def test_what_cannot_judge_is_refused_by_name(folder, tmp_path):
    plain = make(tmp_path / "plain")
    for what, options, says in (
        (config(plain, input="chat"), {}, "plain: the tokenizer has no chat template"),
        (config(folder, model=None), {}, "judge rm names no model; give --model"),
        (config(folder), {"batch_size": 0}, "give a batch size of 1 or more"),
        (config(folder, revision="v1"), {}, "a folder has no revision"),
        (config(tmp_path / "nowhere"), {}, "cannot be loaded"),
        (config(folder, model="no-such/model", revision="v1"), {}, "no-such/model at v1 cannot be had"),
    ):
        with pytest.raises(UserError, match=says):
            load_judge(what, device="cpu", **options)


def test_the_space_that_a_base_model_writes_is_put_before_both_texts():
    assert with_one_head(" red", "blue") == (" red", " blue")
    assert with_one_head("red", "\n\nblue") == ("\n\nred", "\n\nblue")
    assert with_one_head(" red", "\nblue") == (" red", "\nblue")
    assert with_one_head("  ", "blue") == ("  ", "blue")
    assert with_one_head("red", "") == ("red", "")


@given(st.text(alphabet=" \nab", max_size=6), st.text(alphabet=" \nab", max_size=6))
def test_heads_are_made_alike_the_same_way_from_both_sides(first, second):
    found = with_one_head(first, second)
    assert with_one_head(second, first) == found[::-1]
    assert [text.lstrip() for text in found] == [first.lstrip(), second.lstrip()]
    if first.strip() == first and second.strip() == second:
        assert found == (first, second)


@given(st.floats(-100, 100), st.floats(-1e-13, 1e-13))
def test_what_is_not_in_doubt_rounds_the_same_way_in_any_batch(score, error):
    if not in_doubt(score):
        assert round(score, DECIMALS) == round(score + error, DECIMALS)
    assert in_doubt(0.5 * 10**-DECIMALS * (1 + IN_DOUBT / 2))
    assert not in_doubt(0.25)


def test_the_judges_that_come_with_gendiv_need_a_model_and_read_all_samples():
    shipped = [c for c in load_judge_configs().values() if isinstance(c, RewardModelConfig)]
    assert "reward-model" in {c.judge for c in shipped}
    for found in shipped:
        assert (found.model, found.input, found.preference, found.samples) == (None, "text", "winner", "all")
