"""`alexnet runs`: where runs stand, from their directories alone."""

import dataclasses
import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from commands import run_command
from written_runs import write_run

from pipeline.artifacts import RunDirectory, hold, write_json
from pipeline.errors import InputError
from pipeline.options import RunsConfig
from pipeline.report.overview import estimate_seconds_left, find_runs, format_states, list_states, read_state
from pipeline.tracking import Journal, JournalEntry


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run without its checkpoints."""
    shutil.copytree(finished_run, tmp_path / "runs" / "a run", ignore=shutil.ignore_patterns("*.pt"))
    return RunDirectory(tmp_path / "runs" / "a run")


def cut_journal(run: RunDirectory, epoch: float) -> None:
    """Leave what was journalled up to an epoch."""
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join(line for line in lines if json.loads(line)["epoch"] <= epoch))


def test_a_finished_run_shows_the_numbers_of_its_journal_and_evaluation(run: RunDirectory):
    state, record, journal = read_state(run), run.read_record(), Journal(run.journal)
    assert (state.state, state.experiment, state.status) == ("finished", record.experiment, "modified")
    assert (state.epoch, state.num_epochs) == (record.config.schedule.epochs,) * 2
    assert state.train_loss == journal.read_metric("train/loss")[-1][1]
    errors = [value for _, value in journal.read_metric("val/top1_error")]
    assert (state.val_top1_error, state.best_top1_error) == (errors[-1], min(errors))
    assert state.ten_views_top1_error == journal.read_metric("val/ten_top1_error")[-1][1]
    assert state.images_per_second == journal.read_metric("perf/images_per_second")[-1][1]
    assert (state.hosts, state.num_starts, state.seconds_left) == (record.starts[-1].hosts, len(record.starts), None)


def test_a_run_whose_lock_is_held_is_training_and_says_how_long_still(run: RunDirectory):
    assert run.read_record().config.schedule.epochs == 2
    cut_journal(run, 1.0)
    for step, epoch in ((50, 1.25), (60, 1.5)):
        Journal(run.journal).append(step=step, epoch=epoch, metrics={"train/loss": 1.0})
    record = json.loads(run.config.read_text())
    for start in record["starts"]:
        start["time"] = 0.0
    run.config.write_text(json.dumps(record))
    assert read_state(run).state == "stopped"
    with hold(run.lock):
        state = read_state(run)
    assert state.state == "training"
    assert state.seconds_left is not None
    assert state.epoch == 1.5


def test_a_run_that_was_just_resumed_has_spoken_just_now(run: RunDirectory):
    record = run.read_record()
    newest = max(entry.time for entry in Journal(run.journal).read())
    assert read_state(run).updated == newest
    again = dataclasses.replace(record.starts[-1], time=newest + 100)
    write_json(run.config, dataclasses.replace(record, starts=(*record.starts, again)))
    assert read_state(run).updated == newest + 100
    run.journal.unlink()
    assert read_state(run).updated == newest + 100


def test_time_left_is_that_of_the_newest_pace(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    entries = [
        JournalEntry(step=step, epoch=step / 10, time=1000.0 + 2 * step - 200, metrics={"train/loss": 1.0})
        for step in range(1, 101)
    ]
    assert estimate_seconds_left(entries, num_epochs=15) == pytest.approx(5 * 20)
    assert estimate_seconds_left(entries[:1], num_epochs=15) is None
    assert estimate_seconds_left([], num_epochs=15) is None


def test_runs_are_found_below_a_folder_but_not_among_mlflows_artifacts(run: RunDirectory):
    folder = run.path.parent
    shutil.copytree(run.path, folder / "mlflow-artifacts" / "1" / "artifacts")
    shutil.copytree(run.path, folder / "seeds" / "1")
    (folder / "waiting" / "slurm").mkdir(parents=True)
    (folder / "waiting" / "slurm" / "submission.json").write_text("{}")
    assert list(find_runs(folder)) == [run.path, folder / "seeds" / "1", folder / "waiting"]
    states = list_states(RunsConfig(paths=(folder, run.path)))
    assert [state.state for state in states] == ["finished", "finished", "submitted"]
    shown = format_states(states).splitlines()
    assert len(shown) == 2 + 3
    assert "submitted" in shown[-1]


def test_a_run_of_another_seed_is_as_registered(tmp_path):
    state = read_state(RunDirectory(write_run(tmp_path, "source-2012", seed=3)))
    assert state.status == "as registered, seed 3"
    assert "source-2012 (as registered, seed 3)" in format_states([state])


def test_a_run_of_another_version_is_a_row_that_says_so(run: RunDirectory):
    write_json(run.config, {"experiment": "paper"})
    assert read_state(run).state == "unreadable: written by another version"


def test_an_evaluation_that_cannot_be_read_hides_no_other_run(run: RunDirectory):
    shutil.copytree(run.path, run.path.with_name("b run"))
    (run.predictions / "val-ten-step-99.json").write_text("{}")
    states = list_states(RunsConfig(paths=(run.path.parent,)))
    assert [state.state for state in states] == ["unreadable: written by another version", "finished"]


def test_a_run_of_somebody_who_does_not_show_it_is_a_row(run: RunDirectory, monkeypatch):
    def refuse(path: Path, *words: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert read_state(run).state == "unreadable: Permission denied"


def test_a_run_that_has_journalled_nothing_yet_is_a_row(run: RunDirectory):
    run.journal.unlink()
    shutil.rmtree(run.predictions)
    state = read_state(run)
    assert (state.state, state.epoch, state.train_loss, state.ten_views_top1_error) == ("stopped", 0.0, None, None)
    assert str(run.path) in format_states([state])


def test_no_run_is_a_sentence(tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no run: pass a directory that `alexnet train` wrote"):
        list_states(RunsConfig(paths=(tmp_path,)))
    with pytest.raises(InputError, match=r"elsewhere is no directory"):
        list_states(RunsConfig(paths=(tmp_path / "elsewhere",)))


def test_the_command_prints_a_table_or_json_without_a_server(run: RunDirectory, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.chdir(run.path.parent.parent)
    table = run_command("runs").stdout
    assert "runs/a run" in table
    assert "finished" in table
    (state,) = json.loads(run_command("runs", "runs", "--json").stdout)
    assert state["state"] == "finished"
