"""Kept checkpoints are MLflow's logged models, and the best of those evaluated has the alias."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_server import MlflowServer, Proxy
from tracked_runs import add_evaluation, make_run

from pipeline.artifacts import RunDirectory, write_json
from pipeline.tracking import Journal, sync_run
from pipeline.tracking.models import name_registered_model


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(server.uri)


@pytest.fixture(autouse=True)
def _own_data(run: RunDirectory):
    """A registered model is that of a shard set: each test has its own."""
    set_digest(run, run.read_record().id)


def set_digest(run: RunDirectory, digest: str) -> None:
    write_json(run.config, replace(run.read_record(), data_digest=digest))


def keep(run: RunDirectory, *steps: int) -> None:
    """Keep the checkpoints of these steps, and no others."""
    run.checkpoints.mkdir(exist_ok=True)
    for path in run.checkpoints.iterdir():
        path.unlink()
    for step in steps:
        (run.checkpoints / f"step-{step:08d}.pt").touch()


def list_models(client: MlflowClient, run: RunDirectory) -> dict[str, dict[str, float]]:
    """Name of each logged model of a run → its metrics."""
    delivery = sync_run(run)
    experiment = client.get_run(delivery.run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{delivery.run_id}'")
    assert len({model.name for model in found}) == len(found)
    return {model.name: {metric.key: metric.value for metric in model.metrics or []} for model in found}


def list_versions(client: MlflowClient, run: RunDirectory) -> list[tuple[str, str]]:
    """Step and error of each version, oldest first."""
    found = client.search_model_versions(f"name = '{name_registered_model(run.read_record())}'")
    by_number = sorted(found, key=lambda version: int(version.version))
    return [(version.tags["step"], version.tags["val_center_top1_error"]) for version in by_number]


def read_best(client: MlflowClient, run: RunDirectory) -> str:
    """The step of the version that is called the best."""
    return client.get_model_version_by_alias(name_registered_model(run.read_record()), "best").tags["step"]


def test_kept_checkpoints_are_models_with_the_errors_of_their_step(client: MlflowClient, run: RunDirectory):
    Journal(run.journal).append(step=10, epoch=1.0, metrics={"val/ten_top1_error": 0.25, "perf/load": 1.0})
    keep(run, 10, 20)
    expected = {
        "step-10": {"val/top1_error": 10.125, "val/ten_top1_error": 0.25},
        "step-20": {"val/top1_error": 20.125},
    }
    assert list_models(client, run) == expected
    assert list_models(client, run) == expected


def test_metrics_that_come_later_join_their_model(client: MlflowClient, run: RunDirectory):
    keep(run, 20)
    assert list_models(client, run) == {"step-20": {"val/top1_error": 20.125}}
    Journal(run.journal).append(step=20, epoch=2.0, metrics={"val/ten_top1_error": 0.25})
    assert list_models(client, run) == {"step-20": {"val/top1_error": 20.125, "val/ten_top1_error": 0.25}}


def test_a_model_goes_with_its_checkpoint_unless_it_was_evaluated(client: MlflowClient, run: RunDirectory):
    keep(run, 10, 15, 20)
    add_evaluation(run, 15, num_errors=5)
    assert list_models(client, run).keys() == {"step-10", "step-15", "step-20"}
    keep(run, 20)
    assert list_models(client, run).keys() == {"step-15", "step-20"}


def test_a_copy_without_checkpoints_takes_no_model_away(client: MlflowClient, run: RunDirectory):
    keep(run, 10)
    assert list_models(client, run).keys() == {"step-10"}
    keep(run)
    run.checkpoints.rmdir()
    assert list_models(client, run).keys() == {"step-10"}


def test_only_evaluated_checkpoints_are_registered_and_only_a_lower_error_is_the_best(
    client: MlflowClient, run: RunDirectory
):
    keep(run, 5, 10, 15, 20)
    sync_run(run)
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(name_registered_model(run.read_record()))
    for step, num_errors, best in ((10, 5, "10"), (5, 5, "10"), (15, 6, "10"), (20, 4, "20")):
        add_evaluation(run, step, num_errors)
        sync_run(run)
        assert read_best(client, run) == best
    assert list_versions(client, run) == [("10", "0.5"), ("5", "0.5"), ("15", "0.6"), ("20", "0.4")]


def test_runs_on_the_same_data_compete_and_others_do_not(client: MlflowClient, run: RunDirectory):
    digest = run.read_record().data_digest
    competitor, other = (make_run(run.path.with_name(name)) for name in ("competitor", "other"))
    set_digest(competitor, digest)
    set_digest(other, digest[::-1])
    for a_run, num_errors in ((run, 5), (competitor, 3), (other, 1)):
        keep(a_run, 10)
        add_evaluation(a_run, 10, num_errors)
        sync_run(a_run)
    assert list_versions(client, run) == list_versions(client, competitor) == [("10", "0.5"), ("10", "0.3")]
    name = name_registered_model(run.read_record())
    assert client.get_model_version_by_alias(name, "best").tags["run"] == "competitor"
    assert read_best(client, other) == "10"


def test_a_crash_before_it_was_noted_doubles_neither_models_nor_versions(client: MlflowClient, run: RunDirectory):
    keep(run, 10, 20)
    sync_run(run)
    note = run.path / "mlflow.json"
    earlier = note.read_bytes()
    add_evaluation(run, 10, num_errors=5)
    add_evaluation(run, 20, num_errors=4)
    sync_run(run)
    for content in (earlier, None):
        note.write_bytes(content) if content else note.unlink()
        assert list_models(client, run) == {
            "step-10": {"val/top1_error": 10.125},
            "step-20": {"val/top1_error": 20.125},
        }
        assert list_versions(client, run) == [("10", "0.5"), ("20", "0.4")]
        assert read_best(client, run) == "20"


@pytest.mark.parametrize("path", ["mlflow/logged-models", "model-versions/create"])
def test_what_was_made_without_an_answer_is_made_once(
    proxy: Proxy, client: MlflowClient, run: RunDirectory, monkeypatch, path: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    keep(run, 10)
    add_evaluation(run, 10, num_errors=5)
    proxy.mode = path
    with pytest.raises(MlflowException, match="Max retries"):
        sync_run(run)
    assert list_models(client, run).keys() == {"step-10"}
    assert list_versions(client, run) == [("10", "0.5")]


def test_a_model_that_was_deleted_at_mlflow_is_made_again(client: MlflowClient, run: RunDirectory):
    keep(run, 10, 20)
    client.delete_logged_model(sync_run(run).models[10].model_id)
    add_evaluation(run, 10, num_errors=5)
    assert list_models(client, run).keys() == {"step-10", "step-20"}
    assert list_versions(client, run) == [("10", "0.5")]


def test_a_best_version_of_somebody_else_gives_way(client: MlflowClient, run: RunDirectory):
    name = name_registered_model(run.read_record())
    client.create_registered_model(name)
    version = client.create_model_version(name, source="s3://elsewhere/model")
    client.set_registered_model_alias(name, "best", version.version)
    keep(run, 10)
    add_evaluation(run, 10, num_errors=5)
    sync_run(run)
    assert read_best(client, run) == "10"
