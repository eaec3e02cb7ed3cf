"""Noise that belongs to a cell of the grid, not to a batch, an order or a process.

Needs numpy alone, so that trainers can use it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, task: str, doc_id: str, temperature: float, index: int) -> np.random.Generator:
    """Make the random generator of one cell.

    Parameters
    ----------
    seed
        Seed of the run.
    task, doc_id, temperature, index
        The cell.

    Notes
    -----
    Philox 4x64 (Salmon et al., 2011) is counter-based: its key, 128 bits of SHA-256 over the cell's name, *is* the
    stream, and the step is the counter.
    """
    name = "\0".join((str(seed), task, doc_id, repr(float(temperature)), str(index)))
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(steps: int, seed: int, task: str, doc_id: str, temperature: float, index: int) -> np.ndarray:
    """Draw the uniforms of one cell: entry t decides its t-th token.

    Returns
    -------
    numpy.ndarray
        float64 [steps], in [0, 1); the first n are the same however many are drawn.
    """
    return generator(seed, task, doc_id, temperature, index).random(steps)
