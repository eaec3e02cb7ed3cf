"""``gendiv reproduce`` writes what it shows, the same each time."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = ["--submissions", str(REPOSITORY / "submissions"), "--board", str(REPOSITORY / "leaderboard" / "board")]


def run(*words: str) -> str:
    found = CliRunner().invoke(app, ["reproduce", *words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_figure_is_drawn_and_a_table_is_written(tmp_path: Path) -> None:
    shown = run("figure", "5", "--out", str(tmp_path), *OURS)
    assert "≈ 0.05" in shown
    assert set(files(tmp_path)) == {f"figure-5.{ending}" for ending in ("svg", "png", "md", "csv")}
    assert files(tmp_path)["figure-5.png"].startswith(b"\x89PNG")
    by_nli = "Boards keep no NLI: gendiv score RUN --nli MODEL measures it."
    assert by_nli in run("table", "11", "--out", str(tmp_path), *OURS)
    assert by_nli not in run("table", "j-win-rates", "--out", str(tmp_path), *OURS)
    assert {name for name in files(tmp_path) if name.startswith("table")} == {
        *(f"table-11.{ending}" for ending in ("svg", "png", "md", "csv")),
        *("table-j-win-rates.md", "table-j-win-rates.csv"),
    }
    assert (tmp_path / "table-11.md").read_text(encoding="utf-8").startswith("# Appendix J.4, Table 11")
    assert "facebook/opt-6.7b,ppo,id,ead_per_input,1.0,published,,0.07" in (tmp_path / "table-11.csv").read_text()


@pytest.mark.parametrize("asked", [[], ["--paper-protocol"]])
def test_all_of_them_are_the_same_bytes_again_and_the_choices_in_force_are_printed(
    tmp_path: Path, asked: list[str]
) -> None:
    one, other = (run("all", "--out", str(tmp_path / name), *asked, *OURS) for name in ("one", "other"))
    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert len(files(tmp_path / "one")) == 13
    choice = next(line for line in one.splitlines() if line.startswith("best-of-N is drawn at"))
    assert choice.rstrip().endswith("the paper's" if asked else "ours")
    assert other.splitlines()[:5] == one.splitlines()[:5]


@pytest.mark.parametrize("asked", [["table", "11"], ["figure", "5"], ["all"], ["plan"]])
@pytest.mark.parametrize("below", ["", "folder"])
def test_an_out_that_is_a_file_is_refused_before_anything_is_printed(
    tmp_path: Path, asked: list[str], below: str
) -> None:
    file = tmp_path / "README.md"
    file.write_text("kept")
    found = CliRunner().invoke(app, ["reproduce", *asked, "--out", str(file / below), *OURS])
    assert str(found.exception) == f"{file}: is a file; --out names a folder"
    assert found.output == ""
    assert file.read_text() == "kept"


@pytest.mark.parametrize("asked", [["table", "11"], ["figure", "5"], ["all"], ["plan"]])
def test_a_board_that_is_not_there_is_one_line_and_is_not_made(tmp_path: Path, asked: list[str]) -> None:
    wrong = tmp_path / "wrong"
    words = ["reproduce", *asked, "--out", str(tmp_path / "out"), *OURS[:2], "--board", str(wrong)]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, UserError)
    assert str(found.exception).startswith(f"{wrong}: no such folder")
    assert list(tmp_path.iterdir()) == []
