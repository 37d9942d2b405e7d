"""Who may write: locks on a shard set that end with their process, however it ends, on this node or another."""

import errno
import fcntl
import functools
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.artifacts import WORK_FOLDER
from pipeline.errors import InputError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
NUM_ATTEMPTS, ATTEMPT_SECONDS = 4, 0.05


class TakenError(Exception):
    """Another process holds the lock; the message says which, as far as it is known."""


@contextmanager
def hold(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, made if missing.

    A file system without locks gets a warning: shards appear whole and are the same whoever writes them, so two writers
    would waste time but harm nothing.

    Args:
        path: the lock file.
        shared: with others that share it, rather than alone.
        wait: until it is free.

    Raises:
        TakenError: another process holds it, and `wait` is False.
    """
    with _open(path) as file:
        try:
            _lock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait=wait)
        except BlockingIOError as error:
            file.seek(0)
            raise TakenError(file.read().strip() or "another process") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warn_without_locks(path.parent)
        if not shared:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


def _open(path: Path) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a process that has merged removes the folder
            return path.open("a+")


def _lock(file: IO[str], kind: int, *, wait: bool) -> None:
    """Lock an open file; a moment's patience, since whoever only looks at a lock holds it for a moment, too."""
    for _ in range(NUM_ATTEMPTS):
        with suppress(BlockingIOError):
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        time.sleep(ATTEMPT_SECONDS)
    fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


@functools.cache
def warn_without_locks(folder: Path) -> None:
    """Say once that nothing but care keeps two processes apart."""
    print(f"preprocess: warning: {folder} has no file locks; start each part once only", file=sys.stderr)


def find_holder(path: Path) -> str | None:
    """Who holds a lock file alone; None if nobody does."""
    if not path.is_file():
        return None
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.read_text().strip() or "another process"
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return None


def whole_lock(out: Path) -> Path:
    """Lock of the whole shard set: shared by parts, held alone by a run without parts and by the merge."""
    return out / WORK_FOLDER / "lock"


def plan_lock(out: Path) -> Path:
    """Lock of the one that looks through the source."""
    return out / WORK_FOLDER / "plan.lock"


def merge_lock(out: Path) -> Path:
    """Lock of the one that merges, for which those that start wait: it is a matter of seconds."""
    return out / WORK_FOLDER / "merge.lock"


def part_lock(out: Path, part: tuple[int, int]) -> Path:
    """Lock of one part, (number from 0, how many)."""
    return out / WORK_FOLDER / f"part-{part[0]}-of-{part[1]}.lock"


def find_parts_at_work(out: Path) -> dict[str, str]:
    """The parts that are being written, such as `0/4`, and by whom."""
    found = {}
    for path in sorted((out / WORK_FOLDER).glob("part-*.lock")):
        if holder := find_holder(path):
            number, num_parts = re.findall(r"\d+", path.stem)
            found[f"{number}/{num_parts}"] = holder
    return found


@contextmanager
def claim(out: Path, part: tuple[int, int]) -> Iterator[None]:
    """Make a part of a shard set, or all of it where there is one part, this process's own.

    Raises:
        InputError: another process is at work on it.
    """
    with ExitStack() as stack:
        try:
            with hold(merge_lock(out), shared=True, wait=True):
                stack.enter_context(hold(whole_lock(out), shared=part[1] > 1))
            if part[1] > 1:
                stack.enter_context(hold(part_lock(out, part)))
        except TakenError as error:
            parts = find_parts_at_work(out)
            name = f"{part[0]}/{part[1]}"
            what = f"part {name} of {out}" if name in parts else f"--out {out}"
            holders = [f"part {other}: {holder}" for other, holder in parts.items()]
            who = parts.get(name) or ", ".join(holders) or error
            raise InputError(f"{what} is being written ({who}): wait for it, or choose another") from error
        yield


@contextmanager
def claim_if_alone(out: Path) -> Iterator[bool]:
    """Hold the whole shard set if no other process is at work on it; yields whether."""
    with hold(merge_lock(out), wait=True), ExitStack() as stack:
        alone = False
        with suppress(TakenError):
            stack.enter_context(hold(whole_lock(out)))
            alone = True
        yield alone
