"""The load of nodes: measured for real, beside the journal, and at MLflow under the prefix that its page knows."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow_server import MlflowServer, wait_until
from tracked_runs import read_journal_points, read_points

from pipeline.artifacts import RunDirectory
from pipeline.tracking import Journal, sync_run, system
from pipeline.tracking.system import NetworkMonitor, name_node, watch_machine


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(system, "SAMPLE_SECONDS", 0.02)


def watch_for(run: RunDirectory, num_lines: int, *, node: str = "node1") -> None:
    """Watch until there are so many more lines."""
    journal = Journal(run.system / f"{node}.jsonl")
    expected = len(journal.read()) + num_lines
    with watch_machine(run, node=node):
        wait_until(lambda: len(journal.read()) >= expected, "lines")


def test_lines_hold_the_load_and_count_on_after_a_restart(tmp_path: Path):
    run = RunDirectory(tmp_path)
    watch_for(run, 2)
    with (run.system / "node1.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "epo')  # killed while it wrote
    watch_for(run, 2)
    entries = Journal(run.system / "node1.jsonl").read()
    assert [entry.step for entry in entries] == list(range(len(entries)))
    assert len(entries) >= 4
    for entry in entries:
        load = entry.metrics
        assert 0 < load["system_memory_usage_percentage"] < 100
        assert load["system_memory_usage_megabytes"] > 100
        assert 0 <= load["cpu_utilization_percentage"] <= 100
        assert load["disk_available_megabytes"] > 0
        assert load["network_receive_megabytes"] >= 0


def test_a_line_is_the_mean_of_its_samples_and_the_last_one_of_those_left(tmp_path: Path, monkeypatch):
    class Counting:
        def __init__(self):
            self.samples, self.value = [], 0

        def collect_metrics(self):
            self.value += 1
            self.samples.append(self.value)
            if self.value == 8:
                stop.set()

        def aggregate_metrics(self):
            return {"value": sum(self.samples) / len(self.samples)}

        def clear_metrics(self):
            self.samples.clear()

    stop = threading.Event()
    monkeypatch.setattr(system, "start_monitors", lambda: [Counting()])
    journal = Journal(tmp_path / "node1.jsonl")
    system.record_load(journal, stop)
    assert [entry.metrics["value"] for entry in journal.read()] == [3.5, 7.5]


def test_what_processes_of_a_node_tell_each_other_is_no_network_load():
    megabytes = 64
    monitor = NetworkMonitor()
    before = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as near:
        far, _ = listening.accept()
        for _ in range(megabytes):
            near.sendall(bytes(500_000))
            received = 0
            while received < 500_000:
                received += len(far.recv(500_000))
        far.close()
    assert psutil.net_io_counters(pernic=True)["lo"].bytes_sent - before >= megabytes * 500_000
    monitor.collect_metrics()
    assert 0 <= monitor.aggregate_metrics()["network_transmit_megabytes"] < megabytes / 4


def test_the_network_load_is_that_of_all_interfaces_that_lead_elsewhere(monkeypatch):
    def count(*numbers: int) -> dict[str, SimpleNamespace]:
        names = ("lo", "ib0", "eth0", "new")
        return {
            name: SimpleNamespace(bytes_recv=number * 1_000_000, bytes_sent=number * 2_000_000)
            for name, number in zip(names, numbers, strict=False)
        }

    flags = {"lo": "up,loopback,running", "ib0": "up,running", "eth0": "up,broadcast"}
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {k: SimpleNamespace(flags=v) for k, v in flags.items()})
    now = count(100, 10, 1)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: now)
    monitor = NetworkMonitor()
    now = count(900, 40, 3, 5)
    monitor.collect_metrics()
    monitor.clear_metrics()
    assert monitor.aggregate_metrics() == {"network_receive_megabytes": 37.0, "network_transmit_megabytes": 74.0}


def test_what_cannot_be_measured_or_written_ends_in_a_sentence_and_the_training_goes_on(tmp_path: Path, capsys):
    (tmp_path / "system").write_text("a file where the folder belongs")
    said = list[str]()
    with watch_machine(RunDirectory(tmp_path), node="node1"):
        wait_until(lambda: said.append(capsys.readouterr().out) or any(said), "a sentence")
    (sentence,) = filter(None, said)
    assert sentence.startswith("tracking: the load of node1 is not recorded any more (")
    assert sentence.count("\n") == 1


def test_a_file_system_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch):
    hanging, released = threading.Event(), threading.Event()

    def hang(*words, **more):
        hanging.set()
        released.wait()

    monkeypatch.setattr(Journal, "append", hang)
    monkeypatch.setattr(system, "END_SECONDS", 0.1)
    with watch_machine(RunDirectory(tmp_path), node="node1"):
        assert hanging.wait(60)
        ended = time.monotonic()
    assert time.monotonic() - ended < 10
    released.set()


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("node-1.cluster_a", "node-1.cluster_a"),
        ("../../etc", "etc"),
        ("a b/ü", "a-b"),
        ("..", "node"),
        (".hidden", "hidden"),
    ],
)
def test_names_of_nodes_fit_files_and_metrics(node: str, name: str):
    assert name_node(node) == name


def test_mlflow_has_each_nodes_load_under_its_name(server: MlflowServer, run: RunDirectory):
    watch_for(run, 2, node="node1")
    watch_for(run, 1, node="node2.cluster")
    delivery = sync_run(run)
    watch_for(run, 1, node="node1")
    assert sync_run(run).run_id == delivery.run_id
    found = read_points(server.database, delivery.run_id)
    expected = read_journal_points(run)
    for node in ("node1", "node2.cluster"):
        for entry in Journal(run.system / f"{node}.jsonl").read():
            for key, value in entry.metrics.items():
                expected[f"system/{node}/{key}", entry.step, value] += 1
    assert found == expected
