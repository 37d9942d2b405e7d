"""What the doctor finds of shards, pictures, MLflow and Slurm."""

import http.server
import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
from findings import NOTHING_ASKED, one, write_command

from pipeline.artifacts import ShardSet
from pipeline.launch.doctor import slurm
from pipeline.launch.doctor.reading import look_at_data, look_at_source
from pipeline.launch.doctor.server import look_at_mlflow
from pipeline.options import DoctorConfig
from pipeline.tracking import mask

# --- shards and pictures


def test_every_shard_that_is_missing_or_cut_short_is_counted(shard_set: ShardSet, tmp_path: Path):
    damaged = shutil.copytree(shard_set.path, tmp_path / "set")
    first, second, *_ = sorted((damaged / "train").glob("*.tar"))
    first.unlink()
    os.truncate(second, 1000)
    (found,) = look_at_data(DoctorConfig(data=damaged))
    assert (found.status, found.found) == ("ill", f"{damaged}: 2 missing or cut short: {first} …")
    assert "alexnet preprocess repair" in found.advice


def test_a_changed_dataset_json_is_found_with_its_advice(shard_set: ShardSet, tmp_path: Path):
    changed = shutil.copytree(shard_set.path, tmp_path / "set")
    text = (changed / "dataset.json").read_text()
    (changed / "dataset.json").write_text(text.replace('"num_dropped": 0', '"num_dropped": 1'))
    (found,) = look_at_data(DoctorConfig(data=changed))
    assert "does not match its own digest" in found.found
    assert found.advice == "restore it"


def test_a_source_without_pictures_is_found(pictures: Path, tmp_path: Path):
    assert one(look_at_source(DoctorConfig(source=pictures)), "source").measured["bytes_per_second"] > 0
    assert one(look_at_source(DoctorConfig(source=tmp_path)), "source").status == "ill"
    found = one(look_at_source(DoctorConfig(source=tmp_path / "nowhere")), "source")
    assert found.found == f"{tmp_path / 'nowhere'} does not exist"


# --- MLflow


@pytest.fixture
def own_environment(monkeypatch) -> None:
    """What the look sets for its process is undone."""
    for name in (
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
        "MLFLOW_HTTP_REQUEST_TIMEOUT",
        "PGCONNECT_TIMEOUT",
    ):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


class Guarded(http.server.BaseHTTPRequestHandler):
    """Well by `/health`, and closed to everybody by its API, as MLflow is to names that it does not know."""

    def do_GET(self) -> None:
        self._answer(200, b"OK")

    def do_POST(self) -> None:
        self._answer(403, b"Invalid Host header - possible DNS rebinding attack detected")

    def _answer(self, code: int, text: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_only_its_health_route_calls_well_is_ill(own_environment):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever).start()
        uri = f"http://someone:secret@127.0.0.1:{server.server_port}"
        found = one(look_at_mlflow(DoctorConfig(tracking_uri=uri)), "MLflow server")
        server.shutdown()
    assert (found.status, found.advice) == ("ill", "start it with --allowed-hosts naming this address")
    assert "Invalid Host header" in found.found
    assert "secret" not in found.found


def test_a_port_without_a_server_is_found(own_environment, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        found = one(look_at_mlflow(NOTHING_ASKED), "MLflow server")
    assert found.status == "ill"
    assert found.found.endswith(": [Errno 111] Connection refused")


def test_an_sqlite_file_is_opened_but_not_made(own_environment, finished_run: Path, tmp_path: Path):
    new = DoctorConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert one(look_at_mlflow(new), "MLflow server").status == "skipped"
    assert list(tmp_path.iterdir()) == []
    there = DoctorConfig(tracking_uri=f"sqlite:///{finished_run.parent}/mlflow.db")
    assert one(look_at_mlflow(there), "MLflow server").status == "well"


def test_an_sqlite_file_on_a_network_s_disk_is_warned_of(own_environment, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("pipeline.launch.doctor.server.find_file_system", lambda _: "nfs4")
    found = one(look_at_mlflow(DoctorConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")), "MLflow server")
    assert (found.status, found.found) == ("ill", f"{tmp_path}/mlflow.db lies on nfs4, where sqlite loses data")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:p/hunter2@h:9", "http://h:9"),
        ("http://me:p@hunter2@h", "http://h"),
        ("postgresql://h/db?user=me&password=hunter2", "postgresql://h/db"),
        ("postgresql://me:hunter2?@h/db", "postgresql://h/db"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
    ],
)
def test_no_password_is_shown_however_it_is_written(uri: str, shown: str):
    assert mask(uri) == shown


@pytest.mark.parametrize(
    ("uri", "found", "advice"),
    [
        ("nosuch://me:hunter2@h/db", "nosuch://h/db: ", "start it"),
        ("http://me:p/hunter2@127.0.0.1:9", "http://127.0.0.1:9: ", "start it"),
        (
            "postgresql+pg8000://me:hunter2@h/db",
            "postgresql+pg8000://h/db: No module named 'pg8000'",
            "install that driver",
        ),
    ],
)
def test_a_server_that_cannot_be_asked_is_told_of_without_its_password(own_environment, uri, found, advice):
    told = one(look_at_mlflow(DoctorConfig(tracking_uri=uri)), "MLflow server")
    assert told.status == "ill"
    assert told.found.startswith(found)
    assert told.advice.startswith(advice)
    assert "hunter2" not in told.found + told.advice


def test_mlflow_which_tries_for_minutes_is_not_asked_about_a_database_that_lets_nobody_in(own_environment, monkeypatch):
    pytest.importorskip("psycopg2", reason="the extra `server` of pyproject.toml is not installed")
    monkeypatch.setattr("mlflow.MlflowClient", None)
    uri = DoctorConfig(tracking_uri="postgresql+psycopg2://me:hunter2@127.0.0.1:1/db")
    found = one(look_at_mlflow(uri), "MLflow server").found
    assert found.startswith("postgresql+psycopg2://127.0.0.1:1/db: (psycopg2.OperationalError) ")
    assert "Connection refused" in found


def test_an_sqlite_file_below_another_file_is_told_of(own_environment, tmp_path: Path):
    (tmp_path / "file").touch()
    found = one(look_at_mlflow(DoctorConfig(tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db")), "MLflow server")
    assert (found.status, found.found) == ("ill", f"{tmp_path}/file: Not a directory")


# --- Slurm, whose answers are those of a real one in tests/slurm


def test_a_machine_without_slurm_is_no_worse_for_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [found.status for found in slurm.look_at_slurm(NOTHING_ASKED)] == ["skipped"]


def test_a_controller_that_does_not_answer_is_given_up_soon(tmp_path: Path, monkeypatch):
    write_command(tmp_path, "sbatch")
    write_command(tmp_path, "scontrol", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.5)
    (found,) = slurm.look_at_slurm(NOTHING_ASKED)
    assert (found.status, found.found) == ("ill", "`scontrol` did not answer within 0.5 seconds")


CONFIGURATION = (
    "cat <<END\nClusterName             = test\nGresTypes               = gpu\nSLURM_VERSION           = 22.05.8\nEND"
)


@pytest.fixture
def pretended_slurm(tmp_path: Path, monkeypatch) -> Path:
    """A controller that answers, and takes every job; `said` is what sbatch was told."""
    folder = tmp_path / "bin"
    write_command(folder, "scontrol", CONFIGURATION)
    write_command(folder, "sinfo", "echo 'gpu|up|1-00:00:00|OFF|2|idle|64|gpu:h100:4(S:0-1)'")
    write_command(folder, "sbatch", f'echo "$SBATCH_PARTITION $*" > {tmp_path}/said')
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "ALEXNET_", "GPU_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("ALEXNET_HOME", str(Path(__file__).parents[2]))
    monkeypatch.setenv("ALEXNET_SITE", str(tmp_path / "site.env"))
    return tmp_path


@pytest.mark.parametrize(
    ("site", "told"),
    [
        ("SBATCH_PARTITION=gpu\n", "gpu --test-only"),
        ("SBATCH_PARTITION=gpu\nGPU_TYPE=h100\n", "gpu --test-only --gres=gpu:h100:2"),
        ("GPU_REQUEST=gpus-per-node\n", "--test-only --gres=none --gpus-per-node=2"),
    ],
)
def test_slurm_judges_a_training_with_what_the_site_asks_for(site: str, told: str, pretended_slurm: Path):
    (pretended_slurm / "site.env").write_text(site)
    findings = list(slurm.look_at_slurm(NOTHING_ASKED))
    assert one(findings, "site.env").status == "well"
    said = (pretended_slurm / "said").read_text().split()
    assert " ".join(said[:-1]) == told
    assert said[-1].endswith("slurm/train.sbatch")
    assert one(findings, "partition gpu").found == "2 nodes (2 idle) of 64 cores and gpu:h100:4, up to 1-00:00:00"


def test_a_training_that_slurm_refuses_and_a_site_file_that_is_missing_are_told_of(pretended_slurm: Path):
    assert one(slurm.look_at_slurm(NOTHING_ASKED), "site.env").found.endswith("which ALEXNET_SITE names, is not there")
    (pretended_slurm / "site.env").touch()
    write_command(
        pretended_slurm / "bin", "sbatch", "echo 'sbatch: error: allocation failure: Invalid account' >&2; exit 1"
    )
    found = one(slurm.look_at_slurm(NOTHING_ASKED), "site.env")
    assert found.status == "ill"
    assert found.found.endswith("Slurm refuses `sbatch slurm/train.sbatch`: allocation failure: Invalid account")


def test_within_a_job_slurm_is_not_asked_for_another(pretended_slurm: Path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert [found.subject for found in slurm.look_at_slurm(NOTHING_ASKED)] == ["Slurm", "partition gpu"]


@pytest.mark.parametrize(
    ("available", "states", "status"),
    [
        ("up", ("idle", "down*"), "well"),
        ("up", ("down*", "drain"), "skipped"),
        ("up", ("idle*",), "skipped"),
        ("down", ("idle",), "skipped"),
    ],
)
def test_a_partition_takes_work_if_it_is_up_and_so_is_one_of_its_nodes(available, states, status):
    rows = [["gpu", available, "infinite", "OFF", "1", state, "64", "(null)"] for state in states]
    assert slurm.describe_partition("gpu", rows).status == status
