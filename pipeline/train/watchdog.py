"""Ends a world in which ranks wait for one that has hung, and names that one."""

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pipeline.artifacts import leave_ending
from pipeline.distributed import World
from pipeline.errors import HUNG_CODE

Note = Callable[[str, float], None]
"""Called with what a rank is about to do, and how far it has come, in steps; cheap enough for every step."""
PACKAGE = Path(__file__).parents[1]
MAX_BEAT_SECONDS = 5.0
STORE_SECONDS, ENDING_SECONDS = 5.0, 5.0
NUM_BEATS = 3
"""Beats in which a process that lives is heard."""


class Mark(NamedTuple):
    """What a rank last said of itself, and a beat that counts up while its process lives."""

    rank: int
    host: str
    beat: int
    num_notes: int
    steps: float
    doing: str
    place: str


class Watchdog:
    """A thread in each rank that tells the others what it does, and looks whether they all stand still."""

    def __init__(self, world: World, *, timeout_seconds: float) -> None:
        """Join the watch.

        Args:
            world: of several ranks, on a store that torchrun hosts.
            timeout_seconds: of standing still, after which the world is ended.
        """
        self.world, self.timeout = world, timeout_seconds
        self.interval = min(MAX_BEAT_SECONDS, timeout_seconds / 10)
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # A connection of its own, since the process group's may be waiting for a rank.
        self.store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=3 * self.interval + 5))
        self.beat, self.num_notes, self.noted = 0, 0, time.monotonic()
        self.doing, self.steps = "warms up", -1.0
        self.ended = threading.Event()
        self._tell()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def note(self, doing: str, steps: float) -> None:
        """Say what this rank is about to do, and how far it has come."""
        self.doing, self.steps, self.noted = doing, steps, time.monotonic()
        self.num_notes += 1

    def _watch(self) -> None:
        while not self.ended.wait(self.interval):
            stands_still = time.monotonic() - self.noted > self.timeout
            try:
                self._tell()
                culprits = self._find_culprits() if stands_still else None
            except RuntimeError as error:  # whoever hosts the store is gone, or stands still itself
                time.sleep(STORE_SECONDS)  # it ends with the first rank that names the culprit
                culprits = f"the store at {os.environ['MASTER_ADDR']} ({str(error).splitlines()[0]})"
            if stands_still and culprits and not self.ended.is_set():
                self._end(culprits)

    def _tell(self) -> None:
        self.beat += 1
        place = find_place(threading.main_thread())
        mark = Mark(self.world.rank, socket.gethostname(), self.beat, self.num_notes, self.steps, self.doing, place)
        self.store.set(f"watchdog/{self.world.rank}", json.dumps(mark))

    def _read(self) -> list[Mark]:
        ranks = range(self.world.world_size)
        return [Mark(*json.loads(self.store.get(f"watchdog/{rank}"))) for rank in ranks]

    def _find_culprits(self) -> str | None:
        """Ranks whose process does not answer, or else those that have come least far; None if a rank moves."""
        if late := [rank for rank in range(self.world.world_size) if not self.store.check([f"watchdog/{rank}"])]:
            return f"rank {late[0]}, which has not begun"
        earlier = self._read()
        for _ in range(NUM_BEATS):
            time.sleep(self.interval)
            self._tell()
        later = self._read()
        if any(now.num_notes != before.num_notes for before, now in zip(earlier, later, strict=True)):
            return None
        silent = [
            now
            for before, now in zip(earlier, later, strict=True)
            if now.beat == before.beat and now.rank != self.world.rank
        ]
        fewest = min(mark.steps for mark in later)
        named = silent or [mark for mark in later if mark.steps == fewest]
        if len(named) == len(later):
            return "each other, all alike: a GPU or the network has hung (NCCL_DEBUG=INFO tells which)"
        answers = "does not answer" if silent else "answers, but stands still"
        ranks = ", ".join(f"rank {mark.rank} on {mark.host}, which {mark.doing} ({mark.place})" for mark in named)
        return f"{ranks} and {answers}"

    def _end(self, culprits: str) -> None:
        """Say why, leave it as this rank's ending, and end this process, and with it the world."""
        sentence = f"nothing moved for {self.timeout:g} s: the ranks wait for {culprits}; ended, go on with --resume"
        print(f"alexnet train: {sentence}", file=sys.stderr, flush=True)
        # The main thread waits in a collective, which no exception can reach; and the disk may be what hangs.
        threading.Timer(ENDING_SECONDS, os._exit, (HUNG_CODE,)).start()
        leave_ending(HUNG_CODE, f"alexnet train: {sentence}")
        os._exit(HUNG_CODE)


def find_place(thread: threading.Thread) -> str:
    """Function, file and line of this package in which a thread is, or from which it is in a library."""
    frames = traceback.extract_stack(sys._current_frames()[thread.ident or 0])  # noqa: SLF001 - documented
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    last = (own or frames)[-1]
    return f"{last.name}, {Path(last.filename).name}:{last.lineno}"


def say_nothing(_: str, __: float) -> None:
    """The note of a rank that is alone."""


@contextmanager
def watch(world: World, *, timeout_seconds: float) -> Iterator[Note]:
    """Watch over a world of several ranks; a world of one is left alone.

    Args:
        world: this process among all.
        timeout_seconds: after which ranks that all stand still are ended with exit code 124.

    Yields:
        Called with what this rank is about to do.
    """
    if world.world_size == 1:
        yield say_nothing
        return
    watchdog = Watchdog(world, timeout_seconds=timeout_seconds)
    watchdog.thread.start()
    try:
        yield watchdog.note
    finally:
        watchdog.ended.set()
        watchdog.thread.join(timeout=1.0)  # it may be waiting for a store that has gone
