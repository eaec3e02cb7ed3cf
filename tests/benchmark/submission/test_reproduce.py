"""A run is reproduced by another draw of the same weights that comes to the same point, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.records import Flag, Identity, ModelCard, ModelIdentity, Sampling, Scores, TaskIdentity
from benchmark.submission.reproduce import reproduces
from benchmark.suites import load_suite

SUITE = load_suite("pocket")
N = 60
Y = "effective_per_input_oracle"


def scores(seed=0, shift=(0.0, 0.0), model=None, flags=(), sampling=None, judge="oracle", draw=None, metrics=None):
    rng = np.random.default_rng(seed if draw is None else draw)
    sampled = SUITE.sampling.model_dump() | {"seed": seed} | (sampling or {})
    tasks = tuple(
        TaskIdentity(task=entry.task, role=entry.role, version="1", n_prompts=N, prompts_sha256="0" * 64)
        for entry in SUITE.tasks
    )
    hardness = np.random.default_rng(99).uniform(0.2, 0.8, N)
    values = {
        "win_rate": np.clip(hardness + rng.normal(0, 0.1, N) + shift[0], 0, 1),
        Y: np.clip(0.3 * hardness + rng.normal(0, 0.02, N) + shift[1], 0, 1),
    }
    cells = {name: tuple(map(float, column)) for name, column in values.items() if name in (metrics or values)}
    [task] = [entry.task for entry in SUITE.tasks if entry.role == SUITE.plane.role]
    return Scores(
        name="m",
        kind="model",
        identity=Identity(
            suite=SUITE.id, tasks=tasks, sampling=Sampling.model_validate(sampled), judge=judge, judge_sha256="1",
            encoder=SUITE.encoder,
        ),
        model=ModelIdentity.model_validate(
            {"id": "org/m", "revision": None, "weights_sha256": "2" * 64, "dtype": None, "chat_template_sha256": None}
            | {"seed": seed}
            | (model or {})
        ),
        card=ModelCard(),
        inputs_sha256={},
        estimates=(),
        doc_ids={task: tuple(map(str, range(N)))},
        per_prompt={task: {"1.0": cells}},
        flags=flags,
    )  # fmt: skip


MINE = scores(0)


def test_another_draw_of_the_same_weights_reproduces_it_and_is_reproduced():
    other = scores(1)
    assert reproduces(MINE, [other])
    assert reproduces(other, [MINE])
    assert reproduces(MINE, [scores(1, (0.5, 0.0)), other])
    assert not reproduces(MINE, [])


@pytest.mark.parametrize("shift", [(0.1, 0.0), (-0.1, 0.0), (0.0, 0.03), (0.0, -0.03)])
def test_another_point_on_either_axis_does_not(shift):
    assert not reproduces(MINE, [scores(1, shift)])


@pytest.mark.parametrize(
    "other",
    [
        scores(0, draw=1),  # the same seed
        scores(1, model={"weights_sha256": "3" * 64}),
        scores(1, model={"weights_sha256": None}),
        scores(1, model={"arguments": {"best_of": 4}}),
        scores(1, flags=(Flag(code="copy", text="of another"),)),
        scores(1, sampling={"top_p": 0.9}),
        scores(1, judge="another"),
        scores(1, metrics=("win_rate",)),
        scores(1).model_copy(update={"kind": "floor"}),
    ],
)
def test_what_is_no_other_run_of_it_does_not(other):
    assert not reproduces(MINE, [other])
    assert not reproduces(other, [MINE])


def test_a_hub_id_counts_with_its_commit_alone():
    def hub(seed, **fields):
        return scores(seed, model={"weights_sha256": None, "revision": "c0ffee"} | fields)

    assert reproduces(hub(0), [hub(1)])
    assert not reproduces(hub(0), [hub(1, revision="another")])
    assert not reproduces(hub(0), [hub(1, id="org/another")])
    assert not reproduces(hub(0, revision=None), [hub(1, revision=None)])


def test_two_draws_of_one_model_are_told_apart_in_a_twentieth_of_the_cases_at_most():
    found = [reproduces(scores(2 * n), [scores(2 * n + 1)]) for n in range(200)]
    assert np.mean(found) > 0.93
