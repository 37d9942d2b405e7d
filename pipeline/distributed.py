"""The process group: who this process is, sums over all of them, and an orderly end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import check
from pipeline.options import Device

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among all: global rank, rank on its node, number of processes, its device."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0


def read_world_size() -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def read_rank() -> int:
    """This process's number among all that torchrun started; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def pick_device(device: Device, local_rank: int) -> torch.device:
    """Device of this process.

    Raises:
        InputError: CUDA was asked for and there is none, or not one per process of the node.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    check(torch.cuda.is_available(), "--device cuda: torch sees no GPU; use --device cpu or check the driver")
    num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # every process refuses, so that the first one says it
    check(
        max(num_processes, local_rank + 1) <= torch.cuda.device_count(),
        f"{num_processes} processes on this node and {torch.cuda.device_count()} GPUs: "
        "start at most one process per GPU",
    )
    return torch.device("cuda", local_rank)


@contextmanager
def join_world(device: Device) -> Iterator[World]:
    """Join the process group that torchrun's environment describes, and leave it at the end; alone without torchrun.

    Raises:
        InputError: the device cannot be had.
    """
    num_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    check(
        num_tasks == 1 or "WORLD_SIZE" in os.environ,
        f"srun started {num_tasks} tasks without torchrun, so each would work alone: "
        "use slurm/train.sbatch or torchrun",
    )
    check(
        read_world_size() == 1 or "MASTER_ADDR" in os.environ,
        f"WORLD_SIZE is {read_world_size()} but MASTER_ADDR is not set: start with torchrun, or unset both it and RANK",
    )
    rank, local_rank = read_rank(), int(os.environ.get("LOCAL_RANK", "0"))
    world = World(
        rank=rank, local_rank=local_rank, world_size=read_world_size(), device=pick_device(device, local_rank)
    )
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        torch.backends.cudnn.allow_tf32 = False  # on by default, with a mantissa of 10 bits where float32 has 23
    if world.world_size == 1:
        yield world
        return
    if world.device.type == "cuda":
        dist.init_process_group("nccl", device_id=world.device)
    else:
        dist.init_process_group("gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all ranks, in place; every rank gets the result."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gather_to_main(value: Any) -> list[Any]:
    """Collect one picklable value per rank, in order of rank; empty on every rank but the first."""
    if not dist.is_initialized():
        return [value]
    rank = dist.get_rank()
    collected: list[Any] | None = [None] * dist.get_world_size() if rank == 0 else None
    dist.gather_object(value, collected)
    return collected or []


def broadcast_from_main(value: T) -> T:
    """The first rank's picklable value on every rank, so that all act on what one of them saw."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def wait_for_all() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()
