"""The process group: who this process is, who shares its network and its pictures, sums, and an orderly end."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pipeline.errors import InputError, PeerLostError, check
from pipeline.options import Device

T = TypeVar("T")
TIMEOUT_SECONDS = 600.0
"""How long a rank waits for the others."""
GLOO_ERRORS = r"/gloo/|pair closure"
"""gloo has no class of its own for what it raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among all: global rank, rank on its node, number of processes, its device.

    Neighbouring ranks may share one copy of the network: `towers` of them, which see the same pictures, or
    `fc_parallel` of them, of which each has its own. The mesh is then (copies, ranks that share one), named `data` and
    `model`; without sharing there is none.
    """

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    towers: int = 1
    fc_parallel: int = 1
    mesh: DeviceMesh | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Which part of the global batch this process sees, and whose dropout it draws."""
        return self.rank // self.towers

    @property
    def num_data_ranks(self) -> int:
        """Parts of the global batch."""
        return self.world_size // self.towers

    @property
    def data_group(self) -> dist.ProcessGroup | None:
        """Ranks that see each part of the global batch once; None for all."""
        return self.copies_group if self.towers > 1 else None

    @property
    def copies_group(self) -> dist.ProcessGroup | None:
        """Ranks that hold the same part of the network; None for all."""
        return self.mesh.get_group("data") if self.mesh else None


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
def join_world(
    device: Device, *, towers: int = 1, fc_parallel: int = 1, timeout_seconds: float = TIMEOUT_SECONDS
) -> Iterator[World]:
    """Join the process group that torchrun's environment describes, and leave it at the end; alone without torchrun.

    Args:
        device: of this process.
        towers: neighbouring ranks that share a network by towers.
        fc_parallel: neighbouring ranks that share the fully connected layers.
        timeout_seconds: after which a collective that not all ranks have reached is given up.

    Raises:
        InputError: the device cannot be had, the ranks cannot share as asked, or are not as many as were started.
        PeerLostError: another rank has ended, or did not come.
    """
    check_sharing(read_world_size(), towers=towers, fc_parallel=fc_parallel)
    check_launch()
    rank, local_rank = read_rank(), int(os.environ.get("LOCAL_RANK", "0"))
    world = World(
        rank=rank,
        local_rank=local_rank,
        world_size=read_world_size(),
        device=pick_device(device, local_rank),
        towers=towers,
        fc_parallel=fc_parallel,
    )
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        torch.backends.cudnn.allow_tf32 = False  # on by default, with a mantissa of 10 bits where float32 has 23
    if world.world_size == 1:
        yield world
        return
    timeout = timedelta(seconds=timeout_seconds)
    try:
        if world.device.type == "cuda":
            dist.init_process_group("nccl", device_id=world.device, timeout=timeout)
        else:
            choose_interface()
            dist.init_process_group("gloo", timeout=timeout)
        sharing = towers * fc_parallel
        if sharing > 1:
            shape = (world.world_size // sharing, sharing)
            mesh = init_device_mesh(world.device.type, shape, mesh_dim_names=("data", "model"))
            world = replace(world, mesh=mesh)
        yield world
        dist.destroy_process_group()  # not after an error: NCCL may wait for ranks that have gone
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search(GLOO_ERRORS, str(error)):
            raise
        reason = re.sub(r"^\[\S+\] |\. .*", "", str(error).splitlines()[0])  # without torch's own file and advice
        raise PeerLostError(f"rank {rank} lost another, which tells why ({reason})") from error


def check_launch() -> None:
    """Refuse a world that is not the one that was asked for, or that the environment does not describe.

    Raises:
        InputError: as above.
    """
    asked = int(os.environ.get("ALEXNET_WORLD_SIZE", read_world_size()))
    check(
        read_world_size() == asked,
        f"this world has {read_world_size()} ranks and {asked} were asked for, so the nodes would train apart: see "
        "whether every node runs the same command, and unset ALEXNET_WORLD_SIZE outside of `alexnet torchrun`",
    )
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


def choose_interface() -> None:
    """Tell gloo which network leads to the other nodes; it would take that of the host's own name, often loopback."""
    if read_world_size() == int(os.environ.get("LOCAL_WORLD_SIZE", read_world_size())):
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((os.environ["MASTER_ADDR"], 9))  # a datagram socket sends nothing on connecting
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == own for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def check_sharing(world_size: int, *, towers: int, fc_parallel: int) -> None:
    """Refuse numbers of sharing ranks that do not divide all of them, or both kinds at once.

    Raises:
        InputError: as above.
    """
    check(
        towers == 1 or fc_parallel == 1,
        f"--towers {towers} and --fc-parallel {fc_parallel} split the same layers: pass one of them",
    )
    for flag, count in (("--towers", towers), ("--fc-parallel", fc_parallel)):
        check(count > 0, f"{flag} must be positive, found {count}")
        check(
            world_size % count == 0,
            f"{flag} {count} does not divide {world_size} {'process' if world_size == 1 else 'processes'}: "
            f"start a multiple of {count} with torchrun, or leave {flag} out",
        )


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Sum a tensor over the ranks of a group, or over all, in place; every one of them gets the result."""
    if dist.is_initialized():
        dist.all_reduce(values, group=group)
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


def decide_on_main(decide: Callable[[], T]) -> T:
    """What the first rank decides, on every rank; what it refuses, all refuse, so that none waits for another.

    Raises:
        InputError: the first rank's.
    """
    value, sentence = None, None
    if read_rank() == 0:
        try:
            value = decide()
        except InputError as error:
            sentence = str(error)
    value, sentence = broadcast_from_main((value, sentence))
    if sentence is not None:
        raise InputError(sentence)
    return cast("T", value)


def wait_for_all() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()
