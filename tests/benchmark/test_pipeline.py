"""The stages called from Python: several suites, suites without a judge, local data."""

import os

import pytest
import tiny_suites

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.sampling import model as models

CONTROL = "control:shuffled-references"
SUITES = ["summarisation", "instructions"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_suites.make_data_root(tmp_path_factory.mktemp("data") / "root", 4)


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch):
    """Whatever a test sets is unset after it."""
    monkeypatch.setenv("GENDIV_DATA", "")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_suites.make_model(tmp_path_factory.mktemp("models") / "tiny")


def options(data, **more):
    return pipeline.SampleOptions(data_root=data, k=2, **more)


def test_one_suite_fills_the_folder_itself_and_several_a_folder_each(data, tmp_path):
    [alone] = pipeline.sample(CONTROL, "summarisation", tmp_path / "one", options(data))
    runs = pipeline.sample(CONTROL, SUITES, tmp_path / "several", options(data))
    assert [run.folder for run in (alone, *runs)] == [
        tmp_path / "one",
        tmp_path / "several" / "summarisation",
        tmp_path / "several" / "instructions",
    ]
    for task in tiny_suites.TASKS["summarisation"]:
        assert alone.samples(task) == runs[0].samples(task)


def test_a_control_is_made_of_each_suites_own_references(data, tmp_path):
    for run in pipeline.sample(CONTROL, SUITES, tmp_path, options(data)):
        references = {
            (task.task, reference)
            for task in run.manifest().identity.tasks
            for prompt in pipeline.load_prompts(pipeline.load_suite(run.manifest().identity.suite))[task.task]
            for reference in prompt.references
        }
        samples = [sample for task in run.manifest().identity.tasks for sample in run.samples(task.task)]
        assert samples
        assert all((sample.task, sample.text) in references for sample in samples)


def test_a_model_is_built_once_for_all_suites(checkpoint, data, tmp_path, monkeypatch):
    built = []
    build = models.build

    def counting(*given, **more):
        built.append(given[0])
        return build(*given, **more)

    monkeypatch.setattr(models, "build", counting)
    small = options(data, temperatures=(0.7,), batch_size=16, limit=2)
    assert len(pipeline.sample(str(checkpoint), SUITES, tmp_path / "out", small)) == 2
    assert built == [str(checkpoint)]


@pytest.mark.parametrize(
    ("suites", "says"),
    [([], "no suite"), (["pocket", "pocket@v1"], "pocket is given twice"), (["pocket", "nope"], "no suite 'nope'")],
)
def test_senseless_suites_are_refused_before_anything_is_written(tmp_path, suites, says):
    with pytest.raises(UserError, match=says):
        pipeline.sample(CONTROL, suites, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_suites_do_not_go_into_one_suites_run_or_a_file(data, tmp_path):
    pipeline.sample(CONTROL, "summarisation", tmp_path / "out", options(data))
    (tmp_path / "file").write_text("mine")
    for out in ("out", "file"):
        with pytest.raises(UserError, match="is no folder of one run a suite"):
            pipeline.sample(CONTROL, SUITES, tmp_path / out, options(data))


def test_a_second_suite_that_cannot_be_sampled_stops_the_first(data, tmp_path):
    """Everything is checked before anything is written."""
    pipeline.sample(CONTROL, SUITES, tmp_path / "out", options(data, seed=1))
    first = tmp_path / "out" / "summarisation"
    for path in sorted(first.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(UserError, match=r"identity\.sampling\.seed is 1, asked for 2"):
        pipeline.sample(CONTROL, SUITES, tmp_path / "out", options(data, seed=2))
    assert not list(first.iterdir())


def test_a_suite_without_judge_is_scored_without_win_rate_and_not_judged(data, tmp_path):
    [run] = pipeline.sample(CONTROL, "summarisation", tmp_path / "out", options(data))
    identity = run.manifest().identity
    assert (identity.judge, identity.judge_sha256) == (None, None)
    with pytest.raises(
        UserError, match=r"summarisation@v1 has no judge of its own; give --judge, such as: .*summaries-gpt-4"
    ):
        pipeline.judge(run)
    scores = pipeline.score(run)
    metrics = {estimate.metric for estimate in scores.estimates}
    assert any("per_input" in metric for metric in metrics)
    assert not [metric for metric in metrics if "win_rate" in metric]


def test_what_is_said_about_prompts_is_in_the_manifest(data, tmp_path):
    asked = options(data, max_prompt_tokens=77, truncation="keep_end")
    [run] = pipeline.sample(CONTROL, "summarisation", tmp_path / "out", asked)
    sampling = run.manifest().identity.sampling
    assert (sampling.max_prompt_tokens, sampling.truncation) == (77, "keep_end")
    assert set(run.manifest().record["shortened_prompts"]) == set(tiny_suites.TASKS["summarisation"])


def test_a_model_of_little_room_has_its_prompts_shortened_and_counted(checkpoint, data, tmp_path):
    """The budget is below some posts, and above what else a prompt is made of."""
    asked = options(data, temperatures=(0.7,), batch_size=16, max_prompt_tokens=35)
    [run] = pipeline.sample(str(checkpoint), "summarisation", tmp_path / "out", asked)
    assert run.manifest().record["shortened_prompts"]["gendiv_tldr"] > 0


def test_local_data_is_used_by_the_whole_process(data):
    pipeline.use_data(None)
    assert os.environ["GENDIV_DATA"] == ""
    pipeline.use_data(data)
    assert os.environ["GENDIV_DATA"] == str(data)
    with pytest.raises(UserError, match="no such folder of data"):
        pipeline.use_data(data / "nowhere")


def test_progress_tells_all_suites_as_one(data, tmp_path):
    told = []
    small = options(data, limit=3)
    pipeline.sample(CONTROL, SUITES, tmp_path / "out", small, lambda *now: told.append(now))
    assert told[0] == ("sampling", 0, 5 * 3 * 2)
    assert sum(done for _, done, _ in told) == 5 * 3 * 2
    told.clear()
    pipeline.sample(CONTROL, SUITES, tmp_path / "out", small, lambda *now: told.append(now))
    assert told == [("sampling", 30, 30)]
