"""A GPU that several processes share: each holds to a part of its memory, and gives back what it no longer needs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

SHARE = 0.15
"""Of a GPU's memory, for each run that is sampled or judged beside others."""


@contextlib.contextmanager
def a_share_of_the_gpu() -> Iterator[None]:
    """Hold to a part of the memory: a sampler that finds none takes smaller batches, and a training would end."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(SHARE)
    try:
        yield
    finally:
        leave_the_gpu()
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(1.0)


def leave_the_gpu() -> None:
    """Give back what the allocator holds: other jobs share the GPU, and this process lives on."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
