"""The journal, source of truth for every metric, and the feeder from it to MLflow (which the doctor imports, too)."""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import RunDirectory, read_json, temporary_path, write_json
from pipeline.experiments import flatten, get_experiment

MAX_METRICS_PER_CALL = 1000  # MLflow's limits
MAX_PARAMS_PER_CALL = 100
FEED_INTERVAL_SECONDS = 10.0
FINAL_WAIT_SECONDS = 60.0
STOP_WAIT_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """Metrics at one step; `epoch` counts passes over the training set, with fractions; `time` is in Unix seconds."""

    step: int
    epoch: float
    time: float
    metrics: dict[str, float]


class Journal:
    """Append-only lines of JSON. After a resume a step may occur twice; the later line is the one that counts."""

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, which need not exist yet."""
        self.path = path

    def append(self, *, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Write one line and bring it to disk."""
        line = json.dumps({"step": step, "epoch": epoch, "time": time.time(), "metrics": dict(metrics)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a crash cut short must not swallow this one
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[JournalEntry]:
        """All whole lines, oldest first; a line that a crash cut short is passed over."""
        if not self.path.is_file():
            return []
        entries = []
        for line in self.path.read_text().splitlines():
            try:
                entries.append(JournalEntry(**json.loads(line)))
            except json.JSONDecodeError:
                continue
        return entries

    def read_metric(self, key: str) -> list[tuple[JournalEntry, float]]:
        """Values of one metric in order of step; where a step occurs twice, the later line."""
        latest = {entry.step: (entry, entry.metrics[key]) for entry in self.read() if key in entry.metrics}
        return [latest[step] for step in sorted(latest)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """`mlflow.json`: the run's identity at one tracking server, and how many lines of the journal it has.

    `num_sent` of them were on their way; where it is larger, nobody knows which of those arrived.
    """

    tracking_uri: str
    run_id: str
    num_entries: int
    num_sent: int = 0


def find_tracking_uri(run: RunDirectory) -> str:
    """MLFLOW_TRACKING_URI where it is set, or else an sqlite file beside the run directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve().parent / 'mlflow.db'}"


def sync_run(run: RunDirectory, *, status: str | None = None) -> Delivery:
    """Bring MLflow to the journal's content: configuration once, each metric's step once, files as they are.

    Args:
        run: the run directory.
        status: MLflow's word for the state of the run (RUNNING, FINISHED, FAILED, KILLED); None ends a
            run that is complete but was left RUNNING.

    Raises:
        mlflow.exceptions.MlflowException: the server cannot be reached or refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # only now, for the import sets it to INFO
    uri = find_tracking_uri(run)
    if uri.startswith("sqlite:///"):
        _create_database(Path(uri.removeprefix("sqlite:///")))
    client = MlflowClient(tracking_uri=uri)
    known = {delivery.tracking_uri: delivery for delivery in _read_deliveries(run)}
    delivery = known.get(uri) or _create_run(client, run, uri)
    entries = Journal(run.journal).read()
    metrics = _list_new_metrics(entries, delivery.num_entries)
    if delivery.num_sent > delivery.num_entries:  # the last sync ended between sending and noting
        metrics = _leave_out_arrived(client, delivery.run_id, metrics)
    if metrics:
        _write_delivery(run, replace(delivery, num_sent=len(entries)))
    for first in range(0, len(metrics), MAX_METRICS_PER_CALL):
        client.log_batch(delivery.run_id, metrics=metrics[first : first + MAX_METRICS_PER_CALL])
    delivery = replace(delivery, num_entries=len(entries), num_sent=len(entries))
    _write_delivery(run, delivery)
    if metrics or status is not None:
        for folder in (run.figures, run.predictions):
            for file in sorted(folder.glob("*.png")) + sorted(folder.glob("*.json")):
                client.log_artifact(delivery.run_id, str(file), folder.name)
    _set_status(client, delivery.run_id, run, status)
    return delivery


def _set_status(client: Any, run_id: str, run: RunDirectory, status: str | None) -> None:
    if status == "RUNNING":
        client.update_run(run_id, status)
    elif status is not None:
        client.set_terminated(run_id, status)
    elif is_complete(run) and client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")


def _create_database(path: Path) -> None:
    """Make an sqlite file with MLflow's tables, whole or not at all: MLflow cannot mend one that was left halfway."""
    if path.exists() or not path.parent.is_dir():
        return
    from mlflow import MlflowClient

    begun = temporary_path(path)
    MlflowClient(tracking_uri=f"sqlite:///{begun}").search_experiments(max_results=1)
    try:
        os.link(begun, path)
    except FileExistsError:  # another process was quicker
        pass
    except OSError:  # a file system without links
        begun.rename(path)
    begun.unlink(missing_ok=True)


def _list_new_metrics(entries: list[JournalEntry], num_sent: int) -> list[Any]:
    """Points of the entries after the first `num_sent`, `epoch` beside every metric, as MLflow's `Metric`."""
    from mlflow.entities import Metric

    sent = {(key, entry.step) for entry in entries[:num_sent] for key in (*entry.metrics, "epoch")}
    points: dict[tuple[str, int], Metric] = {}  # MLflow would keep both values of a step that occurs twice
    for entry in entries[num_sent:]:
        for key, value in (entry.metrics | {"epoch": entry.epoch}).items():
            if (key, entry.step) not in sent:
                points.setdefault((key, entry.step), Metric(key, value, int(entry.time * 1000), entry.step))
    return list(points.values())


def _leave_out_arrived(client: Any, run_id: str, metrics: list[Any]) -> list[Any]:
    """The metrics that the server does not have yet."""
    arrived = {
        (key, point.step)
        for key in {metric.key for metric in metrics}
        for point in client.get_metric_history(run_id, key)
    }
    return [metric for metric in metrics if (metric.key, metric.step) not in arrived]


def is_complete(run: RunDirectory) -> bool:
    """Whether the journal holds the last of all scheduled epochs."""
    trained = Journal(run.journal).read_metric("train/loss")
    return bool(trained) and trained[-1][0].epoch >= run.read_record().config.schedule.epochs


def _read_deliveries(run: RunDirectory) -> list[Delivery]:
    path = run.path / "mlflow.json"
    return read_json(path, list[Delivery]) if path.is_file() else []


def _write_delivery(run: RunDirectory, delivery: Delivery) -> None:
    """Note a delivery beside those to other servers."""
    others = [known for known in _read_deliveries(run) if known.tracking_uri != delivery.tracking_uri]
    write_json(run.path / "mlflow.json", [*others, delivery])


def _create_run(client: Any, run: RunDirectory, uri: str) -> Delivery:
    """Start MLflow's side of a run, with everything that is fixed from the beginning."""
    from mlflow.entities import Param, RunTag

    record = run.read_record()
    found = client.get_experiment_by_name(record.experiment)
    if found is None:
        beside = (run.path.resolve().parent / "mlflow-artifacts").as_uri() if uri.startswith("sqlite:") else None
        experiment_id = client.create_experiment(
            record.experiment, artifact_location=beside, tags={"mlflow.experimentKind": "custom_model_development"}
        )
    else:
        experiment_id = found.experiment_id
    start = record.starts[-1]
    mlflow_run = client.create_run(experiment_id, run_name=run.path.name)
    tags = {
        "stage": "train",
        "status": record.status,
        "commit": start.format_commit(),
        "data_digest": record.data_digest,
        "machine": start.machine,
        "device": start.device,
        "world_size": str(start.world_size),
        "mlflow.source.name": start.command,
        "mlflow.source.git.commit": start.commit,
        "mlflow.note.content": get_experiment(record.experiment).claim,
    } | {f"version.{tool}": found_version for tool, found_version in start.tools.items()}
    params = [Param(name, str(value)) for name, value in flatten(record.config)]
    client.log_batch(mlflow_run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    for first in range(0, len(params), MAX_PARAMS_PER_CALL):
        client.log_batch(mlflow_run.info.run_id, params=params[first : first + MAX_PARAMS_PER_CALL])
    client.log_artifact(mlflow_run.info.run_id, str(run.config))
    delivery = Delivery(tracking_uri=uri, run_id=mlflow_run.info.run_id, num_entries=0)
    _write_delivery(run, delivery)
    return delivery


def sync_or_warn(run: RunDirectory, *, status: str | None = None, warn: bool = True) -> bool:
    """`sync_run`, but a failure is one printed sentence: nothing that MLflow does may hurt the calling stage."""
    try:
        sync_run(run, status=status)
    except Exception as error:  # noqa: BLE001 - the tracker may fail in any way it likes; the journal has it all
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if warn:
            _warn(run, f"did not take the metrics ({reason})")
        return False
    return True


def _warn(run: RunDirectory, what: str) -> None:
    print(
        f"tracking: MLflow at {find_tracking_uri(run)} {what}; they are safe in {run.journal}, "
        f"bring them over with `alexnet sync {run.path}`",
        flush=True,
    )


@dataclass(slots=True)
class Feed:
    """How long the end of a run waits for MLflow."""

    patience_seconds: float = FINAL_WAIT_SECONDS

    def hurry(self) -> None:
        """Somebody wants this process to end: the next start, or `alexnet sync`, brings the rest over."""
        self.patience_seconds = STOP_WAIT_SECONDS


@contextmanager
def feed_mlflow(run: RunDirectory) -> Iterator[Feed]:
    """Bring the journal to MLflow every few seconds from a thread of its own, and once more at the end.

    Training never waits for it but at the very end, and there no longer than the feed's patience.
    """
    stop = threading.Event()
    status = "FAILED"

    def feed() -> None:
        delivered = sync_or_warn(run, status="RUNNING")
        while not stop.wait(FEED_INTERVAL_SECONDS):
            delivered = sync_or_warn(run, warn=delivered)
        sync_or_warn(run, status=status)

    thread = threading.Thread(target=feed, name="mlflow-feeder", daemon=True)
    thread.start()
    handle = Feed()
    try:
        yield handle
        status = "FINISHED" if is_complete(run) else "KILLED"
    except KeyboardInterrupt:
        status = "KILLED"
        handle.hurry()
        raise
    finally:
        stop.set()
        thread.join(handle.patience_seconds)
        if thread.is_alive():
            _warn(run, f"has not taken the metrics within {handle.patience_seconds:.0f} s")
