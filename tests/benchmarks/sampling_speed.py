"""Time the in-process sampler against lm-eval's own ``generate_until`` with repeats, on a CPU with one thread.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/sampling_speed.py > tests/benchmarks/sampling_speed.md

Both get the same checkpoint, prompts and sampling, with the dtype that each has by default: lm-eval computes fp32
weights in fp32, ours computes them in fp64, so that no sample depends on its batch. lm-eval is given each batch size of
a list and its best counts; ours chooses its own.
"""

from __future__ import annotations

import logging
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from benchmark.records import Prompt, Sampling
from benchmark.sampling.hf import HFSampler
from benchmark.sampling.sampler import Request
from reference_models.tiny import make_checkpoint

WORDS, K, REPEATS, BATCHES = 4000, 16, 3, (32, 64, 128)
ARCHITECTURE = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
SETTINGS = {"short": (40, (23, 85), 20), "long": (16, (100, 501), 48)}
"""Name → prompts, their tokens (from, below; the pocket suite's, and posts or articles), new tokens."""
ENDS = {"short": 320, "long": 130}
"""So many of all words end an output that an untrained model's are about half as long as they may be."""


def prompts_of(number: int, lengths: tuple[int, int]) -> list[Prompt]:
    """Invented texts: words by Zipf's law."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    texts = [rng.choice(WORDS, size, p=share / share.sum()) for size in rng.integers(*lengths, number)]
    return [
        Prompt(task="t", doc_id=str(n), text=" ".join(f"w{word}" for word in text), references=(), doc={})
        for n, text in enumerate(texts)
    ]


def build(folder: Path, batch_size: int = 1) -> Any:
    """Build the model as lm-eval does."""
    return get_model("hf").create_from_arg_obj(
        {"pretrained": str(folder), "dtype": "float32", "device": "cpu", "batch_size": batch_size}
    )


def let_end(lms: dict[int, Any], samplers: list[HFSampler], words: int) -> None:
    """Have the end-of-sequence token and so many words end an output."""
    ends = [1, *range(3, 3 + words)]
    for lm in lms.values():
        lm.model.generation_config.eos_token_id = ends
    for sampler in samplers:
        sampler.eos_ids = ends


def theirs(lm: Any, prompts: list[Prompt], sampling: Sampling) -> float:
    """Draw all outputs through lm-eval, each prompt k times; return their mean length in words."""
    arguments = {
        "do_sample": True,
        "temperature": sampling.temperatures[0],
        "top_p": sampling.top_p,
        "top_k": 0,
        "until": [],
        "max_gen_toks": sampling.max_new_tokens,
    }
    repeated = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt.text, arguments), idx=number)
        for prompt in prompts
        for number in range(sampling.k)
    ]
    texts = lm.generate_until(repeated, disable_tqdm=True)
    return sum(len(text.split()) for text in texts) / len(repeated)


def ours(sampler: HFSampler, prompts: list[Prompt], sampling: Sampling) -> float:
    """Draw all outputs in process, as a run does, from the texts; return their mean length in words."""
    sampler._encoded.clear()
    asked = sampler.prepare(prompts, sampling)
    requests = [Request(prompt, sampling.temperatures[0], index) for prompt in asked for index in range(sampling.k)]
    size = sampler.batch_size
    batches = (requests[start : start + size] for start in range(0, len(requests), size))
    samples = [sample for batch in batches for sample in sampler.draw(batch, sampling)]
    return sum(len(sample.text.split()) for sample in samples) / len(requests)


HEAD = f"""# Sampling: time against lm-eval's own loop

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/sampling_speed.py > tests/benchmarks/sampling_speed.md

2 shared cores, x86-64, one thread; Python {{python}}, torch {{torch}}.
An untrained Llama of {{parameters:.1f}}M parameters and {WORDS:,} words; k = {K}, temperature 1, no top-k or top-p;
either no output ends before its budget, or some words end it. Seconds from texts to texts: least of {REPEATS} runs, all
ways in turn. lm-eval is its `generate_until` with each prompt {K} times, in fp32, in the best of the batch sizes
{", ".join(map(str, BATCHES))}. Ours computes in fp64, its default on a CPU, and chooses its batches; in fp32 for
information. Lengths are the mean words of lm-eval's outputs and of ours.

| setting | outputs × words | lm-eval s (batch) | ours s | ratio | ours in fp32 s | ratio |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        make_checkpoint(folder, [f"w{n}" for n in range(WORDS)], seed=0, architecture=ARCHITECTURE)
        exact, single = (HFSampler(build(folder), str(folder), batch_size=None) for _ in range(2))
        single.model = single.model.float()
        lms = {size: build(folder, size) for size in BATCHES}
        parameters = sum(weights.numel() for weights in exact.model.parameters())
        print(HEAD.format(parameters=parameters / 1e6, python=platform.python_version(), torch=torch.__version__))
        for name, (number, lengths, new_tokens) in SETTINGS.items():
            for words in (0, ENDS[name]):
                let_end(lms, [exact, single], words)
                prompts = prompts_of(number, lengths)
                sampling = Sampling(
                    k=K, temperatures=(1.0,), top_p=1.0, top_k=0, max_new_tokens=new_tokens, stop=(), seed=0
                )
                ways: dict[str, Callable[[], float]] = {
                    str(size): partial(theirs, lm, prompts, sampling) for size, lm in lms.items()
                }
                ways |= {
                    "fp64": partial(ours, exact, prompts, sampling),
                    "fp32": partial(ours, single, prompts, sampling),
                }
                times, means = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, 0.0)
                for _ in range(REPEATS):
                    for way, run in ways.items():
                        start = perf_counter()
                        means[way] = run()
                        times[way] = min(times[way], perf_counter() - start)
                best = min(map(str, BATCHES), key=lambda size: times[size])
                print(
                    f"| {name}: prompts of {lengths[0]}–{lengths[1] - 1} tokens | {number * K} × {means[best]:.1f}, "
                    f"{means['fp64']:.1f} of {new_tokens} | {times[best]:.2f} ({best}) "
                    f"| {times['fp64']:.2f} | {times[best] / times['fp64']:.1f}× "
                    f"| {times['fp32']:.2f} | {times[best] / times['fp32']:.1f}× |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
