"""MLflow is brought to exactly the journal's points, wherever the last time ended: real server, real sqlite files."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer, Proxy
from tracked_runs import append_lines, count_rows, make_run, read_journal_points, read_points, read_run_id

from pipeline.artifacts import RunDirectory, hold, write_json
from pipeline.errors import InputError
from pipeline.experiments import flatten
from pipeline.tracking import Journal, find_tracking_uri, sync_run
from pipeline.tracking.description import ID_TAG
from pipeline.tracking.sync import Tracker

POINTS_PER_LINE = 7


def count_runs(client: MlflowClient, run: RunDirectory) -> int:
    """How many runs of MLflow stand for a run directory."""
    record = run.read_record()
    experiment = client.get_experiment_by_name(record.experiment)
    return len(client.search_runs([experiment.experiment_id], f"tags.`{ID_TAG}` = '{record.id}'"))


def test_every_point_arrives_once_with_the_epoch_beside_it(server: MlflowServer, run: RunDirectory):
    append_lines(run, 300, first=21)
    delivery = sync_run(run)
    found = read_points(server.database, delivery.run_id)
    assert found == read_journal_points(run)
    assert found.total() == 320 * POINTS_PER_LINE
    assert found["epoch", 320, 32.0] == 1


def test_syncing_again_and_after_new_lines_doubles_nothing(server: MlflowServer, run: RunDirectory):
    first = sync_run(run)
    assert sync_run(run) == first
    append_lines(run, 2, first=99)
    Journal(run.journal).append(step=99, epoch=9.0, metrics={"train/loss": 0.5})  # a step that occurs twice
    last = sync_run(run)
    assert last.run_id == first.run_id
    found = read_points(server.database, last.run_id)
    assert found == read_journal_points(run)
    assert found.total() == 22 * POINTS_PER_LINE
    assert found["train/loss", 99, 99.125] == 1


def test_a_resumed_training_adds_only_what_is_new(server: MlflowServer, run: RunDirectory):
    sync_run(run)
    journal = Journal(run.journal)
    journal.leave_out_known(since=11)
    for step in range(11, 31):
        journal.append(step=step, epoch=step / 10, metrics={"train/loss": -1.0})
    delivery = sync_run(run)
    found = read_points(server.database, delivery.run_id)
    assert found == read_journal_points(run)
    assert found.total() == 20 * POINTS_PER_LINE + 10 * 2
    assert found["train/loss", 20, 20.125] == found["train/loss", 21, -1.0] == 1


@pytest.mark.parametrize("noted", ["as before the last batch", "nothing"])
def test_a_crash_between_sending_and_noting_doubles_nothing(server: MlflowServer, run: RunDirectory, noted: str):
    append_lines(run, 300, first=21)
    sync_run(run)
    note = run.path / "mlflow.json"
    earlier = note.read_bytes()
    append_lines(run, 100, first=321)
    sent = sync_run(run)
    if noted == "nothing":
        note.unlink()
    else:
        note.write_bytes(earlier)
    again = sync_run(run)
    assert again.run_id == sent.run_id
    assert count_runs(MlflowClient(server.uri), run) == 1
    found = read_points(server.database, again.run_id)
    assert found == read_journal_points(run)
    assert found.total() == 420 * POINTS_PER_LINE


def test_a_crash_in_the_middle_of_a_description_leaves_it_to_the_next_time(server: MlflowServer, run: RunDirectory):
    client, record = MlflowClient(server.uri), run.read_record()
    sync_run(make_run(run.path.with_name("other")))  # so that the experiment is there
    experiment = client.get_experiment_by_name(record.experiment)
    begun = client.create_run(experiment.experiment_id, tags={ID_TAG: record.id})
    delivery = sync_run(run)
    assert delivery.run_id == begun.info.run_id
    found = client.get_run(delivery.run_id)
    assert found.data.params == {name: str(value) for name, value in flatten(record.config)}
    assert len(found.inputs.dataset_inputs) == 2


def test_answers_that_get_lost_double_nothing(proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sync_run(run)
    append_lines(run, 100, first=21)
    proxy.mode = "deaf"
    with pytest.raises(Exception, match=r"Max retries|aborted|Connection"):
        sync_run(run)
    for _ in range(3):  # each time it comes one request further, and no answer tells so
        proxy.mode = "deaf"
        with pytest.raises(Exception, match=r"Max retries|aborted|Connection"):
            sync_run(run)
    proxy.mode = "pass on"
    delivery = sync_run(run)
    assert read_points(server.database, delivery.run_id) == read_journal_points(run)


def test_a_run_whose_making_was_not_answered_is_made_once(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch
):
    sync_run(make_run(run.path.with_name("other")))  # so that the experiment is there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    proxy.mode = "runs/create"
    with pytest.raises(Exception, match=r"Max retries"):
        sync_run(run)
    sync_run(run)
    assert count_runs(MlflowClient(server.uri), run) == 1


def test_a_journal_that_is_older_than_what_is_noted_of_it_arrives_whole(server: MlflowServer, run: RunDirectory):
    lines = run.journal.read_bytes().splitlines(keepends=True)
    sync_run(run)
    run.journal.write_bytes(b"".join(lines[:12]))
    append_lines(run, 3, first=31)
    delivery = sync_run(run)
    assert read_points(server.database, delivery.run_id) >= read_journal_points(run)


def test_a_line_that_comes_while_those_before_it_are_brought_to_disk_waits_for_the_next_time(
    server: MlflowServer, run: RunDirectory, monkeypatch
):
    def sync_late(journal: Journal) -> int:
        size = sync_journal(journal)
        with journal.path.open("ab") as file:
            file.write(b'{"step": 99, "epoch": 9.5, "time": 9.0, "metrics": {"train/loss": 0.5}}\n')
        return size

    before, sync_journal = read_journal_points(run), Journal.sync
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "sync", sync_late)
        first = sync_run(run)
    assert read_points(server.database, first.run_id) == before
    assert read_points(server.database, sync_run(run).run_id) == read_journal_points(run) > before


def test_what_mlflow_has_lost_while_it_was_fed_is_sent_again(server: MlflowServer, run: RunDirectory):
    tracker = Tracker(run)
    first = tracker.send()
    MlflowClient(server.uri).delete_run(first.run_id)
    (run.path / "mlflow.json").unlink()
    append_lines(run, 3, first=21)
    second = tracker.send()
    assert second.run_id != first.run_id
    assert read_points(server.database, second.run_id) == read_journal_points(run)


@pytest.mark.parametrize("note", ["", '[{"server":'])
def test_a_note_that_cannot_be_read_is_named_with_what_to_do(server: MlflowServer, run: RunDirectory, note: str):
    (run.path / "mlflow.json").write_text(note)
    with pytest.raises(InputError, match=r"mlflow\.json cannot be read: remove it, and all is sent again"):
        sync_run(run)


def test_a_run_that_nobody_trains_any_more_does_not_stay_running(server: MlflowServer, run: RunDirectory):
    client = MlflowClient(server.uri)
    run_id = sync_run(run, status="RUNNING").run_id
    with hold(run.lock):
        sync_run(run)
        assert client.get_run(run_id).info.status == "RUNNING"
    sync_run(run)
    assert client.get_run(run_id).info.status == "KILLED"
    Journal(run.journal).append(step=99, epoch=run.read_record().config.schedule.epochs, metrics={"train/loss": 0.5})
    sync_run(run)
    assert client.get_run(run_id).info.status == "FINISHED"


def test_imported_weights_are_a_finished_run(server: MlflowServer, tmp_path: Path):
    run = make_run(tmp_path / "imported", num_lines=0)
    write_json(run.config, replace(run.read_record(), status="imported"))
    assert MlflowClient(server.uri).get_run(sync_run(run).run_id).info.status == "FINISHED"


def test_numbers_that_are_none_arrive_too(server: MlflowServer, run: RunDirectory):
    Journal(run.journal).append(step=50, epoch=5.0, metrics={"train/loss": math.nan, "optim/lr": math.inf})
    delivery = sync_run(run)
    history = MlflowClient(server.uri).get_metric_history
    assert math.isnan(history(delivery.run_id, "train/loss")[-1].value)
    assert history(delivery.run_id, "optim/lr")[-1].value > 1e308
    sync_run(run)
    assert read_points(server.database, delivery.run_id).total() == 20 * POINTS_PER_LINE + 3


@pytest.mark.slow
def test_processes_that_sync_at_once_make_one_experiment_one_run_each_and_no_doubles(
    server: MlflowServer, tmp_path: Path
):
    runs = [make_run(tmp_path / name, experiment="source-2010", num_lines=400) for name in ("one", "two")]
    program = """
import pathlib, sys
from pipeline.artifacts import RunDirectory
from pipeline.tracking import sync_run
sync_run(RunDirectory(pathlib.Path(sys.argv[1])))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(run.path)]) for run in runs * 2]
    assert [process.wait(280) for process in processes] == [0] * 4
    client = MlflowClient(server.uri)
    for run in runs:
        assert count_runs(client, run) == 1
        found = read_points(server.database, read_run_id(run))
        assert found == read_journal_points(run)
        assert found.total() == 400 * POINTS_PER_LINE


@pytest.mark.parametrize("server_there", ["another", "this one, which has lost the run"])
def test_a_directory_from_an_air_gapped_machine_is_a_run_of_its_own_here(
    server: MlflowServer, run: RunDirectory, server_there: str
):
    first = sync_run(run)
    MlflowClient(server.uri).delete_run(first.run_id)
    note = run.path / "mlflow.json"
    (known,) = json.loads(note.read_text())
    known["run_id"] = "0" * 32
    if server_there == "another":
        known["server"] = "http://10.0.0.7:5000"
    note.write_text(json.dumps([known]))
    copied = RunDirectory(Path(shutil.copytree(run.path, run.path.with_name("copied"))))
    delivery = sync_run(copied)
    assert delivery.run_id not in (known["run_id"], first.run_id)
    assert read_points(server.database, delivery.run_id) == read_journal_points(run)
    assert {known["server"], server.uri} == {
        entry["server"] for entry in json.loads((copied.path / "mlflow.json").read_text())
    }


@pytest.mark.parametrize(
    "name", ["two words", "50%25 done", "what?", "a#b", "größe 漢字", "a\\b", "a∕b;c&d=e", "it's @me:1"]
)
def test_any_name_of_a_directory_will_do(empty_database: Path, tmp_path: Path, name: str):
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    run = make_run(folder / name)
    delivery = sync_run(run)
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, "mlflow-artifacts", "mlflow.db"])
    assert read_points(folder / "mlflow.db", delivery.run_id) == read_journal_points(run)
    client = MlflowClient(find_tracking_uri(run))
    assert client.get_run(delivery.run_id).info.run_name == name
    copy = client.download_artifacts(delivery.run_id, "figures/conv1.png", str(tmp_path))
    assert Path(copy).read_bytes() == (run.figures / "conv1.png").read_bytes()
    assert sync_run(run) == delivery


def test_a_name_that_only_a_file_system_likes_arrives_at_a_server(server: MlflowServer, tmp_path: Path):
    run = make_run(tmp_path / "50% größe? #1 'a' \"b\"")
    delivery = sync_run(run)
    assert MlflowClient(server.uri).get_run(delivery.run_id).info.run_name == run.path.name
    assert read_points(server.database, delivery.run_id) == read_journal_points(run)


def test_each_run_goes_to_the_sqlite_file_beside_it_unless_the_usual_variable_names_another(
    run: RunDirectory, empty_database: Path, tmp_path: Path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Path(shutil.copy(empty_database, tmp_path / "elsewhere" / "mlflow.db"))
    other = make_run(elsewhere.parent / "run")
    here, there = sync_run(run), sync_run(other)
    assert read_points(tmp_path / "mlflow.db", here.run_id) == read_journal_points(run)
    assert read_points(elsewhere, there.run_id) == read_journal_points(other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    named = sync_run(run)
    assert read_points(elsewhere, named.run_id) == read_journal_points(run)
    assert count_rows(elsewhere, "runs") == 2


@pytest.mark.slow
def test_twenty_thousand_points_arrive_once(server: MlflowServer, run: RunDirectory):
    append_lines(run, 2840, first=21)
    delivery = sync_run(run)
    found = read_points(server.database, delivery.run_id)
    assert found == read_journal_points(run)
    assert found.total() == 20020
