"""What is packed validates; what claims more, or less, or other verdicts than its judge's, is refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from tiny_submissions import MODEL, SAMPLES, VERDICTS, make_submission

from benchmark import cli, pipeline
from benchmark.errors import UserError
from benchmark.runs import Run
from benchmark.submission.history import NOTES
from benchmark.submission.pack import pack
from benchmark.submission.suited import TRIAL
from benchmark.submission.validate import ENCODER_TOLERANCE, check_claims, judged_again, validate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    return make_submission(folder), Run(folder / "run")


@pytest.fixture
def tiny(made, tmp_path):
    return made[0].copy(tmp_path / "submissions")


def test_what_is_packed_is_what_it_says(made, tiny):
    run = made[1]
    checked = validate(tiny.folder, tiny.root, fast=True)
    assert checked.tier == "self-reported"
    assert list(checked.scores.estimates) == list(run.scores().estimates)
    assert checked.submission.manifest.card.family == "random"
    assert {file.path for file in checked.submission.files} == set(run.scores().inputs_sha256)
    for file in checked.submission.files:
        assert tiny.data(file.path) == (run.folder / file.path).read_bytes()


def test_packing_again_gives_the_same_bytes_and_never_overwrites(made, tmp_path):
    first, run = made
    card = {"licence": "Apache-2.0", "family": "random", "training_seed": 0, "note": "a floor"}
    root = tmp_path / "again"
    root.mkdir()
    folder = pack(run, MODEL, root, card)
    for path in sorted(first.folder.rglob("*")):
        if path.is_file():
            assert (folder / path.relative_to(first.folder)).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="a revision never changes"):
        pack(run, MODEL, root, card)
    assert not list(root.glob(".*"))


@pytest.mark.parametrize("part", ["value", "low", "high", "n", "method"])
def test_a_claim_that_is_not_what_the_texts_give_is_refused(tiny, part):
    fields = tiny.fields()
    claim = next(c for c in fields["claims"] if c["metric"] == "ead_per_input")
    if part == "method":
        claim["method"] = next(iter(set(claim["intervals"]) - {claim["method"]}))
    elif part == "n":
        claim["n"] += 1
    else:
        claim[part] += -1e-6 if part == "low" else 1e-6
    tiny.write(fields)
    with pytest.raises(UserError, match=r"claims .* for ead_per_input of gendiv_pocket_id"):
        validate(tiny.folder, tiny.root, fast=True)


def test_a_claim_that_is_left_out_or_given_twice_or_made_up_is_refused(tiny):
    fields = tiny.fields()
    whole = fields["claims"]
    tiny.write(fields | {"claims": whole[1:]})
    with pytest.raises(UserError, match="claims nothing for"):
        validate(tiny.folder, tiny.root, fast=True)
    tiny.write(fields | {"claims": [*whole, whole[0]]})
    with pytest.raises(UserError, match="twice"):
        validate(tiny.folder, tiny.root, fast=True)
    tiny.write(fields | {"claims": [*whole, whole[0] | {"metric": "made_up"}]})
    with pytest.raises(UserError, match=r"claims made_up of .* which its texts and verdicts do not give"):
        validate(tiny.folder, tiny.root, fast=True)


def without(claims, *metrics):
    return [claim for claim in claims if claim["metric"] not in metrics]


def test_a_metric_that_came_later_is_computed_and_shown_and_the_planes_are_always_claimed(tiny):
    fields = tiny.fields()
    whole = fields["claims"]
    tiny.write(fields | {"claims": without(whole, "ead_per_input", "length_words")})
    checked = validate(tiny.folder, tiny.root, fast=True)
    assert {"ead_per_input", "length_words"} <= {estimate.metric for estimate in checked.scores.estimates}
    for partly in (whole[1:], without(whole, "win_rate"), []):
        tiny.write(fields | {"claims": partly})
        with pytest.raises(UserError, match="claims nothing for win_rate of"):
            validate(tiny.folder, tiny.root, fast=True)
    [first, *_] = [number for number, claim in enumerate(whole) if claim["metric"] == "ead_per_input"]
    tiny.write(fields | {"claims": whole[:first] + whole[first + 1 :]})
    with pytest.raises(UserError, match="claims nothing for ead_per_input of"):
        validate(tiny.folder, tiny.root, fast=True)


def test_a_claim_by_a_method_that_was_printed_once_is_held_against_its_own_interval(tiny):
    fields = tiny.fields()
    claim = next(c for c in fields["claims"] if len(set(map(tuple, c["intervals"].values()))) > 1)
    other = next(name for name, ends in claim["intervals"].items() if ends != [claim["low"], claim["high"]])
    low, high = claim["intervals"][other]
    claim |= {"method": other, "low": low, "high": high}
    tiny.write(fields)
    validate(tiny.folder, tiny.root, fast=True)
    claim["high"] += 1e-6
    tiny.write(fields)
    with pytest.raises(UserError, match="claims high"):
        validate(tiny.folder, tiny.root, fast=True)
    claim |= {"method": "of_my_own", "high": high}
    tiny.write(fields)
    with pytest.raises(UserError, match="by of_my_own"):
        validate(tiny.folder, tiny.root, fast=True)


def test_only_a_control_is_a_floor_or_a_ceiling(tiny):
    fields = tiny.fields()
    fields["manifest"]["model"]["id"] = "somebody's"
    tiny.write(fields)
    with pytest.raises(UserError, match=r"manifest\.kind: \"somebody's\" is no control, and no floor"):
        validate(tiny.folder, tiny.root, fast=True)


def test_claims_on_embeddings_have_more_room(made):
    estimates = [e.model_copy(update={"metric": "sbert_per_input"}) for e in made[1].scores().estimates[:1]]
    for shift, refused in ((0.5 * ENCODER_TOLERANCE, False), (2 * ENCODER_TOLERANCE, True)):
        claims = [e.model_copy(update={"value": e.value + shift}) for e in estimates]
        if refused:
            with pytest.raises(UserError, match="claims value"):
                check_claims(claims, estimates, fast=False, where=made[0].folder)
        else:
            check_claims(claims, estimates, fast=False, where=made[0].folder)


def test_a_text_that_was_changed_moves_the_scores_and_is_refused(tiny):
    log = tiny.log(SAMPLES)
    log[0]["text"] += " garden"
    tiny.seal(SAMPLES, log)
    with pytest.raises(UserError):
        validate(tiny.folder, tiny.root, fast=True)


def test_verdicts_that_the_judge_does_not_give_are_refused_when_it_is_asked_again(made, tmp_path):
    def forge(run):
        """Have every sample win: scores, preferences and claims agree with each other."""
        pipeline.judge(run)
        for path in run.folder.glob("verdicts/*.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for row in rows:
                row |= {"preference": 1.0, "score": 1.0, "reference_score": 0.5}
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    tiny = make_submission(tmp_path / "forged", spoil=forge)
    validate(tiny.folder, tiny.root, fast=True)  # its arithmetic is right
    run = Run(tmp_path / "forged" / "run")
    with pytest.raises(UserError, match=r"verdicts/gendiv_pocket_\w+\.oracle\.jsonl says 1\.0 of .*; the judge says"):
        judged_again(run, "oracle", tiny.folder)


def test_an_honest_oracle_judges_the_same_again(made):
    assert judged_again(made[1], "oracle", made[0].folder)


def gendiv(monkeypatch, capfd, *arguments):
    monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, arguments)])
    try:
        cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    return status, capfd.readouterr()


def test_the_commands_pack_check_and_say_how_to_publish(made, tmp_path, monkeypatch, capfd):
    root = tmp_path / "submissions"
    root.mkdir()
    status, printed = gendiv(
        monkeypatch, capfd, "submit", made[1].folder, "--as", "org/model", "--licence", "Apache-2.0",
        "--submissions", root,
    )  # fmt: skip
    assert not status, printed.err
    assert "git push" in printed.out
    status, printed = gendiv(monkeypatch, capfd, "validate", "--fast", root)
    assert not status, printed
    assert "org__model" in printed.out
    [log] = root.glob(f"*/*/*/{VERDICTS}.gz")
    log.write_bytes(log.read_bytes()[:-9])
    status, printed = gendiv(monkeypatch, capfd, "validate", "--fast", root)
    assert status
    assert "1 of 1 submissions are not what they say" in printed.err


@pytest.mark.parametrize("there", [(), ("submissions",), ("submissions/org__other/1",), ("submissions/org__model",)])
@pytest.mark.parametrize("url", [(), ("--url", "https://example.org/logs")])
def test_a_refused_submission_leaves_no_trace(made, tmp_path, monkeypatch, capfd, there, url):
    monkeypatch.delenv(TRIAL)
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr("benchmark.submission.pack.MAX_PACKED", 100 if url else 2**20)
    before = sorted(tmp_path.rglob("*"))
    status, printed = gendiv(
        monkeypatch, capfd, "submit", made[1].folder, "--as", "org/model", "--licence", "MIT",
        "--submissions", tmp_path / "submissions", *url,
    )  # fmt: skip
    assert status == 2
    assert "k: 2, and suite pocket@v1 has 16" in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_submission_that_is_interrupted_or_cannot_be_written_leaves_no_trace(made, tmp_path):
    def interrupted(folder):
        assert (folder / "submission.json").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(made[1], MODEL, tmp_path / "submissions", {}, check=interrupted)
    assert not any(tmp_path.iterdir())
    # A file where a folder has to be.
    (tmp_path / "me__random").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        pack(made[1], MODEL, tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["me__random"]


def test_logs_that_are_published_elsewhere_are_checked_before_they_are(made, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("benchmark.submission.pack.MAX_PACKED", 100)
    root = tmp_path / "submissions"
    status, printed = gendiv(
        monkeypatch, capfd, "submit", made[1].folder, "--as", "org/model", "--licence", "MIT",
        "--submissions", root, "--url", "https://example.org/logs",
    )  # fmt: skip
    assert not status, printed.err
    assert list((tmp_path / "to-publish").glob(f"*/*/*/{VERDICTS}.gz"))


@pytest.mark.parametrize("name", ["badname", "a/b/c", "org/", "-org/model", "o" * 65 + "/model"])
def test_a_name_that_is_not_org_and_model_is_told_how_to_be_one(made, tmp_path, name):
    with pytest.raises(UserError, match=f"^model '{name[:40]}.*': write ORG/MODEL, "):
        pack(made[1], name, tmp_path, {})


def git(folder, *arguments):
    name = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tiny, tmp_path):
    """A repository whose first commit holds one submission, and a branch beside it."""
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-qb", "branch")
    return tiny, tmp_path


def test_the_commands_of_a_pull_request_write_its_comment(repository, made, monkeypatch, capfd):
    tiny, folder = repository
    monkeypatch.chdir(folder)
    pipeline.score(made[1])
    pack(made[1], "org/second", tiny.root, {"licence": "Apache-2.0"})
    git(folder, "add", "-A", ".")
    git(folder, "commit", "-qm", "submit")
    asked = ("validate", tiny.root, "--since", "main", "--maintainer")
    assert "--comment needs --since" in gendiv(monkeypatch, capfd, "validate", tiny.root, "--comment", "c.md")[1].err
    git(folder, "rm", "-rq", "--cached", str(tiny.folder))
    shutil.rmtree(tiny.root / "me__random")
    note = {"submission": "me__random/1/pocket@v1", "decision": "removed", "reason": "made for tests", "by": "us"}
    (tiny.root / NOTES).write_text(json.dumps([note]))
    git(folder, "add", "-A", ".")
    git(folder, "commit", "-qm", "remove")
    stale = folder / "leaderboard" / "board" / "scores" / "org__gone" / "1" / "pocket@v1.json.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"kept")
    status, printed = gendiv(monkeypatch, capfd, *asked, "--comment", "c.md")
    assert not status, printed.out + printed.err
    text = (folder / "c.md").read_text()
    assert text.startswith("### org/second on Pocket summaries")
    assert "A floor: drawn apart and never ranked." in text
    board = folder / "leaderboard" / "board"
    assert [path for path in board.rglob("*") if path.is_file()] == [stale], "the board is only read"
    assert stale.read_bytes() == b"kept"
