"""Whatever becomes of MLflow, a training goes on, ends as it would, and every point is there once afterwards."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import NO_LIMIT, MlflowServer, Proxy, wait_until
from tracked_runs import make_run, read_journal_points, read_points, read_run_id

from pipeline.artifacts import RunDirectory
from pipeline.tracking import Journal, feed_mlflow, feeder, sync_or_warn, sync_run
from pipeline.tracking.feeder import format_sync
from pipeline.tracking.server import name_default
from pipeline.tracking.sync import FEW_POINTS

LONGEST_STEP_SECONDS = 1.0
NUM_LINES = 30
"""Lines that a training writes while MLflow is there, or away."""


class Training:
    """`feeding.py` at work on a run."""

    def __init__(self, run: RunDirectory, code: int) -> None:
        words = [sys.executable, str(Path(__file__).with_name("feeding.py")), str(run.path), str(code)]
        environment = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "PYTHONUNBUFFERED": "1"}
        self.run, self.output = run, run.path.parent / "output"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file, env=environment)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def count_lines(self) -> int:
        return len(self.run.journal.read_bytes().splitlines()) if self.run.journal.is_file() else 0

    def wait_for_lines(self) -> None:
        """Until the journal has grown by `NUM_LINES`."""
        before = self.count_lines()
        wait_until(lambda: self.process.poll() is not None or self.count_lines() >= before + NUM_LINES, "lines")
        assert self.process.poll() is None, self.said

    def wait_for_sentence(self, number: int = 1) -> None:
        """Until as many outages were spoken of."""
        wait_until(lambda: self.said.count("tracking: ") >= number, f"sentence {number}")

    def wait_for_delivery(self, database: Path) -> None:
        """Until MLflow has new points twice: points go first, so the ones before them came with all that follows."""
        for _ in range(2):
            new = self.count_lines() + 1
            wait_until(lambda new=new: self.has_arrived(database, new), "points at MLflow")

    def has_arrived(self, database: Path, step: int) -> bool:
        """Whether MLflow has a step."""
        has_run = (self.run.path / "mlflow.json").is_file()
        return has_run and read_points(database, read_run_id(self.run))["optim/lr", step, 0.01] > 0

    def end(self) -> str:
        """Let it end; returns what it said, but for the longest step, which is proved."""
        (self.run.path / "enough").touch()
        self.process.wait(120)
        (longest,) = re.findall(r"longest step: (\S+) s\n", self.said)
        assert float(longest) < LONGEST_STEP_SECONDS
        return re.sub(r"longest step: .*\n", "", self.said)


@contextmanager
def train(run: RunDirectory, code: int = 0) -> Iterator[Training]:
    """A training that ends with the test at the latest."""
    training = Training(run, code)
    try:
        yield training
    finally:
        training.process.kill()
        training.process.wait()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory without a journal."""
    return make_run(tmp_path / "run", num_lines=0)


def prove_whole(run: RunDirectory, server: MlflowServer) -> None:
    """Sync, twice; then MLflow has the journal's points, and nothing else."""
    delivery = sync_run(run)
    assert sync_run(run) == delivery
    expected = read_journal_points(run)
    assert expected.total() > 3 * NUM_LINES
    assert read_points(server.database, delivery.run_id) == expected
    experiment = MlflowClient(server.uri).get_experiment_by_name("paper")
    same = f"tags.`alexnet.id` = '{run.read_record().id}'"
    assert len(MlflowClient(server.uri).search_runs([experiment.experiment_id], same)) == 1


def count_sentences(said: str, run: RunDirectory) -> int:
    """How often a training spoke of an outage; nothing else may be said."""
    lines = said.splitlines()
    advice = f"`alexnet sync {run.path} --tracking-uri {os.environ['MLFLOW_TRACKING_URI']}`"
    assert all(line.startswith("tracking: ") and line.endswith(advice) for line in lines), said
    return len(lines)


@pytest.mark.slow
def test_server_killed_on_the_way_and_started_again(server: MlflowServer, run: RunDirectory):
    with train(run) as training:
        training.wait_for_delivery(server.database)
        server.kill()
        try:
            training.wait_for_sentence()
            training.wait_for_lines()
        finally:
            server.start()
        training.wait_for_delivery(server.database)
        said = training.end()
    assert training.process.returncode == 0
    assert count_sentences(said, run) == 1
    assert read_points(server.database, read_run_id(run)) == read_journal_points(run)  # before any sync
    prove_whole(run, server)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [403, "silent"])
def test_server_that_answers_badly_from_the_start_to_the_end(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch, mode
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    proxy.mode = mode
    with train(run, code=3) as training:
        training.wait_for_lines()
        training.wait_for_sentence()
        training.wait_for_lines()
        said = training.end()
    assert training.process.returncode == 3
    assert count_sentences(said, run) == 2  # when it began, and that it has not ended
    proxy.mode = "pass on"
    prove_whole(run, server)


@contextmanager
def behave(proxy: Proxy, mode: int | str) -> Iterator[None]:
    """Answer badly for a while."""
    proxy.mode = mode
    yield
    proxy.mode = "pass on"


@contextmanager
def fill_disk(server: MlflowServer) -> Iterator[None]:
    """Leave no room for a while."""
    server.limit_files(1)
    try:
        yield
    finally:
        server.limit_files(NO_LIMIT)


@pytest.mark.slow
def test_server_that_answers_badly_or_has_a_full_disk_for_a_while(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    outages = [*(behave(proxy, mode) for mode in (403, 500, "silent", "deaf")), fill_disk(server)]
    with train(run) as training:
        for number, outage in enumerate(outages, start=1):
            training.wait_for_delivery(server.database)
            with outage:
                training.wait_for_sentence(number)
                training.wait_for_lines()
        training.wait_for_delivery(server.database)
        proxy.mode = "slow"
        training.wait_for_delivery(server.database)
        said = training.end()
    assert training.process.returncode == 0
    assert count_sentences(said, run) == len(outages)  # and none for an answer that takes its time
    assert read_points(server.database, read_run_id(run)) == read_journal_points(run)  # before any sync
    prove_whole(run, server)


def test_server_that_has_room_for_points_but_not_for_files(server: MlflowServer, run: RunDirectory, capsys):
    for step in range(1, 60):
        Journal(run.journal).append(step=step, epoch=step / 100, metrics={"train/loss": 1 / step})
    large = run.figures / "large.bin"
    most = server.database.stat().st_size + 2_000_000
    large.write_bytes(os.urandom(most + 1))
    server.limit_files(most)
    try:
        assert not sync_or_warn(run)
    finally:
        server.limit_files(NO_LIMIT)
    assert count_sentences(capsys.readouterr().out, run) == 1
    assert read_points(server.database, read_run_id(run)) == read_journal_points(run)
    prove_whole(run, server)
    (arrived,) = server.artifacts.rglob(f"{read_run_id(run)}/artifacts/figures/large.bin")
    assert arrived.read_bytes() == large.read_bytes()


def test_a_server_that_takes_its_time_for_each_point_gets_few_at_once(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setattr(proxy, "seconds_per_point", 0.01)
    for step in range(1, 201):
        Journal(run.journal).append(step=step, epoch=step / 100, metrics={"train/loss": 1 / step, "optim/lr": 0.01})
    assert sync_or_warn(run)
    assert read_points(server.database, read_run_id(run)) == read_journal_points(run)
    batches = sum("/log-batch" in request for request in proxy.requests)
    assert batches >= 3 * 200 / FEW_POINTS


def test_a_store_that_takes_its_time_for_a_file_gets_it(
    proxy: Proxy, server: MlflowServer, run: RunDirectory, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setattr(proxy, "answer_to_files_seconds", 4)
    assert sync_or_warn(run)
    assert list(server.artifacts.rglob(f"{read_run_id(run)}/artifacts/config.json"))


@pytest.fixture
def nobody(monkeypatch) -> Iterator[str]:
    """An address where connections are refused."""
    from mlflow_server import find_free_port

    uri = f"http://127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_server_that_is_not_there_costs_a_sentence_at_both_ends_and_no_metric(
    nobody: str, running_server: MlflowServer, run: RunDirectory, monkeypatch, capsys
):
    monkeypatch.setattr(feeder, "FEED_INTERVAL_SECONDS", 0.1)
    with feed_mlflow(run):
        for step in range(100):
            Journal(run.journal).append(step=step, epoch=9.0, metrics={"train/loss": 0.5})
    assert not sync_or_warn(run, warn=False)
    said = capsys.readouterr().out
    assert count_sentences(said, run) == 2
    assert f"MLflow at {nobody} did not take the metrics (Connection refused); " in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_server.uri)
    prove_whole(run, running_server)


def test_an_address_that_is_none_costs_a_sentence_at_both_ends_and_no_metric(run: RunDirectory, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense")
    monkeypatch.setattr(feeder, "FEED_INTERVAL_SECONDS", 0.1)
    with feed_mlflow(run):
        Journal(run.journal).append(step=1, epoch=9.0, metrics={"train/loss": 0.5})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.startswith("tracking: nonsense is no address of MLflow: pass one as") for line in said)
    assert len(Journal(run.journal).read()) == 1


def test_the_sqlite_file_beside_a_run_needs_no_address_in_the_command(run: RunDirectory, monkeypatch):
    uri = name_default(run)
    assert format_sync(run, uri) == f"alexnet sync {run.path}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    assert format_sync(run, uri) == f"alexnet sync {run.path} --tracking-uri {uri}"
    named = f"alexnet sync {run.path} --tracking-uri http://host:5000"
    assert format_sync(run, "http://me:secret@host:5000") == named


def test_a_training_that_goes_on_names_damaged_lines_and_passes_over_them(
    server: MlflowServer, run: RunDirectory, capsys
):
    run.journal.write_bytes(b'{"step": 1, "epoch": 1, "time": 1, "metrics": 5}\n')
    with feed_mlflow(run):
        Journal(run.journal).append(step=1, epoch=9.0, metrics={"train/loss": 0.5})
    (said,) = capsys.readouterr().out.splitlines()
    assert said == f"tracking: passed over what is damaged or unfinished in {run.journal}: line 1 (1 in all)"
    assert read_points(server.database, read_run_id(run)) == read_journal_points(run)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "KILLED"), (ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_how_a_run_ends_is_its_state(
    server: MlflowServer, run: RunDirectory, error: type[BaseException] | None, status: str
):
    def fail() -> None:
        if error:
            raise error

    def end(body: Callable[[], None]) -> str:
        try:
            with feed_mlflow(run):
                wait_until((run.path / "mlflow.json").is_file, "the run at MLflow")
                wait_until(lambda: client.get_run(read_run_id(run)).info.status == "RUNNING", "RUNNING")
                body()
        except BaseException as raised:  # noqa: BLE001 - what the test raised
            assert type(raised) is error  # noqa: PT017
        return client.get_run(read_run_id(run)).info.status

    client = MlflowClient(server.uri)
    assert end(fail) == status
    Journal(run.journal).append(step=9, epoch=run.read_record().config.schedule.epochs, metrics={"train/loss": 0.5})
    assert end(lambda: None) == "FINISHED"
