"""What is gained by dropping ended rows from a recorded batch only where that pays.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/ended_rows.py > tests/benchmarks/ended_rows.md

Needs a GPU. Both sides in turn, in one process: by the rule of `FixedDecoder.pays`, and whenever a quarter has ended.
"""

from __future__ import annotations

import statistics
from time import perf_counter
from unittest.mock import patch

import torch
from tabulate import tabulate
from transformers import LlamaConfig, LlamaForCausalLM

from benchmark.sampling import caches
from benchmark.sampling.caches import FixedDecoder
from benchmark.sampling.kv_cache import sample

VOCABULARY, HIDDEN, LAYERS, HEADS = 8192, 384, 6, 6
LENGTH = 15
"""Tokens of an output on average: untrained, the model draws every token alike, and one in so many ends a row."""
ROUNDS = 5
CASES = (("bfloat16", 128, 400, 96), ("float32", 384, 600, 48), ("float32", 1024, 400, 48), ("float32", 16, 400, 96))
"""What it computes in, rows, tokens of a prompt, tokens drawn at most."""


def drawing(model: LlamaForCausalLM, dtype: str, rows: int, prompt: int, budget: int) -> tuple[float, int]:
    """Time one call, and count what was recorded."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(VOCABULARY, (rows, prompt), generator=generator).tolist()
    noise = torch.rand(rows, budget, generator=generator, dtype=torch.float64)
    recorded: list[int] = []
    record = FixedDecoder._record

    def count(decoder: FixedDecoder) -> None:
        recorded.append(1)
        record(decoder)

    with torch.autocast("cuda", enabled=dtype == "bfloat16"), patch.object(FixedDecoder, "_record", count):
        torch.cuda.synchronize()
        start = perf_counter()
        sample(
            model,
            prompts,
            range(rows),
            [1.0] * rows,
            noise,
            eos_token_ids=range(VOCABULARY // LENGTH),
            pad_token_id=0,
            top_p=1.0,
            top_k=0,
            graph=True,
        )
        torch.cuda.synchronize()
    return perf_counter() - start, len(recorded)


def main() -> None:
    """Measure, and print the table."""
    if not torch.cuda.is_available():
        raise SystemExit("a step is recorded on a GPU alone, and there is none")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=1024,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).cuda().eval()
    table = []
    for case in CASES:
        seconds: dict[int, list[float]] = {0: [], caches.RECORDING: []}
        recorded = {}
        for _ in range(ROUNDS + 1):
            for limit, own in seconds.items():
                with patch.object(caches, "RECORDING", limit):
                    taken, recorded[limit] = drawing(model, *case)
                own.append(taken)
        always, ruled = (statistics.median(own[1:]) for own in seconds.values())  # the first warms up
        table.append([*case, *recorded.values(), always, ruled, always / ruled])
    print("# Ended rows of a recorded batch\n")
    print((__doc__ or "").split("\n\n")[1])
    print(f"\n{torch.cuda.get_device_name()}, a Llama of {LAYERS} layers and width {HIDDEN}, torch", end=" ")
    print(f"{torch.__version__}; outputs of {LENGTH} tokens on")
    print(f"average. Both sides in turn, medians of {ROUNDS} calls, the prompts' reading among it.\n")
    header = ["dtype", "rows", "prompt", "budget", "recorded at a quarter", "by the rule", "at a quarter (s)"]
    print(tabulate(table, [*header, "by the rule (s)", "ratio"], "pipe", floatfmt=".3f"))


if __name__ == "__main__":
    main()
