"""What this process may use: cores, memory, shared memory, open files."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.launch.doctor.finding import Finding, judge, skipped, well
from pipeline.options import DoctorConfig

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel has it
MIN_MEMORY_BYTES = 4 * 2**30
MIN_SHARED_BYTES = 2**30
"""As NVIDIA asks for NCCL between GPUs of one node; Docker gives 64 MB."""
MIN_OPEN_FILES = 1024


def look_at_limits(config: DoctorConfig) -> Iterator[Finding]:
    """Look at what the scheduler, the container and the shell leave to this process."""
    yield find_cores(CGROUPS, MEMBERSHIP)
    yield find_memory(CGROUPS, MEMBERSHIP)
    yield find_shared_memory()
    yield find_open_files()


def find_cores(cgroups: Path, membership: Path) -> Finding:
    """Cores by affinity, and the quota of time on them."""
    cores = len(os.sched_getaffinity(0))
    quotas = [text.split() for text in read_limits("cpu", "cpu.max", cgroups, membership)]
    times = read_limits("cpu", "cpu.cfs_quota_us", cgroups, membership)
    periods = read_limits("cpu", "cpu.cfs_period_us", cgroups, membership)
    quotas += [[quota, period] for quota, period in zip(times, periods, strict=True) if quota != "-1"]
    quota = min((int(time) / int(period) for time, period in quotas if time != "max"), default=float(cores))
    if quota >= cores:
        return well("cores", f"{cores} of {os.cpu_count()}", cores=cores)
    threads = max(1, int(quota))
    found = f"{cores} of {os.cpu_count()}, but no more time than {quota:g} give (cgroup): pass --num-threads {threads}"
    return well("cores", found, cores=quota)


def find_memory(cgroups: Path, membership: Path) -> Finding:
    """Memory of the machine, or the container's or job's share of it."""
    total = psutil.virtual_memory().total
    texts = read_limits("memory", "memory.max", cgroups, membership)
    texts += read_limits("memory", "memory.limit_in_bytes", cgroups, membership)
    limit = min((int(text) for text in texts if text != "max"), default=total)
    allowed, free = min(limit, total), min(limit, psutil.virtual_memory().available)
    found = f"{free / 2**30:.1f} GiB free" + (f", {allowed / 2**30:.1f} allowed (cgroup)" * (limit < total))
    advice = "ask for more: --mem (Slurm), --memory (Docker), or end what fills it"
    return judge(free >= MIN_MEMORY_BYTES, "memory", f"{found} of {total / 2**30:.0f}", advice, free_bytes=free)


def read_limits(controller: str, name: str, cgroups: Path, membership: Path) -> list[str]:
    """A file of this process's cgroup and of those that it lies in, in either version of cgroups.

    Args:
        controller: in version 1, the tree of its own that it has.
        name: of the file.
        cgroups: where they are mounted.
        membership: `/proc/self/cgroup`; its lines are `id:controllers:path`, without controllers in version 2.
    """
    texts = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") and controllers:
            continue
        root = cgroups / controllers
        folder = root / path.strip("/")  # in a container perhaps as outside, where nothing is mounted there
        within = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
        texts += [(each / name).read_text().strip() for each in within if (each / name).is_file()]
    return texts


def find_shared_memory() -> Finding:
    """Size of /dev/shm, through which NCCL passes data between GPUs of one node."""
    if not SHARED_MEMORY.is_dir():
        return skipped("shared memory", f"no {SHARED_MEMORY} here")
    size = shutil.disk_usage(SHARED_MEMORY).total
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    found = f"{size / 2**20:,.0f} MiB in {SHARED_MEMORY}" + ", enough without several GPUs" * (gpus < 2)
    advice = "start the container with --ipc host, or --shm-size 8g"
    return judge(size >= MIN_SHARED_BYTES or gpus < 2, "shared memory", found, advice, size_bytes=size)


def find_open_files() -> Finding:
    """How many files a process may open; a loader keeps shards open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = f"ulimit -n {MIN_OPEN_FILES}" + (
        " (as root first: its hard limit is lower)" if 0 <= hard < MIN_OPEN_FILES else ""
    )
    enough = soft >= MIN_OPEN_FILES or soft == resource.RLIM_INFINITY
    return judge(enough, "open files", f"{'any number' if soft == resource.RLIM_INFINITY else soft} at once", advice)
