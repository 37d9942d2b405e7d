"""From lines of a journal to points of MLflow: each step of a metric once."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.tracking.journal import Journal, JournalEntry

MAX_POINTS_PER_CALL = 1000  # MLflow's limit


def is_of_network(key: str) -> bool:
    """Whether a metric is one of the network of its step, rather than of the training up to it."""
    return key.startswith(("val/", "test/"))


class PointReader:
    """Reads one file of metrics from wherever MLflow's copy ends; keeps the entries with errors of networks."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        """Read nothing yet.

        Args:
            path: of the journal.
            prefix: of every metric's name at MLflow; there is one for all but the training's own.
        """
        self.journal, self.prefix = Journal(path), prefix
        self.position = 0
        self.seen: defaultdict[str, set[int]] = defaultdict(set)
        self.of_networks: list[JournalEntry] = []
        self.newest: float | None = None
        """Time of the newest entry."""

    def read_batches(self, position: int, *, until: int) -> Iterator[tuple[list[Any], int]]:
        """Yield the new points, at most MLflow's limit at once, each time with the file's position after them.

        `epoch` goes beside every metric of the training; nodes know of none. MLflow would keep both values of a step
        that occurs twice: it gets the first.

        Args:
            position: bytes of the file that have arrived.
            until: bytes of the file that may be sent.
        """
        batch: list[Any] = []
        for entry, end in self.journal.read_from(self.position):
            if end > until:
                break
            points, self.newest = self._list_new(entry), entry.time
            if any(map(is_of_network, entry.metrics)):
                self.of_networks.append(entry)
            if end > position:
                if batch and len(batch) + len(points) > MAX_POINTS_PER_CALL:
                    yield batch, self.position
                    batch = []
                batch += points
            self.position = end
        if self.position > position:
            yield batch, self.position

    def _list_new(self, entry: JournalEntry) -> list[Any]:
        from mlflow.entities import Metric

        points, beside = [], {} if self.prefix else {"epoch": entry.epoch}
        for key, value in (beside | entry.metrics).items():
            name = self.prefix + key
            if entry.step not in self.seen[name]:
                self.seen[name].add(entry.step)
                points.append(Metric(name, value, int(entry.time * 1000), entry.step))
        return points
