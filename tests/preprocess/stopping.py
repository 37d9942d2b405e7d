"""A command that is ended before a given change of files and folders, by a kill or for want of room."""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from small_sets import run
from tqdm import tqdm

from pipeline.preprocess import packing, repair, verify


def kill_self(event: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def find_disk_full(event: str) -> None:
    if event in ("open", "os.mkdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def end_at_every_change(
    end: Callable[[str], None], folder: Path, source: Path, flags: tuple[str, ...], *, every: int = 1
) -> list[int]:
    """Run `alexnet preprocess` again and again, each time until a later change of the output and then once more.

    Args:
        end: called with the change instead of it, and with all that follow.
        folder: holds the outputs, `0`, `1` and so on, and `expected`, whose making was never ended.
        source: the pictures.
        flags: of the command.
        every: changes from one run to the next.

    Returns:
        Exit code of each first run; that of the last, which met no end, is 0.
    """
    return _drive(end, folder, ("preprocess", "--source", source, *flags, "--out"), None, every)


def end_repair_at_every_change(
    end: Callable[[str], None], folder: Path, damaged: Path, source: Path, *, every: int
) -> list[int]:
    """Run `alexnet preprocess repair` so on copies of a damaged set."""
    return _drive(end, folder, ("preprocess", "repair", "--source", source), damaged, every)


def _drive(*arguments: object) -> list[int]:
    context = multiprocessing.get_context("forkserver")
    codes = context.SimpleQueue()
    driver = context.Process(target=_run_until_change_and_again, args=(codes, *arguments))
    driver.start()
    driver.join()
    assert driver.exitcode == 0
    return codes.get()


def _run_until_change_and_again(codes, end, folder, words, template, every) -> None:
    for module in (packing, repair, verify):
        module.run_in_workers = _run_here
        module.count_images = lambda *_: None
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind

    def prepare(name: str) -> tuple[object, ...]:
        if template:
            shutil.copytree(template, folder / name)
        return (*words, folder / name)

    assert run(*prepare("expected")).returncode == 0  # from now on all imports are done
    found = []
    for number in count():
        once = prepare(str(number))
        found.append(_fork(once, folder, end, number * every))
        if found[-1] == 0:
            codes.put(found)
            return
        assert _fork(once, folder, end, sys.maxsize) == 0


def _fork(words: tuple[object, ...], folder: Path, end: Callable[[str], None], number: int) -> int:
    """Run a command in a copy of this process, which has one thread only."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    counter = count()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if _is_change(event, arguments, str(folder)) and next(counter) >= number:
            end(event)

    sys.addaudithook(watch)
    ended = run(*words)
    os._exit(ended.returncode)


def _is_change(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    """Whether an audit event says that files or folders below a folder are about to change."""
    below = event in ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir") and str(arguments[0]).startswith(folder)
    match event:
        case "open":
            return below and arguments[1] not in (None, "r", "rb")
        case "os.remove" | "os.rmdir":
            is_in_rmtree = arguments[1] != -1  # which names files by their folder's descriptor
            return is_in_rmtree or (below and os.path.lexists(arguments[0]))
        case _:
            return below


def _run_here(function: Callable[[object], object], tasks: list[object], **_: object) -> Iterator[object]:
    """`run_in_workers` in one process, which does everything in one order."""
    yield from map(function, tasks)
