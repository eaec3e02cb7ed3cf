"""A table of invented AlpacaEval preferences, and ways to write it."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path
from typing import Any

COMMIT = "cd543a14"
N = 805
HEADER = "model,index,preference,len_output_1_baseline,len_output_2_model"
GRADED = f"{HEADER},logprob_m,logprob_M"
Row = dict[str, Any]


def rows(model: str = "one", *, seed: int = 0) -> list[Row]:
    """Graded preferences that lean to longer outputs."""
    rng = random.Random(seed)
    found = []
    for index in range(N):
        baseline, own = rng.randrange(1, 3000), rng.randrange(1, 3000)
        lean = 1 / (1 + math.exp(-(own - baseline) / 1000 - 0.5))
        preference = round(1 + min(max(rng.gauss(lean, 0.2), 0), 1), 10)
        found.append({"model": model, "index": index, "preference": preference, "baseline": baseline, "own": own})
    return found


def write(folder: Path, found: list[Row], *, version: int = 2, header: str | None = None) -> Path:
    path = folder / f"preferences_v{version}.csv.gz"
    lines = [header or (GRADED if version == 2 else HEADER)]
    for row in found:
        numbers = (row[name] for name in ("model", "index", "preference", "baseline", "own"))
        lines.append(",".join(map(str, numbers)) + (",-1.5," if version == 2 else ""))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return path
