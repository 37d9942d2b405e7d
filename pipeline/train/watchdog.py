"""Ends a world in which ranks wait for one that has hung, and names that one."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pipeline.distributed import World
from pipeline.errors import HUNG_CODE

Note = Callable[[str], None]
"""Called with what a rank is about to do; cheap enough for every step."""
MAX_BEAT_SECONDS = 5.0
SPEECH_SECONDS = 5.0


class Mark(NamedTuple):
    """What a rank last said of itself: a beat that counts up while its process lives, its notes, the last of them."""

    rank: int
    host: str
    beat: int
    num_notes: int
    doing: str


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
        self.num_notes, self.doing, self.noted = 0, "starts", time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def note(self, doing: str) -> None:
        """Say what this rank is about to do."""
        self.doing, self.noted = doing, time.monotonic()
        self.num_notes += 1

    def _watch(self) -> None:
        beat = 0
        while not self.ended.wait(self.interval):
            beat += 1
            stands_still = time.monotonic() - self.noted > self.timeout
            try:
                self._tell(beat)
                culprits = self._find_culprits(beat) if stands_still else None
            except RuntimeError as error:  # whoever hosts the store is gone, or stands still itself
                culprits = f"the store at {os.environ['MASTER_ADDR']} ({str(error).splitlines()[0]})"
            if stands_still and culprits and not self.ended.is_set():
                self._end(culprits)

    def _tell(self, beat: int) -> None:
        mark = Mark(self.world.rank, socket.gethostname(), beat, self.num_notes, self.doing)
        self.store.set(f"watchdog/{self.world.rank}", json.dumps(mark))

    def _read(self) -> list[Mark]:
        ranks = range(self.world.world_size)
        return [Mark(*json.loads(self.store.get(f"watchdog/{rank}"))) for rank in ranks]

    def _find_culprits(self, beat: int) -> str | None:
        """Ranks whose process does not answer, or else those that have come least far; None if a rank moves."""
        earlier = self._read()
        time.sleep(2 * self.interval)
        self._tell(beat)
        later = self._read()
        if any(now.num_notes != before.num_notes for before, now in zip(earlier, later, strict=True)):
            return None
        silent = [
            now
            for before, now in zip(earlier, later, strict=True)
            if now.beat == before.beat and now.rank != self.world.rank
        ]
        fewest = min(mark.num_notes for mark in later)
        named = silent or [mark for mark in later if mark.num_notes == fewest]
        answers = "does not answer" if silent else "answers, but stands still"
        return ", ".join(f"rank {mark.rank} on {mark.host}, which {mark.doing}" for mark in named) + f" and {answers}"

    def _end(self, culprits: str) -> None:
        """End this process, and with it the world; the first rank to get here speaks."""
        sentence = f"nothing moved for {self.timeout:g} s: the ranks wait for {culprits}; ended, go on with --resume"
        if folder := os.environ.get("ALEXNET_ENDINGS"):
            with open(f"{folder}/rank-{self.world.rank}", "w") as ending:  # noqa: PTH123 - brief
                ending.write(f"{HUNG_CODE} alexnet train: {sentence}\n")
        print(f"alexnet train: {sentence}", file=sys.stderr, flush=True)
        os._exit(HUNG_CODE)  # the main thread waits in a collective, which no exception can reach


def say_nothing(_: str) -> None:
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
