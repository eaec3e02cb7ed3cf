"""Run trainers one after the other, by a JSON list of [method, output, changed arguments] after four folders.

For several processes: starting them takes longer than ten such runs. The last argument may name a rank and a step at
which that rank fails.
"""

import json
import os
import sys
from pathlib import Path

from tiny_runs import Trainers

sys.modules["altair"] = None  # to draw the curves takes longer than to train


def main() -> None:
    *folders, runs, fails = sys.argv[1:]
    trainers = Trainers(*map(Path, folders))
    if fails:
        rank, step = map(int, fails.split(":"))
        if os.environ["RANK"] == str(rank):
            from reference_models.training import Training

            descend, count = Training.descend, iter(range(1, 1000))

            def fail(self, *args, **kwargs):
                if next(count) == step:
                    raise RuntimeError("this rank fails")
                return descend(self, *args, **kwargs)

            Training.descend = fail
    for method, output, change in json.loads(runs):
        trainers.train(method, output, **change)


if __name__ == "__main__":
    main()
