"""Speeds as if two GPUs had been measured, of every method and two sizes of model."""

from __future__ import annotations

from reference_models.plan import Measured

MEASURED = tuple(
    Measured(gpu, method, size, 1e14 * (1 + size / 1e9))
    for gpu in ("NVIDIA H200", "NVIDIA H100 80GB HBM3")
    for method in ("sft", "reward-model", "ppo", "generate")
    for size in (40e6, 160e6)
)
