"""Boards' worth of synthetic runs."""

import pytest
from synthetic_scores import imported_rows, toy_rows

from benchmark.records import Scores


@pytest.fixture(scope="session")
def toy() -> list[Scores]:
    return toy_rows()


@pytest.fixture(scope="session")
def all_rows() -> list[Scores]:
    return toy_rows() + imported_rows()
