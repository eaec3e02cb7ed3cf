"""Two runs prompt by prompt: against scipy, and against hand-made rows for every rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmark.compare import compare, left_out, on_the_plane, table
from benchmark.errors import UserError
from benchmark.records import Scores
from benchmark.statistics.intervals import gap_of_differences, paired_preferences

TASKS = {"inside": "id", "outside": "ood", "further": "ood_hard"}
N = {"inside": 30, "outside": 40, "further": 20}
SAMPLING = {"k": 2, "top_p": 1.0, "top_k": 0, "max_new_tokens": 5, "stop": [], "seed": 1, "temperatures": [0.5, 1.0]}


def values(seed: int, shift: float = 0.0) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    rng = np.random.default_rng(seed)
    metrics = ("win_rate", "sbert_per_input", "ead_per_input", "effective_per_input_oracle")
    return {
        task: {
            temperature: {m: (rng.uniform(0, 0.5, N[task]) + shift).round(6).tolist() for m in metrics}
            for temperature in ("0.5", "1.0")
        }
        for task in TASKS
    }


def scores(name: str, per_prompt, **identity: object) -> Scores:
    tasks = [
        {"task": t, "role": r, "version": "1", "n_prompts": N[t], "prompts_sha256": "0" * 64} for t, r in TASKS.items()
    ]
    base = {"suite": "toy@v1", "tasks": tasks, "sampling": SAMPLING}
    base |= {"judge": "oracle", "judge_sha256": "abc", "encoder": "mini"}
    model = {"id": "m", "revision": None, "weights_sha256": None, "dtype": None}
    return Scores.model_validate(
        {
            "name": name,
            "kind": "model",
            "identity": base | identity,
            "model": model | {"chat_template_sha256": None, "seed": None},
            "card": {},
            "inputs_sha256": {},
            "estimates": [],
            "doc_ids": {task: [str(n) for n in range(N[task])] for task in TASKS},
            "per_prompt": per_prompt,
        },
        strict=False,
    )


FIRST, SECOND = scores("one", values(1)), scores("two", values(2, 0.05))


def found(compared, metric="win_rate", task="outside", temperature=1.0):
    (one,) = [c for c in compared if (c.metric, c.task, c.temperature) == (metric, task, temperature)]
    return one


def test_every_shared_quantity_is_compared_once_second_minus_first():
    compared = compare(FIRST, SECOND)
    assert len(compared) == len({(c.metric, c.task, c.temperature) for c in compared}) == 3 * 2 * 4 + 2
    for one in compared:
        if one.role == "gap":
            continue
        mine, theirs = (run.per_prompt[one.task][str(one.temperature)][one.metric] for run in (FIRST, SECOND))
        expected = stats.ttest_rel(theirs, mine)
        assert one.difference == pytest.approx(np.mean(theirs) - np.mean(mine))
        assert (one.first, one.second) == pytest.approx((np.mean(mine), np.mean(theirs)))
        assert one.p_value == pytest.approx(expected.pvalue)
        if one.metric == "win_rate":
            assert one.interval == paired_preferences(theirs, mine).interval
        else:
            assert one.interval == pytest.approx(tuple(expected.confidence_interval()))
        assert (one.role, one.n, one.dropped) == (TASKS[one.task], N[one.task], 0)


def test_the_gap_is_welch_of_the_paired_differences_inside_and_outside():
    compared = compare(FIRST, SECOND)
    (one,) = [c for c in compared if c.role == "gap" and c.temperature == 0.5]
    sides = {
        task: np.array(SECOND.per_prompt[task]["0.5"]["win_rate"]) - FIRST.per_prompt[task]["0.5"]["win_rate"]
        for task in TASKS
    }
    expected = stats.ttest_ind(sides["inside"], sides["outside"], equal_var=False)
    assert one.p_value == pytest.approx(expected.pvalue)
    assert one.interval == pytest.approx(gap_of_differences(sides["inside"], sides["outside"]).interval)
    assert one.difference == pytest.approx(one.second - one.first)
    mine = [np.mean(FIRST.per_prompt[task]["0.5"]["win_rate"]) for task in ("inside", "outside")]
    assert one.first == pytest.approx(mine[0] - mine[1])
    assert (one.n, one.task, one.metric) == (70, "", "win_rate")


def test_the_family_is_everything_that_is_compared():
    compared = compare(FIRST, SECOND)
    by_p = sorted(compared, key=lambda c: c.p_value)
    most = 0.0
    for rank, one in enumerate(by_p):  # Holm step by step
        most = max(most, min(1.0, one.p_value * (len(by_p) - rank)))
        assert one.adjusted_p == pytest.approx(most)
    small = compare(FIRST, SECOND, metrics=["win_rate"], temperatures=[1])
    assert {c.metric for c in small} == {"win_rate"}
    assert len(small) == 4
    assert found(small).p_value == found(compared).p_value
    assert found(small).adjusted_p < found(compared).adjusted_p


def test_the_other_way_round_every_sign_turns():
    for one, other in zip(compare(FIRST, SECOND), compare(SECOND, FIRST), strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert one.interval == pytest.approx((-other.interval.high, -other.interval.low))
        assert one.adjusted_p == pytest.approx(other.adjusted_p)


def test_a_run_against_itself_differs_in_nothing():
    for one in compare(FIRST, FIRST):
        assert (one.difference, one.adjusted_p) == (0.0, 1.0)
        # That two runs win the same prompts here does not say that they do everywhere.
        assert (one.interval == (0.0, 0.0)) == (one.metric != "win_rate")
        assert one.interval.low == pytest.approx(-one.interval.high)
        assert one.verdict == "not told apart"


def test_prompts_without_a_value_in_one_run_are_dropped_from_both_and_counted():
    changed = values(2, 0.05)
    changed["outside"]["1.0"]["win_rate"][3] = None
    one = found(compare(FIRST, scores("two", changed)))
    mine, theirs = (run.per_prompt["outside"]["1.0"]["win_rate"] for run in (FIRST, SECOND))
    keep = [n for n in range(40) if n != 3]
    assert (one.n, one.dropped) == (39, 1)
    assert one.first == pytest.approx(np.mean([mine[n] for n in keep]))
    assert one.p_value == pytest.approx(stats.ttest_rel([theirs[n] for n in keep], [mine[n] for n in keep]).pvalue)
    assert "39 (of 40)" in {row[9] for row in table(compare(FIRST, scores("two", changed)), ("a", "b"))[1]}
    changed["inside"]["1.0"]["win_rate"][:2] = [None, None]
    (gap,) = [c for c in compare(FIRST, scores("two", changed)) if c.role == "gap" and c.temperature == 1.0]
    assert (gap.n, gap.dropped) == (67, 3)
    changed["outside"]["1.0"]["win_rate"] = [None] * 40
    compared = compare(FIRST, scores("two", changed))
    assert not [c for c in compared if c.temperature == 1.0 and c.metric == "win_rate" and c.task in ("outside", "")]


def test_prompts_are_paired_by_their_id_and_not_by_their_place():
    order = list(np.random.default_rng(0).permutation(40))
    shuffled = values(2, 0.05)
    row = shuffled["outside"]["1.0"]["win_rate"]
    for metrics in shuffled["outside"].values():
        for metric, column in metrics.items():
            metrics[metric] = [column[n] for n in order]
    other = scores("two", shuffled)
    other = other.model_copy(update={"doc_ids": other.doc_ids | {"outside": tuple(str(n) for n in order)}})
    assert other.per_prompt["outside"]["1.0"]["win_rate"] != tuple(row)
    assert found(compare(FIRST, other)).p_value == pytest.approx(found(compare(FIRST, SECOND)).p_value)


def test_no_interval_says_other_than_its_p_value():
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(40):
        runs = []
        for rate in (0.02, 0.2):
            per_prompt = {
                task: {"1.0": {"win_rate": (rng.random(n) < rate).astype(float).tolist()}} for task, n in N.items()
            }
            runs.append(scores(f"r{rate}", per_prompt))
        for one in compare(*runs):
            excludes = not one.interval.low <= 0 <= one.interval.high
            assert (one.p_value < 0.05) == excludes
            assert one.interval.low <= one.difference <= one.interval.high
            seen.add(excludes)
    assert seen == {True, False}


def test_one_prompt_shows_nothing_and_is_no_part_of_the_family():
    changed = values(2, 0.05)
    changed["outside"]["1.0"]["win_rate"] = [None] * 39 + [0.3]
    compared = compare(FIRST, scores("two", changed))
    one = found(compared)
    assert (one.n, one.interval, one.p_value, one.adjusted_p, one.verdict) == (1, None, None, None, "not told apart")
    tested = [c for c in compared if c.p_value is not None]
    assert len(tested) == len(compared) - 2  # the gap hangs on it
    assert max(c.adjusted_p for c in tested) <= 1.0


def test_what_is_told_apart_is_named_by_its_direction():
    higher = scores("h", values(1, 0.2))
    assert found(compare(FIRST, higher)).verdict == "higher"
    assert found(compare(higher, FIRST)).verdict == "lower"
    # What is significant by itself and not within the family is not told apart.
    doubtful = [c for c in compare(FIRST, SECOND) if c.p_value < 0.05 < c.adjusted_p]
    assert {c.verdict for c in doubtful} == {"not told apart"}


def test_a_difference_that_is_the_same_everywhere_leaves_the_gap_alone():
    for shift in (0.1, 0.2, 0.3):
        gaps = [c for c in compare(FIRST, scores("two", values(1, shift))) if c.role == "gap"]
        assert [(c.difference, c.p_value) for c in gaps] == [(0.0, 1.0)] * 2


def test_another_judge_takes_the_win_rates_away_and_nothing_else():
    other = scores("two", values(2), judge="gpt", judge_sha256="abc")
    compared = compare(FIRST, other)
    assert {c.metric for c in compared} == {"sbert_per_input", "ead_per_input", "effective_per_input_oracle"}
    assert left_out(FIRST, other) == [
        "win rates are not compared: 'one' was judged by oracle (abc), 'two' by gpt (abc)"
    ]
    # Another version of the judge that the gate is of has other valid outputs.
    version = scores("two", values(2), judge_sha256="abd")
    assert {c.metric for c in compare(FIRST, version)} == {"sbert_per_input", "ead_per_input"}
    assert left_out(FIRST, version) == [
        "win rates are not compared: 'one' was judged by oracle (abc), 'two' by oracle (abd)",
        "metrics of the gate 'oracle' are not compared: the runs have two gates of that name",
    ]
    assert left_out(FIRST, SECOND) == []


def test_another_encoder_takes_what_it_makes_away_and_nothing_else():
    other = scores("two", values(2), encoder="large")
    assert {c.metric for c in compare(FIRST, other)} == {"win_rate", "ead_per_input"}
    assert "metrics of embeddings are not compared: mini made those of 'one'" in left_out(FIRST, other)[0]


def test_seed_and_grid_may_differ_and_shared_temperatures_are_compared():
    moved = values(2)
    for metrics in moved.values():
        metrics["0.7"] = metrics.pop("0.5")
    other = scores("two", moved, sampling=SAMPLING | {"seed": 9, "temperatures": [0.7, 1.0]})
    assert {c.temperature for c in compare(FIRST, other)} == {1.0}
    for absent, metrics in ((0.5, None), (float("nan"), ["win_rate"])):
        among = f"{' of win_rate' if metrics else ''} in common to compare at temperature {absent:g}; there are: 1$"
        with pytest.raises(UserError, match=f"have no quantity{among}"):
            compare(FIRST, other, metrics=metrics, temperatures=[1.0, absent])


def test_a_metric_that_neither_has_is_named_whatever_the_temperature():
    with pytest.raises(UserError, match="no quantity of win_rat in common to compare: `gendiv list metrics` names"):
        compare(FIRST, SECOND, metrics=["win_rat"], temperatures=[0.7])


@pytest.mark.parametrize(
    ("identity", "field"),
    [
        ({"suite": "toy@v2"}, r"suite differs \('toy@v1' against 'toy@v2'\)"),
        ({"sampling": SAMPLING | {"top_p": 0.9}}, "sampling.top_p differs"),
        ({"sampling": None}, "sampling differs"),
        (
            {"tasks": [FIRST.identity.tasks[0].model_copy(update={"prompts_sha256": "1" * 64})]},
            "prompts_sha256 differs",
        ),
        ({"tasks": FIRST.identity.tasks[:2]}, "tasks.further.task differs"),
    ],
)
def test_strangers_are_refused_by_the_field(identity, field):
    identity = {**identity}
    if "tasks" in identity:
        identity["tasks"] = [task.model_dump() for task in identity["tasks"]]
    other = scores("two", values(2), **identity)
    for pair in ((FIRST, other), (other, FIRST)):
        with pytest.raises(UserError, match=field if pair[0] is FIRST else "cannot be compared: "):
            compare(*pair)


def test_a_table_names_runs_metrics_and_the_gap():
    header, rows = table(compare(FIRST, SECOND), ("one", "two"))
    assert header[3:5] == ["one", "two"]
    assert all(len(row) == len(header) for row in rows)
    assert [row[1] for row in rows].count("ID − OOD") == 2
    assert rows[0][0] == "win rate"
    assert table([], ("same", "same"))[0][3:5] == ["first", "second"]


def with_notes(run: Scores, metric: str, **notes: object) -> Scores:
    per_prompt = {t: {c: m | {metric: m["ead_per_input"]} for c, m in cs.items()} for t, cs in run.per_prompt.items()}
    return run.model_copy(update={"notes": notes, "per_prompt": per_prompt})


@pytest.mark.parametrize(
    ("metric", "notes", "others", "why"),
    [
        ("compression_per_input", {"compressor": "zlib 1"}, {"compressor": "zlib 2"}, "compression ratios are not"),
        ("nli_per_input", {"nli": "a"}, {"nli": "b"}, "NLI diversity is not"),
        ("own_x", {"own": {"own_x": {"package": "p 1"}}}, {"own": {"own_x": {"package": "p 2"}}}, "own_x is not"),
        ("effective_per_input_rm", {"gates": {"rm": {"m": 1}}}, {"gates": {"rm": {"m": 2}}}, "the gate 'rm' are not"),
    ],
)
def test_a_metric_that_was_made_in_two_ways_is_left_out_and_said(metric, notes, others, why):
    one, two = with_notes(FIRST, metric, **notes), with_notes(SECOND, metric, **others)
    assert metric not in {c.metric for c in compare(one, two)}
    [told] = left_out(one, two)
    assert why in told
    alike = with_notes(SECOND, metric, **notes)
    assert metric in {c.metric for c in compare(one, alike)}
    assert left_out(one, alike) == []


def test_a_gate_named_like_the_end_of_other_metrics_takes_its_own_alone():
    one, two = (
        with_notes(run, "effective_per_input_input", gates={"input": {"m": n}}) for n, run in enumerate((FIRST, SECOND))
    )
    kept = {c.metric for c in compare(one, two)}
    assert "effective_per_input_input" not in kept
    assert {"ead_per_input", "sbert_per_input"} <= kept


def on_pocket(name, seed, shift=0.0):
    return scores(name, values(seed, shift), suite="pocket@v1")


def test_dominance_is_claimed_where_both_axes_are_higher_and_named_by_direction():
    low, high = on_pocket("low", 1), on_pocket("high", 2, 0.3)
    [told] = on_the_plane(low, high)
    assert told.startswith("'high' dominates 'low' on the plane")
    assert on_the_plane(high, low) == [told]
    x, y = (
        stats.ttest_rel(
            high.per_prompt["outside"]["1.0"][m], low.per_prompt["outside"]["1.0"][m], alternative="greater"
        ).pvalue
        for m in ("win_rate", "effective_per_input_oracle")
    )
    assert max(x, y) < 0.05
    assert on_the_plane(low, on_pocket("same", 3)) == ["neither run is shown to dominate the other on the plane"]


def test_nothing_is_said_of_the_plane_where_a_run_lacks_an_axis_or_the_judge_differs():
    low, high = on_pocket("low", 1), on_pocket("high", 2, 0.3)
    assert on_the_plane(low, scores("other", values(2, 0.3), suite="pocket@v1", judge_sha256="another")) == []
    lacking = {
        t: {c: {m: v for m, v in ms.items() if m != "win_rate"} for c, ms in cs.items()}
        for t, cs in high.per_prompt.items()
    }
    assert on_the_plane(low, scores("other", lacking, suite="pocket@v1")) == []
