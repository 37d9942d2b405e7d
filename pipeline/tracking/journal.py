"""The journal: every metric of a run, in a file of its own; the source of truth that MLflow is fed from."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

FSYNC_SECONDS = 5.0
"""What a power cut may take, at most; a killed process loses nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """Metrics at one step; `epoch` counts passes over the training set, with fractions; `time` is in Unix seconds."""

    step: NonNegativeInt
    epoch: FiniteFloat
    time: FiniteFloat
    metrics: dict[str, float]


_ENTRY = TypeAdapter(JournalEntry)


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

    def sync(self) -> int:
        """Bring all lines to disk, so that no power cut takes them; returns how many bytes they are."""
        self._synced = time.monotonic()
        if not self.path.is_file():
            return 0
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        return size

    def read(self) -> list[JournalEntry]:
        """All entries, oldest first; a line that is none, as one that a crash cut short, is passed over."""
        return [entry for entry, _ in self.read_from(0)]

    def read_from(self, position: int) -> Iterator[tuple[JournalEntry, int]]:
        """Yield the entries after the first `position` bytes, each with the position after it."""
        return ((entry, end) for entry, end in self._read_lines(position) if entry is not None)

    def find_damage(self) -> list[int]:
        """Numbers of the lines, from 1 on, that are passed over; one that is being written is not among them."""
        return [number for number, (entry, _) in enumerate(self._read_lines(0), start=1) if entry is None]

    def _read_lines(self, position: int) -> Iterator[tuple[JournalEntry | None, int]]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(position)
            while (line := file.readline()).endswith(b"\n"):
                yield parse_entry(line), file.tell()

    def read_metric(self, key: str) -> list[tuple[JournalEntry, float]]:
        """Values of one metric in order of step; where a step occurs twice, the later line."""
        latest = {entry.step: (entry, entry.metrics[key]) for entry in self.read() if key in entry.metrics}
        return [latest[step] for step in sorted(latest)]


def parse_entry(line: bytes) -> JournalEntry | None:
    """The entry of a line; None where it is none, as after a crash, or on a disk that lies."""
    try:
        return _ENTRY.validate_json(line, strict=True)
    except ValidationError:
        return None
