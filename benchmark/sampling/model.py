"""From what a user calls a model to a sampler.

``MODEL`` is a checkpoint folder, a hub id, ``backend:args`` for any backend of lm-eval's registry (for example
``vllm:pretrained=org/model,tensor_parallel_size=2`` or
``local-chat-completions:model=NAME,base_url=http://HOST:PORT/v1,num_concurrent=32``),
``best-of-n:policy=FOLDER_OR_ID,reward_model=FOLDER_OR_ID,n=16`` for the best of n outputs of a policy, or
``control:NAME`` for a floor or the ceiling.

A folder or hub id runs on our in-process sampler (``hf``) or on vLLM. Left to itself, vLLM is taken where it is
installed, there is a CUDA GPU, and the model is large.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmark.errors import UserError
from benchmark.records import Kind, Prompt
from benchmark.sampling.checkpoint import public_arguments
from benchmark.sampling.processes import world_size
from benchmark.sampling.sampler import Sampler
from benchmark.suites import Suite

Backend = Literal["auto", "hf", "vllm"]

VLLM_FROM = 1_000_000_000
"""Parameters from which vLLM is taken on a GPU: ours is 2 to 5 times as fast at 160 M, and at 1.1 B level on short
prompts and a third as fast on long ones (``tests/benchmarks/vllm_speed.md``)."""
DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
"""What to load a model in; torch's other names of floating-point numbers will do as well."""
OTHER_BATCH = 64
"""Requests handed to a backend of lm-eval's at once, where the user does not say."""
DATA_PARALLEL_BATCH = 65_536
"""The same for vLLM's data parallelism in lm-eval, which starts its engines anew for every call."""


class Built(NamedTuple):
    """A sampler, and what its row is called."""

    sampler: Sampler
    kind: Kind
    name: str


@dataclass(frozen=True)
class _Options:
    """What a user may say about how a checkpoint is run."""

    batch_size: int | None
    device: str | None
    dtype: str | None
    chat: bool | None
    backend: Backend | None


def build(
    spec: str,
    suite: Suite,
    prompts: dict[str, list[Prompt]],
    *,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    chat: bool | None = None,
    backend: Backend | None = None,
) -> Built:
    """Build the sampler of a model.

    Parameters
    ----------
    spec
        What the user called the model; see the module's docstring.
    suite, prompts
        What it will be asked; controls are made of it.
    batch_size
        Sequences a batch; None = found automatically, or the backend's default.
    device, dtype
        For Hugging Face models; None = a GPU where there is one, and the checkpoint's own dtype.
    chat
        Apply a chat template; None = where the model has one.
    backend
        What a folder or hub id runs on; None and ``auto`` = see the module's docstring.

    Raises
    ------
    UserError
        If there is no such model, control or backend, or it will not load.
    """
    options = _Options(batch_size, device, dtype, chat, backend)
    prefix, colon, args = spec.partition(":")
    if prefix == "control" and colon:
        from benchmark.sampling.controls import ControlSampler

        control = ControlSampler(args, suite, prompts)
        return Built(control, control.kind, args)
    if prefix == "best-of-n" and colon:
        return _best_of_n(args, options)
    if Path(spec).is_dir() or not (colon and re.fullmatch(r"[A-Za-z0-9_-]+", prefix)):
        return _folder_or_id(spec, options)
    if backend not in (None, "auto", prefix):
        raise UserError(f"the model says {prefix}, and --backend says {backend}; leave one out")
    return _by_backend(prefix, args, options)


def _by_backend(backend: str, args: str, options: _Options) -> Built:
    """Build what ``backend:args`` says."""
    from benchmark.sampling.openai_api import BACKENDS, OpenAISampler

    arguments = _parse(args)
    if backend == "hf":
        return _hugging_face(str(arguments.get("pretrained") or ""), arguments, options)
    if backend == "vllm":
        return _vllm(str(arguments.get("pretrained") or ""), arguments, options)
    if backend in BACKENDS:
        api = OpenAISampler(backend, arguments, batch_size=options.batch_size, chat=options.chat)
        return Built(api, "model", _row_name(api.model))
    return _lm_eval(backend, args, options)


def _folder_or_id(name: str, options: _Options) -> Built:
    _refuse_missing_folder(name)
    backend = options.backend if options.backend not in (None, "auto") else _faster_backend(name, options)
    return (_vllm if backend == "vllm" else _hugging_face)(name, {"pretrained": name}, options)


def _faster_backend(model_id: str, options: _Options) -> Backend:
    """Choose what a large model is sampled faster on, where there is a choice."""
    import torch

    # One engine uses the GPUs as it is told; a copy of it for each launched process would not.
    if world_size() > 1 or options.device not in (None, "cuda") or not torch.cuda.is_available() or not _has_vllm():
        return "hf"
    return "vllm" if (parameter_count(model_id) or 0) >= VLLM_FROM else "hf"


def parameter_count(model_id: str) -> int | None:
    """Count a causal language model's parameters from its configuration; None if that does not tell."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(model_id, trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError):
        return None  # whatever is wrong with it is said when it is loaded
    return int(sum(weights.numel() for weights in model.parameters()))


def _has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _refuse_missing_folder(name: str) -> None:
    """Raise a `UserError` if what a user calls a checkpoint is no folder, and cannot be a hub id."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise UserError(f"no such checkpoint folder: {name}")


def _best_of_n(args: str, options: _Options) -> Built:
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
    policy = _folder_or_id(given["policy"], options)
    with loading(scorer_id):
        scorer, tokenizer = reward_model.load(scorer_id, options.device)
    sampler = BestOfNSampler(policy.sampler, scorer, tokenizer, scorer_id, n=int(given["n"]))
    return Built(sampler, "model", f"{policy.name} best-of-{sampler.n}")


def _hugging_face(model_id: str, arguments: dict[str, Any], options: _Options) -> Built:
    import torch
    from lm_eval.api.registry import get_model

    from benchmark.sampling.generate_until import GenerateUntilSampler
    from benchmark.sampling.hf import CannotExpandError, HFSampler

    _refuse_what_is_no_checkpoint("hf", model_id)
    device = options.device or str(arguments.get("device", _own_gpu() if torch.cuda.is_available() else "cpu"))
    with loading(f"--device {device}"):
        torch.empty(0, device=device)
    given = {"batch_size": options.batch_size or 1, **arguments, "device": device} | _dtype(arguments, options)
    with loading(model_id):
        # Safetensors only: a pickled checkpoint runs code when it is read.
        lm = get_model("hf").create_from_arg_obj({"use_safetensors": True, **given})
    public = public_arguments(arguments)
    sampler: Sampler
    try:
        if lm.backend != "causal":
            raise CannotExpandError(model_id)
        sampler = HFSampler(lm, model_id, batch_size=options.batch_size, chat=options.chat, arguments=public)
    except CannotExpandError:
        # Encoder–decoder and recurrent models: lm-eval's own loop, in batches of lm-eval's own.
        size = options.batch_size or OTHER_BATCH
        lm.batch_size_per_gpu = size
        sampler = GenerateUntilSampler(lm, "hf", model_id, batch_size=size, chat=options.chat, arguments=public)
    return Built(sampler, "model", _row_name(model_id))


def _own_gpu() -> str:
    """Name this process's GPU: under ``accelerate launch`` and ``torchrun`` each has one of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def _vllm(model_id: str, arguments: dict[str, Any], options: _Options) -> Built:
    if not _has_vllm():
        raise UserError("vllm is not installed; it has an environment of its own: see constraints-vllm.txt")
    import torch
    from lm_eval.api.registry import get_model

    from benchmark.sampling.generate_until import GenerateUntilSampler
    from benchmark.sampling.vllm import VLLMSampler

    _refuse_what_is_no_checkpoint("vllm", model_id)
    if options.device not in (None, "cuda"):
        raise UserError(f"--device {options.device}: vllm takes the GPUs that CUDA_VISIBLE_DEVICES names")
    if "think_end_token" in arguments:
        raise UserError("vllm: think_end_token is not supported; outputs are kept whole")
    # A fork of a process that has touched the GPU cannot use it.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    defaults: dict[str, Any] = {"load_format": "safetensors"}
    if not torch.cuda.is_available():
        # Its CPU build cannot take back what a request with a seed drew on half a prompt, and dies.
        defaults["enable_chunked_prefill"] = False
    dtype = _dtype(arguments, options)
    with loading(model_id):
        lm = get_model("vllm").create_from_arg_obj(defaults | arguments | dtype)
    public = public_arguments(arguments)
    sampler: Sampler
    if lm.data_parallel_size > 1:
        sampler = GenerateUntilSampler(
            lm,
            "vllm",
            model_id,
            batch_size=options.batch_size or DATA_PARALLEL_BATCH,
            chat=options.chat,
            dtype=str(lm.model_args["dtype"]),
            arguments=public,
        )
    else:
        sampler = VLLMSampler(lm, model_id, batch_size=options.batch_size, chat=options.chat, arguments=public)
    return Built(sampler, "model", _row_name(model_id))


def _refuse_what_is_no_checkpoint(backend: str, model_id: str) -> None:
    if not model_id:
        raise UserError(f"{backend}: needs pretrained=FOLDER_OR_ID")
    if (folder := Path(model_id)).is_dir() and not (folder / "config.json").is_file():
        raise UserError("no config.json: not a Hugging Face checkpoint folder", where=folder)


def _dtype(arguments: dict[str, Any], options: _Options) -> dict[str, str]:
    """Give the dtype of the command line, which goes before that of the arguments; refuse what is none."""
    import torch

    dtype = options.dtype or arguments.get("dtype")
    known = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if dtype not in (None, "auto") and not (isinstance(known, torch.dtype) and known.is_floating_point):
        raise UserError(f"dtype {dtype}: there are: {', '.join(DTYPES)}")
    return {"dtype": options.dtype} if options.dtype else {}


def _lm_eval(backend: str, args: str, options: _Options) -> Built:
    from lm_eval.api.registry import get_model

    from benchmark.sampling.generate_until import GenerateUntilSampler

    try:
        backend_class = get_model(backend)
    except (KeyError, ValueError, ImportError) as error:
        raise UserError(f"no lm-eval backend {backend!r}: {_first_line(error)}") from error
    arguments = _parse(args)
    name = str(arguments.get("pretrained") or arguments.get("model") or backend)
    with loading(f"{backend}:{name}"):
        lm = backend_class.create_from_arg_string(args)
    sampler = GenerateUntilSampler(
        lm,
        backend,
        name,
        batch_size=options.batch_size or OTHER_BATCH,
        chat=options.chat,
        dtype=str(arguments["dtype"]) if "dtype" in arguments else None,
        arguments=public_arguments(arguments),
    )
    return Built(sampler, "model", _row_name(name))


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever a library says about a checkpoint it cannot load into one line; the cause stays chained."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    expected = (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError, AssertionError)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            yield
        except (*expected, HFValidationError, SafetensorError) as error:
            reason = _first_line(error)
            if _is_nowhere_here(what):
                reason = "no such folder, and not in the hub's cache" + (
                    ", which is all there is offline" if constants.HF_HUB_OFFLINE else f"; {reason}"
                )
            raise UserError(f"{what} cannot be loaded: {reason}") from error


def _is_nowhere_here(name: str) -> bool:
    """Tell whether what may be a checkpoint is neither a folder nor in the hub's cache; never asks the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return not Path(name).is_dir() and not isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False  # no id, such as ``--device cuda``


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
