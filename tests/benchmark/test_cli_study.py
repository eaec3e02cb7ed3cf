"""What ``gendiv study`` offers: an option that would be ignored is refused, or not there."""

import inspect

import pytest
from typer.testing import CliRunner

from benchmark import cli_study
from benchmark.cli import app
from benchmark.errors import UserError


def options(name):
    (command,) = (one for one in cli_study.app.registered_commands if one.name == name)
    return set(inspect.signature(command.callback).parameters)


def test_every_study_offers_the_same_but_for_what_it_has_no_use_for():
    whole = set(inspect.signature(cli_study._offered).parameters)
    assert {"world", "ladders", "suite", "judge", "only"} <= whole
    for name in ("kl", "temperature", "best-of-n", "seeds"):
        assert options(name) == whole
    assert options("size") == whole - {"world", "ladders"}


def test_an_option_that_a_study_has_no_use_for_is_unknown_to_it(tmp_path):
    ran = CliRunner().invoke(app, ["study", "size", "--ladders", str(tmp_path)])
    assert ran.exit_code == 2


@pytest.mark.parametrize("option", ["--suite", "--judge"])
def test_the_pocket_seeds_take_no_other_suite_or_judge(option, tmp_path):
    given = ["--ladders", str(tmp_path), "--results", str(tmp_path), "--only", "report", option, "toy"]
    ran = CliRunner().invoke(app, ["study", "seeds", *given])
    assert isinstance(ran.exception, UserError)
    assert "their own suite" in str(ran.exception)
    assert not list(tmp_path.iterdir())
