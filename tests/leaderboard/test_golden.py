"""The golden check finds every number that moved, and nothing else."""

from __future__ import annotations

import csv

import pytest
from synthetic_scores import SUITES, swept

from benchmark.errors import UserError
from leaderboard.board import boards
from leaderboard.data_files import leaderboard_data
from leaderboard.golden import OF_ALL_ROWS, TABLE, Moved, moved

NAMES = ("first", "second", "third")


def write(folder, scores):
    folder.mkdir()
    (folder / TABLE).write_text(leaderboard_data(boards(scores, SUITES)).csv(), encoding="utf-8")
    return folder


def table(folder):
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def before(tmp_path):
    return write(tmp_path / "before", [swept(name, quality=0.4 + 0.1 * n, n=20) for n, name in enumerate(NAMES)])


def test_a_new_row_moves_ranks_and_no_row(before, tmp_path):
    rows = [swept(name, quality=0.4 + 0.1 * n, n=20) for n, name in enumerate(NAMES)]
    after = write(tmp_path / "after", [*rows, swept("best", quality=0.95, diversity=0.2, n=20)])
    places = [table(folder)[0].index("rank") for folder in (before, after)]
    ranks = [{row[0]: row[at] for row in table(folder)[1:]} for folder, at in zip((before, after), places, strict=True)]
    assert any(ranks[0][name] != ranks[1][name] for name in NAMES), "or nothing was ignored here"
    assert moved(before, after) == []


def test_every_other_cell_is_held_to_its_last_digit(before, tmp_path):
    header, *rows = table(before)
    for place, column in enumerate(header):
        after = tmp_path / f"after-{place}"
        after.mkdir()
        changed = [list(row) for row in rows]
        changed[1][place] += "1"
        with (after / TABLE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *changed])
        name, suite = rows[1][0], rows[1][header.index("suite")]
        if column in ("model", "suite", "submission"):
            expected = [Moved(name, suite, ())]
        else:
            expected = [] if column in OF_ALL_ROWS else [Moved(name, suite, (column,))]
        assert moved(before, after) == expected, column


def test_a_row_that_is_gone_is_told(before, tmp_path):
    after = write(tmp_path / "after", [swept("first", quality=0.4, n=20)])
    assert {str(row) for row in moved(before, after)} == {"second on toy@v1: gone", "third on toy@v1: gone"}


def test_a_submission_whose_name_now_says_its_revision_has_not_gone(tmp_path):
    row = swept("org/model", quality=0.5, n=20)
    row = row.model_copy(update={"notes": {**row.notes, "submission": "org__model/1/toy@v1"}})
    before = write(tmp_path / "before", [row])
    after = write(tmp_path / "after", [row.model_copy(update={"name": "org/model 1"})])
    assert moved(before, after) == []


@pytest.mark.parametrize("data", [b"a,b\n1,2\n", b"model,suite\nx\n", b"\xff\n", None])
def test_what_is_no_table_is_refused_in_one_line(before, tmp_path, data):
    after = tmp_path / "after"
    after.mkdir()
    if data is not None:
        (after / TABLE).write_bytes(data)
    with pytest.raises(UserError, match=r"`gendiv leaderboard` writes it"):
        moved(before, after)
