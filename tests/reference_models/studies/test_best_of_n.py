"""Every n from one pool: expectations by listing all draws, and disjoint parts for diversity."""

import itertools
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from reference_models.best_of_n import kl_bound
from reference_models.studies.best_of_n import Pool, made_of, pool_path, refuse_others_pools
from reference_models.studies.best_of_n_report import SETS, bests, expectations, powers
from reference_models.studies.setting import Setting
from reference_models.studies.world import load_world


def pool_of(scores, preferences, drawn):
    return Pool(
        doc_id="a",
        texts=tuple(f"text {place}" for place in range(len(scores))),
        scores=tuple(scores),
        preferences=tuple(preferences),
        drawn=tuple(drawn),
    )


@given(st.data())
def test_expected_reward_and_win_rate_are_means_over_all_draws_of_n(data):
    unlike = data.draw(st.integers(1, 4))
    scores = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=unlike, max_size=unlike))
    preferences = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=unlike, max_size=unlike))
    drawn = data.draw(st.lists(st.integers(0, unlike - 1), min_size=1, max_size=6))
    n = data.draw(st.integers(1, len(drawn)))
    found = expectations([pool_of(scores, preferences, drawn)], n)
    score, win = [], []
    for chosen in itertools.combinations(drawn, n):
        best = max(scores[one] for one in chosen)
        score.append(best)
        win.append(np.mean([preferences[one] for one in chosen if scores[one] == best]))
    assert found["score"][0] == pytest.approx(np.mean(score))
    assert found["win_rate"][0] == pytest.approx(np.mean(win)), "a tie is broken at random"


@given(st.lists(st.integers(0, 9), min_size=8, max_size=64), st.integers(1, 4), st.integers(1, 3))
def test_each_best_is_the_best_of_a_part_of_its_own(drawn, n, k):
    if len(drawn) < n * k:
        return
    scores = [float((place * 7) % 5) for place in range(10)]
    found = bests(pool_of(scores, [0.0] * 10, drawn), n, k)
    sets = min(SETS, len(drawn) // (n * k))
    assert found.shape == (sets, k)
    parts = [drawn[start : start + n] for start in range(0, sets * n * k, n)]
    for part, best in zip(parts, found.flat, strict=True):
        highest = max(scores[one] for one in part)
        assert best == next(one for one in part if scores[one] == highest), "of a tie the first drawn"


def test_one_of_one_is_the_pool_itself_at_no_distance():
    pool = pool_of([0.0, 3.0], [0.0, 1.0], [0, 1, 1, 0])
    found = expectations([pool], 1)
    assert found["score"][0] == pytest.approx(1.5)
    assert found["win_rate"][0] == pytest.approx(0.5)
    assert found["kl"][0] == pytest.approx(0, abs=1e-12)
    assert bests(pool, 1, 2)[0].tolist() == [0, 1]


def test_distance_grows_with_n_and_stays_below_its_bound():
    rng = np.random.default_rng(0)
    pool = pool_of(rng.normal(size=50).tolist(), [0.5] * 50, rng.integers(0, 50, 64).tolist())
    distances = [expectations([pool], n)["kl"][0] for n in powers(32)]
    assert distances == sorted(distances)
    assert all(distance <= kl_bound(n) + 1e-12 for n, distance in zip(powers(32), distances, strict=True))


def test_powers_end_at_the_largest():
    assert powers(64) == [1, 2, 4, 8, 16, 32, 64]
    assert powers(1) == [1]


@pytest.mark.parametrize("other", ["suite", "judge", "policy", "reward model"])
def test_pools_of_another_suite_judge_or_model_are_refused(other, tmp_path):
    world = load_world("pocket", tmp_path / "ladders")
    for name in ("sft", "reward-model"):
        world.model(1, name).mkdir(parents=True)
        (world.model(1, name) / "config.json").write_text(name, encoding="utf-8")
    setting = Setting(world, (1,), tmp_path / "out", tmp_path / "results")
    path = pool_path(setting, 1, "any").with_name("made.json")
    path.parent.mkdir(parents=True)
    made = made_of(world, 1)
    path.write_text(json.dumps({"made_of": made}), encoding="utf-8")
    refuse_others_pools(setting, 1)
    for there in ("another", f"{made[other]}0"):
        path.write_text(json.dumps({"made_of": {**made, other: there}}), encoding="utf-8")
        with pytest.raises(UserError, match=f"pools are of another {other}: {there}"):
            refuse_others_pools(setting, 1)


def test_a_judge_that_names_its_model_is_compared_by_all_that_it_says(tmp_path):
    judge = tmp_path / "mine.yaml"

    def setting(**fields):
        said = {
            "judge": "mine",
            "version": "1",
            "description": "One.",
            "samples": "all",
            "kind": "reward-model",
            "input": "text",
        }
        said |= {"model": "org/rm", "revision": "a" * 40, "preference": "winner"} | fields
        judge.write_text(json.dumps(said), encoding="utf-8")
        world = load_world("pocket", tmp_path / "ladders", judge=str(judge))
        return Setting(world, (1,), tmp_path / "out", tmp_path / "results")

    own = setting()
    path = pool_path(own, 1, "any").with_name("made.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"made_of": made_of(own.world, 1)}), encoding="utf-8")
    refuse_others_pools(own, 1)
    for change in ({"revision": "b" * 40}, {"preference": "bradley_terry"}):
        with pytest.raises(UserError, match="pools are of another judge: mine"):
            refuse_others_pools(setting(**change), 1)


def test_of_a_judge_whose_weights_are_gone_the_name_is_compared(tmp_path):
    def setting(judge):
        return Setting(load_world("real-text", tmp_path, judge=judge), (1,), tmp_path / "out", tmp_path / "results")

    judge = tmp_path / "models" / "judge"
    judge.mkdir(parents=True)
    (judge / "config.json").write_text("{}", encoding="utf-8")
    (judge / "model.safetensors").write_bytes(b"weights")
    own = setting("reward-model")
    path = pool_path(own, 1, "any").with_name("made.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"made_of": made_of(own.world, 1)}), encoding="utf-8")
    (judge / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match="pools are of another judge"):
        refuse_others_pools(own, 1)
    shutil.rmtree(judge)
    refuse_others_pools(own, 1)
    with pytest.raises(UserError, match="pools are of another judge"):
        refuse_others_pools(setting("real-text-judge"), 1)
    path.write_text(path.read_text(encoding="utf-8").replace("reward-model.judge ", "reward-model.judge2 "))
    with pytest.raises(UserError, match="pools are of another judge"):
        refuse_others_pools(own, 1)
