"""The load of a node while it trains: processor, memory, disk, network and GPUs, in a file beside the journal."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from pipeline.artifacts import RunDirectory
from pipeline.tracking.journal import Journal

SAMPLE_SECONDS = 10.0
SAMPLES_PER_LINE = 6
END_SECONDS = 3.0
"""How long the end of a run waits for the last line, at most."""


@contextmanager
def watch_machine(run: RunDirectory, *, node: str) -> Iterator[None]:
    """Append the mean load of each minute to `system/NODE.jsonl`, from a thread of its own; nothing waits for it.

    A line is one of the journal's: `step` counts the lines of the file, over restarts; `epoch` is 0, for a node knows
    of none. Names and units are MLflow's, whose page knows them. For one process of each node.

    Args:
        run: the run directory.
        node: name of the node; what a file name and MLflow do not take in it becomes a dash.
    """
    name, stop = name_node(node), threading.Event()
    thread = threading.Thread(
        target=record_or_warn, args=(Journal(run.system / f"{name}.jsonl"), name, stop), name="system", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(END_SECONDS)


def name_node(node: str) -> str:
    """A node's name as part of a file's and of a metric's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", node).strip(".-") or "node"


def record_or_warn(journal: Journal, node: str, stop: threading.Event) -> None:
    """Record until told to stop; a failure is one printed sentence."""
    try:
        record_load(journal, stop)
    except Exception as error:  # noqa: BLE001 - drivers and file systems fail in many ways, none of them worth a run
        print(f"tracking: the load of {node} is not recorded any more ({error}); the training goes on", flush=True)


def record_load(journal: Journal, stop: threading.Event) -> None:
    """Append a line for every few samples, and one for those left at the end."""
    monitors, step = start_monitors(), len(journal.read())
    while not stop.is_set():
        for _ in range(SAMPLES_PER_LINE):
            stop.wait(SAMPLE_SECONDS)
            for monitor in monitors:
                monitor.collect_metrics()
            if stop.is_set():
                break
        load = {key: float(value) for monitor in monitors for key, value in monitor.aggregate_metrics().items()}
        journal.append(step=step, epoch=0.0, metrics=load)
        step += 1
        for monitor in monitors:
            monitor.clear_metrics()


def start_monitors() -> list[Any]:
    """MLflow's own monitors but for the network; those of GPUs where there is a driver.

    Each of them is a few lines around psutil or NVML. The import takes seconds, but of this thread.
    """
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    # It would warn of each reading that a GPU refuses, as parts of one (MIG) do, at every sample.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    psutil.cpu_percent()  # the first value means nothing; later ones are of the time since the one before
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(RuntimeError):  # its word for a machine without a GPU
        monitors.append(GPUMonitor())
    return monitors


class NetworkMonitor:
    """As MLflow's of that name, but without loopback, over which the ranks of a node exchange gradients."""

    def __init__(self) -> None:
        """Count from now on."""
        self.before = self.now = count_network_megabytes()

    def collect_metrics(self) -> None:
        """Look again."""
        self.now = count_network_megabytes()

    def aggregate_metrics(self) -> dict[str, float]:
        """Megabytes since the beginning."""
        return {key: value - self.before[key] for key, value in self.now.items()}

    def clear_metrics(self) -> None:
        """The count goes on."""


def count_network_megabytes() -> dict[str, float]:
    """Megabytes since the machine started, by MLflow's names, of all interfaces that lead out of it."""
    interfaces = psutil.net_if_stats()
    outward = [
        counters
        for name, counters in psutil.net_io_counters(pernic=True).items()
        if name not in interfaces or "loopback" not in interfaces[name].flags.split(",")
    ]
    return {
        "network_receive_megabytes": sum(counters.bytes_recv for counters in outward) / 1e6,
        "network_transmit_megabytes": sum(counters.bytes_sent for counters in outward) / 1e6,
    }
