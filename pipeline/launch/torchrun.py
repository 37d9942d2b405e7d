"""torchrun, on one node or as this node's part of a Slurm step: one world of ranks, whose exit code it ends with.

torchrun itself ends with 1 whatever its ranks ended with, below a report that hides what they said.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import psutil
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from pipeline.artifacts import list_endings
from pipeline.errors import (
    HUNG_CODE,
    INPUT_ERROR_CODE,
    RUN_ERROR_CODE,
    STOPPED_CODE,
    PeerLostError,
    check,
)

FIRST_PORT, NUM_PORTS = 15000, 15000
"""Ports of rendezvous: below those that Linux hands out to outgoing connections, which begin at 32768."""
TELLING_CODES = (INPUT_ERROR_CODE, RUN_ERROR_CODE, STOPPED_CODE, HUNG_CODE)
"""Codes of ranks that know why they ended, the most telling first."""
JOIN_SECONDS = 600
"""How long nodes wait for each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """This node's place among those of a world, and where they meet; `host` says whether it is here."""

    num_nodes: int
    ranks_per_node: int
    meeting: str
    host: bool
    address: str
    job: str

    def list_options(self) -> list[str]:
        """What torchrun is told."""
        common = ["--nnodes", str(self.num_nodes), "--nproc-per-node", str(self.ranks_per_node)]
        if self.num_nodes == 1:
            return ["--standalone", *common]
        # Without is_host each node compares its own names with the meeting's; where none matches, nobody hosts it.
        configuration = f"is_host={int(self.host)},join_timeout={JOIN_SECONDS},read_timeout={JOIN_SECONDS}"
        return [
            *common,
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", self.meeting, "--rdzv-id", self.job),
            *("--rdzv-conf", configuration, "--local-addr", self.address),
        ]


def find_node(environment: Mapping[str, str], num_ranks: int | None) -> Node:
    """This node's place, by the variables of a Slurm step; outside of one, a world of this node alone.

    Args:
        environment: of this process.
        num_ranks: per node; None takes RANKS_PER_NODE, or the GPUs that Slurm gave, or those that torch sees, or 1.

    Raises:
        InputError: the step has not one task per node, or was not started on its first.
    """
    ranks = num_ranks or count_ranks(environment)
    num_nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
    if num_nodes == 1:
        return Node(num_nodes=1, ranks_per_node=ranks, meeting="", host=True, address="", job="")
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    check(
        tasks == num_nodes,
        f"srun started {tasks} tasks on {num_nodes} nodes: start one per node with --ntasks-per-node=1",
    )
    meeting = environment["SLURM_LAUNCH_NODE_IPADDR"]  # where srun runs: the first node of a batch job, by its address
    host = environment["SLURM_NODEID"] == "0"
    check(
        not host or find_address(meeting) == meeting,
        f"srun ran on {meeting}, which is not the first node of the step, so the others would look for it in vain: "
        "start it from a batch script, as slurm/train.sbatch does",
    )
    port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % NUM_PORTS
    names = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    return Node(
        num_nodes=num_nodes,
        ranks_per_node=ranks,
        meeting=f"{meeting}:{port}",
        host=host,
        address=find_address(meeting),
        job="-".join(environment.get(name, "0") for name in names),
    )


def count_ranks(environment: Mapping[str, str]) -> int:
    """Ranks of this node: as the site says, one per GPU, or one.

    Raises:
        InputError: a variable says no number.
    """
    for name in ("RANKS_PER_NODE", "SLURM_GPUS_ON_NODE"):
        if said := environment.get(name):
            check(said.isdigit() and int(said) > 0, f"{name} is {said!r}: set it to the number of ranks per node")
            return int(said)
    import torch

    return max(torch.cuda.device_count(), 1)


def find_address(target: str) -> str:
    """This node's own address on the way to another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        address: str = probe.getsockname()[0]
    return address


def run_ranks(words: Sequence[str], *, num_ranks: int | None = None) -> None:
    """Run `alexnet WORDS` in each rank of this node.

    Args:
        words: command and its words, the same on every node.
        num_ranks: per node; None as `find_node` takes it.

    Raises:
        InputError: the nodes cannot meet as they are asked to.
        PeerLostError: another node did not come.
        SystemExit: a rank has ended otherwise than with 0; with its code.
    """
    node = find_node(os.environ, num_ranks)
    if "SLURM_STEP_ID" not in os.environ:  # where a job's script has said how many were asked for
        os.environ.pop("ALEXNET_WORLD_SIZE", None)
    os.environ.setdefault("ALEXNET_WORLD_SIZE", str(node.num_nodes * node.ranks_per_node))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # when a node ends, the others' stores print their stacks
    os.environ.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // node.ranks_per_node, 1)))
    logging.disable(logging.ERROR)  # torchrun's account of what the ranks have said themselves
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    with contextlib.ExitStack() as stack:
        if "ALEXNET_ENDINGS" not in os.environ:
            os.environ["ALEXNET_ENDINGS"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-"))
        try:
            options = [*node.list_options(), "--signals-to-handle=SIGHUP,SIGQUIT"]
            torchrun.run(torchrun.parse_args([*options, "-m", "pipeline", *words]))  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            raise_for({rank: failure.exitcode for rank, failure in error.failures.items()})
        except SignalException as end:
            raise_for({0: -end.sigval})
        except RendezvousError as error:
            if list_endings():  # the node that hosts the meeting has ended first, and its ranks have said why
                raise_for({})
            raise PeerLostError(
                f"{node.num_nodes} nodes were to meet at {node.meeting} within {JOIN_SECONDS} s ({error}): see the "
                "other nodes' part of the log, and `sbatch --nodes 2 slurm/doctor.sbatch`"
            ) from error


def pass_on(number: int, _: FrameType | None) -> None:
    """Hand a signal to the ranks, each time that it comes; torchrun would leave them behind at the third."""
    ranks = psutil.Process().children()
    if not ranks:
        raise SystemExit(128 + number)
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.send_signal(number)


def raise_for(codes: Mapping[int, int]) -> NoReturn:
    """End with the most telling exit code that a rank has left or ended with.

    Args:
        codes: of this node's ranks, by rank; a negative one is the signal that ended it.

    Raises:
        SystemExit: always.
    """
    left = list_endings()
    for code in TELLING_CODES:
        if code in left:
            raise SystemExit(code)
    for rank, code in codes.items():
        if code < 0 and code != -signal.SIGTERM:  # which torchrun sends to the others
            print(
                f"alexnet torchrun: rank {rank} was killed by {signal.Signals(-code).name}", file=sys.stderr, flush=True
            )
            raise SystemExit(128 - code)
    raise SystemExit(next((code for code in codes.values() if code > 0), 128 + signal.SIGTERM))


def split_words(words: Sequence[str]) -> tuple[int | None, list[str]]:
    """Take `--nproc-per-node N` off the front.

    Raises:
        InputError: N is no number, or no command follows.
    """
    rest, num_ranks = list(words), None
    if rest and rest[0].startswith("--nproc-per-node"):
        flag, _, value = rest.pop(0).partition("=")
        check(flag == "--nproc-per-node" and (value or rest), f"{flag} needs the number of ranks per node")
        value = value or rest.pop(0)
        check(value.isdigit() and int(value) > 0, f"--nproc-per-node must be a positive number, found {value!r}")
        num_ranks = int(value)
    check(rest, "name the command that every rank runs, such as `train source-2012 …`, found nothing")
    check(not rest[0].startswith("-"), f"{rest[0]} is unknown: only --nproc-per-node N may stand before the command")
    return num_ranks, rest
