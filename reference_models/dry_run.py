"""What a training would read, take and write, told before it is started; nothing is downloaded and nothing written.

What would make the run fail is listed as problems, a line each. What cannot be known here, such as a model of the hub
that is not in the cache, is said as a note.
"""

from __future__ import annotations

import re
import shutil
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from reference_models import plan
from reference_models.architectures import PaperModel, paper_models, read_config
from reference_models.arguments import RunFolder, TrainingArguments, read_recipe, recipe_values
from reference_models.data import encode, read_comparisons, read_pairs, read_prompts
from reference_models.flops import shape_of
from reference_models.memory import FLOAT, Counts, Lengths, Memory, count, memory, positions
from reference_models.methods import METHODS
from reference_models.models import load_tokenizer, weak_judge
from reference_models.reward_model import hold_out

PREFERENCES = ("reward-model", "dpo")
ROLLOUTS = ("ppo", "rloo", "best-of-n")
ASSUMED = Lengths(512, 64)
"""The longest prompt and completion of TL;DR, about; taken where there is no data to look at."""
BYTES_A_TOKEN = 4.0
"""Of English text, about; taken where there is no tokenizer."""
GIB = 2**30
POOL_FILES = ("pool.jsonl", "best.jsonl", "curve.json", "training.json", "metrics.jsonl", "curves.png")
CHECKPOINT_FILES = ("config.json", "model.safetensors", "its tokenizer", "training.json", "metrics.jsonl", "curves.png")


@dataclass
class Report:
    """What was found."""

    sections: dict[str, list[str]] = field(default_factory=dict)
    """Title → its lines."""
    problems: list[str] = field(default_factory=list)
    """What would make the run fail."""

    def say(self, title: str, line: str) -> None:
        """Add a line to a section."""
        self.sections.setdefault(title, []).append(line)


@dataclass(frozen=True)
class Model:
    """What is known of a checkpoint without its weights."""

    config: dict[str, Any] | None
    """None = not known here."""
    tokenizer: Any | None


@dataclass(frozen=True)
class Data:
    """What is known of a file of training data."""

    examples: int
    """Units of a batch: pairs, prompts, or prompts with all their preferences."""
    longest: Lengths
    means: plan.Means
    tokens: list[int]
    """Of every sequence; of rollouts, the most that it may have."""


def dry_run(method: str, recipe: Path | None, overrides: Mapping[str, Any]) -> Report:
    """Look at everything that a training needs.

    Parameters
    ----------
    method
        Its name.
    recipe, overrides
        See `read_recipe`; paths that neither gives are problems here, and the rest is told all the same.

    Returns
    -------
    Report
        To be shown; without problems, as far as it can be known here, the run will go through.

    Raises
    ------
    UserError
        If the method has no plan, or a field is unknown, not of its type or out of range.
    """
    if method == "average":
        raise UserError("average reads two checkpoints and trains nothing; there is nothing to plan")
    report = Report()
    args, is_missing = _arguments(method, recipe, overrides, report)
    model = _model(args.model, "model", report) if args.model else Model(None, None)
    judge = None
    if getattr(args, "reward_model", None):
        judge = _model(args.reward_model, "reward model", report)
        _check_judge(args.reward_model, model, judge, report)
    config = model.config or _base_config(args.model, recipe, report)
    data = _data(method, args, model.tokenizer, report) if args.data else None
    _room(method, args, [found for found in (config, judge.config if judge else None) if found], data, report)
    _arithmetic(method, args, data, report)
    _steps(method, args, data, report)
    counts = _needs(method, args, config, judge, data, report) if config is not None else None
    if not is_missing:
        _output(method, args, counts, report)
    return report


# ---- What was asked for ----


def _arguments(method: str, recipe: Path | None, overrides: Mapping[str, Any], report: Report) -> tuple[Any, bool]:
    """Build the arguments; a path that is missing is a problem, and left empty."""
    if method not in METHODS:
        raise UserError(f"no method {method!r}; there are: {', '.join(METHODS)}")
    cls = METHODS[method].load()
    values, where = recipe_values(recipe, method)
    kinds = typing.get_type_hints(cls)
    given = {**values, **overrides}
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given and kinds[f.name] is str]
    for name in missing:
        report.problems.append(f"{where}: field {name!r} is missing; give it by --set {name}=…")
    return read_recipe(cls, recipe, {**overrides, **dict.fromkeys(missing, "")}), bool(missing)


# ---- Checkpoints ----


def _model(name: str, what: str, report: Report) -> Model:
    """Look at a checkpoint folder, or at the cache for a name on the hub."""
    folder, known = Path(name), paper_models().get(name)
    if not folder.is_dir():
        cached = _cached(name)
        if cached is None:
            _unseen(name, what, known, report)
            return Model(known.config if known else None, None)
        folder = cached
    try:
        config = read_config(folder)
        report.say("model", f"{what}: {name}, {config['model_type']}, {_weights(folder)}")
    except UserError as error:
        report.problems.append(str(error) if known is None else f"{error}; {_how(known)}")
        return Model(None, None)
    try:
        return Model(config, load_tokenizer(str(folder)))
    except UserError as error:
        report.problems.append(str(error) if known is None else f"{error}; {_how(known)}")
        return Model(config, None)


def _unseen(name: str, what: str, known: PaperModel | None, report: Report) -> None:
    from huggingface_hub import constants

    if known is not None:
        report.problems.append(f"{name}: {known.why}; {_how(known)}")
    elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        report.problems.append(f"{name}: no such folder")
    elif constants.HF_HUB_OFFLINE:
        report.problems.append(f"{name}: no such folder, and not in the hub's cache, which is all there is offline")
    else:
        report.say("model", f"{what}: {name} is no folder here and not in the hub's cache; it cannot be checked")


def _how(known: PaperModel) -> str:
    return f"make a copy by `{known.conversion}`, and --set model=OUTPUT"


def _cached(name: str) -> Path | None:
    """Find the cached snapshot of a name on the hub; never asks the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _weights(folder: Path) -> str:
    """Describe a checkpoint's weights, read from the heads of its files."""
    import json

    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    elif index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        raise UserError("there are no weights in safetensors", where=folder)
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{len(absent)} of {len(names)} files of weights are missing: {absent[0]}", where=folder)
    numbers, kinds = 0, set()
    for name in names:
        try:
            with safe_open(folder / name, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - it is no mapping
                    part = file.get_slice(key)
                    size = 1
                    for length in part.get_shape():
                        size *= length
                    numbers += size
                    kinds.add(part.get_dtype())
        except SafetensorError as error:
            raise UserError(f"cannot be read: {error}", where=folder / name) from None
    files = f"{len(names)} files" if len(names) > 1 else "a file"
    return f"{numbers:,} numbers of {' and '.join(sorted(kinds))} in {files}, loaded in float32"


def _check_judge(name: str, model: Model, judge: Model, report: Report) -> None:
    """See that a reward model is one, and reads the policy's tokens."""
    # transformers takes two labels where none are named.
    if judge.config is not None and (labels := len(judge.config.get("id2label") or "ab")) != 1:
        report.problems.append(f"{name}: num_labels is {labels}, and a reward model has 1")
    if model.tokenizer is not None and judge.tokenizer is not None:
        if model.tokenizer.get_vocab() != judge.tokenizer.get_vocab():
            report.problems.append(f"{name}: the reward model's vocabulary is not the policy's")
        else:
            report.say("model", f"vocabulary: {len(model.tokenizer):,} tokens, the same in both")
    if message := weak_judge(name):
        report.say("model", f"warning: {message}")


def _base_config(name: str, recipe: Path | None, report: Report) -> dict[str, Any] | None:
    """Take the sizes of the base model that the recipe's folder fine-tunes, where the model itself is not known."""
    if recipe is not None:
        try:
            values, _ = recipe_values(recipe.parent if recipe.suffix == ".yaml" else recipe, "sft")
        except UserError:
            values = {}
        if known := paper_models().get(values.get("model", "")):
            if known.name != name:
                report.say("model", f"sizes below are those of {known.name}, which the recipe's folder begins with")
            return known.config
    report.say("model", "of what size the model is cannot be known here, so neither memory nor GPU hours")
    return None


# ---- Data ----


def _data(method: str, args: Any, tokenizer: Any | None, report: Report) -> Data | None:
    """Read the data as the trainer would."""
    path = Path(args.data)
    try:
        found = _read(method, args, path, tokenizer or _Bytes())
    except UserError as error:
        report.problems.append(str(error))
        return None
    about = "" if tokenizer is not None else " (about: there is no tokenizer to count with)"
    what = {"sft": "pairs", "ppo": "prompts", "rloo": "prompts", "best-of-n": "prompts"}
    report.say("data", f"{path}: {found.examples:,} {what.get(method, 'prompts with preferences')}")
    report.say(
        "data",
        f"longest prompt {found.longest.prompt:,} tokens, mean {found.means.prompt:,.0f}; longest completion "
        f"{found.longest.completion:,}, mean {found.means.response:,.0f}{about}",
    )
    if method in PREFERENCES:
        report.say("data", f"{found.means.answers:.2f} different answers a prompt; each is read once a batch")
    if getattr(args, "references", ""):
        try:
            report.say("data", f"{args.references}: {len(read_pairs(Path(args.references))):,} references")
        except UserError as error:
            report.problems.append(str(error))
    return found


class _Bytes:
    """Counts tokens from the length of a text, where there is no tokenizer."""

    eos_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [0] * max(1, round(len(text.encode()) / BYTES_A_TOKEN))}


def _read(method: str, args: Any, path: Path, tokenizer: Any) -> Data:
    if method in ROLLOUTS:
        prompts = [len(encode(tokenizer, prompt)[0]) for prompt in read_prompts(path)]
        prompts = prompts[: getattr(args, "limit", 0) or None]
        new = args.max_new_tokens
        lengths, means = Lengths(max(prompts), new), plan.Means(_mean(prompts), new)
        return Data(len(prompts), lengths, means, [number + new for number in prompts])
    if method in PREFERENCES:
        examples = read_comparisons(path, tokenizer)
        if method == "reward-model":
            _, examples = hold_out(examples, args.held_out)
        sequences = [(len(example.prompt), len(answer)) for example in examples for answer in example.answers]
        most, mean = max(len(example.answers) for example in examples), len(sequences) / len(examples)
    else:
        sequences = [(len(p), len(c)) for p, c in (encode(tokenizer, *pair) for pair in read_pairs(path))]
        most, mean = 1, 1.0
    prompts, completions = [p for p, _ in sequences], [c for _, c in sequences]
    lengths = Lengths(max(prompts), max(completions), most)
    number = len(examples) if method in PREFERENCES else len(sequences)
    return Data(number, lengths, plan.Means(_mean(prompts), _mean(completions), mean), [p + c for p, c in sequences])


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers)


# ---- Whether it fits ----


def _room(method: str, args: Any, configs: Sequence[Mapping[str, Any]], data: Data | None, report: Report) -> None:
    """See that every sequence has its positions in the model, and in the reward model."""
    limits = [limit for config in configs if (limit := positions(config)) is not None]
    if data is None or not limits:
        return
    limit = min(limits)
    if too_long := sum(number > limit for number in data.tokens):
        mend = "shorten the prompts of `data`" + (" or lower max_new_tokens" if method in ROLLOUTS else "")
        report.problems.append(
            f"{args.data}: {too_long:,} of {len(data.tokens):,} sequences are longer than the {limit:,} positions "
            f"there are, the longest {max(data.tokens):,} tokens; {mend}"
        )
    else:
        report.say("data", f"none of {len(data.tokens):,} sequences is longer than the {limit:,} positions there are")


def _arithmetic(method: str, args: Any, data: Data | None, report: Report) -> None:
    """See that batches can be cut as the trainer cuts them, and that what it needs is installed."""
    per_step = getattr(args, "minibatches", 1) * (args.samples if method == "rloo" else 1)
    if args.batch_size % per_step:
        report.problems.append(f"batch_size {args.batch_size} must be a multiple of {per_step}")
    a_step = _a_step(method, args)
    if data is not None and isinstance(args, TrainingArguments) and a_step > data.examples:
        report.problems.append(f"{args.data}: batch_size is {a_step}, and there are {data.examples} examples")
    if getattr(args, "sampler", "") == "vllm" and find_spec("vllm") is None:
        report.problems.append("sampler vllm needs vLLM, in an environment of its own; the default is in-process")
    if getattr(args, "lora_rank", 0) and find_spec("peft") is None:
        report.problems.append("lora_rank needs peft: pip install 'gendiv[lora]'")


def _a_step(method: str, args: Any) -> int:
    """Examples of a step."""
    size: int = args.batch_size
    return size // args.samples if method == "rloo" else size


def _needs(
    method: str, args: Any, config: Mapping[str, Any], judge: Model | None, data: Data | None, report: Report
) -> Counts | None:
    """Tell memory and GPU hours; return the parameters, where they can be counted."""
    try:
        shape = shape_of(config)
        counts = count(method, args, config, judge.config if judge else None)
    except (KeyError, ValueError, UserError) as error:
        report.say("memory", f"cannot be told: {error}")
        return None
    lengths = data.longest if data else Lengths(ASSUMED.prompt, getattr(args, "max_new_tokens", ASSUMED.completion))
    if data is None:
        report.say("memory", f"for prompts of {lengths.prompt} tokens and completions of {lengths.completion}: assumed")
    one = memory(method, args, counts, shape, lengths)
    _tell_memory(one, counts, report)
    if isinstance(args, TrainingArguments) and not args.lora_rank:
        for processes in (n for n in (2, 4, 8) if args.batch_size % n == 0):
            shared = memory(method, args, counts, shape, lengths, processes)
            report.say("memory", f"each of {processes} processes under FSDP: about {_gib(shared.peak)}")
    _tell_gpu(one, report)
    means = data.means if data else plan.Means(lengths.prompt, lengths.completion)
    parts = plan.parts_of(method, args, shape, means, data.examples if data else getattr(args, "limit", 0))
    report.say("plan", f"about {sum(parts.values()):.2g} floating-point operations")
    compiled, parameters = getattr(args, "compile", False), counts.trained_module or sum(counts.beside.values())
    try:
        measured = plan.read_throughput()
        for gpu in plan.gpus(measured):
            taken, speeds = plan.NONE, list[str]()
            for part, flops in parts.items():
                at, slower = plan.speed(measured, gpu, part, parameters), plan.slowdown(part, compiled=compiled)
                taken += plan.hours(slower * flops, at)
                speeds.append(at.of if slower == 1 else f"{at.of} ({slower:g} times as long, not compiled)")
            report.say("plan", f"GPU hours on one {gpu}: {taken}, by the measured {' and '.join(speeds)}")
    except UserError as error:
        report.say("plan", f"GPU hours cannot be told: {error}")
    return counts


def _tell_memory(one: Memory, counts: Counts, report: Report) -> None:
    if counts.trained_module:
        report.say("memory", f"{counts.trained_module:,} parameters, {counts.trainable:,} of them trained")
    standing = ", ".join(f"{name} {_gib(size)}" for name, size in one.standing.items())
    report.say("memory", f"all the time: {standing}")
    for phase, parts in one.phases.items():
        report.say("memory", f"while {phase}: " + ", ".join(f"{name} {_gib(size)}" for name, size in parts.items()))
    report.say("memory", f"one process: about {_gib(one.peak)}, of which {_gib(one.exact)} whatever the batch")


def _tell_gpu(one: Memory, report: Report) -> None:
    import torch

    if not torch.cuda.is_available():
        report.say("memory", "no GPU here")
        return
    there = torch.cuda.get_device_properties(0)
    report.say("memory", f"{torch.cuda.device_count()} × {there.name}, {_gib(there.total_memory)} each")
    if one.exact > there.total_memory and torch.cuda.device_count() == 1:
        report.problems.append(f"the GPU has {_gib(there.total_memory)}, and {_gib(one.exact)} are needed at least")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"


# ---- What it would do ----


def _steps(method: str, args: Any, data: Data | None, report: Report) -> None:
    if not isinstance(args, TrainingArguments):
        prompts = f"{data.examples:,}" if data else "all"
        report.say("plan", f"{args.pool or args.n} completions for each of {prompts} prompts")
        return
    a_step = _a_step(method, args)
    line = f"{args.steps:,} steps of {args.batch_size:,}: {args.steps * args.batch_size:,} in all"
    if method in PREFERENCES and data:
        line += f", about {args.batch_size * data.means.answers:.0f} answers a step"
    report.say("plan", line)
    if data is not None and data.examples >= a_step:
        epoch = data.examples // a_step
        report.say("plan", f"{args.steps / epoch:.2f} epochs over the data; one is {epoch:,} steps")


def _output(method: str, args: Any, counts: Counts | None, report: Report) -> None:
    """Say what would be written, and whether something is in its way."""
    output = Path(args.output)
    try:
        if RunFolder(method, args, args.output, {}).is_done():
            report.say("files", f"{output} is there already, made by these arguments: nothing would be done")
            return
    except UserError as error:
        report.problems.append(str(error))
        return
    partial = output.with_name(f"{output.name}.partial")
    if states := sorted(partial.glob("state-*.safetensors")):
        step = int(states[-1].stem.removeprefix("state-"))
        report.say("files", f"{partial}: it would go on from step {step:,}, if nothing it reads has changed")
    made = POOL_FILES if method == "best-of-n" else CHECKPOINT_FILES
    report.say("files", f"{output}: {', '.join(made)}; until it is complete, {partial}")
    folder = next(folder for folder in (output.parent, *output.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if counts is None or not counts.trained_module:
        return
    # Two states at a time, while a third is written: weights and both moments of what is trained. Then the policy.
    needed = 3 * 3 * FLOAT * counts.trainable + FLOAT * counts.trained_module
    report.say("files", f"at most {_gib(needed)} of them at a time; {_gib(free)} are free")
    if needed > free:
        report.problems.append(f"{folder}: {_gib(needed)} are needed for states and weights, and {_gib(free)} are free")
