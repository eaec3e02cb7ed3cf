"""Every cell once: what is missing, double or foreign is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UserError
from benchmark.records import Sampling
from benchmark.sampling.grid import cells, check_grid

SAMPLING = Sampling(k=3, temperatures=(0.5, 1.0), top_p=1.0, top_k=0, max_new_tokens=4, stop=(), seed=0)
DOCS = ["a", "b"]
WHERE = Path("samples/t.jsonl")


def test_a_full_grid_passes_in_any_order():
    assert len(cells(DOCS, SAMPLING)) == 12
    check_grid(reversed(cells(DOCS, SAMPLING)), DOCS, SAMPLING, where=WHERE)


@given(st.integers(0, 11))
def test_a_missing_cell_is_named(number):
    grid = cells(DOCS, SAMPLING)
    doc_id, temperature, index = grid.pop(number)
    with pytest.raises(UserError) as caught:
        check_grid(grid, DOCS, SAMPLING, where=WHERE)
    says = str(caught.value)
    assert f"(doc_id '{doc_id}', temperature {temperature}, sample {index}) is missing" in says
    assert says.startswith("samples/t.jsonl: ")


@given(st.integers(0, 11))
def test_a_double_cell_is_named(number):
    grid = cells(DOCS, SAMPLING)
    with pytest.raises(UserError, match="is there twice"):
        check_grid([*grid, grid[number]], DOCS, SAMPLING, where=WHERE)


@pytest.mark.parametrize("foreign", [("c", 1.0, 0), ("a", 0.7, 0), ("a", 1.0, 3)])
def test_a_foreign_cell_is_named(foreign):
    with pytest.raises(UserError, match="is not in the suite's grid"):
        check_grid([*cells(DOCS, SAMPLING), foreign], DOCS, SAMPLING, where=WHERE)


def test_the_others_are_counted():
    with pytest.raises(UserError, match=r"is missing \(and 11 more\)"):
        check_grid([], DOCS, SAMPLING, where=WHERE)
