"""What compose.yaml promises; and its MLflow for real, on a PostgreSQL of this machine, with the file's own words."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml
from mlflow import MlflowClient

from pipeline.artifacts import RunDirectory
from pipeline.options import SyncConfig
from pipeline.tracking.catch_up import catch_up
from pipeline.tracking.models import name_registered_model

ROOT = Path(__file__).parents[2]
SECRETS = {
    "POSTGRES_PASSWORD": "p@ss:word/%20",
    "MLFLOW_TRACKING_PASSWORD": "a pass:word@/%20",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
}
EXPERIMENTS = "/api/2.0/mlflow/experiments"
SEARCH = f"{EXPERIMENTS}/search?max_results=1"


def read_services(variables: dict[str, str]) -> dict[str, Any]:
    """The services, with `${NAME}`, `${NAME:-default}` and `${NAME:?sentence}` as Compose would read them."""

    def look_up(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if operator == ":?" and not variables.get(name):
            raise KeyError(f"{name}: {rest}")
        return variables.get(name) or rest or ""

    text = (ROOT / "docker/compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", look_up, text))["services"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named_with_what_to_set_it_to(name: str) -> None:
    with pytest.raises(KeyError, match=f"{name}: set it to a"):
        read_services({key: value for key, value in SECRETS.items() if key != name})


def test_nothing_is_open_beyond_this_machine_by_default() -> None:
    ports = [port for service in read_services(SECRETS).values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]


def test_training_waits_for_an_mlflow_that_answers_and_that_for_its_database() -> None:
    services = read_services(SECRETS)
    assert services["train"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]
    assert "/api/2.0/mlflow/" in services["mlflow"]["healthcheck"]["test"][-1]


def test_training_has_gpus_and_logs_in_as_the_user_that_the_server_makes() -> None:
    services = read_services(SECRETS)
    (device,) = services["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    trained, served = services["train"]["environment"], services["mlflow"]["environment"]
    assert trained["MLFLOW_TRACKING_PASSWORD"] == served["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert f"admin_username = {trained['MLFLOW_TRACKING_USERNAME']}" in (ROOT / "docker/basic_auth.ini").read_text()
    host = trained["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert any(host in word.split("=")[-1].split(",") for word in services["mlflow"]["command"])


def test_what_is_built_from_can_be_pinned_from_the_environment() -> None:
    arguments = read_services(SECRETS)["train"]["build"]["args"]
    declared = re.findall(r"^ARG (\w+)=", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert set(arguments) == set(declared) - {"UID"}
    pinned = "postgres@sha256:1234"
    assert read_services(SECRETS | {"POSTGRES_IMAGE": pinned})["postgres"]["image"] == pinned


def test_foreign_images_have_a_full_version() -> None:
    image = read_services(SECRETS)["postgres"]["image"]
    assert re.fullmatch(r"docker\.io/library/postgres:\d+\.\d+-bookworm", image)


class Postgres:
    """A server on a socket in a folder of its own, asking for a password."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root

    def run(self, name: str, *words: str) -> None:
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": SECRETS["POSTGRES_PASSWORD"], "LC_ALL": "C"}
        command = [self.binaries / name, *words]
        # files instead of pipes, for a server that stays would keep them open
        with (self.folder / "log").open("a") as log:
            subprocess.run(command, check=True, user=self.user, env=environment, stdout=log, stderr=log, cwd="/")

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(SECRETS["POSTGRES_PASSWORD"])
        words = ("--auth=scram-sha-256", "--username=mlflow", f"--pwfile={password}", "--no-sync")
        self.run("initdb", f"--pgdata={self.folder / 'data'}", *words)
        self.start()
        self.run("createdb", f"--host={self.folder}", "--username=mlflow", "mlflow")

    def start(self) -> None:
        options = f"-F -c listen_addresses= -k {self.folder}"
        self.run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-o", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / "data"))


class Server(NamedTuple):
    """MLflow as compose.yaml starts it, but for folder, address, port and number of workers."""

    url: str
    environment: dict[str, str]
    postgres: Postgres

    def run_health_check(self) -> int:
        """Exit code of the file's own health check."""
        *_, program = read_services(SECRETS)["mlflow"]["healthcheck"]["test"]
        program = program.replace("http://127.0.0.1:5000", self.url)
        words = [sys.executable, "-c", program]
        return subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    found = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("ALEXNET_REQUIRE_POSTGRESQL") else pytest.skip
        refuse("PostgreSQL is not installed; on Debian `apt-get install postgresql` brings it")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="alexnet-") as name:  # a socket's path has at most 107 bytes
        server = Postgres(Path(name), Path(found).resolve().parent)
        if server.user:
            shutil.chown(name, server.user)
        server.create()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for module in ("psycopg2", "flask_wtf"):
        if not os.environ.get("ALEXNET_REQUIRE_POSTGRESQL"):
            pytest.importorskip(module, reason="the extra `server` of pyproject.toml is not installed")
    folder = tmp_path_factory.mktemp("mlflow")
    service = read_services(SECRETS)["mlflow"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "--workers=2": "--workers=1",
        "--artifacts-destination=/mlartifacts": f"--artifacts-destination={folder / 'mlartifacts'}",
    }
    assert ours.keys() <= set(service["command"])
    environment = os.environ | service["environment"]
    environment |= {
        "PGHOST": str(postgres.folder),
        "MLFLOW_AUTH_CONFIG_PATH": str(ROOT / "docker/basic_auth.ini"),
        "PYTHONWARNINGS": "ignore",
    }
    words = [sys.executable, "-m", *(ours.get(word, word) for word in service["command"])]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, env=environment, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, folder / "log")
        yield Server(url, environment, postgres)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers anything."""
    for _ in range(600):
        try:
            requests.get(url + SEARCH, timeout=10)
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_client_with_the_password_leaves_metrics_and_files_in_the_database(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import artifacts

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRETS["MLFLOW_TRACKING_PASSWORD"])
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient(server.url)
    run_id = client.create_run(client.create_experiment("source-2012")).info.run_id
    client.log_metric(run_id, "train/loss", 6.9, step=20)
    (tmp_path / "config.json").write_text("{}")
    client.log_artifact(run_id, str(tmp_path / "config.json"), "figures")
    found = artifacts.download_artifacts(
        run_id=run_id, artifact_path="figures/config.json", dst_path=str(tmp_path / "back"), tracking_uri=server.url
    )
    assert Path(found).read_text() == "{}"
    assert client.get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:")
    (point,) = client.get_metric_history(run_id, "train/loss")
    assert (point.value, point.step) == (6.9, 20)


@pytest.mark.slow
@pytest.mark.parametrize("login", [None, ("admin", "not the password"), ("somebody", "a pass:word@/%20")])
def test_nobody_else_reads_or_writes(server: Server, login: tuple[str, str] | None) -> None:
    assert requests.get(server.url + SEARCH, auth=login, timeout=30).status_code == 401
    created = requests.post(f"{server.url}{EXPERIMENTS}/create", json={"name": "x"}, auth=login, timeout=30)
    assert created.status_code == 401


@pytest.mark.slow
def test_a_page_elsewhere_cannot_talk_to_it_through_a_browser(server: Server) -> None:
    login = ("admin", SECRETS["MLFLOW_TRACKING_PASSWORD"])
    headers = {"Host": "elsewhere.example.org"}
    assert requests.get(server.url + SEARCH, auth=login, headers=headers, timeout=30).status_code == 403
    headers = {"Host": "mlflow:5000"}
    assert requests.get(server.url + SEARCH, auth=login, headers=headers, timeout=30).status_code == 200
    headers = {"Origin": "https://elsewhere.example.org"}
    created = requests.post(
        f"{server.url}{EXPERIMENTS}/create", json={"name": "x"}, auth=login, headers=headers, timeout=30
    )
    assert created.status_code == 403


@pytest.mark.slow
def test_health_fails_without_a_database_though_slash_health_says_ok(server: Server) -> None:
    assert server.run_health_check() == 0
    server.postgres.stop()
    try:
        assert requests.get(server.url + "/health", timeout=30).text == "OK"
        assert server.run_health_check() != 0
    finally:
        server.postgres.start()


@pytest.fixture
def run_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory with twenty steps and two checkpoints, the first of them evaluated."""
    monkeypatch.syspath_prepend(ROOT / "tests/tracking")
    from tracked_runs import add_evaluation, make_run

    run = make_run(tmp_path / "run", num_lines=20)
    run.checkpoints.mkdir()
    for step in (10, 20):
        (run.checkpoints / f"step-{step:08d}.pt").touch()
    add_evaluation(run, step=10, num_errors=3)
    return run.path


def post_as_admin(server: Server, route: str, **words: str) -> None:
    """Ask the server for something that admin may do."""
    login = ("admin", SECRETS["MLFLOW_TRACKING_PASSWORD"])
    requests.post(f"{server.url}/api/{route}", json=words, auth=login, timeout=30).raise_for_status()


def log_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    """What the comments of compose.yaml tell a colleague to export."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def count_points(server: Server, run_id: str) -> Counter[tuple[str, int, float]]:
    """How often the server holds each point of a run."""
    client = MlflowClient(server.url)
    keys = client.get_run(run_id).data.metrics
    points = (point for key in keys for point in client.get_metric_history(run_id, key))
    return Counter((point.key, point.step, point.value) for point in points)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # errors far above 1 leave a figure no room
def test_a_colleague_brings_a_run_over_exactly_once_and_others_need_their_permission(
    server: Server,
    run_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from tracked_runs import add_evaluation, append_lines, read_journal_points, read_run_id

    run = RunDirectory(run_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    for name in ("trainer", "reader"):
        post_as_admin(server, "2.0/mlflow/users/create", username=name, password=name * 2)
    log_in(monkeypatch, "trainer", "trainer" * 2)
    assert catch_up(SyncConfig(runs=(run_path,)))
    (run_path / "mlflow.json").unlink()
    append_lines(run, 1, first=21)
    assert catch_up(SyncConfig(runs=(run_path,)))
    assert count_points(server, read_run_id(run)) == read_journal_points(run)

    append_lines(run, 1, first=22)
    log_in(monkeypatch, "reader", "reader" * 2)
    capfd.readouterr()
    assert not catch_up(SyncConfig(runs=(run_path,)))
    said = "".join(capfd.readouterr())
    assert said.count("\n") == 1, said
    assert said.startswith(f"tracking: MLflow at {server.url} did not take the metrics (")
    assert "Permission denied" in said
    assert "readerreader" not in said

    number = MlflowClient(server.url).get_experiment_by_name(run.read_record().experiment).experiment_id
    for kind, name in (("experiment", number), ("registered_model", name_registered_model(run.read_record()))):
        words = {"username": "reader", "resource_type": kind, "resource_id": name, "permission": "EDIT"}
        post_as_admin(server, "3.0/mlflow/users/permissions/grant", **words)
    add_evaluation(run, step=20, num_errors=2)
    assert catch_up(SyncConfig(runs=(run_path,)))
    assert count_points(server, read_run_id(run)) == read_journal_points(run)
    (best,) = MlflowClient(server.url).search_registered_models(f"name = '{name}'")
    assert best.aliases == {"best": "2"}
