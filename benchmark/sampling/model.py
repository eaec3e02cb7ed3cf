"""From what a user calls a model to a sampler.

``MODEL`` is a checkpoint folder, a hub id, ``backend:args`` for any backend of lm-eval's registry (for example
``vllm:pretrained=org/model,tensor_parallel_size=2``), ``best-of-n:policy=FOLDER_OR_ID,reward_model=FOLDER_OR_ID,n=16``
for the best of n outputs of a policy, or ``control:NAME`` for a floor or the ceiling.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UserError
from benchmark.records import Kind, Prompt
from benchmark.sampling.checkpoint import public_arguments
from benchmark.sampling.sampler import Sampler
from benchmark.suites import Suite

CPU_BATCH, GPU_BATCH = 512, 1024


class Built(NamedTuple):
    """A sampler, and what its row is called."""

    sampler: Sampler
    kind: Kind
    name: str


def build(
    spec: str,
    suite: Suite,
    prompts: dict[str, list[Prompt]],
    *,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    chat: bool | None = None,
) -> Built:
    """Build the sampler of a model.

    Parameters
    ----------
    spec
        What the user called the model; see the module's docstring.
    suite, prompts
        What it will be asked; controls are made of it.
    batch_size
        Sequences a batch; None = a default for the device.
    device, dtype
        For Hugging Face models; None = a GPU where there is one, and the checkpoint's own dtype.
    chat
        Apply a chat template; None = where the model has one.

    Raises
    ------
    UserError
        If there is no such model, control or backend, or it will not load.
    """
    backend, colon, args = spec.partition(":")
    if backend == "control" and colon:
        from benchmark.sampling.controls import ControlSampler

        control = ControlSampler(args, suite, prompts)
        return Built(control, control.kind, args)
    if backend == "best-of-n" and colon:
        return _best_of_n(args, batch_size, device, dtype, chat)
    if Path(spec).is_dir():
        return _folder_or_id(spec, batch_size, device, dtype, chat)
    if colon and re.fullmatch(r"[A-Za-z0-9_-]+", backend):
        if backend == "hf":
            arguments = _parse(args)
            return _hugging_face(str(arguments.get("pretrained", "")), arguments, batch_size, device, dtype, chat)
        return _lm_eval(backend, args, batch_size, chat)
    return _folder_or_id(spec, batch_size, device, dtype, chat)


def _folder_or_id(name: str, batch_size: int | None, device: str | None, dtype: str | None, chat: bool | None) -> Built:
    _refuse_missing_folder(name)
    return _hugging_face(name, {"pretrained": name}, batch_size, device, dtype, chat)


def _refuse_missing_folder(name: str) -> None:
    """Raise a `UserError` if what a user calls a checkpoint is no folder, and cannot be a hub id."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise UserError(f"no such checkpoint folder: {name}")


def _best_of_n(args: str, batch_size: int | None, device: str | None, dtype: str | None, chat: bool | None) -> Built:
    from benchmark import reward_model
    from benchmark.sampling.best_of_n import BestOfNSampler

    form = "best-of-n:policy=FOLDER_OR_ID,reward_model=FOLDER_OR_ID,n=NUMBER"
    given = dict(field.partition("=")[::2] for field in args.split(",") if field)
    for field in given:
        if field not in ("policy", "reward_model", "n"):
            raise UserError(f"best-of-n: no field {field!r}; write {form}")
    for field in ("policy", "reward_model", "n"):
        if not given.get(field):
            raise UserError(f"best-of-n: {field} is missing; write {form}")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", given["n"]):
        raise UserError(f"best-of-n: n must be a whole number above 0, not {given['n']!r}")
    scorer_id = given["reward_model"]
    _refuse_missing_folder(scorer_id)
    policy = _folder_or_id(given["policy"], batch_size, device, dtype, chat)
    with _loading(scorer_id):
        scorer, tokenizer = reward_model.load(scorer_id, device)
    sampler = BestOfNSampler(policy.sampler, scorer, tokenizer, scorer_id, n=int(given["n"]))
    return Built(sampler, "model", f"{policy.name} best-of-{sampler.n}")


def _hugging_face(
    model_id: str,
    arguments: dict[str, Any],
    batch_size: int | None,
    device: str | None,
    dtype: str | None,
    chat: bool | None,
) -> Built:
    import torch
    from lm_eval.api.registry import get_model

    from benchmark.sampling.generate_until import GenerateUntilSampler
    from benchmark.sampling.hf import CannotExpandError, HFSampler

    if not model_id:
        raise UserError("hf: needs pretrained=FOLDER_OR_ID")
    if (folder := Path(model_id)).is_dir() and not (folder / "config.json").is_file():
        raise UserError("no config.json: not a Hugging Face checkpoint folder", where=folder)
    device = device or str(arguments.get("device", "cuda" if torch.cuda.is_available() else "cpu"))
    with _loading(f"--device {device}"):
        torch.empty(0, device=device)
    size = batch_size or (CPU_BATCH if device == "cpu" else GPU_BATCH)
    given = {"batch_size": size, **arguments, "device": device} | ({"dtype": dtype} if dtype else {})
    with _loading(model_id):
        # Safetensors only: a pickled checkpoint runs code when it is read.
        lm = get_model("hf").create_from_arg_obj({"use_safetensors": True, **given})
    public = public_arguments(arguments)
    sampler: Sampler
    try:
        if lm.backend != "causal":
            raise CannotExpandError(model_id)
        sampler = HFSampler(lm, model_id, batch_size=size, chat=chat, arguments=public)
    except CannotExpandError:
        # Encoder–decoder and recurrent models: lm-eval's own loop.
        sampler = GenerateUntilSampler(lm, "hf", model_id, batch_size=size, chat=chat, arguments=public)
    return Built(sampler, "model", _row_name(model_id))


def _lm_eval(backend: str, args: str, batch_size: int | None, chat: bool | None) -> Built:
    from lm_eval.api.registry import get_model

    from benchmark.sampling.generate_until import GenerateUntilSampler

    try:
        backend_class = get_model(backend)
    except (KeyError, ValueError, ImportError) as error:
        raise UserError(f"no lm-eval backend {backend!r}: {_first_line(error)}") from error
    arguments = _parse(args)
    name = str(arguments.get("pretrained") or arguments.get("model") or backend)
    with _loading(f"{backend}:{name}"):
        lm = backend_class.create_from_arg_string(args)
    sampler = GenerateUntilSampler(
        lm,
        backend,
        name,
        batch_size=batch_size or 64,
        chat=chat,
        dtype=str(arguments["dtype"]) if "dtype" in arguments else None,
        arguments=public_arguments(arguments),
    )
    return Built(sampler, "model", _row_name(name))


@contextlib.contextmanager
def _loading(what: str) -> Iterator[None]:
    """Turn whatever a library says about a checkpoint it cannot load into one line; the cause stays chained."""
    from huggingface_hub.errors import HFValidationError
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    expected = (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError, AssertionError)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            yield
        except (*expected, HFValidationError, SafetensorError) as error:
            raise UserError(f"{what} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _parse(args: str) -> dict[str, Any]:
    from lm_eval.utils import simple_parse_args_string

    try:
        return dict(simple_parse_args_string(args))
    except (ValueError, IndexError) as error:
        raise UserError(f"model arguments {args!r} are not key=value,key=value: {error}") from error


def _row_name(model_id: str) -> str:
    folder = Path(model_id)
    return folder.resolve().name if folder.is_dir() else model_id
