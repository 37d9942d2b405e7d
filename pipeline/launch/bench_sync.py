"""How long `alexnet sync` takes for a long run, and how much memory: over HTTP, into a real MLflow server on sqlite."""

import contextlib
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from pipeline.artifacts import RunDirectory, RunRecord, Start, write_json
from pipeline.errors import RunError
from pipeline.experiments import get_experiment
from pipeline.launch.bench import Origin, read_origin, write_record
from pipeline.launch.timed_sync import time_sync
from pipeline.options import PackingConfig, SyncBenchConfig
from pipeline.provenance import read_commit
from pipeline.tracking import Journal
from pipeline.tracking.delivery import read_deliveries
from pipeline.tracking.server import connect

METRICS = ("train/loss", "train/top1_error", "optim/lr", "perf/images_per_second", "perf/data_wait_fraction")
"""What training writes at a step; with `epoch`, six points of MLflow."""
POINTS_PER_STEP = len(METRICS) + 1
EXPERIMENT = "source-2012"
MEGABYTE = 1_000_000
START_SECONDS = 300
SERVER = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    """One sync by a process of its own: its time but for the import of MLflow, and the most memory that it had."""

    what: str
    num_points: int
    seconds: float
    points_per_second: float
    peak_bytes: int
    peak_bytes_before: int
    """With MLflow imported, and nothing sent yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    num_points: int
    num_arrived: int
    journal_bytes: int
    syncs: tuple[Sync, ...]


def bench_sync(config: SyncBenchConfig) -> SyncBenchRecord:
    """Sync a run of many points, and again with nothing new.

    Raises:
        RunError: MLflow's server does not start, or does not have each point once afterwards.
    """
    origin = read_origin("cpu")
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as name:
        folder = Path(name)
        num_steps = math.ceil(config.points / POINTS_PER_STEP)
        run, num_points = write_run(RunDirectory(folder / "run"), num_steps), num_steps * POINTS_PER_STEP
        with serve_mlflow(folder / "server") as uri:
            first = sync_apart(run, uri, "all points", num_points)
            again = sync_apart(run, uri, "again, nothing new", 0)
            num_arrived = count_arrived(run, uri)
        journal_bytes = run.journal.stat().st_size
    if num_arrived != num_points:
        raise RunError(f"MLflow has {num_arrived} points of {num_points}: please report this")
    record = SyncBenchRecord(
        origin=origin,
        num_points=num_points,
        num_arrived=num_arrived,
        journal_bytes=journal_bytes,
        syncs=(first, again),
    )
    path = write_record(config.out, "bench-sync", origin, record)
    print(f"{format_syncs(record.syncs)}\n\nbench: {path}")
    return record


def write_run(run: RunDirectory, num_steps: int) -> RunDirectory:
    """Write a run directory without files but for configuration and journal."""
    experiment, commit = get_experiment(EXPERIMENT), read_commit()
    start = Start(
        command="",
        commit=commit.id,
        dirty=commit.dirty,
        machine="",
        device="cpu",
        world_size=1,
        tools={},
        time=time.time(),
        hosts=(),
    )
    record = RunRecord(
        id=uuid.uuid4().hex,
        experiment=EXPERIMENT,
        status="as registered",
        config=experiment.config,
        data="",
        data_digest="",
        data_layout="folders",
        data_complete=False,
        data_packing=PackingConfig(),
        num_dropped_images=0,
        num_train_images=0,
        num_val_images=0,
        starts=(start,),
    )
    write_json(run.config, record)
    journal = Journal(run.journal)
    for step in range(num_steps):
        journal.append(step=step, epoch=step / 1000, metrics=dict.fromkeys(METRICS, step + 0.5))
    return run


@contextmanager
def serve_mlflow(folder: Path) -> Iterator[str]:
    """Run MLflow's server on an sqlite file in a new folder; yields its address once it answers.

    Raises:
        RunError: it does not start.
    """
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = (f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts")
    words = [sys.executable, "-m", "mlflow", "server", *store, "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(words, env=os.environ | SERVER, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_answer(f"http://127.0.0.1:{port}", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for_answer(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until MLflow answers a question that needs its database.

    Raises:
        RunError: it has ended, or takes too long.
    """
    from mlflow.exceptions import MlflowException

    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(MlflowException):
            connect(uri).search_experiments(max_results=1)
            return
        time.sleep(0.2)
    raise RunError(f"MLflow's server did not start within {START_SECONDS} s: {log.read_text()[-500:]}")


def sync_apart(run: RunDirectory, uri: str, what: str, num_points: int) -> Sync:
    """Sync in a process of its own, so that its memory is that of `alexnet sync`."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, before, peak = pool.submit(time_sync, run, uri).result()
    print(f"bench: {what}: {seconds:.1f} s", flush=True)
    return Sync(
        what=what,
        num_points=num_points,
        seconds=seconds,
        points_per_second=num_points / seconds,
        peak_bytes=peak,
        peak_bytes_before=before,
    )


def count_arrived(run: RunDirectory, uri: str) -> int:
    """Points of a run that a server has."""
    client, run_id = connect(uri), read_deliveries(run)[uri].run_id
    return sum(len(client.get_metric_history(run_id, key)) for key in (*METRICS, "epoch"))


def format_syncs(syncs: tuple[Sync, ...]) -> str:
    """A line per sync."""
    rows = [
        (
            sync.what,
            f"{sync.num_points:,}",
            f"{sync.seconds:.1f}",
            f"{sync.points_per_second:,.0f}",
            f"{sync.peak_bytes / MEGABYTE:,.0f}",
            f"{(sync.peak_bytes - sync.peak_bytes_before) / MEGABYTE:,.0f}",
        )
        for sync in syncs
    ]
    headers = ("sync", "points", "s", "points/s", "MB at most", "MB of them for the run")
    return tabulate(rows, headers, colalign=("left", *["right"] * 5))
