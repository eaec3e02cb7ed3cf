"""Best-of-n against enumeration, simulation and closed forms."""

import json
import math
import shutil
from dataclasses import asdict
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from benchmark.errors import UserError
from reference_models.arguments import RunFolder, read_recipe
from reference_models.best_of_n import (
    BestOfNArguments,
    best_of_n_law,
    best_of_n_weights,
    curve,
    expected_best,
    kl_bound,
    kl_to_base,
    train,
)
from reference_models.data import read_pairs
from reference_models.tiny import make_checkpoint

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=8)
any_values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)
PROBABILITIES = np.array([0.05, 0.3, 0.1, 0.25, 0.2, 0.1])
LADDERS = {
    "no ties": np.array([3.0, -1.0, 0.5, 7.0, 2.0, 0.0]),
    "ties": np.array([3.0, -1.0, 3.0, 7.0, -1.0, 7.0]),
    "one tie of all": np.zeros(6),
}


def by_enumeration(scores, n):
    """How often each is the best of the C(m, n) subsets, a tie counting in equal parts."""
    weights = np.zeros(len(scores))
    subsets = list(combinations(range(len(scores)), n))
    for subset in subsets:
        top = max(scores[i] for i in subset)
        best = [i for i in subset if scores[i] == top]
        weights[best] += 1 / len(best) / len(subsets)
    return weights


def simulated(rng, probabilities, scores, n, draws):
    """How often each outcome is the best of n draws, ties broken at random."""
    drawn = rng.choice(len(scores), size=(draws, n), p=probabilities)
    top = scores[drawn] == scores[drawn].max(axis=1, keepdims=True)
    winner = (top * rng.random((draws, n))).argmax(axis=1)
    return np.bincount(drawn[np.arange(draws), winner], minlength=len(scores))


def chi_square(counts, expected):
    """The p-value; outcomes expected less than five times are counted with the rarest of the others."""
    rare = expected < 5
    rarest = np.where(rare, np.inf, expected).argmin()
    merged = [
        np.append(x[~rare & (np.arange(len(x)) != rarest)], x[rare].sum() + x[rarest]) for x in (counts, expected)
    ]
    return stats.chisquare(*merged).pvalue if len(merged[0]) > 1 else 1.0


# ---- One pool, every n ----


@given(st.one_of(few_values, any_values))
def test_weights_are_those_of_all_subsets_for_every_n(scores):
    for n in range(1, len(scores) + 1):
        np.testing.assert_allclose(best_of_n_weights(scores, n), by_enumeration(scores, n), atol=1e-12)


@given(st.one_of(few_values, any_values))
def test_expected_best_is_the_mean_of_the_best_of_all_subsets(scores):
    expected = [
        math.fsum(max(subset) for subset in combinations(scores, n)) / math.comb(len(scores), n)
        for n in range(1, len(scores) + 1)
    ]
    scale = max(map(abs, scores)) + 1
    np.testing.assert_allclose(expected_best(scores), expected, atol=1e-12 * scale)
    weighted = [best_of_n_weights(scores, n) @ np.array(scores) for n in range(1, len(scores) + 1)]
    np.testing.assert_allclose(expected_best(scores), weighted, atol=1e-12 * scale)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.randoms())
def test_weights_are_a_law_that_rises_with_the_score_and_belongs_to_the_output(scores, random):
    order = random.sample(range(len(scores)), len(scores))
    for n in range(1, len(scores) + 1):
        weights = best_of_n_weights(scores, n)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert (weights >= 0).all()
        for i, j in combinations(range(len(scores)), 2):
            if scores[i] == scores[j]:
                assert weights[i] == weights[j]
        assert (np.diff(weights[np.argsort(scores, kind="stable")]) >= -1e-15).all()
        np.testing.assert_allclose(best_of_n_weights([scores[i] for i in order], n), weights[order], atol=1e-15)


def test_best_of_one_is_the_pool_and_best_of_all_its_best():
    scores = [0.2, 5.0, -1.0, 5.0]
    assert best_of_n_weights(scores, 1).tolist() == [0.25] * 4
    assert best_of_n_weights(scores, 4).tolist() == [0.0, 0.5, 0.0, 0.5]
    np.testing.assert_allclose(expected_best(scores)[[0, 3]], [2.3, 5.0])


@pytest.mark.parametrize("n", [1, 2, 16, 500, 1000, 1999, 2000])
def test_weights_of_a_large_pool_have_all_their_digits(n):
    m = 2000
    weights = best_of_n_weights(np.arange(m), n)
    for i in (1, 2, n - 1, n, n + 1, (n + m) // 2, m - 1, m):
        if 1 <= i <= m:
            exact = math.comb(i - 1, n - 1) / math.comb(m, n)  # a ratio of whole numbers, rounded once
            assert weights[i - 1] == pytest.approx(exact, rel=1e-11, abs=1e-300)
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scores", [(3.0, -1.0, 0.5, 7.0), (3.0, -1.0, 3.0, -1.0), (7.0, -1.0, 7.0, 7.0)])
def test_weights_of_a_pool_are_exactly_unbiased_for_the_law_of_every_n(scores):
    m, p = 16, np.array([0.1, 0.4, 0.3, 0.2])
    mean, total = np.zeros((m, 4)), 0.0
    for pool in combinations_with_replacement(range(4), m):  # every pool of 16 there is, with its probability
        counts = np.bincount(pool, minlength=4)
        probability = float(stats.multinomial.pmf(counts, m, p))
        total += probability
        for n in range(1, m + 1):
            weights = best_of_n_weights([scores[i] for i in pool], n)
            mean[n - 1] += probability * np.bincount(pool, weights, minlength=4)
    assert total == pytest.approx(1, abs=1e-9)
    for n in range(1, m + 1):
        np.testing.assert_allclose(mean[n - 1], best_of_n_law(p, scores, n), atol=1e-9)


def test_a_pool_gives_a_less_noisy_mean_than_the_best_of_its_blocks():
    rng, n, m = np.random.default_rng(1), 4, 32
    pools = rng.normal(size=(2000, m))
    weighted = np.array([best_of_n_weights(pool, n) @ pool for pool in pools])
    blocks = pools.reshape(2000, m // n, n).max(axis=2).mean(axis=1)
    exact = stats.norm.expect(lambda x: x * n * stats.norm.cdf(x) ** (n - 1))
    for estimate in (weighted, blocks):
        assert abs(estimate.mean() - exact) <= 4 * estimate.std() / math.sqrt(2000)
    assert weighted.var() < 0.95 * blocks.var()


@pytest.mark.parametrize("n", [0, -1, 4])
def test_a_pool_that_is_too_small_is_refused(n):
    with pytest.raises(ValueError, match="n must be 1 to the pool's 3"):
        best_of_n_weights([1.0, 2.0, 3.0], n)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [[1.0], [2.0]]])
def test_scores_that_cannot_be_ranked_are_refused(scores):
    for function in (lambda: best_of_n_weights(scores, 1), lambda: expected_best(scores)):
        with pytest.raises(ValueError, match="one row of numbers"):
            function()


# ---- The exact law ----


@pytest.mark.parametrize("n", [1, 2, 4, 16])
@pytest.mark.parametrize("ladder", list(LADDERS))
def test_simulated_best_of_n_has_the_exact_law(ladder, n):
    draws, scores = 50_000, LADDERS[ladder]
    counts = simulated(np.random.default_rng([n, len(ladder)]), PROBABILITIES, scores, n, draws)
    expected = draws * best_of_n_law(PROBABILITIES, scores, n)
    assert chi_square(counts, expected) > 1e-3


def test_the_chi_square_tells_a_wrong_tie_rule_and_a_wrong_n():
    scores, draws = LADDERS["ties"], 50_000
    counts = simulated(np.random.default_rng(5), PROBABILITIES, scores, 4, draws)
    first_wins = PROBABILITIES.copy()
    order = np.argsort(scores, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(PROBABILITIES[order])])
    first_wins[order] = np.diff(np.minimum(below, 1) ** 4)  # ties broken by place
    for wrong in (first_wins, best_of_n_law(PROBABILITIES, scores, 3), best_of_n_law(PROBABILITIES, scores, 5)):
        assert chi_square(counts, draws * wrong / wrong.sum()) < 1e-6


laws = st.lists(
    st.tuples(st.integers(0, 20), st.integers(-2, 2)), min_size=1, max_size=7
).filter(lambda atoms: sum(mass for mass, _ in atoms) > 0)  # fmt: skip


@given(laws, st.integers(1, 40))
def test_the_law_is_a_difference_of_powers_shared_in_proportion_within_ties(atoms, n):
    mass, scores = (np.array(column, dtype=float) for column in zip(*atoms, strict=True))
    p = mass / mass.sum()
    law = best_of_n_law(p, scores, n)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    for value in set(scores):
        tied = scores == value
        group = p[scores <= value].sum() ** n - p[scores < value].sum() ** n
        assert law[tied].sum() == pytest.approx(group, abs=1e-12)
        if p[tied].sum() > 0:
            np.testing.assert_allclose(law[tied], group * p[tied] / p[tied].sum(), atol=1e-12)


def test_the_law_of_a_rare_outcome_keeps_its_digits():
    law = best_of_n_law([1e-20, 1.0 - 1e-12, 1e-12], [0.0, 1.0, 2.0], 16)
    assert law[2] == pytest.approx(-math.expm1(16 * math.log1p(-1e-12)), rel=1e-12)
    assert law[0] == pytest.approx(1e-320, abs=1e-322)


def test_what_is_no_distribution_is_refused():
    for p in ([0.5, 0.4], [1.5, -0.5], [1.0]):
        with pytest.raises(ValueError, match="probabilities must be"):
            best_of_n_law(p, [1.0, 2.0], 2)
    with pytest.raises(ValueError, match="n must be at least 1"):
        best_of_n_law([1.0], [1.0], 0)


# ---- How far from the base model ----


@pytest.mark.parametrize("n", [1, 2, 4, 16, 64])
def test_the_kl_bound_is_met_in_the_limit_of_continuous_scores(n):
    atoms = 200_000
    p = np.full(atoms, 1 / atoms)
    kl = kl_to_base(best_of_n_law(p, np.arange(atoms), n), p)
    assert kl == pytest.approx(kl_bound(n), abs=1e-4)
    assert kl <= kl_bound(n) + 1e-12


@given(laws, st.integers(2, 40))
def test_the_kl_of_scores_that_can_tie_is_strictly_below_the_bound(atoms, n):
    mass, scores = (np.array(column, dtype=float) for column in zip(*atoms, strict=True))
    p = mass / mass.sum()
    law = best_of_n_law(p, scores, n)
    assert -1e-12 <= kl_to_base(law, p) < kl_bound(n)
    rewarded, base = law @ scores, p @ scores
    assert rewarded >= base - 1e-12


def test_ties_bring_the_kl_down():
    tied, apart = (kl_to_base(best_of_n_law(PROBABILITIES, LADDERS[x], 8), PROBABILITIES) for x in ("ties", "no ties"))
    assert tied < apart < kl_bound(8)
    flat = best_of_n_law(PROBABILITIES, LADDERS["one tie of all"], 8)
    np.testing.assert_allclose(flat, PROBABILITIES)
    assert kl_to_base(flat, PROBABILITIES) == pytest.approx(0, abs=1e-12)


def test_kl_by_hand():
    assert kl_bound(1) == 0
    assert kl_bound(16) == pytest.approx(math.log(16) - 15 / 16)
    assert kl_to_base([1.0, 0.0], [0.25, 0.75]) == pytest.approx(math.log(4))
    assert kl_to_base([0.5, 0.5], [1.0, 0.0]) == math.inf
    law = np.array([0.2, 0.3, 0.5])
    assert kl_to_base(law, PROBABILITIES[1:4] / 0.65) == pytest.approx(
        special.rel_entr(law, PROBABILITIES[1:4] / 0.65).sum()
    )
    with pytest.raises(ValueError, match="n must be at least 1"):
        kl_bound(0)


# ---- Diversity ----


def distinct_share(winners):
    """Share of the pairs of a prompt's k outputs that differ."""
    k = winners.shape[1]
    same = winners[:, :, None] == winners[:, None, :]
    return 1 - (same.sum(axis=(1, 2)) - k) / (k * (k - 1))


def test_disjoint_pools_are_unbiased_in_pairwise_diversity_and_overlapping_ones_are_not():
    rng = np.random.default_rng(7)
    prompts, k, n, pool = 1500, 8, 8, 32
    outputs = 400  # equally likely texts, each with a score of its own
    law = best_of_n_law(np.full(outputs, 1 / outputs), np.arange(outputs), n)
    exact = 1 - (law**2).sum()

    disjoint = rng.integers(outputs, size=(prompts, k, n)).max(axis=2)
    shared = rng.integers(outputs, size=(prompts, pool))
    picks = rng.random((prompts, k, pool)).argsort(axis=2)[:, :, :n]  # n of the pool, drawn again for each of the k
    overlapping = np.take_along_axis(shared[:, None], picks, axis=2).max(axis=2)

    honest, resampled = distinct_share(disjoint), distinct_share(overlapping)
    assert abs(honest.mean() - exact) <= 4 * honest.std() / math.sqrt(prompts)
    assert resampled.mean() < exact - 20 * resampled.std() / math.sqrt(prompts)
    assert resampled.mean() < exact - 0.1
    # A mean of one output is right either way: it is pairs that overlap.
    for winners in (disjoint, overlapping):
        mean = winners.mean(axis=1)
        assert abs(mean.mean() - law @ np.arange(outputs)) <= 4 * mean.std() / math.sqrt(prompts)


# ---- The command ----

WORDS = ["red", "blue", "green", "warm", "cold", "wet", "is", "very"]
PROMPTS = ["red is", "blue is very", "green", "very very very warm is", "red is"]
ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.2,
}
WRITTEN = ("pool.jsonl", "best.jsonl", "curve.json")


def make_reward_model(folder, words=WORDS, shift=0.0):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    make_checkpoint(folder, words, seed=1, architecture=ARCHITECTURE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=None, num_labels=1, **ARCHITECTURE
    )
    config.reward_mean, config.reward_std = shift, 0.5
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_checkpoint(folder / "policy", WORDS, seed=0, architecture=ARCHITECTURE)
    make_reward_model(folder / "judge")
    return folder


@pytest.fixture
def arguments(models, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return {
        "model": str(models / "policy"),
        "reward_model": str(models / "judge"),
        "data": str(tmp_path / "prompts.jsonl"),
        "output": str(tmp_path / "best"),
        "n": 3,
        "pool": 6,
        "max_new_tokens": 8,
        "batch_size": 12,  # two prompts a batch, and a last one
    }


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def written(folder):
    return {name: (folder / name).read_bytes() for name in WRITTEN}


class Killed(BaseException):
    pass


def killed_at(*steps):
    def progress(step, _metrics):
        if step in steps:
            raise Killed

    return progress


@pytest.mark.parametrize("tail", [b"", b'{"prompt": "red', b"{}\n", b'{}\n{"prompt'])
def test_killed_after_every_batch_it_ends_with_the_same_bytes(arguments, tmp_path, tail):
    whole = train(BestOfNArguments(**arguments | {"output": str(tmp_path / "whole")}))
    args, partial = BestOfNArguments(**arguments), tmp_path / "best.partial"
    for step in (1, 2, 3):
        with pytest.raises(Killed):
            train(args, progress=killed_at(1, 2, 3))
        assert not (tmp_path / "best").exists()
        assert len(rows_of(partial / "pool.jsonl")) == min(2 * step, len(PROMPTS))
        if step < 3:  # a batch that was being written; the last one has a single line
            with (partial / "pool.jsonl").open("ab") as file:
                file.write(tail if step == 1 else tail.rpartition(b"\n")[2])
    steps = []
    assert written(train(args, progress=lambda step, _: steps.append(step))) == written(whole)
    assert steps == []
    assert not partial.exists()


def test_the_same_command_again_does_nothing_and_another_is_refused(arguments, tmp_path):
    args = BestOfNArguments(**arguments)
    folder = train(args)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert train(args, progress=killed_at(1, 2, 3)) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".best", "best."))] == []
    with pytest.raises(UserError, match="belongs to another run: n is 3 there and 2 here; give another output"):
        train(BestOfNArguments(**arguments | {"n": 2}))
    with Path(args.data).open("a") as file:
        file.write('{"prompt": "wet"}\n')
    with pytest.raises(UserError, match="the content of data has changed since"):
        train(args)


def test_what_others_began_hold_or_made_is_left_alone(arguments, tmp_path):
    args = BestOfNArguments(**arguments)
    with pytest.raises(Killed):
        train(args, progress=killed_at(1))
    with pytest.raises(UserError, match=r"seed is 1 there and 2 here; give another output, or remove .*best\.partial"):
        train(BestOfNArguments(**arguments | {"seed": 2}))
    hashes = json_of(tmp_path / "best.partial" / "begun.json")["inputs_sha256"]
    with RunFolder("best-of-n", args, args.output, hashes) as other:
        assert not other.begin()
        with pytest.raises(UserError, match="another process"):
            train(args)
    shutil.rmtree(tmp_path / "best.partial")
    (tmp_path / "best").mkdir()
    with pytest.raises(UserError, match="is in the way, and no trainer of GenDiv made it"):
        train(args)
    assert not list((tmp_path / "best").iterdir())


def json_of(path):
    return json.loads(path.read_text())


def test_pools_are_drawn_from_the_policy_and_scored_by_the_reward_model(arguments):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from benchmark.sampling.kv_cache import sample
    from benchmark.sampling.noise import uniforms

    rows = rows_of(train(BestOfNArguments(**arguments)) / "pool.jsonl")
    assert [row["prompt"] for row in rows] == PROMPTS
    assert rows[0]["completions"] != rows[4]["completions"]  # one prompt twice has two pools
    policy = AutoModelForCausalLM.from_pretrained(arguments["model"])
    judge = AutoModelForSequenceClassification.from_pretrained(arguments["reward_model"])
    tokenizer = AutoTokenizer.from_pretrained(arguments["model"])
    ends = set()
    for number, row in enumerate(rows):
        ids = tokenizer(row["prompt"])["input_ids"]
        for place in range(6):
            noise = torch.from_numpy(uniforms(8, 1, "rollout 0", str(number), 1.0, place))[None]
            (out,) = sample(policy, [ids], [0], [1.0], noise, eos_token_ids=(1,), pad_token_id=0, top_p=1.0, top_k=0)
            assert tokenizer.decode(out.tokens, skip_special_tokens=True) == row["completions"][place]
            assert out.finished == row["finished"][place] == (out.tokens[-1] == 1)
            with torch.no_grad():
                score = judge(torch.tensor([ids + out.tokens])).logits.item() / 0.5
            expected = score if out.finished else min(score, 0) - 1
            assert row["scores"][place] == pytest.approx(expected, abs=1e-5)
            ends.add(out.finished)
    assert ends == {True, False}


def test_the_curve_is_the_mean_best_of_all_subsets_of_every_size(arguments):
    folder = train(BestOfNArguments(**arguments))
    found, rows = json_of(folder / "curve.json"), rows_of(folder / "pool.jsonl")
    assert (found["prompts"], found["pool"]) == (5, 6)
    assert [point["n"] for point in found["curve"]] == [1, 2, 3, 4, 5, 6]
    for point in found["curve"]:
        best = [np.mean([max(s) for s in combinations(row["scores"], point["n"])]) for row in rows]
        assert point["score"] == pytest.approx(np.mean(best), abs=1e-12)
        assert point["standard_error"] == pytest.approx(stats.sem(best), abs=1e-12)
        assert point["kl_bound"] == kl_bound(point["n"])


@given(st.integers(1, 5).flatmap(lambda m: st.lists(st.lists(st.floats(-9, 9), min_size=m, max_size=m), min_size=1)))
def test_a_curve_is_the_mean_of_the_prompts_curves_and_rises(scores):
    points = curve(scores)
    mean = np.mean([expected_best(row) for row in scores], axis=0)
    np.testing.assert_allclose([point["score"] for point in points], mean, atol=1e-12)
    assert (np.diff(mean) >= -1e-12).all()
    assert (points[0]["standard_error"] is None) == (len(scores) == 1)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_best_completions_are_the_best_of_the_first_n_and_train(arguments, tmp_path, n):
    from reference_models.sft import SFTArguments
    from reference_models.sft import train as fine_tune

    arguments["n"] = n
    folder = train(BestOfNArguments(**arguments))
    rows, record = rows_of(folder / "pool.jsonl"), json_of(folder / "training.json")
    winners = [(row, int(np.argmax(row["scores"][:n]))) for row in rows]
    expected = [(row["prompt"], row["completions"][best]) for row, best in winners if row["finished"][best]]
    assert read_pairs(folder / "best.jsonl") == expected
    assert record["left_out"] == len(rows) - len(expected) < len(rows)
    assert record["left_out"] > 0 or n > 1  # the first output of some prompt has no end
    assert record["method"] == "best-of-n"
    assert record["arguments"] == asdict(BestOfNArguments(**arguments))
    losses = []
    common = {"batch_size": len(expected), "learning_rate": 1e-3, "output": str(tmp_path / "sft"), "steps": 1}
    args = SFTArguments(model=arguments["model"], data=str(folder / "best.jsonl"), **common)
    fine_tune(args, progress=lambda _, metrics: losses.append(metrics["loss"]))
    assert len(losses) == 1
    assert 0 < losses[0] < 10
    assert (tmp_path / "sft" / "model.safetensors").exists()


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_never_to_end_is_best_only_where_every_end_is_worse_than_the_penalty(arguments, tmp_path, shift):
    judge = make_reward_model(tmp_path / "judge", shift=shift)
    changed = {"reward_model": str(judge), "n": 6, "max_new_tokens": 4}
    folder = train(BestOfNArguments(**arguments | changed))
    kept = [prompt for prompt, _ in read_pairs(folder / "best.jsonl")]
    assert {end for row in rows_of(folder / "pool.jsonl") for end in row["finished"]} == {True, False}
    for row in rows_of(folder / "pool.jsonl"):
        ended, ran_out = ([s for s, f in zip(row["scores"], row["finished"], strict=True) if f == x] for x in (1, 0))
        assert max(ran_out, default=-1) <= -1
        if max(ended, default=-math.inf) > -1:
            assert row["prompt"] in kept


def test_the_first_prompts_have_the_pools_they_have_among_all(arguments, tmp_path):
    whole = train(BestOfNArguments(**arguments | {"output": str(tmp_path / "whole")}))
    few = train(BestOfNArguments(**arguments | {"limit": 2, "pool": 0, "n": 6}))
    assert rows_of(few / "pool.jsonl") == rows_of(whole / "pool.jsonl")[:2]


def test_batches_change_no_completion(arguments, tmp_path):
    folders = [
        train(BestOfNArguments(**arguments | {"batch_size": size, "output": str(tmp_path / str(size))}))
        for size in (1, 1000)
    ]
    for one, all_ in zip(*(rows_of(folder / "pool.jsonl") for folder in folders), strict=True):
        assert one["completions"] == all_["completions"]
        np.testing.assert_allclose(one["scores"], all_["scores"], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 7}, "n is 7 and must be 1 to the pool's 6"),
        ({"n": 0, "pool": 0}, "n is 0 and must be 1"),
        ({"max_new_tokens": 12}, "5 tokens and max_new_tokens 12 are more than the 16 positions of the policy"),
        ({"data": "absent.jsonl"}, "absent.jsonl: no such file"),
        ({"output": "."}, "names no folder"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(arguments, tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        train(BestOfNArguments(**arguments | change), progress=killed_at(1))
    assert not (tmp_path / "best").exists()


def test_a_reward_model_of_another_vocabulary_is_refused(arguments, tmp_path):
    other = make_reward_model(tmp_path / "other", words=[*WORDS, "dry"])
    with pytest.raises(UserError, match="the reward model's vocabulary is not the policy's"):
        train(BestOfNArguments(**arguments | {"reward_model": str(other)}))


def test_the_curve_is_drawn_for_one_prompt_and_for_many(arguments, tmp_path):
    pytest.importorskip("altair")
    for limit, n in product((1, 0), (1, 6)):
        change = {"limit": limit, "n": n, "output": str(tmp_path / f"{limit}-{n}")}
        png = train(BestOfNArguments(**arguments | change)) / "curves.png"
        assert png.read_bytes().startswith(b"\x89PNG")


def test_the_recipe_is_read():
    paths = {"model": "m", "reward_model": "r", "data": "d", "output": "o"}
    args = read_recipe(BestOfNArguments, Path("pocket/best-of-n.yaml"), {**paths, "limit": "3"})
    assert (args.n, args.pool, args.max_new_tokens, args.limit) == (16, 64, 20, 3)
    assert args.pool >= args.n
