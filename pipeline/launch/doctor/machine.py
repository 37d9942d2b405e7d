"""What this process may use: cores, memory, shared memory, open files; and the disk that runs or shards go to."""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.artifacts import hold
from pipeline.launch.doctor.finding import Finding, explain, ill, judge, skipped, well
from pipeline.options import DoctorConfig

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel has it
MIN_MEMORY_BYTES = 4 * 2**30
MIN_SHARED_BYTES = 2**30
"""As NVIDIA asks for NCCL between GPUs of one node; Docker gives 64 MB."""
MIN_OPEN_FILES = 1024
MIN_FREE_BYTES = 10 * 2**30
TRIAL_BYTES = 2**20
LOCK_SECONDS = 10
TRY_LOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH | fcntl.LOCK_NB)"
LOCK_ADVICE = "mount it with locks (NFS without nolock, Lustre with flock), or start each run and each part only once"
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "ceph", "fuse.sshfs", "wekafs", "panfs")
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and the field of `memory.stat` with what the kernel gives back when asked; by version of cgroups."""


def look_at_limits(config: DoctorConfig) -> Iterator[Finding]:
    """Look at what the scheduler, the container and the shell leave to this process."""
    yield find_cores(CGROUPS, MEMBERSHIP)
    yield find_memory(CGROUPS, MEMBERSHIP)
    yield find_shared_memory()
    yield find_open_files()


def find_cores(cgroups: Path, membership: Path) -> Finding:
    """Cores by affinity, and the quota of time on them."""
    folders = find_cgroups("cpu", cgroups, membership)
    cores = len(os.sched_getaffinity(0))
    quotas = [text.split() for text in read_files(folders, "cpu.max")]
    times = read_files(folders, "cpu.cfs_quota_us")
    periods = read_files(folders, "cpu.cfs_period_us")
    quotas += [[quota, period] for quota, period in zip(times, periods, strict=True) if quota != "-1"]
    quota = min((int(time) / int(period) for time, period in quotas if time != "max"), default=float(cores))
    if quota >= cores:
        return well("cores", f"{cores} of {os.cpu_count()}", cores=cores)
    threads = max(1, int(quota))
    found = f"{cores} of {os.cpu_count()}, but no more time than {quota:g} give (cgroup): pass --num-threads {threads}"
    return well("cores", found, cores=quota)


def find_memory(cgroups: Path, membership: Path) -> Finding:
    """Memory of the machine that is free, or of the container's or job's share of it."""
    memory = psutil.virtual_memory()
    allowed, free = memory.total, memory.available
    for folder in find_cgroups("memory", cgroups, membership):
        for limit_file, use_file, field in MEMORY_FILES:
            (limit,) = read_files([folder], limit_file) or ["max"]
            if limit != "max":
                given_back = re.search(rf"^{field} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                used = int((folder / use_file).read_text()) - (int(given_back[1]) if given_back else 0)
                allowed, free = min(allowed, int(limit)), min(free, int(limit) - used)
    within = f", {allowed / 2**30:.1f} allowed (cgroup)" if allowed < memory.total else ""
    found = f"{free / 2**30:.1f} GiB free{within} of {memory.total / 2**30:.0f}"
    advice = "ask for more: --mem (Slurm), --memory (Docker), or end what fills it"
    return judge(free >= MIN_MEMORY_BYTES, "memory", found, advice, free_bytes=free)


def find_cgroups(controller: str, cgroups: Path, membership: Path) -> list[Path]:
    """Folders of this process's cgroup and of those that it lies in, in either version of cgroups; none without them.

    Args:
        controller: in version 1, the tree of its own that it has.
        cgroups: where they are mounted.
        membership: `/proc/self/cgroup`; its lines are `id:controllers:path`, without controllers in version 2.
    """
    folders = []
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") and controllers:
            continue
        root = cgroups / controllers
        folder = root / path.strip("/")  # in a container perhaps as outside, where nothing is mounted there
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return folders


def read_files(folders: list[Path], name: str) -> list[str]:
    """Texts of the files of that name, in those folders that have one."""
    return [(folder / name).read_text().strip() for folder in folders if (folder / name).is_file()]


def find_shared_memory() -> Finding:
    """Size of /dev/shm, through which NCCL passes data between GPUs of one node."""
    if not SHARED_MEMORY.is_dir():
        return skipped("shared memory", f"no {SHARED_MEMORY} here")
    size = shutil.disk_usage(SHARED_MEMORY).total
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    found = f"{size / 2**20:,.0f} MiB in {SHARED_MEMORY}{', enough without several GPUs' if gpus < 2 else ''}"
    advice = "start the container with --ipc host, or --shm-size 8g"
    return judge(size >= MIN_SHARED_BYTES or gpus < 2, "shared memory", found, advice, size_bytes=size)


def find_open_files() -> Finding:
    """How many files a process may open; a loader keeps shards open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    as_root = " (as root first: its hard limit is lower)" if 0 <= hard < MIN_OPEN_FILES else ""
    enough = soft >= MIN_OPEN_FILES or soft == resource.RLIM_INFINITY
    return judge(
        enough,
        "open files",
        f"{'any number' if soft == resource.RLIM_INFINITY else soft} at once",
        f"ulimit -n {MIN_OPEN_FILES}{as_root}",
    )


def look_at_disk(config: DoctorConfig) -> Iterator[Finding]:
    """Look at --out, or where it will be made, or at the present directory."""
    folder = (config.out or Path.cwd()).absolute()
    try:
        folder = find_existing(folder)
        free = shutil.disk_usage(folder).free
        found = f"{free / 2**30:.0f} GiB free in {folder} ({find_file_system(folder)})"
        if fault := try_writing(folder):
            if config.out is None and fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                yield skipped("disk", f"{found}, which may not be written to; name a directory with --out")
                return
            advice = "make room within disk and quota, or choose another --out"
            yield ill("disk", f"{found}, but a file cannot be written: {fault.strerror}", advice)
            return
        advice = f"make room: {MIN_FREE_BYTES // 2**30} GiB are the least"
        yield judge(free >= MIN_FREE_BYTES, "disk", found, advice, free_bytes=free)
        yield find_locks(folder)
    except OSError as error:
        yield explain("disk", error, folder)


def find_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists.

    Raises:
        OSError: that is no folder, or may not be looked into.
    """
    found = next(each for each in (folder, *folder.parents) if each.exists())
    if not found.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(found))
    return found


def try_writing(folder: Path) -> OSError | None:
    """What comes of a file that is written there and removed; None if nothing does."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".alexnet-doctor-") as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def find_file_system(folder: Path) -> str:
    """Kind of the file system that a folder lies on."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def find_locks(folder: Path) -> Finding:
    """Whether a file that this process has locked is locked to another."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".alexnet-doctor-") as trial:
        lock = Path(trial) / "lock"
        with hold(lock):
            command = [sys.executable, "-c", TRY_LOCK, str(lock)]
            other = subprocess.run(command, capture_output=True, text=True, timeout=LOCK_SECONDS, check=False)
    last_line = (other.stderr.strip().splitlines() or ["two processes can lock the same file"])[-1]
    if last_line.startswith("BlockingIOError"):
        return well("file locks", "keep processes apart")
    return ill("file locks", last_line, LOCK_ADVICE)
