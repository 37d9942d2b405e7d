"""The journal, and what MLflow has of it: real sqlite stores, a real server, and a server that is not there."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.artifacts import RunDirectory
from pipeline.experiments import flatten
from pipeline.tracking import Journal, feed_mlflow, find_tracking_uri, sync_or_warn, sync_run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run that MLflow has not seen."""
    copy = RunDirectory(tmp_path / "run")
    copy.path.mkdir()
    for file in finished_run.rglob("*"):
        if file.is_file() and file.name != "mlflow.json" and file.suffix != ".pt":
            target = copy.path / file.relative_to(finished_run)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


def read_points(uri: str, run_id: str) -> dict[str, dict[int, list[float]]]:
    """Every point that MLflow holds of a run: metric → step → values."""
    client = MlflowClient(tracking_uri=uri)
    points: dict[str, dict[int, list[float]]] = {}
    for key in client.get_run(run_id).data.metrics:
        for metric in client.get_metric_history(run_id, key):
            points.setdefault(key, {}).setdefault(metric.step, []).append(metric.value)
    return points


def read_journal_points(run: RunDirectory) -> dict[str, dict[int, list[float]]]:
    """The same of the journal, each step once; `epoch` beside every metric."""
    points: dict[str, dict[int, list[float]]] = {}
    for entry in Journal(run.journal).read():
        for key, value in (entry.metrics | {"epoch": entry.epoch}).items():
            points.setdefault(key, {}).setdefault(entry.step, [value])
    return points


def test_journal_gives_back_what_was_appended(tmp_path):
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    assert journal.read() == []
    journal.append(step=3, epoch=0.5, metrics={"train/loss": 1.25})
    journal.append(step=6, epoch=1.0, metrics={"train/loss": 0.75, "val/top1_error": 0.5})
    assert [(entry.step, entry.epoch, entry.metrics) for entry in journal.read()] == [
        (3, 0.5, {"train/loss": 1.25}),
        (6, 1.0, {"train/loss": 0.75, "val/top1_error": 0.5}),
    ]


def test_journal_passes_over_a_line_that_a_crash_cut_short_and_keeps_the_next(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(step=1, epoch=0.1, metrics={"train/loss": 2.0})
    with journal.path.open("ab") as file:
        file.write(b'{"step": 2, "epo')
    journal.append(step=3, epoch=0.3, metrics={"train/loss": 1.0})
    assert [entry.step for entry in journal.read()] == [1, 3]


def test_of_a_step_that_occurs_twice_the_later_line_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for step, value in ((1, 5.0), (2, 4.0), (1, 3.0)):
        journal.append(step=step, epoch=step / 2, metrics={"train/loss": value})
    assert [(entry.step, value) for entry, value in journal.read_metric("train/loss")] == [(1, 3.0), (2, 4.0)]


def test_training_and_evaluation_brought_every_point_to_mlflow_once(finished_run: Path):
    run = RunDirectory(finished_run)
    uri = f"sqlite:///{finished_run.parent / 'mlflow.db'}"
    (delivery,) = json.loads((finished_run / "mlflow.json").read_text())
    assert delivery["server"] == uri
    assert read_points(uri, delivery["run_id"]) == read_journal_points(run)


def test_mlflow_has_configuration_tags_and_pictures(run: RunDirectory):
    delivery = sync_run(run, status="FINISHED")
    client = MlflowClient(tracking_uri=delivery.server)
    found = client.get_run(delivery.run_id)
    assert found.data.params == {name: str(value) for name, value in flatten(run.read_record().config)}
    assert found.info.status == "FINISHED"
    assert found.data.tags["status"] == "modified"
    assert found.data.tags["commit"] == run.read_record().starts[0].format_commit()
    artifacts = {file.path for file in client.list_artifacts(delivery.run_id)}
    assert artifacts == {"config.json", "figures", "predictions"}
    assert [file.path for file in client.list_artifacts(delivery.run_id, "figures")] == ["figures/conv1.png"]


def test_syncing_again_and_after_new_lines_doubles_nothing(run: RunDirectory):
    first = sync_run(run)
    again = sync_run(run)
    assert again == first
    Journal(run.journal).append(step=99, epoch=9.0, metrics={"train/loss": 0.5})
    Journal(run.journal).append(step=99, epoch=9.0, metrics={"train/loss": 0.4})  # as after a resume
    last = sync_run(run)
    assert last.run_id == first.run_id
    points = read_points(last.server, last.run_id)
    assert points == read_journal_points(run)
    assert points["train/loss"][99] == [0.5]


def test_the_usual_variable_names_the_server(run: RunDirectory, tmp_path: Path, monkeypatch):
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    assert find_tracking_uri(run) == elsewhere
    there = sync_run(run)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    here = sync_run(run)
    assert here.run_id != there.run_id
    assert read_points(elsewhere, there.run_id) == read_points(here.server, here.run_id)


def test_a_server_that_is_not_there_costs_a_sentence_at_both_ends_and_no_metric(run: RunDirectory, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with feed_mlflow(run):
            Journal(run.journal).append(step=99, epoch=9.0, metrics={"train/loss": 0.5})
        assert not sync_or_warn(run, warn=False)
    said = capsys.readouterr().out
    assert said.count("\n") == said.count(f"alexnet sync {run.path}") == 2
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    delivery = sync_run(run)
    assert read_points(delivery.server, delivery.run_id)["train/loss"][99] == [0.5]


def test_a_failed_stage_leaves_a_failed_run(run: RunDirectory):
    with pytest.raises(ZeroDivisionError), feed_mlflow(run):
        raise ZeroDivisionError
    delivery = sync_run(run)
    assert MlflowClient(tracking_uri=delivery.server).get_run(delivery.run_id).info.status == "FAILED"


@pytest.fixture
def mlflow_server(finished_run: Path) -> Iterator[str]:
    """`make mlflow` on the finished run; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "--silent", "mlflow", f"PY={sys.executable}", f"RUNS={finished_run.parent}", f"PORT={port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


@pytest.mark.slow
def test_make_mlflow_serves_the_run_with_its_metrics(mlflow_server: str, finished_run: Path):
    request = urllib.request.Request(
        f"{mlflow_server}/api/2.0/mlflow/runs/get?run_id="
        + json.loads((finished_run / "mlflow.json").read_text())[0]["run_id"]
    )
    for _ in range(120):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                found = json.load(answer)["run"]
            break
        except OSError:
            time.sleep(0.5)
    keys = Counter(metric["key"] for metric in found["data"]["metrics"])
    assert keys["val/ten_top1_error"] == 1
    assert found["info"]["status"] == "FINISHED"
