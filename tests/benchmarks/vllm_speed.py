"""Sampling speed on one GPU: vLLM with n = k, vLLM with k requests, our in-process sampler, and transformers' generate.

    python tests/benchmarks/vllm_speed.py --out tests/benchmarks/vllm_speed.md          # about eight minutes
    python tests/benchmarks/vllm_speed.py --check                                       # the same distribution?
    python tests/benchmarks/vllm_speed.py --models 160m --only vllm --kinds long          # a part of it

Needs torch, transformers, numpy and, for its engine, vllm; of this repository only the sampler itself.

Equal for all: Llamas with random weights in bfloat16, made here; prompts of random tokens, none shared between two
measurements; k outputs of exactly M tokens each at temperature 1 without top-k and top-p; turning tokens into text is
counted, as is drawing the noise. Start-up and one warm-up of each kind are not counted. Each engine is in a process of
its own, one after the other. What does not fit into memory is tried again with half the rows, and the rows that were
used are in the table; vLLM makes its batches itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

LLAMA = {"tie_word_embeddings": False, "max_position_embeddings": 2048}
MODELS: dict[str, dict[str, Any]] = {
    "160m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
    | {"num_key_value_heads": 12, "vocab_size": 50_304, **LLAMA},
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32}
    | {"num_key_value_heads": 4, "vocab_size": 32_000, **LLAMA},
    "tiny": {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"num_key_value_heads": 1, "vocab_size": 64, "initializer_range": 0.08, **LLAMA},
}
KINDS = {"short": 40, "long": 512}
"""Tokens of a prompt."""
ENGINES = ("vllm", "ours", "generate")
SPECIAL = ["<pad>", "</s>"]
CHECK = {"prompts": 4, "samples": 4096, "prompt_tokens": 12}
ENVIRONMENT = {
    **{"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"},
    **{"VLLM_HOST_IP": "127.0.0.1", "TOKENIZERS_PARALLELISM": "false", "VLLM_LOGGING_LEVEL": "WARNING"},
}


def make_model(settings: dict[str, Any], folder: Path) -> None:
    """Write a random Llama and a tokenizer of as many words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(**settings, pad_token_id=0, eos_token_id=1, bos_token_id=None, dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    # This process lives on, and what its allocator keeps would be missing to the engines.
    torch.cuda.empty_cache()
    words = [*SPECIAL, *(f"w{number}" for number in range(settings["vocab_size"] - len(SPECIAL)))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


def make_prompts(options: dict[str, Any], tokens: int, count: int, series: int) -> list[list[int]]:
    """Draw prompts of random words, of lengths up to a tenth apart; another series shares none."""
    import numpy as np

    rng = np.random.default_rng([tokens, series])
    lengths = rng.integers(tokens, tokens + max(1, tokens // 10), size=count)
    return [rng.integers(len(SPECIAL), options["model"]["vocab_size"], size=length).tolist() for length in lengths]


def seed_of(series: int, number: int) -> int:
    """Seed of a prompt's first sample; the others' follow it."""
    from benchmark.sampling.noise import generator

    return int(generator(series, "speed", str(number), 1.0, 0).integers(2**62))


class Engine(Protocol):
    """One way to sample; ``draw`` returns k lists of token ids for each prompt."""

    variants: tuple[str, ...]

    def draw(self, variant: str, prompts: list[list[int]], k: int, new_tokens: int, series: int, rows: int) -> Any:
        """Draw with one of ``variants``."""


class VLLMEngine(Engine):
    """One engine; n = k in a request, or k requests with the seeds that those n would have."""

    variants = ("vLLM, n = k", "vLLM, k requests")

    def __init__(self, options: dict[str, Any]) -> None:
        import torch
        from vllm import LLM

        longest = max(KINDS[kind] for kind in options["kinds"]) * 11 // 10 + options["new_tokens"] + 1
        # The CPU build dies of half a prompt with a seed.
        more = ({} if torch.cuda.is_available() else {"enable_chunked_prefill": False}) | json.loads(options["engine"])
        self.llm = LLM(model=options["folder"], dtype="bfloat16", max_model_len=longest, seed=0, **more)

    def draw(self, variant: str, prompts: list[list[int]], k: int, new_tokens: int, series: int, rows: int) -> Any:
        from vllm import SamplingParams, TokensPrompt

        def parameters(seed: int, n: int) -> Any:
            # No min_tokens, which would forbid the end-of-sequence token and so change the distribution.
            fixed = {"max_tokens": new_tokens, "ignore_eos": True}
            return SamplingParams(n=n, seed=seed, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, **fixed)

        self.llm.reset_prefix_cache()
        if variant == self.variants[0]:
            asked = [(prompt, seed_of(series, number), k) for number, prompt in enumerate(prompts)]
        else:
            asked = [
                (prompt, seed_of(series, number) + index, 1)
                for number, prompt in enumerate(prompts)
                for index in range(k)
            ]
        outputs = self.llm.generate(
            [TokensPrompt(prompt_token_ids=prompt) for prompt, _, _ in asked],
            sampling_params=[parameters(seed, n) for _, seed, n in asked],
            use_tqdm=False,
        )
        drawn = [
            list(one.token_ids) for output in outputs for one in sorted(output.outputs, key=lambda each: each.index)
        ]
        return [drawn[start : start + k] for start in range(0, len(drawn), k)]


class OurEngine(Engine):
    """``benchmark.sampling.kv_cache`` with a CUDA graph; with one copy of a prompt's cache as well, if it can."""

    def __init__(self, options: dict[str, Any]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = (
            AutoModelForCausalLM.from_pretrained(options["folder"], dtype=torch.bfloat16).to(self.device).eval()
        )
        self.tokenizer = AutoTokenizer.from_pretrained(options["folder"])
        self.variants = ("ours, graph",)

    def draw(self, variant: str, prompts: list[list[int]], k: int, new_tokens: int, series: int, rows: int) -> Any:
        import numpy as np
        import torch

        from benchmark.sampling.kv_cache import sample
        from benchmark.sampling.noise import uniforms

        drawn: list[list[list[int]]] = []
        together = max(1, rows // k)
        for start in range(0, len(prompts), together):
            part = prompts[start : start + together]
            cells = [(number, index) for number in range(len(part)) for index in range(k)]
            noise = [uniforms(new_tokens, series, "speed", str(start + number), 1.0, index) for number, index in cells]
            found = sample(
                self.model,
                part,
                [number for number, _ in cells],
                [1.0] * len(cells),
                torch.from_numpy(np.stack(noise)),
                eos_token_ids=(),
                pad_token_id=0,
                top_p=1.0,
                top_k=0,
                graph=True,
            )
            self.tokenizer.batch_decode([one.tokens for one in found])
            drawn += [[one.tokens for one in found[at : at + k]] for at in range(0, len(found), k)]
        return drawn


class GenerateEngine(OurEngine):
    """``model.generate`` with k sequences a prompt."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.variants = ("transformers generate",)
        self.model.generation_config.eos_token_id = None

    def draw(self, variant: str, prompts: list[list[int]], k: int, new_tokens: int, series: int, rows: int) -> Any:
        import torch

        drawn: list[list[list[int]]] = []
        together = max(1, rows // k)
        torch.manual_seed(series)
        for start in range(0, len(prompts), together):
            part = prompts[start : start + together]
            longest = max(map(len, part))
            ids = torch.tensor([[0] * (longest - len(one)) + one for one in part], device=self.device)
            mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in part], device=self.device)
            out = self.model.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=k,
                max_new_tokens=new_tokens, pad_token_id=0,
            )[:, longest:].tolist()  # fmt: skip
            self.tokenizer.batch_decode(out)
            drawn += [out[at : at + k] for at in range(0, len(out), k)]
        return drawn


BUILD: dict[str, Callable[[dict[str, Any]], Engine]] = {
    "vllm": VLLMEngine,
    "ours": OurEngine,
    "generate": GenerateEngine,
}


def measure(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure one engine on one model; runs in a process of its own."""
    import torch

    started = time.perf_counter()
    engine = BUILD[options["engine_name"]](options)
    ready = time.perf_counter() - started
    k, new_tokens = options["k"], options["new_tokens"]
    series = 0
    for kind in options["kinds"]:
        for variant in engine.variants:
            rows = options["rows"][kind]
            for repeat in range(-1, options["repeats"]):
                count = options["prompts"] if repeat >= 0 else min(options["prompts"], 16)
                while True:
                    series += 1
                    prompts = make_prompts(options, KINDS[kind], count, series)
                    if torch.cuda.is_available():
                        torch.cuda.reset_peak_memory_stats()
                    began = time.perf_counter()
                    try:
                        drawn = engine.draw(variant, prompts, k, new_tokens, series, rows)
                        break
                    except torch.cuda.OutOfMemoryError:
                        torch.cuda.empty_cache()
                        if rows <= k:
                            raise
                        rows //= 2
                seconds = time.perf_counter() - began
                tokens = sum(len(one) for of_prompt in drawn for one in of_prompt)
                assert tokens == count * k * new_tokens, "an output has not exactly the tokens that were asked for"
                assert all(len({tuple(one) for one in of_prompt}) > 1 for of_prompt in drawn), "equal samples"
                if repeat < 0:
                    continue
                own = options["engine_name"] != "vllm"
                peak = torch.cuda.max_memory_allocated() / 2**30 if own and torch.cuda.is_available() else None
                yield {
                    "kind": kind,
                    "variant": variant,
                    "rows": min(rows, count * k) if own else None,
                    "tokens_per_second": tokens / seconds,
                    "seconds": seconds,
                    "ready": ready,
                    "peak_gb": peak,
                }


def first_tokens(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Count the first tokens that an engine draws, and where it can, compare n = k with k requests word by word."""
    import numpy as np

    engine = BUILD[options["engine_name"]](options)
    prompts = make_prompts(options, CHECK["prompt_tokens"], CHECK["prompts"], 0)
    size = options["model"]["vocab_size"]
    drawn = {}
    for variant in engine.variants:
        drawn[variant] = engine.draw(variant, prompts, CHECK["samples"], 8, 0, options["rows"]["short"])
        counts = [np.bincount([one[0] for one in of_prompt], minlength=size).tolist() for of_prompt in drawn[variant]]
        yield {"variant": variant, "counts": counts}
    if len(drawn) == 2:
        one, other = drawn.values()
        same = [a == b for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
        yield {"variant": " = ".join(drawn), "equal": sum(same) / len(same)}


def exact_probabilities(options: dict[str, Any]) -> list[list[float]]:
    """Compute the first token's distribution in fp32, by a plain forward pass."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(options["folder"], dtype=torch.float32).eval()
    prompts = make_prompts(options, CHECK["prompt_tokens"], CHECK["prompts"], 0)
    with torch.inference_mode():
        rows: list[list[float]] = [model(torch.tensor([one])).logits[0, -1].softmax(-1).tolist() for one in prompts]
    return rows


def chi_square(counts: list[float], expected: list[float], *, both_drawn: bool) -> tuple[float, int, float]:
    """Test counts against expected ones (or against another sample of that size): statistic, freedom, p-value.

    Rare tokens share a bin, so that every bin expects five.
    """
    import torch

    bins: list[list[float]] = []
    rest = [0.0, 0.0]
    for count, wanted in zip(counts, expected, strict=True):
        if (count + wanted) / 2 >= 10 if both_drawn else wanted >= 5:
            bins.append([count, wanted])
        else:
            rest = [rest[0] + count, rest[1] + wanted]
    bins += [rest] if sum(rest) >= 10 else []
    statistic = sum((a - b) ** 2 / (a + b if both_drawn else b) for a, b in bins if a + b > 0)
    freedom = len(bins) - 1
    tail = torch.special.gammaincc(torch.tensor(freedom / 2.0).double(), torch.tensor(statistic / 2.0).double())
    return statistic, freedom, float(tail)


def check_table(results: list[dict[str, Any]], exact: list[list[float]]) -> tuple[str, bool]:
    """Lay out every χ² test; the second value says whether all are above 0.001."""
    counted = {result["variant"]: result["counts"] for result in results if "counts" in result}
    lines = ["| first token of | against | χ² | degrees of freedom | p |", "|---|---|---|---|---|"]
    worst = 1.0
    names = list(counted)
    pairs: list[tuple[str, str]] = [(name, "the exact distribution") for name in names]
    pairs += [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    for one, other in pairs:
        against = counted.get(other) or [[p * CHECK["samples"] for p in row] for row in exact]
        tests = [chi_square(a, b, both_drawn=other in counted) for a, b in zip(counted[one], against, strict=True)]
        for statistic, freedom, p in tests:
            lines.append(f"| {one} | {other} | {statistic:.1f} | {freedom} | {p:.3f} |")
            worst = min(worst, p)
    for result in results:
        if "equal" in result:
            lines.append(f"\n{result['variant']}: {result['equal']:.2%} of the samples (8 tokens) are equal.\n")
    return "\n".join(lines), worst > 1e-3


def speed_table(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Lay out the measurements, a row for each model, kind of prompt and engine."""
    lines = [
        f"{options.prompts} prompts × {options.k} × exactly {options.new_tokens} new tokens; {machine()}.",
        "",
        "| model | prompts | engine | rows a batch | tokens/s (all repeats) | peak GB | start-up s |",
        "|---|---|---|---|---|---|---|",
    ]
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        grouped.setdefault((result["model"], result["kind"], result["variant"]), []).append(result)
    for (model, kind, variant), found in sorted(grouped.items(), key=lambda item: item[0][:2]):
        speeds = ", ".join(f"{result['tokens_per_second']:,.0f}" for result in found)
        last = found[-1]
        peak = "" if last["peak_gb"] is None else f"{last['peak_gb']:.1f}"
        lines.append(
            f"| {model} | {kind} ({KINDS[kind]}) | {variant} | {last['rows'] or 'its own'} | {speeds} | {peak} "
            f"| {last['ready']:.0f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Name the processor and the versions."""
    import torch
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    try:
        from importlib.metadata import version

        engine = f", vllm {version('vllm')}"
    except ImportError:
        engine = ""
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}{engine}"


def in_a_process(work: str, given: dict[str, Any], folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Run one engine; what it measured before its time was up, or it failed, is kept."""
    settings, made = folder / "settings.json", folder / "results.jsonl"
    settings.write_text(json.dumps(given), encoding="utf-8")
    made.write_text("", encoding="utf-8")
    command = [sys.executable, str(Path(__file__).resolve()), "--work", work, str(settings), str(made)]
    what = f"{given['model_name']} {given['engine_name']}"
    began = time.perf_counter()
    process = subprocess.Popen(command, env=ENVIRONMENT | dict(os.environ), stdout=sys.stderr, start_new_session=True)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Its engine has processes of its own.
        os.killpg(process.pid, 9)
        process.wait()
        code = None
    how = "its time was up" if code is None else "done" if code == 0 else f"failed with {code}"
    print(f"{what}: {how} after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return [json.loads(line) for line in made.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Run the engines one after the other and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["160m", "1b"])
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=["vllm", "ours"], help="engines")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="lengths of prompts")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, default=4096, help="rows a batch of the in-process engines, short prompts")
    parser.add_argument("--rows-long", type=int, default=1024, help="the same for long prompts")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=240, help="longest time for one engine on one model")
    parser.add_argument("--engine", default="{}", metavar="JSON", help="further arguments of vllm.LLM")
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--check", action="store_true", help="compare distributions on a tiny model instead")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work, settings, made = options.work
        given = json.loads(Path(settings).read_text(encoding="utf-8"))
        with Path(made).open("a", encoding="utf-8") as file:
            for result in (measure if work == "speed" else first_tokens)(given):
                print(json.dumps({"model": given["model_name"], **result}), file=file, flush=True)
                print({name: value for name, value in result.items() if name != "counts"}, flush=True)
        return
    results: list[dict[str, Any]] = []
    passed = True
    table = ""
    with tempfile.TemporaryDirectory() as temporary:
        for name in ["tiny"] if options.check else options.models:
            folder = Path(temporary) / name
            make_model(MODELS[name], folder)
            given = {
                **{"model_name": name, "model": MODELS[name], "folder": str(folder), "kinds": options.kinds},
                **{"prompts": options.prompts, "k": options.k, "new_tokens": options.new_tokens},
                **{"rows": {"short": options.rows, "long": options.rows_long}, "repeats": options.repeats},
                "engine": options.engine,
            }
            for engine in options.only:
                work = "check" if options.check else "speed"
                results += in_a_process(work, given | {"engine_name": engine}, Path(temporary), options.seconds)
            if options.check:
                table, passed = check_table(results, exact_probabilities(given))
            else:
                table = speed_table(results, options)
                # After every model, so that a machine which is taken away leaves what was measured.
                if options.out:
                    options.out.write_text(table + "\n", encoding="utf-8")
    print(table)
    if options.out:
        options.out.write_text(table + "\n", encoding="utf-8")
    if not passed or not results:
        raise SystemExit("the distributions differ" if results else "nothing was measured")


if __name__ == "__main__":
    main()
