"""What a real training and a real evaluation left at MLflow, and `make mlflow` that shows it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow_server import SEARCH, find_free_port, wait_until
from test_content import list_artifacts
from tracked_runs import read_journal_points, read_points, read_run_id

from pipeline.artifacts import RunDirectory, list_steps
from pipeline.tracking.server import connect, name_database


def read_training_points(run: RunDirectory):
    """All points at MLflow that are not those of a node."""
    found = read_points(run.path.parent / "mlflow.db", read_run_id(run))
    return {point: count for point, count in found.items() if not point[0].startswith("system/")}


def test_training_and_evaluation_brought_every_point_to_mlflow_once(finished_run: Path):
    run = RunDirectory(finished_run)
    assert read_training_points(run) == read_journal_points(run)


def test_training_and_evaluation_brought_files_and_models(finished_run: Path):
    run = RunDirectory(finished_run)
    client, run_id = connect(name_database(finished_run.parent / "mlflow.db")), read_run_id(run)
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    artifacts = list_artifacts(client, run_id)
    assert {"config.json", "dataset.json", "journal.jsonl", "figures/conv1.png", "figures/curves.svg"} <= artifacts
    assert {str(path.relative_to(run.path)) for path in run.predictions.iterdir()} <= artifacts
    models = client.search_logged_models([found.info.experiment_id], f"source_run_id = '{run_id}'")
    assert {model.name for model in models} == {f"step-{step}" for step in list_steps(run.checkpoints)}


@pytest.fixture
def address(finished_run: Path, tmp_path: Path) -> Iterator[str]:
    """`make mlflow` on the finished run, by a name with a space; its address."""
    port, runs = find_free_port(), tmp_path / "two words"
    runs.symlink_to(finished_run.parent)
    command = ["make", "--silent", "mlflow", f"PY={sys.executable}", f"RUNS={runs}", f"PORT={port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def answers() -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}{SEARCH}", timeout=30).status == 200
        except OSError:
            return False

    try:
        wait_until(answers, "make mlflow")
        names = {" ".join(process.cmdline()) for process in psutil.Process(server.pid).children(recursive=True)}
        assert not [name for name in names if "mlflow.server.jobs" in name or "huey" in name]
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.mark.slow
def test_make_mlflow_serves_the_run_with_its_metrics_and_artifacts(address: str, finished_run: Path):
    run_id = read_run_id(RunDirectory(finished_run))
    with urllib.request.urlopen(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=60) as answer:
        found = json.load(answer)["run"]
    assert "val/ten_top1_error" in {metric["key"] for metric in found["data"]["metrics"]}
    page = f"{address}/get-artifact?path=figures/conv1.png&run_uuid={run_id}"
    with urllib.request.urlopen(page, timeout=60) as answer:
        assert answer.read() == (finished_run / "figures" / "conv1.png").read_bytes()
