"""A gate frozen on what a reward model gives the references, and effective diversity by it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_suites
import torch
import yaml

from benchmark import cli, pipeline
from benchmark.errors import UserError
from benchmark.judging.gate import freeze, read_gate, scored_by
from benchmark.judging.runs import JudgeOptions, judged
from benchmark.metrics.validity import invalid_reason
from benchmark.opened import open_run
from benchmark.runs import Run
from reference_models.tiny import make_checkpoint

PROMPTS = 24


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory) -> Path:
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("rm") / "rm"
    make_checkpoint(folder, tiny_suites.WORDS, seed=0, architecture=tiny_suites.ARCHITECTURE)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.score.weight.data.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(reward_model, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("gate")
    options = pipeline.SampleOptions(data_root=tiny_suites.make_data_root(folder / "data", PROMPTS), k=3)
    [run] = pipeline.sample("control:random-words", "summarisation", folder / "run", options)
    pipeline.judge(run, options=JudgeOptions(judge="reward-model", model=str(reward_model), device="cpu"))
    return run


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5])
def test_the_threshold_is_the_score_of_a_reference_that_so_many_reach(run, quantile):
    gate = freeze(open_run(run), "reward-model.rm", "rm", quantile)
    for task, least in gate.minimum_score.items():
        scores = {v.doc_id: v.reference_score for v in run.verdicts(task, "reward-model.rm")}
        assert len(scores) == PROMPTS
        assert least in scores.values()
        assert sum(score >= least for score in scores.values()) >= (1 - quantile) * PROMPTS
        assert sum(score > least for score in scores.values()) <= (1 - quantile) * PROMPTS


def test_effective_diversity_by_it_counts_the_samples_that_score_as_high(run, tmp_path):
    path = tmp_path / "rm.yaml"
    gate = freeze(open_run(run), "reward-model.rm", "rm", 0.9)
    path.write_text(yaml.safe_dump(gate.model_dump(mode="json")))
    scores = pipeline.score(run, gates=[path])
    shares = {(e.task, e.metric): e.value for e in scores.estimates if e.metric.startswith("valid_share_")}
    opened = open_run(run)
    for task, least in gate.minimum_score.items():
        told = {verdict.cell: verdict.score for verdict in run.verdicts(task, "reward-model.rm")}
        prompts = {prompt.doc_id: prompt for prompt in opened.prompts[task]}
        passes = []
        for s in opened.samples(task):
            prompt = prompts[s.doc_id]
            reason = invalid_reason(
                prompt.text, s.text, s.finish_reason, references=prompt.references, cut_off_is_valid=True
            )
            passes.append(reason is None and told[s.cell] >= least)
        assert shares[task, "valid_share_rm"] == pytest.approx(np.mean(passes))
        assert 0 < shares[task, "valid_share_rm"] < shares[task, "valid_share_attempt"]
    metrics = {estimate.metric for estimate in scores.estimates}
    assert {"effective_per_input_rm", "conditional_per_input_rm", "effective_across_input_rm"} <= metrics
    assert scores.notes["gates"]["rm"]["judge_sha256"] == judged(opened, "reward-model.rm").sha256


def test_the_command_prints_what_the_score_command_reads(run, tmp_path, monkeypatch, capsys):
    def gendiv(*arguments):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, capsys.readouterr()
        return 0, capsys.readouterr()

    asked = ("gate", run.folder, "--judge", "reward-model.rm", "--name", "rm", "--quantile", "0.2")
    _, printed = gendiv(*asked)
    _, _ = gendiv(*asked, "--out", tmp_path / "gate.yaml")
    assert (tmp_path / "gate.yaml").read_text() == printed.out
    assert read_gate(tmp_path / "gate.yaml") == freeze(open_run(run), "reward-model.rm", "rm", 0.2)
    _, printed = gendiv("score", run.folder, "--gate", tmp_path / "gate.yaml", "--metrics", "effective")
    assert "effective_per_input_rm" in printed.out
    status, printed = gendiv("score", run.folder, *(["--gate", tmp_path / "gate.yaml"] * 2))
    assert status
    assert "two gates are called 'rm'" in printed.err


def test_thresholds_of_another_version_of_the_model_are_refused(run):
    opened = open_run(run)
    gate = freeze(opened, "reward-model.rm", "rm").model_copy(update={"judge_sha256": "0" * 64})
    with pytest.raises(UserError, match=r"of another version of judge reward-model\.rm"):
        scored_by(opened, gate, judged(opened))


def test_a_gate_without_a_task_is_refused(run):
    opened = open_run(run)
    gate = freeze(opened, "reward-model.rm", "rm")
    gate = gate.model_copy(update={"minimum_score": {"gendiv_tldr": 0.0}})
    with pytest.raises(UserError, match="minimum_score has no gendiv_cnn_dailymail"):
        scored_by(opened, gate, judged(opened))


def test_the_name_of_the_suites_own_gate_is_taken(run):
    with pytest.raises(UserError, match="is the gate of suite summarisation@v1"):
        freeze(open_run(run), "reward-model.rm", "attempt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not a gate's YAML"),
        ("name: x\nleast: 3", "least"),
        ("name: x\nminimum_score: {a: 1}", "come together"),
    ],
)
def test_a_gates_file_that_is_none_is_named(tmp_path, text, message):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_gate(path)
    assert str(path) in str(error.value)


def test_a_path_that_is_no_file_is_not_called_wrong_yaml(tmp_path):
    for path, message in (
        (tmp_path / "none.yaml", "no such file; `gendiv gate"),
        (tmp_path, "is a folder; give the YAML"),
    ):
        with pytest.raises(UserError, match=f"^{path}: {message}"):
            read_gate(path)
