"""Scores against a slow recomputation from the raw samples and verdicts."""

import hashlib
import itertools
import math

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.metrics import distinct_n, ead
from benchmark.metrics.ngrams import count_sets
from benchmark.quantities import bounds_of
from benchmark.records import Identity, Manifest, ModelIdentity, Sample, Sampling, TaskIdentity, Verdict
from benchmark.scoring import score
from benchmark.statistics.intervals import guarded_t, paired_t, plus4_t, plus4_welch, t_interval, welch
from benchmark.statistics.length_control import length_controlled
from benchmark.suites import Gate, LengthControl, Suite, load_suite

N, K, TEMPERATURES = 12, 4, (0.5, 1.0)
TASKS = {"a": "id", "b": "ood", "c": "ood_hard"}
SUITE = Suite.model_validate(
    load_suite("pocket").model_dump()
    | {
        "tasks": [{"task": task, "role": role, "title": task} for task, role in TASKS.items()],
        "gate": Gate(name="g", judge="oracle", minimum_score={"a": 0.4, "b": 0.4, "c": 0.4}).model_dump(),
    },
    strict=False,
)
SAMPLING = Sampling(k=K, temperatures=TEMPERATURES, top_p=1.0, top_k=0, max_new_tokens=9, stop=(), seed=0)
BOUNDS = {
    **dict.fromkeys(("empty_share", "cut_off_share", "valid_share_g"), (0, 1)),
    **dict.fromkeys(("effective_per_input_g", "conditional_per_input_g"), (0, 1)),
    "sbert_per_input": (0, K / (K - 1)),
}
WORDS = ["dog", "cat", "house", "tree", "car", "road", "song", "loan", "soup", "exam"]


class HashEncoder:
    """A deterministic embedding of any text, good enough to check what is done with embeddings."""

    name, precision, max_tokens = "hash", "float32", 64

    def encode(self, texts):
        assert list(texts) == sorted(set(texts)), "every different text once, in order"
        rows = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) - 127.5 for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)

    def truncated_share(self, texts):
        return 0.25


def manifest(k=K):
    tasks = tuple(
        TaskIdentity(task=task, role=role, version="1", n_prompts=N, prompts_sha256="0" * 64)
        for task, role in TASKS.items()
    )
    return Manifest(
        name="m",
        kind="model",
        identity=Identity(
            suite=SUITE.id,
            tasks=tasks,
            sampling=SAMPLING.model_copy(update={"k": k}),
            judge="oracle",
            judge_sha256="j",
            encoder="hash",
        ),
        model=ModelIdentity(id="m", revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=0),
    )


@pytest.fixture
def world():
    """Random samples and verdicts, some of them failed, some texts empty or cut off."""
    rng = np.random.default_rng(0)
    samples, verdicts = {}, {}
    for task in TASKS:
        samples[task], verdicts[task] = [], []
        for doc, temperature, index in itertools.product(range(N), TEMPERATURES, range(K)):
            cell = {"task": task, "doc_id": str(doc), "temperature": temperature, "index": index}
            text = " ".join(rng.choice(WORDS, size=rng.integers(0, 7)))
            samples[task].append(
                Sample(**cell, text=text, finish_reason="length" if rng.random() < 0.1 else "stop", n_tokens=3)
            )
            failed = rng.random() < 0.1 or (task == "a" and doc == 3)
            verdicts[task].append(
                Verdict(
                    **cell,
                    key="k",
                    preference=None if failed else float(rng.choice([0.0, 0.5, 1.0])),
                    score=float(rng.choice([0.2, 0.4, 0.6, 0.9])),  # 0.4 is the gate itself, and passes
                    reference_score=0.5,
                    length=len(text),
                    reference_length=14,
                    error="failed" if failed else None,
                )
            )
    return samples, verdicts


def found(scores, metric, role, temperature=1.0):
    return next(e for e in scores.estimates if (e.metric, e.role, e.temperature) == (metric, role, temperature))


def by_prompt(records, task, temperature):
    return [[r for r in records[task] if r.doc_id == str(d) and r.temperature == temperature] for d in range(N)]


def distances(texts):
    rows = HashEncoder().encode(sorted(set(texts)))
    e = {text: row.astype(float) for text, row in zip(sorted(set(texts)), rows, strict=True)}
    return [1 - e[x] @ e[y] for x, y in itertools.combinations(texts, 2)]


@pytest.mark.parametrize(("task", "temperature"), itertools.product(TASKS, TEMPERATURES))
def test_every_quantity_equals_its_slow_recomputation(world, task, temperature):
    samples, verdicts = world
    scores = score(manifest(), SUITE, samples, verdicts, HashEncoder())
    role = TASKS[task]
    groups = by_prompt(samples, task, temperature)
    judged = by_prompt(verdicts, task, temperature)

    def check(metric, per_prompt, tolerance=1e-9):
        values = [value for value in per_prompt if not math.isnan(value)]
        estimate = found(scores, metric, role, temperature)
        assert estimate.n == len(values)
        assert estimate.value == pytest.approx(np.mean(values), abs=tolerance)
        cached = scores.per_prompt[task][str(temperature)][metric]
        assert [c is None for c in cached] == [math.isnan(value) for value in per_prompt]
        assert [c for c in cached if c is not None] == pytest.approx(values, abs=1e-6)
        if estimate.method in ("t", "guarded_t"):
            assert estimate.intervals["t"] == pytest.approx(tuple(clip(metric, t_interval(values))), abs=1e-7)
            bounds = BOUNDS.get(metric)
            expected = guarded_t(values, *bounds) if bounds else t_interval(values)
            assert (estimate.low, estimate.high) == pytest.approx(tuple(clip(metric, expected)), abs=1e-6)
            assert estimate.method == ("t" if expected == t_interval(values) else "guarded_t")

    def clip(metric, interval):
        low, high = bounds_of(metric, K) or (-math.inf, math.inf)
        return max(interval.low, low), min(interval.high, high)

    preferences = [[v.preference for v in group if v.preference is not None] for group in judged]
    check("win_rate", [np.mean(p) if p else math.nan for p in preferences])
    check("length_words", [np.mean([len(s.text.split()) for s in g]) for g in groups])
    check("empty_share", [np.mean([s.text == "" for s in g]) for g in groups])
    check("cut_off_share", [np.mean([s.finish_reason == "length" for s in g]) for g in groups])
    counts = count_sets([[s.text for s in g] for g in groups])
    check("ead_per_input", ead.per_input(counts).tolist())
    check("distinct_per_input", distinct_n.per_input(counts).tolist())
    check("sbert_per_input", [np.mean(distances([s.text for s in g])) for g in groups], 1e-6)
    valid = [
        [bool(s.text) and s.finish_reason == "stop" and v.score >= 0.4 for s, v in zip(g, w, strict=True)]
        for g, w in zip(groups, judged, strict=True)
    ]
    check("valid_share_g", [np.mean(v) for v in valid])
    gated = [
        np.mean(
            [
                np.clip(distance, 0, 1) * (v[a] and v[b])
                for distance, (a, b) in zip(
                    distances([s.text for s in g]), itertools.combinations(range(K), 2), strict=True
                )
            ]
        )
        for g, v in zip(groups, valid, strict=True)
    ]
    check("effective_per_input_g", gated, 1e-6)
    among_valid = [[s.text for s, q in zip(g, v, strict=True) if q] for g, v in zip(groups, valid, strict=True)]
    check(
        "conditional_per_input_g",
        [np.mean(np.clip(distances(texts), 0, 1)) if len(texts) > 1 else math.nan for texts in among_valid],
        1e-6,
    )
    raw = count_sets([[s.text for s in g] for g in groups], "rlfh")
    check("ead_rlfh_per_input", ead.published_per_input(raw).tolist())
    pairs = [
        [
            np.clip(distances([groups[i][slot].text, groups[j][slot].text])[0], 0, 1)
            * (valid[i][slot] and valid[j][slot])
            for i, j in itertools.combinations(range(N), 2)
        ]
        for slot in range(K)
    ]
    across = found(scores, "effective_across_input_g", role, temperature)
    assert across.value == pytest.approx(np.mean(pairs), abs=1e-6)
    passed = [np.mean(v) for v in valid]
    ends = [across.value * (end / np.mean(passed)) ** 2 for end in plus4_t(passed)]
    plain = across.intervals["jackknife_t"]
    assert (across.low, across.high) == pytest.approx((min(plain[0], ends[0]), max(plain[1], ends[1])))
    assert across.method == ("jackknife_t" if (across.low, across.high) == plain else "guarded_jackknife_t")


@pytest.mark.parametrize(
    ("metric", "statistic"),
    [
        ("sbert_across_input", lambda texts: np.mean(distances(texts))),
        ("ead_across_input", lambda texts: ead.per_input(count_sets([texts]))[0]),
        ("distinct_across_input", lambda texts: distinct_n.per_input(count_sets([texts]))[0]),
    ],
)
def test_across_input_averages_the_slots_and_jackknifes_the_prompts(world, metric, statistic):
    samples, verdicts = world
    scores = score(manifest(), SUITE, samples, verdicts, HashEncoder())
    groups = by_prompt(samples, "b", 1.0)

    def over_slots(groups):
        return np.mean([statistic([g[slot].text for g in groups]) for slot in range(K)])

    estimate = found(scores, metric, "ood")
    assert estimate.value == pytest.approx(over_slots(groups), abs=1e-6)
    left_out = np.array([over_slots(groups[:i] + groups[i + 1 :]) for i in range(N)])
    error = math.sqrt((N - 1) / N * np.sum((left_out - left_out.mean()) ** 2))
    assert estimate.method == "jackknife_t"
    half = t_interval([1.0, 2.0] * (N // 2))  # only for the quantile
    quantile = (half.high - half.low) / 2 / np.std([1.0, 2.0] * (N // 2), ddof=1) * math.sqrt(N)
    assert estimate.high - estimate.value == pytest.approx(quantile * error, rel=1e-4)


def test_the_gap_is_id_minus_ood_and_its_interval_has_a_loss_and_a_win_more_on_each_side(world):
    scores = score(manifest(), SUITE, *world, HashEncoder())
    inside, outside = ([v for v in scores.per_prompt[task]["1.0"]["win_rate"] if v is not None] for task in ("a", "b"))
    gap, slow = found(scores, "win_rate", "gap"), welch(inside, outside)
    assert gap.value == pytest.approx(np.mean(inside) - np.mean(outside), abs=1e-6)
    assert gap.intervals["welch"] == pytest.approx(tuple(slow.interval), abs=1e-5)
    assert gap.method == "plus4_welch"
    assert (gap.low, gap.high) == pytest.approx(tuple(plus4_welch(inside, outside)), abs=1e-5)


def test_a_model_of_one_answer_is_not_said_to_have_one_answer_to_whatever_it_is_asked(world):
    samples, verdicts = world
    same = {task: [s.model_copy(update={"text": "dog"}) for s in group] for task, group in samples.items()}
    scores = score(manifest(), SUITE, same, verdicts, HashEncoder())
    for metric, value, (low, high) in (
        ("empty_share", 0.0, (0, 1)),
        ("distinct_k_per_input", 1.0, (1, K)),
        ("vendi_per_input", 1.0, (1, K)),
        ("sbert_per_input", 0.0, (0, K / (K - 1))),
        ("ngram_cosine_per_input", 0.0, (0, 1)),
        ("self_bleu_per_input", 1.0, (0, 1)),
    ):
        estimate = found(scores, metric, "ood")
        ends = [low + (high - low) * end for end in plus4_t([(value - low) / (high - low)] * N)]
        assert (estimate.value, estimate.method) == (pytest.approx(value, abs=1e-6), "guarded_t")
        assert estimate.intervals["t"] == pytest.approx((value, value), abs=1e-6)
        assert (estimate.low, estimate.high) == pytest.approx(ends, abs=1e-6)


def test_what_another_package_calls_a_share_is_not_taken_to_lie_between_0_and_1():
    assert (bounds_of("own_question_share", K), bounds_of("empty_share", K)) == (None, (0.0, 1.0))


def test_where_nothing_is_valid_gated_diversity_may_still_be_a_little(world):
    samples, verdicts = world
    empty = {task: [s.model_copy(update={"text": ""}) for s in group] for task, group in samples.items()}
    across = found(score(manifest(), SUITE, empty, verdicts, HashEncoder()), "effective_across_input_g", "ood")
    assert (across.value, across.low, across.method) == (0.0, 0.0, "guarded_jackknife_t")
    assert across.high == pytest.approx(plus4_t([0.0] * N).high ** 2)


def test_the_order_of_the_files_does_not_matter(world):
    samples, verdicts = world
    turned = {task: group[::-1] for task, group in samples.items()}
    assert score(manifest(), SUITE, samples, verdicts, HashEncoder()) == score(
        manifest(), SUITE, turned, verdicts, HashEncoder()
    )


def test_one_output_a_prompt_has_no_diversity_per_input_and_says_so(world):
    samples, verdicts = ({task: [r for r in group if r.index == 0] for task, group in part.items()} for part in world)
    scores = score(manifest(k=1), SUITE, samples, verdicts, HashEncoder())
    assert not [e for e in scores.estimates if "per_input" in e.metric]
    assert "several outputs a prompt" in scores.absent["per_input"]
    assert found(scores, "sbert_across_input", "ood").n == N


def test_a_later_verdict_supersedes_a_failure(world):
    samples, verdicts = world
    again = [v.model_copy(update={"preference": 1.0, "error": None}) for v in verdicts["a"] if v.doc_id == "3"]
    scores = score(manifest(), SUITE, samples, verdicts | {"a": [*verdicts["a"], *again]}, HashEncoder())
    assert scores.per_prompt["a"]["1.0"]["win_rate"][scores.doc_ids["a"].index("3")] == 1.0


def test_a_run_without_verdicts_is_refused_not_scored_0(world):
    samples, _ = world
    with pytest.raises(UserError, match="task a has no verdict; run `gendiv judge` first"):
        score(manifest(), SUITE, samples, {}, HashEncoder())


def test_a_verdict_without_its_sample_is_refused(world):
    samples, verdicts = world
    stray = verdicts["a"][0].model_copy(update={"doc_id": "99"})
    with pytest.raises(UserError, match="has no sample"):
        score(manifest(), SUITE, samples, verdicts | {"a": [*verdicts["a"], stray]}, HashEncoder())


def test_an_incomplete_grid_is_refused(world):
    samples, verdicts = world
    with pytest.raises(UserError, match="not complete"):
        score(manifest(), SUITE, samples | {"a": samples["a"][:-1]}, verdicts, HashEncoder())


def test_a_copy_of_the_prompt_does_not_pass_the_gate(world):
    samples, verdicts = world
    from benchmark.records import Prompt

    prompts = {
        task: [Prompt(task=task, doc_id=str(d), text="dog cat", references=("x",), doc={}) for d in range(N)]
        for task in TASKS
    }
    copied = {task: [s.model_copy(update={"text": "dog cat"}) for s in group] for task, group in samples.items()}
    gated = score(manifest(), SUITE, copied, verdicts, HashEncoder(), prompts)
    assert found(gated, "valid_share_g", "ood").value == 0.0
    assert found(score(manifest(), SUITE, copied, verdicts, HashEncoder()), "valid_share_g", "ood").value > 0.0


def test_many_failed_verdicts_are_flagged(world):
    samples, verdicts = world
    codes = [f.code for f in score(manifest(), SUITE, samples, verdicts, HashEncoder()).flags]
    assert codes.count("failed_verdicts") == 3  # a tenth of them failed
    whole = {
        task: [v.model_copy(update={"preference": 1.0, "error": None}) for v in group]
        for task, group in verdicts.items()
    }
    assert "failed_verdicts" not in [f.code for f in score(manifest(), SUITE, samples, whole, HashEncoder()).flags]


def test_a_constant_answer_is_flagged(world):
    samples, verdicts = world
    same = {task: [s.model_copy(update={"text": "dog"}) for s in group] for task, group in samples.items()}
    flags = {flag.code for flag in score(manifest(), SUITE, same, verdicts, HashEncoder()).flags}
    assert "constant_output" in flags


def test_the_references_themselves_are_flagged(world):
    samples, verdicts = world
    tie = {"preference": 0.5, "error": None, "length": 14}
    ties = {task: [v.model_copy(update=tie) for v in group] for task, group in verdicts.items()}
    codes = [flag.code for flag in score(manifest(), SUITE, samples, ties, HashEncoder()).flags]
    assert codes.count("reference") == 3
    ties["a"][-1] = ties["a"][-1].model_copy(update={"length": 13})
    assert [f.code for f in score(manifest(), SUITE, samples, ties, HashEncoder()).flags].count("reference") == 2


def test_lengths_far_from_the_references_are_flagged(world):
    samples, verdicts = world
    long = {task: [v.model_copy(update={"length": 99}) for v in group] for task, group in verdicts.items()}
    codes = [f.code for f in score(manifest(), SUITE, samples, long, HashEncoder()).flags]
    assert codes.count("length") == 3
    unasked = SUITE.model_copy(update={"length_range": None})
    assert "length" not in [f.code for f in score(manifest(), unasked, samples, long, HashEncoder()).flags]


def test_two_runs_can_be_paired_from_their_scores_alone(world):
    samples, verdicts = world
    scores = score(manifest(), SUITE, samples, verdicts, HashEncoder())
    values = scores.per_prompt["b"]["1.0"]["effective_per_input_g"]
    assert paired_t(values, values).estimate == 0.0
    assert len(values) == len(scores.doc_ids["b"]) == N


def unjudged():
    identity = manifest().identity.model_copy(update={"judge": None, "judge_sha256": None})
    return manifest().model_copy(update={"identity": identity})


def test_a_run_that_was_not_judged_is_scored_without_a_win_rate(world):
    samples, _ = world
    suite = SUITE.model_copy(update={"gate": Gate(name="text")})
    scores = score(unjudged(), suite, samples, {}, HashEncoder())
    metrics = {estimate.metric for estimate in scores.estimates}
    assert "win_rate" not in metrics
    assert {"sbert_per_input", "effective_per_input_text"} <= metrics
    assert scores.absent == {"win_rate": "not judged: no win rate"}
    assert not any("win_rate" in cell for task in scores.per_prompt.values() for cell in task.values())


def test_the_gate_reads_its_own_judges_scores_whoever_says_who_wins(world):
    samples, verdicts = world
    own = score(manifest(), SUITE, samples, verdicts, HashEncoder())
    others = {
        task: [v.model_copy(update={"preference": 1.0, "score": None}) for v in vs] for task, vs in verdicts.items()
    }
    swapped = score(manifest(), SUITE, samples, others, HashEncoder(), gate_verdicts={"oracle": verdicts})
    for estimate, before in zip(swapped.estimates, own.estimates, strict=True):
        if estimate.metric != "win_rate":
            assert estimate == before
        elif estimate.role != "gap":
            assert estimate.value == 1.0


def test_a_gate_of_the_users_stands_beside_the_suites_own(world):
    samples, verdicts = world
    alone = score(manifest(), SUITE, samples, verdicts, HashEncoder())
    strict = Gate(name="strict", judge="other", minimum_score=dict.fromkeys(TASKS, 0.7))
    others = {"other": {task: [v for v in vs if v.score is not None] for task, vs in verdicts.items()}}
    both = score(manifest(), SUITE, samples, verdicts, HashEncoder(), gates=[strict], gate_verdicts=others)
    assert [e for e in both.estimates if not e.metric.endswith("_strict")] == list(alone.estimates)
    found = {(e.metric, e.task, e.temperature): e.value for e in both.estimates}
    for task, temperature in itertools.product(TASKS, TEMPERATURES):
        passed = found["valid_share_strict", task, temperature]
        assert 0 < passed < found["valid_share_g", task, temperature]
        assert "effective_per_input_strict", task in found
    assert both.notes["gates"]["strict"]["minimum_score"] == dict.fromkeys(TASKS, 0.7)


def test_a_gate_that_lets_cut_off_outputs_pass_counts_and_flags_them_as_answers(world):
    samples, _ = world
    cut = {
        task: [sample.model_copy(update={"finish_reason": "length", "text": f"w {sample.text}"}) for sample in found]
        for task, found in samples.items()
    }
    for cut_off_is_valid, share in ((False, 0.0), (True, 1.0)):
        gate = Gate(name="attempt", cut_off_is_valid=cut_off_is_valid)
        scores = score(unjudged(), SUITE.model_copy(update={"gate": gate}), cut, {}, HashEncoder())
        found = {e.value for e in scores.estimates if e.metric == "valid_share_attempt"}
        assert found == {share}
        codes = {flag.code for flag in scores.flags}
        assert ("invalid_text" in codes) == (not cut_off_is_valid)
        assert ("cut_off" in codes) == cut_off_is_valid, "who never ends is flagged whatever the gate says"


def many(n):
    """One judged sample a prompt, longer ones preferred, some verdicts failed."""
    rng = np.random.default_rng(1)
    samples, verdicts = {}, {}
    for task in TASKS:
        texts = [" ".join(["dog"] * int(words)) for words in rng.integers(1, 40, size=n)]
        cells = [{"task": task, "doc_id": str(doc), "temperature": 1.0, "index": 0} for doc in range(n)]
        samples[task] = [
            Sample(**cell, text=text, finish_reason="stop", n_tokens=3) for cell, text in zip(cells, texts, strict=True)
        ]
        verdicts[task] = [
            Verdict(
                **cell,
                key="k",
                preference=None
                if rng.random() < 0.05
                else float(rng.random() < 1 / (1 + np.exp((80 - len(text)) / 40))),
                length=len(text),
                reference_length=50 + int(rng.integers(-20, 20)),
            )
            for cell, text in zip(cells, texts, strict=True)
        ]
    return samples, verdicts


CONTROLLED = SUITE.model_copy(update={"gate": Gate(name="text"), "length_control": LengthControl(penalty=0.02)})


def test_the_length_controlled_rate_is_fitted_to_the_prompts_that_have_a_verdict():
    samples, verdicts = many(340)
    scores = score(manifest(k=1), CONTROLLED, samples, verdicts, HashEncoder())
    fits = {}
    for task, role in TASKS.items():
        judged = [verdict for verdict in verdicts[task] if verdict.preference is not None]
        fits[role] = fit = length_controlled(
            [v.preference for v in judged],
            [v.length for v in judged],
            [v.reference_length for v in judged],
            penalty=0.02,
        )
        estimate = found(scores, "win_rate_lc", role)
        assert estimate.value == pytest.approx(fit.rate)
        assert (estimate.low, estimate.high) == fit.interval
        assert (estimate.n, estimate.method) == (len(judged), "logit_t")
        assert abs(fit.rate - found(scores, "win_rate", role).value) > 0.005, "a judge of length is corrected"
        values = scores.per_prompt[task]["1.0"]["win_rate_lc"]
        assert [place for place, value in enumerate(values) if value is None] == [
            place for place, verdict in enumerate(verdicts[task]) if verdict.preference is None
        ]
    gap = found(scores, "win_rate_lc", "gap")
    expected = welch(fits["id"].pseudo_values, fits["ood"].pseudo_values)
    assert gap.method == "welch"
    assert gap.value == pytest.approx(fits["id"].rate - fits["ood"].rate)
    assert (gap.low, gap.high) == pytest.approx(expected.interval)


def test_too_few_prompts_have_no_length_controlled_rate_and_the_reason_is_said():
    scores = score(manifest(k=1), CONTROLLED, *many(60), HashEncoder())
    assert not [e for e in scores.estimates if e.metric == "win_rate_lc"]
    assert [f"{task}: no interval: " in scores.absent["win_rate_lc"] for task in TASKS] == [True] * 3


def test_a_suite_whose_judge_is_exact_is_not_length_controlled(world):
    scores = score(manifest(), SUITE, *world, HashEncoder())
    assert not [e for e in scores.estimates if e.metric == "win_rate_lc"]
    assert "win_rate_lc" not in scores.absent
