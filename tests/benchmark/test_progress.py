"""What is told on the error stream: nothing of a short run, a line now and then of a long one, bars on a terminal."""

import io

import pytest
from rich.console import Console

from benchmark import progress
from benchmark.progress import Bars


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def told(capsys):
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_a_short_run_on_a_pipe_tells_nothing(clock, capsys):
    with Bars(clock) as bars:
        for _ in range(290):
            bars.stage("sampling", 10, 2900)
            clock.now += 0.1
    assert told(capsys) == []


def test_a_long_run_on_a_pipe_tells_rate_and_time_left_at_most_every_half_minute(clock, capsys):
    with Bars(clock) as bars:
        for _ in range(601):
            bars.stage("sampling", 410, 171_000)
            clock.now += 1
    lines = told(capsys)
    assert len(lines) == 20
    assert lines[0] == "sampling 12,710/171,000 (7 %), 410/s, 6 min left"
    assert len({line for line in lines if "410/s" in line}) == 20


def test_what_was_found_does_not_count_as_speed(clock, capsys):
    with Bars(clock) as bars:
        bars.stage("sampling", 900_000, 1_000_000)
        for _ in range(40):
            clock.now += 1
            bars.stage("sampling", 2, 1_000_000)
    assert told(capsys) == ["sampling 900,060/1,000,000 (90 %), 2/s, 13 h 53 min left"]


def test_a_stage_that_does_not_move_has_no_rate(clock, capsys):
    with Bars(clock) as bars:
        bars.stage("judging", 5, 10)
        clock.now += 31
        bars.stage("judging", 0, 10)
        clock.now += 31
        bars.stage("judging", 1, 10)
    assert told(capsys) == ["judging 5/10 (50 %)", "judging 6/10 (60 %), 0.016/s, 4 min left"]


@pytest.mark.parametrize("environment", [{"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "2"}])
def test_of_several_processes_only_the_first_tells(clock, capsys, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Bars(clock) as bars:
        bars.stage("sampling", 0, 10)
        clock.now += 40
        bars.stage("sampling", 4, 10)
    assert len(told(capsys)) == (environment["RANK"] == "0")


def test_of_jobs_side_by_side_on_a_pipe_the_one_that_moved_last_is_told_every_half_minute(clock, capsys):
    with Bars(clock) as bars:
        for _ in range(40):
            bars.job("ppo", "training", 1, 100)
            bars.job("dpo", "training", 2, 100)
            clock.now += 1
    assert told(capsys) == ["ppo training 31/100 (31 %), 1/s, 69 s left"]


def test_a_job_that_begins_a_stage_again_is_told_from_its_beginning(clock, capsys):
    with Bars(clock) as bars:
        bars.job("ppo", "training", 90, 100)
        bars.job("ppo", "judging", 1, 2)
        clock.now += 31
        bars.job("ppo", "training", 5, 100)
    assert told(capsys) == ["ppo training 5/100 (5 %)"]


def test_a_terminal_gets_a_bar_with_a_rate(clock, monkeypatch):
    screen = io.StringIO()

    def terminal(**_):
        return Console(file=screen, force_terminal=True, width=160)

    monkeypatch.setattr(progress, "Console", terminal)
    with Bars(clock) as bars:
        bars.stage("sampling", 0, 100)
        for _ in range(5):
            bars.stage("sampling", 10, 100)
    assert "sampling" in screen.getvalue()
    assert "50/100" in screen.getvalue()
    assert "/s" in screen.getvalue()
