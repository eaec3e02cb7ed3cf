"""Synthetic runs: seeded numbers in the shape that scoring writes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmark.records import Estimate, Flag, Identity, Kind, ModelCard, ModelIdentity, Sampling, Scores, TaskIdentity
from benchmark.suites import Suite

GRID = (0.3, 0.7, 1.0, 1.3)
TASKS = {"toy_id": "id", "toy_ood": "ood", "toy_ood_hard": "ood_hard"}
SWEPT_SUITE = Suite.model_validate(
    {
        "suite": "toy",
        "version": 1,
        "title": "Toy summaries",
        "description": "Short posts whose summary names every topic once, judged by an exact oracle.",
        "tasks": [{"task": task, "role": role, "title": task} for task, role in TASKS.items()],
        "sampling": {
            "k": 16,
            "temperatures": list(GRID),
            "top_p": 1.0,
            "top_k": 0,
            "max_new_tokens": 20,
            "stop": [],
            "seed": 0,
        },
        "judge": "oracle",
        "encoder": "all-minilm-l6-v2",
        "gate": {"name": "oracle"},
        "plane": {
            "role": "ood",
            "x": {"metric": "win_rate", "title": "OOD win rate against the reference"},
            "y": {
                "metric": "effective_per_input_oracle",
                "title": "effective diversity per input, share of the references'",
                "reference": 0.2,
            },
            "y2": {"metric": "sbert_across_input", "title": "diversity across inputs (Sentence-BERT)"},
        },
    },
    strict=False,
)
IMPORTED_SUITE = Suite.model_validate(
    {
        "suite": "imported",
        "version": 2,
        "title": "Imported outputs",
        "description": "Outputs and verdicts made elsewhere (805 prompts, one output a prompt).",
        "imported": True,
        "tasks": [{"task": "far", "role": "ood", "title": "far"}],
        "judge": "some_judge",
        "encoder": "all-minilm-l6-v2",
        "gate": {"name": "text"},
        "plane": {
            "role": "ood",
            "x": {"metric": "win_rate", "title": "win rate against the reference model"},
            "y": {"metric": "sbert_across_input", "title": "diversity across inputs (Sentence-BERT)"},
        },
    },
    strict=False,
)
SUITES = {suite.id: suite for suite in (SWEPT_SUITE, IMPORTED_SUITE)}


def estimate(metric: str, task: str, role: str, temperature: float, values: Sequence[float], method: str) -> Estimate:
    """A mean with its t interval."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    bounds = (mean - half, mean + half)
    return Estimate(
        metric=metric,
        task=task,
        role=role,  # type: ignore[arg-type]
        temperature=temperature,
        value=mean,
        low=bounds[0],
        high=bounds[1],
        method=method,
        n=len(values),
        intervals={method: bounds},
    )


def beta(rng: np.random.Generator, mean: float, spread: float, n: int) -> np.ndarray:
    """Values in [0, 1] about a mean, to 1e-6."""
    mean = min(max(mean, 0.001), 0.999)
    return np.round(rng.beta(mean * spread, (1 - mean) * spread, size=n), 6)


def swept(
    name: str,
    *,
    kind: Kind = "model",
    quality: float = 0.5,
    diversity: float = 0.12,
    gap: float = 0.12,
    heat: float = 1.0,
    grid: Sequence[float] = GRID,
    n: int = 60,
    flags: tuple[Flag, ...] = (),
    trained_on: tuple[str, ...] | None = ("toy_id",),
    **changes: Any,
) -> Scores:
    """A run of the toy suite; ``changes`` replace fields of its identity.

    Hotter outputs win less often and differ more; ``heat`` is how strongly.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    estimates: list[Estimate] = []
    per_prompt: dict[str, Any] = {}
    doc_ids = {task: tuple(f"{task}-{place:03d}" for place in range(n)) for task in TASKS}
    wins: dict[str, np.ndarray] = {}
    for task, role in TASKS.items():
        drop = {"id": 0.0, "ood": gap, "ood_hard": 1.6 * gap}[role]
        ease = np.random.default_rng(7).normal(0, 0.05, size=n)
        per_prompt[task] = {}
        for temperature in grid:
            step = heat * (temperature - 1.0)
            win = np.clip(beta(rng, quality - drop - 0.12 * step - 0.1 * step**2, 3, n) + ease, 0, 1).round(6)
            width = diversity * (1 + 0.9 * step - 0.45 * step**2) * (1 - 0.8 * drop)
            values = {
                "win_rate": win,
                "effective_per_input_oracle": np.round(beta(rng, width, 25, n), 6),
                "sbert_across_input": np.round(0.42 + diversity + 0.1 * step + rng.normal(0, 0.09, n), 6),
                "ead_per_input": beta(rng, 0.25 + 2.5 * diversity + 0.25 * step, 30, n),
                "conditional_per_input_oracle": np.round(beta(rng, width * 1.3, 25, n), 6),
                "valid_share_oracle": beta(rng, 0.3 + 0.6 * quality - 0.2 * step, 20, n),
            }
            if temperature == 1.0:
                wins[role] = win
            per_prompt[task][str(float(temperature))] = {metric: tuple(v.tolist()) for metric, v in values.items()}
            for metric, v in values.items():
                method = {"win_rate": "bca", "sbert_across_input": "jackknife_t"}.get(metric, "t")
                estimates.append(estimate(metric, task, role, temperature, v, method))
    if wins:
        difference = wins["id"] - wins["ood"]
        estimates.append(estimate("win_rate", "toy_id-toy_ood", "gap", 1.0, difference, "welch"))
    identity: dict[str, Any] = {
        "suite": SWEPT_SUITE.id,
        "tasks": tuple(
            TaskIdentity(task=task, role=role, version="1", n_prompts=n, prompts_sha256="a" * 64)  # type: ignore[arg-type]
            for task, role in TASKS.items()
        ),
        "sampling": Sampling(
            k=16, temperatures=tuple(grid), top_p=1.0, top_k=0, max_new_tokens=20, stop=(), seed=len(name)
        ),
        "judge": "oracle",
        "judge_sha256": "b" * 64,
        "encoder": "all-minilm-l6-v2",
    } | changes
    return Scores(
        name=name,
        kind=kind,
        identity=Identity(**identity),
        model=ModelIdentity(
            id=f"models/{name}"[:200],
            revision="main",
            weights_sha256="c" * 64,
            dtype="float32",
            chat_template_sha256=None,
            seed=0,
        ),
        card=ModelCard(method="SFT", trained_on=trained_on),
        estimates=tuple(estimates),
        doc_ids=doc_ids,
        per_prompt=per_prompt,
        flags=flags,
        notes={"encoder": {"share_over_token_limit": 0.0}},
        inputs_sha256={},
        record={"commit": "0123abc", "dirty": False},
    )


def imported(
    name: str, *, win: float, spread: float, n: int = 60, flags: tuple[Flag, ...] = (), kind: Kind = "model"
) -> Scores:
    """A run of the imported suite: one output a prompt, no per-input diversity."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    win_values = beta(rng, win, 1.2, n)
    y_values = np.round(spread + rng.normal(0, 0.05 if spread else 0.0, n), 6)
    return Scores(
        name=name,
        kind=kind,
        identity=Identity(
            suite=IMPORTED_SUITE.id,
            tasks=(TaskIdentity(task="far", role="ood", version="2", n_prompts=n, prompts_sha256="d" * 64),),
            sampling=None,
            judge="some_judge",
            judge_sha256="e" * 64,
            encoder="all-minilm-l6-v2",
        ),
        model=ModelIdentity(
            id=name, revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=None
        ),
        card=ModelCard(),
        inputs_sha256={},
        estimates=(
            estimate("win_rate", "far", "ood", 1.0, win_values, "bca"),
            estimate("sbert_across_input", "far", "ood", 1.0, y_values, "jackknife_t"),
        ),
        doc_ids={"far": tuple(f"q{place}" for place in range(n))},
        per_prompt={
            "far": {"1.0": {"win_rate": tuple(win_values.tolist()), "sbert_across_input": tuple(y_values.tolist())}}
        },
        flags=flags,
        absent={"per_input": "diversity per input needs several outputs a prompt; these runs have one"},
    )


CONSTANT = Flag(code="constant_output", text="805 prompts, one answer: the output does not depend on the prompt")


def toy_rows(n: int = 60) -> list[Scores]:
    """Five models swept over the grid, three floors, a ceiling and one model at a single temperature."""
    return [
        swept("SFT, 200 steps", quality=0.42, diversity=0.09, gap=0.10, n=n),
        swept("SFT, 800 steps", quality=0.55, diversity=0.13, gap=0.11, n=n),
        swept("BoN-16", quality=0.74, diversity=0.08, gap=0.13, heat=0.7, n=n),
        swept("PPO", quality=0.71, diversity=0.075, gap=0.12, heat=0.6, n=n),
        swept("DPO", quality=0.66, diversity=0.10, gap=0.18, n=n),
        swept("SFT, one temperature", quality=0.50, diversity=0.11, gap=0.10, grid=(1.0,), n=n),
        swept("random words", kind="floor", quality=0.03, diversity=0.004, gap=0.0, heat=0.0, n=n, trained_on=None),
        swept(
            "shuffled references", kind="floor", quality=0.10, diversity=0.02, gap=0.0, heat=0.0, n=n, trained_on=None
        ),
        swept("constant answer", kind="floor", quality=0.06, diversity=0.001, gap=0.0, heat=0.0, n=n, trained_on=None),
        swept(
            "fresh references", kind="ceiling", quality=0.62, diversity=0.19, gap=0.0, heat=0.0, n=n, trained_on=None
        ),
    ]


def imported_rows(n: int = 60) -> list[Scores]:
    """Nine models of the imported suite and a constant answer that a judge crowned."""
    return [
        imported("claude-2", win=0.172, spread=0.905, n=n),
        imported("gpt4_1106_preview", win=0.5, spread=0.899, n=n),
        imported("vicuna-7b", win=0.048, spread=0.893, n=n),
        imported("alpaca-7b", win=0.026, spread=0.91, n=n),
        imported("phi-2-sft", win=0.029, spread=0.872, n=n),
        imported("gemma-2b-it", win=0.034, spread=0.86, n=n),
        imported("oasst-sft-pythia-12b", win=0.018, spread=0.902, n=n),
        imported("alpaca-farm-ppo-human", win=0.041, spread=0.881, n=n),
        imported("gpt-3.5-turbo-0301", win=0.096, spread=0.897, n=n),
        imported("NullModel", win=0.768, spread=0.0, n=n, flags=(CONSTANT,)),
    ]
