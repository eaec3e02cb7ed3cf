"""Sample suites as `gendiv sample` does, from options in JSON, and tell what was found. Launchers start it in tests."""

import json
import sys
from pathlib import Path

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.sampling.processes import launched


def main() -> None:
    """Read MODEL OUT OPTIONS from the command line."""
    model, out, given = sys.argv[1:]
    options = json.loads(given)
    suites = options.pop("suites")
    for name in ("temperatures", "shard"):
        if name in options:
            options[name] = tuple(options[name])
    if "data_root" in options:
        options["data_root"] = Path(options["data_root"])
    told: list[tuple[str, int, int]] = []
    try:
        pipeline.sample(model, suites, Path(out), pipeline.SampleOptions(**options), lambda *now: told.append(now))
    except UserError as error:
        sys.exit(f"refused: {error}")
    if launched().is_main:
        print(f"found {told[0][1]}, drew {sum(done for _, done, _ in told[1:])}")


if __name__ == "__main__":
    main()
