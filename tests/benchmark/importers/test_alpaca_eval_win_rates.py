"""Win rates and standard errors of every AlpacaEval model in the shared data, against the published leaderboards."""

import csv
import gzip
import math
from collections import defaultdict
from pathlib import Path

import pytest

from benchmark.statistics.bootstrap import weights
from benchmark.statistics.intervals import column, mean_and_error
from benchmark.statistics.win_rate import win_rate

POINTS = 0.01
GRADED = ("preferences_v2.csv.gz", "leaderboard_v2_gpt4turbo.csv")
DISCRETE = ("preferences_v1.csv.gz", "leaderboard_v1_gpt4.csv")
UNLISTED = {"text_davinci_003"}  # judged in v2, without a row on its leaderboard


def preferences(path: Path) -> dict[str, list[float]]:
    """Preferences in [0, 1] by model. AlpacaEval writes 1 to 2, a draw as 1.5 or 0, and no verdict as nothing."""
    found = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["preference"]:
                found[row["model"]].append((float(row["preference"]) or 1.5) - 1.0)
    return dict(found)


def leaderboard(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("files", "models"), [(GRADED, 30), (DISCRETE, 27)])
def test_every_published_win_rate_and_standard_error_is_met(
    shared_data: Path, files: tuple[str, str], models: int
) -> None:
    judged = preferences(shared_data / "alpaca_eval" / files[0])
    published = leaderboard(shared_data / "alpaca_eval" / files[1])
    assert len(judged) == models
    assert judged.keys() - published.keys() == (UNLISTED if files == GRADED else set())
    drawn = {n: weights(n, 20, 0) for n in {len(values) for values in judged.values()}}
    for model in sorted(judged.keys() & published.keys()):
        values, row = judged[model], published[model]
        found = win_rate(values, drawn[len(values)])
        _, error = mean_and_error(column(values))
        assert found.n == int(row["n_total"]), model
        assert 100 * found.rate == pytest.approx(float(row["win_rate"]), abs=POINTS), model
        assert 100 * error == pytest.approx(float(row["standard_error"]), abs=POINTS), model
        low, high = found.interval
        assert low <= found.rate <= high, model


def test_reading_a_zero_as_a_loss_or_dropping_it_would_show(shared_data: Path) -> None:
    published = leaderboard(shared_data / "alpaca_eval" / DISCRETE[1])
    with gzip.open(shared_data / "alpaca_eval" / DISCRETE[0], "rt", newline="") as file:
        read = [(row["model"], float(row["preference"])) for row in csv.DictReader(file) if row["preference"]]
    drawn = {model for model, value in read if value == 0.0}
    assert drawn
    missed = []
    for model in drawn:
        values = [value for name, value in read if name == model]
        known = float(published[model]["win_rate"])
        lost = 100 * math.fsum(max(value - 1.0, 0.0) for value in values) / len(values)
        decided = [value - 1.0 for value in values if value]
        dropped = 100 * math.fsum(decided) / len(decided) if decided else math.nan
        missed.append((abs(lost - known) > POINTS, abs(dropped - known) > POINTS))
    assert all(lost for lost, _ in missed)
    assert any(dropped for _, dropped in missed)
