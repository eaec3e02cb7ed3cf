"""Noise belongs to the cell."""

import numpy as np
from scipy import stats

from benchmark.sampling.noise import uniforms

FROZEN = [0.6016155982884788, 0.4791338329911615]
CELL = {"seed": 0, "task": "t", "doc_id": "d", "temperature": 1.0, "index": 0}


def test_a_cell_always_has_the_same_noise_however_much_is_drawn():
    assert (uniforms(100, **CELL)[:7] == uniforms(7, **CELL)).all()


def test_every_part_of_the_cell_changes_its_noise():
    other = {"seed": 1, "task": "t2", "doc_id": "d2", "temperature": 0.7, "index": 1}
    streams = [uniforms(4, **CELL)] + [uniforms(4, **(CELL | {name: value})) for name, value in other.items()]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_names_that_run_together_stay_apart():
    a = uniforms(4, 1, "t1", "d", 1.0, 0)
    assert (a != uniforms(4, 1, "t", "1d", 1.0, 0)).any()
    assert (a != uniforms(4, 11, "t", "d", 1.0, 0)).any()


def test_noise_is_uniform_and_independent_between_cells():
    streams = np.stack([uniforms(50, **(CELL | {"index": index})) for index in range(400)])
    assert stats.kstest(streams.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(streams[:200].ravel(), streams[200:].ravel())[0, 1]) < 0.05
    assert ((streams >= 0) & (streams < 1)).all()


def test_the_stream_is_frozen():
    """A change of this stream changes every published sample: it needs a new suite version."""
    assert uniforms(2, **CELL).tolist() == FROZEN
