"""A metric and a judge of one's own, from a package on the import path as pip would leave it."""

import contextlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from data_root import make_data_root
from other_package import JUDGE, METRIC, install

from benchmark import cli, pipeline
from benchmark.compare import compare
from benchmark.entry_points import find
from benchmark.errors import UserError
from benchmark.judging.config import find_judge, own_judges
from benchmark.judging.function import FunctionJudge
from benchmark.judging.runs import JudgeOptions
from benchmark.metrics.own import own_metrics
from benchmark.runs import Run
from benchmark.statistics.intervals import t_interval
from benchmark.texts import read_texts, score_texts

ROWS = [
    {"prompt": "ask", "outputs": ["why?", "what? "]},
    {"prompt": "tell", "outputs": ["so.", "why?"]},
    {"prompt": "hm", "outputs": ["no", "yes"]},
]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_metric_of_another_package_is_scored_with_an_interval_over_prompts(site, tmp_path):
    install(site, METRIC, metrics="questions = elsewhere:questions")
    found = {estimate.metric: estimate for estimate in score_texts(read_texts(texts(tmp_path)))}
    own = found["own_questions"]
    assert own.value == pytest.approx(0.5)
    assert own.n == 3
    assert own.interval == t_interval([1.0, 0.5, 0.0])


def test_it_is_listed_and_printed_in_the_words_of_its_function(site, tmp_path, monkeypatch, capsys):
    install(site, METRIC, metrics="questions = elsewhere:questions")
    for arguments in (["list", "metrics"], ["score", str(texts(tmp_path)), "--metrics", "own_questions"]):
        monkeypatch.setattr(sys, "argv", ["gendiv", *arguments])
        with contextlib.suppress(SystemExit):
            cli.main()
        [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("own_questions")]
        assert "Share of outputs that end" in line


def test_what_the_function_does_not_know_is_missing_and_never_zero(site):
    install(site, "def f(p, o):\n    return [None, float('nan'), 2]\n", metrics="f = elsewhere:f")
    values = own_metrics()[0].per_input(["", "", ""], [["a"]] * 3)
    np.testing.assert_array_equal(values, [np.nan, np.nan, 2.0])


@pytest.mark.parametrize("body", ["[1.0]", "None", "['x', 1, 2]", "[float('inf'), 0, 0]", "3.0"])
def test_a_function_that_gives_anything_else_is_refused_by_name(site, body):
    install(site, f"def f(p, o):\n    return {body}\n", metrics="f = elsewhere:f")
    with pytest.raises(UserError, match=r"metric own_f of elsewhere 1\.2: .* one number, or None, a prompt"):
        own_metrics()[0].per_input(["", "", ""], [["a"]] * 3)


def test_a_fault_of_the_function_keeps_its_traceback(site):
    install(site, "def f(p, o):\n    return 1 / 0\n", metrics="f = elsewhere:f")
    with pytest.raises(ZeroDivisionError):
        own_metrics()[0].per_input([""], [["a"]])


@pytest.mark.parametrize(
    ("code", "line", "message"),
    [
        (METRIC, "Questions = elsewhere:questions", "a name is up to 40 small letters"),
        (METRIC, "q = elsewhere:nothing", "cannot be imported"),
        (METRIC, "q = nowhere_at_all:questions", "cannot be imported"),
        ("number = 3", "q = elsewhere:number", "no function of a Python file"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_named(site, code, line, message):
    install(site, code, metrics=line)
    with pytest.raises(UserError, match=message):
        find("gendiv.metrics")


def test_two_packages_of_one_name_are_refused(site):
    install(site, METRIC, metrics="q = elsewhere:questions")
    install(site, METRIC, metrics="q = other:questions", name="other")
    with pytest.raises(UserError, match="use one name"):
        find("gendiv.metrics")


def test_a_direction_that_is_none_is_refused(site):
    install(site, METRIC + "questions.direction = 'up'\n", metrics="q = elsewhere:questions")
    with pytest.raises(UserError, match=r"direction 'up' is none of 'higher is better'"):
        own_metrics()


def run_of(tmp_path, name="run"):
    options = pipeline.SampleOptions(data_root=make_data_root(tmp_path / "data"), k=2)
    [run] = pipeline.sample("control:random-words", "summarisation", tmp_path / name, options)
    return run


def test_a_judge_of_another_package_judges_a_run_once(site, tmp_path):
    counting = JUDGE.replace("    return", "    calls.append(len(outputs))\n    return") + "calls = []\n"
    install(site, counting, judges="shorter = elsewhere:shorter")
    run = run_of(tmp_path)
    options = JudgeOptions(judge="shorter")
    reports = pipeline.judge(run, options=options)
    assert all(report.judged == report.pairs > 0 for report in reports)
    import elsewhere

    asked = list(elsewhere.calls)
    pipeline.judge(run, options=options)
    assert elsewhere.calls == asked, "nothing is asked again"
    scores = pipeline.score(run)
    rates = {e.task: e.value for e in scores.estimates if e.metric == "win_rate" and e.temperature == 1.0 and e.task}
    for task, rate in rates.items():
        verdicts = run.verdicts(task, "shorter")
        assert all(v.preference == float(v.length < v.reference_length) for v in verdicts)
        assert rate == pytest.approx(np.mean([v.preference for v in verdicts]))


def test_another_version_of_its_code_is_another_judge(site, tmp_path):
    install(site, JUDGE, judges="shorter = elsewhere:shorter")
    before = find_judge("shorter")
    install(site, JUDGE + "# mended\n", judges="shorter = elsewhere:shorter")
    assert find_judge("shorter").sha256 != before.sha256
    with pytest.raises(UserError, match="code_sha256 is not that of elsewhere"):
        FunctionJudge(before)


def test_a_preference_out_of_range_stops_the_judge_and_none_fails_that_verdict_alone(site, tmp_path):
    run = run_of(tmp_path)
    install(site, "def f(p, o, r):\n    return [1.5] * len(o)\n", judges="f = elsewhere:f")
    with pytest.raises(UserError, match=r"judge f of elsewhere 1\.2: .* one preference in \[0, 1\], or None, a pair"):
        pipeline.judge(run, options=JudgeOptions(judge="f"))
    assert not list(run.folder.glob("verdicts/*.jsonl"))
    code = "def g(p, o, r):\n    return [None if n == 0 else 0.25 for n in range(len(o))]\n"
    install(site, code, judges="g = unsure:g", name="unsure")
    reports = pipeline.judge(run, options=JudgeOptions(judge="g"))
    assert [report.failed for report in reports] == [1] * len(reports)


def test_it_needs_no_model_and_no_server(site):
    install(site, JUDGE, judges="shorter = elsewhere:shorter")
    assert own_judges()["shorter"].description == "Prefer the shorter text"
    with pytest.raises(UserError, match="has no model"):
        find_judge("shorter", model="x")


def test_values_of_another_version_of_a_metric_are_not_compared(site, tmp_path):
    install(site, METRIC, metrics="questions = elsewhere:questions")
    run = run_of(tmp_path)
    first = pipeline.score(run)
    assert "own_questions" in {c.metric for c in compare(first, first)}
    other = first.model_copy(update={"notes": {**first.notes, "own": {"own_questions": {"package": "elsewhere 1.3"}}}})
    assert "own_questions" not in {c.metric for c in compare(first, other)}
    assert Run(run.folder).scores().notes["own"]["own_questions"]["package"] == "elsewhere 1.2"


def test_the_worked_example_of_contributing_works(site, tmp_path):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n# tidy\.py\n(.*?)```", text, re.DOTALL)
    entries = dict(re.findall(r'\[project\.entry-points\."(gendiv\.\w+)"\]\n(.*?)\n', text))
    metric, judge = (entries[group].replace('"', "") for group in ("gendiv.metrics", "gendiv.judges"))
    install(site, code, metrics=metric, judges=judge, name="tidy")
    found = {estimate.metric: estimate for estimate in score_texts(read_texts(texts(tmp_path)))}
    assert found["own_questions"].value == pytest.approx(0.5)
    reports = pipeline.judge(run_of(tmp_path), options=JudgeOptions(judge="shorter"))
    assert all(report.judged == report.pairs for report in reports)
