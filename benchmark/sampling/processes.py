"""Several processes of one launcher (``torchrun``, ``accelerate launch``) that share the work of one command.

Each builds the model as if it were alone and draws its part of the missing cells. They meet over torch's gloo backend,
on CPUs and GPUs alike: nothing but waiting is done together, and no model is ever wrapped or sharded.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmark.errors import UserError

# What launchers tell a process of its place. Libraries that read them would wrap the model for training, and place it
# on a device of their own choice.
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK")
_PATIENCE = datetime.timedelta(weeks=52)
"""How long a process waits for the slowest one; a launcher ends all of them when one fails."""


class Processes(NamedTuple):
    """The place of a process among those of its launcher."""

    number: int = 1
    """From 1."""
    total: int = 1

    @property
    def is_main(self) -> bool:
        """True for the one that writes the run folder and draws progress bars."""
        return self.number == 1

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.total > 1:
            from torch import distributed

            distributed.barrier()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Join the other processes for the length of a ``with`` block.

        Raises
        ------
        UserError
            If the environment does not tell where they meet.
        """
        if self.total == 1:
            yield
            return
        if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise UserError(
                f"WORLD_SIZE is {self.total} and {missing[0]} is not set: start with torchrun or accelerate launch, "
                "or unset WORLD_SIZE"
            )
        from torch import distributed

        distributed.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Hide the other processes from libraries for the length of a ``with`` block."""
        before = {name: os.environ.pop(name) for name in _PLACE if name in os.environ} if self.total > 1 else {}
        try:
            yield
        finally:
            os.environ.update(before)

    def device(self, wanted: str | None) -> str | None:
        """Give this process a GPU of its own where no device, or any GPU, is asked for."""
        if self.total == 1 or wanted not in (None, "cuda"):
            return wanted
        import torch

        if not (gpus := torch.cuda.device_count()):
            return wanted
        local = int(os.environ.get("LOCAL_RANK", self.number - 1))
        if local >= gpus:
            raise UserError(f"process {self.number} has no GPU of its own: there are {gpus}; start fewer, or --device")
        return f"cuda:{local}"


ALONE = Processes()


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Read from the environment how many processes a launcher started; 1 outside one.

    Raises
    ------
    UserError
        If that is no number.
    """
    told = environment.get("WORLD_SIZE", "1")
    if not (told.isascii() and told.isdecimal()):
        raise UserError(
            f"WORLD_SIZE {told!r} is no number of processes; unset it, or start with torchrun or accelerate launch"
        )
    return int(told)


def launched(environment: Mapping[str, str] = os.environ) -> Processes:
    """Read from the environment which process of how many this is; `ALONE` outside a launcher.

    Raises
    ------
    UserError
        If the environment contradicts itself.
    """
    if "RANK" not in environment:
        world_size(environment)
        return ALONE
    if environment.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        number, total = int(environment["RANK"]) + 1, int(environment["WORLD_SIZE"])
    except ValueError:
        number, total = 0, 0
    if not 1 <= number <= total:
        raise UserError(
            f"RANK {environment['RANK']!r} and WORLD_SIZE {environment['WORLD_SIZE']!r} are no place among processes; "
            "unset them, or start with torchrun or accelerate launch"
        )
    return Processes(number, total)
