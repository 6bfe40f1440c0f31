"""Several processes on one machine or many, started by torchrun, that share one global batch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from base import UserError
from base.file import locked


@dataclass(frozen=True)
class World:
    """This process among all: torchrun's RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that logs and writes checkpoints."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Part of a global batch that this process takes; shares differ by one image at most."""
        if batch < self.size:
            raise UserError(
                f"--batch {batch} is smaller than the number of processes, {self.size}: give a "
                "larger one, or start fewer processes"
            )
        return slice(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)


def read_world() -> World:
    """Read torchrun's environment; a process started without it is alone."""
    environment = os.environ
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        tasks = environment.get("SLURM_NTASKS", "1")
        if tasks != "1" and environment.get("SLURM_PROCID", "0") == "0":
            note = f"note: Slurm has {tasks} tasks, but this process works alone: start it with "
            print(f"{note}torchrun, or ask for one task", file=sys.stderr)
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    world = World(*(int(environment.get(name, default)) for name, default in zip(names, "0101")))
    if world.size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        raise UserError(
            "RANK and WORLD_SIZE are set, but not MASTER_ADDR and MASTER_PORT: start with "
            "torchrun, which sets all of them, or unset RANK and WORLD_SIZE"
        )
    return world


def choose_device(name: str, world: World | None = None) -> torch.device:
    """Turn auto / cpu / cuda / cuda:N into this process's device.

    Raises:
        UserError: CUDA is asked for and not there, or has too few devices.
    """
    world = world or World()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise UserError(f"--device {name}: give auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: this machine has no CUDA device; give cpu or auto")
    count = torch.cuda.device_count()
    if world.size > 1 and device.index is not None:
        raise UserError(f"--device {name}: several processes would share it; give cuda or auto")
    index = world.local_rank if device.index is None else device.index
    if index >= count and device.index is None:
        own = f"process {world.rank} has no CUDA device of its own"
        raise UserError(f"{own}: start {count} processes on this machine, one for each")
    if index >= count:
        raise UserError(f"--device {name}: this machine has {count} CUDA devices, from cuda:0 on")
    return torch.device("cuda", index)


@contextmanager
def joined(world: World, device: torch.device, patience: timedelta | None = None) -> Iterator[None]:
    """Join torchrun's processes, which wait for one another for `patience`; alone, do nothing."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world.size == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def main_first(world: World) -> Iterator[None]:
    """Let the main process run the block before the others: it draws, downloads or writes."""
    if not world.main:
        barrier()
    yield
    if world.main:
        barrier()


def barrier() -> None:
    """Wait until all processes have come here."""
    if dist.is_initialized():
        dist.barrier()


def mean(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes, without gradient; alone, the tensor itself."""
    if not dist.is_initialized():
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def agree(value: int, device: torch.device) -> bool:
    """Whether all processes hold the same number."""
    if not dist.is_initialized():
        return True
    extremes = torch.tensor([value, -value], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    return extremes[0].item() == -extremes[1].item()


def replicate(network: nn.Module, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """The network and its wrapped form, which averages gradients over the processes.

    On CUDA, batch normalisation takes its statistics over the global batch; on CPU torch cannot,
    and each process normalises by its own share.
    """
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    devices = [device.index] if device.type == "cuda" else None
    return network, nn.parallel.DistributedDataParallel(network, device_ids=devices)


@contextmanager
def sharing(world: World, folder: Path | None) -> Iterator[None]:
    """Share the work on the files of a folder with torchrun's processes, which end together.

    The folder, if one is given, is held for the block, so that no other run writes there.

    Raises:
        UserError: another run is at work in the folder.
    """
    lock = locked(folder) if folder and world.main else nullcontext()
    with joined(world, torch.device("cpu"), timedelta(days=7)), lock:
        yield
        barrier()
