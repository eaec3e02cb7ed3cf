"""Coverage of the printed intervals on AlpacaEval's real verdicts: each model's rows are its population.

The whole table, 2,000 repetitions a cell, is in tests/benchmarks/alpaca_eval_lc.md. Every bound allows for three
Monte-Carlo standard errors.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.alpaca_eval_lc import (
    ATTACK,
    Judged,
    controlled_coverage,
    expected,
    judged,
    raw_coverage,
    varying,
)

from benchmark.statistics.length_control import LEAST_EXPECTED, PENALTY, PENALTY_WITH_DIFFICULTY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(shared_data: Path) -> dict[str, Judged]:
    return varying(judged(shared_data))


def slack(bound: float, repetitions: int) -> float:
    return 3 * math.sqrt(bound * (1 - bound) / repetitions)


@pytest.mark.parametrize(("with_difficulty", "penalty"), [(True, PENALTY_WITH_DIFFICULTY), (False, PENALTY)])
def test_the_length_controlled_interval_covers_for_every_model_with_ten_expected_wins(
    models: dict[str, Judged], with_difficulty: bool, penalty: float
) -> None:
    n, repetitions = 500, 400
    able = {name: model for name, model in models.items() if expected(model, n) >= LEAST_EXPECTED}
    assert len(able) >= 25
    assert ATTACK in able
    seen = {
        name: controlled_coverage(model, n, repetitions, penalty, with_difficulty=with_difficulty, seed=place)
        for place, (name, model) in enumerate(able.items())
    }
    for name, found in seen.items():
        assert 0.925 - slack(0.925, repetitions) <= found.always <= 0.975 + slack(0.975, repetitions), name
    assert 0.94 <= float(np.mean([found.always for found in seen.values()])) <= 0.96


@pytest.mark.parametrize("n", [100, 500])
def test_the_raw_interval_covers_for_every_model(models: dict[str, Judged], n: int) -> None:
    repetitions = 250
    for place, (name, model) in enumerate(models.items()):
        seen = raw_coverage(model, n, repetitions, seed=place)
        assert 0.93 - slack(0.93, repetitions) <= seen <= 0.99 + slack(0.99, repetitions), name
