"""Nothing leaves a run directory that is not the run's, no password is said or kept, and a refusal is a sentence."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import run_command
from mlflow import MlflowClient
from mlflow_server import MlflowServer, Proxy
from test_content import list_artifacts
from tracked_runs import add_evaluation, make_run

from pipeline.artifacts import RunDirectory
from pipeline.errors import RunError
from pipeline.tracking import mask, sync_or_warn, sync_run

ELSEWHERE = "of somebody else"


def test_what_links_point_to_stays_where_it_is(server: MlflowServer, run: RunDirectory, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(ELSEWHERE)
    (run.figures / "linked.png").symlink_to(outside / "secret.txt")
    (run.figures / "folder").symlink_to(outside)
    (run.figures / "deep").mkdir()
    (run.figures / "deep" / "linked.png").symlink_to(outside / "secret.txt")
    (run.figures / ".hidden.tmp").write_text("half written")
    run.predictions.symlink_to(outside)
    (run.path / "damaged.json").symlink_to(outside / "secret.txt")
    delivery = sync_run(run)
    found = list_artifacts(MlflowClient(server.uri), delivery.run_id)
    assert found == {"config.json", "dataset.json", "journal.jsonl", "figures/conv1.png"}


def test_a_journal_or_a_load_that_is_a_link_is_not_read(server: MlflowServer, run: RunDirectory, tmp_path: Path):
    other = make_run(tmp_path / "other")
    run.system.mkdir()
    (run.system / "node1.jsonl").symlink_to(other.journal)
    delivery = sync_run(run)
    assert not any(key.startswith("system/") for key in MlflowClient(server.uri).get_run(delivery.run_id).data.metrics)


def test_a_run_that_is_reached_by_a_link_is_whole(server: MlflowServer, run: RunDirectory, tmp_path: Path):
    linked = RunDirectory(tmp_path / "latest")
    linked.path.symlink_to(run.path)
    delivery = sync_run(linked)
    found = list_artifacts(MlflowClient(server.uri), delivery.run_id)
    assert found == {"config.json", "dataset.json", "journal.jsonl", "figures/conv1.png"}


def read_all(folder: Path) -> bytes:
    """Everything in the files below a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_password_in_the_address_is_used_and_neither_kept_nor_said(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch, capfd
):
    password = "s3cr%40t"  # noqa: S105 - of this test
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri.replace("://", f"://somebody:{password}@"))
    assert sync_or_warn(run, status="FINISHED")
    proxy.mode = 403
    assert not sync_or_warn(run)
    proxy.mode = "silent"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    assert not sync_or_warn(run)
    said = "".join(capfd.readouterr())
    assert said.count(f"tracking: MLflow at {proxy.uri} did not take the metrics") == 2
    kept = read_all(run.path) + read_all(server.artifacts) + server.database.read_bytes()
    for text in (said.encode(), kept):
        assert password.encode() not in text
        assert b"somebody" not in text
    assert proxy.uri in (run.path / "mlflow.json").read_text()


@pytest.mark.slow
def test_a_database_that_is_not_there_is_named_without_its_password(run: RunDirectory):
    uri = "postgresql://somebody:pa%40ss@127.0.0.1:1/mlflow?password=more"
    ended = run_command("sync", str(run.path), env={"MLFLOW_TRACKING_URI": uri})
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert "tracking: MLflow at postgresql://127.0.0.1:1/mlflow did not take the metrics" in said
    assert not re.search("somebody|pa%40ss|pa@ss|more", said)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:p@host:5000/api", "http://host:5000/api"),
        ("cannot reach postgresql://u:p@a/b@host/db?password=p now", "cannot reach postgresql://host/db now"),
        ("user:p@host:5000", "host:5000"),
        ("http:/u:p@host", "http:/host"),
        ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_user_and_password(text: str, masked: str):
    assert mask(text) == masked


@pytest.mark.parametrize("secret", ["word\n", "two\nwords"])
def test_a_token_that_is_no_header_is_not_quoted(run: RunDirectory, monkeypatch, capsys, secret: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", secret)
    assert not sync_or_warn(run)
    said = capsys.readouterr().out
    assert "header value: 'Bearer ***" in said
    assert not any(word in said for word in secret.split())


@contextmanager
def as_somebody() -> Iterator[None]:
    """Without the rights of root, which no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("is_locked_once", [False, True])
def test_a_directory_that_cannot_be_written_to_is_named_with_what_to_do(server: MlflowServer, is_locked_once: bool):
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        Path(name).chmod(0o755)
        run = make_run(Path(name) / "run")
        if is_locked_once:
            sync_run(run)
            (run.path / "mlflow.lock").chmod(0o666)
        run.path.chmod(0o555)
        try:
            with as_somebody(), pytest.raises(RunError) as refused:
                sync_run(run)
        finally:
            run.path.chmod(0o755)
    assert str(refused.value).startswith(f"{run.path} cannot be written to (Permission denied)")
    assert "copy it" in str(refused.value)


def test_a_directory_that_cannot_be_written_to_costs_a_sentence_before_mlflow_tries_for_minutes(capfd):
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        run = make_run(Path(name) / "run")
        run.path.chmod(0o555)
        Path(name).chmod(0o555)
        try:
            with as_somebody():
                assert not sync_or_warn(run)
        finally:
            Path(name).chmod(0o755)
            run.path.chmod(0o755)
        assert not (Path(name) / "mlflow.db").exists()
    *_, sentence = "".join(capfd.readouterr()).splitlines()
    assert sentence == (
        f"tracking: {run.path} cannot be written to (Permission denied), and what MLflow has is noted there: "
        "copy it to where it can be"
    )


def test_a_name_is_no_way_out(server: MlflowServer, run: RunDirectory):
    add_evaluation(run, 10, num_errors=1)
    (run.predictions / "a%2f..%2f..%2fescaped.json").write_text("{}")
    delivery = sync_run(run)
    found = [path.name for path in server.artifacts.rglob(f"{delivery.run_id}/artifacts/predictions/*")]
    assert sorted(found) == ["val-center-step-10.json", "val-center-step-10.npz"]
    assert list(server.folder.rglob("*escaped*")) == []
