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


def test_every_study_offers_the_same():
    whole = set(inspect.signature(cli_study._offered).parameters)
    assert {"world", "ladders", "suite", "judge", "only"} <= whole
    for name in ("kl", "temperature", "best-of-n", "size", "seeds"):
        assert options(name) == whole


@pytest.mark.parametrize(
    ("study", "option", "given"),
    [
        ("size", "--ladders", "elsewhere"),
        ("seeds", "--suite", "toy"),
        ("seeds", "--judge", "toy"),
        ("seeds", "--out", "elsewhere"),
    ],
)
def test_an_option_that_a_study_has_no_use_for_is_refused(study, option, given, tmp_path):
    more = ["--results", str(tmp_path), "--only", "report", option, given]
    ran = CliRunner().invoke(app, ["study", study, *more])
    assert isinstance(ran.exception, UserError)
    assert f"{option}: study {study} of pocket has no use for it" in str(ran.exception)
    assert not list(tmp_path.iterdir())


def test_a_quick_study_of_seeds_has_a_use_for_a_folder(tmp_path):
    more = ["--out", str(tmp_path / "out"), "--results", str(tmp_path), "--only", "report", "--quick"]
    ran = CliRunner().invoke(app, ["study", "seeds", *more])
    assert isinstance(ran.exception, UserError)
    assert "seed 11 is not done" in str(ran.exception)
