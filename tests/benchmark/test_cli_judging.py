"""Judging through the command: a real server on this machine, planted keys, money, and a user's mistakes."""

import json
import shutil
import sys

import pytest
import yaml
from data_root import make_data_root
from judge_server import JudgeServer

from benchmark import cli, pipeline
from benchmark.runs import Run
from benchmark.suites import tasks_folder

KEY = "sk-planted-0123456789abcdef"
PAIRS = [{"prompt": f"say {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(8)]


@pytest.fixture
def gendiv(monkeypatch, capfd):
    """Run the command in this process, with a key; returns (exit status, output, error output)."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capfd.readouterr()
        assert KEY not in out + err
        return status, out, err

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture
def run(data, tmp_path):
    """A control's samples on the summarisation suite: 24 and 9 prompts, some without a reference."""
    options = pipeline.SampleOptions(data_root=data, k=2)
    [run] = pipeline.sample("control:random-words", "summarisation", tmp_path / "run", options)
    return run


@pytest.fixture
def judge(tmp_path):
    """A judge with a price, for any server."""
    fields = yaml.safe_load((tasks_folder() / "summarisation/judges/summaries-gpt-4.1.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(fields | {"judge": "mine", "model": "m"}))
    return path


def test_a_dry_run_tells_calls_and_price_and_asks_nothing(gendiv, run, judge, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with JudgeServer() as server:
        status, out, _ = gendiv("judge", run.folder, "--judge", judge, "--base-url", server.url, "--dry-run")
        assert server.asked == []
    assert status == 0
    pairs = {task: sum(bool(prompt.references) for prompt in asked) for task, asked in prompts(run).items()}
    for task, count in pairs.items():
        line = next(line for line in out.splitlines() if task in line)
        assert line.split()[1:4] == [str(count), "0", str(2 * count)]
    assert not (run.folder / "verdicts").exists()


def prompts(run):
    from benchmark.opened import open_run

    return open_run(run).prompts


def test_a_run_is_judged_scored_and_compared_and_the_key_is_nowhere(gendiv, run, judge, data, tmp_path):
    options = pipeline.SampleOptions(data_root=data, k=2)
    [other] = pipeline.sample("control:shuffled-references", "summarisation", tmp_path / "other", options)
    with JudgeServer(shares={"429": 0.05, "500": 0.05, "cut": 0.05, "not-json": 0.05}) as server:
        for folder in (run.folder, other.folder):
            status, out, err = gendiv("judge", folder, "--judge", judge, "--base-url", server.url)
            assert status == 0, err
            for word in ("position bias", "orders agree", "ties", "failed", "USD"):
                assert word in out
        assert max(server.answered.values()) == 1, "no question was answered twice"
        status, out, err = gendiv(
            "judge", run.folder, "--judge", judge, "--base-url", server.url, "--against", other.folder
        )
        assert status == 0, err
        assert "random-words against shuffled-references: win rate" in out
    for folder in (run.folder, other.folder):
        status, out, _ = gendiv("score", folder)
        assert status == 0
        assert "win_rate" in out
        assert "news articles (CNN/DailyMail): " in out, "why there is no length-controlled rate of so few prompts"
    scores = Run(run.folder).scores()
    assert {e.temperature for e in scores.estimates if e.metric == "win_rate"} == {1.0}
    report = scores.notes["judge"]["gendiv_tldr"]
    assert report["calls"] == 2 * report["judged"] > 0
    assert report["cost"] > 0
    assert -0.5 <= report["position_bias"] <= 0.5
    status, out, _ = gendiv("compare", run.folder, other.folder)
    assert status == 0
    assert "win rate" in out
    assert "p (Holm)" in out
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    for same in (run.folder, copy):
        status, out, err = gendiv("compare", run.folder, same)
        assert (status, out) == (2, "")
        assert f"{same}: both are the same run, 'random-words'; give two" in err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_max_cost_stops_and_the_same_command_goes_on(gendiv, run, judge):
    with JudgeServer() as server:
        arguments = ("judge", run.folder, "--judge", judge, "--base-url", server.url)
        status, _, err = gendiv(*arguments, "--max-cost", "0.003", "--concurrency", "1")
        assert status == 2
        assert "stopped at --max-cost 0.003" in err
        assert err.rstrip().endswith("the same command goes on")
        some = sum(server.answered.values())
        assert some > 0
        assert gendiv("score", run.folder)[0] == 2, "half a run is not scored"
        assert gendiv(*arguments)[0] == 0
        assert sum(server.answered.values()) > some
        assert max(server.answered.values()) == 1


def test_a_judge_is_measured_on_labelled_pairs(gendiv, judge, tmp_path):
    inside, outside = tmp_path / "inside.jsonl", tmp_path / "outside.jsonl"
    inside.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    outside.write_text("".join(json.dumps(row | {"prompt": f"x {row['prompt']}"}) + "\n" for row in PAIRS))
    with JudgeServer() as server:
        arguments = ("judge-accuracy", "--judge", judge, "--base-url", server.url, "--out", tmp_path / "out")
        status, out, err = gendiv(*arguments, "--id", inside, "--ood", outside)
        assert status == 0, err
        assert "inside (ID) minus outside (OOD):" in out
        asked = len(server.asked)
        assert asked == 4 * len(PAIRS)
        assert gendiv(*arguments, "--id", inside, "--ood", outside)[1] == out
        assert len(server.asked) == asked, "what is known is not asked again"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--judge", "nobody"), "no judge 'nobody'"),
        (("--judge", "summaries-local"), "give --model"),
        (("--judge", "answers-gpt-4.1"), "has no words for gendiv_tldr"),
        (("--judge", "summaries-gpt-4.1", "--base-url", "nonsense"), "base_url"),
        (("--judge", "reward-model", "--model", "nowhere"), "nowhere"),
        (("--judge", "summaries-gpt-4.1", "--against", "nowhere"), "no such file"),
        ((), "has no judge of its own; give --judge"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(gendiv, run, arguments, says):
    before = sorted(run.folder.rglob("*"))
    status, _, err = gendiv("judge", run.folder, *arguments)
    assert status == 2
    assert err.startswith("gendiv: ")
    assert err.count("\n") == 1, err
    assert says in err
    assert sorted(run.folder.rglob("*")) == before


FAULTS = {
    "429": 0.08,
    "500": 0.05,
    "cut": 0.05,
    "truncated-json": 0.05,
    "no-choices": 0.03,
    "injection": 0.05,
    "nan": 0.05,
}


def test_scores_after_faults_are_those_of_a_server_without_any(gendiv, run, judge, tmp_path):
    twin = Run(shutil.copytree(run.folder, tmp_path / "twin"))
    with JudgeServer() as calm, JudgeServer(shares=FAULTS) as wild:
        for folder, server in ((run.folder, calm), (twin.folder, wild)):
            status, _, err = gendiv("judge", folder, "--judge", judge, "--base-url", server.url)
            assert status == 0, err
            assert gendiv("score", folder)[0] == 0
        assert sum(wild.replied.values()) > sum(calm.replied.values()), "some replies were hostile"
    first, second = run.scores(), twin.scores()
    for part in ("estimates", "per_prompt", "doc_ids", "flags", "absent", "identity"):
        assert getattr(first, part) == getattr(second, part), part


def test_a_number_that_rests_on_fewer_prompts_says_so(gendiv, run, judge):
    with JudgeServer() as server:
        gendiv("judge", run.folder, "--judge", judge, "--base-url", server.url)
    path = run.verdicts_path("gendiv_tldr", "mine")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    assert gendiv("score", run.folder)[0] == 2
    status, out, _ = gendiv("score", run.folder, "--allow-missing")
    assert status == 0
    assert f"(n = {len(lines) - 3} of 24)" in " ".join(out.split())
    assert "3 samples have no verdict of mine" in " ".join(out.split())


def test_a_preference_that_its_raw_replies_do_not_give_is_refused(gendiv, run, judge):
    with JudgeServer() as server:
        gendiv("judge", run.folder, "--judge", judge, "--base-url", server.url)
    path = run.verdicts_path("gendiv_tldr", "mine")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["preference"] = 0.99
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = gendiv("score", run.folder)
    assert status == 2
    assert "says 0.99, and what the judge replied gives" in err


def test_a_judge_without_a_key_leaves_nothing(gendiv, run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    status, _, err = gendiv("judge", run.folder, "--judge", "summaries-gpt-4.1")
    assert status == 2
    assert "set OPENAI_API_KEY" in err
    assert not [path for path in (run.folder / "verdicts").rglob("*") if path.is_file()]
    assert run.judges() == []
