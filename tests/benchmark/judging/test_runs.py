"""Judging whole runs: by several judges, against references or another run, and what scoring makes of it."""

import json

import pytest
import tiny_suites
import yaml
from data_root import make_data_root
from tiny_runs import ROOT

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.judging import runs as judging
from benchmark.judging.config import find_judge
from benchmark.judging.head_to_head import HeadToHead, head_to_head
from benchmark.judging.judge import load_judge
from benchmark.judging.runs import JudgeOptions
from benchmark.runs import Run, read_json
from benchmark.suites import load_suite

TASKS = [entry.task for entry in load_suite("pocket").tasks]
ORACLE = yaml.safe_load((ROOT / "tasks/pocket/judges/oracle.yaml").read_text())


def sampled(folder, control="shuffled-references", limit=6):
    [run] = pipeline.sample(f"control:{control}", "pocket", folder, pipeline.SampleOptions(limit=limit, k=2))
    return run


@pytest.fixture
def run(tmp_path):
    return sampled(tmp_path / "run")


def judge_file(tmp_path, name="mine", **changes):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(ORACLE | {"judge": name} | changes))
    return JudgeOptions(judge=str(path))


def reward_model(tmp_path, name):
    """A random one."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tiny_suites.make_model(tmp_path / name)
    torch.manual_seed(len(name))
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).save_pretrained(folder)
    return JudgeOptions(judge="reward-model", model=str(folder))


def rates(scores):
    return {(e.role, e.temperature): e.value for e in scores.estimates if e.metric == "win_rate"}


def test_a_run_is_judged_by_the_suites_own_judge_and_keeps_a_copy_of_it(run):
    reports = pipeline.judge(run)
    assert [(r.task, r.judged, r.pairs, r.failed, r.cost) for r in reports] == [
        (task, 12, 12, 0, None) for task in TASKS
    ]
    assert run.judges() == ["oracle"]
    scores = pipeline.score(run)
    assert scores.identity == run.manifest().identity
    assert scores.notes["judge"][TASKS[0]]["judged"] == 12
    assert run.scores() == scores


def test_another_judges_verdicts_stand_beside_and_are_scored_when_asked_for(run, tmp_path):
    pipeline.judge(run)
    own = pipeline.score(run)
    pipeline.judge(run, options=judge_file(tmp_path, samples={"temperature": 1.0, "index": 0}))
    assert run.judges() == ["mine", "oracle"]
    assert pipeline.score(run) == own, "the suite's own judge is the default"
    other = pipeline.score(run, judge="mine")
    assert other.identity.judge == "mine"
    assert other.identity.judge_sha256 not in (None, own.identity.judge_sha256)
    first = {
        e.role: [v.preference for v in run.verdicts(e.task, "oracle") if v.index == 0]
        for e in load_suite("pocket").tasks
    }
    assert {key[0]: rate for key, rate in rates(other).items() if key[0] != "gap"} == pytest.approx(
        {role: sum(values) / len(values) for role, values in first.items()}
    )
    gated = [e for e in own.estimates if "oracle" in e.metric]
    assert gated
    assert [e for e in other.estimates if "oracle" in e.metric] == gated, "the gate still reads the oracle"
    assert run.scores() == other


def test_a_suite_without_a_judge_of_its_own_takes_the_only_one_and_asks_which_of_several(tmp_path):
    data = make_data_root(tmp_path / "data")
    options = pipeline.SampleOptions(data_root=data, limit=4, k=2)
    [run] = pipeline.sample("control:shuffled-references", "summarisation", tmp_path / "run", options)
    assert pipeline.score(run).identity.judge is None
    for name in ("one", "two"):
        reports = pipeline.judge(run, options=reward_model(tmp_path, name))
        assert all(report.judged == report.pairs for report in reports)
        if name == "one":
            assert pipeline.score(run).identity.judge == "reward-model.one"
    with pytest.raises(
        UserError, match=r"judged by reward-model\.one, reward-model\.two; say whose verdicts with --judge"
    ):
        pipeline.score(run)


def test_scoring_refuses_what_is_not_judged_in_full_unless_it_is_allowed(run):
    pipeline.judge(run)
    path = run.verdicts_path(TASKS[0], "oracle")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(UserError, match="has no verdict"):
        pipeline.score(run)
    failed = json.loads(lines[-1]) | {"preference": None, "error": "time-out"}
    path.write_text("\n".join([*lines[:-1], json.dumps(failed)]) + "\n")
    with pytest.raises(UserError, match=r"11 of 12 samples have a verdict \(time-out\); .*--allow-missing"):
        pipeline.score(run)
    scores = pipeline.score(run, allow_missing=True)
    assert scores.notes["judge"][TASKS[0]]["judged"] == 11
    assert scores.notes["judge"][TASKS[0]]["failures"] == {"time-out": 1}


def test_a_judge_that_did_not_judge_is_not_scored(run):
    with pytest.raises(UserError, match="not judged by 'oracle'; run `gendiv judge` first"):
        pipeline.score(run)
    pipeline.judge(run)
    with pytest.raises(UserError, match="not judged by 'nobody'; judged by: oracle"):
        pipeline.score(run, judge="nobody")


def test_two_versions_of_a_judge_never_share_a_log(run, tmp_path):
    pipeline.judge(run, options=judge_file(tmp_path))
    with pytest.raises(UserError, match="verdicts of another version of judge mine are there"):
        pipeline.judge(run, options=judge_file(tmp_path, version=2))


def test_a_head_to_head_turned_round_gives_the_complement(tmp_path):
    one, other = sampled(tmp_path / "one"), sampled(tmp_path / "other", "random-words")
    result, turned = head_to_head(one, other), head_to_head(other, one)
    assert [e.task for e in result.estimates] == TASKS
    for estimate, complement in zip(result.estimates, turned.estimates, strict=True):
        assert estimate.value == pytest.approx(1 - complement.value)
        assert estimate.low <= estimate.value <= estimate.high
    assert any(e.value > 0.5 for e in result.estimates), "references of other posts beat random words somewhere"
    name = judging.opponent_name(other.manifest())
    assert read_json(one.head_to_head_path("oracle", name), HeadToHead, mend="") == result
    assert one.judges() == [], "no verdict against the references was made"
    before = one.verdicts_path(TASKS[0], "oracle", name).read_bytes()
    assert head_to_head(one, other) == result
    assert one.verdicts_path(TASKS[0], "oracle", name).read_bytes() == before
    for task in TASKS:
        mine = [len(sample.text) for sample in one.samples(task)]
        theirs = [len(sample.text) for sample in other.samples(task)]
        assert result.lengths[task]["1.0"] == pytest.approx((sum(mine) / len(mine), sum(theirs) / len(theirs)))


def test_opponents_in_folders_of_one_name_are_kept_apart(tmp_path):
    one = sampled(tmp_path / "one")
    for control in ("random-words", "constant"):
        head_to_head(one, sampled(tmp_path / control / "pocket", control))
    assert len(list((one.folder / "against").iterdir())) == 2


def test_a_head_to_head_with_gaps_is_refused_unless_it_is_allowed(tmp_path, monkeypatch):
    one, other = sampled(tmp_path / "one"), sampled(tmp_path / "other", "random-words")
    whole = head_to_head(one, other)
    path = one.verdicts_path(TASKS[0], "oracle", judging.opponent_name(other.manifest()))
    failed = [
        json.loads(line) | {"preference": None, "error": "x"} if number < 2 else json.loads(line)
        for number, line in enumerate(path.read_text().splitlines())
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in failed))
    monkeypatch.setattr(judging, "judge_pairs", lambda *_, **__: 0)  # as if the failures lasted
    with pytest.raises(UserError, match=r"10 of 12 samples have a verdict; .* --allow-missing"):
        head_to_head(one, other)
    assert head_to_head(one, other, allow_missing=True).estimates[0].n < whole.estimates[0].n


def test_runs_of_other_prompts_or_the_same_run_are_not_compared(run, tmp_path):
    with pytest.raises(UserError, match=r"identity\.tasks is not that of"):
        head_to_head(run, sampled(tmp_path / "longer", limit=7))
    with pytest.raises(UserError, match="not judged against itself"):
        head_to_head(run, Run(run.folder))


def test_samples_that_the_other_run_lacks_are_named(run, tmp_path):
    [fewer] = pipeline.sample(
        "control:random-words", "pocket", tmp_path / "fewer", pipeline.SampleOptions(limit=6, k=1)
    )
    with pytest.raises(UserError, match="the run to compare with has no sample"):
        head_to_head(run, fewer)


def test_tasks_without_references_are_left_out_and_said(tmp_path):
    """The sequential instructions that can be had without the hub have no reference."""
    model = tiny_suites.make_model(tmp_path / "model")
    options = pipeline.SampleOptions(data_root=make_data_root(tmp_path / "data"), limit=2, k=2, temperatures=(1.0,))
    [run] = pipeline.sample(str(model), "instructions", tmp_path / "run", options)
    reports = pipeline.judge(run, options=reward_model(tmp_path, "one"))
    assert [r.task for r in reports] == ["gendiv_alpaca_farm", "gendiv_alpaca_eval"]
    assert "no references here to be compared with" in pipeline.score(run).absent["win_rate"]


def test_options_that_a_judge_does_not_have_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="is no server's; leave --base-url and --max-cost out"):
        pipeline.judge(run, options=JudgeOptions(max_cost=1.0))
    with pytest.raises(UserError, match="costs nothing"):
        judging.plan(run)
    with pytest.raises(UserError, match="has no words for gendiv_pocket_id; judges of pocket@v1: "):
        pipeline.judge(run, options=JudgeOptions(judge="summaries-gpt-4.1"))
    with pytest.raises(UserError, match="reads documents of its own suite alone"):
        pipeline.judge(run, options=judge_file(tmp_path, function="os.system"))


@pytest.mark.parametrize("function", ["os.system", "tasks.pocket.world.nothing", "tasks.nowhere.f", "f"])
def test_an_oracle_is_a_function_of_ours_and_of_nobody_elses(tmp_path, function):
    config = find_judge(judge_file(tmp_path, function=function).judge)
    with pytest.raises(UserError, match=r"is not within tasks|is not there"):
        load_judge(config)


def test_the_oracle_of_one_suite_does_not_judge_another_and_leaves_nothing(tmp_path):
    options = pipeline.SampleOptions(data_root=make_data_root(tmp_path / "data"), limit=4, k=2)
    [run] = pipeline.sample("control:random-words", "summarisation", tmp_path / "run", options)
    with pytest.raises(UserError, match="judge oracle reads documents of its own suite alone; judges of summarisation"):
        pipeline.judge(run, options=JudgeOptions(judge="oracle"))
    assert not (run.folder / "verdicts").exists()


def test_nobody_elses_judge_takes_the_name_of_the_suites_own(run, tmp_path):
    """Not when judging, and not by a configuration that is put beside the verdicts."""
    with pytest.raises(UserError, match="oracle is the name of the suite's own judge; give yours another"):
        pipeline.judge(run, options=judge_file(tmp_path, "oracle", samples={"temperature": 1.0, "index": 0}))
    pipeline.judge(run)
    path = run.judge_path("oracle")
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(UserError, match="is not judge oracle as it is here"):
        pipeline.score(run)


def test_a_verdict_that_was_edited_is_not_scored(run):
    pipeline.judge(run)
    path = run.verdicts_path(TASKS[0], "oracle")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lost = next(number for number, line in enumerate(lines) if line["preference"] == 0.0)
    lines[lost]["preference"] = 1.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"says 1\.0, and what the judge replied gives 0\.0; was the file edited"):
        pipeline.score(run)


def test_a_task_that_was_never_judged_is_missing_when_that_is_allowed_and_flagged(run):
    pipeline.judge(run)
    run.verdicts_path(TASKS[0], "oracle").unlink()
    with pytest.raises(UserError, match="no such file; run `gendiv judge`"):
        pipeline.score(run)
    scores = pipeline.score(run, allow_missing=True)
    assert "id" not in {role for role, _ in rates(scores)}
    assert [flag.code for flag in scores.flags if "judge" in flag.code] == ["not_judged_in_full"]
    assert run.scores() == scores
