"""Worker processes that count pictures, stop at once when told to, and end with the process that started them."""

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from typing import Any, TypeVar

from tqdm import tqdm

from pipeline.errors import RunError

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_SECONDS = 0.2
LOG_SECONDS = 30.0
LOG_FORMAT = "{desc}: {n_fmt} of {total_fmt} images ({percentage:.0f}%), {rate_fmt}, {remaining} left{postfix}"

_counter: "Synchronized[int]"
_stop: "Synchronized[int]"


class StoppedError(Exception):
    """The main process has no more use for this task."""


class LogLines(io.TextIOBase):
    """Standard error for a progress bar where no terminal is: every update a line of its own."""

    def write(self, text: str) -> int:
        """Write what is more than blank, on a line."""
        if line := text.strip():
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Write through."""
        sys.stderr.flush()


def build_bar(description: str, *, total: int, initial: int) -> "tqdm[Any]":
    """A progress bar in images; a line every 30 seconds where no terminal is."""
    if sys.stderr.isatty():
        return tqdm(desc=description, total=total, initial=initial, unit=" images")
    return tqdm(
        desc=description,
        total=total,
        initial=initial,
        unit=" images",
        file=LogLines(),
        bar_format=LOG_FORMAT,
        mininterval=LOG_SECONDS,
        maxinterval=LOG_SECONDS,
        delay=LOG_SECONDS,
    )


def count_images(num_images: int = 1) -> None:
    """Tell the main process that pictures are done; called in a worker.

    Raises:
        StoppedError: the main process wants no more.
    """
    with _counter.get_lock():
        _counter.value += num_images
    if _stop.value:
        raise StoppedError


def run_in_workers(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, num_workers: int, bar: "tqdm[Any]"
) -> Generator[Result, None, None]:
    """Yield `function(task)` for each task, in the order in which they end.

    When the caller leaves off, one fails, or someone presses Ctrl-C, the others stop at their next picture.

    Args:
        function: at the top of a module, calls `count_images` as pictures are done.
        tasks: what to call it with.
        num_workers: processes.
        bar: moves as pictures are counted.

    Raises:
        RunError: a worker was killed.
        KeyboardInterrupt: after Ctrl-C, when the workers have ended.
    """
    if not tasks:
        bar.close()
        return
    with interrupts_put_off() as interrupts:
        yield from _run_pool(function, tasks, num_workers, bar, interrupts)


@contextmanager
def interrupts_put_off() -> Iterator[list[int]]:
    """Collect Ctrl-C and raise it at the end: amid the start or end of a pool it leaves workers that wait for ever."""
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt


def start_server(context: ForkServerContext, module: str) -> None:
    """Start the process that workers are forked from, which imports `module` once and, like them, hears no Ctrl-C."""
    resource_tracker.ensure_running()  # which would end the blocking
    context.set_forkserver_preload([module])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _run_pool(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    num_workers: int,
    bar: "tqdm[Any]",
    interrupts: Sequence[int],
) -> Generator[Result, None, None]:
    context = multiprocessing.get_context("forkserver")
    counter: Synchronized[int] = context.Value("q", 0)
    stop: Synchronized[int] = context.Value("b", 0, lock=False)
    start_server(context, function.__module__)
    initial = bar.n
    executor = ProcessPoolExecutor(min(num_workers, len(tasks)), context, _start_worker, (counter, stop))
    try:
        pending = {executor.submit(function, task) for task in tasks}
        while pending and not interrupts:
            done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            bar.update(initial + counter.value - bar.n)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise RunError("a worker process was killed, perhaps for want of memory: try fewer --workers") from error
    finally:
        stop.value = 1
        executor.shutdown(cancel_futures=True)
        bar.close()


def _start_worker(counter: "Synchronized[int]", stop: "Synchronized[int]") -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed main process cannot end its workers, which would go on for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    os._exit(1)
