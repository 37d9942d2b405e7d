"""`alexnet evaluate`: exact counts and the same predictions at any number of processes."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks

from pipeline.artifacts import EvaluationRecord, RunDirectory, read_json, write_json
from pipeline.checkpoint import find_checkpoints, read_checkpoint, write_checkpoint
from pipeline.evaluate import stage
from pipeline.provenance import Commit
from pipeline.tracking import Journal

NUM_IMAGES, STEP = 20, 12


def copy_unevaluated(run: Path, target: Path) -> Path:
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("predictions", "mlflow.json"))
    return target


def read_predictions(run: Path, views: str) -> tuple[EvaluationRecord, dict[str, np.ndarray]]:
    path = RunDirectory(run).predictions / f"val-{views}-step-{STEP}.json"
    with np.load(path.with_suffix(".npz")) as arrays:
        return read_json(path, EvaluationRecord), dict(arrays)


def list_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def lively_run(finished_run, tmp_path_factory) -> Path:
    """The finished run with weights so large that every picture gets probabilities of its own. Read only."""
    run = copy_unevaluated(finished_run, tmp_path_factory.mktemp("lively") / "run")
    (_, newest) = find_checkpoints(run / "checkpoints")
    checkpoint = read_checkpoint(newest)
    generator = torch.Generator().manual_seed(0)
    scales = {name: 1.6 / weights[0].numel() ** 0.5 for name, weights in checkpoint.model.items()}
    scales["fc8.weight"] *= 0.1
    model = {
        name: torch.randn(weights.shape, generator=generator) * scales[name] if name.endswith("weight") else weights * 0
        for name, weights in checkpoint.model.items()
    }
    write_checkpoint(run / "checkpoints", dataclasses.replace(checkpoint, model=model), keep=2)
    return run


@pytest.fixture(scope="module")
def evaluated(lively_run, tmp_path_factory) -> dict[int, Path]:
    """The lively run evaluated by one process in odd batches, by two, and by three that cannot share evenly."""
    runs = {}
    for processes, batch_size in ((1, 30), (2, 256), (3, 256)):
        run = copy_unevaluated(lively_run, tmp_path_factory.mktemp("evaluated") / "run")
        flags = ("--device=cpu", f"--batch-size={batch_size}", "--num-threads=1")
        ended = run_ranks("evaluate", str(run), *flags, processes=processes)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("evaluate: val, ten views, step 12: top-1 error") == 1
        runs[processes] = run
    return runs


@pytest.mark.distributed
@pytest.mark.parametrize("views", ["center", "ten"])
@pytest.mark.parametrize("processes", [2, 3])
def test_counts_and_predictions_do_not_depend_on_the_number_of_processes(views, processes, evaluated):
    record, arrays = read_predictions(evaluated[1], views)
    assert arrays["probabilities"].std(0).min() > 0.01
    assert 0 < record.num_top1_errors < NUM_IMAGES
    other_record, other_arrays = read_predictions(evaluated[processes], views)
    assert dataclasses.replace(other_record, log_loss=record.log_loss) == record
    assert other_record.log_loss == pytest.approx(record.log_loss, rel=1e-5)
    assert np.array_equal(other_arrays["labels"], arrays["labels"])
    np.testing.assert_allclose(other_arrays["probabilities"], arrays["probabilities"], atol=1e-6)


@pytest.mark.distributed
@pytest.mark.parametrize("views", ["center", "ten"])
def test_every_picture_is_there_once_and_the_counts_are_those_of_the_saved_predictions(views, evaluated, shard_set):
    record, arrays = read_predictions(evaluated[3], views)
    labels, probabilities = arrays["labels"], arrays["probabilities"]
    assert arrays["positions"].tolist() == list(range(NUM_IMAGES))
    assert np.array_equal(labels, shard_set.open_split("val").labels)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    wrong = int((probabilities.argmax(1) != labels).sum())
    log_loss = -np.log(probabilities[np.arange(NUM_IMAGES), labels].astype(np.float64)).mean()
    assert (record.split, record.views, record.step, record.epoch) == ("val", views, STEP, 2)
    assert (record.num_images, record.num_top1_errors, record.num_top5_errors) == (NUM_IMAGES, wrong, 0)
    assert record.log_loss == pytest.approx(log_loss, rel=1e-6)
    assert record.data_digest == shard_set.info.digest


@pytest.mark.distributed
def test_the_ten_views_are_not_the_centre(evaluated):
    center, ten = (read_predictions(evaluated[1], views)[1]["probabilities"] for views in ("center", "ten"))
    assert np.abs(center - ten).max() > 0.01


def test_the_centre_errors_are_those_of_training(finished_run):
    record, _ = read_predictions(finished_run, "center")
    journal = Journal(finished_run / "journal.jsonl")
    assert journal.read_metric("val/top1_error")[-1][1] == record.top1_error
    assert journal.read_metric("val/center_top1_error")[-1][1] == record.top1_error
    assert journal.read_metric("val/loss")[-1][1] == pytest.approx(record.log_loss, rel=1e-5)


@pytest.mark.distributed
def test_evaluating_again_changes_nothing(evaluated):
    before = list_files(evaluated[1])
    ended = run_ranks("evaluate", str(evaluated[1]), "--device=cpu")
    assert ended.returncode == 0, ended.stderr
    assert "val, ten views, step 12: top-1 error" in ended.stdout
    assert ended.stdout.count("measured earlier, in") == 2
    assert list_files(evaluated[1]) == before


def use_commit(rank: int, *, dirty: bool) -> None:
    stage.read_commit = lambda: Commit(id="0" * 40, dirty=dirty)


@pytest.mark.parametrize("dirty", [True, False])
def test_what_changed_code_measured_is_measured_again_by_committed_code_only(dirty, evaluated, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(evaluated[1], run)
    path, points = run / "predictions" / "val-center-step-12.json", len(Journal(run / "journal.jsonl").read())
    record = dataclasses.replace(read_json(path, EvaluationRecord), commit="f" * 40, dirty=True)
    write_json(path, record)
    prepare = partial(use_commit, dirty=dirty)
    ended = run_ranks("evaluate", str(run), "--device=cpu", "--views", "center", "--batch-size=30", prepare=prepare)
    assert ended.returncode == 0, ended.stderr
    expected = record if dirty else dataclasses.replace(record, commit="0" * 40, dirty=False)
    assert read_json(path, EvaluationRecord) == expected
    assert len(Journal(run / "journal.jsonl").read()) == points  # the numbers are the same, and there already


def test_the_training_split_can_be_evaluated_too(finished_run, tmp_path):
    run = copy_unevaluated(finished_run, tmp_path / "run")
    ended = run_ranks("evaluate", str(run), "--device=cpu", "--split=train", "--views", "center")
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in sorted((run / "predictions").glob("*.json"))] == ["train-center-step-12.json"]
    assert read_json(run / "predictions" / "train-center-step-12.json", EvaluationRecord).num_images == 48


def assert_refused(ended, *parts: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("alexnet evaluate: ")
    assert ended.stderr.count("\n") == 1
    for part in parts:
        assert part in ended.stderr


def test_a_run_without_a_checkpoint_is_refused(finished_run, tmp_path):
    run = copy_unevaluated(finished_run, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    assert_refused(run_ranks("evaluate", str(run)), f"{run / 'checkpoints'} holds no checkpoint yet")
    assert not (run / "predictions").exists()


def test_what_is_no_run_is_refused(tmp_path):
    assert_refused(run_ranks("evaluate", str(tmp_path)), f"{tmp_path} has no config.json")


def test_a_split_that_the_set_lacks_is_refused(finished_run, tmp_path):
    run = copy_unevaluated(finished_run, tmp_path / "run")
    assert_refused(run_ranks("evaluate", str(run), "--split=test", "--device=cpu"), "has no split 'test', only")


def test_another_shard_set_is_refused_and_the_same_one_elsewhere_is_not(finished_run, shard_set, tmp_path):
    run = copy_unevaluated(finished_run, tmp_path / "run")
    moved = tmp_path / "set"
    shutil.copytree(shard_set.path, moved)
    ended = run_ranks("evaluate", str(run), "--data", str(moved), "--views", "center", "--device=cpu")
    assert ended.returncode == 0, ended.stderr
    info = dataclasses.replace(shard_set.info, num_dropped=shard_set.info.num_dropped + 1)
    info = dataclasses.replace(info, digest=info.compute_digest())
    write_json(moved / "dataset.json", info)
    ended = run_ranks("evaluate", str(run), "--data", str(moved), "--views", "ten", "--device=cpu")
    assert_refused(ended, f"{moved} is not the shard set", info.digest[:12], shard_set.info.digest[:12])
    assert json.loads((run / "config.json").read_text())["data_digest"] == shard_set.info.digest
