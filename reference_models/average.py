"""Weight interpolation: (1 − a) · first + a · second between two checkpoints of one architecture.

Between a policy before and after alignment the straight line in weight space trades what was learned against what was
forgotten (Lin et al., Mitigating the Alignment Tax of RLHF, arXiv 2309.06256). That paper's adaptive averaging cuts the
transformer into groups of layers and *chooses* a ratio for each by optimising a reward. Here the ratios are given and
nothing is optimised: what is here is their interpolation, uniform or by groups.

Both checkpoints are read tensor by tensor, so that two models larger than memory can be averaged.

    gendiv train average --set first=SFT second=PPO output=OUT weight=0.5
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

INPUTS = ("first", "second")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "*.py",
)
"""What the new checkpoint has from ``first``, beside its weights; ``*.py`` is a model's own code."""
NOTHING_TO_COMPARE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
"""Fields of config.json that may differ; each tensor's stored type is compared by itself."""
TOLD_FIRST = ("architectures", "model_type", "vocab_size", "num_hidden_layers", "n_layer", "hidden_size", "n_embd")
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
LEAST, MOST = -1.0, 2.0


@dataclass(frozen=True, kw_only=True)
class AverageArguments:
    """What an average of two checkpoints needs."""

    first: str
    """Checkpoint folder; it gives the new checkpoint its configuration and tokenizer."""
    second: str
    """Checkpoint folder of the same architecture and tokenizer."""
    output: str
    """Folder of the new checkpoint."""
    weight: float = 0.5
    """Share a of ``second``. From 0 to 1 is between the two; down to -1 and up to 2 goes on beyond them, where nothing
    keeps the model from falling apart: look at its outputs."""
    group_weights: tuple[float, ...] | None = None
    """One such share for each of G contiguous groups of layers, from the input on, instead of ``weight``. Embeddings go
    with the first group, the final norm and the head with the last; a head that is tied to the embeddings is the
    embeddings. Where G does not divide the layers, groups differ by one layer."""


def average(args: AverageArguments) -> Path:
    """Interpolate two checkpoints, and save an ordinary one with a ``training.json``.

    Computed in float32 (float64 stays) and rounded once to the type that is stored. A share of 0 or 1, and values that
    are equal in both checkpoints, give the very bytes of the input. The new weights are sharded as those of ``first``.

    Parameters
    ----------
    args
        See `AverageArguments`.

    Returns
    -------
    pathlib.Path
        The checkpoint folder. It appears when it is complete; one that the same arguments and inputs made is kept.

    Raises
    ------
    UserError
        If a folder is no checkpoint with safetensors; if configurations, tokenizers or the names, shapes or types of
        tensors differ; if weights are quantised, or overflow; if there are more groups than layers; if a share is out
        of range; or if something else lies at ``output``.
    """
    from safetensors.torch import save_file

    from reference_models.data import sha256_of

    started = time.perf_counter()
    for a in (args.weight, *(args.group_weights or ())):
        if not LEAST <= a <= MOST:
            raise UserError(f"a weight is {a}, and must be from {LEAST:g} to {MOST:g}")
    first, second = _Checkpoint(Path(args.first)), _Checkpoint(Path(args.second))
    _compare_configurations(first, second)
    _compare_tokenizers(first.folder, second.folder)
    record: dict[str, Any] = {
        "method": "average",
        "arguments": asdict(args),
        "inputs_sha256": {name: sha256_of(getattr(args, name)) for name in INPUTS},
    }
    output = Path(args.output)
    if output.exists():
        _refuse_other(output, record)
        return output

    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        one, other = stack.enter_context(first.opened()), stack.enter_context(second.opened())
        _compare_tensors(first, one, second, other)
        shares = _shares(args, first, sorted(one))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for file, names in first.shards(sorted(one)).items():
            mixed = {
                name: interpolate(one[name].get_tensor(name), other[name].get_tensor(name), shares[name], name=name)
                for name in names
            }
            save_file(mixed, temporary / file, metadata=one[names[0]].metadata() or {"format": "pt"})
        if first.index is not None:
            shutil.copy(first.index, temporary / INDEX)
        for path in sorted({path for pattern in COPIED for path in first.folder.glob(pattern) if path.is_file()}):
            shutil.copy(path, temporary / path.name)
        record["seconds"] = round(time.perf_counter() - started, 1)
        (temporary / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(output)
    return output


def interpolate(first: Tensor, second: Tensor, a: float, *, name: str = "tensor") -> Tensor:
    """Return (1 − a) · first + a · second, in the type of the two.

    Raises
    ------
    UserError
        If integers (masks, quantised weights) differ, or a finite pair gives a number beyond the type's range.
    """
    import torch

    if a in (0, 1):
        return second if a else first
    is_equal = first == second
    if not first.is_floating_point():
        if not bool(is_equal.all()):
            raise UserError(f"{name}: numbers of type {first.dtype} differ, and cannot be averaged")
        return first
    wide = torch.promote_types(first.dtype, torch.float32)
    mixed = ((1 - a) * first.to(wide) + a * second.to(wide)).to(first.dtype)
    # Weights that training left alone stay as they are to the last bit, and so do masks of infinities.
    mixed = torch.where(is_equal, first, mixed)
    if bool((~mixed.isfinite() & first.isfinite() & second.isfinite()).any()):
        raise UserError(f"{name}: at weight {a} it overflows {first.dtype}; choose a weight nearer to [0, 1]")
    return mixed


def group_of(name: str, layers: int, groups: int) -> int:
    """Group of a tensor, from 0: its layer's, the first for embeddings, the last for what follows the layers.

    Parameters
    ----------
    name
        As stored: ``model.layers.3.mlp.up_proj.weight``, ``transformer.wte.weight``.
    layers
        How many there are.
    groups
        How many they are cut into, at most ``layers``.
    """
    if (layer := _layer_of(name)) is not None:
        return layer * groups // layers
    # GPT-NeoX calls its head `embed_out`.
    is_embedding = re.search(r"embed|\bwte\b|\bwpe\b|\bproject_in\b", name) and "embed_out" not in name
    return 0 if is_embedding else groups - 1


def _layer_of(name: str) -> int | None:
    """Number of the layer that a tensor belongs to: the first number in its name (experts have one further in)."""
    found = re.search(r"(?:^|\.)(\d+)\.", name)
    return int(found[1]) if found else None


class _Checkpoint:
    """A folder with weights as safetensors, in one file or in shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise UserError("no such folder; give a checkpoint on this machine", where=folder)
        self.config = _json(folder / "config.json")
        if "quantization_config" in self.config:
            raise UserError("quantised weights cannot be averaged", where=folder / "config.json")
        self.index: Path | None = None
        self.files: dict[str, str] = {}
        """Tensor → file; empty where there is but one file, which lists its own."""
        if (folder / SINGLE).is_file():
            return
        self.index = folder / INDEX
        if not self.index.is_file():
            there = [n for n in ("adapter_model.safetensors", "pytorch_model.bin") if (folder / n).exists()]
            mend = {
                "adapter_model.safetensors": "; it holds an adapter, to be merged into its model first",
                "pytorch_model.bin": "; save its pytorch_model.bin as safetensors first",
            }
            raise UserError(f"no {SINGLE} and no {INDEX}{mend[there[0]] if there else ''}", where=folder)
        files = _json(self.index).get("weight_map")
        # A plain name: what an index says must not lead out of the folder.
        if not isinstance(files, dict) or not files or any(Path(str(file)).name != file for file in files.values()):
            raise UserError("field 'weight_map' does not name the file of every tensor", where=self.index)
        self.files = files

    @contextlib.contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """Open the weights: tensor → the open file that holds it."""
        from safetensors import SafetensorError, safe_open

        holders: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            for file in sorted(set(self.files.values())) or [SINGLE]:
                path = self.folder / file
                if not path.is_file():
                    raise UserError(f"no such file; {INDEX} names it", where=path)
                try:
                    holder = stack.enter_context(safe_open(path, framework="pt"))
                except SafetensorError as error:
                    raise UserError(f"not a safetensors file, or cut off: {error}", where=path) from None
                names = set(holder.keys())
                if self.files and (lost := sorted({n for n, f in self.files.items() if f == file} ^ names)):
                    raise UserError(f"{INDEX} and the file disagree on {lost[0]}", where=path)
                holders |= dict.fromkeys(names, holder)
            yield holders

    def shards(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Sort tensors by the file they are in."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.files.get(name, SINGLE), []).append(name)
        return found


def _shares(args: AverageArguments, checkpoint: _Checkpoint, names: Sequence[str]) -> dict[str, float]:
    """Share of ``second`` in each tensor."""
    if args.group_weights is None:
        return dict.fromkeys(names, args.weight)
    groups = len(args.group_weights)
    found = {layer for name in names if (layer := _layer_of(name)) is not None}
    declared = checkpoint.config.get("num_hidden_layers", checkpoint.config.get("n_layer", len(found)))
    if found != set(range(declared)):
        raise UserError(
            f"its {declared} layers cannot be told by the names of its tensors; give one weight",
            where=checkpoint.folder,
        )
    if not 1 <= groups <= len(found):
        raise UserError(
            f"group_weights has {groups} weights; give from 1 to {len(found)}, the number of layers",
            where=checkpoint.folder,
        )
    return {name: args.group_weights[group_of(name, len(found), groups)] for name in names}


def _compare_configurations(first: _Checkpoint, second: _Checkpoint) -> None:
    ours, theirs = first.config, second.config
    for field in [*TOLD_FIRST, *sorted(ours.keys() | theirs.keys())]:
        if field not in NOTHING_TO_COMPARE and ours.get(field) != theirs.get(field):
            raise UserError(
                f"field {field!r} is {_shown(theirs, field)}, and {_shown(ours, field)} in {first.folder}; "
                "only checkpoints of one architecture can be averaged",
                where=second.folder / "config.json",
            )


def _compare_tokenizers(first: Path, second: Path) -> None:
    """Refuse tokenizers that give a text different ids; what they do about length and padding may differ."""
    both = [name for name in VOCABULARIES if (first / name).is_file() and (second / name).is_file()]
    either = [name for name in VOCABULARIES if (first / name).is_file() or (second / name).is_file()]
    if either and not both:
        raise UserError(f"has not the same tokenizer files as {first}; {either[0]} is in one alone", where=second)
    # tokenizer.json says all; the older files beside it say it again.
    for name in both[:1] if both[:1] == ["tokenizer.json"] else both:
        if name == "tokenizer.json":
            ours, theirs = (_json(folder / name) for folder in (first, second))
            for field in sorted((ours.keys() | theirs.keys()) - {"truncation", "padding"}):
                if ours.get(field) != theirs.get(field):
                    raise UserError(f"field {field!r} differs from the tokenizer of {first}", where=second / name)
        elif (first / name).read_bytes() != (second / name).read_bytes():
            raise UserError(f"differs from the tokenizer of {first}", where=second / name)
    ours, theirs = (
        _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        for folder in (first, second)
    )
    for field in SPECIAL_TOKENS:
        if _token(ours.get(field)) != _token(theirs.get(field)):
            raise UserError(
                f"field {field!r} is {_shown(theirs, field)}, and {_shown(ours, field)} in {first}",
                where=second / "tokenizer_config.json",
            )


def _compare_tensors(first: _Checkpoint, one: Mapping[str, Any], second: _Checkpoint, other: Mapping[str, Any]) -> None:
    for name in sorted(one.keys() ^ other.keys()):
        has, lacks = (first, second) if name in one else (second, first)
        raise UserError(f"has no tensor {name!r}, and {has.folder} has", where=lacks.folder)
    for name in sorted(one):
        ours, theirs = (holder[name].get_slice(name) for holder in (one, other))
        for what, a, b in (
            ("shape", ours.get_shape(), theirs.get_shape()),
            ("type", ours.get_dtype(), theirs.get_dtype()),
        ):
            if a != b:
                raise UserError(f"{what} of {name!r} is {b}, and {a} in {first.folder}", where=second.folder)


def _refuse_other(output: Path, record: Mapping[str, Any]) -> None:
    """Refuse to take for done, or to write over, what other arguments or inputs made."""
    there: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        there = _json(output / "training.json")
    if there.get("method") != "average":
        raise UserError("is in the way, and is no average; give another output", where=output)
    # Through JSON and back, in which a tuple is a list.
    for kind, here in json.loads(json.dumps({key: record[key] for key in ("arguments", "inputs_sha256")})).items():
        recorded = there.get(kind)
        for field, value in here.items():
            if not isinstance(recorded, dict) or recorded.get(field) != value:
                told = (
                    f"{field} is another there" if kind == "arguments" else f"the content of {field} has changed since"
                )
                raise UserError(f"belongs to another average: {told}; give another output", where=output)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=path) from None
    if not isinstance(found, dict):
        raise UserError("not a mapping of fields", where=path)
    return found


def _token(value: Any) -> Any:
    """Text of a special token, which older files keep with its options."""
    return value.get("content") if isinstance(value, dict) else value


def _shown(fields: Mapping[str, Any], field: str) -> str:
    return json.dumps(fields[field]) if field in fields else "absent"


def train(args: AverageArguments, *, view: bool = False, progress: Any = None) -> Path:  # noqa: ARG001
    """Call `average` as the other methods are called; it is done before there is anything to show."""
    return average(args)


if __name__ == "__main__":
    from reference_models.arguments import run_as_module

    run_as_module(AverageArguments, train, __doc__)
