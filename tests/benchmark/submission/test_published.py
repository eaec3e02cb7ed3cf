"""The board of all submissions: computed once, kept, checked byte for byte, ranked only as far as it is believed."""

from __future__ import annotations

import gzip
import json
import shutil
import sys

import pytest

from benchmark import cli, pipeline
from benchmark.errors import UserError
from benchmark.runs import Run
from benchmark.submission import published as module
from benchmark.submission.events import added, log_events
from benchmark.submission.history import NOTES
from benchmark.submission.pack import pack
from benchmark.submission.published import published

CONTROLS = ("random-words", "shuffled-references")
CARD = {"licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two submissions of scored controls, and the scores that are kept of them."""
    folder = tmp_path_factory.mktemp("published")
    root = folder / "submissions"
    root.mkdir()
    for control in CONTROLS:
        options = pipeline.SampleOptions(k=2, limit=5)
        [run] = pipeline.sample(f"control:{control}", "pocket", folder / control, options)
        pipeline.judge(run)
        pipeline.score(run)
        pack(run, f"org/{control}", root, CARD)
    published(root, folder / "scores")
    return folder


@pytest.fixture
def copied(world, tmp_path):
    shutil.copytree(world / "submissions", tmp_path / "submissions")
    shutil.copytree(world / "scores", tmp_path / "board" / "scores")
    return tmp_path


def test_rows_are_named_like_their_models_and_hold_the_scores_of_their_runs(world):
    rows = published(world / "submissions", world / "scores", write=False)
    assert [row.scores.name for row in rows] == [f"org/{control}" for control in CONTROLS]
    for row, control in zip(rows, CONTROLS, strict=True):
        assert row.tier == "re-judged"
        theirs = Run(world / control).scores()
        printed = [estimate.model_copy(update={"intervals": {}}) for estimate in theirs.estimates]
        assert list(row.scores.estimates) == printed
        [task] = row.scores.per_prompt
        assert task == "gendiv_pocket_ood"
        for temperature, metrics in row.scores.per_prompt[task].items():
            assert metrics == {metric: theirs.per_prompt[task][temperature][metric] for metric in metrics}
            assert metrics.keys() == {"win_rate", "effective_per_input_oracle"}
        assert row.scores.card.licence == "Apache-2.0"
        assert row.scores.notes["submission"] == row.folder


def test_what_is_kept_is_not_computed_again_and_what_changed_is(copied, monkeypatch):
    asked = []
    real = module.validate_full
    monkeypatch.setattr(
        module, "validate_full", lambda folder, *rest, **more: asked.append(folder) or real(folder, *rest, **more)
    )
    kept = copied / "board" / "scores"
    published(copied / "submissions", kept)
    assert asked == []
    path = next((copied / "submissions").glob("*random*/*/*/submission.json"))
    path.write_text(json.dumps(json.loads(path.read_text())))
    published(copied / "submissions", kept)
    assert asked == [path.parent]


def test_scores_that_are_not_kept_are_asked_for_by_name(copied):
    next((copied / "board" / "scores").glob("*random*/*/*.gz")).unlink()
    with pytest.raises(UserError, match="has no scores of this submission; run `gendiv leaderboard`"):
        published(copied / "submissions", copied / "board" / "scores", write=False)


@pytest.mark.parametrize("tier", ["self-reported", "arithmetic checked", "re-judged", "reproduced"])
def test_a_model_is_ranked_from_re_judged_up_and_a_maintainers_note_raises_it(world, tier):
    row = published(world / "submissions", world / "scores", write=False)[0]
    row = row._replace(tier=tier, scores=row.scores.model_copy(update={"kind": "model"}))
    flags = {flag.code for flag in module._shown(row, several=False).scores.flags}
    assert ("tier" in flags) == (tier in ("self-reported", "arithmetic checked"))


def test_a_maintainers_note_accepts_a_flag_and_raises_a_tier(copied):
    root, kept = copied / "submissions", copied / "board" / "scores"
    row = published(root, kept, write=False)[0]
    flagged = next((flag.code for r in published(root, kept) for flag in r.scores.flags), None)
    notes = [{"submission": row.folder, "decision": "reproduced", "reason": "run again by us", "by": "maintainer"}]
    if flagged:
        notes.append(notes[0] | {"decision": "flag accepted", "flag": flagged})
    (root / NOTES).write_text(json.dumps(notes))
    again = published(root, kept, write=False)[0]
    assert again.tier == "reproduced"
    assert flagged not in {flag.code for flag in again.scores.flags}


def test_two_revisions_of_one_model_are_two_rows(world, tmp_path):
    rows = published(world / "submissions", world / "scores", write=False)
    [one, two] = (module._shown(row, several=True).scores.name for row in rows)
    assert one.startswith("org/random-words ")
    assert one != two


def gendiv(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
    try:
        cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    return status, capfd.readouterr()


def test_the_board_is_checked_byte_for_byte(copied, monkeypatch, capfd):
    asked = ("leaderboard", "--submissions", copied / "submissions", "--out", copied / "board")
    status, printed = gendiv(monkeypatch, capfd, *asked)
    assert not status, printed.err
    before = {path: path.read_bytes() for path in (copied / "board").rglob("*") if path.is_file()}
    status, printed = gendiv(monkeypatch, capfd, *asked, "--check", "--believe-scores")
    assert not status, printed.err
    assert {path: path.read_bytes() for path in (copied / "board").rglob("*") if path.is_file()} == before
    for name, change in (("leaderboard.csv", "edit"), ("plane.svg", "remove"), ("more.html", "add")):
        path = copied / "board" / name
        if change == "remove":
            path.unlink()
        else:
            path.write_bytes((path.read_bytes() if path.exists() else b"") + b"x")
        status, printed = gendiv(monkeypatch, capfd, *asked, "--check", "--believe-scores")
        assert status
        assert f"{name}: not what the submissions give; run `gendiv leaderboard`" in printed.err
        gendiv(monkeypatch, capfd, *asked)
        path.unlink() if change == "add" else None
    assert not gendiv(monkeypatch, capfd, *asked, "--check", "--believe-scores")[0]


def forge(path, tell):
    """Change what is kept of a submission, as somebody would who knows the form."""
    fields = json.loads(gzip.decompress(path.read_bytes()))
    tell(fields)
    path.write_bytes(gzip.compress(json.dumps(fields).encode() + b"\n", mtime=0))


def all_won(fields):
    [[_, cells]] = fields["scores"]["per_prompt"].items()
    for metrics in cells.values():
        metrics["win_rate"] = [1.0] * len(metrics["win_rate"])
    for estimate in fields["scores"]["estimates"]:
        if estimate["metric"] == "win_rate" and estimate["role"] != "gap":
            estimate |= {"value": 1.0, "high": 1.0}


def without_flags(fields):
    assert fields["flags"] or fields["scores"]["flags"]
    fields["flags"] = fields["scores"]["flags"] = []


@pytest.mark.parametrize("tell", [all_won, without_flags, lambda fields: fields.update(tier="reproduced")])
def test_a_forged_score_is_believed_by_who_says_so_and_found_by_a_check(copied, monkeypatch, capfd, tell):
    asked = ("leaderboard", "--submissions", copied / "submissions", "--out", copied / "board")
    [path] = (copied / "board" / "scores").glob("*random*/*/*.gz")
    honest = path.read_bytes()
    forge(path, tell)
    assert not gendiv(monkeypatch, capfd, *asked)[0]
    status, printed = gendiv(monkeypatch, capfd, *asked, "--check", "--believe-scores")
    assert not status, printed.err
    assert printed.out.splitlines()[-1].endswith("; the scores were believed")
    before = path.read_bytes()
    status, printed = gendiv(monkeypatch, capfd, *asked, "--check")
    assert status
    assert f"{path}: not what the submission gives: " in printed.err
    assert path.read_bytes() == before
    path.write_bytes(honest)
    assert not gendiv(monkeypatch, capfd, *asked)[0]
    status, printed = gendiv(monkeypatch, capfd, *asked, "--check")
    assert not status, printed.err
    assert printed.out.splitlines()[-1].endswith("every score computed anew")


def test_a_copy_that_is_said_to_be_none_is_found_by_a_check(copied, world):
    root, kept = copied / "submissions", copied / "board" / "scores"
    pack(Run(world / "random-words"), "another/model", root, CARD)
    published(root, kept)
    fields = json.loads((kept / "copies.json").read_text())
    [flagged] = [name for name in fields if fields[name]["flag"]]
    fields[flagged]["flag"] = None
    (kept / "copies.json").write_text(json.dumps(fields))
    published(root, kept, write=False)
    with pytest.raises(UserError, match=f"{flagged}: not what comparing it anew gives"):
        published(root, kept, write=False, believe=False)


def test_believing_is_of_a_check_alone(copied, monkeypatch, capfd):
    status, printed = gendiv(monkeypatch, capfd, "leaderboard", "--submissions", copied, "--believe-scores")
    assert status
    assert "--believe-scores is of --check" in printed.err


def test_a_number_that_moved_is_refused_and_the_same_board_is_not(copied, monkeypatch, capfd):
    asked = ("leaderboard", "--submissions", copied / "submissions", "--out", copied / "board")
    assert not gendiv(monkeypatch, capfd, *asked)[0]
    earlier = shutil.copytree(copied / "board", copied / "earlier")
    status, printed = gendiv(monkeypatch, capfd, *asked, "--unmoved", earlier)
    assert not status, printed.err
    assert f"no row of {earlier} has moved" in printed.out
    table = earlier / "leaderboard.csv"
    header, row, *rest = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([header, f"{row}1", *rest]) + "\n", encoding="utf-8")
    status, printed = gendiv(monkeypatch, capfd, *asked, "--unmoved", earlier)
    assert status
    assert "rows that have moved: 1; " in printed.err


def test_no_submission_and_a_board_of_runs_that_is_to_be_checked_are_told(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "submissions").mkdir()
    kept = tmp_path / "leaderboard" / "board" / "scores" / "a__b" / "1" / "pocket@v1.json.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    status, printed = gendiv(monkeypatch, capfd, "leaderboard", "--submissions", tmp_path / "submissions")
    assert status
    assert [path for path in (tmp_path / "leaderboard").rglob("*") if path.is_file()] == [kept]
    assert "no submission; `gendiv submit` makes one" in printed.err
    status, printed = gendiv(monkeypatch, capfd, "leaderboard", tmp_path, "--out", tmp_path, "--check")
    assert status
    assert "only a board of submissions can be checked" in printed.err


def test_events_are_appended_in_order_and_only_where_something_changed(copied):
    root, kept = copied / "submissions", copied / "board" / "scores"
    rows = published(root, kept)
    assert [event.event for event in log_events(root, rows)] == ["added", "added"]
    first = (root / "EVENTS.jsonl").read_bytes()
    assert log_events(root, rows) == []
    assert (root / "EVENTS.jsonl").read_bytes() == first
    raised = rows[0]._replace(tier="reproduced")
    assert [(e.event, e.tier) for e in log_events(root, [raised, rows[1]])] == [("changed", "reproduced")]
    assert [(e.event, e.submission) for e in log_events(root, [raised])] == [("removed", rows[1].folder)]
    assert log_events(root, [raised]) == []
    assert [e.event for e in log_events(root, [raised, rows[1]])] == ["added"]
    assert (root / "EVENTS.jsonl").read_bytes().startswith(first)
    assert added(root) == [row.folder for row in rows]


def test_a_copy_is_flagged_and_what_it_copies_is_not(copied, world):
    root, kept = copied / "submissions", copied / "board" / "scores"
    log_events(root, published(root, kept))
    [original] = root.glob("org__random-words/*/*")
    folder = pack(Run(world / "random-words"), "another/model", root, CARD)
    assert folder.relative_to(root).as_posix() < original.relative_to(root).as_posix(), "its name comes first"
    flags = {row.folder: {flag.code for flag in row.scores.flags} for row in published(root, kept)}
    assert "copy" in flags[folder.relative_to(root).as_posix()]
    assert "copy" not in flags[original.relative_to(root).as_posix()]
