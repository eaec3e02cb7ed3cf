"""Time the chat judge against the ideal, a bare loop over the same client, and alpaca_eval's annotator.

    PYTHONPATH=.:tests python tests/benchmarks/judge_speed.py --peer PYTHON > tests/benchmarks/judge_speed.md

``PYTHON`` is the interpreter of an environment of its own with alpaca_eval in it
(``python -m venv DIR && DIR/bin/pip install alpaca_eval``); without it those rows are left out. All ask a server in a
process of its own that answers every request after 200 ms, so that the ideal rate is concurrency / 0.2 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import openai
from judge_server import chat_config

from benchmark.judging.chat import ChatJudge
from benchmark.judging.judge import Pair, judge_pairs, verdict_key
from benchmark.judging.question import orders_asked
from benchmark.records import Cell, Prompt, Sample

LATENCY, CONCURRENCY = 0.2, 64
CONFIG = chat_config(
    orders="one", system="You compare summaries.", user="{{ prompt }}\n\nA: {{ first }}\n\nB: {{ second }}"
)
WORDS = "so we went to the lake with my old dog and it ran off after a duck while nobody was looking"
PEER = """
import sys, tempfile
from time import perf_counter
from pathlib import Path
from alpaca_eval.annotators import PairwiseAnnotator
number, words = int(sys.argv[1]), sys.argv[2]
sides = [
    [{"instruction": f"{n} {words * 15}", "output": f"{side} {n} {words}"} for n in range(number)]
    for side in ("text", "reference")
]
with tempfile.TemporaryDirectory() as folder:
    annotator = PairwiseAnnotator(
        annotators_config="weighted_alpaca_eval_gpt4_turbo", caching_path=Path(folder) / "cache.json"
    )
    start = perf_counter()
    found = annotator.annotate_head2head(*sides)
    seconds = perf_counter() - start
assert len([one for one in found if 1 <= one["preference"] <= 2]) == number
print("RATE", number / seconds)
"""


def pairs_of(number: int) -> dict[Cell, Pair]:
    """Invent pairs of about the length of a forum post and two summaries, none like another."""
    pairs = {}
    for n in range(number):
        reference, doc_id = f"reference {n} {WORDS}", str(n)
        prompt = Prompt(task="t", doc_id=doc_id, text=f"{n} {WORDS * 15}", references=(reference,), doc={})
        text = f"text {n} {WORDS}"
        sample = Sample(task="t", doc_id=doc_id, temperature=1.0, index=0, text=text, finish_reason="stop", n_tokens=20)
        pairs[sample.cell] = Pair(prompt, sample, reference, verdict_key(CONFIG.sha256, prompt, text, reference))
    return pairs


@contextlib.contextmanager
def serving(*labels: str) -> Iterator[str]:
    """Run the server in its own process; gives its address."""
    program = Path(__file__).resolve().parents[1] / "judge_server.py"
    command = [sys.executable, str(program), "--latency", str(LATENCY), "--labels", *labels]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def ours(url: str, pairs: dict[Cell, Pair]) -> float:
    """Verdicts a second: from pairs to a log on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        judged = judge_pairs(
            ChatJudge(CONFIG, base_url=url, concurrency=CONCURRENCY), pairs, Path(folder) / "log.jsonl"
        )
        seconds = perf_counter() - start
    assert judged == len(pairs)
    return judged / seconds


def bare(url: str, pairs: dict[Cell, Pair]) -> float:
    """Replies a second of the client alone: the same requests, already written, and nothing done with the replies."""
    judge = ChatJudge(CONFIG, base_url=url)
    requests = [judge.fields(judge.question.messages(pair, *orders_asked(CONFIG, pair))) for pair in pairs.values()]

    async def ask_all() -> None:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            queue = iter(requests)

            async def work() -> None:
                for request in queue:
                    await client.chat.completions.create(**request)

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    start = perf_counter()
    asyncio.run(ask_all())
    return len(requests) / (perf_counter() - start)


def peer(url: str, python: str, number: int, concurrency: int | None) -> float:
    """Verdicts a second of alpaca_eval's own annotator, started and imported before the clock is."""
    environment = {**os.environ, "OPENAI_API_BASE": url, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    environment.pop("PYTHONPATH", None)
    environment.pop("OPENAI_MAX_CONCURRENCY", None)
    if concurrency is not None:
        environment["OPENAI_MAX_CONCURRENCY"] = str(concurrency)
    done = subprocess.run(
        [python, "-c", PEER, str(number), WORDS], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return float(done.stdout.split("RATE")[1])


def row(what: str, number: int, rates: Sequence[float], ours: float | None) -> str:
    """One line of the table; the best rate counts."""
    best, ideal = max(rates), CONCURRENCY / LATENCY
    ratio = "" if ours is None else f"{ours / best:.2f}"
    return (
        f"| {what} | {number:,} | {best:.1f} | {best / ideal:.1%} | {ratio} | {', '.join(f'{r:.1f}' for r in rates)} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdicts", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has alpaca_eval")
    parser.add_argument("--peer-verdicts", type=int, nargs=2, default=(512, 2560), help="by default, and at 64")
    options = parser.parse_args()
    pairs = pairs_of(options.verdicts)
    rates: dict[str, list[float]] = {"bare": [], "ours": [], "default": [], "equal": []}
    with serving("A", "B") as url, serving("m", "M") as peer_url:
        for way in (bare, ours):
            way(url, pairs_of(CONCURRENCY))
        for _ in range(options.repeats):
            rates["bare"].append(bare(url, pairs))
            rates["ours"].append(ours(url, pairs))
            if options.peer:
                few, many = options.peer_verdicts
                rates["default"].append(peer(peer_url, options.peer, few, None))
                rates["equal"].append(peer(peer_url, options.peer, many, CONCURRENCY))
    best = max(rates["ours"])
    print(f"""# Judging: verdicts a second

    PYTHONPATH=.:tests python tests/benchmarks/judge_speed.py --peer PYTHON > tests/benchmarks/judge_speed.md

{os.cpu_count()} shared cores, {platform.machine()}; Python {platform.python_version()}, openai {openai.__version__}.
A server in its own process answers every request after {LATENCY * 1000:.0f} ms; {CONCURRENCY} requests are in the air,
so the ideal is {CONCURRENCY / LATENCY:.0f} a second. Prompts are of some {len(WORDS) * 18} characters, one call a
verdict, with log-probabilities. Ours is `judge_pairs`: from pairs to verdicts in a log that is flushed to the disk.
The bare loop sends the same requests, written beforehand, through `AsyncOpenAI` and drops the replies. alpaca_eval is
its `PairwiseAnnotator` with `weighted_alpaca_eval_gpt4_turbo` (one token, log-probabilities), its cache in a temporary
file, on fewer pairs; its import is not timed. Best of {options.repeats} runs, all ways in turn, after a short one that
is not counted.

| way | verdicts | a second | of the ideal | ours is × | each run |
|---|---|---|---|---|---|""")
    print(row("ours", options.verdicts, rates["ours"], None))
    print(row("bare `AsyncOpenAI` loop", options.verdicts, rates["bare"], best))
    if options.peer:
        print(row("alpaca_eval, its defaults", options.peer_verdicts[0], rates["default"], best))
        print(row(f"alpaca_eval, {CONCURRENCY} at once", options.peer_verdicts[1], rates["equal"], best))


if __name__ == "__main__":
    main()
