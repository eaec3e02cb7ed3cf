"""The reward model's trainer: what it estimates, what it reads, what it never sees, what it writes."""

import itertools
import json
import math
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmark import reward_model
from benchmark.errors import UserError
from reference_models import sft, training
from reference_models.data import Comparisons, collate_comparisons, read_comparisons
from reference_models.models import load_tokenizer, warn_of_weak_judge
from reference_models.reward_model import RewardModelArguments, Scorer, accuracy, loss, train, with_new_head
from reference_models.tiny import make_checkpoint
from tasks.pocket import world
from tasks.pocket.words import TOPICS

PROMPTS = [f"prompt{number}" for number in range(8)]
WORDS = ["red", "blue", "green", "warm", "cold", "wet"]
ARCHITECTURE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


@pytest.fixture(autouse=True, scope="module")
def _without_curves():
    """The curves have tests of their own, and would take most of the time of runs this short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_curves", lambda *_, **__: False)
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Untrained language models: Llama with its rotary positions, GPT-2 with its learned ones."""
    from transformers import GPT2Config, GPT2LMHeadModel

    place = tmp_path_factory.mktemp("start")
    make_checkpoint(place / "llama", [*PROMPTS, *WORDS], seed=0, architecture=ARCHITECTURE)
    shutil.copytree(place / "llama", place / "gpt2")
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    tokens = {"vocab_size": 3 + len(PROMPTS) + len(WORDS), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    GPT2LMHeadModel(GPT2Config(**sizes, **tokens)).save_pretrained(place / "gpt2")
    return place


@pytest.fixture
def run(start, tmp_path):
    """Train on (prompt, chosen, rejected) rows, and give the folder; ``log`` gets the metrics of every step."""
    return partial(trained, start / "llama", tmp_path)


def trained(model, place, name, rows, log=None, **change):
    data = written(place / f"{name}.jsonl", rows)
    arguments = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "held_out": 0.0, "save_every": 1000}
    arguments |= {"model": str(model), "data": str(data), "output": str(place / name)}
    seen = [] if log is None else log
    return train(RewardModelArguments(**arguments | change), progress=lambda _, metrics: seen.append(metrics))


def written(path, rows):
    keys = ("prompt", "chosen", "rejected")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return path


def some_rows(seed=0, prompts=PROMPTS, answers=4, length=3):
    """Different answers to each prompt and all their pairs, labelled by a coin."""
    rng = random.Random(seed)
    texts = [" ".join(words) for size in range(1, length + 1) for words in itertools.product(WORDS, repeat=size)]
    return [
        (prompt, *rng.sample(pair, 2))
        for prompt in prompts
        for pair in itertools.combinations(rng.sample(texts, answers), 2)
    ]


def flipped(rows):
    return [(prompt, rejected, chosen) for prompt, chosen, rejected in rows]


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


def record(folder):
    return json.loads((folder / "training.json").read_text())


def by_hand(model, tokenizer, prompt, answer, end=True):
    """The stock logit of a single unpadded sequence."""
    number = tokenizer.convert_tokens_to_ids
    ids = [*map(number, f"{prompt} {answer}".split()), *([tokenizer.eos_token_id] if end else [])]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, 0].item()


def stock(folder):
    """The checkpoint as someone without GenDiv loads it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    return AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


# ---- It estimates Bradley–Terry utilities, as well as they can be estimated ----

PAIRS = (200, 800, 3200, 12800)
ANSWERS = [f"answer{number}" for number in range(24)]


def maximum_likelihood(wins):
    """Utilities of mean 0 that are the likeliest after ``wins[i, j]`` wins of i over j, by Newton's method."""
    games, utilities = wins + wins.T, np.zeros(len(wins))
    for _ in range(30):
        p = 1 / (1 + np.exp(utilities[None] - utilities[:, None]))
        utilities = utilities + np.linalg.pinv(information(games, p)) @ (wins - games * p).sum(axis=1)
    return utilities - utilities.mean()


def information(games, p):
    """Fisher information about the utilities in games won with probabilities ``p``."""
    weight = games * p * (1 - p)
    return np.diag(weight.sum(axis=1)) - weight


def test_utilities_are_recovered_with_the_smallest_possible_error_which_falls_as_one_over_root_n(tmp_path):
    make_checkpoint(tmp_path / "start", ["prompt", *ANSWERS], seed=0, architecture=ARCHITECTURE)
    rng = np.random.default_rng(0)
    true = rng.normal(size=len(ANSWERS))
    true -= true.mean()
    errors, bounds = [], []
    for pairs in PAIRS:
        rows, wins = [], np.zeros((len(ANSWERS), len(ANSWERS)))
        for _ in range(pairs):
            i, j = rng.choice(len(ANSWERS), size=2, replace=False)
            if rng.random() > 1 / (1 + np.exp(true[j] - true[i])):
                i, j = j, i
            wins[i, j] += 1
            rows.append(("prompt", ANSWERS[i], ANSWERS[j]))
        fit = {"steps": 150, "batch_size": 1, "learning_rate": 2e-2, "warmup_steps": 10}
        folder = trained(tmp_path / "start", tmp_path, f"rm-{pairs}", rows, **fit)
        model, tokenizer = stock(folder)
        found = np.array([by_hand(model, tokenizer, "prompt", answer) for answer in ANSWERS])
        found -= found.mean()
        chances = 1 / (1 + np.exp(true[None] - true[:, None]))
        bounds.append(np.sqrt(np.trace(np.linalg.pinv(information(wins + wins.T, chances))) / len(ANSWERS)))
        errors.append(np.sqrt(np.mean((found - true) ** 2)))
        assert np.sqrt(np.mean((found - maximum_likelihood(wins)) ** 2)) < 0.05 * bounds[-1]
    # With 23 degrees of freedom, the ratio's own standard deviation is 1/√46.
    assert np.array(errors) / np.array(bounds) == pytest.approx(np.ones(len(PAIRS)), abs=0.4)
    assert -0.6 < np.polyfit(np.log(PAIRS), np.log(errors), 1)[0] < -0.4


def test_labels_that_are_swapped_turn_the_ranking_round(run, tmp_path):
    better = [(prompt, "warm", "cold") for prompt in PROMPTS] + [(prompt, "wet red", "wet") for prompt in PROMPTS]
    rows = sorted(better)
    right, wrong = (run(name, data, steps=60) for name, data in (("right", rows), ("wrong", flipped(rows))))
    for folder, share in ((right, 1.0), (wrong, 0.0)):
        model, tokenizer = reward_model.load(str(folder), "cpu")
        assert accuracy(model, read_comparisons(tmp_path / "right.jsonl", tokenizer)) == share


# ---- The pocket world ----


def pocket_answers(doc, rng):
    """Four answers from right, give or take a reference's noise, to entirely beside the point."""
    for number in range(4):
        wrong = rng.choice((0, 0, 0.4, 1))
        others = rng.sample([topic for topic in TOPICS if topic not in doc["topics"]], len(doc["topics"]))
        named = [other if rng.random() < wrong else topic for topic, other in zip(doc["topics"], others, strict=True)]
        yield world.fresh_reference({**doc, "topics": named}, number, seed=7)


@pytest.mark.slow
def test_in_the_pocket_world_it_ranks_within_two_points_of_the_best_possible(tmp_path):
    """Labels are drawn with P = σ(difference of oracle scores / 0.1), so that nobody ranks more than ``best`` right."""
    posts, kept = 8000, 400
    rng, rows, chances = random.Random(0), [], []
    for doc in world.training_pairs(posts, seed=7):
        for pair in itertools.combinations(dict.fromkeys(pocket_answers(doc, rng)), 2):
            first, second = (world.oracle(doc, answer) for answer in pair)
            chance = 1 / (1 + math.exp((second - first) / 0.1))
            rows.append((doc["prompt"], *(pair if rng.random() < chance else pair[::-1])))
            chances.append((*pair, chance))
    summaries = [(doc["prompt"], doc["reference"]) for doc in world.training_pairs(20_000, seed=1)]
    words = sorted({word for row in [*rows, *summaries] for text in row for word in text.split()})
    architecture = ARCHITECTURE | {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    rest = {"max_position_embeddings": 128, "initializer_range": 0.1}
    make_checkpoint(tmp_path / "start", words, seed=0, architecture=architecture | heads | rest)
    lines = (json.dumps({"prompt": prompt, "completion": answer}) + "\n" for prompt, answer in summaries)
    (tmp_path / "sft.jsonl").write_text("".join(lines))
    policy = sft.train(
        sft.SFTArguments(
            model=str(tmp_path / "start"),
            data=str(tmp_path / "sft.jsonl"),
            output=str(tmp_path / "sft"),
            steps=1200,
            batch_size=32,
            learning_rate=4e-3,
            warmup_steps=10,
            weight_decay=0.01,
        )
    )
    fit = {"steps": 800, "batch_size": 16, "learning_rate": 1e-3, "warmup_steps": 50, "held_out": kept / posts}
    folder = trained(policy, tmp_path, "rm", rows, **fit)

    count = record(folder)["held_out_pairs"]
    prompts = [prompt for prompt, *_ in rows[:count]]
    model, tokenizer = reward_model.load(str(folder), "cpu")
    first, second = (
        reward_model.score(model, tokenizer, prompts, [row[place] for row in chances[:count]]) for place in (0, 1)
    )
    chance = np.array([row[2] for row in chances[:count]])
    best = np.maximum(chance, 1 - chance).mean()
    # Without the labels' own noise, of which the recorded accuracy has a standard deviation of 0.7 points.
    expected = np.where(np.array(first) > np.array(second), chance, 1 - chance).mean()
    assert best - 0.02 < expected < best
    assert record(folder)["held_out_accuracy"] == pytest.approx(expected, abs=0.02)


# ---- The loss and what it reads ----


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_first_step_is_the_stock_model_s_reading_of_prompt_answer_and_end(start, tmp_path, kind):
    rows, log = some_rows(), []
    trained(start / kind, tmp_path, "rm", rows, log, batch_size=len(PROMPTS), steps=1, seed=3)
    tokenizer = load_tokenizer(str(start / kind))
    model = with_new_head(str(start / kind), tokenizer, seed=3)

    def summary(end):
        margins = [
            by_hand(model, tokenizer, prompt, chosen, end) - by_hand(model, tokenizer, prompt, rejected, end)
            for prompt, chosen, rejected in rows
        ]
        return {
            "loss": sum(math.log1p(math.exp(-margin)) for margin in margins) / len(rows),
            "accuracy": sum(margin > 0 for margin in margins) / len(rows),
            "margin": sum(margins) / len(rows),
        }

    found = {name: log[0][name] for name in ("loss", "accuracy", "margin")}
    assert found == pytest.approx(summary(end=True), abs=1e-5)
    assert found != pytest.approx(summary(end=False), abs=1e-3)


@pytest.fixture
def double(start, tmp_path):
    """A scorer in double precision, and four answers each to three prompts, the last with one pair alone.

    GPT-2, because Llama's norms compute in single precision whatever they are given.
    """
    tokenizer = load_tokenizer(str(start / "gpt2"))
    rows = some_rows(prompts=PROMPTS[:2]) + some_rows(prompts=PROMPTS[2:3])[:1]
    scorer = Scorer(with_new_head(str(start / "gpt2"), tokenizer, seed=1)).double()
    return scorer, read_comparisons(written(tmp_path / "pairs.jsonl", rows), tokenizer)


def gradients(scorer, items):
    """Loss summed over microbatches, and its gradient."""
    scorer.zero_grad()
    total = sum(loss(scorer, [], item) for item in items)
    total.backward()
    return [total.detach(), *(parameter.grad.clone() for parameter in scorer.parameters())]


def test_reading_each_answer_once_is_the_same_as_reading_every_pair_by_itself(double):
    scorer, examples = double
    together = collate_comparisons(examples, 0)
    assert len(together[0].ids) == 4 + 4 + 2
    assert len(together[1]) == len(together[2]) == 6 + 6 + 1
    separate = [
        collate_comparisons([Comparisons(e.prompt, [e.answers[chosen], e.answers[rejected]], [(0, 1)])], 0)
        for e in examples
        for chosen, rejected in e.pairs
    ]
    torch.testing.assert_close(gradients(scorer, [together]), gradients(scorer, separate), rtol=1e-10, atol=1e-12)


def test_a_constant_on_all_scores_changes_neither_loss_nor_gradient(double):
    scorer, examples = double
    item = collate_comparisons(examples, 0)
    expected = gradients(scorer, [item])
    scorer.register_forward_hook(lambda _module, _args, scores: scores + 17.0)
    torch.testing.assert_close(gradients(scorer, [item]), expected, rtol=1e-10, atol=1e-12)


def test_a_pair_counts_as_often_as_it_is_given(double):
    scorer, examples = double
    twice = [example._replace(pairs=example.pairs * 2) for example in examples]
    once, doubled = (gradients(scorer, [collate_comparisons(rows, 0)]) for rows in (examples, twice))
    torch.testing.assert_close(doubled, [2 * value for value in once], rtol=1e-10, atol=1e-12)


def test_microbatches_of_unequal_pairs_change_nothing(run):
    rows = some_rows(prompts=PROMPTS[:6]) + some_rows(prompts=PROMPTS[6:], answers=2)
    logs = {size: [] for size in (0, 1, 3)}
    folders = [run(f"rm-{size}", rows, logs[size], batch_size=8, microbatch_size=size) for size in logs]
    expected, *others = (load_file(folder / "model.safetensors") for folder in folders)
    for found in others:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for size in (1, 3):
        for found, step in zip(logs[size], logs[0], strict=True):
            assert found == pytest.approx(step, rel=1e-4, abs=1e-5)


# ---- The head ----


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_head_is_new_seeded_without_a_bias_and_of_std_one_over_root_d_plus_one(start, kind):
    tokenizer = load_tokenizer(str(start / kind))
    torch.manual_seed(0)
    heads = {}
    for seed in range(20):
        model = with_new_head(str(start / kind), tokenizer, seed)
        assert model.score.bias is None
        assert model.score.weight.shape == (1, 16)
        heads[seed] = model.score.weight.detach().clone()
    # 320 draws: their spread is known to 4 %, their mean to 0.014.
    drawn = torch.cat(list(heads.values()))
    assert drawn.std().item() == pytest.approx(17**-0.5, rel=0.12)
    assert drawn.mean().item() == pytest.approx(0, abs=0.04)
    standard = torch.randn(1, 16, generator=torch.Generator().manual_seed(5)) / math.sqrt(17)
    torch.testing.assert_close(heads[5], standard)
    torch.manual_seed(1)
    assert torch.equal(with_new_head(str(start / kind), tokenizer, 5).score.weight, heads[5])


def test_what_has_no_linear_head_is_refused(start, tmp_path):
    from transformers import RobertaConfig, RobertaForMaskedLM

    encoder = shutil.copytree(start / "llama", tmp_path / "encoder")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    RobertaForMaskedLM(RobertaConfig(vocab_size=20, pad_token_id=0, **sizes)).save_pretrained(encoder)
    with pytest.raises(UserError, match="no linear `score` head; use a decoder-only model"):
        with_new_head(str(encoder), load_tokenizer(str(encoder)), 0)


# ---- The scale ----


def moments(folder, rows):
    model, tokenizer = reward_model.load(str(folder), "cpu")
    prompts, answers = zip(*rows, strict=True)
    scores = np.array(reward_model.score(model, tokenizer, prompts, answers))
    return [scores.mean(), scores.std()]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "adapters"])
def test_scores_of_references_are_of_mean_zero_and_sd_one_and_stock_loading_ranks_the_same(start, tmp_path, kind):
    references = [(prompt, chosen) for prompt, chosen, _ in some_rows(seed=5)[::2]]
    lines = (json.dumps({"prompt": prompt, "completion": answer}) + "\n" for prompt, answer in references)
    (tmp_path / "references.jsonl").write_text("".join(lines))
    change = {"references": str(tmp_path / "references.jsonl"), "held_out": 0.25, "steps": 10}
    if kind == "adapters":
        pytest.importorskip("peft")
        change["lora_rank"] = 2
    language_model = start / ("gpt2" if kind == "gpt2" else "llama")
    folder = trained(language_model, tmp_path, "rm", some_rows(), **change)
    assert moments(folder, references) == pytest.approx([0, 1], abs=1e-5)

    config = json.loads((folder / "config.json").read_text())
    mean, std = config["reward_mean"], config["reward_std"]
    assert [mean, std] == [record(folder)["reward_mean"], record(folder)["reward_std"]]
    assert abs(mean) > 0.01
    assert abs(std - 1) > 0.01
    model, tokenizer = stock(folder)
    assert model.config.num_labels == 1
    judge, own = reward_model.load(str(folder), "cpu")
    scores = torch.tensor(reward_model.score(judge, own, *zip(*references, strict=True)))
    texts = [f"{prompt} {answer} {tokenizer.eos_token}" for prompt, answer in references]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = model(**inputs, position_ids=positions).logits[:, 0]
        torch.testing.assert_close(logits, scores * std + mean, rtol=1e-5, atol=1e-5)
        assert torch.equal(logits.argsort(), scores.argsort())


def test_without_references_they_are_the_first_chosen_answers_of_the_prompts_held_out_or_else_of_all(run):
    rows = some_rows()
    first = [(prompt, chosen) for prompt, chosen, _ in rows[::6]]
    for share, kept in ((0.5, first[:4]), (0.0, first)):
        assert moments(run(f"rm-{share}", rows, held_out=share), kept) == pytest.approx([0, 1], abs=1e-5)


def test_a_single_reference_sets_the_mean_alone(run):
    assert moments(run("rm", some_rows(), held_out=0.125), [some_rows()[0][:2]]) == pytest.approx([0, 0], abs=1e-5)


def test_a_reward_model_that_is_trained_on_brings_no_shift_along(start, run, tmp_path):
    rows = some_rows()
    first = run("first", rows, steps=10)
    bare = shutil.copytree(first, tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    assert abs(config.pop("reward_mean")) > 0.01
    assert abs(config.pop("reward_std") - 1) > 0.01
    (bare / "config.json").write_text(json.dumps(config))
    logs = [], []
    again, expected = (
        trained(model, tmp_path, f"from-{model.name}", rows, log)
        for model, log in zip((first, bare), logs, strict=True)
    )
    assert [step["loss"] for step in logs[0]] == [step["loss"] for step in logs[1]]
    assert weights(again) == weights(expected)
    references = [(prompt, chosen) for prompt, chosen, _ in rows[::6]]
    assert moments(again, references) == pytest.approx([0, 1], abs=1e-5)


# ---- What is held out ----


def test_the_held_out_accuracy_is_that_of_the_finished_model_on_whole_sequences(run):
    rows = some_rows()
    folder = run("rm", rows, held_out=0.5)
    model, tokenizer = stock(folder)

    def share(rows, end=True):
        scores = [[by_hand(model, tokenizer, prompt, answer, end) for answer in pair] for prompt, *pair in rows]
        return sum(chosen > rejected for chosen, rejected in scores) / len(scores)

    half = rows[: len(rows) // 2]
    assert record(folder)["held_out_pairs"] == len(half) == 24
    assert record(folder)["held_out_accuracy"] == share(half)
    assert share(half) != share(half, end=False)
    assert share(half) != share(rows[len(half) :])


def test_nothing_of_the_held_out_pairs_reaches_the_weights(run):
    rows = some_rows()
    half = len(rows) // 2
    expected = weights(run("rm", rows, held_out=0.5))
    assert weights(run("flipped", flipped(rows[:half]) + rows[half:], held_out=0.5)) == expected
    others = [(prompt, "green", "wet wet wet wet") for prompt, *_ in rows[:half]]
    assert weights(run("others", others + rows[half:], held_out=0.5)) == expected
    assert weights(run("trained", rows[:half] + flipped(rows[half:]), held_out=0.5)) != expected


def test_a_held_out_prompt_that_comes_again_further_down_is_not_trained_on(run):
    rows = some_rows(prompts=[*PROMPTS, PROMPTS[0], *PROMPTS[:2]])
    again = [number for number, (prompt, *_) in enumerate(rows) if number >= 12 and prompt in PROMPTS[:2]]
    changed = [flipped([row])[0] if number in again else row for number, row in enumerate(rows)]
    assert len(again) == 18
    share = 2 / 10  # of ten examples: the eight prompts, and the first two again
    assert weights(run("rm", rows, held_out=share)) == weights(run("changed", changed, held_out=share))


def test_without_held_out_pairs_no_accuracy_is_claimed(run):
    assert not {"held_out_accuracy", "held_out_pairs"} & set(record(run("rm", some_rows())))


def test_equal_scores_count_a_half(start):
    tokenizer = load_tokenizer(str(start / "llama"))
    model = with_new_head(str(start / "llama"), tokenizer, seed=0)
    red, blue, green = ([tokenizer.convert_tokens_to_ids(word), 1] for word in ("red", "blue", "green"))
    prompt = tokenizer(PROMPTS[0])["input_ids"]
    high, low = (red, blue) if accuracy(model, [Comparisons(prompt, [red, blue], [(0, 1)])]) else (blue, red)
    same = Comparisons(prompt, [high, list(high), low], [(0, 1), (0, 2), (2, 1)])
    assert accuracy(model, [same]) == 1.5 / 3
    with torch.no_grad():
        model.score.weight.zero_()
    assert accuracy(model, [Comparisons(prompt, [red, blue, green], [(0, 1), (1, 2), (0, 2)])]) == 0.5


@pytest.mark.parametrize(
    ("rows", "change", "says"),
    [
        ([("prompt0", "red", "red")] * 4, {}, r"rm\.jsonl: no pair has two different answers"),
        (some_rows(), {"batch_size": 9}, r"rm\.jsonl: batch_size is 9, and there are 8 examples"),
        (some_rows(), {"held_out": 1.0}, r"rm\.jsonl: batch_size is 4, and there are 0 examples"),
        (some_rows(), {"references": "absent.jsonl"}, r"absent\.jsonl: no such file"),
    ],
)
def test_data_that_teach_nothing_are_refused_in_one_line_and_leave_no_checkpoint(run, tmp_path, rows, change, says):
    with pytest.raises(UserError, match=says) as caught:
        run("rm", rows, **change)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "rm").exists()


def test_equal_answers_are_left_out_and_change_nothing(run):
    rows = some_rows()
    more = [row for prompt, chosen, rejected in rows for row in [(prompt, chosen, chosen), (prompt, chosen, rejected)]]
    assert weights(run("rm", rows)) == weights(run("more", more))


# ---- A judge that is too weak to be worth optimising ----


@pytest.mark.parametrize(("share", "warns"), [(0.6999, True), (0.5, True), (0.7, False), (0.99, False)])
def test_a_weak_judge_is_warned_of_and_a_good_one_is_not(tmp_path, capsys, share, warns):
    (tmp_path / "training.json").write_text(json.dumps({"held_out_accuracy": share}))
    warn_of_weak_judge(str(tmp_path))
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == int(warns)
    assert (f"{tmp_path} ranks {share:.3f} of its held-out pairs right" in err) == warns


def test_the_warning_reads_what_training_wrote(run, capsys):
    rows = some_rows()
    # Labels of held-out pairs that say the opposite of those that are learned.
    better = [(prompt, "warm", "cold") for prompt in PROMPTS]
    good = run("good", better, held_out=0.25, steps=40)
    bad = run("bad", flipped(better[:2]) + better[2:], held_out=0.25, steps=40)
    unknown = run("unknown", rows)
    capsys.readouterr()
    warn_of_weak_judge(str(good))
    warn_of_weak_judge(str(unknown))
    assert not capsys.readouterr().err
    warn_of_weak_judge(str(bad))
    assert "ranks 0.000 of its held-out pairs right, less than 0.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "nonsense",
        "{}",
        '{"held_out_accuracy": "good"}',
        '{"held_out_accuracy": null}',
        '{"held_out_accuracy": [0.1]}',
        "[0.1]",
        "0.1",
        "null",
        b"\xff\xfe",
    ],
)
def test_a_record_that_tells_nothing_is_passed_over(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "training.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    warn_of_weak_judge(str(tmp_path))
    assert not capsys.readouterr().err
