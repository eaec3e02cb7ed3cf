"""What the study of best-of-n found: every n against its distance from the policy, and against n = 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics import ead, sentence_bert
from benchmark.metrics.encoder import Encoder
from benchmark.metrics.ngrams import count_sets
from benchmark.records import Prompt, Role
from benchmark.runs import write_atomically
from benchmark.statistics.two_way import TwoWay, two_way_t
from benchmark.suites import load_suite
from reference_models.best_of_n import best_of_n_law, best_of_n_weights, kl_bound, kl_to_base
from reference_models.data import sha256_of
from reference_models.schedule import Job, Report, run_jobs
from reference_models.studies.best_of_n import Pool, pool_path, read_pools, refuse_others_pools, sizes, tasks_asked
from reference_models.studies.report import NAMES, made_on, spelled, table, told, verdict, write
from reference_models.studies.setting import Setting

Floats = NDArray[np.float64]
SETS = 2
"""Sets of k outputs of best-of-n that diversity is averaged over, where the pool has as many."""
QUANTITIES = {
    "score": "expected reward",
    "win_rate": "win rate",
    "sbert_per_input": "diversity per input (Sentence-BERT)",
    "ead_per_input": "diversity per input (EAD)",
    "kl": "KL (nats)",
}


@dataclass(frozen=True)
class Found:
    """One quantity of best-of-n on a task, over seeds."""

    role: Role
    n: int
    quantity: str
    level: TwoWay
    change: TwoWay
    """From n = 1."""
    doubling: TwoWay | None
    """From half as many; None at n = 1."""


def write_report(setting: Setting) -> Path:
    """Read the pools, compute every n, and write the report."""
    k, largest = sizes(setting)
    for seed in setting.seeds:
        refuse_others_pools(setting, seed)
    found = compute(setting, k, largest)
    suite = load_suite(setting.world.suite)
    lines = [
        f"# Best-of-n for n = 1 to {largest}, {setting.world.name}",
        "",
        f"Made by `{setting.command}`: {len(setting.seeds)} training seeds, suite {suite.id}, one pool of "
        f"{k * largest} outputs of SFT a prompt at temperature 1. Reward and win rate are the exact expectations over "
        f"the pool, by order statistics. Diversity is that of {k} outputs, the bests of {k} disjoint parts of n, "
        f"averaged over at most {SETS} such sets. KL is that of best-of-n from SFT by the pool's own frequencies, with "
        "ties broken at random; log n − (n − 1)/n bounds it. Brackets are 95 % intervals, two-way over "
        "seeds × prompts, and not adjusted for their number.",
        "",
        "## Answer",
        "",
        *(f"- {line}" for line in answers(found)),
        "",
    ]
    for role in dict.fromkeys(one.role for one in found):
        lines += [f"## {NAMES[role]}", "", table(*_levels([one for one in found if one.role == role])), ""]
        own = [one for one in found if one.role == role and one.n > 1 and one.quantity != "kl"]
        lines += ["Change from n = 1:", "", table(*_rows(own, "change")), ""]
        lines += ["Change from half as many:", "", table(*_rows(own, "doubling")), ""]
    made = [
        json.loads(path.read_text("utf-8")) for path in sorted(setting.folder("best-of-n").glob("seed-*/made.json"))
    ]
    record = {
        "k": k,
        "pool": k * largest,
        "found": [_numbers(one) for one in found],
        "answer": answers(found),
        "made_on": made_on(made),
    }
    return write(setting, "best-of-n", lines, record)


def compute(setting: Setting, k: int, largest: int) -> list[Found]:
    """Compute every quantity for every power of two up to ``largest``, on every task that can be judged."""
    suite = load_suite(setting.world.suite)
    asked = tasks_asked(setting)
    paths = {(seed, task): pool_path(setting, seed, task) for seed in setting.seeds for task in asked}
    jobs = [
        Job(f"seed-{seed}/{task}", partial(_embed, path, asked[task], k, largest, suite.encoder))
        for (seed, task), path in paths.items()
        if not _is_embedded(path)
    ]
    run_jobs(jobs, setting.workers, setting.progress)
    found = []
    for task, prompts in asked.items():
        values: dict[tuple[int, str], list[Floats]] = {}
        for seed in setting.seeds:
            pools = read_pools(paths[seed, task], prompts, k * largest)
            diverse = json.loads(_embedded(paths[seed, task]).read_text(encoding="utf-8"))
            for n in powers(largest):
                rows = {**expectations(pools, n), **{name: np.array(own) for name, own in diverse[str(n)].items()}}
                for quantity, row in rows.items():
                    values.setdefault((n, quantity), []).append(row)
        for (n, quantity), own in values.items():
            change = np.array(own) - np.array(values[1, quantity])
            doubling = two_way_t(np.array(own) - np.array(values[n // 2, quantity])) if n > 1 else None
            level = two_way_t(np.array(own))
            found.append(Found(suite.role_of(task), n, quantity, level, two_way_t(change), doubling))
    return found


def _embedded(path: Path) -> Path:
    """Where the diversities of a file of pools are kept: embedding is what takes long."""
    return path.with_name(f"{path.stem}.diversity.json")


def _is_embedded(path: Path) -> bool:
    """Whether the diversities are there, and are of these very pools."""
    if not path.exists() or not _embedded(path).exists():
        return False
    kept = json.loads(_embedded(path).read_text(encoding="utf-8"))
    return bool(kept.get("pools_sha256") == sha256_of(str(path)))


def _embed(path: Path, prompts: Sequence[Prompt], k: int, largest: int, encoder: str, report: Report) -> None:
    pools, own = read_pools(path, prompts, k * largest), Encoder(encoder)
    found: dict[str | int, Any] = {"pools_sha256": sha256_of(str(path))}
    for n in powers(largest):
        found[n] = {name: row.round(6).tolist() for name, row in diversities(pools, n, k, own).items()}
        report("embedding", 1, len(powers(largest)))
    write_atomically(_embedded(path), json.dumps(found) + "\n")


def powers(largest: int) -> list[int]:
    """Powers of two up to a number."""
    return [2**i for i in range(largest.bit_length())]


def expectations(pools: Sequence[Pool], n: int) -> dict[str, Floats]:
    """Expected reward and win rate of best-of-n, and its distance from the policy: one value a prompt.

    Returns
    -------
    dict
        ``score``, ``win_rate`` [prompts]: unbiased, over all draws of n from the pool without replacement. ``kl``
        [prompts]: of the law of the best of n draws from the pool's frequencies; a little off where an output that
        the policy gives is not in the pool.
    """
    rows: dict[str, list[float]] = {"score": [], "win_rate": [], "kl": []}
    for pool in pools:
        drawn = np.array(pool.drawn)
        scores, preferences = np.array(pool.scores), np.array(pool.preferences)
        weights = best_of_n_weights(scores[drawn], n)
        rows["score"].append(float(weights @ scores[drawn]))
        rows["win_rate"].append(float(weights @ preferences[drawn]))
        frequencies = np.bincount(drawn, minlength=len(scores)) / len(drawn)
        rows["kl"].append(kl_to_base(best_of_n_law(frequencies, scores, n), frequencies))
    return {name: np.array(values) for name, values in rows.items()}


def bests(pool: Pool, n: int, k: int) -> NDArray[np.int64]:
    """Choose the best of each of several disjoint parts of n: numbers of outputs [sets, k], at most `SETS` sets.

    Of a tie the first drawn is the best, which favours none.
    """
    sets = min(SETS, len(pool.drawn) // (n * k))
    drawn = np.array(pool.drawn[: sets * k * n]).reshape(sets, k, n)
    first = np.array(pool.scores)[drawn].argmax(axis=-1)
    return np.asarray(np.take_along_axis(drawn, first[..., None], axis=-1)[..., 0])


def diversities(pools: Sequence[Pool], n: int, k: int, encoder: Encoder) -> dict[str, Floats]:
    """Diversity of k outputs of best-of-n, averaged over sets: ``sbert_per_input``, ``ead_per_input`` [prompts]."""
    chosen = [bests(pool, n, k) for pool in pools]
    texts = [pool.texts[number] for pool, sets in zip(pools, chosen, strict=True) for number in sets.flat]
    unlike = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(unlike)}
    rows = encoder.encode(unlike)[[place[text] for text in texts]]
    vectors = rows.reshape(len(pools), -1, k, rows.shape[1])
    counted = count_sets([texts[start : start + k] for start in range(0, len(texts), k)])
    return {
        "sbert_per_input": sentence_bert.per_input(vectors).mean(axis=1),
        "ead_per_input": ead.per_input(counted).reshape(len(pools), -1).mean(axis=1),
    }


def answers(found: Sequence[Found]) -> list[str]:
    """Say in words what the intervals say, a line a role: the largest n beside n = 1."""
    lines = []
    for role in dict.fromkeys(one.role for one in found):
        largest = max(one.n for one in found)
        last = {one.quantity: one for one in found if (one.role, one.n) == (role, largest)}
        parts = [
            f"{told(verdict(one.change.interval))} one output in {QUANTITIES[quantity]} "
            f"({spelled(one.change.estimate, one.change.interval)})"
            for quantity, one in last.items()
            if quantity != "kl"
        ]
        far = f"{spelled(last['kl'].level.estimate, last['kl'].level.interval, signed=False)} nats from SFT"
        lines.append(f"{NAMES[role]}, best-of-{largest} is {', '.join(parts)}; it is {far}")
        steps = [one for one in found if (one.role, one.quantity) == (role, "win_rate") and one.doubling]
        by = [f"{one.n} {told(verdict(one.doubling.interval))} {one.n // 2}" for one in steps if one.doubling]
        lines.append(f"{NAMES[role]}, in win rate: {', '.join(by)}")
    return lines


def _levels(found: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    header, rows = _rows(found, "level")
    for row, n in zip(rows, dict.fromkeys(one.n for one in found), strict=True):
        row.append(f"{kl_bound(n):.3f}")
    return [*header, "bound of KL"], rows


def _rows(found: Sequence[Found], what: Literal["level", "change", "doubling"]) -> tuple[list[str], list[list[str]]]:
    rows: dict[int, list[str]] = {}
    for one in found:
        both: TwoWay = getattr(one, what)
        shown = spelled(both.estimate, both.interval, signed=what != "level")
        rows.setdefault(one.n, [str(one.n)]).append(shown)
    return ["n", *(QUANTITIES[name] for name in dict.fromkeys(one.quantity for one in found))], list(rows.values())


def _numbers(one: Found) -> dict[str, Any]:
    return {
        "role": one.role,
        "n": one.n,
        "quantity": one.quantity,
        "level": one.level.estimate,
        "level_interval": one.level.interval,
        "change": one.change.estimate,
        "change_interval": one.change.interval,
        "verdict": verdict(one.change.interval) if one.n > 1 else None,
        "doubling": one.doubling.estimate if one.doubling else None,
        "doubling_interval": one.doubling.interval if one.doubling else None,
        "kl_bound": kl_bound(one.n),
    }
