"""The journal: every metric of a run, in a file of its own; the source of truth that MLflow is fed from."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FSYNC_SECONDS = 5.0
"""What a power cut may take, at most; a killed process loses nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """Metrics at one step; `epoch` counts passes over the training set, with fractions; `time` is in Unix seconds."""

    step: int
    epoch: float
    time: float
    metrics: dict[str, float]


class Journal:
    """Append-only lines of JSON."""

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, which need not exist yet."""
        self.path = path
        self._synced = -FSYNC_SECONDS
        self._known: set[tuple[int, str]] = set()

    def leave_out_known(self, *, since: int) -> None:
        """Go on from a checkpoint: points from step `since` on that are there already are not written again.

        What is trained again gives the same values: on a CPU to the bit, on a GPU but for rounding.
        """
        self._known = {(entry.step, key) for entry in self.read() if entry.step >= since for key in entry.metrics}

    def append(self, *, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write one line; every few seconds all of them are brought to disk."""
        new = {key: value for key, value in metrics.items() if (step, key) not in self._known}
        if not new:
            return
        line = json.dumps({"step": step, "epoch": epoch, "time": time.time(), "metrics": new})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a crash cut short must not swallow this one
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
        if time.monotonic() - self._synced >= FSYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring all lines to disk, so that no power cut takes them."""
        self._synced = time.monotonic()
        if self.path.is_file():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def count_bytes(self) -> int:
        """Its size; 0 where there is none yet."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def read(self) -> list[JournalEntry]:
        """All whole lines, oldest first; a line that a crash cut short is passed over."""
        return [entry for entry, _ in self.read_from(0)]

    def read_from(self, position: int) -> Iterator[tuple[JournalEntry, int]]:
        """Yield the entries after the first `position` bytes, each with the position after it."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(position)
            while (line := file.readline()).endswith(b"\n"):
                try:
                    entry = JournalEntry(**json.loads(line))
                except (TypeError, ValueError):  # cut short by a crash, or no entry at all
                    continue
                yield entry, file.tell()

    def read_metric(self, key: str) -> list[tuple[JournalEntry, float]]:
        """Values of one metric in order of step; where a step occurs twice, the later line."""
        latest = {entry.step: (entry, entry.metrics[key]) for entry in self.read() if key in entry.metrics}
        return [latest[step] for step in sorted(latest)]
