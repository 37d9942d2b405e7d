"""Runs back from a tracking server, as the report reads them: the same files, and none that leads elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.artifacts import RunDirectory, write_json
from pipeline.errors import InputError, RunError
from pipeline.tracking import sync_run
from pipeline.tracking.download import download_runs, name_directory


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run that MLflow has not seen."""
    shutil.copytree(finished_run, tmp_path / "there" / "a run", ignore=shutil.ignore_patterns("*.pt", "mlflow.json"))
    return RunDirectory(tmp_path / "there" / "a run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where runs are downloaded to."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def list_contents(path: Path) -> dict[str, bytes]:
    """Every file below a directory with what is in it."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_run_comes_back_with_the_same_bytes(run: RunDirectory, folder: Path):
    delivery = sync_run(run)
    ((path,), sentences) = download_runs(delivery.server, folder)
    assert (path, sentences) == (folder / "a-run", [])
    found, sent = list_contents(path), list_contents(run.path)
    assert {"config.json", "dataset.json", "journal.jsonl", "figures/conv1.npy"} <= found.keys()
    assert any(name.startswith("predictions/") and name.endswith(".npz") for name in found)
    assert found == {name: sent[name] for name in found}
    assert RunDirectory(path).read_record() == run.read_record()


def test_what_others_have_logged_is_left_where_it_is(run: RunDirectory, folder: Path, tmp_path: Path):
    delivery = sync_run(run)
    client = MlflowClient(tracking_uri=delivery.server)
    stranger = client.create_run(client.create_experiment("of somebody else", (tmp_path / "others").as_uri()))
    (tmp_path / "config.json").write_text("{}")
    client.log_artifact(stranger.info.run_id, str(tmp_path / "config.json"))
    client.log_artifact(delivery.run_id, str(tmp_path / "config.json"), "elsewhere")
    client.log_artifact(delivery.run_id, str(tmp_path / "config.json"), "figures/deeper")
    ((path,), sentences) = download_runs(delivery.server, folder)
    assert sentences == []
    assert not list(path.rglob("elsewhere")) + list(path.rglob("deeper"))


def test_a_run_that_is_still_on_is_left_out_with_a_sentence(run: RunDirectory, folder: Path):
    run.journal.unlink()
    delivery = sync_run(run)
    assert download_runs(delivery.server, folder) == (
        [],
        ["a-run is left out: it has not ended, or was not brought over to its end"],
    )


def test_a_server_without_runs_has_none(folder: Path, empty_database: Path):
    assert download_runs(f"sqlite:///{empty_database}", folder) == ([], [])


def test_reading_makes_no_database(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"typo\.db does not exist: pass an sqlite file that MLflow has written"):
        download_runs(f"sqlite:///{tmp_path / 'typo.db'}", folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_an_address_that_is_none_is_the_mistake_of_whoever_passes_it(folder: Path):
    with pytest.raises(InputError, match=r"^nonsense is no address of MLflow: "):
        download_runs("nonsense", folder)


def test_a_run_that_cannot_be_downloaded_is_left_out_with_a_sentence_and_the_others_come(
    run: RunDirectory, folder: Path
):
    other = RunDirectory(Path(shutil.copytree(run.path, run.path.with_name("other run"))))
    write_json(other.config, replace(other.read_record(), id="another"))
    delivery = sync_run(run)
    sync_run(other)
    (stored,) = run.path.parent.glob(f"mlflow-artifacts/**/{delivery.run_id}/artifacts/config.json")
    stored.unlink()
    stored.symlink_to("nowhere")
    paths, (sentence,) = download_runs(delivery.server, folder)
    assert paths == [folder / "other-run"]
    assert sentence.startswith("a-run is left out: it cannot be downloaded (")


def test_a_server_that_is_away_is_a_sentence_without_its_password(folder: Path):
    with pytest.raises(RunError, match=r"^MLflow at http://127\.0\.0\.1:9 cannot be read: ") as caught:
        download_runs("http://me:secret@127.0.0.1:9", folder)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "directory"),
    [("source-2012", "source-2012"), ("../../etc/x", "etc-x"), ("a / b", "a-b"), ("..", "run"), ("größer", "größer")],
)
def test_no_name_leads_out_of_the_folder(folder: Path, name: str, directory: str):
    assert name_directory(name, folder) == directory


def test_runs_of_one_name_get_a_number(folder: Path):
    (folder / "seed").mkdir()
    (folder / "seed-2").mkdir()
    assert name_directory("seed", folder) == "seed-3"
