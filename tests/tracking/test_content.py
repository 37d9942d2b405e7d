"""What MLflow's page shows of a run beside its curves: configuration, starts, data, files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer, Proxy
from PIL import Image
from tracked_runs import add_evaluation, add_start, append_lines

from pipeline.artifacts import RunDirectory, read_json, write_json
from pipeline.artifacts.shard_set import ShardSetInfo
from pipeline.experiments import flatten, get_experiment
from pipeline.tracking import sync_run


def list_artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    """Paths of all artifacts, at any depth."""
    found = client.list_artifacts(run_id, folder)
    return {file.path for file in found if not file.is_dir}.union(
        *(list_artifacts(client, run_id, file.path) for file in found if file.is_dir)
    )


def test_every_field_of_the_configuration_is_a_parameter(server: MlflowServer, run: RunDirectory):
    delivery, record = sync_run(run), run.read_record()
    found = MlflowClient(server.uri).get_run(delivery.run_id)
    expected = {name: str(value) for name, value in flatten(record.config)}
    assert found.data.params == expected
    assert expected["optimizer.momentum"] == "0.9"
    assert found.info.run_name == "run"
    assert found.data.tags["mlflow.note.content"] == f"Claim of the experiment: {get_experiment('paper').claim}"


def test_a_modified_run_says_so_where_the_experiments_claim_is_read(server: MlflowServer, run: RunDirectory):
    write_json(run.config, replace(run.read_record(), status="modified"))
    note = MlflowClient(server.uri).get_run(sync_run(run).run_id).data.tags["mlflow.note.content"]
    assert note == f"Claim of the experiment: {get_experiment('paper').claim}. This run is modified."


def test_every_start_leaves_its_own_tags(server: MlflowServer, run: RunDirectory):
    sync_run(run)
    add_start(
        run,
        commit="f" * 40,
        dirty=True,
        hosts=("node7",),
        world_size=8,
        slurm_job_id="4711",
        image="registry/alexnet@sha256:12",
    )
    delivery = sync_run(run)
    tags = MlflowClient(server.uri).get_run(delivery.run_id).data.tags
    attempts = {key.removeprefix("attempt."): value for key, value in tags.items() if key.startswith("attempt.")}
    assert attempts == {
        "0.time": "1970-01-01T00:16:40+00:00",
        "0.hosts": "node1, node2",
        "0.world_size": "2",
        "0.device": "cpu",
        "0.commit": "0123456789abcdef",
        "0.dirty": "false",
        "0.version.torch": "2.14.1",
        "1.time": "1970-01-01T00:16:40+00:00",
        "1.hosts": "node7",
        "1.world_size": "8",
        "1.device": "cpu",
        "1.commit": "f" * 40,
        "1.dirty": "true",
        "1.slurm_job_id": "4711",
        "1.image": "registry/alexnet@sha256:12",
        "1.version.torch": "2.14.1",
    }
    assert (tags["num_attempts"], tags["world_size"], tags["commit"]) == ("2", "8", "ffffffffffff + changes")
    assert tags["status"] == "as registered"


def test_the_shard_set_is_a_dataset_with_its_digest(server: MlflowServer, run: RunDirectory):
    delivery, info = sync_run(run), read_json(run.dataset, ShardSetInfo)
    inputs = MlflowClient(server.uri).get_run(delivery.run_id).inputs.dataset_inputs
    found = {entry.tags[0].value: entry.dataset for entry in inputs}
    assert found.keys() == {"training", "validation"}
    for context, num_images in (("training", 8), ("validation", 2)):
        dataset = found[context]
        assert info.digest.startswith(dataset.digest)
        assert len(dataset.digest) == 36
        profile = json.loads(dataset.profile)
        assert (profile["num_images"], profile["shard_set_digest"]) == (num_images, info.digest)
        assert json.loads(dataset.source)["uri"] == "shards"


def test_files_are_artifacts_byte_by_byte(server: MlflowServer, run: RunDirectory, tmp_path: Path):
    add_evaluation(run, step=10, num_errors=3)
    (run.path / "damaged.json").write_text("[]")
    (run.figures / "größe.svg").write_text("<svg/>")
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "step-00000010.pt").write_text("weights")
    (run.path / "notes.txt").write_text("mine")
    delivery = sync_run(run)
    client = MlflowClient(server.uri)
    expected = {
        "config.json",
        "damaged.json",
        "dataset.json",
        "journal.jsonl",
        "figures/conv1.png",
        "figures/größe.svg",
        "predictions/val-center-step-10.json",
        "predictions/val-center-step-10.npz",
    }
    assert list_artifacts(client, delivery.run_id) == expected
    for name in expected:
        copy = client.download_artifacts(delivery.run_id, name, str(tmp_path))
        assert Path(copy).read_bytes() == (run.path / name).read_bytes()


def test_files_are_sent_again_only_when_they_changed(proxy: Proxy, run: RunDirectory, tmp_path: Path):
    def sync() -> list[str]:
        proxy.requests.clear()
        sync_run(run)
        return [request.split("/artifacts/")[-1] for request in proxy.requests if request.startswith("PUT ")]

    assert sorted(sync()) == ["config.json", "dataset.json", "figures/conv1.png", "journal.jsonl"]
    assert sync() == []
    (run.figures / "conv1.png").touch()
    assert sync() == []
    Image.new("RGB", (4, 4)).save(run.figures / "conv1.png")
    assert sync() == ["figures/conv1.png"]
    append_lines(run, 1, first=21)
    assert sync() == ["journal.jsonl"]
    (run.path / "mlflow.json").unlink()
    delivery = sync_run(run)
    copy = MlflowClient(proxy.uri).download_artifacts(delivery.run_id, "figures/conv1.png", str(tmp_path))
    assert Path(copy).read_bytes() == (run.figures / "conv1.png").read_bytes()


@pytest.mark.parametrize("folder", ["figures", "predictions"])
def test_beside_an_sqlite_file_artifacts_lie_in_a_folder(run: RunDirectory, tmp_path: Path, folder: str):
    (run.path / folder).mkdir(exist_ok=True)
    (run.path / folder / "a.txt").write_text("found")
    delivery = sync_run(run)
    (found,) = (tmp_path / "mlflow-artifacts").rglob(f"{delivery.run_id}/artifacts/{folder}/a.txt")
    assert found.read_text() == "found"
