"""The suites of small models: short prompts of stand-ins, frozen, so that rows are held to them without the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from data_root import make_data_root
from hypothesis import example, given
from hypothesis import strategies as st

from benchmark.data import sources
from benchmark.data.adopt import adopt
from benchmark.errors import UserError
from benchmark.judging.config import RewardModelConfig, find_judge
from benchmark.scoring import _apart
from benchmark.statistics.length_control import LEAST_PROMPTS
from benchmark.submission.suited import suites_own
from benchmark.suites import has_frozen_prompts, load_prompts, load_suite, load_suites, task_identities, tasks_folder
from reference_models import real_text
from tasks.instructions.prompts import alpaca
from tasks.real_text import short
from tasks.summarisation.prompts import cnn_dailymail, tldr

SUITES = ("real-text-summarisation", "real-text-instructions")
ROOM = 1024


def text(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(least, most).map(lambda n: "x" * n)


@given(text(2300, 2420), st.sampled_from(["", " ", "\n", "s", "a summary"]))
@example("x" * (2400 - 45), "s")
def test_a_text_is_summarised_where_it_has_a_summary_and_both_are_short(long: str, summary: str) -> None:
    post = {"subreddit": "tifu", "title": "", "post": long, "summary": summary}
    assert short.post(post) == (summary.strip() != "" and len(tldr(post) + summary) <= 2400)
    article = {"article": long, "highlights": summary}
    assert short.article(article) == (summary.strip() != "" and len(cnn_dailymail(article) + summary) <= 2400)


@given(text(1300, 1700), st.none() | text(0, 300))
def test_an_instruction_is_asked_where_it_and_its_answer_are_short_whether_it_has_one_or_not(
    long: str, output: str | None
) -> None:
    document = {"instruction": long} | ({} if output is None else {"output": output})
    assert short.instruction(document) == (len(alpaca(document) + (output or "")) <= 1600)
    assert short.instruction(document | {"output": None}) == (len(alpaca(document)) <= 1600)


@pytest.mark.parametrize("keep", [short.post, short.article, short.instruction])
def test_the_longest_that_is_kept_has_the_most_characters_and_one_more_is_too_long(keep) -> None:
    def document(n: int) -> dict[str, str]:
        long = "x" * n
        return {
            **{"subreddit": "a", "title": "", "post": long, "summary": "s"},
            **{"article": long, "highlights": "s", "instruction": long, "output": "s"},
        }

    write, most = {
        short.post: (tldr, short.MOST_TO_SUMMARISE),
        short.article: (cnn_dailymail, short.MOST_TO_SUMMARISE),
        short.instruction: (alpaca, short.MOST_TO_ANSWER),
    }[keep]
    room = most - len(write(document(0))) - 1
    assert keep(document(room))
    assert not keep(document(room + 1))


@pytest.mark.parametrize("name", SUITES)
def test_the_yaml_asks_for_what_the_suite_samples_and_for_nothing_to_train_on(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    suite = load_suite(name)
    assert suite.sampling is not None
    assert suite.sampling.max_prompt_tokens + suite.sampling.max_new_tokens == ROOM
    for entry in suite.tasks:
        task = load_yaml(tasks_folder() / "real_text" / f"{entry.task}.yaml")
        assert task["repeats"] == task["filter_list"][0]["filter"][0]["k"] == suite.sampling.k == 16
        assert task["generation_kwargs"] == {
            "do_sample": True,
            "temperature": 1.0,
            "top_p": suite.sampling.top_p,
            "top_k": suite.sampling.top_k,
            "max_gen_toks": suite.sampling.max_new_tokens,
            "until": list(suite.sampling.stop),
        }
        assert entry.prompts is not None
        assert task["dataset_kwargs"]["prompts"] == entry.prompts.n
        assert "views" not in task["metadata"]
        assert entry.prompts.data.startswith("stand-in: ")
        assert entry.prompts.references == (entry.prompts.references_apart is not None)


@pytest.mark.parametrize("name", SUITES)
def test_all_but_the_size_and_what_it_takes_is_the_real_suites(name: str) -> None:
    small, real = load_suite(name), load_suite(name.removeprefix("real-text-"))
    for field in ("gate", "length_range", "encoder", "judge", "imported", "texts"):
        assert getattr(small, field) == getattr(real, field)
    assert (small.plane.role, small.plane.y, small.plane.y2) == (real.plane.role, real.plane.y, real.plane.y2)
    assert small.length_control is None
    assert small.plane.x.metric == "win_rate"
    assert all(t.prompts.n < LEAST_PROMPTS for t in small.tasks if t.prompts), "too few for a fit in length"
    assert [entry.role for entry in small.tasks] == [entry.role for entry in real.tasks]
    assert small.sampling is not None
    assert real.sampling is not None
    own = {"max_new_tokens", "max_prompt_tokens"}
    assert small.sampling.model_dump(exclude=own) == real.sampling.model_dump(exclude=own)


@pytest.mark.parametrize("name", SUITES)
def test_without_data_a_row_is_held_to_the_frozen_prompts_and_the_pinned_judge(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.DATA_ROOT, "")
    suite = load_suite(name)
    own = suites_own(suite.id)
    assert [(t.n_prompts, t.prompts_sha256, t.data) for t in own.tasks] == [
        (t.prompts.n, t.prompts.sha256, t.prompts.data) for t in suite.tasks if t.prompts
    ]
    judge = find_judge("real-text-judge")
    assert isinstance(judge, RewardModelConfig)
    assert judge.is_pinned
    assert (own.judge, own.judge_sha256) == (judge.judge, judge.sha256)


@pytest.mark.parametrize("name", SUITES)
def test_without_data_and_with_other_data_nothing_is_asked_and_one_line_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, says in (
        ("", r"suite real-text-.*@v1 is of stand-ins that no hub has: make them with `gendiv data adopt`"),
        (
            str(make_data_root(tmp_path / "data")),
            r"task real_text_\w+: the data here give \d+ prompts of hash \w+…, and",
        ),
    ):
        monkeypatch.setenv(sources.DATA_ROOT, root)
        with pytest.raises(UserError, match=says) as error:
            load_prompts(load_suite(name))
        assert "\n" not in str(error.value)


def test_only_these_suites_and_imported_ones_freeze_their_prompts() -> None:
    assert {s.suite for s in load_suites().values() if has_frozen_prompts(s) and not s.imported} == set(SUITES)


def test_the_stand_ins_are_what_the_suites_were_frozen_with(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(shared_data, tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(tmp_path / "data"))
    for name in SUITES:
        suite = load_suite(name)
        prompts = load_prompts(suite)
        assert [task.data for task in task_identities(suite, prompts)] == [t.prompts.data for t in suite.tasks]
        for entry in suite.tasks:
            asked = prompts[entry.task]
            assert {bool(prompt.references) for prompt in asked} == {entry.prompts.references}
            # No token of a real tokenizer is less than a character, and few are less than two.
            assert max(len(p.text) + sum(map(len, p.references)) for p in asked) <= short.MOST_TO_SUMMARISE


@pytest.mark.slow
def test_references_are_as_far_apart_as_the_suites_say(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.metrics.encoder import Encoder

    adopt(shared_data, tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(tmp_path / "data"))
    for name in SUITES:
        suite = load_suite(name)
        encoder = Encoder(suite.encoder)
        for entry, prompts in zip(suite.tasks, load_prompts(suite).values(), strict=True):
            found = _apart(prompts, encoder)
            assert (found is None) == (entry.prompts.references_apart is None)
            if found is not None:
                assert found == pytest.approx(entry.prompts.references_apart, abs=2e-3)


def test_every_task_says_that_it_is_a_stand_in() -> None:
    for path in (tasks_folder() / "real_text").glob("real_text_*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# A stand-in: ")
    for name in SUITES:
        assert "stand in for" in load_suite(name).description
    assert (
        yaml.safe_load((tasks_folder() / "real_text" / "judges" / "real-text-judge.yaml").read_text())["model"] is None
    )


def test_what_is_evaluated_is_part_of_what_training_data_are_held_against(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(shared_data, tmp_path / "root")
    monkeypatch.setenv("GENDIV_DATA", str(tmp_path / "root"))
    guarded = {
        prompt.text
        for suite in real_text.SUITES
        for prompts in load_prompts(load_suite(suite)).values()
        for prompt in prompts
    }
    asked = {
        prompt.text for name in SUITES for prompts in load_prompts(load_suite(name)).values() for prompt in prompts
    }
    assert len(asked) == 2 * 96 + 3 * 50
    assert asked <= guarded
