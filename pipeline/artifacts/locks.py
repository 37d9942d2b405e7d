"""Locks on files that end with their process, however it ends, on this node or another."""

import errno
import fcntl
import functools
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
NUM_ATTEMPTS, ATTEMPT_SECONDS = 4, 0.05


class TakenError(Exception):
    """Another process holds the lock; the message says which, as far as it is known."""


@contextmanager
def hold(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, made if missing.

    A file system without locks gets a warning: whoever starts processes there has to keep them apart.

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
    print(f"warning: {folder} has no file locks; start each part and each run once only", file=sys.stderr)


def wait_until_free(path: Path, *, seconds: float) -> str | None:
    """Wait until nobody holds a lock file alone; who still does after so many seconds, None if nobody.

    A network file system gives the lock of a node that has died free only after a minute or two.
    """
    deadline = time.monotonic() + seconds
    while (holder := find_holder(path)) is not None and time.monotonic() < deadline:
        time.sleep(1.0)
    return holder


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
