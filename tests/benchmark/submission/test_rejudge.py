"""A paid judge that is asked again confirms who told the truth, and nobody else."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge_server import JudgeServer, as_json, chat_config
from tiny_submissions import check_told, make_submission

from benchmark import cli, pipeline
from benchmark.errors import UserError
from benchmark.judging.runs import JudgeOptions
from benchmark.records import Cell
from benchmark.runs import Run
from benchmark.submission.history import check_history
from benchmark.submission.pack import pack
from benchmark.submission.published import published
from benchmark.submission.reading import read_bytes
from benchmark.submission.rejudge import (
    LEAST_AGREEMENT,
    Twice,
    agreement,
    check_drawn,
    confirmed_by,
    draw,
    enough,
    plan,
    read_rejudged,
    record_path,
    rejudge,
)
from benchmark.submission.unpack import read_submission
from benchmark.submission.validate import find, validate

TASKS = ("gendiv_pocket_id", "gendiv_pocket_ood", "gendiv_pocket_ood_hard")
PAIRS, SEED = 102, 7


@pytest.fixture(scope="module")
def judge_file(tmp_path_factory):
    config = chat_config(
        judge="mine", samples={"index": 0, "temperature": 1.0}, verdict="reply", max_tokens=9,
        tasks={task: {} for task in TASKS}, price={"input": 10.0, "output": 30.0, "as_of": "invented"},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("judge") / "mine.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def judged(folder, judge_file, forge=lambda verdict: verdict):
    """A submission that a paid judge has judged, and perhaps somebody else after it."""

    def ask(run: Run) -> None:
        with JudgeServer() as server:
            pipeline.judge(run, options=JudgeOptions(judge=str(judge_file), base_url=server.url))
        for log in run.folder.glob("verdicts/*.mine.jsonl"):
            rows = [forge(json.loads(line)) for line in log.read_text().splitlines()]
            log.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return make_submission(folder, prompts=40, k=1, spoil=ask, judge="mine")


def inverted(row):
    """Write the reply that the judge did not give, and all that follows from it."""
    if row.get("raw"):
        raws = [json.loads(raw) for raw in row["raw"]]
        for raw in raws:
            raw["content"] = {"A": "B", "B": "A"}[raw["content"]]
        row["raw"] = [json.dumps(raw) for raw in raws]
        row["orders"] = [1 - order for order in row["orders"]]
        row["preference"] = 1 - row["preference"]
    return row


def always_won(row):
    if row.get("raw"):
        raws = [json.loads(raw) for raw in row["raw"]]
        for raw in raws:
            raw["content"] = "AB"[raw["order"]]
        row |= {"raw": [json.dumps(raw) for raw in raws], "orders": [1.0, 1.0], "preference": 1.0}
    return row


@pytest.fixture(scope="module")
def honest_one(tmp_path_factory, judge_file):
    return judged(tmp_path_factory.mktemp("told"), judge_file)


@pytest.fixture
def told(honest_one, tmp_path):
    return honest_one.copy(tmp_path / "submissions")


def again(tiny, judge_file, logs, *, server=None, **options):
    with server or JudgeServer() as one:
        asked = JudgeOptions(judge=str(judge_file), base_url=one.url, **options)
        return rejudge(tiny.folder, tiny.root, asked, pairs=PAIRS, seed=SEED, logs=logs), one


def sha256(tiny):
    return hashlib.sha256(read_bytes(tiny.folder, "submission.json", 2**22)).hexdigest()


def test_who_told_the_truth_is_confirmed_and_every_question_was_drawn(told, judge_file, tmp_path):
    record, server = again(told, judge_file, tmp_path / "logs")
    submission = read_submission(told.folder, told.root)
    assert record.confirmed
    assert (record.equal, record.difference, record.kappa) == (1.0, 0.0, 1.0)
    assert record.claimed_rate == record.rate
    assert len(record.drawn) == PAIRS
    assert {task: sum(pair.task == task for pair in record.drawn) for task in TASKS} == dict.fromkeys(TASKS, PAIRS // 3)
    assert record.calls == sum(server.replied.values()) == 2 * PAIRS
    assert record.cost == pytest.approx((server.tokens[0] * 10 + server.tokens[1] * 30) / 1e6)
    assert read_rejudged(told.root, submission.folder) == record
    assert confirmed_by(told.root, submission, sha256(told))
    assert not confirmed_by(told.root, submission, "0" * 64)
    assert not confirmed_by(told.root, submission.model_copy(update={"claimed_judge": "oracle"}), sha256(told))
    assert find(told.root) == [(told.folder.resolve(), told.root.resolve())]


@pytest.mark.parametrize("forge", [inverted, always_won])
def test_who_forged_replies_and_all_that_follows_is_exposed(tmp_path, judge_file, forge):
    forged = judged(tmp_path / "forged", judge_file, forge)
    validate(forged.folder, forged.root, fast=True)  # its arithmetic is right
    record, _ = again(forged, judge_file, tmp_path / "logs")
    assert not record.confirmed
    assert record.equal is not None
    assert record.equal < 0.7
    assert not confirmed_by(forged.root, read_submission(forged.folder, forged.root), sha256(forged))


def test_the_same_command_goes_on_and_asks_nothing_twice(told, judge_file, tmp_path):
    first, _ = again(told, judge_file, tmp_path / "logs")
    second, server = again(told, judge_file, tmp_path / "logs")
    assert second == first
    assert not server.asked


def test_faults_that_pass_change_nothing_and_a_limit_of_cost_stops_it(told, judge_file, tmp_path):
    calm, _ = again(told, judge_file, tmp_path / "calm")
    faulty, _ = again(told, judge_file, tmp_path / "faulty", server=JudgeServer(shares={"500": 0.2, "buried": 0.1}))
    assert faulty.drawn == calm.drawn
    assert faulty.calls > calm.calls
    with pytest.raises(UserError, match="stopped at --max-cost"):
        again(told, judge_file, tmp_path / "dear", max_cost=0.01)


def test_a_dry_run_asks_nothing_and_needs_no_server(told, judge_file):
    plans = plan(told.folder, told.root, JudgeOptions(judge=str(judge_file)), pairs=PAIRS, seed=SEED)
    assert sum(found.pairs for _, found in plans) == PAIRS
    assert sum(found.calls for _, found in plans) == 2 * PAIRS
    assert not record_path(told.root, told.folder.relative_to(told.root).as_posix()).exists()


def test_nothing_is_sent_where_a_strangers_configuration_says(told, judge_file, tmp_path):
    """Its address or its words would take our key, or our money."""
    [path] = told.folder.glob("verdicts/mine.judge.json")
    fields = json.loads(path.read_text())
    with JudgeServer() as trap, JudgeServer() as ours:
        path.write_text(json.dumps(fields | {"base_url": trap.url}))
        options = JudgeOptions(judge=str(judge_file), base_url=ours.url)
        with pytest.raises(UserError, match="was not judged by mine as it is here"):
            rejudge(told.folder, told.root, options, pairs=PAIRS, seed=SEED, logs=tmp_path / "logs")
        assert not trap.asked
        assert not ours.asked
    with pytest.raises(UserError, match="no judge 'mine'"):
        rejudge(told.folder, told.root, JudgeOptions(), pairs=PAIRS, seed=SEED, logs=tmp_path / "logs")


def test_a_judge_that_needs_no_key_is_not_asked_by_this(honest, tmp_path):
    with pytest.raises(UserError, match="judge oracle needs no key"):
        rejudge(honest.folder, honest.root, JudgeOptions(), pairs=9, seed=0, logs=tmp_path)


def test_what_is_imported_is_not_asked_again(imported, tmp_path):
    with pytest.raises(UserError, match="imported"):
        rejudge(imported.folder, imported.root, JudgeOptions(), pairs=9, seed=0, logs=tmp_path)


def test_a_judge_that_has_changed_its_mind_at_random_is_not_confirmed(told, judge_file, tmp_path):
    def coin(asked, _):
        rng = random.Random(asked.question)
        return as_json(200, {"choices": [{"message": {"content": rng.choice("AB")}, "finish_reason": "stop"}]})

    record, _ = again(told, judge_file, tmp_path / "logs", server=JudgeServer(special=coin))
    assert not record.confirmed
    assert record.kappa is not None
    assert record.kappa < LEAST_AGREEMENT


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        ({"confirmed": False}, "confirmed: is not what the pairs give"),
        ({"submission": "other/1/pocket@v1"}, "is not what the file is called"),
        ({"rate": 0.123}, "rate: is not what the pairs give"),
        ({"low": -0.1}, "low: is not what the pairs give"),
        ({"drawn": []}, "not a valid Rejudged"),
        ({"seed": 10**30}, "an integer of 31 digits"),
        ({"more": 1}, "not a valid Rejudged"),
    ],
)
def test_a_record_that_was_edited_is_refused(told, judge_file, tmp_path, change, told_of):
    record, _ = again(told, judge_file, tmp_path / "logs")
    path = record_path(told.root, record.submission)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=told_of) as error:
        read_rejudged(told.root, record.submission)
    assert "\n" not in str(error.value)


def swap_a_pair(fields):
    """Take a pair that was not drawn for one that was."""
    drawn = {pair["doc_id"] for pair in fields["drawn"] if pair["task"] == TASKS[0]}
    fields["drawn"][0]["doc_id"] = next(str(n) for n in range(40) if str(n) not in drawn)


def claim_as_it_was_answered(fields):
    """Change what was claimed, and nothing that follows from it: the loss is a little smaller, and as often."""
    fields["drawn"][0]["claimed"] = abs(fields["drawn"][0]["claimed"] - 0.25)


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        (lambda fields: fields.update(seed=SEED + 1), "drawn: is not what seed 8 draws"),
        (lambda fields: fields.update(judge_sha256="0" * 64), "judge_sha256: is of another judge"),
        (lambda fields: fields.update(there=fields["there"] + 1), "could be asked again"),
        (swap_a_pair, "drawn: is not what seed 7 draws"),
        (claim_as_it_was_answered, r"drawn\.0\.claimed: "),
        (lambda fields: fields["drawn"].append(fields["drawn"][0]), "drawn: is not what"),
        (lambda fields: fields["drawn"].pop(), "drawn: is not what"),
    ],
    ids=["seed", "judge", "there", "another pair", "another claim", "a pair twice", "a pair less"],
)
def test_a_record_that_is_not_of_what_the_submission_holds_is_refused(written, change, told_of):
    tiny, _, whole, path = written
    fields = json.loads(whole)
    change(fields)
    drawn = [Twice.model_validate(pair) for pair in fields["drawn"]]
    found = agreement(drawn)._asdict()  # as whoever forges it would write it
    enough_of = found["confirmed"] and enough(len(drawn), fields["there"])
    fields |= {part: found[part] for part in found if part != "judged"} | {"confirmed": enough_of}
    path.write_text(json.dumps(fields))
    submission = read_submission(tiny.folder, tiny.root)
    record = read_rejudged(tiny.root, submission.folder)
    with pytest.raises(UserError, match=told_of):
        check_drawn(record, submission, tiny.root)
    with pytest.raises(UserError, match=told_of):
        confirmed_by(tiny.root, submission, sha256(tiny))
    assert bool(confirmed_by(tiny.root, submission, sha256(tiny), believe=True)) == enough_of
    path.write_bytes(whole)
    check_drawn(read_rejudged(tiny.root, submission.folder), submission, tiny.root)


def test_a_few_pairs_confirm_nothing_but_a_submission_that_has_no_more():
    assert [enough(drawn, there) for drawn, there in ((2, 1000), (99, 1000), (100, 1000), (60, 60), (59, 60))] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_few_pairs_that_agree_are_recorded_and_do_not_confirm(told, judge_file, tmp_path):
    with JudgeServer() as server:
        options = JudgeOptions(judge=str(judge_file), base_url=server.url)
        record = rejudge(told.folder, told.root, options, pairs=PAIRS - 3, seed=SEED, logs=tmp_path / "logs")
    assert agreement(record.drawn).confirmed
    assert record.there > PAIRS - 3
    assert not record.confirmed
    assert not confirmed_by(told.root, read_submission(told.folder, told.root), sha256(told))


def share_confirmed(points, noise, times=150):
    """How often 100 pairs confirm a win rate of one half that is claimed so many points too high."""
    rng = random.Random(0)
    confirmed = 0
    for _ in range(times):
        rows = []
        for n in range(100):
            said = float(rng.random() < 0.5)
            again = 1 - said if rng.random() < noise else said
            claimed = 1.0 if said == 0 and rng.random() < 2 * points / 100 else said
            rows.append(pair(claimed, again, n))
        confirmed += agreement(rows).confirmed
    return confirmed / times


def test_what_a_hundred_pairs_can_tell_and_what_they_cannot_is_as_the_docstring_says():
    assert share_confirmed(0, 0.05) > 0.9
    assert 0.15 < share_confirmed(5, 0.0) < 0.35
    assert 0.6 < share_confirmed(5, 0.05) < 0.8
    assert share_confirmed(10, 0.0) < 0.03
    assert 0.1 < share_confirmed(10, 0.05) < 0.25


def pair(claimed, again, doc_id, task="t"):
    return Twice(task=task, doc_id=str(doc_id), temperature=1.0, index=0, claimed=claimed, again=again)


def test_what_is_not_answered_or_of_one_prompt_is_not_confirmed():
    fine = [pair(n % 2, n % 2, n) for n in range(50)]
    assert agreement(fine).confirmed
    assert not agreement([pair(n % 2, n % 2, 0) for n in range(50)]).confirmed
    assert not agreement([pair(1.0, None, 0)]).confirmed
    assert agreement([*fine, *[pair(1.0, None, f"x{n}") for n in range(5)]]).confirmed
    assert not agreement([*fine, *[pair(1.0, None, f"x{n}") for n in range(6)]]).confirmed


def test_one_label_throughout_is_confirmed_by_what_does_not_fall_with_it():
    found = agreement([pair(1.0, 1.0 if n else 0.0, n) for n in range(60)])
    assert found.confirmed
    assert found.kappa == 0.0
    assert found.ac1 is not None
    assert found.ac1 > 0.9


def test_a_tenth_of_losses_that_were_called_wins_is_exposed_by_the_win_rate_though_labels_agree():
    found = agreement([pair(1.0 if n % 10 < 6 else 0.0, 1.0 if n % 10 < 5 else 0.0, n) for n in range(100)])
    assert found.kappa is not None
    assert found.kappa > LEAST_AGREEMENT
    assert found.low is not None
    assert found.low > 0
    assert not found.confirmed


preferences = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(preferences, preferences, st.integers(0, 9)), min_size=1, max_size=30))
def test_who_is_called_claimed_only_turns_the_sign(rows):
    one = agreement([pair(a, b, n) for a, b, n in rows])
    other = agreement([pair(b, a, n) for a, b, n in rows])
    assert (one.equal, one.difference, one.confirmed) == (other.equal, other.difference, other.confirmed)
    if one.low is not None and other.high is not None:
        assert one.low == pytest.approx(-other.high)


cells: st.SearchStrategy[dict[str, list[Cell]]] = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.tuples(st.text("xy", max_size=3), st.just(1.0), st.integers(0, 3)), unique=True)
)


@given(cells, st.integers(1, 40), st.integers(0, 5))
def test_a_draw_is_of_each_task_as_many_as_it_has_or_as_any_other(judged_cells, pairs, seed):
    found = draw(judged_cells, pairs, seed)
    assert sum(map(len, found.values())) == min(pairs, sum(map(len, judged_cells.values())))
    sizes = {task: len(found.get(task, [])) for task in judged_cells}
    for task, mine in judged_cells.items():
        assert set(found.get(task, [])) <= set(mine)
        assert sizes[task] == len(mine) or sizes[task] >= max(sizes.values()) - 1
    shuffled = {task: mine[::-1] for task, mine in reversed(judged_cells.items())}
    assert draw(shuffled, pairs, seed) == found


def test_the_command_tells_the_agreement_and_keeps_the_record(told, judge_file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with JudgeServer() as server:
        words = ["gendiv", "rejudge", str(told.folder), "--judge", str(judge_file), "--base-url", server.url]
        monkeypatch.setattr(sys, "argv", [*words, "--seed", "3", "--pairs", "30"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    printed = capfd.readouterr().out
    assert not stop.value.code
    assert "not confirmed: that takes at least 100 pairs" in printed
    assert "30 of 30 answered" in printed
    assert (tmp_path / "rejudging").is_dir()
    record = read_rejudged(told.root, read_submission(told.folder, told.root).folder)
    assert record is not None
    assert (record.seed, len(record.drawn)) == (3, 30)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def written(honest_one, judge_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    tiny = honest_one.copy(folder / "submissions")
    record, _ = again(tiny, judge_file, folder / "logs")
    path = record_path(tiny.root, record.submission)
    return tiny, record, path.read_bytes(), path


def read_or_refused(tiny, record, path, data):
    """A damaged record is refused in one clear line, or it is one."""
    path.write_bytes(data)
    try:
        found = read_rejudged(tiny.root, record.submission)
    except UserError as error:
        check_told(str(error), tiny)
        return
    assert found is not None
    assert (agreement(found.drawn).confirmed and enough(len(found.drawn), found.there)) == found.confirmed


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_field_that_is_anything_else_is_refused_in_one_line(written, data):
    tiny, record, whole, path = written
    fields = json.loads(whole)
    place = data.draw(st.sampled_from([fields, fields["drawn"][0], fields["drawn"][-1]]))
    name = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=8))
    place[name] = data.draw(anything)
    read_or_refused(tiny, record, path, json.dumps(fields).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_bytes_that_are_damaged_are_refused_in_one_line(written, data):
    tiny, record, whole, path = written
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    read_or_refused(tiny, record, path, whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])


def test_a_record_is_no_link_and_comes_in_a_branch_of_its_own(told, judge_file, tmp_path):
    record, _ = again(told, judge_file, tmp_path / "logs")
    path = record_path(told.root, record.submission)

    def git(*words):
        name = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", told.folder.relative_to(tmp_path).as_posix())
    git("commit", "-qm", "one")
    git("checkout", "-qb", "branch")
    git("add", path.relative_to(tmp_path).as_posix())
    git("commit", "-qm", "two")
    assert check_history(told.root, "main", maintainer=True) == []
    with pytest.raises(UserError, match="only maintainers change"):
        check_history(told.root, "main")
    other = told.root / "org__new" / "abc" / "pocket@v1" / "submission.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    git("add", other.relative_to(tmp_path).as_posix())
    git("commit", "-qm", "three")
    with pytest.raises(UserError, match="records are maintainers' own"):
        check_history(told.root, "main", maintainer=True)
    path.rename(tmp_path / "record.json")
    path.symlink_to(tmp_path / "record.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_rejudged(told.root, record.submission)


@pytest.mark.slow
def test_a_confirmed_row_is_re_judged_and_reproduced_by_another_draw_of_the_same_weights(judge_file, tmp_path):
    root, kept = tmp_path / "submissions", tmp_path / "scores"
    root.mkdir()
    for seed, name in enumerate(["one", "two"]):
        options = pipeline.SampleOptions(k=2, limit=20, seed=seed)
        [run] = pipeline.sample("control:random-words", "pocket", tmp_path / name, options)
        with JudgeServer() as server:
            pipeline.judge(run, options=JudgeOptions(judge=str(judge_file), base_url=server.url))
        pipeline.judge(run)
        pipeline.score(run, judge="mine")
        pack(run, f"org/{name}", root, {"licence": "Apache-2.0"})

    def tiers():
        return [row.tier for row in published(root, kept)]

    def ask(name):
        [folder] = root.glob(f"org__{name}/*/*")
        with JudgeServer() as server:
            asked = JudgeOptions(judge=str(judge_file), base_url=server.url)
            assert rejudge(folder, root, asked, pairs=PAIRS, seed=SEED, logs=tmp_path / "logs").confirmed

    assert tiers() == ["arithmetic checked"] * 2
    ask("one")
    assert tiers() == ["re-judged", "arithmetic checked"]
    assert published(root, kept)[0].scores.notes["re-judged"] == (
        "60 of 60 pairs asked again: claimed less new win rate -0.046 to +0.046 (95 %)"
    )
    ask("two")
    assert tiers() == ["reproduced"] * 2
