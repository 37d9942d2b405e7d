"""Room, a file that is written, and file locks, where runs or shards are to go."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.artifacts import hold
from pipeline.launch.doctor.finding import Finding, ill, judge, skipped, well
from pipeline.options import DoctorConfig

MIN_FREE_BYTES = 10 * 2**30
TRIAL_BYTES = 2**20
LOCK_SECONDS = 10
TRY_LOCK = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH | fcntl.LOCK_NB)"
LOCK_ADVICE = "mount it with locks (NFS without nolock, Lustre with flock), or start each run and each part only once"
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "ceph", "fuse.sshfs", "wekafs", "panfs")


def look_at_disk(config: DoctorConfig) -> Iterator[Finding]:
    """Look at --out, or where it will be made, or at the present directory."""
    asked = config.out is not None
    folder = find_existing((config.out or Path.cwd()).absolute())
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**30:.0f} GiB free in {folder} ({find_file_system(folder)})"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".alexnet-doctor-") as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if not asked and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            yield skipped("disk", f"{found}, which may not be written to; name a directory with --out")
            return
        yield ill(
            "disk",
            f"{found}, but a file cannot be written: {error.strerror}",
            "make room within disk and quota, or choose another --out",
        )
        return
    yield judge(free >= MIN_FREE_BYTES, "disk", found, "make room: full ImageNet needs 60 GB", free_bytes=free)
    yield find_locks(folder)


def find_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


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
