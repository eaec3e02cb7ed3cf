r"""What surrounds every training loop: devices, processes, accumulation, metrics, states to resume from, saving.

A method's file shows its algorithm; this one makes it survive. While a run is under way everything is in
``OUTPUT.partial``; ``OUTPUT`` appears when it is complete. Each step is a function of the weights, the optimizer and
its number alone, so a run that was killed continues from its last state to the very same final weights.

Several GPUs, by data parallelism or by FSDP version 2 (adapters and version 1 are refused)::

    accelerate launch --multi_gpu --num_processes 2 -m reference_models.ppo --recipe … --set …
    accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP \
        --fsdp_transformer_layer_cls_to_wrap LlamaDecoderLayer --num_processes 2 -m reference_models.ppo …

On CPUs it is ``torchrun --nproc-per-node 2 -m …``: accelerate starts a single process there, and does not say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmark.errors import UserError
from reference_models.arguments import RunFolder, TrainingArguments
from reference_models.data import sha256_of
from reference_models.metrics import MetricsLog, draw_curves, read_metrics
from reference_models.models import innermost, merged, parameter_groups

Item = TypeVar("Item")
Progress = Callable[[int, dict[str, float]], None]
"""Called after every step with its number (from 1) and its metrics."""


def silent(_step: int, _metrics: dict[str, float]) -> None:
    """Report no progress."""


class DivergedError(UserError):
    """Training blew up; the message says when, how, and where the last good checkpoint is."""


class Training:
    """A context manager around one run of one method.

    Parameters
    ----------
    args
        The method's arguments.
    method
        Its name, as recorded.
    inputs
        Names of the arguments that are files or checkpoints; their hashes are recorded, and must be the same to resume.
    shown
        Metrics of the live view and the curves.
    view
        Draw progress on the terminal.
    progress
        See `Progress`; called on the main process.

    Attributes
    ----------
    is_done
        Whether ``output`` is there already, made by these very arguments.

    Raises
    ------
    UserError
        If ``output`` or an unfinished run belongs to other arguments or inputs, or another process is at it.
    """

    def __init__(
        self,
        args: TrainingArguments,
        method: str,
        *,
        inputs: Sequence[str],
        shown: Sequence[str],
        view: bool = False,
        progress: Progress = silent,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # there is one a file loaded or saved
        self.args, self.method, self.shown, self.progress = args, method, shown, progress
        # A process may train more than once; accelerate would hold on to the first run's precision.
        AcceleratorState._reset_state()
        # With it, FSDP would have processes but the first load reference and reward model without their weights.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=args.mixed_precision)
        # After accelerate, which sets threads of its own for several processes.
        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        # cuDNN's attention gave gradients of NaN on an H100 where a batch had much padding (torch 2.11): finite loss,
        # the same batch right with the other kernels.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.processes, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device: torch.device = self.accelerator.device
        if args.batch_size % self.processes:
            raise UserError(f"batch_size {args.batch_size} cannot be shared by {self.processes} processes")
        hashes = {name: sha256_of(getattr(args, name)) for name in inputs}
        self._folder = RunFolder(method, args, args.output, hashes)
        self.output, self.partial, self.identity = self._folder.output, self._folder.partial, self._folder.identity
        self.is_done = self._folder.is_done()
        self.step = 0
        self._view = view
        self._log: MetricsLog | None = None
        self._timers: dict[str, float] = {}
        self._module: nn.Module | None = None

    def __enter__(self) -> Training:
        try:
            self.is_done = self._begin_together()
            if self.accelerator.is_main_process and not self.is_done:
                title, file = f"{self.method} {self.output.name}", self.partial / "metrics.jsonl"
                log = MetricsLog(
                    file, title=title, steps=self.args.steps, shown=self.shown, view=self._view, plain=self._view
                )
                self._log = log.__enter__()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log is not None:
            self._log.__exit__(kind, error, trace)
        self._folder.close()
        if isinstance(error, OSError | SafetensorError):
            # A full disk, most likely, which is no bug of ours.
            raise UserError(f"{type(error).__name__}: {error}", where=self.partial) from error

    # -- the loop ------------------------------------------------------------------------------------------------

    def prepare(self, module: nn.Module, export: Callable[[Path], None]) -> Any:
        """Put a module on its device, make its optimizer, and take up the last state of a run that was stopped.

        Parameters
        ----------
        module
            Everything that is trained, in one module.
        export
            Writes what is trained as an ordinary checkpoint into a folder; called on every process.

        Returns
        -------
        module
            Ready for several processes.
        """
        groups = parameter_groups(module, self.args.weight_decay)
        # Moved first, so that the optimizer holds the parameters that are trained.
        module.to(self.device)
        optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, eps=self.args.adam_eps, fused=True)
        self._module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.export = export
        if self.accelerator.distributed_type == "FSDP" and not self.is_sharded:
            raise UserError("FSDP version 1 is not supported; launch with --fsdp_version 2")
        if self.is_sharded and self.args.lora_rank:
            raise UserError("adapters are not supported under FSDP; they seldom need it: launch without")
        if states := self._states():
            self._load(states[-1])
        if self._log is not None:
            self._log.resume(self.step)
        self._started = time.perf_counter()
        return self._module

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be done, each at its learning rate; keep states on the way."""
        for step in range(self.step + 1, self.args.steps + 1):
            for group in self.optimizer.param_groups:
                group["lr"] = self.args.rate_at(step)
            self._timers = {}
            yield step
            self.step = step
            if step % self.args.save_every == 0 and step < self.args.steps:
                self._save()
            if self.accelerator.is_main_process:
                # That this step went well is what tells that the state before it was a good one.
                for old in self._states(before=step)[:-1]:
                    old.unlink()

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Take the part of this process of a batch that all processes know."""
        size = len(items) // self.processes
        return items[self.rank * size : (self.rank + 1) * size]

    @property
    def is_cut(self) -> bool:
        """Whether examples are read in microbatches, and then with as little padding as can be.

        Those that are read all at once are read as they always were, so that they still make the same bytes.
        """
        return self.args.microbatch_size > 0

    def by_length(self, items: Sequence[Item], length: Callable[[Item], int]) -> Sequence[Item]:
        """Put examples that are cut into microbatches in order of length: neighbours then need little padding.

        A sum over examples knows no order.
        """
        return sorted(items, key=length) if self.is_cut else items

    def micro(self, n: int) -> list[slice]:
        """Cut this process's n examples into microbatches."""
        size = self.args.microbatch_size or n
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def total(self, value: Tensor) -> Tensor:
        """Add up a tensor over all processes."""
        return self.accelerator.reduce(value, "sum") if self.processes > 1 else value

    def descend(self, items: Sequence[Item], loss: Callable[[Item], Tensor], count: float) -> dict[str, float]:
        """Take one optimizer step on the mean of a loss over a batch in microbatches and on processes.

        Parameters
        ----------
        items
            Microbatches of this process; every process has as many.
        loss
            *Sum* of the loss over the entries (tokens, pairs or sequences) of a microbatch.
        count
            Entries of all microbatches and processes together. Dividing by it, and not by each microbatch's own, makes
            accumulation equal to the large batch.

        Returns
        -------
        dict
            ``loss``, the mean, and ``grad_norm`` before it is clipped.
        """
        assert self._module is not None
        total = torch.zeros((), device=self.device)
        for number, item in enumerate(items):
            last = number == len(items) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._module):
                part = loss(item) / count
                # Times the processes, because gradients are averaged over them.
                self.accelerator.backward(part * self.processes)
                total += part.detach()
        norm = _whole(self.accelerator.clip_grad_norm_(self._module.parameters(), self.args.max_grad_norm))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": float(self.total(total)), "grad_norm": float(norm)}

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the time spent inside towards ``seconds_WHAT`` of this step's metrics.

        Raises
        ------
        DivergedError
            On every process, if on one the model gave no numbers to draw from.
        """
        started = time.perf_counter()
        failure = ""
        try:
            yield
        except FloatingPointError as error:
            failure = str(error)
        if self.total(torch.tensor(float(bool(failure)), device=self.device)):
            raise self._diverged(self.step + 1, failure or "another process could not go on")
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        name = f"seconds_{what}"
        self._timers[name] = self._timers.get(name, 0.0) + time.perf_counter() - started

    def log(self, step: int, metrics: Mapping[str, float], *, limits: Mapping[str, float] | None = None) -> None:
        """Record a step's metrics, the same on all processes.

        Raises
        ------
        DivergedError
            If one is not a finite number, or is above its limit.
        """
        found = {**metrics, "learning_rate": self.args.rate_at(step), **self._timers}
        if self._log is not None:
            self._log.write(step, found)
            self.progress(step, found)
        for name, value in found.items():
            if value - value != 0:
                raise self._diverged(step, f"{name} is {value}")
            if limits and value > limits.get(name, float("inf")):
                raise self._diverged(step, f"{name} is {value:.3g}, above the limit of {limits[name]:g}")

    def finish(self, **more: float) -> Path:
        """Write the finished checkpoint, with a ``training.json``, the metrics and their curves.

        Parameters
        ----------
        **more
            Kept in ``training.json`` beside the metrics of the last tenth of the steps.
        """
        self._publish(self.output, **more)
        if self.accelerator.is_main_process:
            shutil.rmtree(self.partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return self.output

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds but a part of the weights (FSDP)."""
        return any(hasattr(p, "full_tensor") for _, p in self._trained())

    def whole(self, model: Any, prefix: str) -> Any:
        """Give a part of the trained module for use outside of it: itself or, where it is sharded, a whole copy."""
        if not self.is_sharded:
            return model
        from torch.distributed.fsdp import FSDPModule

        kind: Any = next(parent for parent in type(model).__mro__ if not issubclass(parent, FSDPModule))
        copy = kind(model.config).to(self.device).eval()
        copy.load_state_dict(dict(self.weights(prefix)))
        return copy

    def weights(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the whole weights of the trained module whose names begin with a prefix, without it."""
        assert self._module is not None
        for name, value in innermost(self._module).state_dict().items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), _whole(value.detach())

    # -- saving --------------------------------------------------------------------------------------------------

    def save_model(self, model: Any, folder: Path, prefix: str = "") -> None:
        """Write a model that is (part of) the trained module as an ordinary checkpoint, adapters folded in."""
        if hasattr(model, "merge_and_unload"):
            if self.accelerator.is_main_process:
                model.save_pretrained(folder / "adapter")
                merged(model).save_pretrained(folder)
            return
        weights = dict(self.weights(prefix))
        if self.accelerator.is_main_process:
            model.save_pretrained(folder, state_dict=weights)

    def _publish(self, target: Path, **more: Any) -> None:
        """Write a checkpoint of the weights as they are; it appears when it is complete."""
        if not self.accelerator.is_main_process:
            # Sharded weights are gathered by all processes together, and written by one.
            with tempfile.TemporaryDirectory() as unused:
                self.export(Path(unused))
            return
        folder = self.partial / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.export(folder)
        record = {
            **self.identity,
            "processes": self.processes,
            "device": self.device.type,
            "packages": {"torch": torch.__version__, "transformers": transformers.__version__},
            "steps_done": self.step,
            "metrics": self._at_the_end(),
            **more,
            "seconds": round(time.perf_counter() - self._started, 1),
        }
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.copy(self.partial / "metrics.jsonl", folder / "metrics.jsonl")
        draw_curves(folder / "metrics.jsonl", folder / "curves.png", title=self.output.name, shown=self.shown)
        folder.replace(target)

    def _at_the_end(self) -> dict[str, float]:
        """Mean of each metric over the last tenth of the steps."""
        rows = read_metrics(self.partial / "metrics.jsonl")
        rows = [row for row in rows if row["step"] <= self.step][-max(1, self.args.steps // 10) :]
        names = [name for name in (rows[-1] if rows else {}) if name != "step" and not name.startswith("seconds")]
        found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def _diverged(self, step: int, how: str) -> DivergedError:
        """Put the last good state beside ``output`` as an ordinary checkpoint, and tell."""
        # The weights that this step began with are what went wrong in it, whether they were saved or not.
        if not (states := self._states(before=step - 1)):
            kept = "no state from before was kept, so the checkpoint it began from is the last good one"
        else:
            self._load(states[-1])
            good = self.output.with_name(f"{self.output.name}.last-good")
            if self.accelerator.is_main_process:
                shutil.rmtree(good, ignore_errors=True)
            self._publish(good, diverged=f"step {step}: {how}")
            kept = f"the last good checkpoint, of step {self.step}, is {good}"
        return DivergedError(
            f"{self.method} diverged at step {step}: {how}; {kept}. A lower learning_rate may help; "
            f"remove {self.partial} before other arguments"
        )

    def _save(self) -> None:
        """Keep weights, optimizer and step."""
        tensors = {}
        for name, parameter in self._trained():
            tensors[f"weight.{name}"] = _whole(parameter.data)
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = _whole(value)
        if self.accelerator.is_main_process:
            new = self.partial / f"state-{self.step:08d}.safetensors"
            temporary = new.with_suffix(".tmp")
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
            temporary.replace(new)
        self.accelerator.wait_for_everyone()

    def _states(self, before: float = float("inf")) -> list[Path]:
        """States of steps before one, the oldest first."""
        return sorted(path for path in self.partial.glob("state-*.safetensors") if _step_of(path) < before)

    def _load(self, path: Path) -> None:
        """Put back what `_save` kept."""
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(_like(tensors[f"weight.{name}"], parameter))
                state: dict[str, Tensor] = {}
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    if (kept := tensors.get(f"{key}.{name}")) is None:
                        continue  # it never had a gradient
                    state[key] = kept.to(self.device) if key == "step" else _like(kept, parameter).clone()
                self.optimizer.state[parameter] = state
        self.step = _step_of(path)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        assert self._module is not None
        return [(name, p) for name, p in innermost(self._module).named_parameters() if p.requires_grad]

    # -- what is there already -----------------------------------------------------------------------------------

    def _begin_together(self) -> bool:
        """Begin on the main process; what it finds or raises, every process returns or raises."""
        from accelerate.utils import broadcast_object_list

        told: list[bool | UserError] = [False]
        if self.accelerator.is_main_process:
            try:
                told = [self._folder.begin()]
            except UserError as error:
                told = [error]
            except OSError as error:
                told = [UserError(f"cannot be written: {error.strerror}", where=self.partial)]
        if self.processes > 1:
            broadcast_object_list(told)
        if isinstance(told[0], UserError):
            raise told[0]
        return told[0]


def _step_of(state: Path) -> int:
    return int(state.stem.removeprefix("state-"))


def _whole(value: Tensor) -> Tensor:
    """Gather a tensor that is sharded over processes."""
    full = getattr(value, "full_tensor", None)
    return full() if full is not None else value


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Put a whole tensor on a parameter's device, sharded as it is."""
    value = value.to(parameter.device)
    if hasattr(parameter, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = parameter
        return distribute_tensor(value, sharded.device_mesh, sharded.placements)
    return value
