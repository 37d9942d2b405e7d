"""Brings MLflow to what a run directory holds, from wherever the last time ended."""

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts import RunDirectory, find_holder, hold
from pipeline.errors import RunError
from pipeline.tracking.delivery import Delivery, read_deliveries, write_delivery
from pipeline.tracking.description import find_or_create_run, log_starts
from pipeline.tracking.journal import Journal
from pipeline.tracking.models import forget_deleted, track_models
from pipeline.tracking.points import MAX_POINTS_PER_CALL, PointReader
from pipeline.tracking.server import connect, find_database, find_tracking_uri, mask, patiently

FEW_POINTS = 50
"""How many a server gets at once that did not take more in time."""
FOLDERS = ("figures", "predictions", "neighbours")
FILES = ("config.json", "dataset.json", "damaged.json")
NAME = re.compile(r"[\w-][\w.-]*")
"""Names of files that go to a server and come back: MLflow's client puts them into addresses as they are."""


class Tracker:
    """One run's side at one tracking server. After a failure it is of no more use: make another."""

    def __init__(self, run: RunDirectory, uri: str | None = None) -> None:
        """Connect.

        Args:
            run: the run directory.
            uri: address of the server; None takes that of `find_tracking_uri`.

        Raises:
            InputError: the address is none.
            mlflow.exceptions.MlflowException: the server cannot be reached or refuses.
            RunError: the run directory cannot be written to.
        """
        with claim_sending(run):  # before MLflow tries for minutes to make an sqlite file beside it
            pass
        self.run, self.uri = run, uri or find_tracking_uri(run)
        self.client = connect(self.uri)
        self.answered_at = time.monotonic()
        self.readers: dict[str, PointReader] = {}
        self.hashes: dict[Path, tuple[tuple[int, int], str]] = {}
        self.points_per_call = MAX_POINTS_PER_CALL
        self.num_points = 0
        """How many were sent."""

    def send(self, *, status: str | None = None, whole: bool = True) -> Delivery:
        """Send what is new: points, state, files, models.

        Args:
            status: MLflow's word for the state of the run (RUNNING, FINISHED, FAILED, KILLED); None ends one that was
                left RUNNING while nobody trains it any more.
            whole: with the journal itself, which would be sent again and again while it grows.

        Raises:
            mlflow.exceptions.MlflowException: the server cannot be reached or refuses.
            RunError: the run directory cannot be written to.
        """
        with claim_sending(self.run):
            delivery = self._find_delivery()
            self._send_points(delivery)
            self._set_status(delivery, status)
            self._send_files(delivery, whole=whole)
            self._track_models(delivery)
        return delivery

    def _find_delivery(self) -> Delivery:
        from mlflow.exceptions import MlflowException

        server, record = mask(self.uri), self.run.read_record()
        delivery = read_deliveries(self.run).get(server)
        if delivery is not None and not self.readers:  # the first time
            try:
                found = self.client.get_run(delivery.run_id)
                delivery = delivery if found.info.lifecycle_stage == "active" else None
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                delivery = None  # a copy of the directory from elsewhere, or the server lost its database
            if delivery is not None:
                forget_deleted(self.client, delivery)
        if delivery is None:
            local = find_database(self.uri) is not None
            delivery = Delivery(server=server, run_id=find_or_create_run(self.client, self.run, record, local=local))
        if delivery.num_starts != len(record.starts):
            log_starts(self.client, delivery.run_id, record)
            delivery.num_starts = len(record.starts)
        self._note(delivery)
        return delivery

    def _note(self, delivery: Delivery) -> None:
        write_delivery(self.run, delivery)
        self.answered_at = time.monotonic()

    def _send_points(self, delivery: Delivery) -> None:
        """Whole lines only; what is sent again changes nothing at MLflow."""
        for name, prefix in list_sources(self.run).items():
            path = self.run.path / name
            arrived, reader = delivery.positions.get(name, 0), self.readers.get(name, PointReader(path, prefix))
            # No power cut may take lines that MLflow has, for others would take their place.
            on_disk = reader.journal.sync()
            if arrived > on_disk:  # a copy that is older than its mlflow.json
                arrived = 0
            if arrived < reader.position:  # MLflow has lost what this reader has passed
                reader = PointReader(path, prefix)
            self.readers[name] = reader
            for points, position in reader.read_batches(arrived, until=on_disk):
                self._log_points(delivery.run_id, points)
                delivery.positions[name] = position
                self._note(delivery)

    def _log_points(self, run_id: str, points: list[Any]) -> None:
        """As many at once as MLflow takes, or few: a server that does not answer in time may be slow and not away."""
        from mlflow.exceptions import MlflowException

        while points:
            sent, rest = points[: self.points_per_call], points[self.points_per_call :]
            try:
                self.client.log_batch(run_id, metrics=sent)
            except MlflowException:
                if len(sent) <= FEW_POINTS:
                    raise
                self.points_per_call = FEW_POINTS
            else:
                self.num_points += len(sent)
                self.answered_at, points = time.monotonic(), rest

    def _set_status(self, delivery: Delivery, status: str | None) -> None:
        if status is None and find_holder(self.run.lock) is None:
            known, ended = self.client.get_run(delivery.run_id).info.status, name_end(self.run)
            status = ended if known in ("RUNNING", "KILLED") and known != ended else None
        if status == "RUNNING":
            self.client.update_run(delivery.run_id, status)
        elif status is not None:
            ended_at = self.readers[self.run.journal.name].newest
            self.client.set_terminated(delivery.run_id, status, ended_at and int(ended_at * 1000))

    def _send_files(self, delivery: Delivery, *, whole: bool) -> None:
        for path in list_files(self.run, whole=whole):
            name = str(path.relative_to(self.run.path))
            digest = self._compute_hash(path)
            if delivery.files.get(name) != digest:
                folder = path.parent.relative_to(self.run.path)
                with patiently():
                    self.client.log_artifact(delivery.run_id, str(path), None if folder == Path() else str(folder))
                delivery.files[name] = digest
                self._note(delivery)

    def _compute_hash(self, path: Path) -> str:
        """SHA-256 of a file, computed again only where the file has changed."""
        stat = path.stat()
        known = self.hashes.get(path)
        if known is None or known[0] != (stat.st_size, stat.st_mtime_ns):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            known = self.hashes[path] = ((stat.st_size, stat.st_mtime_ns), digest)
        return known[1]

    def _track_models(self, delivery: Delivery) -> None:
        entries = self.readers[self.run.journal.name].of_networks
        track_models(self.client, self.run, self.run.read_record(), delivery, entries)
        self._note(delivery)


def list_sources(run: RunDirectory) -> dict[str, str]:
    """Files of metrics within a run → what their metrics' names begin with at MLflow."""
    loads = [path for path in sorted(run.system.glob("*.jsonl")) if not is_linked(run, path)]
    return {run.journal.name: ""} | {str(path.relative_to(run.path)): f"system/{path.stem}/" for path in loads}


def list_files(run: RunDirectory, *, whole: bool) -> Iterator[Path]:
    """Yield what of a run MLflow keeps as artifacts: files with plain names, never what a link points to.

    Args:
        run: the run directory.
        whole: with the journal, which is still growing while the run is on.
    """
    names = (*FILES, run.journal.name) if whole else FILES
    found = [run.path / name for name in names]
    found += [path for folder in FOLDERS for path in sorted((run.path / folder).glob("*"))]
    for path in found:
        if path.is_file() and NAME.fullmatch(path.name) and not is_linked(run, path):
            yield path


def is_linked(run: RunDirectory, path: Path) -> bool:
    """Whether a file of a run, or its folder within the run, is a link to somewhere else."""
    return path.is_symlink() or (path.parent != run.path and path.parent.is_symlink())


@contextmanager
def claim_sending(run: RunDirectory) -> Iterator[None]:
    """Keep two processes from sending the same run at once; the second one waits.

    Raises:
        RunError: the directory cannot be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(run.path / "mlflow.lock", wait=True))
            if not os.access(run.path, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise RunError(
                f"{run.path} cannot be written to ({error.strerror}), and what MLflow has is noted there: "
                "copy it to where it can be"
            ) from error
        yield


def name_end(run: RunDirectory) -> str:
    """MLflow's word for how a run has ended that nobody trains."""
    return "FINISHED" if is_complete(run) or run.read_record().status == "imported" else "KILLED"


def is_complete(run: RunDirectory) -> bool:
    """Whether the journal holds the last of all scheduled epochs."""
    trained = Journal(run.journal).read_metric("train/loss")
    return bool(trained) and trained[-1][0].epoch >= run.read_record().config.schedule.epochs


def sync_run(run: RunDirectory, *, status: str | None = None) -> Delivery:
    """Bring MLflow to the run directory's content: each metric's step once, files and checkpoints as they are.

    Args:
        run: the run directory.
        status: as in `Tracker.send`.

    Raises:
        mlflow.exceptions.MlflowException: the server cannot be reached or refuses.
    """
    return Tracker(run).send(status=status)
