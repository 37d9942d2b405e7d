"""The network between ranks: they meet, sum tensors, and the sums are right; how quickly, as nccl-tests count it."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.artifacts import TakenError, find_holder, hold, read_json
from pipeline.distributed import World, gather_to_main, join_world, wait_for_all
from pipeline.launch.doctor.exchange import FOLDER_VARIABLE, OWN_FILE
from pipeline.launch.doctor.finding import Finding, Line, ill, judge, merge, name_node, skipped, well
from pipeline.launch.doctor.machine import LOCK_ADVICE, find_existing
from pipeline.launch.torchrun import find_address
from pipeline.options import DoctorConfig

MEETING_SECONDS = 60.0
MESSAGE_BYTES = {"cuda": (2**20, 2**28), "cpu": (2**20, 2**24)}
NUM_WARM_UP_ROUNDS, MIN_ROUNDS, MAX_ROUNDS, TIMED_SECONDS = 3, 3, 100, 0.5
MAX_CLOCK_SECONDS = 2.0
INFINIBAND = Path("/sys/class/infiniband")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankReport:
    """What a rank brings along: node, clock in Unix seconds, what was found on its node, what it sees of --out."""

    node: str
    clock: float
    findings: tuple[Finding, ...]
    sees_lock: bool


def measure_network(config: DoctorConfig) -> list[Line]:
    """Meet the other ranks, measure, and gather what was found on their nodes; empty on every rank but the first.

    Raises:
        PeerLostError: a rank ended or did not come.
    """
    folder = Path(os.environ[FOLDER_VARIABLE]) if FOLDER_VARIABLE in os.environ else None
    if folder:
        os.environ |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET", "NCCL_DEBUG_FILE": f"{folder}/nccl-%p"}
    with join_world("auto", timeout_seconds=MEETING_SECONDS) as world:
        between = list(measure_all_reduce(world, folder))
        reports = gather_to_main(build_report(world, config.out, folder))
    if not reports:
        return []
    nodes = tuple(dict.fromkeys(report.node for report in reports))
    if len(nodes) > 1:
        between += judge_nodes(reports, config.out)
    by_node = {node: [found for each in reports if each.node == node for found in each.findings] for node in nodes}
    return [*merge(by_node), *(Line(nodes=nodes, finding=finding) for finding in between)]


def measure_all_reduce(world: World, folder: Path | None) -> Iterator[Finding]:
    """Sum over all ranks, see that the sum is right, and time it."""
    if world.world_size == 1:
        yield skipped("all-reduce", "one rank, which has nobody to talk to")
        return
    values = torch.full((1024,), float(world.rank), device=world.device)
    dist.all_reduce(values)
    expected = world.world_size * (world.world_size - 1) / 2
    if not bool((values == expected).all()):
        found = f"rank numbers sum to {values[0].item():g} where {expected:g} is right"
        yield ill("all-reduce", found, "run it on fewer nodes or GPUs to find the one that is broken")
        return
    backend, route = dist.get_backend(), ""
    if int(os.environ.get("LOCAL_WORLD_SIZE", world.world_size)) < world.world_size:
        route = find_nccl_network(folder) if backend == "nccl" else find_gloo_network(os.environ)
    what = f"{world.world_size} ranks by {backend}{f' over {route}' if route else ''}"
    yield time_messages("all-reduce", what, world)
    if backend == "nccl" and (unused := find_unused_infiniband(route, INFINIBAND)):
        yield unused


def find_nccl_network(folder: Path | None) -> str:
    """What NCCL says that it uses between nodes, `IB` or `Socket` or a plugin's name; empty where it does not say."""
    texts = [path.read_text() for path in sorted(folder.glob("nccl-*"))] if folder else []
    found = re.findall(r"Using network (\w+)", "\n".join(texts))
    return str(found[0]) if found else ""


def find_gloo_network(environment: Mapping[str, str]) -> str:
    """Interface, if one was named, and this node's address on the way to the first rank."""
    interface, address = environment.get("GLOO_SOCKET_IFNAME"), find_address(environment["MASTER_ADDR"])
    return f"{interface} ({address})" if interface else address


def find_unused_infiniband(network: str, devices: Path) -> Finding | None:
    """`ill` if NCCL goes over sockets beside an InfiniBand port that is active."""
    states = sorted(devices.glob("*/ports/*/state"))
    active = [path.relative_to(devices).parts[0] for path in states if "ACTIVE" in path.read_text()]
    if network != "Socket" or not active:
        return None
    found = f"NCCL goes over sockets, although {active[0]} is there and active"
    advice = "install libibverbs and its providers (in the image, too), allow `ulimit -l unlimited`, see NCCL_DEBUG"
    return ill("InfiniBand", found, advice)


def time_messages(subject: str, what: str, world: World) -> Finding:
    """Time a small and a large all-reduce among all ranks.

    Algorithm bandwidth is the message's size by the time; bus bandwidth is that times 2 (n - 1) / n for n ranks, which
    is what a link carries, whatever n is (nccl-tests, doc/PERFORMANCE.md).
    """
    told, measured = list[str](), dict[str, float]()
    for num_bytes in reversed(MESSAGE_BYTES[world.device.type]):
        seconds = time_all_reduce(num_bytes, world)
        algorithm = num_bytes / seconds
        bus = algorithm * 2 * (world.world_size - 1) / world.world_size
        mib = f"{num_bytes // 2**20} MiB"
        told.append(f"{mib} in {1e3 * seconds:,.2f} ms, {algorithm / 1e9:.2f} GB/s (bus {bus / 1e9:.2f})")
        name = mib.lower().replace(" ", "_")
        measured |= {f"bus_bytes_per_second_{name}": bus, f"algorithm_bytes_per_second_{name}": algorithm}
    return well(subject, f"{what}: {'; '.join(told)}", **measured)


def time_all_reduce(num_bytes: int, world: World) -> float:
    """Mean seconds of an all-reduce of float32 zeros, as the slowest of all ranks measures them."""
    values = torch.zeros(num_bytes // 4, device=world.device)

    def run(rounds: int) -> float:
        wait_for_all()
        begin = time.perf_counter()
        for _ in range(rounds):
            dist.all_reduce(values)
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        slowest = torch.tensor((time.perf_counter() - begin) / rounds, dtype=torch.float64, device=world.device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        return slowest.item()

    first = run(NUM_WARM_UP_ROUNDS)
    return run(min(max(int(TIMED_SECONDS / first), MIN_ROUNDS), MAX_ROUNDS))


def build_report(world: World, out: Path | None, folder: Path | None) -> RankReport:
    """What this rank brings along; a lock that the first rank holds at --out is looked for at the same moment."""
    findings: tuple[Finding, ...] = ()
    if folder and world.local_rank == 0:
        findings = read_json(folder / OWN_FILE, tuple[Finding, ...])
    with contextlib.ExitStack() as stack:
        lock = find_lock(out)
        if world.is_main and lock:
            with contextlib.suppress(OSError, TakenError):  # the first is a finding of its own; the other locks as well
                stack.enter_context(hold(lock))
                stack.callback(lock.unlink)
        wait_for_all()
        clock = time.time()
        sees_lock = lock is not None and find_holder(lock) is not None
        wait_for_all()
    return RankReport(node=name_node(), clock=clock, findings=findings, sees_lock=sees_lock)


def find_lock(out: Path | None) -> Path | None:
    """The lock file at --out; None without --out, or where it is no folder, which is a finding of its own."""
    try:
        return find_existing(out.absolute()) / ".alexnet-doctor.lock" if out else None
    except OSError:
        return None


def judge_nodes(reports: Sequence[RankReport], out: Path | None) -> Iterator[Finding]:
    """Whether clocks agree, and a lock of one node is seen on the others."""
    skew = max(report.clock for report in reports) - min(report.clock for report in reports)
    yield judge(
        skew <= MAX_CLOCK_SECONDS, "clocks", f"differ by {skew:.2f} s", "have the administrators look at chrony or ntpd"
    )
    if out and reports[0].sees_lock:
        blind = dict.fromkeys(report.node for report in reports if not report.sees_lock)
        found = (
            f"a lock at {out} is not seen on {', '.join(blind)}" if blind else f"a lock at {out} is seen on all nodes"
        )
        yield judge(not blind, "shared locks", found, f"name a directory that all nodes share, or {LOCK_ADVICE}")
