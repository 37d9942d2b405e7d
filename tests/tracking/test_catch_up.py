"""`alexnet sync`: every run below a folder, to which server, how much of it, and which other servers lack something."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import run_command
from mlflow_server import MlflowServer
from tracked_runs import append_lines, make_run, read_journal_points, read_points

from pipeline.artifacts import RunDirectory
from pipeline.commands.report import SYNC
from pipeline.errors import InputError
from pipeline.options import SyncConfig
from pipeline.tracking import sync_run
from pipeline.tracking.catch_up import catch_up
from pipeline.tracking.delivery import read_deliveries

# The errors of these runs, far above 1, leave a figure no room; nobody looks at it here.
pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout not applied")


def read_arrived(run: RunDirectory, server: str, database: Path):
    """A run's points at one of the servers that know it."""
    return read_points(database, read_deliveries(run)[server].run_id)


def test_every_run_below_a_folder_arrives_with_the_number_of_points_sent(server: MlflowServer, tmp_path: Path, capsys):
    runs = [make_run(tmp_path / "runs" / name) for name in ("a", "deeper/b")]
    (tmp_path / "runs" / "mlflow-artifacts").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()
    (tmp_path / "runs" / "waiting" / "slurm").mkdir(parents=True)
    (tmp_path / "runs" / "waiting" / "slurm" / "submission.json").write_text("{}")
    append_lines(runs[1], 1, first=21)
    assert catch_up(SyncConfig(runs=(tmp_path / "runs", runs[0].path)))
    assert capsys.readouterr().out.splitlines() == [
        f"sync: MLflow at {server.uri} has all of {runs[0].path} (140 points sent)",
        f"sync: MLflow at {server.uri} has all of {runs[1].path} (147 points sent)",
    ]
    for run in runs:
        assert read_arrived(run, server.uri, server.database) == read_journal_points(run)
    assert catch_up(SyncConfig(runs=(tmp_path / "runs",)))
    assert capsys.readouterr().out.count("(0 points sent)") == 2


def test_a_path_without_runs_is_refused_before_anything_is_sent(run: RunDirectory, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "mlflow.db", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))} has no config\.json, and no folder with one"):
            catch_up(SyncConfig(runs=(run.path, path)))
    assert not (run.path / "mlflow.json").exists()


def test_a_run_that_cannot_be_read_keeps_no_other_from_arriving(server: MlflowServer, tmp_path: Path, capsys):
    broken, run = make_run(tmp_path / "runs" / "a"), make_run(tmp_path / "runs" / "b")
    broken.config.write_text("{}")
    assert not catch_up(SyncConfig(runs=(tmp_path / "runs",)))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"sync: {broken.config}")
    assert second.startswith(f"sync: MLflow at {server.uri} has all of {run.path}")


def test_a_server_that_is_behind_is_named_with_the_command_that_helps(
    server: MlflowServer, run: RunDirectory, tmp_path: Path, monkeypatch, capsys
):
    sync_run(run)
    append_lines(run, 2, first=21)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert catch_up(SyncConfig(runs=(run.path,)))
    here, there = capsys.readouterr().out.splitlines()
    assert here == f"sync: MLflow at sqlite:///{tmp_path}/mlflow.db has all of {run.path} (154 points sent)"
    command = f"alexnet sync {run.path} --tracking-uri {server.uri}"
    assert there == f"sync: MLflow at {server.uri} lacks points of {run.path}: `{command}`"
    SYNC.start(shlex.split(command)[2:])
    assert capsys.readouterr().out == f"sync: MLflow at {server.uri} has all of {run.path} (14 points sent)\n"
    assert read_arrived(run, server.uri, server.database) == read_journal_points(run)


def test_a_named_server_goes_before_the_variable(
    server: MlflowServer, run: RunDirectory, tmp_path: Path, empty_database: Path, capsys
):
    named = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'named.db')}"
    assert catch_up(SyncConfig(runs=(run.path,), tracking_uri=named))
    assert read_deliveries(run).keys() == {named}
    assert read_arrived(run, named, tmp_path / "named.db") == read_journal_points(run)


def test_damaged_lines_are_counted_and_named_and_the_others_arrive(server: MlflowServer, run: RunDirectory, capsys):
    lines = run.journal.read_bytes().splitlines(keepends=True)
    damaged = [b"5\n", b"[]\n", b'{"step": "x", "epoch": 1, "time": 1, "metrics": {}}\n', b"\0\0\n", b"{\n"]
    run.journal.write_bytes(b"".join([*lines[:2], *damaged, *lines[2:5], damaged[0], *lines[5:]]))
    assert catch_up(SyncConfig(runs=(run.path,)))
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        f"tracking: passed over what is damaged or unfinished in {run.journal}: line 3, 4, 5, 6, 7, … (6 in all)"
    )
    assert second.endswith("(140 points sent)")
    assert read_arrived(run, server.uri, server.database) == read_journal_points(run)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense", "nonsense is no address of MLflow: pass one as --tracking-uri or MLFLOW_TRACKING_URI, as http"),
        ("/tmp", "/tmp is no address of MLflow"),  # noqa: S108 - of no file
        ("me:secret@host:5000", "host:5000 is no address of MLflow"),
        ("sqlite://typo.db", "sqlite://typo.db is no address of MLflow"),
        ("sqlite:////no/such/folder/mlflow.db", "/no/such/folder/mlflow.db cannot be made, for its folder is missing"),
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_is_made(run: RunDirectory, monkeypatch, uri: str, said: str):
    before = sorted(run.path.rglob("*"))
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        catch_up(SyncConfig(runs=(run.path,), tracking_uri=uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        catch_up(SyncConfig(runs=(run.path,)))
    assert sorted(run.path.rglob("*")) == before


def test_the_command_ends_with_code_2_and_a_sentence(run: RunDirectory):
    ended = run_command("sync", str(run.path), "--tracking-uri", "nonsense")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("alexnet sync: nonsense is no address of MLflow: ")
    assert ended.stderr.count("\n") == 1
