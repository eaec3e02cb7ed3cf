"""Three controls of the pocket suite against each other, by the exact oracle."""

import contextlib
import itertools
import sys

import numpy as np
import pytest

from benchmark import cli, pipeline
from benchmark.errors import UserError
from benchmark.judging.runs import opponent_name
from benchmark.judging.tournament import _table, tournament
from benchmark.opened import open_run
from benchmark.runs import read_verdicts
from benchmark.statistics.bradley_terry import bradley_terry
from benchmark.statistics.ranks import rank_sets
from tasks.pocket.world import oracle

CONTROLS = ("fresh-again", "fresh-references", "shuffled-references")
K = 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tournament")
    made = []
    for seed, name in enumerate(CONTROLS, start=1):
        control = "fresh-references" if name == "fresh-again" else name
        options = pipeline.SampleOptions(k=K, limit=30, seed=seed, name=name)
        made += pipeline.sample(f"control:{control}", "pocket", folder / name, options)
    return made


@pytest.fixture(scope="module")
def tables(runs):
    return {table.task: table for table in tournament(runs)}


def test_strengths_are_the_fit_to_every_game_of_every_two_runs(runs, tables):
    opened = [open_run(run) for run in runs]
    for task, table in tables.items():
        docs = {prompt.doc_id: prompt.doc for prompt in opened[0].prompts[task]}
        told = [{s.cell: oracle(docs[s.doc_id], s.text) for s in one.samples(task)} for one in opened]
        rows = [
            (CONTROLS[a], CONTROLS[b], 0.5 + 0.5 * np.sign(told[a][cell] - told[b][cell]), cell[0])
            for a, b in itertools.combinations(range(len(runs)), 2)
            for cell in told[a]
        ]
        fit = bradley_terry(*zip(*rows, strict=True), anchor=table.anchor)
        strengths = dict(zip(fit.models, fit.strengths, strict=True))
        assert table.prompts == 30
        assert {player.name: player.strength for player in table.players} == pytest.approx(strengths)
        for player in table.players:
            won = [p if player.name == one else 1 - p for one, other, p, _ in rows if player.name in (one, other)]
            assert player.win_rate == pytest.approx(np.mean(won))
            assert player.games == len(won) == 2 * 30 * K
        assert [player.strength for player in table.players] == sorted(strengths.values(), reverse=True)
        assert table.players[-1].name == "shuffled-references"


def test_ranks_are_those_of_the_models_that_have_an_interval(runs, tables):
    for table in tables.values():
        for player in table.players:
            assert (player.rank is None) == (player.interval is None)
            if player.rank:
                assert player.interval.low <= player.strength <= player.interval.high
                assert player.rank.low <= player.rank.rank <= player.rank.high
    assert any(player.rank for table in tables.values() for player in table.players)


def test_nothing_is_judged_twice_and_a_further_run_only_against_those_there(runs, tables):
    logs = {path: path.read_bytes() for run in runs for path in run.folder.glob("against/*/*.jsonl")}
    assert len(logs) == 3 * 3
    assert {t.task: t for t in tournament(runs)} == tables
    assert {path: path.read_bytes() for path in logs} == logs
    assert {t.task: t for t in tournament(runs[::-1])} == tables, "in whatever order they are given"
    assert {path: path.read_bytes() for run in runs for path in run.folder.glob("against/*/*.jsonl")} == logs


def test_the_command_prints_every_task_with_its_ranks(runs, tables, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gendiv", "tournament", *(str(run.folder) for run in runs)])
    with contextlib.suppress(SystemExit):
        cli.main()
    out = " ".join(capsys.readouterr().out.split())
    for table in tables.values():
        assert f"{table.task}: 3 models against each other by oracle, 30 prompts" in out
        for player in table.players:
            assert f"{player.strength:+.3f}" in out


def test_runs_that_share_a_name_and_a_single_run_are_refused(runs):
    with pytest.raises(UserError, match="two runs are called 'fresh-again'"):
        tournament([runs[0], runs[0]])
    with pytest.raises(UserError, match="two runs or more"):
        tournament(runs[:1])


def test_the_bradley_terry_ranks_equal_those_of_its_pseudo_values(runs, tables):
    table = tables["gendiv_pocket_ood"]
    rows = []
    for (a, first), (b, second) in itertools.combinations(enumerate(runs), 2):
        log = first.verdicts_path("gendiv_pocket_ood", "oracle", opponent_name(second.manifest()))
        rows += [(CONTROLS[a], CONTROLS[b], v.preference, v.doc_id) for v in read_verdicts(log, "gendiv_pocket_ood")]
    fit = bradley_terry(*zip(*rows, strict=True), anchor=table.anchor)
    known = [model for model, there in zip(fit.models, fit.known, strict=True) if there]
    ranks = dict(zip(known, rank_sets(fit.pseudo_values[:, fit.known]), strict=True)) if known else {}
    assert {player.name: player.rank for player in table.players if player.rank} == ranks


def test_a_model_that_nobody_beats_leaves_the_others_their_intervals():
    rng = np.random.default_rng(0)
    games = []
    for prompt in range(200):
        games += [("a", other, 1.0, str(prompt)) for other in "bc"]
        games.append(("b", "c", float(rng.random() < 0.4), str(prompt)))
    table = _table("t", "ood", "j", games)
    players = {player.name: player for player in table.players}
    assert [player.name for player in table.players] == ["a", "c", "b"]
    assert table.anchor == "c"
    assert players["a"].interval is None
    assert players["b"].interval.high < 0
    assert {name: str(player.rank) for name, player in players.items()} == {"a": "None", "b": "2 (2–2)", "c": "1 (1–1)"}


def test_runs_of_another_grid_are_refused_before_anything_is_asked(runs, tmp_path):
    more = pipeline.SampleOptions(k=K + 1, limit=30, name="aaa")
    [wider] = pipeline.sample("control:fresh-references", "pocket", tmp_path / "b", more)
    with pytest.raises(UserError, match=r"k or temperatures of identity\.sampling are not those of"):
        tournament([runs[0], wider])
    assert not (wider.folder / "against").exists()
