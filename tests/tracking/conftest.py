"""One MLflow server for all tests of tracking, and run directories for them."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import MlflowServer, Proxy
from tracked_runs import make_run

from pipeline.artifacts import RunDirectory
from pipeline.tracking.server import connect, name_database


@pytest.fixture(autouse=True)
def _no_server_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sqlite file with MLflow's tables, whose making takes seconds. Read only."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    connect(name_database(path))
    return path


@pytest.fixture(scope="session")
def running_server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), empty_database)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(running_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """A real server that MLFLOW_TRACKING_URI names. It has seen other tests."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_server.uri)
    return running_server


@pytest.fixture
def proxy(running_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which MLFLOW_TRACKING_URI names."""
    with Proxy(running_server) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        yield proxy
        proxy.closing.set()
        proxy.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path, empty_database: Path) -> RunDirectory:
    """A run directory that MLflow has not seen, with an empty sqlite file beside it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return make_run(tmp_path / "run")
